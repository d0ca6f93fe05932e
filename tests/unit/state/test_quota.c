/* tests/unit/state/test_quota.c - mirrors milter/state/quota.c and quota_take.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/state/quota_fixture.h"

/* ---- time ---- */

static void
quota_time_is_about_unix_time(void **state)
{
    uint64_t before = quota_now_ms(quota);

    (void)state;
    assert_true(before == (uint64_t)atomic_load(&fixture_wall_ms));
    atomic_fetch_sub(&fixture_wall_ms, 500000); /* a jump does not matter */
    assert_true(quota_now_ms(quota) == before);
    atomic_fetch_add(&fixture_boot_ms, 1234);
    assert_true(quota_now_ms(quota) == before + 1234);
    atomic_fetch_add(&fixture_wall_ms, 500000 + 1234);
}

static void
quota_time_starts_no_lower_than_the_book(void **state)
{
    uint64_t floor = quota_now_ms(quota) + DAY_MS, now_ms;

    (void)state;
    quota_free(quota);
    assert_int_equal(
        quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){floor, 0}, err, sizeof err),
        STATE_OK);
    assert_true(quota_now_ms(quota) == floor);
    forecast(1, 0, 0, 100, &now_ms);
    assert_true(now_ms == floor); /* readers reckon alike */
}

/* A wall clock that was set, and an agent that starts again: a day ahead would
 * empty every window. */
static void
quota_time_goes_on_after_a_restart(void **state)
{
    uint64_t before_ms = quota_now_ms(quota);

    (void)state;
    atomic_fetch_add(&fixture_wall_ms, (int64_t)DAY_MS);
    fixture_pass(10);
    quota_free(quota);
    assert_int_equal(
        quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){before_ms, 0}, err, sizeof err),
        STATE_OK);
    assert_true(quota_now_ms(quota) == before_ms + 10);
    /* Another boot: the file of the last one says nothing. */
    atomic_store(&fixture_boot_ms, 5);
    quota_free(quota);
    assert_int_equal(
        quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){before_ms, 0}, err, sizeof err),
        STATE_OK);
    assert_true(quota_now_ms(quota) == before_ms + DAY_MS + 10);
    atomic_fetch_sub(&fixture_wall_ms, (int64_t)DAY_MS);
}

static void
an_impossible_floor_is_refused(void **state)
{
    const struct quota_start never = {.floor_ms = UINT64_MAX};
    struct quota *other = NULL;

    (void)state;
    assert_int_equal(quota_make(&other, directory, &fixture.policy,
                                &fixture_clock, &never, err, sizeof err),
                     STATE_ECORRUPT);
    assert_null(other);
    assert_non_null(strstr(err, "ledger"));
}

/* ---- take and give back ---- */

static void
all_windows_or_none(void **state)
{
    struct taken t = {.n = 99};
    struct room room;

    (void)state;
    assert_true(take(30, &t, &room));
    assert_int_equal(t.n, 3);
    assert_true(t.id == sales.id);
    assert_int_equal(used(DIM_MESSAGES), 1);
    assert_int_equal(used(DIM_RECIPIENTS), 30);
    assert_int_equal(used(DIM_PACE), 1);

    t.n = 99;
    assert_false(take(11, &t, &room));
    assert_int_equal(t.n, 99); /* untouched */
    assert_int_equal(room.state, ACCOUNT_OK);
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
    assert_int_equal(room.limit, 40);
    assert_int_equal(room.used, 30);
    assert_true(room.window_ms == DAY_MS);
    assert_true(room.at_ms > quota_now_ms(quota) + DAY_MS - 1);
    assert_true(room.at_ms <= quota_now_ms(quota) + DAY_MS + DAY_MS / 144);
    assert_int_equal(used(DIM_MESSAGES), 1);
    assert_int_equal(used(DIM_PACE), 1);
    assert_true(take(10, &t, &room));
}

static void
room_returns_when_it_was_said(void **state)
{
    struct taken t;
    struct room room;

    (void)state;
    assert_true(take(40, &t, &room));
    assert_false(take(1, &t, &room));
    fixture_pass(room.at_ms - quota_now_ms(quota) - 1);
    assert_false(take(1, &t, &room));
    fixture_pass(1);
    assert_true(take(1, &t, &room));
}

