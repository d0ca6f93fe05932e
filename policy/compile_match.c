/* policy/compile_match.c - `match`: keys to a tree of conditions.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include "policy/scalar.h"

enum { MACRO_OCTETS_MAX = 63 };

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

static bool
read_subject(struct compile *c, const struct node *n, struct condition *ret)
{
    ret->name = "subject";
    return read_patterns(c, "subject", USE_HEADER, n, ret);
}

static const char *
field_name(struct compile *c, const struct node *key)
{
    if (compile_is_field_name(key->text))
        return compile_lower(c, key->text);
    diag_error(c->diag, key->at, "header: %s is not the name of a field",
               node_show(key).text);
    return NULL;
}

/* "{name}" or "name"; kept once in c->macros. */
static const char *
macro_name(struct compile *c, const struct node *key)
{
    struct slice s = key->text;
    void *old = NULL;
    char *name;
    bool good;

    if (s.len > 2 && s.at[0] == '{' && s.at[s.len - 1] == '}')
        s = (struct slice){s.at + 1, s.len - 2};
    good = s.len > 0 && s.len <= MACRO_OCTETS_MAX;
    for (size_t i = 0; good && i < s.len; i++)
        good = s.at[i] > ' ' && (unsigned char)s.at[i] < 0x7F &&
               strchr("{}$=,", s.at[i]) == NULL;
    if (!good) {
        diag_error(c->diag, key->at,
                   "macro: %s is not the name of a macro: want one such as "
                   "daemon_name or \"{daemon_name}\"",
                   node_show(key).text);
        return NULL;
    }
    name = table_get(c->macros, s);
    if (name != NULL)
        return name;
    name = compile_copy(c, s);
    if (name != NULL && !table_add(c->macros, slice_of(name), name, &old))
        compile_nomem(c);
    return c->nomem ? NULL : name;
}

/* {Name: pattern, ...}: a condition for each, and all must hold. */
static bool
read_named(struct compile *c, const char *key, enum match_key match,
           const struct node *n, struct condition *ret)
{
    bool ok = true;

    if (n->kind != NODE_MAP || n->n == 0)
        return diag_error(c->diag, n->at,
                          "%s: want a map of names and patterns, found %s", key,
                          node_show(n).text);
    ret->key = MATCH_ALL;
    ret->child = compile_alloc(c, n->n, sizeof *ret->child);
    if (ret->child == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++) {
        struct condition *one = &ret->child[ret->n_children];

        one->key = match;
        one->at = n->key[i]->at;
        one->name = match == MATCH_MACRO ? macro_name(c, n->key[i])
                                         : field_name(c, n->key[i]);
        ok &= one->name != NULL &&
              read_patterns(c, key, USE_HEADER, n->item[i], one);
        if (one->name != NULL)
            ret->n_children++;
    }
    if (ret->n_children == 1)
        *ret = ret->child[0];
    return ok;
}

/* ---- numbers, kind, tls, sample ---- */

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

/* Sizes have units, counts do not. */
static bool
read_numbers(struct compile *c, const char *key, bool is_size,
             const struct node *n, struct condition *ret)
{
    struct items items = compile_items(n);
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "%s: an empty list", key);
    ret->number = compile_alloc(c, items.n, sizeof *ret->number);
    if (ret->number == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++) {
        const struct node *item = compile_item(&items, i);
        enum scalar_result r = SCALAR_ESYNTAX;
        struct slice s = item->text;

        if (compile_is_text(item)) {
            s = take_operator(s, &ret->number[i].op);
            r = is_size ? scalar_size(s, &ret->number[i].value)
                        : scalar_number(s, &ret->number[i].value);
        }
        if (r != SCALAR_OK)
            ok = diag_error(c->diag, item->at,
                            "%s: want <, <=, > or >= and a %s, found %s", key,
                            is_size ? "size such as 25MB" : "number such as 10",
                            node_show(item).text);
    }
    ret->n_numbers = items.n;
    return ok;
}

static bool
read_tls(struct compile *c, const struct node *n, struct condition *ret)
{
    static const struct schema_row row = {"tls", &schema_yes_no,
                                          .size = sizeof ret->yes};

    return schema_yes_no.read(c, &row, n, &ret->yes);
}

/* "10%", "0.1%", "10". */
static bool
parse_per_cent(struct slice s, double *ret)
{
    enum { PLACES_MAX = 6 };
    uint64_t whole = 0, part = 0;
    double unit = 1;
    size_t dot;
    struct slice places;

    if (s.len > 0 && s.at[s.len - 1] == '%')
        s = slice_trim((struct slice){s.at, s.len - 1});
    for (dot = 0; dot < s.len && s.at[dot] != '.'; dot++)
        ;
    places = slice_from(s, dot + 1);
    if (places.len > PLACES_MAX ||
        (dot < s.len && scalar_number(places, &part) != SCALAR_OK) ||
        scalar_number((struct slice){s.at, dot}, &whole) != SCALAR_OK ||
        whole > 100 || (whole == 100 && part > 0))
        return false;
    for (size_t i = 0; i < places.len; i++)
        unit *= 10;
    *ret = (double)whole + (double)part / unit;
    return true;
}

