/* milter/state/segment.c - see segment.h: what is the same for maker and
 * reader.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/segment.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/place.h"
#include "milter/state/segment_private.h"

enum { SLOTS_MIN = 16, PAGE = 4096, SLOT_SIZE_MAX = 1 << 20 };

/* The modes in one place.  hints has two writers of one group; token is for
 * the user of both its daemons alone, unless it has a directory that says
 * more. */
static const struct segment_traits traits[SEGMENT_KINDS] = {
    [SEGMENT_QUOTA] = {"quota", 0640, 022, true, false, true},
    [SEGMENT_HINTS] = {"hints", 0660, 002, false, false, false},
    [SEGMENT_STATUS] = {"status", 0640, 022, false, false, true},
    [SEGMENT_TOKEN] = {"token", 0600, 027, false, true, true},
};

const struct segment_traits *
segment_traits(enum segment_kind k)
{
    return &traits[k];
}

const char *
segment_name(enum segment_kind k)
{
    return k < SEGMENT_KINDS ? traits[k].name : "?";
}

bool
segment_plan(enum segment_kind kind, uint32_t n_slots, uint32_t slot_size,
             uint32_t windows, struct segment_head *ret)
{
    uint64_t at = sizeof *ret;

    if (kind >= SEGMENT_KINDS || n_slots < SLOTS_MIN ||
        n_slots > 2 * (uint32_t)SEGMENT_ACCOUNTS_MAX ||
        (n_slots & (n_slots - 1)) != 0 || slot_size == 0 ||
        slot_size > SLOT_SIZE_MAX || slot_size % 64 != 0 ||
        windows > LIMITS_MAX || (kind != SEGMENT_QUOTA && windows != 0))
        return false;
    memset(ret, 0, sizeof *ret);
    ret->magic = SEGMENT_MAGIC;
    ret->layout = SEGMENT_LAYOUT;
    ret->kind = kind;
    ret->head_size = sizeof *ret;
    ret->slot_size = slot_size;
    ret->n_slots = n_slots;
    ret->windows = windows;
    ret->ids_at = at;
    at += 8ull * n_slots;
    if (traits[kind].has_words) {
        ret->words_at = at;
        at += 8ull * n_slots;
    }
    ret->slots_at = (at + PAGE - 1) / PAGE * PAGE;
    ret->size = ret->slots_at + (uint64_t)slot_size * n_slots;
    ret->size = (ret->size + PAGE - 1) / PAGE * PAGE;
    return true;
}

enum state_result
segment_map(struct segment *ret, int fd, const struct segment_head *head,
            bool writable, char *err, size_t err_size)
{
    char *base;

    base = mmap(NULL, head->size, PROT_READ | (writable ? PROT_WRITE : 0),
                MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return segment_fail_errno(errno, err, err_size, "map", ret->path);
    if (traits[head->kind].is_secret)
        madvise(base, head->size, MADV_DONTDUMP);
    ret->head = (struct segment_head *)(void *)base;
    ret->size = head->size;
    ret->writable = writable;
    ret->kind = (enum segment_kind)head->kind;
    ret->n_slots = head->n_slots;
    ret->slot_size = ret->reserve = head->slot_size;
    ret->windows = head->windows;
    ret->id = (_Atomic uint64_t *)(void *)(base + head->ids_at);
    ret->word = head->words_at != 0
                    ? (_Atomic uint64_t *)(void *)(base + head->words_at)
                    : NULL;
    ret->slots = base + head->slots_at;
    return STATE_OK;
}

void
segment_detach(struct segment *s)
{
    if (s == NULL)
        return;
    if (s->head != NULL) {
        if (s->temporary[0] != '\0')
            unlink(s->temporary);
        munmap(s->head, s->size);
        if (s->fd >= 0)
            close(s->fd);
        if (s->lock >= 0)
            close(s->lock);
    }
    *s = (struct segment){.fd = -1, .lock = -1};
}

bool
segment_stale(const struct segment *s, bool look)
{
    struct stat st;

    if (atomic_load_explicit(&s->head->retired, memory_order_relaxed) != 0)
        return true;
    return look && stat(s->path, &st) == 0 &&
           (st.st_ino != s->inode || st.st_dev != s->device);
}

void
segment_wake(struct segment *s)
{
    atomic_fetch_add_explicit(&s->head->wake, 1, memory_order_release);
    syscall(SYS_futex, &s->head->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

uint32_t
segment_wake_count(const struct segment *s)
{
    return atomic_load_explicit(&s->head->wake, memory_order_acquire);
}

void
segment_wait(const struct segment *s, uint32_t seen, uint64_t ms)
{
    struct timespec t;

    if (ms == 0)
        return;
    if (ms > INT_MAX)
        ms = INT_MAX;
    t.tv_sec = (time_t)(ms / 1000);
    t.tv_nsec = (long)(ms % 1000) * 1000000;
    /* Not FUTEX_PRIVATE: the word is shared between processes. */
    syscall(SYS_futex, &s->head->wake, FUTEX_WAIT, seen, &t, NULL, 0);
}

enum state_result
segment_home(const char *directory, enum segment_kind kind,
             struct segment_home *ret, char *err, size_t err_size)
{
    if (!place_of(directory, traits[kind].name, ret->path, sizeof ret->path,
                  &ret->own))
        return segment_fail(STATE_ESYSTEM, err, err_size,
                            "state.runtime: path too long: %s", directory);
    if (stat(ret->path, &ret->stat) != 0)
        return segment_fail_errno(errno, err, err_size, "look at", ret->path);
    return STATE_OK;
}

/* Who may list a directory of its own may read the file in it. */
mode_t
segment_mode(enum segment_kind kind, const struct segment_home *home)
{
    const struct segment_traits *t = &traits[kind];

    return t->mode |
           (home->own ? home->stat.st_mode & 0044 & ~t->forbidden : 0);
}

bool
segment_path(struct segment *s, const struct segment_home *home,
             enum segment_kind kind)
{
    int n = snprintf(s->path, sizeof s->path, "%s/%s", home->path,
                     traits[kind].name);

    return n > 0 && (size_t)n < sizeof s->path;
}

enum state_result
segment_fail(enum state_result r, char *err, size_t err_size, const char *fmt,
             ...)
{
    va_list ap;

    if (err != NULL && err_size > 0) {
        va_start(ap, fmt);
        vsnprintf(err, err_size, fmt, ap);
        va_end(ap);
    }
    return r;
}

enum state_result
segment_fail_errno(int error, char *err, size_t err_size, const char *what,
                   const char *path)
{
    enum state_result r = STATE_ESYSTEM;
    char text[128];

    if (error == ENOENT)
        r = STATE_EABSENT;
    else if (error == EACCES || error == EPERM || error == ELOOP ||
             error == EROFS)
        r = STATE_EACCESS;
    else if (error == ENOSPC || error == EDQUOT)
        r = STATE_ENOSPACE;
    return segment_fail(r, err, err_size, "cannot %s %s: %s", what, path,
                        strerror_r(error, text, sizeof text));
}
