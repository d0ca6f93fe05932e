/* milter/ctl/status.c - gmroutectl status: what needs a person, and what
 * runs, on one screen.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter/ctl/look.h"
#include "milter/ctl/waiting.h"

enum {
    NEARLY_PERCENT = 90, /* of a limit, or of the memory's slots */
    SHOWN = 15,          /* problems in the text; JSON has all */
};

struct sums {
    size_t accounts, by_state[ACCOUNT_STATES], full;
    uint64_t sent, refused, deferred, in_doubt, waiting, coming, open;
    size_t tokens, by_token[TOKEN_STATES];
};

struct status {
    struct look look;
    struct look_daemon deliver, token;
    int milter; /* look_listens() */
    char milter_why[200];
    struct account_rows rows;
    enum state_result quota, tokens; /* why a memory cannot be read */
    struct sums sum;
    struct waiting waiting;
    struct query_loss loss;
    json_t *problems; /* [{"problem", "account", "text", "urgent"}] */
    bool urgent;
};

/* ---- what is wrong ---- */

static void __attribute__((format(printf, 5, 6)))
problem(struct status *s, bool urgent, const char *what, const char *account,
        const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->urgent = s->urgent || urgent;
    json_array_append_new(
        s->problems,
        json_pack("{s:s, s:s?, s:s, s:b}", "problem", what, "account", account,
                  "text", text, "urgent", (int)urgent));
}

static void
daemon_problem(struct status *s, const char *program,
               const struct look_daemon *d)
{
    char when[2 * FORMAT_MAX];

    if (d->up)
        return;
    if (d->result != STATE_OK) {
        problem(s, true, "down", NULL, "%s: its memory: %s", program,
                d->why[0] != '\0' ? d->why : state_result_text(d->result));
        return;
    }
    look_when(&s->look, d->info.heartbeat_s * 1000, when, sizeof when);
    problem(s, true, "down", NULL,
            "%s does not run: no sign of life since %s; see its log, then "
            "start it",
            program, when);
}

static void
find_daemon_problems(struct status *s)
{
    daemon_problem(s, "gmroute-deliver", &s->deliver);
    daemon_problem(s, "gmroute-token", &s->token);
    if (s->milter == 0)
        problem(s, true, "down", NULL,
                "gmroute-milter does not run: %s; the MTA's "
                "milter_default_action decides about mail",
                s->milter_why);
    if (s->deliver.result == STATE_OK && s->deliver.up &&
        s->deliver.info.stat[QUOTA_LEDGER_TROUBLE_S] != 0) {
        char when[2 * FORMAT_MAX];

        look_when(&s->look,
                  (int64_t)s->deliver.info.stat[QUOTA_LEDGER_TROUBLE_S] * 1000,
                  when, sizeof when);
        problem(s, true, "ledger", NULL,
                "the ledger in %s cannot be written, since %s: nothing is "
                "sent until it can; the agent's log says why",
                s->look.policy->state.directory, when);
    }
}

static void
find_memory_problems(struct status *s)
{
    const struct segment_info *i = &s->deliver.info;
    /* an eighth of the slots stays free (segment.h) */
    uint64_t room = (uint64_t)i->n_slots - i->n_slots / 8;
    uint64_t dropped = hints_stat(s->look.hints, HINTS_DROPPED);

    if (s->deliver.result == STATE_OK &&
        ctl_percent(i->slots_used, room) >= NEARLY_PERCENT)
        problem(s, false, "memory", NULL,
                "%u of %" PRIu64
                " slots for accounts are in use: raise state.accounts",
                i->slots_used, room);
    if (dropped > 0)
        problem(s, false, "memory", NULL,
                "%" PRIu64 " times there was no slot to count accepted mail: "
                "raise state.accounts",
                dropped);
    if (s->rows.partial)
        problem(s, true, "memory", NULL,
                "some accounts cannot be read: restart gmroute-deliver, which "
                "makes its memory anew from the ledger");
}

