/* milter/state/segment.h - one shared-memory file: made, attached, checked.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A segment is a file, on tmpfs, that begins with struct segment_head.  Its
 * maker builds a new file under another name (O_EXCL) and moves it into place
 * whole; the others attach without creating and check owner, mode and layout.
 * What is shared is input: every number read from it is checked, and what the
 * checks looked at is kept in private memory.
 *
 * All segments hold account slots in one open-addressing table, keyed by the
 * mailbox id (policy/policy.h).  The ids lie side by side in front of the
 * slots, 0 = free, so that a search touches a line or two.  An id is claimed
 * by compare-and-swap and stays for the segment's life, but for those that the
 * agent takes out of `quota`.
 *
 * Space for head and ids is reserved when the file is made, space for a slot
 * when it is claimed (fallocate), so that a full tmpfs is an error there and
 * never a SIGBUS later, and memory grows with the accounts in use.
 *
 * Drawn byte by byte in README.md.
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

/* File name below state.runtime: "quota", "hints", "status", "token"; below a
 * directory of the same name where there is one (base/place.h). */
const char *segment_name(enum segment_kind k);

#define SEGMENT_MAGIC 0x31454d4554554f52ull /* "ROUTEME1", little-endian */
enum { SEGMENT_LAYOUT = 3, SEGMENT_STATS = 32 };

/* In the table of ids: its account has left.  Who searches goes on, who claims
 * may have the place. */
#define SEGMENT_LEFT UINT64_MAX

/* Part of the shared layout: a change here is a new SEGMENT_LAYOUT. */
struct segment_head {
    uint64_t magic;
    uint32_t layout;
    uint32_t kind;
    uint32_t head_size; /* sizeof(struct segment_head) */
    uint32_t slot_size; /* octets a slot */
    uint32_t n_slots;   /* a power of two */
    uint32_t windows;   /* quota: windows a slot; else 0 */
    uint64_t size;      /* of the whole file */
    uint64_t ids_at;    /* offset of the ids, 8 octets a slot */
    uint64_t words_at;  /* quota: request words, 8 octets a slot; else 0 */
    uint64_t slots_at;  /* offset of slot 0 */
    int64_t made_at_s;  /* Unix time */
    int64_t offset_ms;  /* quota: quota time - CLOCK_BOOTTIME */
    _Atomic uint32_t maker_pid;
    _Atomic uint32_t retired; /* 1: a newer file has taken this one's place */
    _Atomic uint32_t wake;    /* futex word; counts requests */
    _Atomic uint32_t slots_used;
    _Atomic uint64_t heartbeat_s;         /* Unix time, by the maker */
    _Atomic uint64_t stat[SEGMENT_STATS]; /* the writer's counters */
    _Atomic uint32_t reach; /* no id lies so many places from where its search
                             * begins */
    uint8_t spare[84];
};

_Static_assert(sizeof(struct segment_head) == 448, "layout 3");
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
    STATE_ESYSTEM,  /* any other system call, or memory; err says which */
    STATE_ETAKEN,   /* another process is its maker; err says which */
};

const char *state_result_text(enum state_result r);

struct segment {               /* one mapping of this process */
    struct segment_head *head; /* NULL: not attached */
    size_t size;
    bool writable;
    enum segment_kind kind;
    uint32_t n_slots, slot_size, windows; /* as checked, not as shared */
    uint32_t reserve; /* octets of a slot that get memory when it is claimed */
    _Atomic uint64_t *id;
    _Atomic uint64_t *word; /* NULL: this kind has none */
    char *slots;
    ino_t inode;
    dev_t device;
    int fd;   /* writable: to reserve space; else -1 */
    int lock; /* the maker's lock; else -1 */
    char path[256];
    char temporary[280]; /* built and not yet in place; else "" */
};

struct segment_shape {
    enum segment_kind kind;
    uint32_t n_accounts; /* slots wanted; rounded up to a power of two with an
                          * eighth kept free */
    uint32_t slot_size;  /* a multiple of 64 */
    uint32_t windows;
};

