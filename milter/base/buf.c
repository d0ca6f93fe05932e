/* milter/base/buf.c - see buf.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROOM_FIRST = 128,
    /* Blocks up to this size may hold a secret and are wiped when the bytes
     * move; above it realloc's speed counts more. */
    WIPED_UP_TO = 65536,
};

void
buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void
buf_free(struct buf *b)
{
    free(b->at);
    buf_init(b, b->max);
}

void
buf_wipe_free(struct buf *b)
{
    if (b->at != NULL)
        explicit_bzero(b->at, b->room);
    buf_free(b);
}

void
buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

static bool
move_to(struct buf *b, size_t room)
{
    char *at;

    if (b->room > WIPED_UP_TO) {
        at = realloc(b->at, room);
        if (at == NULL)
            return false;
    } else {
        at = malloc(room);
        if (at == NULL)
            return false;
        if (b->at != NULL) {
            memcpy(at, b->at, b->len);
            explicit_bzero(b->at, b->room);
            free(b->at);
        }
    }
    b->at = at;
    b->room = room;
    return true;
}

/* One octet more than asked for, so that printf has room for its NUL. */
bool
buf_reserve(struct buf *b, size_t more)
{
    size_t need, room;

    if (b->failed)
        return false;
    if (more > b->max - b->len || b->len + more == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    need = b->len + more + 1;
    if (need <= b->room)
        return true;

    room = b->room < ROOM_FIRST ? ROOM_FIRST : b->room;
    while (room < need)
        room = room > SIZE_MAX / 2 ? need : room * 2;
    if (b->max < SIZE_MAX && room > b->max + 1)
        room = b->max + 1;
    if (!move_to(b, room))
        b->failed = true;
    return !b->failed;
}

bool
buf_add(struct buf *b, const void *data, size_t len)
{
    if (!buf_reserve(b, len))
        return false;
    if (len > 0)
        memcpy(b->at + b->len, data, len);
    b->len += len;
    return true;
}

bool
buf_add_text(struct buf *b, const char *text)
{
    return buf_add(b, text, strlen(text));
}

bool
buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return false;
    }
    if (!buf_reserve(b, (size_t)n))
        return false;

    va_start(ap, fmt);
    vsnprintf(b->at + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return true;
}

void
buf_eat(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->at, b->at + n, b->len - n);
    b->len -= n;
}
