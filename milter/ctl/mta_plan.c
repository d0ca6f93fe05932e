/* milter/ctl/mta_plan.c - see mta_plan.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mta_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- sockets ---- */

const char *
mta_socket_path(const char *listen)
{
    if (listen[0] == '/')
        return listen;
    if (strncasecmp(listen, "unix:", 5) == 0)
        return listen + 5;
    if (strncasecmp(listen, "local:", 6) == 0)
        return listen + 6;
    return NULL;
}

/* The part of a path below the queue directory, or all of it. */
static const char *
below(const char *path, const char *queue_directory)
{
    size_t len = strlen(queue_directory);

    return strncmp(path, queue_directory, len) == 0 && path[len] == '/'
               ? path + len + 1
               : path;
}

/* "inet:PORT@HOST" as Postfix writes it, "inet:HOST:PORT". */
static const char *
inet(struct arena *a, const char *listen)
{
    const char *colon = strchr(listen, ':'), *at = strchr(listen, '@');

    if (colon == NULL)
        return arena_copy(a, slice_of(listen));
    if (at == NULL)
        return arena_printf(a, "inet:127.0.0.1:%s", colon + 1);
    return arena_printf(a, "inet:%s:%.*s", at + 1, (int)(at - colon - 1),
                        colon + 1);
}

const char *
mta_milter_endpoint(struct arena *a, const char *listen,
                    const char *queue_directory)
{
    const char *path = mta_socket_path(listen);

    return path != NULL
               ? arena_printf(a, "unix:%s", below(path, queue_directory))
               : inet(a, listen);
}

const char *
mta_nexthop(struct arena *a, const char *listen, unsigned queue,
            const char *queue_directory)
{
    const char *path = mta_socket_path(listen), *name;

    if (path == NULL)
        return inet(a, listen);
    path = below(path, queue_directory);
    name = strrchr(path, '/');
    return arena_printf(a, "unix:%.*sq%02u.sock",
                        name != NULL ? (int)(name - path) + 1 : 0, path, queue);
}

/* ---- the parts of the plan ---- */

#define LAST                                                             \
    "# the filter; last in the list, behind any other milter, since a\n" \
    "# later one could still refuse what ours has counted\n"
#define OUTSIDE                                                                \
    "# this socket lies outside the queue directory: it is found only where\n" \
    "# smtpd and cleanup do not run in a chroot (master.cf)\n"

static void
plan_settings(const char *endpoint, const char *table, const char *concurrency,
              const char *recipients, struct mta_plan *ret)
{
    const struct plan_setting settings[PLAN_SETTINGS] = {
        {"smtpd_milters", endpoint, true,
         strncmp(endpoint, "unix:/", 6) == 0 ? LAST OUTSIDE : LAST},
        {"non_smtpd_milters", endpoint, true,
         "# mail that programs of this host hand to sendmail(1)\n"},
        {"milter_default_action", "tempfail", false,
         "# while the filter is down, clients try again later; without this\n"
         "# line mail would pass unrouted or connections would be shut\n"},
        {"transport_maps", table, true,
         "# add this table to those that are there; never pcre or regexp\n"},
        {"gmroute_destination_recipient_limit", recipients, false,
         "# Gmail takes 100 recipients in one message\n"},
        {"gmroute_destination_concurrency_limit", concurrency, false,
         "# deliveries at once for each queue label, from the first on\n"},
        {"gmroute_initial_destination_concurrency", concurrency, false, ""},
    };

    memcpy(ret->setting, settings, sizeof settings);
}

