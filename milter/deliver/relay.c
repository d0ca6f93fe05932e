/* milter/deliver/relay.c - see relay.h: the transaction as LMTP sees it.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/relay.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/deliver/relay_private.h"
#include "policy/address.h"
#include "policy/decide.h"

enum { HELPERS_MAX = 15 }; /* threads beside a connection's own */

/* ---- groups, side by side ---- */

struct errand { /* the groups, one after the other, for several threads */
    struct relay *r;
    void (*run)(struct relay *r, struct group *g, uint64_t deadline_ms);
    uint64_t deadline_ms; /* boot clock */
    atomic_size_t next;
};

/* Twice through all of them: those that are late, in the second round. */
static void *
run_errand(void *cookie)
{
    struct errand *e = cookie;
    size_t n = e->r->n_groups, i;

    while ((i = atomic_fetch_add(&e->next, 1)) < 2 * n) {
        struct group *g = &e->r->group[i % n];

        if (g->late == (i >= n))
            e->run(e->r, g, e->deadline_ms);
    }
    return NULL;
}

/* Groups share nothing that one of them changes. */
static void
for_groups(struct relay *r,
           void (*run)(struct relay *r, struct group *g, uint64_t deadline_ms),
           uint64_t deadline_ms)
{
    struct errand e = {.r = r, .run = run, .deadline_ms = deadline_ms};
    pthread_t helper[HELPERS_MAX];
    size_t n = 0;

    atomic_init(&e.next, 0);
    while (n < HELPERS_MAX && n + 1 < r->n_groups &&
           pthread_create(&helper[n], NULL, run_errand, &e) == 0)
        n++;
    run_errand(&e);
    while (n > 0)
        pthread_join(helper[--n], NULL);
}

/* ---- the transaction ---- */

struct relay *
relay_new(struct relay_env *env, const char *sender, const char *queue_id)
{
    struct relay *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->env = env;
    r->conf = conf_ref(env->conf);
    r->sender = strdup(sender);
    r->queue_id = strdup(queue_id);
    if (r->sender == NULL || r->queue_id == NULL) {
        relay_free(r);
        return NULL;
    }
    return r;
}

static void
free_groups(struct relay *r)
{
    for (size_t i = 0; i < r->n_groups; i++) {
        relay_drop_session(r, &r->group[i]);
        free(r->group[i].rcpt);
        free(r->group[i].who);
        free(r->group[i].other);
    }
    free(r->group);
    r->group = NULL;
    r->n_groups = 0;
}

void
relay_free(struct relay *r)
{
    if (r == NULL)
        return;
    free_groups(r);
    for (size_t i = 0; i < r->n; i++) {
        struct rcpt *c = r->rcpt[i];

        if (c->claimed)
            attempts_end(r->env->attempts, c->tag.ticket.number, c->canonical);
        free(c);
    }
    free(r->rcpt);
    message_free(r->message);
    conf_unref(r->conf);
    free(r->sender);
    free(r->queue_id);
    free(r);
}

/* ---- RCPT ---- */

static void
log_refused_rcpt(const struct relay *r, const char *address, const char *reply)
{
    struct log_line l = log_line(LOG_LEVEL_WARN);

    log_kv(&l, "queue", r->queue_id);
    log_kv(&l, "from", r->sender[0] != 0 ? r->sender : "<>");
    log_kv(&l, "to", address);
    log_kv(&l, "outcome", reply[0] == '5' ? "refused" : "deferred");
    log_kv(&l, "stage", "ticket");
    log_kv(&l, "reply", reply);
    log_end(&l);
}

/* The rule refused this recipient of a message whose others went on: the
 * answer is the rule's.  When the rule is gone, its class still stands. */
