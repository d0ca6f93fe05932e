/* milter/deliver/attempts.h - what is being tried now, and what was tried and
 * put off.
 * SPDX-License-Identifier: Apache-2.0
 *
 * In flight: at most one attempt for each (ticket, recipient) at a time.
 * Waiting: messages that the MTA will bring again; the counts behind the
 * milter's forecast.  A waiting message is forgotten when the MTA has not
 * come back for ATTEMPTS_FORGET_MS.  Any thread.
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

/* NULL = out of memory.  quota is borrowed: its waiting counts are kept. */
struct attempts *attempts_new(struct quota *quota);
void attempts_free(struct attempts *a); /* takes NULL */

/* False: another attempt for it is under way (or out of memory). */
bool attempts_begin(struct attempts *a, uint64_t ticket, const char *recipient);
void attempts_end(struct attempts *a, uint64_t ticket, const char *recipient);

/* The message was put off with so many recipients for this account; replaces
 * what was known of it.  0 = nothing of it waits any more.  Returns true when
 * it was not waiting before. */
bool attempts_waiting(struct attempts *a, uint64_t ticket, uint64_t account,
                      uint32_t recipients, uint64_t now_ms);

/* Forgets who has not come back; now_ms: quota time, as above. */
void attempts_sweep(struct attempts *a, uint64_t now_ms);

#endif
