/* milter/base/conf.c - loading the configuration, and its current snapshot:
 * see conf.h.  Secrets are in conf_secret.c, ticket keys in conf_keys.c.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "milter/base/buf.h"

/* octets; a list of 100,000 addresses has 3 MB */
enum { FILE_MAX = 64 << 20 };

static const char too_large[] = "larger than 64 MiB";

/* ---- loading ---- */

/* What was read on the compiler's behalf; all is kept until it has finished. */
struct loaded {
    struct buf text; /* of a file */
    glob_t glob;     /* or paths; all zero for a file */
    struct loaded *next;
};

/* Reads a regular file whole.  On failure a reason, without the path. */
static bool
read_whole(const char *path, struct buf *b, char *err, size_t err_size)
{
    /* Not blocking, so that a FIFO put in our way does not stop us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    bool ok = false;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(err, err_size, "%s", strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        snprintf(err, err_size, "%s",
                 S_ISREG(st.st_mode) ? too_large : "not a regular file");
        goto done;
    }
    /* The size is only where to begin: the file may be growing. */
    if (st.st_size > 0)
        buf_reserve(b, (size_t)st.st_size);
    do {
        if (!buf_reserve(b, 1)) {
            snprintf(err, err_size, "%s",
                     b->len > FILE_MAX ? too_large : "out of memory");
            goto done;
        }
        n = read(fd, b->at + b->len, b->room - b->len - 1);
        if (n > 0)
            b->len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n < 0) {
        snprintf(err, err_size, "%s", strerror(errno));
        goto done;
    }
    ok = true;

done:
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool
read_for_compiler(void *cookie, const char *path, const char **ret_text,
                  size_t *ret_len, char *err, size_t err_size)
{
    struct loaded **list = cookie, *l = calloc(1, sizeof *l);

    if (l == NULL) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    buf_init(&l->text, FILE_MAX + 1); /* one more shows what is too large */
    if (!read_whole(path, &l->text, err, err_size)) {
        buf_free(&l->text);
        free(l);
        return false;
    }
    l->next = *list;
    *list = l;
    *ret_text = l->text.at != NULL ? l->text.at : "";
    *ret_len = l->text.len;
    return true;
}

/* A directory that glob(3) could not read; it takes no cookie. */
static _Thread_local int glob_errno;

/* One that is not there holds no file, which is no error. */
static int
on_glob_error(const char *path, int error)
{
    (void)path;
    if (error == ENOENT || error == ENOTDIR)
        return 0;
    glob_errno = error;
    return 1;
}

static int
compare_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
glob_for_compiler(void *cookie, const char *pattern, const char *const **ret,
                  size_t *ret_n, char *err, size_t err_size)
{
    struct loaded **list = cookie, *l = calloc(1, sizeof *l);
    int rc = GLOB_NOSPACE;

    glob_errno = EIO;
    if (l != NULL)
        rc = glob(pattern, GLOB_NOSORT, on_glob_error, &l->glob);
    if (rc != 0 && rc != GLOB_NOMATCH) {
        snprintf(err, err_size, "%s",
                 rc == GLOB_ABORTED ? strerror(glob_errno) : "out of memory");
        if (l != NULL)
            globfree(&l->glob);
        free(l);
        return false;
    }
    /* By octets: glob(3) itself would sort as the locale does. */
    if (l->glob.gl_pathc > 0)
        qsort(l->glob.gl_pathv, l->glob.gl_pathc, sizeof(char *), compare_path);
    l->next = *list;
    *list = l;
    *ret = (const char *const *)l->glob.gl_pathv;
    *ret_n = l->glob.gl_pathc;
    return true;
}

struct policy *
conf_load(const char *path, struct diag *d)
{
    struct loaded *list = NULL;
    const struct policy_files files = {.read_file = read_for_compiler,
                                       .glob = glob_for_compiler,
                                       .cookie = &list};
    struct policy *p = NULL;
    const char *text;
    size_t len;
    char err[160];

    if (read_for_compiler(&list, path, &text, &len, err, sizeof err)) {
        p = policy_compile(text, len, path, &files, d);
    } else {
        d->n = d->n_errors = d->dropped = d->used = 0;
        diag_error(d, (struct loc){path, 0, 0}, "cannot read it: %s", err);
    }
    while (list != NULL) {
        struct loaded *next = list->next;

        buf_free(&list->text);
        globfree(&list->glob);
        free(list);
        list = next;
    }
    return p;
}

/* ---- snapshots ---- */

struct conf_holder {
    pthread_mutex_t lock; /* for both; taken for a few instructions */
    struct conf *now;
    unsigned serial; /* of now */
};

static struct conf *
conf_new(struct policy *p, unsigned serial)
{
    struct conf *c = calloc(1, sizeof *c);

    if (c == NULL) {
        policy_free(p);
        return NULL;
    }
    c->policy = p;
    c->serial = serial;
    atomic_init(&c->refs, 1);
    return c;
}

struct conf_holder *
conf_holder_new(struct policy *p)
{
    struct conf_holder *h = calloc(1, sizeof *h);

    if (h == NULL || pthread_mutex_init(&h->lock, NULL) != 0) {
        free(h);
        policy_free(p);
        return NULL;
    }
    h->serial = 1;
    h->now = conf_new(p, h->serial);
    if (h->now == NULL) {
        conf_holder_free(h);
        return NULL;
    }
    return h;
}

void
conf_holder_free(struct conf_holder *h)
{
    if (h == NULL)
        return;
    conf_unref(h->now);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* The lock keeps the holder's own reference alive until ours is counted. */
struct conf *
conf_ref(struct conf_holder *h)
{
    struct conf *c;

    pthread_mutex_lock(&h->lock);
    c = conf_ref_again(h->now);
    pthread_mutex_unlock(&h->lock);
    return c;
}

struct conf *
conf_ref_again(struct conf *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void
conf_unref(struct conf *c)
{
    /* Every holder's reads happen before the last one frees. */
    if (c == NULL ||
        atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    policy_free(c->policy);
    free(c);
}

bool
conf_publish(struct conf_holder *h, struct policy *p)
{
    struct conf *fresh = conf_new(p, 0), *old;

    if (fresh == NULL)
        return false;
    pthread_mutex_lock(&h->lock);
    old = h->now;
    fresh->serial = ++h->serial;
    h->now = fresh;
    pthread_mutex_unlock(&h->lock);
    conf_unref(old);
    return true;
}