static const char *
refused_by_rule(struct relay *r, const struct tag *t)
{
    const struct plan *plan = policy_plan(r->conf->policy, t->ticket.plan);
    const char *reply = NULL;

    for (unsigned i = 0; plan != NULL && i < plan->n; i++)
        if (plan->step[i].kind == (t->ticket.refuse ? STEP_REJECT : STEP_DEFER))
            reply = plan->step[i].reply;
    if (reply == NULL)
        reply = t->ticket.refuse ? "550 5.7.1 Refused by the routing policy"
                                 : "451 4.7.1 Deferred by the routing policy";
    snprintf(r->answer, sizeof r->answer, "%s", reply);
    log_refused_rcpt(r, t->recipient, r->answer);
    return r->answer;
}

static const char *
refuse_rcpt(struct relay *r, const char *address, const char *why)
{
    snprintf(r->answer, sizeof r->answer, "451 4.3.5 %s", why);
    log_refused_rcpt(r, address, r->answer);
    return r->answer;
}

static bool
rcpt_add(struct relay *r, struct rcpt *c)
{
    if (r->n == r->room) {
        size_t room = r->room != 0 ? r->room * 2 : 16;
        struct rcpt **grown = reallocarray(r->rcpt, room, sizeof *grown);

        if (grown == NULL)
            return false;
        r->rcpt = grown;
        r->room = room;
    }
    r->rcpt[r->n++] = c;
    return true;
}

static const char *
rcpt_new(struct relay *r, const struct tag *tag, const struct mailbox *m)
{
    struct rcpt *c = calloc(1, sizeof *c);
    struct address a;

    if (c == NULL)
        return "451 4.3.0 Out of memory";
    c->tag = *tag;
    c->mailbox = *m;
    if (address_canonical(slice_of(tag->recipient), c->canonical,
                          sizeof c->canonical) == 0 ||
        !address_parse(slice_of(tag->recipient), &a)) {
        free(c);
        return refuse_rcpt(r, tag->recipient, "Not an address");
    }
    c->id.external = !policy_is_internal_domain(r->conf->policy, a.domain);
    c->id.hash = recipient_hash(c->canonical);
    if (c->id.hash == 0) {
        free(c);
        return "451 4.3.0 Out of memory";
    }
    if (!attempts_begin(r->env->attempts, tag->ticket.number, c->canonical)) {
        free(c);
        return refuse_rcpt(r, tag->recipient,
                           "Another attempt for this recipient is under way");
    }
    c->claimed = true;
    if (!rcpt_add(r, c)) {
        attempts_end(r->env->attempts, tag->ticket.number, c->canonical);
        free(c);
        return "451 4.3.0 Out of memory";
    }
    return "250 2.1.5 OK";
}

const char *
relay_rcpt(struct relay *r, const char *address)
{
    const char *tag_domain = r->conf->policy->milter.tag_domain;
    enum ticket_result result;
    struct mailbox m;
    struct tag tag;
    char why[120];

    result = ticket_read(slice_of(address), tag_domain, r->env->keys, &tag);
    if (result != TICKET_OK) {
        snprintf(why, sizeof why, "Not a recipient of gmroute: %s",
                 ticket_result_text(result));
        return refuse_rcpt(r, address, why);
    }
    if (tag.ticket.refuse || tag.ticket.defer)
        return refused_by_rule(r, &tag);
    if (!ticket_mailbox(r->conf->policy, tag.account, &m))
        return refuse_rcpt(r, tag.recipient,
                           "The account of this message is no longer "
                           "configured");
    return rcpt_new(r, &tag, &m);
}

/* ---- DATA ---- */

static bool
same_group(const struct group *g, const struct mailbox *m,
           const struct ticket *t)
{
    return g->own.id == m->id && g->ticket == t->number && g->from == t->from &&
           g->share_percent == t->share_percent;
}

