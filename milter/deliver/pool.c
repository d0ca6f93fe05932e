/* milter/deliver/pool.c - who gets which session: see pool.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each account in use has an entry: its idle sessions, how many are open, and
 * those who wait, in order of arrival.  Only the first of them looks for a
 * session; when it has one, or gives up, the next one looks.
 */
#include "milter/deliver/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/deliver/pool_entry.h"
#include "milter/deliver/pool_private.h"

enum {
    /* A failed log-in stands for those who wait behind it this long. */
    FAILURE_MS = 5 * 1000,
    FAILURE_AUTH_MS = 30 * 1000,     /* each try counts at Gmail's door */
    FAILURE_COOL_MAX_MS = 60 * 1000, /* the account itself rests longer */
    FORGET_MS = 600 * 1000,          /* an entry that nobody used */
    END_MS = 1000,                   /* for answers to QUIT when draining */
};

static uint64_t
sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t
pool_now_ms(const struct pool_sessions *p)
{
    return clock_boot_ms(p->o.clock);
}

struct pool_sessions *
pool_new(const struct pool_options *o)
{
    struct pool_sessions *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->o = *o;
    p->bucket = calloc(POOL_BUCKETS, sizeof *p->bucket);
    atomic_init(&p->draining, false);
    if (p->bucket == NULL || !entry_cond_init(&p->idle)) {
        free(p->bucket);
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->tls_lock, NULL);
    return p;
}

/* Says QUIT to all of them; pool_tick closes them a while later, so that
 * nobody waits for the answers.  Without the lock. */
static void
dismiss(struct pool_sessions *p, struct session *list)
{
    while (list != NULL) {
        struct session *s = list;

        list = s->next;
        if (session_quiet(s))
            session_quit(s);
        pthread_mutex_lock(&p->lock);
        s->next = p->leaving;
        p->leaving = s;
        pthread_mutex_unlock(&p->lock);
    }
}

/* ---- lease ---- */

struct wish { /* one pool_lease under way */
    struct pool_sessions *p;
    const struct mailbox *m;
    struct entry *e;
    struct waiter w;
    const char *target;
    uint64_t deadline_ms;
    bool fresh;
    bool failed; /* lease holds a log-in's failure */
    struct lease lease;
};

/* The most recently used idle session that is good for this mailbox.  Others
 * met on the way go to *ret_retired.  Called with the lock. */
static struct session *
take_idle(struct wish *x, struct session **ret_retired)
{
    struct entry *e = x->e;
    struct session *s;

    entry_retire_due(x->p, e, false, ret_retired);
    for (struct session **at = &e->idle; *at != NULL;)
        if (strcmp((*at)->target, x->target) != 0)
            entry_retire(x->p, at, ret_retired); /* configured otherwise */
        else
            at = &(*at)->next;
    if (x->fresh && e->idle != NULL) {
        /* Its place is needed, and its age is suspect. */
        if (e->open >= entry_limit(e, pool_now_ms(x->p)))
            entry_retire(x->p, &e->idle, ret_retired);
        return NULL;
    }
    if (e->idle == NULL)
        return NULL;
    s = entry_take_idle(x->p, &e->idle);
    entry_lent(e, s, pool_now_ms(x->p));
    x->p->n_leased++;
    return s;
}

static void
gone(struct pool_sessions *p, struct entry *e)
{
    e->open--;
    p->n_open--;
    p->n_leased--;
    if (p->n_leased == 0)
        pthread_cond_broadcast(&p->idle);
    entry_publish(p, e);
    entry_wake(e);
}

/* With the lock, which is let go for a while.  True: x->lease has a session. */
static bool
try_idle(struct wish *x)
{
    struct session *retired = NULL, *s = take_idle(x, &retired);
    bool ok;

    entry_publish(x->p, x->e);
    if (s == NULL && retired == NULL)
        return false;
    pthread_mutex_unlock(&x->p->lock);
    dismiss(x->p, retired);
    ok = s != NULL && session_quiet(s);
    if (s != NULL && !ok)
        session_close(s); /* the peer has left it or speaks out of turn */
    pthread_mutex_lock(&x->p->lock);
    if (s != NULL && !ok)
        gone(x->p, x->e);
    if (!ok)
        return false;
    s->reused = smtp_transactions(s->smtp) > 0;
    x->lease = (struct lease){.session = s};
    return true;
}

/* How long a failed log-in stands. */
static uint64_t
failure_ms(const struct lease *l)
{
    if (l->verdict.effect == EFFECT_COOL)
        return sooner(l->verdict.cool_ms, FAILURE_COOL_MAX_MS);
    return l->stage == STAGE_AUTH && l->reply.code != 0 ? FAILURE_AUTH_MS
                                                        : FAILURE_MS;
}

static void
remember_failure(struct wish *x)
{
    struct entry *e = x->e;
    uint64_t now = pool_now_ms(x->p);

    x->failed = true;
    if (x->lease.verdict.halve_sessions)
        entry_halve(e, now);
    if (now >= x->deadline_ms)
        return; /* perhaps it was only our own hurry */
    e->failure = x->lease;
    e->failure_until_ms = now + failure_ms(&x->lease);
}

