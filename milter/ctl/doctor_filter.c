/* milter/ctl/doctor_filter.c - does Postfix ask our milter, everywhere, last,
 * and waits for it?
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"

/* ---- our entry in a list of milters ---- */

enum reach { NOT_OURS, OURS, OURS_ELSEWHERE /* it leads to another path */ };

struct use { /* of our milter by a service */
    const struct mta_service *service;
    const char *parameter; /* the list it stands in */
    enum reach reach;      /* NOT_OURS: the service does not have it */
    struct slice options;  /* in braces behind the socket; empty = none */
    bool is_last;
};

/* Where a path of main.cf leads a service to.  Relative ones begin at the
 * queue directory, and so do absolute ones in a chroot. */
static enum reach
reach_path(const struct doctor_case *k, const struct mta_service *v,
           struct slice path)
{
    const char *ours = mta_socket_path(k->policy->milter.listen);
    const char *queue = mta_main(k->mta, "queue_directory");
    size_t len = strlen(queue);
    bool in_queue;

    if (ours == NULL || path.len == 0)
        return NOT_OURS;
    in_queue = strncmp(ours, queue, len) == 0 && ours[len] == '/';
    if (path.at[0] != '/')
        return in_queue && slice_eq(path, slice_of(ours + len + 1)) ? OURS
                                                                    : NOT_OURS;
    if (slice_eq(path, slice_of(ours)))
        return v->is_chrooted ? OURS_ELSEWHERE : OURS;
    if (in_queue && slice_eq(path, slice_of(ours + len)))
        return v->is_chrooted ? OURS : OURS_ELSEWHERE;
    return NOT_OURS;
}

static enum reach
reach(const struct doctor_case *k, const struct mta_service *v,
      struct slice endpoint)
{
    const char *ours = k->policy->milter.listen;

    if (slice_starts(endpoint, "unix:"))
        return reach_path(k, v, slice_from(endpoint, 5));
    if (slice_starts(endpoint, "local:"))
        return reach_path(k, v, slice_from(endpoint, 6));
    ours = mta_milter_endpoint(k->arena, ours, "");
    if (ours != NULL && slice_starts(endpoint, "inet:localhost:") &&
        strncmp(ours, "inet:127.0.0.1:", 15) == 0)
        return slice_eq(slice_from(endpoint, 15), slice_of(ours + 15))
                   ? OURS
                   : NOT_OURS;
    return ours != NULL && slice_eq_nocase(endpoint, slice_of(ours)) ? OURS
                                                                     : NOT_OURS;
}

static struct use
use_of(const struct doctor_case *k, const struct mta_service *v)
{
    bool smtpd = strcmp(v->command, "smtpd") == 0;
    struct use u = {.service = v,
                    .parameter = smtpd ? "smtpd_milters" : "non_smtpd_milters"};
    struct slice rest = slice_of(mta_effective(k->mta, v->key, u.parameter));
    struct slice entry;

    if (strstr(mta_effective(k->mta, v->key, "receive_override_options"),
               "no_milters") != NULL)
        return u;
    while (mta_list_next(&rest, &entry)) {
        struct slice inner = entry, endpoint = entry;
        enum reach r;

        if (entry.len > 1 && entry.at[0] == '{') {
            inner = (struct slice){entry.at + 1, entry.len - 2};
            if (!mta_list_next(&inner, &endpoint))
                continue;
        } else {
            inner.len = 0;
        }
        r = reach(k, v, endpoint);
        u.is_last = r != NOT_OURS;
        if (r != NOT_OURS) {
            u.reach = r;
            u.options = inner;
        }
    }
    return u;
}

/* The next service that takes mail in; *i begins at 0. */
static bool
next_use(const struct doctor_case *k, size_t *i, struct use *ret)
{
    while (*i < k->mta->n_services) {
        const struct mta_service *v = &k->mta->services[(*i)++];
        const char *own = mta_override(k->mta, v->key, "non_smtpd_milters");
        bool cleanup = strcmp(v->command, "cleanup") == 0;

        /* One with an empty list of its own is meant to be without. */
        if (strcmp(v->command, "smtpd") != 0 &&
            (!cleanup || (own != NULL && own[0] == '\0')))
            continue;
        *ret = use_of(k, v);
        return true;
    }
    return false;
}

