/* milter/ctl/common.c - see ctl.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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
ctl_json_item(size_t i, json_t *j)
{
    fputs(i > 0 ? ",\n" : "[\n", stdout);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(j);
}

void
ctl_json_end(size_t n)
{
    puts(n > 0 ? "\n]" : "[]");
}

bool
ctl_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false; /* strtoull takes signs and spaces */
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0 && *ret >= min && *ret <= max;
}
