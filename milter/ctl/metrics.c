/* milter/ctl/metrics.c - gmroutectl metrics: Prometheus' text format, from
 * shared memory alone.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Source: Prometheus, "Exposition formats", text format 0.0.4: all samples of
 * a metric stand together, so that each metric is gathered in a text of its
 * own while the accounts are read once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter/ctl/look.h"

enum kind { GAUGE, COUNTER, HISTOGRAM };

static const char *const kind_name[] = {"gauge", "counter", "histogram"};

enum family {
    QUOTA_USED, /* and one for each further dimension */
    QUOTA_LIMIT = QUOTA_USED + DIM_COUNT,
    FULL_SINCE = QUOTA_LIMIT + DIM_COUNT,
    STATE,
    STATE_UNTIL,
    WAITING_MESSAGES,
    WAITING_RECIPIENTS,
    COMING_MESSAGES,
    SESSIONS_OPEN,
    SESSIONS_BUSY,
    LOGINS,
    DELIVERIES,
    REUSE,
    TOKEN_STATE,
    TOKEN_AGE,
    TOKEN_LEFT,
    DAEMON_UP,
    HEARTBEAT,
    LEDGER_TROUBLE,
    FLIGHT,
    REPLIES,
    DECISION,
    MILTER_MESSAGES,
    MILTER_RECIPIENTS,
    MILTER_FORGED,
    MILTER_FAILED,
    FAMILIES
};

/* Of those after the quota's. */
static const struct {
    const char *name, *help;
    enum kind kind;
} about[FAMILIES] = {
    [FULL_SINCE] = {"gmroute_account_full_since_timestamp_seconds",
                    "When the window lost its last room.", GAUGE},
    [STATE] = {"gmroute_account_state_info",
               "The state that the account is in.", GAUGE},
    [STATE_UNTIL] = {"gmroute_account_state_ends_timestamp_seconds",
                     "When the state ends by itself.", GAUGE},
    [WAITING_MESSAGES] = {"gmroute_account_waiting_messages",
                          "Messages tried and put off.", GAUGE},
    [WAITING_RECIPIENTS] = {"gmroute_account_waiting_recipients",
                            "Recipients of the messages put off.", GAUGE},
    [COMING_MESSAGES] = {"gmroute_account_coming_messages",
                         "Messages accepted and not yet tried.", GAUGE},
    [SESSIONS_OPEN] = {"gmroute_account_open_sessions",
                       "Sessions that are logged in, or about to be.", GAUGE},
    [SESSIONS_BUSY] = {"gmroute_account_busy_sessions",
                       "Sessions that send now.", GAUGE},
    [LOGINS] = {"gmroute_account_logins_total",
                "Logins since the agent started.", COUNTER},
    [DELIVERIES] = {"gmroute_account_deliveries_total",
                    "Attempts by outcome since the agent started.", COUNTER},
    [REUSE] = {"gmroute_account_session_reuse_ratio",
               "Part of the deliveries that needed no login of their own.",
               GAUGE},
    [TOKEN_STATE] = {"gmroute_token_state_info",
                     "The state that the access token is in.", GAUGE},
    [TOKEN_AGE] = {"gmroute_token_age_seconds",
                   "Since the access token was fetched.", GAUGE},
    [TOKEN_LEFT] = {"gmroute_token_left_seconds",
                    "Until the access token expires; negative: it has.", GAUGE},
    [DAEMON_UP] = {"gmroute_daemon_up", "1: the daemon lives.", GAUGE},
    [HEARTBEAT] = {"gmroute_daemon_heartbeat_timestamp_seconds",
                   "The daemon's last sign of life.", GAUGE},
    [LEDGER_TROUBLE] = {"gmroute_ledger_trouble_seconds",
                        "How long the ledger could not be written; 0: it can.",
                        GAUGE},
    [FLIGHT] = {"gmroute_delivery_duration_seconds",
                "From the flight's first octet to Gmail's last reply.",
                HISTOGRAM},
    [REPLIES] = {"gmroute_replies_total",
                 "Recipients tried, by the code of the reply; none: there was "
                 "no reply.",
                 COUNTER},
    [DECISION] = {"gmroute_decision_duration_seconds",
                  "From the end of a message to the filter's answer.",
                  HISTOGRAM},
    [MILTER_MESSAGES] = {"gmroute_milter_messages_total",
                         "Messages that the filter has seen.", COUNTER},
    [MILTER_RECIPIENTS] = {"gmroute_milter_recipients_total",
                           "Recipients by what the filter decided.", COUNTER},
    [MILTER_FORGED] = {"gmroute_milter_forged_tags_total",
                       "Tags refused that gmroute had not made.", COUNTER},
    [MILTER_FAILED] = {"gmroute_milter_failed_messages_total",
                       "Messages that failed for a fault of ours.", COUNTER},
};

