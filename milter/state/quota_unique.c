/* milter/state/quota_unique.c - see quota_private.h: windows that count
 * different recipients.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The set says when a recipient was mailed last; every change of that moves its
 * unit.  A send that the set had no place for is a unit of its own, added
 * when it is taken and removed when it is given back.
 */
#include <stdlib.h>
#include <string.h>

#include "milter/state/quota_private.h"
#include "milter/state/words.h"

static int
by_hash(const void *a, const void *b)
{
    const struct recipient_id *x = a, *y = b;

    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

uint32_t
recipient_ids_sort(struct recipient_id *r, uint32_t n)
{
    uint32_t kept = 0;

    if (n > 0)
        qsort(r, n, sizeof *r, by_hash);
    for (uint32_t i = 0; i < n; i++) {
        if (kept > 0 && r[kept - 1].hash == r[i].hash)
            r[kept - 1].external |= r[i].external;
        else
            r[kept++] = r[i];
    }
    return kept;
}

static struct unique **
set_of(const struct quota *q, const struct quota_slot *slot)
{
    return &q->unique[segment_index(&q->segment, slot)];
}

/* ---- units ---- */

static bool
counts(const struct quota_window *w, bool external)
{
    enum dimension d = (enum dimension)words_get(&w->dimension);

    return d == DIM_UNIQUE_RECIPIENTS ||
           (d == DIM_UNIQUE_EXTERNAL_RECIPIENTS && external);
}

static void
remove_unit(struct quota_slot *slot, bool external, uint64_t at_ms)
{
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct window *w = &slot->window[i].window;

        if (counts(&slot->window[i], external))
            window_give_back(
                w, window_bucket_of(words_get(&w->window_ms), at_ms), 1);
    }
}

static void
add_unit(struct quota_slot *slot, bool external, uint64_t at_ms,
         uint64_t now_ms)
{
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        struct window *w = &slot->window[i].window;

        if (counts(&slot->window[i], external))
            window_restore(w, now_ms,
                           window_bucket_of(words_get(&w->window_ms), at_ms),
                           1);
    }
}

/* When a recipient was mailed last, as far as the set knows. */
struct latest {
    bool known;
    uint64_t at_ms;
};

static struct latest
latest_of(const struct unique *u, uint64_t hash)
{
    struct latest l = {.at_ms = 0};

    l.known = unique_latest(u, hash, &l.at_ms);
    return l;
}

/* The set has changed: the unit goes where it says now. */
static void
move_unit(struct quota_slot *slot, const struct recipient_id *r,
          struct latest from, const struct unique *u, uint64_t now_ms)
{
    struct latest to = latest_of(u, r->hash);

    if (from.known == to.known && from.at_ms == to.at_ms)
        return;
    if (from.known)
        remove_unit(slot, r->external, from.at_ms);
    if (to.known)
        add_unit(slot, r->external, to.at_ms, now_ms);
}

/* ---- take, give back, settle ---- */

static bool
has_unique(const struct quota_slot *slot)
{
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++)
        if (dimension_is_unique(
                (enum dimension)words_get(&slot->window[i].dimension)))
            return true;
    return false;
}

const struct quota_slot *
quota_unique_without(struct quota *q, const struct quota_slot *slot,
                     const struct cost *c, struct quota_copy *copy)
{
    struct unique **u = set_of(q, slot);
    struct quota_slot *without = quota_copy_slot(copy);

    /* A send that cannot be noted counts beside what its recipients have. */
    if (c->who == NULL || !has_unique(slot) || !unique_reserve(u, c->n_who))
        return slot;
    words_copy(
        copy->word, (const _Atomic uint64_t *)(const void *)slot,
        (sizeof *slot + words_get(&slot->n_windows) * sizeof slot->window[0]) /
            8);
    for (uint32_t i = 0; i < c->n_who; i++) {
        struct latest l = latest_of(*u, c->who[i].hash);

        if (l.known)
            remove_unit(without, c->who[i].external, l.at_ms);
    }
    return without;
}

bool
quota_unique_counted(const struct taken *t)
{
    for (unsigned i = 0; t->cost.who != NULL && i < t->n; i++)
        if (dimension_is_unique(t->charge[i].dimension))
            return true;
    return false;
}

void
quota_unique_take(struct quota *q, struct quota_slot *slot,
                  const struct taken *t)
{
    struct unique **u = set_of(q, slot);

    for (uint32_t i = 0; i < t->cost.n_who && quota_unique_counted(t); i++) {
        const struct recipient_id *r = &t->cost.who[i];
        struct latest from = latest_of(*u, r->hash);

        if (unique_begin(u, &q->unique_cap, r->hash, r->external, t->at_ms))
            move_unit(slot, r, from, *u, t->at_ms);
        else
            add_unit(slot, r->external, t->at_ms, t->at_ms);
    }
}