static void
given_back_is_as_never_taken(void **state)
{
    struct taken first, second;
    struct room room;

    (void)state;
    assert_true(take(25, &first, &room));
    fixture_pass(2 * HOUR_MS);
    assert_true(take(15, &second, &room));
    quota_give_back(quota, &first);
    assert_int_equal(used(DIM_RECIPIENTS), 15);
    assert_int_equal(used(DIM_MESSAGES), 1);
    fixture_pass(23 * HOUR_MS); /* the first alone would be gone by now */
    assert_int_equal(used(DIM_RECIPIENTS), 15);
    quota_give_back(quota, &second);
    assert_int_equal(used(DIM_RECIPIENTS), 0);
    assert_int_equal(used(DIM_MESSAGES), 0);
}

static void
given_back_too_late_is_nothing(void **state)
{
    struct taken old, t;
    struct room room;

    (void)state;
    assert_true(take(20, &old, &room));
    fixture_pass(30 * HOUR_MS);
    assert_true(take(7, &t, &room));
    quota_give_back(quota, &old);
    assert_int_equal(used(DIM_RECIPIENTS), 7);
}

static void
refused_recipients_come_back(void **state)
{
    struct cost c;
    struct taken t;
    struct room room;

    (void)state;
    assert_true(take(10, &t, &room));
    c = cost_of(6);
    quota_give_back_recipients(quota, &t, &c);
    assert_int_equal(used(DIM_RECIPIENTS), 6);
    assert_int_equal(used(DIM_MESSAGES), 1);
    assert_int_equal(t.cost.recipients, 6);
    c = cost_of(7); /* more than there are left of them */
    quota_give_back_recipients(quota, &t, &c);
    assert_int_equal(used(DIM_RECIPIENTS), 6);
    c = cost_of(0);
    quota_give_back_recipients(quota, &t, &c);
    assert_int_equal(used(DIM_RECIPIENTS), 0);
    quota_give_back(quota, &t);
    assert_int_equal(used(DIM_MESSAGES), 0);
    assert_int_equal(used(DIM_RECIPIENTS), 0);
}

