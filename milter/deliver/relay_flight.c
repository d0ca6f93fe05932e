/* milter/deliver/relay_flight.c - one group's transactions: take quota, write
 * "sending", send, judge, write the result, and only then answer.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/relay_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/log.h"

enum { LEDGER_WAIT_MS = 5000 };

/* One transaction under way. */
struct flight {
    struct relay *r;
    struct group *g;
    size_t n;
    struct rcpt **rcpt;
    struct message_copy *copy;
    struct taken taken;
    struct recipient_id *who, *kept; /* what is taken, and stays so, is for */
    const char *mail_from;
    const char **address; /* of each recipient */
    struct attempt *attempt;
    struct letter_result *result;
    struct attempt_result *ended;
    int64_t *row;
    char identity[IDENTITY_MAX + 1];
    uint64_t began_ms;
};

static void
flight_free(struct flight *f)
{
    message_copy_free(f->copy);
    free(f->rcpt);
    free(f->address);
    free(f->attempt);
    free(f->result);
    free(f->ended);
    free(f->row);
    free(f->who);
    free(f->kept);
}

static void
enhanced_text(const struct reply *r, char ret[16])
{
    ret[0] = 0;
    if (r->enhanced.klass != 0)
        snprintf(ret, 16, "%u.%u.%u", r->enhanced.klass, r->enhanced.subject,
                 r->enhanced.detail);
}

static void
log_rcpt(const struct relay *r, const struct group *g, const struct rcpt *c,
         const char *stage, const char *session, uint64_t duration_ms)
{
    struct log_line l =
        log_line(c->kind == OUTCOME_SENT ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    char number[20];

    log_kv(&l, "queue", r->queue_id);
    snprintf(number, sizeof number, "%016" PRIx64, g->ticket);
    log_kv(&l, "ticket", number);
    log_kv(&l, "from", r->sender[0] != 0 ? r->sender : "<>");
    log_kv(&l, "to", c->canonical);
    log_kv(&l, "account", g->mailbox.address);
    if (relay_is_diverted(g, c))
        log_kv(&l, "diverted_from", c->mailbox.address);
    log_kv(&l, "outcome", outcome_kind_name(c->kind));
    log_kv(&l, "stage", stage);
    log_kv(&l, "message_id", message_id(r->message));
    log_kv_u64(&l, "ms", duration_ms);
    log_kv(&l, "session", session);
    log_kv(&l, "reply", c->reply);
    log_end(&l);
}

static struct attempt
attempt_of(const struct relay *r, const struct group *g, const struct rcpt *c,
           const char *identity)
{
    struct attempt a = {
        .ticket = g->ticket,
        .recipient = c->canonical,
        .queue_id = r->queue_id,
        .sender = r->sender,
        .identity = identity,
        .account = g->mailbox.id,
        .diverted_from = relay_is_diverted(g, c) ? c->mailbox.id : 0,
        .message_id = message_id(r->message),
        .size_octets = message_size(r->message),
        .at_once = g->mailbox.account->sessions.max,
    };
    const struct digest *digest = message_digest(r->message);

    if (digest != NULL)
        a.digest = *digest;
    return a;
}

void
relay_refuse_group(struct relay *r, struct group *g)
{
    char line[LMTP_REPLY_MAX], identity[IDENTITY_MAX + 1], enhanced[16];

    if (g->refusal_text[0] != 0)
        snprintf(line, sizeof line, "%s", g->refusal_text);
    else
        outcome_lmtp_reply(&g->refusal, &g->refusal_reply, line);
    enhanced_text(&g->refusal_reply, enhanced);
    mailbox_identity(g->mailbox.address, g->mailbox.account->smarthost->name,
                     identity);
    for (size_t i = 0; i < g->n; i++) {
        struct rcpt *c = g->rcpt[i];
        struct attempt a;
        struct attempt_result result;

        if (c->done || c->sent_before)
            continue;
        relay_end_rcpt(r, c, OUTCOME_DEFERRED, line);
        log_rcpt(r, g, c, smtp_stage_name(g->refusal_stage), "", 0);
        a = attempt_of(r, g, c, identity);
        result = (struct attempt_result){
            .kind = OUTCOME_DEFERRED,
            .stage = g->refusal_stage,
            .code = g->refusal_reply.code,
            .enhanced = enhanced,
            .reply = c->reply,
        };
        ledger_note(r->env->ledger, &a, 1, &result);
        quota_count(r->env->quota, g->mailbox.id, QUOTA_DEFERRED, 1);
    }
}

/* The next transaction's recipients: as many open ones as one may have. */
static bool
flight_load(struct flight *f, struct relay *r, struct group *g)
{
    uint32_t most = g->mailbox.account->quota.recipients_per_message;
    struct copy_options o = {
        .mailbox = &g->mailbox,
        .from = g->from,
        .sender = r->sender,
        .hostname = r->env->hostname,
        .now_s = clock_wall_ms(r->env->clock) / 1000,
        .ticket = g->ticket,
        .tag_domain = r->conf->policy->milter.tag_domain,
    };

    *f = (struct flight){.r = r, .g = g};
    f->rcpt = calloc(g->n, sizeof *f->rcpt);
    f->address = calloc(g->n, sizeof *f->address);
    f->attempt = calloc(g->n, sizeof *f->attempt);
    f->result = calloc(g->n, sizeof *f->result);
    f->ended = calloc(g->n, sizeof *f->ended);
    f->row = calloc(g->n, sizeof *f->row);
    f->who = calloc(g->n, sizeof *f->who);
    f->kept = calloc(g->n, sizeof *f->kept);
    f->copy = message_copy_new(r->message, &o);
    if (f->rcpt == NULL || f->address == NULL || f->attempt == NULL ||
        f->result == NULL || f->ended == NULL || f->row == NULL ||
        f->who == NULL || f->kept == NULL || f->copy == NULL)
        return false;
    mailbox_identity(g->mailbox.address, g->mailbox.account->smarthost->name,
                     f->identity);
    /* A null sender stays null: a bounce must not bounce. */
    f->mail_from = g->mailbox.account->mail_from_account && r->sender[0] != 0
                       ? g->mailbox.address
                       : r->sender;
    for (size_t i = 0; i < g->n && f->n < most; i++) {
        struct rcpt *c = g->rcpt[i];

        if (c->done || c->sent_before)
            continue;
        f->attempt[f->n] = attempt_of(r, g, c, f->identity);
        f->address[f->n] = c->tag.recipient;
        f->rcpt[f->n++] = c;
    }
    return true;
}

/* Brings the recipients that a stale session left without an answer to the
 * front of f; returns how many.  The others have their results. */
static size_t
unanswered_first(struct flight *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++) {
        struct letter_result result = f->result[i];
        struct rcpt *rcpt = f->rcpt[i];
        const char *address = f->address[i];
        int64_t row = f->row[i];

        if (result.verdict.kind == OUTCOME_SENT)
            return 0; /* it went: sending again could give it twice */
        if (result.verdict.kind != OUTCOME_RECONNECT)
            continue;
        f->result[i] = f->result[n];
        f->rcpt[i] = f->rcpt[n];
        f->address[i] = f->address[n];
        f->row[i] = f->row[n];
        f->result[n] = result;
        f->rcpt[n] = rcpt;
        f->address[n] = address;
        f->row[n] = row;
        n++;
    }
    return n;
}

