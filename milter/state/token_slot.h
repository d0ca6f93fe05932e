/* milter/state/token_slot.h - one access token in shared memory.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STATE_TOKEN_SLOT_H
#define STATE_TOKEN_SLOT_H

#include "milter/state/layout.h"

/* Is this text an access token as we pass them on: 1..TOKEN_TEXT_MAX visible
 * ASCII characters (RFC 6750 2.1)? */
bool token_slot_text_ok(const char *text, size_t len);

/* One writer at a time, by the caller's lock.  t->text is zero behind
 * t->len. */
void token_slot_publish(struct token_slot *slot, uint64_t id,
                        const struct token *t);

/* STATE_EEMPTY, STATE_EBUSY, STATE_ECORRUPT; *ret is set on success only, and
 * wiped by the caller. */
enum state_result token_slot_read(const struct token_slot *slot, uint64_t id,
                                  struct token *ret);

#endif
