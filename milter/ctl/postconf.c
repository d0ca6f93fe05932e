/* milter/ctl/postconf.c - see postconf.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/postconf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/program.h"

enum { WORDS = 8 /* of a command, behind the directory */ };

/* ---- reading ---- */

/* postconf or postmap with the directory that is meant, and words. */
static bool
ask(struct arena *arena, const char *program, const char *directory,
    const char *const *words, const char *input, const char **ret,
    int *ret_status, char *err, size_t err_size)
{
    const char *argv[WORDS + 4] = {program};
    struct program p = {
        .argv = argv, .input = input, .timeout_ms = POSTCONF_TIMEOUT_MS};
    unsigned n = 1;

    if (directory != NULL) {
        argv[n++] = "-c";
        argv[n++] = directory;
    }
    for (unsigned i = 0; i < WORDS && words[i] != NULL; i++)
        argv[n++] = words[i];
    return program_answer(&p, arena, ret, ret_status, err, err_size);
}

bool
postconf_words(struct arena *a, const char *directory, const char *const *words,
               const char **ret, char *err, size_t err_size)
{
    int status = 0;
    size_t len;

    if (!ask(a, "postconf", directory, words, NULL, ret, &status, err,
             err_size) ||
        status != 0)
        return false;
    len = strlen(*ret);
    if (len > 0 && (*ret)[len - 1] == '\n')
        *ret = arena_copy(a, (struct slice){*ret, len - 1});
    if (*ret == NULL)
        snprintf(err, err_size, "out of memory");
    return *ret != NULL;
}

/* One option, and its parser; false with err. */
static bool
read_part(struct mta_settings *s, const char *directory, const char *option,
          bool (*parse)(struct mta_settings *s, const char *text), char *err,
          size_t err_size)
{
    const char *words[] = {option, NULL}, *text;

    if (!postconf_words(s->arena, directory, words, &text, err, err_size))
        return false;
    if (parse(s, text))
        return true;
    snprintf(err, err_size, "out of memory");
    return false;
}

static bool
take_map_types(struct mta_settings *s, const char *text)
{
    s->map_types = text;
    return true;
}

static void
read_version(struct mta_settings *s)
{
    const char *version = mta_main(s, "mail_version");
    const char *dot = strchr(version, '.');

    s->major = (unsigned)strtoul(version, NULL, 10);
    s->minor = dot != NULL ? (unsigned)strtoul(dot + 1, NULL, 10) : 0;
}

static bool
read_directory(struct mta_settings *s, const char *directory, char *err,
               size_t err_size)
{
    static const char *const words[] = {"-h", "-d", "config_directory", NULL};
    const char *usual;

    if (!postconf_words(s->arena, NULL, words, &usual, err, err_size))
        return false;
    s->directory =
        arena_copy(s->arena, slice_of(directory != NULL ? directory : usual));
    s->is_default = s->directory != NULL && strcmp(s->directory, usual) == 0;
    return s->directory != NULL;
}

static bool
read_all(struct mta_settings *s, const char *directory, char *err,
         size_t err_size)
{
    if (!read_part(s, directory, "-x", postconf_parse_main, err, err_size) ||
        !read_part(s, directory, "-n", postconf_parse_set, err, err_size) ||
        !read_part(s, directory, "-M", postconf_parse_services, err,
                   err_size) ||
        !read_part(s, directory, "-Px", postconf_parse_overrides, err,
                   err_size) ||
        !read_part(s, directory, "-m", take_map_types, err, err_size))
        return false;
    read_version(s);
    return read_directory(s, directory, err, err_size);
}

struct mta_settings *
postconf_read(const char *directory, char *err, size_t err_size)
{
    struct arena *arena = arena_new();
    struct mta_settings *s =
        arena != NULL ? arena_alloc(arena, 1, sizeof *s) : NULL;
    char real[PATH_MAX];

    snprintf(err, err_size, "out of memory");
    if (s == NULL) {
        arena_free(arena);
        return NULL;
    }
    s->arena = arena;
    if (directory != NULL && realpath(directory, real) == NULL)
        snprintf(err, err_size, "%s: %s", directory, strerror(errno));
    else if (read_all(s, directory != NULL ? real : NULL, err, err_size))
        return s;
    arena_free(arena);
    return NULL;
}

void
postconf_free(struct mta_settings *s)
{
    if (s != NULL)
        arena_free(s->arena);
}