static void
account_problem(struct status *s, const struct account_row *r)
{
    char when[2 * FORMAT_MAX] = "", since[2 * FORMAT_MAX] = "";
    const char *waits = r->waiting_messages > 0 ? "; mail waits" : "";

    if (r->state != ACCOUNT_OK) {
        if (r->until_ms > 0)
            look_when(&s->look, r->until_ms, when, sizeof when);
        problem(s, true, account_state_name(r->state), r->identity,
                "%s is %s%s%s%s%s%s", r->identity, account_state_name(r->state),
                when[0] != '\0' ? ", ends " : "", when,
                r->reason[0] != '\0' ? ": " : "", r->reason, waits);
    } else if (r->is_full) {
        if (r->full_since_ms > 0)
            look_when(&s->look, r->full_since_ms, since, sizeof since);
        if (r->room_at_ms > 0)
            look_when(&s->look, r->room_at_ms, when, sizeof when);
        problem(s, true, "full", r->identity,
                "%s is full%s%s%s%s; %u messages wait", r->identity,
                since[0] != '\0' ? " since " : "", since,
                when[0] != '\0' ? "; room returns " : "", when,
                r->waiting_messages);
    } else if (r->has_window && r->percent >= NEARLY_PERCENT) {
        ctl_duration(r->window_ms, when, sizeof when);
        problem(s, false, "nearly_full", r->identity,
                "%s has used %u%% of its %s in %s", r->identity, r->percent,
                dimension_name(r->dimension), when);
    }
}

static void
token_problem(struct status *s, const struct token_status *t)
{
    bool person = t->state == TOKEN_NEEDS_LOGIN ||
                  t->state == TOKEN_CLIENT_BROKEN ||
                  t->state == TOKEN_NO_MAILBOX || t->state == TOKEN_CONFIG;

    if (person || t->state == TOKEN_RETRYING)
        problem(s, person, "token", t->identity, "%s: token %s%s%s",
                t->identity, token_state_name(t->state),
                t->error[0] != '\0' ? ": " : "", t->error);
}

/* Good to know while it may still count. */
static void
loss_problem(struct status *s)
{
    static const int64_t day_ms = 86400 * 1000;
    const struct query_loss *x = &s->loss;
    char when[2 * FORMAT_MAX];

    if (x->at_ms == 0 || s->look.now_ms - x->at_ms > day_ms)
        return;
    look_when(&s->look, x->at_ms, when, sizeof when);
    problem(s, false, "loss", NULL,
            "the machine went down while mail was sent: %" PRIu64
            " accounts were charged for %" PRIu64 " messages, %" PRIu64
            " recipients and %" PRIu64
            " octets that may have been in flight, %s",
            x->accounts, x->messages, x->recipients, x->octets, when);
}

/* ---- gathering ---- */

static bool
each_token(void *cookie, const struct token_status *t)
{
    struct status *s = cookie;

    s->sum.tokens++;
    if (t->state < TOKEN_STATES)
        s->sum.by_token[t->state]++;
    token_problem(s, t);
    return true;
}

static void
add_account(struct status *s, const struct account_row *r)
{
    struct sums *sum = &s->sum;

    sum->accounts++;
    if (r->state < ACCOUNT_STATES)
        sum->by_state[r->state]++;
    sum->full += r->is_full;
    sum->sent += r->sent;
    sum->refused += r->refused;
    sum->deferred += r->deferred;
    sum->in_doubt += r->in_doubt;
    sum->waiting += r->waiting_messages;
    sum->coming += r->coming_messages;
    sum->open += r->sessions_open;
    account_problem(s, r);
}

static void
gather(struct status *s)
{
    look_daemon(&s->look, SEGMENT_QUOTA, &s->deliver);
    look_daemon(&s->look, SEGMENT_STATUS, &s->token);
    s->milter = look_listens(s->look.policy->milter.listen, NULL, s->milter_why,
                             sizeof s->milter_why);
    s->quota = look_accounts(&s->look, &s->rows);
    find_daemon_problems(s);
    for (size_t i = 0; i < s->rows.n; i++)
        add_account(s, &s->rows.row[i]);
    s->tokens = status_each(s->look.status, each_token, s);
    if (s->tokens != STATE_OK && s->token.result == STATE_OK)
        problem(s, true, "memory", NULL,
                "token status: %s; restart "
                "gmroute-token, which makes it anew",
                state_result_text(s->tokens));
    find_memory_problems(s);
    waiting_loss(&s->look, &s->loss);
    loss_problem(s);
    if (s->sum.waiting > 0)
        waiting_oldest(&s->look, 0, &s->waiting);
}

