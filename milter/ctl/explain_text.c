/* milter/ctl/explain_text.c - gmroutectl explain, for people.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/explain.h"
#include "policy/address.h"
#include "policy/ticket.h"
#include "policy/window.h"

enum { NOT_SHOWN = 10 /* rules that did not match, the nearest ones */ };

/* A text from outside, in quotes: no control reaches the terminal. */
static void
put_quoted(struct slice s)
{
    putchar('"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];

        putchar(c < ' ' || c == 0x7f ? '?' : c);
    }
    putchar('"');
}

static void
put_rule(const char *rule, struct loc at)
{
    if (rule != NULL && strcmp(rule, "default") != 0)
        printf("\"%s\"", rule);
    else
        fputs("the default", stdout);
    if (at.line > 0)
        printf(" (%s:%u:%u)", at.file, at.line, at.col);
}

/* ---- the message ---- */

static void
put_message(const struct explain *x)
{
    const struct facts *f = &x->facts;
    char when[40];

    ctl_time(f->now_s, when, sizeof when);
    printf("message from <%.*s>, %zu recipient%s, %" PRIu64 " octets, at %s\n",
           SLICE_FMT(f->sender), x->n_recipients,
           x->n_recipients == 1 ? "" : "s", f->size_octets, when);
    for (size_t i = 0; i < f->n_attachments; i++) {
        fputs("  attachment ", stdout);
        put_quoted(f->attachment[i]);
        putchar('\n');
    }
    if (f->attachments_cut)
        puts("  attachment there may be more: the structure could not be read "
             "to its end");
    if (x->refusal != NULL)
        printf("  refused    as a whole: %s\n", x->refusal);
}

/* ---- what becomes of a recipient ---- */

static bool
is_mta_domain(const struct explain *x, const struct told *t)
{
    struct address a;

    return address_parse(t->recipient, &a) &&
           policy_is_mta_domain(x->policy, a.domain);
}

static void
put_action(const struct explain *x, const struct told *t)
{
    const char *reply = t->reply != NULL ? t->reply : "";

    fputs("  action     ", stdout);
    switch (t->action) {
    case ACTION_MTA:
        puts(is_mta_domain(x, t) ? "left to the MTA, as all of mta_domains is"
                                 : "left to the MTA");
        break;
    case ACTION_ACCOUNT:
        printf("sent through %s\n", t->group->admission.mailbox.address);
        break;
    case ACTION_REJECT:
        printf("rejected: %s\n", reply);
        break;
    case ACTION_DEFER:
        printf("deferred: %s\n", reply);
        break;
    case ACTION_HOLD:
        printf("held in the MTA's queue: %s\n", reply);
        break;
    case ACTION_DISCARD:
        puts("discarded");
        break;
    case ACTION_UNKNOWN:
        puts("not decided before the message is there");
        break;
    }
}

static void
put_rule_of(const struct told *t)
{
    fputs("  rule       ", stdout);
    put_rule(t->decision.rule, t->decision.at);
    putchar('\n');
}

/* At RCPT: what the rule waits for, when it waits for something. */
static void
put_waits_for(const struct explain *x, const struct told *t)
{
    const struct trace *w = &x->trace;

    if (w->n > 0 && w->why[w->n - 1].at.line == t->decision.at.line &&
        w->why[w->n - 1].failed[0] != '\0')
        printf("  waits for  %s\n", w->why[w->n - 1].failed);
    else
        puts("  waits for  the message: only a certain refusal is said at "
             "RCPT");
}

static void
put_early(const struct told *t)
{
    if (t->early.action != ACTION_REJECT && t->early.action != ACTION_DEFER)
        return;
    printf("  at RCPT    refused there already: %s, by ", t->early.reply);
    put_rule(t->early.rule, t->early.at);
    putchar('\n');
}

