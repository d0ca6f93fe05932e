/* milter/base/daemon.c - see daemon.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/daemon.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter/base/conf.h"
#include "milter/base/log.h"

static void
usage(FILE *to, const char *program)
{
    fprintf(to,
            "usage: %s [-c FILE] [-l LEVEL] [-s]\n"
            "  -c FILE   configuration, default /etc/gmroute/gmroute.yaml\n"
            "  -l LEVEL  error, warn, info (default) or debug\n"
            "  -s        log to standard error instead of syslog\n"
            "  -V        version\n",
            program);
}

bool
daemon_options(int argc, char **argv, const char *program,
               struct daemon_options *ret, int *ret_status)
{
    enum log_level level = LOG_LEVEL_INFO;
    enum log_target target = LOG_TO_SYSLOG;
    int c;

    ret->file = "/etc/gmroute/gmroute.yaml";
    *ret_status = 2;
    while ((c = getopt(argc, argv, "c:l:shV")) != -1)
        switch (c) {
        case 'c':
            ret->file = optarg;
            break;
        case 'l':
            if (log_level_parse(optarg, &level))
                break;
            fprintf(stderr, "%s: -l %s: want error, warn, info or debug\n",
                    program, optarg);
            return false;
        case 's':
            target = LOG_TO_STDERR;
            break;
        case 'V':
            printf("%s " GMROUTE_VERSION "\n", program);
            *ret_status = 0;
            return false;
        case 'h':
            usage(stdout, program);
            *ret_status = 0;
            return false;
        default:
            usage(stderr, program);
            return false;
        }
    if (optind != argc) {
        usage(stderr, program);
        return false;
    }
    log_open(program, target, level);
    return true;
}

struct policy *
daemon_load(const char *file)
{
    struct diag *d = calloc(1, sizeof *d);
    struct policy *p;

    if (d == NULL) {
        log_error("out of memory");
        return NULL;
    }
    p = conf_load(file, d);
    for (unsigned i = 0; i < d->n; i++) {
        const struct diag_item *x = &d->item[i];

        if (x->level == DIAG_ERROR)
            log_error("%s:%u:%u: error: %s", x->at.file, x->at.line, x->at.col,
                      x->text);
        else
            log_warn("%s:%u:%u: warning: %s", x->at.file, x->at.line, x->at.col,
                     x->text);
    }
    if (d->dropped > 0)
        log_error("%s: %u more problems", file, d->dropped);
    free(d);
    return p;
}
