/* milter/state/admit.c - see admit.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/admit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "policy/pick.h"
#include "policy/window.h"

/* One account, weighed. */
struct weighed {
    bool now;         /* can take the message at once */
    bool waits;       /* can take it within its max_wait */
    bool never;       /* the message exceeds a whole limit */
    uint64_t wait_ms; /* WINDOW_NEVER = nobody knows */
    const char *why;  /* static */
};

/* The token daemon says that no mail can go until a person acts.  What fails is
 * its renewal: a token that has not run out serves on. */
static bool
token_is_dead(const struct admit_env *env, const struct mailbox *m,
              const char **ret_why)
{
    struct token_status s;

    if (m->account->auth != AUTH_REFRESH_TOKEN &&
        m->account->auth != AUTH_SERVICE_ACCOUNT)
        return false;
    if (status_peek(env->status, m->id, &s) != STATE_OK)
        return false; /* the agent asks for the first token */
    if (s.serial != 0 && s.expires_at_s * 1000 > clock_wall_ms(env->clock))
        return false;
    switch (s.state) {
    case TOKEN_NONE:
    case TOKEN_OK:
    case TOKEN_RETRYING:
    case TOKEN_STATES:
        return false;
    case TOKEN_NEEDS_LOGIN:
    case TOKEN_CLIENT_BROKEN:
    case TOKEN_NO_MAILBOX:
    case TOKEN_CONFIG:
        break;
    }
    *ret_why = token_state_name(s.state);
    return true;
}

/* A candidate, and who carries its mail. */
struct carrier {
    const struct mailbox *candidate; /* borrowed from the decision */
    struct mailbox mailbox;
    bool diverted;
};

static struct carrier
carrier_of(const struct admit_env *env, const struct policy *p,
           const struct mailbox *m)
{
    struct carrier c = {.candidate = m, .mailbox = *m};
    char identity[IDENTITY_MAX + 1];

    c.diverted = quota_peek_divert(env->quota, m->id, identity) == STATE_OK &&
                 policy_mailbox(p, identity, &c.mailbox);
    if (!c.diverted)
        c.mailbox = *m;
    return c;
}

static void
add_ahead(const struct admit_env *env, uint64_t id, struct cost *ahead)
{
    struct quota_view view;
    uint32_t minute = (uint32_t)(clock_wall_ms(env->clock) / 60000);
    uint32_t messages = 0, recipients = 0;

    if (quota_peek(env->quota, id, &view) == STATE_OK) {
        ahead->messages += view.waiting_messages;
        ahead->recipients += view.waiting_recipients;
        ahead->external_recipients += view.waiting_external;
    }
    hints_sum(env->hints, id, minute, &messages, &recipients);
    ahead->messages += messages;
    ahead->recipients += recipients;
    ahead->external_recipients += hints_external(env->hints, id, minute);
}

/* What stands before this message: tried and put off, or accepted and not yet
 * tried; of a diverted account also what was accepted before the divert. */
static struct cost
ahead_of(const struct admit_env *env, const struct carrier *c)
{
    struct cost ahead = {0};

    add_ahead(env, c->mailbox.id, &ahead);
    if (c->diverted)
        add_ahead(env, c->candidate->id, &ahead);
    return ahead;
}

/* How large they are is not kept: each is taken to be as large as this
 * one, as they are in a burst.  Were they taken for nothing, any number would
 * fit. */
static void
suppose_sizes(struct cost *ahead, const struct cost *cost)
{
    if (cost->messages > 0)
        ahead->bytes = ahead->messages * (cost->bytes / cost->messages);
}

static enum state_result
forecast(const struct admit_env *env, const struct carrier *carrier,
         const struct cost *cost, unsigned share_percent, struct room *ret,
         uint64_t *ret_now_ms)
{
    const struct mailbox *m = &carrier->mailbox;
    struct cost ahead = ahead_of(env, carrier), once = *cost;
    enum state_result r;

    suppose_sizes(&ahead, cost);
    r = quota_forecast(env->quota, m, cost, &ahead, share_percent, ret,
                       ret_now_ms);

    if (r != STATE_OK || ret->at_ms != WINDOW_NEVER ||
        ret->limiting != DIM_PACE)
        return r;
    /* More transactions than the pace lets go at once go one by one. */
    once.messages = 1;
    return quota_forecast(env->quota, m, &once, &ahead, share_percent, ret,
                          ret_now_ms);
}

