/* tests/unit/ledger/test_ledger.c - mirrors milter/ledger/ledger.c: what the
 * book says after good days.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/ledger/ledger_sql.h"
#include "policy/window.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

static int64_t
begin_one(struct ledger *l, uint64_t ticket, const char *recipient,
          const struct taken *charge)
{
    struct attempt a = kit_attempt(ticket, recipient, 42);
    int64_t row = 0;

    assert_int_equal(ledger_begin(l, &a, 1, charge, &row), LEDGER_OK);
    assert_true(row > 0);
    return row;
}

static void
finish_one(struct ledger *l, int64_t row, enum outcome_kind k,
           const struct taken *before, const struct taken *after)
{
    struct attempt_result res = kit_result(row, k);

    assert_int_equal(ledger_finish(l, &res, 1, before, after, 10000),
                     LEDGER_OK);
}

/* ---- was it sent before? ---- */

/* What happened to (ticket 5, r@x): each step one attempt. */
static const struct seen_row {
    const char *name;
    const char *steps; /* F begun, S sent, R refused, D deferred, ? in doubt,
                        * n noted as deferred, r noted as refused, X sent with
                        * another content */
    enum ledger_seen same, other, none; /* asked with the same digest, with
                                         * another one, with none */
} seen_rows[] = {
    {"never heard of", "", SEEN_NEVER, SEEN_NEVER, SEEN_NEVER},
    {"under way", "F", SEEN_DOUBT, SEEN_DOUBT, SEEN_DOUBT},
    {"sent", "S", SEEN_SENT, SEEN_OTHER, SEEN_SENT},
    {"refused", "R", SEEN_TRIED, SEEN_TRIED, SEEN_TRIED},
    {"deferred", "D", SEEN_TRIED, SEEN_TRIED, SEEN_TRIED},
    {"in doubt", "?", SEEN_DOUBT, SEEN_DOUBT, SEEN_DOUBT},
    {"no flight", "n", SEEN_TRIED, SEEN_TRIED, SEEN_TRIED},
    {"refused by rule", "r", SEEN_TRIED, SEEN_TRIED, SEEN_TRIED},
    {"deferred, then sent", "DDS", SEEN_SENT, SEEN_OTHER, SEEN_SENT},
    {"in doubt, then sent", "?S", SEEN_SENT, SEEN_OTHER, SEEN_SENT},
    {"in doubt, then deferred", "?D", SEEN_DOUBT, SEEN_DOUBT, SEEN_DOUBT},
    {"in doubt, then noted", "?n", SEEN_DOUBT, SEEN_DOUBT, SEEN_DOUBT},
    {"sent, then under way", "SF", SEEN_SENT, SEEN_OTHER, SEEN_SENT},
    {"another content was sent", "X", SEEN_OTHER, SEEN_SENT, SEEN_SENT},
    {"both contents were sent", "XS", SEEN_SENT, SEEN_SENT, SEEN_SENT},
    {"other sent, this in doubt", "X?", SEEN_OTHER, SEEN_SENT, SEEN_SENT},
};

static void
take_steps(struct ledger *l, const char *steps)
{
    for (; *steps != '\0'; steps++) {
        struct attempt a = kit_attempt(5, "r@x", 42);
        struct attempt_result res = kit_result(0, OUTCOME_DEFERRED);
        int64_t row = 0;

        if (*steps == 'X')
            a.digest = kit_digest(8);
        if (*steps == 'n' || *steps == 'r') {
            if (*steps == 'r')
                res.kind = OUTCOME_REFUSED;
            ledger_note(l, &a, 1, &res);
            continue;
        }
        assert_int_equal(ledger_begin(l, &a, 1, NULL, &row), LEDGER_OK);
        if (*steps != 'F')
            finish_one(l, row,
                       *steps == 'S' || *steps == 'X' ? OUTCOME_SENT
                       : *steps == 'R'                ? OUTCOME_REFUSED
                       : *steps == 'D'                ? OUTCOME_DEFERRED
                                                      : OUTCOME_IN_DOUBT,
                       NULL, NULL);
    }
}

