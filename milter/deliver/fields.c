/* milter/deliver/fields.c - see fields.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/fields.h"

#include <stdlib.h>

/* Octets of the name; 0 = this is no field. */
static size_t
name_length(struct slice line, size_t *ret_colon)
{
    size_t n = 0, colon;

    while (n < line.len && line.at[n] > ' ' && line.at[n] < 0x7f &&
           line.at[n] != ':')
        n++;
    colon = n;
    while (colon < line.len &&
           (line.at[colon] == ' ' || line.at[colon] == '\t'))
        colon++;
    if (colon == line.len || line.at[colon] != ':')
        return 0;
    *ret_colon = colon;
    return n;
}

bool
fields_is_start(struct slice line)
{
    size_t colon;

    return name_length(line, &colon) > 0;
}

/* Octets of the first line, its end included. */
static size_t
line_length(struct slice text)
{
    const char *end = memchr(text.at, '\n', text.len);

    return end != NULL ? (size_t)(end + 1 - text.at) : text.len;
}

static bool
is_continuation(struct slice text)
{
    return text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t');
}

static size_t
field_length(struct slice text)
{
    size_t n = line_length(text);

    while (n < text.len && is_continuation(slice_from(text, n)))
        n += line_length(slice_from(text, n));
    return n;
}

static struct field
field_of(struct slice whole)
{
    struct field f = {.whole = whole};
    size_t colon = 0, end = whole.len;

    f.name.at = whole.at;
    f.name.len = name_length(whole, &colon);
    while (end > colon &&
           (whole.at[end - 1] == '\n' || whole.at[end - 1] == '\r'))
        end--;
    if (end > colon)
        f.value = (struct slice){whole.at + colon + 1, end - colon - 1};
    return f;
}

bool
fields_parse(struct fields *ret, struct slice text)
{
    size_t n = 0;
    struct slice rest;
    struct field *at;

    for (rest = text; rest.len > 0; n++)
        rest = slice_from(rest, field_length(rest));
    at = calloc(n > 0 ? n : 1, sizeof *at);
    if (at == NULL)
        return false;
    rest = text;
    for (size_t i = 0; i < n; i++) {
        size_t len = field_length(rest);

        at[i] = field_of((struct slice){rest.at, len});
        rest = slice_from(rest, len);
    }
    *ret = (struct fields){n, at};
    return true;
}

void
fields_free(struct fields *f)
{
    free(f->at);
    *f = (struct fields){0, NULL};
}

bool
field_is(const struct field *f, const char *name)
{
    return slice_eq_nocase(f->name, slice_of(name));
}

const struct field *
fields_find(const struct fields *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (field_is(&f->at[i], name) && slice_trim(f->at[i].value).len > 0)
            return &f->at[i];
    return NULL;
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice
fields_received_id(struct slice value)
{
    unsigned depth = 0; /* of comments */
    struct slice last = {NULL, 0};
    size_t i = 0;

    while (i < value.len) {
        size_t start = i;
        struct slice word;

        if (value.at[i] == '(' || value.at[i] == ')' || is_space(value.at[i])) {
            depth += value.at[i] == '(';
            depth -= value.at[i] == ')' && depth > 0;
            i++;
            continue;
        }
        if (depth == 0 && value.at[i] == ';')
            break;
        while (i < value.len && !is_space(value.at[i]) && value.at[i] != '(' &&
               value.at[i] != ')' && value.at[i] != ';')
            i++;
        if (i == start || depth > 0) {
            i += i == start;
            continue;
        }
        word = (struct slice){value.at + start, i - start};
        if (slice_eq_nocase(last, SLICE_LIT("id")))
            return word;
        last = word;
    }
    return (struct slice){NULL, 0};
}