static void
each_dimension_counts_its_own(void **state)
{
    static const struct limit limits[] = {
        {DIM_MESSAGES, 100, DAY_MS},
        {DIM_RECIPIENTS, 100, DAY_MS},
        {DIM_EXTERNAL_RECIPIENTS, 100, DAY_MS},
        {DIM_BYTES, 1000000, HOUR_MS},
        {DIM_PACE, 100, 60000},
    };
    struct cost c = {.messages = 1,
                     .recipients = 7,
                     .external_recipients = 5,
                     .bytes = 4096};
    struct taken t;
    struct room room;

    (void)state;
    quota_free(quota);
    fixture_policy(&fixture, limits, 5);
    make();
    assert_true(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_int_equal(used(DIM_MESSAGES), 1);
    assert_int_equal(used(DIM_RECIPIENTS), 7);
    assert_int_equal(used(DIM_EXTERNAL_RECIPIENTS), 5);
    assert_int_equal(used(DIM_BYTES), 4096);
    assert_int_equal(used(DIM_PACE), 1);
    c = (struct cost){.recipients = 5, .external_recipients = 4};
    quota_give_back_recipients(quota, &t, &c);
    assert_int_equal(used(DIM_RECIPIENTS), 5);
    assert_int_equal(used(DIM_EXTERNAL_RECIPIENTS), 4);
    c = (struct cost){.recipients = 2}; /* a further part of one message */
    assert_true(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_int_equal(t.n, 1);
    assert_int_equal(used(DIM_MESSAGES), 1);
    assert_int_equal(used(DIM_PACE), 1);
}

static void
a_share_leaves_the_rest_but_not_of_pace(void **state)
{
    struct cost c = cost_of(1);
    struct taken t;
    struct room room;

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_true(quota_take(quota, sales.id, &c, 50, &t, &room));
    assert_false(quota_take(quota, sales.id, &c, 50, &t, &room));
    assert_int_equal(room.limiting, DIM_MESSAGES);
    /* half of the pace would have been 3 */
    assert_true(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_false(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_int_equal(room.limiting, DIM_PACE);
    assert_true(room.at_ms <= quota_now_ms(quota) + 60000 + 60000 / 144 + 1);
}

static void
more_than_a_limit_never_fits(void **state)
{
    struct taken t;
    struct room room;

    (void)state;
    assert_false(take(41, &t, &room));
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
    assert_true(room.at_ms == WINDOW_NEVER);
    assert_int_equal(room.limit, 40);
}

static void
an_unknown_account_has_no_room(void **state)
{
    struct cost c = cost_of(1);
    struct taken t;
    struct room room;

    (void)state;
    assert_false(quota_take(quota, 4711, &c, 100, &t, &room));
    assert_false(room.ok);
    assert_int_equal(room.limiting, -1);
    assert_true(room.at_ms == WINDOW_NEVER);
    t = (struct taken){.id = 4711, .n = 1};
    quota_give_back(quota, &t); /* and nothing else falls over it */
    quota_set_state(quota, 4711, ACCOUNT_PAUSED, 0, "");
    quota_add_waiting(quota, 4711, 1, 1, 0);
    quota_set_sessions(quota, 4711, 1, 1);
    quota_count(quota, 4711, QUOTA_SENT, 1);
    quota_want_token(quota, 4711, 1);
    quota_restore(quota, 4711, DIM_MESSAGES, DAY_MS, 1, 1);
}

static void
templates_get_a_slot_when_they_are_opened(void **state)
{
    struct mailbox bob =
        fixture_mailbox(&fixture.account[2], "bob@staff.example.com");
    struct quota_view v;
    struct cost c = cost_of(1);
    struct taken t;
    struct room room;

    (void)state;
    assert_int_equal(quota_peek(reader, bob.id, &v), STATE_EEMPTY);
    assert_int_equal(quota_open(quota, &bob), STATE_OK);
    assert_true(quota_take(quota, bob.id, &c, 100, &t, &room));
    assert_int_equal(quota_open(quota, &bob), STATE_OK); /* keeps it */
    assert_int_equal(quota_peek(reader, bob.id, &v), STATE_OK);
    assert_string_equal(v.identity, "bob@staff.example.com");
    assert_int_equal(v.window[0].used, 1);
}

static void
a_full_table_is_an_error(void **state)
{
    enum state_result r = STATE_OK;
    unsigned n;

    (void)state;
    for (n = 0; r == STATE_OK && n < 1000; n++) {
        char address[64];
        struct mailbox m;

        snprintf(address, sizeof address, "u%u@staff.example.com", n);
        m = fixture_mailbox(&fixture.account[2], address);
        r = quota_open(quota, &m);
    }
    assert_int_equal(r, STATE_EFULL);
    assert_true(n > 50);
}

/* ---- states ---- */

static void
states_that_refuse(void **state)
{
    static const enum account_state refusing[] = {
        ACCOUNT_NEEDS_LOGIN, ACCOUNT_PAUSED, ACCOUNT_DISABLED};
    struct taken t;
    struct room room;
    uint64_t now_ms;

    (void)state;
    for (size_t i = 0; i < sizeof refusing / sizeof *refusing; i++) {
        struct quota_view v;

        quota_set_state(quota, sales.id, ACCOUNT_OK, 0, NULL);
        quota_set_state(quota, sales.id, refusing[i], 0, "because");
        assert_false(take(1, &t, &room));
        assert_int_equal(room.state, refusing[i]);
        assert_int_equal(room.limiting, -1);
        assert_true(room.at_ms == WINDOW_NEVER);
        room = forecast(1, 0, 0, 100, &now_ms);
        assert_false(room.ok);
        assert_int_equal(room.state, refusing[i]);
        assert_int_equal(room.limiting, -1);
        /* what can never fit is told, whatever the state */
        room = forecast(41, 0, 0, 100, &now_ms);
        assert_int_equal(room.limiting, DIM_RECIPIENTS);
        assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
        assert_int_equal(v.state, refusing[i]);
        assert_string_equal(v.state_reason, "because");
        assert_string_not_equal(account_state_name(v.state), "?");
    }
    quota_set_state(quota, sales.id, ACCOUNT_STATES, 0, "no such state");
    assert_false(take(1, &t, &room));
    quota_set_state(quota, sales.id, ACCOUNT_OK, 0, NULL);
    assert_true(take(1, &t, &room));
}

static void
cooling_ends_by_time(void **state)
{
    uint64_t until_ms = quota_now_ms(quota) + HOUR_MS, now_ms;
    struct quota_view v;
    struct taken t;
    struct room room;

    (void)state;
    quota_set_state(quota, sales.id, ACCOUNT_COOLING, until_ms, "454 4.7.0");
    assert_false(take(1, &t, &room));
    assert_int_equal(room.state, ACCOUNT_COOLING);
    assert_true(room.at_ms == until_ms);
    room = forecast(1, 0, 0, 100, &now_ms);
    assert_true(!room.ok && room.at_ms == until_ms && room.limiting == -1);
    /* a window that is full for longer decides */
    room = forecast(40, 0, 1, 100, &now_ms);
    assert_true(room.at_ms > until_ms);
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
    fixture_pass(HOUR_MS - 1);
    assert_false(take(1, &t, &room));
    fixture_pass(1);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.state, ACCOUNT_OK);
    assert_string_equal(v.state_reason, "");
    assert_true(forecast(1, 0, 0, 100, &now_ms).ok);
    assert_true(take(1, &t, &room));
}

/* An hour, two, ... a day; then the first accepted message ends the row. */
static void
rests_double_up_to_a_day(void **state)
{
    static const unsigned hours[] = {1, 2, 4, 8, 16, 24, 24};
    struct taken t;
    struct room room;

    (void)state;
    for (size_t i = 0; i < sizeof hours / sizeof *hours; i++) {
        uint64_t now_ms = quota_now_ms(quota);

        assert_int_equal(quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5"),
                         now_ms + hours[i] * HOUR_MS);
        /* The rest of the burst. */
        assert_int_equal(quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5"),
                         now_ms + hours[i] * HOUR_MS);
        assert_false(take(1, &t, &room));
        assert_int_equal(room.state, ACCOUNT_COOLING);
        fixture_pass(hours[i] * HOUR_MS);
        assert_true(take(1, &t, &room));
        quota_give_back(quota, &t);
    }
    assert_true(take(1, &t, &room));
    accepted();
    assert_int_equal(quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5"),
                     quota_now_ms(quota) + HOUR_MS);
}

static void
short_rests_stay_short(void **state)
{
    static const struct {
        unsigned first;
        unsigned minutes[6];
    } rows[] = {
        {15, {15, 30, 60, 60, 60, 60}}, /* 454 4.7.0 */
        {1, {1, 2, 4, 8, 15, 15}},      /* 421 4.4.5 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        accepted();
        for (size_t k = 0; k < 6; k++) {
            assert_int_equal(
                quota_rest(quota, sales.id, rows[i].first * 60000, "x"),
                quota_now_ms(quota) + rows[i].minutes[k] * 60000);
            fixture_pass(rows[i].minutes[k] * 60000);
        }
    }
}

/* After a rest the account is tried with one message, whatever waits. */
static void
one_probe_at_a_time(void **state)
{
    struct taken probe, t;
    struct room room;
    uint64_t now_ms;

    (void)state;
    quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5");
    fixture_pass(HOUR_MS);
    assert_true(take(1, &probe, &room));
    assert_true(probe.probe);
    assert_false(take(1, &t, &room));
    assert_int_equal(room.state, ACCOUNT_OK);
    assert_int_equal(room.at_ms, quota_now_ms(quota) + 30000);
    room = forecast(1, 0, 0, 100, &now_ms);
    assert_false(room.ok);
    /* Refused for the recipient's sake: the next one tries. */
    quota_give_back(quota, &probe);
    assert_true(take(1, &probe, &room));
    assert_false(take(1, &t, &room));
    /* No answer at all: after half a minute another. */
    fixture_pass(30000);
    assert_true(take(1, &probe, &room));
    accepted();
    assert_true(take(1, &t, &room));
    assert_false(t.probe);
}

/* Of three messages in flight one is accepted after another has sent the
 * account to rest; and an account that is out of service does not get away with
 * a short rest. */
static void
what_was_in_flight_ends_no_rest(void **state)
{
    struct taken t;
    struct room room;
    uint64_t now_ms = quota_now_ms(quota);

    (void)state;
    quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5");
    accepted();
    fixture_pass(HOUR_MS);
    assert_true(take(1, &t, &room));
    assert_true(t.probe);
    quota_give_back(quota, &t);
    now_ms = quota_now_ms(quota);
    assert_int_equal(quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5"),
                     now_ms + 2 * HOUR_MS);

    assert_true(quota_set_state(quota, sales.id, ACCOUNT_DISABLED,
                                now_ms + HOUR_MS, "535"));
    assert_int_equal(quota_rest(quota, sales.id, 60000, "421"), 0);
    fixture_pass(60000);
    assert_false(take(1, &t, &room));
    assert_int_equal(room.state, ACCOUNT_DISABLED);
    fixture_pass(HOUR_MS);
    assert_true(take(1, &t, &room));
    assert_true(t.probe);
    assert_false(take(1, &t, &room));
}

static void
a_rest_in_the_book_is_probed_after_a_restart(void **state)
{
    struct taken t;
    struct room room;

    (void)state;
    assert_true(quota_set_state(quota, sales.id, ACCOUNT_COOLING,
                                quota_now_ms(quota) + HOUR_MS, "550 5.4.5"));
    fixture_pass(HOUR_MS);
    assert_true(take(1, &t, &room));
    assert_true(t.probe);
    assert_false(take(1, &t, &room));
}

/* A message that was on its way when somebody paused the account. */
static void
only_ok_ends_a_pause(void **state)
{
    uint64_t until_ms = quota_now_ms(quota) + HOUR_MS;
    struct quota_view v;

    (void)state;
    assert_true(quota_set_state(quota, sales.id, ACCOUNT_PAUSED, 0, "me"));
    assert_false(
        quota_set_state(quota, sales.id, ACCOUNT_COOLING, until_ms, "454"));
    assert_int_equal(quota_rest(quota, sales.id, HOUR_MS, "454"), 0);
    assert_false(
        quota_set_state(quota, sales.id, ACCOUNT_DISABLED, until_ms, "535"));
    fixture_pass(2 * HOUR_MS);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.state, ACCOUNT_PAUSED);
    assert_string_equal(v.state_reason, "me");
    assert_true(quota_set_state(quota, sales.id, ACCOUNT_OK, 0, ""));
    assert_true(quota_set_state(quota, sales.id, ACCOUNT_COOLING,
                                quota_now_ms(quota) + HOUR_MS, "454"));
}

static void
reasons_are_cut_and_cleaned(void **state)
{
    struct quota_view v;
    char text[400];

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i += 2)
        memcpy(text + i, "\xc3\xa4", 2); /* a two-octet character */
    text[0] = '\n';
    text[1] = 'x';
    text[sizeof text - 1] = '\0';
    quota_set_state(quota, sales.id, ACCOUNT_PAUSED, 0, text);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(strlen(v.state_reason), 118); /* 119 would cut one */
    assert_memory_equal(v.state_reason, " x\xc3\xa4", 4);
}

/* ---- words ---- */

static void
counts_are_published(void **state)
{
    struct quota_view v;

    (void)state;
    quota_add_waiting(quota, sales.id, 3, 10, 0);
    quota_add_waiting(quota, sales.id, -1, -20, 0);
    quota_set_sessions(quota, sales.id, 3, 2);
    quota_count(quota, sales.id, QUOTA_SENT, 1);
    quota_count(quota, sales.id, QUOTA_REFUSED, 2);
    quota_count(quota, sales.id, QUOTA_DEFERRED, 3);
    quota_count(quota, sales.id, QUOTA_IN_DOUBT, 4);
    quota_count(quota, sales.id, QUOTA_LOGIN, 5);
    quota_count(quota, sales.id, QUOTA_EVENTS, 6);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.waiting_messages, 2);
    assert_int_equal(v.waiting_recipients, 0); /* never below */
    assert_int_equal(v.sessions_open, 3);
    assert_int_equal(v.sessions_busy, 2);
    assert_int_equal(v.sent, 1);
    assert_int_equal(v.refused, 2);
    assert_int_equal(v.deferred, 3);
    assert_int_equal(v.in_doubt, 4);
    assert_int_equal(v.logins, 5);
    for (int i = 0; i < 4; i++)
        quota_add_waiting(quota, sales.id, INT32_MAX, INT32_MAX, 0);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_true(v.waiting_messages == UINT32_MAX);
    assert_true(v.waiting_recipients == UINT32_MAX);
}

/* ---- reload ---- */

static void
a_reload_keeps_what_was_spent(void **state)
{
    static const struct limit more[] = {
        {DIM_RECIPIENTS, 50, DAY_MS},  /* another limit, another place */
        {DIM_MESSAGES, 20, DAY_MS},    /* another limit */
        {DIM_MESSAGES, 5, HOUR_MS},    /* new, shorter */
        {DIM_MESSAGES, 99, 7 * DAY_MS} /* new, longer */
    };
    struct quota_view v;
    struct taken t;
    struct room room;

    (void)state;
    assert_true(take(8, &t, &room));
    fixture_pass(2 * HOUR_MS);
    assert_true(take(7, &t, &room));
    fixture_policy(&fixture, more, 4);
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.n, 4);
    assert_int_equal(v.window[0].used, 15);
    assert_int_equal(v.window[0].limit, 50);
    assert_int_equal(v.window[1].used, 2);
    assert_int_equal(v.window[1].limit, 20);
    assert_int_equal(v.window[2].used, 1); /* of the last hour */
    assert_int_equal(v.window[3].used, 2);
    quota_give_back(quota, &t); /* pace is gone: what is left comes back */
    assert_int_equal(used(DIM_RECIPIENTS), 8);
}

static void
there_is_room_for_a_preset_whatever_there_was_before(void **state)
{
    struct limit most[7]; /* as workspace has */

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        most[i] = (struct limit){DIM_MESSAGES, 5, (i + 1) * HOUR_MS};
    quota_free(quota);
    fixture.policy.n_accounts = 0; /* as a fresh installation has */
    make();
    fixture_policy(&fixture, most, 7);
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
}

static void
a_reload_that_does_not_fit_changes_nothing(void **state)
{
    struct limit many[LIMITS_MAX];
    struct quota_view before, after;

    (void)state;
    for (unsigned i = 0; i < LIMITS_MAX; i++)
        many[i] = (struct limit){DIM_MESSAGES, 5, (i + 1) * HOUR_MS};
    assert_int_equal(quota_peek(reader, sales.id, &before), STATE_OK);
    fixture_policy(&fixture, many, LIMITS_MAX);
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_ELAYOUT);
    assert_non_null(strstr(err, "restart gmroute-deliver"));
    assert_int_equal(quota_peek(reader, sales.id, &after), STATE_OK);
    assert_memory_equal(&before, &after, sizeof before);
    quota_free(quota);
    make(); /* a restart has the room */
    assert_int_equal(quota_peek(reader, sales.id, &after), STATE_OK);
    assert_int_equal(after.n, LIMITS_MAX);
}