/* Sends; a session that turns out stale costs no attempt, once. */
static void
flight_send(struct flight *f, uint64_t deadline_ms)
{
    struct group *g = f->g;
    struct letter letter = {
        .mail_from = f->mail_from,
        .n_rcpt = f->n,
        .rcpt = f->address,
        .copy = f->copy,
        .is_8bit = message_is_8bit(f->r->message),
        .needs_utf8 = message_needs_utf8(f->r->message),
    };
    struct lease lease;

    g->session_usable = session_send(g->session, &letter, f->result);
    letter.n_rcpt = unanswered_first(f);
    if (letter.n_rcpt == 0)
        return;
    g->session_usable = false;
    relay_drop_session(f->r, g);
    lease = pool_lease(f->r->env->pool, &g->mailbox, deadline_ms, true);
    g->session = lease.session;
    if (lease.session == NULL) {
        for (size_t i = 0; i < letter.n_rcpt; i++)
            f->result[i] =
                (struct letter_result){lease.verdict, lease.reply, lease.stage};
        return;
    }
    message_copy_rewind(f->copy);
    g->session_usable = session_send(g->session, &letter, f->result);
}

/* What of the charge stays: everything when the message went or may have
 * gone, less the recipients that were refused; nothing when it went nowhere. */
static void
flight_settle(struct flight *f, const struct taken **ret_after)
{
    struct quota *q = f->r->env->quota;
    struct cost kept = {.who = f->kept};
    bool sent = false;

    for (size_t i = 0; i < f->n; i++) {
        enum outcome_kind k = f->result[i].verdict.kind;

        sent |= k == OUTCOME_SENT;
        if (k == OUTCOME_SENT || k == OUTCOME_IN_DOUBT) {
            f->kept[kept.recipients++] = f->rcpt[i]->id;
            kept.external_recipients += f->rcpt[i]->id.external;
        }
    }
    if (kept.recipients == 0) {
        quota_give_back(q, &f->taken);
        *ret_after = NULL;
        return;
    }
    kept.n_who = recipient_ids_sort(f->kept, kept.recipients);
    if (kept.recipients < f->n)
        quota_give_back_recipients(q, &f->taken, &kept);
    quota_settle(q, &f->taken);
    if (sent)
        relay_accepted(f->r, &f->g->mailbox);
    *ret_after = &f->taken;
}

