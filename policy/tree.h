/* policy/tree.h - YAML bytes to a tree that knows where each thing stood.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  YAML 1.1 as libyaml reads it, UTF-8, one document.
 * Anchors and aliases work; merge keys ("<<") and tags are refused.
 */
#ifndef POLICY_TREE_H
#define POLICY_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/diag.h"
#include "policy/slice.h"

struct arena;

enum {
    TREE_TEXT_MAX = 64 * 1024 * 1024, /* octets of a file */
    TREE_DEPTH_MAX = 50,              /* lists and maps inside one another */
    /* Values, those that aliases stand for counted each time: an alias costs
     * a few octets, what it repeats may cost anything. */
    TREE_NODES_MAX = 4 * 1000 * 1000,
};

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    struct loc at;
    /* NODE_SCALAR */
    bool quoted;       /* or a block; never null, a number or yes */
    struct slice text; /* with a NUL behind it and none inside */
    /* NODE_LIST, NODE_MAP */
    size_t n;
    struct node **item; /* a map's values */
    struct node **key;  /* NODE_MAP: scalars, no two the same */
    /* While the tree is built. */
    uint32_t weight; /* nodes in it, itself included; 0 = not complete */
};

enum tree_result {
    TREE_OK = 0,
    TREE_EINVAL, /* see the diag */
    TREE_ENOMEM,
};

/* The tree lies in the arena; locs name `file`, which must last as long.
 * TREE_EINVAL leaves *ret NULL when there is nothing to go on with, else a
 * tree that can be checked further. */
enum tree_result tree_read(struct arena *a, const char *text, size_t len,
                           const char *file, struct diag *d, struct node **ret);

/* The value of a key; NULL = not there.  Looks at each key. */
const struct node *node_get(const struct node *map, const char *key);

/* "", ~ or null, plain. */
bool node_is_null(const struct node *n);

/* yes, no, true, false, on, off, plain: YAML 1.1.  False = none of these. */
bool node_bool(const struct node *n, bool *ret);

/* A value as an error message shows it: "a list", "a map", "nothing", or
 * the text in quotes. */
struct shown {
    char text[80];
};
struct shown node_show(const struct node *n);
struct shown node_show_text(struct slice s); /* in quotes, cut, controls as ? */

#endif