/* A place is free: logs in, without the lock and out of the queue.  True: the
 * wish is settled one way or the other. */
static bool
try_new(struct wish *x)
{
    struct pool_sessions *p = x->p;
    struct entry *e = x->e;
    struct session *s, *evicted = NULL;

    if (p->n_open >= p->o.sessions_max && p->oldest != NULL)
        entry_retire_oldest(p, &evicted);
    e->open++;
    p->n_open++;
    p->n_leased++;
    entry_login_charge(e, pool_now_ms(p));
    entry_publish(p, e);
    entry_queue_leave(e, &x->w);
    pthread_mutex_unlock(&p->lock);
    dismiss(p, evicted);
    s = pool_log_in(p, x->m, x->deadline_ms, &x->lease);
    if (s != NULL) {
        s->entry = e;
        s->opened_ms = pool_now_ms(p);
        s->target = strdup(x->target);
    }
    if (s != NULL && s->target == NULL) {
        session_close(s);
        s = NULL;
        pool_fail(&x->lease, SCOPE_CLIENT, STAGE_CONNECT, "out of memory", "");
    }
    pthread_mutex_lock(&p->lock);
    entry_queue_first(e, &x->w); /* the caller leaves it again */
    if (s != NULL) {
        e->failure_until_ms = 0;
        entry_lent(e, s, pool_now_ms(p));
        x->lease = (struct lease){.session = s};
        return true;
    }
    if (x->lease.stage != STAGE_AUTH || x->lease.reply.code == 0)
        entry_login_uncharge(e); /* Gmail has counted nothing */
    gone(p, e);
    remember_failure(x);
    /* Others of this account work: better wait for one of them. */
    return e->open == 0 || x->lease.verdict.effect == EFFECT_DISABLE;
}

static void
fail_late(struct wish *x)
{
    if (!x->failed)
        pool_fail(&x->lease, SCOPE_ACCOUNT, STAGE_CONNECT,
                  "no free session of the account in time", "");
}

static void
fail_stopping(struct wish *x)
{
    pool_fail(&x->lease, SCOPE_CLIENT, STAGE_CONNECT, "the agent is stopping",
              "");
}

/* Would it wait too long behind others? */
static bool
is_too_far_back(const struct wish *x, uint64_t now)
{
    size_t before;
    uint64_t ms = entry_expected_ms(x->e, &x->w, now, &before);

    return before >= POOL_LINE_MIN && ms >= POOL_LINE_MS;
}

/* The account's log-ins are paced, and none is allowed before `at`: false =
 * there is nothing else to wait for in time. */
static bool
may_wait_for_login(struct wish *x, uint64_t at)
{
    if (x->e->open > 0 || at < x->deadline_ms)
        return true;
    pool_fail(&x->lease, SCOPE_ACCOUNT, STAGE_CONNECT,
              "the account has logged in too often lately", "");
    return false;
}

/* With the lock; ends with x->lease filled in. */
static void
wait_in_line(struct wish *x)
{
    struct entry *e = x->e;

    for (;;) {
        uint64_t now, until = x->deadline_ms;
        bool first;

        if (atomic_load(&x->p->draining)) {
            fail_stopping(x);
            return;
        }
        first = e->first == &x->w;
        if (first && try_idle(x))
            return;
        now = pool_now_ms(x->p);
        if (now >= x->deadline_ms) {
            fail_late(x);
            return;
        }
        if (first && e->idle != NULL && !x->fresh)
            continue; /* came back while we looked away */
        if (first && now < e->failure_until_ms) {
            if (e->open == 0) {
                x->lease = e->failure;
                return;
            }
            until = sooner(until, e->failure_until_ms);
        } else if (first && e->open < entry_limit(e, now)) {
            uint64_t at = entry_login_at(e);

            if (at <= now) {
                if (try_new(x))
                    return;
                continue;
            }
            if (!may_wait_for_login(x, at))
                return;
            until = sooner(until, at);
        } else if (!first && is_too_far_back(x, now)) {
            pool_fail(&x->lease, SCOPE_ACCOUNT, STAGE_CONNECT,
                      "the account's sessions are busy, and others wait "
                      "for them",
                      "");
            return;
        }
        entry_cond_wait(&x->w.turn, &x->p->lock, until - now);
    }
}

struct lease
pool_lease(struct pool_sessions *p, const struct mailbox *m,
           uint64_t deadline_ms, bool fresh)
{
    struct wish x = {
        .p = p, .m = m, .deadline_ms = deadline_ms, .fresh = fresh};
    char *target = pool_target(m);

    x.target = target;
    if (target == NULL || !entry_cond_init(&x.w.turn)) {
        free(target);
        pool_fail(&x.lease, SCOPE_CLIENT, STAGE_CONNECT, "out of memory", "");
        return x.lease;
    }
    pthread_mutex_lock(&p->lock);
    x.e = entry_take(p, m);
    if (x.e == NULL) {
        pool_fail(&x.lease, SCOPE_CLIENT, STAGE_CONNECT, "out of memory", "");
    } else {
        if (fresh) /* it has waited, and had its turn */
            entry_queue_first(x.e, &x.w);
        else
            entry_queue_last(x.e, &x.w);
        wait_in_line(&x);
        entry_queue_leave(x.e, &x.w);
        x.e->pinned--;
        entry_publish(p, x.e);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&x.w.turn);
    free(target);
    return x.lease;
}

