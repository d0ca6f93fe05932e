/* tests/unit/deliver/test_burst.c - a burst of 10,000 messages, of which 2,000
 * fit: what admission accepts, and what becomes of it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The milter's admission, its hints, the agent's waiting counts and the
 * windows are the real ones; the clock, the MTA's queue and Gmail are models.
 * The MTA brings a message at once, and again as Postfix does it
 * (qmgr(8)): after its age, but at least 300 s and at most 4000 s, looked for
 * every 300 s, in no order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "milter/deliver/attempts.h"
#include "milter/state/admit.h"
#include "policy/window.h"
#include "tests/unit/state/fixture.h"

enum {
    BURST = 10000,
    BURST_MS = 600 * 1000,
    BACKOFF_MIN_MS = 300 * 1000,
    BACKOFF_MAX_MS = 4000 * 1000,
    SCAN_MS = 300 * 1000,  /* queue_run_delay */
    LMTP_WAIT_MS = 100000, /* RELAY_WAIT_MS */
    SWEEP_MS = 60 * 1000,
};

#define MINUTE_MS (60ull * 1000)

enum where { IN_QUEUE, IN_LINE, GONE, LOST };

struct message {
    uint64_t accepted_ms, next_ms,
        at_ms; /* IN_LINE: room is said to be there */
    uint64_t sent_ms;
    struct cost cost;
    uint32_t minute;
    unsigned member;
    enum where where;
    bool tried;
};

struct world {
    const char *name;
    unsigned n_limits, n_members, share_percent;
    struct limit limit[3];
    uint64_t max_wait_ms;
    /* Room comes back steadily, but the MTA comes in waves, and few can wait
     * for it in here: it takes days. */
    bool is_paced;
    uint32_t recipients_max;
    unsigned external_percent; /* of the recipients */
    uint64_t octets;
    uint64_t spent;        /* messages, spread over the last day */
    unsigned lost_percent; /* accepted, and never brought */
};

static char directory[64];
static struct fixture_policy policy;
static struct quota *quota;
static struct hints *hints;
static struct attempts *attempts;
static struct admit_env env;
static struct admit_turns turns;
static struct mailbox member[FIXTURE_ACCOUNTS];
static struct pool pool = {.name = "bulk"};
static struct step no_steps[1];
static struct plan plan = {.n = 1, .step = no_steps};
static struct decision decision;
static struct message message[BURST];
static unsigned n_messages;
static uint64_t seed;

static uint64_t
random_below(uint64_t n)
{
    uint64_t x = seed += 0x9e3779b97f4a7c15ull; /* splitmix64 */

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (x ^ (x >> 31)) % n;
}

static uint64_t
now_ms(void)
{
    return quota_now_ms(quota);
}

static uint32_t
minute_now(void)
{
    return (uint32_t)(fixture_read_wall(NULL) / 60000);
}

/* ---- the agent ---- */

static struct place
place_of(const struct message *m)
{
    return (struct place){.account = member[m->member].id,
                          .ticket = (uint64_t)(m - message),
                          .minute = m->minute,
                          .share_percent = plan.share_percent,
                          .waits_for = -1};
}

/* count_waiting() of relay.c: an attempt is over. */
static void
count(struct message *m, bool sent)
{
    const struct portion none = {0};
    struct portion all = {m->cost.recipients, m->cost.external_recipients};

    attempts_waiting(attempts, (uint64_t)(m - message), member[m->member].id,
                     m->tried ? all : none, sent ? none : all, now_ms());
    if (!m->tried)
        hints_clear(hints, member[m->member].id, m->minute, all.recipients,
                    all.external);
    m->tried = true;
}

/* Nobody older waits in line while a younger one goes. */
static void
check_turn(const struct message *m)
{
    for (const struct message *o = message; o < m; o++)
        assert_false(o->where == IN_LINE && o->member == m->member);
}

static void
send_now(struct message *m, struct taken *t)
{
    check_turn(m);
    quota_settle(quota, t);
    m->where = GONE;
    m->sent_ms = now_ms();
    count(m, true);
}

static void
put_off(struct message *m)
{
    uint64_t age_ms = now_ms() - m->accepted_ms;

    if (age_ms < BACKOFF_MIN_MS)
        age_ms = BACKOFF_MIN_MS;
    if (age_ms > BACKOFF_MAX_MS)
        age_ms = BACKOFF_MAX_MS;
    m->where = IN_QUEUE;
    m->next_ms = now_ms() + age_ms;
    count(m, false);
}

