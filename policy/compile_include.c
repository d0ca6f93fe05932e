/* policy/compile_include.c - the main file and all that it includes, put
 * together to one tree.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Nodes keep the places at which they stand, so that whatever is read from
 * the whole tree later can say which file a thing is in, and relative paths
 * are relative to that file.
 */
#include "policy/compile.h"

#include "policy/line.h"

enum {
    DEPTH_MAX = 16,   /* files that include one another */
    FILES_MAX = 1000, /* included, all in all */
};

/* What an included file may hold, and what it must be to be put behind what
 * others have of it. */
static const struct section {
    const char *key;
    enum node_kind kind;
} sections[] = {
    {"smarthosts", NODE_MAP}, {"oauth_clients", NODE_MAP},
    {"accounts", NODE_MAP},   {"pools", NODE_MAP},
    {"lists", NODE_MAP},      {"rules", NODE_LIST},
    {"tests", NODE_LIST},
};

enum { N_SECTIONS = sizeof sections / sizeof *sections };

static bool
is_section(struct slice key)
{
    for (size_t k = 0; k < N_SECTIONS; k++)
        if (slice_eq(key, slice_of(sections[k].key)))
            return true;
    return false;
}

static const struct slice include_key = {"include", sizeof "include" - 1};

struct source {
    const char *file; /* as places name it; the policy's */
    struct node *root;
    const struct source *by; /* NULL: the main file */
    struct loc at;           /* in `by` */
    unsigned depth;
    struct source *next; /* in the order in which things count */
};

struct merge {
    struct compile *c;
    struct table *files; /* path -> struct source */
    struct source *first, *last;
    unsigned n;      /* sources, the main file not counted */
    uint64_t octets; /* of all files */
    uint64_t values; /* in all trees, aliases counted */
};

/* ---- paths ---- */

struct slice
compile_directory(const char *file)
{
    const char *slash = strrchr(file, '/');

    if (slash == NULL)
        return (struct slice){NULL, 0};
    return (struct slice){file, (size_t)(slash - file) + 1};
}

static bool
has_wildcard(struct slice s)
{
    return memchr(s.at, '*', s.len) != NULL ||
           memchr(s.at, '?', s.len) != NULL || memchr(s.at, '[', s.len) != NULL;
}

/* "a//b" and "a/./b" are a/b.  What ".." leads to only a file system knows. */
static void
shorten(char *path)
{
    char *to = path;

    for (const char *from = path; *from != '\0';) {
        bool start = from == path || from[-1] == '/';

        if (start && from[0] == '/' && from != path)
            from++;
        else if (start && from[0] == '.' && from[1] == '/')
            from += 2;
        else
            *to++ = *from++;
    }
    *to = '\0';
}

/* What the text means in this file.  Of a pattern only the text is one: the
 * name of a directory may hold any character. */
static char *
resolve(struct compile *c, const char *file, struct slice text, bool pattern)
{
    struct slice dir = compile_directory(file);
    char *path = arena_alloc(c->arena, 2 * dir.len + text.len + 1, 1);
    size_t n = 0;

    if (path == NULL) {
        compile_nomem(c);
        return NULL;
    }
    for (size_t i = 0; text.at[0] != '/' && i < dir.len; i++) {
        if (pattern && strchr("*?[\\", dir.at[i]) != NULL)
            path[n++] = '\\';
        path[n++] = dir.at[i];
    }
    memcpy(path + n, text.at, text.len);
    shorten(path);
    return path;
}

/* A file for a person who knows where the main one lies. */
static const char *
short_name(const struct merge *m, const char *file)
{
    struct slice dir = compile_directory(m->first->file);

    return dir.len > 0 && strncmp(file, dir.at, dir.len) == 0 ? file + dir.len
                                                              : file;
}

/* "gmroute.yaml:3 -> conf.d/a.yaml:1": from the main file on, how one gets
 * to line `at` of `by`. */
static void
show_way(struct line *l, const struct merge *m, const struct source *by,
         struct loc at)
{
    const struct source *way[DEPTH_MAX + 1];
    unsigned n = 0;

    for (; by != NULL && n <= DEPTH_MAX; by = by->by)
        way[n++] = by;
    while (n-- > 0)
        line_add(l, "%s:%u%s", short_name(m, way[n]->file),
                 n > 0 ? way[n - 1]->at.line : at.line, n > 0 ? " -> " : "");
}

