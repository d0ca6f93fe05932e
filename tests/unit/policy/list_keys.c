/* tests/unit/policy/list_keys.c - all keys of a configuration, from the
 * schemas themselves, for contrib/check/manual.
 * SPDX-License-Identifier: Apache-2.0
 *
 *     list_keys          every key there is: path, a tab, and what it takes
 *     list_keys FILE     the paths of the keys that FILE uses
 *
 * A path is the keys from the top with dots between; "*" stands for a name
 * that the administrator gives, and what is inside any, all and not counts
 * as inside match: "accounts.*.sessions.max", "rules.match.sender".
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/arena.h"
#include "policy/compile.h"
#include "policy/scalar.h"

enum { PATH_OCTETS = 200 };

struct path {
    char text[PATH_OCTETS];
};

static struct path
below(const struct path *map, const char *key)
{
    struct path p;
    int n = snprintf(p.text, sizeof p.text, "%s%s%s", map->text,
                     map->text[0] != '\0' ? "." : "", key);

    if (n < 0 || (size_t)n >= sizeof p.text) {
        fputs("list_keys: a path is too long\n", stderr);
        exit(2);
    }
    return p;
}

/* Maps of entries that have names. */
static bool
has_names(const struct schema_row *row)
{
    return row->type == &compile_smarthosts || row->type == &compile_clients ||
           row->type == &compile_accounts || row->type == &compile_pools ||
           row->type == &compile_lists;
}

static bool
is_match(const struct schema_row *row)
{
    return row->type == &compile_match;
}

/* ---- what there is ---- */

static void
print_words(const char *words)
{
    for (; *words != '\0'; words++)
        if (*words != '|')
            putchar(*words);
        else
            fputs(strchr(words + 1, '|') != NULL ? ", " : " or ", stdout);
}

static void
print_range(const struct schema_row *row)
{
    char low[SCALAR_TEXT], high[SCALAR_TEXT];

    if (row->max == 0)
        return;
    if (row->type == &schema_duration)
        printf(", %s..%s", scalar_show_duration(row->min, low),
               scalar_show_duration(row->max, high));
    else if (row->type == &schema_size)
        printf(", %s..%s", scalar_show_size(row->min, low),
               scalar_show_size(row->max, high));
    else if (row->min > 0)
        printf(", %" PRIu64 "..%" PRIu64, row->min, row->max);
    else
        printf(", at most %" PRIu64 " octets", row->max);
}

static void
print_row(const struct path *path, const struct schema_row *row)
{
    printf("%s\t", path->text);
    if (row->words != NULL)
        print_words(row->words);
    else
        fputs(row->type->form, stdout);
    print_range(row);
    if (row->need == SCHEMA_REQUIRED)
        fputs("; required", stdout);
    else if (row->unset != NULL)
        printf("; default %s", row->unset);
    putchar('\n');
}

static void
print_schema(const struct schema *s, const struct path *map)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct schema_row *row = &s->row[i];
        struct path path = below(map, row->key), inner = path;

        print_row(&path, row);
        if (has_names(row))
            inner = below(&path, "*");
        if (row->sub != NULL)
            print_schema(row->sub, &inner);
        for (size_t k = 0; is_match(row) && compile_match_key(k) != NULL; k++)
            printf("%s\t\n", below(&path, compile_match_key(k)).text);
    }
}

/* ---- what a file uses ---- */

static void use_map(const struct schema *s, const struct node *n,
                    const struct path *map);

static void
use_match(const struct node *n, const struct path *map)
{
    static const char *const inner[] = {"any", "all", "not"};

    for (size_t i = 0; n->kind == NODE_LIST && i < n->n; i++)
        use_match(n->item[i], map);
    for (size_t i = 0; n->kind == NODE_MAP && i < n->n; i++) {
        puts(below(map, n->key[i]->text.at).text);
        for (size_t k = 0; k < sizeof inner / sizeof *inner; k++)
            if (slice_eq(n->key[i]->text, slice_of(inner[k])))
                use_match(n->item[i], map);
    }
}

/* The entries of a list are all of one kind; what is no map has no keys. */
static void
use_value(const struct schema_row *row, const struct node *n,
          const struct path *path)
{
    if (n->kind == NODE_LIST)
        for (size_t i = 0; i < n->n; i++)
            use_value(row, n->item[i], path);
    else if (n->kind == NODE_MAP)
        use_map(row->sub, n, path);
}

static void
use_key(const struct schema_row *row, const struct node *n,
        const struct path *path)
{
    struct path inner;

    puts(path->text);
    if (is_match(row)) {
        use_match(n, path);
    } else if (row->sub != NULL && has_names(row)) {
        inner = below(path, "*");
        for (size_t i = 0; n->kind == NODE_MAP && i < n->n; i++)
            use_value(row, n->item[i], &inner);
    } else if (row->sub != NULL) {
        use_value(row, n, path);
    }
}

static void
use_map(const struct schema *s, const struct node *n, const struct path *map)
{
    for (size_t i = 0; i < n->n; i++)
        for (size_t k = 0; k < s->n; k++)
            if (slice_eq(n->key[i]->text, slice_of(s->row[k].key))) {
                struct path path = below(map, s->row[k].key);

                use_key(&s->row[k], n->item[i], &path);
            }
}

static bool
use_text(struct arena *a, const char *name, const char *text, size_t len)
{
    static struct diag d;
    struct node *root = NULL;

    if (tree_read(a, text, len, name, &d, &root) != TREE_OK ||
        root->kind != NODE_MAP)
        return false;
    use_map(&schema_top, root, &(struct path){""});
    return true;
}

static int
use_file(const char *name)
{
    static char text[1024 * 1024];
    FILE *f = fopen(name, "r");
    struct arena *a;
    size_t len;
    bool ok;

    if (f == NULL) {
        perror(name);
        return 2;
    }
    len = fread(text, 1, sizeof text, f);
    fclose(f);
    a = arena_new();
    ok = a != NULL && use_text(a, name, text, len);
    arena_free(a);
    if (!ok)
        fprintf(stderr, "%s: not a map in YAML\n", name);
    return ok ? 0 : 1;
}

int
main(int argc, char **argv)
{
    if (argc == 2)
        return use_file(argv[1]);
    print_schema(&schema_top, &(struct path){""});
    return 0;
}
