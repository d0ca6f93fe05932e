/* tests/unit/deliver/test_restore.c - after a reboot the windows are the same,
 * to the bucket.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Many accounts live through two days of sends, refusals, parts refused and
 * results that come late; at random times the agent is gone and the runtime
 * directory is empty.
 */
#include "milter/deliver/restore.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/state/quota_private.h"
#include "milter/state/words.h"
#include "policy/window.h"

enum { ACCOUNTS = 60, STEPS = 3000, REBOOTS = 6 };

#define DAY_MS (86400ull * 1000)

/* ---- a machine ---- */

static char top[100], runtime[120], book[120];
static _Atomic uint64_t boot_ms, wall_ms = 1790000000000;
static const uint64_t boot_1[2] = {1, 1}, boot_2[2] = {2, 2};

static uint64_t
read_boot_ms(void *cookie)
{
    (void)cookie;
    return boot_ms;
}

static int64_t
read_wall_ms(void *cookie)
{
    (void)cookie;
    return (int64_t)wall_ms;
}

static const struct clock fake = {read_boot_ms, read_wall_ms, NULL};

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void
remove_all(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- accounts ---- */

static struct smarthost gmail = {.name = "gmail"};
static struct account account[ACCOUNTS];
static char address[ACCOUNTS][40];
static struct policy policy;

static void
make_policy(void)
{
    static const struct limit plenty[] = {
        {DIM_MESSAGES, 1000, DAY_MS},
        {DIM_MESSAGES, 100, 3600000},
        {DIM_RECIPIENTS, 3000, DAY_MS},
        {DIM_EXTERNAL_RECIPIENTS, 500, DAY_MS},
        {DIM_BYTES, 3000000, 7001 * 1000ull},
        {DIM_PACE, 40, 60000},
    };
    static const struct limit few[] = {{DIM_RECIPIENTS, 50, DAY_MS}};

    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct account *a = &account[i];
        bool small = i % 10 == 0;

        snprintf(address[i], sizeof address[i], "n%u@example.com", i);
        a->name = a->address = address[i];
        a->smarthost = &gmail;
        a->sessions.max = 5;
        a->quota.n = small ? 1 : 6;
        memcpy(a->quota.limit, small ? few : plenty,
               a->quota.n * sizeof *plenty);
    }
    policy.accounts = account;
    policy.n_accounts = ACCOUNTS;
    policy.state.accounts = ACCOUNTS;
}

static struct mailbox
mailbox(unsigned i)
{
    struct mailbox m;

    assert_true(policy_mailbox(&policy, address[i], &m));
    return m;
}

/* ---- an agent ---- */

struct agent {
    struct ledger *ledger;
    struct quota *quota;
    struct attempts *attempts;
};

static struct agent
start(const uint64_t boot_id[2])
{
    struct agent a = {0};
    struct quota_start begins;
    char err[500] = "";

    if (ledger_open(&a.ledger, book, &fake, err, sizeof err) != LEDGER_OK ||
        !restore_book(a.ledger, &policy, boot_id))
        fail_msg("%s", err);
    begins = ledger_quota_start(a.ledger);
    if (quota_make(&a.quota, runtime, &policy, &fake, &begins, err,
                   sizeof err) != STATE_OK)
        fail_msg("%s", err);
    a.attempts = attempts_new(a.quota);
    assert_non_null(a.attempts);
    if (!restore_memory(&policy, a.ledger, a.quota, a.attempts, err,
                        sizeof err))
        fail_msg("%s", err);
    return a;
}

static void
end(struct agent *a)
{
    attempts_free(a->attempts);
    ledger_close(a->ledger);
    quota_free(a->quota);
}

