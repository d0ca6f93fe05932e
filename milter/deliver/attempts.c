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
    uint32_t recipients;
};

struct attempts {
    pthread_mutex_t lock;
    struct quota *quota;
    struct flight *flight[BUCKETS];
    struct waiter *waiter[BUCKETS];
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
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* Ticket numbers count up from a random start: the low bits spread well. */
static struct flight **
find_flight(struct attempts *a, uint64_t ticket, const char *recipient)
{
    struct flight **f = &a->flight[ticket % BUCKETS];

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

bool
attempts_waiting(struct attempts *a, uint64_t ticket, uint64_t account,
                 uint32_t recipients, uint64_t now_ms)
{
    struct waiter **at = &a->waiter[ticket % BUCKETS], *w;
    uint32_t before = 0;
    bool known;

    pthread_mutex_lock(&a->lock);
    while (*at != NULL &&
           ((*at)->ticket != ticket || (*at)->account != account))
        at = &(*at)->next;
    known = *at != NULL;
    if (known) {
        before = (*at)->recipients;
    } else if (recipients > 0) {
        w = calloc(1, sizeof *w);
        if (w == NULL) { /* a forecast only: it can do without */
            pthread_mutex_unlock(&a->lock);
            return true;
        }
        w->ticket = ticket;
        w->account = account;
        *at = w;
    }
    if (recipients > 0) {
        (*at)->recipients = recipients;
        (*at)->last_ms = now_ms;
    } else if (known) {
        w = *at;
        *at = w->next;
        free(w);
    }
    pthread_mutex_unlock(&a->lock);
    quota_add_waiting(a->quota, account, (recipients > 0) - known,
                      (int)recipients - (int)before);
    return !known;
}

void
attempts_sweep(struct attempts *a, uint64_t now_ms)
{
    struct waiter *gone = NULL;

    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct waiter **at = &a->waiter[i]; *at != NULL;) {
            struct waiter *w = *at;

            if (w->last_ms + ATTEMPTS_FORGET_MS > now_ms) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            w->next = gone;
            gone = w;
        }
    pthread_mutex_unlock(&a->lock);
    while (gone != NULL) {
        struct waiter *w = gone;

        gone = w->next;
        quota_add_waiting(a->quota, w->account, -1, -(int)w->recipients);
        free(w);
    }
}
