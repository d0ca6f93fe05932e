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
    case MATCH_RECIPIENTS:
    case MATCH_ATTACHMENT:
    case MATCH_SAMPLE:
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
    case MATCH_SAMPLE:
        return POLICY_NEEDS_HEADERS;
    case MATCH_SIZE:
        return POLICY_NEEDS_SIZE;
    case MATCH_ATTACHMENT:
        return POLICY_NEEDS_HEADERS | POLICY_NEEDS_BODY;
    case MATCH_HELO:
        return POLICY_NEEDS_HELO;
    case MATCH_MACRO:
        return POLICY_NEEDS_MACROS;
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

/* Which field of a name goes is said by its number, so those that are removed
 * must be counted. */
static unsigned
needs_of_action(const struct rule *r)
{
    unsigned needs = 0;

    if (r->plan != NULL && (r->plan->from == FROM_REQUIRE || draws(r->plan)))
        needs |= POLICY_NEEDS_HEADERS;
    if (r->action == ACTION_HOLD)
        needs |= POLICY_EDITS_HOLD;
    if (r->edits != NULL && rule_lets_pass(r)) {
        needs |= POLICY_EDITS_HEADER;
        if (r->edits->n_remove > 0)
            needs |= POLICY_NEEDS_HEADERS;
    }
    return needs;
}

/* Does the route serve (nearly) every sender?  If not, the rule may be ruled
 * out by who the sender is. */
bool
compile_serves_everybody(const struct plan *plan)
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

        if (r->shadow)
            continue;
        if (rule_refuses(r) && e.yes && open != NULL)
            diag_warning(c->diag, r->at,
                         "the rule \"%s\" can refuse only at the end of the "
                         "message, not at RCPT: the rule \"%s\" in %s "
                         "looks into the message first",
                         r->name, open->name,
                         compile_place(r->at, open->at).text);
        if (rule_refuses(r) && e.yes && blocked == NULL)
            p->needs |= POLICY_NEEDS_RCPT_REPLY;
        if (rule_refuses(r) || e.yes || e.no)
            continue;
        if (open == NULL &&
            (r->action != ACTION_ACCOUNT || compile_serves_everybody(r->plan)))
            open = r;
        if (r->action != ACTION_ACCOUNT)
            blocked = r;
    }
    if (blocked == NULL && (last == STEP_REJECT || last == STEP_DEFER))
        p->needs |= POLICY_NEEDS_RCPT_REPLY;
}

static void
count_macro(struct slice key, void *value, void *cookie)
{
    size_t *n = cookie;

    (void)key;
    (void)value;
    ++*n;
}

static void
add_macro(struct slice key, void *value, void *cookie)
{
    struct policy *p = cookie;

    (void)key;
    p->macros[p->n_macros++] = value;
}

static void
list_macros(struct compile *c)
{
    size_t n = 0;

    table_each(c->macros, count_macro, &n);
    c->p->macros = compile_alloc(c, n, sizeof *c->p->macros);
    if (c->p->macros != NULL)
        table_each(c->macros, add_macro, c->p);
}

void
compile_check_rules(struct compile *c)
{
    struct policy *p = c->p;

    list_macros(c);
    for (size_t i = 0; i < p->n_rules; i++) {
        p->needs |= needs_of(&p->rules[i].match);
        if (!p->rules[i].shadow)
            p->needs |= needs_of_action(&p->rules[i]);
    }
    if (draws(p->default_plan))
        p->needs |= POLICY_NEEDS_HEADERS;
    /* What was added before a content filter is not added behind it again. */
    if (p->milter.n_reinject_from > 0 && p->needs & POLICY_EDITS_HEADER)
        p->needs |= POLICY_NEEDS_HEADERS;
    check_early(c);
}
