/* tests/unit/ledger/test_boot.c - what the power took from the book is charged
 * all the same, once.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/ledger/ledger_private.h"
#include "milter/ledger/query.h"
#include "policy/window.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

enum { SESSIONS = 5, SENDERS = 4 * SESSIONS, CUTS = 40, KILLS = 60 };

static const uint64_t boot_1[2] = {0xaaaa000000000001, 0xbbbb000000000001};
static const uint64_t boot_2[2] = {0xaaaa000000000001, 0xbbbb000000000002};
static const uint64_t boot_3[2] = {0xcccc000000000001, 0xbbbb000000000002};
static const uint64_t unknown[2] = {0, 0};

/* ---- the agent's part ---- */

struct desk {
    char directory[KIT_PATH], ruin[KIT_PATH];
    struct kit_clock clock;
    struct account account; /* of everybody */
    unsigned charged;       /* accounts, by the last boot() */
    uint64_t messages;
};

static const struct account *
account_of(void *cookie, uint64_t account, const char *identity)
{
    struct desk *d = cookie;

    assert_string_equal(identity, "sales@example.com");
    return account == 666 ? NULL : &d->account; /* no longer configured */
}

static void
charged(void *cookie, const char *identity, const struct taken *charge)
{
    struct desk *d = cookie;

    (void)identity;
    d->charged++;
    d->messages += charge->cost.messages;
}

static enum ledger_result
boot(struct desk *d, struct ledger *l, const uint64_t id[2])
{
    const struct ledger_loss_ops ops = {account_of, charged, d};
    uint64_t n;

    d->charged = 0;
    d->messages = 0;
    assert_int_equal(ledger_recover(l, &n), LEDGER_OK);
    return ledger_boot(l, id, &ops);
}

static struct ledger *
start(struct desk *d, const char *directory, const uint64_t id[2])
{
    struct ledger *l = kit_open(directory, &d->clock.clock);

    assert_int_equal(boot(d, l, id), LEDGER_OK);
    return l;
}

static int
desk_setup(void **state)
{
    struct desk *d = calloc(1, sizeof *d);

    assert_non_null(d);
    torn_vfs_forget();
    kit_directory(d->directory);
    kit_directory(d->ruin);
    kit_clock_init(&d->clock, KIT_NOW_MS);
    d->account.sessions.max = SESSIONS;
    *state = d;
    return 0;
}

static int
desk_teardown(void **state)
{
    struct desk *d = *state;

    kit_remove(d->directory);
    kit_remove(d->ruin);
    torn_vfs_forget();
    free(d);
    return 0;
}

static int64_t
begin(struct ledger *l, uint64_t account, uint64_t at_ms, uint32_t recipients)
{
    static _Atomic uint64_t ticket = 1;
    struct attempt a =
        kit_attempt(atomic_fetch_add(&ticket, 1), "a@x", account);
    struct taken t = kit_charge(account, at_ms, recipients);
    int64_t row;

    a.at_once = SESSIONS;
    assert_int_equal(ledger_begin(l, &a, 1, &t, &row), LEDGER_OK);
    return row;
}

static void
deliver(struct ledger *l, uint64_t account, uint64_t at_ms, uint32_t recipients)
{
    struct attempt_result r =
        kit_result(begin(l, account, at_ms, recipients), OUTCOME_SENT);

    assert_int_equal(ledger_finish(l, &r, 1, NULL, NULL, 30000), LEDGER_OK);
}

/* Two accounts at work, one that rests, one no longer configured; three sends
 * of account 1 in flight, not fsynced; then the power goes. */
