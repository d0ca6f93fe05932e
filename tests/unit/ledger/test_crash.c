/* tests/unit/ledger/test_crash.c - what is left when the agent, or the power,
 * goes at any moment.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Properties, checked after each crash on the book as it is found:
 * - what was acknowledged as finished is there, with its outcome;
 * - what is spent is exactly what the surviving rows have cost;
 * - nothing is left as "sending" after recovery;
 * - the next agent can go on at once.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

enum {
    KILLS = 300,
    CUTS = 120,
    THREADS = 4,
    ACCOUNTS = 7,
    TICKETS = 200000, /* of all lives together */
};

/* Written by the lives, read by their heirs. */
struct witness {
    atomic_uint next; /* ticket */
    atomic_bool stop;
    /* 0 = not acknowledged; otherwise 1 + the outcome. */
    _Atomic uint8_t finished[TICKETS];
};

static struct witness *
witness_new(void)
{
    struct witness *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(w != MAP_FAILED);
    atomic_store(&w->next, 1);
    return w;
}

static uint64_t
account_of(uint64_t ticket)
{
    return 1 + ticket % ACCOUNTS;
}

/* Every ticket has two recipients; it ends by its number. */
static enum outcome_kind
end_of(uint64_t ticket)
{
    static const enum outcome_kind end[] = {OUTCOME_SENT, OUTCOME_SENT,
                                            OUTCOME_REFUSED, OUTCOME_DEFERRED,
                                            OUTCOME_IN_DOUBT};

    return end[ticket % 5];
}

static bool
costs(enum outcome_kind k)
{
    return k == OUTCOME_SENT || k == OUTCOME_IN_DOUBT;
}

static bool
deliver(struct ledger *l, struct witness *w)
{
    uint64_t ticket = atomic_fetch_add(&w->next, 1);
    struct attempt a[2] = {kit_attempt(ticket, "a@x", account_of(ticket)),
                           kit_attempt(ticket, "b@x", account_of(ticket))};
    struct taken t = kit_charge(account_of(ticket), KIT_NOW_MS, 2);
    enum outcome_kind k = end_of(ticket);
    struct attempt_result res[2];
    int64_t row[2];

    if (ticket >= TICKETS)
        return false;
    if (ledger_begin(l, a, 2, &t, row) != LEDGER_OK)
        return false;
    for (unsigned i = 0; i < 2; i++)
        res[i] = kit_result(row[i], k);
    if (ledger_finish(l, res, 2, costs(k) ? NULL : &t, NULL, 30000) !=
        LEDGER_OK)
        return false;
    atomic_store(&w->finished[ticket], (uint8_t)(1 + k));
    return true;
}

struct life {
    struct ledger *l;
    struct witness *w;
    bool failed;
};

static void *
live(void *cookie)
{
    struct life *life = cookie;

    while (!atomic_load(&life->w->stop) && !life->failed)
        life->failed = !deliver(life->l, life->w);
    return NULL;
}

/* ---- the heirs ---- */

static int64_t
column(sqlite3_stmt *st, uint64_t ticket, const char *outcome)
{
    int64_t n;

    sqlite3_bind_int64(st, 1, (int64_t)ticket);
    sqlite3_bind_text(st, 2, outcome, -1, SQLITE_STATIC);
    n = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_reset(st);
    return n;
}

struct spent {
    int64_t recipients[ACCOUNTS], messages[ACCOUNTS];
};

static void
add_up(void *cookie, uint64_t account, const char *identity, enum dimension d,
       uint64_t window_ms, uint64_t bucket, uint64_t units)
{
    struct spent *s = cookie;

    (void)identity;
    (void)bucket;
    if (window_ms != KIT_DAY_MS || account < 1 || account > ACCOUNTS)
        return;
    if (d == DIM_RECIPIENTS)
        s->recipients[account - 1] += (int64_t)units;
    else if (d == DIM_MESSAGES)
        s->messages[account - 1] += (int64_t)units;
}

static void
assert_spent_is_what_rows_cost(struct ledger *l, sqlite3 *db)
{
    int64_t rows[ACCOUNTS] = {0};
    struct spent spent = {0};
    sqlite3_stmt *st = NULL;

    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT account, count(*), outcome = 'sending' FROM"
                           " attempt WHERE outcome IN ('sent', 'in_doubt',"
                           " 'sending') GROUP BY account, outcome = 'sending'",
                           -1, &st, NULL),
        SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        int64_t account = sqlite3_column_int64(st, 0);

        assert_int_equal(sqlite3_column_int(st, 2), 0);
        if (account >= 1 && account <= ACCOUNTS)
            rows[account - 1] = sqlite3_column_int64(st, 1);
    }
    sqlite3_finalize(st);
    assert_int_equal(
        ledger_spent(l, (struct ledger_part){0, 1}, add_up, &spent), LEDGER_OK);
    for (int i = 0; i < ACCOUNTS; i++) {
        assert_int_equal(spent.recipients[i], rows[i]);
        assert_int_equal(spent.messages[i], rows[i] / 2);
    }
}

