/* policy/window.h - one rolling window, exact.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A window of W ms is cut into WINDOW_PARTS buckets; time t lies in bucket
 * floor(t * 144 / W), so that buckets need no whole number of milliseconds.
 * What was spent in a bucket counts until every instant of it is at least W
 * ago.  Hence: in any span of length W no more than the limit is ever let
 * through, and room returns at most W/144 late.
 *
 * A ceiling lowers the limit until a time: Google allowed less than we are
 * told it does.
 *
 * Pure: time is an argument, in ms of quota time (milter/state/quota.h),
 * never negative.  Time that goes back is taken as the newest time seen.
 *
 * The words are atomics so that a window can lie in shared memory and be
 * copied by a reader while its one writer changes it; all access is relaxed,
 * and the caller orders it (a lock among writers, a sequence number for
 * readers).
 */
#ifndef POLICY_WINDOW_H
#define POLICY_WINDOW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WINDOW_PARTS = 144, WINDOW_BUCKETS = WINDOW_PARTS + 1 };

#define WINDOW_NEVER UINT64_MAX

/* Longest window, ms (a year): keeps t * 144 far from overflow. */
#define WINDOW_MS_MAX (366ull * 86400 * 1000)

struct window {
    _Atomic uint64_t limit;            /* units */
    _Atomic uint64_t window_ms;        /* 0 = unused */
    _Atomic uint64_t newest;           /* bucket number of the newest bucket */
    _Atomic uint64_t used;             /* sum of all buckets */
    _Atomic uint64_t ceiling;          /* units; before ceiling_until_ms */
    _Atomic uint64_t ceiling_until_ms; /* 0 = none */
    _Atomic uint64_t bucket[WINDOW_BUCKETS]; /* by bucket number % count */
};

/* Empties it and sets limit and length; no ceiling. */
void window_init(struct window *w, uint64_t limit, uint64_t window_ms);

uint64_t window_bucket_of(uint64_t window_ms, uint64_t now_ms);

/* Forgets what is too old at now_ms. */
void window_advance(struct window *w, uint64_t now_ms);

/* Units spent that still count at now_ms.  Does not change the window. */
uint64_t window_used(const struct window *w, uint64_t now_ms);

/* No more than max until then, if that is less than the limit.  until_ms 0
 * takes the ceiling away. */
void window_set_ceiling(struct window *w, uint64_t max, uint64_t until_ms);

/* What holds at now_ms: the limit, or the ceiling where it is lower. */
uint64_t window_limit(const struct window *w, uint64_t now_ms);

/* Would n more fit at now_ms under `share_percent` of window_limit?  Nothing is
 * spent. */
bool window_fits(const struct window *w, uint64_t now_ms, uint64_t n,
                 unsigned share_percent);

/* Spends n now, whether it fits or not, and returns the bucket number that
 * was charged, for window_give_back and the ledger. */
uint64_t window_spend(struct window *w, uint64_t now_ms, uint64_t n);

/* Takes n back out of that bucket; nothing when it has already passed out. */
void window_give_back(struct window *w, uint64_t bucket, uint64_t n);

/* That part of a limit, rounded down, without overflow. */
uint64_t window_share(uint64_t limit, unsigned share_percent);

/* Earliest time at which n more fit, given that nothing else is spent: when
 * enough has aged, or the ceiling ends.  now_ms when they fit now;
 * WINDOW_NEVER when n exceeds the limit itself. */
uint64_t window_room_at(const struct window *w, uint64_t now_ms, uint64_t n,
                        unsigned share_percent);

/* When something was spent last, to the bucket: the start of the newest one
 * that still counts at now_ms and holds something; 0 = none does.  A window
 * without room has had none since then: what was spent there fitted, nothing
 * did after it. */
uint64_t window_spent_at(const struct window *w, uint64_t now_ms);

/* Adds n to a bucket in the past: rebuilding from the ledger.  Buckets too
 * old at now_ms are ignored. */
void window_restore(struct window *w, uint64_t now_ms, uint64_t bucket,
                    uint64_t n);

/* Sums the buckets again: for the next writer, after one that may have died
 * in the middle of a change. */
void window_repair(struct window *w);

#endif
