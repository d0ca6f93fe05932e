/* milter/ctl/explain.c - gmroutectl explain: a message and an envelope
 * through policy, quota and token state, without changing anything.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/ctl.h"
#include "milter/ctl/message_file.h"
#include "milter/state/admit.h"
#include "policy/decide.h"
#include "policy/ticket.h"
#include "policy/window.h"

static const char synopsis[] =
    "[MESSAGE|-] --recipient B ... [--sender A] [--client ADDR]\n"
    "           [--client-name HOST] [--helo HOST] [--auth LOGIN] [--local]\n"
    "           [--macro k=v ...] [--now RFC3339] [--tls] [--size OCTETS]";

enum { WORDS_MAX = 1000 };

struct explain {
    const char *message;
    size_t n_recipients, n_macros;
    struct slice recipient[WORDS_MAX];
    struct facts_pair macro[WORDS_MAX];
    struct facts facts;
    struct message_file file;
    struct policy *policy;
    struct scratch *scratch;
    struct admit_env env;
    bool has_size, failed;
};

/* What is told of one recipient. */
struct told {
    struct slice recipient;
    struct decision decision;
    struct admission admission;
    struct trace trace;
    enum action action; /* after admission */
    const char *reply;
    char account[MAILBOX_MAX + 1];
};

static struct slice
unbracket(const char *text)
{
    struct slice s = slice_of(text);

    if (s.len >= 2 && s.at[0] == '<' && s.at[s.len - 1] == '>')
        return (struct slice){s.at + 1, s.len - 2};
    return s;
}

static bool
parse_client(const char *text, struct facts_client *ret)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    ret->known = true;
    if (inet_pton(AF_INET, text, ret->address + 12) == 1) {
        memcpy(ret->address, mapped, sizeof mapped);
        return true;
    }
    return inet_pton(AF_INET6, text, ret->address) == 1;
}

/* RFC 3339: "2026-03-01T10:00:00Z", "...+01:00". */
static bool
parse_now(const char *text, int64_t *ret)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int hours, minutes;
    char sign;

    if (rest == NULL)
        return false;
    *ret = (int64_t)timegm(&tm);
    if (strcmp(rest, "Z") == 0 || strcmp(rest, "z") == 0)
        return true;
    if (sscanf(rest, "%c%2d:%2d", &sign, &hours, &minutes) != 3 ||
        (sign != '+' && sign != '-'))
        return false;
    *ret += (sign == '-' ? 1 : -1) * (hours * 3600 + minutes * 60);
    return true;
}

static bool
parse_macro(struct explain *x, char *text)
{
    char *value = strchr(text, '=');
    struct slice name;

    if (value == NULL || x->n_macros == WORDS_MAX)
        return false;
    name = (struct slice){text, (size_t)(value - text)};
    if (name.len >= 2 && name.at[0] == '{' && name.at[name.len - 1] == '}')
        name = (struct slice){name.at + 1, name.len - 2};
    x->macro[x->n_macros++] = (struct facts_pair){name, slice_of(value + 1)};
    return true;
}

static const char *
take_option(struct explain *x, int option, char *value)
{
    char *end;

    switch (option) {
    case 's':
        x->facts.sender = unbracket(value);
        return NULL;
    case 'r':
        if (x->n_recipients == WORDS_MAX)
            return "too many recipients";
        x->recipient[x->n_recipients++] = unbracket(value);
        return NULL;
    case 'a':
        return parse_client(value, &x->facts.client)
                   ? NULL
                   : "--client: want an IPv4 or IPv6 address";
    case 'n':
        x->facts.client.name = slice_of(value);
        return NULL;
    case 'h':
        x->facts.helo = slice_of(value);
        return NULL;
    case 'l':
        x->facts.auth = slice_of(value);
        return NULL;
    case 'm':
        return parse_macro(x, value) ? NULL : "--macro: want name=value";
    case 't':
        return parse_now(value, &x->facts.now_s)
                   ? NULL
                   : "--now: want a time such as 2026-03-01T10:00:00Z";
    case 'T':
        x->facts.tls = true;
        return NULL;
    case 'L':
        x->facts.local = true;
        return NULL;
    case 'z':
        x->facts.size_octets = strtoull(value, &end, 10);
        x->has_size = true;
        return *end == 0 ? NULL : "--size: want a number of octets";
    default:
        return "unknown option";
    }
}

static const char *
take_options(struct explain *x, int argc, char **argv)
{
    static const struct option options[] = {
        {"sender", required_argument, NULL, 's'},
        {"recipient", required_argument, NULL, 'r'},
        {"client", required_argument, NULL, 'a'},
        {"client-name", required_argument, NULL, 'n'},
        {"helo", required_argument, NULL, 'h'},
        {"auth", required_argument, NULL, 'l'},
        {"macro", required_argument, NULL, 'm'},
        {"now", required_argument, NULL, 't'},
        {"size", required_argument, NULL, 'z'},
        {"tls", no_argument, NULL, 'T'},
        {"local", no_argument, NULL, 'L'},
        {0},
    };
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char *bad = take_option(x, option, optarg);

        if (bad != NULL)
            return bad;
    }
    if (optind < argc)
        x->message = argv[optind++];
    if (optind < argc)
        return "more than one message";
    return x->n_recipients > 0 ? NULL : "no --recipient";
}