static void
lose_power(struct desk *d)
{
    struct ledger *l = start(d, d->directory, boot_1);

    deliver(l, 3, KIT_NOW_MS - 40 * 60 * 1000, 1);
    deliver(l, 1, KIT_NOW_MS, 1);
    deliver(l, 1, KIT_NOW_MS, 2);
    deliver(l, 2, KIT_NOW_MS - 60 * 1000, 7);
    deliver(l, 666, KIT_NOW_MS, 1);
    for (unsigned i = 0; i < 3; i++)
        begin(l, 1, KIT_NOW_MS, 4);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 5);
    assert_true(torn_vfs_power_cut(d->directory, d->ruin, 0));
    ledger_close(l);
    assert_int_equal(kit_number(d->ruin, "SELECT count(*) FROM attempt"
                                         " WHERE outcome = 'sending'"),
                     0);
}

/* ---- what is charged ---- */

static void
what_may_have_been_in_flight_is_charged(void **state)
{
    struct desk *d = *state;
    struct ledger *l;

    lose_power(d);
    d->clock.wall_ms += 5 * 60 * 1000;
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 2);
    assert_int_equal(d->messages, 2 * SESSIONS);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
    /* 1 and 2 recipients: 2 on average, rounded up. */
    assert_int_equal(kit_spent(l, 1, DIM_RECIPIENTS), 3 + SESSIONS * 2);
    assert_int_equal(kit_spent(l, 1, DIM_PACE), 2 + SESSIONS);
    assert_int_equal(kit_spent(l, 2, DIM_RECIPIENTS), 7 + SESSIONS * 7);
    assert_int_equal(kit_spent(l, 3, DIM_MESSAGES), 1);
    assert_int_equal(kit_spent(l, 666, DIM_MESSAGES), 1);
    /* As late as they can have been: when the machine is up again. */
    assert_int_equal(ledger_newest_ms(l), KIT_NOW_MS + 5 * 60 * 1000);
    assert_int_equal(
        kit_number(d->ruin,
                   "SELECT units FROM spent WHERE account = 1"
                   " AND window_ms = 3600000 ORDER BY bucket DESC LIMIT 1"),
        SESSIONS);
    ledger_close(l);
}

static void
what_was_charged_is_kept_for_people(void **state)
{
    struct desk *d = *state;
    struct query_loss loss = {.at_ms = 1};
    struct query *q;
    struct ledger *l;
    char err[LEDGER_TROUBLE_MAX];

    lose_power(d);
    assert_true(query_open(&q, d->directory, err, sizeof err));
    assert_true(query_last_loss(q, &loss, err, sizeof err));
    assert_int_equal(loss.at_ms, 0);
    query_close(q);
    d->clock.wall_ms += 5 * 60 * 1000;
    l = start(d, d->ruin, boot_2);
    ledger_close(l);
    d->clock.wall_ms += 60 * 1000;
    l = start(d, d->ruin, boot_3); /* which charges nothing */
    assert_int_equal(d->charged, 0);
    assert_true(query_open(&q, d->ruin, err, sizeof err));
    assert_true(query_last_loss(q, &loss, err, sizeof err));
    assert_int_equal(loss.at_ms, KIT_NOW_MS + 5 * 60 * 1000);
    assert_int_equal(loss.accounts, 2);
    assert_int_equal(loss.messages, 2 * SESSIONS);
    assert_int_equal(loss.recipients, 2 * SESSIONS + 7 * SESSIONS);
    query_close(q);
    ledger_close(l);
}

static void
a_clock_that_went_back_charges_no_earlier(void **state)
{
    struct desk *d = *state;
    struct ledger *l;

    lose_power(d);
    d->clock.wall_ms = 1000; /* no battery */
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 2);
    assert_int_equal(ledger_newest_ms(l), KIT_NOW_MS);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
    ledger_close(l);
}

static void
no_limit_is_passed_by_it(void **state)
{
    struct desk *d = *state;
    struct ledger *l;

    d->account.quota =
        (struct quota_limits){.n = 2,
                              .limit = {{DIM_MESSAGES, 4, KIT_DAY_MS},
                                        {DIM_RECIPIENTS, 7, KIT_DAY_MS}}};
    lose_power(d);
    l = start(d, d->ruin, boot_2);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 4);
    assert_int_equal(kit_spent(l, 1, DIM_RECIPIENTS), 7);
    assert_int_equal(kit_spent(l, 1, DIM_PACE), 2 + SESSIONS); /* unlimited */
    assert_int_equal(kit_spent(l, 2, DIM_RECIPIENTS), 7);      /* was full */
    ledger_close(l);
}