/* An option of the milter: in the braces, or the parameter for all. */
static const char *
option_of(const struct doctor_case *k, const struct use *u, const char *name)
{
    struct slice rest = u->options, word;
    size_t len = strlen(name);
    const char *parameter = arena_printf(k->arena, "milter_%s", name);

    while (mta_list_next(&rest, &word))
        if (word.len > len && slice_starts(word, name) && word.at[len] == '=')
            return arena_copy(k->arena, slice_from(word, len + 1));
    return parameter != NULL ? mta_effective(k->mta, u->service->key, parameter)
                             : NULL;
}

/* Sets it where it was found. */
static void
mend_option(const struct doctor_case *k, struct findings *f,
            const struct use *u, const char *name, const char *value)
{
    const char *parameter = arena_printf(k->arena, "milter_%s", name);

    if (parameter == NULL)
        f->nomem = true;
    else if (memmem(u->options.at, u->options.len, name, strlen(name)) != NULL)
        advise(f, "in %s of main.cf, in the braces of our milter: %s=%s",
               u->parameter, name, value);
    else if (mta_override(k->mta, u->service->key, parameter) != NULL)
        mend_override(k, f, u->service->key, parameter, value);
    else
        mend_main(k, f, parameter, value);
}

/* ---- checks ---- */

static void
missing(const struct doctor_case *k, struct findings *f)
{
    struct use u;
    size_t with = 0;

    for (size_t i = 0; next_use(k, &i, &u);)
        with +=
            strcmp(u.parameter, "smtpd_milters") == 0 && u.reach != NOT_OURS;
    if (with > 0)
        return;
    found(f, "no smtpd service asks our milter (%s)", k->policy->milter.listen);
    mend_apply(k, f);
}

static void
missing_local(const struct doctor_case *k, struct findings *f)
{
    struct use u;

    for (size_t i = 0; next_use(k, &i, &u);)
        if (strcmp(u.parameter, "non_smtpd_milters") == 0 &&
            u.reach != NOT_OURS)
            return;
    found(f, "non_smtpd_milters does not have our milter");
    mend_apply(k, f);
}

static void
partly(const struct doctor_case *k, struct findings *f)
{
    struct use u;
    size_t with = 0;
    const char *without = "";

    for (size_t i = 0; next_use(k, &i, &u);) {
        if (strcmp(u.parameter, "smtpd_milters") != 0)
            continue;
        if (u.reach != NOT_OURS)
            with++;
        else
            without =
                arena_printf(k->arena, "%s%s%s", without,
                             without[0] != '\0' ? ", " : "", u.service->key);
        if (without == NULL)
            return;
    }
    if (with == 0 || without[0] == '\0')
        return;
    found(f, "mail that comes in by %s does not pass our milter", without);
    advise(f, "if that is not meant: take smtpd_milters and no_milters out of "
              "that service in master.cf");
}

static void
not_last(const struct doctor_case *k, struct findings *f)
{
    struct use u;

    for (size_t i = 0; next_use(k, &i, &u);) {
        if (u.reach == NOT_OURS || u.is_last)
            continue;
        found(f, "%s: another milter stands behind ours in %s", u.service->key,
              u.parameter);
        if (mta_override(k->mta, u.service->key, u.parameter) != NULL)
            advise(f, "in master.cf, put ours last in -o %s of %s", u.parameter,
                   u.service->key);
        else
            mend_apply(k, f);
        return;
    }
}

static void
unreachable(const struct doctor_case *k, struct findings *f)
{
    const char *path = mta_socket_path(k->policy->milter.listen);
    const char *queue = mta_main(k->mta, "queue_directory");
    size_t len = strlen(queue);
    struct use u;

    for (size_t i = 0; next_use(k, &i, &u);) {
        if (u.reach != OURS_ELSEWHERE)
            continue;
        found(f,
              "%s runs %s, where the path in %s is not that of our milter's "
              "socket, %s",
              u.service->key,
              u.service->is_chrooted ? "in a chroot" : "without a chroot",
              u.parameter, path);
        if (strncmp(path, queue, len) == 0 && path[len] == '/') {
            mend_apply(k, f);
        } else {
            advise(f,
                   "in %s: milter: {listen: \"unix:%s/gmroute/milter.sock\"}",
                   k->policy->file, queue);
            advise(f, "start gmroute-milter again, then: gmroutectl "
                      "mta-config postfix --apply");
        }
        return;
    }
}

