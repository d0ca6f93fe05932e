/* milter/deliver/suspects.h - accounts of which Gmail has refused a message as
 * unsolicited lately.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One such refusal is about the message, the next one within an hour about the
 * account (verdict.suspect).  A restart forgets them: the first one after it
 * counts as the first.  Any thread.
 */
#ifndef DELIVER_SUSPECTS_H
#define DELIVER_SUSPECTS_H

#include <stdbool.h>
#include <stdint.h>

enum { SUSPECTS_MAX = 1024 /* accounts remembered */ };

struct suspects;

struct suspects *suspects_new(void);    /* NULL = out of memory */
void suspects_free(struct suspects *s); /* takes NULL */

/* A message of the account was refused so: is it the second one within
 * OUTCOME_SUSPECT_MS?  Then the next one is a first again.  now_ms: quota
 * time. */
bool suspects_again(struct suspects *s, uint64_t account, uint64_t now_ms);

#endif
