/* milter/oauth/wipe.c - see wipe.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/wipe.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/crypto.h>

/* Before each block: how much there is to wipe. */
union head {
    size_t size;
    max_align_t align;
};

static union head *
head_of(void *p)
{
    return (union head *)p - 1;
}

void *
wipe_malloc(size_t size)
{
    union head *h;

    if (size > SIZE_MAX - sizeof *h) {
        errno = ENOMEM;
        return NULL;
    }
    h = malloc(sizeof *h + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    return h + 1;
}

void *
wipe_calloc(size_t n, size_t size)
{
    void *p;

    if (size != 0 && n > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    p = wipe_malloc(n * size);
    if (p != NULL)
        memset(p, 0, n * size);
    return p;
}

void *
wipe_realloc(void *p, size_t size)
{
    void *fresh;
    size_t old;

    if (p == NULL)
        return wipe_malloc(size);
    if (size == 0) {
        wipe_free(p);
        return NULL;
    }
    old = head_of(p)->size;
    if (size <= old && size >= old / 2)
        return p; /* what is behind it is wiped with the whole */
    fresh = wipe_malloc(size);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, size < old ? size : old);
    wipe_free(p);
    return fresh;
}

char *
wipe_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = wipe_malloc(size);

    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

void
wipe_free(void *p)
{
    if (p == NULL)
        return;
    explicit_bzero(p, head_of(p)->size);
    free(head_of(p));
}

/* ---- OpenSSL's way of calling them ---- */

static void *
crypto_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return wipe_malloc(size);
}

static void *
crypto_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return wipe_realloc(p, size);
}

static void
crypto_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    wipe_free(p);
}

bool
wipe_start(void)
{
    json_set_alloc_funcs(wipe_malloc, wipe_free);
    return CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc,
                                    crypto_free) == 1;
}