static void
default_action(const struct doctor_case *k, struct findings *f)
{
    struct use u;

    for (size_t i = 0; next_use(k, &i, &u);) {
        const char *value = option_of(k, &u, "default_action");

        if (u.reach == NOT_OURS || value == NULL ||
            strcmp(value, "tempfail") == 0)
            continue;
        found(f, "%s: milter_default_action is %s%s", u.service->key, value,
              mta_is_set(k->mta, "milter_default_action")
                  ? ""
                  : ", the default of this Postfix");
        mend_option(k, f, &u, "default_action", "tempfail");
        return;
    }
}

static void
default_action_unset(const struct doctor_case *k, struct findings *f)
{
    if (mta_is_set(k->mta, "milter_default_action") ||
        strcmp(mta_main(k->mta, "milter_default_action"), "tempfail") != 0)
        return;
    found(f, "milter_default_action is tempfail by default alone");
    mend_main(k, f, "milter_default_action", "tempfail");
}

static void
protocol(const struct doctor_case *k, struct findings *f)
{
    struct use u;

    for (size_t i = 0; next_use(k, &i, &u);) {
        const char *value = option_of(k, &u, "protocol");

        if (u.reach == NOT_OURS || value == NULL || mta_number(value) >= 6)
            continue;
        found(f, "%s: milter_protocol is %s", u.service->key, value);
        mend_option(k, f, &u, "protocol", "6");
        return;
    }
}

static void
timeouts(const struct doctor_case *k, struct findings *f)
{
    static const struct {
        const char *name;
        int64_t min_s;
        const char *usual;
    } times[] = {{"connect_timeout", 5, "30s"},
                 {"command_timeout", 10, "30s"},
                 {"content_timeout", 30, "300s"}};
    struct use u;

    for (size_t t = 0; t < sizeof times / sizeof *times; t++)
        for (size_t i = 0; next_use(k, &i, &u);) {
            const char *value = option_of(k, &u, times[t].name);

            if (u.reach == NOT_OURS || value == NULL ||
                mta_seconds(value) >= times[t].min_s)
                continue;
            found(f, "%s: milter_%s is %s, less than %d s", u.service->key,
                  times[t].name, value, (int)times[t].min_s);
            mend_option(k, f, &u, times[t].name, times[t].usual);
            break;
        }
}

static void
by_inet(const struct doctor_case *k, struct findings *f)
{
    if (mta_socket_path(k->policy->milter.listen) != NULL)
        return;
    found(f, "the milter listens at %s", k->policy->milter.listen);
    advise(f, "in %s: milter: {listen: \"unix:%s/gmroute/milter.sock\"}",
           k->policy->file, mta_main(k->mta, "queue_directory"));
}

static void
macros(const struct doctor_case *k, struct findings *f)
{
    const char *value = mta_main(k->mta, "milter_mail_macros");

    if (!doctor_needs_login(k->policy) ||
        strstr(value, "{auth_authen}") != NULL)
        return;
    found(f, "milter_mail_macros does not have {auth_authen}");
    mend_main(k, f, "milter_mail_macros",
              "i {auth_type} {auth_authen} {auth_author} {mail_addr} "
              "{mail_host} {mail_mailer}");
}

/* ---- who may send as whom ---- */

static bool
has_login_check(const struct doctor_case *k, const char *service)
{
    static const char *const stages[] = {
        "smtpd_client_restrictions", "smtpd_helo_restrictions",
        "smtpd_sender_restrictions", "smtpd_relay_restrictions",
        "smtpd_recipient_restrictions"};
    struct slice rest = slice_of(mta_main(k->mta, "smtpd_restriction_classes"));
    struct slice class;

    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strstr(mta_effective(k->mta, service, stages[i]),
                   "sender_login_mismatch") != NULL)
            return true;
    while (mta_list_next(&rest, &class)) {
        const char *name = arena_copy(k->arena, class);

        if (name != NULL && strstr(mta_effective(k->mta, service, name),
                                   "sender_login_mismatch") != NULL)
            return true;
    }
    return false;
}