/* ---- when it is charged ---- */

static void
once_and_not_again(void **state)
{
    struct desk *d = *state;
    struct ledger *l;

    lose_power(d);
    ledger_close(start(d, d->ruin, boot_2));
    assert_int_equal(d->charged, 2);
    ledger_close(start(d, d->ruin, boot_2));
    assert_int_equal(d->charged, 0);
    /* Nor when the power goes again before anything is sent. */
    l = start(d, d->ruin, boot_3);
    assert_int_equal(d->charged, 0);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
    ledger_close(l);
}

static void
an_agent_killed_alone_has_lost_nothing(void **state)
{
    struct desk *d = *state;
    struct ledger *l;
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        l = start(d, d->directory, boot_1);
        deliver(l, 1, KIT_NOW_MS, 1);
        begin(l, 1, KIT_NOW_MS, 1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    l = start(d, d->directory, boot_1);
    assert_int_equal(d->charged, 0);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2);
    ledger_close(l);
}

static void
an_end_in_order_has_lost_nothing(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);

    deliver(l, 1, KIT_NOW_MS, 1);
    begin(l, 1, KIT_NOW_MS, 1); /* not waited for: it is on disk now */
    ledger_close(l);
    assert_true(torn_vfs_power_cut(d->directory, d->ruin, 0));
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 0);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2);
    ledger_close(l);
}

static void
an_unknown_boot_is_like_no_other(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, unknown);

    deliver(l, 1, KIT_NOW_MS, 1);
    assert_true(torn_vfs_power_cut(d->directory, d->ruin, 0));
    ledger_close(l);
    ledger_close(start(d, d->ruin, unknown));
    assert_int_equal(d->charged, 1);
}

static void
a_book_nobody_ended_says_so_before_the_first_send(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);

    deliver(l, 1, KIT_NOW_MS, 1);
    ledger_close(l);
    l = start(d, d->directory, boot_1);
    /* The first begin of this life, with no fsync of a result behind it. */
    begin(l, 1, KIT_NOW_MS, 1);
    assert_true(torn_vfs_power_cut(d->directory, d->ruin, 0));
    ledger_close(l);
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 1);
    ledger_close(l);
}

/* The first begin of an account that was idle, and one whose charge was given
 * back: nothing else tells that something was in flight. */
static void
whoever_wakes_up_is_known(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);
    struct taken t = kit_charge(2, KIT_NOW_MS, 3);
    struct attempt_result r;

    deliver(l, 1, KIT_NOW_MS - 6 * 60 * 1000, 1);
    begin(l, 1, KIT_NOW_MS, 1);
    r = kit_result(begin(l, 2, KIT_NOW_MS, 3), OUTCOME_DEFERRED);
    assert_int_equal(ledger_finish(l, &r, 1, &t, NULL, 30000), LEDGER_OK);
    begin(l, 3, KIT_NOW_MS, 1); /* synced, and everything before it */
    begin(l, 2, KIT_NOW_MS, 3); /* lost */
    assert_true(torn_vfs_power_cut(d->directory, d->ruin, 0));
    ledger_close(l);
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 3);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
    assert_int_equal(kit_spent(l, 2, DIM_MESSAGES), SESSIONS);
    assert_int_equal(kit_spent(l, 3, DIM_MESSAGES), 1 + SESSIONS);
    ledger_close(l);
}

/* That is one fsync for each account in a while, not one for each begin. */
static void
begins_are_not_synced_one_by_one(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);
    uint64_t before;

    begin(l, 1, KIT_NOW_MS, 1);
    begin(l, 2, KIT_NOW_MS, 1);
    before = torn_vfs_wal_syncs();
    for (unsigned i = 0; i < 2 * SESSIONS; i++)
        begin(l, 1 + i % 2, KIT_NOW_MS + 1000 * i, 1);
    assert_int_equal(torn_vfs_wal_syncs(), before);
    begin(l, 1, KIT_NOW_MS + LEDGER_SYNC_MS + 1, 1);
    assert_int_equal(torn_vfs_wal_syncs(), before + 1);
    ledger_close(l);
}