static struct weighed
weigh(const struct admit_env *env, const struct carrier *carrier,
      const struct cost *cost, unsigned share_percent)
{
    const struct mailbox *m = &carrier->mailbox;
    struct weighed w = {0};
    struct room room = {0};
    uint64_t now_ms = 0;
    bool dead = token_is_dead(env, m, &w.why);

    if (forecast(env, carrier, cost, share_percent, &room, &now_ms) !=
        STATE_OK) {
        /* No agent since boot, or its memory cannot be read: nothing speaks
         * against the account, and the queue can wait. */
        room = (struct room){.ok = true, .limiting = -1};
        now_ms = 0;
    }
    w.never = room.at_ms == WINDOW_NEVER && room.limiting >= 0;
    w.now = room.ok && !dead;
    w.wait_ms = room.at_ms > now_ms ? room.at_ms - now_ms : 0;
    if (dead || room.at_ms == WINDOW_NEVER)
        w.wait_ms = WINDOW_NEVER;
    w.waits = !w.never && (w.wait_ms == WINDOW_NEVER ||
                           w.wait_ms <= m->account->max_wait_ms);
    if (w.never || (w.why == NULL && !room.ok))
        w.why = room.limiting >= 0
                    ? dimension_name((enum dimension)room.limiting)
                : room.state != ACCOUNT_OK ? account_state_name(room.state)
                                           : "full";
    return w;
}

static void
choose(struct admission *ret, const struct mailbox *m, uint64_t wait_ms)
{
    ret->action = ACTION_ACCOUNT;
    ret->mailbox = *m;
    ret->wait_ms = wait_ms;
}

static void
utc_text(int64_t unix_s, char *ret, size_t size)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL ||
        strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(ret, size, "an unknown time");
}

/* Nothing on the list can take the message. */
static void
refuse(const struct admit_env *env, const struct mailbox *soonest,
       uint64_t soonest_ms, bool all_never, const char *why,
       struct admission *ret)
{
    char when[40];

    if (all_never) {
        ret->action = ACTION_REJECT;
        snprintf(ret->text, sizeof ret->text,
                 "552 5.3.4 Message is larger than the whole sending limit "
                 "(%s) of every account it could go through",
                 why);
    } else if (soonest_ms == WINDOW_NEVER) {
        ret->action = ACTION_DEFER;
        snprintf(ret->text, sizeof ret->text,
                 "451 4.7.1 No account can take this message now (%s)", why);
    } else {
        ret->action = ACTION_DEFER;
        utc_text((clock_wall_ms(env->clock) + (int64_t)soonest_ms) / 1000, when,
                 sizeof when);
        snprintf(ret->text, sizeof ret->text,
                 "451 4.7.1 Sending limit (%s) of %.100s is reached; room "
                 "returns at %s",
                 why, soonest->address, when);
    }
    if (!all_never)
        ret->mailbox = *soonest;
    ret->reply = ret->text;
}

/* ---- the order of a pool's members ---- */

/* How many more messages like this one the account could take now. */
static uint64_t
copies_that_fit(const struct admit_env *env, const struct carrier *carrier,
                const struct cost *cost, unsigned share_percent)
{
    const struct mailbox *m = &carrier->mailbox;
    const struct quota_limits *limits = &m->account->quota;
    struct cost ahead = ahead_of(env, carrier);
    uint64_t least = UINT64_MAX;
    struct quota_view v;
    const char *why;

    suppose_sizes(&ahead, cost);
    if (token_is_dead(env, m, &why))
        return 0;
    if (quota_peek(env->quota, m->id, &v) != STATE_OK) {
        /* Not known to the agent yet: its limits, unspent. */
        v.state = ACCOUNT_OK;
        v.n = limits->n;
        for (unsigned i = 0; i < limits->n; i++) {
            v.window[i].dimension = limits->limit[i].dimension;
            v.window[i].allowed = limits->limit[i].max;
            v.window[i].used = 0;
        }
    }
    if (v.state != ACCOUNT_OK)
        return 0;
    for (unsigned i = 0; i < v.n; i++) {
        enum dimension d = v.window[i].dimension;
        uint64_t limit = window_share(v.window[i].allowed, share_percent);
        uint64_t gone = v.window[i].used + quota_units(&ahead, d);
        uint64_t each = quota_units(cost, d);

        /* The pace is soon over, and says nothing of room. */
        if (each == 0 || d == DIM_PACE)
            continue;
        if (gone >= limit)
            return 0;
        if ((limit - gone) / each < least)
            least = (limit - gone) / each;
    }
    return least;
}

static void
most_room_first(const struct admit_env *env, const struct policy *p,
                const struct decision *d, const struct cost *cost,
                unsigned *order, unsigned n)
{
    unsigned share = d->plan != NULL ? d->plan->share_percent : 100;
    uint64_t room[CANDIDATES_MAX];

    for (unsigned i = 0; i < n; i++) {
        unsigned c = order[i], k = i;
        struct carrier carrier = carrier_of(env, p, &d->candidate[c].mailbox);
        uint64_t copies = copies_that_fit(env, &carrier, cost, share);

        for (; k > 0 && room[k - 1] < copies; k--) {
            room[k] = room[k - 1];
            order[k] = order[k - 1];
        }
        room[k] = copies;
        order[k] = c;
    }
}

