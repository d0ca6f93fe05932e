/* milter/filter/edit.h - the changes to one message: planned first, then
 * applied in one go at end-of-message.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Texts are borrowed from the policy and from the message's arena.
 */
#ifndef FILTER_EDIT_H
#define FILTER_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "milter/filter/mta_ops.h"
#include "policy/arena.h"

enum edit_kind {
    EDIT_QUARANTINE,    /* value: the reason */
    EDIT_REMOVE_HEADER, /* name, index */
    EDIT_ADD_HEADER,    /* name, value */
    EDIT_DEL_RCPT,      /* name: the exact spelling received, without <> and
                         * source route, since Postfix compares it so */
    EDIT_ADD_RCPT,      /* name: the tagged recipient; value: its parameters */
};

struct edit {
    struct edit *next;
    enum edit_kind kind;
    const char *name, *value;
    unsigned index; /* from 1 */
};

struct edits {
    struct edit *first, **end;
    size_t n;
};

void edits_init(struct edits *e);

/* Each plans one change at the end of the list.  False = out of memory. */
bool edits_quarantine(struct edits *e, struct arena *a, const char *reason);
bool edits_remove_header(struct edits *e, struct arena *a, const char *name,
                         unsigned index);
bool edits_add_header(struct edits *e, struct arena *a, const char *name,
                      const char *value);
bool edits_del_rcpt(struct edits *e, struct arena *a, const char *spelling);
bool edits_add_rcpt(struct edits *e, struct arena *a, const char *tagged,
                    const char *esmtp);

/* The RCPT parameters of a tagged recipient: ORCPT (the client's own, else
 * the original recipient as xtext: RFC 3461 4.2) and NOTIFY when the client
 * gave one.  NULL = out of memory. */
const char *edits_esmtp(struct arena *a, const char *original,
                        const char *client_orcpt, const char *client_notify);

/* Applies all; stops at the first refusal and returns false. */
bool edits_apply(const struct edits *e, const struct mta_ops *ops, void *mta);

#endif
