/* milter/deliver/restore.h - an agent that starts goes on where the last one
 * was, however that ended.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_RESTORE_H
#define DELIVER_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/deliver/attempts.h"
#include "milter/ledger/ledger.h"

/* Before quota_make: deliveries that were under way become in doubt, and what
 * a loss of power has taken from the book is charged; both are logged.
 * boot_id: process_boot_id.  False: ledger_trouble says why. */
bool restore_book(struct ledger *l, const struct policy *p,
                  const uint64_t boot_id[2]);

/* Fills fresh shared memory with what the book knows: windows, whom they
 * counted, states, observed limits, diverts, who waits.  False, and err: the
 * book cannot be read, or there is no place for all of its accounts. */
bool restore_memory(const struct policy *p, struct ledger *l, struct quota *q,
                    struct attempts *a, char *err, size_t err_size);

/* The diverts alone, after a reload: while the other account is not configured
 * a divert rests; it is in force again when that one comes back. */
bool restore_diverts(const struct policy *p, struct ledger *l, struct quota *q);

#endif
