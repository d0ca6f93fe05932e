/* milter/state/quota_private.h - between the quota_*.c files.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STATE_QUOTA_PRIVATE_H
#define STATE_QUOTA_PRIVATE_H

#include <pthread.h>

#include "milter/state/layout.h"
#include "milter/state/quota.h"

enum { QUOTA_STRIPES = 64 };

/* Quota time is Unix time in ms, more or less; beyond the year 4000 it is
 * damage. */
#define QUOTA_TIME_MAX (1ull << 46)

struct quota { /* the agent's */
    struct segment segment;
    const struct clock *clock;
    int64_t offset_ms;
    /* Slot i is written under stripe[i % QUOTA_STRIPES]. */
    pthread_mutex_t stripe[QUOTA_STRIPES];
};

/* The agent's slot of an id, with its stripe held until quota_unlock; NULL
 * (and no lock) when there is none. */
struct quota_slot *quota_lock(struct quota *q, uint64_t id);
void quota_unlock(struct quota *q, struct quota_slot *slot);

/* ---- a slot's arithmetic: the agent's under its lock, or a private copy ---- */

/* A state whose time has passed is OK; one without a time stays. */
enum account_state quota_slot_state(const struct quota_slot *slot,
                                    uint64_t now_ms);

/* May `cost` go after `ahead` (NULL = nothing), and if not, when? */
void quota_slot_room(const struct quota_slot *slot, const struct cost *cost,
                     const struct cost *ahead, unsigned share_percent,
                     uint64_t now_ms, struct room *ret);

/* Sets up the n windows of these limits, with nothing spent. */
void quota_slot_limits(struct quota_slot *slot, const struct quota_limits *l);

/* Adds what `from` knows to an empty window of the same dimension, each
 * bucket at its latest instant. */
void quota_window_inherit(struct quota_window *to,
                          const struct quota_window *from, uint64_t now_ms);

/* Which of n windows knows most for a new one of this dimension and length:
 * the shortest that is as long, else the longest; NULL = none.  Never
 * `except`, and an empty one only if it is of that very length. */
const struct quota_window *
quota_window_elder(const struct quota_window *w, uint64_t n,
                   enum dimension dimension, uint64_t window_ms,
                   const struct quota_window *except);

/* The number of the last ms of a bucket: the latest it can have been spent. */
uint64_t quota_bucket_end_ms(uint64_t window_ms, uint64_t bucket);

/* The identity of the account that the mail of `id` is diverted to; false:
 * it is not. */
bool quota_segment_divert(const struct segment *s, uint64_t id,
                          char ret[IDENTITY_MAX + 1]);

/* ---- a private copy, large enough for any slot ---- */

struct quota_copy {
    _Alignas(
        64) _Atomic uint64_t word[(sizeof(struct quota_slot) +
                                   LIMITS_MAX * sizeof(struct quota_window)) /
                                  8];
};

static inline struct quota_slot *
quota_copy_slot(struct quota_copy *c)
{
    return (struct quota_slot *)(void *)c;
}

/* Copies and checks; STATE_EEMPTY, STATE_EBUSY, STATE_ECORRUPT. */
enum state_result quota_slot_read(const struct quota_slot *shared, uint64_t id,
                                  uint32_t windows, struct quota_copy *ret);

#endif
