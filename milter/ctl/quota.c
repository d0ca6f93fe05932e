/* milter/ctl/quota.c - gmroutectl quota: what is used, what is left, since
 * when it is full and when room returns.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/look.h"
#include "milter/ctl/waiting.h"
#include "policy/window.h"

static const char synopsis[] = "[ACCOUNT] [--room N] [--json]";

struct listing {
    struct look look;
    const char *account; /* NULL = all */
    uint64_t units;      /* --room; 0 = not asked */
    bool json;
    size_t n;
};

/* When all that waits or is on its way will have been sent, if nothing else
 * comes; Unix time, 0 = nothing waits, or nobody knows.  The sizes of what
 * waits are not known: limits of bytes are left out. */
static int64_t
through_ms(const struct look *k, const struct quota_view *v,
           const struct waiting *w)
{
    static const struct cost one = {
        .messages = 1, .recipients = 1, .external_recipients = 1};
    uint64_t messages = (uint64_t)v->waiting_messages + w->coming_messages;
    uint64_t recipients =
        (uint64_t)v->waiting_recipients + w->coming_recipients;
    struct cost ahead = {.messages = (uint32_t)messages - 1,
                         .recipients = (uint32_t)recipients - 1,
                         .external_recipients = (uint32_t)recipients - 1};
    struct mailbox m;
    struct room room;
    uint64_t now_ms;

    if (messages == 0 || recipients == 0 || recipients > UINT32_MAX ||
        !policy_mailbox(k->policy, v->identity, &m) ||
        quota_forecast(k->quota, &m, &one, &ahead, 100, &room, &now_ms) !=
            STATE_OK)
        return 0;
    return look_unix_ms(k, v, room.at_ms);
}

/* ---- JSON ---- */

static json_t *
json_room_for(const struct listing *l, const struct quota_view *v, unsigned i)
{
    uint64_t at = v->window[i].room_n_at_ms;
    json_t *j = json_pack("{s:I, s:b}", "units", (json_int_t)l->units, "never",
                          at >= WINDOW_NEVER - 1);

    look_json_time(&l->look, j, "at", look_unix_ms(&l->look, v, at));
    return j;
}

/* What is left under the limit, or under what Gmail was seen to allow. */
static uint64_t
room_in(const struct quota_view *v, unsigned i)
{
    uint64_t allowed = v->window[i].allowed, used = v->window[i].used;

    return used < allowed ? allowed - used : 0;
}

static json_t *
json_observed(const struct listing *l, const struct quota_view *v, unsigned i)
{
    json_t *j =
        json_pack("{s:I, s:b}", "units", (json_int_t)v->window[i].observed,
                  "holds", v->window[i].observed_holds);

    look_json_time(&l->look, j, "at",
                   look_unix_ms(&l->look, v, v->window[i].observed_at_ms));
    return j;
}

static json_t *
json_window(const struct listing *l, const struct quota_view *v, unsigned i)
{
    const struct look *k = &l->look;
    uint64_t limit = v->window[i].limit, used = v->window[i].used;
    uint64_t at = v->window[i].room_at_ms;
    json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:i, s:I}", "dimension",
                          dimension_name(v->window[i].dimension), "window_s",
                          (json_int_t)(v->window[i].window_ms / 1000), "limit",
                          (json_int_t)limit, "used", (json_int_t)used,
                          "used_percent", (int)ctl_percent(used, limit), "room",
                          (json_int_t)room_in(v, i));

    look_json_time(k, j, "room_returns",
                   at <= v->now_ms ? 0 : look_unix_ms(k, v, at));
    look_json_time(k, j, "full_since",
                   look_unix_ms(k, v, v->window[i].full_since_ms));
    if (l->units > 0)
        json_object_set_new(j, "room_for", json_room_for(l, v, i));
    if (v->window[i].observed_at_ms != 0)
        json_object_set_new(j, "observed", json_observed(l, v, i));
    return j;
}

