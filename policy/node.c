/* policy/node.c - looking at a tree; see tree.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/tree.h"

#include <stdio.h>

const struct node *
node_get(const struct node *map, const char *key)
{
    struct slice want = slice_of(key);

    for (size_t i = 0; i < map->n; i++)
        if (slice_eq(map->key[i]->text, want))
            return map->item[i];
    return NULL;
}

static bool
is_one_of(const struct node *n, const char *const *word)
{
    if (n->kind != NODE_SCALAR || n->quoted)
        return false;
    for (; *word != NULL; word++)
        if (slice_eq(n->text, slice_of(*word)))
            return true;
    return false;
}

bool
node_is_null(const struct node *n)
{
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};

    return is_one_of(n, null);
}

bool
node_bool(const struct node *n, bool *ret)
{
    static const char *const yes[] = {"yes",  "Yes", "YES", "true", "True",
                                      "TRUE", "on",  "On",  "ON",   NULL};
    static const char *const no[] = {"no",    "No",  "NO",  "false", "False",
                                     "FALSE", "off", "Off", "OFF",   NULL};

    if (is_one_of(n, yes)) {
        *ret = true;
        return true;
    }
    if (is_one_of(n, no)) {
        *ret = false;
        return true;
    }
    return false;
}

struct shown
node_show_text(struct slice s)
{
    enum { ROOM = 60 }; /* octets of the value itself */
    struct shown shown;
    size_t n = 0;
    bool cut = s.len > ROOM;

    if (cut)
        s.len = ROOM;
    /* Not in the middle of a character. */
    while (cut && s.len > 0 && ((unsigned char)s.at[s.len] & 0xC0) == 0x80)
        s.len--;
    shown.text[n++] = '"';
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];

        shown.text[n++] = c < 0x20 || c == 0x7F ? '?' : s.at[i];
    }
    snprintf(shown.text + n, sizeof shown.text - n, "%s\"", cut ? "..." : "");
    return shown;
}

struct shown
node_show(const struct node *n)
{
    struct shown shown;

    if (n->kind == NODE_SCALAR && !node_is_null(n))
        return node_show_text(n->text);
    snprintf(shown.text, sizeof shown.text, "%s",
             n->kind == NODE_LIST  ? "a list"
             : n->kind == NODE_MAP ? "a map"
                                   : "nothing");
    return shown;
}