static void
ask(struct ledger *l, const struct seen_row *t)
{
    struct digest same = kit_digest(7), other = kit_digest(8);
    enum ledger_seen s;

    assert_int_equal(ledger_seen(l, 5, "r@x", &same, &s), LEDGER_OK);
    assert_int_equal(s, t->same);
    assert_int_equal(ledger_seen(l, 5, "r@x", &other, &s), LEDGER_OK);
    assert_int_equal(s, t->other);
    assert_int_equal(ledger_seen(l, 5, "r@x", NULL, &s), LEDGER_OK);
    assert_int_equal(s, t->none);
    /* Another recipient, or another ticket, is another matter. */
    assert_int_equal(ledger_seen(l, 5, "R@x", NULL, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_NEVER);
    assert_int_equal(ledger_seen(l, 6, "r@x", NULL, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_NEVER);
}

static void
seen_knows_each_past(void **state)
{
    for (size_t i = 0; i < sizeof seen_rows / sizeof *seen_rows; i++) {
        struct kit_desk *r = *state;

        print_message("  %s\n", seen_rows[i].name);
        take_steps(r->l, seen_rows[i].steps);
        ask(r->l, &seen_rows[i]);
        kit_desk_reopen(r); /* from the tables alone */
        ask(r->l, &seen_rows[i]);
        kit_desk_teardown(state);
        kit_desk_setup(state);
    }
}

/* The same, while nothing of it can reach the disk. */
static void
seen_knows_what_waits(void **state)
{
    struct kit_desk *r = *state;
    struct digest same = kit_digest(7), other = kit_digest(8);
    int64_t row = begin_one(r->l, 5, "r@x", NULL);
    struct attempt noted = kit_attempt(6, "r@x", 42);
    struct attempt_result res = kit_result(row, OUTCOME_SENT);
    enum ledger_seen s;

    torn_vfs_fail_writes(SQLITE_FULL);
    assert_int_equal(ledger_finish(r->l, &res, 1, NULL, NULL, 50),
                     LEDGER_EUNAVAILABLE);
    assert_int_equal(ledger_seen(r->l, 5, "r@x", &same, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_SENT);
    assert_int_equal(ledger_seen(r->l, 5, "r@x", &other, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_OTHER);
    res = kit_result(0, OUTCOME_DEFERRED);
    ledger_note(r->l, &noted, 1, &res);
    assert_int_equal(ledger_seen(r->l, 6, "r@x", &same, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_TRIED);

    assert_true(kit_wait_ok(r->l, false));
    torn_vfs_fail_writes(0);
    assert_true(kit_wait_ok(r->l, true));
    begin_one(r->l, 7, "r@x", NULL); /* behind the others */
    assert_int_equal(ledger_seen(r->l, 5, "r@x", &same, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_SENT);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'sent'"),
                     1);
}

/* ---- what is spent ---- */

static void
a_flight_is_charged_and_settled(void **state)
{
    struct kit_desk *r = *state;
    struct taken charge = kit_charge(42, KIT_NOW_MS, 3);
    struct taken less = kit_charge(42, KIT_NOW_MS, 2);
    const char *rcpt[3] = {"a@x", "b@x", "c@x"};
    struct attempt a[3];
    struct attempt_result res[3];
    int64_t row[3] = {0};

    for (unsigned i = 0; i < 3; i++)
        a[i] = kit_attempt(9, rcpt[i], 42);
    assert_int_equal(ledger_begin(r->l, a, 3, &charge, row), LEDGER_OK);
    assert_true(row[0] != row[1] && row[1] != row[2]);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 1);
    assert_int_equal(kit_spent(r->l, 42, DIM_RECIPIENTS), 3);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'sending'"),
                     3);

    for (unsigned i = 0; i < 3; i++)
        res[i] = kit_result(row[i], i == 1 ? OUTCOME_REFUSED : OUTCOME_SENT);
    assert_int_equal(ledger_finish(r->l, res, 3, &charge, &less, 10000),
                     LEDGER_OK);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 1);
    assert_int_equal(kit_spent(r->l, 42, DIM_RECIPIENTS), 2);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'sent'"),
                     2);
}

static void
finishing_twice_changes_nothing(void **state)
{
    struct kit_desk *r = *state;
    struct taken t = kit_charge(42, KIT_NOW_MS, 1);
    int64_t one = begin_one(r->l, 1, "a@x", &t);
    int64_t two = begin_one(r->l, 2, "a@x", &t);

    finish_one(r->l, one, OUTCOME_REFUSED, &t, NULL);
    finish_one(r->l, one, OUTCOME_SENT, &t, NULL);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 1);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'refused'"),
                     1);
    finish_one(r->l, two, OUTCOME_IN_DOUBT, NULL, NULL); /* stays spent */
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 1);
}

