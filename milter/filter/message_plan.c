/* milter/filter/message_plan.c - see message_plan.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/message_plan.h"

#include <stdlib.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/filter/message_private.h"

static int
by_recipient(const void *a, const void *b)
{
    const struct fate *x = *(struct fate *const *)a;
    const struct fate *y = *(struct fate *const *)b;
    int order = strcmp(x->recipient->folded, y->recipient->folded);

    return order != 0 ? order : (x > y) - (x < y);
}

/* A fate for each RCPT.  Postfix takes two spellings of one recipient for one,
 * and so do we: the first stands for all of them. */
static bool
list_recipients(struct finish *x)
{
    struct session *s = x->s;
    struct fate **sorted =
        arena_alloc(s->arena, s->n_recipients + 1, sizeof *sorted);
    struct fate *first = NULL;

    x->fate = arena_alloc(s->arena, s->n_recipients + 1, sizeof *x->fate);
    if (sorted == NULL || x->fate == NULL)
        return false;
    for (const struct recipient *r = s->recipients; r != NULL; r = r->next) {
        x->fate[x->n].recipient = r;
        sorted[x->n] = &x->fate[x->n];
        x->n++;
    }
    qsort(sorted, x->n, sizeof(struct fate *), by_recipient);
    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = sorted[i];

        if (first != NULL &&
            strcmp(first->recipient->folded, f->recipient->folded) == 0)
            f->first = first;
        else
            first = f;
    }
    return true;
}

/* The message's header is one for all recipients: every rule that lets one of
 * them pass edits it, whatever admission makes of that recipient. */
static bool
add_source(struct finish *x, const struct decision *d)
{
    struct edit_source *e;

    if (d->edits == NULL)
        return true;
    for (e = x->sources; e != NULL; e = e->next)
        if (e->edits == d->edits)
            return true;
    e = arena_alloc(x->s->arena, 1, sizeof *e);
    if (e == NULL)
        return false;
    e->edits = d->edits;
    e->rule = d->rule;
    *x->sources_end = e;
    x->sources_end = &e->next;
    return true;
}

/* First step: what the policy says of each recipient. */
static bool
decide_each(struct finish *x)
{
    const struct policy *p = session_policy(x->s);
    struct decision *d = &x->s->decision;

    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];

        if (f->recipient->tagged_already) {
            f->first = NULL;
            f->action = ACTION_MTA;
            f->rule = "already routed";
            continue;
        }
        if (f->first != NULL)
            continue;
        x->facts.n_rcpt_macros = f->recipient->n_macros;
        x->facts.rcpt_macro = f->recipient->macro;
        if (decide(p, &x->facts, slice_of(f->recipient->spelling),
                   x->s->scratch, d, NULL) != DECIDE_OK)
            return false;
        f->action = d->action;
        f->rule = d->rule;
        f->at = d->at;
        f->plan = d->plan;
        f->reply = d->reply;
        x->unparseable |= d->unparseable;
        x->regex_limit |= d->regex_limit;
        if (d->whole_message && x->whole_reply == NULL)
            x->whole_reply = d->reply;
        if (d->action == ACTION_HOLD && x->hold == NULL)
            x->hold = d->reply;
        message_log_shadows(x->s, f->recipient->spelling, d);
        if (!add_source(x, d) ||
            (d->action == ACTION_ACCOUNT && !message_group_add(x, f, d)))
            return false;
    }
    return true;
}

static void
count_fates(struct finish *x)
{
    x->n_routed = x->n_refused = x->n_deferred = x->n_kept = 0;
    for (size_t i = 0; i < x->n; i++) {
        const struct fate *f = &x->fate[i];

        if (f->first != NULL)
            continue;
        if (f->action == ACTION_ACCOUNT) {
            x->n_routed++;
        } else if (f->action == ACTION_REJECT) {
            x->n_refused++;
            if (x->first_reject == NULL)
                x->first_reject = f->reply;
        } else if (f->action == ACTION_DEFER) {
            x->n_deferred++;
            if (x->first_defer == NULL)
                x->first_defer = f->reply;
        } else if (f->action != ACTION_DISCARD) {
            x->n_kept++; /* held ones, too: a person may want them */
        }
    }
}

