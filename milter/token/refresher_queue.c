/* milter/token/refresher_queue.c - see refresher_queue.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/refresher_queue.h"

#include <stdlib.h>

enum { ROOM_FIRST = 64 };

static bool
before(const struct queued *a, const struct queued *b)
{
    if (a->awaited != b->awaited)
        return a->awaited;
    if (a->ends_s != b->ends_s)
        return a->ends_s < b->ends_s;
    return a->due_ms < b->due_ms;
}

static void
set(struct queue *q, size_t place, struct queued *e)
{
    q->at[place - 1] = e;
    e->place = place;
}

static void
rise(struct queue *q, struct queued *e)
{
    size_t place = e->place;

    while (place > 1 && before(e, q->at[place / 2 - 1])) {
        set(q, place, q->at[place / 2 - 1]);
        place /= 2;
    }
    set(q, place, e);
}

static void
sink(struct queue *q, struct queued *e)
{
    size_t place = 1;

    for (size_t child; (child = 2 * place) <= q->n; place = child) {
        if (child < q->n && before(q->at[child], q->at[child - 1]))
            child++;
        if (!before(q->at[child - 1], e))
            break;
        set(q, place, q->at[child - 1]);
    }
    set(q, place, e);
}

bool
queue_put(struct queue *q, struct queued *e)
{
    if (q->n == q->room) {
        size_t room = q->room > 0 ? 2 * q->room : ROOM_FIRST;
        struct queued **at = reallocarray(q->at, room, sizeof(struct queued *));

        if (at == NULL)
            return false;
        q->at = at;
        q->room = room;
    }
    e->place = ++q->n;
    rise(q, e);
    return true;
}

struct queued *
queue_take(struct queue *q)
{
    struct queued *first;

    if (q->n == 0)
        return NULL;
    first = q->at[0];
    first->place = 0;
    q->n--;
    if (q->n > 0)
        sink(q, q->at[q->n]);
    return first;
}

void
queue_hurry(struct queue *q, struct queued *e)
{
    e->awaited = true;
    if (e->place != 0)
        rise(q, e);
}

void
queue_free(struct queue *q)
{
    free(q->at);
    *q = (struct queue){0};
}