enum { SEGMENT_ACCOUNTS_MAX = 1 << 22 };

/* Builds a fresh segment in `directory` (which must exist) under a temporary
 * name and maps it read-write.  quota, status and token have one maker at a
 * time, by a lock that ends with the process: STATE_ETAKEN while another one
 * lives.  What a maker that died left behind is removed. */
enum state_result segment_build(struct segment *ret, const char *directory,
                                const struct segment_shape *shape, char *err,
                                size_t err_size);

/* The same in place of one that this process has made, whose lock goes over to
 * the new one; on failure it stays with the old. */
enum state_result segment_build_again(struct segment *ret, struct segment *old,
                                      const char *directory,
                                      const struct segment_shape *shape,
                                      char *err, size_t err_size);

enum segment_place {
    SEGMENT_REPLACE, /* an older file is replaced and marked retired */
    SEGMENT_FIRST,   /* an older file stays: STATE_ETAKEN */
};

/* Moves a built segment into place.  On failure it is still to be detached. */
enum state_result segment_install(struct segment *s, enum segment_place place,
                                  char *err, size_t err_size);

/* Maps an existing one.  slot_size 0 accepts the file's own (quota).
 *
 * A file is trusted not to be cut short later (which would be a SIGBUS here),
 * so its owner must be root, this user, or the directory's owner, or the
 * directory one that a group of daemons shares (group-writable, not
 * world-writable); and its mode no looser than its maker makes it.  The
 * directory is the one that the file lies in. */
enum state_result segment_attach(struct segment *ret, const char *directory,
                                 enum segment_kind kind, uint32_t slot_size,
                                 bool writable, char *err, size_t err_size);

void segment_detach(struct segment *s); /* takes an all-zero one */

/* Has the file been replaced since this mapping was made? Cheap; looks at the
 * retired mark, and at the path when `look` is set.  A file that was removed
 * and not replaced is still good. */
bool segment_stale(const struct segment *s, bool look);

/* The slot of an id; NULL = none. */
void *segment_find(const struct segment *s, uint64_t id);

/* The same, made when there is none: STATE_EFULL, STATE_ENOSPACE,
 * STATE_ESYSTEM.  A new slot is all zero, or as segment_leave found it.  Any
 * thread or process. */
enum state_result segment_claim(struct segment *s, uint64_t id, void **ret);

/* Memory for the first octets of slot i, whether it has some already or not:
 * STATE_ENOSPACE, STATE_ESYSTEM. */
enum state_result segment_reserve(const struct segment *s, uint32_t i,
                                  uint32_t octets);

/* Takes a slot's id out.  Nobody may claim meanwhile; the slot's words are for
 * the caller to clear before, so that no reader takes them for the next
 * account's. */
void segment_leave(struct segment *s, void *slot);

/* Slots that may still be claimed. */
uint32_t segment_room(const struct segment *s);

/* Slot i, 0..n_slots-1, and its id; NULL when it is free. */
void *segment_slot(const struct segment *s, uint32_t i, uint64_t *ret_id);
uint32_t segment_index(const struct segment *s, const void *slot);

/* Wakes those that wait on head->wake after adding one to it. */
void segment_wake(struct segment *s);
uint32_t segment_wake_count(const struct segment *s);
/* Waits until head->wake differs from `seen` or ms have passed (or for no
 * reason at all); works on a read-only mapping. */
void segment_wait(const struct segment *s, uint32_t seen, uint64_t ms);

/* For people: who made a segment, and how full it is. */
struct segment_info {
    uint32_t maker_pid;
    int64_t made_at_s;   /* Unix time */
    int64_t heartbeat_s; /* Unix time; 0 = this kind has none */
    uint32_t n_slots, slots_used;
    uint32_t windows;
    uint64_t size;
    uint64_t stat[SEGMENT_STATS];
};
enum state_result segment_inspect(const char *directory, enum segment_kind kind,
                                  struct segment_info *ret, char *err,
                                  size_t err_size);

#endif