static struct group *
group_for(struct relay *r, const struct mailbox *m, const struct ticket *t)
{
    struct group *g;

    for (size_t i = 0; i < r->n_groups; i++)
        if (same_group(&r->group[i], m, t))
            return &r->group[i];
    g = &r->group[r->n_groups]; /* room for one a recipient was made */
    g->rcpt = calloc(r->n, sizeof *g->rcpt);
    g->who = calloc(r->n, sizeof *g->who);
    if (g->rcpt == NULL || g->who == NULL) {
        free(g->rcpt);
        free(g->who);
        return NULL;
    }
    g->own = g->mailbox = *m;
    g->ticket = t->number;
    g->minute = t->minute;
    g->waits_for = -1;
    g->from = t->from;
    g->share_percent = t->share_percent >= 1 && t->share_percent <= 100
                           ? t->share_percent
                           : 100;
    g->plan = policy_plan(r->conf->policy, t->plan);
    r->n_groups++;
    return g;
}

static bool
is_listed(const struct group *g, uint64_t id)
{
    for (unsigned i = 0; i < g->n_others; i++)
        if (g->other[i].id == id)
            return true;
    return g->own.id == id;
}

/* The plan's other accounts, for relay_exchange; one whose mail is diverted
 * stands for the one that carries it. */
static bool
find_others(struct relay *r, struct group *g)
{
    struct candidate *c;
    unsigned n;

    if (g->plan == NULL)
        return true;
    c = calloc(CANDIDATES_MAX, sizeof *c);
    g->other = calloc(CANDIDATES_MAX, sizeof *g->other);
    if (c == NULL || g->other == NULL) {
        free(c);
        return false;
    }
    n = decide_candidates(r->conf->policy, g->plan, slice_of(r->sender), c);
    for (unsigned i = 0; i < n; i++) {
        struct mailbox m;

        if (c[i].kind != STEP_ACCOUNT)
            continue;
        m = relay_carrier(r, &c[i].mailbox);
        if (!is_listed(g, m.id))
            g->other[g->n_others++] = m;
    }
    free(c);
    return true;
}

static bool
make_groups(struct relay *r)
{
    r->group = calloc(r->n, sizeof *r->group);
    if (r->group == NULL)
        return false;
    for (size_t i = 0; i < r->n; i++) {
        struct mailbox m = relay_carrier(r, &r->rcpt[i]->mailbox);
        struct group *g = group_for(r, &m, &r->rcpt[i]->tag.ticket);

        if (g == NULL)
            return false;
        g->rcpt[g->n++] = r->rcpt[i];
    }
    for (size_t i = 0; i < r->n_groups; i++)
        if (!find_others(r, &r->group[i]))
            return false;
    return true;
}

/* Asks the book; what it has as sent is not sent again.  False: the book
 * cannot be asked. */
static bool
ask_the_book(struct relay *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct rcpt *c = r->rcpt[i];
        enum ledger_seen seen;

        if (ledger_seen(r->env->ledger, c->tag.ticket.number, c->canonical,
                        NULL, &seen) != LEDGER_OK)
            return false;
        c->sent_before = seen == SEEN_SENT || seen == SEEN_OTHER;
        c->tried_before = seen != SEEN_NEVER;
    }
    return true;
}

static bool
needs_session(const struct group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (!g->rcpt[i]->sent_before)
            return true;
    return false;
}

static const char *
defer_all(struct relay *r, const char *text)
{
    struct log_line l = log_line(LOG_LEVEL_WARN);

    snprintf(r->answer, sizeof r->answer, "451 4.3.0 %s", text);
    log_kv(&l, "queue", r->queue_id);
    log_kv(&l, "from", r->sender[0] != 0 ? r->sender : "<>");
    log_kv(&l, "outcome", "deferred");
    log_kv(&l, "reply", r->answer);
    log_end(&l);
    return r->answer;
}

static void
count_rcpt(struct portion *p, const struct rcpt *c)
{
    p->recipients++;
    p->external += c->id.external;
}

/* Of recipients that are tagged for one account: their hints have served; and
 * what is diverted no longer waits for the account itself. */