/* ---- one file ---- */

static bool take_includes(struct merge *m, struct source *s);

/* What cannot be read may have held any name. */
static bool
lose(struct merge *m)
{
    struct compile *c = m->c;

    c->smarthosts_lost = c->clients_lost = c->accounts_lost = true;
    c->pools_lost = c->lists_lost = c->rules_lost = true;
    return false;
}

static bool
add_source(struct merge *m, struct source *s)
{
    void *old;

    if (!table_add(m->files, slice_of(s->file), s, &old))
        return compile_nomem(m->c);
    if (m->last != NULL)
        m->last->next = s;
    else
        m->first = s;
    m->last = s;
    m->n += s->by != NULL;
    return true;
}

/* A file that is part of the whole already. */
static bool
refuse_again(struct merge *m, const struct source *by, struct loc at,
             const struct source *again)
{
    const struct source *s = by;
    char text[DIAG_TEXT / 2];
    struct line l = line_start(text, sizeof text);

    while (s != NULL && s != again)
        s = s->by;
    if (s != NULL) {
        show_way(&l, m, by, at);
        return diag_error(m->c->diag, at, "include: %s includes itself: %s",
                          short_name(m, again->file), text);
    }
    show_way(&l, m, again->by, again->at);
    return diag_error(m->c->diag, at,
                      "include: %s is included twice, first by "
                      "%s",
                      short_name(m, again->file), text);
}

static bool
check_bounds(struct merge *m, const struct source *s, size_t octets)
{
    struct diag *d = m->c->diag;

    m->octets += octets;
    if (s->depth > DEPTH_MAX)
        return diag_error(d, s->at,
                          "include: more than %d files inside one another",
                          DEPTH_MAX);
    if (m->n > FILES_MAX)
        return diag_error(d, s->at, "include: more than %d files", FILES_MAX);
    if (m->octets > TREE_TEXT_MAX)
        return diag_error(d, s->at,
                          "include: the files together are larger than %d MiB",
                          TREE_TEXT_MAX / 1024 / 1024);
    return true;
}

/* Keys that are none are found out in the whole. */
static bool
check_keys(struct merge *m, const struct source *s)
{
    bool ok = true;

    for (size_t i = 0; i < s->root->n; i++) {
        const struct node *key = s->root->key[i];
        const struct schema_row *row = schema_row(&schema_top, key->text);
        bool may = row == NULL || slice_eq(key->text, include_key) ||
                   is_section(key->text);

        if (!may && slice_eq(key->text, SLICE_LIT("gmroute")))
            ok &= row->type->read(m->c, row, s->root->item[i], NULL);
        else if (!may)
            ok = diag_error(m->c->diag, key->at,
                            "%s belongs into the main file, %s", row->key,
                            m->c->p->file);
    }
    return ok;
}

/* False: nothing to go on with. */
static bool
read_tree(struct merge *m, struct source *s)
{
    struct compile *c = m->c;
    const char *text = NULL;
    size_t len = 0;
    char err[DIAG_TEXT / 2] = "";
    enum tree_result r;

    if (!c->files->read_file(c->files->cookie, s->file, &text, &len, err,
                             sizeof err))
        return diag_error(c->diag, s->at, "include: cannot read %s: %s",
                          s->file, err);
    if (!check_bounds(m, s, len))
        return false;
    r = tree_read(c->scratch, text, len, s->file, c->diag, &s->root);
    if (r == TREE_ENOMEM)
        return compile_nomem(c);
    if (s->root == NULL)
        return false;
    m->values += s->root->weight;
    if (m->values > TREE_NODES_MAX)
        return diag_error(c->diag, s->at,
                          "include: the files have more than %d values, "
                          "counting what aliases stand for",
                          TREE_NODES_MAX);
    if (s->root->kind != NODE_MAP)
        return diag_error(c->diag, s->root->at,
                          "want keys and their values (rules: and so on), "
                          "found %s",
                          node_show(s->root).text);
    return true;
}

