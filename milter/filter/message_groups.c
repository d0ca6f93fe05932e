/* milter/filter/message_groups.c - see message_private.h: recipients with one
 * list of candidates, admitted together.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/message_private.h"
#include "policy/address.h"

enum { TRANSACTION_MAX = 100 /* recipients: Google, 100 RCPT TO a message */ };

static struct group *
group_of(struct finish *x, const struct decision *d)
{
    struct group *g;

    for (g = x->groups; g != NULL; g = g->next)
        if (g->plan == d->plan)
            return g;
    g = arena_alloc(x->s->arena, 1, sizeof *g);
    if (g == NULL)
        return NULL;
    g->plan = d->plan;
    g->decision = *d;
    g->next = x->groups;
    x->groups = g;
    return g;
}

bool
message_group_add(struct finish *x, struct fate *f, const struct decision *d)
{
    const struct policy *p = session_policy(x->s);
    struct group *g = group_of(x, d);
    struct address a;

    if (g == NULL)
        return false;
    f->group = g;
    f->external = !address_parse(slice_of(f->recipient->spelling), &a) ||
                  !policy_is_internal_domain(p, a.domain);
    g->cost.recipients++;
    g->cost.external_recipients += f->external;
    return true;
}

void
message_group_remove(struct fate *f)
{
    if (f->group == NULL)
        return;
    f->group->cost.recipients--;
    f->group->cost.external_recipients -= f->external;
    f->group = NULL;
}

/* Recipients of one transaction, by the first account on the list. */
static unsigned
recipients_at_once(const struct group *g)
{
    const struct candidate *c = g->decision.candidate;
    unsigned most = 0;

    if (g->decision.n_candidates > 0 && c->kind == STEP_ACCOUNT)
        most = c->mailbox.account->quota.recipients_per_message;
    return most > 0 && most < TRANSACTION_MAX ? most : TRANSACTION_MAX;
}

void
message_groups_admit(struct finish *x)
{
    /* What was not negotiated is not counted; then the client's word. */
    uint64_t octets = session_policy(x->s)->needs & POLICY_NEEDS_SIZE
                          ? x->s->size_octets
                          : x->s->claimed_octets;

    for (struct group *g = x->groups; g != NULL; g = g->next) {
        unsigned most = recipients_at_once(g);

        g->cost.messages = (g->cost.recipients + most - 1) / most;
        g->cost.bytes = octets * g->cost.messages;
        admit(&x->s->env->admit, session_policy(x->s), &g->decision, &g->cost,
              &g->admission);
    }
    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];

        if (f->group == NULL)
            continue;
        f->action = f->group->admission.action;
        f->reply = f->group->admission.reply;
    }
}

void
message_groups_queue(struct finish *x)
{
    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];

        if (f->group == NULL || f->action != ACTION_DEFER ||
            f->group->admission.mailbox.account == NULL)
            continue;
        f->action = ACTION_ACCOUNT;
        f->reply = NULL;
    }
    for (struct group *g = x->groups; g != NULL; g = g->next)
        if (g->admission.action == ACTION_DEFER &&
            g->admission.mailbox.account != NULL)
            g->admission.action = ACTION_ACCOUNT;
}

/* One hint for each transaction that the agent will see: Postfix brings the
 * recipients in the same portions. */
static void
hint_group(const struct finish *x, const struct group *g, const char *identity)
{
    const struct mailbox *m = &g->admission.mailbox;
    uint32_t most = recipients_at_once(g), left = g->cost.recipients;
    uint32_t external = g->cost.external_recipients;

    while (left > 0) {
        uint32_t n = left < most ? left : most;
        uint32_t e = external < n ? external : n;

        hints_add(x->s->env->admit.hints, identity, m->id, x->ticket.minute, n,
                  e);
        left -= n;
        external -= e;
    }
}

void
message_groups_hint(const struct finish *x)
{
    struct hints *hints = x->s->env->admit.hints;
    char identity[IDENTITY_MAX + 1];

    for (struct group *g = x->groups; g != NULL; g = g->next) {
        const struct mailbox *m = &g->admission.mailbox;
        struct token_status t;

        if (g->admission.action != ACTION_ACCOUNT || g->cost.recipients == 0)
            continue;
        mailbox_identity(m->address, m->account->smarthost->name, identity);
        hint_group(x, g, identity);
        if ((m->account->auth == AUTH_REFRESH_TOKEN ||
             m->account->auth == AUTH_SERVICE_ACCOUNT) &&
            (status_peek(x->s->env->admit.status, m->id, &t) != STATE_OK ||
             t.state == TOKEN_NONE))
            hints_want_token(hints, identity, m->id);
    }
}
