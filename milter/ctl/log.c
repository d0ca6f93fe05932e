/* milter/ctl/log.c - gmroutectl log: what the ledger knows.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ctl/look.h"
#include "milter/ledger/query.h"

static const char synopsis[] =
    "[--queue ID] [--ticket HEX] [--account ACCOUNT] [--from S] [--to R]\n"
    "           [--outcome sending|sent|refused|deferred|in_doubt]\n"
    "           [--message-id M] [--since 2h] [-n ROWS] [--json]";

struct listing {
    json_t *list; /* NULL = text */
    size_t n;
};

static bool
print_row(void *cookie, const struct query_row *r)
{
    struct listing *l = cookie;
    char when[40];

    l->n++;
    if (l->list != NULL) {
        char ticket[20];

        snprintf(ticket, sizeof ticket, "%016" PRIx64, r->ticket);
        json_array_append_new(
            l->list,
            json_pack(
                "{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, "
                "s:i, s:s, s:s, s:i}",
                "time", ctl_json_time(r->at_ms / 1000), "queue", r->queue_id,
                "ticket", ticket, "account", r->identity, "sender", r->sender,
                "recipient", r->recipient, "message_id", r->message_id, "size",
                (json_int_t)r->size_octets, "outcome", r->outcome, "stage",
                r->stage, "code", (int)r->code, "enhanced", r->enhanced,
                "reply", r->reply, "ms", (int)r->duration_ms));
        return true;
    }
    ctl_time(r->at_ms / 1000, when, sizeof when);
    printf("%s %-12s %-9s <%s> -> <%s> via %s", when,
           r->queue_id[0] != 0 ? r->queue_id : "-", r->outcome, r->sender,
           r->recipient, r->identity[0] != 0 ? r->identity : "-");
    if (r->code != 0)
        printf(": %u %s %s", r->code, r->enhanced, r->reply);
    else if (r->reply[0] != 0)
        printf(": %s", r->reply);
    putchar('\n');
    return true;
}

/* "90s", "30m", "2h", "7d". */
static bool
parse_ago(const char *text, int64_t *ret_since_ms)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    uint64_t unit = *end == 's'   ? 1
                    : *end == 'm' ? 60
                    : *end == 'h' ? 3600
                    : *end == 'd' ? 86400
                                  : 0;

    if (unit == 0 || end == text || end[1] != 0 || n > 1000000)
        return false;
    *ret_since_ms = ((int64_t)time(NULL) - (int64_t)(n * unit)) * 1000;
    return true;
}

static const char *
take_options(struct query_filter *f, int argc, char **argv)
{
    static const struct option options[] = {
        {"queue", required_argument, NULL, 'q'},
        {"ticket", required_argument, NULL, 't'},
        {"account", required_argument, NULL, 'a'},
        {"from", required_argument, NULL, 's'},
        {"to", required_argument, NULL, 'r'},
        {"message-id", required_argument, NULL, 'm'},
        {"outcome", required_argument, NULL, 'o'},
        {"since", required_argument, NULL, 'S'},
        {0},
    };
    char *end;
    int option;

    opterr = 0;
    optind = 0;
    while ((option = getopt_long(argc, argv, "n:", options, NULL)) != -1)
        switch (option) {
        case 'q':
            f->queue_id = optarg;
            break;
        case 't':
            f->ticket = strtoull(optarg, &end, 16);
            if (*end != 0 || f->ticket == 0)
                return "--ticket: want the number as the log prints it";
            break;
        case 'a':
            f->identity = optarg;
            break;
        case 's':
            f->sender = optarg;
            break;
        case 'r':
            f->recipient = optarg;
            break;
        case 'm':
            f->message_id = optarg;
            break;
        case 'o':
            f->outcome = optarg;
            break;
        case 'S':
            if (!parse_ago(optarg, &f->since_ms))
                return "--since: want a time such as 90s, 30m, 2h or 7d";
            break;
        case 'n':
            f->limit = (uint32_t)strtoul(optarg, &end, 10);
            if (*end != 0 || f->limit == 0)
                return "-n: want a number of rows";
            break;
        default:
            return "unknown option";
        }
    return optind == argc ? NULL : "unknown word";
}

int
ctl_log(struct ctl *c, int argc, char **argv)
{
    struct query_filter f = {0};
    const char *bad = take_options(&f, argc, argv);
    struct listing l = {0};
    struct query *q = NULL;
    struct policy *p;
    char identity[IDENTITY_MAX + 1];
    struct mailbox m;
    char err[400];
    int status = CTL_USAGE;

    if (bad != NULL)
        return ctl_usage("log", synopsis, "%s", bad);
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_USAGE;
    /* One that is gone from the configuration is in the book as well. */
    if (f.identity != NULL && look_identity(p, f.identity, true, &m, identity))
        f.identity = identity;
    if (!query_open(&q, p->state.directory, err, sizeof err)) {
        fprintf(stderr, "gmroutectl: %s\n", err);
        goto done;
    }
    if (c->json)
        l.list = json_array();
    if (!query_rows(q, &f, print_row, &l, err, sizeof err)) {
        fprintf(stderr, "gmroutectl: %s\n", err);
        json_decref(l.list);
        goto done;
    }
    if (l.list != NULL)
        ctl_print_json(l.list);
    status = l.n > 0 ? CTL_GOOD : CTL_NO;
done:
    query_close(q);
    policy_free(p);
    return status;
}
