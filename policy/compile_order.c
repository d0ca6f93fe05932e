/* policy/compile_order.c - conditions in the order of what they cost.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All of them must hold, in whatever order they are asked, so the order is
 * only a matter of speed, and of what is reported: a header that nobody had to
 * read is not one that could not be read.
 */
#include "policy/compile.h"

enum cost {
    COST_ENVELOPE,        /* a look-up, a glob */
    COST_ENVELOPE_SEARCH, /* expressions, long lists of globs */
    COST_MACRO,           /* perhaps known at RCPT, so before the message */
    COST_NUMBER,
    COST_HEADER, /* a walk over the fields, perhaps decoding some */
    COST_HEADER_SEARCH,
    COST_ATTACHMENT,
    COST_COUNT,
};

/* Does it take more than a look at each pattern? */
static bool
is_search(const struct condition *c)
{
    for (size_t i = 0; i < c->n_patterns; i++)
        if (c->pattern[i].kind == PATTERN_REGEX ||
            (c->pattern[i].kind == PATTERN_LIST && c->pattern[i].list->n > 0))
            return true;
    return false;
}

static enum cost
kind_cost(const struct condition *c)
{
    for (size_t i = 0; i < c->n_kinds; i++)
        if (c->kind[i] != KIND_BOUNCE)
            return COST_HEADER;
    return COST_ENVELOPE;
}

static enum cost
leaf_cost(const struct condition *c)
{
    switch (c->key) {
    case MATCH_MACRO:
        return COST_MACRO;
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
        return COST_NUMBER;
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
    case MATCH_HEADER:
        return is_search(c) ? COST_HEADER_SEARCH : COST_HEADER;
    case MATCH_SAMPLE:
        return COST_HEADER;
    case MATCH_KIND:
        return kind_cost(c);
    case MATCH_ATTACHMENT:
        return COST_ATTACHMENT;
    default:
        return is_search(c) ? COST_ENVELOPE_SEARCH : COST_ENVELOPE;
    }
}

/* Stable, in one pass for each cost; memory is the compiler's scratch. */
static bool
sort_children(struct compile *c, struct condition *all, const uint8_t *cost)
{
    struct condition *sorted =
        arena_alloc(c->scratch, all->n_children, sizeof *sorted);
    size_t n = 0;

    if (sorted == NULL)
        return compile_nomem(c);
    for (unsigned k = 0; k < COST_COUNT; k++)
        for (size_t i = 0; i < all->n_children; i++)
            if (cost[i] == k)
                sorted[n++] = all->child[i];
    memcpy(all->child, sorted, n * sizeof *sorted);
    return true;
}

/* The most expensive part says what the whole costs. */
static bool
order(struct compile *c, struct condition *x, uint8_t *ret_cost)
{
    bool sorted = true;
    uint8_t *cost;

    *ret_cost = (uint8_t)leaf_cost(x);
    if (x->n_children == 0)
        return true;
    cost = arena_alloc(c->scratch, x->n_children, sizeof *cost);
    if (cost == NULL)
        return compile_nomem(c);
    *ret_cost = COST_ENVELOPE;
    for (size_t i = 0; i < x->n_children; i++) {
        if (!order(c, &x->child[i], &cost[i]))
            return false;
        sorted &= i == 0 || cost[i - 1] <= cost[i];
        if (cost[i] > *ret_cost)
            *ret_cost = cost[i];
    }
    return sorted || x->key == MATCH_ANY || sort_children(c, x, cost);
}

bool
compile_order(struct compile *c, struct condition *root)
{
    uint8_t cost;

    return order(c, root, &cost);
}
