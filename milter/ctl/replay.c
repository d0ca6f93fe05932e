/* milter/ctl/replay.c - gmroutectl replay: what the policy would have done
 * with the mail of a log.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/maillog.h"
#include "milter/ctl/replay.h"
#include "milter/ctl/untag.h"
#include "policy/scalar.h"

static const char synopsis[] =
    "MAILLOG|LEDGER|- [--since RFC3339] [--until RFC3339]\n"
    "           [--year N]";

enum { LINE_MAX_OCTETS = 64 * 1024 };

/* A log that is being read. */
struct reading {
    struct replay *r;
    struct maillog log;
    int64_t now_s, quarter; /* the quarter of an hour that offset_s is of */
    int64_t offset_s;
    bool has_offset;
};

/* ---- times ---- */

/* The offset of local time, asked for once in a quarter of an hour. */
static int64_t
unix_time(struct reading *in, const struct maillog_event *e)
{
    int64_t quarter = e->at_s / 900;
    time_t t = (time_t)e->at_s;
    struct tm tm;

    if (e->has_zone)
        return e->at_s;
    if ((!in->has_offset || quarter != in->quarter) &&
        gmtime_r(&t, &tm) != NULL) {
        tm.tm_isdst = -1;
        in->offset_s = (int64_t)mktime(&tm) - e->at_s;
        in->quarter = quarter;
        in->has_offset = true;
    }
    return e->at_s + in->offset_s;
}

/* A log without a year is of this one, unless it would be of the future. */
static bool
read_line(struct reading *in, struct slice line, struct maillog_event *ret)
{
    bool first = in->log.month == 0;

    if (!maillog_line(&in->log, line, ret))
        return false;
    if (first && in->log.month != 0 && in->r->year == 0 &&
        unix_time(in, ret) > in->now_s + 86400) {
        in->log = (struct maillog){.year = in->log.year - 1};
        return maillog_line(&in->log, line, ret);
    }
    return true;
}

/* ---- events ---- */

static bool
set_text(struct replay *r, struct open_message *m, char **field,
         struct slice text)
{
    if (!open_message_text(r->open, m, field, text))
        r->nomem = true;
    return !r->nomem;
}

static void
set_client(struct replay *r, struct open_message *m,
           const struct maillog_event *e)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN] = "";

    if (e->client_address.len < sizeof text)
        memcpy(text, e->client_address.at, e->client_address.len);
    m->client.known = true;
    if (inet_pton(AF_INET, text, m->client.address + 12) == 1)
        memcpy(m->client.address, mapped, sizeof mapped);
    else
        m->client.known = inet_pton(AF_INET6, text, m->client.address) == 1;
    if (!slice_eq(e->client_name, SLICE_LIT("unknown")))
        set_text(r, m, &m->client_name, e->client_name);
    if (e->auth.len > 0)
        set_text(r, m, &m->auth, e->auth);
    m->again = e->passed_on;
}

/* A queue id that is used again is another message. */
static void
begin(struct replay *r, const struct maillog_event *e, int64_t at_s)
{
    struct open_message *m = open_messages_find(r->open, e->queue_id);

    if (m != NULL)
        replay_end(r, m);
    m = replay_open(r, e->queue_id, at_s);
    if (m == NULL)
        return;
    m->began = true;
    m->local = e->kind == MAILLOG_LOCAL;
    if (e->kind == MAILLOG_CLIENT)
        set_client(r, m, e);
}

/* The recipient as the milter saw it, and by what it went. */
static void
deliver(struct replay *r, struct open_message *m, const struct maillog_event *e)
{
    struct slice original = e->original.len > 0 ? e->original : e->recipient;
    const char *went = REPLAY_MTA;
    struct untagged u;
    struct mailbox by;

    if (untag(e->recipient, r->policy->milter.tag_domain, &u)) {
        original = slice_of(u.recipient);
        went = strcmp(u.label, "x") == 0 ? action_name(ACTION_REJECT)
               : ticket_mailbox(r->policy, slice_of(u.label), &by)
                   ? by.account->name
                   : REPLAY_GONE;
    }
    if (!open_message_recipient(r->open, m, original, went))
        r->n_untold++;
    if (m->queued && m->n >= m->n_recipients)
        replay_settle(r, m);
}

static void
take_event(struct reading *in, const struct maillog_event *e)
{
    struct replay *r = in->r;
    int64_t at_s = unix_time(in, e);
    struct open_message *m;

    if (e->kind == MAILLOG_OTHER)
        return;
    if (e->kind == MAILLOG_CLIENT || e->kind == MAILLOG_LOCAL) {
        begin(r, e, at_s);
        return;
    }
    m = e->kind == MAILLOG_REMOVED ? open_messages_find(r->open, e->queue_id)
                                   : replay_open(r, e->queue_id, at_s);
    if (m == NULL)
        return;
    if (e->kind == MAILLOG_MESSAGE_ID) {
        set_text(r, m, &m->message_id, e->message_id);
    } else if (e->kind == MAILLOG_QUEUED && !m->queued) {
        m->queued = set_text(r, m, &m->sender, e->sender);
        m->size_octets = e->size_octets;
        m->n_recipients = e->n_recipients;
    } else if (e->kind == MAILLOG_DELIVERY) {
        deliver(r, m, e);
    } else if (e->kind == MAILLOG_REMOVED) {
        replay_end(r, m);
    }
}