/* postmap prints "key TAB value" for each key that it finds, in order. */
static void
take_answers(const struct mta_settings *s, const char *text,
             const char *const *keys, const char **ret)
{
    size_t i = 0;

    while (*text != '\0') {
        struct slice line = {text, strcspn(text, "\n")}, key;
        const char *tab = memchr(line.at, '\t', line.len);

        text += line.len + (text[line.len] != '\0');
        if (tab == NULL)
            continue;
        key = (struct slice){line.at, (size_t)(tab - line.at)};
        while (keys[i] != NULL && !slice_eq(slice_of(keys[i]), key))
            i++;
        if (keys[i] == NULL)
            return;
        ret[i++] = arena_copy(s->arena, slice_from(line, key.len + 1));
    }
}

bool
postconf_ask(const struct mta_settings *s, const char *map,
             const char *const *keys, const char **ret, char *err,
             size_t err_size)
{
    char input[POSTCONF_KEYS * 300] = "";
    const char *words[] = {"-q", "-", map, NULL}, *text;
    size_t len = 0;
    int status = 0;

    for (size_t i = 0; keys[i] != NULL; i++) {
        ret[i] = NULL;
        if (i < POSTCONF_KEYS && strlen(keys[i]) < 299)
            len += (size_t)snprintf(input + len, sizeof input - len, "%s\n",
                                    keys[i]);
    }
    if (!ask(s->arena, "postmap", s->directory, words, input, &text, &status,
             err, err_size))
        return false;
    take_answers(s, text, keys, ret);
    return true;
}

/* ---- parsing ---- */

/* The next line; false at the end. */
static bool
next_line(const char **text, struct slice *ret)
{
    if (**text == '\0')
        return false;
    *ret = (struct slice){*text, strcspn(*text, "\n")};
    *text += ret->len + ((*text)[ret->len] != '\0');
    return true;
}

