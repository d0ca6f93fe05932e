/* policy/compile_edits.c - add_header and remove_header.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Refused is what would make the message another one, or none:
 *
 *   add      the originator, date, destination and identification fields that
 *            every message has or may have once (RFC 5322 3.6), the trace
 *            (RFC 5321 4.4), what says how the body is to be read (RFC 2045)
 *            and DKIM-Signature, which only a signer can write
 *   remove   what a message must have (RFC 5322 3.6: From, Date; Message-ID
 *            finds duplicates), the trace, which ends mail loops, and again
 *            how the body is to be read
 *
 * Of other fields that may be there once, a second one makes Gmail refuse the
 * message; so they can be added by a rule that removes them as well.
 */
#include "policy/compile.h"

#include <strings.h>

enum { HEADER_LINE_MAX = 998 /* octets without CRLF: RFC 5322 2.1.1 */ };

static bool
is_one_of(const char *name, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcasecmp(name, *list) == 0)
            return true;
    return false;
}

static bool
is_of_mime(const char *name)
{
    return strncasecmp(name, "Content-", 8) == 0 ||
           strcasecmp(name, "MIME-Version") == 0;
}

static bool
may_be_added(const char *name)
{
    static const char *const never[] = {
        "From",           "To",       "Cc",          "Bcc",
        "Date",           "Received", "Return-Path", "Message-ID",
        "DKIM-Signature", NULL};

    return !is_one_of(name, never) && !is_of_mime(name);
}

static bool
may_be_removed(const char *name)
{
    static const char *const never[] = {"From",     "Date",        "Message-ID",
                                        "Received", "Return-Path", NULL};

    return !is_one_of(name, never) && !is_of_mime(name);
}

static bool
is_once_only(const char *name)
{
    static const char *const once[] = {"Subject",     "Sender",     "Reply-To",
                                       "In-Reply-To", "References", NULL};

    return is_one_of(name, once);
}

/* The name of a field, as it is written; NULL: an error was recorded. */
static const char *
read_name(struct compile *c, const char *key, const struct node *n)
{
    if (n->kind != NODE_SCALAR || !compile_is_field_name(n->text)) {
        diag_error(c->diag, n->at, "%s: %s is not the name of a field", key,
                   node_show(n).text);
        return NULL;
    }
    return compile_copy(c, n->text);
}

static bool
refused(struct compile *c, const char *key, const struct node *n,
        const char *verb)
{
    return diag_error(c->diag, n->at,
                      "%s: %s cannot be %s: the message would break", key,
                      node_show_text(n->text).text, verb);
}

static bool
named_twice(struct compile *c, const char *key, const struct node *n)
{
    return diag_error(c->diag, n->at, "%s: %s is named twice", key,
                      node_show_text(n->text).text);
}

/* ---- remove_header ---- */

static bool
removes(const struct header_edits *e, const char *name)
{
    for (size_t i = 0; i < e->n_remove; i++)
        if (strcasecmp(e->remove[i], name) == 0)
            return true;
    return false;
}

static bool
read_removal(struct compile *c, const struct node *n, struct header_edits *e)
{
    const char *name = read_name(c, "remove_header", n);

    if (name == NULL)
        return false;
    if (!may_be_removed(name))
        return refused(c, "remove_header", n, "removed");
    if (removes(e, name))
        return named_twice(c, "remove_header", n);
    e->remove[e->n_remove++] = name;
    return true;
}

static bool
read_remove(struct compile *c, const struct node *n, struct header_edits *e)
{
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "remove_header: an empty list");
    e->remove = compile_alloc(c, items.n, sizeof *e->remove);
    if (e->remove == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        ok &= read_removal(c, compile_item(&items, i), e);
    return ok;
}

/* ---- add_header ---- */

static const char *
read_value(struct compile *c, const char *name, const struct node *n)
{
    if (!compile_is_text(n) || slice_trim(n->text).len == 0) {
        diag_error(c->diag, n->at, "add_header: want a text for %s, found %s",
                   name, node_show(n).text);
        return NULL;
    }
    if (compile_has_control(n->text)) {
        diag_error(c->diag, n->at,
                   "add_header: a line break or control character in %s",
                   node_show(n).text);
        return NULL;
    }
    if (strlen(name) + 2 + n->text.len > HEADER_LINE_MAX) {
        diag_error(c->diag, n->at,
                   "add_header: the line is longer than %d octets",
                   HEADER_LINE_MAX);
        return NULL;
    }
    return compile_copy(c, n->text);
}

static bool
read_addition(struct compile *c, const struct node *key, const struct node *n,
              struct header_edits *e)
{
    const char *name = read_name(c, "add_header", key), *value;

    if (name == NULL)
        return false;
    if (!may_be_added(name))
        return refused(c, "add_header", key, "added");
    if (is_once_only(name) && !removes(e, name))
        return diag_error(c->diag, key->at,
                          "add_header: a message has one %s at most: write "
                          "remove_header: %s too",
                          name, name);
    for (size_t i = 0; i < e->n_add; i++)
        if (strcasecmp(e->add[i].name, name) == 0)
            return named_twice(c, "add_header", key);
    value = read_value(c, name, n);
    if (value == NULL)
        return false;
    e->add[e->n_add].name = name;
    e->add[e->n_add++].value = value;
    return true;
}

static bool
read_add(struct compile *c, const struct node *n, struct header_edits *e)
{
    bool ok = true;

    if (n->kind != NODE_MAP || n->n == 0)
        return diag_error(
            c->diag, n->at,
            "add_header: want a map of names and texts, found %s",
            n->kind == NODE_MAP ? "an empty one" : node_show(n).text);
    e->add = compile_alloc(c, n->n, sizeof *e->add);
    if (e->add == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_addition(c, n->key[i], n->item[i], e);
    return ok;
}

bool
compile_edits(struct compile *c, const struct node *add,
              const struct node *remove, const struct header_edits **ret)
{
    struct header_edits *e;
    bool ok = true;

    if (add == NULL && remove == NULL)
        return true;
    e = compile_alloc(c, 1, sizeof *e);
    if (e == NULL)
        return false;
    if (remove != NULL)
        ok &= read_remove(c, remove, e);
    if (add != NULL)
        ok &= read_add(c, add, e);
    *ret = e;
    return ok;
}
