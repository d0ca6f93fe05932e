/* policy/match_private.h - what match.c, match_message.c and match_explain.c
 * share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_MATCH_PRIVATE_H
#define POLICY_MATCH_PRIVATE_H

#include "policy/match.h"

/* What a value is decides how some patterns are read. */
struct value {
    struct slice text;
    bool is_domain; /* entries of lists are domain patterns, too */
    bool keep;      /* lives as long as the scratch */
};

bool match_any_pattern(struct match *m, const struct condition *c,
                       struct value v);
enum truth match_domain(struct match *m, const struct condition *c,
                        struct slice domain, bool keep);

/* The macro as a condition sees it; NULL = not there (yet). */
const struct facts_pair *match_macro_of(const struct facts *f,
                                        const char *name);

struct wall_clock match_wall(struct match *m, const struct zone *z);

/* The keys that are about the message, MATCH_FROM to MATCH_KIND. */
enum truth match_message(struct match *m, const struct condition *c);

/* Fills in m->sample.  False = not known, or out of memory (m->nomem). */
bool match_find_sample(struct match *m);

#endif
