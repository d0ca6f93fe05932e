/* milter/deliver/relay_account.c - whose account sends it: the tag's own, or
 * the next candidate when that one is full or unusable.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/relay_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "milter/base/log.h"
#include "policy/window.h"

struct mailbox
relay_carrier(const struct relay *r, const struct mailbox *m)
{
    char identity[IDENTITY_MAX + 1];
    struct mailbox other;

    return quota_divert(r->env->quota, m->id, identity) &&
                   policy_mailbox(r->conf->policy, identity, &other)
               ? other
               : *m;
}

bool
relay_is_diverted(const struct group *g, const struct rcpt *c)
{
    return g->mailbox.id == g->own.id && c->mailbox.id != g->own.id;
}

struct cost
relay_cost(const struct group *g, uint64_t octets, struct recipient_id *who)
{
    struct cost c = {.messages = 1, .bytes = octets, .who = who};
    uint32_t most = g->mailbox.account->quota.recipients_per_message;

    for (size_t i = 0; i < g->n; i++) {
        if (g->rcpt[i]->done || g->rcpt[i]->sent_before)
            continue;
        if (c.recipients == most)
            break; /* the rest is another transaction */
        who[c.recipients++] = g->rcpt[i]->id;
        c.external_recipients += g->rcpt[i]->id.external;
    }
    c.n_who = recipient_ids_sort(who, c.recipients);
    return c;
}

/* The limits that the open recipients of g take from.  Whether they are new to
 * the account is not asked: who lacks room for new ones finds out. */
static unsigned
needs(const struct group *g)
{
    unsigned all = (1u << DIM_COUNT) - 1;
    bool external = false;

    for (size_t i = 0; i < g->n; i++)
        external |= !g->rcpt[i]->done && g->rcpt[i]->id.external;
    if (!external)
        all &= ~(1u << DIM_EXTERNAL_RECIPIENTS);
    for (int d = 0; d < DIM_COUNT; d++)
        if (dimension_is_unique((enum dimension)d) && d != g->waits_for)
            all &= ~(1u << d);
    return all;
}

static struct place
place_of(const struct group *g)
{
    return (struct place){.account = g->own.id,
                          .ticket = g->ticket,
                          .minute = g->minute,
                          .share_percent = g->share_percent,
                          .waits_for = g->waits_for,
                          .needs = needs(g)};
}

void
relay_leave_line(struct relay *r, struct group *g)
{
    struct place p = place_of(g);

    if (g->in_line)
        attempts_leave(r->env->attempts, &p);
    g->in_line = false;
}

void
relay_drop_session(struct relay *r, struct group *g)
{
    relay_leave_line(r, g);
    if (g->session != NULL)
        pool_return(r->env->pool, g->session, g->session_usable);
    g->session = NULL;
}

