/* milter/state/segment_private.h - between the segment_*.c files.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STATE_SEGMENT_PRIVATE_H
#define STATE_SEGMENT_PRIVATE_H

#include <sys/stat.h>

#include "milter/state/segment.h"

/* What is particular to a kind. */
struct segment_traits {
    const char *name;
    mode_t mode;      /* that its maker gives it, at least */
    mode_t forbidden; /* bits that make a file untrusted */
    bool has_words;   /* a request word for each slot */
    bool is_secret;   /* kept out of core dumps */
    bool has_owner;   /* one maker at a time, by a lock */
};
const struct segment_traits *segment_traits(enum segment_kind k);

/* Where everything lies; false when the sizes are out of range. */
bool segment_plan(enum segment_kind kind, uint32_t n_slots, uint32_t slot_size,
                  uint32_t windows, struct segment_head *ret);

/* Maps fd, whose head has been checked, into ret. */
enum state_result segment_map(struct segment *ret, int fd,
                              const struct segment_head *head, bool writable,
                              char *err, size_t err_size);

/* Where a kind lies: see base/place.h. */
struct segment_home {
    char path[256];   /* of the directory */
    struct stat stat; /* as it is now */
    bool own;         /* for this kind alone */
};
enum state_result segment_home(const char *directory, enum segment_kind kind,
                               struct segment_home *ret, char *err,
                               size_t err_size);

/* The mode that a file there is made with. */
mode_t segment_mode(enum segment_kind kind, const struct segment_home *home);

/* Sets s->path; false when it is too long. */
bool segment_path(struct segment *s, const struct segment_home *home,
                  enum segment_kind kind);

/* Is an open file one of ours: regular, owner, mode? */
enum state_result segment_trust(enum segment_kind kind,
                                const struct segment_home *home,
                                const struct stat *file, const char *path,
                                char *err, size_t err_size);

/* Writes err; returns the result that fits errno, or r. */
enum state_result segment_fail(enum state_result r, char *err, size_t err_size,
                               const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
enum state_result segment_fail_errno(int error, char *err, size_t err_size,
                                     const char *what, const char *path);

#endif