/* A slot has memory for the windows in use; what a reload adds gets its own. */
static void
a_reload_gets_memory_for_more_limits(void **state)
{
    static const struct limit one[] = {{DIM_MESSAGES, 10, DAY_MS}};
    static const struct limit four[] = {
        {DIM_MESSAGES, 10, DAY_MS},
        {DIM_MESSAGES, 5, HOUR_MS},
        {DIM_RECIPIENTS, 40, DAY_MS},
        {DIM_BYTES, 1000, DAY_MS},
    };
    struct taken t;
    struct room room;
    uint32_t before;

    (void)state;
    quota_free(quota);
    fixture_policy(&fixture, one, 1);
    make();
    before = quota->segment.reserve;
    assert_true(before < quota->segment.slot_size);
    assert_true(take(1, &t, &room));
    fixture_policy(&fixture, four, 4);
    sales = fixture_mailbox(&fixture.account[0], "sales@example.com");
    assert_int_equal(quota_open(quota, &sales), STATE_OK); /* it is there */
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    assert_true(quota->segment.reserve > before);
    assert_true(take(3, &t, &room));
    assert_int_equal(t.n, 3);
    assert_int_equal(used(DIM_RECIPIENTS), 3);
}

static void
a_reload_opens_new_accounts_and_keeps_gone_ones(void **state)
{
    struct mailbox jobs;
    struct quota_view v;
    struct taken t;
    struct room room;

    (void)state;
    assert_true(take(5, &t, &room));
    fixture.account[0].address = "jobs@example.com"; /* was sales */
    jobs = fixture_mailbox(&fixture.account[0], "jobs@example.com");
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    assert_int_equal(quota_peek(reader, jobs.id, &v), STATE_OK);
    assert_int_equal(v.window[0].used, 0);
    assert_int_equal(used(DIM_RECIPIENTS), 5);
}