/* One transaction as the agent makes it, which takes up to two minutes. */
static void
deliver(struct agent *a, unsigned i, uint64_t ticket)
{
    struct mailbox m = mailbox(i);
    uint32_t recipients = 1 + (uint32_t)rand() % 4;
    struct cost cost = {.messages = 1,
                        .recipients = recipients,
                        .external_recipients = recipients / 2,
                        .bytes = (uint64_t)rand() % 5000};
    struct cost kept = cost;
    struct attempt attempt = {.ticket = ticket,
                              .recipient = "x@far.test",
                              .queue_id = "",
                              .sender = "",
                              .identity = address[i],
                              .account = m.id,
                              .message_id = ""};
    struct attempt_result result = {.kind = OUTCOME_SENT,
                                    .stage = STAGE_CONTENT,
                                    .enhanced = "",
                                    .reply = ""};
    const struct taken *after;
    struct taken taken, before;
    struct room room;
    uint64_t flight_ms = (uint64_t)rand() % (rand() % 20 ? 3000 : 120000);

    if (!quota_take(a->quota, m.id, &cost, 100, &taken, &room))
        return;
    before = taken;
    after = &taken;
    assert_int_equal(ledger_begin(a->ledger, &attempt, 1, &taken, &result.row),
                     LEDGER_OK);
    boot_ms += flight_ms;
    wall_ms += flight_ms;
    switch (rand() % 6) {
    case 0:
        quota_give_back(a->quota, &taken);
        after = NULL;
        result.kind = OUTCOME_DEFERRED;
        break;
    case 1:
        kept.recipients--;
        kept.external_recipients -= kept.external_recipients > 0;
        quota_give_back_recipients(a->quota, &taken, &kept);
        /* fall through */
    default:
        quota_settle(a->quota, &taken);
        break;
    case 5: /* its result is never known */
        return;
    }
    assert_int_equal(
        ledger_finish(a->ledger, &result, 1, &before, after, 10000), LEDGER_OK);
}

/* ---- all windows ---- */

struct seen {
    uint64_t used, bucket[LIMITS_MAX][WINDOW_BUCKETS];
};

/* Everything that counts now, by the number of its bucket. */
static void
look(struct agent *a, struct seen *ret)
{
    uint64_t now_ms = quota_now_ms(a->quota);

    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct quota_slot *slot = quota_lock(a->quota, mailbox(i).id);

        assert_non_null(slot);
        memset(&ret[i], 0, sizeof ret[i]);
        assert_int_equal(words_get(&slot->n_windows), account[i].quota.n);
        for (unsigned k = 0; k < account[i].quota.n; k++) {
            struct window *w = &slot->window[k].window;

            window_advance(w, now_ms);
            ret[i].used += words_get(&w->used);
            for (unsigned b = 0; b < WINDOW_BUCKETS; b++)
                ret[i].bucket[k][b] = words_get(&w->bucket[b]);
        }
        quota_unlock(a->quota, slot);
    }
}

static void
windows_are_the_same_to_the_bucket(void **state)
{
    static struct seen before[ACCOUNTS], after[ACCOUNTS];
    struct agent a;
    uint64_t ticket = 1, used = 0;

    (void)state;
    srand(17);
    boot_ms = 12345678;
    a = start(boot_1);
    for (unsigned r = 0; r < REBOOTS; r++) {
        for (unsigned n = 0; n < STEPS / REBOOTS; n++) {
            uint64_t pause_ms = (uint64_t)rand() % 2000;

            if (rand() % 100 == 0)
                pause_ms = (uint64_t)rand() % 3600000; /* a quiet hour */
            boot_ms += pause_ms;
            wall_ms += pause_ms;
            deliver(&a, (unsigned)rand() % ACCOUNTS, ticket++);
        }
        look(&a, before);
        end(&a);
        /* A reboot: nothing of /run is left, and the machine's clock begins
         * anew. */
        remove_all(runtime);
        assert_int_equal(mkdir(runtime, 0700), 0);
        boot_ms = 1000;
        a = start(r % 2 ? boot_1 : boot_2);
        look(&a, after);
        for (unsigned i = 0; i < ACCOUNTS; i++) {
            used += before[i].used;
            if (memcmp(&before[i], &after[i], sizeof *before) != 0)
                fail_msg("account %u after reboot %u: %llu spent, was %llu", i,
                         r, (unsigned long long)after[i].used,
                         (unsigned long long)before[i].used);
        }
    }
    assert_true(used > 100000); /* it was about something */
    end(&a);
}

