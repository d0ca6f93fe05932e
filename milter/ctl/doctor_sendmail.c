/* milter/ctl/doctor_sendmail.c - sendmail.cf: the filter, the rules, the
 * mailer.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whoever changes sendmail.cf changes sendmail.mc, so nothing here is a
 * command: the remedies are lines, or where mta-config prints them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"

static const char lines[] =
    "gmroutectl mta-config sendmail prints the lines for sendmail.mc";

/* ---- the filter ---- */

static bool
is_our_socket(const struct doctor_case *k, const char *where)
{
    const char *ours = k->policy->milter.listen;
    const char *path = mta_socket_path(ours), *theirs;

    if (where == NULL)
        return false;
    theirs = mta_socket_path(where);
    return path != NULL ? theirs != NULL && strcmp(path, theirs) == 0
                        : strcmp(ours, where) == 0;
}

struct filter {
    const char *name;   /* NULL: there is none */
    const char *fields; /* what stands behind it */
};

/* The one that leads to our socket, else the one of our name. */
static struct filter
our_filter(const struct doctor_case *k)
{
    const struct sendmail_settings *s = k->sendmail;
    const char *named = sendmail_filter(s, "gmroute");

    for (size_t i = 0; i < s->n; i++) {
        const char *line = s->line[i], *comma = strchr(line, ',');
        struct filter x;

        if (line[0] != 'X' || comma == NULL)
            continue;
        x.name = arena_copy(
            k->arena, (struct slice){line + 1, (size_t)(comma - line) - 1});
        x.fields = comma + 1;
        if (x.name == NULL)
            continue;
        if (is_our_socket(k, sendmail_field(s, x.fields, 'S')))
            return x;
    }
    return (struct filter){named != NULL ? "gmroute" : NULL, named};
}

static void
filter_missing(const struct doctor_case *k, struct findings *f)
{
    if (our_filter(k).name != NULL)
        return;
    found(f, "%s has no filter with our milter's socket, %s", k->sendmail->path,
          k->policy->milter.listen);
    advise(f, "%s", lines);
}

static void
filter_socket(const struct doctor_case *k, struct findings *f)
{
    struct filter x = our_filter(k);
    const char *where =
        x.name != NULL ? sendmail_field(k->sendmail, x.fields, 'S') : NULL;

    if (x.name == NULL || is_our_socket(k, where))
        return;
    found(f, "the filter %s has S=%s, and our milter listens at %s", x.name,
          where != NULL ? where : "", k->policy->milter.listen);
    advise(f, "%s", lines);
}

static void
filter_order(const struct doctor_case *k, struct findings *f)
{
    struct filter x = our_filter(k);
    const char *list = sendmail_option(k->sendmail, "InputMailFilters");
    struct slice rest = slice_of(list != NULL ? list : ""), entry, last = rest;
    bool there = false;

    if (x.name == NULL)
        return;
    while (mta_list_next(&rest, &entry)) {
        last = entry;
        there = there || slice_eq(entry, slice_of(x.name));
    }
    if (!there) {
        found(f, "the option InputMailFilters does not have %s", x.name);
        advise(f, "%s: INPUT_MAIL_FILTER, not MAIL_FILTER", lines);
    } else if (!slice_eq(last, slice_of(x.name))) {
        found(f, "the filter %.*s stands behind ours in InputMailFilters",
              SLICE_FMT(last));
        advise(f,
               "put INPUT_MAIL_FILTER of %s behind the others in "
               "sendmail.mc",
               x.name);
    }
}

static void
filter_flag(const struct doctor_case *k, struct findings *f)
{
    struct filter x = our_filter(k);
    const char *flag =
        x.name != NULL ? sendmail_field(k->sendmail, x.fields, 'F') : NULL;

    if (x.name == NULL || (flag != NULL && strcmp(flag, "T") == 0))
        return;
    found(f, "the filter %s has %s%s, not F=T", x.name,
          flag != NULL ? "F=" : "no F=", flag != NULL ? flag : "");
    advise(f, "F=T in INPUT_MAIL_FILTER of sendmail.mc");
}

static void
filter_timeouts(const struct doctor_case *k, struct findings *f)
{
    static const struct {
        char which;
        long min_s;
        const char *usual;
    } times[] = {{'S', 10, "30s"}, {'R', 10, "60s"}, {'E', 30, "2m"}};
    struct filter x = our_filter(k);
    const char *given =
        x.name != NULL ? sendmail_field(k->sendmail, x.fields, 'T') : NULL;

    for (size_t i = 0; i < sizeof times / sizeof *times && given != NULL; i++) {
        long s = sendmail_filter_time(given, times[i].which);

        if (s < 0 || s >= times[i].min_s)
            continue;
        found(f, "the filter %s has the timeout %c:%lds", x.name,
              times[i].which, s);
        advise(f, "T=S:30s;R:60s;E:2m in INPUT_MAIL_FILTER of sendmail.mc");
    }
}