/* ---- the book ---- */

static void
the_book_rebuilds_the_windows(void **state)
{
    struct taken t[3];
    struct room room;
    struct quota_view before, after;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(take(3, &t[i], &room));
        fixture_pass(5 * HOUR_MS);
    }
    assert_int_equal(quota_peek(reader, sales.id, &before), STATE_OK);
    quota_free(quota);
    make();
    assert_int_equal(used(DIM_MESSAGES), 0);
    for (int i = 0; i < 3; i++)
        for (unsigned j = 0; j < t[i].n; j++)
            quota_restore(quota, sales.id, t[i].charge[j].dimension,
                          t[i].charge[j].window_ms, t[i].charge[j].bucket,
                          t[i].charge[j].units);
    quota_restored(quota, sales.id);
    assert_int_equal(quota_peek(reader, sales.id, &after), STATE_OK);
    assert_memory_equal(before.window, after.window, sizeof before.window);
}

static void
limits_changed_while_the_agent_was_down(void **state)
{
    static const struct limit changed[] = {
        {DIM_MESSAGES, 10, 23 * HOUR_MS}, /* was a day */
        {DIM_RECIPIENTS, 40, DAY_MS},
        {DIM_RECIPIENTS, 30, 2 * HOUR_MS}, /* new */
        {DIM_RECIPIENTS, 20, HOUR_MS},     /* new, too */
    };
    uint64_t now_ms = quota_now_ms(quota);
    struct quota_view v;

    (void)state;
    quota_free(quota);
    fixture_policy(&fixture, changed, 4);
    make();
    quota_restore(quota, sales.id, DIM_MESSAGES, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms - HOUR_MS), 6);
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms), 11);
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms - 3 * HOUR_MS), 12);
    quota_restored(quota, sales.id);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.window[0].used, 6);
    assert_int_equal(v.window[1].used, 23);
    assert_int_equal(v.window[2].used, 11);
    assert_int_equal(v.window[3].used, 11);
}

