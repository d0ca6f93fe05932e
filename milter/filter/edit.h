/* milter/filter/edit.h - the changes to one envelope: planned first, then
 * applied in one go at end-of-message.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Texts are borrowed from the message's arena.
 */
#ifndef FILTER_EDIT_H
#define FILTER_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "milter/filter/mta_ops.h"
#include "policy/arena.h"

struct edit {
    struct edit *next;
    const char *remove; /* the exact spelling received, without <> and source
                         * route: Postfix compares it so; NULL = nothing */
    const char *add;    /* tagged recipient; NULL = nothing */
    const char *esmtp;  /* of `add` */
};

struct edits {
    struct edit *first, **end;
    size_t n;
};

void edits_init(struct edits *e);

/* Plans one exchange.  False = out of memory. */
bool edits_exchange(struct edits *e, struct arena *a, const char *remove,
                    const char *add, const char *esmtp);

/* The RCPT parameters of a tagged recipient: ORCPT (the client's own, else
 * the original recipient as xtext: RFC 3461 4.2) and NOTIFY when the client
 * gave one.  NULL = out of memory. */
const char *edits_esmtp(struct arena *a, const char *original,
                        const char *client_orcpt, const char *client_notify);

/* Applies all; stops at the first refusal and returns false. */
bool edits_apply(const struct edits *e, const struct mta_ops *ops, void *mta);

#endif
