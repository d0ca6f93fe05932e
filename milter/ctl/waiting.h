/* milter/ctl/waiting.h - what waits for an account.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_WAITING_H
#define CTL_WAITING_H

#include "milter/ctl/look.h"

struct waiting {
    uint32_t coming_messages, coming_recipients; /* accepted, not yet tried */
    int64_t oldest_ms; /* Unix time of the first try of the one that waits
                        * longest; 0 = not known */
};

void waiting_coming(const struct look *k, uint64_t id, struct waiting *w);

/* From the ledger; id 0 = of all accounts.  Leaves it 0 when the ledger cannot
 * be read. */
void waiting_oldest(const struct look *k, uint64_t id, struct waiting *w);

#endif