/* The same, but the agent's last words never came. */
static void
a_loss_of_power_is_charged_in_memory_too(void **state)
{
    struct agent a;
    char path[160], copy[160], line[400];
    struct room room;
    struct cost one = {.messages = 1, .recipients = 1};

    (void)state;
    a = start(boot_1);
    /* Account 10 has one limit: 50 recipients. */
    for (unsigned i = 0; i < 3; i++) {
        struct taken t;
        struct attempt attempt = {.ticket = 900000 + i,
                                  .recipient = "x@far.test",
                                  .queue_id = "",
                                  .sender = "",
                                  .identity = address[10],
                                  .account = mailbox(10).id,
                                  .message_id = ""};
        int64_t row;

        wall_ms += DAY_MS / 2;
        boot_ms += DAY_MS / 2;
        assert_true(quota_take(a.quota, mailbox(10).id, &one, 100, &t, &room));
        assert_int_equal(ledger_begin(a.ledger, &attempt, 1, &t, &row),
                         LEDGER_OK);
    }
    /* What the disk holds now, as the next boot finds it. */
    snprintf(copy, sizeof copy, "%s/copy", top);
    snprintf(line, sizeof line, "cp -r %s %s", book, copy);
    assert_int_equal(system(line), 0);
    end(&a);
    snprintf(path, sizeof path, "%s/old", top);
    assert_int_equal(rename(book, path), 0);
    assert_int_equal(rename(copy, book), 0);
    a = start(boot_2);
    one.recipients = 43;
    quota_fits(a.quota, mailbox(10).id, &one, 100, &room);
    assert_false(room.ok);
    /* The first lies a day back, which still counts. */
    assert_int_equal(room.used, 3 + 5);
    one.recipients = 42;
    assert_true(quota_fits(a.quota, mailbox(10).id, &one, 100, &room));
    end(&a);
}

static void
reboot(struct agent *a, const uint64_t boot_id[2], uint64_t true_ms,
       int64_t late_ms)
{
    end(a);
    remove_all(runtime);
    assert_int_equal(mkdir(runtime, 0700), 0);
    boot_ms = 1000;
    wall_ms = (uint64_t)((int64_t)true_ms - late_ms);
    *a = start(boot_id);
}

/* Account 10 mails 50 recipients, all that it may in a day. */
static void
use_up(struct agent *a, uint64_t ticket)
{
    struct cost all = {.messages = 1, .recipients = 50};
    struct attempt attempt = {.ticket = ticket,
                              .recipient = "x@far.test",
                              .queue_id = "",
                              .sender = "",
                              .identity = address[10],
                              .account = mailbox(10).id,
                              .message_id = ""};
    struct taken t;
    struct room room;
    int64_t row;

    assert_true(quota_take(a->quota, mailbox(10).id, &all, 100, &t, &room));
    assert_int_equal(ledger_begin(a->ledger, &attempt, 1, &t, &row), LEDGER_OK);
}

static bool
has_room(struct agent *a)
{
    struct cost one = {.messages = 1, .recipients = 1};
    struct room room;

    return quota_fits(a->quota, mailbox(10).id, &one, 100, &room);
}

static void
pass(struct agent *a, uint64_t ms)
{
    boot_ms += ms;
    wall_ms += ms;
    ledger_clock(a->ledger, quota_now_ms(a->quota));
}

/* A machine that was off for an hour comes up with a clock five hours late,
 * which is set right after a minute.  Quota time stays an hour behind; after
 * the next boot, with the right clock at once, that hour must not make what was
 * spent look older than it is. */
static void
a_boot_with_a_late_clock_lets_nothing_through(void **state)
{
    static const uint64_t hour_ms = 3600 * 1000;
    const int64_t late_ms = 5 * 3600 * 1000;
    uint64_t true_ms, spent_ms;
    struct agent a;

    (void)state;
    boot_ms = 1000;
    a = start(boot_1);
    use_up(&a, 1);
    pass(&a, 60000);
    true_ms = wall_ms + hour_ms;
    reboot(&a, boot_2, true_ms, late_ms);
    assert_false(has_room(&a));
    pass(&a, 60000);
    wall_ms += (uint64_t)late_ms; /* the network's time */
    pass(&a, DAY_MS + 2 * hour_ms);
    assert_true(has_room(&a));
    use_up(&a, 2);
    spent_ms = wall_ms;
    pass(&a, hour_ms);
    reboot(&a, boot_1, wall_ms + hour_ms, 0);
    while (wall_ms < spent_ms + DAY_MS) {
        assert_false(has_room(&a));
        pass(&a, hour_ms / 4);
    }
    pass(&a, hour_ms / 2); /* nor does it last much longer */
    assert_true(has_room(&a));
    end(&a);
}

