/* policy/compile_match.c - `match`: keys to a tree of conditions.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include "policy/scalar.h"

/* ---- patterns ---- */

static bool
read_patterns(struct compile *c, const char *key, enum pattern_use use,
              const struct node *n, struct condition *ret)
{
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at,
                          "%s: an empty list, which nothing can match", key);
    ret->pattern = compile_alloc(c, items.n, sizeof *ret->pattern);
    if (ret->pattern == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        if (compile_pattern(c, key, use, compile_item(&items, i),
                            &ret->pattern[ret->n_patterns]))
            ret->n_patterns++;
        else
            ok = false;
    return ok;
}

bool
compile_is_field_name(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || (unsigned char)s.at[i] >= 0x7F || s.at[i] == ':')
            return false;
    return s.len > 0;
}

/* {Name: pattern, ...}: a condition for each, and all must hold. */
static bool
read_header(struct compile *c, const struct node *n, struct condition *ret)
{
    bool ok = true;

    if (n->kind != NODE_MAP || n->n == 0)
        return diag_error(c->diag, n->at,
                          "header: want a map of names and patterns, found %s",
                          node_show(n).text);
    ret->key = MATCH_ALL;
    ret->child = compile_alloc(c, n->n, sizeof *ret->child);
    if (ret->child == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++) {
        struct condition *one = &ret->child[ret->n_children];

        if (!compile_is_field_name(n->key[i]->text)) {
            ok = diag_error(c->diag, n->key[i]->at,
                            "header: %s is not the name of a field",
                            node_show(n->key[i]).text);
            continue;
        }
        one->key = MATCH_HEADER;
        one->at = n->key[i]->at;
        one->name = compile_lower(c, n->key[i]->text);
        ok &= one->name != NULL &&
              read_patterns(c, "header", USE_HEADER, n->item[i], one);
        ret->n_children++;
    }
    if (ret->n_children == 1)
        *ret = ret->child[0];
    return ok;
}

/* ---- size and kind ---- */

static struct slice
take_operator(struct slice s, enum compare *ret)
{
    static const struct {
        const char *text;
        enum compare op;
    } ops[] = {{"<=", COMPARE_LE},
               {">=", COMPARE_GE},
               {"<", COMPARE_LT},
               {">", COMPARE_GT}};

    *ret = COMPARE_EQ;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (slice_starts(s, ops[i].text)) {
            *ret = ops[i].op;
            return slice_trim(slice_from(s, strlen(ops[i].text)));
        }
    return s;
}

static bool
read_sizes(struct compile *c, const struct node *n, struct condition *ret)
{
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "size: an empty list");
    ret->number = compile_alloc(c, items.n, sizeof *ret->number);
    if (ret->number == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++) {
        const struct node *item = compile_item(&items, i);
        enum scalar_result r = SCALAR_ESYNTAX;

        if (compile_is_text(item))
            r = scalar_size(take_operator(item->text, &ret->number[i].op),
                            &ret->number[i].value);
        if (r != SCALAR_OK)
            ok = diag_error(c->diag, item->at,
                            "size: want <, <=, > or >= and a size such as "
                            "25MB, found %s",
                            node_show(item).text);
    }
    ret->n_numbers = items.n;
    return ok;
}

static bool
read_kinds(struct compile *c, const struct node *n, struct condition *ret)
{
    static const struct schema_row row = {"kind", &schema_word,
                                          .size = sizeof(uint32_t),
                                          .words = "bounce|auto|bulk"};
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "kind: an empty list");
    ret->kind = compile_alloc(c, items.n, sizeof *ret->kind);
    if (ret->kind == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        ok &= schema_word.read(c, &row, compile_item(&items, i), &ret->kind[i]);
    ret->n_kinds = items.n;
    return ok;
}

/* ---- keys ---- */

static bool read_map(struct compile *c, const struct node *n, bool may_be_empty,
                     struct condition *ret);

/* any and all: a list of maps. */
static bool
read_branches(struct compile *c, const char *key, const struct node *n,
              struct condition *ret)
{
    bool ok = true;

