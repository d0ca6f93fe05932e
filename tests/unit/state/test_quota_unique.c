/* tests/unit/state/test_quota_unique.c - limits of different recipients,
 * against a model that keeps every send in a list.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/state/quota_fixture.h"

#include "policy/window.h"

enum {
    PEOPLE = 40,  /* those with an odd number are external */
    SENDS = 4096, /* in the list at once */
    ACCOUNTS = 2,
    OPERATIONS = 150000,
    EACH_MAX = 6, /* recipients of one message */
};

/* ---- a few plain cases ---- */

static struct recipient_id
person(uint64_t n)
{
    return (struct recipient_id){n * 0x9e3779b97f4a7c15u + 1, n % 2 == 1};
}

/* A message to the people first..last. */
static bool
mail(uint64_t first, uint64_t last, struct recipient_id *who, struct taken *ret,
     struct room *ret_room)
{
    struct cost c = {.messages = 1, .who = who};

    for (uint64_t i = first; i <= last; i++) {
        who[c.recipients] = person(i);
        c.external_recipients += who[c.recipients++].external;
    }
    c.n_who = recipient_ids_sort(who, c.recipients);
    return quota_take(quota, sales.id, &c, 100, ret, ret_room);
}

static void
with_limits(const struct limit *limit, unsigned n, uint32_t remembered)
{
    quota_free(quota);
    fixture_policy(&fixture, limit, n);
    fixture.policy.state.unique_recipients = remembered;
    make();
}

static const struct limit ten[] = {{DIM_MESSAGES, 100, DAY_MS},
                                   {DIM_UNIQUE_RECIPIENTS, 10, DAY_MS}};

static void
only_new_ones_count(void **state)
{
    struct recipient_id who[20];
    struct taken t;
    struct room room;

    (void)state;
    with_limits(ten, 2, 1000);
    assert_true(mail(1, 8, who, &t, &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 8);
    for (unsigned i = 0; i < 20; i++)
        assert_true(mail(1, 8, who, &t, &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 8);
    assert_true(mail(5, 10, who, &t, &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 10);
    assert_false(mail(10, 11, who, &t, &room));
    assert_int_equal(room.limiting, DIM_UNIQUE_RECIPIENTS);
    assert_true(room.at_ms > quota_now_ms(quota) && room.at_ms < WINDOW_NEVER);
    assert_false(mail(1, 11, who, &t, &room));
    assert_true(room.at_ms == WINDOW_NEVER); /* of itself too many */
}

static void
the_same_one_twice_is_one(void **state)
{
    struct recipient_id who[3] = {person(4), person(3), person(4)};
    struct cost c = {.messages = 1, .recipients = 3, .who = who};

    (void)state;
    c.n_who = recipient_ids_sort(who, 3);
    assert_int_equal(c.n_who, 2);
    assert_int_equal(quota_units(&c, DIM_UNIQUE_RECIPIENTS), 2);
    assert_int_equal(quota_units(&c, DIM_UNIQUE_EXTERNAL_RECIPIENTS), 1);
    c.who = NULL; /* the milter's forecast: all of them are new */
    c.external_recipients = 2;
    assert_int_equal(quota_units(&c, DIM_UNIQUE_RECIPIENTS), 3);
    assert_int_equal(quota_units(&c, DIM_UNIQUE_EXTERNAL_RECIPIENTS), 2);
}

static void
refused_ones_are_as_before(void **state)
{
    struct recipient_id who[20], left[20];
    struct taken t;
    struct room room;
    struct cost kept = {.who = left};

    (void)state;
    with_limits(ten, 2, 1000);
    assert_true(mail(1, 4, who, &t, &room));
    quota_settle(quota, &t);
    fixture_pass(DAY_MS / 2);
    assert_true(mail(3, 8, who, &t, &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 8);
    left[0] = person(3); /* of the old ones */
    left[1] = person(7);
    kept.recipients = 2;
    kept.external_recipients = 2;
    kept.n_who = recipient_ids_sort(left, 2);
    quota_give_back_recipients(quota, &t, &kept);
    quota_settle(quota, &t);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 5);
    fixture_pass(DAY_MS / 2 + DAY_MS / 144 + 1);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 2);
    fixture_pass(DAY_MS);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 0);
}

static void
without_names_each_is_new(void **state)
{
    struct cost c = cost_of(4);
    struct taken t;
    struct room room;

    (void)state;
    with_limits(ten, 2, 1000);
    assert_true(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_true(quota_take(quota, sales.id, &c, 100, &t, &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 8);
    assert_false(quota_take(quota, sales.id, &c, 100, &t, &room));
    fixture_pass(DAY_MS / 2);
    quota_settle(quota, &t);
    quota_give_back(quota, &t);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 4);
}

/* Full: a recipient is new each time, and giving back is exact all the
 * same. */
static void
beyond_the_cap_each_is_new(void **state)
{
    struct recipient_id who[3][20];
    struct taken t[3];
    struct room room;

    (void)state;
    with_limits(ten, 2, 3);
    assert_true(mail(1, 4, who[0], &t[0], &room)); /* one has no place */
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 4);
    assert_true(mail(1, 4, who[1], &t[1], &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 5);
    quota_settle(quota, &t[0]);
    assert_true(mail(1, 4, who[2], &t[2], &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 6);
    quota_give_back(quota, &t[1]);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 5);
    fixture_pass(DAY_MS / 2);
    quota_settle(quota, &t[2]);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 5);
    fixture_pass(DAY_MS / 2 + DAY_MS / 144 + 1); /* the first is over */
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 4);
    fixture_pass(DAY_MS / 2);
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 0);
    quota_sweep(quota);
    assert_true(mail(11, 13, who[0], &t[0], &room)); /* there is room again */
    assert_true(mail(11, 13, who[0], &t[0], &room));
    assert_int_equal(used(DIM_UNIQUE_RECIPIENTS), 3);
}

