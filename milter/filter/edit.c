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

bool
edits_exchange(struct edits *e, struct arena *a, const char *remove,
               const char *add, const char *esmtp)
{
    struct edit *x = arena_alloc(a, 1, sizeof *x);

    if (x == NULL)
        return false;
    x->remove = remove;
    x->add = add;
    x->esmtp = esmtp;
    *e->end = x;
    e->end = &x->next;
    e->n++;
    return true;
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

bool
edits_apply(const struct edits *e, const struct mta_ops *ops, void *mta)
{
    for (const struct edit *x = e->first; x != NULL; x = x->next) {
        if (x->remove != NULL && !ops->del_rcpt(mta, x->remove))
            return false;
        if (x->add != NULL && !ops->add_rcpt(mta, x->add, x->esmtp))
            return false;
    }
    return true;
}
