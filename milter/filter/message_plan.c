/* milter/filter/message_plan.c - see message_plan.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/message_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/filter/edit.h"
#include "policy/address.h"

/* Recipients that the same plan routes: one sender, so one list of
 * candidates and one transaction. */
struct group {
    struct group *next;
    const struct plan *plan;
    struct decision decision;
    struct cost cost;
    struct admission admission;
};

/* What becomes of one recipient. */
struct fate {
    struct fate *next;
    const struct recipient *recipient;
    enum action action; /* MTA, ACCOUNT, REJECT or DEFER */
    const char *rule;
    struct loc at;
    const struct plan *plan;
    const char *reply;   /* REJECT, DEFER */
    struct group *group; /* ACCOUNT, or refused by admission; else NULL */
    const char *same_as; /* a second spelling of an earlier recipient */
};

struct finish { /* one message on its way through this file */
    struct session *s;
    struct facts facts;
    struct group *groups;
    struct fate *fates, **fates_end;
    struct edits edits;
    struct ticket ticket; /* number and minute; the rest for each recipient */
    unsigned n_routed, n_refused, n_deferred, n_kept;
    const char *first_reject, *first_defer;
};

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

static void
group_add(struct finish *x, struct group *g, const struct recipient *r)
{
    const struct policy *p = session_policy(x->s);
    struct address a;

    g->cost.recipients++;
    if (!address_parse(slice_of(r->spelling), &a) ||
        !policy_is_internal_domain(p, a.domain))
        g->cost.external_recipients++;
}

static const struct fate *
earlier_spelling(const struct finish *x, const struct recipient *r)
{
    for (const struct fate *f = x->fates; f != NULL; f = f->next)
        if (strcmp(f->recipient->folded, r->folded) == 0)
            return f;
    return NULL;
}

/* First step: what the policy says of each recipient. */
static bool
decide_each(struct finish *x)
{
    struct session *s = x->s;
    struct decision *d = &s->decision;

    for (const struct recipient *r = s->recipients; r != NULL; r = r->next) {
        struct fate *f = arena_alloc(s->arena, 1, sizeof *f);
        const struct fate *earlier = earlier_spelling(x, r);

        if (f == NULL)
            return false;
        f->recipient = r;
        *x->fates_end = f;
        x->fates_end = &f->next;
        if (r->tagged_already) {
            f->action = ACTION_MTA;
            f->rule = "already routed";
            continue;
        }
        if (earlier != NULL) {
            f->same_as = earlier->recipient->spelling;
            continue;
        }
        if (decide(session_policy(s), &x->facts, slice_of(r->spelling),
                   s->scratch, d, NULL) != DECIDE_OK)
            return false;
        f->action = d->action;
        f->rule = d->rule;
        f->at = d->at;
        f->plan = d->plan;
        f->reply = d->reply;
        if (d->action == ACTION_ACCOUNT) {
            f->group = group_of(x, d);
            if (f->group == NULL)
                return false;
            group_add(x, f->group, r);
        }
    }
    return true;
}

/* Second step: one account for each group, and what that means for its
 * recipients. */
static void
admit_each(struct finish *x)
{
    uint64_t octets = x->s->claimed_octets > x->s->size_octets
                          ? x->s->claimed_octets
                          : x->s->size_octets;

    for (struct group *g = x->groups; g != NULL; g = g->next) {
        unsigned most = g->decision.n_candidates > 0 &&
                                g->decision.candidate[0].kind == STEP_ACCOUNT
                            ? g->decision.candidate[0]
                                  .mailbox.account->quota.recipients_per_message
                            : 100;

        if (most == 0)
            most = 100;
        g->cost.messages = (g->cost.recipients + most - 1) / most;
        g->cost.bytes = octets * g->cost.messages;
        admit(&x->s->env->admit, &g->decision, &g->cost, &g->admission);
    }
    for (struct fate *f = x->fates; f != NULL; f = f->next) {
        if (f->group == NULL)
            continue;
        f->action = f->group->admission.action;
        f->reply = f->group->admission.reply;
    }
}

static void
count_fates(struct finish *x)
{
    x->n_routed = x->n_refused = x->n_deferred = x->n_kept = 0;
    for (struct fate *f = x->fates; f != NULL; f = f->next) {
        if (f->same_as != NULL)
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
        } else {
            x->n_kept++;
        }
    }
}

/* A message that cannot be put off (some of it goes on, or sendmail(1) would
 * try again every minute for ever) waits in the queue for the account that
 * has room soonest: a tag that says "defer" would never come free. */
static void
queue_instead_of_defer(struct finish *x)
{
    for (struct fate *f = x->fates; f != NULL; f = f->next)
        if (f->action == ACTION_DEFER && f->group != NULL &&
            f->group->admission.mailbox.account != NULL) {
            f->group->admission.action = f->action = ACTION_ACCOUNT;
            f->group->admission.wait_ms = 0;
        }
}

