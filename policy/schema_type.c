/* policy/schema_type.c - the plain types of schema.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>

#include "policy/compile.h"
#include "policy/scalar.h"

/* Integers go into fields of any width; the range was checked. */
static void
store(const struct schema_row *row, uint64_t value, void *field)
{
    uint8_t v8 = (uint8_t)value;
    uint16_t v16 = (uint16_t)value;
    uint32_t v32 = (uint32_t)value;

    switch (row->size) {
    case sizeof v8:
        memcpy(field, &v8, sizeof v8);
        break;
    case sizeof v16:
        memcpy(field, &v16, sizeof v16);
        break;
    case sizeof v32:
        memcpy(field, &v32, sizeof v32);
        break;
    default:
        memcpy(field, &value, sizeof value);
        break;
    }
}

/* ---- text ---- */

static bool
read_text(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    char *copy;

    if (!compile_is_text(n))
        return schema_mismatch(c, row, n);
    if (compile_has_control(n->text))
        return diag_error(c->diag, n->at,
                          "%s: a line break or control character in %s",
                          row->key, node_show_text(n->text).text);
    if (row->max > 0 && n->text.len > row->max)
        return diag_error(c->diag, n->at,
                          "%s: longer than %" PRIu64 " octets: %s", row->key,
                          row->max, node_show_text(n->text).text);
    copy = compile_copy(c, n->text);
    memcpy(field, &copy, sizeof copy);
    return copy != NULL;
}

const struct schema_type schema_text = {"a text", read_text};

/* "a|b|c" as "a, b or c". */
static void
list_words(const char *words, char *ret, size_t size)
{
    size_t n = 0;

    for (; *words != '\0' && n + 5 < size; words++) {
        const char *join = strchr(words + 1, '|') != NULL ? ", " : " or ";

        if (*words != '|') {
            ret[n++] = *words;
            continue;
        }
        memcpy(ret + n, join, strlen(join));
        n += strlen(join);
    }
    ret[n] = '\0';
}

static bool
read_word(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    struct suggest hint = suggest_start(n->text);
    char text[SUGGEST_TEXT], all[160];
    const char *word = row->words;

    for (uint64_t i = 0; n->kind == NODE_SCALAR; i++) {
        struct slice s = {word, strcspn(word, "|")};

        if (slice_eq(s, n->text)) {
            store(row, i, field);
            return true;
        }
        suggest_try(&hint, s);
        if (word[s.len] == '\0')
            break;
        word += s.len + 1;
    }
    list_words(row->words, all, sizeof all);
    return diag_error(c->diag, n->at, "%s: want %s, found %s%s", row->key, all,
                      node_show(n).text, suggest_text(&hint, text));
}

const struct schema_type schema_word = {"a word", read_word};

static bool
read_yes_no(struct compile *c, const struct schema_row *row,
            const struct node *n, void *field)
{
    bool value;

    if (!node_bool(n, &value))
        return schema_mismatch(c, row, n);
    memcpy(field, &value, sizeof value);
    return true;
}

const struct schema_type schema_yes_no = {"yes or no", read_yes_no};

/* ---- numbers ---- */

static const char *
show_plain(uint64_t n, char ret[SCALAR_TEXT])
{
    snprintf(ret, SCALAR_TEXT, "%" PRIu64, n);
    return ret;
}

static const char *
show_percent(uint64_t n, char ret[SCALAR_TEXT])
{
    snprintf(ret, SCALAR_TEXT, "%" PRIu64 "%%", n);
    return ret;
}

struct measure {
    enum scalar_result (*parse)(struct slice s, uint64_t *ret);
    const char *(*show)(uint64_t n, char ret[SCALAR_TEXT]);
    const char *unit_help;
};

static bool
read_measure(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field, const struct measure *m)
{
    char low[SCALAR_TEXT], high[SCALAR_TEXT];
    uint64_t value = 0;
    enum scalar_result r;

    if (!compile_is_text(n))
        return schema_mismatch(c, row, n);
    r = m->parse(n->text, &value);
    if (r == SCALAR_ESYNTAX)
        return schema_mismatch(c, row, n);
    if (r == SCALAR_EUNIT)
        return diag_error(c->diag, n->at, "%s: %s has no unit that is known%s",
                          row->key, node_show_text(n->text).text, m->unit_help);
    if (r == SCALAR_ERANGE ||
        (row->max > 0 && (value < row->min || value > row->max)))
        return diag_error(c->diag, n->at, "%s: %s is outside %s..%s", row->key,
                          node_show_text(n->text).text, m->show(row->min, low),
                          m->show(row->max > 0 ? row->max : UINT64_MAX, high));
    store(row, value, field);
    return true;
}

static bool
read_number(struct compile *c, const struct schema_row *row,
            const struct node *n, void *field)
{
    static const struct measure m = {scalar_number, show_plain, ""};

    return read_measure(c, row, n, field, &m);
}

const struct schema_type schema_number = {"a whole number", read_number};

static bool
read_duration(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    static const struct measure m = {scalar_duration, scalar_show_duration,
                                     ": want s, m, h or d"};

    return read_measure(c, row, n, field, &m);
}

const struct schema_type schema_duration = {"a duration such as 90s or 24h",
                                            read_duration};

static bool
read_size(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    static const struct measure m = {scalar_size, scalar_show_size,
                                     ": want KB, KiB, MB, MiB, GB or GiB"};

    return read_measure(c, row, n, field, &m);
}

const struct schema_type schema_size = {"a size such as 25MB", read_size};

static bool
read_percent(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    static const struct measure m = {scalar_percent, show_percent, ""};

    return read_measure(c, row, n, field, &m);
}

const struct schema_type schema_percent = {"a share such as 80%", read_percent};

/* ---- paths ---- */

static bool
read_path(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    struct slice dir = compile_directory(n->at.file);
    const char *text, *path;

    if (!read_text(c, row, n, &text))
        return false;
    path = text;
    if (text[0] != '/' && dir.len > 0)
        path = arena_printf(c->arena, "%.*s%s", SLICE_FMT(dir), text);
    if (path == NULL)
        return compile_nomem(c);
    memcpy(field, &path, sizeof path);
    return true;
}

const struct schema_type schema_path = {"a path", read_path};

/* The name of a file in the directory that the service manager gives. */
static bool
read_secret_file(struct compile *c, const struct schema_row *row,
                 const struct node *n, void *field)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const char *text, *name;

    if (!compile_is_text(n) || !slice_starts(n->text, "credential:"))
        return read_path(c, row, n, field);
    if (!read_text(c, row, n, &text))
        return false;
    name = text + strlen("credential:");
    if (*name == '\0' || *name == '.' || name[strspn(name, plain)] != '\0')
        return diag_error(c->diag, n->at,
                          "%s: want credential:NAME, a name as in systemd's "
                          "LoadCredential, found \"%s\"",
                          row->key, text);
    memcpy(field, &text, sizeof text);
    return true;
}

const struct schema_type schema_secret_file = {"a path or credential:NAME",
                                               read_secret_file};

static bool
read_ca_file(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    const char *system = NULL;

    if (n->kind != NODE_SCALAR || !slice_eq(n->text, SLICE_LIT("system")))
        return read_path(c, row, n, field);
    memcpy(field, &system, sizeof system);
    return true;
}

const struct schema_type schema_ca_file = {"system or a path", read_ca_file};

/* ---- maps ---- */

static bool
read_map(struct compile *c, const struct schema_row *row, const struct node *n,
         void *field)
{
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    return schema_read(c, row->sub, n, n->at, field);
}

const struct schema_type schema_map = {"a map", read_map};
