/* milter/state/segment_attach.c - see segment.h: attach to what another
 * process made.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "milter/state/segment_private.h"

enum state_result
segment_trust(enum segment_kind kind, const struct segment_home *home,
              const struct stat *file, const char *path, char *err,
              size_t err_size)
{
    const struct segment_traits *t = segment_traits(kind);
    bool group_of_daemons = (home->stat.st_mode & S_IWGRP) != 0 &&
                            (home->stat.st_mode & S_IWOTH) == 0;

    if (!S_ISREG(file->st_mode))
        return segment_fail(STATE_EACCESS, err, err_size,
                            "%s is not a regular file", path);
    if (file->st_uid != 0 && file->st_uid != geteuid() &&
        file->st_uid != home->stat.st_uid && !group_of_daemons)
        return segment_fail(STATE_EACCESS, err, err_size,
                            "%s belongs to user %u, which is not trusted: want "
                            "root, this user or the owner of the directory",
                            path, (unsigned)file->st_uid);
    if ((file->st_mode & t->forbidden) != 0)
        return segment_fail(STATE_EACCESS, err, err_size,
                            "%s has mode %04o: want %04o or stricter", path,
                            (unsigned)(file->st_mode & 07777),
                            (unsigned)segment_mode(kind, home));
    return STATE_OK;
}

/* Every number in the head but the counters follows from four of them. */
static enum state_result
check_head(const struct segment_head *head, enum segment_kind kind,
           uint32_t slot_size, off_t size, const char *path, char *err,
           size_t err_size)
{
    struct segment_head want;

    if (head->magic != SEGMENT_MAGIC || head->kind != kind)
        return segment_fail(STATE_ECORRUPT, err, err_size,
                            "%s is not a %s segment of gmroute", path,
                            segment_name(kind));
    if (head->layout != SEGMENT_LAYOUT || head->head_size != sizeof *head ||
        (slot_size != 0 && head->slot_size != slot_size))
        return segment_fail(
            STATE_ELAYOUT, err, err_size,
            "%s was made by another version of gmroute (layout %" PRIu32
            ", slots of %" PRIu32 " octets): restart the daemons",
            path, head->layout, head->slot_size);
    if (!segment_plan(kind, head->n_slots, head->slot_size, head->windows,
                      &want) ||
        head->size != want.size || head->ids_at != want.ids_at ||
        head->words_at != want.words_at || head->slots_at != want.slots_at)
        return segment_fail(STATE_ECORRUPT, err, err_size,
                            "%s has a damaged head: sizes disagree", path);
    if (size < 0 || (uint64_t)size != want.size)
        return segment_fail(STATE_ECORRUPT, err, err_size,
                            "%s is damaged: %lld octets, want %" PRIu64, path,
                            (long long)size, want.size);
    return STATE_OK;
}

static enum state_result
check_open(struct segment *s, int fd, const struct segment_home *home,
           enum segment_kind kind, uint32_t slot_size,
           struct segment_head *ret_head, char *err, size_t err_size)
{
    struct stat file;
    enum state_result r;
    ssize_t n;

    if (fstat(fd, &file) != 0)
        return segment_fail_errno(errno, err, err_size, "look at", s->path);
    r = segment_trust(kind, home, &file, s->path, err, err_size);
    if (r != STATE_OK)
        return r;
    n = pread(fd, ret_head, sizeof *ret_head, 0);
    if (n < 0)
        return segment_fail_errno(errno, err, err_size, "read", s->path);
    if ((size_t)n < sizeof *ret_head)
        return segment_fail(STATE_ECORRUPT, err, err_size,
                            "%s is too short to be a segment of gmroute",
                            s->path);
    s->inode = file.st_ino;
    s->device = file.st_dev;
    return check_head(ret_head, kind, slot_size, file.st_size, s->path, err,
                      err_size);
}

enum state_result
segment_attach(struct segment *ret, const char *directory,
               enum segment_kind kind, uint32_t slot_size, bool writable,
               char *err, size_t err_size)
{
    struct segment s = {.fd = -1, .lock = -1};
    struct segment_home home;
    struct segment_head head;
    enum state_result r;
    int fd;

    r = segment_home(directory, kind, &home, err, err_size);
    if (r != STATE_OK)
        return r;
    if (!segment_path(&s, &home, kind))
        return segment_fail(STATE_ESYSTEM, err, err_size,
                            "state.runtime: path too long: %s", directory);
    /* O_NONBLOCK: a FIFO in its place must not hold us up. */
    fd = open(s.path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC |
                          O_NONBLOCK);
    if (fd < 0)
        return segment_fail_errno(errno, err, err_size, "open", s.path);
    r = check_open(&s, fd, &home, kind, slot_size, &head, err, err_size);
    if (r == STATE_OK)
        r = segment_map(&s, fd, &head, writable, err, err_size);
    if (r != STATE_OK || !writable)
        close(fd);
    else
        s.fd = fd;
    if (r == STATE_OK)
        *ret = s;
    return r;
}

enum state_result
segment_inspect(const char *directory, enum segment_kind kind,
                struct segment_info *ret, char *err, size_t err_size)
{
    struct segment s = {0};
    enum state_result r;

    r = segment_attach(&s, directory, kind, 0, false, err, err_size);
    if (r != STATE_OK)
        return r;
    *ret = (struct segment_info){
        .maker_pid = atomic_load(&s.head->maker_pid),
        .made_at_s = s.head->made_at_s,
        .heartbeat_s = (int64_t)atomic_load(&s.head->heartbeat_s),
        .n_slots = s.n_slots,
        .slots_used = atomic_load(&s.head->slots_used),
        .windows = s.windows,
        .size = s.size,
    };
    for (unsigned i = 0; i < SEGMENT_STATS; i++)
        ret->stat[i] = atomic_load(&s.head->stat[i]);
    segment_detach(&s);
    return STATE_OK;
}
