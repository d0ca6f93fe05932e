/* tests/unit/ctl/test_quota_sim.c - mirrors milter/ctl/quota_sim.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/quota_sim.h"
#include "policy/window.h"

enum { HOUR = 3600 * 1000 };

static const struct cost one = {.messages = 1, .recipients = 2, .bytes = 10};

static struct account account = {
    .name = "a",
    .quota = {.n = 2,
              .limit = {{DIM_MESSAGES, 2, 24ull * HOUR},
                        {DIM_BYTES, 1000, 24ull * HOUR}}},
};

static struct mailbox
mailbox(uint64_t id)
{
    struct mailbox m = {.account = &account, .id = id};

    strcpy(m.address, id == 1 ? "a@example.com" : "b@example.com");
    return m;
}

/* Asks and sends, or waits as long as it takes. */
static uint64_t
play(struct quota_sim *s, uint64_t id, uint64_t now_ms)
{
    struct mailbox m = mailbox(id);
    uint64_t wait_ms = quota_sim_wait_ms(s, &m, now_ms, &one, 100);

    assert_true(quota_sim_send(s, &m, now_ms, &one, 100, wait_ms));
    return wait_ms;
}

static const struct quota_sim_account *
told(struct quota_sim *s, const char *address)
{
    static struct quota_sim_account copy;
    size_t n;
    const struct quota_sim_account **list = quota_sim_accounts(s, &n);

    assert_non_null(list);
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i]->address, address) == 0)
            copy = *list[i];
    free(list);
    return &copy;
}

/* The third of a day waits for the first, the fourth for the second, the fifth
 * for the third, which goes a day late. */
static void
who_waits_is_waited_for(void **state)
{
    struct quota_sim *s = quota_sim_new();
    uint64_t t = 1000ull * 24 * HOUR, third, fourth, fifth;

    (void)state;
    assert_non_null(s);
    assert_int_equal(play(s, 1, t), 0);
    assert_int_equal(play(s, 1, t + HOUR), 0);
    third = play(s, 1, t + 2 * HOUR);
    fourth = play(s, 1, t + 3 * HOUR);
    fifth = play(s, 1, t + 4 * HOUR);
    /* room returns at most W/144 late: 10 minutes */
    assert_in_range(t + 2 * HOUR + third, t + 24ull * HOUR,
                    t + 24ull * HOUR + HOUR / 6);
    assert_in_range(t + 3 * HOUR + fourth, t + 25ull * HOUR,
                    t + 25ull * HOUR + HOUR / 6);
    assert_in_range(t + 4 * HOUR + fifth, t + 48ull * HOUR,
                    t + 48ull * HOUR + HOUR / 3);
    assert_int_equal(play(s, 2, t), 0); /* another account's windows */
    assert_int_equal(told(s, "a@example.com")->messages, 5);
    assert_int_equal(told(s, "a@example.com")->recipients, 10);
    assert_int_equal(told(s, "a@example.com")->waited, 3);
    assert_int_equal(told(s, "a@example.com")->over, 3);
    assert_int_equal(told(s, "a@example.com")->first_full_ms, t + 2 * HOUR);
    assert_int_equal(told(s, "a@example.com")->first_limit, DIM_MESSAGES);
    assert_int_equal(told(s, "b@example.com")->over, 0);
    quota_sim_free(s);
}

/* In any day no more than the limit is sent, whatever waits. */
static void
no_window_is_passed(void **state)
{
    struct quota_sim *s = quota_sim_new();
    uint64_t t = 1000ull * 24 * HOUR, due[40];

    (void)state;
    assert_non_null(s);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t now = t + (uint64_t)i * i * HOUR / 7;

        due[i] = now + play(s, 1, now);
        assert_true(i == 0 || due[i] >= due[i - 1]);
        assert_true(i < 2 || due[i] - due[i - 2] >= 24ull * HOUR);
    }
    quota_sim_free(s);
}

