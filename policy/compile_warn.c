/* policy/compile_warn.c - what can be used as it is, and yet is hardly meant.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

/* ---- what nothing leads to ---- */

struct used {
    bool *account, *pool; /* as they stand in the policy */
    bool any;
};

static void
use_account(struct compile *c, struct used *u, const struct account *a)
{
    const struct policy *p = c->p;

    u->any = true;
    u->account[a - p->accounts] = true;
    if (!a->is_template)
        return;
    /* Filled in with the address of a named account, it is that account. */
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *named = &p->accounts[i];

        if (!named->is_template && named->smarthost == a->smarthost &&
            strcmp(named->domain, a->domain) == 0)
            u->account[i] = true;
    }
}

static void
use_plan(struct compile *c, struct used *u, const struct plan *plan)
{
    for (unsigned i = 0; plan != NULL && i < plan->n; i++) {
        const struct step *s = &plan->step[i];

        if (s->kind == STEP_ACCOUNT && !u->account[s->account - c->p->accounts])
            use_account(c, u, s->account);
        if (s->kind != STEP_POOL || u->pool[s->pool - c->p->pools])
            continue;
        u->pool[s->pool - c->p->pools] = true;
        for (size_t k = 0; k < s->pool->n; k++)
            use_account(c, u, s->pool->member[k].account);
    }
}

static void
warn_unused_routes(struct compile *c)
{
    const struct policy *p = c->p;
    struct used u = {
        .account = arena_alloc(c->scratch, p->n_accounts, sizeof(bool)),
        .pool = arena_alloc(c->scratch, p->n_pools, sizeof(bool))};

    if (u.account == NULL || u.pool == NULL) {
        compile_nomem(c);
        return;
    }
    for (size_t i = 0; i < p->n_rules; i++)
        use_plan(c, &u, p->rules[i].plan);
    use_plan(c, &u, p->default_plan);
    if (!u.any)
        return; /* all of them wait for rules to come */
    for (size_t i = 0; i < p->n_accounts; i++)
        if (!u.account[i])
            diag_warning(c->diag, p->accounts[i].at,
                         "the account \"%s\" is not used: no rule leads to it",
                         p->accounts[i].name);
    for (size_t i = 0; i < p->n_pools; i++)
        if (!u.pool[i])
            diag_warning(c->diag, p->pools[i].at,
                         "the pool \"%s\" is not used: no rule leads to it",
                         p->pools[i].name);
}

static void
warn_unused_hosts(struct compile *c)
{
    const struct policy *p = c->p;
    bool *host = arena_alloc(c->scratch, p->n_smarthosts, sizeof *host);
    bool *client = arena_alloc(c->scratch, p->n_clients, sizeof *client);

    if (host == NULL || client == NULL) {
        compile_nomem(c);
        return;
    }
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];

        host[a->smarthost - p->smarthosts] = true;
        if (a->client != NULL)
            client[a->client - p->clients] = true;
    }
    for (size_t i = 0; i < p->n_smarthosts; i++)
        if (!host[i] && p->smarthosts[i].at.line > 0) /* not a built-in one */
            diag_warning(c->diag, p->smarthosts[i].at,
                         "the smarthost \"%s\" is not used: no account names "
                         "it",
                         p->smarthosts[i].name);
    for (size_t i = 0; i < p->n_clients; i++)
        if (!client[i])
            diag_warning(c->diag, p->clients[i].at,
                         "the OAuth2 client \"%s\" is not used: no account "
                         "names it",
                         p->clients[i].name);
}

/* ---- routes for what the MTA delivers itself ---- */

/* Is every domain that the pattern (without wildcard) stands for one of
 * mta_domains? */
static bool
is_mta_pattern(const struct policy *p, struct slice pattern)
{
    if (pattern.len == 0 || pattern.at[0] != '.')
        return policy_is_mta_domain(p, pattern);
    for (size_t i = 0; i < p->n_mta_domains; i++)
        if (p->mta_domains[i][0] == '.' &&
            slice_ends_nocase(pattern, slice_of(p->mta_domains[i])))
            return true;
    return false;
}

static bool
matches_only_mta(const struct policy *p, const struct condition *c)
{
    for (size_t i = 0; i < c->n_patterns; i++) {
        const struct pattern *one = &c->pattern[i];
        struct slice s = slice_of(one->text);
        const char *at = s.len > 0 ? memrchr(s.at, '@', s.len) : NULL;

        if (c->key == MATCH_RECIPIENT) {
            if (at == NULL)
                return false;
            s = slice_from(s, (size_t)(at - s.at) + 1);
        }
        if ((one->kind != PATTERN_EXACT && one->kind != PATTERN_DOMAIN &&
             one->kind != PATTERN_GLOB) ||
            strpbrk(s.len > 0 ? s.at : "", "*?") != NULL ||
            !is_mta_pattern(p, s))
            return false;
    }
    return c->n_patterns > 0;
}

/* The condition that lets no other recipient pass; NULL = there is none. */
static const struct condition *
only_mta(const struct policy *p, const struct condition *c)
{
    const struct condition *found = NULL;

    if (c->key == MATCH_RECIPIENT || c->key == MATCH_RECIPIENT_DOMAIN)
        return matches_only_mta(p, c) ? c : NULL;
    if (c->key != MATCH_ALL && c->key != MATCH_ANY)
        return NULL;
    for (size_t i = 0; i < c->n_children; i++) {
        found = only_mta(p, &c->child[i]);
        if ((found != NULL) == (c->key == MATCH_ALL))
            return found;
    }
    return found;
}

static void
warn_mta_recipients(struct compile *c)
{
    const struct policy *p = c->p;

    for (size_t i = 0; p->n_mta_domains > 0 && i < p->n_rules; i++) {
        const struct rule *r = &p->rules[i];
        const struct condition *only =
            r->action == ACTION_ACCOUNT ? only_mta(p, &r->match) : NULL;

        if (only != NULL)
            diag_warning(c->diag, only->at,
                         "the route of the rule \"%s\" never applies: all "
                         "these recipients are in mta_domains, whose mail the "
                         "MTA delivers itself",
                         r->name);
    }
}

void
compile_warn(struct compile *c)
{
    warn_unused_routes(c);
    warn_unused_hosts(c);
    warn_mta_recipients(c);
}
