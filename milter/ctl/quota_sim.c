/* milter/ctl/quota_sim.c - see quota_sim.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/quota_sim.h"

#include <stdlib.h>
#include <string.h>

#include "milter/state/unique.h"
#include "policy/window.h"

enum { BUCKETS = 1 << 14 };

struct waiting { /* one message that waits for room */
    struct waiting *next;
    struct cost cost;
    unsigned share_percent;
    struct recipient_id who[]; /* cost's */
};

struct account_sim {
    struct account_sim *next; /* of its bucket */
    uint64_t id;
    struct quota_sim_account told;
    struct waiting *first, *last;
    uint64_t ahead[DIM_COUNT]; /* the sum of what waits */
    uint64_t newest_ms;
    struct unique *mailed;         /* for limits of different recipients */
    uint64_t swept_ms, longest_ms; /* of those windows; 0 = there is none */
    unsigned n;
    enum dimension dimension[LIMITS_MAX];
    uint64_t max[LIMITS_MAX], window_ms[LIMITS_MAX];
    struct window window[];
};

struct quota_sim {
    size_t n, n_waiting;
    struct unique_cap cap;
    struct account_sim *bucket[BUCKETS];
};

struct quota_sim *
quota_sim_new(void)
{
    struct quota_sim *s = calloc(1, sizeof *s);

    if (s != NULL)
        atomic_init(&s->cap.max, QUOTA_SIM_MAILED_MAX);
    return s;
}

static void
account_free(struct quota_sim *s, struct account_sim *a)
{
    unique_free(a->mailed, &s->cap);
    while (a->first != NULL) {
        struct waiting *next = a->first->next;

        free(a->first);
        a->first = next;
    }
    free(a);
}

void
quota_sim_free(struct quota_sim *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (s->bucket[i] != NULL) {
            struct account_sim *next = s->bucket[i]->next;

            account_free(s, s->bucket[i]);
            s->bucket[i] = next;
        }
    free(s);
}

/* NULL = out of memory, or too many accounts. */
static struct account_sim *
account_of(struct quota_sim *s, const struct mailbox *m)
{
    struct account_sim **at = &s->bucket[m->id % BUCKETS], *a;
    const struct quota_limits *q = &m->account->quota;

    for (a = *at; a != NULL; a = a->next)
        if (a->id == m->id)
            return a;
    if (s->n == QUOTA_SIM_ACCOUNTS_MAX)
        return NULL;
    a = calloc(1, sizeof *a + q->n * sizeof a->window[0]);
    if (a == NULL)
        return NULL;
    a->id = m->id;
    strcpy(a->told.address, m->address);
    a->n = q->n;
    for (unsigned i = 0; i < q->n; i++) {
        a->dimension[i] = q->limit[i].dimension;
        a->max[i] = q->limit[i].max;
        a->window_ms[i] = q->limit[i].window_ms;
        window_init(&a->window[i], a->max[i], a->window_ms[i]);
        if (dimension_is_unique(a->dimension[i]) &&
            a->window_ms[i] > a->longest_ms)
            a->longest_ms = a->window_ms[i];
    }
    a->next = *at;
    *at = a;
    s->n++;
    return a;
}

/* A share is of every limit but pace, as the agent has it. */
static unsigned
share_of(const struct account_sim *a, unsigned i, unsigned share_percent)
{
    return a->dimension[i] == DIM_PACE ? 100 : share_percent;
}

static uint64_t
allowed(const struct account_sim *a, unsigned i, unsigned share_percent)
{
    unsigned share = share_of(a, i, share_percent);

    return a->max[i] / 100 * share + a->max[i] % 100 * share / 100;
}

static bool
counts(enum dimension d, bool external)
{
    return d == DIM_UNIQUE_RECIPIENTS || external;
}

/* As the agent has it: of different recipients, without those of c that count
 * already. */
