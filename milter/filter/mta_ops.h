/* milter/filter/mta_ops.h - what the filter can ask of the MTA: libmilter's
 * calls, or a recorder in tests.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All but `macro` are for the end of a message.  Each returns false when the
 * MTA (or libmilter) refused; the message is then answered with a temporary
 * failure, never left half-edited.
 */
#ifndef FILTER_MTA_OPS_H
#define FILTER_MTA_OPS_H

#include <stdbool.h>

struct mta_ops {
    /* The value of a macro, by its name without braces, as far as the MTA has
     * told it by now; NULL = it has not.  Borrowed until the callback ends. */
    const char *(*macro)(void *mta, const char *name);
    /* The message waits until a person releases it. */
    bool (*quarantine)(void *mta, const char *reason);
    /* The index-th of the fields of that name, from 1. */
    bool (*remove_header)(void *mta, const char *name, unsigned index);
    bool (*add_header)(void *mta, const char *name, const char *value);
    bool (*del_rcpt)(void *mta, const char *address);
    /* esmtp: "ORCPT=rfc822;... NOTIFY=...", RFC 3461; never NULL. */
    bool (*add_rcpt)(void *mta, const char *address, const char *esmtp);
};

#endif