size_t
mta_count_lines(const char *text)
{
    size_t n = 1;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

/* "name = value" */
static bool
split_setting(struct slice line, struct slice *ret_name,
              struct slice *ret_value)
{
    const char *equals = memchr(line.at, '=', line.len);

    if (equals == NULL)
        return false;
    *ret_name = slice_trim((struct slice){line.at, (size_t)(equals - line.at)});
    *ret_value = slice_trim(slice_from(line, (size_t)(equals - line.at) + 1));
    return ret_name->len > 0;
}

bool
postconf_parse_main(struct mta_settings *s, const char *text)
{
    struct slice line, name, value;

    s->n_main = 0;
    s->main = arena_alloc(s->arena, mta_count_lines(text), sizeof *s->main);
    while (s->main != NULL && next_line(&text, &line)) {
        struct mta_parameter *p = &s->main[s->n_main];

        if (!split_setting(line, &name, &value))
            continue;
        p->name = arena_copy(s->arena, name);
        p->value = arena_copy(s->arena, value);
        if (p->name == NULL || p->value == NULL)
            return false;
        s->n_main++;
    }
    return s->main != NULL;
}

bool
postconf_parse_set(struct mta_settings *s, const char *text)
{
    struct slice line, name, value;

    while (next_line(&text, &line))
        for (size_t i = 0; split_setting(line, &name, &value) && i < s->n_main;
             i++)
            if (slice_eq(slice_of(s->main[i].name), name))
                s->main[i].is_set = true;
    return true;
}

static struct slice
next_word(struct slice *rest)
{
    struct slice word = slice_trim(*rest);
    size_t n = 0;

    while (n < word.len && word.at[n] != ' ' && word.at[n] != '\t')
        n++;
    *rest = slice_from(word, n);
    return (struct slice){word.at, n};
}

/* service type private unprivileged chroot wakeup maxproc command */
static bool
parse_service(struct mta_settings *s, struct slice line)
{
    struct mta_service *v = &s->services[s->n_services];
    struct slice word[8];
    /* What "-" means changed with Postfix 3.0, and where the level says so. */
    bool old = strcmp(mta_main(s, "compatibility_level"), "0") == 0;
    const char *maxproc;

    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        word[i] = next_word(&line);
    if (word[7].len == 0)
        return true; /* no service */
    v->name = arena_copy(s->arena, word[0]);
    v->type = arena_copy(s->arena, word[1]);
    v->key = arena_printf(s->arena, "%.*s/%.*s", SLICE_FMT(word[0]),
                          SLICE_FMT(word[1]));
    v->command = arena_copy(s->arena, word[7]);
    maxproc = arena_copy(s->arena, word[6]);
    if (v->name == NULL || v->type == NULL || v->key == NULL ||
        v->command == NULL || maxproc == NULL)
        return false;
    v->is_chrooted = word[4].at[0] == 'y' || (word[4].at[0] == '-' && old);
    v->has_maxproc = maxproc[0] != '-';
    v->maxproc = (unsigned)strtoul(maxproc, NULL, 10);
    s->n_services++;
    return true;
}

bool
postconf_parse_services(struct mta_settings *s, const char *text)
{
    struct slice line;

    s->n_services = 0;
    s->services =
        arena_alloc(s->arena, mta_count_lines(text), sizeof *s->services);
    if (s->services == NULL)
        return false;
    while (next_line(&text, &line))
        if (!parse_service(s, line))
            return false;
    return true;
}

bool
postconf_parse_overrides(struct mta_settings *s, const char *text)
{
    struct slice line, name, value;

    s->n_overrides = 0;
    s->overrides =
        arena_alloc(s->arena, mta_count_lines(text), sizeof *s->overrides);
    while (s->overrides != NULL && next_line(&text, &line)) {
        struct mta_override *o = &s->overrides[s->n_overrides];
        const char *slash;

        if (!split_setting(line, &name, &value))
            continue;
        slash = memrchr(name.at, '/', name.len);
        if (slash == NULL)
            continue;
        o->service = arena_copy(
            s->arena, (struct slice){name.at, (size_t)(slash - name.at)});
        o->name = arena_copy(s->arena,
                             slice_from(name, (size_t)(slash - name.at) + 1));
        o->value = arena_copy(s->arena, value);
        if (o->service == NULL || o->name == NULL || o->value == NULL)
            return false;
        s->n_overrides++;
    }
    return s->overrides != NULL;
}

/* ---- looking up ---- */

const char *
mta_main(const struct mta_settings *s, const char *name)
{
    for (size_t i = 0; i < s->n_main; i++)
        if (strcmp(s->main[i].name, name) == 0)
            return s->main[i].value;
    return "";
}

bool
mta_is_set(const struct mta_settings *s, const char *name)
{
    for (size_t i = 0; i < s->n_main; i++)
        if (strcmp(s->main[i].name, name) == 0)
            return s->main[i].is_set;
    return false;
}

const struct mta_service *
mta_service(const struct mta_settings *s, const char *key)
{
    for (size_t i = 0; i < s->n_services; i++)
        if (strcmp(s->services[i].key, key) == 0)
            return &s->services[i];
    return NULL;
}

const char *
mta_override(const struct mta_settings *s, const char *key, const char *name)
{
    for (size_t i = 0; i < s->n_overrides; i++)
        if (strcmp(s->overrides[i].service, key) == 0 &&
            strcmp(s->overrides[i].name, name) == 0)
            return s->overrides[i].value;
    return NULL;
}

const char *
mta_effective(const struct mta_settings *s, const char *key, const char *name)
{
    const char *value = mta_override(s, key, name);

    return value != NULL ? value : mta_main(s, name);
}

bool
mta_has_map_type(const struct mta_settings *s, struct slice type)
{
    const char *text = s->map_types != NULL ? s->map_types : "";
    struct slice line;

    while (next_line(&text, &line))
        if (slice_eq(slice_trim(line), type))
            return true;
    return false;
}

bool
mta_list_next(struct slice *rest, struct slice *ret)
{
    size_t i = 0, depth = 0;

    while (rest->len > 0 && strchr(", \t\r\n", rest->at[0]) != NULL)
        *rest = slice_from(*rest, 1);
    for (; i < rest->len; i++) {
        char c = rest->at[i];

        if (depth == 0 && strchr(", \t\r\n", c) != NULL)
            break;
        depth += c == '{';
        depth -= c == '}' && depth > 0;
    }
    *ret = (struct slice){rest->at, i};
    *rest = slice_from(*rest, i);
    return i > 0;
}

int64_t
mta_number(const char *value)
{
    char *end;
    unsigned long long n = strtoull(value, &end, 10);

    if (end == value || value[0] == '-' || n > INT64_MAX)
        return -1;
    return (int64_t)n;
}

int64_t
mta_seconds(const char *value)
{
    int64_t n = mta_number(value), unit = 1;
    char *end;

    if (n < 0)
        return -1;
    strtoull(value, &end, 10);
    switch (*end) {
    case 'm':
        unit = 60;
        break;
    case 'h':
        unit = 3600;
        break;
    case 'd':
        unit = 86400;
        break;
    case 'w':
        unit = 7 * 86400;
        break;
    default:
        break;
    }
    return n > INT64_MAX / unit ? INT64_MAX : n * unit;
}

const char *
mta_quote(struct arena *a, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_./:=@%+,";
    char *ret, *to;

    if (word[0] != '\0' && word[strspn(word, plain)] == '\0')
        return word;
    to = ret = arena_alloc(a, strlen(word) + 1, 4);
    if (ret == NULL)
        return word;
    *to++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'') {
            memcpy(to, "'\\''", 4);
            to += 4;
        } else {
            *to++ = *word;
        }
    }
    *to++ = '\'';
    *to = '\0';
    return ret;
}