static void
next_turn_first(const struct admit_env *env, const struct pool *pool,
                unsigned *order, unsigned n)
{
    uint32_t turn = 0;
    unsigned from = order[0];

    if (env->turns != NULL)
        turn = atomic_fetch_add_explicit(
            &env->turns->turn[pick_seed(slice_of(pool->name)) % ADMIT_TURNS], 1,
            memory_order_relaxed);
    for (unsigned i = 0; i < n; i++)
        order[i] = from + (turn + i) % n;
}

/* The candidates as they are to be tried.  The policy has ordered those pools
 * that need nothing but the message. */
static void
order_candidates(const struct admit_env *env, const struct policy *p,
                 const struct decision *d, const struct cost *cost,
                 unsigned order[CANDIDATES_MAX])
{
    for (unsigned i = 0; i < d->n_candidates; i++)
        order[i] = i;
    for (unsigned i = 0, n; i < d->n_candidates; i += n) {
        const struct pool *pool = d->candidate[i].pool;

        n = 1;
        while (pool != NULL && i + n < d->n_candidates &&
               d->candidate[i + n].pool == pool)
            n++;
        if (n > 1 && pool->pick == PICK_MOST_ROOM)
            most_room_first(env, p, d, cost, &order[i], n);
        else if (n > 1 && pool->pick == PICK_ROUND_ROBIN)
            next_turn_first(env, pool, &order[i], n);
    }
}

/* ---- the walk ---- */

/* Why the first candidate is not who carries it, for the log; `why` NULL: it
 * has room. */
static void
say_why(struct admission *ret, const struct carrier *c, const char *why)
{
    if (c->diverted && why == NULL)
        snprintf(ret->why, sizeof ret->why, "%.60s: diverted to %.60s",
                 c->candidate->address, c->mailbox.address);
    else if (c->diverted)
        snprintf(ret->why, sizeof ret->why, "%.50s, diverted to %.50s: %s",
                 c->candidate->address, c->mailbox.address, why);
    else
        snprintf(ret->why, sizeof ret->why, "%.100s: %s", c->mailbox.address,
                 why);
}

void
admit(const struct admit_env *env, const struct policy *p,
      const struct decision *d, const struct cost *cost, struct admission *ret)
{
    unsigned share = d->plan != NULL ? d->plan->share_percent : 100;
    struct mailbox soonest = {0}, best = {0}; /* account NULL = none */
    uint64_t best_ms = WINDOW_NEVER, soonest_ms = WINDOW_NEVER;
    const char *why = "no account";
    unsigned n_accounts = 0, n_never = 0, order[CANDIDATES_MAX];

    *ret = (struct admission){.action = ACTION_DEFER};
    order_candidates(env, p, d, cost, order);
    for (unsigned i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidate[order[i]];
        struct carrier carrier;
        struct weighed w;

        switch (c->kind) {
        case STEP_ACCOUNT:
            carrier = carrier_of(env, p, &c->mailbox);
            w = weigh(env, &carrier, cost, share);
            if (w.now) {
                if (n_accounts == 0 && carrier.diverted)
                    say_why(ret, &carrier, NULL);
                choose(ret, &carrier.mailbox, 0);
                return;
            }
            n_never += w.never;
            if (n_accounts++ == 0) {
                why = w.why != NULL ? w.why : "full";
                say_why(ret, &carrier, why);
            }
            if (!w.never &&
                (soonest.account == NULL || w.wait_ms < soonest_ms)) {
                soonest = carrier.mailbox;
                soonest_ms = w.wait_ms;
            }
            if (w.waits && (best.account == NULL || w.wait_ms < best_ms)) {
                best = carrier.mailbox;
                best_ms = w.wait_ms;
            }
            break;
        case STEP_WAIT:
            if (best.account != NULL) {
                choose(ret, &best, best_ms);
                return;
            }
            break;
        case STEP_MTA:
            ret->action = ACTION_MTA;
            return;
        case STEP_DEFER:
            if (n_accounts > 0 && n_never == n_accounts)
                break; /* later is no better */
            ret->action = ACTION_DEFER;
            ret->reply = c->reply;
            ret->mailbox = soonest;
            return;
        case STEP_REJECT:
            ret->action = ACTION_REJECT;
            ret->reply = c->reply;
            return;
        case STEP_POOL: /* decide() lists a pool's members one by one */
            break;
        }
    }
    refuse(env, &soonest, soonest_ms, n_accounts > 0 && n_never == n_accounts,
           why, ret);
}
