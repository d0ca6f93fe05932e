/* milter/state/status_slot.h - one account's token state in shared memory.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STATE_STATUS_SLOT_H
#define STATE_STATUS_SLOT_H

#include "milter/state/layout.h"

/* Serials fit into a request word (layout.h). */
bool status_slot_fits(const struct token_status *s);

/* One writer at a time, by the caller's lock; *s fits. */
void status_slot_publish(struct status_slot *slot,
                         const struct token_status *s);

/* STATE_EEMPTY, STATE_EBUSY, STATE_ECORRUPT; *ret is set on success only. */
enum state_result status_slot_read(const struct status_slot *slot, uint64_t id,
                                   struct token_status *ret);

#endif
