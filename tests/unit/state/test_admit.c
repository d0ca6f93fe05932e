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
static struct token_book *tokens; /* in one test; else NULL */
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
    token_book_free(tokens);
    tokens = NULL;
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

    admit(&env, &policy.policy, &d, &c, &a);
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

/* Whatever keeps an account from sending, nothing is routed to it while another
 * one can. */
static void
reach(unsigned what)
{
    struct token_status status = {.state = TOKEN_NEEDS_LOGIN};
    struct observation o;
    char err[300];

    switch (what) {
    case ACCOUNT_COOLING:
    case ACCOUNT_NEEDS_LOGIN:
    case ACCOUNT_PAUSED:
    case ACCOUNT_DISABLED:
        quota_set_state(quota, member[0].id, (enum account_state)what,
                        quota_now_ms(quota) + HOUR_MS, "because");
        break;
    case ACCOUNT_STATES: /* full by our count */
        spend(0, LIMIT, LIMIT);
        break;
    case ACCOUNT_STATES + 1: /* full by Gmail's word */
        spend(0, 2, 2);
        quota_full(quota, member[0].id, HOUR_MS, "550 5.4.5", &o);
        quota_set_state(quota, member[0].id, ACCOUNT_OK, 0, "");
        break;
    case ACCOUNT_STATES + 2: /* without a token */
        policy.account[0].auth = AUTH_REFRESH_TOKEN;
        assert_int_equal(
            token_book_make(&tokens, directory, 50, err, sizeof err), STATE_OK);
        status.id = member[0].id;
        snprintf(status.identity, sizeof status.identity, "sales@example.com");
        assert_int_equal(token_book_set(tokens, &status), STATE_OK);
        break;
    default: /* a message was tried after a rest, and has no answer yet */
        quota_restore_state(quota, member[0].id, ACCOUNT_OK, 0, "", 1);
        spend(0, 1, 1);
        break;
    }
}

static void
nothing_goes_where_nothing_can_be_sent(void **state)
{
    static const enum pool_pick picks[] = {PICK_MOST_ROOM, PICK_ROUND_ROBIN,
                                           PICK_WEIGHTED, PICK_BY_SENDER};
    enum { LAST = ACCOUNT_STATES + 3 };

    for (unsigned what = ACCOUNT_OK + 1; what <= LAST; what++) {
        struct decision d;
        struct cost c = {.messages = 1, .recipients = 1};
        struct admission a;

        print_message("  %u\n", what);
        reach(what);
        for (unsigned k = 0; k < sizeof picks / sizeof *picks; k++)
            for (unsigned i = 0; i < 3; i++)
                assert_int_equal(next(picks[k], 1), 1);
        /* Not a pool, but one after the other, as `otherwise` says. */
        d = decision_of(PICK_WEIGHTED);
        d.candidate[0].pool = d.candidate[1].pool = NULL;
        admit(&env, &policy.policy, &d, &c, &a);
        assert_int_equal(a.action, ACTION_ACCOUNT);
        assert_true(a.mailbox.id == member[1].id && a.wait_ms == 0);
        assert_memory_equal(a.why, "sales@example.com: ", 19);
        stop(state);
        assert_int_equal(start(state), 0);
    }
}

/* ---- diverts ---- */

static void
divert(const struct mailbox *from, const struct mailbox *to)
{
    assert_int_equal(quota_open(quota, from), STATE_OK);
    if (to != NULL)
        assert_int_equal(quota_open(quota, to), STATE_OK);
    quota_set_divert(quota, from->id, to != NULL ? to->id : 0);
}

/* What becomes of a message for this account alone. */
static struct admission
ask(const struct mailbox *m)
{
    static struct decision d;
    struct cost c = {.messages = 1, .recipients = 1};
    struct admission a;

    d = (struct decision){
        .action = ACTION_ACCOUNT, .plan = &plan, .n_candidates = 2};
    d.candidate[0] = (struct candidate){.kind = STEP_ACCOUNT, .mailbox = *m};
    d.candidate[1] = (struct candidate){.kind = STEP_WAIT};
    admit(&env, &policy.policy, &d, &c, &a);
    return a;
}

