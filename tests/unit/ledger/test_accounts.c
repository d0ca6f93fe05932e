/* tests/unit/ledger/test_accounts.c - what the book keeps about accounts beside
 * their states: observed limits, diverts; and what it forgets.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

/* ---- what a reader of the book is told, as text ---- */

struct told {
    char text[600];
};

static void
tell(struct told *t, const char *fmt, ...)
{
    size_t n = strlen(t->text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(t->text + n, sizeof t->text - n, fmt, ap);
    va_end(ap);
}

static void
tell_observed(void *cookie, uint64_t account, const char *identity,
              enum dimension d, uint64_t window_ms, uint64_t units,
              uint64_t at_ms)
{
    tell(cookie, "%d %s %s/%d h %d at %d; ", (int)account, identity,
         dimension_name(d), (int)(window_ms / 3600000), (int)units,
         (int)(at_ms - KIT_NOW_MS));
}

static void
tell_divert(void *cookie, uint64_t account, const char *identity,
            uint64_t other, const char *other_identity)
{
    tell(cookie, "%d %s to %d %s; ", (int)account, identity, (int)other,
         other_identity);
}

static void
tell_state(void *cookie, uint64_t account, const char *identity,
           enum account_state s, uint64_t until_ms, const char *reason,
           uint32_t rests)
{
    (void)identity;
    (void)reason;
    tell(cookie, "%d %s until %d, %d rests; ", (int)account,
         account_state_name(s), (int)until_ms, (int)rests);
}

static void
assert_observed(struct kit_desk *d, const char *want)
{
    struct told t = {""};

    assert_int_equal(ledger_observed(d->l, tell_observed, &t), LEDGER_OK);
    assert_string_equal(t.text, want);
}

static void
assert_diverts(struct kit_desk *d, const char *want)
{
    struct told t = {""};

    assert_int_equal(ledger_diverts(d->l, tell_divert, &t), LEDGER_OK);
    assert_string_equal(t.text, want);
}

static void
assert_states(struct kit_desk *d, const char *want)
{
    struct told t = {""};

    assert_int_equal(ledger_states(d->l, tell_state, &t), LEDGER_OK);
    assert_string_equal(t.text, want);
}

static const char *
name_of(uint64_t account)
{
    return account == 42   ? "sales@example.com"
           : account == 43 ? "news@example.com"
                           : "x@example.com";
}

static void
set_state(struct kit_desk *d, uint64_t account, enum account_state s,
          uint64_t until_ms, uint32_t rests)
{
    assert_int_equal(ledger_set_state(d->l, name_of(account), account, s,
                                      until_ms, "because", rests),
                     LEDGER_OK);
}

/* at_ms: after KIT_NOW_MS, as it is told too. */
static struct observation
observation(uint64_t at_ms, uint64_t messages, uint64_t recipients)
{
    return (struct observation){
        .id = 42,
        .at_ms = KIT_NOW_MS + at_ms,
        .n = 2,
        .window = {{DIM_MESSAGES, KIT_DAY_MS, 2000, messages},
                   {DIM_RECIPIENTS, KIT_DAY_MS, 10000, recipients}}};
}

/* ---- parts of the accounts ---- */

struct counted {
    unsigned n[5];
};

static const uint64_t far_apart[5] = {1, 1ull << 62, INT64_MAX, 1ull << 63,
                                      UINT64_MAX};

static void
count_account(void *cookie, uint64_t account, const char *identity,
              enum dimension d, uint64_t window_ms, uint64_t bucket,
              uint64_t units)
{
    struct counted *c = cookie;

    (void)identity;
    (void)bucket;
    (void)units;
    if (d != DIM_MESSAGES || window_ms != KIT_DAY_MS)
        return;
    for (unsigned i = 0; i < 5; i++)
        c->n[i] += far_apart[i] == account;
}

static void
the_parts_hold_each_account_once(void **state)
{
    struct kit_desk *d = *state;

    for (unsigned i = 0; i < 5; i++) {
        struct attempt a = kit_attempt(i, "a@x", far_apart[i]);
        struct taken t = kit_charge(far_apart[i], KIT_NOW_MS, 1);
        int64_t row;

        assert_int_equal(ledger_begin(d->l, &a, 1, &t, &row), LEDGER_OK);
    }
    for (unsigned of = 1; of <= 9; of++) {
        struct counted c = {{0}};

        for (unsigned n = 0; n < of; n++)
            assert_int_equal(ledger_spent(d->l, (struct ledger_part){n, of},
                                          count_account, &c),
                             LEDGER_OK);
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(c.n[i], 1);
    }
}

/* ---- observed limits ---- */

static void
the_newest_observation_is_kept(void **state)
{
    struct kit_desk *d = *state;
    struct observation o = observation(1000, 500, 900);

    assert_int_equal(ledger_observe(d->l, "sales@example.com", &o, false),
                     LEDGER_OK);
    o = observation(2000, 400, 700);
    o.n = 1;
    assert_int_equal(ledger_observe(d->l, "sales@example.com", &o, false),
                     LEDGER_OK);
    kit_desk_reopen(d);
    assert_observed(d, "42 sales@example.com messages/24 h 400 at 2000; "
                       "42 sales@example.com recipients/24 h 900 at 1000; ");
    assert_int_equal(ledger_observe(d->l, "sales@example.com", &o, true),
                     LEDGER_OK);
    assert_observed(d, "42 sales@example.com recipients/24 h 900 at 1000; ");
}

static bool
is_pruned(void *cookie)
{
    const struct kit_desk *d = cookie;

    return kit_number(d->directory, "SELECT count(*) FROM observed") == 1;
}

/* What neither holds nor is shown any more: 30 days, or the window if that is
 * longer. */
static void
an_observation_ends_with_its_time(void **state)
{
    struct kit_desk *d = *state;
    struct observation o = observation(0, 500, 900);
    struct taken t = kit_charge(42, KIT_NOW_MS + 31 * KIT_DAY_MS, 1);
    struct attempt a = kit_attempt(1, "a@x", 42);
    int64_t row;

    o.window[1].window_ms = 40 * KIT_DAY_MS;
    ledger_observe(d->l, "sales@example.com", &o, false);
    d->clock.wall_ms += (int64_t)(31 * KIT_DAY_MS);
    assert_int_equal(ledger_begin(d->l, &a, 1, &t, &row), LEDGER_OK);
    kit_desk_reopen(d); /* looks for old rows at once */
    assert_true(kit_wait(is_pruned, d));
    assert_int_equal(kit_number(d->directory, "SELECT window_ms FROM observed"),
                     40 * KIT_DAY_MS);
}

/* ---- diverts ---- */

static void
diverts_outlive_the_agent(void **state)
{
    struct kit_desk *d = *state;

    assert_diverts(d, "");
    assert_int_equal(ledger_set_divert(d->l, "sales@example.com", 42,
                                       "news@example.com", 43),
                     LEDGER_OK);
    assert_int_equal(
        ledger_set_divert(d->l, "ann@example.com", 44, "news@example.com", 43),
        LEDGER_OK);
    kit_desk_reopen(d);
    assert_diverts(d, "42 sales@example.com to 43 news@example.com; "
                      "44 ann@example.com to 43 news@example.com; ");
    ledger_set_divert(d->l, "sales@example.com", 42, "bob@example.com", 45);
    set_state(d, 42, ACCOUNT_OK, 0, 0); /* resume does not end it */
    assert_diverts(d, "42 sales@example.com to 45 bob@example.com; "
                      "44 ann@example.com to 43 news@example.com; ");
    ledger_set_divert(d->l, "sales@example.com", 42, "", 0);
    ledger_set_divert(d->l, "sales@example.com", 42, "", 0);
    kit_desk_reopen(d);
    assert_diverts(d, "44 ann@example.com to 43 news@example.com; ");
}

/* ---- rests ---- */

/* What has ended by then is over; what began since, and what a person decided,
 * is not. */
static void
gmail_accepts_again(void **state)
{
    struct kit_desk *d = *state;

    set_state(d, 1, ACCOUNT_COOLING, 1000, 3);
    set_state(d, 2, ACCOUNT_COOLING, 1001, 4);
    set_state(d, 3, ACCOUNT_DISABLED, 1000, 1);
    set_state(d, 4, ACCOUNT_PAUSED, 0, 0);
    set_state(d, 5, ACCOUNT_NEEDS_LOGIN, 0, 0);
    for (uint64_t account = 1; account <= 6; account++)
        ledger_rested(d->l, account, 1000);
    kit_desk_reopen(d);
    assert_states(d, "2 cooling until 1001, 4 rests; "
                     "4 paused until 0, 0 rests; "
                     "5 needs_login until 0, 0 rests; ");
}

/* ---- what is forgotten ---- */

static void
spend(struct kit_desk *d, uint64_t account)
{
    struct attempt a = kit_attempt(account, "a@x", account);
    struct taken charge = kit_charge(account, KIT_NOW_MS, 3);
    int64_t row;

    a.identity = name_of(account);
    assert_int_equal(ledger_begin(d->l, &a, 1, &charge, &row), LEDGER_OK);
}

static void
a_reset_forgets_one_account(void **state)
{
    struct kit_desk *d = *state;
    struct observation o = observation(1000, 500, 900);
    uint64_t newest_ms;

    for (uint64_t account = 41; account <= 43; account++)
        spend(d, account);
    ledger_observe(d->l, "sales@example.com", &o, false);
    o.id = 43;
    o.n = 1;
    ledger_observe(d->l, "news@example.com", &o, false);
    set_state(d, 42, ACCOUNT_COOLING, 99, 3);
    set_state(d, 43, ACCOUNT_COOLING, 99, 2);
    ledger_set_divert(d->l, "sales@example.com", 42, "x@example.com", 41);
    newest_ms = ledger_newest_ms(d->l);

    assert_int_equal(ledger_forget(d->l, 42), LEDGER_OK);
    assert_int_equal(kit_spent(d->l, 42, DIM_MESSAGES), 0);
    assert_int_equal(kit_spent(d->l, 42, DIM_RECIPIENTS), 0);
    kit_desk_reopen(d);
    assert_int_equal(kit_spent(d->l, 42, DIM_MESSAGES), 0);
    assert_true(kit_spent(d->l, 41, DIM_MESSAGES) > 0);
    assert_true(kit_spent(d->l, 43, DIM_MESSAGES) > 0);
    assert_observed(d, "43 news@example.com messages/24 h 500 at 1000; ");
    assert_states(d, "43 cooling until 99, 2 rests; ");
    assert_diverts(d, "42 sales@example.com to 41 x@example.com; ");
    /* What was tried stays in the book, and time goes on from there. */
    assert_int_equal(kit_number(d->directory, "SELECT count(*) FROM attempt"),
                     3);
    assert_true(ledger_newest_ms(d->l) == newest_ms);

    /* It ends no pause, nor what a person must mend. */
    set_state(d, 42, ACCOUNT_DISABLED, 99, 5);
    ledger_forget(d->l, 42);
    assert_states(d, "42 disabled until 99, 0 rests; "
                     "43 cooling until 99, 2 rests; ");
    set_state(d, 42, ACCOUNT_PAUSED, 0, 0);
    ledger_forget(d->l, 42);
    assert_states(d, "42 paused until 0, 0 rests; "
                     "43 cooling until 99, 2 rests; ");
}

/* A flight that was under way at the reset is counted when it lands. */
static void
what_lands_after_a_reset_counts(void **state)
{
    struct kit_desk *d = *state;
    struct attempt a = kit_attempt(1, "a@x", 42);
    struct taken charge = kit_charge(42, KIT_NOW_MS, 3);
    struct attempt_result r;
    int64_t row;

    assert_int_equal(ledger_begin(d->l, &a, 1, &charge, &row), LEDGER_OK);
    assert_int_equal(ledger_forget(d->l, 42), LEDGER_OK);
    r = kit_result(row, OUTCOME_SENT);
    assert_int_equal(ledger_finish(d->l, &r, 1, &charge, &charge, 10000),
                     LEDGER_OK);
    assert_int_equal(kit_spent(d->l, 42, DIM_RECIPIENTS), 3);
}

/* While the disk refuses, all of it waits, and comes in order. */
static void
a_bad_disk_loses_nothing(void **state)
{
    struct kit_desk *d = *state;
    struct observation o = observation(1000, 500, 900);
    uint64_t start_ms = clock_boot_ms(&clock_real);

    spend(d, 42);
    torn_vfs_fail_writes(13 /* SQLITE_FULL */);
    assert_int_equal(ledger_forget(d->l, 42), LEDGER_EUNAVAILABLE);
    assert_true(kit_wait_ok(d->l, false));
    assert_int_equal(ledger_observe(d->l, "sales@example.com", &o, false),
                     LEDGER_EUNAVAILABLE);
    assert_int_equal(ledger_set_divert(d->l, "sales@example.com", 42,
                                       "news@example.com", 43),
                     LEDGER_EUNAVAILABLE);
    ledger_rested(d->l, 42, 1000);
    /* Nobody waited, not even who met the trouble first. */
    assert_true(clock_boot_ms(&clock_real) - start_ms < 10000);
    torn_vfs_fail_writes(0);
    assert_true(kit_wait_ok(d->l, true));
    kit_desk_reopen(d);
    assert_int_equal(kit_spent(d->l, 42, DIM_MESSAGES), 0);
    assert_observed(d, "42 sales@example.com messages/24 h 500 at 1000; "
                       "42 sales@example.com recipients/24 h 900 at 1000; ");
    assert_diverts(d, "42 sales@example.com to 43 news@example.com; ");
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, kit_desk_setup, kit_desk_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_parts_hold_each_account_once),
        TEST(the_newest_observation_is_kept),
        TEST(an_observation_ends_with_its_time),
        TEST(diverts_outlive_the_agent),
        TEST(gmail_accepts_again),
        TEST(a_reset_forgets_one_account),
        TEST(what_lands_after_a_reset_counts),
        TEST(a_bad_disk_loses_nothing),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/accounts", tests, NULL, NULL);
}
