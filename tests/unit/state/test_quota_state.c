/* tests/unit/state/test_quota_state.c - mirrors milter/state/quota_state.c:
 * observed limits, what is forgotten, diverts (rests are in test_quota.c).
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/state/quota_fixture.h"

/* A day of messages and recipients, and windows that Gmail's word is not
 * about. */
static const struct limit limits[] = {
    {DIM_MESSAGES, 10, DAY_MS},
    {DIM_RECIPIENTS, 40, DAY_MS},
    {DIM_MESSAGES, 8, HOUR_MS},
    {DIM_BYTES, 1000, DAY_MS},
};

static int
set_up_limits(void **state)
{
    set_up(state);
    quota_free(quota);
    fixture_policy(&fixture, limits, 4);
    make();
    return 0;
}

static struct quota_view
view(void)
{
    struct quota_view v;

    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    return v;
}

static void
send(unsigned n, uint32_t recipients)
{
    struct cost c = {.messages = 1, .recipients = recipients, .bytes = 1};
    struct taken t;
    struct room room;

    for (unsigned i = 0; i < n; i++)
        if (!quota_take(quota, sales.id, &c, 100, &t, &room))
            fail_msg("message %u of %u was not let through", i + 1, n);
}

static bool
fits(uint32_t recipients, struct room *ret)
{
    struct cost c = {.messages = 1, .recipients = recipients, .bytes = 1};

    return quota_fits(quota, sales.id, &c, 100, ret);
}

static struct observation
full(uint64_t *ret_until_ms)
{
    struct observation o;

    *ret_until_ms = quota_full(quota, sales.id, HOUR_MS, "550 5.4.5", &o);
    return o;
}

static void
what_was_used_is_the_ceiling(void **state)
{
    uint64_t now_ms, until_ms, room_ms;
    struct observation o, lifted;
    struct quota_view v;
    struct room room;

    (void)state;
    send(3, 2);
    fixture_pass(2 * HOUR_MS);
    now_ms = quota_now_ms(quota);
    o = full(&until_ms);
    assert_int_equal(o.n, 2);
    assert_true(o.id == sales.id && o.at_ms == now_ms);
    assert_int_equal(o.window[0].dimension, DIM_MESSAGES);
    assert_int_equal(o.window[0].used, 3);
    assert_int_equal(o.window[0].limit, 10);
    assert_true(o.window[0].window_ms == DAY_MS);
    assert_int_equal(o.window[1].dimension, DIM_RECIPIENTS);
    assert_int_equal(o.window[1].used, 6);
    /* Room returns when the three age: the rest lasts that long. */
    assert_true(until_ms >= now_ms + 22 * HOUR_MS);
    assert_true(until_ms <= now_ms + 22 * HOUR_MS + DAY_MS / 144);

    v = view();
    assert_int_equal(v.state, ACCOUNT_COOLING);
    assert_int_equal(v.window[0].limit, 10);
    assert_int_equal(v.window[0].allowed, 3);
    assert_int_equal(v.window[0].observed, 3);
    assert_true(v.window[0].observed_at_ms == now_ms);
    assert_true(v.window[0].observed_holds);
    assert_true(v.window[0].room_at_ms == until_ms);
    assert_int_equal(v.window[1].allowed, 6);
    assert_int_equal(v.window[2].allowed, 8); /* an hour, bytes: not so */
    assert_true(v.window[2].observed_at_ms == 0);
    assert_false(v.window[2].observed_holds);
    assert_true(v.window[3].observed_at_ms == 0);

    /* Over the ceiling and within the limit: later, never "never". */
    assert_false(fits(7, &room));
    assert_true(room.at_ms == now_ms + DAY_MS);
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
    assert_int_equal(room.limit, 6);
    assert_false(fits(41, &room));
    assert_true(room.at_ms == WINDOW_NEVER);

    /* After the rest three more go, and no fourth. */
    room_ms = until_ms - now_ms;
    fixture_pass(room_ms);
    send(1, 2);
    assert_true(quota_accepted(quota, sales.id, &lifted));
    assert_int_equal(lifted.n, 0);
    send(2, 2);
    assert_false(fits(1, &room));
    assert_int_equal(room.limit, 3);
    /* Then the ceiling has run out, and the limit is what we were told. */
    fixture_pass(DAY_MS - room_ms);
    v = view();
    assert_int_equal(v.window[0].allowed, 10);
    assert_int_equal(v.window[0].observed, 3);
    assert_false(v.window[0].observed_holds);
    send(7, 1);
    assert_false(fits(1, &room));
    /* It is shown for a month. */
    fixture_pass(OBSERVED_KEEP_MS - DAY_MS - 1);
    assert_int_equal(view().window[0].observed, 3);
    fixture_pass(1);
    assert_true(view().window[0].observed_at_ms == 0);
    assert_int_equal(view().window[0].observed, 0);
}