static bool
take_file(struct merge *m, struct source *by, struct loc at, const char *file)
{
    struct source *again = table_get(m->files, slice_of(file)), *s;
    bool ok;

    if (again != NULL)
        return refuse_again(m, by, at, again);
    s = arena_alloc(m->c->scratch, 1, sizeof *s);
    if (s == NULL)
        return compile_nomem(m->c);
    *s = (struct source){
        .file = file, .by = by, .at = at, .depth = by->depth + 1};
    if (!add_source(m, s))
        return false;
    if (!read_tree(m, s)) {
        s->root = NULL;
        return lose(m);
    }
    ok = check_keys(m, s);
    return take_includes(m, s) && ok;
}

/* ---- include ---- */

static bool
take_pattern(struct merge *m, struct source *by, const struct node *n,
             const char *pattern)
{
    struct compile *c = m->c;
    const char *const *path = NULL;
    size_t n_paths = 0;
    char err[DIAG_TEXT / 2] = "";
    bool ok = true;

    if (c->files->glob == NULL)
        return diag_error(c->diag, n->at,
                          "include: patterns cannot be used here");
    if (!c->files->glob(c->files->cookie, pattern, &path, &n_paths, err,
                        sizeof err)) {
        lose(m);
        return diag_error(c->diag, n->at, "include: %s: %s", node_show(n).text,
                          err);
    }
    for (size_t i = 0; i < n_paths && !c->nomem && m->n <= FILES_MAX; i++) {
        char *file = compile_copy(c, slice_of(path[i]));

        if (file == NULL)
            return false;
        shorten(file);
        ok &= take_file(m, by, n->at, file);
    }
    return ok;
}

static bool
take_one(struct merge *m, struct source *by, const struct node *n)
{
    struct compile *c = m->c;
    bool wild;
    char *path;

    if (!compile_is_text(n))
        return diag_error(c->diag, n->at,
                          "include: want a path or pattern, found %s",
                          node_show(n).text);
    if (memchr(n->text.at, '\n', n->text.len) != NULL)
        return diag_error(c->diag, n->at,
                          "include: a line break in %s: a list is written [a, "
                          "b]",
                          node_show(n).text);
    if (c->files == NULL || c->files->read_file == NULL)
        return diag_error(c->diag, n->at, "include: files cannot be read here");
    wild = has_wildcard(n->text);
    path = resolve(c, by->file, n->text, wild);
    if (path == NULL)
        return false;
    return wild ? take_pattern(m, by, n, path) : take_file(m, by, n->at, path);
}

static bool
take_includes(struct merge *m, struct source *s)
{
    const struct schema_row *row = schema_row(&schema_top, include_key);
    const struct node *n = node_get(s->root, row->key);
    struct items items;
    bool ok = true;

    if (n == NULL)
        return true;
    if (!row->type->read(m->c, row, n, NULL))
        return lose(m);
    items = compile_items(n);
    for (size_t i = 0; i < items.n && !m->c->nomem && m->n <= FILES_MAX; i++)
        ok &= take_one(m, s, compile_item(&items, i));
    return ok;
}

/* ---- the whole ---- */

/* Adds a key and its value to a map with room for it. */
static void
put(struct node *map, struct node *key, struct node *value)
{
    map->key[map->n] = key;
    map->item[map->n++] = value;
}

static bool
defined_twice(struct merge *m, const struct node *key, const struct node *first)
{
    return diag_error(m->c->diag, key->at, "%s is defined twice, first in %s",
                      node_show_text(key->text).text,
                      compile_place(key->at, first->at).text);
}

/* Puts the entries of a section behind what is there. */
static bool
append(struct merge *m, struct table *names, struct node *whole,
       const struct node *part)
{
    bool ok = true;

    for (size_t i = 0; i < part->n; i++) {
        struct node *key = part->kind == NODE_MAP ? part->key[i] : NULL;
        void *old = NULL;

        if (key == NULL) {
            whole->item[whole->n++] = part->item[i];
            continue;
        }
        if (!table_add(names, key->text, key, &old))
            return compile_nomem(m->c);
        /* Twice in one file was found before. */
        if (old == NULL || ((struct node *)old)->at.file == key->at.file)
            put(whole, key, part->item[i]);
        else
            ok = defined_twice(m, key, old);
    }
    return ok;
}

/* A section of all files.  When one of them has something else there, that
 * is what is returned: who reads the section says so. */
