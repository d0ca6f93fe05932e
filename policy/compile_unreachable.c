/* policy/compile_unreachable.c - rules that no message gets to.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A rule is one of them when an earlier rule takes all that it matches: each
 * condition of the earlier follows from a condition of the later.  What is not
 * seen to follow does not, so that there are silent cases but no wrong words.
 *
 * Pairs are not all tried: the index of the rules names those that could be
 * the earlier one, and of many only the first few are asked.
 */
#include "policy/compile.h"

#include "policy/glob.h"
#include "policy/index.h"
#include "policy/match.h"
#include "policy/rule_index.h"

enum {
    ASKED_MAX = 64,    /* earlier rules, for each way to find some */
    PATTERNS_MAX = 64, /* of a condition that is held against another */
    /* Comparisons of conditions for one rule: "any" in "any" multiply. */
    STEPS_MAX = 10000,
};

/* ---- patterns ---- */

static bool
network_holds(const struct network *wide, const struct network *narrow)
{
    unsigned octets = wide->bits / 8, bits = wide->bits % 8;

    if (wide->bits > narrow->bits ||
        memcmp(wide->address, narrow->address, octets) != 0)
        return false;
    return bits == 0 ||
           (wide->address[octets] ^ narrow->address[octets]) >> (8 - bits) == 0;
}

static bool
is_null_sender(const struct pattern *p)
{
    return p->kind == PATTERN_EXACT && strcmp(p->text, "<>") == 0;
}

/* Does every value that `narrow` matches match `wide`, too? */
static bool
pattern_covers(enum match_key key, const struct pattern *wide,
               const struct pattern *narrow)
{
    struct slice w, n;

    if (wide->kind == PATTERN_LIST)
        return narrow->kind == PATTERN_LIST && wide->list == narrow->list;
    if (narrow->kind == PATTERN_LIST)
        return false;
    if (wide->kind == PATTERN_NETWORK)
        return narrow->kind == PATTERN_NETWORK &&
               network_holds(&wide->network, &narrow->network);
    if (narrow->kind == PATTERN_NETWORK)
        return false;
    w = slice_of(wide->text);
    n = slice_of(narrow->text);
    if (wide->kind == narrow->kind &&
        (wide->kind == PATTERN_REGEX ? slice_eq(w, n) : slice_eq_nocase(w, n)))
        return true;
    /* "<>" stands for nothing that a glob could look at; no login is "". */
    if (wide->kind == PATTERN_GLOB && narrow->kind == PATTERN_EXACT)
        return n.len > 0 && !is_null_sender(narrow) && glob_matches(w, n);
    if (wide->kind == PATTERN_DOMAIN && narrow->kind == PATTERN_DOMAIN &&
        match_is_domain_key(key))
        return w.len > 0 && w.at[0] == '.' && n.len > w.len &&
               slice_ends_nocase(n, w);
    return false;
}

static bool
patterns_cover(const struct condition *wide, const struct condition *narrow)
{
    if (wide->n_patterns > PATTERNS_MAX || narrow->n_patterns > PATTERNS_MAX)
        return false;
    for (size_t i = 0; i < narrow->n_patterns; i++) {
        bool covered = false;

        for (size_t k = 0; !covered && k < wide->n_patterns; k++)
            covered = pattern_covers(wide->key, &wide->pattern[k],
                                     &narrow->pattern[i]);
        if (!covered)
            return false;
    }
    return narrow->n_patterns > 0;
}

/* ---- conditions ---- */

struct span { /* of numbers, both ends in it */
    uint64_t first, last;
    bool none;
};

static struct span
span_of(enum compare op, uint64_t value)
{
    switch (op) {
    case COMPARE_EQ:
        return (struct span){value, value, false};
    case COMPARE_LT:
        return (struct span){0, value - 1, value == 0};
    case COMPARE_LE:
        return (struct span){0, value, false};
    case COMPARE_GT:
        return (struct span){value + 1, UINT64_MAX, value == UINT64_MAX};
    case COMPARE_GE:
        return (struct span){value, UINT64_MAX, false};
    }
    return (struct span){.none = true};
}

static bool
numbers_cover(const struct condition *wide, const struct condition *narrow)
{
    for (size_t i = 0; i < narrow->n_numbers; i++) {
        struct span n = span_of(narrow->number[i].op, narrow->number[i].value);
        bool covered = n.none;

        for (size_t k = 0; !covered && k < wide->n_numbers; k++) {
            struct span w = span_of(wide->number[k].op, wide->number[k].value);

            covered = !w.none && w.first <= n.first && n.last <= w.last;
        }
        if (!covered)
            return false;
    }
    return narrow->n_numbers > 0;
}

static bool
kinds_cover(const struct condition *wide, const struct condition *narrow)
{
    unsigned have = 0;

    for (size_t i = 0; i < wide->n_kinds; i++)
        have |= 1u << wide->kind[i];
    for (size_t i = 0; i < narrow->n_kinds; i++)
        if ((have >> narrow->kind[i] & 1) == 0)
            return false;
    return narrow->n_kinds > 0;
}

