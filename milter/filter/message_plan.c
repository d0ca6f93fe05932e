/* milter/filter/message_plan.c - see message_plan.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/message_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/filter/edit.h"
#include "policy/address.h"

enum { TRANSACTION_MAX = 100 /* recipients: Google, 100 RCPT TO a message */ };

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
    const struct recipient *recipient;
    enum action action; /* MTA, ACCOUNT, REJECT or DEFER */
    const char *rule;
    struct loc at;
    const struct plan *plan;
    const char *reply;        /* REJECT, DEFER */
    struct group *group;      /* ACCOUNT, or refused by admission; else NULL */
    const struct fate *first; /* of the same recipient, spelled otherwise or
                               * given twice; NULL = this is the first */
    bool external;
};

struct finish { /* one message on its way through this file */
    struct session *s;
    struct facts facts;
    struct group *groups;
    size_t n; /* recipients, in the order of their RCPTs */
    struct fate *fate;
    struct edits edits;
    struct ticket ticket; /* number and minute; the rest for each recipient */
    bool tickets_made;
    unsigned n_routed, n_refused, n_deferred, n_kept;
    const char *first_reject, *first_defer;
    const char *whole_reply; /* the policy refuses the whole message */
    bool unparseable, regex_limit;
};

static const char no_memory[] = "451 4.3.0 Out of memory";

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
group_add(struct group *g, const struct policy *p, struct fate *f)
{
    struct address a;

    f->group = g;
    f->external = !address_parse(slice_of(f->recipient->spelling), &a) ||
                  !policy_is_internal_domain(p, a.domain);
    g->cost.recipients++;
    g->cost.external_recipients += f->external;
}

static void
group_remove(struct fate *f)
{
    if (f->group == NULL)
        return;
    f->group->cost.recipients--;
    f->group->cost.external_recipients -= f->external;
    f->group = NULL;
}

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

/* First step: what the policy says of each recipient. */
static bool
decide_each(struct finish *x)
{
    const struct policy *p = session_policy(x->s);
    struct decision *d = &x->s->decision;

    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];
        struct group *g;

        if (f->recipient->tagged_already) {
            f->first = NULL;
            f->action = ACTION_MTA;
            f->rule = "already routed";
            continue;
        }
        if (f->first != NULL)
            continue;
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
        if (d->action == ACTION_ACCOUNT) {
            g = group_of(x, d);
            if (g == NULL)
                return false;
            group_add(g, p, f);
        }
    }
    return true;
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

/* Second step: one account for each group, and what that means for its
 * recipients. */
static void
admit_each(struct finish *x)
{
    /* What was not negotiated is not counted; then the client's word. */
    uint64_t octets = session_policy(x->s)->needs & POLICY_NEEDS_SIZE
                          ? x->s->size_octets
                          : x->s->claimed_octets;

    for (struct group *g = x->groups; g != NULL; g = g->next) {
        unsigned most = recipients_at_once(g);

        g->cost.messages = (g->cost.recipients + most - 1) / most;
        g->cost.bytes = octets * g->cost.messages;
        admit(&x->s->env->admit, &g->decision, &g->cost, &g->admission);
    }
    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];

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

