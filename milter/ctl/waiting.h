/* milter/ctl/waiting.h - what waits for an account.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_WAITING_H
#define CTL_WAITING_H

#include "milter/ctl/look.h"
#include "milter/ledger/query.h"

struct waiting {
    uint32_t coming_messages, coming_recipients; /* accepted, not yet tried */
    int64_t oldest_ms; /* Unix time of the first try of the one that waits
                        * longest; 0 = not known */
};

void waiting_coming(const struct look *k, uint64_t id, struct waiting *w);

/* From the ledger; id 0 = of all accounts.  Leaves it 0 when the ledger cannot
 * be read. */
void waiting_oldest(const struct look *k, uint64_t id, struct waiting *w);

/* What a loss of power was charged with last; all 0 where there was none or
 * the ledger cannot be read. */
void waiting_loss(const struct look *k, struct query_loss *ret);

#endif