static void
put_shadows(const struct told *t)
{
    for (unsigned i = 0; i < t->decision.n_shadows; i++) {
        const struct shadow *s = &t->decision.shadow[i];

        fputs("  shadow     ", stdout);
        put_rule(s->rule, s->at);
        printf(" would have decided: %s", action_name(s->action));
        if (s->action == ACTION_ACCOUNT && s->plan != NULL)
            printf(" %s", s->plan->step[0].kind == STEP_POOL
                              ? s->plan->step[0].pool->name
                              : s->plan->step[0].account->name);
        putchar('\n');
    }
}

static void
put_edits(const struct told *t)
{
    const struct header_edits *e = t->decision.edits;

    for (size_t i = 0; e != NULL && i < e->n_remove; i++)
        printf("  header     remove %s\n", e->remove[i]);
    for (size_t i = 0; e != NULL && i < e->n_add; i++)
        printf("  header     add %s: %s\n", e->add[i].name, e->add[i].value);
}

/* ---- candidates ---- */

static void
put_limit(enum dimension d, uint64_t limit, uint64_t window_ms)
{
    char text[40];

    ctl_duration(window_ms, text, sizeof text);
    printf("             %s: unknown of %" PRIu64 " used in %s\n",
           dimension_name(d), limit, text);
}

static void
put_room(const struct explain *x, const struct mailbox *m,
         const struct tried *c)
{
    const struct quota_limits *q = &m->account->quota;
    char text[40];

    if (!c->has_quota) {
        puts("             no quota memory of this account; its limits:");
        for (unsigned i = 0; i < q->n; i++)
            put_limit(q->limit[i].dimension, q->limit[i].max,
                      q->limit[i].window_ms);
        return;
    }
    printf("             state %s", account_state_name(c->quota.state));
    if (c->quota.state_until_ms > x->now_ms) {
        ctl_duration(c->quota.state_until_ms - x->now_ms, text, sizeof text);
        printf(" for %s", text);
    }
    if (c->quota.state_reason[0] != '\0')
        printf(" (%s)", c->quota.state_reason);
    putchar('\n');
    for (unsigned i = 0; i < c->quota.n; i++) {
        uint64_t limit = c->quota.window[i].limit;
        uint64_t used = c->quota.window[i].used;
        uint64_t at = c->quota.window[i].room_at_ms;

        ctl_duration(c->quota.window[i].window_ms, text, sizeof text);
        printf("             %s: %" PRIu64 " of %" PRIu64
               " used in %s, room %" PRIu64,
               dimension_name(c->quota.window[i].dimension), used, limit, text,
               used < limit ? limit - used : 0);
        if (used >= limit && at != WINDOW_NEVER && at > x->now_ms) {
            ctl_duration(at - x->now_ms, text, sizeof text);
            printf(", returns in %s", text);
        }
        putchar('\n');
    }
}

static void
put_step(const struct candidate *c)
{
    switch (c->kind) {
    case STEP_MTA:
        puts("leave it to the MTA");
        break;
    case STEP_WAIT:
        puts("wait in the MTA's queue for one of the above");
        break;
    case STEP_DEFER:
        printf("defer: %s\n", c->reply != NULL ? c->reply : "");
        break;
    case STEP_REJECT:
        printf("reject: %s\n", c->reply != NULL ? c->reply : "");
        break;
    case STEP_ACCOUNT:
    case STEP_POOL:
        break;
    }
}

static void
put_candidates(struct explain *x, const struct told *t)
{
    const struct decision *d;

    if (t->group == NULL)
        return;
    d = &t->group->decision;
    for (unsigned i = 0; i < d->n_candidates; i++) {
        const struct candidate *c = &d->candidate[i];
        struct tried tried;

        printf("  try %-6u ", i + 1);
        if (c->kind != STEP_ACCOUNT) {
            put_step(c);
            continue;
        }
        explain_candidate(x, t, i, &tried);
        printf("%s", c->mailbox.address);
        if (c->pool != NULL)
            printf(" (pool %s)", c->pool->name);
        printf(": %s%s\n", tried.taken ? "chosen; " : "", tried.why);
        put_room(x, &c->mailbox, &tried);
        printf("             token %s\n", tried.token);
    }
    if (d->plan->share_percent < 100)
        printf("  share      %u%% of every limit\n", d->plan->share_percent);
}