/* ---- JSON ---- */

static json_t *
json_states(const size_t *by_state, size_t n, const char *(*name)(unsigned))
{
    json_t *j = json_object();

    for (unsigned i = 0; i < n; i++)
        json_object_set_new(j, name(i), json_integer((json_int_t)by_state[i]));
    return j;
}

static const char *
account_name(unsigned i)
{
    return account_state_name((enum account_state)i);
}

static const char *
token_name(unsigned i)
{
    return token_state_name((enum token_state)i);
}

static void
json_daemon(json_t *j, const struct look_daemon *d)
{
    bool ok = d->result == STATE_OK;

    json_object_set_new(j, "up", json_boolean(d->up));
    json_object_set_new(j, "pid",
                        ok ? json_integer(d->info.maker_pid) : json_null());
    json_object_set_new(j, "started",
                        ctl_json_time(ok ? d->info.made_at_s : 0));
    json_object_set_new(j, "heartbeat",
                        ctl_json_time(ok ? d->info.heartbeat_s : 0));
}

static json_t *
json_loss(const struct status *s)
{
    const struct query_loss *x = &s->loss;
    json_t *j;

    if (x->at_ms == 0)
        return json_null();
    j = json_pack("{s:I, s:I, s:I, s:I}", "accounts", (json_int_t)x->accounts,
                  "messages", (json_int_t)x->messages, "recipients",
                  (json_int_t)x->recipients, "octets", (json_int_t)x->octets);
    look_json_time(&s->look, j, "at", x->at_ms);
    return j;
}

static json_t *
json_deliver(const struct status *s)
{
    const struct sums *sum = &s->sum;
    json_t *j = json_pack(
        "{s:s, s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I}", "memory",
        state_result_text(s->quota), "accounts", (int)sum->accounts, "states",
        json_states(sum->by_state, ACCOUNT_STATES, account_name), "sent",
        (json_int_t)sum->sent, "refused", (json_int_t)sum->refused, "deferred",
        (json_int_t)sum->deferred, "in_doubt", (json_int_t)sum->in_doubt,
        "waiting_messages", (json_int_t)sum->waiting, "sessions",
        (json_int_t)sum->open, "full", (int)sum->full, "coming_messages",
        (json_int_t)sum->coming);

    json_daemon(j, &s->deliver);
    look_json_time(&s->look, j, "waiting_since", s->waiting.oldest_ms);
    json_object_set_new(j, "loss", json_loss(s));
    return j;
}

static json_t *
json_milter(const struct status *s)
{
    static const struct {
        const char *key;
        enum hints_stat stat;
    } stats[] = {
        {"messages", HINTS_MESSAGES}, {"routed", HINTS_ROUTED},
        {"rejected", HINTS_REJECTED}, {"deferred", HINTS_DEFERRED},
        {"forged", HINTS_FORGED},     {"failed", HINTS_FAILED},
    };
    json_t *j = json_object();

    json_object_set_new(
        j, "up", s->milter < 0 ? json_null() : json_boolean(s->milter > 0));
    if (s->look.hints != NULL)
        for (size_t i = 0; i < sizeof stats / sizeof *stats; i++)
            json_object_set_new(j, stats[i].key,
                                json_integer((json_int_t)hints_stat(
                                    s->look.hints, stats[i].stat)));
    return j;
}

static json_t *
json_status(const struct status *s)
{
    json_t *token =
        json_pack("{s:s, s:i, s:o}", "memory", state_result_text(s->tokens),
                  "accounts", (int)s->sum.tokens, "states",
                  json_states(s->sum.by_token, TOKEN_STATES, token_name));

    json_daemon(token, &s->token);
    return json_pack("{s:b, s:O, s:o, s:o, s:o}", "good", (int)!s->urgent,
                     "problems", s->problems, "deliver", json_deliver(s),
                     "token", token, "milter", json_milter(s));
}

/* ---- text ---- */