static void
room_is_what_the_tightest_window_has(void **state)
{
    struct quota_sim *s = quota_sim_new();
    struct mailbox m = mailbox(1);
    struct cost large = {.messages = 1, .recipients = 1, .bytes = 600};

    (void)state;
    assert_non_null(s);
    assert_int_equal(quota_sim_room(s, &m, 5, &one, 100), 2);
    assert_int_equal(quota_sim_room(s, &m, 5, &one, 50), 1);
    assert_int_equal(quota_sim_room(s, &m, 5, &large, 100), 1);
    assert_int_equal(play(s, 1, 5), 0);
    assert_int_equal(quota_sim_room(s, &m, 5, &one, 100), 1);
    assert_int_equal(play(s, 1, 5), 0);
    assert_true(play(s, 1, 5) > 0); /* waits */
    assert_int_equal(quota_sim_room(s, &m, 5, &one, 100), 0);
    quota_sim_free(s);
}

static void
larger_than_the_limit_is_never(void **state)
{
    struct quota_sim *s = quota_sim_new();
    struct mailbox m = mailbox(1);
    struct cost large = {.messages = 1, .recipients = 1, .bytes = 1001};

    (void)state;
    assert_non_null(s);
    assert_true(quota_sim_wait_ms(s, &m, 5, &large, 100) == WINDOW_NEVER);
    large.bytes = 501;
    assert_int_equal(quota_sim_wait_ms(s, &m, 5, &large, 100), 0);
    assert_true(quota_sim_wait_ms(s, &m, 5, &large, 50) == WINDOW_NEVER);
    assert_int_equal(told(s, "a@example.com")->first_limit, DIM_BYTES);
    assert_int_equal(told(s, "a@example.com")->over, 2);
    quota_sim_free(s);
    quota_sim_free(NULL);
}

/* Known recipients are no news, also when who waits is one of them. */
static void
only_new_recipients_count(void **state)
{
    struct account few = {
        .name = "few",
        .quota = {.n = 2,
                  .limit = {{DIM_UNIQUE_RECIPIENTS, 3, 24ull * HOUR},
                            {DIM_UNIQUE_EXTERNAL_RECIPIENTS, 2, 24ull * HOUR}}},
    };
    struct quota_sim *s = quota_sim_new();
    struct mailbox m = {.account = &few, .id = 3, .address = "c@example.com"};
    struct recipient_id known[] = {{1, false}, {2, true}};
    struct recipient_id more[] = {{2, true}, {3, true}};
    struct recipient_id new_one[] = {{4, true}};
    struct cost k = {.messages = 1, .who = known, .n_who = 2};
    struct cost o = {.messages = 1, .who = more, .n_who = 2};
    struct cost n = {.messages = 1, .who = new_one, .n_who = 1};
    uint64_t wait_ms;

    (void)state;
    assert_non_null(s);
    for (uint64_t at = 1; at < 100; at++) {
        assert_int_equal(quota_sim_wait_ms(s, &m, at, &k, 100), 0);
        assert_true(quota_sim_send(s, &m, at, &k, 100, 0));
    }
    assert_int_equal(quota_sim_wait_ms(s, &m, 100, &o, 100), 0);
    assert_true(quota_sim_send(s, &m, 100, &o, 100, 0));
    assert_true(quota_sim_wait_ms(s, &m, 12 * HOUR, &k, 100) == 0);
    assert_true(quota_sim_send(s, &m, 12 * HOUR, &k, 100, 0));
    wait_ms = quota_sim_wait_ms(s, &m, 12 * HOUR, &n, 100);
    assert_true(wait_ms > 12ull * HOUR - 1000 &&
                wait_ms <= 12ull * HOUR + 10 * 60 * 1000);
    assert_true(quota_sim_send(s, &m, 12 * HOUR, &n, 100, wait_ms));
    assert_int_equal(told(s, "c@example.com")->over, 1);
    assert_int_equal(told(s, "c@example.com")->waited, 1);
    assert_int_equal(told(s, "c@example.com")->messages, 102);
    quota_sim_free(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_is_waited_for),
        cmocka_unit_test(no_window_is_passed),
        cmocka_unit_test(room_is_what_the_tightest_window_has),
        cmocka_unit_test(larger_than_the_limit_is_never),
        cmocka_unit_test(only_new_recipients_count),
    };

    return cmocka_run_group_tests_name("ctl/quota_sim", tests, NULL, NULL);
}
