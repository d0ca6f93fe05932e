/* milter/deliver/pool_entry.c - see pool_entry.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/pool_entry.h"

#include <stdlib.h>
#include <time.h>

#include "milter/deliver/pool_private.h"

enum {
    WAIT_SLICE_MS = 1000, /* a clock that jumps is noticed after this */
    HALVED_MS = 600 * 1000,
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
    return now < e->cap_until_ms && e->cap < e->max ? e->cap : e->max;
}

void
entry_halve(struct entry *e, uint64_t now)
{
    e->cap = e->open > 1 ? e->open / 2 : 1;
    e->cap_until_ms = now + HALVED_MS;
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
    entry_wake(e);
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
entry_retire(struct session **at, struct session **list)
{
    struct session *s = *at;
    struct entry *e = s->entry;

    *at = s->next;
    e->n_idle--;
    e->open--;
    s->entry = NULL;
    s->next = *list;
    *list = s;
}

void
entry_retire_due(struct pool_sessions *p, struct entry *e, bool all,
                 struct session **list)
{
    struct session **at = &e->idle;

    while (*at != NULL)
        if (all || entry_is_due(p, *at) || is_idle_too_long(p, *at))
            entry_retire(at, list);
        else
            at = &(*at)->next;
}