void
quota_unique_give_back(struct quota *q, struct quota_slot *slot,
                       const struct taken *t, const struct cost *kept)
{
    struct unique *u = *set_of(q, slot);
    uint64_t now_ms = quota_now_ms(q);
    uint32_t k = 0, n_kept = kept != NULL ? kept->n_who : 0;

    for (uint32_t i = 0; i < t->cost.n_who && quota_unique_counted(t); i++) {
        const struct recipient_id *r = &t->cost.who[i];
        struct latest from;

        while (k < n_kept && kept->who[k].hash < r->hash)
            k++;
        if (k < n_kept && kept->who[k].hash == r->hash)
            continue;
        from = latest_of(u, r->hash);
        if (unique_undo(u, &q->unique_cap, r->hash, t->at_ms))
            move_unit(slot, r, from, u, now_ms);
        else
            remove_unit(slot, r->external, t->at_ms);
    }
}

void
quota_unique_settle(struct quota *q, struct quota_slot *slot,
                    const struct taken *t, uint64_t now_ms)
{
    struct unique **u = set_of(q, slot);

    for (uint32_t i = 0; i < t->cost.n_who && quota_unique_counted(t); i++) {
        const struct recipient_id *r = &t->cost.who[i];
        struct latest from = latest_of(*u, r->hash);

        if (unique_settle(*u, &q->unique_cap, r->hash, t->at_ms, now_ms)) {
            move_unit(slot, r, from, *u, now_ms);
            continue;
        }
        remove_unit(slot, r->external, t->at_ms);
        if (unique_add(u, &q->unique_cap, r->hash, r->external, now_ms))
            move_unit(slot, r, from, *u, now_ms);
        else
            add_unit(slot, r->external, now_ms, now_ms);
    }
}

/* ---- restarts and reloads ---- */

void
quota_restore_recipient(struct quota *q, uint64_t id,
                        const struct recipient_id *r, uint64_t at_ms)
{
    struct quota_slot *slot = quota_lock(q, id);
    uint64_t now_ms = quota_now_ms(q);

    if (slot == NULL)
        return;
    if (at_ms > now_ms)
        at_ms = now_ms;
    if (has_unique(slot)) {
        struct unique **u = set_of(q, slot);
        struct latest from = latest_of(*u, r->hash);

        words_write_begin(&slot->seq);
        if (unique_add(u, &q->unique_cap, r->hash, r->external, at_ms))
            move_unit(slot, r, from, *u, now_ms);
        else
            add_unit(slot, r->external, at_ms, now_ms);
        words_write_end(&slot->seq);
    }
    quota_unlock(q, slot);
}

/* One window, while the recipients of a set are gone through. */
struct tally {
    struct quota_window *window;
    uint64_t now_ms;
};

static void
count_in(void *cookie, uint64_t recipient, bool external, uint64_t latest_ms)
{
    const struct tally *t = cookie;
    struct window *w = &t->window->window;

    (void)recipient;
    if (counts(t->window, external))
        window_restore(w, t->now_ms,
                       window_bucket_of(words_get(&w->window_ms), latest_ms),
                       1);
}

static void
count_out(void *cookie, uint64_t recipient, bool external, uint64_t latest_ms)
{
    const struct tally *t = cookie;
    struct window *w = &t->window->window;

    (void)recipient;
    if (counts(t->window, external))
        window_give_back(
            w, window_bucket_of(words_get(&w->window_ms), latest_ms), 1);
}

void
quota_unique_fill(const struct quota *q, const struct quota_slot *slot,
                  struct quota_window *to, const struct quota_window *elder,
                  uint64_t now_ms)
{
    const struct unique *u = *set_of(q, slot);
    struct quota_window rest;
    struct tally t = {&rest, now_ms};

    if (elder != NULL) {
        words_copy((_Atomic uint64_t *)(void *)&rest,
                   (const _Atomic uint64_t *)(const void *)elder,
                   sizeof rest / 8);
        unique_each(u, count_out, &t);
        quota_window_inherit(to, &rest, now_ms);
    }
    t.window = to;
    unique_each(u, count_in, &t);
}

void
quota_sweep(struct quota *q)
{
    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        uint64_t id, oldest_ms;
        struct quota_slot *slot = segment_slot(&q->segment, i, &id);

        if (slot == NULL || (slot = quota_lock(q, id)) == NULL)
            continue;
        oldest_ms = quota_now_ms(q);
        for (uint64_t k = 0; k < words_get(&slot->n_windows); k++) {
            const struct quota_window *w = &slot->window[k];
            uint64_t ms = quota_oldest_ms(words_get(&w->window.window_ms),
                                          quota_now_ms(q));

            if (dimension_is_unique((enum dimension)words_get(&w->dimension)) &&
                ms < oldest_ms)
                oldest_ms = ms;
        }
        unique_sweep(set_of(q, slot), &q->unique_cap, oldest_ms);
        quota_unlock(q, slot);
    }
}

void
quota_unique_forget(struct quota *q, struct quota_slot *slot, uint64_t now_ms)
{
    unique_sweep(set_of(q, slot), &q->unique_cap, UINT64_MAX);
    for (uint64_t i = 0; i < words_get(&slot->n_windows); i++) {
        uint64_t d = words_get(&slot->window[i].dimension);

        if (dimension_is_unique((enum dimension)d))
            quota_unique_fill(q, slot, &slot->window[i], NULL, now_ms);
    }
}
