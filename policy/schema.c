/* policy/schema.c - see schema.h: one map read by its rows.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/schema.h"

#include "policy/compile.h"

bool
schema_mismatch(struct compile *c, const struct schema_row *row,
                const struct node *n)
{
    if (node_is_null(n))
        return diag_error(c->diag, n->at, "%s: want %s, found nothing",
                          row->key, row->type->form);
    return diag_error(c->diag, n->at, "%s: want %s, found %s", row->key,
                      row->type->form, node_show(n).text);
}

const struct schema_row *
schema_row(const struct schema *s, struct slice key)
{
    for (size_t i = 0; i < s->n; i++)
        if (slice_eq(key, slice_of(s->row[i].key)))
            return &s->row[i];
    return NULL;
}

static bool
unknown_key(struct compile *c, const struct schema *s, const struct node *key)
{
    struct suggest hint = suggest_start(key->text);
    char text[SUGGEST_TEXT];

    /* Past a full diag the comparisons would be for nothing. */
    for (size_t i = 0; i < s->n && c->diag->n < DIAG_MAX; i++)
        suggest_try(&hint, slice_of(s->row[i].key));
    return diag_error(c->diag, key->at, "unknown key %s in %s%s",
                      node_show_text(key->text).text, s->name,
                      suggest_text(&hint, text));
}

static bool
check_keys(struct compile *c, const struct schema *s, const struct node *n)
{
    bool ok = true;

    for (size_t i = 0; i < n->n; i++)
        if (schema_row(s, n->key[i]->text) == NULL)
            ok &= unknown_key(c, s, n->key[i]);
    return ok;
}

/* The default is read like anything else, so it obeys the same range. */
static bool
read_default(struct compile *c, const struct schema_row *row, struct loc at,
             void *field)
{
    const struct node n = {
        .kind = NODE_SCALAR, .at = at, .text = slice_of(row->unset)};

    return row->type->read(c, row, &n, field);
}

bool
schema_read(struct compile *c, const struct schema *s, const struct node *n,
            struct loc at, void *object)
{
    bool ok;

    if (n != NULL && n->kind != NODE_MAP)
        return diag_error(c->diag, n->at, "%s: want a map, found %s", s->name,
                          node_show(n).text);
    ok = n == NULL || check_keys(c, s, n);
    for (size_t i = 0; i < s->n; i++) {
        const struct schema_row *row = &s->row[i];
        const struct node *value = n != NULL ? node_get(n, row->key) : NULL;
        void *field = (char *)object + row->offset;

        if (value != NULL)
            ok &= row->type->read(c, row, value, field);
        else if (row->need == SCHEMA_REQUIRED)
            ok &= diag_error(c->diag, at, "%s: the key %s is missing", s->name,
                             row->key);
        else if (row->unset != NULL)
            ok &= read_default(c, row, at, field);
        else if (row->type == &schema_map)
            ok &= schema_read(c, row->sub, NULL, at, field);
    }
    return ok;
}
