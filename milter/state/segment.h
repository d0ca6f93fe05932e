/* milter/state/segment.h - one shared-memory file: made, attached, checked.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A segment is a file on tmpfs that begins with struct segment_head.  Its
 * maker writes a new file under another name (O_EXCL, posix_fallocate, so
 * that a full tmpfs is an error here and never a SIGBUS later) and renames it
 * into place.  The others attach without creating and check owner, mode and
 * layout.  What is shared is input: every index read from it is checked.
 *
 * All segments hold account slots in one open-addressing table, keyed by the
 * mailbox id (policy/policy.h); slot i begins with its id, 0 = free.  Slots
 * are claimed by compare-and-swap and keep their id for the segment's life.
 */
#ifndef STATE_SEGMENT_H
#define STATE_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/policy.h"

enum segment_kind {
    SEGMENT_QUOTA,
    SEGMENT_HINTS,
    SEGMENT_STATUS,
    SEGMENT_TOKEN,
    SEGMENT_KINDS
};

/* File name below state.runtime: "quota", "hints", "status", "token". */
const char *segment_name(enum segment_kind k);

#define SEGMENT_MAGIC 0x31454d4554554f52ull /* "ROUTEME1", little-endian */
enum { SEGMENT_LAYOUT = 1 };

/* Part of the shared layout: a change here is a new SEGMENT_LAYOUT. */
struct segment_head {
    uint64_t magic;
    uint32_t layout;
    uint32_t kind;
    uint32_t head_size; /* sizeof(struct segment_head) */
    uint32_t slot_size; /* octets a slot */
    uint32_t n_slots;   /* a power of two */
    uint32_t windows;   /* quota: windows a slot */
    uint64_t size;      /* of the whole file */
    uint64_t slots_at;  /* offset of slot 0 */
    uint64_t extra_at;  /* quota: offset of the request words; else 0 */
    int64_t made_at_s;  /* Unix time */
    int64_t offset_ms;  /* quota: quota time - CLOCK_BOOTTIME */
    _Atomic uint32_t maker_pid;
    _Atomic uint32_t retired; /* 1: a newer file has taken this one's place */
    _Atomic uint32_t wake;    /* futex word; counts requests */
    _Atomic uint32_t slots_used;
    _Atomic uint64_t heartbeat_s; /* Unix time, by the writer */
    _Atomic uint64_t stat[32];    /* the writer's counters, see the segment */
    uint8_t spare[96];
};

_Static_assert(sizeof(struct segment_head) == 448, "layout 1");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "a lock-based atomic cannot be shared between processes");

enum state_result {
    STATE_OK = 0,
    STATE_EEMPTY,   /* nothing was ever published here */
    STATE_EBUSY,    /* a writer is (or died) inside; keep the last good copy */
    STATE_ECORRUPT, /* a field is out of range */
    STATE_EFULL,    /* no free slot */
    STATE_EABSENT,  /* no such file (yet) */
    STATE_EACCESS,  /* owner, mode or permission; err says which */
    STATE_ELAYOUT,  /* made by another version or for other sizes */
    STATE_ENOSPACE, /* the tmpfs is full */
    STATE_ESYSTEM,  /* any other system call; err says which */
};

const char *state_result_text(enum state_result r);

struct segment {               /* one mapping of this process */
    struct segment_head *head; /* NULL: not attached */
    size_t size;
    bool writable;
    enum segment_kind kind;
    ino_t inode;
    dev_t device;
    char path[256];
};

struct segment_shape {
    enum segment_kind kind;
    uint32_t n_accounts; /* slots wanted; rounded up to a power of two with a
                          * quarter kept free */
    uint32_t slot_size;
    uint32_t windows;
    uint32_t extra_per_slot; /* octets behind the head, 0 or 4 */
    mode_t mode;             /* of the file, e.g. 0640 */
};

/* Makes a fresh segment in `directory` (which must exist) and maps it
 * read-write; an older file of that name is marked retired and replaced. */
enum state_result segment_make(struct segment *ret, const char *directory,
                               const struct segment_shape *shape, char *err,
                               size_t err_size);

/* Maps an existing one.  slot_size 0 accepts the file's own (quota). */
enum state_result segment_attach(struct segment *ret, const char *directory,
                                 enum segment_kind kind, uint32_t slot_size,
                                 bool writable, char *err, size_t err_size);

void segment_detach(struct segment *s); /* takes an all-zero one */

/* Has the file been replaced since this mapping was made? Cheap; looks at the
 * retired mark, and at the path when `look` is set. */
bool segment_stale(const struct segment *s, bool look);

/* The slot of an id.  NULL: none (find), or the table is full (claim). */
void *segment_find(const struct segment *s, uint64_t id);
void *segment_claim(struct segment *s, uint64_t id);

/* Slot i, 0..n_slots-1; NULL when it is free. */
void *segment_slot(const struct segment *s, uint32_t i);
uint32_t segment_index(const struct segment *s, const void *slot);

/* Wakes those that wait on head->wake after adding one to it. */
void segment_wake(struct segment *s);
/* Waits until head->wake differs from `seen` or ms have passed; works on a
 * read-only mapping. */
void segment_wait(const struct segment *s, uint32_t seen, uint64_t ms);

#endif