static void
never_below_zero(void **state)
{
    struct kit_desk *r = *state;
    struct taken t = kit_charge(42, KIT_NOW_MS, 2);
    struct taken more = kit_charge(42, KIT_NOW_MS, 50);
    int64_t row = begin_one(r->l, 1, "a@x", &t);

    finish_one(r->l, row, OUTCOME_REFUSED, &more, NULL);
    assert_int_equal(kit_spent(r->l, 42, DIM_RECIPIENTS), 0);
    assert_int_equal(kit_number(r->directory, "SELECT min(units) FROM spent"),
                     0);
}

/* Property: a bucket counts exactly as long as policy/window.h says. */
static void
only_buckets_that_count(void **state)
{
    struct kit_desk *r = *state;
    uint64_t now = KIT_NOW_MS;
    struct taken t = kit_charge(42, now - KIT_DAY_MS * 145 / 144 - 1, 1);

    begin_one(r->l, 1, "a@x", &t); /* newest so far: it counts */
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 1);
    t = kit_charge(42, now - KIT_DAY_MS, 1);
    begin_one(r->l, 2, "a@x", &t);
    t = kit_charge(42, now, 1);
    begin_one(r->l, 3, "a@x", &t);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 2);
    assert_int_equal(kit_spent(r->l, 42, DIM_PACE), 1); /* an hour's */
    assert_int_equal(ledger_newest_ms(r->l), now);

    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t window = 1 + (uint64_t)(rand() % 260000000);
        uint64_t at = now - (uint64_t)(rand() % 1000000);
        uint64_t bucket = at * WINDOW_PARTS / window;
        uint64_t until = ledger_sql_until_ms(window, bucket);

        assert_true((until - 1) * WINDOW_PARTS / window <
                    bucket + WINDOW_BUCKETS);
        assert_true(until * WINDOW_PARTS / window >= bucket + WINDOW_BUCKETS);
    }
}

static void
newest_time_survives(void **state)
{
    struct kit_desk *r = *state;
    struct taken t = kit_charge(42, KIT_NOW_MS + 5000, 1);

    assert_int_equal(ledger_newest_ms(r->l), 0);
    begin_one(r->l, 1, "a@x", &t);
    t = kit_charge(42, KIT_NOW_MS, 1);
    begin_one(r->l, 2, "a@x", &t);
    assert_int_equal(ledger_newest_ms(r->l), KIT_NOW_MS + 5000);
    kit_desk_reopen(r);
    assert_int_equal(ledger_newest_ms(r->l), KIT_NOW_MS + 5000);
}

/* ---- what is kept ---- */

static void
ids_are_kept_bit_for_bit(void **state)
{
    struct kit_desk *r = *state;
    static const uint64_t id[] = {1, INT64_MAX, (uint64_t)INT64_MAX + 1,
                                  UINT64_MAX};

    for (size_t i = 0; i < sizeof id / sizeof *id; i++) {
        struct attempt a = kit_attempt(id[i], "a@x", id[i]);
        struct taken t = kit_charge(id[i], KIT_NOW_MS, 1);
        enum ledger_seen s;
        int64_t row;

        assert_int_equal(ledger_begin(r->l, &a, 1, &t, &row), LEDGER_OK);
        finish_one(r->l, row, OUTCOME_SENT, NULL, NULL);
        assert_int_equal(ledger_seen(r->l, id[i], "a@x", NULL, &s), LEDGER_OK);
        assert_int_equal(s, SEEN_SENT);
        assert_int_equal(kit_spent(r->l, id[i], DIM_MESSAGES), 1);
    }
}