static bool
from_refused(struct finish *x)
{
    for (struct group *g = x->groups; g != NULL; g = g->next)
        if (g->admission.action == ACTION_ACCOUNT && g->cost.recipients > 0 &&
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
    const char *text = ticket_result_text(why), *reply = NULL;

    log_warn("queue=%s recipient=<%s> cannot be tagged: %s", x->s->queue_id,
             f->recipient->spelling, text);
    if (why != TICKET_ELONG && why != TICKET_ELITERAL &&
        why != TICKET_EMALFORMED)
        return "451 4.3.0 gmroute: temporary failure"; /* our own fault */
    if (f->action != ACTION_ACCOUNT)
        return f->reply;
    switch (session_policy(x->s)->untaggable) {
    case UNTAGGABLE_MTA:
        group_remove(f);
        f->action = ACTION_MTA;
        f->rule = "untaggable";
        return NULL;
    case UNTAGGABLE_REJECT:
        reply = arena_printf(x->s->arena,
                             "550 5.1.3 Recipient cannot be routed: %s", text);
        break;
    case UNTAGGABLE_DEFER:
        reply = arena_printf(x->s->arena,
                             "451 4.1.3 Recipient cannot be routed: %s", text);
        break;
    }
    return reply != NULL ? reply : no_memory;
}

/* Third step: the list of edits.  NULL, or the reply for the whole message. */
static const char *
plan_edits(struct finish *x)
{
    struct arena *a = x->s->arena;

    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];
        const struct recipient *r = f->recipient;
        const char *esmtp, *added;
        char tagged[TAGGED_MAX + 1];
        enum ticket_result result;

        /* The first one's tag stands for all, and is decided before them. */
        if ((f->first != NULL ? f->first->action : f->action) == ACTION_MTA)
            continue;
        if (f->first != NULL) {
            if (!edits_exchange(&x->edits, a, r->spelling, NULL, NULL))
                return no_memory;
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
            return no_memory;
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

static struct slice
message_id(const struct session *s)
{
    for (size_t i = 0; i < s->headers.n; i++)
        if (slice_eq_nocase(s->headers.at[i].name, SLICE_LIT("Message-ID")))
            return slice_trim(s->headers.at[i].value);
    return (struct slice){NULL, 0};
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
    for (size_t i = 0; i < x->n; i++) {
        const struct fate *f = &x->fate[i];
        struct log_line l = log_start(x->s, f->recipient->spelling);
        char number[20];

        if (f->first != NULL) {
            log_kv(&l, "same_as", f->first->recipient->spelling);
            log_end(&l);
            continue;
        }
        log_rule(&l, f->rule, f->at);
        log_kv(&l, "action", action_name(f->action));
        if (f->action != ACTION_MTA && x->tickets_made) {
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
        log_kv_slice(&l, "message_id", message_id(x->s));
        log_end(&l);
    }
}

/* One hint for each transaction that the agent will see: Postfix brings the
 * recipients in the same portions. */
static void
hint_group(struct finish *x, const struct group *g, const char *identity)
{
    const struct mailbox *m = &g->admission.mailbox;
    uint32_t most = recipients_at_once(g), left = g->cost.recipients;

    while (left > 0) {
        uint32_t n = left < most ? left : most;

        hints_add(x->s->env->admit.hints, identity, m->id, x->ticket.minute, n);
        left -= n;
    }
}

/* Last step, when the MTA has taken every edit. */
static void
count_hints(struct finish *x)
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

/* What could not be looked at decided as if it were not there. */
static void
log_unread(const struct finish *x)
{
    if (x->unparseable || x->s->headers_cut)
        log_warn("queue=%s a rule looked at a header that cannot be %s",
                 x->s->queue_id,
                 x->s->headers_cut ? "kept: there are too many" : "parsed");
    if (x->regex_limit)
        log_warn("queue=%s an expression of a rule gave no answer within its "
                 "limits, which counts as \"no\"",
                 x->s->queue_id);
}

/* The whole message is refused; nothing of it was changed. */
static enum answer
refuse_all(struct finish *x, const char *reply)
{
    bool lasting = reply[0] == '5';

    for (size_t i = 0; i < x->n; i++)
        if (x->fate[i].action == ACTION_ACCOUNT ||
            x->fate[i].action == ACTION_MTA) {
            x->fate[i].action = lasting ? ACTION_REJECT : ACTION_DEFER;
            x->fate[i].reply = reply;
        }
    x->tickets_made = false;
    log_fates(x);
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
    x.ticket.number = atomic_fetch_add(&s->env->next_number, 1);
    x.ticket.minute = (uint32_t)(s->now_ms / 60000);
    session_facts(s, FACTS_EOM, &x.facts);
    if (!list_recipients(&x) || !decide_each(&x))
        return session_fail(s, "out of memory");
    hints_count(hints, HINTS_MESSAGES, 1);
    log_unread(&x);
    if (s->headers_cut && session_policy(s)->unparseable_reject)
        x.whole_reply = "550 5.6.0 The message has too many header fields";
    if (x.whole_reply != NULL)
        return refuse_all(&x, x.whole_reply);
    admit_each(&x);
    count_fates(&x);
    reply = refusal_of_all(&x);
    if (reply == NULL && x.n_deferred > 0)
        queue_instead_of_defer(&x);
    if (reply == NULL && from_refused(&x))
        reply = "550 5.7.1 From header is not an address of the account that "
                "would send the message";
    if (reply == NULL)
        reply = plan_edits(&x);
    if (reply != NULL)
        return refuse_all(&x, reply);
    if (!edits_apply(&x.edits, ops, mta))
        return session_fail(s, "the MTA refused an edit of the envelope");
    x.tickets_made = true;
    count_fates(&x);
    log_fates(&x);
    hints_count(hints, HINTS_ROUTED, x.n_routed);
    hints_count(hints, HINTS_REJECTED, x.n_refused);
    hints_count(hints, HINTS_DEFERRED, x.n_deferred);
    count_hints(&x);
    return ANSWER_CONTINUE;
}
