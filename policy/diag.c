/* policy/diag.c - see diag.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(DIAG_FILES >= DIAG_MAX * DIAG_FILE_MIN,
               "each item has room for its file");

/* A copy that lasts as long as the diag; of a long path the end, which says
 * more.  Each item that may still come has its DIAG_FILE_MIN octets. */
static const char *
diag_file(struct diag *d, const char *file)
{
    size_t kept = (size_t)(DIAG_MAX - 1 - d->n) * DIAG_FILE_MIN;
    size_t room = DIAG_FILES - d->used - kept, len;
    char *to = d->files + d->used;

    if (file == NULL)
        return NULL;
    if (room > DIAG_FILE)
        room = DIAG_FILE;
    len = strlen(file);
    if (len >= room) {
        file += len - room + 1;
        len = room - 1;
    }
    for (const char *at = d->files; at < to; at += strlen(at) + 1)
        if (strcmp(at, file) == 0)
            return at;
    memcpy(to, file, len + 1);
    d->used += (unsigned)len + 1;
    return to;
}

static void
diag_add(struct diag *d, struct loc at, enum diag_level level, const char *fmt,
         va_list ap)
{
    if (level == DIAG_ERROR)
        d->n_errors++;
    if (d->n == DIAG_MAX) {
        d->dropped++;
        return;
    }
    d->item[d->n].at = at;
    d->item[d->n].at.file = diag_file(d, at.file);
    d->item[d->n].level = level;
    vsnprintf(d->item[d->n].text, DIAG_TEXT, fmt, ap);
    d->n++;
}

bool
diag_error(struct diag *d, struct loc at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    diag_add(d, at, DIAG_ERROR, fmt, ap);
    va_end(ap);
    return false;
}

void
diag_warning(struct diag *d, struct loc at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    diag_add(d, at, DIAG_WARNING, fmt, ap);
    va_end(ap);
}

static bool
after(struct loc a, struct loc b)
{
    int c = strcmp(a.file != NULL ? a.file : "", b.file != NULL ? b.file : "");

    if (c != 0)
        return c > 0;
    return a.line != b.line ? a.line > b.line : a.col > b.col;
}

/* Insertion sort: stable, and the list is short. */
void
diag_sort(struct diag *d)
{
    for (unsigned i = 1; i < d->n; i++)
        for (unsigned j = i; j > 0 && after(d->item[j - 1].at, d->item[j].at);
             j--) {
            struct diag_item swap = d->item[j];

            d->item[j] = d->item[j - 1];
            d->item[j - 1] = swap;
        }
}
