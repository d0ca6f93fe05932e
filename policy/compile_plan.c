/* policy/compile_plan.c - what rules do, each thing once; see compile.h for
 * the canonical text.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the canonical text; "" when memory is out ---- */

static const char *
identity_of(struct compile *c, const struct account *a)
{
    char identity[IDENTITY_MAX + 1];
    const char *copy = NULL;

    if (mailbox_identity(a->address, a->smarthost->name, identity) != 0)
        copy = arena_copy(c->scratch, slice_of(identity));
    return copy;
}

static const char *
pool_text(struct compile *c, const struct pool *pool)
{
    static const char *const pick[] = {
        [PICK_MOST_ROOM] = "most_room",
        [PICK_ROUND_ROBIN] = "round_robin",
        [PICK_WEIGHTED] = "weighted",
        [PICK_BY_SENDER] = "by_sender",
    };
    size_t room = 64 + pool->n * (IDENTITY_MAX + 16), n;
    char *text = arena_alloc(c->scratch, room, 1);

    if (text == NULL)
        return NULL;
    n = (size_t)snprintf(text, room, "pool %s", pick[pool->pick]);
    for (size_t i = 0; i < pool->n; i++) {
        const char *identity = identity_of(c, pool->member[i].account);

        if (identity == NULL)
            return NULL;
        n += (size_t)snprintf(text + n, room - n, " %u %s",
                              pool->member[i].weight, identity);
    }
    return text;
}

static const char *
step_text(struct compile *c, const struct step *s)
{
    const char *identity;

    switch (s->kind) {
    case STEP_ACCOUNT:
        identity = identity_of(c, s->account);
        return identity != NULL
                   ? arena_printf(c->scratch, "account %s", identity)
                   : NULL;
    case STEP_POOL:
        return pool_text(c, s->pool);
    case STEP_MTA:
        return "mta";
    case STEP_WAIT:
        return "wait";
    case STEP_DEFER:
        return arena_printf(c->scratch, "defer %s", s->reply);
    case STEP_REJECT:
        return arena_printf(c->scratch, "reject %s", s->reply);
    }
    return NULL;
}

static const char *
plan_text(struct compile *c, const struct plan *plan)
{
    static const char *const from[] = {
        [FROM_KEEP] = "keep",
        [FROM_REWRITE] = "rewrite",
        [FROM_REQUIRE] = "require",
    };
    const char *line[CANDIDATES_MAX];
    size_t room = 64, n;
    char *text;

    for (unsigned i = 0; i < plan->n; i++) {
        line[i] = step_text(c, &plan->step[i]);
        if (line[i] == NULL)
            return NULL;
        room += strlen(line[i]) + 1;
    }
    text = compile_alloc(c, room, 1);
    if (text == NULL)
        return NULL;
    n = (size_t)snprintf(text, room, "plan 1\nfrom %s\nshare %u\n",
                         from[plan->from], plan->share_percent);
    for (unsigned i = 0; i < plan->n; i++)
        n += (size_t)snprintf(text + n, room - n, "%s\n", line[i]);
    return text;
}

/* ---- */

static bool
hash_of(const char *text, uint32_t *ret)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    uint32_t hash = 0;

    if (EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    for (int i = 0; i < 4; i++)
        hash = hash << 8 | digest[i];
    *ret = hash != 0 ? hash : 1;
    return true;
}

struct kept { /* a plan, and where it was first wanted */
    struct plan plan;
    struct loc at;
};

static bool
is_complete(const struct account *a)
{
    return a->address != NULL && a->smarthost != NULL;
}

/* Accounts that had errors may lack what the text needs. */
static bool
can_be_named(const struct plan *plan)
{
    for (unsigned i = 0; i < plan->n; i++) {
        const struct step *s = &plan->step[i];

        if (s->kind == STEP_ACCOUNT && !is_complete(s->account))
            return false;
        for (size_t k = 0; s->kind == STEP_POOL && k < s->pool->n; k++)
            if (!is_complete(s->pool->member[k].account))
                return false;
    }
    return true;
}

const struct plan *
compile_plan(struct compile *c, struct loc at, const struct plan *like)
{
    const char *text;
    struct kept *k;
    void *old;

    if (!can_be_named(like))
        return NULL;
    text = plan_text(c, like);
    if (text == NULL) {
        compile_nomem(c);
        return NULL;
    }
    k = table_get(c->plans, slice_of(text));
    if (k != NULL)
        return &k->plan;
    k = compile_alloc(c, 1, sizeof *k);
    if (k == NULL)
        return NULL;
    k->plan = *like;
    k->at = at;
    k->plan.step = compile_alloc(c, like->n, sizeof *like->step);
    if (k->plan.step == NULL || !hash_of(text, &k->plan.hash) ||
        !table_add(c->plans, slice_of(text), k, &old)) {
        compile_nomem(c);
        return NULL;
    }
    memcpy(k->plan.step, like->step, like->n * sizeof *like->step);
    c->p->n_plans++;
    return &k->plan;
}

static void
collect(struct slice key, void *value, void *cookie)
{
    struct policy *p = cookie;
    struct kept *k = value;

    (void)key;
    p->plans[p->n_plans++] = &k->plan;
}

static int
compare_hash(const void *a, const void *b)
{
    const struct plan *x = *(struct plan *const *)a;
    const struct plan *y = *(struct plan *const *)b;

    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

/* A ticket cannot tell two plans with one number apart: chance, once in some
 * thousand configurations of a thousand different plans. */
static bool
check_hashes(struct compile *c)
{
    const struct policy *p = c->p;

    for (size_t i = 1; i < p->n_plans; i++) {
        const struct kept *a = (const struct kept *)p->plans[i - 1];
        const struct kept *b = (const struct kept *)p->plans[i];

        if (a->plan.hash == b->plan.hash)
            return diag_error(c->diag, b->at,
                              "what this rule does has by chance the same "
                              "number in tickets as what the rule in %s "
                              "does: change the share or the text of one",
                              compile_place(b->at, a->at).text);
    }
    return true;
}

bool
compile_sort_plans(struct compile *c)
{
    struct policy *p = c->p;

    p->plans = compile_alloc(c, p->n_plans, sizeof(struct plan *));
    if (p->plans == NULL)
        return false;
    p->n_plans = 0;
    table_each(c->plans, collect, p);
    qsort(p->plans, p->n_plans, sizeof(struct plan *), compare_hash);
    return check_hashes(c);
}
