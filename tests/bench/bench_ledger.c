/* tests/bench/bench_ledger.c - how many deliveries share one fsync.
 * SPDX-License-Identifier: Apache-2.0
 *
 * usage: bench_ledger DIRECTORY
 *
 * 1, 8, 64 and 200 threads write what the agent writes for a delivery
 * (ledger_begin, ledger_finish), with fsync as the disk of that directory has
 * it, and with one that takes 10 ms more.  Prints deliveries for each fsync
 * and for each second.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "milter/ledger/ledger.h"
#include "policy/window.h"

enum { THREADS_MAX = 200, ROUND_MS = 2000, SLOW_MS = 10, ACCOUNTS = 100 };

static struct {
    struct ledger *ledger;
    atomic_uint slow_ms;
    atomic_bool stop;
    atomic_ulong done, syncs, ticket;
} run;

static void
fail(const char *what)
{
    fprintf(stderr, "bench_ledger: %s\n", what);
    exit(1);
}

static void
pause_ms(unsigned ms)
{
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

/* A definition in the program comes before libc's, for SQLite too. */
int
fdatasync(int fd)
{
    unsigned ms = atomic_load(&run.slow_ms);

    atomic_fetch_add(&run.syncs, 1);
    if (ms > 0)
        pause_ms(ms);
    return (int)syscall(SYS_fdatasync, fd);
}

static const struct account *
nobody(void *cookie, uint64_t account, const char *identity)
{
    (void)cookie;
    (void)account;
    (void)identity;
    return NULL;
}

static void
deliver(void)
{
    static const struct {
        enum dimension d;
        uint64_t window_ms;
    } window[] = {{DIM_MESSAGES, 86400000},
                  {DIM_RECIPIENTS, 86400000},
                  {DIM_BYTES, 86400000}};
    unsigned long ticket = atomic_fetch_add(&run.ticket, 1) + 1;
    struct attempt a = {
        .ticket = ticket,
        .recipient = "somebody@partner.example",
        .queue_id = "4XyZ1abcdef",
        .sender = "person@example.com",
        .identity = "account@example.com",
        .account = 1 + ticket % ACCOUNTS,
        .message_id = "<20261125.1234@example.com>",
        .size_octets = 20000,
    };
    struct attempt_result r = {
        .kind = OUTCOME_SENT,
        .stage = STAGE_CONTENT,
        .code = 250,
        .enhanced = "2.0.0",
        .reply = "OK 1790000000 5b1f17b1804b1-4395f2b1a2csm1234567 - gsmtp",
    };
    struct taken t = {
        .id = a.account, .at_ms = (uint64_t)clock_wall_ms(&clock_real), .n = 3};

    for (unsigned i = 0; i < t.n; i++) {
        t.charge[i].dimension = window[i].d;
        t.charge[i].window_ms = window[i].window_ms;
        t.charge[i].bucket = window_bucket_of(window[i].window_ms, t.at_ms);
        t.charge[i].units = 1;
    }
    if (ledger_begin(run.ledger, &a, 1, &t, &r.row) != LEDGER_OK ||
        ledger_finish(run.ledger, &r, 1, &t, &t, 60000) != LEDGER_OK)
        fail("the ledger cannot be written");
    atomic_fetch_add(&run.done, 1);
}

static void *
work(void *cookie)
{
    (void)cookie;
    while (!atomic_load(&run.stop))
        deliver();
    return NULL;
}

static void
measure(unsigned threads, unsigned slow_ms)
{
    static pthread_t thread[THREADS_MAX];
    unsigned long done, syncs;

    atomic_store(&run.slow_ms, slow_ms);
    atomic_store(&run.stop, false);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, NULL) != 0)
            fail("cannot start a thread");
    pause_ms(200); /* everybody is in it */
    done = atomic_load(&run.done);
    syncs = atomic_load(&run.syncs);
    pause_ms(ROUND_MS);
    done = atomic_load(&run.done) - done;
    syncs = atomic_load(&run.syncs) - syncs;
    atomic_store(&run.stop, true);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    printf("%u %u %.1f %.0f\n", slow_ms, threads,
           (double)done / (double)(syncs > 0 ? syncs : 1),
           (double)done * 1000 / ROUND_MS);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static const unsigned threads[] = {1, 8, 64, THREADS_MAX};
    const struct ledger_loss_ops none = {.account = nobody};
    const uint64_t boot_id[2] = {1, 1};
    uint64_t n;
    char err[1024];

    if (argc != 2)
        fail("usage: bench_ledger DIRECTORY");
    if (ledger_open(&run.ledger, argv[1], &clock_real, err, sizeof err) !=
        LEDGER_OK)
        fail(err);
    if (ledger_recover(run.ledger, &n) != LEDGER_OK ||
        ledger_boot(run.ledger, boot_id, &none) != LEDGER_OK)
        fail("the ledger does not start");
    for (unsigned slow = 0; slow < 2; slow++)
        for (unsigned i = 0; i < sizeof threads / sizeof *threads; i++)
            measure(threads[i], slow * SLOW_MS);
    ledger_close(run.ledger);
    return 0;
}
