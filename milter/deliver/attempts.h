/* milter/deliver/attempts.h - what is being tried now, and what was tried and
 * put off.
 * SPDX-License-Identifier: Apache-2.0
 *
 * In flight: at most one attempt for each (ticket, recipient) at a time.
 * Waiting: messages that the MTA will bring again; the counts behind the
 * milter's forecast.  A waiting message is forgotten when the MTA has not
 * come back for ATTEMPTS_FORGET_MS.  In line: who waits in here, inside LMTP,
 * for room of an account; the oldest message goes first.  Any thread.
 */
#ifndef DELIVER_ATTEMPTS_H
#define DELIVER_ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/state/quota.h"

struct attempts;

/* Longer than the longest retry interval of the MTAs as shipped (Postfix
 * maximal_backoff_time 4000 s). */
enum { ATTEMPTS_FORGET_MS = 2 * 4000 * 1000 };

/* Half of what the MTA brings at once for one of its queues
 * (gmroute_destination_concurrency_limit = 10): those who only wait for the
 * clock leave the rest to the other accounts of the queue. */
enum { ATTEMPTS_LINE_MAX = 5 };

/* NULL = out of memory.  quota is borrowed: its waiting counts are kept. */
struct attempts *attempts_new(struct quota *quota);
void attempts_free(struct attempts *a); /* takes NULL */

/* False: another attempt for it is under way (or out of memory). */
bool attempts_begin(struct attempts *a, uint64_t ticket, const char *recipient);
void attempts_end(struct attempts *a, uint64_t ticket, const char *recipient);

/* Recipients of one message, and how many of them are external. */
struct portion {
    uint32_t recipients, external;
};

/* An LMTP transaction brought recipients of a message for this account: `back`
 * of them had been put off before, and `left` are put off now.  The MTA may
 * bring a message in several portions; each changes what waits by its own.
 * now_ms: quota time. */
void attempts_waiting(struct attempts *a, uint64_t ticket, uint64_t account,
                      struct portion back, struct portion left,
                      uint64_t now_ms);

/* Forgets who has not come back; now_ms: quota time, as above. */
void attempts_sweep(struct attempts *a, uint64_t now_ms);

/* A place in line for room of an account.  Behind it are younger messages that
 * need room in the same limit and may leave others no more of it. */
struct place {
    uint64_t account, ticket;
    uint32_t minute; /* of acceptance */
    unsigned share_percent;
    int waits_for;  /* enum dimension; -1 = whatever the account lacks */
    unsigned needs; /* 1 << enum dimension, of all that it takes from */
};

/* May one more wait for room of this account?  True: attempts_leave follows.
 * Who is in line already says what it waits for now. */
bool attempts_line_up(struct attempts *a, const struct place *p);
void attempts_leave(struct attempts *a, const struct place *p);

/* Is anybody in line whose turn is before p's (who need not be in line)? */
bool attempts_is_behind(struct attempts *a, const struct place *p);

#endif
