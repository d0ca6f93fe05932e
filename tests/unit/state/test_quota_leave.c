/* tests/unit/state/test_quota_leave.c - mirrors milter/state/quota_leave.c: more
 * senders than slots, over time.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/state/quota_fixture.h"

#include <inttypes.h>

enum {
    SLOTS = 56, /* of 64: room for 50 accounts, and an eighth stays free */
    NAMED = 2,
    SENDERS = SLOTS - NAMED,
    LIMIT = 10, /* messages a day */
};

static struct mailbox
sender(unsigned k)
{
    char address[60];

    snprintf(address, sizeof address, "s%u@staff.example.com", k);
    return fixture_mailbox(&fixture.account[2], address);
}

static bool
is_there(const struct mailbox *m)
{
    struct quota_view v;
    enum state_result r = quota_peek(reader, m->id, &v);

    assert_true(r == STATE_OK || r == STATE_EEMPTY);
    return r == STATE_OK;
}

/* Opened one after the other, a second apart. */
static void
fill_up(void)
{
    for (unsigned k = 0; k < SENDERS; k++) {
        struct mailbox m = sender(k);

        assert_int_equal(quota_open(quota, &m), STATE_OK);
        fixture_pass(1000);
    }
}

/* ---- over time ---- */

/* What each sender was let through, and when. */
struct history {
    unsigned n;
    uint64_t at_ms[400];
};

static unsigned
counts(const struct history *h, uint64_t now_ms)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->n; i++)
        n += h->at_ms[i] + DAY_MS > now_ms;
    return n;
}

static void
send_some(const struct mailbox *m, struct history *h, unsigned n)
{
    struct cost c = cost_of(1);
    struct taken t;
    struct room room;

    assert_int_equal(quota_open(quota, m), STATE_OK);
    for (unsigned i = 0; i < n; i++) {
        uint64_t now_ms = quota_now_ms(quota);
        bool ok = quota_take(quota, m->id, &c, 100, &t, &room);

        if (ok)
            h->at_ms[h->n++] = now_ms;
        assert_true(counts(h, now_ms) <= LIMIT);
        /* A bucket more may still count. */
        assert_true(ok || counts(h, now_ms - DAY_MS / 144) >= LIMIT);
        fixture_pass(15 * 1000); /* the pace */
    }
}

static void
ten_times_as_many_senders_as_slots_over_time(void **state)
{
    static struct history history[10 * SLOTS];
    struct quota_view v;
    unsigned n_gone = 0;

    (void)state;
    memset(history, 0, sizeof history);
    for (unsigned k = 0; k < 10 * SLOTS; k++) {
        struct mailbox m = sender(k), back = sender(k / 2);

        send_some(&m, &history[k], 1 + k % 15);
        send_some(&back, &history[k / 2], 2);
        fixture_pass(HOUR_MS);
        for (unsigned i = 0; i <= k; i++) {
            unsigned n = counts(&history[i], quota_now_ms(quota));

            m = sender(i);
            if (quota_peek(reader, m.id, &v) != STATE_OK) {
                assert_int_equal(n, 0);
                n_gone++;
                continue;
            }
            assert_int_equal(v.id, m.id);
            assert_string_equal(v.identity, m.address);
            assert_in_range(v.window[0].used, n, LIMIT);
        }
    }
    assert_true(n_gone > 0);
    assert_true(is_there(&sales));
    /* However often they come and go, a search stays short. */
    assert_true(atomic_load(&quota->segment.head->reach) < 64);
}

/* ---- who leaves, and who stays ---- */

static void
who_was_used_longest_ago_leaves_first(void **state)
{
    struct mailbox old[6], more = sender(1000);

    (void)state;
    fill_up();
    for (unsigned k = 0; k < 6; k++)
        old[k] = sender(k);
    fixture_pass(3000 * 1000);
    assert_int_equal(quota_open(quota, &old[1]), STATE_OK); /* used again */
    fixture_pass(1000 * 1000);
    assert_int_equal(quota_open(quota, &more), STATE_OK);
    assert_true(is_there(&more));
    assert_true(is_there(&sales));
    assert_false(is_there(&old[0]));
    assert_true(is_there(&old[1]));
    assert_false(is_there(&old[2]));
    assert_false(is_there(&old[3]));
    assert_false(is_there(&old[4]));
    assert_true(is_there(&old[5])); /* a sixteenth at a time */
}

