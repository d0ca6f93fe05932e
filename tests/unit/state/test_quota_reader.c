/* tests/unit/state/test_quota_reader.c - mirrors milter/state/quota_reader.c and
 * quota_slot.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>

#include "tests/unit/state/quota_fixture.h"

/* ---- forecasts ---- */

static void
forecasts_count_what_is_ahead(void **state)
{
    /* limit 10 messages a day, nothing used; the pace is taken away */
    static const struct row {
        const char *name;
        uint32_t ahead, used;
        uint64_t min_h, max_h; /* hours from now */
    } rows[] = {
        {"empty", 0, 0, 0, 0},
        {"the last place", 9, 0, 0, 0},
        {"one window later", 10, 0, 24, 24},
        {"the last of the next", 19, 0, 24, 24},
        {"two windows later", 20, 0, 48, 48},
        {"after a hundred windows", 1000, 0, 2400, 2400},
        {"used, room left", 5, 4, 0, 0},
        {"used, full", 0, 10, 24, 25},
        {"used and ahead", 9, 10, 24, 25},
        {"used and more ahead", 10, 10, 48, 49},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct room room;
        struct taken t;
        uint64_t now_ms;

        print_message("  %s\n", rows[i].name);
        quota_free(quota);
        fixture_policy(&fixture, plain, 2);
        make();
        for (uint32_t n = 0; n < rows[i].used; n++)
            assert_true(take(1, &t, &room));
        room = forecast(1, rows[i].ahead, 0, 100, &now_ms);
        assert_int_equal(room.ok, rows[i].max_h == 0);
        assert_true(room.at_ms >= now_ms + rows[i].min_h * HOUR_MS);
        assert_true(room.at_ms <= now_ms + rows[i].max_h * HOUR_MS);
        if (rows[i].max_h > 0)
            assert_int_equal(room.limiting, DIM_MESSAGES);
    }
}

/* A property: who sends all that is ahead as early as the agent lets him can
 * send the next one when the forecast said, neither before nor much later. */
static void
forecasts_come_true(void **state)
{
    const uint32_t ahead = 23;
    struct room said, room;
    struct taken t;
    uint64_t now_ms;

    (void)state;
    for (int i = 0; i < 4; i++) { /* some history */
        assert_true(take(1, &t, &room));
        fixture_pass(HOUR_MS);
    }
    said = forecast(1, ahead, ahead, 100, &now_ms);
    assert_false(said.ok);
    for (uint32_t n = 0; n < ahead; n++)
        while (!take(1, &t, &room))
            fixture_pass(room.at_ms - quota_now_ms(quota));
    while (!take(1, &t, &room))
        fixture_pass(room.at_ms - quota_now_ms(quota));
    assert_true(quota_now_ms(quota) >= said.at_ms);
    /* buckets and pace: a few parts of a window for each round */
    assert_true(quota_now_ms(quota) <= said.at_ms + 4 * DAY_MS / 144);
}

static void
forecasts_of_absurd_backlogs_do_not_overflow(void **state)
{
    struct cost c = {.messages = 1, .bytes = 10};
    struct cost ahead = {.messages = UINT32_MAX, .bytes = UINT64_MAX};
    static const struct limit limits[] = {{DIM_BYTES, 10, WINDOW_MS_MAX}};
    struct room room;
    uint64_t now_ms;

    (void)state;
    quota_free(quota);
    fixture_policy(&fixture, limits, 1);
    make();
    assert_int_equal(
        quota_forecast(reader, &sales, &c, &ahead, 100, &room, &now_ms),
        STATE_OK);
    assert_false(room.ok);
    assert_true(room.at_ms > now_ms && room.at_ms != WINDOW_NEVER);
}

static void
an_account_not_yet_met_answers_from_its_limits(void **state)
{
    struct mailbox ann =
        fixture_mailbox(&fixture.account[2], "ann@staff.example.com");
    struct cost c = cost_of(40), ahead = {0};
    struct room room;
    uint64_t now_ms;

    (void)state;
    assert_int_equal(
        quota_forecast(reader, &ann, &c, &ahead, 100, &room, &now_ms),
        STATE_OK);
    assert_true(room.ok);
    c.recipients = 41;
    assert_int_equal(
        quota_forecast(reader, &ann, &c, &ahead, 100, &room, &now_ms),
        STATE_OK);
    assert_true(!room.ok && room.at_ms == WINDOW_NEVER);
    assert_int_equal(room.limiting, DIM_RECIPIENTS);
}