static bool
read_sample(struct compile *c, const struct node *n, struct condition *ret)
{
    if (compile_is_text(n) && parse_per_cent(n->text, &ret->per_cent))
        return true;
    return diag_error(c->diag, n->at,
                      "sample: want a part from 0%% to 100%%, such as 10%% or "
                      "0.1%%, found %s",
                      node_show(n).text);
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
    FORM_SUBJECT,
    FORM_NAMED,
    FORM_SIZE,
    FORM_COUNT,
    FORM_KIND,
    FORM_TLS,
    FORM_TIME,
    FORM_ZONE, /* no condition: it goes with time */
    FORM_SAMPLE,
    FORM_BRANCHES,
    FORM_NOT,
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
    {"header", FORM_NAMED, MATCH_HEADER, USE_HEADER},
    {"subject", FORM_SUBJECT, MATCH_HEADER, USE_HEADER},
    {"auth", FORM_PATTERNS, MATCH_AUTH, USE_LOGIN},
    {"client", FORM_PATTERNS, MATCH_CLIENT, USE_CLIENT},
    {"helo", FORM_PATTERNS, MATCH_HELO, USE_HELO},
    {"tls", FORM_TLS, MATCH_TLS, USE_HEADER},
    {"macro", FORM_NAMED, MATCH_MACRO, USE_HEADER},
    {"size", FORM_SIZE, MATCH_SIZE, USE_HEADER},
    {"recipients", FORM_COUNT, MATCH_RECIPIENTS, USE_HEADER},
    {"kind", FORM_KIND, MATCH_KIND, USE_HEADER},
    {"attachment", FORM_PATTERNS, MATCH_ATTACHMENT, USE_HEADER},
    {"time", FORM_TIME, MATCH_TIME, USE_HEADER},
    {"timezone", FORM_ZONE, MATCH_TIME, USE_HEADER},
    {"sample", FORM_SAMPLE, MATCH_SAMPLE, USE_HEADER},
    {"any", FORM_BRANCHES, MATCH_ANY, USE_HEADER},
    {"all", FORM_BRANCHES, MATCH_ALL, USE_HEADER},
    {"not", FORM_NOT, MATCH_NOT, USE_HEADER},
};

enum { N_MATCH_ROWS = sizeof match_rows / sizeof *match_rows };

const char *
compile_match_key(size_t i)
{
    return i < N_MATCH_ROWS ? match_rows[i].key : NULL;
}

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

/* A timezone without a time would do nothing. */
static bool
check_zone(struct compile *c, const struct node *map, const struct node *key)
{
    if (node_get(map, "time") != NULL)
        return true;
    return diag_error(c->diag, key->at,
                      "timezone: there is no time beside it that it could be "
                      "for");
}

/* One key of the map. */
static bool
read_key(struct compile *c, const struct match_row *row, const struct node *map,
         size_t i, struct condition *ret)
{
    const struct node *n = map->item[i];

    ret->key = row->match;
    ret->at = map->key[i]->at;
    switch (row->form) {
    case FORM_PATTERNS:
        return read_patterns(c, row->key, row->use, n, ret);
    case FORM_SUBJECT:
        return read_subject(c, n, ret);
    case FORM_NAMED:
        return read_named(c, row->key, row->match, n, ret);
    case FORM_SIZE:
        return read_numbers(c, row->key, true, n, ret);
    case FORM_COUNT:
        return read_numbers(c, row->key, false, n, ret);
    case FORM_KIND:
        return read_kinds(c, n, ret);
    case FORM_TLS:
        return read_tls(c, n, ret);
    case FORM_TIME:
        return compile_read_time(c, n, node_get(map, "timezone"), ret);
    case FORM_SAMPLE:
        return read_sample(c, n, ret);
    case FORM_BRANCHES:
        return read_branches(c, row->key, n, ret);
    case FORM_NOT:
        return read_not(c, n, ret);
    case FORM_ZONE:
        break;
    }
    return false;
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
    for (size_t i = 0; i < n->n; i++) {
        const struct match_row *row = find_row(c, n->key[i]);

        if (row == NULL)
            ok = false;
        else if (row->form == FORM_ZONE)
            ok &= check_zone(c, n, n->key[i]);
        else
            ok &= read_key(c, row, n, i, &ret->child[ret->n_children++]);
    }
    return ok;
}

static bool
read_match(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    struct condition condition = {.key = MATCH_ALL};
    bool ok;

    (void)row;
    ok = read_map(c, n, true, &condition) && compile_order(c, &condition);
    memcpy(field, &condition, sizeof condition);
    return ok;
}

const struct schema_type compile_match = {"a map of conditions", read_match};