/* Nor are more of one account without one than are charged for when the power
 * goes. */
static void
not_more_begins_than_sessions_are_unsynced(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);
    uint64_t before;

    begin(l, 1, KIT_NOW_MS, 1);
    begin(l, 2, KIT_NOW_MS, 1);
    before = torn_vfs_wal_syncs();
    for (unsigned i = 0; i < 10 * (SESSIONS + 1); i++) {
        assert_int_equal(torn_vfs_wal_syncs(), before + i / (SESSIONS + 1));
        begin(l, 1, KIT_NOW_MS, 1);
    }
    before = torn_vfs_wal_syncs();
    for (unsigned i = 0; i < SESSIONS; i++)
        begin(l, 2, KIT_NOW_MS, 1); /* another's count alone */
    assert_int_equal(torn_vfs_wal_syncs(), before);
    ledger_close(l);
}

/* The mark is the file's: another file that took its place gets one too. */
static void
a_replaced_file_is_marked_again(void **state)
{
    struct desk *d = *state;
    struct ledger *l = start(d, d->directory, boot_1);
    static const char *const suffix[] = {"", "-wal", "-shm"};

    deliver(l, 1, KIT_NOW_MS, 1);
    for (unsigned i = 0; i < 3; i++) {
        char path[KIT_PATH + 32];

        snprintf(path, sizeof path, "%s/ledger.db%s", d->directory, suffix[i]);
        assert_int_equal(unlink(path), 0);
    }
    deliver(l, 1, KIT_NOW_MS, 1);
    assert_int_equal(kit_number(d->directory, "SELECT value FROM meta"
                                              " WHERE key = 'begun'"),
                     1);
    ledger_close(l);
    assert_int_equal(kit_number(d->directory, "SELECT value FROM meta"
                                              " WHERE key = 'begun'"),
                     0);
}

static void
what_cannot_be_written_is_not_charged(void **state)
{
    struct desk *d = *state;
    struct ledger *l;

    lose_power(d);
    l = kit_open(d->ruin, &d->clock.clock);
    torn_vfs_fail_writes(SQLITE_FULL);
    /* Not boot(): recovery finds nothing to do, so nothing to write. */
    assert_int_equal(
        ledger_boot(l, boot_2,
                    &(struct ledger_loss_ops){account_of, charged, d}),
        LEDGER_EUNAVAILABLE);
    torn_vfs_fail_writes(0);
    assert_true(kit_wait_ok(l, true));
    ledger_close(l); /* not an end in order: the loss is still to be charged */
    l = start(d, d->ruin, boot_2);
    assert_int_equal(d->charged, 2);
    assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
    ledger_close(l);
}

static void
killed_in_the_start_it_is_charged_once(void **state)
{
    unsigned before = 0;

    srand(11);
    for (unsigned i = 0; i < KILLS; i++) {
        /* 1 to 7 ms hit it; some wait for the end of a slow one. */
        struct timespec t = {0,
                             1000000 + rand() % (i % 8 ? 6000000 : 90000000)};
        struct desk *d = *state;
        struct ledger *l;
        int status;
        pid_t pid;

        lose_power(d);
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            start(d, d->ruin, boot_2);
            pause();
            _exit(1);
        }
        assert_true(pid > 0);
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        l = start(d, d->ruin, boot_2);
        before += d->charged > 0;
        assert_int_equal(kit_spent(l, 1, DIM_MESSAGES), 2 + SESSIONS);
        assert_int_equal(kit_spent(l, 2, DIM_RECIPIENTS), 7 + SESSIONS * 7);
        ledger_close(l);
        desk_teardown(state);
        desk_setup(state);
    }
    print_message("  %u of %u kills came before the charge\n", before, KILLS);
    assert_true(before > 0);
}