static void
spends(const struct mailbox *m)
{
    struct cost c = cost_of(1);
    struct taken t;
    struct room room;

    assert_true(quota_take(quota, m->id, &c, 100, &t, &room));
}

static void
waits(const struct mailbox *m)
{
    quota_add_waiting(quota, m->id, 1, 1, 0);
}

static void
has_sessions(const struct mailbox *m)
{
    quota_set_sessions(quota, m->id, 1, 0);
}

static void
rests(const struct mailbox *m)
{
    assert_true(quota_rest(quota, m->id, 1000, "busy") > 0);
}

static void
is_paused(const struct mailbox *m)
{
    assert_true(quota_set_state(quota, m->id, ACCOUNT_PAUSED, 0, "by root"));
}

static void
is_diverted(const struct mailbox *m)
{
    quota_set_divert(quota, m->id, sales.id);
}

static void
carries_others(const struct mailbox *m)
{
    quota_set_divert(quota, sales.id, m->id);
}

static void
was_observed(const struct mailbox *m)
{
    quota_restore_observed(quota, m->id, DIM_MESSAGES, DAY_MS, 5,
                           quota_now_ms(quota));
}

static void
is_used_now(const struct mailbox *m)
{
    assert_int_equal(quota_open(quota, m), STATE_OK);
}

static void
who_has_something_stays(void **state)
{
    static const struct {
        const char *name;
        void (*does)(const struct mailbox *m);
    } row[] = {
        {"spent", spends},           {"waiting", waits},
        {"sessions", has_sessions},  {"rested", rests},
        {"paused", is_paused},       {"diverted", is_diverted},
        {"carries", carries_others}, {"observed", was_observed},
        {"in use", is_used_now},
    };
    enum { ROWS = sizeof row / sizeof *row };

    (void)state;
    fill_up();
    fixture_pass(HOUR_MS);
    for (unsigned k = 0; k < ROWS; k++) {
        struct mailbox m = sender(k);

        row[k].does(&m);
    }
    /* All others go, and come again. */
    for (unsigned k = 0; k < SENDERS - ROWS; k++) {
        struct mailbox m = sender(2000 + k);

        assert_int_equal(quota_open(quota, &m), STATE_OK);
    }
    for (unsigned k = 0; k < ROWS; k++) {
        struct mailbox m = sender(k);

        if (!is_there(&m))
            fail_msg("%s: it has left", row[k].name);
    }
    for (unsigned k = ROWS; k < SENDERS; k++) {
        struct mailbox m = sender(k);

        assert_false(is_there(&m));
    }
}

/* A reply about a whole organisation sends all of them to rest. */
static void
a_rest_is_not_remembered_for_ever(void **state)
{
    struct mailbox more = sender(1000);

    (void)state;
    fill_up();
    for (unsigned k = 0; k < SENDERS; k++) {
        struct mailbox m = sender(k);

        rests(&m);
    }
    fixture_pass(RESTS_KEEP_MS - HOUR_MS);
    assert_int_equal(quota_open(quota, &more), STATE_EFULL);
    fixture_pass(2 * HOUR_MS);
    assert_int_equal(quota_open(quota, &more), STATE_OK);
}

static void
a_segment_of_busy_accounts_is_full(void **state)
{
    struct mailbox more = sender(1000);

    (void)state;
    fill_up();
    fixture_pass(HOUR_MS);
    for (unsigned k = 0; k < SENDERS; k++) {
        struct mailbox m = sender(k);

        spends(&m);
    }
    assert_int_equal(quota_open(quota, &more), STATE_EFULL);
    fixture_pass(DAY_MS + HOUR_MS);
    assert_int_equal(quota_open(quota, &more), STATE_OK);
}

/* ---- what a slot keeps of the one before ---- */

