/* milter/state/hints.h - accepted by the milter, not yet tried by the agent.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Counted by account and minute of acceptance; a minute fades after an hour,
 * and a message's first attempt clears its own.  Two writers: the milter
 * adds, the agent clears; every cell is one atomic word.  Whichever comes
 * first makes the segment.
 *
 * Also carries wishes for a template's first token, from the milter to the
 * token daemon, and the milter's statistics.
 */
#ifndef STATE_HINTS_H
#define STATE_HINTS_H

#include "milter/base/clock.h"
#include "milter/state/segment.h"
#include "milter/state/statistics.h"

struct hints; /* a handle of this process; any thread */

enum { HINTS_FADE_MINUTES = 60 };

/* Every function takes a NULL handle: nothing is known, nothing is counted. */

/* Attaches, or makes the segment when there is none that fits; comes over by
 * itself when another process replaces it. */
enum state_result hints_open(struct hints **ret, const char *directory,
                             uint32_t n_accounts, char *err, size_t err_size);

/* Attaches read-only; STATE_EABSENT while there is none. */
enum state_result hints_open_reader(struct hints **ret, const char *directory,
                                    char *err, size_t err_size);
void hints_free(struct hints *h);

/* One message with so many recipients, so many of them external, accepted in
 * that minute (Unix time / 60).  Never fails the caller: a full table is made anew without those that
 * have faded, and is one full of what has not, that is counted and forgotten. */
void hints_add(struct hints *h, const char *identity, uint64_t id,
               uint32_t minute, uint32_t recipients, uint32_t external);
void hints_clear(struct hints *h, uint64_t id, uint32_t minute,
                 uint32_t recipients, uint32_t external);

/* What is outstanding, as of now_minute. */
void hints_sum(struct hints *h, uint64_t id, uint32_t now_minute,
               uint32_t *ret_messages, uint32_t *ret_recipients);
/* How many of these recipients are external. */
uint32_t hints_external(struct hints *h, uint64_t id, uint32_t now_minute);

/* The milter wants a token for this account (a template's first use); wakes
 * the token daemon. */
void hints_want_token(struct hints *h, const char *identity, uint64_t id);

/* As quota_wants, without waiting. */
enum state_result hints_wants(struct hints *h,
                              void (*each)(void *cookie, uint64_t id,
                                           const char *identity),
                              void *cookie);

/* Waits up to ms for a wish that the last hints_wants has not seen. */
void hints_wait(struct hints *h, uint64_t ms);

enum hints_stat {
    HINTS_MESSAGES,
    HINTS_ROUTED,
    HINTS_REJECTED,
    HINTS_DEFERRED,
    HINTS_FORGED,
    HINTS_FAILED,
    HINTS_DROPPED,     /* hints and wishes for which there was no slot */
    HINTS_DECISION_US, /* the first of LATENCY_WORDS */
    HINTS_STATS = HINTS_DECISION_US + LATENCY_WORDS
};
void hints_count(struct hints *h, enum hints_stat s, uint32_t n);
/* From the end of a message to our answer. */
void hints_count_decision(struct hints *h, uint64_t us);
uint64_t hints_stat(const struct hints *h, unsigned stat);

#endif
