/* policy/index.h - the look-up tables of a policy.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/: the compiler fills them, policy.c asks.
 */
#ifndef POLICY_INDEX_H
#define POLICY_INDEX_H

#include <stdbool.h>
#include <stdint.h>

struct rule_index;
struct string_set;
struct table;
struct account;

struct policy;

/* The account whose identity that is; of a template with its "*".  NULL =
 * none. */
const struct account *policy_find_identity(const struct policy *p,
                                           const char *identity);

struct policy_id { /* of a named account */
    uint64_t id;
    const struct account *account;
};

struct policy_index {
    struct table *names;      /* name -> struct account */
    struct table *identities; /* identity; of a template with its "*" */
    struct string_set *mta_domains, *internal_domains; /* patterns */
    size_t n_ids;
    struct policy_id *id; /* sorted by id */
    struct rule_index *rules;
};

#endif
