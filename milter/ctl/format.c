/* milter/ctl/format.c - see format.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void
ctl_duration(uint64_t ms, char *ret, size_t size)
{
    uint64_t s = ms / 1000 + (ms % 1000 != 0);

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

void
ctl_octets(uint64_t n, char *ret, size_t size)
{
    static const char *const unit[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
    uint64_t whole = n, rest = 0;
    unsigned i = 0;

    while (whole >= 1000) {
        rest = whole % 1000;
        whole /= 1000;
        i++;
    }
    if (whole < 10 && rest >= 100)
        snprintf(ret, size, "%" PRIu64 ".%" PRIu64 " %s", whole, rest / 100,
                 unit[i]);
    else
        snprintf(ret, size, "%" PRIu64 " %s", whole, unit[i]);
}

void
ctl_units(enum dimension d, uint64_t n, char *ret, size_t size)
{
    if (d == DIM_BYTES)
        ctl_octets(n, ret, size);
    else
        snprintf(ret, size, "%" PRIu64, n);
}

unsigned
ctl_percent(uint64_t used, uint64_t limit)
{
    unsigned __int128 percent;

    if (limit == 0)
        return 100;
    percent = (unsigned __int128)used * 100 / limit;
    return percent > 999 ? 999 : (unsigned)percent;
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

void
ctl_rfc3339(int64_t unix_s, char *ret, size_t size)
{
    format_time(unix_s, "%Y-%m-%dT%H:%M:%SZ", true, ret, size);
}

json_t *
ctl_json_time(int64_t unix_s)
{
    char text[FORMAT_MAX];

    if (unix_s == 0)
        return json_null();
    ctl_rfc3339(unix_s, text, sizeof text);
    return json_string(text);
}

/* ---- a table ---- */

enum { COLUMNS_MAX = 16, GAP = 2 /* between two columns */ };

struct ctl_table {
    FILE *out; /* into text: cells, each with its NUL */
    char *text;
    size_t size;
    unsigned n; /* columns */
    bool right[COLUMNS_MAX];
};

struct ctl_table *
ctl_table_new(const char *const *titles)
{
    struct ctl_table *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->out = open_memstream(&t->text, &t->size);
    if (t->out == NULL) {
        free(t);
        return NULL;
    }
    while (titles[t->n] != NULL && t->n < COLUMNS_MAX) {
        const char *title = titles[t->n];

        t->right[t->n++] = title[0] == '>';
        ctl_table_cell(t, "%s", title + (title[0] == '>'));
    }
    return t;
}

void
ctl_table_cell(struct ctl_table *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(t->out, fmt, ap);
    va_end(ap);
    putc('\0', t->out);
}

static bool
begins_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80; /* UTF-8 */
}

static size_t
characters(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += begins_character(*text);
    return n;
}

/* At most `max` characters of it; returns how many. */
static size_t
put(const char *text, size_t max, FILE *to)
{
    size_t n = 0;

    for (; *text != '\0'; text++) {
        if (begins_character(*text) && n++ == max)
            return max;
        putc(*text, to);
    }
    return n;
}

static void
put_row(const struct ctl_table *t, const char **cell, const size_t *width,
        size_t left, FILE *to)
{
    size_t owed = 0; /* spaces, printed when something follows */

    for (unsigned c = 0; c < t->n && left > 0; c++) {
        size_t n = characters(*cell), pad = width[c] - n;

        owed += t->right[c] ? pad : 0;
        if (n > 0 && owed >= left)
            left = 0;
        if (n > 0 && left > 0) {
            left -= owed;
            for (; owed > 0; owed--)
                putc(' ', to);
            left -= put(*cell, left, to);
        }
        owed += GAP + (t->right[c] ? 0 : pad);
        *cell += strlen(*cell) + 1;
    }
    putc('\n', to);
}

bool
ctl_table_print(struct ctl_table *t, FILE *to, unsigned max)
{
    size_t width[COLUMNS_MAX] = {0};
    bool ok = !ferror(t->out);
    const char *cell, *end;

    ok = fclose(t->out) == 0 && ok;
    cell = t->text;
    end = ok ? t->text + t->size : t->text;
    for (unsigned c = 0; cell < end; c = (c + 1) % t->n) {
        size_t n = characters(cell);

        width[c] = n > width[c] ? n : width[c];
        cell += strlen(cell) + 1;
    }
    for (cell = t->text; cell < end;) {
        const char *row = cell;

        put_row(t, &row, width, max > 0 ? max : SIZE_MAX, to);
        for (unsigned c = 0; c < t->n; c++)
            cell += strlen(cell) + 1;
    }
    free(t->text);
    free(t);
    return ok;
}