static void
clear_hints(struct relay *r, const struct group *g, uint64_t account)
{
    struct portion first = {0}, again = {0};

    for (size_t i = 0; i < g->n; i++) {
        const struct rcpt *c = g->rcpt[i];

        if (c->mailbox.id == account)
            count_rcpt(c->tried_before ? &again : &first, c);
    }
    if (first.recipients > 0)
        hints_clear(r->env->hints, account, g->minute, first.recipients,
                    first.external);
    if (account != g->own.id && again.recipients > 0)
        attempts_waiting(r->env->attempts, g->ticket, account, again,
                         (struct portion){0}, quota_now_ms(r->env->quota));
}

/* Forecast: what of the group waits in the MTA now. */
static void
count_waiting(struct relay *r, const struct group *g)
{
    struct portion back = {0}, left = {0};

    for (size_t i = 0; i < g->n; i++) {
        const struct rcpt *c = g->rcpt[i];
        size_t same = 0;

        if (c->kind == OUTCOME_DEFERRED || c->kind == OUTCOME_IN_DOUBT)
            count_rcpt(&left, c);
        if (c->tried_before)
            count_rcpt(&back, c);
        while (g->rcpt[same]->mailbox.id != c->mailbox.id)
            same++;
        if (same == i)
            clear_hints(r, g, c->mailbox.id);
    }
    attempts_waiting(r->env->attempts, g->ticket, g->own.id, back, left,
                     quota_now_ms(r->env->quota));
}

static void
find_one(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    if (needs_session(g))
        relay_find_session(r, g, deadline_ms);
}

/* Is there a recipient that the content is needed for? */
static bool
any_ready(const struct relay *r)
{
    for (size_t i = 0; i < r->n_groups; i++)
        if (r->group[i].session != NULL)
            return true;
    for (size_t i = 0; i < r->n; i++)
        if (r->rcpt[i]->sent_before)
            return true; /* only the content can tell */
    return false;
}

/* A session for each group that needs one.  Several accounts look for theirs
 * side by side, and who has one waits only RELAY_COMPANY_MS for the others:
 * their messages could have it meanwhile, and two transactions of the same
 * two accounts must not wait for each other.  Who has none then gets it when
 * the content is here (finish_group), and holds nothing. */
static void
find_sessions(struct relay *r)
{
    uint64_t now_ms = clock_boot_ms(r->env->clock), until_ms,
             end_ms = now_ms + RELAY_WAIT_MS;

    do {
        until_ms = r->n_groups > 1 && now_ms + RELAY_COMPANY_MS < end_ms
                       ? now_ms + RELAY_COMPANY_MS
                       : end_ms;
        for_groups(r, find_one, until_ms);
        now_ms = clock_boot_ms(r->env->clock);
        /* Earlier: they do not wait, for it is no use. */
    } while (!any_ready(r) && now_ms >= until_ms && now_ms < end_ms);
}

const char *
relay_data(struct relay *r)
{
    char trouble[200];

    if (!ask_the_book(r)) {
        ledger_trouble(r->env->ledger, trouble, sizeof trouble);
        log_error("the ledger cannot be read: %s", trouble);
        return defer_all(r, "Delivery ledger is not available");
    }
    r->message = message_new(r->conf->policy->state.directory);
    if (r->message == NULL || !make_groups(r))
        return defer_all(r, "Out of memory");
    find_sessions(r);
    if (any_ready(r) || r->n_groups > 1) /* several: each gets its own reason */
        return "354 Go ahead";
    relay_refuse_group(r, &r->group[0]);
    count_waiting(r, &r->group[0]);
    snprintf(r->answer, sizeof r->answer, "%s", r->group[0].rcpt[0]->reply);
    return r->answer;
}

/* ---- content and answers ---- */

void
relay_content(struct relay *r, const void *data, size_t len)
{
    if (r->failed)
        return;
    if (!message_add(r->message, data, len, r->failure, sizeof r->failure))
        r->failed = true;
}