static void
print_states(const char *what, size_t total, const size_t *by_state, size_t n,
             const char *(*name)(unsigned))
{
    printf("%-9s %zu", what, total);
    for (unsigned i = 0; i < n; i++)
        if (by_state[i] > 0)
            printf(", %zu %s", by_state[i], name(i));
}

static void
print_problems(const struct status *s)
{
    size_t n = json_array_size(s->problems), shown = 0;

    /* What needs a person stands before what is only good to know. */
    for (int urgent = 1; urgent >= 0; urgent--)
        for (size_t i = 0; i < n && shown < SHOWN; i++) {
            json_t *p = json_array_get(s->problems, i);

            if (json_is_true(json_object_get(p, "urgent")) != (urgent == 1))
                continue;
            printf("%s %s\n", urgent == 1 ? "!" : "-",
                   json_string_value(json_object_get(p, "text")));
            shown++;
        }
    if (n > shown)
        printf("  ... and %zu more: gmroutectl accounts, gmroutectl tokens\n",
               n - shown);
    if (n > 0)
        putchar('\n');
}

static void
print_daemon(const struct status *s, const char *name,
             const struct look_daemon *d)
{
    char when[2 * FORMAT_MAX];

    printf("%-9s ", name);
    if (d->up) {
        look_when(&s->look, d->info.made_at_s * 1000, when, sizeof when);
        printf("up, process %u, since %s\n", d->info.maker_pid, when);
    } else {
        puts("down");
    }
}

static void
print_deliveries(const struct status *s)
{
    const struct sums *sum = &s->sum;
    char when[2 * FORMAT_MAX];

    print_states("accounts", sum->accounts, sum->by_state, ACCOUNT_STATES,
                 account_name);
    printf("; %zu full\n", sum->full);
    printf("sent      %" PRIu64 " sent, %" PRIu64 " refused, %" PRIu64
           " deferred, %" PRIu64 " in doubt since the agent started; %" PRIu64
           " sessions open\n",
           sum->sent, sum->refused, sum->deferred, sum->in_doubt, sum->open);
    printf("waiting   %" PRIu64 " messages tried and put off", sum->waiting);
    if (s->waiting.oldest_ms > 0) {
        look_when(&s->look, s->waiting.oldest_ms, when, sizeof when);
        printf(", the oldest first tried %s", when);
    }
    printf("; %" PRIu64 " accepted and not yet tried\n", sum->coming);
}

static void
print_status(const struct status *s)
{
    const struct hints *h = s->look.hints;

    print_problems(s);
    print_daemon(s, "deliver", &s->deliver);
    print_daemon(s, "token", &s->token);
    printf("milter    %s\n", s->milter > 0    ? "up"
                             : s->milter == 0 ? "down"
                                              : s->milter_why);
    if (s->quota == STATE_OK)
        print_deliveries(s);
    if (s->tokens == STATE_OK) {
        print_states("tokens", s->sum.tokens, s->sum.by_token, TOKEN_STATES,
                     token_name);
        putchar('\n');
    }
    if (h != NULL)
        printf("filter    %" PRIu64 " messages; recipients: %" PRIu64
               " routed, %" PRIu64 " rejected, %" PRIu64 " deferred; %" PRIu64
               " forged tags refused\n",
               hints_stat(h, HINTS_MESSAGES), hints_stat(h, HINTS_ROUTED),
               hints_stat(h, HINTS_REJECTED), hints_stat(h, HINTS_DEFERRED),
               hints_stat(h, HINTS_FORGED));
}

int
ctl_status(struct ctl *c, int argc, char **argv)
{
    struct status *s;
    int status = CTL_USAGE;

    if (argc > 1)
        return ctl_usage("status", "[--json]", "unknown word %s", argv[1]);
    s = calloc(1, sizeof *s);
    if (s == NULL) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    s->problems = json_array();
    if (look_open(&s->look, c)) {
        gather(s);
        if (c->json)
            ctl_print_json(json_status(s));
        else
            print_status(s);
        status = s->urgent ? CTL_NO : CTL_GOOD;
    }
    json_decref(s->problems);
    look_accounts_free(&s->rows);
    look_close(&s->look);
    free(s);
    return status;
}