struct metrics {
    struct look look;
    struct {
        FILE *out;
        char *text;
        size_t size;
    } family[FAMILIES];
};

/* What a metric counts: pace counts messages. */
static const char *
unit_of(enum dimension d)
{
    return d == DIM_PACE ? "pace_messages" : dimension_name(d);
}

/* "{account=\"x\"", to be closed by the caller. */
static FILE *
begin(struct metrics *m, enum family f, const char *label, const char *value)
{
    FILE *out = m->family[f].out;

    if (about[f].name != NULL)
        fputs(about[f].name, out);
    else if (f < QUOTA_LIMIT)
        fprintf(out, "gmroute_account_quota_used_%s",
                unit_of((enum dimension)(f - QUOTA_USED)));
    else
        fprintf(out, "gmroute_account_quota_limit_%s",
                unit_of((enum dimension)(f - QUOTA_LIMIT)));
    if (label == NULL)
        return out;
    fprintf(out, "{%s=\"", label);
    for (; *value != '\0'; value++)
        if (*value == '\n')
            fputs("\\n", out);
        else
            fprintf(out, "%s%c", *value == '"' || *value == '\\' ? "\\" : "",
                    *value);
    putc('"', out);
    return out;
}

/* ---- an account ---- */

static void
put(struct metrics *m, enum family f, const char *account, uint64_t value)
{
    fprintf(begin(m, f, "account", account), "} %" PRIu64 "\n", value);
}

static void
put_window(struct metrics *m, const struct quota_view *v, unsigned i)
{
    enum dimension d = v->window[i].dimension;
    uint64_t window_s = v->window[i].window_ms / 1000;
    int64_t since = look_unix_ms(&m->look, v, v->window[i].full_since_ms);

    fprintf(begin(m, (enum family)(QUOTA_USED + d), "account", v->identity),
            ",window_seconds=\"%" PRIu64 "\"} %" PRIu64 "\n", window_s,
            v->window[i].used);
    fprintf(begin(m, (enum family)(QUOTA_LIMIT + d), "account", v->identity),
            ",window_seconds=\"%" PRIu64 "\"} %" PRIu64 "\n", window_s,
            v->window[i].limit);
    if (since > 0)
        fprintf(begin(m, FULL_SINCE, "account", v->identity),
                ",dimension=\"%s\",window_seconds=\"%" PRIu64 "\"} %" PRId64
                "\n",
                dimension_name(d), window_s, since / 1000);
}

static void
put_deliveries(struct metrics *m, const struct quota_view *v)
{
    const struct {
        const char *outcome;
        uint64_t n;
    } counts[] = {{"sent", v->sent},
                  {"refused", v->refused},
                  {"deferred", v->deferred},
                  {"in_doubt", v->in_doubt}};

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        fprintf(begin(m, DELIVERIES, "account", v->identity),
                ",outcome=\"%s\"} %" PRIu64 "\n", counts[i].outcome,
                counts[i].n);
    if (v->sent > 0 && v->logins <= v->sent)
        fprintf(begin(m, REUSE, "account", v->identity), "} %.4f\n",
                1.0 - (double)v->logins / (double)v->sent);
}

