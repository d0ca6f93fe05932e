/* policy/compile_check.c - the rules seen as a whole.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

/* What a condition can come to while only the envelope is known. */
struct early {
    bool yes, no;
};

static struct early
early_kind(const struct condition *c)
{
    struct early e = {false, true};

    for (size_t i = 0; i < c->n_kinds; i++) {
        if (c->kind[i] == KIND_BOUNCE)
            e.yes = true;
        else
            e.no = false;
    }
    return e;
}

static struct early early_of(const struct condition *c);

static struct early
early_all(const struct condition *c)
{
    struct early e = {true, false};

    for (size_t i = 0; i < c->n_children; i++) {
        struct early one = early_of(&c->child[i]);

        e.yes &= one.yes;
        e.no |= one.no;
    }
    return e;
}

static struct early
early_any(const struct condition *c)
{
    struct early e = {false, true};

    for (size_t i = 0; i < c->n_children; i++) {
        struct early one = early_of(&c->child[i]);

        e.yes |= one.yes;
        e.no &= one.no;
    }
    return e;
}

static struct early
early_of(const struct condition *c)
{
    struct early e = {true, true};

    switch (c->key) {
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
    case MATCH_HEADER:
    case MATCH_SIZE:
        return (struct early){false, false};
    case MATCH_KIND:
        return early_kind(c);
    case MATCH_ALL:
        return early_all(c);
    case MATCH_ANY:
        return early_any(c);
    case MATCH_NOT:
        e = early_all(c);
        return (struct early){e.no, e.yes};
    default:
        return e;
    }
}

static unsigned
needs_of(const struct condition *c)
{
    unsigned needs = 0;

    switch (c->key) {
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
    case MATCH_HEADER:
        return POLICY_NEEDS_HEADERS;
    case MATCH_SIZE:
        return POLICY_NEEDS_SIZE;
    case MATCH_KIND:
        for (size_t i = 0; i < c->n_kinds; i++)
            if (c->kind[i] != KIND_BOUNCE)
                needs |= POLICY_NEEDS_HEADERS;
        return needs;
    default:
        for (size_t i = 0; i < c->n_children; i++)
            needs |= needs_of(&c->child[i]);
        return needs;
    }
}

static bool
is_refusal(enum action a)
{
    return a == ACTION_REJECT || a == ACTION_DEFER;
}

/* A route may pass a sender on to the next rule; these do not. */
static bool
takes_everything(const struct rule *r)
{
    return r->match.n_children == 0 &&
           (r->action == ACTION_MTA || is_refusal(r->action));
}

static void
check_reachable(struct compile *c)
{
    const struct policy *p = c->p;

    for (size_t i = 0; i + 1 < p->n_rules; i++)
        if (takes_everything(&p->rules[i])) {
            diag_warning(c->diag, p->rules[i + 1].at,
                         "no message gets to this rule: the rule \"%s\" in "
                         "line %u has no condition",
                         p->rules[i].name, p->rules[i].at.line);
            return;
        }
}

/* Does the route serve (nearly) every sender?  If not, the rule may be ruled
 * out by who the sender is. */
static bool
serves_everybody(const struct plan *plan)
{
    for (unsigned i = 0; i < plan->n; i++)
        if (plan->step[i].kind == STEP_ACCOUNT &&
            !plan->step[i].account->is_template &&
            plan->step[i].account->trust.any)
            return true;
    return false;
}

/* A refusal can be given at RCPT unless an earlier rule that would do
 * something else can never be ruled out before the message is there. */
static void
check_early(struct compile *c)
{
    struct policy *p = c->p;
    const struct rule *open = NULL;    /* such a rule */
    const struct rule *blocked = NULL; /* one that not even a sender passes */
    enum step_kind last = p->default_plan->step[0].kind;

    for (size_t i = 0; i < p->n_rules; i++) {
        const struct rule *r = &p->rules[i];
        struct early e = early_of(&r->match);

        if (is_refusal(r->action) && e.yes && open != NULL)
            diag_warning(c->diag, r->at,
                         "the rule \"%s\" can refuse only at the end of the "
                         "message, not at RCPT: the rule \"%s\" in line %u "
                         "looks into the message first",
                         r->name, open->name, open->at.line);
        if (is_refusal(r->action) && e.yes && blocked == NULL)
            p->needs |= POLICY_NEEDS_RCPT_REPLY;
        if (is_refusal(r->action) || e.yes || e.no)
            continue;
        if (open == NULL &&
            (r->action == ACTION_MTA || serves_everybody(r->plan)))
            open = r;
        if (r->action == ACTION_MTA)
            blocked = r;
    }
    if (blocked == NULL && (last == STEP_REJECT || last == STEP_DEFER))
        p->needs |= POLICY_NEEDS_RCPT_REPLY;
}

/* A weighted pool draws by the Message-ID. */
static bool
draws(const struct plan *plan)
{
    for (unsigned i = 0; i < plan->n; i++)
        if (plan->step[i].kind == STEP_POOL &&
            plan->step[i].pool->pick == PICK_WEIGHTED)
            return true;
    return false;
}

void
compile_check_rules(struct compile *c)
{
    struct policy *p = c->p;

    for (size_t i = 0; i < p->n_rules; i++) {
        p->needs |= needs_of(&p->rules[i].match);
        if (p->rules[i].plan->from == FROM_REQUIRE || draws(p->rules[i].plan))
            p->needs |= POLICY_NEEDS_HEADERS;
    }
    if (draws(p->default_plan))
        p->needs |= POLICY_NEEDS_HEADERS;
    check_reachable(c);
    check_early(c);
}