/* Rather too much than too little: a clock that was set back says nothing. */
static void
a_clock_that_was_set_back_lets_nothing_through(void **state)
{
    static const uint64_t hour_ms = 3600 * 1000;
    uint64_t passed_ms = 0;
    struct agent a;

    (void)state;
    boot_ms = 1000;
    a = start(boot_1);
    use_up(&a, 1);
    pass(&a, 60000);
    wall_ms -= 3 * hour_ms;
    pass(&a, 60000);
    reboot(&a, boot_2, wall_ms, 0);
    for (; passed_ms < DAY_MS - 120000; passed_ms += 60000) {
        assert_false(has_room(&a));
        pass(&a, 60000);
    }
    end(&a);
}

static void
a_rest_that_was_over_long_ago_takes_no_place(void **state)
{
    struct agent a;

    (void)state;
    boot_ms = 1000;
    a = start(boot_1);
    ledger_set_state(a.ledger, address[1], mailbox(1).id, ACCOUNT_COOLING,
                     quota_now_ms(a.quota) + 1000, "busy", 3);
    ledger_set_state(a.ledger, address[2], mailbox(2).id, ACCOUNT_PAUSED, 0,
                     "by root", 0);
    reboot(&a, boot_1, wall_ms + RESTS_KEEP_MS, 0);
    assert_int_equal(quota_rests(a.quota, mailbox(1).id), 3);
    reboot(&a, boot_1, wall_ms + 2000, 0);
    assert_int_equal(quota_rests(a.quota, mailbox(1).id), 0);
    assert_false(quota_set_state(a.quota, mailbox(2).id, ACCOUNT_COOLING, 1,
                                 "x")); /* it is paused still */
    end(&a);
}

/* It would begin anew, with nothing spent. */
static void
an_account_without_a_place_stops_the_start(void **state)
{
    static struct account template = {.name = "staff",
                                      .address = "*@example.com",
                                      .domain = "example.com",
                                      .is_template = true,
                                      .smarthost = &gmail};
    static struct policy many = {.accounts = &template, .n_accounts = 1};
    struct agent a = start(boot_1);
    struct quota_start begins;
    uint64_t ticket = 1;
    char err[500] = "";

    (void)state;
    for (unsigned i = 0; i < ACCOUNTS; i++)
        deliver(&a, i, ticket++);
    end(&a);
    template.quota = account[1].quota;
    many.state.accounts = ACCOUNTS / 5;
    assert_int_equal(ledger_open(&a.ledger, book, &fake, err, sizeof err),
                     LEDGER_OK);
    assert_true(restore_book(a.ledger, &many, boot_1));
    begins = ledger_quota_start(a.ledger);
    assert_int_equal(
        quota_make(&a.quota, runtime, &many, &fake, &begins, err, sizeof err),
        STATE_OK);
    a.attempts = attempts_new(a.quota);
    assert_false(
        restore_memory(&many, a.ledger, a.quota, a.attempts, err, sizeof err));
    assert_non_null(strstr(err, "raise state.accounts"));
    end(&a);

    /* Two days later nothing counts any more. */
    wall_ms += 2 * DAY_MS + DAY_MS / WINDOW_PARTS;
    boot_ms += 2 * DAY_MS + DAY_MS / WINDOW_PARTS;
    assert_int_equal(ledger_open(&a.ledger, book, &fake, err, sizeof err),
                     LEDGER_OK);
    assert_true(restore_book(a.ledger, &many, boot_1));
    begins = ledger_quota_start(a.ledger);
    assert_int_equal(
        quota_make(&a.quota, runtime, &many, &fake, &begins, err, sizeof err),
        STATE_OK);
    a.attempts = attempts_new(a.quota);
    assert_true(
        restore_memory(&many, a.ledger, a.quota, a.attempts, err, sizeof err));
    end(&a);
}

static int
set_up(void **state)
{
    /* In memory: fsync is not what is tried here. */
    (void)state;
    snprintf(top, sizeof top, "%s/gmrestore-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(top));
    snprintf(runtime, sizeof runtime, "%s/run", top);
    snprintf(book, sizeof book, "%s/state", top);
    make_policy();
    return mkdir(runtime, 0700) != 0 || mkdir(book, 0700) != 0;
}

static int
tear_down(void **state)
{
    (void)state;
    remove_all(top);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(windows_are_the_same_to_the_bucket,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_loss_of_power_is_charged_in_memory_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_boot_with_a_late_clock_lets_nothing_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_clock_that_was_set_back_lets_nothing_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_rest_that_was_over_long_ago_takes_no_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            an_account_without_a_place_stops_the_start, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("deliver/restore", tests, NULL, NULL);
}