static bool
each_account(void *cookie, const struct quota_view *v)
{
    struct metrics *m = cookie;
    uint32_t coming, recipients;

    for (unsigned i = 0; i < v->n; i++)
        put_window(m, v, i);
    fprintf(begin(m, STATE, "account", v->identity), ",state=\"%s\"} 1\n",
            account_state_name(v->state));
    if (v->state_until_ms > 0)
        put(m, STATE_UNTIL, v->identity,
            (uint64_t)look_unix_ms(&m->look, v, v->state_until_ms) / 1000);
    put(m, WAITING_MESSAGES, v->identity, v->waiting_messages);
    put(m, WAITING_RECIPIENTS, v->identity, v->waiting_recipients);
    hints_sum(m->look.hints, v->id, (uint32_t)(m->look.now_ms / 60000), &coming,
              &recipients);
    put(m, COMING_MESSAGES, v->identity, coming);
    put(m, SESSIONS_OPEN, v->identity, v->sessions_open);
    put(m, SESSIONS_BUSY, v->identity, v->sessions_busy);
    put(m, LOGINS, v->identity, v->logins);
    put_deliveries(m, v);
    return true;
}

static bool
each_token(void *cookie, const struct token_status *s)
{
    struct metrics *m = cookie;
    int64_t now_s = m->look.now_ms / 1000;

    fprintf(begin(m, TOKEN_STATE, "account", s->identity), ",state=\"%s\"} 1\n",
            token_state_name(s->state));
    if (s->fetched_at_s > 0) {
        fprintf(begin(m, TOKEN_AGE, "account", s->identity), "} %" PRId64 "\n",
                now_s - s->fetched_at_s);
        fprintf(begin(m, TOKEN_LEFT, "account", s->identity), "} %" PRId64 "\n",
                s->expires_at_s - now_s);
    }
    return true;
}

/* ---- the rest ---- */

/* `unit`: how many of what was counted are a second. */
static void
put_histogram(struct metrics *m, enum family f,
              const uint64_t word[LATENCY_WORDS], double unit)
{
    FILE *out = m->family[f].out;
    const char *name = about[f].name;
    uint64_t n = 0;

    for (unsigned i = 0; i < LATENCY_BOUNDS; i++) {
        n += word[i];
        fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                latency_bound[i] / unit, n);
    }
    n += word[LATENCY_BOUNDS];
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, n);
    fprintf(out, "%s_sum %.6f\n%s_count %" PRIu64 "\n", name,
            (double)word[LATENCY_BOUNDS + 1] / unit, name, n);
}

static void
put_replies(struct metrics *m, const uint64_t word[REPLY_CODES])
{
    for (unsigned i = 0; i < REPLY_CODES; i++) {
        char code[8];

        snprintf(code, sizeof code, "%u", reply_codes[i]);
        if (word[i] > 0)
            fprintf(begin(m, REPLIES, "code",
                          reply_codes[i] == 0            ? "none"
                          : reply_codes[i] == UINT16_MAX ? "other"
                                                         : code),
                    "} %" PRIu64 "\n", word[i]);
    }
}

static void
put_daemon(struct metrics *m, const char *program, enum segment_kind kind)
{
    struct look_daemon d;

    look_daemon(&m->look, kind, &d);
    fprintf(begin(m, DAEMON_UP, "program", program), "} %d\n", d.up);
    if (d.result != STATE_OK)
        return;
    fprintf(begin(m, HEARTBEAT, "program", program), "} %" PRId64 "\n",
            d.info.heartbeat_s);
    if (kind == SEGMENT_QUOTA) {
        uint64_t since_s = d.info.stat[QUOTA_LEDGER_TROUBLE_S];
        uint64_t now_s = (uint64_t)m->look.now_ms / 1000;

        fprintf(begin(m, LEDGER_TROUBLE, NULL, NULL), " %" PRIu64 "\n",
                since_s == 0      ? 0
                : since_s < now_s ? now_s - since_s
                                  : 1);
        put_histogram(m, FLIGHT, &d.info.stat[QUOTA_FLIGHT_MS], 1e3);
        put_replies(m, &d.info.stat[QUOTA_REPLIES]);
    }
}

