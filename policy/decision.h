/* policy/decision.h - what the policy wants done with one recipient.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The decision names *every* step in order, with templates filled in, so
 * that admission never has to come back and ask.
 */
#ifndef POLICY_DECISION_H
#define POLICY_DECISION_H

#include <stdbool.h>

#include "policy/diag.h"
#include "policy/policy.h"

enum action {
    ACTION_MTA,     /* leave the recipient to the MTA */
    ACTION_ACCOUNT, /* send through one of the candidates */
    ACTION_REJECT,  /* `reply` is 5xx */
    ACTION_DEFER,   /* `reply` is 4xx */
    ACTION_HOLD,
    ACTION_DISCARD,
    ACTION_UNKNOWN, /* not certain yet at this stage */
};

const char *action_name(enum action a); /* as `explain --json` prints it */

/* One thing to try, in order.  A pool's members are listed one by one, with
 * the same `group`, in the order of the configuration; admission orders the
 * members of a group by the pool's pick. */
struct candidate {
    enum step_kind kind;     /* STEP_ACCOUNT, _MTA, _WAIT, _DEFER, _REJECT */
    struct mailbox mailbox;  /* STEP_ACCOUNT */
    const struct pool *pool; /* the pool it came from; NULL = none */
    unsigned weight;         /* in the pool */
    const char *reply;       /* STEP_DEFER, STEP_REJECT */
};

enum { CANDIDATES_MAX = 64 };

/* What a rule changes in the message's header, wherever it goes. */
struct header_edits {
    size_t n_remove, n_add;
    const char **remove; /* names; every field of that name goes */
    struct {
        const char *name, *value;
    } * add; /* after the removals */
};

/* A rule with `shadow: true` that would have decided. */
struct shadow {
    const char *rule;
    struct loc at;
    enum action action;      /* MTA for a route of a domain in mta_domains */
    const struct plan *plan; /* ACCOUNT: what it would have tried */
};

enum { SHADOWS_MAX = 8 /* more are not listed */ };

struct decision {
    enum action action;
    const char *rule;        /* name; NULL = the default */
    struct loc at;           /* of the rule, or of `default:` */
    const char *reply;       /* REJECT, DEFER: "550 5.7.1 text"; HOLD: reason */
    const struct plan *plan; /* ACCOUNT, REJECT, DEFER: what a ticket names */
    /* REJECT: refuse the message, not this recipient alone; no plan then. */
    bool whole_message;
    /* To log and count: a condition looked at a header that cannot be read;
     * an expression gave up, which counts as "no". */
    bool unparseable, regex_limit;
    /* Of the message; NULL = none, and for what goes nowhere (reject, defer,
     * discard). */
    const struct header_edits *edits;
    unsigned n_shadows; /* at FACTS_EOM */
    struct shadow shadow[SHADOWS_MAX];
    unsigned n_candidates; /* ACTION_ACCOUNT */
    struct candidate candidate[CANDIDATES_MAX];
};

enum { WHY_TEXT = 120 };

/* Why one earlier rule did not match: for `explain` and debug logs.  The
 * default has the name "default". */
struct why {
    const char *rule;
    struct loc at;
    char failed[WHY_TEXT]; /* "sender is a@b, want *@c"; "" = it matched */
};

struct trace {
    size_t n, max;   /* used, room in why */
    struct why *why; /* the caller's */
};

#endif