void
pool_return(struct pool_sessions *p, struct session *s, bool usable)
{
    struct entry *e = s->entry;
    struct session *retired = NULL;
    uint64_t now;

    pthread_mutex_lock(&p->lock);
    now = pool_now_ms(p);
    if (smtp_halve(s->smtp))
        entry_halve(e, now);
    entry_returned(e, s, now);
    s->idle_since_ms = now;
    e->used_ms = now;
    if (!usable || atomic_load(&p->draining) || !session_ready(s) ||
        entry_is_due(p, s) || e->open > entry_limit(e, now)) {
        gone(p, e);
        s->entry = NULL;
        s->next = NULL;
        retired = s;
    } else {
        entry_add_idle(p, s);
        p->n_leased--;
        if (p->n_leased == 0)
            pthread_cond_broadcast(&p->idle);
        entry_publish(p, e);
        entry_wake(e);
        if (p->n_open > p->o.sessions_max)
            entry_retire_oldest(p, &retired);
    }
    pthread_mutex_unlock(&p->lock);
    if (retired != NULL && session_ready(retired))
        dismiss(p, retired);
    else
        session_close(retired);
}

/* ---- upkeep ---- */

static void
close_all(struct session *list)
{
    while (list != NULL) {
        struct session *next = list->next;

        session_close(list);
        list = next;
    }
}

static bool
is_forgotten(const struct entry *e, uint64_t now)
{
    return e->open == 0 && e->pinned == 0 && now - e->used_ms >= FORGET_MS &&
           now >= e->failure_until_ms && entry_limit(e, now) == e->max &&
           now >= e->logins_until_ms;
}

/* Takes all due (or all) idle sessions out.  With the lock. */
static struct session *
sweep(struct pool_sessions *p, bool all)
{
    struct session *due = NULL;
    uint64_t now = pool_now_ms(p);

    for (size_t i = 0; i < POOL_BUCKETS; i++)
        for (struct entry **at = &p->bucket[i]; *at != NULL;) {
            struct entry *e = *at;
            unsigned before = e->open;

            entry_retire_due(p, e, all, &due);
            if (e->open != before) {
                entry_publish(p, e);
                entry_wake(e);
            }
            if (is_forgotten(e, now)) {
                *at = e->next;
                free(e);
            } else {
                at = &e->next;
            }
        }
    return due;
}

void
pool_tick(struct pool_sessions *p)
{
    struct session *due, *leaving;

    pthread_mutex_lock(&p->lock);
    leaving = p->leaving; /* told on an earlier tick */
    p->leaving = NULL;
    due = sweep(p, false);
    pthread_mutex_unlock(&p->lock);
    close_all(leaving);
    dismiss(p, due);
}

static void
wake_everybody(struct pool_sessions *p)
{
    for (size_t i = 0; i < POOL_BUCKETS; i++)
        for (struct entry *e = p->bucket[i]; e != NULL; e = e->next)
            for (struct waiter *w = e->first; w != NULL; w = w->next)
                pthread_cond_signal(&w->turn);
}

static void
end_all(struct pool_sessions *p)
{
    uint64_t deadline_ms = clock_boot_ms(&clock_real) + END_MS;
    struct session *leaving;

    pthread_mutex_lock(&p->lock);
    leaving = p->leaving;
    p->leaving = NULL;
    pthread_mutex_unlock(&p->lock);
    for (struct session *s = leaving; s != NULL; s = s->next)
        session_wait_end(s, deadline_ms);
    close_all(leaving);
}

void
pool_drain(struct pool_sessions *p, uint64_t ms)
{
    uint64_t deadline_ms = pool_now_ms(p) + ms;
    struct session *idle;

    atomic_store(&p->draining, true);
    pthread_mutex_lock(&p->lock);
    wake_everybody(p);
    idle = sweep(p, true);
    pthread_mutex_unlock(&p->lock);
    dismiss(p, idle);

    pthread_mutex_lock(&p->lock);
    while (p->n_leased > 0) {
        uint64_t now = pool_now_ms(p);

        if (now >= deadline_ms)
            break;
        entry_cond_wait(&p->idle, &p->lock, deadline_ms - now);
    }
    pthread_mutex_unlock(&p->lock);
    end_all(p);
}

void
pool_free(struct pool_sessions *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < POOL_BUCKETS; i++)
        while (p->bucket[i] != NULL) {
            struct entry *e = p->bucket[i];

            p->bucket[i] = e->next;
            close_all(e->idle);
            free(e);
        }
    close_all(p->leaving);
    while (p->tls != NULL) {
        struct pool_tls *t = p->tls;

        p->tls = t->next;
        tls_client_free(t->client);
        free(t->ca_file);
        free(t);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->tls_lock);
    pthread_cond_destroy(&p->idle);
    free(p->bucket);
    free(p);
}