static void
time_text(const struct relay *r, uint64_t quota_ms, char *ret, size_t size)
{
    uint64_t now_ms = quota_now_ms(r->env->quota);
    uint64_t wait_ms = quota_ms > now_ms ? quota_ms - now_ms : 0;
    time_t at =
        (time_t)((clock_wall_ms(r->env->clock) + (int64_t)wait_ms) / 1000);
    struct tm tm;

    if (gmtime_r(&at, &tm) == NULL ||
        strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(ret, size, "an unknown time");
}

/* No room: remembers why, for the answer. */
static void
refuse_full(struct relay *r, struct group *g, const struct room *room)
{
    char when[40];

    g->refusal = (struct verdict){
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT, .meaning = "no room"};
    g->refusal_reply = (struct reply){0};
    g->refusal_stage = STAGE_CONNECT;
    if (room->state != ACCOUNT_OK && room->at_ms == WINDOW_NEVER) {
        snprintf(g->refusal_text, sizeof g->refusal_text,
                 "451 4.7.1 Account %.80s is %s", g->mailbox.address,
                 account_state_name(room->state));
        return;
    }
    if (room->at_ms == WINDOW_NEVER) {
        snprintf(g->refusal_text, sizeof g->refusal_text,
                 "451 4.7.1 Message exceeds the whole limit (%s) of account "
                 "%.80s",
                 room->limiting >= 0
                     ? dimension_name((enum dimension)room->limiting)
                     : "quota",
                 g->mailbox.address);
        return;
    }
    time_text(r, room->at_ms, when, sizeof when);
    if (room->state != ACCOUNT_OK)
        snprintf(g->refusal_text, sizeof g->refusal_text,
                 "451 4.7.1 Account %.80s is %s until %s", g->mailbox.address,
                 account_state_name(room->state), when);
    else
        snprintf(g->refusal_text, sizeof g->refusal_text,
                 "451 4.7.1 Sending limit (%s) of account %.80s is reached; "
                 "room returns at %s",
                 room->limiting >= 0
                     ? dimension_name((enum dimension)room->limiting)
                     : "quota",
                 g->mailbox.address, when);
}

/* Room, then a session, for g->mailbox.  *ret_at_ms: quota time when room
 * returns, WINDOW_NEVER = waiting for it is no use. */
static bool
try_account(struct relay *r, struct group *g, uint64_t deadline_ms,
            uint64_t *ret_at_ms)
{
    struct cost cost = relay_cost(g, message_size(r->message), g->who);
    struct room room = {0};
    struct lease lease;
    bool fits;

    *ret_at_ms = WINDOW_NEVER;
    if (quota_open(r->env->quota, &g->mailbox) != STATE_OK) {
        g->refusal = (struct verdict){.kind = OUTCOME_DEFERRED,
                                      .scope = SCOPE_ACCOUNT,
                                      .meaning = "no slot"};
        snprintf(g->refusal_text, sizeof g->refusal_text,
                 "451 4.3.0 No memory slot for account %.80s: raise "
                 "state.accounts",
                 g->mailbox.address);
        return false;
    }
    fits = quota_fits(r->env->quota, g->mailbox.id, &cost, g->share_percent,
                      &room);
    if (g->mailbox.id == g->own.id)
        g->waits_for = fits ? -1 : room.limiting;
    if (!fits) {
        refuse_full(r, g, &room);
        *ret_at_ms = room.at_ms;
        return false;
    }
    lease = pool_lease(r->env->pool, &g->mailbox, deadline_ms, false);
    if (lease.session == NULL) {
        g->refusal = lease.verdict;
        g->refusal_reply = lease.reply;
        g->refusal_stage = lease.stage;
        g->refusal_text[0] = 0; /* the reply says it */
        relay_apply_effect(r, &g->mailbox, &lease.verdict, &lease.reply);
        return false;
    }
    g->session = lease.session;
    g->session_usable = true;
    return true;
}

/* Waits until quota time at_ms, and until nobody is before g in line; at most
 * until the deadline (boot clock).  False: it would be too long. */
static bool
wait_until(const struct relay *r, const struct group *g, uint64_t at_ms,
           uint64_t deadline_ms)
{
    enum {
        SLICE_MS = 200, /* how soon the end of the process is noticed */
        TURN_MS = 5,    /* how soon the next in line moves up */
    };
    struct place p = place_of(g);

    at_ms++; /* several wait for the same instant: never before it */
    while (!atomic_load(&r->env->stopping)) {
        uint64_t now_ms = quota_now_ms(r->env->quota), wait_ms = TURN_MS;
        struct timespec t = {0};

        if (now_ms < at_ms)
            wait_ms = at_ms - now_ms;
        else if (!attempts_is_behind(r->env->attempts, &p))
            return true;
        if (clock_boot_ms(r->env->clock) + wait_ms > deadline_ms)
            return false;
        t.tv_nsec = (long)(wait_ms < SLICE_MS ? wait_ms : SLICE_MS) * 1000000;
        clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL);
    }
    return false;
}

/* The same, if the line of those who wait for this account is not too long
 * already.  g keeps its place until it has taken its room. */
static bool
wait_for_room(struct relay *r, struct group *g, uint64_t at_ms,
              uint64_t deadline_ms)
{
    struct place p = place_of(g);

    if (at_ms == WINDOW_NEVER)
        return false;
    g->in_line = attempts_line_up(r->env->attempts, &p);
    return g->in_line && wait_until(r, g, at_ms, deadline_ms);
}

/* The tag's own account, unless others wait for its room longer. */
static bool
try_own_account(struct relay *r, struct group *g, uint64_t deadline_ms,
                uint64_t *ret_at_ms)
{
    struct place p = place_of(g);

    g->mailbox = g->own;
    if (!attempts_is_behind(r->env->attempts, &p))
        return try_account(r, g, deadline_ms, ret_at_ms);
    g->refusal = (struct verdict){.kind = OUTCOME_DEFERRED,
                                  .scope = SCOPE_ACCOUNT,
                                  .meaning = "older mail waits"};
    g->refusal_reply = (struct reply){0};
    g->refusal_stage = STAGE_CONNECT;
    snprintf(g->refusal_text, sizeof g->refusal_text,
             "451 4.7.1 Older mail waits for room of account %.80s",
             g->mailbox.address);
    *ret_at_ms = quota_now_ms(r->env->quota);
    return false;
}

static bool
find_session(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t at_ms, soonest_ms = WINDOW_NEVER;

        if (try_own_account(r, g, deadline_ms, &at_ms))
            return true;
        soonest_ms = at_ms;
        for (g->tried_others = 0; g->tried_others < g->n_others;) {
            struct verdict first = g->refusal;
            char text[sizeof g->refusal_text];

            memcpy(text, g->refusal_text, sizeof text);
            g->mailbox = g->other[g->tried_others++];
            if (try_account(r, g, deadline_ms, &at_ms))
                return true;
            if (at_ms < soonest_ms)
                soonest_ms = at_ms;
            /* The answer speaks of the account the message was meant for. */
            g->refusal = first;
            memcpy(g->refusal_text, text, sizeof text);
        }
        g->mailbox = g->own;
        if (!wait_for_room(r, g, soonest_ms, deadline_ms))
            return false;
    }
}

