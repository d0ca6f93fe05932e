/* milter/ctl/replay_decide.c - one message of a log through policy and
 * limits.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Limits are simulated in admission's order: an account that has room now is
 * taken; at `wait` the one that has room soonest within its max_wait is
 * waited for; after the last entry the message is deferred, or rejected when
 * it is larger than the whole limit of every account.  Tokens and states of
 * accounts are taken for good.
 */
#include <stdio.h>
#include <stdlib.h>

#include "milter/ctl/replay.h"
#include "policy/address.h"
#include "policy/window.h"

enum {
    OPEN_MAX = 1000000,     /* messages */
    OPEN_OCTETS = 1u << 30, /* of all of them */
    TRANSACTION_MAX = 100,  /* RCPT commands: Google */
    PLACE = 600,
    RECIPIENT_MAX = 1024, /* octets of a canonical address */
};

/* The recipients of a message that one plan routes. */
struct group {
    struct group *next;
    struct cost cost;
    struct recipient_id *who; /* cost's */
    enum action action;
    const char *account; /* ACCOUNT: its name */
    struct decision decision;
};

/* ---- facts ---- */

static void
facts_of(const struct replay *r, const struct open_message *m,
         struct facts_pair *header, struct facts *ret)
{
    *ret = (struct facts){.stage = FACTS_LOG,
                          .now_s = m->at_s,
                          .local = m->local,
                          .client = m->client,
                          .auth = slice_of(m->auth),
                          .sender = slice_of(m->sender),
                          .size_octets = m->size_octets,
                          .n_recipients = (size_t)m->n_recipients};
    ret->client.name = slice_of(m->client_name);
    if (r->from_ledger) /* trust let it in, and the ledger knows no login */
        ret->auth = ret->sender;
    if (m->message_id == NULL)
        return;
    *header =
        (struct facts_pair){SLICE_LIT("Message-ID"), slice_of(m->message_id)};
    ret->header = header;
    ret->n_headers = 1;
}

/* ---- limits ---- */

static uint64_t
now_ms(const struct open_message *m)
{
    return m->at_s > 0 ? (uint64_t)m->at_s * 1000 : 0;
}

/* Transactions that the group takes, by the first account on its list. */
static void
complete_cost(const struct open_message *m, struct group *g)
{
    const struct candidate *c = &g->decision.candidate[0];
    uint32_t most = TRANSACTION_MAX;

    if (g->decision.n_candidates > 0 && c->kind == STEP_ACCOUNT &&
        c->mailbox.account->quota.recipients_per_message > 0 &&
        c->mailbox.account->quota.recipients_per_message < most)
        most = c->mailbox.account->quota.recipients_per_message;
    g->cost.messages = (g->cost.recipients + most - 1) / most;
    if (__builtin_mul_overflow(m->size_octets, g->cost.messages,
                               &g->cost.bytes))
        g->cost.bytes = UINT64_MAX / 2;
    g->cost.n_who = recipient_ids_sort(g->who, g->cost.recipients);
    g->cost.who = g->who;
}

static void
send_by(struct replay *r, const struct open_message *m, struct group *g,
        const struct mailbox *by, uint64_t wait_ms)
{
    unsigned share = g->decision.plan->share_percent;

    g->action = ACTION_ACCOUNT;
    g->account = by->account->name;
    if (!quota_sim_send(r->sim, by, now_ms(m), &g->cost, share, wait_ms))
        g->action = ACTION_DEFER;
}

/* Those of most_room pools by their room, most first. */
static void
most_room_first(struct replay *r, const struct open_message *m,
                const struct group *g, unsigned *order, unsigned n)
{
    const struct decision *d = &g->decision;
    uint64_t room[CANDIDATES_MAX];

    for (unsigned i = 0; i < n; i++) {
        unsigned c = order[i], k = i;
        uint64_t mine =
            quota_sim_room(r->sim, &d->candidate[c].mailbox, now_ms(m),
                           &g->cost, d->plan->share_percent);

        for (; k > 0 && room[k - 1] < mine; k--) {
            room[k] = room[k - 1];
            order[k] = order[k - 1];
        }
        room[k] = mine;
        order[k] = c;
    }
}

/* As admission orders them; pools that pick by sender or weight come in their
 * order from decide(). */
