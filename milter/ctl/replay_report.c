/* milter/ctl/replay_report.c - what gmroutectl replay found.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter/ctl/replay.h"
#include "policy/window.h"

enum { MAILBOXES_SHOWN = 50 };

/* ---- for people ---- */

static const char *
plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void
put_source(const struct replay *r)
{
    const struct {
        uint64_t n;
        const char *noun, *text;
    } notes[] = {
        {r->n_headless, "message",
         " left out: the log does not have the beginning (bounces of the MTA, "
         "older mail)"},
        {r->n_again, "message",
         " left out: back from a content filter, counted before it"},
        {r->n_outside, "message",
         " left out: before --since or not before --until"},
        {r->n_dropped, "message",
         " not followed to the end: too many were open at once"},
        {r->n_untold, "recipient", " left out: too many for one message"},
        {r->n_unread, "line", " without a time stamp, passed over"},
        {r->n_long, "line", " too long, passed over"},
    };
    char first[40] = "", last[40] = "";

    printf("%" PRIu64 " message%s, %" PRIu64 " recipient%s, from %" PRIu64
           " %s\n",
           r->n_messages, plural(r->n_messages), r->n_recipients,
           plural(r->n_recipients), r->n_lines,
           r->from_ledger ? "rows of a ledger" : "lines");
    if (r->n_messages > 0) {
        ctl_time(r->first_s, first, sizeof first);
        ctl_time(r->last_s, last, sizeof last);
        printf("  %s to %s\n", first, last);
    }
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (notes[i].n > 0)
            printf("  %" PRIu64 " %s%s%s\n", notes[i].n, notes[i].noun,
                   plural(notes[i].n), notes[i].text);
    if (r->from_ledger)
        puts("  a ledger has no client, HELO and login: rules on the first two "
             "are left open,\n  and the sender is taken for the login");
}

static void
put_actions(const struct replay *r)
{
    puts("\nrecipients by what would become of them");
    for (unsigned i = 0; i < REPLAY_ACTIONS; i++)
        if (r->action[i] > 0)
            printf("  %10" PRIu64 "  %s\n", r->action[i],
                   i == ACTION_UNKNOWN ? "not decided without the message"
                                       : action_name((enum action)i));
}

/* between: what stands between the two parts of a name; NULL = the second is
 * a place. */
static bool
put_tally(struct tally *t, const char *title, const char *between)
{
    size_t n;
    const struct tally_row *row = tally_rows(t, &n);

    if (row == NULL)
        return false;
    if (n > 0)
        printf("\n%s\n", title);
    for (size_t i = 0; i < n; i++) {
        printf("  %10" PRIu64 "  %s", row[i].n, row[i].name);
        if (row[i].detail[0] != '\0')
            printf(between != NULL ? "%s%s" : " %s(%s)",
                   between != NULL ? between : "", row[i].detail);
        putchar('\n');
    }
    if (tally_others(t) > 0)
        printf("  %10" PRIu64 "  others\n", tally_others(t));
    return true;
}

static void
put_full(const struct quota_sim_account *a)
{
    char when[40], room[40], wait[40];

    ctl_time((int64_t)(a->first_full_ms / 1000), when, sizeof when);
    printf("  %s: %" PRIu64 " over, first at %s (%s)", a->address, a->over,
           when, dimension_name(a->first_limit));
    if (a->room_at_ms == WINDOW_NEVER) {
        fputs(", larger than the whole limit", stdout);
    } else {
        ctl_time((int64_t)(a->room_at_ms / 1000), room, sizeof room);
        printf(", room again at %s", room);
    }
    if (a->waited > 0) {
        ctl_duration(a->wait_longest_ms, wait, sizeof wait);
        printf("; %" PRIu64 " waited, the longest %s", a->waited, wait);
    }
    putchar('\n');
}

static bool
put_quota(struct replay *r)
{
    size_t n, n_full = 0;
    const struct quota_sim_account **a = quota_sim_accounts(r->sim, &n);

    if (a == NULL)
        return false;
    if (n > 0)
        puts("\nmessages sent, by mailbox");
    for (size_t i = 0; i < n; i++) {
        n_full += a[i]->over > 0;
        if (i == MAILBOXES_SHOWN)
            printf("  and %zu mailboxes more; --json shows them\n", n - i);
        if (i >= MAILBOXES_SHOWN)
            continue;
        printf("  %10" PRIu64 "  %s: %" PRIu64 " recipients, %" PRIu64
               " octets\n",
               a[i]->messages, a[i]->address, a[i]->recipients, a[i]->octets);
    }
    if (n_full > 0)
        puts("\nout of room (messages)");
    for (size_t i = 0; i < n; i++)
        if (a[i]->over > 0)
            put_full(a[i]);
    free(a);
    return true;
}