static void
a_divert_is_followed_once(void **state)
{
    struct mailbox ann =
        fixture_mailbox(&policy.account[2], "ann@staff.example.com");
    struct admission a;

    (void)state;
    policy.account[2].max_wait_ms = DAY_MS;
    policy.account[1].max_wait_ms = 2 * DAY_MS;
    quota_set_state(quota, member[0].id, ACCOUNT_PAUSED, 0, "holiday");
    divert(&member[0], &member[1]);
    a = ask(&member[0]); /* that it is paused does not matter */
    assert_int_equal(a.action, ACTION_ACCOUNT);
    assert_true(a.mailbox.id == member[1].id && a.wait_ms == 0);
    assert_ptr_equal(a.mailbox.account, &policy.account[1]);
    assert_string_equal(a.why, "sales@example.com: diverted to "
                               "news@example.com");
    /* the other's room and state do */
    spend(1, LIMIT, LIMIT);
    a = ask(&member[0]);
    assert_int_equal(a.action, ACTION_ACCOUNT);
    assert_true(a.mailbox.id == member[1].id && a.wait_ms > 0);
    assert_string_equal(
        a.why, "sales@example.com, diverted to news@example.com: messages");
    quota_set_state(quota, member[1].id, ACCOUNT_PAUSED, 0, "");
    a = ask(&member[0]);
    assert_true(a.wait_ms == WINDOW_NEVER);
    /* templates on either side */
    divert(&member[0], &ann);
    a = ask(&member[0]);
    assert_string_equal(a.mailbox.address, "ann@staff.example.com");
    divert(&member[0], NULL);
    quota_set_state(quota, member[0].id, ACCOUNT_OK, 0, "");
    divert(&ann, &member[0]);
    a = ask(&ann);
    assert_string_equal(a.mailbox.address, "sales@example.com");
    /* A chain is not made (control.c), and would not be walked. */
    divert(&member[0], &member[1]);
    a = ask(&ann);
    assert_string_equal(a.mailbox.address, "sales@example.com");
}

static void
an_end_of_the_divert_that_is_gone_from_the_policy(void **state)
{
    (void)state;
    divert(&member[0], &member[1]);
    policy.account[1].address = "gone@example.com";
    assert_true(ask(&member[0]).mailbox.id == member[0].id);
}

/* In line before it: what was accepted for the account before the divert. */
static void
both_lines_stand_before_a_diverted_message(void **state)
{
    (void)state;
    divert(&member[0], &member[1]);
    quota_add_waiting(quota, member[0].id, LIMIT / 2, LIMIT / 2, 0);
    quota_add_waiting(quota, member[1].id, LIMIT / 2 - 1, LIMIT / 2 - 1, 0);
    assert_true(ask(&member[0]).wait_ms == 0);
    quota_add_waiting(quota, member[0].id, 1, 1, 0);
    assert_true(ask(&member[0]).wait_ms > 0);
    assert_true(ask(&member[1]).wait_ms == 0);
}

static void
most_room_weighs_who_carries_it(void **state)
{
    struct mailbox ann =
        fixture_mailbox(&policy.account[2], "ann@staff.example.com");
    const struct decision d = decision_of(PICK_MOST_ROOM);
    struct cost c = {.messages = 1, .recipients = 1};
    struct admission a;

    (void)state;
    spend(0, 5, 5);
    spend(1, 1, 1);
    divert(&member[0], &ann);
    admit(&env, &policy.policy, &d, &c, &a);
    assert_true(a.mailbox.id == ann.id);
}

static void
most_room_knows_what_gmail_allowed(void **state)
{
    struct observation o;

    (void)state;
    spend(0, 2, 2);
    spend(1, 7, 7);
    assert_int_equal(next(PICK_MOST_ROOM, 1), 0);
    quota_full(quota, member[0].id, HOUR_MS, "550 5.4.5", &o);
    quota_set_state(quota, member[0].id, ACCOUNT_OK, 0, "");
    assert_int_equal(next(PICK_MOST_ROOM, 1), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(most_room_is_first),
        TEST(most_room_within_the_share),
        TEST(who_cannot_send_is_last),
        TEST(round_robin_takes_turns),
        TEST(what_is_full_spills_over),
        TEST(nothing_goes_where_nothing_can_be_sent),
        TEST(a_divert_is_followed_once),
        TEST(an_end_of_the_divert_that_is_gone_from_the_policy),
        TEST(both_lines_stand_before_a_diverted_message),
        TEST(most_room_weighs_who_carries_it),
        TEST(most_room_knows_what_gmail_allowed),
    };

    return cmocka_run_group_tests_name("state/admit", tests, NULL, NULL);
}
