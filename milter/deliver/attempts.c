/* milter/deliver/attempts.c - see attempts.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/attempts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

struct flight {
    struct flight *next;
    uint64_t ticket;
    char recipient[];
};

struct waiter {
    struct waiter *next;
    uint64_t ticket, account, last_ms;
    struct portion left;
};

struct line {
    struct line *next;
    uint64_t account;
    unsigned n;
    struct place place[ATTEMPTS_LINE_MAX];
};

struct attempts {
    pthread_mutex_t lock;
    struct quota *quota;
    struct flight *flight[BUCKETS];
    struct waiter *waiter[BUCKETS];
    struct line *lines; /* a few: accounts that somebody waits for now */
};

struct attempts *
attempts_new(struct quota *quota)
{
    struct attempts *a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    a->quota = quota;
    return a;
}

void
attempts_free(struct attempts *a)
{
    if (a == NULL)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (a->flight[i] != NULL) {
            struct flight *f = a->flight[i];

            a->flight[i] = f->next;
            free(f);
        }
        while (a->waiter[i] != NULL) {
            struct waiter *w = a->waiter[i];

            a->waiter[i] = w->next;
            free(w);
        }
    }
    while (a->lines != NULL) {
        struct line *l = a->lines;

        a->lines = l->next;
        free(l);
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* FNV-1a; a message may have a thousand recipients.  Both parts are signed by
 * our key, so nobody can pile up collisions. */
static struct flight **
find_flight(struct attempts *a, uint64_t ticket, const char *recipient)
{
    uint64_t h = 0xcbf29ce484222325u ^ ticket;
    struct flight **f;

    for (const char *c = recipient; *c != 0; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    f = &a->flight[(h ^ h >> 32) % BUCKETS];
    while (*f != NULL &&
           ((*f)->ticket != ticket || strcmp((*f)->recipient, recipient) != 0))
        f = &(*f)->next;
    return f;
}

bool
attempts_begin(struct attempts *a, uint64_t ticket, const char *recipient)
{
    size_t size = strlen(recipient) + 1;
    struct flight *f = malloc(sizeof *f + size), **at;
    bool taken;

    if (f == NULL)
        return false;
    f->ticket = ticket;
    memcpy(f->recipient, recipient, size);
    pthread_mutex_lock(&a->lock);
    at = find_flight(a, ticket, recipient);
    taken = *at != NULL;
    if (!taken) {
        f->next = NULL;
        *at = f;
    }
    pthread_mutex_unlock(&a->lock);
    if (taken)
        free(f);
    return !taken;
}

void
attempts_end(struct attempts *a, uint64_t ticket, const char *recipient)
{
    struct flight **at, *f;

    pthread_mutex_lock(&a->lock);
    at = find_flight(a, ticket, recipient);
    f = *at;
    if (f != NULL)
        *at = f->next;
    pthread_mutex_unlock(&a->lock);
    free(f);
}

/* Ticket numbers count up from a random start: the low bits spread well. */
static struct waiter **
find_waiter(struct attempts *a, uint64_t ticket, uint64_t account)
{
    struct waiter **w = &a->waiter[ticket % BUCKETS];

    while (*w != NULL && ((*w)->ticket != ticket || (*w)->account != account))
        w = &(*w)->next;
    return w;
}

/* All of it with the lock: a count taken away before it was added would stop
 * at 0 and stay too high for ever. */
static void
forget(struct attempts *a, struct waiter **at)
{
    struct waiter *w = *at;

    *at = w->next;
    quota_add_waiting(a->quota, w->account, -1, -(int)w->left.recipients,
                      -(int)w->left.external);
    free(w);
}

static uint32_t
less(uint32_t n, uint32_t gone)
{
    return n > gone ? n - gone : 0;
}

void
attempts_waiting(struct attempts *a, uint64_t ticket, uint64_t account,
                 struct portion back, struct portion left, uint64_t now_ms)
{
    struct waiter **at, *w;

    pthread_mutex_lock(&a->lock);
    at = find_waiter(a, ticket, account);
    w = *at;
    if (w == NULL && left.recipients > 0) {
        w = calloc(1, sizeof *w);
        if (w != NULL) { /* else: a forecast can do without */
            *w = (struct waiter){NULL, ticket, account, now_ms, left};
            *at = w;
            quota_add_waiting(a->quota, account, 1, (int)left.recipients,
                              (int)left.external);
        }
    } else if (w != NULL) {
        struct portion before = w->left;

        w->left.recipients =
            less(before.recipients, back.recipients) + left.recipients;
        w->left.external = less(before.external, back.external) + left.external;
        w->last_ms = now_ms;
        quota_add_waiting(a->quota, account, 0,
                          (int)w->left.recipients - (int)before.recipients,
                          (int)w->left.external - (int)before.external);
        if (w->left.recipients == 0)
            forget(a, at);
    }
    pthread_mutex_unlock(&a->lock);
}

void
attempts_sweep(struct attempts *a, uint64_t now_ms)
{
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct waiter **at = &a->waiter[i]; *at != NULL;)
            if ((*at)->last_ms + ATTEMPTS_FORGET_MS <= now_ms)
                forget(a, at);
            else
                at = &(*at)->next;
    pthread_mutex_unlock(&a->lock);
}

static struct line **
find_line(struct attempts *a, uint64_t account)
{
    struct line **l = &a->lines;

    while (*l != NULL && (*l)->account != account)
        l = &(*l)->next;
    return l;
}

bool
attempts_line_up(struct attempts *a, const struct place *p)
{
    struct line **at;
    unsigned i = 0;
    bool ok = true;

    pthread_mutex_lock(&a->lock);
    at = find_line(a, p->account);
    if (*at == NULL) {
        *at = calloc(1, sizeof **at);
        if (*at != NULL)
            (*at)->account = p->account;
    }
    while (*at != NULL && i < (*at)->n && (*at)->place[i].ticket != p->ticket)
        i++;
    if (*at == NULL || i == ATTEMPTS_LINE_MAX)
        ok = false;
    else
        (*at)->place[i] = *p;
    if (ok && i == (*at)->n)
        (*at)->n++;
    pthread_mutex_unlock(&a->lock);
    return ok;
}

static bool
is_older(const struct place *x, const struct place *y)
{
    if (x->minute != y->minute)
        return x->minute < y->minute;
    return (int64_t)(x->ticket - y->ticket) < 0; /* they count up */
}

/* Does y need what x waits for? */
static bool
needs_the_same(const struct place *x, const struct place *y)
{
    return x->waits_for < 0 || (y->needs >> x->waits_for & 1) != 0;
}

bool
attempts_is_behind(struct attempts *a, const struct place *p)
{
    bool behind = false;
    struct line *l;

    pthread_mutex_lock(&a->lock);
    l = *find_line(a, p->account);
    for (unsigned i = 0; l != NULL && i < l->n; i++)
        behind |= l->place[i].share_percent >= p->share_percent &&
                  is_older(&l->place[i], p) && needs_the_same(&l->place[i], p);
    pthread_mutex_unlock(&a->lock);
    return behind;
}

void
attempts_leave(struct attempts *a, const struct place *p)
{
    struct line **at, *l;
    unsigned i = 0;

    pthread_mutex_lock(&a->lock);
    at = find_line(a, p->account);
    l = *at;
    while (l != NULL && i < l->n && l->place[i].ticket != p->ticket)
        i++;
    if (l != NULL && i < l->n)
        l->place[i] = l->place[--l->n];
    if (l != NULL && l->n == 0) {
        *at = l->next;
        free(l);
    }
    pthread_mutex_unlock(&a->lock);
}