static bool
merge_section(struct merge *m, const struct section *x, struct node *root)
{
    struct compile *c = m->c;
    struct node *key = NULL, *whole, *only = NULL;
    struct table *names;
    size_t n = 0, n_parts = 0;
    bool ok = true;

    for (const struct source *s = m->first; s != NULL; s = s->next)
        for (size_t i = 0; s->root != NULL && i < s->root->n; i++) {
            if (!slice_eq(s->root->key[i]->text, slice_of(x->key)))
                continue;
            n += s->root->item[i]->n;
            if (n_parts++ == 0 || s->root->item[i]->kind != x->kind) {
                key = s->root->key[i];
                only = s->root->item[i];
            }
        }
    if (only == NULL)
        return true;
    if (n_parts == 1 || only->kind != x->kind) {
        put(root, key, only);
        return true;
    }
    names = table_new(c->scratch);
    whole = arena_alloc(c->scratch, 1, sizeof *whole);
    if (names == NULL || whole == NULL)
        return compile_nomem(c);
    *whole = (struct node){.kind = x->kind, .at = only->at};
    whole->item = arena_alloc(c->scratch, n, sizeof(struct node *));
    whole->key = arena_alloc(c->scratch, n, sizeof(struct node *));
    if (whole->item == NULL || whole->key == NULL)
        return compile_nomem(c);
    for (const struct source *s = m->first; s != NULL; s = s->next) {
        const struct node *part =
            s->root != NULL ? node_get(s->root, x->key) : NULL;

        if (part != NULL)
            ok &= append(m, names, whole, part);
    }
    put(root, key, whole);
    return ok;
}

/* Is it a key that is taken as it is? */
static bool
is_whole(const struct source *s, struct slice key)
{
    if (schema_row(&schema_top, key) == NULL)
        return true;
    return s->by == NULL && !is_section(key) && !slice_eq(key, include_key);
}

/* The settings of the main file, keys that nobody knows, then sections. */
static bool
merge_trees(struct merge *m, struct node **ret)
{
    struct compile *c = m->c;
    struct node *root = arena_alloc(c->scratch, 1, sizeof *root);
    size_t n = N_SECTIONS;
    bool ok = true;

    for (const struct source *s = m->first; s != NULL; s = s->next)
        n += s->root != NULL ? s->root->n : 0;
    if (root == NULL)
        return compile_nomem(c);
    *root = (struct node){.kind = NODE_MAP, .at = m->first->root->at};
    root->item = arena_alloc(c->scratch, n, sizeof(struct node *));
    root->key = arena_alloc(c->scratch, n, sizeof(struct node *));
    if (root->item == NULL || root->key == NULL)
        return compile_nomem(c);
    for (const struct source *s = m->first; s != NULL; s = s->next)
        for (size_t i = 0; s->root != NULL && i < s->root->n; i++)
            if (is_whole(s, s->root->key[i]->text))
                put(root, s->root->key[i], s->root->item[i]);
    for (size_t k = 0; k < N_SECTIONS; k++)
        ok &= merge_section(m, &sections[k], root);
    *ret = root;
    return ok;
}

struct node *
compile_include_all(struct compile *c, struct node *root, size_t octets)
{
    struct merge m = {.c = c, .octets = octets, .values = root->weight};
    struct source *main_file;
    struct node *whole = NULL;
    char *file;

    if (root->kind != NODE_MAP || node_get(root, "include") == NULL)
        return root;
    m.files = table_new(c->scratch);
    main_file = arena_alloc(c->scratch, 1, sizeof *main_file);
    file = compile_copy(c, slice_of(c->p->file));
    if (m.files == NULL || main_file == NULL || file == NULL) {
        compile_nomem(c);
        return NULL;
    }
    shorten(file);
    *main_file = (struct source){.file = file, .root = root};
    if (!add_source(&m, main_file))
        return NULL;
    take_includes(&m, main_file);
    if (!c->nomem)
        merge_trees(&m, &whole);
    return c->nomem ? NULL : whole;
}

/* take_includes() reads the items. */
static bool
read_include(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    (void)field;
    if (n->kind == NODE_MAP || node_is_null(n))
        return schema_mismatch(c, row, n);
    return true;
}

const struct schema_type compile_include = {"a list of paths and patterns",
                                            read_include};
