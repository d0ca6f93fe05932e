/* tests/support/failing_alloc.c - see failing_alloc.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/support/failing_alloc.h"

#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *s);

unsigned long alloc_left = ALLOC_FOR_EVER;

static bool
refused(void)
{
    if (alloc_left == 0)
        return true;
    alloc_left--;
    return false;
}

void *
__wrap_malloc(size_t size)
{
    return refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return refused() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return refused() ? NULL : __real_realloc(old, size);
}

void *
__wrap_reallocarray(void *old, size_t n, size_t size)
{
    return refused() ? NULL : __real_reallocarray(old, n, size);
}

char *
__wrap_strdup(const char *s)
{
    return refused() ? NULL : __real_strdup(s);
}