/* ---- one recipient ---- */

static void
admit_one(struct explain *x, struct told *t)
{
    struct cost cost = {.messages = 1,
                        .recipients = 1,
                        .external_recipients = 1,
                        .bytes = x->facts.size_octets};

    t->action = t->decision.action;
    t->reply = t->decision.reply;
    if (t->action != ACTION_ACCOUNT)
        return;
    admit(&x->env, &t->decision, &cost, &t->admission);
    t->action = t->admission.action;
    t->reply = t->admission.reply;
    if (t->action == ACTION_ACCOUNT)
        strcpy(t->account, t->admission.mailbox.address);
}

static json_t *
json_place(struct loc at)
{
    char text[400];

    if (at.line == 0)
        return json_null();
    snprintf(text, sizeof text, "%s:%u:%u", at.file, at.line, at.col);
    return json_string(text);
}

static json_t *
json_or_null(const char *text)
{
    return text != NULL && text[0] != 0 ? json_string(text) : json_null();
}

static json_t *
json_room(const struct explain *x, const struct mailbox *m)
{
    struct quota_view v;
    json_t *list;

    if (quota_peek(x->env.quota, m->id, &v) != STATE_OK)
        return json_null();
    list = json_array();
    for (unsigned i = 0; i < v.n; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I}", "dimension",
                            dimension_name(v.window[i].dimension), "used",
                            (json_int_t)v.window[i].used, "limit",
                            (json_int_t)v.window[i].limit, "window_s",
                            (json_int_t)(v.window[i].window_ms / 1000)));
    return list;
}

static const char *
token_text(const struct explain *x, const struct mailbox *m)
{
    struct token_status s;

    if (m->account->auth != AUTH_REFRESH_TOKEN &&
        m->account->auth != AUTH_SERVICE_ACCOUNT)
        return "not needed";
    if (status_peek(x->env.status, m->id, &s) != STATE_OK)
        return "unknown";
    return token_state_name(s.state);
}

static json_t *
json_told(const struct explain *x, const struct told *t)
{
    json_t *why = json_array(), *j;

    for (size_t i = 0; i < t->trace.n; i++)
        if (t->trace.why[i].failed[0] != 0)
            json_array_append_new(
                why, json_pack("{s:s, s:o, s:s}", "rule", t->trace.why[i].rule,
                               "at", json_place(t->trace.why[i].at), "failed",
                               t->trace.why[i].failed));
    j = json_pack(
        "{s:s%, s:s, s:o, s:o, s:o, s:o}", "recipient", t->recipient.at,
        t->recipient.len, "action", action_name(t->action), "rule",
        json_or_null(t->decision.rule), "at", json_place(t->decision.at),
        "account", json_or_null(t->account), "why", why);
    if (t->reply != NULL)
        json_object_set_new(j, "reply", json_string(t->reply));
    if (t->action == ACTION_ACCOUNT) {
        const struct mailbox *m = &t->admission.mailbox;

        json_object_set_new(
            j, "wait_s",
            t->admission.wait_ms == WINDOW_NEVER
                ? json_null()
                : json_integer((json_int_t)(t->admission.wait_ms / 1000)));
        json_object_set_new(j, "room", json_room(x, m));
        json_object_set_new(j, "token", json_string(token_text(x, m)));
        json_object_set_new(j, "passed_by", json_or_null(t->admission.why));
    }
    return j;
}

/* What the milter would change, without the ticket that only it can sign. */
static json_t *
json_edit(const struct told *t)
{
    char label[LABEL_MAX + 1], queue[8];
    const struct mailbox *m = &t->admission.mailbox;

    if (t->action != ACTION_ACCOUNT ||
        ticket_account_label(m, label) != TICKET_OK)
        return NULL;
    snprintf(queue, sizeof queue, "q%02u", ticket_queue(m->id));
    return json_pack("{s:s, s:s%, s:s, s:s}", "edit", "tag", "recipient",
                     t->recipient.at, t->recipient.len, "account_label", label,
                     "queue", queue);
}

static void
print_room(const struct explain *x, const struct mailbox *m)
{
    struct quota_view v;

    if (quota_peek(x->env.quota, m->id, &v) != STATE_OK) {
        puts("  room      unknown: no quota memory of this account");
        return;
    }
    printf("  room      %s", account_state_name(v.state));
    for (unsigned i = 0; i < v.n; i++)
        printf("%s %s %" PRIu64 " of %" PRIu64, i == 0 ? ":" : ",",
               dimension_name(v.window[i].dimension), v.window[i].used,
               v.window[i].limit);
    putchar('\n');
}

