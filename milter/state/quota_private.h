/* milter/state/quota_private.h - between the quota_*.c files.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STATE_QUOTA_PRIVATE_H
#define STATE_QUOTA_PRIVATE_H

#include <pthread.h>

#include "milter/state/layout.h"
#include "milter/state/quota.h"
#include "milter/state/unique.h"

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
    /* Whom the account of slot i has mailed; under its stripe. */
    struct unique **unique;
    struct unique_cap unique_cap;
    /* Accounts come in under a shared hold, so that none leaves between the
     * search for it and its claim; they leave under an exclusive one. */
    pthread_rwlock_t door;
    struct quota_guest *guest; /* of slot i */
    uint64_t looked_ms;        /* quota_leave_idle; under the exclusive hold */
};

/* What the agent alone needs to know of a slot's account. */
struct quota_guest {
    _Atomic uint64_t used_ms; /* quota time of the last quota_open */
    _Atomic bool stays;       /* it is named in the configuration */
};

/* Makes room in a segment that is full: those whom nobody has needed for long
 * and of whom nothing counts leave, least recently used first.  False: there
 * are none. */
bool quota_leave_idle(struct quota *q, uint64_t now_ms);

/* A request word that was changed once more. */
uint64_t quota_request(uint64_t word, uint64_t refused_serial);

/* The agent's slot of an id, filled in, with its stripe held until
 * quota_unlock; NULL (and no lock) when there is none. */
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

/* Adds to each window of `slot` what another one of its dimension proves to be
 * missing: both count the same, but one is younger.  `was`: the slot's copy. */
void quota_slot_level(struct quota_slot *slot, const struct quota_slot *was,
                      uint64_t now_ms);

/* Are there two that quota_slot_level could compare? */
bool quota_slot_has_pairs(const struct quota_slot *slot);

/* Which of n windows knows most for a new one of this dimension and length:
 * the shortest that is as long, else the longest; NULL = none.  An empty one
 * only if it is of that very length. */
const struct quota_window *quota_window_elder(const struct quota_window *w,
                                              uint64_t n,
                                              enum dimension dimension,
                                              uint64_t window_ms);

/* The number of the last ms of a bucket: the latest it can have been spent. */
uint64_t quota_bucket_end_ms(uint64_t window_ms, uint64_t bucket);

/* The identity of an account of the segment; false: it has none there. */
bool quota_segment_identity(const struct segment *s, uint64_t id,
                            char ret[IDENTITY_MAX + 1]);

/* The identity of the account that the mail of `id` is diverted to; false:
 * it is not. */
bool quota_segment_divert(const struct segment *s, uint64_t id,
                          char ret[IDENTITY_MAX + 1]);

/* First ms of the oldest bucket that counts at now_ms. */
uint64_t quota_oldest_ms(uint64_t window_ms, uint64_t now_ms);

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

/* ---- windows that count different recipients: quota_unique.c ----
 *
 * Such a window has one unit for each recipient of the account's set that is
 * alive in it, in the bucket of its latest time; and one for each send to a
 * recipient that the set had no place for.  All under the slot's lock, and
 * between words_write_begin and _end where the slot is changed. */

/* The slot to ask for room: where it is known who the recipients are, a copy
 * without the units that they have already, for those are theirs. */
const struct quota_slot *quota_unique_without(struct quota *q,
                                              const struct quota_slot *slot,
                                              const struct cost *c,
                                              struct quota_copy *copy);

/* Does the taking count different recipients, by who they are? */
bool quota_unique_counted(const struct taken *t);

void quota_unique_take(struct quota *q, struct quota_slot *slot,
                       const struct taken *t);
/* All but those of kept (NULL = all). */
void quota_unique_give_back(struct quota *q, struct quota_slot *slot,
                            const struct taken *t, const struct cost *kept);
void quota_unique_settle(struct quota *q, struct quota_slot *slot,
                         const struct taken *t, uint64_t now_ms);

/* Fills a new, empty window: from the set, and with what `elder` of the same
 * dimension (NULL = none) has of recipients that are not in the set. */
void quota_unique_fill(const struct quota *q, const struct quota_slot *slot,
                       struct quota_window *to,
                       const struct quota_window *elder, uint64_t now_ms);

/* Nobody has been mailed, but for sends under way, which the account's empty
 * windows then have. */
void quota_unique_forget(struct quota *q, struct quota_slot *slot,
                         uint64_t now_ms);

/* Copies and checks; STATE_EEMPTY, STATE_EBUSY, STATE_ECORRUPT.  `windows`: of
 * a slot; 0 copies what stands before the windows alone, and of these none. */
enum state_result quota_slot_read(const struct quota_slot *shared, uint64_t id,
                                  uint32_t windows, struct quota_copy *ret);

/* The same for an account of the segment, wherever it is. */
enum state_result quota_segment_read(const struct segment *s, uint64_t id,
                                     uint32_t windows, struct quota_copy *ret);

#endif
