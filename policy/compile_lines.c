/* policy/compile_lines.c - files of lines: lists, maps, logins.
 * SPDX-License-Identifier: Apache-2.0
 *
 * An entry a line; "#" at the start of a line or behind a space begins a
 * comment; empty lines do not count.  Lines are looked at one by one, where
 * they lie: a file may have a million.
 */
#include "policy/compile.h"

#include "policy/utf8.h"

enum { LINE_OCTETS_MAX = 1024 };

static const struct schema_row path_row = {.key = "file", .type = &schema_path};

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Without a comment, and without spaces around it. */
static struct slice
entry_of(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] == '#' && (i == 0 || is_blank(s.at[i - 1])))
            s.len = i;
    return slice_trim(s);
}

/* What is wrong with a line, and in which column (octets before it). */
static const char *
line_error(struct slice s, size_t *ret_before)
{
    *ret_before = 0;
    if (s.len > LINE_OCTETS_MAX)
        return "the line is longer than 1024 octets";
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.at[i];
        size_t n = c < 0x80 ? 1 : utf8_length(slice_from(s, i));

        *ret_before = i;
        if (n == 0)
            return "an octet that is not UTF-8";
        if (c < 0x20 ? c != '\t' : c == 0x7F)
            return "a control character";
        i += n;
    }
    return NULL;
}

/* Takes the next line off; *ret_at is where it begins. */
static struct slice
take_line(struct line_reader *r, struct loc *ret_at)
{
    const char *end = memchr(r->rest.at, '\n', r->rest.len);
    struct slice s = r->rest;

    if (end != NULL)
        s.len = (size_t)(end - s.at);
    r->rest = slice_from(r->rest, s.len + 1);
    *ret_at = (struct loc){r->path, ++r->number, 1};
    if (s.len > 0 && s.at[s.len - 1] == '\r')
        s.len--;
    return s;
}

bool
compile_next_line(struct line_reader *r, struct line_of_file *ret)
{
    while (r->rest.len > 0) {
        size_t before;
        struct loc at;
        struct slice s = take_line(r, &at), entry;
        const char *error = line_error(s, &before);

        if (error != NULL) {
            at.col += (unsigned)before;
            if (!r->quiet)
                diag_error(r->c->diag, at, "%s", error);
            continue;
        }
        entry = entry_of(s);
        if (entry.len == 0)
            continue;
        at.col += (unsigned)(entry.at - s.at);
        *ret = (struct line_of_file){entry, at};
        return true;
    }
    return false;
}

bool
compile_open_lines(struct compile *c, const char *key, const struct node *name,
                   struct line_reader *ret)
{
    const char *path, *text = NULL;
    struct slice s = {NULL, 0};
    char err[DIAG_TEXT / 2] = "";

    if (!schema_path.read(c, &path_row, name, &path))
        return false;
    if (c->files == NULL || c->files->read_file == NULL)
        return diag_error(c->diag, name->at, "%s: files cannot be read here",
                          key);
    if (!c->files->read_file(c->files->cookie, path, &text, &s.len, err,
                             sizeof err))
        return diag_error(c->diag, name->at, "%s: cannot read %s: %s", key,
                          path, err);
    s.at = text;
    if (s.len >= 3 && memcmp(s.at, "\xEF\xBB\xBF", 3) == 0)
        s = slice_from(s, 3);
    *ret = (struct line_reader){.c = c, .path = path, .rest = s};
    return true;
}

bool
compile_read_lines(struct compile *c, const char *key, const struct node *name,
                   struct lines *ret)
{
    struct lines lines = {.n = 0};
    struct line_reader r, count;
    struct line_of_file line;

    if (!compile_open_lines(c, key, name, &r))
        return false;
    count = r;
    count.quiet = true;
    while (compile_next_line(&count, &line))
        lines.n++;
    lines.line = arena_alloc(c->scratch, lines.n, sizeof *lines.line);
    if (lines.line == NULL)
        return compile_nomem(c);
    for (size_t i = 0; compile_next_line(&r, &line); i++)
        lines.line[i] = line;
    *ret = lines;
    return true;
}
