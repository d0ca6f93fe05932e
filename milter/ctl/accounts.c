/* milter/ctl/accounts.c - gmroutectl accounts and sessions: a line for each
 * account.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/look.h"

struct choice { /* of accounts */
    int state;  /* enum account_state; -1 = any */
    bool full, waiting, open;
    uint64_t limit;
};

static bool
is_chosen(const struct choice *c, const struct account_row *r)
{
    return (c->state < 0 || (int)r->state == c->state) &&
           (!c->full || r->is_full) &&
           (!c->waiting || r->waiting_messages > 0) &&
           (!c->open || r->sessions_open > 0);
}

static const char *
take_options(struct choice *ret, int argc, char **argv)
{
    static const struct option options[] = {
        {"state", required_argument, NULL, 's'},
        {"full", no_argument, NULL, 'f'},
        {"waiting", no_argument, NULL, 'w'},
        {"limit", required_argument, NULL, 'l'},
        {0},
    };
    int option;

    *ret = (struct choice){.state = -1, .limit = UINT64_MAX};
    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 's':
            for (int i = 0; i < ACCOUNT_STATES; i++)
                if (strcmp(optarg, account_state_name((enum account_state)i)) ==
                    0)
                    ret->state = i;
            if (ret->state < 0)
                return "--state: want ok, cooling, needs_login, paused or "
                       "disabled";
            break;
        case 'f':
            ret->full = true;
            break;
        case 'w':
            ret->waiting = true;
            break;
        case 'l':
            if (!ctl_number(optarg, 1, UINT32_MAX, &ret->limit))
                return "--limit: want a number of accounts";
            break;
        default:
            return "unknown option";
        }
    return optind == argc ? NULL : "unknown word";
}

/* ---- accounts ---- */

static json_t *
json_account(const struct look *k, const struct account_row *r)
{
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, "
        "s:b}",
        "account", r->identity, "state", account_state_name(r->state), "reason",
        r->reason, "waiting_messages", (int)r->waiting_messages,
        "waiting_recipients", (int)r->waiting_recipients, "coming_messages",
        (int)r->coming_messages, "sessions_open", (int)r->sessions_open,
        "sessions_busy", (int)r->sessions_busy, "sent", (json_int_t)r->sent,
        "refused", (json_int_t)r->refused, "deferred", (json_int_t)r->deferred,
        "in_doubt", (json_int_t)r->in_doubt, "logins", (json_int_t)r->logins,
        "full", (int)r->is_full);

    look_json_time(k, j, "until", r->until_ms);
    look_json_time(k, j, "full_since", r->full_since_ms);
    look_json_time(k, j, "room_returns", r->room_at_ms);
    json_object_set_new(
        j, "fullest",
        r->has_window
            ? json_pack("{s:s, s:I, s:I, s:I, s:i}", "dimension",
                        dimension_name(r->dimension), "window_s",
                        (json_int_t)(r->window_ms / 1000), "used",
                        (json_int_t)r->used, "limit", (json_int_t)r->limit,
                        "percent", (int)r->percent)
            : json_null());
    json_object_set_new(
        j, "token",
        r->has_token ? json_string(token_state_name(r->token)) : json_null());
    return j;
}

static void
cells_of(const struct look *k, const struct account_row *r, struct ctl_table *t)
{
    char text[2 * FORMAT_MAX];

    ctl_table_cell(t, "%s", r->identity);
    ctl_table_cell(t, "%s", account_state_name(r->state));
    ctl_table_cell(t, "%u/%u", r->sessions_busy, r->sessions_open);
    ctl_table_cell(t, "%" PRIu64, r->sent);
    ctl_table_cell(t, "%" PRIu64, r->refused);
    ctl_table_cell(t, "%" PRIu64, r->deferred);
    ctl_table_cell(t, "%u", r->waiting_messages);
    if (r->has_window) {
        ctl_duration(r->window_ms, text, sizeof text);
        ctl_table_cell(t, "%u%% %s/%s", r->percent,
                       dimension_name(r->dimension), text);
    } else {
        ctl_table_cell(t, "-");
    }
    ctl_table_cell(t, "%s", r->has_token ? token_state_name(r->token) : "-");
    text[0] = '\0';
    if (r->state != ACCOUNT_OK && r->until_ms > k->now_ms)
        look_when(k, r->until_ms, text, sizeof text);
    else if (r->state == ACCOUNT_OK && r->is_full && r->room_at_ms > 0)
        look_when(k, r->room_at_ms, text, sizeof text);
    ctl_table_cell(
        t, "%s%s%s%s", r->state == ACCOUNT_OK && r->is_full ? "full, " : "",
        text, text[0] != '\0' && r->reason[0] != '\0' ? ": " : "", r->reason);
}

