/* milter/ctl/mta_plan.h - what Postfix is to have for this configuration, as
 * data: mta-config prints it, mta-config --apply does it, doctor looks for it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Why each line is there is printed with it.
 */
#ifndef CTL_MTA_PLAN_H
#define CTL_MTA_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/arena.h"
#include "policy/policy.h"
#include "policy/ticket.h"

enum {
    PLAN_CONCURRENCY = 10, /* deliveries at once into one queue label */
    PLAN_MAXPROC = TICKET_QUEUES * PLAN_CONCURRENCY,
    PLAN_RECIPIENTS = 100, /* Gmail takes no more in one message */
    PLAN_SETTINGS = 7,
    PLAN_SERVICES = 5,
    PLAN_OVERRIDES = 6,
    PLAN_FILES = 2,
};

struct plan_setting { /* of main.cf */
    const char *name, *value;
    bool is_list;    /* the value is added, at the end, to what is there */
    const char *why; /* comment lines */
};

struct plan_service {                    /* of master.cf */
    const char *name;                    /* all are of type unix */
    const char *private_, *unprivileged; /* fields; no service is chrooted */
    unsigned maxproc;
    const char *command;
    bool is_ours; /* false: Postfix has it, and only the -o are added */
    struct {
        const char *name, *value;
    } override[PLAN_OVERRIDES];
    const char *why;
};

struct plan_file {
    const char *name; /* in Postfix's directory */
    const char *note; /* after the name, where it is printed */
    const char *text;
};

struct mta_plan {
    struct plan_setting setting[PLAN_SETTINGS];
    struct plan_service service[PLAN_SERVICES];
    struct plan_file file[PLAN_FILES]; /* the transport table, gmclean.pcre */
};

/* directory: Postfix's own; queue_directory: of its main.cf.  False = out of
 * memory. */
bool mta_plan(const struct policy *p, const char *directory,
              const char *queue_directory, struct arena *a,
              struct mta_plan *ret);

/* How Postfix names the socket of the milter, and the nexthop of one queue
 * label.  A path below the queue directory is given relative to it, which
 * works in a chroot and outside.  NULL = out of memory. */
const char *mta_milter_endpoint(struct arena *a, const char *listen,
                                const char *queue_directory);
const char *mta_nexthop(struct arena *a, const char *listen, unsigned queue,
                        const char *queue_directory);

/* The path of a unix socket in libmilter's or our syntax; NULL: it is none. */
const char *mta_socket_path(const char *listen);

#endif