/* What the hour has forgotten, it has forgotten also after a restart, though
 * the day's bucket of then reaches into the hour. */
static void
an_empty_window_stays_empty(void **state)
{
    static const struct limit limits[] = {{DIM_RECIPIENTS, 40, DAY_MS},
                                          {DIM_RECIPIENTS, 20, HOUR_MS}};
    struct quota_view v;

    (void)state;
    fixture_pass(600000 - quota_now_ms(quota) % 600000);
    quota_free(quota);
    fixture_policy(&fixture, limits, 2);
    make();
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, quota_now_ms(quota)), 15);
    quota_restore(quota, sales.id, DIM_RECIPIENTS, HOUR_MS,
                  window_bucket_of(HOUR_MS, quota_now_ms(quota)), 15);
    quota_restored(quota, sales.id);
    fixture_pass(HOUR_MS + 2 * 60000); /* 8 minutes left of the bucket */
    quota_free(quota);
    make();
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, quota_now_ms(quota)) - 6, 15);
    quota_restored(quota, sales.id);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.window[0].used, 15);
    assert_int_equal(v.window[1].used, 0);
}

/* A window that is newer than what it should count, though something was
 * written of it since; and one that is empty because nothing was spent. */
static void
a_window_that_lacks_something_is_rebuilt(void **state)
{
    static const struct limit two[] = {
        {DIM_RECIPIENTS, 40, DAY_MS},
        {DIM_RECIPIENTS, 30, HOUR_MS}, /* a reload brought it */
        {DIM_MESSAGES, 40, DAY_MS},
        {DIM_MESSAGES, 30, HOUR_MS},
    };
    uint64_t now_ms = quota_now_ms(quota);
    uint64_t edge = window_bucket_of(DAY_MS, now_ms - HOUR_MS);
    struct quota_view v;

    (void)state;
    quota_free(quota);
    fixture_policy(&fixture, two, 4);
    make();
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms - HOUR_MS / 2), 11);
    quota_restore(quota, sales.id, DIM_RECIPIENTS, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms), 2);
    quota_restore(quota, sales.id, DIM_RECIPIENTS, HOUR_MS,
                  window_bucket_of(HOUR_MS, now_ms), 2);
    /* Spent an hour and some seconds ago. */
    quota_restore(quota, sales.id, DIM_MESSAGES, DAY_MS, edge, 5);
    quota_restored(quota, sales.id);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.window[0].used, 13);
    assert_int_equal(v.window[1].used, 13);
    assert_int_equal(v.window[2].used, 5);
    assert_int_equal(v.window[3].used, 0);
}

