/* milter/ctl/explain.c - gmroutectl explain: a message and an envelope
 * through policy, quota and token state, without changing anything.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/explain.h"
#include "policy/address.h"
#include "policy/window.h"

static const char synopsis[] =
    "[MESSAGE|-] --recipient B ... [--sender A] [--stage rcpt|message]\n"
    "           [--client ADDR] [--client-name HOST] [--helo HOST]\n"
    "           [--auth LOGIN] [--tls] [--local] [--macro k=v ...]\n"
    "           [--size OCTETS] [--now RFC3339] [--all]";

/* ---- what the policy says ---- */

static bool
decide_at(struct explain *x, enum facts_stage stage, struct slice recipient,
          struct decision *ret, struct trace *trace)
{
    struct facts f = x->facts;

    f.stage = stage;
    scratch_reset(x->scratch);
    return decide(x->policy, &f, recipient, x->scratch, ret, trace) ==
           DECIDE_OK;
}

static bool
decide_one(struct explain *x, struct told *t)
{
    struct decision *d = &t->decision;

    if (!decide_at(x, FACTS_RCPT, t->recipient, d, NULL))
        return false;
    t->early = (struct early){d->action, d->rule, d->reply, d->at};
    return x->at_rcpt || decide_at(x, FACTS_EOM, t->recipient, d, NULL);
}

bool
explain_trace(struct explain *x, const struct told *t)
{
    struct decision *d;
    bool ok;

    if (x->trace.why == NULL) {
        x->trace.max = x->policy->n_rules + 1;
        x->trace.why = calloc(x->trace.max, sizeof *x->trace.why);
    }
    d = malloc(sizeof *d);
    ok = d != NULL && x->trace.why != NULL &&
         decide_at(x, x->at_rcpt ? FACTS_RCPT : FACTS_EOM, t->recipient, d,
                   &x->trace);
    free(d);
    return ok;
}

bool
explain_is_shadow(const struct told *t, const struct why *w)
{
    for (unsigned i = 0; i < t->decision.n_shadows; i++) {
        const struct loc *at = &t->decision.shadow[i].at;

        if (at->line == w->at.line && at->col == w->at.col &&
            strcmp(at->file, w->at.file) == 0)
            return true;
    }
    return false;
}

/* ---- what admission makes of it ---- */

static struct told *
group_of(struct explain *x, struct told *t)
{
    for (struct told *g = x->told; g < t; g++)
        if (g->group == g && g->decision.plan == t->decision.plan)
            return g;
    return t;
}

/* As the milter has it: recipients of one plan are one transaction, and more
 * than the account takes at once are several. */
static void
group_recipients(struct explain *x)
{
    for (size_t i = 0; i < x->n_recipients; i++) {
        struct told *t = &x->told[i];
        struct address a;

        if (t->decision.action != ACTION_ACCOUNT)
            continue;
        t->group = group_of(x, t);
        t->group->cost.recipients++;
        t->group->cost.external_recipients +=
            !address_parse(t->recipient, &a) ||
            !policy_is_internal_domain(x->policy, a.domain);
    }
}

static void
admit_group(struct explain *x, struct told *g)
{
    const struct candidate *first = &g->decision.candidate[0];
    uint32_t most = 100; /* Google: RCPT commands of one message */

    if (g->decision.n_candidates > 0 && first->kind == STEP_ACCOUNT &&
        first->mailbox.account->quota.recipients_per_message < most)
        most = first->mailbox.account->quota.recipients_per_message;
    if (most == 0)
        most = 1;
    g->cost.messages = (g->cost.recipients + most - 1) / most;
    g->cost.bytes = x->facts.size_octets * g->cost.messages;
    admit(&x->env, x->policy, &g->decision, &g->cost, &g->admission);
}

/* from: require looks at the message, so it refuses all of it. */
static bool
from_refused(struct explain *x, const struct told *g)
{
    struct facts f = x->facts;

    if (g->decision.plan->from != FROM_REQUIRE ||
        g->admission.action != ACTION_ACCOUNT)
        return false;
    f.stage = FACTS_EOM;
    return !decide_from_allowed(&g->admission.mailbox, &f);
}

/* What cannot be put off, since the rest of the message goes on or sendmail(1)
 * would try again for ever, waits in the MTA's queue. */
static void
queue_instead_of_defer(struct explain *x)
{
    bool goes_on = x->facts.local;

    for (size_t i = 0; i < x->n_recipients; i++)
        goes_on = goes_on || (x->told[i].action != ACTION_REJECT &&
                              x->told[i].action != ACTION_DEFER &&
                              x->told[i].action != ACTION_DISCARD);
    for (size_t i = 0; i < x->n_recipients && goes_on; i++) {
        struct told *t = &x->told[i];

        if (t->group == NULL || t->action != ACTION_DEFER ||
            t->group->admission.mailbox.account == NULL)
            continue;
        t->action = ACTION_ACCOUNT;
        t->reply = NULL;
        t->group->admission.wait_ms = WINDOW_NEVER;
    }
}

static void
admit_all(struct explain *x)
{
    group_recipients(x);
    for (size_t i = 0; i < x->n_recipients; i++) {
        struct told *t = &x->told[i];

        t->action = t->decision.action;
        t->reply = t->decision.reply;
        if (t->decision.whole_message)
            x->refusal = t->reply;
        if (t->group == NULL)
            continue;
        if (t->group == t)
            admit_group(x, t);
        t->action = t->group->admission.action;
        t->reply = t->group->admission.reply;
    }
    queue_instead_of_defer(x);
    for (size_t i = 0; i < x->n_recipients; i++)
        if (x->told[i].group == &x->told[i] && from_refused(x, &x->told[i]))
            x->refusal = "550 5.7.1 From header is not an address of the "
                         "account that would send the message";
}