void
relay_end_rcpt(struct relay *r, struct rcpt *c, enum outcome_kind kind,
               const char *reply)
{
    size_t n;

    (void)r;
    c->done = true;
    c->kind = kind;
    snprintf(c->reply, sizeof c->reply, "%s", reply);
    n = strlen(c->reply);
    while (n > 0 && (c->reply[n - 1] == '\n' || c->reply[n - 1] == '\r'))
        c->reply[--n] = 0;
}

static void
answer_sent_before(struct relay *r, struct rcpt *c)
{
    const struct digest *digest = message_digest(r->message);
    enum ledger_seen seen;
    struct log_line l;
    char number[20];

    if (ledger_seen(r->env->ledger, c->tag.ticket.number, c->canonical, digest,
                    &seen) != LEDGER_OK)
        relay_end_rcpt(r, c, OUTCOME_DEFERRED,
                       "451 4.3.0 Delivery ledger is not available");
    else if (seen == SEEN_SENT)
        relay_end_rcpt(r, c, OUTCOME_SENT, "250 2.0.0 Already sent");
    else
        relay_end_rcpt(r, c, OUTCOME_DEFERRED,
                       "451 4.3.5 This ticket has sent another message");
    l = log_line(c->kind == OUTCOME_SENT ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    log_kv(&l, "queue", r->queue_id);
    snprintf(number, sizeof number, "%016" PRIx64, c->tag.ticket.number);
    log_kv(&l, "ticket", number);
    log_kv(&l, "from", r->sender[0] != 0 ? r->sender : "<>");
    log_kv(&l, "to", c->canonical);
    log_kv(&l, "outcome", c->kind == OUTCOME_SENT ? "already-sent" : "reused");
    log_kv(&l, "reply", c->reply);
    log_end(&l);
}

/* Sendmail has no XFORWARD: its queue id stands in the top Received field. */
static void
find_queue_id(struct relay *r)
{
    struct slice id = message_queue_id(r->message);
    char *copy;

    if (r->queue_id[0] != 0 || id.len == 0)
        return;
    copy = strndup(id.at, id.len);
    if (copy == NULL)
        return; /* the message goes on without it */
    free(r->queue_id);
    r->queue_id = copy;
}

static void
finish_group(struct relay *r, struct group *g, uint64_t deadline_ms)
{
    if (r->failed) {
        for (size_t k = 0; k < g->n; k++)
            relay_end_rcpt(r, g->rcpt[k], OUTCOME_DEFERRED,
                           "451 4.3.0 Content cannot be kept now");
    } else if (needs_session(g)) {
        /* Alone it has waited long enough. */
        if (g->session != NULL ||
            (r->n_groups > 1 && relay_find_session(r, g, deadline_ms)))
            relay_send_group(r, g);
        else
            relay_refuse_group(r, g);
    }
    relay_drop_session(r, g);
    if (!r->failed) /* else the book knows nothing of this attempt */
        count_waiting(r, g);
}

void
relay_finish(struct relay *r)
{
    if (!r->failed && !message_end(r->message, r->failure, sizeof r->failure))
        r->failed = true;
    if (!r->failed)
        find_queue_id(r);
    if (r->failed)
        log_error("queue=%s content cannot be kept: %s", r->queue_id,
                  r->failure);
    for (size_t i = 0; i < r->n && !r->failed; i++)
        if (r->rcpt[i]->sent_before)
            answer_sent_before(r, r->rcpt[i]);
    for (size_t i = 0; i < r->n_groups; i++)
        r->group[i].late = r->group[i].session == NULL;
    for_groups(r, finish_group,
               clock_boot_ms(r->env->clock) + RELAY_EXCHANGE_MS);
}

size_t
relay_recipients(const struct relay *r)
{
    return r->n;
}

const char *
relay_reply(const struct relay *r, size_t i)
{
    return r->rcpt[i]->reply;
}
