/* policy/proof.c - see proof.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/proof.h"

#include <stdlib.h>

#include "policy/line.h"
#include "policy/rule.h"

struct run {
    const struct policy *p;
    struct scratch *scratch;
    struct diag *diag;
    const struct proof *proof;
    struct slice recipient;
    struct decision decision;
};

/* ---- what comes out ---- */

struct result {
    enum action action;
    const struct candidate *first; /* ACCOUNT */
};

/* What admission makes of a decision when every account has room. */
static struct result
admitted(const struct decision *d)
{
    if (d->action != ACTION_ACCOUNT)
        return (struct result){d->action, NULL};
    for (unsigned i = 0; i < d->n_candidates; i++)
        switch (d->candidate[i].kind) {
        case STEP_ACCOUNT:
            return (struct result){ACTION_ACCOUNT, &d->candidate[i]};
        case STEP_MTA:
            return (struct result){ACTION_MTA, NULL};
        case STEP_REJECT:
            return (struct result){ACTION_REJECT, NULL};
        case STEP_DEFER:
            return (struct result){ACTION_DEFER, NULL};
        case STEP_WAIT: /* for nobody */
        case STEP_POOL: /* is never in the list */
            break;
        }
    return (struct result){ACTION_DEFER, NULL};
}

/* And what `from: require` makes of that. */
static struct result
result_of(const struct decision *d, const struct facts *f)
{
    struct result r = admitted(d);

    if (r.action == ACTION_ACCOUNT && d->plan->from == FROM_REQUIRE &&
        !decide_from_allowed(&r.first->mailbox, f))
        return (struct result){ACTION_REJECT, NULL};
    return r;
}

static bool
is_rule(const char *name, const char *want)
{
    return strcmp(name != NULL ? name : "default", want) == 0;
}

static bool
as_expected(const struct proof *want, const struct decision *d)
{
    struct result got = result_of(d, &want->facts);

    return got.action == want->action &&
           (want->rule == NULL || is_rule(d->rule, want->rule)) &&
           (want->account == NULL ||
            got.first->mailbox.account == want->account) &&
           (want->pool == NULL || got.first->pool == want->pool);
}

/* ---- what is said of it ---- */

static void
say_quoted(struct line *l, const char *before, const char *name)
{
    line_add(l, "%s\"", before);
    line_value(l, slice_of(name), "");
    line_add(l, "\"");
}

static void
say_rule(struct line *l, const char *name)
{
    if (is_rule(name, "default"))
        line_add(l, " by the default");
    else
        say_quoted(l, " by the rule ", name);
}

static void
say_want(struct line *l, const struct proof *want)
{
    if (want->account != NULL)
        line_add(l, "account %s", want->account->name);
    else if (want->pool != NULL)
        line_add(l, "pool %s", want->pool->name);
    else
        line_add(l, "%s", action_name(want->action));
    if (want->rule != NULL)
        say_rule(l, want->rule);
}

static void
say_place(struct line *l, struct loc at, const char *here)
{
    if (at.line == 0)
        return;
    if (strcmp(at.file, here) == 0)
        line_add(l, " in line %u", at.line);
    else
        line_add(l, " in %s:%u", at.file, at.line);
}

static void
say_got(struct line *l, const struct run *r)
{
    struct result got = result_of(&r->decision, &r->proof->facts);

    if (got.action != ACTION_ACCOUNT)
        line_add(l, "%s", action_name(got.action));
    else if (r->proof->pool != NULL && got.first->pool != NULL)
        line_add(l, "pool %s", got.first->pool->name);
    else
        line_add(l, "account %s", got.first->mailbox.account->name);
    say_rule(l, r->decision.rule);
    say_place(l, r->decision.at, r->proof->at.file);
}

/* What is easily overlooked when mail does not go to an account. */
static void
say_hint(struct line *l, const struct run *r)
{
    const char *at = r->recipient.len > 0
                         ? memrchr(r->recipient.at, '@', r->recipient.len)
                         : NULL;

    if (r->proof->action != ACTION_ACCOUNT ||
        result_of(&r->decision, &r->proof->facts).action == ACTION_ACCOUNT)
        return;
    if (at != NULL &&
        policy_is_mta_domain(
            r->p, slice_from(r->recipient, (size_t)(at - r->recipient.at) + 1)))
        line_add(l, " (its domain is in mta_domains)");
    else if (r->proof->facts.sender.len == 0)
        line_add(l, " (the sender is <>)");
}

/* Why the rule that should have decided did not, when it was asked. */
static enum decide_result
say_why(struct line *l, struct run *r)
{
    const struct proof *want = r->proof;
    struct trace trace = {.max = r->p->n_rules + 1};
    enum decide_result result;

    if (want->rule == NULL || is_rule(r->decision.rule, want->rule))
        return DECIDE_OK;
    trace.why = calloc(trace.max, sizeof *trace.why);
    if (trace.why == NULL)
        return DECIDE_ENOMEM;
    result = decide(r->p, &want->facts, r->recipient, r->scratch, &r->decision,
                    &trace);
    for (size_t i = 0; result == DECIDE_OK && i < trace.n; i++)
        if (is_rule(trace.why[i].rule, want->rule)) {
            say_quoted(l, "; ", want->rule);
            line_add(l, ": %s", trace.why[i].failed);
            break;
        }
    free(trace.why);
    return result;
}

static enum decide_result
report(struct run *r)
{
    char text[DIAG_TEXT];
    struct line l = line_start(text, sizeof text);
    enum decide_result result;

    say_quoted(&l, "test ", r->proof->name);
    line_add(&l, ": recipient ");
    line_value(&l, r->recipient, "<>");
    line_add(&l, ": want ");
    say_want(&l, r->proof);
    line_add(&l, ", got ");
    say_got(&l, r);
    say_hint(&l, r);
    result = say_why(&l, r);
    if (result == DECIDE_OK)
        diag_error(r->diag, r->proof->at, "%s", text);
    return result;
}

/* ---- */

/* Is the proof good for each recipient? */
static enum decide_result
run_one(struct run *r, bool *ret_good)
{
    enum decide_result result = DECIDE_OK;

    scratch_reset(r->scratch);
    for (size_t i = 0; i < r->proof->n_recipients; i++) {
        r->recipient = r->proof->recipient[i];
        result = decide(r->p, &r->proof->facts, r->recipient, r->scratch,
                        &r->decision, NULL);
        if (result != DECIDE_OK)
            return result;
        if (as_expected(r->proof, &r->decision))
            continue;
        *ret_good = false;
        result = report(r);
        if (result != DECIDE_OK)
            return result;
    }
    return DECIDE_OK;
}

bool
proof_run(const struct policy *p, struct diag *d)
{
    struct run *r = calloc(1, sizeof *r);
    enum decide_result result = DECIDE_ENOMEM;
    bool good = true;

    if (r != NULL) {
        *r = (struct run){.p = p, .diag = d, .scratch = scratch_new()};
        if (r->scratch != NULL)
            result = DECIDE_OK;
    }
    for (size_t i = 0; result == DECIDE_OK && i < p->n_proofs; i++) {
        r->proof = &p->proofs[i];
        result = run_one(r, &good);
    }
    if (r != NULL)
        scratch_free(r->scratch);
    free(r);
    if (result != DECIDE_OK)
        return diag_error(d, (struct loc){p->file, 0, 0}, "out of memory");
    return good;
}
