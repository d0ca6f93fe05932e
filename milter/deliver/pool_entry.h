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
    /* Gmail asked for fewer. */
    unsigned cap;
    uint64_t cap_until_ms;
    struct lease failure; /* of the last log-in */
    uint64_t failure_until_ms;
    uint64_t used_ms;
};

/* The mailbox's entry, made when there is none, with the account's settings,
 * and pinned.  NULL = out of memory. */
struct entry *entry_take(struct pool_sessions *p, const struct mailbox *m);

/* Tells everybody how many sessions are open and busy. */
void entry_publish(struct pool_sessions *p, const struct entry *e);

unsigned entry_limit(const struct entry *e, uint64_t now_ms); /* open at once */
void entry_halve(struct entry *e, uint64_t now_ms); /* that limit, a while */

/* Waits on the monotonic clock, about a second at most. */
bool entry_cond_init(pthread_cond_t *c);
void entry_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t ms);

/* The line of those who wait.  Whoever leaves it, or changes what the first
 * of them waits for, wakes the first. */
void entry_queue_last(struct entry *e, struct waiter *w);
void entry_queue_first(struct entry *e, struct waiter *w);
void entry_queue_leave(struct entry *e, struct waiter *w);
void entry_wake(struct entry *e);

/* Old, used up, or soon without a valid token? */
bool entry_is_due(const struct pool_sessions *p, const struct session *s);

/* Takes *at out of its entry's idle list, and its place with it, and puts it
 * on another list. */
void entry_retire(struct session **at, struct session **list);
/* All idle ones that are due or were idle too long; or just all. */
void entry_retire_due(struct pool_sessions *p, struct entry *e, bool all,
                      struct session **list);

#endif