static json_t *
json_quota(const struct listing *l, const struct quota_view *v,
           const struct waiting *w)
{
    const struct look *k = &l->look;
    json_t *windows = json_array(), *j;
    char other[IDENTITY_MAX + 1];

    for (unsigned i = 0; i < v->n; i++)
        json_array_append_new(windows, json_window(l, v, i));
    j = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:o}",
        "account", v->identity, "state", account_state_name(v->state), "reason",
        v->state_reason, "waiting_messages", (int)v->waiting_messages,
        "waiting_recipients", (int)v->waiting_recipients, "coming_messages",
        (int)w->coming_messages, "coming_recipients", (int)w->coming_recipients,
        "sent", (json_int_t)v->sent, "refused", (json_int_t)v->refused,
        "deferred", (json_int_t)v->deferred, "in_doubt",
        (json_int_t)v->in_doubt, "windows", windows);
    look_json_time(k, j, "until", look_unix_ms(k, v, v->state_until_ms));
    look_json_time(k, j, "through", through_ms(k, v, w));
    if (quota_peek_divert(k->quota, v->id, other) == STATE_OK)
        json_object_set_new(j, "diverted_to", json_string(other));
    if (l->account != NULL) /* of one: each costs a search in the ledger */
        look_json_time(k, j, "waiting_since", w->oldest_ms);
    return j;
}

/* ---- text ---- */

static void
print_observed(const struct listing *l, const struct quota_view *v, unsigned i)
{
    char units[FORMAT_MAX], when[2 * FORMAT_MAX];

    if (v->window[i].observed_at_ms == 0)
        return;
    ctl_units(v->window[i].dimension, v->window[i].observed, units,
              sizeof units);
    look_when(&l->look, look_unix_ms(&l->look, v, v->window[i].observed_at_ms),
              when, sizeof when);
    printf("        Gmail said that it is reached at %s, %s%s\n", units, when,
           v->window[i].observed_holds ? "; no more is sent for now" : "");
}

static void
print_window(const struct listing *l, const struct quota_view *v, unsigned i)
{
    enum dimension d = v->window[i].dimension;
    uint64_t limit = v->window[i].limit, used = v->window[i].used;
    uint64_t at = v->window[i].room_n_at_ms;
    char length[FORMAT_MAX], u[FORMAT_MAX], m[FORMAT_MAX], room[FORMAT_MAX];
    char when[2 * FORMAT_MAX];

    ctl_duration(v->window[i].window_ms, length, sizeof length);
    ctl_units(d, used, u, sizeof u);
    ctl_units(d, limit, m, sizeof m);
    ctl_units(d, room_in(v, i), room, sizeof room);
    printf("    %-20s %10s of %10s used (%u%%) in %s, room %s",
           dimension_name(d), u, m, ctl_percent(used, limit), length, room);
    if (v->window[i].room_at_ms > v->now_ms) {
        int64_t since = look_unix_ms(&l->look, v, v->window[i].full_since_ms);
        int64_t back = look_unix_ms(&l->look, v, v->window[i].room_at_ms);

        if (since > 0) {
            look_when(&l->look, since, when, sizeof when);
            printf("; full since %s", when);
        }
        if (back > 0) {
            look_when(&l->look, back, when, sizeof when);
            printf("; room returns %s", when);
        }
    }
    if (l->units > 0 && at > v->now_ms) {
        if (at < WINDOW_NEVER - 1)
            look_when(&l->look, look_unix_ms(&l->look, v, at), when,
                      sizeof when);
        else
            snprintf(when, sizeof when, "never: that is over the limit");
        printf("; for %" PRIu64 " %s", l->units, when);
    } else if (l->units > 0) {
        printf("; for %" PRIu64 " now", l->units);
    }
    putchar('\n');
    print_observed(l, v, i);
}

