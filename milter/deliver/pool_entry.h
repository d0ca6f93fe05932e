/* milter/deliver/pool_entry.h - one account in use: its sessions, and those
 * who wait for them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to the pool.  Everything is done under the pool's lock.
 */
#ifndef DELIVER_POOL_ENTRY_H
#define DELIVER_POOL_ENTRY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "milter/deliver/pool.h"

struct pool_sessions;

struct waiter { /* on its thread's stack */
    struct waiter *next;
    pthread_cond_t turn;
};

struct entry {
    uint64_t id; /* of the mailbox */
    struct entry *next;
    struct waiter *first, *last;
    struct session *idle; /* most recently used first */
    unsigned n_idle;
    unsigned open;   /* sessions, and places taken for log-ins under way */
    unsigned pinned; /* threads that hold a pointer to the entry */
    /* From the account as the last one who came knows it. */
    unsigned max, messages;
    uint64_t idle_ms, age_ms;
    /* Gmail asked for fewer: so many, and one more with time. */
    unsigned cap; /* 0 = it did not */
    uint64_t cap_since_ms;
    uint64_t logins_until_ms; /* when all log-ins so far are paid for */
    uint64_t held_ms;         /* how long a session is leased, lately */
    uint64_t moved_ms;        /* when one last changed hands, or was begun */
    struct lease failure;     /* of the last log-in */
    uint64_t failure_until_ms;
    uint64_t used_ms;
};

/* The mailbox's entry, made when there is none, with the account's settings,
 * and pinned.  NULL = out of memory. */
struct entry *entry_take(struct pool_sessions *p, const struct mailbox *m);

/* Tells everybody how many sessions are open and busy. */
void entry_publish(struct pool_sessions *p, const struct entry *e);

unsigned entry_limit(const struct entry *e, uint64_t now_ms); /* open at once */
/* Halves that limit; it grows again by one every few minutes.  Several replies
 * of one burst are one. */
void entry_halve(struct entry *e, uint64_t now_ms);

/* When the next log-in is allowed; now or before = it is.  The charge can be
 * taken back: the server never saw the try. */
uint64_t entry_login_at(const struct entry *e);
void entry_login_charge(struct entry *e, uint64_t now_ms);
void entry_login_uncharge(struct entry *e);

/* A session of the entry was given, and came back. */
void entry_lent(struct entry *e, struct session *s, uint64_t now_ms);
void entry_returned(struct entry *e, const struct session *s, uint64_t now_ms);
/* How long the waiter has to wait, by the recent past; ret_before: how many
 * wait before it. */
uint64_t entry_expected_ms(const struct entry *e, const struct waiter *w,
                           uint64_t now_ms, size_t *ret_before);

/* Waits on the monotonic clock, about a second at most. */
bool entry_cond_init(pthread_cond_t *c);
void entry_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t ms);

/* The line of those who wait.  Whoever changes what the first of them waits
 * for wakes it, and so does whoever leaves when there is something to have. */
void entry_queue_last(struct entry *e, struct waiter *w);
void entry_queue_first(struct entry *e, struct waiter *w);
void entry_queue_leave(struct entry *e, struct waiter *w);
void entry_wake(struct entry *e);

/* Old, used up, or soon without a valid token? */
bool entry_is_due(const struct pool_sessions *p, const struct session *s);

/* The idle list, and that of all idle ones. */
void entry_add_idle(struct pool_sessions *p, struct session *s);
struct session *entry_take_idle(struct pool_sessions *p, struct session **at);

/* Takes *at out of its entry's idle list, and its place with it, and puts it
 * on another list. */
void entry_retire(struct pool_sessions *p, struct session **at,
                  struct session **list);
/* The least recently used idle one, whoever's it is. */
void entry_retire_oldest(struct pool_sessions *p, struct session **list);
/* All idle ones that are due or were idle too long; or just all. */
void entry_retire_due(struct pool_sessions *p, struct entry *e, bool all,
                      struct session **list);

#endif
