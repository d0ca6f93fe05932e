/* milter/ctl/message_file.c - see message_file.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/message_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/buf.h"

static bool
read_all(FILE *f, struct buf *to)
{
    char part[65536];
    size_t n;

    while ((n = fread(part, 1, sizeof part, f)) > 0)
        if (!buf_add(to, part, n))
            return false;
    return !ferror(f);
}

/* The line at s, without its end; *ret_next: where the next one begins. */
static struct slice
line_at(struct slice s, size_t *ret_next)
{
    const char *end = memchr(s.at, '\n', s.len);
    size_t n = end != NULL ? (size_t)(end - s.at) : s.len;

    *ret_next = end != NULL ? n + 1 : n;
    if (n > 0 && s.at[n - 1] == '\r')
        n--;
    return (struct slice){s.at, n};
}

static bool
add_header(struct message_file *m, struct slice line)
{
    const char *colon = memchr(line.at, ':', line.len);
    struct facts_pair *grown;
    size_t n;

    if (colon == NULL)
        return true; /* garbage: the MTA would call it a body; pass it over */
    n = (size_t)(colon - line.at);
    grown = reallocarray(m->header, m->n_headers + 1, sizeof *grown);
    if (grown == NULL)
        return false;
    m->header = grown;
    m->header[m->n_headers++] =
        (struct facts_pair){slice_trim((struct slice){line.at, n}),
                            slice_trim(slice_from(line, n + 1))};
    return true;
}

static bool
parse(struct message_file *m)
{
    struct slice rest = {m->text, m->len};
    size_t next;

    m->body_at = m->len;
    if (slice_starts(rest, "From ")) {
        line_at(rest, &next);
        rest = slice_from(rest, next);
    }
    while (rest.len > 0) {
        struct slice line = line_at(rest, &next), folded = line;

        rest = slice_from(rest, next);
        if (line.len == 0) { /* the body begins */
            m->body_at = m->len - rest.len;
            return true;
        }
        while (rest.len > 0 && (rest.at[0] == ' ' || rest.at[0] == '\t')) {
            struct slice more = line_at(rest, &next);

            folded.len = (size_t)(more.at + more.len - folded.at);
            rest = slice_from(rest, next);
        }
        if (!add_header(m, folded))
            return false;
    }
    return true;
}

static uint64_t
octets(const struct message_file *m)
{
    uint64_t n = m->len;

    for (size_t i = 0; i < m->len; i++)
        n += m->text[i] == '\n' && (i == 0 || m->text[i - 1] != '\r');
    return n;
}

bool
message_file_read(const char *path, struct message_file *ret, char *err,
                  size_t err_size)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    struct message_file m = {0};
    struct buf text;
    bool ok;

    buf_init(&text, MESSAGE_FILE_MAX);
    if (f == NULL) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        return false;
    }
    ok = read_all(f, &text);
    if (f != stdin)
        fclose(f);
    m.text = text.at; /* taken over */
    m.len = text.len;
    if (!ok || !parse(&m)) {
        snprintf(err, err_size, "%s: cannot be read, or over %d octets", path,
                 MESSAGE_FILE_MAX);
        message_file_free(&m);
        return false;
    }
    m.size_octets = octets(&m);
    *ret = m;
    return true;
}

void
message_file_free(struct message_file *m)
{
    free(m->text);
    free(m->header);
    *m = (struct message_file){0};
}
