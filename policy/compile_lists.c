/* policy/compile_lists.c - named lists, here or in files.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plain entries go into a set and networks into a sorted array, so that a
 * list may be as long as one likes; globs and expressions are tried one by
 * one.  The entries are looked at twice: first for how many there are of
 * each, and then each is put where it stays.
 */
#include "policy/compile.h"

#include <arpa/inet.h>

#include "policy/idn.h"
#include "policy/netset.h"
#include "policy/set.h"

/* ---- what an entry is ---- */

enum entry_kind {
    ENTRY_PLAIN,   /* as it is: no pattern, no tree, no copy for it */
    ENTRY_NUMBERS, /* an address or network, perhaps */
    ENTRY_OTHER,   /* compile_pattern() knows; may be plain after all */
    ENTRY_PATTERN, /* a glob or an expression */
};

static enum entry_kind
kind_of(struct slice s)
{
    bool numbers = true, special = false, ascii = true;

    if (s.len == 0)
        return ENTRY_OTHER;
    if (s.len >= 2 && s.at[0] == '/' && s.at[s.len - 1] == '/')
        return ENTRY_PATTERN;
    for (size_t i = 0; i < s.len; i++) {
        char l = slice_lower(s.at[i]);

        if (l == '*' || l == '?')
            return ENTRY_PATTERN;
        special |= l == ':' || l == '/';
        ascii &= (unsigned char)l < 0x80;
        numbers &= (l >= '0' && l <= '9') || (l >= 'a' && l <= 'f') ||
                   l == '.' || l == ':' || l == '/';
    }
    /* Names end in letters, IPv4 addresses in digits. */
    if (!special && ascii &&
        (!numbers || !(s.at[s.len - 1] >= '0' && s.at[s.len - 1] <= '9')))
        return ENTRY_PLAIN;
    return numbers ? ENTRY_NUMBERS : ENTRY_OTHER;
}

/* An upper bound of what a list holds. */
struct amount {
    size_t n, octets; /* plain entries */
    size_t n_networks, n_patterns;
};

static void
count_entry(struct amount *a, struct slice s)
{
    enum entry_kind kind = kind_of(s);

    if (kind == ENTRY_PATTERN) {
        a->n_patterns++;
        return;
    }
    a->n++;
    a->octets += s.len;
    if (!idn_is_ascii(s)) { /* see add_exact() */
        a->n++;
        a->octets += s.len + IDN_MAX;
    }
    /* An address may be spelled longer than it was given. */
    if (kind == ENTRY_NUMBERS && s.len < INET6_ADDRSTRLEN)
        a->octets += INET6_ADDRSTRLEN - s.len;
    if (kind == ENTRY_NUMBERS && memchr(s.at, '/', s.len) != NULL)
        a->n_networks++;
}

static bool
make_room(struct compile *c, struct pattern_list *list, const struct amount *a)
{
    list->exact = string_set_room(c->arena, a->n, a->octets);
    list->pattern = compile_alloc(c, a->n_patterns, sizeof *list->pattern);
    list->network = compile_alloc(c, a->n_networks, sizeof *list->network);
    if (list->exact == NULL)
        c->nomem = true;
    return !c->nomem;
}

/* ---- putting them where they stay ---- */

/* An address alone is looked up as text, in the spelling of inet_ntop(3). */
static void
add_address(struct pattern_list *list, const struct network *net)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    bool ipv4 = memcmp(net->address, mapped, sizeof mapped) == 0;
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(ipv4 ? AF_INET : AF_INET6,
              net->address + (ipv4 ? sizeof mapped : 0), text, sizeof text);
    string_set_add(list->exact, slice_of(text));
}

/* A list does not know what it will be asked about.  A text that may be a
 * domain with U-labels, or end in one, counts with A-labels as well. */
static bool
add_exact(struct compile *c, struct slice s, struct pattern_list *list)
{
    struct slice a = {NULL, 0};

    string_set_add(list->exact, s);
    if (idn_is_ascii(s))
        return true;
    if (!compile_a_labels(c, s, &a))
        return false;
    if (a.len <= s.len + IDN_MAX)
        string_set_add(list->exact, a);
    return true;
}

static bool
add_pattern(struct compile *c, const struct node *n, struct pattern_list *list)
{
    struct pattern p = {.kind = PATTERN_EXACT};

    if (!compile_pattern(c, list->name, USE_LIST, n, &p))
        return false;
    if (p.kind == PATTERN_EXACT)
        return add_exact(c, slice_of(p.text), list);
    list->pattern[list->n++] = p;
    return true;
}

static bool
add_entry(struct compile *c, const struct node *n, struct pattern_list *list)
{
    enum entry_kind kind =
        n->kind == NODE_SCALAR ? kind_of(n->text) : ENTRY_OTHER;
    struct network net;

    if (kind == ENTRY_PLAIN) {
        string_set_add(list->exact, n->text);
        return true;
    }
    if (kind != ENTRY_NUMBERS || compile_network(n->text, &net) != NETWORK_OK)
        return add_pattern(c, n, list);
    if (net.bits == 128)
        add_address(list, &net);
    else
        list->network[list->n_networks++] = net;
    return true;
}

static bool
read_inline(struct compile *c, const struct node *n, struct pattern_list *list)
{
    struct amount amount = {.n = 0};
    bool ok = true;

    for (size_t i = 0; i < n->n; i++)
        if (n->item[i]->kind == NODE_SCALAR)
            count_entry(&amount, n->item[i]->text);
    if (!make_room(c, list, &amount))
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= add_entry(c, n->item[i], list);
    return ok;
}

static bool
read_file(struct compile *c, const struct node *file, struct pattern_list *list)
{
    struct amount amount = {.n = 0};
    struct line_reader r, count;
    struct line_of_file line;
    bool ok = true;

    if (!compile_open_lines(c, "file", file, &r))
        return false;
    count = r;
    count.quiet = true;
    while (compile_next_line(&count, &line))
        count_entry(&amount, line.text);
    if (!make_room(c, list, &amount))
        return false;
    while (compile_next_line(&r, &line)) {
        const struct node n = {.kind = NODE_SCALAR,
                               .quoted = true,
                               .at = line.at,
                               .text = line.text};

        ok &= add_entry(c, &n, list);
    }
    if (amount.n + amount.n_patterns == 0)
        diag_warning(c->diag, file->at, "%s: the file holds no entry",
                     list->name);
    return ok;
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
        list->n_networks = netset_sort(list->network, list->n_networks);
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