static void
macros(const struct doctor_case *k, struct findings *f)
{
    const char *value = sendmail_option(k->sendmail, "Milter.macros.envfrom");

    if (!doctor_needs_login(k->policy) ||
        (value != NULL && strstr(value, "{auth_authen}") != NULL))
        return;
    found(f, "the option Milter.macros.envfrom does not have {auth_authen}");
    advise(f, "define(`confMILTER_MACROS_ENVFROM', `i, {auth_type}, "
              "{auth_authen}, {auth_ssf}, {auth_author}, {mail_mailer}, "
              "{mail_host}, {mail_addr}')dnl in sendmail.mc");
}

/* ---- rules and mailer ---- */

static void
rules(const struct doctor_case *k, struct findings *f)
{
    static const struct {
        const char *before, *after; /* the tag domain, on the left */
        const char *right;
        const char *name;
    } want[] = {
        {". ", " . >", "$#gmroute $@", "leads \"...DOMAIN.\" to gmroute"},
        {". ", " >", "$#gmroute $@", "leads \"...DOMAIN\" to gmroute"},
        {"", " . >", "$#error", "catches what else ends in DOMAIN"},
    };

    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *left =
            arena_printf(k->arena, "%s%s%s", want[i].before,
                         k->policy->milter.tag_domain, want[i].after);
        const char *const texts[] = {left, want[i].right, NULL};

        if (left == NULL) {
            f->nomem = true;
            return;
        }
        if (sendmail_rule(k->sendmail, texts))
            continue;
        found(f, "%s has no rule that %s (DOMAIN: %s)", k->sendmail->path,
              want[i].name, k->policy->milter.tag_domain);
        advise(f, "%s: LOCAL_RULE_0, with TABs between the fields", lines);
        return;
    }
}

static void
mailer_missing(const struct doctor_case *k, struct findings *f)
{
    if (sendmail_mailer(k->sendmail, "gmroute") != NULL)
        return;
    found(f, "%s has no mailer gmroute", k->sendmail->path);
    advise(f, "%s: MAILER_DEFINITIONS", lines);
}

static void
mailer_socket(const struct doctor_case *k, struct findings *f)
{
    const char *fields = sendmail_mailer(k->sendmail, "gmroute");
    const char *path = mta_socket_path(k->policy->deliver.listen);
    const char *given, *want;

    if (fields == NULL)
        return;
    given = sendmail_field(k->sendmail, fields, 'A');
    want = path != NULL ? arena_printf(k->arena, "FILE %s", path) : NULL;
    if (path == NULL) { /* "TCP HOST PORT" */
        const char *hop =
            mta_nexthop(k->arena, k->policy->deliver.listen, 0, "");
        const char *colon = hop != NULL ? strrchr(hop, ':') : NULL;

        if (colon != NULL && colon > hop + 5)
            want = arena_printf(k->arena, "TCP %.*s %s", (int)(colon - hop - 5),
                                hop + 5, colon + 1);
    }
    if (want == NULL || (given != NULL && strcmp(given, want) == 0))
        return;
    found(f, "the mailer gmroute has A=%s, and the agent listens at %s",
          given != NULL ? given : "", k->policy->deliver.listen);
    advise(f, "A=%s in Mgmroute of sendmail.mc", want);
}

static void
mailer_flags(const struct doctor_case *k, struct findings *f)
{
    const char *fields = sendmail_mailer(k->sendmail, "gmroute");
    const char *flags =
        fields != NULL ? sendmail_field(k->sendmail, fields, 'F') : NULL;

    if (fields == NULL || (flags != NULL && strchr(flags, 'z') != NULL &&
                           strchr(flags, 'm') != NULL))
        return;
    found(f, "the mailer gmroute has F=%s, without %s",
          flags != NULL ? flags : "",
          flags == NULL || strchr(flags, 'z') == NULL ? "z" : "m");
    advise(f, "F=mDFMuXzn8 in Mgmroute of sendmail.mc");
}

/* Its rules come with its mailer. */
static void
reports(const struct doctor_case *k, struct findings *f)
{
    if (k->report_program == NULL) {
        found(f, "%s has no mailer gmclean", k->sendmail->path);
        advise(f, "%s: LOCAL_RULE_0 and MAILER_DEFINITIONS", lines);
    } else if (k->report_error != 0) {
        found(f, "%s, which the mailer gmclean runs: %s", k->report_program,
              strerror(k->report_error));
        advise(f, "gmroutectl mta-config sendmail prints it; mode 0755");
    }
}