/* It knows nobody: rather too late than too early, and never only when the
 * message alone is too large. */
static void
the_forecast_takes_all_for_new(void **state)
{
    struct recipient_id who[20];
    uint64_t now_ms;
    struct taken t;
    struct room room;

    (void)state;
    with_limits(ten, 2, 1000);
    assert_true(mail(1, 10, who, &t, &room));
    quota_settle(quota, &t);
    assert_true(mail(1, 1, who, &t, &room));
    quota_give_back(quota, &t);
    room = forecast(1, 0, 0, 100, &now_ms);
    assert_false(room.ok);
    assert_int_equal(room.limiting, DIM_UNIQUE_RECIPIENTS);
    assert_true(room.at_ms <= now_ms + DAY_MS + DAY_MS / 144);
    room = forecast(10, 0, 5, 100, &now_ms);
    assert_true(room.at_ms != WINDOW_NEVER);
    room = forecast(11, 0, 0, 100, &now_ms);
    assert_true(room.at_ms == WINDOW_NEVER);
}

/* ---- the model ---- */

struct send {
    unsigned account;
    uint64_t at_ms;
    bool under_way;
    unsigned n, n_who;
    unsigned person[EACH_MAX]; /* different ones */
    struct recipient_id who[EACH_MAX];
    struct taken taken;
};

static struct send *sends[SENDS];
static unsigned n_sends;
static struct mailbox box[ACCOUNTS];
static uint64_t seed;
static unsigned n_granted, n_refused;

/* Both have the same longest window: what is older is forgotten. */
static const struct limit few[] = {
    {DIM_UNIQUE_RECIPIENTS, 20, DAY_MS},
    {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 9, DAY_MS},
    {DIM_UNIQUE_RECIPIENTS, 9, HOUR_MS},
    {DIM_UNIQUE_RECIPIENTS, 30, 2 * DAY_MS},
};
static const struct limit other[] = {
    {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 12, 2 * DAY_MS},
    {DIM_MESSAGES, 100000, DAY_MS},
    {DIM_UNIQUE_RECIPIENTS, 17, DAY_MS},
    {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 5, 7001},
};