static void
order_candidates(struct replay *r, const struct open_message *m,
                 const struct group *g, unsigned order[CANDIDATES_MAX])
{
    const struct decision *d = &g->decision;
    unsigned n;

    for (unsigned i = 0; i < d->n_candidates; i += n) {
        const struct pool *pool = d->candidate[i].pool;

        order[i] = i;
        for (n = 1; pool != NULL && i + n < d->n_candidates &&
                    d->candidate[i + n].pool == pool;
             n++)
            order[i + n] = i + n;
        if (n > 1 && pool->pick == PICK_MOST_ROOM)
            most_room_first(r, m, g, &order[i], n);
        if (n > 1 && pool->pick == PICK_ROUND_ROBIN) {
            for (unsigned k = 0; k < n; k++)
                order[i + k] = i + (r->turn + k) % n;
            r->turn++;
        }
    }
}

static void
admit_group(struct replay *r, const struct open_message *m, struct group *g)
{
    const struct decision *d = &g->decision;
    const struct mailbox *best = NULL;
    uint64_t best_ms = WINDOW_NEVER;
    unsigned n = 0, n_never = 0, order[CANDIDATES_MAX];

    complete_cost(m, g);
    order_candidates(r, m, g, order);
    for (unsigned i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidate[order[i]];
        uint64_t wait_ms;

        switch (c->kind) {
        case STEP_ACCOUNT:
            wait_ms = quota_sim_wait_ms(r->sim, &c->mailbox, now_ms(m),
                                        &g->cost, d->plan->share_percent);
            if (wait_ms == 0) {
                send_by(r, m, g, &c->mailbox, 0);
                return;
            }
            n++;
            n_never += wait_ms == WINDOW_NEVER;
            if (wait_ms < best_ms &&
                wait_ms <= c->mailbox.account->max_wait_ms) {
                best = &c->mailbox;
                best_ms = wait_ms;
            }
            break;
        case STEP_WAIT:
            if (best != NULL) {
                send_by(r, m, g, best, best_ms);
                return;
            }
            break;
        case STEP_MTA:
            g->action = ACTION_MTA;
            return;
        case STEP_DEFER:
            if (n > 0 && n == n_never)
                break; /* later is no better */
            g->action = ACTION_DEFER;
            return;
        case STEP_REJECT:
            g->action = ACTION_REJECT;
            return;
        case STEP_POOL: /* decide() lists a pool's members one by one */
            break;
        }
    }
    g->action = n > 0 && n == n_never ? ACTION_REJECT : ACTION_DEFER;
}

/* ---- counting ---- */

static void
count(struct replay *r, struct tally *t, const char *name, const char *detail)
{
    if (!tally_add(t, name, detail, 1))
        r->nomem = true;
}

static void
count_rule(struct replay *r, struct tally *t)
{
    const struct decision *d = &r->decision;
    char place[PLACE] = "";

    if (d->at.line > 0)
        snprintf(place, sizeof place, "%s:%u:%u", d->at.file, d->at.line,
                 d->at.col);
    count(r, t, d->rule != NULL ? d->rule : "default", place);
}

static void
count_end(struct replay *r, const struct open_recipient *to, enum action action,
          const char *account)
{
    const char *now = action == ACTION_ACCOUNT ? account : action_name(action);

    r->action[action]++;
    if (action == ACTION_ACCOUNT)
        count(r, r->accounts, account, NULL);
    if (action != ACTION_UNKNOWN && strcmp(to->went, now) != 0)
        count(r, r->changes, to->went, now);
}

/* ---- one message ---- */

/* n: recipients that it may come to. */
static struct group *
group_of(struct replay *r, struct group **groups, size_t n)
{
    struct group *g;

    for (g = *groups; g != NULL; g = g->next)
        if (g->decision.plan == r->decision.plan)
            return g;
    g = calloc(1, sizeof *g);
    if (g != NULL)
        g->who = calloc(n, sizeof *g->who);
    if (g == NULL || g->who == NULL) {
        free(g);
        r->nomem = true;
        return NULL;
    }
    g->decision = r->decision;
    g->next = *groups;
    *groups = g;
    return g;
}