    if (n->kind != NODE_LIST || n->n == 0)
        return diag_error(c->diag, n->at,
                          "%s: want a list of conditions, such as [{sender: "
                          "a}, {auth: b}], found %s",
                          key,
                          n->n == 0 && n->kind == NODE_LIST
                              ? "an empty one"
                              : node_show(n).text);
    ret->child = compile_alloc(c, n->n, sizeof *ret->child);
    if (ret->child == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_map(c, n->item[i], false, &ret->child[i]);
    ret->n_children = n->n;
    return ok;
}

static bool
read_not(struct compile *c, const struct node *n, struct condition *ret)
{
    bool ok = read_map(c, n, false, ret);

    ret->key = MATCH_NOT;
    return ok;
}

enum form {
    FORM_PATTERNS,
    FORM_HEADER,
    FORM_SIZE,
    FORM_KIND,
    FORM_BRANCHES,
    FORM_NOT,
    FORM_LATER
};

static const struct match_row {
    const char *key;
    enum form form;
    enum match_key match;
    enum pattern_use use;
} match_rows[] = {
    {"sender", FORM_PATTERNS, MATCH_SENDER, USE_ADDRESS},
    {"sender_domain", FORM_PATTERNS, MATCH_SENDER_DOMAIN, USE_DOMAIN},
    {"from", FORM_PATTERNS, MATCH_FROM, USE_ADDRESS},
    {"from_domain", FORM_PATTERNS, MATCH_FROM_DOMAIN, USE_DOMAIN},
    {"recipient", FORM_PATTERNS, MATCH_RECIPIENT, USE_ADDRESS},
    {"recipient_domain", FORM_PATTERNS, MATCH_RECIPIENT_DOMAIN, USE_DOMAIN},
    {"header", FORM_HEADER, MATCH_HEADER, USE_HEADER},
    {"auth", FORM_PATTERNS, MATCH_AUTH, USE_LOGIN},
    {"client", FORM_PATTERNS, MATCH_CLIENT, USE_CLIENT},
    {"size", FORM_SIZE, MATCH_SIZE, USE_HEADER},
    {"kind", FORM_KIND, MATCH_KIND, USE_HEADER},
    {"any", FORM_BRANCHES, MATCH_ANY, USE_HEADER},
    {"all", FORM_BRANCHES, MATCH_ALL, USE_HEADER},
    {"not", FORM_NOT, MATCH_NOT, USE_HEADER},
    {"subject", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"helo", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"tls", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"macro", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"recipients", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"attachment", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"time", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"timezone", FORM_LATER, MATCH_ALL, USE_HEADER},
    {"sample", FORM_LATER, MATCH_ALL, USE_HEADER},
};

enum { N_MATCH_ROWS = sizeof match_rows / sizeof *match_rows };

static const struct match_row *
find_row(struct compile *c, const struct node *key)
{
    struct suggest hint = suggest_start(key->text);
    char text[SUGGEST_TEXT];

    for (size_t i = 0; i < N_MATCH_ROWS; i++)
        if (slice_eq(key->text, slice_of(match_rows[i].key)))
            return &match_rows[i];
    for (size_t i = 0; i < N_MATCH_ROWS; i++)
        suggest_try(&hint, slice_of(match_rows[i].key));
    diag_error(c->diag, key->at, "unknown key %s in match%s",
               node_show_text(key->text).text, suggest_text(&hint, text));
    return NULL;
}

static bool
read_key(struct compile *c, const struct node *key, const struct node *n,
         struct condition *ret)
{
    const struct match_row *row = find_row(c, key);

    if (row == NULL)
        return false;
    ret->key = row->match;
    ret->at = key->at;
    switch (row->form) {
    case FORM_PATTERNS:
        return read_patterns(c, row->key, row->use, n, ret);
    case FORM_HEADER:
        return read_header(c, n, ret);
    case FORM_SIZE:
        return read_sizes(c, n, ret);
    case FORM_KIND:
        return read_kinds(c, n, ret);
    case FORM_BRANCHES:
        return read_branches(c, row->key, n, ret);
    case FORM_NOT:
        return read_not(c, n, ret);
    case FORM_LATER:
        break;
    }
    return diag_error(c->diag, key->at,
                      "match: %s is not supported in this version", row->key);
}

/* A map: all of its keys must hold. */
static bool
read_map(struct compile *c, const struct node *n, bool may_be_empty,
         struct condition *ret)
{
    bool ok = true;

    ret->key = MATCH_ALL;
    ret->at = n->at;
    if (n->kind != NODE_MAP || (n->n == 0 && !may_be_empty))
        return diag_error(c->diag, n->at,
                          "want conditions, such as {sender: a@example.com}, "
                          "found %s",
                          n->kind == NODE_MAP ? "none" : node_show(n).text);
    ret->child = compile_alloc(c, n->n, sizeof *ret->child);
    if (ret->child == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_key(c, n->key[i], n->item[i], &ret->child[i]);
    ret->n_children = n->n;
    return ok;
}

static bool
read_match(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    struct condition condition = {.key = MATCH_ALL};
    bool ok;

    (void)row;
    ok = read_map(c, n, true, &condition);
    memcpy(field, &condition, sizeof condition);
    return ok;
}

const struct schema_type compile_match = {"a map of conditions", read_match};
