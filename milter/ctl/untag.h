/* milter/ctl/untag.h - the original of a tagged recipient, by its structure.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  For reading logs without the keys: nothing is verified, so what this
 * finds may be forged, and nothing may be sent by it.
 */
#ifndef CTL_UNTAG_H
#define CTL_UNTAG_H

#include "policy/ticket.h"

struct untagged {
    char recipient[TAGGED_MAX + 1]; /* original */
    char label[LABEL_MAX + 1];      /* of the account: ticket_mailbox() */
};

/* False: not a tagged address. */
bool untag(struct slice address, const char *tag_domain, struct untagged *ret);

#endif