static void
sasl_senders(const struct doctor_case *k, struct findings *f)
{
    const char *name = "reject_authenticated_sender_login_mismatch";
    bool trusts = false;

    for (size_t i = 0; i < k->policy->n_accounts; i++) {
        const struct account *a = &k->policy->accounts[i];

        trusts = trusts || (a->is_template && (a->trust.login || a->trust.any ||
                                               a->trust.n_logins > 0));
    }
    for (size_t i = 0; i < k->mta->n_services && trusts; i++) {
        const struct mta_service *v = &k->mta->services[i];
        const char *maps =
            mta_effective(k->mta, v->key, "smtpd_sender_login_maps");
        const char *old =
            mta_effective(k->mta, v->key, "smtpd_sender_restrictions");

        if (strcmp(v->command, "smtpd") != 0 ||
            strcmp(mta_effective(k->mta, v->key, "smtpd_sasl_auth_enable"),
                   "yes") != 0 ||
            (has_login_check(k, v->key) && maps[0] != '\0'))
            continue;
        found(f, "%s: who has logged in may use any sender: %s", v->key,
              maps[0] == '\0' ? "smtpd_sender_login_maps is empty"
                              : "no restriction compares login and sender");
        if (maps[0] == '\0')
            advise(f, "in main.cf: smtpd_sender_login_maps = a table of "
                      "sender -> login");
        if (!has_login_check(k, v->key)) {
            const char *value = arena_printf(k->arena, "%s%s%s", name,
                                             old[0] != '\0' ? ", " : "", old);

            if (value == NULL)
                f->nomem = true;
            else if (mta_override(k->mta, v->key,
                                  "smtpd_sender_restrictions") != NULL)
                mend_override(k, f, v->key, "smtpd_sender_restrictions", value);
            else
                mend_main(k, f, "smtpd_sender_restrictions", value);
        }
        return;
    }
}

/* A filter that gives mail back to an smtpd which asks our milter again. */
static void
content_filter(const struct doctor_case *k, struct findings *f)
{
    const char *back = NULL, *through = NULL;
    struct use u;

    if (k->policy->milter.n_reinject_from > 0)
        return;
    for (size_t i = 0; next_use(k, &i, &u);) {
        bool filters =
            mta_effective(k->mta, u.service->key, "content_filter")[0] != '\0';

        if (u.reach == NOT_OURS || strcmp(u.parameter, "smtpd_milters") != 0)
            continue;
        if (filters)
            through = u.service->key;
        else
            back = u.service->key;
    }
    if (through == NULL || back == NULL)
        return;
    found(f,
          "mail that came by %s goes through a content_filter, and %s, to "
          "which it may come back, asks our milter again",
          through, back);
    advise(f,
           "in %s: milter: {reinject_from: [127.0.0.1]} (the filter's "
           "address)",
           k->policy->file);
    advise(f, "or take the milter off %s", back);
}

const struct doctor_check doctor_filter_checks[] = {
    {"filter-missing", SEVERITY_ERROR, missing,
     "no mail is routed: all of it goes the MTA's way"},
    {"filter-missing-local", SEVERITY_WARNING, missing_local,
     "mail that programs of this host hand to sendmail(1) is not routed"},
    {"filter-partly", SEVERITY_NOTE, partly,
     "it is right for the way back from a content filter, and wrong for "
     "clients: their mail is not routed"},
    {"filter-not-last", SEVERITY_WARNING, not_last,
     "a later milter can refuse a message that ours has counted already"},
    {"filter-chroot", SEVERITY_ERROR, unreachable,
     "in a chroot a path begins at the queue directory; the milter is not "
     "found, and milter_default_action decides about all mail"},
    {"default-action", SEVERITY_ERROR, default_action,
     "while the milter is down, mail would pass unrouted, or be refused, "
     "instead of coming again later"},
    {"default-action-unset", SEVERITY_NOTE, default_action_unset,
     "Postfix 3.11 has another default, shutdown"},
    {"milter-protocol", SEVERITY_ERROR, protocol,
     "our milter needs version 6: with less it cannot change recipients as it "
     "must, or leave out steps"},
    {"milter-timeouts", SEVERITY_WARNING, timeouts,
     "a busy host would take the milter for dead, and defer mail"},
    {"milter-inet", SEVERITY_NOTE, by_inet,
     "whoever can connect can ask it, and over TCP each message costs more "
     "than over a unix socket"},
    {"milter-macros", SEVERITY_ERROR, macros,
     "the milter does not learn who has logged in, so accounts that trust "
     "logins are never used"},
    {"sasl-senders", SEVERITY_WARNING, sasl_senders,
     "a rule by sender then sends through accounts of others for whoever has "
     "a login"},
    {"content-filter", SEVERITY_WARNING, content_filter,
     "the milter refuses tags that come back, unless it knows from whom: the "
     "message would be lost in the filter or bounce"},
    {0}};