/* acknowledged: a copy of finished[], taken before the crash; from: the first
 * ticket worth a look. */
static void
inspect(const char *directory, const uint8_t *acknowledged, uint64_t from,
        uint64_t to)
{
    static const char *const word[] = {"sent", "refused", "deferred",
                                       "in_doubt"};
    struct ledger *l = kit_open(directory, &clock_real);
    char path[KIT_PATH + 16];
    uint64_t n;
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;

    assert_int_equal(ledger_recover(l, &n), LEDGER_OK);
    snprintf(path, sizeof path, "%s/ledger.db", directory);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT count(*) FROM attempt WHERE ticket = ?1"
                           " AND (?2 = '' OR outcome = ?2)",
                           -1, &st, NULL),
        SQLITE_OK);
    for (uint64_t t = from; t < to; t++) {
        if (acknowledged[t] == 0) {
            int64_t rows = column(st, t, "");

            assert_true(rows == 0 || rows == 2); /* whole or not at all */
            continue;
        }
        assert_int_equal(column(st, t, word[acknowledged[t] - 1]), 2);
    }
    sqlite3_finalize(st);
    assert_spent_is_what_rows_cost(l, db);
    sqlite3_close(db);
    ledger_close(l);
}

/* ---- kill -9 ---- */

static void
child_main(const char *directory, struct witness *w)
{
    struct life life = {.w = w};
    pthread_t thread;
    char err[1024];

    if (ledger_open(&life.l, directory, &clock_real, err, sizeof err) !=
        LEDGER_OK) {
        fprintf(stderr, "%s\n", err);
        _exit(1);
    }
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&thread, NULL, live, &life) != 0)
            _exit(1);
    pause();
    _exit(1);
}

static void
killed_at_any_moment(void **state)
{
    struct witness *w = witness_new();
    static uint8_t acknowledged[TICKETS];
    char directory[KIT_PATH];
    uint64_t total = 0, from = 1;

    (void)state;
    kit_directory(directory);
    srand(3);
    for (unsigned i = 0; i < KILLS; i++) {
        /* 0.05 to 40 ms: into the opening, the recovery, the work. */
        struct timespec t = {0, 50000 + rand() % (i % 2 ? 40000000 : 8000000)};
        int status;
        pid_t pid;

        fflush(NULL);
        pid = fork();
        if (pid == 0)
            child_main(directory, w);
        assert_true(pid > 0);
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* it had no trouble of its own */

        uint64_t to = atomic_load(&w->next);

        assert_true(to < TICKETS);
        for (uint64_t k = from; k < to; k++) {
            acknowledged[k] = atomic_load(&w->finished[k]);
            total += acknowledged[k] != 0;
        }
        inspect(directory, acknowledged, from, to);
        from = to;
    }
    /* Nothing that an earlier life wrote was lost by a later one. */
    inspect(directory, acknowledged, 1, from);
    print_message("  %u kills, %u finished deliveries, %u begun\n", KILLS,
                  (unsigned)total, (unsigned)(from - 1));
    assert_true(total > KILLS);
    munmap(w, sizeof *w);
    kit_remove(directory);
}

/* ---- the power goes ---- */

static void
power_cut_at_any_moment(void **state)
{
    static uint8_t acknowledged[TICKETS];
    uint64_t total = 0;

    (void)state;
    srand(5);
    for (unsigned i = 0; i < CUTS; i++) {
        struct witness *w = witness_new();
        struct life life[THREADS];
        pthread_t thread[THREADS];
        char directory[KIT_PATH], ruin[KIT_PATH];
        uint64_t to;
        struct ledger *l;

        torn_vfs_forget();
        kit_directory(directory);
        kit_directory(ruin);
        l = kit_open(directory, &clock_real);
        for (unsigned k = 0; k < THREADS; k++) {
            life[k] = (struct life){l, w, false};
            assert_int_equal(pthread_create(&thread[k], NULL, live, &life[k]),
                             0);
        }
        usleep((useconds_t)(1000 + rand() % (i % 10 == 0 ? 400000 : 20000)));
        /* Acknowledged before the cut: safe.  Begun until then: perhaps. */
        for (uint64_t k = 1; k < TICKETS; k++)
            acknowledged[k] = atomic_load(&w->finished[k]);
        assert_true(torn_vfs_power_cut(directory, ruin, i % 3 ? 1 + i : 0));
        to = atomic_load(&w->next);
        atomic_store(&w->stop, true);
        for (unsigned k = 0; k < THREADS; k++) {
            pthread_join(thread[k], NULL);
            assert_false(life[k].failed);
        }
        ledger_close(l);
        for (uint64_t k = 1; k < to; k++)
            total += acknowledged[k] != 0;
        inspect(ruin, acknowledged, 1, to);
        kit_remove(directory);
        kit_remove(ruin);
        munmap(w, sizeof *w);
    }
    torn_vfs_forget();
    print_message("  %u cuts, %u finished deliveries\n", CUTS, (unsigned)total);
    assert_true(total > CUTS);
}

