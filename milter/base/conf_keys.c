/* milter/base/conf_keys.c - the ticket keys of a state directory: see conf.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/ticket.h"

enum {
    KEY_MODE = 0640,       /* the daemons share a group */
    DIRECTORY_MODE = 0750, /* and nobody else comes near */
};

/* One directory of keys, open. */
struct keys_dir {
    char path[4096]; /* for messages */
    int fd;
    char *err;
    size_t err_size;
};

/* Writes "PATH/NAME: REASON"; always false, errno as it was. */
static bool
fail(const struct keys_dir *k, const char *name, const char *reason)
{
    int keep = errno;

    snprintf(k->err, k->err_size, "%s%s%s: %s", k->path,
             name[0] != '\0' ? "/" : "", name, reason);
    errno = keep;
    return false;
}

static bool
keys_open(struct keys_dir *k, const char *directory, char *err, size_t err_size)
{
    struct stat st;
    int n = snprintf(k->path, sizeof k->path, "%s/keys", directory);

    k->fd = -1;
    k->err = err;
    k->err_size = err_size;
    if (n < 0 || (size_t)n >= sizeof k->path) {
        errno = ENAMETOOLONG;
        return fail(k, "", strerror(errno));
    }
    k->fd = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->fd < 0 || fstat(k->fd, &st) != 0)
        return fail(k, "", strerror(errno));
    if ((st.st_mode & 022) != 0) {
        snprintf(err, err_size,
                 "%s: others may put keys into it (mode %04o); \"chmod 0750 "
                 "%s\" helps",
                 k->path, (unsigned)st.st_mode & 07777, k->path);
        errno = EPERM;
        return false;
    }
    return true;
}

static void
keys_close(struct keys_dir *k)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
}

/* Is that the name of a key, and of which?  What does not end in ".key" is
 * none of ours (*ret_id = 0); "0.key", "007.key" or "256.key" is a mistake. */
static bool
key_name(const char *name, unsigned *ret_id)
{
    size_t len = strlen(name), digits = strspn(name, "0123456789");
    unsigned long id;

    *ret_id = 0;
    if (len < 4 || strcmp(name + len - 4, ".key") != 0 || name[0] == '.')
        return true;
    if (digits + 4 != len || digits == 0 || digits > 3 || name[0] == '0')
        return false;
    id = strtoul(name, NULL, 10);
    if (id > 255)
        return false;
    *ret_id = (unsigned)id;
    return true;
}

struct found_key {
    struct ticket_key key;
    struct timespec changed;
};