/* ---- readers ---- */

static void
a_reader_survives_restarts(void **state)
{
    struct quota_view v;
    struct taken t;
    struct room room;
    char path[200];

    (void)state;
    assert_true(take(1, &t, &room));
    assert_int_equal(used(DIM_MESSAGES), 1);
    quota_free(quota); /* the agent is down: the last view stays */
    assert_int_equal(used(DIM_MESSAGES), 1);
    make();
    assert_int_equal(used(DIM_MESSAGES), 0); /* over at once */

    snprintf(path, sizeof path, "%s/quota", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    quota_free(quota);
    make();
    assert_true(take(1, &t, &room));
    for (int i = 0; i < 100; i++) { /* the path is looked at in a second */
        assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
        if (v.window[0].used == 1)
            return;
        usleep(100000);
    }
    fail_msg("never came over");
}

static void
a_reader_waits_for_the_first_agent(void **state)
{
    struct quota_reader *early;
    struct quota_view v;
    struct room room;
    struct cost c = cost_of(1);
    uint64_t now_ms;
    char other[100];

    (void)state;
    fixture_directory(other, sizeof other);
    early = quota_reader_new(other, &fixture_clock);
    assert_int_equal(quota_peek(early, sales.id, &v), STATE_EABSENT);
    assert_int_equal(
        quota_forecast(early, &sales, &c, NULL, 100, &room, &now_ms),
        STATE_EABSENT);
    assert_int_equal(quota_each(early, NULL, NULL), STATE_EABSENT);
    assert_int_equal(quota_wants(early, 0, NULL, NULL), STATE_EABSENT);
    quota_reader_free(early);
    quota_reader_free(NULL);
    fixture_remove(other);
}

static bool
count_views(void *cookie, const struct quota_view *v)
{
    unsigned *n = cookie;

    assert_non_null(strchr(v->identity, '@'));
    return ++*n < 2;
}

static void
each_account_is_shown(void **state)
{
    struct mailbox bob =
        fixture_mailbox(&fixture.account[2], "bob@staff.example.com");
    unsigned n = 0;

    (void)state;
    assert_int_equal(quota_open(quota, &bob), STATE_OK);
    assert_int_equal(quota_each(reader, count_views, &n), STATE_OK);
    assert_int_equal(n, 2); /* stopped when it was told to */
}

static void
since_when_it_is_full(void **state)
{
    struct quota_view v;
    struct taken t;
    struct room room;
    uint64_t start_ms;

    (void)state;
    /* 40 recipients a day: 30, and 10 an hour later; one message more has
     * room, and one recipient more has none. */
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.window[1].full_since_ms, 0);
    start_ms = v.now_ms;
    assert_true(take(30, &t, &room));
    fixture_pass(HOUR_MS);
    assert_true(take(10, &t, &room));
    fixture_pass(HOUR_MS);
    quota_reader_units(reader, 11);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.now_ms, start_ms + 2 * HOUR_MS);
    assert_int_equal(v.window[0].full_since_ms, 0);
    assert_int_equal(v.window[1].dimension, DIM_RECIPIENTS);
    assert_true(v.window[1].full_since_ms <= start_ms + HOUR_MS);
    assert_true(v.window[1].full_since_ms >
                start_ms + HOUR_MS - DAY_MS / WINDOW_PARTS);
    /* 30 come back at once, so 11 fit when one does; 31 wait an hour more. */
    assert_true(v.window[1].room_at_ms >= start_ms + DAY_MS);
    assert_int_equal(v.window[1].room_n_at_ms, v.window[1].room_at_ms);
    quota_reader_units(reader, 31);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_true(v.window[1].room_n_at_ms >= start_ms + DAY_MS + HOUR_MS);
    quota_reader_units(reader, 41);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    assert_int_equal(v.window[1].room_n_at_ms, WINDOW_NEVER);
}

