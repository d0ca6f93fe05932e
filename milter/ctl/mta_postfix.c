/* milter/ctl/mta_postfix.c - what Postfix needs for this configuration.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/mta_config.h"
#include "policy/ticket.h"

/* Deliveries at once into one queue label. */
enum { CONCURRENCY = 10 };

/* A path below the queue directory, relative to it: a chrooted process of
 * Postfix and one that is not both reach that. */
static const char *
in_queue_directory(const char *path)
{
    static const char spool[] = "/var/spool/postfix/";

    return strncmp(path, spool, sizeof spool - 1) == 0
               ? path + sizeof spool - 1
               : path;
}

/* Postfix names a milter's socket in its own order. */
static void
milter_endpoint(const char *listen, char *ret, size_t size)
{
    const char *at = strchr(listen, '@');

    if (strncmp(listen, "inet:", 5) == 0 && at != NULL)
        snprintf(ret, size, "inet:%s:%.*s", at + 1, (int)(at - listen - 5),
                 listen + 5);
    else if (strncmp(listen, "local:", 6) == 0)
        snprintf(ret, size, "unix:%s", in_queue_directory(listen + 6));
    else if (strncmp(listen, "unix:", 5) == 0)
        snprintf(ret, size, "unix:%s", in_queue_directory(listen + 5));
    else if (listen[0] == '/')
        snprintf(ret, size, "unix:%s", in_queue_directory(listen));
    else
        snprintf(ret, size, "%s", listen);
}

/* The nexthop of one queue label. */
static void
nexthop(const char *listen, unsigned queue, char *ret, size_t size)
{
    const char *at = strchr(listen, '@'), *name;

    if (strncmp(listen, "inet:", 5) == 0) {
        snprintf(ret, size, "inet:%s:%.*s", at != NULL ? at + 1 : "127.0.0.1",
                 at != NULL ? (int)(at - listen - 5) : (int)strlen(listen + 5),
                 listen + 5);
        return;
    }
    listen = in_queue_directory(listen + 5);
    name = strrchr(listen, '/');
    snprintf(ret, size, "unix:%.*sq%02u.sock",
             name != NULL ? (int)(name - listen) + 1 : 0, listen, queue);
}

static void
print_main_cf(const struct policy *p)
{
    char endpoint[300];

    milter_endpoint(p->milter.listen, endpoint, sizeof endpoint);
    printf("# ---- main.cf ----\n"
           "# the filter; last in the list, behind any other milter, since a\n"
           "# later one could still refuse what ours has counted\n"
           "smtpd_milters = %s\n"
           "# mail that programs of this host hand to sendmail(1)\n"
           "non_smtpd_milters = %s\n"
           "# while the filter is down, clients try again later; without this\n"
           "# line mail would pass unrouted or connections would be shut\n"
           "milter_default_action = tempfail\n"
           "# add this table to those that are there; never pcre or regexp\n"
           "transport_maps = texthash:/etc/postfix/gmroute\n"
           "# Gmail takes 100 recipients in one message\n"
           "gmroute_destination_recipient_limit = 100\n"
           "# deliveries at once for each queue label, from the first on\n"
           "gmroute_destination_concurrency_limit = %d\n"
           "gmroute_initial_destination_concurrency = %d\n\n",
           endpoint, endpoint, CONCURRENCY, CONCURRENCY);
}

static void
print_transport(const struct policy *p)
{
    char hop[300];

    puts("# ---- /etc/postfix/gmroute ----\n"
         "# one queue for each label, so that a slow account holds up only\n"
         "# those that share its label");
    for (unsigned i = 0; i < TICKET_QUEUES; i++) {
        nexthop(p->deliver.listen, i, hop, sizeof hop);
        printf(".q%02u.%s  gmroute:%s\n", i, p->milter.tag_domain, hop);
    }
    printf("# whatever else stands below the tag domain must never leave by "
           "the\n# default route\n"
           ".%s  retry:4.3.5 no such gmroute queue\n"
           "%s  retry:4.3.5 no such gmroute queue\n\n",
           p->milter.tag_domain, p->milter.tag_domain);
}

static void
print_master_cf(void)
{
    printf("# ---- master.cf ----\n"
           "# maxproc: queue labels x concurrency\n"
           "gmroute unix - - n - %d lmtp\n"
           "  -o syslog_name=postfix/gmroute\n"
           "# gives the agent the queue id, for its log\n"
           "  -o lmtp_send_xforward_command=yes\n",
           TICKET_QUEUES * CONCURRENCY);
    fputs("# bounces that show people the real address: these three services\n"
          "# replace the ones of the same name\n",
          stdout);
    static const char *const services[] = {"bounce", "defer", "trace"};

    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        printf("%-7s unix - - n - 0 bounce\n"
               "  -o cleanup_service_name=gmclean\n"
               "  -o internal_mail_filter_classes=bounce\n",
               services[i]);
    puts("gmclean unix n - n - 0 cleanup\n"
         "  -o body_checks=pcre:/etc/postfix/gmclean.pcre\n"
         "  -o header_checks= -o mime_header_checks= "
         "-o nested_header_checks=\n"
         "  -o non_smtpd_milters=\n");
}

static void
print_gmclean(const struct policy *p)
{
    fputs("# ---- /etc/postfix/gmclean.pcre (needs postfix-pcre) ----\n"
          "# takes the tag off the first tagged address of a line\n"
          "/^(.*?@[^@\\s<>]*?)\\.[a-z2-7]{48}\\.[a-z0-9-]+\\.q[0-9][0-9]\\.",
          stdout);
    for (const char *c = p->milter.tag_domain; *c != 0; c++)
        printf(*c == '.' ? "\\." : "%c", *c);
    puts("(.*)$/ REPLACE ${1}${2}");
}

void
mta_config_postfix(const struct policy *p)
{
    print_main_cf(p);
    print_transport(p);
    print_master_cf();
    print_gmclean(p);
}
