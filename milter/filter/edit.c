/* milter/filter/edit.c - see edit.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/edit.h"

#include <stdio.h>
#include <string.h>

void
edits_init(struct edits *e)
{
    e->first = NULL;
    e->end = &e->first;
    e->n = 0;
}

static bool
plan(struct edits *e, struct arena *a, struct edit edit)
{
    struct edit *x = arena_alloc(a, 1, sizeof *x);

    if (x == NULL)
        return false;
    *x = edit;
    *e->end = x;
    e->end = &x->next;
    e->n++;
    return true;
}

bool
edits_quarantine(struct edits *e, struct arena *a, const char *reason)
{
    return plan(e, a, (struct edit){.kind = EDIT_QUARANTINE, .value = reason});
}

bool
edits_remove_header(struct edits *e, struct arena *a, const char *name,
                    unsigned index)
{
    return plan(e, a,
                (struct edit){
                    .kind = EDIT_REMOVE_HEADER, .name = name, .index = index});
}

bool
edits_add_header(struct edits *e, struct arena *a, const char *name,
                 const char *value)
{
    return plan(
        e, a,
        (struct edit){.kind = EDIT_ADD_HEADER, .name = name, .value = value});
}

bool
edits_del_rcpt(struct edits *e, struct arena *a, const char *spelling)
{
    return plan(e, a, (struct edit){.kind = EDIT_DEL_RCPT, .name = spelling});
}

bool
edits_add_rcpt(struct edits *e, struct arena *a, const char *tagged,
               const char *esmtp)
{
    return plan(
        e, a,
        (struct edit){.kind = EDIT_ADD_RCPT, .name = tagged, .value = esmtp});
}

/* RFC 3461 4: xchar is "!" to "~" without "+" and "=".  Octets above that are
 * escaped one by one, also in UTF-8 addresses: Postfix decodes the parameter
 * of a milter as plain xtext. */
static char *
xtext(struct arena *a, const char *text)
{
    char *out = arena_alloc(a, strlen(text) * 3 + 1, 1);
    char *to = out;

    if (out == NULL)
        return NULL;
    for (const unsigned char *c = (const unsigned char *)text; *c != 0; c++) {
        if (*c >= '!' && *c <= '~' && *c != '+' && *c != '=')
            *to++ = (char)*c;
        else
            to += sprintf(to, "+%02X", *c);
    }
    *to = 0;
    return out;
}

const char *
edits_esmtp(struct arena *a, const char *original, const char *client_orcpt,
            const char *client_notify)
{
    const char *orcpt = client_orcpt;

    if (orcpt == NULL) {
        const char *x = xtext(a, original);

        orcpt = x != NULL ? arena_printf(a, "ORCPT=rfc822;%s", x) : NULL;
    }
    if (orcpt == NULL || client_notify == NULL)
        return orcpt;
    return arena_printf(a, "%s %s", orcpt, client_notify);
}

static bool
apply(const struct edit *x, const struct mta_ops *ops, void *mta)
{
    switch (x->kind) {
    case EDIT_QUARANTINE:
        return ops->quarantine(mta, x->value);
    case EDIT_REMOVE_HEADER:
        return ops->remove_header(mta, x->name, x->index);
    case EDIT_ADD_HEADER:
        return ops->add_header(mta, x->name, x->value);
    case EDIT_DEL_RCPT:
        return ops->del_rcpt(mta, x->name);
    case EDIT_ADD_RCPT:
        return ops->add_rcpt(mta, x->name, x->value);
    }
    return false;
}

bool
edits_apply(const struct edits *e, const struct mta_ops *ops, void *mta)
{
    for (const struct edit *x = e->first; x != NULL; x = x->next)
        if (!apply(x, ops, mta))
            return false;
    return true;
}