static void
long_texts_are_cut_keys_are_not(void **state)
{
    struct kit_desk *r = *state;
    char recipient[3001] = "", reply[3001];
    struct attempt a = kit_attempt(1, recipient, 42);
    struct attempt_result res = kit_result(0, OUTCOME_SENT);
    enum ledger_seen s;

    memset(recipient, 'r', 3000);
    recipient[3000] = '\0';
    /* Two octets a character: a cut at 1024 must not halve one. */
    reply[0] = 'x';
    for (unsigned i = 1; i + 1 < 3000; i += 2)
        memcpy(reply + i, "\xc3\xa4", 2);
    reply[2999] = '\0';
    res.reply = reply;
    res.enhanced = NULL; /* taken as "" */
    a.queue_id = NULL;
    assert_int_equal(ledger_begin(r->l, &a, 1, NULL, &res.row), LEDGER_OK);
    assert_int_equal(ledger_finish(r->l, &res, 1, NULL, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(
        kit_number(r->directory, "SELECT length(recipient) FROM attempt"),
        3000);
    assert_int_equal(
        kit_number(r->directory,
                   "SELECT length(CAST(reply AS BLOB)) FROM attempt"),
        LEDGER_TEXT - 1);
    assert_int_equal(ledger_seen(r->l, 1, recipient, NULL, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_SENT);
    recipient[2999] = '\0';
    assert_int_equal(ledger_seen(r->l, 1, recipient, NULL, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_NEVER);
}

struct state_seen {
    unsigned n;
    uint64_t account, until_ms;
    char identity[64], reason[64];
    enum account_state state;
    uint32_t rests;
};

static void
note_state(void *cookie, uint64_t account, const char *identity,
           enum account_state s, uint64_t until_ms, const char *reason,
           uint32_t rests)
{
    struct state_seen *seen = cookie;

    seen->n++;
    seen->account = account;
    seen->until_ms = until_ms;
    seen->state = s;
    seen->rests = rests;
    snprintf(seen->identity, sizeof seen->identity, "%s", identity);
    snprintf(seen->reason, sizeof seen->reason, "%s", reason);
}

/* As in memory: a rest that was under way does not end a pause. */
static void
a_pause_stays_in_the_book(void **state)
{
    struct kit_desk *r = *state;
    struct state_seen seen = {0};

    ledger_set_state(r->l, "sales@example.com", 42, ACCOUNT_PAUSED, 0, "me", 0);
    assert_int_equal(ledger_set_state(r->l, "sales@example.com", 42,
                                      ACCOUNT_COOLING, 99, "454", 1),
                     LEDGER_OK);
    kit_desk_reopen(r);
    assert_int_equal(ledger_states(r->l, note_state, &seen), LEDGER_OK);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.state, ACCOUNT_PAUSED);
    assert_string_equal(seen.reason, "me");
}

static void
account_states_outlive_the_agent(void **state)
{
    struct kit_desk *r = *state;

    for (unsigned s = ACCOUNT_OK + 1; s < ACCOUNT_STATES; s++) {
        struct state_seen seen = {0};

        /* Nothing else ends a pause. */
        ledger_set_state(r->l, "sales@example.com", 42, ACCOUNT_OK, 0, "", 0);
        assert_int_equal(
            ledger_set_state(r->l, "sales@example.com", 42,
                             (enum account_state)s, 99, "daily limit", s),
            LEDGER_OK);
        kit_desk_reopen(r);
        assert_int_equal(ledger_states(r->l, note_state, &seen), LEDGER_OK);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.account, 42);
        assert_int_equal(seen.state, s);
        assert_int_equal(seen.until_ms, 99);
        assert_string_equal(seen.identity, "sales@example.com");
        assert_string_equal(seen.reason, "daily limit");
        assert_int_equal(seen.rests, s);
    }
    struct state_seen seen = {0};

    assert_int_equal(
        ledger_set_state(r->l, "sales@example.com", 42, ACCOUNT_OK, 0, "", 0),
        LEDGER_OK);
    assert_int_equal(ledger_states(r->l, note_state, &seen), LEDGER_OK);
    assert_int_equal(seen.n, 0);
}

struct waiting_seen {
    unsigned n;
    struct {
        uint64_t ticket, account, last_ms;
        uint32_t recipients;
    } item[16];
};

static void
note_waiting(void *cookie, uint64_t ticket, uint64_t account,
             const char *identity, uint64_t last_ms, uint32_t recipients)
{
    struct waiting_seen *w = cookie;

    (void)identity;
    assert_true(w->n < 16);
    w->item[w->n].ticket = ticket;
    w->item[w->n].account = account;
    w->item[w->n].last_ms = last_ms;
    w->item[w->n].recipients = recipients;
    w->n++;
}

static void
try(struct kit_desk *r, uint64_t ms, uint64_t ticket, const char *rcpt,
    uint64_t account, enum outcome_kind k)
{
    struct attempt a = kit_attempt(ticket, rcpt, account);
    int64_t row;

    r->clock.wall_ms = (int64_t)ms;
    assert_int_equal(ledger_begin(r->l, &a, 1, NULL, &row), LEDGER_OK);
    finish_one(r->l, row, k, NULL, NULL);
}

static void
waiting_is_what_was_put_off_last(void **state)
{
    struct kit_desk *r = *state;
    struct waiting_seen w = {0};
    uint64_t t = KIT_NOW_MS;

    try(r, t + 1, 1, "a@x", 7, OUTCOME_DEFERRED); /* waits, with b */
    try(r, t + 2, 1, "b@x", 7, OUTCOME_IN_DOUBT);
    try(r, t + 3, 1, "c@x", 7, OUTCOME_REFUSED);  /* over */
    try(r, t + 4, 1, "d@x", 8, OUTCOME_DEFERRED); /* another account */
    try(r, t + 5, 2, "a@x", 7, OUTCOME_DEFERRED);
    try(r, t + 6, 2, "a@x", 7, OUTCOME_SENT); /* came through */
    try(r, t + 7, 3, "a@x", 7, OUTCOME_DEFERRED);
    try(r, t + 8, 3, "a@x", 8, OUTCOME_DEFERRED); /* changed accounts */
    try(r, t - 1, 4, "a@x", 7, OUTCOME_DEFERRED); /* too long ago */
    try(r, t + 9, 5, "a@x", 0, OUTCOME_DEFERRED); /* by rule: no account */
    begin_one(r->l, 6, "a@x", NULL);              /* under way */

    assert_int_equal(ledger_waiting(r->l, t, note_waiting, &w), LEDGER_OK);
    assert_int_equal(w.n, 3);
    assert_int_equal(w.item[0].ticket, 1);
    assert_int_equal(w.item[0].account, 7);
    assert_int_equal(w.item[0].recipients, 2);
    assert_int_equal(w.item[0].last_ms, t + 2);
    assert_int_equal(w.item[1].ticket, 1);
    assert_int_equal(w.item[1].account, 8);
    assert_int_equal(w.item[1].recipients, 1);
    assert_int_equal(w.item[2].ticket, 3);
    assert_int_equal(w.item[2].account, 8);
}

static void
recover_leaves_no_sending(void **state)
{
    struct kit_desk *r = *state;
    uint64_t n = 99;
    enum ledger_seen s;

    begin_one(r->l, 1, "a@x", NULL);
    begin_one(r->l, 2, "a@x", NULL);
    kit_desk_reopen(r);
    int64_t mine = begin_one(r->l, 3, "a@x", NULL);

    assert_int_equal(ledger_recover(r->l, &n), LEDGER_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ledger_seen(r->l, 1, "a@x", NULL, &s), LEDGER_OK);
    assert_int_equal(s, SEEN_DOUBT);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'in_doubt'"),
                     2);
    finish_one(r->l, mine, OUTCOME_SENT, NULL, NULL); /* was not touched */
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'sent'"),
                     1);
}