/* ---- lines ---- */

/* One line of at most LINE_MAX_OCTETS into room; what is longer is passed
 * over.  False at the end. */
static bool
next_line(FILE *f, char *room, struct slice *ret, bool *ret_long)
{
    size_t n = 0;
    int c;

    *ret_long = false;
    while ((c = getc_unlocked(f)) != EOF && c != '\n') {
        if (n < LINE_MAX_OCTETS)
            room[n++] = (char)c;
        else
            *ret_long = true;
    }
    *ret = (struct slice){room, n};
    return c != EOF || n > 0;
}

static bool
read_log(struct replay *r, FILE *f)
{
    time_t now = time(NULL);
    struct reading in = {.r = r, .now_s = (int64_t)now};
    char *room = malloc(LINE_MAX_OCTETS);
    struct maillog_event e;
    struct slice line;
    struct tm tm;
    bool is_long;

    if (room == NULL || localtime_r(&now, &tm) == NULL) {
        free(room);
        return false;
    }
    in.log.year = r->year != 0 ? r->year : tm.tm_year + 1900;
    while (!r->nomem && next_line(f, room, &line, &is_long)) {
        r->n_lines++;
        if (is_long)
            r->n_long++;
        else if (read_line(&in, slice_trim(line), &e))
            take_event(&in, &e);
        else
            r->n_unread++;
    }
    free(room);
    return !r->nomem;
}

/* ---- the command ---- */

static bool
read_source(struct replay *r, char *err, size_t err_size)
{
    FILE *f = stdin;
    bool ok;

    if (strcmp(r->path, "-") != 0) {
        if (replay_is_ledger(r->path))
            return replay_ledger(r, err, err_size);
        f = fopen(r->path, "rb");
    }
    if (f == NULL) {
        snprintf(err, err_size, "%s: %s", r->path, strerror(errno));
        return false;
    }
    snprintf(err, err_size, "out of memory");
    ok = read_log(r, f);
    if (ok && ferror(f)) {
        snprintf(err, err_size, "%s: %s", r->path, strerror(errno));
        ok = false;
    }
    if (f != stdin)
        fclose(f);
    return ok;
}

/* What is still in the queue when the log ends. */
static void
settle_rest(struct replay *r)
{
    struct open_message *m;

    while (!r->nomem && (m = open_messages_oldest(r->open)) != NULL)
        replay_end(r, m);
}

static int
tell(struct replay *r, bool as_json)
{
    json_t *j = as_json ? replay_json(r) : NULL;

    if (as_json ? j == NULL : !replay_text(r)) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    if (j != NULL)
        ctl_print_json(j);
    return r->n_messages > 0 ? CTL_GOOD : CTL_NO;
}

static int
run(struct replay *r, const struct ctl *c)
{
    char err[600];

    r->policy = ctl_load(c, false);
    r->scratch = scratch_new();
    r->open = open_messages_new();
    r->sim = quota_sim_new();
    r->rules = tally_new();
    r->unknown = tally_new();
    r->accounts = tally_new();
    r->changes = tally_new();
    if (r->policy == NULL)
        return CTL_USAGE;
    if (r->scratch == NULL || r->open == NULL || r->sim == NULL ||
        r->rules == NULL || r->unknown == NULL || r->accounts == NULL ||
        r->changes == NULL) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    if (!read_source(r, err, sizeof err)) {
        fprintf(stderr, "gmroutectl: %s\n", err);
        return CTL_USAGE;
    }
    settle_rest(r);
    if (r->nomem) {
        fputs("gmroutectl: out of memory\n", stderr);
        return CTL_USAGE;
    }
    return tell(r, c->json);
}

static const char *
take_options(struct replay *r, int argc, char **argv)
{
    static const struct option options[] = {
        {"since", required_argument, NULL, 's'},
        {"until", required_argument, NULL, 'u'},
        {"year", required_argument, NULL, 'y'},
        {0},
    };
    uint64_t year;
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 's':
            if (scalar_time(slice_of(optarg), &r->since_s) != SCALAR_OK)
                return "--since: want a time such as 2026-03-01T10:00:00Z";
            break;
        case 'u':
            if (scalar_time(slice_of(optarg), &r->until_s) != SCALAR_OK)
                return "--until: want a time such as 2026-03-01T10:00:00Z";
            break;
        case 'y':
            if (scalar_number(slice_of(optarg), &year) != SCALAR_OK ||
                year < 1970 || year > 9999)
                return "--year: want the year of the first line";
            r->year = (int)year;
            break;
        default:
            return "unknown option, or one without its value";
        }
    if (optind + 1 != argc)
        return "want one log";
    r->path = argv[optind];
    return NULL;
}

int
ctl_replay(struct ctl *c, int argc, char **argv)
{
    struct replay *r = calloc(1, sizeof *r);
    const char *bad;
    int status;

    if (r == NULL)
        return CTL_USAGE;
    r->since_s = INT64_MIN;
    r->until_s = INT64_MAX;
    bad = take_options(r, argc, argv);
    status = bad != NULL ? ctl_usage("replay", synopsis, "%s", bad) : run(r, c);
    open_messages_free(r->open);
    quota_sim_free(r->sim);
    tally_free(r->rules);
    tally_free(r->unknown);
    tally_free(r->accounts);
    tally_free(r->changes);
    scratch_free(r->scratch);
    policy_free(r->policy);
    free(r);
    return status;
}
