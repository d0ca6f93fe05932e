/* tests/bench/bench_policy.h - policies of any number of rules, and messages
 * that match them
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_BENCH_POLICY_H
#define TESTS_BENCH_POLICY_H

#include <stddef.h>

#include "policy/decide.h"

enum { BENCH_HEADERS = 9, BENCH_RECIPIENTS = 3 };

struct bench_message {
    struct facts f;
    struct facts_pair header[BENCH_HEADERS];
    struct slice recipient[BENCH_RECIPIENTS];
    char room[2048];
};

/* YAML of n rules of eight kinds, malloc'ed. */
char *bench_policy_yaml(size_t n, size_t *ret_len);

/* A message for rule `i` of them. */
void bench_message_for(struct bench_message *m, size_t i);

/* Compiles; prints what is wrong and exits when something is. */
struct policy *bench_compile(const char *yaml, size_t len);

double bench_now_us(void);

#endif
