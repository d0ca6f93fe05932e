/* tests/unit/deliver/test_attempts.c - mirrors milter/deliver/attempts.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "milter/deliver/attempts.h"
#include "tests/unit/state/fixture.h"

static char directory[64];
static struct fixture_policy policy;
static struct quota *quota;
static struct attempts *attempts;
static uint64_t sales, news;

static int
start(void **state)
{
    static const struct limit limits[] = {{DIM_MESSAGES, 100, DAY_MS}};
    struct mailbox m[2];
    char err[300];

    (void)state;
    fixture_directory(directory, sizeof directory);
    fixture_policy(&policy, limits, 1);
    m[0] = fixture_mailbox(&policy.account[0], "sales@example.com");
    m[1] = fixture_mailbox(&policy.account[1], "news@example.com");
    sales = m[0].id;
    news = m[1].id;
    if (quota_make(&quota, directory, &policy.policy, &fixture_clock, 0, err,
                   sizeof err) != STATE_OK) {
        print_error("%s\n", err);
        return 1;
    }
    attempts = attempts_new(quota);
    return attempts == NULL || quota_open(quota, &m[0]) != STATE_OK ||
           quota_open(quota, &m[1]) != STATE_OK;
}

static int
stop(void **state)
{
    (void)state;
    attempts_free(attempts);
    quota_free(quota);
    fixture_remove(directory);
    return 0;
}

static void
check_waiting(uint64_t account, uint32_t messages, uint32_t recipients)
{
    struct quota_reader *r = quota_reader_new(directory, &fixture_clock);
    struct quota_view v;

    assert_int_equal(quota_peek(r, account, &v), STATE_OK);
    assert_int_equal(v.waiting_messages, messages);
    assert_int_equal(v.waiting_recipients, recipients);
    quota_reader_free(r);
}

/* Half of the recipients are external. */
static void
waiting(uint64_t ticket, uint64_t account, uint32_t back, uint32_t left,
        uint64_t at_ms)
{
    attempts_waiting(attempts, ticket, account,
                     (struct portion){back, back / 2},
                     (struct portion){left, left / 2}, at_ms);
}

static void
one_attempt_at_a_time(void **state)
{
    char name[40];

    (void)state;
    assert_true(attempts_begin(attempts, 7, "a@b"));
    assert_false(attempts_begin(attempts, 7, "a@b"));
    assert_true(attempts_begin(attempts, 7, "c@d"));
    assert_true(attempts_begin(attempts, 8, "a@b"));
    attempts_end(attempts, 7, "a@b");
    assert_true(attempts_begin(attempts, 7, "a@b"));
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "r%u@b", i);
        assert_true(attempts_begin(attempts, 9, name));
    }
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "r%u@b", i);
        assert_false(attempts_begin(attempts, 9, name));
        attempts_end(attempts, 9, name);
    }
}

/* A message of 150 recipients comes in portions of 100 and 50. */
static void
portions_of_a_message_add_up(void **state)
{
    (void)state;
    waiting(1, sales, 0, 100, 10);
    check_waiting(sales, 1, 100);
    waiting(1, sales, 0, 50, 11);
    check_waiting(sales, 1, 150);
    /* They come back: the first portion goes out, of the other one stays. */
    waiting(1, sales, 100, 0, 20);
    check_waiting(sales, 1, 50);
    waiting(1, sales, 50, 1, 21);
    check_waiting(sales, 1, 1);
    waiting(1, sales, 1, 0, 22);
    check_waiting(sales, 0, 0);
    check_waiting(news, 0, 0);
}

static void
check_external(uint32_t external)
{
    struct quota_reader *r = quota_reader_new(directory, &fixture_clock);
    struct quota_view v;

    assert_int_equal(quota_peek(r, sales, &v), STATE_OK);
    assert_int_equal(v.waiting_external, external);
    quota_reader_free(r);
}

/* After a restart all are taken for external, until they come. */
static void
external_recipients_are_counted_too(void **state)
{
    const struct portion none = {0}, all = {10, 10}, some = {10, 3};

    (void)state;
    attempts_waiting(attempts, 1, sales, none, some, 10);
    check_external(3);
    attempts_waiting(attempts, 2, sales, none, all, 10);
    check_external(13);
    attempts_waiting(attempts, 2, sales, some, some, 20);
    check_external(13);
    attempts_waiting(attempts, 2, sales, some, none, 30);
    check_external(3);
    attempts_waiting(attempts, 1, sales, some, none, 30);
    check_external(0);
}

static void
what_never_waited_changes_nothing(void **state)
{
    (void)state;
    waiting(1, sales, 0, 0, 10);
    check_waiting(sales, 0, 0);
    waiting(1, sales, 5, 0, 10); /* known to the book only */
    check_waiting(sales, 0, 0);
    waiting(1, sales, 0, 3, 10);
    waiting(1, sales, 9, 2, 10); /* more than there were */
    check_waiting(sales, 1, 2);
}