static void
ledger_trouble_shows(void **state)
{
    struct segment_info info;
    int64_t since_s = atomic_load(&fixture_wall_ms) / 1000;

    (void)state;
    quota_ledger_trouble(quota, true);
    fixture_pass(HOUR_MS);
    quota_ledger_trouble(quota, true); /* still: since the first time */
    assert_int_equal(
        segment_inspect(directory, SEGMENT_QUOTA, &info, err, sizeof err),
        STATE_OK);
    assert_int_equal(info.stat[QUOTA_LEDGER_TROUBLE_S], since_s);
    quota_ledger_trouble(quota, false);
    assert_int_equal(
        segment_inspect(directory, SEGMENT_QUOTA, &info, err, sizeof err),
        STATE_OK);
    assert_int_equal(info.stat[QUOTA_LEDGER_TROUBLE_S], 0);
}

static void
a_writer_dead_inside_is_busy_until_the_restart(void **state)
{
    struct quota_slot *slot = segment_find(&quota->segment, sales.id);
    struct quota_view v;
    unsigned n = 0;

    (void)state;
    atomic_fetch_add(&slot->seq, 1); /* odd: died in the middle */
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_EBUSY);
    assert_int_equal(quota_each(reader, count_views, &n), STATE_EBUSY);
    assert_int_equal(n, 1); /* the other one */
    quota_free(quota);
    make();
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
}

/* A property: whatever bit of a slot changes, a reader says so, or shows a
 * view within bounds; it never crashes or hangs. */
static void
flipped_bits_are_noticed_or_harmless(void **state)
{
    struct quota_slot *slot = segment_find(&quota->segment, sales.id);
    size_t octets = offsetof(struct quota_slot, window) +
                    slot->n_windows * sizeof slot->window[0];
    unsigned corrupt = 0, good = 0;
    struct taken t;
    struct room room;
    uint64_t now_ms;

    (void)state;
    assert_true(take(5, &t, &room));
    for (size_t bit = 32; bit < octets * 8; bit += 3) { /* seq apart */
        unsigned char *octet = (unsigned char *)slot + bit / 8;
        struct quota_view v;
        enum state_result r;

        *octet ^= (unsigned char)(1u << bit % 8);
        r = quota_peek(reader, sales.id, &v);
        if (r == STATE_OK) {
            good++;
            assert_true(v.n <= LIMITS_MAX && v.state < ACCOUNT_STATES);
            assert_true(strlen(v.identity) <= IDENTITY_MAX);
            forecast(1, 5, 5, 80, &now_ms);
        } else {
            corrupt++;
            assert_int_equal(r, STATE_ECORRUPT);
        }
        *octet ^= (unsigned char)(1u << bit % 8);
    }
    print_message("  %u noticed, %u harmless\n", corrupt, good);
    assert_true(corrupt > good);
    assert_int_equal(used(DIM_RECIPIENTS), 5);
}

static void
a_head_of_other_windows_is_refused(void **state)
{
    struct quota_view v;
    struct segment_head *head = quota->segment.head;
    int64_t offset_ms = head->offset_ms;

    (void)state;
    head->offset_ms = INT64_MAX;
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_ECORRUPT);
    head->offset_ms = INT64_MIN;
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_ECORRUPT);
    head->offset_ms = offset_ms;
    head->windows = 12; /* more than the slots have place for */
    quota_reader_free(reader);
    reader = quota_reader_new(directory, &fixture_clock);
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_ECORRUPT);
    head->windows = 0;
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_ECORRUPT);
    head->windows = 4;
    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
}

/* ---- wishes for tokens ---- */

struct heard {
    unsigned n;
    uint64_t id, serial;
    char identity[IDENTITY_MAX + 1];
};

static void
hear(void *cookie, uint64_t id, const char *identity, uint64_t refused_serial)
{
    struct heard *h = cookie;

    h->n++;
    h->id = id;
    h->serial = refused_serial;
    snprintf(h->identity, sizeof h->identity, "%s", identity);
}

static void
wishes_are_heard_once(void **state)
{
    struct heard h = {0};

    (void)state;
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 0);
    quota_want_token(quota, sales.id, 0);
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 1);
    assert_true(h.id == sales.id && h.serial == 0);
    assert_string_equal(h.identity, "sales@example.com");
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 1);
    quota_want_token(quota, sales.id, 1772359200);
    quota_want_token(quota, sales.id, 1772359200);
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 2);
    assert_true(h.serial == 1772359200);
    quota_want_token(quota, sales.id, 1772359200); /* again the same one */
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 3);

    /* a restart of the agent: the old wishes are gone, new ones are heard */
    quota_free(quota);
    make();
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 3);
    quota_want_token(quota, sales.id, 5);
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 4);
    assert_true(h.serial == 5);
}

