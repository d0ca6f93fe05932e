/* policy/arena.c - see arena.h: a chain of zeroed blocks.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/arena.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_MIN = 4 * 1024,    /* octets of the first block */
    BLOCK_MAX = 1024 * 1024, /* blocks double up to this */
};

struct block {
    struct block *next;
    size_t used, size; /* octets of data */
    alignas(max_align_t) char data[];
};

struct cleanup {
    struct cleanup *next;
    void (*fn)(void *object);
    void *object;
};

struct arena {
    struct block *block;     /* newest first; only the first is filled */
    struct cleanup *cleanup; /* newest first */
    size_t next_size, held;
};

struct arena *
arena_new(void)
{
    struct arena *a = calloc(1, sizeof *a);

    if (a != NULL)
        a->next_size = BLOCK_MIN;
    return a;
}

void
arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    for (struct cleanup *c = a->cleanup; c != NULL; c = c->next)
        c->fn(c->object);
    while (a->block != NULL) {
        struct block *next = a->block->next;

        free(a->block);
        a->block = next;
    }
    free(a);
}

static struct block *
block_new(struct arena *a, size_t size)
{
    struct block *b;

    if (size > SIZE_MAX - sizeof *b)
        return NULL;
    b = calloc(1, sizeof *b + size);
    if (b == NULL)
        return NULL;
    b->size = size;
    a->held += sizeof *b + size;
    return b;
}

/* A block with room for `size` octets, or NULL. */
static struct block *
block_with_room(struct arena *a, size_t size)
{
    struct block *b = a->block;

    if (b != NULL && b->size - b->used >= size)
        return b;

    /* A large object gets a block of its own behind the one being filled,
     * whose rest is not lost. */
    if (b != NULL && size > a->next_size / 4) {
        struct block *own = block_new(a, size);

        if (own == NULL)
            return NULL;
        own->next = b->next;
        b->next = own;
        return own;
    }
    b = block_new(a, size > a->next_size ? size : a->next_size);
    if (b == NULL)
        return NULL;
    if (a->next_size < BLOCK_MAX)
        a->next_size *= 2;
    b->next = a->block;
    a->block = b;
    return b;
}

void *
arena_alloc(struct arena *a, size_t n, size_t size)
{
    const size_t align = alignof(max_align_t);
    struct block *b;
    size_t want;
    void *at;

    if (size != 0 && n > (SIZE_MAX - align) / size)
        return NULL;
    want = (n * size + align - 1) / align * align;
    if (want == 0)
        want = align; /* never the same address twice */
    b = block_with_room(a, want);
    if (b == NULL)
        return NULL;
    at = b->data + b->used;
    b->used += want;
    return at;
}

char *
arena_copy(struct arena *a, struct slice s)
{
    char *copy;

    if (s.len == SIZE_MAX)
        return NULL;
    copy = arena_alloc(a, s.len + 1, 1);
    if (copy != NULL && s.len > 0)
        memcpy(copy, s.at, s.len);
    return copy;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0)
        text = arena_alloc(a, (size_t)n + 1, 1);
    if (text != NULL)
        vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

bool
arena_cleanup(struct arena *a, void (*fn)(void *object), void *object)
{
    struct cleanup *c = arena_alloc(a, 1, sizeof *c);

    if (c == NULL)
        return false;
    c->fn = fn;
    c->object = object;
    c->next = a->cleanup;
    a->cleanup = c;
    return true;
}

size_t
arena_size(const struct arena *a)
{
    return a->held;
}
