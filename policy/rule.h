/* policy/rule.h - a compiled rule: conditions as a tree, one action.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/: compile.c builds it, match.c and decide.c read it.
 * All of it lies in the policy's arena.
 */
#ifndef POLICY_RULE_H
#define POLICY_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/decision.h"
#include "policy/policy.h"

enum match_key {
    /* Known at RCPT. */
    MATCH_SENDER,
    MATCH_SENDER_DOMAIN,
    MATCH_RECIPIENT,
    MATCH_RECIPIENT_DOMAIN,
    MATCH_CLIENT,
    MATCH_AUTH,
    MATCH_HELO,
    MATCH_TLS,  /* `yes` */
    MATCH_TIME, /* `spans` in `zone`; fixed when MAIL arrives */
    /* Known where the MTA has given it, else at the end of the message. */
    MATCH_MACRO, /* `name` and patterns */
    /* Known at the end of the message. */
    MATCH_FROM, /* addr-spec of the header From */
    MATCH_FROM_DOMAIN,
    MATCH_HEADER, /* `name` and patterns; subject is a header, too */
    MATCH_SIZE,
    MATCH_RECIPIENTS, /* how many; `number` as for MATCH_SIZE */
    MATCH_ATTACHMENT, /* patterns for file names */
    MATCH_SAMPLE,     /* `per_cent` of the Message-IDs */
    /* `bounce` is known at RCPT, `auto` and `bulk` at the end. */
    MATCH_KIND,
    /* Combinators: conditions in `child`. */
    MATCH_ALL,
    MATCH_ANY,
    MATCH_NOT, /* not all of the children */
};

enum pattern_kind {
    PATTERN_EXACT,  /* without case */
    PATTERN_GLOB,   /* * and ?, whole string, without case */
    PATTERN_REGEX,  /* PCRE2, without case, found anywhere */
    PATTERN_DOMAIN, /* "x" alone or ".x" any subdomain */
    PATTERN_LIST,   /* list: NAME */
    PATTERN_NETWORK,
};

enum mail_kind { KIND_BOUNCE, KIND_AUTO, KIND_BULK };

enum compare { COMPARE_EQ, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

struct pattern_list { /* a named list */
    const char *name;
    struct loc at;
    bool used;
    size_t n;
    struct pattern *pattern;  /* globs and expressions, in order */
    struct string_set *exact; /* lower-cased plain entries (policy/set.h) */
    size_t n_networks;
    struct network *network; /* see policy/netset.h; single addresses are
                              * among the plain entries */
};

struct pattern {
    enum pattern_kind kind;
    const char *text; /* as the configuration has it; EXACT, GLOB and DOMAIN
                       * match against it in lower case */
    void *regex;      /* pcre2_code *; PATTERN_REGEX */
    const struct pattern_list *list;
    struct network network;
};

struct condition {
    enum match_key key;
    struct loc at;
    const char *name;  /* MATCH_HEADER: lower-case field name; MATCH_MACRO:
                        * without braces */
    size_t n_patterns; /* any of them */
    struct pattern *pattern;
    /* MATCH_SIZE (octets), MATCH_RECIPIENTS */
    size_t n_numbers; /* any of them */
    struct {
        enum compare op;
        uint64_t value;
    } * number;
    /* MATCH_TIME */
    size_t n_spans; /* any of them */
    struct {
        uint8_t days;        /* bit 0 = Sunday; the day on which it begins */
        uint16_t begin, end; /* minutes of the day, end exclusive, 0..1440; end
                              * <= begin: on to the next day */
        const char *text;    /* as the configuration has it */
    } * span;
    const struct zone *zone; /* NULL = UTC */
    const char *zone_name;
    /* MATCH_TLS */
    bool yes;
    /* MATCH_SAMPLE */
    double per_cent; /* 0..100 */
    /* MATCH_KIND */
    size_t n_kinds; /* any of them */
    enum mail_kind *kind;
    /* combinators */
    size_t n_children;
    struct condition *child;
};

struct rule {
    const char *name; /* given, or "rule N", N from 1 */
    struct loc at;
    struct condition match;  /* MATCH_ALL; no children = always */
    enum action action;      /* MTA, ACCOUNT, REJECT, DEFER, HOLD, DISCARD */
    const struct plan *plan; /* ACCOUNT, REJECT, DEFER */
    const char *reply;       /* REJECT, DEFER; HOLD: the reason */
    const struct header_edits *edits; /* NULL = none */
    bool shadow;                      /* only listed; the next rule is tried */
    bool null_sender_meant; /* kind: bounce or sender: "<>" is required */
};

static inline bool
rule_refuses(const struct rule *r)
{
    return r->action == ACTION_REJECT || r->action == ACTION_DEFER;
}

/* Does the mail go on, so that its edits count? */
static inline bool
rule_lets_pass(const struct rule *r)
{
    return !rule_refuses(r) && r->action != ACTION_DISCARD;
}

#endif
