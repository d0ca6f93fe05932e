/* milter/filter/mta_ops.h - what the filter can ask of the MTA at the end of
 * a message: libmilter's calls, or a recorder in tests.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each returns false when the MTA (or libmilter) refused; the message is then
 * answered with a temporary failure, never left half-edited.
 */
#ifndef FILTER_MTA_OPS_H
#define FILTER_MTA_OPS_H

#include <stdbool.h>

struct mta_ops {
    bool (*del_rcpt)(void *mta, const char *address);
    /* esmtp: "ORCPT=rfc822;... NOTIFY=...", RFC 3461; never NULL. */
    bool (*add_rcpt)(void *mta, const char *address, const char *esmtp);
};

#endif