/* Whoever has one of these addresses is in one of these domains. */
static bool
domains_cover(const struct condition *wide, const struct condition *narrow)
{
    if (wide->n_patterns > PATTERNS_MAX || narrow->n_patterns > PATTERNS_MAX)
        return false;
    for (size_t i = 0; i < narrow->n_patterns; i++) {
        struct pattern domain;
        bool covered = false;

        if (!match_pattern_domain(&narrow->pattern[i], &domain))
            return false;
        for (size_t k = 0; !covered && k < wide->n_patterns; k++)
            covered = pattern_covers(wide->key, &wide->pattern[k], &domain);
        if (!covered)
            return false;
    }
    return narrow->n_patterns > 0;
}

static bool
leaf_follows(const struct condition *narrow, const struct condition *wide)
{
    enum match_key domain;

    if (match_domain_key(narrow->key, &domain) && domain == wide->key)
        return domains_cover(wide, narrow);
    if (narrow->key != wide->key)
        return false;
    switch (wide->key) {
    case MATCH_HEADER:
    case MATCH_MACRO:
        return strcmp(narrow->name, wide->name) == 0 &&
               patterns_cover(wide, narrow);
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
        return numbers_cover(wide, narrow);
    case MATCH_KIND:
        return kinds_cover(wide, narrow);
    case MATCH_TLS:
        return narrow->yes == wide->yes;
    case MATCH_TIME:
    case MATCH_SAMPLE:
    case MATCH_ALL:
    case MATCH_ANY:
    case MATCH_NOT:
        return false;
    default:
        return patterns_cover(wide, narrow);
    }
}

/* Does `wide` hold whenever `narrow` does?  (When narrow is not known, then
 * wide is not "no".)  False as well when there are no steps left. */
static bool
follows(const struct condition *narrow, const struct condition *wide,
        unsigned *left)
{
    if (*left == 0)
        return false;
    --*left;
    if (wide->key == MATCH_ALL) {
        for (size_t i = 0; i < wide->n_children; i++)
            if (!follows(narrow, &wide->child[i], left))
                return false;
        return true;
    }
    if (narrow->key == MATCH_ANY) {
        for (size_t i = 0; i < narrow->n_children; i++)
            if (!follows(&narrow->child[i], wide, left))
                return false;
        return narrow->n_children > 0;
    }
    if (narrow->key == MATCH_ALL)
        for (size_t i = 0; i < narrow->n_children; i++)
            if (follows(&narrow->child[i], wide, left))
                return true;
    if (wide->key == MATCH_ANY)
        for (size_t i = 0; i < wide->n_children; i++)
            if (follows(narrow, &wide->child[i], left))
                return true;
    return leaf_follows(narrow, wide);
}

/* ---- rules ---- */

/* Does it never match the null sender? */
static bool
excludes_null(const struct condition *c)
{
    if (c->key == MATCH_SENDER_DOMAIN)
        return true;
    if (c->key == MATCH_SENDER) {
        for (size_t i = 0; i < c->n_patterns; i++)
            if (c->pattern[i].kind != PATTERN_EXACT ||
                is_null_sender(&c->pattern[i]))
                return false;
        return c->n_patterns > 0;
    }
    if (c->key == MATCH_ALL)
        for (size_t i = 0; i < c->n_children; i++)
            if (excludes_null(&c->child[i]))
                return true;
    return false;
}

/* Does the earlier rule keep what it matches, when the later one matches it,
 * too? */
static bool
keeps(const struct rule *earlier, const struct rule *later)
{
    if (earlier->shadow)
        return false;
    if (earlier->action != ACTION_ACCOUNT)
        return true;
    return compile_serves_everybody(earlier->plan) &&
           (earlier->null_sender_meant || excludes_null(&later->match));
}

struct search {
    const struct policy *p;
    size_t later;
    size_t found;  /* the earlier rule; later = none */
    unsigned left; /* steps: see STEPS_MAX */
};

static void
try_range(void *cookie, struct rule_range r)
{
    struct search *s = cookie;
    const struct rule *rule = s->p->rules, *later = &rule[s->later];

    for (int asked = 0; asked < ASKED_MAX && r.at < r.end && *r.at < s->found;
         asked++, r.at++)
        if (keeps(&rule[*r.at], later) &&
            follows(&later->match, &rule[*r.at].match, &s->left))
            s->found = *r.at;
}

void
compile_check_unreachable(struct compile *c)
{
    const struct policy *p = c->p;

    for (size_t i = 0; i < p->n_rules && c->diag->n < DIAG_MAX; i++) {
        const struct rule *later = &p->rules[i], *earlier;
        struct search s = {p, i, i, STEPS_MAX};

        rule_index_each_wider(p->index->rules, &later->match, try_range, &s);
        if (s.found == i)
            continue;
        earlier = &p->rules[s.found];
        if (earlier->match.n_children == 0) {
            diag_warning(c->diag, later->at,
                         "no message gets to this rule: the rule \"%s\" in "
                         "%s has no condition",
                         earlier->name,
                         compile_place(later->at, earlier->at).text);
            return; /* nor to those behind it */
        }
        diag_warning(c->diag, later->at,
                     "no message gets to this rule: the rule \"%s\" in %s "
                     "matches all that it matches",
                     earlier->name, compile_place(later->at, earlier->at).text);
    }
}