static bool
from_refused(struct finish *x)
{
    for (struct group *g = x->groups; g != NULL; g = g->next)
        if (g->admission.action == ACTION_ACCOUNT && g->cost.recipients > 0 &&
            g->plan->from == FROM_REQUIRE &&
            !decide_from_allowed(&g->admission.mailbox, &x->facts))
            return true;
    return false;
}

/* The reply for the whole message when nothing of it can go on, else NULL.
 * Recipients that are discarded need nothing: beside refused ones alone, the
 * client is told (better than a bounce), and all of them alone are taken. */
static const char *
refusal_of_all(const struct finish *x)
{
    if (x->n_routed > 0 || x->n_kept > 0)
        return NULL;
    if (x->n_deferred == 0)
        return x->first_reject;
    /* Deferred for ever is worse than queued: see message_groups_queue. */
    return x->s->local ? NULL : x->first_defer;
}

/* The whole message is refused; nothing of it was changed. */
static enum answer
refuse_all(struct finish *x, const char *reply)
{
    bool lasting = reply[0] == '5';

    for (size_t i = 0; i < x->n; i++)
        if (x->fate[i].action != ACTION_REJECT &&
            x->fate[i].action != ACTION_DEFER) {
            x->fate[i].action = lasting ? ACTION_REJECT : ACTION_DEFER;
            x->fate[i].reply = reply;
        }
    x->tickets_made = false;
    message_log_fates(x);
    hints_count(x->s->env->admit.hints,
                lasting ? HINTS_REJECTED : HINTS_DEFERRED,
                (uint32_t)x->s->n_recipients);
    return session_answer(x->s, reply);
}

enum answer
message_finish(struct session *s, const struct mta_ops *ops, void *mta)
{
    struct finish x = {.s = s};
    struct hints *hints = s->env->admit.hints;
    const char *reply;

    edits_init(&x.edits);
    x.sources_end = &x.sources;
    x.ticket.number = atomic_fetch_add(&s->env->next_number, 1);
    x.ticket.minute = (uint32_t)(s->now_ms / 60000);
    session_facts(s, FACTS_EOM, &x.facts);
    if ((s->mime != NULL && mime_failed(s->mime)) || !list_recipients(&x) ||
        !decide_each(&x))
        return session_fail(s, "out of memory");
    hints_count(hints, HINTS_MESSAGES, 1);
    message_log_unread(&x);
    if (s->headers_cut && session_policy(s)->unparseable_reject)
        x.whole_reply = "550 5.6.0 The message has too many header fields";
    if (x.whole_reply != NULL)
        return refuse_all(&x, x.whole_reply);
    message_groups_admit(&x);
    count_fates(&x);
    reply = refusal_of_all(&x);
    if (reply == NULL && x.n_deferred > 0)
        message_groups_queue(&x);
    if (reply == NULL && from_refused(&x))
        reply = "550 5.7.1 From header is not an address of the account that "
                "would send the message";
    if (reply == NULL)
        reply = message_edits_plan(&x);
    if (reply != NULL)
        return refuse_all(&x, reply);
    if (!edits_apply(&x.edits, ops, mta))
        return session_fail(s, "the MTA refused an edit of the message");
    x.tickets_made = true;
    count_fates(&x);
    message_log_fates(&x);
    message_log_edits(&x);
    hints_count(hints, HINTS_ROUTED, x.n_routed);
    hints_count(hints, HINTS_REJECTED, x.n_refused);
    hints_count(hints, HINTS_DEFERRED, x.n_deferred);
    /* What is held is not on its way; whoever releases it may take days. */
    if (x.hold == NULL)
        message_groups_hint(&x);
    return ANSWER_CONTINUE;
}