static void
put_wait(const struct told *t)
{
    uint64_t ms;
    char text[40];

    if (t->action != ACTION_ACCOUNT)
        return;
    ms = t->group->admission.wait_ms;
    if (ms == WINDOW_NEVER) {
        puts("  wait       in the MTA's queue, until the account can send "
             "again");
    } else if (ms > 0) {
        ctl_duration(ms, text, sizeof text);
        printf("  wait       %s in the MTA's queue\n", text);
    }
    if (t->group->admission.why[0] != '\0')
        printf("  passed by  %s\n", t->group->admission.why);
}

static void
put_tag(const struct told *t)
{
    char label[LABEL_MAX + 1];

    if (t->action != ACTION_ACCOUNT)
        return;
    if (ticket_account_label(&t->group->admission.mailbox, label) != TICKET_OK)
        puts("  tag        none: the account's label would be too long");
    else
        printf("  tag        account %s, queue q%02u\n", label,
               ticket_queue(t->group->admission.mailbox.id));
}

/* ---- why not the others ---- */

static bool
is_reason(const struct told *t, const struct why *w)
{
    return w->failed[0] != '\0' && !explain_is_shadow(t, w) &&
           (w->at.line != t->decision.at.line ||
            w->at.col != t->decision.at.col);
}

static void
put_reasons(const struct explain *x, const struct told *t)
{
    size_t n = 0, skip;

    for (size_t i = 0; i < x->trace.n; i++)
        n += is_reason(t, &x->trace.why[i]);
    skip = x->all || n <= NOT_SHOWN ? 0 : n - NOT_SHOWN;
    if (skip > 0)
        printf("  not        %zu earlier rules; --all shows them\n", skip);
    for (size_t i = 0; i < x->trace.n; i++) {
        const struct why *w = &x->trace.why[i];

        if (!is_reason(t, w) || (skip > 0 && skip-- > 0))
            continue;
        fputs("  not        ", stdout);
        put_rule(w->rule, w->at);
        printf(": %s\n", w->failed);
    }
}

/* ---- all together ---- */

static bool
same_place(struct loc a, struct loc b)
{
    return a.line == b.line && a.col == b.col &&
           (a.line == 0 || strcmp(a.file, b.file) == 0);
}

/* Do they share all that is told (but why other rules did not match)? */
static bool
is_alike(const struct told *a, const struct told *b)
{
    if (!same_place(a->decision.at, b->decision.at) ||
        !same_place(a->early.at, b->early.at) || a->action != b->action ||
        a->early.action != b->early.action || a->group != b->group ||
        a->reply != b->reply || a->decision.n_shadows != b->decision.n_shadows)
        return false;
    for (unsigned i = 0; i < a->decision.n_shadows; i++)
        if (!same_place(a->decision.shadow[i].at, b->decision.shadow[i].at))
            return false;
    return true;
}

static void
put_recipients(struct explain *x, struct told *t)
{
    for (struct told *o = t; o < x->told + x->n_recipients; o++) {
        if (o->shown || !is_alike(t, o))
            continue;
        o->shown = true;
        printf("%.*s\n", SLICE_FMT(o->recipient));
    }
}

bool
explain_text(struct explain *x)
{
    put_message(x);
    for (size_t i = 0; i < x->n_recipients; i++) {
        struct told *t = &x->told[i];

        if (t->shown)
            continue;
        if (!explain_trace(x, t))
            return false;
        putchar('\n');
        put_recipients(x, t);
        put_action(x, t);
        put_rule_of(t);
        if (t->action == ACTION_UNKNOWN)
            put_waits_for(x, t);
        if (!x->at_rcpt)
            put_early(t);
        put_shadows(t);
        put_edits(t);
        put_wait(t);
        put_candidates(x, t);
        put_tag(t);
        put_reasons(x, t);
    }
    return true;
}