static void
nonsense_in_the_book_is_bounded(void **state)
{
    struct quota_view v;

    (void)state;
    quota_restore(quota, sales.id, DIM_COUNT, DAY_MS, 1, 1);
    quota_restore(quota, sales.id, DIM_MESSAGES, 0, 1, 1);
    quota_restore(quota, sales.id, DIM_MESSAGES, UINT64_MAX, 1, 1);
    assert_int_equal(used(DIM_MESSAGES), 0);
    for (int i = 0; i < 100; i++) /* from the future: counts as now */
        quota_restore(quota, sales.id, DIM_MESSAGES, DAY_MS, UINT64_MAX,
                      UINT64_MAX);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_true(v.window[0].used >= 1ull << 48);
    assert_true(v.window[0].room_at_ms <=
                quota_now_ms(quota) + DAY_MS + DAY_MS / 144 + 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(quota_time_is_about_unix_time),
        TEST(quota_time_starts_no_lower_than_the_book),
        TEST(quota_time_goes_on_after_a_restart),
        TEST(an_impossible_floor_is_refused),
        TEST(all_windows_or_none),
        TEST(room_returns_when_it_was_said),
        TEST(given_back_is_as_never_taken),
        TEST(given_back_too_late_is_nothing),
        TEST(refused_recipients_come_back),
        TEST(each_dimension_counts_its_own),
        TEST(a_share_leaves_the_rest_but_not_of_pace),
        TEST(more_than_a_limit_never_fits),
        TEST(an_unknown_account_has_no_room),
        TEST(templates_get_a_slot_when_they_are_opened),
        TEST(a_full_table_is_an_error),
        TEST(states_that_refuse),
        TEST(cooling_ends_by_time),
        TEST(rests_double_up_to_a_day),
        TEST(short_rests_stay_short),
        TEST(one_probe_at_a_time),
        TEST(what_was_in_flight_ends_no_rest),
        TEST(a_rest_in_the_book_is_probed_after_a_restart),
        TEST(only_ok_ends_a_pause),
        TEST(reasons_are_cut_and_cleaned),
        TEST(counts_are_published),
        TEST(a_reload_keeps_what_was_spent),
        TEST(there_is_room_for_a_preset_whatever_there_was_before),
        TEST(a_reload_that_does_not_fit_changes_nothing),
        TEST(a_reload_gets_memory_for_more_limits),
        TEST(a_reload_opens_new_accounts_and_keeps_gone_ones),
        TEST(the_book_rebuilds_the_windows),
        TEST(limits_changed_while_the_agent_was_down),
        TEST(an_empty_window_stays_empty),
        TEST(a_window_that_lacks_something_is_rebuilt),
        TEST(nonsense_in_the_book_is_bounded),
    };

    return cmocka_run_group_tests_name("state/quota", tests, NULL, NULL);
}
