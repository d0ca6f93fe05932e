/* tests/bench/bench_take.h - one way to keep what an account may still send.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_TAKE_H
#define BENCH_TAKE_H

#include <stdbool.h>

enum { TAKE_ACCOUNTS = 8 /* one for each thread */, TAKE_WINDOWS = 3 };

/* All calls abort with a sentence when something does not work. */
struct taker {
    const char *name;
    void (*open)(const char *where); /* a directory, or Redis's socket */
    void *(*join)(void);             /* in each thread */
    /* Takes one message of three windows, and gives it back. */
    void (*take)(void *thread, unsigned account);
    void (*leave)(void *thread);
};

extern const struct taker taker_fcntl, taker_sqlite, taker_redis;

void taker_fail(const char *what) __attribute__((noreturn));

#endif
