/* milter/state/segment_make.c - see segment.h: build a new file, move it into
 * place.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "milter/state/segment_private.h"

enum { LEFTOVER_S = 60 /* building takes less */ };

/* ---- one maker at a time ---- */

static enum state_result
lock_taken(int fd, const char *path, char *err, size_t err_size)
{
    char pid[24] = "";
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);

    if (n > 0)
        pid[strcspn(pid, "\n")] = '\0';
    return segment_fail(STATE_ETAKEN, err, err_size,
                        "%s is held by another daemon of this kind (process "
                        "%s): only one may run",
                        path, n > 0 ? pid : "unknown");
}

/* The lock goes with the descriptor, so it ends with the process however it
 * ends. */
static enum state_result
take_lock(const char *directory, enum segment_kind kind, int *ret, char *err,
          size_t err_size)
{
    enum state_result r = STATE_OK;
    char path[280], pid[24];
    int fd, n;

    snprintf(path, sizeof path, "%s/.%s.lock", directory, segment_name(kind));
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return segment_fail_errno(errno, err, err_size, "open", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        r = errno == EWOULDBLOCK
                ? lock_taken(fd, path, err, err_size)
                : segment_fail_errno(errno, err, err_size, "lock", path);
        close(fd);
        return r;
    }
    n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* For the message above only: a full tmpfs does not matter here. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) < 0)
        n = 0;
    *ret = fd;
    return STATE_OK;
}

/* Files of makers that died.  Where there is one maker, we are it; hints has
 * two, so a young file may be the other's. */
static void
sweep(const char *directory, enum segment_kind kind)
{
    const struct segment_traits *t = segment_traits(kind);
    char prefix[32];
    struct dirent *e;
    struct stat st;
    DIR *dir = opendir(directory);

    if (dir == NULL)
        return;
    snprintf(prefix, sizeof prefix, ".%s.new-", t->name);
    while ((e = readdir(dir)) != NULL) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (t->has_owner || st.st_mtime + LEFTOVER_S < time(NULL))
            unlinkat(dirfd(dir), e->d_name, 0);
    }
    closedir(dir);
}

/* ---- building ---- */

static uint32_t
slots_for(uint32_t n_accounts)
{
    uint64_t slots = 16;

    while (slots - slots / 8 < n_accounts)
        slots *= 2;
    return (uint32_t)slots;
}

/* fallocate(2) itself: glibc's posix_fallocate would fall back to writing. */
static enum state_result
reserve_head(int fd, const struct segment_head *head, const char *path,
             char *err, size_t err_size)
{
    int n;

    if (ftruncate(fd, (off_t)head->size) != 0)
        return segment_fail_errno(errno, err, err_size, "size", path);
    do
        n = fallocate(fd, 0, 0, (off_t)head->slots_at);
    while (n != 0 && errno == EINTR);
    if (n != 0)
        return segment_fail_errno(errno, err, err_size, "reserve space for",
                                  path);
    return STATE_OK;
}

static int
open_temporary(struct segment *s, const char *home, enum segment_kind kind,
               char *err, size_t err_size, enum state_result *ret_failure)
{
    uint64_t random;
    int fd;

    if (getrandom(&random, sizeof random, 0) != sizeof random) {
        *ret_failure =
            segment_fail_errno(errno, err, err_size, "name", s->path);
        return -1;
    }
    snprintf(s->temporary, sizeof s->temporary, "%s/.%s.new-%016" PRIx64, home,
             segment_name(kind), random);
    fd = open(s->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
              0600);
    if (fd < 0)
        *ret_failure =
            segment_fail_errno(errno, err, err_size, "make", s->temporary);
    return fd;
}

