/* tests/unit/ledger/test_mailed.c - whom an account has mailed, over the death
 * of the agent.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/state/quota_private.h"
#include "milter/state/words.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/state/fixture.h"

enum { PEOPLE = 60, EACH_MAX = 5, SENDS = 8 };

static const struct limit limits[] = {
    {DIM_MESSAGES, 1000000, DAY_MS},
    {DIM_UNIQUE_RECIPIENTS, 40, DAY_MS},
    {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 15, HOUR_MS},
};

static char book_directory[KIT_PATH], directory[100];
static struct fixture_policy fixture;
static struct mailbox sales;
static struct ledger *book;
static struct quota *quota;
static uint64_t seed = 1;

static unsigned
dice(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void
restore_one(void *cookie, uint64_t account, const char *identity,
            const struct recipient_id *r, uint64_t at_ms)
{
    unsigned *n = cookie;

    assert_string_equal(identity, "sales@example.com");
    assert_int_equal(account, sales.id);
    quota_restore_recipient(quota, account, r, at_ms);
    ++*n;
}

/* An agent: the book, and counters filled from it.  How many recipients. */
static unsigned
start(void)
{
    char err[300] = "";
    unsigned n = 0;

    book = kit_open(book_directory, &fixture_clock);
    if (quota_make(&quota, directory, &fixture.policy, &fixture_clock,
                   &(struct quota_start){ledger_newest_ms(book), 0}, err,
                   sizeof err) != STATE_OK)
        fail_msg("%s", err);
    assert_int_equal(
        ledger_mailed(book, (struct ledger_part){0, 1}, restore_one, &n),
        LEDGER_OK);
    return n;
}

static void
stop(void)
{
    ledger_close(book);
    quota_free(quota);
    book = NULL;
    quota = NULL;
}

static int
set_up(void **state)
{
    (void)state;
    kit_directory(book_directory);
    fixture_directory(directory, sizeof directory);
    fixture_policy(&fixture, limits, 3);
    fixture.policy.state.unique_recipients = 1000;
    sales = fixture_mailbox(&fixture.account[0], "sales@example.com");
    assert_int_equal(start(), 0);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    stop();
    kit_remove(book_directory);
    fixture_remove(directory);
    return 0;
}

/* ---- one send ---- */

struct send {
    bool under_way;
    int64_t row;
    struct recipient_id who[EACH_MAX], kept[EACH_MAX];
    struct taken taken;
};

static struct recipient_id
person(uint64_t n)
{
    return (struct recipient_id){n * 0x9e3779b97f4a7c15u + 1, n % 2 == 1};
}

static bool
begin(struct send *s, const unsigned *people, unsigned n)
{
    static uint64_t ticket;
    struct attempt a = kit_attempt(++ticket, "r@x.example", sales.id);
    struct cost c = {.messages = 1, .recipients = n, .who = s->who};
    struct room room;

    for (unsigned i = 0; i < n; i++)
        s->who[i] = person(people[i]);
    c.n_who = recipient_ids_sort(s->who, n);
    if (!quota_take(quota, sales.id, &c, 100, &s->taken, &room))
        return false;
    assert_int_equal(ledger_begin(book, &a, 1, &s->taken, &s->row), LEDGER_OK);
    s->under_way = true;
    return true;
}

/* The first n_kept recipients were accepted. */
static void
finish(struct send *s, uint32_t n_kept)
{
    struct attempt_result r =
        kit_result(s->row, n_kept > 0 ? OUTCOME_SENT : OUTCOME_DEFERRED);
    struct cost kept = {.recipients = n_kept, .who = s->kept, .n_who = n_kept};
    struct taken before = s->taken;

    memcpy(s->kept, s->who, sizeof s->kept);
    if (n_kept > 0) {
        quota_give_back_recipients(quota, &s->taken, &kept);
        quota_settle(quota, &s->taken);
    } else {
        quota_give_back(quota, &s->taken);
    }
    assert_int_equal(ledger_finish(book, &r, 1, &before,
                                   n_kept > 0 ? &s->taken : NULL, 10000),
                     LEDGER_OK);
    s->under_way = false;
}

static int64_t
rows(void)
{
    return kit_number(book_directory, "SELECT count(*) FROM mailed"
                                      " WHERE sends > 0");
}

/* ---- tests ---- */

static void
one_row_for_each(void **state)
{
    static const unsigned people[] = {1, 2, 3};
    struct send s[2];

    (void)state;
    assert_true(begin(&s[0], people, 3));
    assert_int_equal(rows(), 3);
    fixture_pass(1000);
    assert_true(begin(&s[1], people, 2));
    assert_int_equal(rows(), 5);
    fixture_pass(1000);
    finish(&s[0], 3); /* later than the other began */
    assert_int_equal(rows(), 3);
    finish(&s[1], 0);
    assert_int_equal(rows(), 3);
    assert_int_equal(kit_number(book_directory, "SELECT count(*) FROM spent"
                                                " WHERE dimension >= 5"),
                     0);
    stop();
    assert_int_equal(start(), 3);
}