static const char *
token_text(const struct explain *x, const struct mailbox *m)
{
    struct token_status s;

    if (m->account->auth != AUTH_REFRESH_TOKEN &&
        m->account->auth != AUTH_SERVICE_ACCOUNT)
        return "not needed";
    if (status_peek(x->env.status, m->id, &s) != STATE_OK)
        return "unknown";
    return token_state_name(s.state);
}

/* Asks admission about this account alone, and again with leave to wait. */
static void
try_alone(struct explain *x, const struct told *t, unsigned i, char *why,
          size_t size)
{
    struct decision *alone = malloc(sizeof *alone);
    const char *colon, *reason;
    struct admission a;
    char wait[40];

    if (alone == NULL)
        return;
    *alone = t->group->decision;
    alone->candidate[0] = t->group->decision.candidate[i];
    alone->candidate[1] = (struct candidate){.kind = STEP_WAIT};
    alone->n_candidates = 2;
    admit(&x->env, x->policy, alone, &t->group->cost, &a);
    free(alone);
    colon = strstr(a.why, ": "); /* behind the account's address */
    reason = colon != NULL ? colon + 2 : a.why;
    if (a.action == ACTION_ACCOUNT && a.wait_ms == 0)
        snprintf(why, size, "has room now");
    else if (a.action == ACTION_ACCOUNT && a.wait_ms == WINDOW_NEVER)
        snprintf(why, size, "%s; nobody knows until when", reason);
    else if (a.action == ACTION_ACCOUNT) {
        ctl_duration(a.wait_ms, wait, sizeof wait);
        snprintf(why, size, "%s; room in %s", reason, wait);
    } else {
        snprintf(why, size, "%s; %s", reason,
                 a.action == ACTION_REJECT
                     ? "the message is larger than the whole limit"
                     : "no room within its max_wait");
    }
}

void
explain_candidate(struct explain *x, const struct told *t, unsigned i,
                  struct tried *ret)
{
    const struct candidate *c = &t->group->decision.candidate[i];
    const struct admission *a = &t->group->admission;
    enum state_result known;

    memset(ret, 0, sizeof *ret);
    if (c->kind != STEP_ACCOUNT)
        return;
    ret->taken = t->action == ACTION_ACCOUNT && a->mailbox.id == c->mailbox.id;
    try_alone(x, t, i, ret->why, sizeof ret->why);
    known = quota_peek(x->env.quota, c->mailbox.id, &ret->quota);
    ret->has_quota = known == STATE_OK;
    /* Of an account that the agent has not met its limits are known. */
    if (known != STATE_OK && known != STATE_EEMPTY)
        snprintf(ret->why, sizeof ret->why,
                 "taken for free: its room is not known");
    ret->token = token_text(x, &c->mailbox);
}

/* ---- the command ---- */

static bool
open_state(struct explain *x)
{
    const char *runtime = x->policy->state.runtime;
    char err[200];

    x->now_ms = (uint64_t)clock_wall_ms(&clock_real);
    x->env.clock = &clock_real;
    x->env.quota = quota_reader_new(runtime, &clock_real);
    x->env.status = status_reader_new(runtime, false);
    if (hints_open_reader(&x->env.hints, runtime, err, sizeof err) != STATE_OK)
        x->env.hints = NULL;
    return x->env.quota != NULL && x->env.status != NULL;
}

static bool
explain_all(struct explain *x)
{
    x->told = calloc(x->n_recipients, sizeof *x->told);
    if (x->told == NULL)
        return false;
    for (size_t i = 0; i < x->n_recipients; i++) {
        x->told[i].recipient = x->recipient[i];
        if (!decide_one(x, &x->told[i]))
            return false;
    }
    admit_all(x);
    return true;
}

static int
tell(struct explain *x, bool as_json)
{
    bool no, ok = false;

    if (explain_all(x)) {
        json_t *j = as_json ? explain_json(x) : NULL;

        ok = as_json ? j != NULL : explain_text(x);
        if (j != NULL)
            ctl_print_json(j);
    }
    if (!ok) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    no = x->refusal != NULL;
    for (size_t i = 0; i < x->n_recipients; i++)
        no = no || x->told[i].action == ACTION_REJECT ||
             x->told[i].action == ACTION_DEFER;
    return no ? CTL_NO : CTL_GOOD;
}

static void
explain_free(struct explain *x)
{
    quota_reader_free(x->env.quota);
    status_reader_free(x->env.status);
    hints_free(x->env.hints);
    scratch_free(x->scratch);
    policy_free(x->policy);
    mime_free(x->mime);
    message_file_free(&x->file);
    free(x->trace.why);
    free(x->told);
    free(x);
}

int
ctl_explain(struct ctl *c, int argc, char **argv)
{
    struct explain *x = calloc(1, sizeof *x);
    const char *bad;
    char err[400];
    int status = CTL_USAGE;

    if (x == NULL)
        return CTL_USAGE;
    x->facts.now_s = (int64_t)time(NULL);
    bad = explain_options(x, argc, argv);
    if (bad != NULL) {
        status = ctl_usage("explain", synopsis, "%s", bad);
    } else if (!explain_facts(x, err, sizeof err)) {
        fprintf(stderr, "gmroutectl: %s\n", err);
    } else {
        x->policy = ctl_load(c, false);
        x->scratch = scratch_new();
        if (x->policy != NULL && x->scratch != NULL && open_state(x))
            status = tell(x, c->json);
    }
    explain_free(x);
    return status;
}