static unsigned
dice(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void
forget(unsigned i)
{
    free(sends[i]);
    sends[i] = sends[--n_sends];
}

/* When was each mailed last?  0 = never. */
static void
last_times(unsigned account, uint64_t ret[PEOPLE])
{
    memset(ret, 0, PEOPLE * sizeof *ret);
    for (unsigned i = 0; i < n_sends; i++)
        for (unsigned k = 0; sends[i]->account == account && k < sends[i]->n;
             k++)
            if (sends[i]->at_ms > ret[sends[i]->person[k]])
                ret[sends[i]->person[k]] = sends[i]->at_ms;
}

static bool
counts(const struct limit *l, unsigned p)
{
    return l->dimension == DIM_UNIQUE_RECIPIENTS ||
           (l->dimension == DIM_UNIQUE_EXTERNAL_RECIPIENTS && p % 2 == 1);
}

/* How many are alive, those of s (may be NULL) taken for mailed now? */
static uint64_t
alive(const struct limit *l, const uint64_t *last, const struct send *s,
      uint64_t now_ms)
{
    uint64_t now = window_bucket_of(l->window_ms, now_ms), n = 0;

    for (unsigned p = 0; p < PEOPLE; p++) {
        bool is = last[p] != 0 &&
                  window_bucket_of(l->window_ms, last[p]) + WINDOW_PARTS >= now;

        for (unsigned k = 0; s != NULL && k < s->n; k++)
            is |= s->person[k] == p;
        n += is && counts(l, p);
    }
    return n;
}

static bool
model_fits(const struct send *s, uint64_t now_ms)
{
    const struct quota_limits *q = &fixture.account[0].quota;
    uint64_t last[PEOPLE];

    last_times(s->account, last);
    for (unsigned i = 0; i < q->n; i++) {
        const struct limit *l = &q->limit[i];
        bool any = false;

        for (unsigned k = 0; k < s->n; k++)
            any |= counts(l, s->person[k]);
        /* New limits may leave a window over its limit: that is no business
         * of those whom it does not count. */
        if (any && alive(l, last, s, now_ms) > l->max)
            return false;
    }
    return true;
}

/* exact: else the windows may count more, but never more than all sends. */
static void
compare(unsigned account, bool exact)
{
    const struct quota_limits *q = &fixture.account[0].quota;
    uint64_t last[PEOPLE], now_ms = quota_now_ms(quota);
    struct quota_view v;

    last_times(account, last);
    assert_int_equal(quota_peek(reader, box[account].id, &v), STATE_OK);
    assert_int_equal(v.n, q->n);
    for (unsigned i = 0; i < q->n; i++) {
        const struct limit *l = &q->limit[i];
        uint64_t want = alive(l, last, NULL, now_ms), most = 0;

        if (!dimension_is_unique(l->dimension))
            continue;
        if (exact) {
            assert_int_equal(v.window[i].used, want);
            continue;
        }
        for (unsigned k = 0; k < n_sends; k++)
            if (sends[k]->account == account &&
                window_bucket_of(l->window_ms, sends[k]->at_ms) +
                        WINDOW_PARTS >=
                    window_bucket_of(l->window_ms, now_ms))
                for (unsigned p = 0; p < sends[k]->n; p++)
                    most += counts(l, sends[k]->person[p]);
        assert_true(v.window[i].used >= want && v.window[i].used <= most);
    }
}

static struct cost
cost_for(struct send *s)
{
    struct cost c = {.messages = 1, .recipients = s->n, .who = s->who};

    for (unsigned k = 0; k < s->n; k++) {
        s->who[k] = person(s->person[k]);
        c.external_recipients += s->who[k].external;
    }
    c.n_who = recipient_ids_sort(s->who, s->n);
    return c;
}

static void
try_take(bool exact)
{
    struct send *s = calloc(1, sizeof *s);
    uint64_t now_ms = quota_now_ms(quota);
    struct room room;
    struct cost c;
    bool may;

    s->account = dice(ACCOUNTS);
    s->under_way = true;
    s->at_ms = now_ms;
    for (unsigned k = dice(EACH_MAX) + 1; k > 0; k--) {
        unsigned p = dice(PEOPLE), i = 0;

        while (i < s->n && s->person[i] != p)
            i++;
        if (i == s->n)
            s->person[s->n++] = p;
    }
    c = cost_for(s);
    may = model_fits(s, now_ms);
    if (quota_take(quota, box[s->account].id, &c, 100, &s->taken, &room)) {
        assert_true(may);
        assert_int_equal(s->taken.at_ms, now_ms);
        sends[n_sends++] = s;
        n_granted++;
        return;
    }
    n_refused++;
    if (exact) {
        assert_false(may);
        /* To the millisecond. */
        if (room.at_ms != WINDOW_NEVER) {
            assert_true(model_fits(s, room.at_ms));
            assert_false(model_fits(s, room.at_ms - 1));
        } else {
            assert_false(model_fits(s, now_ms + 1000 * DAY_MS));
        }
    }
    free(s);
}

/* Some of the recipients are refused, not all. */
static void
refuse_some(struct send *s)
{
    struct send before = *s;
    struct cost kept;

    s->n = 0;
    for (unsigned k = 0; k < before.n; k++)
        if (dice(2) == 0)
            s->person[s->n++] = before.person[k];
    if (s->n == 0)
        s->person[s->n++] = before.person[0];
    s->taken.cost.who = before.who;
    kept = cost_for(s);
    quota_give_back_recipients(quota, &s->taken, &kept);
}

static void
end_one(void)
{
    unsigned i = n_sends > 0 ? dice(n_sends) : 0;
    struct send *s;

    if (n_sends == 0 || !sends[i]->under_way)
        return;
    s = sends[i];
    if (dice(3) == 0)
        refuse_some(s);
    if (dice(2) == 0) {
        quota_give_back(quota, &s->taken);
        forget(i);
        return;
    }
    quota_settle(quota, &s->taken);
    s->at_ms = quota_now_ms(quota);
    s->under_way = false;
}

/* Sends that count in no window that there may ever be. */
static void
clean_up(void)
{
    for (unsigned i = n_sends; i > 0; i--)
        if (!sends[i - 1]->under_way &&
            sends[i - 1]->at_ms + 3 * DAY_MS < quota_now_ms(quota))
            forget(i - 1);
}

static void
pass_some(void)
{
    switch (dice(20)) {
    case 0:
        fixture_pass(dice((unsigned)HOUR_MS * 6));
        break;
    case 1:
        break;
    default:
        fixture_pass(dice(120000));
    }
}

static void
new_limits(void)
{
    bool plain_ones = fixture.account[0].quota.limit[0].max == few[0].max;
    uint32_t remembered = fixture.policy.state.unique_recipients;

    fixture_policy(&fixture, plain_ones ? other : few, 4);
    fixture.policy.state.unique_recipients = remembered;
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
}

/* kill -9: the book knows every send, and those under way are in doubt. */
static void
restart(void)
{
    uint64_t now_ms = quota_now_ms(quota), last[PEOPLE];

    quota_free(quota);
    if (quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){now_ms, 0}, err,
                   sizeof err) != STATE_OK)
        fail_msg("%s", err);
    for (unsigned i = 0; i < n_sends; i++)
        sends[i]->under_way = false;
    for (unsigned a = 0; a < ACCOUNTS; a++) {
        last_times(a, last);
        for (unsigned p = 0; p < PEOPLE; p++) {
            struct recipient_id who = person(p);

            if (last[p] != 0)
                quota_restore_recipient(quota, box[a].id, &who, last[p]);
        }
    }
    quota_restored(quota, sales.id);
}