/* ---- pruning ---- */

struct count_wanted {
    const char *directory, *sql;
    int64_t want;
};

static bool
count_is(void *cookie)
{
    struct count_wanted *c = cookie;

    return kit_number(c->directory, c->sql) == c->want;
}

static void
old_rows_go_in_batches(void **state)
{
    struct kit_desk *r = *state;
    struct count_wanted attempts = {r->directory,
                                    "SELECT count(*) FROM attempt", 3};
    struct count_wanted spent = {r->directory, "SELECT count(*) FROM spent", 3};
    struct taken t = kit_charge(42, KIT_NOW_MS, 1);

    for (unsigned i = 0; i < 1000; i++) {
        struct attempt a = kit_attempt(i, "a@x", 42);
        struct attempt_result res = kit_result(0, OUTCOME_DEFERRED);

        ledger_note(r->l, &a, 1, &res);
    }
    begin_one(r->l, 5000, "a@x", &t); /* behind the notes in the queue */
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"),
                     1001);

    /* 36 days later, as quota time says too: one more, then a restart. */
    r->clock.wall_ms += (int64_t)(36 * KIT_DAY_MS);
    t = kit_charge(42, KIT_NOW_MS + 36 * KIT_DAY_MS, 1);
    begin_one(r->l, 5001, "a@x", &t);
    begin_one(r->l, 5002, "a@x", &t);
    kit_desk_reopen(r);
    begin_one(r->l, 5003, "a@x", &t);
    assert_true(kit_wait(count_is, &attempts));
    assert_true(kit_wait(count_is, &spent));
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 3);
}

