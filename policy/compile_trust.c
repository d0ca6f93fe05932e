/* policy/compile_trust.c - who may use an account, and a template's map.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include <stdlib.h>

#include "policy/address.h"

/* ---- trust ---- */

const struct schema_type compile_trust = {
    "any, login, local, {logins: FILE} or {clients: [...]}, or a list of these",
    compile_keep};

static int
compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
read_logins(struct compile *c, const struct node *n, struct trust *t)
{
    struct lines lines;
    size_t kept = 0;

    if (!compile_read_lines(c, "logins", n, &lines))
        return false;
    t->logins = compile_alloc(c, lines.n, sizeof *t->logins);
    for (size_t i = 0; t->logins != NULL && i < lines.n; i++)
        t->logins[i] = compile_lower(c, lines.line[i].text);
    if (c->nomem)
        return false;
    qsort(t->logins, lines.n, sizeof *t->logins, compare_text);
    for (size_t i = 0; i < lines.n; i++)
        if (i == 0 || strcmp(t->logins[kept - 1], t->logins[i]) != 0)
            t->logins[kept++] = t->logins[i];
    t->n_logins = kept;
    if (kept == 0)
        diag_warning(c->diag, n->at, "logins: the file holds no login");
    return true;
}

struct trust_keys {
    const struct node *logins;
    struct networks clients;
};

static const struct schema_type logins_file = {"a path", compile_keep};

static const struct schema_row trust_rows[] = {
    {"logins", &logins_file, SCHEMA_AT(trust_keys, logins),
     .help = "file of SASL logins, one a line"},
    {"clients", &compile_networks, SCHEMA_AT(trust_keys, clients),
     .help = "addresses and networks that clients connect from"},
};

const struct schema compile_trust_schema = SCHEMA("trust", trust_rows);

static bool
read_trust_map(struct compile *c, const struct node *n, struct trust *t)
{
    struct trust_keys keys = {.logins = NULL};
    bool ok;

    for (size_t i = 0; i < n->n; i++) {
        struct slice key = n->key[i]->text;

        if ((t->n_logins > 0 && slice_eq(key, SLICE_LIT("logins"))) ||
            (t->n_clients > 0 && slice_eq(key, SLICE_LIT("clients"))))
            return diag_error(c->diag, n->key[i]->at,
                              "trust: %.*s is given twice", SLICE_FMT(key));
    }
    ok = schema_read(c, &compile_trust_schema, n, n->at, &keys);
    if (keys.clients.n > 0) {
        t->n_clients = keys.clients.n;
        t->clients = keys.clients.network;
    }
    return (keys.logins == NULL || read_logins(c, keys.logins, t)) && ok;
}

static bool
read_trust_item(struct compile *c, const struct node *n, struct trust *t)
{
    struct suggest hint;
    char text[SUGGEST_TEXT];
    struct {
        const char *word;
        bool *flag;
    } const words[] = {
        {"any", &t->any}, {"login", &t->login}, {"local", &t->local}};

    if (n->kind == NODE_MAP)
        return read_trust_map(c, n, t);
    hint = suggest_start(n->kind == NODE_SCALAR ? n->text : SLICE_LIT(""));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (n->kind == NODE_SCALAR &&
            slice_eq(n->text, slice_of(words[i].word))) {
            *words[i].flag = true;
            return true;
        }
        suggest_try(&hint, slice_of(words[i].word));
    }
    return diag_error(c->diag, n->at, "trust: want %s, found %s%s",
                      compile_trust.form, node_show(n).text,
                      suggest_text(&hint, text));
}

bool
compile_read_trust(struct compile *c, const struct node *n, struct account *a)
{
    struct trust *t = &a->trust;
    struct items items;
    bool ok = true;

    if (n == NULL) {
        t->any = !a->is_template;
        t->login = t->local = a->is_template;
        return true;
    }
    items = compile_items(n);
    if (items.n == 0)
        return diag_error(c->diag, n->at,
                          "trust: an empty list lets nobody use the account");
    for (size_t i = 0; i < items.n; i++)
        ok &= read_trust_item(c, compile_item(&items, i), t);
    if (ok && t->any && (t->login || t->local || t->n_logins + t->n_clients))
        diag_warning(c->diag, n->at,
                     "trust: with any, the other entries change nothing");
    return ok;
}

