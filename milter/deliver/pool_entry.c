/* milter/deliver/pool_entry.c - see pool_entry.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/pool_entry.h"

#include <stdlib.h>
#include <time.h>

#include "milter/deliver/pool_private.h"

enum {
    WAIT_SLICE_MS = 1000, /* a clock that jumps is noticed after this */
    GROW_MS = 300 * 1000, /* a halved limit grows by one */
    BURST_MS = 60 * 1000, /* replies to what was under way at the halving */
};

bool
entry_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t a;
    bool ok;

    if (pthread_condattr_init(&a) != 0)
        return false;
    ok = pthread_condattr_setclock(&a, CLOCK_MONOTONIC) == 0 &&
         pthread_cond_init(c, &a) == 0;
    pthread_condattr_destroy(&a);
    return ok;
}

void
entry_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t ms)
{
    struct timespec t;

    if (ms > WAIT_SLICE_MS)
        ms = WAIT_SLICE_MS;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(c, lock, &t);
}

static struct entry **
entry_place(struct pool_sessions *p, uint64_t id)
{
    struct entry **at = &p->bucket[id % POOL_BUCKETS];

    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

struct entry *
entry_take(struct pool_sessions *p, const struct mailbox *m)
{
    struct entry **at = entry_place(p, m->id), *e = *at;

    if (e == NULL) {
        e = calloc(1, sizeof *e);
        if (e == NULL)
            return NULL;
        e->id = m->id;
        e->moved_ms = pool_now_ms(p);
        *at = e;
    }
    e->pinned++;
    e->max = m->account->sessions.max > 0 ? m->account->sessions.max : 1;
    e->messages = m->account->sessions.messages;
    e->idle_ms = m->account->sessions.idle_ms;
    e->age_ms = m->account->sessions.age_ms;
    e->used_ms = pool_now_ms(p);
    return e;
}

void
entry_publish(struct pool_sessions *p, const struct entry *e)
{
    quota_set_sessions(p->o.quota, e->id, e->open, e->open - e->n_idle);
}

unsigned
entry_limit(const struct entry *e, uint64_t now)
{
    uint64_t grown = (now - e->cap_since_ms) / GROW_MS;

    return e->cap != 0 && e->cap + grown < e->max ? e->cap + (unsigned)grown
                                                  : e->max;
}

void
entry_halve(struct entry *e, uint64_t now)
{
    if (e->cap != 0 && now - e->cap_since_ms < BURST_MS)
        return;
    e->cap = e->open > 1 ? e->open / 2 : 1;
    e->cap_since_ms = now;
}

/* ---- the pace of log-ins ---- */

uint64_t
entry_login_at(const struct entry *e)
{
    static const uint64_t burst_ms =
        (uint64_t)(POOL_LOGIN_BURST - 1) * POOL_LOGIN_MS;
    /* All of its sessions may start at once. */
    uint64_t more_ms = (uint64_t)e->max * POOL_LOGIN_MS;

    return e->logins_until_ms > burst_ms + more_ms
               ? e->logins_until_ms - burst_ms - more_ms
               : 0;
}

void
entry_login_charge(struct entry *e, uint64_t now)
{
    if (e->logins_until_ms < now)
        e->logins_until_ms = now;
    e->logins_until_ms += POOL_LOGIN_MS;
    e->moved_ms = now;
}

void
entry_login_uncharge(struct entry *e)
{
    e->logins_until_ms -= POOL_LOGIN_MS;
}

/* ---- how long sessions are held ---- */

void
entry_lent(struct entry *e, struct session *s, uint64_t now)
{
    s->leased_ms = now;
    e->moved_ms = now;
}

void
entry_returned(struct entry *e, const struct session *s, uint64_t now)
{
    e->held_ms = (7 * e->held_ms + (now - s->leased_ms)) / 8;
    e->moved_ms = now;
}

uint64_t
entry_expected_ms(const struct entry *e, const struct waiter *w, uint64_t now,
                  size_t *ret_before)
{
    uint64_t still_ms = now - e->moved_ms; /* nothing has moved since */
    uint64_t turn_ms = e->held_ms > still_ms ? e->held_ms : still_ms;
    size_t before = 0;

    for (const struct waiter *x = e->first; x != NULL && x != w; x = x->next)
        before++;
    *ret_before = before;
    return (before + 1) * turn_ms / entry_limit(e, now);
}

void
entry_wake(struct entry *e)
{
    if (e->first != NULL)
        pthread_cond_signal(&e->first->turn);
}

void
entry_queue_last(struct entry *e, struct waiter *w)
{
    w->next = NULL;
    if (e->last != NULL)
        e->last->next = w;
    else
        e->first = w;
    e->last = w;
}

void
entry_queue_first(struct entry *e, struct waiter *w)
{
    w->next = e->first;
    e->first = w;
    if (e->last == NULL)
        e->last = w;
}

void
entry_queue_leave(struct entry *e, struct waiter *w)
{
    struct waiter **at = &e->first, *before = NULL;

    while (*at != w) {
        before = *at;
        at = &(*at)->next;
    }
    *at = w->next;
    if (e->last == w)
        e->last = before;
    if (e->idle != NULL || e->open < e->max)
        entry_wake(e); /* else there is nothing for the next one either */
}

bool
entry_is_due(const struct pool_sessions *p, const struct session *s)
{
    const struct entry *e = s->entry;
    uint64_t now = pool_now_ms(p);
    int64_t wall_s = clock_wall_ms(p->o.clock) / 1000;

    return now - s->opened_ms >= e->age_ms ||
           smtp_transactions(s->smtp) >= e->messages ||
           (s->retire_at_s != 0 && wall_s >= s->retire_at_s);
}

static bool
is_idle_too_long(const struct pool_sessions *p, const struct session *s)
{
    return pool_now_ms(p) - s->idle_since_ms >= s->entry->idle_ms;
}

void
entry_add_idle(struct pool_sessions *p, struct session *s)
{
    struct entry *e = s->entry;

    s->next = e->idle;
    e->idle = s;
    e->n_idle++;
    s->older = p->newest;
    s->newer = NULL;
    if (p->newest != NULL)
        p->newest->newer = s;
    else
        p->oldest = s;
    p->newest = s;
}

struct session *
entry_take_idle(struct pool_sessions *p, struct session **at)
{
    struct session *s = *at;

    *at = s->next;
    s->next = NULL;
    s->entry->n_idle--;
    *(s->older != NULL ? &s->older->newer : &p->oldest) = s->newer;
    *(s->newer != NULL ? &s->newer->older : &p->newest) = s->older;
    s->older = s->newer = NULL;
    return s;
}

void
entry_retire(struct pool_sessions *p, struct session **at,
             struct session **list)
{
    struct session *s = entry_take_idle(p, at);

    s->entry->open--;
    p->n_open--;
    s->entry = NULL;
    s->next = *list;
    *list = s;
}

void
entry_retire_oldest(struct pool_sessions *p, struct session **list)
{
    struct session *s = p->oldest;
    struct entry *e = s->entry;
    struct session **at = &e->idle;

    while (*at != s)
        at = &(*at)->next;
    entry_retire(p, at, list);
    entry_publish(p, e);
}

void
entry_retire_due(struct pool_sessions *p, struct entry *e, bool all,
                 struct session **list)
{
    struct session **at = &e->idle;

    while (*at != NULL)
        if (all || entry_is_due(p, *at) || is_idle_too_long(p, *at))
            entry_retire(p, at, list);
        else
            at = &(*at)->next;
}
