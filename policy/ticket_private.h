/* policy/ticket_private.h - between ticket.c and ticket_account.c.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_TICKET_PRIVATE_H
#define POLICY_TICKET_PRIVATE_H

#include <stdbool.h>

#include "policy/slice.h"

/* Is it an account label that ticket_account_label() could have written, but
 * for case? */
bool ticket_label_is_good(struct slice label);

#endif
