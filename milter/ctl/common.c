/* milter/ctl/common.c - see ctl.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/ctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "milter/base/conf.h"

void
ctl_print_diag(const struct ctl *c, const struct diag *d, bool warnings)
{
    for (unsigned i = 0; i < d->n; i++) {
        const struct diag_item *x = &d->item[i];

        if (x->level == DIAG_WARNING && !warnings)
            continue;
        fputs(x->at.file != NULL ? x->at.file : c->file, stderr);
        if (x->at.line > 0) /* else the file as a whole */
            fprintf(stderr, ":%u:%u", x->at.line, x->at.col);
        fprintf(stderr, ": %s: %s\n",
                x->level == DIAG_ERROR ? "error" : "warning", x->text);
    }
    if (d->dropped > 0)
        fprintf(stderr, "%s: %u more\n", c->file, d->dropped);
}

struct policy *
ctl_load(const struct ctl *c, bool warnings)
{
    struct diag *d = calloc(1, sizeof *d);
    struct policy *p = d != NULL ? conf_load(c->file, d) : NULL;

    if (d != NULL)
        ctl_print_diag(c, d, warnings);
    free(d);
    return p;
}

int
ctl_usage(const char *command, const char *synopsis, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "gmroutectl %s: ", command);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: gmroutectl %s %s\n", command, synopsis);
    return CTL_USAGE;
}

void
ctl_print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(j);
}

void
ctl_duration(uint64_t ms, char *ret, size_t size)
{
    uint64_t s = (ms + 999) / 1000;

    if (ms == 0)
        snprintf(ret, size, "now");
    else if (s < 120)
        snprintf(ret, size, "%" PRIu64 " s", s);
    else if (s < 2 * 3600)
        snprintf(ret, size, "%" PRIu64 " min", (s + 59) / 60);
    else if (s % 3600 < 60)
        snprintf(ret, size, "%" PRIu64 " h", s / 3600);
    else
        snprintf(ret, size, "%" PRIu64 " h %" PRIu64 " min", s / 3600,
                 s % 3600 / 60);
}

static void
format_time(int64_t unix_s, const char *format, bool utc, char *ret,
            size_t size)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    if ((utc ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)) == NULL ||
        strftime(ret, size, format, &tm) == 0)
        snprintf(ret, size, "?");
}

void
ctl_time(int64_t unix_s, char *ret, size_t size)
{
    format_time(unix_s, "%Y-%m-%d %H:%M:%S", false, ret, size);
}

json_t *
ctl_json_time(int64_t unix_s)
{
    char text[40];

    if (unix_s == 0)
        return json_null();
    format_time(unix_s, "%Y-%m-%dT%H:%M:%SZ", true, text, sizeof text);
    return json_string(text);
}
