/* tests/fuzz/fuzz_lines.c - any octets as a list file.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A policy or errors, each at a place in the file that the octets have; and
 * every plain entry is in the list, in any case, while what was never written
 * is not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/netset.h"
#include "policy/rule.h"
#include "policy/set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static struct slice file;

static bool
read_file(void *cookie, const char *path, const char **ret_text,
          size_t *ret_len, char *err, size_t err_size)
{
    (void)cookie;
    (void)err;
    (void)err_size;
    check(strcmp(path, "/c/l.txt") == 0);
    *ret_text = file.at;
    *ret_len = file.len;
    return true;
}

static size_t
count_lines(void)
{
    size_t n = 1;

    for (size_t i = 0; i < file.len; i++)
        n += file.at[i] == '\n';
    return n;
}

static void
check_places(const struct diag *d)
{
    for (unsigned i = 0; i < d->n; i++) {
        check(d->item[i].text[0] != '\0');
        if (strcmp(d->item[i].at.file, "/c/l.txt") != 0)
            continue;
        check(d->item[i].at.line >= 1 && d->item[i].at.line <= count_lines());
        check(d->item[i].at.col >= 1 && d->item[i].at.col <= file.len + 1);
    }
}

/* Letters, dots and an @: nothing else that it could be. */
static bool
is_surely_plain(struct slice s)
{
    bool name = false;

    for (size_t i = 0; i < s.len; i++) {
        char l = slice_lower(s.at[i]);

        if (!(l >= 'a' && l <= 'z') && l != '@' && l != '.')
            return false;
        name |= l >= 'g';
    }
    return name;
}

static void
check_entries(const struct pattern_list *l)
{
    for (struct slice rest = file; rest.len > 0;) {
        const char *end = memchr(rest.at, '\n', rest.len);
        struct slice s = rest;
        char upper[64];

        if (end != NULL)
            s.len = (size_t)(end - s.at);
        rest = slice_from(rest, s.len + 1);
        if (s.len > sizeof upper || !is_surely_plain(s))
            continue;
        check(string_set_has(l->exact, s));
        for (size_t i = 0; i < s.len; i++)
            upper[i] =
                (char)(s.at[i] >= 'a' && s.at[i] <= 'z' ? s.at[i] - 'a' + 'A'
                                                        : s.at[i]);
        check(string_set_has(l->exact, (struct slice){upper, s.len}));
    }
    check(string_set_count(l->exact) <= 2 * count_lines());
    check(!string_set_has(l->exact, (struct slice){"a\nb", 3}));
    check(!string_set_has(l->exact, SLICE_LIT("")));
    for (size_t i = 0; i < l->n_networks; i++)
        check(netset_has(l->network, l->n_networks, l->network[i].address));
    for (size_t i = 0; i < l->n; i++)
        check(l->pattern[i].kind == PATTERN_GLOB ||
              l->pattern[i].kind == PATTERN_REGEX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char yaml[] =
        "gmroute: 1\n"
        "lists: {l: {file: l.txt}}\n"
        "rules: [{match: {sender: {list: l}}, route: mta}]\n";
    static const struct policy_files files = {.read_file = read_file};
    static struct diag d;
    struct policy *p;

    file = (struct slice){(const char *)data, size};
    p = policy_compile(yaml, sizeof yaml - 1, "/c/f", &files, &d);
    check((p == NULL) == (d.n_errors > 0));
    check_places(&d);
    if (p != NULL)
        check_entries(p->rules[0].match.child[0].pattern[0].list);
    policy_free(p);
    return 0;
}
