/* milter/ctl/doctor_master.c - master.cf: the service that hands mail to the
 * agent, and the ones that write bounces.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"

#define OURS "gmroute/unix"

static const char *const bounces[] = {"bounce/unix", "defer/unix",
                                      "trace/unix"};

/* ---- the way to the agent ---- */

static void
service_missing(const struct doctor_case *k, struct findings *f)
{
    if (mta_service(k->mta, OURS) != NULL)
        return;
    found(f, "master.cf has no service gmroute of type unix");
    mend_apply(k, f);
}

static void
service_command(const struct doctor_case *k, struct findings *f)
{
    const struct mta_service *v = mta_service(k->mta, OURS);

    if (v == NULL || strcmp(v->command, "lmtp") == 0)
        return;
    found(f, "the service gmroute runs %s", v->command);
    mend_apply(k, f);
}

/* In a chroot only what lies below the queue directory can be reached. */
static void
service_chroot(const struct doctor_case *k, struct findings *f)
{
    const struct mta_service *v = mta_service(k->mta, OURS);
    const char *path = mta_socket_path(k->policy->deliver.listen);
    const char *queue = mta_main(k->mta, "queue_directory");
    size_t len = strlen(queue);

    if (v == NULL || !v->is_chrooted || path == NULL ||
        (strncmp(path, queue, len) == 0 && path[len] == '/'))
        return;
    found(f,
          "the service gmroute runs in a chroot, outside of which the "
          "agent's socket lies: %s",
          path);
    mend_field(k, f, OURS, "chroot", "n");
}

static void
maxproc(const struct doctor_case *k, struct findings *f)
{
    const struct mta_service *v = mta_service(k->mta, OURS);
    int64_t each =
        mta_number(mta_main(k->mta, "gmroute_destination_concurrency_limit"));
    int64_t most = v == NULL ? 0
                   : v->has_maxproc
                       ? (int64_t)v->maxproc
                       : mta_number(mta_main(k->mta, "default_process_limit"));
    const char *want;

    if (v == NULL || most == 0 || each <= 0 || each > 10000 ||
        most >= TICKET_QUEUES * each)
        return;
    found(f,
          "the service gmroute may have %" PRId64 " processes, fewer than %d "
          "queue labels x %" PRId64 " deliveries at once",
          most, TICKET_QUEUES, each);
    want = arena_printf(k->arena, "%" PRId64, TICKET_QUEUES * each);
    mend_field(k, f, OURS, "process_limit", want != NULL ? want : "320");
}

static void
xforward(const struct doctor_case *k, struct findings *f)
{
    const struct mta_service *v = mta_service(k->mta, OURS);

    if (v == NULL || strcmp(v->command, "lmtp") != 0 ||
        strcmp(mta_effective(k->mta, OURS, "lmtp_send_xforward_command"),
               "yes") == 0)
        return;
    found(f, "the service gmroute does not send XFORWARD");
    mend_override(k, f, OURS, "lmtp_send_xforward_command", "yes");
}

static void
lmtp_timeouts(const struct doctor_case *k, struct findings *f)
{
    static const struct {
        const char *name;
        int64_t min_s;
        const char *usual;
    } times[] = {{"lmtp_data_init_timeout", 120, "120s"},
                 {"lmtp_data_done_timeout", 300, "600s"},
                 {"lmtp_rcpt_timeout", 60, "300s"},
                 {"lmtp_lhlo_timeout", 30, "300s"}};

    if (mta_service(k->mta, OURS) == NULL)
        return;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        const char *value = mta_effective(k->mta, OURS, times[i].name);

        if (mta_seconds(value) >= times[i].min_s)
            continue;
        found(f, "%s is %s for the service gmroute, less than %d s",
              times[i].name, value, (int)times[i].min_s);
        if (mta_override(k->mta, OURS, times[i].name) != NULL)
            mend_override(k, f, OURS, times[i].name, times[i].usual);
        else
            mend_main(k, f, times[i].name, times[i].usual);
    }
}

static void
lhlo_keywords(const struct doctor_case *k, struct findings *f)
{
    static const char name[] = "lmtp_discard_lhlo_keywords";
    const char *value = mta_effective(k->mta, OURS, name);

    if (mta_service(k->mta, OURS) == NULL || value[0] == '\0')
        return;
    found(f, "%s is %s for the service gmroute", name, value);
    mend_override(k, f, OURS, name, "");
}

static void
retry_missing(const struct doctor_case *k, struct findings *f)
{
    if (mta_service(k->mta, "retry/unix") != NULL)
        return;
    found(f, "master.cf has no service retry");
    mend(f, "postconf%s%s -M 'retry/unix=retry unix - - n - - error'",
         k->mta->is_default ? "" : " -c ",
         k->mta->is_default ? "" : mta_quote(k->arena, k->mta->directory));
}

/* ---- bounces ---- */