/* relay_find_session() and what follows, without Gmail. */
static void
attempt(struct message *m)
{
    struct place p = place_of(m);
    struct room room = {.at_ms = now_ms()};
    struct taken t;

    if (!attempts_is_behind(attempts, &p) &&
        quota_take(quota, member[m->member].id, &m->cost, plan.share_percent,
                   &t, &room)) {
        if (m->where == IN_LINE)
            attempts_leave(attempts, &p);
        send_now(m, &t);
        return;
    }
    m->at_ms = room.at_ms;
    if (m->where == IN_LINE) {
        if (now_ms() < m->next_ms)
            return;
        attempts_leave(attempts, &p);
    } else if (room.at_ms <= now_ms() + LMTP_WAIT_MS &&
               attempts_line_up(attempts, &p)) {
        m->where = IN_LINE;
        m->next_ms = now_ms() + LMTP_WAIT_MS;
        return;
    }
    put_off(m);
}

/* ---- the MTA ---- */

/* Brings what is due, in the order of its queue's files: any. */
static void
run_queue(bool scan)
{
    unsigned from = (unsigned)random_below(BURST), i;

    for (unsigned k = 0; k < n_messages; k++) {
        i = (unsigned)((from + k * 7919ull) % n_messages);
        if (message[i].where == IN_QUEUE && message[i].next_ms <= now_ms() &&
            (scan || !message[i].tried))
            attempt(&message[i]);
    }
}

static void
run_line(void)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (unsigned i = 0; i < n_messages; i++) {
            struct message *m = &message[i];

            if (m->where != IN_LINE ||
                (m->at_ms > now_ms() && m->next_ms > now_ms()))
                continue;
            attempt(m);
            moved |= m->where == GONE;
        }
    }
}

/* ---- the milter ---- */

static bool
submit(const struct world *w)
{
    struct message *m = &message[n_messages];
    struct admission a;

    *m = (struct message){
        .accepted_ms = now_ms(),
        .next_ms = now_ms(),
        .minute = minute_now(),
        .cost = {.messages = 1,
                 .recipients = 1 + (uint32_t)random_below(w->recipients_max),
                 .bytes = w->octets}};
    for (uint32_t i = 0; i < m->cost.recipients; i++)
        m->cost.external_recipients += random_below(100) < w->external_percent;
    admit(&env, &policy.policy, &decision, &m->cost, &a);
    if (a.action != ACTION_ACCOUNT)
        return false;
    while (member[m->member].id != a.mailbox.id)
        m->member++;
    hints_add(hints, a.mailbox.address, a.mailbox.id, m->minute,
              m->cost.recipients, m->cost.external_recipients);
    if (random_below(100) < w->lost_percent)
        m->where = LOST;
    n_messages++;
    return true;
}

/* ---- what must hold ---- */

/* Hints and waiting are what lies in the MTA, no more and no less. */
static void
check_counts(const struct world *w)
{
    uint64_t messages = 0, recipients = 0, in_queue = 0, to = 0;
    uint64_t external = 0, to_external = 0;

    for (unsigned k = 0; k < w->n_members; k++) {
        struct quota_view v;
        uint32_t n, r;

        assert_int_equal(quota_peek(env.quota, member[k].id, &v), STATE_OK);
        hints_sum(hints, member[k].id, minute_now(), &n, &r);
        messages += v.waiting_messages + n;
        recipients += v.waiting_recipients + r;
        external += v.waiting_external +
                    hints_external(hints, member[k].id, minute_now());
    }
    for (unsigned i = 0; i < n_messages; i++) {
        const struct message *m = &message[i];

        if (m->where == GONE || (m->where == LOST && minute_now() - m->minute >=
                                                         HINTS_FADE_MINUTES))
            continue;
        in_queue++;
        to += m->cost.recipients;
        to_external += m->cost.external_recipients;
    }
    assert_int_equal(messages, in_queue);
    assert_int_equal(recipients, to);
    assert_int_equal(external, to_external);
}

static void
tick(const struct world *w, uint64_t ms)
{
    uint64_t was_ms = now_ms();

    fixture_pass(ms);
    run_queue(now_ms() / SCAN_MS != was_ms / SCAN_MS);
    run_line();
    if (now_ms() / SWEEP_MS != was_ms / SWEEP_MS) {
        attempts_sweep(attempts, now_ms());
        check_counts(w);
    }
}

/* ---- a world ---- */

/* Spent over the last day, evenly. */
static void
spend_before(const struct world *w)
{
    for (uint64_t i = 0; i < w->spent; i++) {
        uint64_t at_ms = now_ms() - DAY_MS + i * (DAY_MS / w->spent) + 1;

        for (unsigned k = 0; k < w->n_members; k++)
            quota_restore(quota, member[k].id, DIM_MESSAGES, DAY_MS,
                          window_bucket_of(DAY_MS, at_ms), 1);
    }
}

