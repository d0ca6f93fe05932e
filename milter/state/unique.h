/* milter/state/unique.h - whom one account has mailed, and when last.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Behind the limits that count different recipients.  Private memory of the
 * agent, one set an account; what all of them hold together is capped.
 *
 * A send is noted before it happens, and is then taken back or settled.  Who
 * was mailed for good counts from the last time alone, so a set has one note
 * for each recipient, and one more for each send under way.
 *
 * Pure: times are arguments, quota time in ms (quota.h).  A recipient is the
 * hash of its address (recipient_hash).  One thread at a time for each set,
 * by the caller's lock; any number for different sets.
 */
#ifndef STATE_UNIQUE_H
#define STATE_UNIQUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the sets share.  `max` notes in all; recipients that a set knows
 * already are noted beyond it, which the sends under way bound. */
struct unique_cap {
    _Atomic size_t max, used;
};

struct unique; /* NULL is an empty set */

void unique_free(struct unique *u, struct unique_cap *cap); /* takes NULL */

/* Makes sure that n sends can be noted without more memory.  False = out of
 * memory. */
bool unique_reserve(struct unique **u, uint32_t n);

/* When was this recipient mailed last, sends under way included?  False: not
 * as far as is known. */
bool unique_latest(const struct unique *u, uint64_t recipient,
                   uint64_t *ret_ms);

/* Notes a send that begins.  False: a new recipient and the cap is reached,
 * or out of memory; it was not noted. */
bool unique_begin(struct unique **u, struct unique_cap *cap, uint64_t recipient,
                  bool external, uint64_t at_ms);

/* Takes back one that was noted at that time.  False: there is none. */
bool unique_undo(struct unique *u, struct unique_cap *cap, uint64_t recipient,
                 uint64_t at_ms);

/* One that was noted at from_ms happened at to_ms, for good.  False: there is
 * none. */
bool unique_settle(struct unique *u, struct unique_cap *cap, uint64_t recipient,
                   uint64_t from_ms, uint64_t to_ms);

/* Notes a send that has happened.  False as for unique_begin. */
bool unique_add(struct unique **u, struct unique_cap *cap, uint64_t recipient,
                bool external, uint64_t at_ms);

/* Forgets whoever was last mailed before before_ms, sends under way excepted,
 * and gives back memory. */
void unique_sweep(struct unique **u, struct unique_cap *cap,
                  uint64_t before_ms);

/* Calls each once for every recipient with its latest time. */
void unique_each(const struct unique *u,
                 void (*each)(void *cookie, uint64_t recipient, bool external,
                              uint64_t latest_ms),
                 void *cookie);

#endif