static void
count_outcome(struct relay *r, const struct group *g, enum outcome_kind k)
{
    enum quota_event e = k == OUTCOME_SENT       ? QUOTA_SENT
                         : k == OUTCOME_REFUSED  ? QUOTA_REFUSED
                         : k == OUTCOME_IN_DOUBT ? QUOTA_IN_DOUBT
                                                 : QUOTA_DEFERRED;

    quota_count(r->env->quota, g->mailbox.id, e, 1);
}

/* Another account may carry it; one of another organisation, at least. */
static bool
is_about_account(const struct verdict *v)
{
    return v->kind == OUTCOME_DEFERRED &&
           (v->scope == SCOPE_ACCOUNT || v->scope == SCOPE_ORGANISATION);
}

static size_t
open_recipients(const struct group *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++)
        n += !g->rcpt[i]->done && !g->rcpt[i]->sent_before;
    return n;
}

/* Not ended by this flight: to be split off, or to go through another
 * account. */
static bool
stays_open(const struct flight *f, size_t i, bool may_exchange)
{
    const struct verdict *v = &f->result[i].verdict;

    return (v->kind == OUTCOME_SPLIT && f->n > 1) ||
           (may_exchange && is_about_account(v));
}

/* Nothing of the group is left to send: others get the session while this one
 * waits for the disk. */
static void
give_session_up(struct flight *f, bool may_exchange)
{
    for (size_t i = 0; i < f->n; i++)
        if (stays_open(f, i, may_exchange))
            return;
    if (f->n == open_recipients(f->g))
        relay_drop_session(f->r, f->g);
}

/* Writes the results, then ends the recipients they end. */
static void
flight_end(struct flight *f, bool may_exchange, const struct taken *before,
           const struct taken *after)
{
    struct relay *r = f->r;
    uint64_t ms = clock_boot_ms(r->env->clock) - f->began_ms;
    char(*enhanced)[16] = calloc(f->n, sizeof *enhanced);
    char info[SESSION_INFO_MAX] = "";

    if (f->g->session != NULL)
        snprintf(info, sizeof info, "%s", session_info(f->g->session));
    give_session_up(f, may_exchange);
    quota_count_flight(r->env->quota, ms);
    for (size_t i = 0; i < f->n; i++) {
        struct letter_result *x = &f->result[i];

        quota_count_reply(r->env->quota, x->reply.code);

        if (enhanced != NULL)
            enhanced_text(&x->reply, enhanced[i]);
        f->ended[i] = (struct attempt_result){
            .row = f->row[i],
            .kind = x->verdict.kind == OUTCOME_RECONNECT ||
                            x->verdict.kind == OUTCOME_SPLIT
                        ? OUTCOME_DEFERRED
                        : x->verdict.kind,
            .stage = x->stage,
            .code = x->reply.code,
            .enhanced = enhanced != NULL ? enhanced[i] : "",
            .reply = x->reply.code != 0 || x->reply.text[0] != 0
                         ? x->reply.text
                         : x->verdict.meaning,
            .duration_ms = (uint32_t)ms,
        };
    }
    if (ledger_finish(r->env->ledger, f->ended, f->n, before, after,
                      LEDGER_WAIT_MS) != LEDGER_OK)
        log_error("queue=%s the ledger cannot be written; what Gmail said is "
                  "answered all the same and written later",
                  r->queue_id);
    for (size_t i = 0; i < f->n; i++) {
        struct letter_result *x = &f->result[i];
        char line[LMTP_REPLY_MAX];

        if (stays_open(f, i, may_exchange))
            continue;
        outcome_lmtp_reply(&x->verdict, &x->reply, line);
        relay_end_rcpt(r, f->rcpt[i],
                       x->verdict.kind == OUTCOME_RECONNECT ? OUTCOME_DEFERRED
                                                            : x->verdict.kind,
                       line);
        count_outcome(r, f->g, f->rcpt[i]->kind);
        log_rcpt(r, f->g, f->rcpt[i], smtp_stage_name(x->stage), info, ms);
    }
    free(enhanced);
}