static void
put_milter(struct metrics *m)
{
    static const struct {
        const char *action;
        enum hints_stat stat;
    } actions[] = {{"routed", HINTS_ROUTED},
                   {"rejected", HINTS_REJECTED},
                   {"deferred", HINTS_DEFERRED}};
    const struct hints *h = m->look.hints;
    uint64_t decision_us[LATENCY_WORDS];

    if (h == NULL)
        return;
    for (unsigned i = 0; i < LATENCY_WORDS; i++)
        decision_us[i] = hints_stat(h, HINTS_DECISION_US + i);
    put_histogram(m, DECISION, decision_us, 1e6);
    fprintf(begin(m, MILTER_MESSAGES, NULL, NULL), " %" PRIu64 "\n",
            hints_stat(h, HINTS_MESSAGES));
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        fprintf(begin(m, MILTER_RECIPIENTS, "action", actions[i].action),
                "} %" PRIu64 "\n", hints_stat(h, actions[i].stat));
    fprintf(begin(m, MILTER_FORGED, NULL, NULL), " %" PRIu64 "\n",
            hints_stat(h, HINTS_FORGED));
    fprintf(begin(m, MILTER_FAILED, NULL, NULL), " %" PRIu64 "\n",
            hints_stat(h, HINTS_FAILED));
}

/* HELP and TYPE of a metric that has samples, and the samples. */
static void
print_family(struct metrics *m, enum family f)
{
    char name[80], help[100];
    enum dimension d = (enum dimension)((f - QUOTA_USED) % DIM_COUNT);

    if (m->family[f].size == 0)
        return;
    if (about[f].name != NULL) {
        snprintf(name, sizeof name, "%s", about[f].name);
        snprintf(help, sizeof help, "%s", about[f].help);
    } else {
        snprintf(name, sizeof name, "gmroute_account_quota_%s_%s",
                 f < QUOTA_LIMIT ? "used" : "limit", unit_of(d));
        snprintf(help, sizeof help, "%s in the rolling window.",
                 f < QUOTA_LIMIT ? "What counts now" : "What may be used");
    }
    printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name,
           kind_name[about[f].kind]);
    fwrite(m->family[f].text, 1, m->family[f].size, stdout);
}

static int
gather(struct metrics *m)
{
    bool ok = true;

    for (unsigned f = 0; f < FAMILIES; f++) {
        m->family[f].out =
            open_memstream(&m->family[f].text, &m->family[f].size);
        ok = ok && m->family[f].out != NULL;
    }
    if (ok) {
        quota_each(m->look.quota, each_account, m);
        status_each(m->look.status, each_token, m);
        put_daemon(m, "gmroute-deliver", SEGMENT_QUOTA);
        put_daemon(m, "gmroute-token", SEGMENT_STATUS);
        put_milter(m);
    }
    for (unsigned f = 0; f < FAMILIES; f++) {
        FILE *out = m->family[f].out;

        ok = ok && !ferror(out);
        ok = out != NULL && fclose(out) == 0 && ok;
    }
    for (unsigned f = 0; ok && f < FAMILIES; f++)
        print_family(m, (enum family)f);
    for (unsigned f = 0; f < FAMILIES; f++)
        free(m->family[f].text);
    if (!ok)
        fputs("gmroutectl: out of memory\n", stderr);
    return ok ? CTL_GOOD : CTL_USAGE;
}

int
ctl_metrics(struct ctl *c, int argc, char **argv)
{
    struct metrics m = {0};
    int status = CTL_USAGE;

    if (argc > 1)
        return ctl_usage("metrics", "", "unknown word %s", argv[1]);
    if (look_open(&m.look, c))
        status = gather(&m);
    look_close(&m.look);
    return status;
}