/* The service that cleans bounces; NULL: none is named. */
static const char *
cleaner(const struct doctor_case *k)
{
    for (size_t i = 0; i < 3; i++) {
        const char *name =
            mta_override(k->mta, bounces[i], "cleanup_service_name");

        if (name != NULL)
            return arena_printf(k->arena, "%s/unix", name);
    }
    return NULL;
}

static void
bounces_stock(const struct doctor_case *k, struct findings *f)
{
    const char *services = "";

    for (size_t i = 0; i < 3 && services != NULL; i++) {
        const char *classes =
            mta_effective(k->mta, bounces[i], "internal_mail_filter_classes");

        if (mta_override(k->mta, bounces[i], "cleanup_service_name") == NULL ||
            strstr(classes, "bounce") == NULL)
            services =
                arena_printf(k->arena, "%s%s%s", services,
                             services[0] != '\0' ? ", " : "", bounces[i]);
    }
    if (services == NULL || services[0] == '\0')
        return;
    found(f, "bounces of %s do not go through the service gmclean", services);
    mend_apply(k, f);
}

static void
cleaner_missing(const struct doctor_case *k, struct findings *f)
{
    const char *key = cleaner(k);

    if (key == NULL || mta_service(k->mta, key) != NULL)
        return;
    found(f, "bounces are given to %s, which master.cf does not have", key);
    mend_apply(k, f);
}

static void
cleaner_table(const struct doctor_case *k, struct findings *f)
{
    struct slice type = {k->cleaner.map, k->cleaner.map != NULL
                                             ? strcspn(k->cleaner.map, ":")
                                             : 0};

    if (k->cleaner.err == NULL)
        return;
    if (!mta_has_map_type(k->mta, type)) {
        found(f, "this Postfix has no tables of the type %.*s, and %s is one",
              SLICE_FMT(type), k->cleaner.map);
        advise(f, "apt-get install postfix-%.*s", SLICE_FMT(type));
        return;
    }
    found(f, "the table of %s cannot be read: %s", cleaner(k), k->cleaner.err);
    mend_apply(k, f);
}

static void
cleaner_works(const struct doctor_case *k, struct findings *f)
{
    const char *key = cleaner(k);

    if (key == NULL || mta_service(k->mta, key) == NULL ||
        k->cleaner.err != NULL)
        return;
    if (k->cleaner.address != NULL &&
        strncmp(k->cleaner.address, "REPLACE ", 8) == 0 &&
        strstr(k->cleaner.address, k->policy->milter.tag_domain) == NULL)
        return;
    if (k->cleaner.map == NULL)
        found(f, "%s has no body_checks", key);
    else
        found(f, "%s does not take the tag off an address", k->cleaner.map);
    mend_apply(k, f);
}

static void
cleaner_milters(const struct doctor_case *k, struct findings *f)
{
    const char *key = cleaner(k);

    if (key == NULL || mta_service(k->mta, key) == NULL ||
        mta_effective(k->mta, key, "non_smtpd_milters")[0] == '\0')
        return;
    found(f, "%s gives bounces to milters", key);
    mend_override(k, f, key, "non_smtpd_milters", "");
}

const struct doctor_check doctor_master_checks[] = {
    {"service-missing", SEVERITY_ERROR, service_missing,
     "mail for Gmail stays in the queue, and in the end bounces: nothing takes "
     "it to the agent"},
    {"service-command", SEVERITY_ERROR, service_command,
     "the agent speaks LMTP"},
    {"service-chroot", SEVERITY_ERROR, service_chroot,
     "mail for Gmail stays in the queue: the socket is not found"},
    {"maxproc", SEVERITY_WARNING, maxproc,
     "a few labels with slow accounts take all processes, and the others get "
     "none"},
    {"xforward", SEVERITY_WARNING, xforward,
     "log and ledger of the agent do not have the queue id, by which one finds "
     "a message"},
    {"lmtp-timeouts", SEVERITY_WARNING, lmtp_timeouts,
     "the agent lets a message wait up to 100 s for a session, and Gmail may "
     "take minutes to answer; a message given up then is in doubt, and comes "
     "again"},
    {"lhlo-keywords", SEVERITY_WARNING, lhlo_keywords,
     "without PIPELINING deliveries are slower, without SMTPUTF8 and 8BITMIME "
     "such mail bounces"},
    {"retry-missing", SEVERITY_ERROR, retry_missing,
     "the lines that catch unknown tags need it"},
    {"bounces-stock", SEVERITY_NOTE, bounces_stock,
     "people see the tagged address in them instead of the one they know"},
    {"cleaner-missing", SEVERITY_ERROR, cleaner_missing,
     "no bounce can be written; mail that failed stays in the queue"},
    {"cleaner-table", SEVERITY_ERROR, cleaner_table,
     "no bounce can be written; mail that failed stays in the queue"},
    {"cleaner-idle", SEVERITY_WARNING, cleaner_works,
     "people see the tagged address in bounces instead of the one they know"},
    {"cleaner-milters", SEVERITY_WARNING, cleaner_milters,
     "a milter could refuse or change a bounce, and the sender would never "
     "know that the mail has failed"},
    {0}};