static void
who_does_not_come_back_is_forgotten(void **state)
{
    (void)state;
    waiting(1, sales, 0, 3, 1000);
    waiting(2, sales, 0, 4, 2000);
    waiting(3, news, 0, 5, 1000);
    attempts_sweep(attempts, 1000 + ATTEMPTS_FORGET_MS - 1);
    check_waiting(sales, 2, 7);
    attempts_sweep(attempts, 1000 + ATTEMPTS_FORGET_MS);
    check_waiting(sales, 1, 4);
    check_waiting(news, 0, 0);
}

static struct place
place(uint64_t account, uint32_t minute, uint64_t ticket)
{
    return (struct place){account, ticket, minute, 100, -1, UINT_MAX};
}

static void
a_line_has_an_end(void **state)
{
    struct place p, other = place(news, 7, 1);

    (void)state;
    for (unsigned i = 0; i < ATTEMPTS_LINE_MAX; i++) {
        p = place(sales, 7, i);
        assert_true(attempts_line_up(attempts, &p));
    }
    p = place(sales, 7, 100);
    assert_false(attempts_line_up(attempts, &p));
    attempts_leave(attempts, &p); /* was never in it */
    assert_false(attempts_line_up(attempts, &p));
    assert_true(attempts_line_up(attempts, &other));
    p = place(sales, 7, 3);
    attempts_leave(attempts, &p);
    p = place(sales, 7, 100);
    assert_true(attempts_line_up(attempts, &p));
    attempts_leave(attempts, &p);
    for (unsigned i = 0; i < ATTEMPTS_LINE_MAX; i++) {
        p = place(sales, 7, i);
        attempts_leave(attempts, &p);
    }
    attempts_leave(attempts, &other);
    assert_true(attempts_line_up(attempts, &p));
    attempts_leave(attempts, &p);
}

static void
the_oldest_goes_first(void **state)
{
    struct place first = place(sales, 7, UINT64_MAX);
    struct place second = place(sales, 7, 0); /* numbers wrap */
    struct place third = place(sales, 8, 5);
    struct place other = place(news, 9, 9);
    struct place small = place(sales, 9, 6); /* for half of the limit */

    (void)state;
    small.share_percent = 50;
    assert_false(attempts_is_behind(attempts, &first));
    assert_true(attempts_line_up(attempts, &second));
    assert_false(attempts_is_behind(attempts, &second));
    assert_false(attempts_is_behind(attempts, &first)); /* not in line */
    assert_true(attempts_is_behind(attempts, &third));
    assert_false(attempts_is_behind(attempts, &other));
    assert_true(attempts_is_behind(attempts, &small));
    assert_true(attempts_line_up(attempts, &third));
    assert_true(attempts_line_up(attempts, &first));
    assert_true(attempts_is_behind(attempts, &second));
    attempts_leave(attempts, &first);
    assert_false(attempts_is_behind(attempts, &second));
    attempts_leave(attempts, &second);
    assert_false(attempts_is_behind(attempts, &third));
    attempts_leave(attempts, &third);
    /* Whoever may use less of the limit does not hold the others up. */
    small.minute = 6;
    assert_true(attempts_line_up(attempts, &small));
    assert_false(attempts_is_behind(attempts, &first));
    attempts_leave(attempts, &small);
}

/* Those whose recipients count already need no room for new ones. */
static void
nobody_waits_for_what_he_does_not_need(void **state)
{
    unsigned unique = 1u << DIM_UNIQUE_RECIPIENTS;
    struct place first = place(sales, 7, 1), younger = place(sales, 8, 2);

    (void)state;
    first.waits_for = DIM_UNIQUE_RECIPIENTS;
    assert_true(attempts_line_up(attempts, &first));
    younger.needs = ~unique;
    assert_false(attempts_is_behind(attempts, &younger));
    younger.needs = unique;
    assert_true(attempts_is_behind(attempts, &younger));

    /* There is room for new ones, and now the messages are too many. */
    first.waits_for = DIM_MESSAGES;
    assert_true(attempts_line_up(attempts, &first));
    assert_false(attempts_is_behind(attempts, &younger));
    younger.needs = ~unique;
    assert_true(attempts_is_behind(attempts, &younger));
    attempts_leave(attempts, &first);
    assert_false(attempts_is_behind(attempts, &younger)); /* once in line */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_attempt_at_a_time),
        TEST(portions_of_a_message_add_up),
        TEST(external_recipients_are_counted_too),
        TEST(what_never_waited_changes_nothing),
        TEST(who_does_not_come_back_is_forgotten),
        TEST(a_line_has_an_end),
        TEST(the_oldest_goes_first),
        TEST(nobody_waits_for_what_he_does_not_need),
    };

    return cmocka_run_group_tests_name("deliver/attempts", tests, NULL, NULL);
}