/* ---- map ---- */

static const struct schema_type map_file = {"a path", compile_keep};

struct map_keys {
    const struct node *file;
};

static const struct schema_row map_rows[] = {
    {"file", &map_file, SCHEMA_AT(map_keys, file), .need = SCHEMA_REQUIRED,
     .help = "lines of an alias and its mailbox, with a space between"},
};

const struct schema compile_map_schema = SCHEMA("map", map_rows);

static int
compare_pair(const void *a, const void *b)
{
    return strcasecmp(((const struct address_pair *)a)->alias,
                      ((const struct address_pair *)b)->alias);
}

/* An address, or a local part alone. */
static const char *
map_word(struct compile *c, struct loc at, struct slice s, const char **ret)
{
    struct address a;
    char *copy;

    if (memchr(s.at, '@', s.len) != NULL) {
        const char *error = compile_address(c, s, &copy);

        if (error != NULL) {
            diag_error(c->diag, at, "%s %s", node_show_text(s).text, error);
            return NULL;
        }
    } else if (!address_parse(s, &a)) {
        diag_error(c->diag, at, "%s is not an address or local part",
                   node_show_text(s).text);
        return NULL;
    } else {
        copy = compile_copy(c, s);
    }
    *ret = copy;
    return copy;
}

/* "alias mailbox" */
static bool
read_pair(struct compile *c, const struct line_of_file *line,
          const struct account *a, struct address_pair *ret)
{
    struct slice alias = line->text, mailbox;
    struct loc at = line->at;
    const char *domain;

    alias.len = 0;
    while (alias.len < line->text.len &&
           strchr(" \t", line->text.at[alias.len]) == NULL)
        alias.len++;
    mailbox = slice_trim(slice_from(line->text, alias.len));
    if (mailbox.len == 0 || memchr(mailbox.at, ' ', mailbox.len) != NULL ||
        memchr(mailbox.at, '\t', mailbox.len) != NULL)
        return diag_error(c->diag, at,
                          "want an alias, a space and a mailbox, found %s",
                          node_show_text(line->text).text);
    at.col += (unsigned)(mailbox.at - line->text.at);
    if (map_word(c, line->at, alias, &ret->alias) == NULL ||
        map_word(c, at, mailbox, &ret->mailbox) == NULL)
        return false;
    domain = strrchr(ret->mailbox, '@');
    if (domain != NULL && strcmp(domain + 1, a->domain) != 0)
        return diag_error(c->diag, at,
                          "the mailbox %s is not in the template's domain, %s",
                          node_show_text(mailbox).text, a->domain);
    return true;
}

static bool
check_pairs(struct compile *c, struct loc at, const struct account *a)
{
    for (size_t i = 1; i < a->n_map; i++)
        if (strcasecmp(a->map[i - 1].alias, a->map[i].alias) == 0 &&
            strcasecmp(a->map[i - 1].mailbox, a->map[i].mailbox) != 0)
            return diag_error(
                c->diag, at, "map: the alias %s has two mailboxes, %s and %s",
                a->map[i].alias, a->map[i - 1].mailbox, a->map[i].mailbox);
    return true;
}

bool
compile_read_map(struct compile *c, const struct node *n, struct account *a)
{
    struct map_keys keys = {NULL};
    struct lines lines;
    bool ok = true;

    if (!a->is_template)
        return diag_error(c->diag, n->at,
                          "map: only a template (\"*@domain\") can have one");
    if (!schema_read(c, &compile_map_schema, n, n->at, &keys) ||
        !compile_read_lines(c, "map", keys.file, &lines))
        return false;
    a->map = compile_alloc(c, lines.n, sizeof *a->map);
    if (a->map == NULL)
        return false;
    for (size_t i = 0; i < lines.n; i++)
        if (read_pair(c, &lines.line[i], a, &a->map[a->n_map]))
            a->n_map++;
        else
            ok = false;
    qsort(a->map, a->n_map, sizeof *a->map, compare_pair);
    if (lines.n == 0)
        diag_warning(c->diag, keys.file->at, "map: the file holds no alias");
    return check_pairs(c, keys.file->at, a) && ok;
}