static void
print_waiting(const struct listing *l, const struct quota_view *v,
              const struct waiting *w)
{
    int64_t through = through_ms(&l->look, v, w);
    char when[2 * FORMAT_MAX];

    if (v->waiting_messages == 0 && w->coming_messages == 0)
        return;
    printf("    %u messages wait", v->waiting_messages);
    if (w->oldest_ms > 0) {
        look_when(&l->look, w->oldest_ms, when, sizeof when);
        printf(", the oldest first tried %s", when);
    }
    if (w->coming_messages > 0)
        printf("; %u more are accepted and not yet tried", w->coming_messages);
    if (through > 0) {
        look_when(&l->look, through, when, sizeof when);
        printf("; limits let the last one through %s", when);
    }
    putchar('\n');
}

static void
print_quota(const struct listing *l, const struct quota_view *v,
            const struct waiting *w)
{
    int64_t until = look_unix_ms(&l->look, v, v->state_until_ms);
    char when[2 * FORMAT_MAX], other[IDENTITY_MAX + 1];

    printf("%s  %s", v->identity, account_state_name(v->state));
    if (until > 0) {
        look_when(&l->look, until, when, sizeof when);
        printf(", ends %s", when);
    }
    if (v->state_reason[0] != 0)
        printf(" (%s)", v->state_reason);
    if (quota_peek_divert(l->look.quota, v->id, other) == STATE_OK)
        printf("; its mail goes through %s", other);
    putchar('\n');
    print_waiting(l, v, w);
    for (unsigned i = 0; i < v->n; i++)
        print_window(l, v, i);
}

/* ---- the command ---- */

static bool
each_quota(void *cookie, const struct quota_view *v)
{
    struct listing *l = cookie;
    struct waiting w = {0};

    waiting_coming(&l->look, v->id, &w);
    if (l->account != NULL && v->waiting_messages > 0)
        waiting_oldest(&l->look, v->id, &w);
    if (l->json)
        ctl_json_item(l->n, json_quota(l, v, &w));
    else
        print_quota(l, v, &w);
    l->n++;
    return true;
}

static int
show_one(struct listing *l)
{
    char identity[IDENTITY_MAX + 1];
    struct quota_view v;
    struct mailbox m;
    enum state_result r;

    if (!look_identity(l->look.policy, l->account, false, &m, identity))
        return CTL_USAGE;
    r = quota_peek(l->look.quota, m.id, &v);
    if (r == STATE_OK)
        each_quota(l, &v);
    else if (r != STATE_EEMPTY)
        return look_no_quota(&l->look, r);
    if (l->json)
        ctl_json_end(l->n);
    if (r == STATE_OK)
        return CTL_GOOD;
    fprintf(stderr,
            "gmroutectl: %s: nothing was sent through it since the agent "
            "started, and nothing counts against its limits\n",
            identity);
    return CTL_NO;
}

static int
show_all(struct listing *l)
{
    enum state_result r;

    r = quota_each(l->look.quota, each_quota, l);
    if (l->n == 0 && r != STATE_OK)
        return look_no_quota(&l->look, r);
    if (l->json)
        ctl_json_end(l->n);
    look_partial(&(struct account_rows){.partial = r != STATE_OK});
    return r == STATE_OK ? CTL_GOOD : CTL_NO;
}

static const char *
take_options(struct listing *l, int argc, char **argv)
{
    static const struct option options[] = {
        {"room", required_argument, NULL, 'r'},
        {0},
    };
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (option != 'r')
            return "unknown option";
        else if (!ctl_number(optarg, 1, UINT32_MAX, &l->units))
            return "--room: want a number of messages, recipients or octets";
    if (optind < argc)
        l->account = argv[optind++];
    return optind == argc ? NULL : "more than one account";
}

int
ctl_quota(struct ctl *c, int argc, char **argv)
{
    struct listing l = {.json = c->json};
    const char *bad = take_options(&l, argc, argv);
    int status = CTL_USAGE;

    if (bad != NULL)
        return ctl_usage("quota", synopsis, "%s", bad);
    if (look_open(&l.look, c)) {
        if (l.units > 0)
            quota_reader_units(l.look.quota, l.units);
        status = l.account != NULL ? show_one(&l) : show_all(&l);
    }
    look_close(&l.look);
    return status;
}
