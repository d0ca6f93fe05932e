/* tests/bench/bench_take.c - what it costs to take room and give it back.
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: bench_take DIRECTORY [REDIS SOCKET]
 *
 * quota_take and quota_give_back of an account with three windows, by 1, 2, 4
 * and 8 threads, of one account or of one each; then the same with what one
 * would use instead.  Prints wall-clock nanoseconds for a take and a give-back
 * together: of so many rounds the best, since others may use this machine.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/state/quota.h"
#include "tests/bench/bench_take.h"

enum { ROUNDS = 300, ROUND_NS = 1000 * 1000, THREADS_MAX = 8 };

void
taker_fail(const char *what)
{
    fprintf(stderr, "bench_take: %s\n", what);
    exit(1);
}

/* ---- ours ---- */

static struct smarthost gmail = {.name = "gmail"};
static struct account account[TAKE_ACCOUNTS];
static struct policy policy = {.n_accounts = TAKE_ACCOUNTS,
                               .accounts = account,
                               .state.accounts = TAKE_ACCOUNTS};
static struct quota *quota;
static uint64_t id[TAKE_ACCOUNTS];

static void
quota_start(const char *directory)
{
    static const struct limit limit[TAKE_WINDOWS] = {
        {DIM_MESSAGES, 1000000, 86400000},
        {DIM_RECIPIENTS, 1000000, 86400000},
        {DIM_PACE, 1000000, 3600000},
    };
    static char address[TAKE_ACCOUNTS][40];
    char err[300];

    for (unsigned i = 0; i < TAKE_ACCOUNTS; i++) {
        char identity[IDENTITY_MAX + 1];

        snprintf(address[i], sizeof address[i], "person%u@example.com", i);
        account[i].name = account[i].address = address[i];
        account[i].smarthost = &gmail;
        account[i].quota.n = TAKE_WINDOWS;
        memcpy(account[i].quota.limit, limit, sizeof limit);
        id[i] = mailbox_identity(address[i], "gmail", identity);
    }
    if (quota_make(&quota, directory, &policy, &clock_real, 0, err,
                   sizeof err) != STATE_OK)
        taker_fail(err);
}

static void *
quota_join(void)
{
    return quota;
}

static void
quota_pair(void *thread, unsigned i)
{
    const struct cost one = {.messages = 1, .recipients = 1};
    struct taken taken;
    struct room room;

    if (!quota_take(thread, id[i], &one, 100, &taken, &room))
        taker_fail("no room");
    quota_give_back(thread, &taken);
}

static void
quota_leave(void *thread)
{
    (void)thread;
}

static const struct taker taker_quota = {"gmroute", quota_start, quota_join,
                                         quota_pair, quota_leave};

/* ---- threads ---- */

static struct {
    const struct taker *taker;
    pthread_barrier_t barrier;
    atomic_bool stop;
} run;

struct worker {
    pthread_t thread;
    unsigned account;
    unsigned long pairs;
    double began, ended;
};

static double
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *
work(void *cookie)
{
    struct worker *w = cookie;
    void *thread = run.taker->join();
    unsigned long n = 0;

    run.taker->take(thread, w->account); /* warm */
    pthread_barrier_wait(&run.barrier);
    w->began = now_ns();
    for (; !atomic_load_explicit(&run.stop, memory_order_relaxed); n++)
        run.taker->take(thread, w->account);
    w->ended = now_ns();
    w->pairs = n;
    run.taker->leave(thread);
    return NULL;
}

/* Nanoseconds between two pairs, whoever makes them: from the first thread's
 * start to the last one's end. */
static double
round_ns(const struct taker *t, unsigned threads, bool one_account)
{
    const struct timespec pause = {0, ROUND_NS};
    struct worker worker[THREADS_MAX];
    double began = 0, ended = 0, pairs = 0;

    run.taker = t;
    atomic_store(&run.stop, false);
    pthread_barrier_init(&run.barrier, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        worker[i].account = one_account ? 0 : i;
        if (pthread_create(&worker[i].thread, NULL, work, &worker[i]) != 0)
            taker_fail("cannot start a thread");
    }
    pthread_barrier_wait(&run.barrier);
    nanosleep(&pause, NULL);
    atomic_store(&run.stop, true);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(worker[i].thread, NULL);
        pairs += (double)worker[i].pairs;
        if (i == 0 || worker[i].began < began)
            began = worker[i].began;
        if (worker[i].ended > ended)
            ended = worker[i].ended;
    }
    pthread_barrier_destroy(&run.barrier);
    return (ended - began) / pairs;
}

static void
measure(const struct taker *t)
{
    static const unsigned threads[] = {1, 2, 4, 8};

    printf("%s", t->name);
    for (unsigned same = 0; same < 2; same++)
        for (unsigned k = 0; k < 4; k++) {
            double best = 0;

            for (unsigned r = 0; r < ROUNDS; r++) {
                double ns = round_ns(t, threads[k], same == 0);

                if (best == 0 || ns < best)
                    best = ns;
            }
            printf(" %.0f", best);
        }
    printf("\n");
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static const struct taker *const taker[] = {&taker_quota, &taker_fcntl,
                                                &taker_sqlite, &taker_redis};

    if (argc < 2)
        taker_fail("usage: bench_take DIRECTORY [REDIS SOCKET]");
    for (unsigned i = 0; i < 4; i++) {
        if (taker[i] == &taker_redis && argc < 3)
            continue;
        taker[i]->open(taker[i] == &taker_redis ? argv[2] : argv[1]);
        measure(taker[i]);
    }
    quota_free(quota);
    return 0;
}