static void
print_told(const struct explain *x, const struct told *t)
{
    char wait[40];

    printf("%.*s\n", SLICE_FMT(t->recipient));
    if (t->decision.rule != NULL)
        printf("  rule      \"%s\" at %s:%u:%u\n", t->decision.rule,
               t->decision.at.file, t->decision.at.line, t->decision.at.col);
    else
        puts("  rule      none matches: the default");
    printf("  action    %s", action_name(t->action));
    if (t->action == ACTION_ACCOUNT)
        printf(" %s", t->account);
    else if (t->reply != NULL)
        printf(": %s", t->reply);
    putchar('\n');
    if (t->action == ACTION_ACCOUNT) {
        const struct mailbox *m = &t->admission.mailbox;

        if (t->admission.wait_ms == WINDOW_NEVER) {
            puts("  wait      until somebody acts: see below");
        } else if (t->admission.wait_ms > 0) {
            ctl_duration(t->admission.wait_ms, wait, sizeof wait);
            printf("  wait      %s in the MTA's queue\n", wait);
        }
        print_room(x, m);
        printf("  token     %s\n", token_text(x, m));
    }
    if (t->admission.why[0] != 0)
        printf("  passed by %s\n", t->admission.why);
    for (size_t i = 0; i < t->trace.n; i++)
        if (t->trace.why[i].failed[0] != 0)
            printf("  not       \"%s\" (%s:%u): %s\n", t->trace.why[i].rule,
                   t->trace.why[i].at.file, t->trace.why[i].at.line,
                   t->trace.why[i].failed);
}

static bool
explain_one(struct explain *x, struct slice recipient, json_t *list,
            json_t *edits)
{
    struct told *t = calloc(1, sizeof *t);
    json_t *edit;
    bool ok = false;

    if (t == NULL)
        return false;
    t->recipient = recipient;
    t->trace.max = x->policy->n_rules + 1;
    t->trace.why = calloc(t->trace.max, sizeof *t->trace.why);
    if (t->trace.why == NULL ||
        decide(x->policy, &x->facts, recipient, x->scratch, &t->decision,
               &t->trace) != DECIDE_OK)
        goto done;
    admit_one(x, t);
    if (t->action == ACTION_REJECT || t->action == ACTION_DEFER)
        x->failed = true;
    if (list != NULL) {
        json_array_append_new(list, json_told(x, t));
        edit = json_edit(t);
        if (edit != NULL)
            json_array_append_new(edits, edit);
    } else {
        print_told(x, t);
    }
    ok = true;
done:
    free(t->trace.why);
    free(t);
    return ok;
}

static bool
open_state(struct explain *x)
{
    const char *runtime = x->policy->state.runtime;
    char err[200];

    x->env.clock = &clock_real;
    x->env.quota = quota_reader_new(runtime, &clock_real);
    x->env.status = status_reader_new(runtime, false);
    if (hints_open_reader(&x->env.hints, runtime, err, sizeof err) != STATE_OK)
        x->env.hints = NULL;
    return x->env.quota != NULL && x->env.status != NULL;
}

static void
close_state(struct explain *x)
{
    quota_reader_free(x->env.quota);
    status_reader_free(x->env.status);
    hints_free(x->env.hints);
}

static int
explain_all(struct explain *x, bool json)
{
    json_t *list = json ? json_array() : NULL;
    json_t *edits = json ? json_array() : NULL;

    x->facts.n_recipients = x->n_recipients;
    for (size_t i = 0; i < x->n_recipients; i++)
        if (!explain_one(x, x->recipient[i], list, edits)) {
            fputs("gmroutectl: out of memory\n", stderr);
            json_decref(list);
            json_decref(edits);
            return CTL_USAGE;
        }
    if (json)
        ctl_print_json(
            json_pack("{s:o, s:o}", "recipients", list, "edits", edits));
    return x->failed ? CTL_NO : CTL_GOOD;
}

int
ctl_explain(struct ctl *c, int argc, char **argv)
{
    struct explain *x = calloc(1, sizeof *x);
    const char *bad;
    char err[300];
    int status = CTL_USAGE;

    if (x == NULL)
        return CTL_USAGE;
    x->facts.stage = FACTS_EOM;
    x->facts.now_s = (int64_t)time(NULL);
    bad = take_options(x, argc, argv);
    if (bad != NULL) {
        status = ctl_usage("explain", synopsis, "%s", bad);
        goto done;
    }
    if (x->message != NULL &&
        !message_file_read(x->message, &x->file, err, sizeof err)) {
        fprintf(stderr, "gmroutectl: %s\n", err);
        goto done;
    }
    x->facts.n_headers = x->file.n_headers;
    x->facts.header = x->file.header;
    x->facts.n_macros = x->n_macros;
    x->facts.macro = x->macro;
    if (!x->has_size)
        x->facts.size_octets = x->file.size_octets;
    x->policy = ctl_load(c, false);
    x->scratch = scratch_new();
    if (x->policy != NULL && x->scratch != NULL && open_state(x))
        status = explain_all(x, c->json);
done:
    close_state(x);
    scratch_free(x->scratch);
    policy_free(x->policy);
    message_file_free(&x->file);
    free(x);
    return status;
}