/* Between 1 and 24 hours, doubling, and not before there is room. */
static void
how_long_it_rests(void **state)
{
    static const struct row {
        const char *name;
        unsigned sent, hours_ago, rests; /* before */
        uint64_t min_h, max_h;
    } rows[] = {
        {"nothing of ours", 0, 0, 0, 1, 1},
        {"room comes sooner", 3, 24, 0, 1, 1},
        {"room comes later", 3, 20, 0, 4, 5},
        {"doubled is later than room", 3, 20, 3, 8, 8},
        {"at most a day", 3, 0, 9, 24, 24},
        {"room in a day and a bucket", 3, 0, 0, 24, 24},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        uint64_t now_ms, until_ms;

        print_message("  %s\n", t->name);
        quota_free(quota);
        make();
        for (unsigned k = 0; k < t->rests; k++)
            fixture_pass(quota_rest(quota, sales.id, HOUR_MS, "x") -
                         quota_now_ms(quota));
        send(1, 1); /* the probe */
        quota_set_state(quota, sales.id, ACCOUNT_OK, 0, "");
        send(t->sent > 0 ? t->sent - 1 : 0, 1);
        if (t->sent == 0)
            quota_forget(quota, sales.id);
        quota_restore_state(quota, sales.id, ACCOUNT_OK, 0, "", t->rests);
        fixture_pass(t->hours_ago * HOUR_MS);
        now_ms = quota_now_ms(quota);
        full(&until_ms);
        assert_int_equal(quota_rests(quota, sales.id), t->rests + 1);
        assert_true(until_ms >= now_ms + t->min_h * HOUR_MS);
        assert_true(until_ms <= now_ms + t->max_h * HOUR_MS);
    }
    (void)state;
}

/* Nothing of ours counts: others used the account up.  One message may try
 * again after the rest, whatever it counts; when it goes, that was all. */
static void
an_observed_nothing_is_no_ceiling(void **state)
{
    struct observation o, lifted;
    struct room room;
    uint64_t until_ms;

    (void)state;
    o = full(&until_ms);
    assert_int_equal(o.n, 2);
    assert_int_equal(o.window[0].used, 0);
    assert_int_equal(view().window[0].allowed, 10);
    assert_true(view().window[0].observed_at_ms == o.at_ms);
    assert_false(view().window[0].observed_holds);
    fixture_pass(HOUR_MS);
    assert_true(fits(30, &room));
    send(1, 30);
    assert_true(quota_accepted(quota, sales.id, &lifted));
    assert_int_equal(lifted.n, 2);
    assert_int_equal(lifted.window[1].dimension, DIM_RECIPIENTS);
    assert_true(view().window[0].observed_at_ms == 0);
}

