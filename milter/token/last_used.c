/* milter/token/last_used.c - see last_used.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/last_used.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/oauth/secret.h"

enum {
    PATH_ROOM = 512,
    LINE_MAX_LEN = 16 + 1 + 20 + 1, /* id, time, what parts and ends them */
    FORGOTTEN_S = 184 * 86400,      /* six months, the long ones */
};

static bool
path_of(const char *directory, char ret[PATH_ROOM], char *err, size_t err_size)
{
    int n = snprintf(ret, PATH_ROOM, "%s/tokens/last_used", directory);

    if (n > 0 && n < PATH_ROOM)
        return true;
    snprintf(err, err_size, "%s: the path is too long", directory);
    return false;
}

static int
by_id(const void *a, const void *b)
{
    const struct last_use *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

void
last_used_free(struct last_used *l)
{
    free(l->at);
    *l = (struct last_used){NULL, 0};
}

/* By id, the newest of each. */
static void
sort(struct last_used *l)
{
    size_t kept = 0;

    if (l->n == 0)
        return;
    qsort(l->at, l->n, sizeof *l->at, by_id);
    for (size_t i = 1; i < l->n; i++)
        if (l->at[i].id != l->at[kept].id)
            l->at[++kept] = l->at[i];
        else if (l->at[i].used_s > l->at[kept].used_s)
            l->at[kept] = l->at[i];
    l->n = kept + 1;
}

/* ---- reading ---- */

static bool
read_line(const char *line, struct last_use *ret)
{
    char *end;

    if (strspn(line, "0123456789abcdef") != 16 || line[16] != ' ' ||
        line[17] < '1' || line[17] > '9')
        return false;
    ret->id = strtoull(line, NULL, 16);
    errno = 0;
    ret->used_s = strtoll(line + 17, &end, 10);
    return errno == 0 && strcmp(end, "\n") == 0;
}

static bool
read_lines(FILE *f, struct last_used *ret)
{
    char line[2 * LINE_MAX_LEN];
    size_t room = 0;

    while (fgets(line, sizeof line, f) != NULL) {
        if (ret->n == room) {
            struct last_use *at;

            room = room > 0 ? 2 * room : 1024;
            at = reallocarray(ret->at, room, sizeof *at);
            if (at == NULL) {
                errno = ENOMEM;
                return false;
            }
            ret->at = at;
        }
        ret->n += read_line(line, &ret->at[ret->n]);
    }
    return ferror(f) == 0;
}

bool
last_used_read(const char *directory, struct last_used *ret, char *err,
               size_t err_size)
{
    char path[PATH_ROOM];
    FILE *f;
    bool ok;

    *ret = (struct last_used){NULL, 0};
    if (!path_of(directory, path, err, err_size))
        return false;
    f = fopen(path, "re");
    if (f == NULL && errno == ENOENT)
        return true;
    ok = f != NULL && read_lines(f, ret);
    if (!ok) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        last_used_free(ret);
    }
    if (f != NULL)
        fclose(f);
    sort(ret);
    return ok;
}

int64_t
last_used_find(const struct last_used *l, uint64_t id)
{
    struct last_use key = {.id = id}, *found = NULL;

    if (l->n > 0)
        found = bsearch(&key, l->at, l->n, sizeof key, by_id);
    return found != NULL ? found->used_s : 0;
}

/* ---- writing ---- */

bool
last_used_merge(const struct last_use *uses, size_t n,
                const struct last_used *old, int64_t now_s,
                struct last_used *ret)
{
    ret->at = calloc(n + old->n + 1, sizeof *ret->at);
    ret->n = 0;
    if (ret->at == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        ret->at[ret->n++] = uses[i];
    for (size_t i = 0; i < old->n; i++)
        if (now_s - old->at[i].used_s < FORGOTTEN_S)
            ret->at[ret->n++] = old->at[i];
    sort(ret);
    return true;
}

bool
last_used_write(const char *directory, const struct last_used *l, char *err,
                size_t err_size)
{
    char path[PATH_ROOM], *text;
    size_t len = 0, room = l->n * LINE_MAX_LEN + 1;
    bool ok;

    if (!path_of(directory, path, err, err_size))
        return false;
    text = malloc(room);
    if (text == NULL) {
        snprintf(err, err_size, "%s: out of memory", path);
        return false;
    }
    text[0] = '\0';
    for (size_t i = 0; i < l->n; i++)
        len += (size_t)snprintf(text + len, room - len,
                                "%016" PRIx64 " %" PRId64 "\n", l->at[i].id,
                                l->at[i].used_s);
    ok = secret_replace(directory, path, text, err, err_size);
    free(text);
    return ok;
}