static void
refuse_with(struct relay *r, struct group *g, const char *text)
{
    g->refusal = (struct verdict){.kind = OUTCOME_DEFERRED,
                                  .scope = SCOPE_CLIENT,
                                  .meaning = "our own failure"};
    g->refusal_reply = (struct reply){0};
    snprintf(g->refusal_text, sizeof g->refusal_text, "%s", text);
    relay_refuse_group(r, g);
}

/* What the replies say of the account, once. */
static void
flight_effects(struct flight *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct letter_result *x = &f->result[i];

        if (x->verdict.effect != EFFECT_NONE)
            relay_apply_effect(f->r, &f->g->mailbox, &x->verdict, &x->reply);
        else if (x->verdict.suspect)
            relay_suspect(f->r, &f->g->mailbox, &x->reply);
        else
            continue;
        return;
    }
}

/* One transaction, quota taken.  Sets *ret_exchange when Gmail refused the
 * account rather than the message. */
static void
fly(struct flight *f, bool may_exchange, uint64_t deadline_ms,
    bool *ret_exchange)
{
    struct relay *r = f->r;
    const struct taken *after;
    struct taken before;

    if (ledger_begin(r->env->ledger, f->attempt, f->n, &f->taken, f->row) !=
        LEDGER_OK) {
        char trouble[400];

        quota_give_back(r->env->quota, &f->taken);
        ledger_trouble(r->env->ledger, trouble, sizeof trouble);
        log_error("queue=%s not sent, the ledger cannot be written: %s",
                  r->queue_id, trouble);
        refuse_with(r, f->g, "451 4.3.0 Delivery ledger is not available");
        return;
    }
    before = f->taken;
    f->began_ms = clock_boot_ms(r->env->clock);
    flight_send(f, deadline_ms);
    for (size_t i = 0; i < f->n; i++) {
        const struct letter_result *x = &f->result[i];

        if (is_about_account(&x->verdict))
            *ret_exchange = may_exchange;
    }
    flight_settle(f, &after);
    flight_effects(f);
    flight_end(f, may_exchange, &before, after);
}

/* Takes room and flies once; afterwards g has a session for what is still
 * open.  False: nobody can carry it now, g->refusal says why. */
static bool
send_once(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    bool exchange = false, may_exchange = g->tried_others < g->n_others;
    struct room room;
    struct cost cost;
    struct flight f;

    if (!flight_load(&f, r, g)) {
        flight_free(&f);
        refuse_with(r, g, "451 4.3.0 Out of memory");
        return true;
    }
    cost = relay_cost(g, message_copy_size(f.copy), f.who);
    if (!quota_take(r->env->quota, g->mailbox.id, &cost, g->share_percent,
                    &f.taken, &room)) {
        /* There was room before the content came; others were faster. */
        flight_free(&f);
        relay_drop_session(r, g);
        return relay_find_session(r, g, deadline_ms);
    }
    relay_leave_line(r, g);
    fly(&f, may_exchange, deadline_ms, &exchange);
    flight_free(&f);
    if (open_recipients(g) == 0)
        return true;
    if (exchange)
        return relay_exchange(r, g, deadline_ms);
    if (g->session != NULL && g->session_usable)
        return true;
    relay_drop_session(r, g);
    return relay_find_session(r, g, deadline_ms);
}

void
relay_send_group(struct relay *r, struct group *g)
{
    uint64_t deadline_ms = clock_boot_ms(r->env->clock) + RELAY_EXCHANGE_MS;

    /* Each round ends a recipient, splits the list, or changes the account;
     * the bound is for a peer that splits for ever. */
    for (unsigned round = 0; round < RELAY_ROUNDS_MAX; round++)
        if (open_recipients(g) == 0 || !send_once(r, g, deadline_ms))
            break;
    if (open_recipients(g) == 0)
        return;
    if (g->refusal.kind != OUTCOME_DEFERRED)
        refuse_with(r, g,
                    "451 4.5.3 Gmail does not take the recipients of "
                    "this message together");
    else
        relay_refuse_group(r, g);
}