/* An fsync fails once (and the kernel forgets the pages), later ones succeed;
 * then the power goes.  What was acknowledged after the recovery must not
 * hang on pages that never reached the disk. */
static void
a_failed_fsync_is_not_trusted(void **state)
{
    static uint8_t acknowledged[TICKETS];

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct witness *w = witness_new();
        char directory[KIT_PATH], ruin[KIT_PATH];
        struct attempt a = kit_attempt(TICKETS - 1, "z@x", 99);
        struct attempt_result res;
        struct ledger *l;
        int64_t row[20];

        torn_vfs_forget();
        kit_directory(directory);
        kit_directory(ruin);
        l = kit_open(directory, &clock_real);
        for (unsigned k = 0; k < 10; k++)
            assert_true(deliver(l, w));
        /* Not yet fsynced... */
        for (unsigned k = 0; k < i; k++)
            assert_int_equal(ledger_begin(l, &a, 1, NULL, &row[k]), LEDGER_OK);
        assert_int_equal(ledger_begin(l, &a, 1, NULL, &row[0]), LEDGER_OK);
        /* ... and lost by the kernel. */
        torn_vfs_fail_syncs(SQLITE_IOERR_FSYNC);
        res = kit_result(row[0], OUTCOME_SENT);
        assert_int_equal(ledger_finish(l, &res, 1, NULL, NULL, 30),
                         LEDGER_EUNAVAILABLE);
        assert_true(kit_wait_ok(l, false));
        torn_vfs_fail_syncs(0);
        assert_true(kit_wait_ok(l, true));
        for (unsigned k = 0; k < 10; k++)
            assert_true(deliver(l, w));
        memset(acknowledged, 0, sizeof acknowledged);
        for (uint64_t k = 1; k < 100; k++)
            acknowledged[k] = atomic_load(&w->finished[k]);
        assert_true(torn_vfs_power_cut(directory, ruin, i % 2 ? 1 + i : 0));
        ledger_close(l);
        inspect(ruin, acknowledged, 1, 100);
        assert_int_equal(kit_number(ruin, "SELECT count(*) FROM attempt"
                                          " WHERE account = 99"
                                          " AND outcome = 'sent'"),
                         1);
        kit_remove(directory);
        kit_remove(ruin);
        munmap(w, sizeof *w);
    }
    torn_vfs_forget();
}

/* ---- a WAL cut off anywhere ---- */

static void
copy_file(const char *from, const char *to, size_t upto)
{
    uint8_t block[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");

    assert_non_null(in);
    assert_non_null(out);
    while (upto > 0) {
        size_t n =
            fread(block, 1, upto < sizeof block ? upto : sizeof block, in);

        if (n == 0)
            break;
        assert_int_equal(fwrite(block, 1, n, out), n);
        upto -= n;
    }
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* The book holds a beginning of what was done: tickets 1..n, no gap. */
static void
a_truncated_wal_keeps_a_beginning(void **state)
{
    static uint8_t none[TICKETS];
    struct witness *w = witness_new();
    char directory[KIT_PATH], ruin[KIT_PATH];
    char from[KIT_PATH + 32], to[KIT_PATH + 32];
    struct stat st;
    struct ledger *l;
    int64_t most = 0;

    (void)state;
    kit_directory(directory);
    kit_directory(ruin);
    l = kit_open(directory, &clock_real);
    for (unsigned i = 0; i < 40; i++)
        assert_true(deliver(l, w));
    snprintf(from, sizeof from, "%s/ledger.db-wal", directory);
    assert_int_equal(stat(from, &st), 0);
    srand(9);
    for (unsigned i = 0; i < 100; i++) {
        size_t cut = i == 0   ? 0
                     : i == 1 ? (size_t)st.st_size
                              : (size_t)rand() % (size_t)st.st_size;
        int64_t n;

        snprintf(from, sizeof from, "%s/ledger.db", directory);
        snprintf(to, sizeof to, "%s/ledger.db", ruin);
        copy_file(from, to, SIZE_MAX);
        snprintf(from, sizeof from, "%s/ledger.db-wal", directory);
        snprintf(to, sizeof to, "%s/ledger.db-wal", ruin);
        copy_file(from, to, cut);
        snprintf(to, sizeof to, "%s/ledger.db-shm", ruin);
        unlink(to);
        inspect(ruin, none, 1, 41);
        n = kit_number(ruin, "SELECT count(DISTINCT ticket) FROM attempt");
        assert_int_equal(
            kit_number(ruin, "SELECT coalesce(max(ticket), 0) FROM attempt"),
            n);
        if (n > most)
            most = n;
    }
    assert_int_equal(most, 40);
    ledger_close(l);
    kit_remove(directory);
    kit_remove(ruin);
    munmap(w, sizeof *w);
    torn_vfs_forget();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(power_cut_at_any_moment),
        cmocka_unit_test(a_failed_fsync_is_not_trusted),
        cmocka_unit_test(a_truncated_wal_keeps_a_beginning),
    };

    /* What an fsync covers is torn_vfs's to say; a real one takes long. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/crash", tests, NULL, NULL);
}
