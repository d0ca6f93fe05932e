/* milter/token/refresher_queue.h - who has the next worker: a heap, the most
 * urgent first.
 * SPDX-License-Identifier: Apache-2.0
 *
 * No lock of its own.  When an endpoint is slower than its accounts need it,
 * those come first that somebody waits for, then those whose token ends
 * soonest, and among equals those that have been due for longest.
 */
#ifndef TOKEN_REFRESHER_QUEUE_H
#define TOKEN_REFRESHER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queued {   /* in whatever waits */
    size_t place; /* from 1; 0 = does not wait */
    bool awaited;
    int64_t ends_s;  /* Unix time of its token's end; 0 = has none */
    uint64_t due_ms; /* since when */
};

struct queue {
    struct queued **at;
    size_t n, room;
};

/* Must not wait yet.  False = out of memory. */
bool queue_put(struct queue *q, struct queued *e);
struct queued *queue_take(struct queue *q); /* NULL = nobody waits */
/* Somebody waits for it now; wherever it is. */
void queue_hurry(struct queue *q, struct queued *e);
void queue_free(struct queue *q);

#endif