/* ---- however the power goes ---- */

struct load {
    struct ledger *l;
    atomic_bool stop;
    atomic_uint begun;
};

static void *
work(void *cookie)
{
    struct load *w = cookie;

    while (!atomic_load(&w->stop)) {
        struct attempt_result r;
        int64_t row = begin(w->l, 1, KIT_NOW_MS, 3);

        /* From here on Gmail may have it. */
        atomic_fetch_add(&w->begun, 1);
        r = kit_result(row, OUTCOME_SENT);
        assert_int_equal(ledger_finish(w->l, &r, 1, NULL, NULL, 30000),
                         LEDGER_OK);
    }
    return NULL;
}

/* With more senders at work than sessions.max (a session carries the next
 * message before the last one's result is on disk), the book never knows of
 * less than what may have gone out, and of no more than sessions.max more than
 * was begun. */
static void
no_send_goes_uncounted(void **state)
{
    struct desk *d = *state;
    unsigned lost = 0;

    srand(7);
    for (unsigned i = 0; i < CUTS; i++) {
        struct load w = {0};
        pthread_t thread[SENDERS];
        uint64_t spent;
        unsigned begun, after;
        struct ledger *l;

        w.l = start(d, d->directory, boot_1);
        deliver(w.l, 1, KIT_NOW_MS, 3); /* it is in use */
        atomic_fetch_add(&w.begun, 1);
        torn_vfs_slow_syncs(8);
        for (unsigned k = 0; k < SENDERS; k++)
            assert_int_equal(pthread_create(&thread[k], NULL, work, &w), 0);
        usleep((useconds_t)(3000 + rand() % 20000));
        begun = atomic_load(&w.begun);
        assert_true(torn_vfs_power_cut(d->directory, d->ruin, i % 3));
        after = atomic_load(&w.begun);
        atomic_store(&w.stop, true);
        for (unsigned k = 0; k < SENDERS; k++)
            pthread_join(thread[k], NULL);
        torn_vfs_slow_syncs(0);
        ledger_close(w.l);

        l = kit_open(d->ruin, &d->clock.clock);
        lost += kit_spent(l, 1, DIM_MESSAGES) < begun;
        assert_int_equal(boot(d, l, boot_2), LEDGER_OK);
        spent = kit_spent(l, 1, DIM_MESSAGES);
        assert_true(spent >= begun);
        assert_true(spent <= after + SENDERS + SESSIONS);
        assert_true(kit_spent(l, 1, DIM_RECIPIENTS) == 3 * spent);
        ledger_close(l);
        desk_teardown(state);
        desk_setup(state);
        d = *state;
    }
    print_message("  %u of %u cuts lost a begin\n", lost, CUTS);
    assert_true(lost > 0);
}

/* ---- the arithmetic ---- */

static struct ledger_bucket
bucket(enum dimension d, uint64_t window_ms, uint64_t ago_ms, uint64_t units)
{
    return (struct ledger_bucket){.dimension = d,
                                  .window_ms = window_ms,
                                  .units = units,
                                  .end_ms = KIT_NOW_MS - ago_ms + 1};
}

#define HOUR_MS (3600ull * 1000)

