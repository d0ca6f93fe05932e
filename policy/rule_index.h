/* policy/rule_index.h - which rules a message may match, without asking all.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Each rule is filed under the texts, networks and lists
 * of one of its conditions, its anchor, without which the rule cannot match;
 * a rule that has no anchor is asked always.  What a message and a recipient
 * bring is looked up, and the rules found are walked in their order.
 *
 * A rule that is left out is one that match_condition() would answer with
 * "no", and without a word about headers that cannot be read or expressions
 * that gave up.  The reverse need not hold.
 */
#ifndef POLICY_RULE_INDEX_H
#define POLICY_RULE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct condition;
struct match;
struct rule;
struct rule_index;

/* Lies in `a`; `scratch` is used meanwhile.  NULL = out of memory. */
struct rule_index *rule_index_new(struct arena *a, struct arena *scratch,
                                  const struct rule *rule, size_t n);

struct rule_range { /* numbers of rules, ascending */
    const uint32_t *at, *end;
};

enum {
    RULE_HITS_MAX = 48, /* ranges of a message, and of a recipient */
    RULE_SEEN_MAX = 512,
};

struct rule_hits {
    unsigned n;
    bool all; /* too many, or no memory: every rule may match */
    struct rule_range range[RULE_HITS_MAX];
};

/* What the message's own values have found: looked up for the first recipient,
 * good for the others (policy/scratch.h keeps it). */
struct rule_message_hits {
    const struct rule_index *index; /* NULL = nothing yet */
    size_t n_seen;
    unsigned char seen[RULE_SEEN_MAX]; /* the facts that were looked up */
    struct rule_hits hits;
};

struct rule_walk {
    size_t next, n_rules; /* no index: one after the other */
    bool plain;
    unsigned n;
    struct rule_range range[2 * RULE_HITS_MAX];
};

/* index NULL = every rule.  Borrows from both. */
void rule_walk_start(struct rule_walk *w, const struct rule_index *index,
                     size_t n_rules, struct match *m);

/* Calls fn with rules among which are all that match whatever the condition
 * matches. */
typedef void rule_range_fn(void *cookie, struct rule_range r);
void rule_index_each_wider(const struct rule_index *index,
                           const struct condition *c, rule_range_fn *fn,
                           void *cookie);

/* The next rule that may match; false = no more. */
bool rule_walk_next(struct rule_walk *w, size_t *ret_rule);

#endif