static struct recipient_id
who_is(const struct replay *r, const char *address)
{
    char canonical[RECIPIENT_MAX];
    struct address a;
    bool good =
        address_canonical(slice_of(address), canonical, sizeof canonical) > 0 &&
        address_parse(slice_of(address), &a);

    return (struct recipient_id){
        recipient_hash(good ? canonical : address),
        !good || !policy_is_internal_domain(r->policy, a.domain)};
}

static void
decide_one(struct replay *r, const struct facts *f, struct open_recipient *to,
           struct group **groups, struct group **ret_group, size_t n)
{
    struct decision *d = &r->decision;
    struct recipient_id id;

    if (decide(r->policy, f, slice_of(to->address), r->scratch, d, NULL) !=
        DECIDE_OK) {
        r->nomem = true;
        return;
    }
    r->n_recipients++;
    if (d->action == ACTION_UNKNOWN) {
        count_rule(r, r->unknown);
        count_end(r, to, ACTION_UNKNOWN, NULL);
        return;
    }
    count_rule(r, r->rules);
    if (d->action != ACTION_ACCOUNT) {
        count_end(r, to, d->action, NULL);
        return;
    }
    *ret_group = group_of(r, groups, n);
    if (*ret_group == NULL)
        return;
    id = who_is(r, to->address);
    (*ret_group)->who[(*ret_group)->cost.recipients++] = id;
    (*ret_group)->cost.external_recipients += id.external;
}

static bool
is_wanted(struct replay *r, const struct open_message *m, bool first_time)
{
    if (m->at_s < r->since_s || m->at_s >= r->until_s) {
        r->n_outside += first_time;
        return false;
    }
    if (m->again) {
        r->n_again += first_time;
        return false;
    }
    if (!m->began || !m->queued) {
        r->n_headless += first_time;
        return false;
    }
    return true;
}

static void
settle(struct replay *r, struct open_message *m, bool first_time)
{
    struct group *groups = NULL,
                 **of = calloc(m->n + 1, sizeof(struct group *));
    struct facts_pair header;
    struct facts f;
    size_t i = 0;

    facts_of(r, m, &header, &f);
    scratch_reset(r->scratch);
    r->nomem |= of == NULL;
    for (struct open_recipient *to = m->first; to != NULL && !r->nomem;
         to = to->next, i++)
        if (!to->decided)
            decide_one(r, &f, to, &groups, &of[i], m->n);
    for (struct group *g = groups; g != NULL; g = g->next)
        admit_group(r, m, g);
    i = 0;
    for (struct open_recipient *to = m->first; to != NULL && !r->nomem;
         to = to->next, i++) {
        to->decided = true;
        if (of[i] != NULL)
            count_end(r, to, of[i]->action, of[i]->account);
    }
    r->n_messages += first_time;
    if (r->first_s == 0 || m->at_s < r->first_s)
        r->first_s = m->at_s;
    if (m->at_s > r->last_s)
        r->last_s = m->at_s;
    while (groups != NULL) {
        struct group *next = groups->next;

        free(groups->who);
        free(groups);
        groups = next;
    }
    free(of);
}

void
replay_settle(struct replay *r, struct open_message *m)
{
    bool any = false, first_time = true;

    for (const struct open_recipient *to = m->first; to != NULL;
         to = to->next) {
        any = any || !to->decided;
        first_time = first_time && !to->decided;
    }
    if (!any)
        return;
    if (is_wanted(r, m, first_time)) {
        settle(r, m, first_time);
        return;
    }
    for (struct open_recipient *to = m->first; to != NULL; to = to->next)
        to->decided = true;
}

void
replay_end(struct replay *r, struct open_message *m)
{
    replay_settle(r, m);
    if (r->unsettled == m)
        r->unsettled = m->newer;
    open_messages_remove(r->open, m);
}

struct open_message *
replay_open(struct replay *r, struct slice id, int64_t at_s)
{
    struct open_message *m = open_messages_find(r->open, id);

    if (m != NULL)
        return m;
    while (open_messages_count(r->open) >= OPEN_MAX ||
           open_messages_octets(r->open) > OPEN_OCTETS) {
        replay_end(r, open_messages_oldest(r->open));
        r->n_dropped++;
    }
    m = open_messages_add(r->open, id, at_s);
    r->nomem |= m == NULL;
    return m;
}