/* A burst: each refusal says it anew, for what was in flight is given back. */
static void
the_newest_word_counts(void **state)
{
    struct cost c = {.messages = 1, .recipients = 1, .bytes = 1};
    struct observation o, lifted;
    struct taken t[3];
    struct room room;
    uint64_t until_ms, again_ms;

    (void)state;
    send(2, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_true(quota_take(quota, sales.id, &c, 100, &t[i], &room));
    quota_give_back(quota, &t[0]);
    o = full(&until_ms);
    assert_int_equal(o.window[0].used, 4);
    quota_give_back(quota, &t[1]);
    o = full(&again_ms);
    assert_int_equal(o.window[0].used, 3);
    assert_true(again_ms == until_ms);
    assert_int_equal(quota_rests(quota, sales.id), 1);
    /* The third was accepted; it is within what was observed. */
    assert_false(quota_accepted(quota, sales.id, &lifted));
    assert_int_equal(lifted.n, 0);
    assert_int_equal(view().window[0].allowed, 3);
}

/* Gmail took more than it seemed to allow. */
static void
an_observation_is_disproved(void **state)
{
    struct observation lifted;
    struct room room;
    uint64_t now_ms, until_ms;

    (void)state;
    send(3, 10);
    full(&until_ms);
    now_ms = quota_now_ms(quota);
    quota_set_state(quota, sales.id, ACCOUNT_OK, 0, ""); /* a person says so */
    quota_restore(quota, sales.id, DIM_MESSAGES, DAY_MS,
                  window_bucket_of(DAY_MS, now_ms), 1);
    assert_false(quota_accepted(quota, sales.id, &lifted));
    assert_int_equal(lifted.n, 1);
    assert_int_equal(lifted.window[0].dimension, DIM_MESSAGES);
    assert_int_equal(lifted.window[0].used, 3); /* what it had been */
    assert_int_equal(view().window[0].allowed, 10);
    assert_true(view().window[0].observed_at_ms == 0);
    assert_int_equal(view().window[1].allowed, 30); /* that one stands */
    assert_false(fits(1, &room));
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
}

static void
a_pause_outlasts_it(void **state)
{
    uint64_t until_ms;

    (void)state;
    send(3, 1);
    quota_set_state(quota, sales.id, ACCOUNT_PAUSED, 0, "me");
    full(&until_ms);
    assert_true(until_ms == 0);
    assert_int_equal(view().state, ACCOUNT_PAUSED);
    assert_int_equal(view().window[0].allowed, 3); /* it is true all the same */
    assert_true(
        quota_full(quota, 4711, HOUR_MS, "", &(struct observation){0}) == 0);
}

static void
it_comes_back_from_the_book(void **state)
{
    static const struct row {
        const char *name;
        enum dimension d;
        uint64_t window_ms, observed;
        int64_t ago_h;
        uint64_t allowed;
        bool shown, holds;
    } rows[] = {
        {"holds", DIM_MESSAGES, DAY_MS, 3, 23, 3, true, true},
        {"has run out", DIM_MESSAGES, DAY_MS, 3, 24, 10, true, false},
        {"too old to show", DIM_MESSAGES, DAY_MS, 3, 30 * 24, 10, false, false},
        {"nothing of ours", DIM_MESSAGES, DAY_MS, 0, 1, 10, true, false},
        {"more than the limit now", DIM_MESSAGES, DAY_MS, 11, 1, 10, true,
         true},
        {"no such window", DIM_MESSAGES, DAY_MS / 2, 3, 1, 10, false, false},
        {"another dimension", DIM_PACE, DAY_MS, 3, 1, 10, false, false},
        {"from the future", DIM_MESSAGES, DAY_MS, 3, -1000, 3, true, true},
    };

    (void)state;
    fixture_pass(40 * DAY_MS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        uint64_t now_ms;
        struct quota_view v;

        print_message("  %s\n", t->name);
        quota_free(quota);
        make();
        now_ms = quota_now_ms(quota);
        quota_restore_observed(quota, sales.id, t->d, t->window_ms, t->observed,
                               now_ms - (uint64_t)t->ago_h * HOUR_MS);
        v = view();
        assert_int_equal(v.window[0].allowed, t->allowed);
        assert_int_equal(v.window[0].observed_at_ms != 0, t->shown);
        assert_int_equal(v.window[0].observed, t->shown ? t->observed : 0);
        assert_int_equal(v.window[0].observed_holds, t->holds);
    }
}

static void
a_reload_keeps_it(void **state)
{
    static const struct limit other[] = {{DIM_MESSAGES, 20, DAY_MS},
                                         {DIM_MESSAGES, 30, 2 * DAY_MS}};
    uint64_t until_ms;

    (void)state;
    send(3, 1);
    full(&until_ms);
    fixture_policy(&fixture, other, 2);
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    assert_int_equal(view().window[0].limit, 20);
    assert_int_equal(view().window[0].allowed, 3);
    assert_int_equal(view().window[0].observed, 3);
    assert_int_equal(view().window[1].used, 3);
    assert_int_equal(view().window[1].allowed, 30);
    assert_true(view().window[1].observed_at_ms == 0);
}

static void
a_forecast_knows_the_ceiling(void **state)
{
    struct cost c = {.messages = 1, .recipients = 1, .bytes = 1};
    struct cost ahead = {.messages = 3, .recipients = 3};
    uint64_t now_ms, until_ms;
    struct room room;

    (void)state;
    send(3, 1);
    fixture_pass(12 * HOUR_MS);
    full(&until_ms);
    quota_set_state(quota, sales.id, ACCOUNT_OK, 0, "");
    assert_int_equal(
        quota_forecast(reader, &sales, &c, NULL, 100, &room, &now_ms),
        STATE_OK);
    assert_true(room.at_ms == until_ms);
    /* Three go when room comes, the fourth when the ceiling is gone. */
    assert_int_equal(
        quota_forecast(reader, &sales, &c, &ahead, 100, &room, &now_ms),
        STATE_OK);
    assert_true(room.at_ms == now_ms + DAY_MS);
}

static void
what_was_spent_is_forgotten(void **state)
{
    struct room room;
    uint64_t until_ms;

    (void)state;
    send(8, 5);
    full(&until_ms);
    assert_true(quota_forget(quota, sales.id));
    assert_int_equal(view().state, ACCOUNT_OK);
    assert_int_equal(quota_rests(quota, sales.id), 0);
    assert_true(view().window[0].observed_at_ms == 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(view().window[i].used, 0);
    assert_true(fits(40, &room));
    send(8, 5);
    assert_false(fits(1, &room)); /* and what comes then is counted */

    quota_set_state(quota, sales.id, ACCOUNT_PAUSED, 0, "me");
    assert_true(quota_forget(quota, sales.id));
    assert_int_equal(view().state, ACCOUNT_PAUSED);
    assert_int_equal(used(DIM_RECIPIENTS), 0);
    assert_false(quota_forget(quota, 4711));
}

/* ---- rests come back ---- */

static void
rests_go_on_after_a_restart(void **state)
{
    uint64_t now_ms = quota_now_ms(quota);

    (void)state;
    assert_true(quota_restore_state(quota, sales.id, ACCOUNT_COOLING,
                                    now_ms + HOUR_MS, "550 5.4.5", 3));
    assert_int_equal(quota_rests(quota, sales.id), 3);
    fixture_pass(HOUR_MS);
    send(1, 1);
    assert_true(quota_rest(quota, sales.id, HOUR_MS, "550 5.4.5") ==
                now_ms + HOUR_MS + 8 * HOUR_MS);
    assert_int_equal(quota_rests(quota, sales.id), 4);
}

/* ---- diverts ---- */

static void
diverts_are_seen(void **state)
{
    struct mailbox news =
        fixture_mailbox(&fixture.account[1], "news@example.com");
    struct mailbox ann =
        fixture_mailbox(&fixture.account[2], "ann@staff.example.com");
    char identity[IDENTITY_MAX + 1] = "x";

    (void)state;
    assert_false(quota_divert(quota, sales.id, identity));
    assert_int_equal(quota_peek_divert(reader, sales.id, identity),
                     STATE_EEMPTY);
    assert_int_equal(quota_peek_divert(reader, ann.id, identity), STATE_EEMPTY);
    assert_int_equal(quota_open(quota, &ann), STATE_OK);
    quota_set_divert(quota, sales.id, ann.id);
    assert_true(quota_divert(quota, sales.id, identity));
    assert_string_equal(identity, "ann@staff.example.com");
    assert_int_equal(quota_peek_divert(reader, sales.id, identity), STATE_OK);
    assert_string_equal(identity, "ann@staff.example.com");
    assert_true(quota_diverted_here(quota, ann.id, identity));
    assert_string_equal(identity, "sales@example.com");
    assert_false(quota_diverted_here(quota, sales.id, identity));
    assert_false(quota_diverted_here(quota, news.id, identity));
    /* It is no state: what ends one leaves it. */
    quota_set_state(quota, sales.id, ACCOUNT_OK, 0, "");
    assert_true(quota_forget(quota, sales.id));
    assert_true(quota_divert(quota, sales.id, identity));
    quota_set_divert(quota, sales.id, 0);
    assert_false(quota_divert(quota, sales.id, identity));
    assert_false(quota_diverted_here(quota, ann.id, identity));
    /* To one that has no slot: as if it were not. */
    quota_set_divert(quota, sales.id, 4711);
    assert_false(quota_divert(quota, sales.id, identity));
    assert_int_equal(quota_peek_divert(reader, sales.id, identity),
                     STATE_EEMPTY);
    quota_set_divert(quota, 4711, sales.id);
}

#define LIMITED(f) cmocka_unit_test_setup_teardown(f, set_up_limits, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LIMITED(what_was_used_is_the_ceiling),
        LIMITED(how_long_it_rests),
        LIMITED(an_observed_nothing_is_no_ceiling),
        LIMITED(the_newest_word_counts),
        LIMITED(an_observation_is_disproved),
        LIMITED(a_pause_outlasts_it),
        LIMITED(it_comes_back_from_the_book),
        LIMITED(a_reload_keeps_it),
        LIMITED(a_forecast_knows_the_ceiling),
        LIMITED(what_was_spent_is_forgotten),
        LIMITED(rests_go_on_after_a_restart),
        TEST(diverts_are_seen),
    };

    return cmocka_run_group_tests_name("state/quota_state", tests, NULL, NULL);
}
