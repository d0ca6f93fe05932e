/* milter/ctl/sendmail_cf.c - see sendmail_cf.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/sendmail_cf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "milter/ctl/postconf.h"

bool
sendmail_parse(struct arena *a, const char *path, const char *text,
               struct sendmail_settings *ret)
{
    *ret = (struct sendmail_settings){
        .arena = a,
        .path = path,
        .line = arena_alloc(a, mta_count_lines(text), sizeof *ret->line)};
    if (ret->line == NULL)
        return false;
    while (*text != '\0') {
        struct slice line = {text, strcspn(text, "\n")};
        const char **to;

        text += line.len + (text[line.len] != '\0');
        if (line.len == 0 || line.at[0] == '#')
            continue;
        if ((line.at[0] == ' ' || line.at[0] == '\t') && ret->n > 0) {
            to = &ret->line[ret->n - 1];
            *to = arena_printf(a, "%s %.*s", *to, SLICE_FMT(slice_trim(line)));
        } else {
            to = &ret->line[ret->n++];
            *to = arena_copy(a, line);
        }
        if (*to == NULL)
            return false;
    }
    return true;
}

const char *
sendmail_option(const struct sendmail_settings *s, const char *name)
{
    size_t len = strlen(name);
    const char *ret = NULL;

    for (size_t i = 0; i < s->n; i++) {
        const char *line = s->line[i];

        if (strncmp(line, "O ", 2) == 0 &&
            strncasecmp(line + 2, name, len) == 0 && line[2 + len] == '=')
            ret = line + 3 + len;
    }
    return ret;
}

static const char *
definition(const struct sendmail_settings *s, char kind, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < s->n; i++) {
        const char *line = s->line[i];

        if (line[0] == kind && strncmp(line + 1, name, len) == 0 &&
            line[1 + len] == ',')
            return line + 2 + len;
    }
    return NULL;
}

const char *
sendmail_filter(const struct sendmail_settings *s, const char *name)
{
    return definition(s, 'X', name);
}

const char *
sendmail_mailer(const struct sendmail_settings *s, const char *name)
{
    return definition(s, 'M', name);
}

const char *
sendmail_field(const struct sendmail_settings *s, const char *fields, char key)
{
    for (;;) {
        fields += strspn(fields, ", \t");
        if (*fields == '\0')
            return NULL;
        if (fields[0] == key && fields[1] == '=')
            return arena_copy(
                s->arena, slice_trim((struct slice){fields + 2,
                                                    strcspn(fields + 2, ",")}));
        fields += strcspn(fields, ",");
    }
}

long
sendmail_filter_time(const char *times, char which)
{
    while (times != NULL && *times != '\0') {
        if (times[0] == which && times[1] == ':') {
            char *end;
            long n = strtol(times + 2, &end, 10);

            return end == times + 2 ? -1
                   : *end == 'm'    ? n * 60
                   : *end == 'h'    ? n * 3600
                   : *end == 'd'    ? n * 86400
                                    : n;
        }
        times += strcspn(times, ";");
        times += *times == ';';
    }
    return -1;
}

bool
sendmail_rule(const struct sendmail_settings *s, const char *const *texts)
{
    for (size_t i = 0; i < s->n; i++) {
        bool all = s->line[i][0] == 'R';

        for (size_t k = 0; texts[k] != NULL && all; k++)
            all = strstr(s->line[i], texts[k]) != NULL;
        if (all)
            return true;
    }
    return false;
}

/* "Cwa b", "C{w}a b"; "Fw/path", "Fw-o /path %[^\#]" */
static const char *
class_text(const char *line, char kind)
{
    if (line[0] != kind)
        return NULL;
    if (line[1] == 'w')
        return line + 2;
    return strncmp(line + 1, "{w}", 3) == 0 ? line + 4 : NULL;
}

static struct slice
next_word(const char **text)
{
    struct slice ret;

    *text += strspn(*text, " \t");
    ret = (struct slice){*text, strcspn(*text, " \t")};
    *text += ret.len;
    return ret;
}

void
sendmail_class_w(const struct sendmail_settings *s, void *cookie,
                 void (*word)(void *cookie, struct slice word),
                 void (*file)(void *cookie, struct slice path))
{
    for (size_t i = 0; i < s->n; i++) {
        const char *words = class_text(s->line[i], 'C');
        const char *path = class_text(s->line[i], 'F');
        struct slice one;

        while (words != NULL && (one = next_word(&words)).len > 0)
            word(cookie, one);
        if (path == NULL)
            continue;
        one = next_word(&path);
        if (one.len == 2 && memcmp(one.at, "-o", 2) == 0)
            one = next_word(&path); /* may be missing */
        if (one.len > 0 && one.at[0] == '/')
            file(cookie, one);
    }
}