bool
replay_text(struct replay *r)
{
    put_source(r);
    if (r->n_messages == 0) {
        puts("  no delivery of a message is told of: want a mail log of "
             "Postfix, or a ledger.db");
        return true;
    }
    put_actions(r);
    return put_tally(r->rules, "recipients by rule", NULL) &&
           put_tally(r->accounts, "recipients by account", NULL) &&
           put_tally(r->unknown,
                     "recipients not decided: a rule looks into the message",
                     NULL) &&
           put_quota(r) &&
           put_tally(r->changes, "recipients that would go another way",
                     " -> ");
}

/* ---- for scripts ---- */

static json_t *
json_rule(const struct tally_row *row)
{
    return json_pack(
        "{s:s, s:o, s:I}", "rule", row->name, "at",
        row->detail[0] != '\0' ? json_string(row->detail) : json_null(),
        "recipients", (json_int_t)row->n);
}

static json_t *
json_account(const struct tally_row *row)
{
    return json_pack("{s:s, s:I}", "account", row->name, "recipients",
                     (json_int_t)row->n);
}

static json_t *
json_change(const struct tally_row *row)
{
    return json_pack("{s:s, s:s, s:I}", "before", row->name, "after",
                     row->detail, "recipients", (json_int_t)row->n);
}

static json_t *
json_tally(struct tally *t, json_t *(*one)(const struct tally_row *row))
{
    json_t *list = json_array();
    size_t n;
    const struct tally_row *row = tally_rows(t, &n);

    for (size_t i = 0; row != NULL && i < n; i++)
        json_array_append_new(list, one(&row[i]));
    return list;
}

static json_t *
json_mailbox(const struct quota_sim_account *a)
{
    json_t *j =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "mailbox", a->address,
                  "messages", (json_int_t)a->messages, "recipients",
                  (json_int_t)a->recipients, "octets", (json_int_t)a->octets,
                  "over", (json_int_t)a->over, "waited", (json_int_t)a->waited,
                  "longest_wait_s", (json_int_t)(a->wait_longest_ms / 1000));

    if (j == NULL || a->over == 0)
        return j;
    json_object_set_new(j, "limit",
                        json_string(dimension_name(a->first_limit)));
    json_object_set_new(j, "full_at",
                        ctl_json_time((int64_t)(a->first_full_ms / 1000)));
    json_object_set_new(j, "room_at",
                        a->room_at_ms == WINDOW_NEVER
                            ? json_null()
                            : ctl_json_time((int64_t)(a->room_at_ms / 1000)));
    return j;
}

static json_t *
json_actions(const struct replay *r)
{
    json_t *j = json_object();

    for (unsigned i = 0; i < REPLAY_ACTIONS; i++)
        json_object_set_new(j, action_name((enum action)i),
                            json_integer((json_int_t)r->action[i]));
    return j;
}

json_t *
replay_json(struct replay *r)
{
    size_t n;
    const struct quota_sim_account **a = quota_sim_accounts(r->sim, &n);
    json_t *mailboxes = json_array();

    for (size_t i = 0; a != NULL && i < n; i++)
        json_array_append_new(mailboxes, json_mailbox(a[i]));
    free(a);
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
        " s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}",
        "messages", (json_int_t)r->n_messages, "recipients",
        (json_int_t)r->n_recipients, "first", ctl_json_time(r->first_s), "last",
        ctl_json_time(r->last_s), "actions", json_actions(r), "rules",
        json_tally(r->rules, json_rule), "undecided",
        json_tally(r->unknown, json_rule), "accounts",
        json_tally(r->accounts, json_account), "mailboxes", mailboxes,
        "changes", json_tally(r->changes, json_change), "log", "lines",
        (json_int_t)r->n_lines, "unread", (json_int_t)r->n_unread, "too_long",
        (json_int_t)r->n_long, "headless", (json_int_t)r->n_headless,
        "filtered", (json_int_t)r->n_again, "outside", (json_int_t)r->n_outside,
        "dropped", (json_int_t)r->n_dropped, "untold", (json_int_t)r->n_untold);
}