static void
cells_of_sessions(const struct look *k, const struct account_row *r,
                  struct ctl_table *t)
{
    struct mailbox m;

    ctl_table_cell(t, "%s", r->identity);
    ctl_table_cell(t, "%u", r->sessions_open);
    ctl_table_cell(t, "%u", r->sessions_busy);
    if (policy_mailbox(k->policy, r->identity, &m))
        ctl_table_cell(t, "%u", m.account->sessions.max);
    else
        ctl_table_cell(t, "-");
    ctl_table_cell(t, "%" PRIu64, r->logins);
    ctl_table_cell(t, "%" PRIu64, r->sent);
}

static json_t *
json_sessions(const struct look *k, const struct account_row *r)
{
    struct mailbox m;

    return json_pack(
        "{s:s, s:i, s:i, s:o, s:I, s:I}", "account", r->identity, "open",
        (int)r->sessions_open, "busy", (int)r->sessions_busy, "max",
        policy_mailbox(k->policy, r->identity, &m)
            ? json_integer((json_int_t)m.account->sessions.max)
            : json_null(),
        "logins", (json_int_t)r->logins, "sent", (json_int_t)r->sent);
}

/* ---- both ---- */

struct shape {
    const char *const *titles;
    void (*cells)(const struct look *k, const struct account_row *r,
                  struct ctl_table *t);
    json_t *(*json)(const struct look *k, const struct account_row *r);
};

static size_t
show(const struct look *k, const struct account_rows *rows,
     const struct choice *c, const struct shape *shape, bool json)
{
    struct ctl_table *t = json ? NULL : ctl_table_new(shape->titles);
    size_t n = 0, more = 0;

    for (size_t i = 0; i < rows->n; i++) {
        if (!is_chosen(c, &rows->row[i]))
            continue;
        if (n == c->limit) {
            more++;
            continue;
        }
        if (json)
            ctl_json_item(n, shape->json(k, &rows->row[i]));
        else if (t != NULL)
            shape->cells(k, &rows->row[i], t);
        n++;
    }
    if (json)
        ctl_json_end(n);
    else if (t == NULL || !ctl_table_print(t, stdout, look_terminal_width()))
        fputs("gmroutectl: out of memory\n", stderr);
    if (more > 0 && !json)
        printf("... and %zu more\n", more);
    return n;
}

static int
run(struct ctl *c, const struct choice *choice, const struct shape *shape)
{
    struct account_rows rows = {0};
    struct look k;
    enum state_result r;
    int status = CTL_USAGE;

    if (look_open(&k, c)) {
        r = look_accounts(&k, &rows);
        if (r != STATE_OK) {
            look_no_quota(&k, r);
        } else {
            status =
                show(&k, &rows, choice, shape, c->json) > 0 && !rows.partial
                    ? CTL_GOOD
                    : CTL_NO;
            look_partial(&rows);
        }
    }
    look_accounts_free(&rows);
    look_close(&k);
    return status;
}

int
ctl_accounts(struct ctl *c, int argc, char **argv)
{
    static const char *const titles[] = {"ACCOUNT",    "STATE",    ">BUSY/OPEN",
                                         ">SENT",      ">REFUSED", ">DEFERRED",
                                         ">WAITING",   "FULLEST",  "TOKEN",
                                         "UNTIL, WHY", NULL};
    static const struct shape shape = {titles, cells_of, json_account};
    struct choice choice;
    const char *bad = take_options(&choice, argc, argv);

    if (bad != NULL)
        return ctl_usage("accounts",
                         "[--state ok|cooling|needs_login|paused|disabled]\n"
                         "           [--full] [--waiting] [--limit N] [--json]",
                         "%s", bad);
    return run(c, &choice, &shape);
}

int
ctl_sessions(struct ctl *c, int argc, char **argv)
{
    static const char *const titles[] = {"ACCOUNT", ">OPEN", ">BUSY", ">MAX",
                                         ">LOGINS", ">SENT", NULL};
    static const struct shape shape = {titles, cells_of_sessions,
                                       json_sessions};
    const struct choice choice = {
        .state = -1, .open = true, .limit = UINT64_MAX};

    if (argc > 1)
        return ctl_usage("sessions", "[--json]", "unknown word %s", argv[1]);
    return run(c, &choice, &shape);
}