/* lock -1: none is held yet. */
static enum state_result
build(struct segment *ret, int lock, const char *directory,
      const struct segment_shape *shape, char *err, size_t err_size)
{
    struct segment s = {.fd = -1, .lock = lock};
    struct segment_home home;
    struct segment_head head;
    struct stat st;
    enum state_result r;

    if (shape->n_accounts > SEGMENT_ACCOUNTS_MAX ||
        !segment_plan(shape->kind, slots_for(shape->n_accounts),
                      shape->slot_size, shape->windows, &head))
        return segment_fail(STATE_ELAYOUT, err, err_size,
                            "%" PRIu32 " accounts are more than a segment "
                            "holds (%d)",
                            shape->n_accounts, SEGMENT_ACCOUNTS_MAX);
    r = segment_home(directory, shape->kind, &home, err, err_size);
    if (r == STATE_OK && !segment_path(&s, &home, shape->kind))
        r = segment_fail(STATE_ESYSTEM, err, err_size,
                         "state.runtime: path too long: %s", directory);
    if (r == STATE_OK && lock < 0 && segment_traits(shape->kind)->has_owner)
        r = take_lock(home.path, shape->kind, &s.lock, err, err_size);
    if (r != STATE_OK)
        return r;
    sweep(home.path, shape->kind);
    s.fd = open_temporary(&s, home.path, shape->kind, err, err_size, &r);
    if (s.fd < 0)
        goto done;
    r = reserve_head(s.fd, &head, s.temporary, err, err_size);
    if (r != STATE_OK)
        goto done;
    if (fchmod(s.fd, segment_mode(shape->kind, &home)) != 0 ||
        fstat(s.fd, &st) != 0) {
        r = segment_fail_errno(errno, err, err_size, "set up", s.temporary);
        goto done;
    }
    s.inode = st.st_ino;
    s.device = st.st_dev;
    r = segment_map(&s, s.fd, &head, true, err, err_size);
    if (r != STATE_OK)
        goto done;
    *s.head = head;
    s.head->made_at_s = (int64_t)time(NULL);
    atomic_store(&s.head->maker_pid, (uint32_t)getpid());
    *ret = s;
done:
    if (r != STATE_OK) {
        if (s.fd >= 0) {
            unlink(s.temporary);
            close(s.fd);
        }
        if (s.lock >= 0 && s.lock != lock)
            close(s.lock);
    }
    return r;
}

enum state_result
segment_build(struct segment *ret, const char *directory,
              const struct segment_shape *shape, char *err, size_t err_size)
{
    return build(ret, -1, directory, shape, err, err_size);
}

enum state_result
segment_build_again(struct segment *ret, struct segment *old,
                    const char *directory, const struct segment_shape *shape,
                    char *err, size_t err_size)
{
    enum state_result r =
        build(ret, old->lock, directory, shape, err, err_size);

    if (r == STATE_OK)
        old->lock = -1;
    return r;
}

/* ---- moving into place ---- */

/* Opens the file that is about to be replaced, if it is one we can mark. */
static int
open_old(const struct segment *s)
{
    struct segment_head head;
    struct stat st;
    int fd = open(s->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        pread(fd, &head, sizeof head, 0) == sizeof head &&
        head.magic == SEGMENT_MAGIC && head.layout == SEGMENT_LAYOUT &&
        head.head_size == sizeof head)
        return fd;
    close(fd);
    return -1;
}

/* Tells the old file's readers, also those that wait. */
static void
retire(int fd)
{
    struct segment_head *old;

    old = mmap(NULL, sizeof *old, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (old == MAP_FAILED)
        return;
    atomic_store(&old->retired, 1);
    atomic_fetch_add(&old->wake, 1);
    syscall(SYS_futex, &old->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    munmap(old, sizeof *old);
}

enum state_result
segment_install(struct segment *s, enum segment_place place, char *err,
                size_t err_size)
{
    int old = -1, n;

    if (place == SEGMENT_FIRST) {
        if (link(s->temporary, s->path) != 0)
            return errno == EEXIST
                       ? segment_fail(STATE_ETAKEN, err, err_size,
                                      "%s is there already", s->path)
                       : segment_fail_errno(errno, err, err_size, "make",
                                            s->path);
        unlink(s->temporary);
        s->temporary[0] = '\0';
        return STATE_OK;
    }
    old = open_old(s);
    n = rename(s->temporary, s->path);
    if (n != 0) {
        n = errno;
        if (old >= 0)
            close(old);
        return segment_fail_errno(n, err, err_size, "replace", s->path);
    }
    s->temporary[0] = '\0';
    if (old >= 0) {
        retire(old);
        close(old);
    }
    return STATE_OK;
}