static void
start(const struct world *w)
{
    static const char *const address[FIXTURE_ACCOUNTS] = {
        "sales@example.com", "news@example.com", "al@staff.example.com"};
    char err[300];

    seed = 1;
    n_messages = 0;
    memset(&turns, 0, sizeof turns);
    fixture_directory(directory, sizeof directory);
    fixture_policy(&policy, w->limit, w->n_limits);
    if (quota_make(&quota, directory, &policy.policy, &fixture_clock, 0, err,
                   sizeof err) != STATE_OK ||
        hints_open(&hints, directory, 50, err, sizeof err) != STATE_OK)
        fail_msg("%s", err);
    attempts = attempts_new(quota);
    assert_non_null(attempts);
    env = (struct admit_env){
        .quota = quota_reader_new(directory, &fixture_clock),
        .status = status_reader_new(directory, false),
        .hints = hints,
        .clock = &fixture_clock,
        .turns = &turns,
    };
    plan.share_percent = w->share_percent;
    pool.pick = PICK_MOST_ROOM;
    decision = (struct decision){.action = ACTION_ACCOUNT,
                                 .plan = &plan,
                                 .n_candidates = w->n_members + 1};
    for (unsigned i = 0; i < w->n_members; i++) {
        policy.account[i].max_wait_ms = w->max_wait_ms;
        member[i] = fixture_mailbox(&policy.account[i], address[i]);
        assert_int_equal(quota_open(quota, &member[i]), STATE_OK);
        decision.candidate[i] = (struct candidate){.kind = STEP_ACCOUNT,
                                                   .mailbox = member[i],
                                                   .pool = &pool,
                                                   .weight = 1};
    }
    decision.candidate[w->n_members] = (struct candidate){.kind = STEP_WAIT};
    spend_before(w);
}

static void
stop(void)
{
    attempts_free(attempts);
    quota_reader_free(env.quota);
    status_reader_free(env.status);
    hints_free(hints);
    quota_free(quota);
    fixture_remove(directory);
}

/* Units of the first limit's dimension. */
static uint64_t
units(const struct world *w)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n_messages; i++)
        sum += quota_units(&message[i].cost, w->limit[0].dimension);
    return sum;
}

static void
burst(const struct world *w)
{
    uint64_t start_ms = now_ms();

    for (unsigned i = 0; i < BURST; i++) {
        uint64_t due_ms = start_ms + (uint64_t)i * BURST_MS / BURST;

        if (due_ms >= now_ms() + 1000)
            tick(w, 1000);
        submit(w);
    }
    tick(w, 1000);
}

/* All of it goes, and not much later than was forecast: the MTA comes when it
 * comes, and room returns a bucket late. */
static void
check_that_all_go(const struct world *w)
{
    uint64_t slack_ms = BACKOFF_MAX_MS + SCAN_MS + DAY_MS / WINDOW_PARTS;
    unsigned left = n_messages;
    uint64_t end_ms = now_ms() + w->max_wait_ms + 2 * slack_ms, late_ms = 0;
    while (left > 0 && now_ms() < end_ms) {
        tick(w, 10 * 1000);
        left = 0;
        for (unsigned i = 0; i < n_messages; i++)
            left += message[i].where == IN_QUEUE || message[i].where == IN_LINE;
    }
    assert_int_equal(left, 0);
    for (unsigned i = 0; i < n_messages; i++) {
        uint64_t due_ms = message[i].accepted_ms + w->max_wait_ms;

        if (message[i].where == GONE && message[i].sent_ms > due_ms + late_ms)
            late_ms = message[i].sent_ms - due_ms;
    }
    if (late_ms > slack_ms)
        fail_msg("%s: %llu s later than max_wait", w->name,
                 (unsigned long long)late_ms / 1000);
}

/* within: units of the first limit that can go until the last message of the
 * burst has waited max_wait. */
static void
check(const struct world *w, uint64_t within)
{
    uint64_t accepted;

    start(w);
    burst(w);
    accepted = units(w);
    print_message("  %s: %llu accepted, %llu fit\n", w->name,
                  (unsigned long long)accepted, (unsigned long long)within);
    assert_in_range(accepted, within * 99 / 100, within * 101 / 100);
    if (!w->is_paced)
        check_that_all_go(w);
    stop();
}

static void
one_account(void **state)
{
    static const struct world w = {.name = "one account",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 1000, DAY_MS}},
                                   .max_wait_ms = 25 * HOUR_MS,
                                   .recipients_max = 1};

    (void)state;
    check(&w, 2000);
}

static void
a_day_and_no_more(void **state)
{
    static const struct world w = {.name = "half a day",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 2000, DAY_MS}},
                                   .max_wait_ms = 12 * HOUR_MS,
                                   .recipients_max = 1};

    (void)state;
    check(&w, 2000); /* the first come back after a day */
}

static void
a_pool(void **state)
{
    static const struct world w = {.name = "a pool",
                                   .n_limits = 1,
                                   .n_members = 3,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 333, DAY_MS}},
                                   .max_wait_ms = 25 * HOUR_MS,
                                   .recipients_max = 1};

    (void)state;
    check(&w, 2 * 999);
}

