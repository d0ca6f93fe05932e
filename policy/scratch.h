/* policy/scratch.h - what the decisions of one message share.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/: match.c and decide.c read through it.  Each header is
 * decoded once, the From fields are parsed once, each expression runs once on
 * each of their values.  Bounded: see SCRATCH_TEXT_MAX.
 */
#ifndef POLICY_SCRATCH_H
#define POLICY_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/decide.h"
#include "policy/facts.h"
#include "policy/rule_index.h"

enum {
    SCRATCH_TEXT_MAX = 1 << 20, /* octets of decoded text for a message */
    SCRATCH_FROM_MAX = 1000,    /* addresses of all From fields */
    SCRATCH_REGEX_MAX = 1 << 16 /* octets of a value that are searched */
};

struct scratch_text {
    struct slice text;
    bool cut; /* its end did not fit */
};

struct scratch_from {
    size_t n;
    struct slice *address; /* as header_next_address gives them */
    bool garbage;          /* some part was no address, or too much */
};

enum regex_answer {
    REGEX_NO = 0,
    REGEX_YES,
    REGEX_LIMIT, /* no answer within the limits, or broken UTF-8 */
    REGEX_ENOMEM,
};

/* Says which facts come next.  Forgets what belongs to other headers. */
void scratch_bind(struct scratch *s, const struct facts *f);

/* The decoded value of header i.  False = out of memory. */
bool scratch_header(struct scratch *s, size_t i, struct scratch_text *ret);

/* The addresses of all From fields.  NULL = out of memory. */
const struct scratch_from *scratch_from(struct scratch *s);

/* What this message has found in the rules (policy/rule_walk.c). */
struct rule_message_hits *scratch_rule_hits(struct scratch *s);

/* mailbox_identity() of what a template has become, worked out once a message
 * for each smarthost.  s may be NULL. */
uint64_t scratch_identity(struct scratch *s, const char *address,
                          const char *smarthost, char ret[IDENTITY_MAX + 1]);

/* What a condition on the message came to, for its other recipients.  `strict`:
 * struct match's unreadable_unknown.  Only FACTS_EOM; a few are forgotten. */
struct scratch_leaf {
    unsigned truth; /* enum truth */
    bool unparseable, regex_limit;
};
bool scratch_leaf_get(const struct scratch *s, const void *condition,
                      const struct facts *f, bool strict,
                      struct scratch_leaf *ret);
void scratch_leaf_put(struct scratch *s, const void *condition,
                      const struct facts *f, bool strict,
                      const struct scratch_leaf *leaf);

/* Is the expression (pcre2_code) found in the value?  keep: the value stays
 * where it is until the scratch is reset, so the answer can be kept. */
enum regex_answer scratch_regex(struct scratch *s, const void *code,
                                struct slice value, bool keep);

#endif