static void
a_wrong_clock_prunes_nothing(void **state)
{
    struct kit_desk *r = *state;
    struct taken t = kit_charge(42, KIT_NOW_MS, 1);

    begin_one(r->l, 1, "a@x", &t);
    r->clock.wall_ms += (int64_t)(3650 * KIT_DAY_MS);
    kit_desk_reopen(r);
    for (unsigned i = 0; i < 20; i++) {
        begin_one(r->l, 2 + i, "a@x", &t);
        usleep(5000);
    }
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"),
                     21);
}

/* ---- files ---- */

static const struct mode_row {
    const char *name;
    mode_t umask, want;
} mode_rows[] = {
    {"an open umask", 0, 0640},
    {"the usual umask", 022, 0640},
    {"a closed umask", 077, 0600},
};

static void
files_are_not_for_everybody(void **state)
{
    static const char *const file[] = {"ledger.db", "ledger.db-wal",
                                       "ledger.db-shm", "ledger.lock"};
    struct kit_desk *r = *state;

    for (size_t i = 0; i < sizeof mode_rows / sizeof *mode_rows; i++) {
        char directory[KIT_PATH];
        mode_t old;
        struct ledger *l;

        print_message("  %s\n", mode_rows[i].name);
        kit_directory(directory);
        old = umask(mode_rows[i].umask);
        l = kit_open(directory, &r->clock.clock);
        begin_one(l, 1, "a@x", NULL);
        umask(old);
        for (unsigned k = 0; k < 4; k++) {
            char path[KIT_PATH + 32];
            struct stat st;

            snprintf(path, sizeof path, "%s/%s", directory, file[k]);
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_mode & 07777, mode_rows[i].want);
        }
        ledger_close(l);
        kit_remove(directory);
    }
}

/* ---- many at once ---- */

enum { THREADS = 32, ROUNDS = 40 };

struct worker {
    struct ledger *l;
    unsigned number;
    unsigned failures; /* cmocka asserts only in the main thread */
};

static void *
worker_main(void *cookie)
{
    struct worker *w = cookie;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t ticket = w->number * 1000ull + i + 1;
        struct attempt a[2] = {kit_attempt(ticket, "a@x", 42),
                               kit_attempt(ticket, "b@x", 42)};
        struct taken t = kit_charge(42, KIT_NOW_MS + i, 2);
        struct attempt_result res[2];
        enum ledger_seen s = SEEN_NEVER;
        int64_t row[2];
        bool refused = i % 4 == 3;

        if (ledger_seen(w->l, ticket, "a@x", NULL, &s) != LEDGER_OK ||
            s != SEEN_NEVER || ledger_begin(w->l, a, 2, &t, row) != LEDGER_OK ||
            ledger_seen(w->l, ticket, "b@x", NULL, &s) != LEDGER_OK ||
            s != SEEN_DOUBT)
            w->failures++;
        for (unsigned k = 0; k < 2; k++)
            res[k] =
                kit_result(row[k], refused ? OUTCOME_REFUSED : OUTCOME_SENT);
        if (ledger_finish(w->l, res, 2, refused ? &t : NULL, NULL, 30000) !=
                LEDGER_OK ||
            ledger_seen(w->l, ticket, "a@x", NULL, &s) != LEDGER_OK ||
            s != (refused ? SEEN_TRIED : SEEN_SENT))
            w->failures++;
        if (i % 8 == 0)
            ledger_note(w->l, a, 1, res);
    }
    return NULL;
}