static struct window
window_for(const struct account_sim *a, unsigned i, const struct cost *c)
{
    struct window w = a->window[i];
    uint64_t at_ms;

    for (uint32_t k = 0; dimension_is_unique(a->dimension[i]) && k < c->n_who;
         k++)
        if (counts(a->dimension[i], c->who[k].external) &&
            unique_latest(a->mailed, c->who[k].hash, &at_ms))
            window_give_back(&w, window_bucket_of(a->window_ms[i], at_ms), 1);
    return w;
}

/* When one window has room for n behind what waits; 0 = now.  What waits may
 * fill it several times over. */
static uint64_t
window_free_at(const struct account_sim *a, unsigned i, const struct cost *c,
               uint64_t now_ms, uint64_t ahead, unsigned share_percent)
{
    uint64_t n = quota_units(c, a->dimension[i]);
    struct window w = window_for(a, i, c);
    uint64_t max = allowed(a, i, share_percent);
    uint64_t rounds, at;

    if (n == 0)
        return 0;
    if (n > max || max == 0)
        return WINDOW_NEVER;
    rounds = (ahead + n - 1) / max;
    at = window_room_at(&w, now_ms, ahead + n - rounds * max,
                        share_of(a, i, share_percent));
    if (rounds == 0)
        return at <= now_ms ? 0 : at;
    return at + rounds * a->window_ms[i];
}

/* When all windows have; *ret_limit: the one that takes longest. */
static uint64_t
free_at(const struct account_sim *a, uint64_t now_ms, const struct cost *c,
        const uint64_t *ahead, unsigned share_percent,
        enum dimension *ret_limit)
{
    uint64_t latest = 0;

    for (unsigned i = 0; i < a->n; i++) {
        enum dimension d = a->dimension[i];
        uint64_t at = window_free_at(a, i, c, now_ms, ahead[d], share_percent);

        if (at > latest) {
            latest = at;
            *ret_limit = d;
        }
    }
    return latest;
}

/* Counts a recipient at now_ms, and no longer when it was mailed before. */
static void
spend_recipient(struct quota_sim *s, struct account_sim *a, uint64_t now_ms,
                const struct recipient_id *r)
{
    uint64_t was_ms = 0;
    bool known = unique_latest(a->mailed, r->hash, &was_ms);

    unique_add(&a->mailed, &s->cap, r->hash, r->external, now_ms);
    for (unsigned i = 0; i < a->n; i++) {
        if (!dimension_is_unique(a->dimension[i]) ||
            !counts(a->dimension[i], r->external))
            continue;
        if (known)
            window_give_back(&a->window[i],
                             window_bucket_of(a->window_ms[i], was_ms), 1);
        window_spend(&a->window[i], now_ms, 1);
    }
}

static void
spend(struct quota_sim *s, struct account_sim *a, uint64_t now_ms,
      const struct cost *c)
{
    if (now_ms < a->newest_ms)
        now_ms = a->newest_ms;
    for (unsigned i = 0; i < a->n; i++)
        if (!dimension_is_unique(a->dimension[i]) || c->who == NULL)
            window_spend(&a->window[i], now_ms,
                         quota_units(c, a->dimension[i]));
    for (uint32_t i = 0; i < c->n_who && a->longest_ms > 0; i++)
        spend_recipient(s, a, now_ms, &c->who[i]);
    if (now_ms > a->swept_ms + 2 * a->longest_ms) {
        unique_sweep(&a->mailed, &s->cap, now_ms - 2 * a->longest_ms);
        a->swept_ms = now_ms;
    }
    a->told.messages += c->messages;
    a->told.recipients += c->recipients;
    a->told.octets += c->bytes;
}

/* Goes on to now_ms: what waits and has had room by then was sent at the
 * moment when it had. */
static void
advance(struct quota_sim *s, struct account_sim *a, uint64_t now_ms)
{
    static const uint64_t nothing[DIM_COUNT];

    while (a->first != NULL) {
        struct waiting *w = a->first;
        enum dimension limit;
        uint64_t at = free_at(a, a->newest_ms, &w->cost, nothing,
                              w->share_percent, &limit);

        if (at == 0)
            at = a->newest_ms;
        if (at > now_ms)
            break;
        spend(s, a, at, &w->cost);
        a->newest_ms = at;
        for (unsigned d = 0; d < DIM_COUNT; d++)
            a->ahead[d] -= quota_units(&w->cost, (enum dimension)d);
        a->first = w->next;
        if (a->first == NULL)
            a->last = NULL;
        s->n_waiting--;
        free(w);
    }
    if (now_ms > a->newest_ms)
        a->newest_ms = now_ms;
}

