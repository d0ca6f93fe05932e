/* policy/compile_lines.c - files of lines: lists, maps, logins.
 * SPDX-License-Identifier: Apache-2.0
 *
 * An entry a line; "#" at the start of a line or behind a space begins a
 * comment; empty lines do not count.
 */
#include "policy/compile.h"

#include "policy/utf8.h"

enum { LINE_OCTETS_MAX = 1024 };

static const struct schema_row path_row = {.key = "file", .type = &schema_path};

static struct slice
without_comment(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] == '#' &&
            (i == 0 || s.at[i - 1] == ' ' || s.at[i - 1] == '\t'))
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
    for (size_t i = 0; i < s.len; i++) {
        size_t n = utf8_length(slice_from(s, i));

        *ret_before = i;
        if (n == 0)
            return "an octet that is not UTF-8";
        if ((unsigned char)s.at[i] < 0x20 ? s.at[i] != '\t' : s.at[i] == 0x7F)
            return "a control character";
        i += n - 1;
    }
    return NULL;
}

/* One line; *ret_used when it holds an entry. */
static void
add_line(struct compile *c, struct slice s, struct loc at,
         struct line_of_file *ret, bool *ret_used)
{
    struct slice entry;
    size_t before;
    const char *error;

    if (s.len > 0 && s.at[s.len - 1] == '\r')
        s.len--;
    error = line_error(s, &before);
    if (error != NULL) {
        at.col += (unsigned)before;
        diag_error(c->diag, at, "%s", error);
        return;
    }
    entry = without_comment(s);
    if (entry.len == 0)
        return;
    at.col += (unsigned)(entry.at - s.at);
    *ret = (struct line_of_file){entry, at};
    *ret_used = true;
}

static size_t
count_lines(struct slice s)
{
    size_t n = 1;

    for (const char *at = s.at;
         s.len > 0 && (at = memchr(at, '\n', s.len - (size_t)(at - s.at)));
         at++)
        n++;
    return n;
}

static bool
split(struct compile *c, struct slice text, const char *path, struct lines *ret)
{
    struct lines lines = {.n = 0};
    unsigned number = 1;

    lines.line = arena_alloc(c->scratch, count_lines(text), sizeof *lines.line);
    if (lines.line == NULL)
        return compile_nomem(c);
    for (; text.len > 0; number++) {
        const char *end = memchr(text.at, '\n', text.len);
        struct slice s = text;
        bool used = false;

        if (end != NULL)
            s.len = (size_t)(end - text.at);
        add_line(c, s, (struct loc){path, number, 1}, &lines.line[lines.n],
                 &used);
        lines.n += used;
        text = slice_from(text, s.len + 1);
    }
    *ret = lines;
    return true;
}

bool
compile_read_lines(struct compile *c, const char *key, const struct node *name,
                   struct lines *ret)
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
    return split(c, s, path, ret);
}