static bool
from_refused(struct finish *x)
{
    for (struct group *g = x->groups; g != NULL; g = g->next)
        if (g->admission.action == ACTION_ACCOUNT &&
            g->plan->from == FROM_REQUIRE &&
            !decide_from_allowed(&g->admission.mailbox, &x->facts,
                                 x->s->scratch))
            return true;
    return false;
}

static enum ticket_result
tag(struct finish *x, const struct fate *f, char ret[TAGGED_MAX + 1])
{
    struct ticket t = x->ticket;
    bool routed = f->action == ACTION_ACCOUNT;

    t.plan = f->plan != NULL ? f->plan->hash : 0;
    t.share_percent = (uint8_t)(f->plan != NULL ? f->plan->share_percent : 100);
    t.from = f->plan != NULL ? f->plan->from : FROM_KEEP;
    t.refuse = f->action == ACTION_REJECT;
    t.defer = f->action == ACTION_DEFER;
    return ticket_write(&t, slice_of(f->recipient->spelling),
                        routed ? &f->group->admission.mailbox : NULL,
                        session_policy(x->s)->milter.tag_domain,
                        x->s->env->keys, ret);
}

/* The recipient cannot carry a tag: `untaggable` decides.  NULL: it goes on;
 * else the reply for the whole message, since nothing smaller can be refused
 * any more. */
static const char *
untaggable(struct finish *x, struct fate *f, enum ticket_result why)
{
    char *text;

    if (f->action == ACTION_ACCOUNT) {
        log_warn("queue=%s recipient=<%s> cannot be tagged: %s", x->s->queue_id,
                 f->recipient->spelling, ticket_result_text(why));
        switch (session_policy(x->s)->untaggable) {
        case UNTAGGABLE_MTA:
            f->action = ACTION_MTA;
            f->rule = "untaggable";
            return NULL;
        case UNTAGGABLE_REJECT:
            text = arena_printf(x->s->arena,
                                "550 5.1.3 Recipient cannot be routed: %s",
                                ticket_result_text(why));
            break;
        case UNTAGGABLE_DEFER:
            text = arena_printf(x->s->arena,
                                "451 4.1.3 Recipient cannot be routed: %s",
                                ticket_result_text(why));
            break;
        default:
            text = NULL;
        }
        return text != NULL ? text : "451 4.3.0 Out of memory";
    }
    return f->reply;
}

/* Third step: the list of edits.  NULL, or the reply for the whole message. */
static const char *
plan_edits(struct finish *x)
{
    struct arena *a = x->s->arena;

    for (struct fate *f = x->fates; f != NULL; f = f->next) {
        const struct recipient *r = f->recipient;
        const char *esmtp, *added;
        char tagged[TAGGED_MAX + 1];
        enum ticket_result result;

        if (f->action == ACTION_MTA && f->same_as == NULL)
            continue;
        if (f->same_as != NULL) {
            const struct fate *first = earlier_spelling(x, r);

            if (first->action != ACTION_MTA &&
                strcmp(r->spelling, first->recipient->spelling) != 0 &&
                !edits_exchange(&x->edits, a, r->spelling, NULL, NULL))
                return "451 4.3.0 Out of memory";
            continue;
        }
        result = tag(x, f, tagged);
        if (result != TICKET_OK) {
            const char *reply = untaggable(x, f, result);

            if (reply != NULL)
                return reply;
            continue;
        }
        esmtp = edits_esmtp(a, r->spelling, r->orcpt, r->notify);
        added = arena_copy(a, slice_of(tagged));
        if (esmtp == NULL || added == NULL ||
            !edits_exchange(&x->edits, a, r->spelling, added, esmtp))
            return "451 4.3.0 Out of memory";
    }
    return NULL;
}

static struct log_line
log_start(const struct session *s, const char *recipient)
{
    struct log_line l = log_line(LOG_LEVEL_INFO);

    log_kv(&l, "queue", s->queue_id);
    log_kv(&l, "from", s->sender.len > 0 ? s->sender.at : "<>");
    log_kv(&l, "to", recipient);
    return l;
}

static void
log_rule(struct log_line *l, const char *rule, struct loc at)
{
    char place[300];

    log_kv(l, "rule", rule != NULL ? rule : "default");
    if (at.line == 0)
        return;
    snprintf(place, sizeof place, "%s:%u:%u", at.file, at.line, at.col);
    log_kv(l, "at", place);
}

void
message_log_refused(const struct session *s, const char *recipient,
                    const struct decision *d)
{
    struct log_line l = log_start(s, recipient);

    log_rule(&l, d->rule, d->at);
    log_kv(&l, "action", action_name(d->action));
    log_kv(&l, "stage", "rcpt");
    log_kv(&l, "reply", d->reply);
    log_end(&l);
    hints_count(s->env->admit.hints,
                d->action == ACTION_REJECT ? HINTS_REJECTED : HINTS_DEFERRED,
                1);
}