static bool
read_key(const struct keys_dir *k, const char *name, struct found_key *ret)
{
    int fd = openat(k->fd, name,
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    uint8_t octets[TICKET_KEY_OCTETS + 1];
    struct stat st;
    bool ok = false;
    ssize_t n;

    if (fd < 0)
        return fail(k, name, strerror(errno));
    if (fstat(fd, &st) != 0) {
        fail(k, name, strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        fail(k, name, "not a regular file");
        goto done;
    }
    if ((st.st_mode & 07777 & ~(mode_t)KEY_MODE) != 0) {
        snprintf(k->err, k->err_size,
                 "%s/%s: mode %04o, want 0640 or stricter; \"chmod 0640 "
                 "%s/%s\" helps",
                 k->path, name, (unsigned)st.st_mode & 07777, k->path, name);
        goto done;
    }
    do
        n = read(fd, octets, sizeof octets);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        fail(k, name, strerror(errno));
        goto done;
    }
    if (n != TICKET_KEY_OCTETS) {
        fail(k, name, "not a key of 32 octets; restore it or take it away");
        goto done;
    }
    memcpy(ret->key.secret, octets, TICKET_KEY_OCTETS);
    ret->changed = st.st_mtim;
    ok = true;

done:
    explicit_bzero(octets, sizeof octets);
    close(fd);
    return ok;
}

/* Newest first; of two with one time the higher id. */
static int
by_age(const void *x, const void *y)
{
    const struct found_key *a = x, *b = y;

    if (a->changed.tv_sec != b->changed.tv_sec)
        return a->changed.tv_sec > b->changed.tv_sec ? -1 : 1;
    if (a->changed.tv_nsec != b->changed.tv_nsec)
        return a->changed.tv_nsec > b->changed.tv_nsec ? -1 : 1;
    return b->key.id - a->key.id;
}

/* Calls visit for each key's name until it returns false. */
static bool
each_key(const struct keys_dir *k,
         bool (*visit)(void *, const char *, unsigned), void *cookie)
{
    int copy = openat(k->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *e;
    bool ok = true;

    if (dir == NULL) {
        fail(k, "", strerror(errno));
        if (copy >= 0)
            close(copy);
        return false;
    }
    for (errno = 0; ok && (e = readdir(dir)) != NULL; errno = 0) {
        unsigned id;

        if (!key_name(e->d_name, &id))
            ok = fail(k, e->d_name, "want a name from 1.key to 255.key");
        else if (id != 0)
            ok = visit(cookie, e->d_name, id);
    }
    if (ok && errno != 0)
        ok = fail(k, "", strerror(errno));
    closedir(dir);
    return ok;
}

struct reading {
    const struct keys_dir *k;
    unsigned n;
    struct found_key found[TICKET_KEYS_MAX];
};

static bool
read_one(void *cookie, const char *name, unsigned id)
{
    struct reading *r = cookie;

    if (r->n == TICKET_KEYS_MAX) {
        snprintf(r->k->err, r->k->err_size,
                 "%s: more than %d keys; take the oldest away", r->k->path,
                 TICKET_KEYS_MAX);
        return false;
    }
    r->found[r->n].key.id = (uint8_t)id;
    if (!read_key(r->k, name, &r->found[r->n]))
        return false;
    r->n++;
    return true;
}

bool
conf_ticket_keys(const char *directory, struct ticket_keys *ret, char *err,
                 size_t err_size)
{
    struct keys_dir k;
    struct reading r = {.k = &k};
    bool ok =
        keys_open(&k, directory, err, err_size) && each_key(&k, read_one, &r);

    if (ok && r.n == 0)
        ok = fail(&k, "", "no key in it");
    if (ok) {
        qsort(r.found, r.n, sizeof r.found[0], by_age);
        memset(ret, 0, sizeof *ret);
        for (unsigned i = 0; i < r.n; i++)
            ret->key[i] = r.found[i].key;
        ret->n = r.n;
    }
    explicit_bzero(&r, sizeof r);
    keys_close(&k);
    return ok;
}

/* ---- the first key ---- */

static bool
note_one(void *cookie, const char *name, unsigned id)
{
    (void)name, (void)id;
    *(bool *)cookie = true;
    return true;
}

static bool
sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

/* Makes "keys" and gives it its mode, whatever the umask. */
static bool
make_directory(const char *directory, char *err, size_t err_size)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/keys", directory);
    struct stat st;

    if (n < 0 || (size_t)n >= sizeof path) {
        snprintf(err, err_size, "%s: %s", directory, strerror(ENAMETOOLONG));
        return false;
    }
    if (mkdir(path, DIRECTORY_MODE) != 0) {
        if (errno == EEXIST)
            return true; /* the other daemon was quicker */
        snprintf(err, err_size, "cannot make %s: %s", path, strerror(errno));
        return false;
    }
    /* Keeps a set-group-id bit inherited from the state directory: that is
     * how the daemons' common group gets to the keys. */
    if (stat(path, &st) != 0 ||
        chmod(path, (st.st_mode & S_ISGID) | DIRECTORY_MODE) != 0 ||
        !sync_directory(directory)) {
        snprintf(err, err_size, "%s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

static bool
write_random(int fd)
{
    uint8_t octets[TICKET_KEY_OCTETS];
    bool ok = getrandom(octets, sizeof octets, 0) == (ssize_t)sizeof octets &&
              write(fd, octets, sizeof octets) == (ssize_t)sizeof octets &&
              fchmod(fd, KEY_MODE) == 0 && fsync(fd) == 0;

    explicit_bzero(octets, sizeof octets);
    return ok;
}

/* Writes a key of our own and links it to its name, which can succeed only
 * once: of two daemons that start together one makes the key of both. */
static bool
make_first_key(const struct keys_dir *k)
{
    uint64_t number;
    char name[32];
    bool ok = false;
    int fd, error;

    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        return fail(k, "", strerror(errno));
    snprintf(name, sizeof name, ".new.%016" PRIx64, number);
    fd = openat(k->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EACCES || errno == EROFS))
        return fail(k, "",
                    "no key in it yet; its owner makes the first one: start "
                    "gmroute-deliver");
    if (fd < 0)
        return fail(k, name, strerror(errno));
    ok = write_random(fd) &&
         (linkat(k->fd, name, k->fd, "1.key", 0) == 0 || errno == EEXIST);
    error = errno;
    close(fd);
    unlinkat(k->fd, name, 0);
    if (ok && fsync(k->fd) != 0) {
        ok = false;
        error = errno;
    }
    return ok ? true : fail(k, "1.key", strerror(error));
}

bool
conf_ticket_keys_make(const char *directory, char *err, size_t err_size)
{
    struct keys_dir k;
    bool there = false, ok = keys_open(&k, directory, err, err_size);

    if (!ok && errno == ENOENT)
        ok = make_directory(directory, err, err_size) &&
             keys_open(&k, directory, err, err_size);
    if (ok)
        ok = each_key(&k, note_one, &there);
    if (ok && !there)
        ok = make_first_key(&k);
    keys_close(&k);
    return ok;
}
