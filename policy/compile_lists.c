/* policy/compile_lists.c - named lists, here or in files.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plain entries go into a set, so that a list may be as long as one likes;
 * globs, expressions and networks are tried one by one.
 */
#include "policy/compile.h"

#include <arpa/inet.h>

#include "policy/set.h"

struct gather {
    struct slice *exact; /* in c->scratch */
    size_t n_exact;
};

/* An address alone is looked up as text, in the spelling of inet_ntop(3). */
static const char *
single_address(struct compile *c, const struct pattern *p)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    bool ipv4 = memcmp(p->network.address, mapped, sizeof mapped) == 0;
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(ipv4 ? AF_INET : AF_INET6,
                  p->network.address + (ipv4 ? sizeof mapped : 0), text,
                  sizeof text) == NULL)
        return p->text;
    return compile_copy(c, slice_of(text));
}

static bool
add_entry(struct compile *c, const struct node *n, struct pattern_list *list,
          struct gather *g)
{
    struct pattern p = {.kind = PATTERN_EXACT};

    if (!compile_pattern(c, list->name, USE_LIST, n, &p))
        return false;
    if (p.kind == PATTERN_NETWORK && p.network.bits == 128) {
        p.kind = PATTERN_EXACT;
        p.text = single_address(c, &p);
    }
    if (p.text == NULL)
        return false;
    if (p.kind == PATTERN_EXACT)
        g->exact[g->n_exact++] = slice_of(p.text);
    else
        list->pattern[list->n++] = p;
    return true;
}

/* Most entries are plain: no pattern, no tree, no copy for them. */
static bool
is_plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (strchr("*?/:", s.at[i]) != NULL)
            return false;
    /* Names end in letters, addresses in digits. */
    return s.len > 0 && !(s.at[s.len - 1] >= '0' && s.at[s.len - 1] <= '9');
}

static bool
gather_room(struct compile *c, struct pattern_list *list, struct gather *g,
            size_t n, size_t n_patterns)
{
    g->exact = arena_alloc(c->scratch, n, sizeof *g->exact);
    list->pattern = compile_alloc(c, n_patterns, sizeof *list->pattern);
    if (g->exact == NULL)
        c->nomem = true;
    return !c->nomem;
}

static bool
finish(struct compile *c, struct pattern_list *list, const struct gather *g)
{
    list->exact = string_set_new(c->arena, g->exact, g->n_exact);
    if (list->exact == NULL)
        c->nomem = true;
    return list->exact != NULL;
}

static bool
read_inline(struct compile *c, const struct node *n, struct pattern_list *list)
{
    struct gather g = {.n_exact = 0};
    size_t n_patterns = 0;
    bool ok = true;

    for (size_t i = 0; i < n->n; i++)
        n_patterns +=
            n->item[i]->kind != NODE_SCALAR || !is_plain(n->item[i]->text);
    if (!gather_room(c, list, &g, n->n, n_patterns))
        return false;
    for (size_t i = 0; i < n->n; i++)
        if (n->item[i]->kind == NODE_SCALAR && is_plain(n->item[i]->text))
            g.exact[g.n_exact++] = n->item[i]->text;
        else
            ok &= add_entry(c, n->item[i], list, &g);
    return finish(c, list, &g) && ok;
}

static bool
read_file(struct compile *c, const struct node *file, struct pattern_list *list)
{
    struct gather g = {.n_exact = 0};
    struct lines lines;
    size_t n_patterns = 0;
    bool ok = true;

    if (!compile_read_lines(c, "file", file, &lines))
        return false;
    for (size_t i = 0; i < lines.n; i++)
        n_patterns += !is_plain(lines.line[i].text);
    if (!gather_room(c, list, &g, lines.n, n_patterns))
        return false;
    for (size_t i = 0; i < lines.n; i++) {
        struct slice s = lines.line[i].text;
        struct node n = {.kind = NODE_SCALAR, .quoted = true};

        if (is_plain(s)) {
            g.exact[g.n_exact++] = s;
            continue;
        }
        n.at = lines.line[i].at;
        n.text = (struct slice){arena_copy(c->scratch, s), s.len};
        if (n.text.at == NULL)
            return compile_nomem(c);
        ok &= add_entry(c, &n, list, &g);
    }
    if (lines.n == 0)
        diag_warning(c->diag, file->at, "%s: the file holds no entry",
                     list->name);
    return finish(c, list, &g) && ok;
}

struct list_keys {
    const struct node *file;
};

static const struct schema_type kept_path = {"a path", compile_keep};

static const struct schema_row list_rows[] = {
    {"file", &kept_path, SCHEMA_AT(list_keys, file), .need = SCHEMA_REQUIRED,
     .help = "an entry a line, # comments"},
};

const struct schema compile_list_schema = SCHEMA("a list", list_rows);

static bool
read_list(struct compile *c, const struct node *n, struct pattern_list *list)
{
    struct list_keys keys = {NULL};

    if (n->kind == NODE_LIST)
        return read_inline(c, n, list);
    if (n->kind != NODE_MAP)
        return diag_error(c->diag, n->at,
                          "%s: want a list of patterns or {file: PATH}, found "
                          "%s",
                          list->name, node_show(n).text);
    return schema_read(c, &compile_list_schema, n, n->at, &keys) &&
           read_file(c, keys.file, list);
}

static bool
read_lists(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    bool ok = true;

    (void)field;
    c->lists_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    c->list = compile_alloc(c, n->n, sizeof *c->list);
    if (c->list == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++) {
        struct pattern_list *list = &c->list[c->n_lists];
        void *old;

        if (!compile_check_name(c, n->key[i])) {
            ok = false;
            continue;
        }
        c->n_lists++;
        list->at = n->key[i]->at;
        list->name = compile_copy(c, n->key[i]->text);
        if (list->name == NULL ||
            !table_add(c->lists, slice_of(list->name), list, &old))
            return compile_nomem(c);
        ok &= read_list(c, n->item[i], list);
    }
    return ok;
}

const struct schema_type compile_lists = {"a map of lists", read_lists};

void
compile_warn_unused_lists(struct compile *c)
{
    for (size_t i = 0; i < c->n_lists; i++)
        if (!c->list[i].used)
            diag_warning(c->diag, c->list[i].at, "the list \"%s\" is not used",
                         c->list[i].name);
}