static void
a_wish_counter_that_wraps_is_still_a_wish(void **state)
{
    struct heard h = {0};

    (void)state;
    atomic_store(&quota->segment.word[segment_index(
                     &quota->segment, segment_find(&quota->segment, sales.id))],
                 UINT64_MAX);
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    quota_want_token(quota, sales.id, 0);
    assert_int_equal(quota_wants(reader, 0, hear, &h), STATE_OK);
    assert_int_equal(h.n, 2);
    assert_true(h.serial == 0);
}

static void *
want_soon(void *arg)
{
    (void)arg;
    usleep(50000);
    quota_want_token(quota, sales.id, 3);
    return NULL;
}

static void
the_ear_wakes_up(void **state)
{
    uint64_t start_ms = clock_boot_ms(&clock_real);
    struct heard h = {0};
    pthread_t thread;

    (void)state;
    assert_int_equal(quota_wants(reader, 30, hear, &h), STATE_OK);
    assert_true(clock_boot_ms(&clock_real) - start_ms >= 25);
    assert_int_equal(pthread_create(&thread, NULL, want_soon, NULL), 0);
    assert_int_equal(quota_wants(reader, 60000, hear, &h), STATE_OK);
    assert_int_equal(h.n, 1);
    assert_true(clock_boot_ms(&clock_real) - start_ms < 30000);
    pthread_join(thread, NULL);
}

/* ---- size and speed ---- */

static void
many_accounts(void **state)
{
    enum { ACCOUNTS = 100000, ROUNDS = 200000 };
    uint64_t start_ms = clock_boot_ms(&clock_real), ms;
    struct quota_view v;
    struct taken t;
    struct room room;
    struct stat st;
    char path[200];

    (void)state;
    quota_free(quota);
    fixture.policy.state.accounts = ACCOUNTS;
    make();
    for (unsigned i = 0; i < ACCOUNTS - 2; i++) {
        char address[64];
        struct mailbox m;

        snprintf(address, sizeof address, "u%u@staff.example.com", i);
        m = fixture_mailbox(&fixture.account[2], address);
        assert_int_equal(quota_open(quota, &m), STATE_OK);
    }
    snprintf(path, sizeof path, "%s/quota", directory);
    assert_int_equal(stat(path, &st), 0);
    ms = clock_boot_ms(&clock_real) - start_ms;
    print_message("  %d accounts: %" PRIu64 " ms, %lld MiB\n", ACCOUNTS, ms,
                  (long long)st.st_blocks / 2048);
    assert_true(st.st_blocks / 2048 < 1024);

    start_ms = clock_boot_ms(&clock_real);
    for (int i = 0; i < ROUNDS; i++) {
        assert_true(take(1, &t, &room));
        quota_give_back(quota, &t);
    }
    ms = clock_boot_ms(&clock_real) - start_ms;
    print_message("  take and give back: %" PRIu64 " ns\n",
                  ms * 1000000 / ROUNDS);
    start_ms = clock_boot_ms(&clock_real);
    for (int i = 0; i < ROUNDS; i++)
        quota_peek(reader, sales.id, &v);
    ms = clock_boot_ms(&clock_real) - start_ms;
    print_message("  peek: %" PRIu64 " ns\n", ms * 1000000 / ROUNDS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(forecasts_count_what_is_ahead),
        TEST(forecasts_come_true),
        TEST(forecasts_of_absurd_backlogs_do_not_overflow),
        TEST(an_account_not_yet_met_answers_from_its_limits),
        TEST(a_reader_survives_restarts),
        TEST(a_reader_waits_for_the_first_agent),
        TEST(each_account_is_shown),
        TEST(since_when_it_is_full),
        TEST(ledger_trouble_shows),
        TEST(a_writer_dead_inside_is_busy_until_the_restart),
        TEST(flipped_bits_are_noticed_or_harmless),
        TEST(a_head_of_other_windows_is_refused),
        TEST(wishes_are_heard_once),
        TEST(a_wish_counter_that_wraps_is_still_a_wish),
        TEST(the_ear_wakes_up),
        TEST(many_accounts),
    };

    return cmocka_run_group_tests_name("state/quota_reader", tests, NULL, NULL);
}