static void
log_fates(const struct finish *x)
{
    for (const struct fate *f = x->fates; f != NULL; f = f->next) {
        struct log_line l = log_start(x->s, f->recipient->spelling);
        char number[20];

        if (f->same_as != NULL) {
            log_kv(&l, "same_as", f->same_as);
            log_end(&l);
            continue;
        }
        log_rule(&l, f->rule, f->at);
        log_kv(&l, "action", action_name(f->action));
        if (f->action != ACTION_MTA) {
            snprintf(number, sizeof number, "%016" PRIx64, x->ticket.number);
            log_kv(&l, "ticket", number);
        }
        if (f->action == ACTION_ACCOUNT) {
            const struct admission *ad = &f->group->admission;

            log_kv(&l, "account", ad->mailbox.address);
            if (ad->wait_ms > 0 && ad->wait_ms != UINT64_MAX)
                log_kv_u64(&l, "wait_s", ad->wait_ms / 1000);
        }
        if (f->group != NULL)
            log_kv(&l, "why", f->group->admission.why);
        if (f->action == ACTION_REJECT || f->action == ACTION_DEFER)
            log_kv(&l, "reply", f->reply);
        log_end(&l);
    }
}

/* Last step, when the MTA has taken every edit. */
static void
count_hints(struct finish *x)
{
    struct hints *hints = x->s->env->admit.hints;
    char identity[IDENTITY_MAX + 1];

    hints_count(hints, HINTS_MESSAGES, 1);
    hints_count(hints, HINTS_ROUTED, x->n_routed);
    hints_count(hints, HINTS_REJECTED, x->n_refused);
    hints_count(hints, HINTS_DEFERRED, x->n_deferred);
    for (struct group *g = x->groups; g != NULL; g = g->next) {
        const struct mailbox *m = &g->admission.mailbox;
        struct token_status t;

        if (g->admission.action != ACTION_ACCOUNT)
            continue;
        mailbox_identity(m->address, m->account->smarthost->name, identity);
        hints_add(hints, identity, m->id, x->ticket.minute, g->cost.recipients);
        if ((m->account->auth == AUTH_REFRESH_TOKEN ||
             m->account->auth == AUTH_SERVICE_ACCOUNT) &&
            (status_peek(x->s->env->admit.status, m->id, &t) != STATE_OK ||
             t.state == TOKEN_NONE))
            hints_want_token(hints, identity, m->id);
    }
}

/* The reply for the whole message when nothing of it can go on, else NULL. */
static const char *
refusal_of_all(const struct finish *x)
{
    if (x->n_routed > 0 || x->n_kept > 0)
        return NULL;
    if (x->n_deferred == 0)
        return x->first_reject;
    /* Deferred for ever is worse than queued: see queue_instead_of_defer. */
    return x->s->local ? NULL : x->first_defer;
}

enum answer
message_finish(struct session *s, const struct mta_ops *ops, void *mta)
{
    struct finish x = {.s = s};
    const char *reply;

    x.fates_end = &x.fates;
    edits_init(&x.edits);
    x.ticket.number = atomic_fetch_add(&s->env->next_number, 1);
    x.ticket.minute = (uint32_t)(s->now_ms / 60000);
    session_facts(s, FACTS_EOM, &x.facts);
    if (!decide_each(&x))
        return session_fail(s, "out of memory");
    admit_each(&x);
    count_fates(&x);
    reply = refusal_of_all(&x);
    if (reply == NULL && x.n_deferred > 0) {
        queue_instead_of_defer(&x);
        count_fates(&x);
    }
    if (reply == NULL && from_refused(&x))
        reply = "550 5.7.1 From header is not an address of the account that "
                "would send the message";
    if (reply == NULL)
        reply = plan_edits(&x);
    if (reply == NULL && !edits_apply(&x.edits, ops, mta))
        return session_fail(s, "the MTA refused an edit of the envelope");
    if (reply != NULL) {
        for (struct fate *f = x.fates; f != NULL; f = f->next)
            if (f->action == ACTION_ACCOUNT || f->action == ACTION_MTA) {
                f->action = reply[0] == '5' ? ACTION_REJECT : ACTION_DEFER;
                f->reply = reply;
            }
        log_fates(&x);
        hints_count(s->env->admit.hints,
                    reply[0] == '5' ? HINTS_REJECTED : HINTS_DEFERRED,
                    (uint32_t)s->n_recipients);
        return session_answer(s, reply);
    }
    log_fates(&x);
    count_hints(&x);
    return ANSWER_CONTINUE;
}
