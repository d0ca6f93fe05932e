/* milter/deliver/rewrite.h - the header of Gmail's copy.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All fields pass byte for byte, in their order, except:
 *
 * - Bcc and Resent-Bcc are taken out (RFC 5322 3.6.3; Gmail would show them).
 * - Tags are taken off the addresses in Received fields.  A content filter that
 *   hands a message back to the MTA makes it write "for <tagged recipient>",
 *   which is nobody's business outside.
 * - A missing Message-ID or Date is added behind the others.  The Message-ID
 *   is made from the ticket, so that a message tried again keeps it and Gmail
 *   can know it for the same.
 * - FROM_REWRITE, when From is not one address of the account's own (its
 *   address or its send_as): From gets the account's address and the old
 *   display name, Reply-To the old address unless there is one,
 *   X-Original-From the old text; DKIM signatures that cover From, and would
 *   now be wrong, are taken out.  Gmail would replace From all the same, and
 *   leave the rest.
 */
#ifndef DELIVER_REWRITE_H
#define DELIVER_REWRITE_H

#include <stdbool.h>

#include "milter/base/buf.h"
#include "milter/deliver/fields.h"
#include "milter/deliver/message.h"

/* Appends the new header, without the blank line.  False: out of memory or
 * over to's maximum. */
bool rewrite_header(const struct fields *f, const struct copy_options *o,
                    struct buf *to);

#endif
