/* milter/state/attachment.c - see attachment.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/attachment.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/clock.h"

enum { LOOK_EVERY_MS = 1000 };

struct attachment {
    char *directory;
    enum segment_kind kind;
    uint32_t slot_size;
    bool writable;
    pthread_mutex_t lock;
    struct { /* under the lock */
        struct mapping *current;
        uint64_t attached; /* how often */
        uint64_t look_at_ms;
    } _shared;
};

struct attachment *
attachment_new(const char *directory, enum segment_kind kind,
               uint32_t slot_size, bool writable)
{
    struct attachment *a = calloc(1, sizeof *a);

    if (a == NULL)
        return NULL;
    a->directory = strdup(directory);
    if (a->directory == NULL) {
        free(a);
        return NULL;
    }
    a->kind = kind;
    a->slot_size = slot_size;
    a->writable = writable;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

static void
release(struct mapping *m)
{
    if (m != NULL && --m->refs == 0) {
        segment_detach(&m->segment);
        free(m);
    }
}

void
attachment_free(struct attachment *a)
{
    if (a == NULL)
        return;
    release(a->_shared.current);
    pthread_mutex_destroy(&a->lock);
    free(a->directory);
    free(a);
}

/* The machine's clock, also in tests that own the time: this is about files,
 * not about mail. */
static bool
is_stale(struct attachment *a)
{
    uint64_t now_ms = clock_boot_ms(&clock_real);
    bool look = now_ms >= a->_shared.look_at_ms;

    if (look)
        a->_shared.look_at_ms = now_ms + LOOK_EVERY_MS;
    return segment_stale(&a->_shared.current->segment, look);
}

static enum state_result
attach(struct attachment *a, char *err, size_t err_size)
{
    struct mapping *m = calloc(1, sizeof *m);
    enum state_result r;

    if (m == NULL)
        return STATE_ESYSTEM;
    r = segment_attach(&m->segment, a->directory, a->kind, a->slot_size,
                       a->writable, err, err_size);
    if (r != STATE_OK) {
        free(m);
        return r;
    }
    m->refs = 1;
    m->number = ++a->_shared.attached;
    a->_shared.current = m;
    return STATE_OK;
}

enum state_result
attachment_get(struct attachment *a, struct mapping **ret, char *err,
               size_t err_size)
{
    enum state_result r = STATE_OK;

    pthread_mutex_lock(&a->lock);
    if (a->_shared.current != NULL && is_stale(a)) {
        release(a->_shared.current);
        a->_shared.current = NULL;
    }
    if (a->_shared.current == NULL)
        r = attach(a, err, err_size);
    if (r == STATE_OK) {
        a->_shared.current->refs++;
        *ret = a->_shared.current;
    }
    pthread_mutex_unlock(&a->lock);
    return r;
}

void
attachment_put(struct attachment *a, struct mapping *m)
{
    pthread_mutex_lock(&a->lock);
    release(m);
    pthread_mutex_unlock(&a->lock);
}

void
attachment_drop(struct attachment *a)
{
    pthread_mutex_lock(&a->lock);
    release(a->_shared.current);
    a->_shared.current = NULL;
    pthread_mutex_unlock(&a->lock);
}