uint64_t
quota_sim_wait_ms(struct quota_sim *s, const struct mailbox *m, uint64_t now_ms,
                  const struct cost *c, unsigned share_percent)
{
    struct account_sim *a = account_of(s, m);
    enum dimension limit = DIM_MESSAGES;
    uint64_t at;

    if (a == NULL)
        return 0;
    advance(s, a, now_ms);
    at = free_at(a, a->newest_ms, c, a->ahead, share_percent, &limit);
    if (at == 0)
        return 0;
    if (a->told.over++ == 0) {
        a->told.first_full_ms = a->newest_ms;
        a->told.room_at_ms = at;
        a->told.first_limit = limit;
    }
    return at == WINDOW_NEVER ? at : at - a->newest_ms;
}

uint64_t
quota_sim_room(struct quota_sim *s, const struct mailbox *m, uint64_t now_ms,
               const struct cost *c, unsigned share_percent)
{
    struct account_sim *a = account_of(s, m);
    uint64_t least = UINT64_MAX;

    if (a == NULL)
        return least;
    advance(s, a, now_ms);
    for (unsigned i = 0; i < a->n; i++) {
        uint64_t max = allowed(a, i, share_percent), n, used;

        n = quota_units(c, a->dimension[i]);
        used = window_used(&a->window[i], a->newest_ms) +
               a->ahead[a->dimension[i]];
        if (n > 0 && (used >= max ? 0 : (max - used) / n) < least)
            least = used >= max ? 0 : (max - used) / n;
    }
    return least;
}

bool
quota_sim_send(struct quota_sim *s, const struct mailbox *m, uint64_t now_ms,
               const struct cost *c, unsigned share_percent, uint64_t wait_ms)
{
    struct account_sim *a = account_of(s, m);
    struct waiting *w;

    if (a == NULL)
        return true; /* nothing is kept of this one */
    if (wait_ms == 0) {
        spend(s, a, now_ms, c);
        return true;
    }
    w = s->n_waiting < QUOTA_SIM_WAITING_MAX
            ? malloc(sizeof *w + c->n_who * sizeof w->who[0])
            : NULL;
    if (w == NULL)
        return false;
    w->next = NULL;
    w->cost = *c;
    w->share_percent = share_percent;
    if (c->who != NULL) {
        memcpy(w->who, c->who, c->n_who * sizeof w->who[0]);
        w->cost.who = w->who;
    }
    *(a->last != NULL ? &a->last->next : &a->first) = w;
    a->last = w;
    s->n_waiting++;
    for (unsigned d = 0; d < DIM_COUNT; d++)
        a->ahead[d] += quota_units(c, (enum dimension)d);
    a->told.waited += c->messages;
    if (wait_ms > a->told.wait_longest_ms)
        a->told.wait_longest_ms = wait_ms;
    return true;
}

static int
by_messages(const void *x, const void *y)
{
    const struct quota_sim_account *a = *(struct quota_sim_account *const *)x;
    const struct quota_sim_account *b = *(struct quota_sim_account *const *)y;

    if (a->messages != b->messages)
        return a->messages > b->messages ? -1 : 1;
    return strcmp(a->address, b->address);
}

const struct quota_sim_account **
quota_sim_accounts(struct quota_sim *s, size_t *ret_n)
{
    const struct quota_sim_account **list =
        calloc(s->n + 1, sizeof(struct quota_sim_account *));
    size_t n = 0;

    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct account_sim *a = s->bucket[i]; a != NULL; a = a->next) {
            advance(s, a, UINT64_MAX >> 8); /* all that waits goes, one day */
            list[n++] = &a->told;
        }
    qsort(list, n, sizeof(struct quota_sim_account *), by_messages);
    *ret_n = n;
    return list;
}
