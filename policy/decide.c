/* policy/decide.c - the rules, in order; see decide.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/decide.h"

#include <stdio.h>

#include "policy/decide_private.h"
#include "policy/index.h"
#include "policy/line.h"
#include "policy/match.h"
#include "policy/rule_index.h"

const char *
action_name(enum action a)
{
    static const char *const name[] = {
        [ACTION_MTA] = "mta",         [ACTION_ACCOUNT] = "account",
        [ACTION_REJECT] = "reject",   [ACTION_DEFER] = "defer",
        [ACTION_HOLD] = "hold",       [ACTION_DISCARD] = "discard",
        [ACTION_UNKNOWN] = "unknown",
    };

    return (unsigned)a < sizeof name / sizeof *name ? name[a] : "?";
}

/* The default as a rule that always matches. */
static struct rule
default_rule(const struct policy *p)
{
    const struct plan *plan = p->default_plan;
    struct rule r = {.name = NULL,
                     .at = p->default_at,
                     .match = {.key = MATCH_ALL},
                     .action = ACTION_MTA,
                     .plan = plan};

    if (plan == NULL || plan->n == 0)
        return r;
    switch (plan->step[0].kind) {
    case STEP_ACCOUNT:
    case STEP_POOL:
        r.action = ACTION_ACCOUNT;
        break;
    case STEP_REJECT:
        r.action = ACTION_REJECT;
        r.reply = plan->step[0].reply;
        break;
    case STEP_DEFER:
        r.action = ACTION_DEFER;
        r.reply = plan->step[0].reply;
        break;
    case STEP_MTA:
    case STEP_WAIT:
        break;
    }
    return r;
}

/* ---- one rule ---- */

/* The next free line of the trace, NULL when there is none (left). */
static char *
trace_add(struct trace *t, const struct rule *r)
{
    struct why *w;

    if (t == NULL || t->n >= t->max)
        return NULL;
    w = &t->why[t->n++];
    w->rule = r->name != NULL ? r->name : "default";
    w->at = r->at;
    w->failed[0] = '\0';
    return w->failed;
}

/* Does the rule match?  That takes its conditions, and for a route someone
 * who can serve the sender; ret's candidates are filled in then.  A rule that
 * does not certainly match leaves a line in the trace. */
static enum truth
rule_matches(const struct policy *p, const struct rule *r, struct match *m,
             struct decision *ret, struct trace *trace)
{
    const struct decide_listing asked = {p, m->f, m->scratch,
                                         .check_trust = true};
    enum truth t = match_condition(m, &r->match);
    char *why = NULL;

    if (t != TRUTH_YES) {
        why = trace_add(trace, r);
        if (why != NULL)
            match_explain(m, &r->match, why);
    }
    if (t == TRUTH_NO || r->action != ACTION_ACCOUNT)
        return t;

    ret->n_candidates = 0;
    if (m->f->sender.len == 0 && !r->null_sender_meant) {
        why = why != NULL ? why : trace_add(trace, r);
        if (why != NULL)
            snprintf(why, WHY_TEXT,
                     "sender is <>, and only a rule that asks for it may route "
                     "it to an account");
        return TRUTH_NO;
    }
    if (!decide_list(&asked, r->plan, ret->candidate, &ret->n_candidates, NULL))
        m->nomem = true;
    if (ret->n_candidates > 0)
        return t;
    why = why != NULL ? why : trace_add(trace, r);
    if (why != NULL) /* once more, for the text */
        decide_list(&asked, r->plan, ret->candidate, &ret->n_candidates, why);
    return TRUTH_NO;
}

/* ---- what it comes to ---- */

static void
decision_set(struct decision *d, const struct rule *r)
{
    d->action = r->action;
    d->rule = r->name;
    d->at = r->at;
    d->reply = r->reply;
    d->plan = r->action != ACTION_MTA ? r->plan : NULL;
    d->edits = rule_lets_pass(r) ? r->edits : NULL;
    if (r->action != ACTION_ACCOUNT)
        d->n_candidates = 0;
}

/* The MTA delivers the recipient itself: never tagged. */
static void
leave_to_mta(struct decision *d)
{
    d->action = ACTION_MTA;
    d->n_candidates = 0;
    d->plan = NULL;
}

static bool
same_refusal(const struct decision *d, const struct rule *r)
{
    return d->action == r->action && strcmp(d->reply, r->reply) == 0;
}

/* Before the message is known.  `d` holds what the rules before this one may
 * come to, when may_refuse; true = no later rule counts any more. */
static bool
decide_early(const struct policy *p, struct decision *d, const struct rule *r,
             enum truth t, bool *may_refuse)
{
    /* A header nobody can read would refuse in other words. */
    bool certain = t == TRUTH_YES || !p->unparseable_reject;

    if (!rule_refuses(r) || !certain || (*may_refuse && !same_refusal(d, r))) {
        decision_set(d, r);
        d->action = ACTION_UNKNOWN;
        d->reply = NULL;
        d->edits = NULL;
        d->n_candidates = 0;
        return true;
    }
    if (!*may_refuse)
        decision_set(d, r);
    *may_refuse = true;
    return t == TRUTH_YES;
}

/* A log does not tell all that the rule asks for, so nobody can say what the
 * rule did, or any after it. */
static bool
decide_untold(struct decision *d, const struct rule *r)
{
    decision_set(d, r);
    d->action = ACTION_UNKNOWN;
    d->reply = NULL;
    d->plan = NULL;
    d->n_candidates = 0;
    return true;
}