static void
windows_in_use(void **state)
{
    static const struct world w = {.name = "in use",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 2500, DAY_MS}},
                                   .max_wait_ms = 16 * HOUR_MS,
                                   .recipients_max = 1,
                                   .spent = 1500};

    (void)state;
    /* 1000 at once, and what comes back within 16 h 10 min. */
    check(&w, 1000 + 1500 * 970 / 1440);
}

static void
a_pool_in_use(void **state)
{
    static const struct world w = {.name = "a pool in use",
                                   .n_limits = 1,
                                   .n_members = 3,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 800, DAY_MS}},
                                   .max_wait_ms = 18 * HOUR_MS,
                                   .recipients_max = 1,
                                   .spent = 600};

    (void)state;
    check(&w, 3 * (200 + 600 * 1090 / 1440));
}

static void
several_recipients(void **state)
{
    static const struct world w = {
        .name = "several recipients",
        .n_limits = 2,
        .n_members = 1,
        .share_percent = 100,
        .limit = {{DIM_RECIPIENTS, 4000, DAY_MS}, {DIM_MESSAGES, 2000, DAY_MS}},
        .max_wait_ms = 25 * HOUR_MS,
        .recipients_max = 7};

    (void)state;
    check(&w, 8000);
}

static void
some_are_external(void **state)
{
    static const struct world w = {
        .name = "external in part",
        .n_limits = 3,
        .n_members = 2,
        .share_percent = 100,
        .limit = {{DIM_EXTERNAL_RECIPIENTS, 1000, DAY_MS},
                  {DIM_RECIPIENTS, 8000, DAY_MS},
                  {DIM_MESSAGES, 4000, DAY_MS}},
        .max_wait_ms = 25 * HOUR_MS,
        .recipients_max = 5,
        .external_percent = 30};

    (void)state;
    check(&w, 2 * 2000);
}

static void
a_share(void **state)
{
    static const struct world w = {.name = "a share",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 50,
                                   .limit = {{DIM_MESSAGES, 2000, DAY_MS}},
                                   .max_wait_ms = 25 * HOUR_MS,
                                   .recipients_max = 1};

    (void)state;
    check(&w, 2000);
}

static void
octets(void **state)
{
    static const struct world w = {.name = "octets",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 100,
                                   .limit = {{DIM_BYTES, 50000000, DAY_MS}},
                                   .max_wait_ms = 25 * HOUR_MS,
                                   .recipients_max = 1,
                                   .octets = 50000};

    (void)state;
    check(&w, 100000000);
}

static void
a_pace(void **state)
{
    static const struct world w = {
        .name = "a pace",
        .n_limits = 2,
        .n_members = 1,
        .share_percent = 100,
        .limit = {{DIM_PACE, 20, MINUTE_MS}, {DIM_MESSAGES, 4000, DAY_MS}},
        .max_wait_ms = 90 * MINUTE_MS,
        .is_paced = true,
        .recipients_max = 1};

    (void)state;
    check(&w, 20 * (10 + 90 + 1));
}

/* Half of what was accepted never comes: deleted from the queue, or refused by
 * a filter behind us.  After an hour others have its place. */
static void
what_never_comes_fades(void **state)
{
    static const struct world w = {.name = "lost",
                                   .n_limits = 1,
                                   .n_members = 1,
                                   .share_percent = 100,
                                   .limit = {{DIM_MESSAGES, 2000, DAY_MS}},
                                   .max_wait_ms = 12 * HOUR_MS,
                                   .recipients_max = 1,
                                   .lost_percent = 50};
    unsigned lost = 0, first, more = 0;

    (void)state;
    start(&w);
    burst(&w);
    first = n_messages;
    assert_in_range(first, 1980, 2020);
    for (unsigned i = 0; i < n_messages; i++)
        lost += message[i].where == LOST;
    assert_false(submit(&w));
    for (unsigned i = 0; i < 6 * (HINTS_FADE_MINUTES + 1); i++)
        tick(&w, 10 * 1000);
    while (submit(&w))
        more++;
    assert_in_range(more, lost * 99 / 100, lost * 101 / 100);
    stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_account),
        cmocka_unit_test(a_day_and_no_more),
        cmocka_unit_test(a_pool),
        cmocka_unit_test(windows_in_use),
        cmocka_unit_test(a_pool_in_use),
        cmocka_unit_test(several_recipients),
        cmocka_unit_test(some_are_external),
        cmocka_unit_test(a_share),
        cmocka_unit_test(octets),
        cmocka_unit_test(a_pace),
        cmocka_unit_test(what_never_comes_fades),
    };

    return cmocka_run_group_tests_name("deliver/burst", tests, NULL, NULL);
}