/* ---- time ---- */

static int64_t
option_seconds(const struct sendmail_settings *s, const char *name)
{
    const char *value = sendmail_option(s, name);

    return value != NULL ? mta_seconds(value) : -1;
}

static void
lifetime(const struct doctor_case *k, struct findings *f)
{
    int64_t s = option_seconds(k->sendmail, "Timeout.queuereturn");
    const struct account *longest = doctor_longest_wait(k->policy);
    uint64_t hours = longest != NULL ? longest->max_wait_ms / 3600000 : 0;

    if (s < 0 || hours * 3600 <= (uint64_t)s)
        return;
    found(f,
          "Timeout.queuereturn is %s, and mail may wait for %" PRIu64
          " hours (max_wait)",
          sendmail_option(k->sendmail, "Timeout.queuereturn"), hours);
    advise(f, "define(`confTO_QUEUERETURN', `%" PRIu64 "h')dnl in sendmail.mc",
           hours + 24);
}

static void
lmtp_timeouts(const struct doctor_case *k, struct findings *f)
{
    static const struct {
        const char *name;
        int64_t min_s;
        const char *macro, *usual;
    } times[] = {
        {"Timeout.datainit", 120, "confTO_DATAINIT", "5m"},
        {"Timeout.datafinal", 300, "confTO_DATAFINAL", "1h"},
        {"Timeout.rcpt", 60, "confTO_RCPT", "1h"},
    };

    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t s = option_seconds(k->sendmail, times[i].name);

        if (s < 0 || s >= times[i].min_s)
            continue;
        found(f, "%s is %" PRId64 " s, less than %" PRId64, times[i].name, s,
              times[i].min_s);
        advise(f, "define(`%s', `%s')dnl in sendmail.mc", times[i].macro,
               times[i].usual);
    }
}

static void
message_size(const struct doctor_case *k, struct findings *f)
{
    const char *value = sendmail_option(k->sendmail, "MaxMessageSize");
    int64_t n = value != NULL ? mta_number(value) : 0;

    if (n > 0 && n <= 25000000)
        return;
    found(f, "MaxMessageSize is %s", value != NULL ? value : "not set");
    advise(f, "define(`confMAX_MESSAGE_SIZE', `25000000')dnl in sendmail.mc");
}

const struct doctor_check doctor_sendmail_checks[] = {
    {"filter-missing", SEVERITY_ERROR, filter_missing,
     "no mail is routed: all of it goes the MTA's way"},
    {"filter-socket", SEVERITY_ERROR, filter_socket, "the milter is not asked"},
    {"filter-order", SEVERITY_ERROR, filter_order,
     "a filter that is not in the list is not asked; one behind ours can "
     "refuse what ours has counted"},
    {"default-action", SEVERITY_ERROR, filter_flag,
     "while the milter is down, mail would pass unrouted (no F), or be refused "
     "(R), instead of coming again later (T)"},
    {"milter-timeouts", SEVERITY_WARNING, filter_timeouts,
     "a busy host would take the milter for dead, and defer mail"},
    {"milter-macros", SEVERITY_ERROR, macros,
     "the milter does not learn who has logged in, so accounts that trust "
     "logins are never used"},
    {"rules-missing", SEVERITY_ERROR, rules,
     "tagged recipients would leave by the default route, to a domain that "
     "does not exist, and bounce"},
    {"mailer-missing", SEVERITY_ERROR, mailer_missing,
     "nothing takes tagged recipients to the agent"},
    {"mailer-socket", SEVERITY_ERROR, mailer_socket,
     "mail for Gmail stays in the queue, and in the end bounces"},
    {"mailer-flags", SEVERITY_ERROR, mailer_flags,
     "without z Sendmail speaks SMTP, which the agent does not; without m each "
     "recipient is a message of its own at Gmail"},
    {"reports", SEVERITY_WARNING, reports,
     "people would get bounces with tagged addresses; or, when the program is "
     "missing, none at all: the postmaster gets them"},
    {"own-domains", SEVERITY_ERROR, doctor_own_domains,
     "a rule that matches would send mail for this MTA's own recipients to "
     "Gmail instead of delivering it"},
    {"queue-lifetime", SEVERITY_WARNING, lifetime,
     "mail that waits for room in its account would bounce before its turn"},
    {"lmtp-timeouts", SEVERITY_WARNING, lmtp_timeouts,
     "the agent lets a message wait up to 100 s for a session, and Gmail may "
     "take minutes to answer; a message given up then is in doubt, and comes "
     "again"},
    {"message-size", SEVERITY_NOTE, message_size,
     "Gmail takes at most 25 MB; what is larger comes in, and then bounces"},
    {0}};
