/* milter/ctl/mta_files.c - see mta_files.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mta_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const mta_file_names[MTA_FILES] = {"gmroute", "gmclean.pcre",
                                               "master.cf", "main.cf"};

#define BACKUPS "gmroute-backup"
#define UNDONE  ".undone"
#define NEW     ".gmroute-new" /* written, and not yet in place */

static bool
fault(char *err, size_t err_size, const char *what)
{
    snprintf(err, err_size, "%s: %s", what, strerror(errno));
    return false;
}

/* ---- one file ---- */

static bool
join(char ret[PATH_MAX], const char *directory, const char *name, char *err,
     size_t err_size)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", directory, name);

    if (n > 0 && n < PATH_MAX)
        return true;
    errno = ENAMETOOLONG;
    return fault(err, err_size, directory);
}

static bool
read_open(int fd, struct mta_file *ret)
{
    struct stat st;
    ssize_t n = 0;

    if (fstat(fd, &st) != 0)
        return false;
    errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
    if (!S_ISREG(st.st_mode) || st.st_size > MTA_FILE_MAX)
        return false;
    *ret = (struct mta_file){.exists = true,
                             .text = malloc(MTA_FILE_MAX),
                             .mode = st.st_mode & 07777,
                             .uid = st.st_uid,
                             .gid = st.st_gid};
    while (ret->text != NULL && ret->len < MTA_FILE_MAX &&
           (n = read(fd, ret->text + ret->len, MTA_FILE_MAX - ret->len)) > 0)
        ret->len += (size_t)n;
    return ret->text != NULL && n == 0;
}

bool
mta_file_read(const char *directory, const char *name, struct mta_file *ret,
              char *err, size_t err_size)
{
    char path[PATH_MAX];
    bool good;
    int fd;

    *ret = (struct mta_file){0};
    if (!join(path, directory, name, err, err_size))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return true;
    good = fd >= 0 && read_open(fd, ret);
    if (!good)
        fault(err, err_size, path);
    if (fd >= 0)
        close(fd);
    return good;
}

void
mta_file_free(struct mta_file *f)
{
    free(f->text);
    *f = (struct mta_file){0};
}

bool
mta_file_same(const struct mta_file *a, const struct mta_file *b)
{
    return a->exists == b->exists && slice_eq((struct slice){a->text, a->len},
                                              (struct slice){b->text, b->len});
}

static bool
write_all(int fd, const struct mta_file *f, bool sync)
{
    size_t done = 0;

    while (done < f->len) {
        ssize_t n = write(fd, f->text + done, f->len - done);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            done += (size_t)n;
    }
    /* Only root may give a file away; what is ours is ours already. */
    if (fchown(fd, f->uid, f->gid) != 0 && geteuid() == 0)
        return false;
    return fchmod(fd, f->mode) == 0 && (!sync || fsync(fd) == 0);
}

static bool
write_path(const char *path, const struct mta_file *f, bool sync, char *err,
           size_t err_size)
{
    int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write_all(fd, f, sync);

    if (!good)
        fault(err, err_size, path);
    if (fd >= 0)
        close(fd);
    return good;
}

bool
mta_file_write(const char *directory, const char *name,
               const struct mta_file *f, bool sync, char *err, size_t err_size)
{
    char path[PATH_MAX];

    return join(path, directory, name, err, err_size) &&
           write_path(path, f, sync, err, err_size);
}

static void
sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd); /* as good as it gets: a rename is there or not */
        close(fd);
    }
}

/* ---- backups ---- */

static bool
make_directory(const char *path, char *err, size_t err_size)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST
               ? true
               : fault(err, err_size, path);
}

static bool
save(const char *backup, const char *which,
     const struct mta_file file[MTA_FILES], char *err, size_t err_size)
{
    char path[PATH_MAX];

    if (!join(path, backup, which, err, err_size) ||
        !make_directory(path, err, err_size))
        return false;
    for (size_t i = 0; i < MTA_FILES; i++)
        if (file[i].exists && !mta_file_write(path, mta_file_names[i], &file[i],
                                              true, err, err_size))
            return false;
    sync_directory(path);
    return true;
}

/* A new directory with the time as its name; in one second there may be
 * several. */
static bool
new_backup(const char *directory, char *ret, size_t size, char *err,
           size_t err_size)
{
    char all[PATH_MAX], stamp[32];
    time_t now = time(NULL);
    struct tm tm;

    if (!join(all, directory, BACKUPS, err, err_size) ||
        !make_directory(all, err, err_size))
        return false;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(ret, size, "%s/%s-%02u", all, stamp, i);
        if (mkdir(ret, 0700) == 0)
            return true;
        if (errno != EEXIST)
            break;
    }
    return fault(err, err_size, ret);
}