static void
the_refused_leave_nothing(void **state)
{
    static const unsigned people[] = {1, 2, 3};
    struct send s;

    (void)state;
    assert_true(begin(&s, people, 3));
    fixture_pass(1000);
    finish(&s, 1);
    assert_int_equal(rows(), 1);
    assert_true(begin(&s, people, 3));
    finish(&s, 0);
    stop();
    assert_int_equal(start(), 1);
}

static void
who_no_longer_counts_is_pruned(void **state)
{
    static const unsigned people[] = {1, 2}, another[] = {3};
    struct send s;

    (void)state;
    assert_true(begin(&s, people, 2));
    finish(&s, 2);
    fixture_pass(DAY_MS * 145 / 144 + 1000);
    assert_true(begin(&s, another, 1));
    finish(&s, 1);
    stop();
    assert_int_equal(start(), 1);
    for (unsigned i = 0; i < 500 && rows() != 1; i++)
        usleep(10000); /* at its first look for old rows */
    assert_int_equal(kit_number(book_directory, "SELECT count(*) FROM mailed"),
                     1);
}

/* Windows, as they are now, without what is only different in words. */
static void
windows(struct window ret[LIMITS_MAX], unsigned *ret_n)
{
    struct quota_slot *slot = quota_lock(quota, sales.id);

    assert_non_null(slot);
    *ret_n = 0;
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct window *w = &ret[*ret_n];

        if (!dimension_is_unique(
                (enum dimension)words_get(&slot->window[i].dimension)))
            continue;
        words_copy((_Atomic uint64_t *)(void *)w,
                   (_Atomic uint64_t *)(void *)&slot->window[i].window,
                   sizeof *w / 8);
        window_advance(w, quota_now_ms(quota));
        ++*ret_n;
    }
    quota_unlock(quota, slot);
}

static void
restart_and_compare(void)
{
    struct window before[LIMITS_MAX], after[LIMITS_MAX];
    unsigned n, n_after;

    windows(before, &n);
    stop();
    start();
    windows(after, &n_after);
    assert_int_equal(n, 2);
    assert_int_equal(n, n_after);
    assert_memory_equal(before, after, n * sizeof *before);
}

static void
the_same_to_the_bucket(void **state)
{
    struct send s[SENDS] = {0};
    unsigned restarts = 0, sent = 0, refused = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct send *one = &s[dice(SENDS)];
        unsigned people[EACH_MAX], n = dice(EACH_MAX) + 1;

        fixture_pass(dice(300000));
        for (unsigned k = 0; k < n; k++)
            people[k] = dice(PEOPLE);
        if (!one->under_way) {
            if (!begin(one, people, n))
                refused++;
        } else {
            finish(one, dice(one->taken.cost.n_who + 1));
            sent++;
        }
        if (dice(60) != 0)
            continue;
        restart_and_compare();
        restarts++;
        for (unsigned k = 0; k < SENDS; k++) /* in doubt: it stays */
            s[k].under_way = false;
    }
    print_message("  %u ended, %u had no room, %u restarts\n", sent, refused,
                  restarts);
    assert_true(sent > 500 && refused > 100 && restarts > 20);
}

static void
a_book_of_schema_1_is_led_on(void **state)
{
    static const unsigned people[] = {1, 2};
    struct send s;

    (void)state;
    assert_true(begin(&s, people, 2));
    finish(&s, 2);
    stop();
    assert_true(
        kit_exec(book_directory,
                 "DROP TABLE mailed; DROP TABLE observed; DROP TABLE divert;"
                 "ALTER TABLE account_state DROP COLUMN rests;"
                 "ALTER TABLE attempt DROP COLUMN diverted_from;"
                 "PRAGMA user_version = 1"));
    assert_int_equal(kit_number(book_directory, "PRAGMA user_version"), 1);
    assert_int_equal(start(), 0);
    assert_int_equal(kit_number(book_directory, "PRAGMA user_version"), 2);
    assert_int_equal(kit_number(book_directory, "SELECT count(*) FROM attempt"),
                     1);
    assert_int_equal(kit_spent(book, sales.id, DIM_MESSAGES), 1);
    assert_true(begin(&s, people, 2));
    finish(&s, 2);
    stop();
    assert_int_equal(start(), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_row_for_each),
        TEST(the_refused_leave_nothing),
        TEST(who_no_longer_counts_is_pruned),
        TEST(the_same_to_the_bucket),
        TEST(a_book_of_schema_1_is_led_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