static void
plan_services(const char *body_checks, struct mta_plan *ret)
{
    static const char *const bounces[] = {"bounce", "defer", "trace"};

    ret->service[0] = (struct plan_service){
        .name = "gmroute",
        .private_ = "-",
        .unprivileged = "-",
        .maxproc = PLAN_MAXPROC,
        .command = "lmtp",
        .is_ours = true,
        .override = {{"syslog_name", "postfix/gmroute"},
                     {"lmtp_send_xforward_command", "yes"}},
        .why = "# maxproc: queue labels x concurrency; XFORWARD gives the "
               "agent the\n# queue id, for its log\n"};
    for (size_t i = 0; i < 3; i++)
        ret->service[1 + i] = (struct plan_service){
            .name = bounces[i],
            .private_ = "-",
            .unprivileged = "-",
            .command = "bounce",
            .override = {{"cleanup_service_name", "gmclean"},
                         {"internal_mail_filter_classes", "bounce"}},
            .why = i > 0 ? ""
                         : "# bounces that show people the real address: "
                           "these three services\n# replace the ones of the "
                           "same name\n"};
    ret->service[4] = (struct plan_service){
        .name = "gmclean",
        .private_ = "n",
        .unprivileged = "-",
        .command = "cleanup",
        .is_ours = true,
        .override = {{"body_checks", body_checks},
                     {"body_checks_size_limit", "0"},
                     {"nested_header_checks", body_checks},
                     {"header_checks", ""},
                     {"mime_header_checks", ""},
                     {"non_smtpd_milters", ""}},
        .why = "# the whole of a bounce, which is longer than "
               "the stock 50 KiB from some 80\n# failed "
               "recipients on, and the header of the returned "
               "message\n"};
}

static bool
plan_table(const struct policy *p, const char *queue_directory, struct arena *a,
           struct plan_file *ret)
{
    const char *domain = p->milter.tag_domain;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool good = out != NULL;

    if (!good)
        return false;
    fputs("# one queue for each label, so that a slow account holds up only\n"
          "# those that share its label\n",
          out);
    for (unsigned i = 0; i < TICKET_QUEUES; i++) {
        const char *hop = mta_nexthop(a, p->deliver.listen, i, queue_directory);

        good = good && hop != NULL;
        fprintf(out, ".q%02u.%s  gmroute:%s\n", i, domain,
                hop != NULL ? hop : "");
    }
    fprintf(out,
            "# whatever else stands below the tag domain must never leave by "
            "the\n# default route\n"
            ".%s  retry:4.3.5 no such gmroute queue\n"
            "%s  retry:4.3.5 no such gmroute queue\n",
            domain, domain);
    good = fclose(out) == 0 && good;
    *ret = (struct plan_file){
        "gmroute", "", good ? arena_copy(a, (struct slice){text, size}) : NULL};
    free(text);
    return ret->text != NULL;
}

static bool
plan_cleaner(const struct policy *p, struct arena *a, struct plan_file *ret)
{
    const char *domain = p->milter.tag_domain;
    char *escaped = arena_alloc(a, strlen(domain) + 1, 2), *to = escaped;

    if (escaped == NULL)
        return false;
    for (const char *c = domain; *c != '\0'; c++) {
        if (*c == '.')
            *to++ = '\\';
        *to++ = *c;
    }
    *ret = (struct plan_file){
        "gmclean.pcre", " (needs postfix-pcre)",
        arena_printf(a,
                     "# takes the tag off the first tagged address of a line\n"
                     "/^(.*?@[^@\\s<>]*?)\\.[a-z2-7]{48}\\.[a-z0-9-]+"
                     "\\.q[0-9][0-9]\\.%s(.*)$/ REPLACE ${1}${2}\n",
                     escaped)};
    return ret->text != NULL;
}

bool
mta_plan(const struct policy *p, const char *directory,
         const char *queue_directory, struct arena *a, struct mta_plan *ret)
{
    const char *endpoint =
        mta_milter_endpoint(a, p->milter.listen, queue_directory);
    const char *table = arena_printf(a, "texthash:%s/gmroute", directory);
    const char *checks = arena_printf(a, "pcre:%s/gmclean.pcre", directory);
    const char *concurrency = arena_printf(a, "%d", PLAN_CONCURRENCY);
    const char *recipients = arena_printf(a, "%d", PLAN_RECIPIENTS);

    *ret = (struct mta_plan){0};
    if (endpoint == NULL || table == NULL || checks == NULL ||
        concurrency == NULL || recipients == NULL)
        return false;
    plan_settings(endpoint, table, concurrency, recipients, ret);
    plan_services(checks, ret);
    return plan_table(p, queue_directory, a, &ret->file[0]) &&
           plan_cleaner(p, a, &ret->file[1]);
}
