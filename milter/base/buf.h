/* milter/base/buf.h - growable bytes, born with the size at which they must
 * refuse.
 * SPDX-License-Identifier: Apache-2.0
 *
 * An error is sticky: after one append failed (too big, out of memory) all
 * later ones fail and buf_failed() says so, so that a caller may build a
 * whole text and check once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct buf {
    char *at;   /* owned; not NUL-terminated */
    size_t len; /* octets used */
    size_t room, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b); /* as after buf_init; takes an all-zero buf */
void buf_wipe_free(struct buf *b); /* for secrets */
void buf_clear(struct buf *b);     /* empties, keeps the memory; not sticky */
bool buf_add(struct buf *b, const void *data, size_t len);
bool buf_add_text(struct buf *b, const char *text);
bool buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool buf_reserve(struct buf *b, size_t more); /* then write at at + len */
void buf_eat(struct buf *b, size_t n);        /* drops the first n octets */

static inline bool
buf_failed(const struct buf *b)
{
    return b->failed;
}

static inline struct slice
buf_slice(const struct buf *b)
{
    return (struct slice){b->at, b->len};
}

#endif
