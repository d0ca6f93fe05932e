/* tests/bench/bench_decide.c - what a decision costs, by the number of rules
 * SPDX-License-Identifier: Apache-2.0
 *
 * One line for each number of rules given:
 *     RULES  US_INDEXED  US_SCANNED  LOAD_MS  OCTETS_A_RULE  SAME
 * Microseconds for a message of three recipients, all three together, at the
 * end of the message; the best of several runs (what disturbs only adds) over
 * messages for rules of every kind, each message another.
 */
#include <stdio.h>
#include <stdlib.h>

#include "policy/arena.h"
#include "policy/decide_private.h"
#include "tests/bench/bench_policy.h"

enum { RUNS = 15, N_MESSAGES = 1000 };

typedef enum decide_result decide_fn(const struct policy *p,
                                     const struct facts *f,
                                     struct slice recipient, struct scratch *s,
                                     struct decision *ret, struct trace *trace);

static struct bench_message *message; /* N_MESSAGES of them */
static struct scratch *scratch;

/* Microseconds a message; *ret_sum tells whether two ways agree. */
static double
run(const struct policy *p, decide_fn *fn, size_t rounds,
    unsigned long *ret_sum)
{
    static struct decision d;
    double best = 0;

    for (int i = 0; i < RUNS; i++) {
        double start = bench_now_us(), took;

        *ret_sum = 0;
        for (size_t k = 0; k < rounds; k++) {
            const struct bench_message *m = &message[k % N_MESSAGES];

            scratch_reset(scratch);
            for (int r = 0; r < BENCH_RECIPIENTS; r++) {
                if (fn(p, &m->f, m->recipient[r], scratch, &d, NULL) !=
                    DECIDE_OK)
                    abort();
                *ret_sum = *ret_sum * 31 + d.at.line + d.n_candidates;
            }
        }
        took = (bench_now_us() - start) / (double)rounds;
        best = i == 0 || took < best ? took : best;
    }
    return best;
}

static double
load_ms(const char *yaml, size_t len)
{
    double best = 0;

    for (int i = 0; i < 5; i++) {
        double start = bench_now_us(), took;
        struct policy *p = bench_compile(yaml, len);

        took = (bench_now_us() - start) / 1000;
        best = i == 0 || took < best ? took : best;
        policy_free(p);
    }
    return best;
}

static void
bench(size_t n)
{
    size_t scans = n < N_MESSAGES ? N_MESSAGES : 200, len, empty_len;
    unsigned long sum, sum_scanned;
    double indexed, scanned, ms;
    char *empty_yaml = bench_policy_yaml(1, &empty_len);
    char *yaml = bench_policy_yaml(n, &len);
    struct policy *empty = bench_compile(empty_yaml, empty_len);
    struct policy *p = bench_compile(yaml, len);

    for (size_t i = 0; i < N_MESSAGES; i++) /* all kinds, all over the rules */
        bench_message_for(&message[i], i * 7919 % n);
    indexed = run(p, decide, 20000, &sum);
    run(p, decide, scans, &sum);
    scanned = run(p, decide_scan, scans, &sum_scanned);
    ms = load_ms(yaml, len);
    printf(
        "%zu %.3f %.3f %.1f %.0f %s\n", n, indexed, scanned, ms,
        (double)(arena_size(p->arena) - arena_size(empty->arena)) / (double)n,
        sum == sum_scanned ? "same" : "DIFFERENT");
    policy_free(p);
    policy_free(empty);
    free(yaml);
    free(empty_yaml);
}

int
main(int argc, char **argv)
{
    message = calloc(N_MESSAGES, sizeof *message);
    scratch = scratch_new();
    if (message == NULL || scratch == NULL)
        abort();
    for (int i = 1; i < argc; i++)
        bench(strtoul(argv[i], NULL, 10));
    scratch_free(scratch);
    free(message);
    return 0;
}