/* An average is of one span of time, though the windows are of several. */
static void
averages_are_of_the_same_span(void **state)
{
    static const struct {
        const char *name;
        unsigned n;
        struct {
            enum dimension d;
            uint64_t window_ms, ago_ms, units;
        } b[4];
        uint64_t want; /* of the first window, for one session */
    } row[] = {
        {"the day's octets by the day's messages",
         2,
         {{DIM_BYTES, KIT_DAY_MS, 0, 1000}, {DIM_MESSAGES, KIT_DAY_MS, 0, 10}},
         100},
        {"rounded up",
         2,
         {{DIM_BYTES, KIT_DAY_MS, 0, 1001}, {DIM_MESSAGES, KIT_DAY_MS, 0, 10}},
         101},
        {"the hour's octets by the hour's messages",
         3,
         {{DIM_BYTES, HOUR_MS, 0, 1000},
          {DIM_MESSAGES, KIT_DAY_MS, 5 * HOUR_MS, 90},
          {DIM_MESSAGES, KIT_DAY_MS, 0, 10}},
         100},
        {"octets of before the pace's window do not count",
         3,
         {{DIM_BYTES, KIT_DAY_MS, 5 * HOUR_MS, 90000},
          {DIM_BYTES, KIT_DAY_MS, 0, 50},
          {DIM_PACE, HOUR_MS, 0, 5}},
         10},
        {"the longest window of messages",
         3,
         {{DIM_RECIPIENTS, KIT_DAY_MS, HOUR_MS * 3, 40},
          {DIM_MESSAGES, KIT_DAY_MS, 0, 10},
          {DIM_PACE, HOUR_MS, 0, 1}},
         4},
        {"nothing counts messages: each bucket is one",
         2,
         {{DIM_RECIPIENTS, KIT_DAY_MS, HOUR_MS, 3},
          {DIM_RECIPIENTS, KIT_DAY_MS, 0, 8}},
         8},
        {"messages are themselves",
         2,
         {{DIM_MESSAGES, KIT_DAY_MS, HOUR_MS, 30},
          {DIM_MESSAGES, KIT_DAY_MS, 0, 8}},
         1},
        {"idle: nothing", 1, {{DIM_MESSAGES, KIT_DAY_MS, HOUR_MS, 30}}, 0},
        {"no overflow",
         2,
         {{DIM_BYTES, KIT_DAY_MS, 0, UINT64_MAX},
          {DIM_BYTES, KIT_DAY_MS, 0, UINT64_MAX}},
         UINT64_MAX},
    };
    struct account a = {.sessions.max = 1};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct ledger_bucket b[4];
        struct taken t = {0};
        bool used;

        for (unsigned k = 0; k < row[i].n; k++)
            b[k] = bucket(row[i].b[k].d, row[i].b[k].window_ms,
                          row[i].b[k].ago_ms, row[i].b[k].units);
        used = ledger_loss(b, row[i].n, &a, KIT_NOW_MS, KIT_NOW_MS, &t);
        if (used != (row[i].want > 0) ||
            (used && t.charge[0].units != row[i].want))
            fail_msg("%s: %llu", row[i].name,
                     (unsigned long long)t.charge[0].units);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_of_the_same_span),
        cmocka_unit_test_setup_teardown(what_was_charged_is_kept_for_people,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(what_may_have_been_in_flight_is_charged,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(
            a_clock_that_went_back_charges_no_earlier, desk_setup,
            desk_teardown),
        cmocka_unit_test_setup_teardown(no_limit_is_passed_by_it, desk_setup,
                                        desk_teardown),
        cmocka_unit_test_setup_teardown(once_and_not_again, desk_setup,
                                        desk_teardown),
        cmocka_unit_test_setup_teardown(an_agent_killed_alone_has_lost_nothing,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(an_end_in_order_has_lost_nothing,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(an_unknown_boot_is_like_no_other,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(
            a_book_nobody_ended_says_so_before_the_first_send, desk_setup,
            desk_teardown),
        cmocka_unit_test_setup_teardown(whoever_wakes_up_is_known, desk_setup,
                                        desk_teardown),
        cmocka_unit_test_setup_teardown(
            not_more_begins_than_sessions_are_unsynced, desk_setup,
            desk_teardown),
        cmocka_unit_test_setup_teardown(begins_are_not_synced_one_by_one,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(a_replaced_file_is_marked_again,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_written_is_not_charged,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(killed_in_the_start_it_is_charged_once,
                                        desk_setup, desk_teardown),
        cmocka_unit_test_setup_teardown(no_send_goes_uncounted, desk_setup,
                                        desk_teardown),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/boot", tests, NULL, NULL);
}