static void
nothing_of_the_one_before_is_left(void **state)
{
    struct quota_view v;
    struct mailbox m;

    (void)state;
    for (unsigned k = 0; k < SENDERS; k++) {
        m = sender(k);
        assert_int_equal(quota_open(quota, &m), STATE_OK);
        spends(&m);
        quota_count(quota, m.id, QUOTA_SENT, 7);
        quota_restore_observed(quota, m.id, DIM_MESSAGES, DAY_MS, 5,
                               quota_now_ms(quota));
        quota_set_state(quota, m.id, ACCOUNT_NEEDS_LOGIN,
                        quota_now_ms(quota) + 1000, "the token");
    }
    fixture_pass(OBSERVED_KEEP_MS + 1000);
    for (unsigned k = 0; k < SENDERS; k++) {
        m = sender(1000 + k);
        assert_int_equal(quota_open(quota, &m), STATE_OK);
        assert_int_equal(quota_peek(reader, m.id, &v), STATE_OK);
        assert_string_equal(v.identity, m.address);
        assert_int_equal(v.sent, 0);
        assert_int_equal(v.state, ACCOUNT_OK);
        assert_int_equal(v.window[0].used, 0);
        assert_int_equal(v.window[0].observed_at_ms, 0);
        assert_int_equal(v.window[0].allowed, LIMIT);
    }
}

struct heard {
    unsigned n;
    uint64_t serial;
    char identity[IDENTITY_MAX + 1];
};

static void
hear(void *cookie, uint64_t id, const char *identity, uint64_t serial)
{
    struct heard *h = cookie;

    (void)id;
    h->n++;
    h->serial = serial;
    snprintf(h->identity, sizeof h->identity, "%s", identity);
}

static void
the_next_ones_request_is_heard_and_is_its_own(void **state)
{
    struct heard h = {0};
    struct mailbox m;

    (void)state;
    fill_up();
    for (unsigned k = 0; k < SENDERS; k++) {
        m = sender(k);
        quota_want_token(quota, m.id, 0);
    }
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, SENDERS);
    fixture_pass(HOUR_MS);
    for (unsigned k = 0; k < SENDERS; k++) {
        m = sender(1000 + k);
        assert_int_equal(quota_open(quota, &m), STATE_OK);
    }
    /* Those who left are not asked for in the name of those who came, but for
     * a token that nobody has refused. */
    h.n = 0;
    quota_wants(reader, 0, hear, &h);
    assert_true(h.n == 0 || h.serial == 0);
    for (unsigned k = 0; k < SENDERS; k++) {
        m = sender(1000 + k);
        h.n = 0;
        quota_want_token(quota, m.id, k % 2);
        assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
        assert_int_equal(h.n, 1);
        assert_string_equal(h.identity, m.address);
        assert_int_equal(h.serial, k % 2);
    }
}

static void
who_is_no_longer_configured_leaves_too(void **state)
{
    struct mailbox news =
        fixture_mailbox(&fixture.account[1], "news@example.com");
    struct mailbox more = sender(1000);

    (void)state;
    fill_up();
    fixture.policy.n_accounts = 1; /* sales */
    assert_int_equal(quota_reload(quota, &fixture.policy, err, sizeof err),
                     STATE_OK);
    fixture.policy.n_accounts = FIXTURE_ACCOUNTS;
    fixture_pass(HOUR_MS);
    for (unsigned k = 0; k < SENDERS; k++) {
        more = sender(1000 + k);
        assert_int_equal(quota_open(quota, &more), STATE_OK);
    }
    more = sender(5000);
    assert_int_equal(quota_open(quota, &more), STATE_OK);
    assert_false(is_there(&news));
    assert_true(is_there(&sales));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ten_times_as_many_senders_as_slots_over_time),
        TEST(who_was_used_longest_ago_leaves_first),
        TEST(who_has_something_stays),
        TEST(a_rest_is_not_remembered_for_ever),
        TEST(a_segment_of_busy_accounts_is_full),
        TEST(nothing_of_the_one_before_is_left),
        TEST(the_next_ones_request_is_heard_and_is_its_own),
        TEST(who_is_no_longer_configured_leaves_too),
    };

    return cmocka_run_group_tests_name("state/quota_leave", tests, NULL, NULL);
}