static void
play(unsigned operations, uint32_t remembered, bool exact)
{
    n_granted = n_refused = 0;
    while (n_sends > 0)
        forget(0);
    with_limits(few, 4, remembered);
    box[0] = sales;
    box[1] = fixture_mailbox(&fixture.account[1], "news@example.com");
    for (unsigned i = 0; i < operations; i++) {
        switch (dice(1000)) {
        case 0:
            if (exact)
                restart();
            break;
        case 1:
        case 2:
            if (exact)
                new_limits();
            break;
        case 3:
        case 4:
        case 5:
            quota_sweep(quota);
            break;
        default:
            if (n_sends < SENDS && dice(2) == 0)
                try_take(exact);
            else if (dice(3) > 0)
                end_one();
            else
                pass_some();
        }
        clean_up();
        compare(i % ACCOUNTS, exact);
    }
    for (unsigned i = n_sends; i > 0; i--)
        if (sends[i - 1]->under_way) {
            quota_give_back(quota, &sends[i - 1]->taken);
            forget(i - 1);
        }
    for (unsigned a = 0; a < ACCOUNTS; a++)
        compare(a, exact);
    fixture_pass(3 * DAY_MS + 1);
    clean_up();
    quota_sweep(quota);
    assert_int_equal(n_sends, 0);
    assert_int_equal(quota->unique_cap.used, 0);
    for (unsigned a = 0; a < ACCOUNTS; a++)
        compare(a, true);
}

static void
as_the_model_has_it(void **state)
{
    (void)state;
    seed = 1;
    play(OPERATIONS, 1000000, true);
    print_message("  %u granted, %u refused\n", n_granted, n_refused);
    assert_true(n_granted > OPERATIONS / 20 && n_refused > OPERATIONS / 20);
}

static void
with_a_small_cap(void **state)
{
    (void)state;
    seed = 2;
    play(OPERATIONS / 2, 12, false);
}

static void
with_no_place_at_all(void **state)
{
    (void)state;
    seed = 3;
    play(OPERATIONS / 10, 0, false);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_new_ones_count),        TEST(the_same_one_twice_is_one),
        TEST(refused_ones_are_as_before), TEST(without_names_each_is_new),
        TEST(beyond_the_cap_each_is_new), TEST(the_forecast_takes_all_for_new),
        TEST(as_the_model_has_it),        TEST(with_a_small_cap),
        TEST(with_no_place_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