bool
relay_find_session(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    bool found = find_session(r, g, deadline_ms);

    /* Who waits for another account's session meanwhile holds nobody up. */
    if (!found || r->n_groups > 1)
        relay_leave_line(r, g);
    return found;
}

bool
relay_exchange(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    uint64_t at_ms;

    relay_drop_session(r, g);
    while (g->tried_others < g->n_others) {
        g->mailbox = g->other[g->tried_others++];
        if (try_account(r, g, deadline_ms, &at_ms))
            return true;
    }
    return false;
}

/* ---- what replies do to an account ---- */

static void
log_observation(const struct mailbox *m, const struct observation *o,
                bool lifted)
{
    for (unsigned i = 0; i < o->n; i++) {
        struct log_line l = log_line(lifted ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);

        log_kv(&l, "account", m->address);
        log_kv(&l, lifted ? "disproved" : "observed",
               dimension_name(o->window[i].dimension));
        log_kv_u64(&l, "window_s", o->window[i].window_ms / 1000);
        log_kv_u64(&l, "allowed", o->window[i].used);
        log_kv_u64(&l, "limit", o->window[i].limit);
        log_end(&l);
    }
}

/* Gmail's limit was reached: what it allowed is remembered. */
static uint64_t
note_full(struct relay *r, const struct mailbox *m, const char *identity,
          uint64_t first_ms, const char *reason)
{
    struct observation o;
    uint64_t until_ms = quota_full(r->env->quota, m->id, first_ms, reason, &o);

    if (o.n > 0)
        ledger_observe(r->env->ledger, identity, &o, false);
    log_observation(m, &o, false);
    return until_ms;
}

void
relay_apply_effect(struct relay *r, const struct mailbox *m,
                   const struct verdict *v, const struct reply *reply)
{
    /* Out of service until somebody acts; tried again hourly, so that an
     * account that was mended outside comes back by itself. */
    static const uint64_t disabled_ms = 3600 * 1000;
    bool cools = v->effect == EFFECT_COOL;
    enum account_state state = cools ? ACCOUNT_COOLING : ACCOUNT_DISABLED;
    uint64_t now_ms = quota_now_ms(r->env->quota), until_ms;
    char identity[IDENTITY_MAX + 1], reason[120];
    struct log_line l;

    if (v->effect != EFFECT_COOL && v->effect != EFFECT_DISABLE)
        return;
    relay_rest_others(r, m, v);
    mailbox_identity(m->address, m->account->smarthost->name, identity);
    snprintf(reason, sizeof reason, "%s", v->meaning);
    if (reply->code != 0)
        snprintf(reason, sizeof reason, "%s: %u %u.%u.%u %.80s", v->meaning,
                 reply->code, reply->enhanced.klass, reply->enhanced.subject,
                 reply->enhanced.detail, reply->text);
    until_ms = now_ms + disabled_ms;
    if (v->daily)
        until_ms = note_full(r, m, identity, v->cool_ms, reason);
    else if (cools)
        until_ms = quota_rest(r->env->quota, m->id, v->cool_ms, reason);
    else if (!quota_set_state(r->env->quota, m->id, state, until_ms, reason))
        until_ms = 0;
    if (until_ms == 0)
        return;
    ledger_set_state(r->env->ledger, identity, m->id, state, until_ms, reason,
                     quota_rests(r->env->quota, m->id));
    l = log_line(LOG_LEVEL_WARN);
    log_kv(&l, "queue", r->queue_id);
    log_kv(&l, "account", m->address);
    log_kv(&l, "state", account_state_name(state));
    log_kv_u64(&l, "for_s", (until_ms - now_ms) / 1000);
    log_kv(&l, "reason", reason);
    log_end(&l);
}

void
relay_suspect(struct relay *r, const struct mailbox *m,
              const struct reply *reply)
{
    struct verdict v = outcome_suspected();

    if (suspects_again(r->env->suspects, m->id, quota_now_ms(r->env->quota)))
        relay_apply_effect(r, m, &v, reply);
}

void
relay_accepted(struct relay *r, const struct mailbox *m)
{
    char identity[IDENTITY_MAX + 1];
    struct observation lifted;

    if (quota_accepted(r->env->quota, m->id, &lifted))
        ledger_rested(r->env->ledger, m->id, lifted.at_ms);
    if (lifted.n == 0)
        return;
    mailbox_identity(m->address, m->account->smarthost->name, identity);
    ledger_observe(r->env->ledger, identity, &lifted, true);
    log_observation(m, &lifted, true);
}