static bool
back_up(const char *directory, const struct mta_file from[MTA_FILES],
        const struct mta_file to[MTA_FILES], char *ret, size_t size, char *err,
        size_t err_size)
{
    if (!new_backup(directory, ret, size, err, err_size) ||
        !save(ret, "after", to, err, err_size) ||
        !save(ret, "before", from, err, err_size))
        return false;
    sync_directory(ret);
    return true;
}

static int
is_backup(const struct dirent *d)
{
    return d->d_name[0] != '.' && strstr(d->d_name, UNDONE) == NULL;
}

bool
mta_backup_newest(const char *directory, char *ret, size_t size)
{
    char all[PATH_MAX];
    struct dirent **list = NULL;
    int n = snprintf(all, sizeof all, "%s/" BACKUPS, directory) < PATH_MAX
                ? scandir(all, &list, is_backup, alphasort)
                : 0;

    if (n > 0)
        snprintf(ret, size, "%s/%s", all, list[n - 1]->d_name);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return n > 0;
}

bool
mta_backup_done(const char *backup, char *err, size_t err_size)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s" UNDONE, backup);
    return rename(backup, path) == 0 || fault(err, err_size, backup);
}

int
mta_files_lock(const char *directory, char *err, size_t err_size)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (fd >= 0 && errno == EWOULDBLOCK)
        snprintf(err, err_size,
                 "%s: another gmroutectl mta-config is at work here",
                 directory);
    else
        fault(err, err_size, directory);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- replacing ---- */

struct place { /* where one file goes */
    char path[PATH_MAX], new[PATH_MAX + sizeof NEW];
    bool changes, written, moved;
};

/* What a link leads to, so that it stays one. */
static bool
find_place(const char *directory, const char *name, struct place *ret,
           char *err, size_t err_size)
{
    char path[PATH_MAX];

    if (!join(path, directory, name, err, err_size))
        return false;
    if (realpath(path, ret->path) == NULL) {
        if (errno != ENOENT)
            return fault(err, err_size, path);
        memcpy(ret->path, path, sizeof path);
    }
    snprintf(ret->new, sizeof ret->new, "%s" NEW, ret->path);
    return true;
}

static bool
prepare(struct place *p, const struct mta_file *to, char *err, size_t err_size)
{
    if (!to->exists)
        return true;
    unlink(p->new); /* of one that was killed: we hold the lock */
    p->written = write_path(p->new, to, true, err, err_size);
    if (!p->written)
        unlink(p->new);
    return p->written;
}

static bool
move(struct place *p, const struct mta_file *to, char *err, size_t err_size)
{
    p->moved = to->exists ? rename(p->new, p->path) == 0
                          : unlink(p->path) == 0 || errno == ENOENT;
    if (!p->moved)
        return fault(err, err_size, p->path);
    p->written = false;
    return true;
}

/* Puts back what has been moved; says in err what could not be. */
static void
restore(struct place place[MTA_FILES], const struct mta_file from[MTA_FILES],
        char *err, size_t err_size)
{
    char why[400];

    for (size_t i = MTA_FILES; i-- > 0;) {
        struct place *p = &place[i];
        size_t len = strlen(err);

        if (p->written)
            unlink(p->new);
        if (!p->moved)
            continue;
        if (!prepare(p, &from[i], why, sizeof why) ||
            !move(p, &from[i], why, sizeof why))
            snprintf(err + len, err_size - len,
                     "; and %s could not be put back: %s", p->path, why);
    }
}

bool
mta_files_replace(const char *directory, const struct mta_file from[MTA_FILES],
                  const struct mta_file to[MTA_FILES], char *ret_backup,
                  size_t backup_size, char *err, size_t err_size)
{
    struct place *place = calloc(MTA_FILES, sizeof *place);
    bool good = place != NULL;

    if (!good)
        snprintf(err, err_size, "out of memory");
    if (ret_backup != NULL)
        ret_backup[0] = '\0';
    for (size_t i = 0; i < MTA_FILES && good; i++) {
        place[i].changes = !mta_file_same(&from[i], &to[i]);
        good = !place[i].changes || (find_place(directory, mta_file_names[i],
                                                &place[i], err, err_size) &&
                                     prepare(&place[i], &to[i], err, err_size));
    }
    if (good && ret_backup != NULL)
        good = back_up(directory, from, to, ret_backup, backup_size, err,
                       err_size);
    for (size_t i = 0; i < MTA_FILES && good; i++)
        good = !place[i].changes || move(&place[i], &to[i], err, err_size);
    if (!good && place != NULL) {
        char ignored[400];

        restore(place, from, err, err_size);
        if (ret_backup != NULL && ret_backup[0] != '\0')
            mta_backup_done(ret_backup, ignored, sizeof ignored);
    }
    sync_directory(directory);
    free(place);
    return good;
}