static void
many_threads_share_their_fsyncs(void **state)
{
    struct kit_desk *r = *state;
    pthread_t thread[THREADS];
    struct worker w[THREADS];
    struct ledger_stats before, s;
    uint64_t real_before = torn_vfs_wal_syncs();

    torn_vfs_slow_syncs(2); /* as a disk has it */
    ledger_stats(r->l, &before);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){r->l, i, 0};
        assert_int_equal(pthread_create(&thread[i], NULL, worker_main, &w[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(w[i].failures, 0);
    }
    ledger_stats(r->l, &s);
    print_message("  %u finishes: %u fsyncs, %u commits\n", THREADS * ROUNDS,
                  (unsigned)(s.fsyncs - before.fsyncs),
                  (unsigned)(s.commits - before.commits));
    assert_true(s.fsyncs - before.fsyncs < THREADS * ROUNDS / 2);
    assert_true(s.commits >= s.fsyncs);
    assert_int_equal(s.failures, 0);
    /* The disk's own count: no fewer than we say, and not many more (those
     * of checkpoints, two or three each). */
    assert_true(torn_vfs_wal_syncs() - real_before >= s.fsyncs - before.fsyncs);
    assert_true(torn_vfs_wal_syncs() - real_before <
                s.fsyncs - before.fsyncs + 100);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES),
                     THREADS * ROUNDS * 3 / 4);
    assert_int_equal(kit_spent(r->l, 42, DIM_RECIPIENTS),
                     THREADS * ROUNDS * 3 / 2);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"
                                              " WHERE outcome = 'sending'"),
                     0);
    assert_int_equal(
        kit_number(r->directory, "SELECT count(DISTINCT row) FROM attempt"),
        THREADS * ROUNDS * 2 + THREADS * ROUNDS / 8);
}

/* A begin alone costs no fsync; a finish costs one. */
static void
fsyncs_come_with_results_only(void **state)
{
    struct kit_desk *r = *state;
    int64_t row[50];
    uint64_t before;

    begin_one(r->l, 999, "a@x", NULL);
    finish_one(r->l, begin_one(r->l, 998, "a@x", NULL), OUTCOME_SENT, NULL,
               NULL);
    before = torn_vfs_wal_syncs();
    for (unsigned i = 0; i < 50; i++)
        row[i] = begin_one(r->l, 1 + i, "a@x", NULL);
    assert_int_equal(torn_vfs_wal_syncs(), before);
    for (unsigned i = 0; i < 50; i++)
        finish_one(r->l, row[i], OUTCOME_SENT, NULL, NULL);
    assert_int_equal(torn_vfs_wal_syncs(), before + 50);
}

/* What is stored reads like what is logged. */
static void
words_are_those_of_the_log(void **state)
{
    (void)state;
    for (unsigned k = 0; k < OUTCOME_KINDS; k++) {
        enum outcome_kind back = OUTCOME_KINDS;

        assert_string_equal(ledger_sql_outcome((enum outcome_kind)k),
                            outcome_kind_name((enum outcome_kind)k));
        assert_true(ledger_sql_outcome_parse(
            ledger_sql_outcome((enum outcome_kind)k), &back));
        assert_int_equal(back, k);
    }
    for (unsigned s = 0; s < STAGE_COUNT; s++)
        assert_string_equal(ledger_sql_stage((enum smtp_stage)s),
                            smtp_stage_name((enum smtp_stage)s));
    for (unsigned s = 0; s < ACCOUNT_STATES; s++)
        assert_string_equal(ledger_sql_state((enum account_state)s),
                            account_state_name((enum account_state)s));
}

static void
nothing_to_do_is_done_at_once(void **state)
{
    struct kit_desk *r = *state;
    struct attempt_result res = kit_result(0, OUTCOME_DEFERRED);

    assert_int_equal(ledger_finish(r->l, &res, 1, NULL, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(kit_number(r->directory, "SELECT count(*) FROM attempt"),
                     0);
    ledger_close(NULL);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, kit_desk_setup, kit_desk_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(seen_knows_each_past),
        TEST(seen_knows_what_waits),
        TEST(a_flight_is_charged_and_settled),
        TEST(finishing_twice_changes_nothing),
        TEST(never_below_zero),
        TEST(only_buckets_that_count),
        TEST(newest_time_survives),
        TEST(ids_are_kept_bit_for_bit),
        TEST(long_texts_are_cut_keys_are_not),
        TEST(account_states_outlive_the_agent),
        TEST(a_pause_stays_in_the_book),
        TEST(waiting_is_what_was_put_off_last),
        TEST(recover_leaves_no_sending),
        TEST(old_rows_go_in_batches),
        TEST(a_wrong_clock_prunes_nothing),
        TEST(files_are_not_for_everybody),
        TEST(many_threads_share_their_fsyncs),
        TEST(fsyncs_come_with_results_only),
        TEST(words_are_those_of_the_log),
        TEST(nothing_to_do_is_done_at_once),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/ledger", tests, NULL, NULL);
}
