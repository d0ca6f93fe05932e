/* tests/unit/state/test_admit.c - mirrors milter/state/admit.c: who of a pool
 * comes first, and what spills over.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "milter/state/admit.h"
#include "policy/window.h"
#include "tests/unit/state/fixture.h"

enum { LIMIT = 10, MEMBERS = FIXTURE_ACCOUNTS - 1 };

static char directory[64];
static struct fixture_policy policy;
static struct quota *quota;
static struct admit_env env;
static struct admit_turns turns;
static struct mailbox member[MEMBERS];
static struct pool pool = {.name = "bulk"};
static struct step no_steps[1];
static struct plan plan = {.n = 1, .step = no_steps, .share_percent = 100};

static int
start(void **state)
{
    static const struct limit limits[] = {{DIM_MESSAGES, LIMIT, DAY_MS},
                                          {DIM_RECIPIENTS, 15, DAY_MS}};
    char err[300];

    (void)state;
    fixture_directory(directory, sizeof directory);
    fixture_policy(&policy, limits, 2);
    member[0] = fixture_mailbox(&policy.account[0], "sales@example.com");
    member[1] = fixture_mailbox(&policy.account[1], "news@example.com");
    for (unsigned i = 0; i < MEMBERS; i++)
        policy.account[i].max_wait_ms = DAY_MS;
    if (quota_make(&quota, directory, &policy.policy, &fixture_clock, 0, err,
                   sizeof err) != STATE_OK) {
        print_error("%s\n", err);
        return 1;
    }
    memset(&turns, 0, sizeof turns);
    env = (struct admit_env){
        .quota = quota_reader_new(directory, &fixture_clock),
        .status = status_reader_new(directory, false),
        .clock = &fixture_clock,
        .turns = &turns,
    };
    plan.share_percent = 100;
    return env.quota == NULL || env.status == NULL;
}

static int
stop(void **state)
{
    (void)state;
    quota_reader_free(env.quota);
    status_reader_free(env.status);
    quota_free(quota);
    fixture_remove(directory);
    return 0;
}

static void
spend(unsigned who, uint32_t messages, uint32_t recipients)
{
    struct cost c = {.messages = 1, .recipients = 1};
    struct taken taken;
    struct room room;

    for (uint32_t i = 0; i < messages; i++) {
        if (i == 0)
            c.recipients = recipients - messages + 1;
        assert_true(quota_take(quota, member[who].id, &c, 100, &taken, &room));
        c.recipients = 1;
    }
}

static struct decision
decision_of(enum pool_pick pick)
{
    static struct decision d;

    pool.pick = pick;
    d = (struct decision){
        .action = ACTION_ACCOUNT, .plan = &plan, .n_candidates = MEMBERS + 1};
    for (unsigned i = 0; i < MEMBERS; i++)
        d.candidate[i] = (struct candidate){.kind = STEP_ACCOUNT,
                                            .mailbox = member[i],
                                            .pool = &pool,
                                            .weight = 1};
    d.candidate[MEMBERS] = (struct candidate){.kind = STEP_WAIT};
    return d;
}

/* Which member takes the next message; MEMBERS = none at once. */
static unsigned
next(enum pool_pick pick, uint32_t recipients)
{
    const struct decision d = decision_of(pick);
    struct cost c = {.messages = 1, .recipients = recipients};
    struct admission a;

    admit(&env, &d, &c, &a);
    if (a.action != ACTION_ACCOUNT || a.wait_ms != 0)
        return MEMBERS;
    for (unsigned i = 0; i < MEMBERS; i++)
        if (a.mailbox.id == member[i].id)
            return i;
    fail_msg("%s is no member", a.mailbox.address);
    return MEMBERS;
}

static void
most_room_is_first(void **state)
{
    (void)state;
    assert_int_equal(next(PICK_MOST_ROOM, 1), 0); /* equal: as written */
    spend(0, 1, 1);
    assert_int_equal(next(PICK_MOST_ROOM, 1), 1);
    spend(1, 2, 2);
    assert_int_equal(next(PICK_MOST_ROOM, 1), 0);
    /* The tightest limit counts: here that of recipients. */
    spend(0, 1, 10);
    assert_int_equal(next(PICK_MOST_ROOM, 1), 1);
    /* Copies of this very message: four more recipients fit sales not at all,
     * news thrice. */
    assert_int_equal(next(PICK_MOST_ROOM, 5), 1);
}

static void
most_room_within_the_share(void **state)
{
    (void)state;
    plan.share_percent = 20;
    spend(0, 2, 2);
    assert_int_equal(next(PICK_MOST_ROOM, 1), 1);
    spend(1, 2, 2);
    assert_int_equal(next(PICK_MOST_ROOM, 1), MEMBERS);
}

static void
who_cannot_send_is_last(void **state)
{
    (void)state;
    quota_set_state(quota, member[0].id, ACCOUNT_PAUSED, 0, "holiday");
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(next(PICK_MOST_ROOM, 1), 1);
        assert_int_equal(next(PICK_ROUND_ROBIN, 1), 1);
    }
}

static void
round_robin_takes_turns(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(next(PICK_ROUND_ROBIN, 1), i % MEMBERS);
    env.turns = NULL; /* explain: asking moves nothing */
    assert_int_equal(next(PICK_ROUND_ROBIN, 1), 0);
    assert_int_equal(next(PICK_ROUND_ROBIN, 1), 0);
}

/* 2 accounts of 10: of 25 messages 20 go at once, each to its limit. */
static void
what_is_full_spills_over(void **state)
{
    static const enum pool_pick all[] = {PICK_MOST_ROOM, PICK_ROUND_ROBIN,
                                         PICK_WEIGHTED, PICK_BY_SENDER};

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        unsigned count[MEMBERS + 1] = {0};

        for (unsigned i = 0; i < 25; i++) {
            unsigned who = next(all[k], 1);

            count[who]++;
            if (who < MEMBERS)
                spend(who, 1, 1);
        }
        assert_int_equal(count[0], LIMIT);
        assert_int_equal(count[1], LIMIT);
        assert_int_equal(count[MEMBERS], 5);
        if (k + 1 < sizeof all / sizeof *all) {
            stop(state);
            assert_int_equal(start(state), 0);
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(most_room_is_first),       TEST(most_room_within_the_share),
        TEST(who_cannot_send_is_last),  TEST(round_robin_takes_turns),
        TEST(what_is_full_spills_over),
    };

    return cmocka_run_group_tests_name("state/admit", tests, NULL, NULL);
}