/* The message is known.  True = this rule decides. */
static bool
decide_late(struct decision *d, const struct rule *r, enum truth t)
{
    decision_set(d, r);
    if (t == TRUTH_YES)
        return true;
    /* unparseable: reject */
    d->action = ACTION_REJECT;
    d->reply = "550 5.6.0 A header of the message cannot be parsed";
    d->plan = NULL;
    d->edits = NULL;
    d->n_candidates = 0;
    d->whole_message = true;
    return true;
}

/* ---- rules that only say what they would do ---- */

static void
shadow_explain(const struct shadow *s, char why[WHY_TEXT])
{
    static const char *const done[] = {
        [ACTION_MTA] = "left it to the MTA", [ACTION_ACCOUNT] = "routed it to ",
        [ACTION_REJECT] = "rejected it",     [ACTION_DEFER] = "deferred it",
        [ACTION_HOLD] = "held it",           [ACTION_DISCARD] = "discarded it",
    };
    struct line l = line_start(why, WHY_TEXT);
    const struct step *route;

    line_add(&l, "shadow: would have %s", done[s->action]);
    if (s->action != ACTION_ACCOUNT)
        return;
    route = &s->plan->step[0];
    line_add(&l, "%s", route->kind == STEP_POOL ? "pool " : "account ");
    line_value(&l,
               slice_of(route->kind == STEP_POOL ? route->pool->name
                                                 : route->account->name),
               "");
}

/* A rule with `shadow: true`.  It is listed when it would have decided, which
 * is certain once the message is known; before that it is not asked, so that
 * it makes no outcome uncertain. */
static void
shadow_try(const struct policy *p, const struct rule *r, struct match *m,
           struct decision *d, struct trace *trace)
{
    struct shadow s = {r->name, r->at, r->action, NULL};
    char *why;

    if (m->f->stage == FACTS_RCPT)
        return;
    if (rule_matches(p, r, m, d, trace) == TRUTH_YES) {
        if (r->action == ACTION_ACCOUNT &&
            policy_is_mta_domain(p, m->recipient.domain))
            s.action = ACTION_MTA;
        else if (r->action == ACTION_ACCOUNT)
            s.plan = r->plan;
        why = trace_add(trace, r);
        if (why != NULL)
            shadow_explain(&s, why);
        if (d->n_shadows < SHADOWS_MAX)
            d->shadow[d->n_shadows++] = s;
    }
    d->n_candidates = 0; /* what it would have tried */
}

/* Walks the rules that the index names, all when it is NULL; true = decided. */
static bool
walk(const struct policy *p, const struct rule_index *index, struct match *m,
     struct decision *d, struct trace *trace)
{
    bool may_refuse = false, more = true;
    struct rule_walk w;
    struct rule last;

    rule_walk_start(&w, index, p->n_rules, m);
    while (more && !m->nomem) {
        const struct rule *r = &last;
        enum truth t;
        size_t i;

        more = rule_walk_next(&w, &i);
        if (more)
            r = &p->rules[i];
        else
            last = default_rule(p);
        if (r->shadow) {
            shadow_try(p, r, m, d, trace);
            continue;
        }
        t = rule_matches(p, r, m, d, trace);
        if (t == TRUTH_NO)
            continue;
        if (m->f->stage == FACTS_LOG && t == TRUTH_UNKNOWN)
            return decide_untold(d, r);
        if (m->f->stage == FACTS_RCPT ? decide_early(p, d, r, t, &may_refuse)
                                      : decide_late(d, r, t))
            return true;
    }
    return false;
}

static enum decide_result
decide_with(const struct policy *p, const struct rule_index *index,
            const struct facts *f, struct slice recipient, struct scratch *s,
            struct decision *ret, struct trace *trace)
{
    struct match m;

    if (trace != NULL)
        trace->n = 0;
    match_init(&m, f, recipient, s);
    m.unreadable_unknown = p->unparseable_reject && f->stage == FACTS_EOM;
    ret->whole_message = false;
    ret->edits = NULL;
    ret->n_shadows = 0;
    ret->n_candidates = 0;
    if (!walk(p, index, &m, ret, trace)) {
        /* A default that routes to an account, for a sender that it cannot
         * serve: as if we were not there. */
        const struct rule last = default_rule(p);

        decision_set(ret, &last);
        leave_to_mta(ret);
        if (f->stage == FACTS_RCPT)
            ret->action = ACTION_UNKNOWN;
    }
    if (m.nomem)
        return DECIDE_ENOMEM;
    if (ret->action == ACTION_ACCOUNT &&
        policy_is_mta_domain(p, m.recipient.domain))
        leave_to_mta(ret);
    ret->unparseable = m.unparseable;
    ret->regex_limit = m.regex_limit;
    return DECIDE_OK;
}

enum decide_result
decide(const struct policy *p, const struct facts *f, struct slice recipient,
       struct scratch *s, struct decision *ret, struct trace *trace)
{
    const struct rule_index *index = NULL;

    if (p->index != NULL && trace == NULL)
        index = p->index->rules;
    return decide_with(p, index, f, recipient, s, ret, trace);
}

enum decide_result
decide_scan(const struct policy *p, const struct facts *f,
            struct slice recipient, struct scratch *s, struct decision *ret,
            struct trace *trace)
{
    return decide_with(p, NULL, f, recipient, s, ret, trace);
}
