/* milter/filter/message_log.c - see message_private.h: a line for each
 * recipient, and for what else happened to the message.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>

#include "milter/base/log.h"
#include "milter/filter/message_plan.h"
#include "milter/filter/message_private.h"

static struct log_line
log_start(const struct session *s, const char *recipient)
{
    struct log_line l = log_line(LOG_LEVEL_INFO);

    log_kv(&l, "queue", s->queue_id);
    log_kv(&l, "from", s->sender.len > 0 ? s->sender.at : "<>");
    log_kv(&l, "to", recipient);
    return l;
}

static bool
is_tagged(enum action a)
{
    return a == ACTION_ACCOUNT || a == ACTION_REJECT || a == ACTION_DEFER;
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

/* The account, pool or other step that a plan begins with. */
static void
log_plan(struct log_line *l, const struct plan *p)
{
    const struct step *first = &p->step[0];

    if (first->kind == STEP_ACCOUNT)
        log_kv(l, "account", first->account->name);
    else if (first->kind == STEP_POOL)
        log_kv(l, "pool", first->pool->name);
}

void
message_log_shadows(const struct session *s, const char *recipient,
                    const struct decision *d)
{
    for (unsigned i = 0; i < d->n_shadows; i++) {
        const struct shadow *sh = &d->shadow[i];
        struct log_line l = log_start(s, recipient);

        log_kv(&l, "shadow", "yes");
        log_rule(&l, sh->rule, sh->at);
        log_kv(&l, "would", action_name(sh->action));
        if (sh->action == ACTION_ACCOUNT && sh->plan != NULL)
            log_plan(&l, sh->plan);
        log_end(&l);
    }
}

void
message_log_edits(const struct finish *x)
{
    for (const struct edit_source *e = x->sources; e != NULL; e = e->next) {
        struct log_line l = log_line(LOG_LEVEL_INFO);

        log_kv(&l, "queue", x->s->queue_id);
        log_kv(&l, "from", x->s->sender.len > 0 ? x->s->sender.at : "<>");
        log_kv(&l, "rule", e->rule != NULL ? e->rule : "default");
        for (size_t i = 0; i < e->edits->n_remove; i++)
            log_kv(&l, "remove_header", e->edits->remove[i]);
        for (size_t i = 0; i < e->edits->n_add; i++)
            log_kv(&l, "add_header", e->edits->add[i].name);
        log_end(&l);
    }
}

void
message_log_fates(const struct finish *x)
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
        if (x->hold != NULL && x->tickets_made)
            log_kv(&l, "hold", x->hold);
        if (f->action == ACTION_HOLD)
            log_kv(&l, "on_release", "mta"); /* untagged: by its own routes */
        if (is_tagged(f->action) && x->tickets_made) {
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

void
message_log_unread(const struct finish *x)
{
    if (x->unparseable || x->s->headers_cut)
        log_warn("queue=%s a rule looked at %s", x->s->queue_id,
                 x->s->headers_cut
                     ? "a header that cannot be kept: there are too many"
                 : x->facts.attachments_cut
                     ? "a header or a MIME structure that cannot be read"
                     : "a header that cannot be parsed");
    if (x->regex_limit)
        log_warn("queue=%s an expression of a rule gave no answer within its "
                 "limits, which counts as \"no\"",
                 x->s->queue_id);
}
