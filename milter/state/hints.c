/* milter/state/hints.c - see hints.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/hints.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/state/attachment.h"
#include "milter/state/layout.h"
#include "milter/state/words.h"

struct hints {
    struct attachment *attachment;
    char *directory;
    uint32_t n_accounts;
    pthread_mutex_t thinning; /* one thread at a time, and not again at once */
    uint64_t thin_ms;
    struct {             /* the ear's thread alone */
        uint64_t number; /* of the mapping that the rest is about */
        uint64_t *seen;  /* `wanted` of each slot */
        uint32_t wake;   /* before the last look */
    } ear;
};

/* ---- a cell: one minute of one account ---- */

enum { COUNT_BITS = 20, COUNT_MAX = (1 << COUNT_BITS) - 1 };

struct cell {
    uint32_t minute; /* the low 24 bits */
    uint32_t messages, recipients;
};

enum { MINUTE_MASK = 0xffffff };

static struct cell
unpack(uint64_t word)
{
    return (struct cell){
        .minute = (uint32_t)(word >> (2 * COUNT_BITS)),
        .messages = (uint32_t)(word >> COUNT_BITS) & COUNT_MAX,
        .recipients = (uint32_t)word & COUNT_MAX,
    };
}

static uint32_t
at_most(uint64_t n)
{
    return n < COUNT_MAX ? (uint32_t)n : COUNT_MAX;
}

static uint64_t
pack(struct cell c)
{
    return (uint64_t)c.minute << (2 * COUNT_BITS) |
           (uint64_t)at_most(c.messages) << COUNT_BITS | at_most(c.recipients);
}

/* Minutes from then to now, both modulo 2^24. */
static int32_t
minutes_since(uint32_t then, uint32_t now)
{
    uint32_t age = (now - then) & MINUTE_MASK;

    return age > MINUTE_MASK / 2 ? (int32_t)age - MINUTE_MASK - 1
                                 : (int32_t)age;
}

/* ---- opening ---- */

static bool
holds(const struct segment *s, uint32_t n_accounts)
{
    return s->n_slots - s->n_slots / 8 >= n_accounts;
}

/* Is anything of it younger than an hour? */
static bool
is_live(const struct hints_slot *slot, uint32_t now_minute)
{
    for (unsigned i = 0; i < HINT_CELLS; i++) {
        struct cell c = unpack(words_get(&slot->cell[i]));

        if ((c.messages > 0 || c.recipients > 0) &&
            minutes_since(c.minute, now_minute) < HINTS_FADE_MINUTES)
            return true;
    }
    return false;
}

/* What another thread or process adds meanwhile is lost, as a hint may be. */
static void
copy_live(struct segment *to, const struct segment *from, uint32_t now_minute)
{
    uint64_t id;
    void *claimed;

    for (unsigned i = 0; i < SEGMENT_STATS; i++)
        words_set(&to->head->stat[i], words_get(&from->head->stat[i]));
    for (uint32_t i = 0; i < from->n_slots; i++) {
        struct hints_slot *slot = segment_slot(from, i, &id);

        if (slot == NULL || !is_live(slot, now_minute) ||
            segment_claim(to, id, &claimed) != STATE_OK)
            continue;
        words_copy((_Atomic uint64_t *)claimed,
                   (const _Atomic uint64_t *)(const void *)slot,
                   sizeof *slot / 8);
    }
}

/* Makes a segment, with what is live in `old` (NULL = nothing), and lets go of
 * it again: it is used through the attachment, like one that the other process
 * made. */
static enum state_result
make(const char *directory, uint32_t n_accounts, enum segment_place place,
     const struct segment *old, uint32_t now_minute, char *err, size_t err_size)
{
    struct segment_shape shape = {.kind = SEGMENT_HINTS,
                                  .n_accounts = n_accounts,
                                  .slot_size = sizeof(struct hints_slot)};
    struct segment s = {0};
    enum state_result r;

    r = segment_build(&s, directory, &shape, err, err_size);
    if (r != STATE_OK)
        return r;
    if (old != NULL)
        copy_live(&s, old, now_minute);
    r = segment_install(&s, place, err, err_size);
    segment_detach(&s);
    return r;
}

static enum state_result
attach_or_make(struct hints *h, const char *directory, uint32_t n_accounts,
               char *err, size_t err_size)
{
    enum { TRIES = 8 }; /* lost against another maker, each time */
    enum segment_place place;
    enum state_result r = STATE_EBUSY;
    struct mapping *m;

    for (int i = 0; i < TRIES; i++) {
        r = attachment_get(h->attachment, &m, err, err_size);
        if (r == STATE_OK) {
            bool large_enough = holds(&m->segment, n_accounts);

            attachment_put(h->attachment, m);
            if (large_enough)
                return STATE_OK;
            place = SEGMENT_REPLACE;
        } else if (r == STATE_EABSENT) {
            place = SEGMENT_FIRST;
        } else if (r == STATE_ECORRUPT || r == STATE_ELAYOUT) {
            place = SEGMENT_REPLACE;
        } else {
            return r;
        }
        r = make(directory, n_accounts, place, NULL, 0, err, err_size);
        /* EABSENT: our file was swept, or the directory is not there. */
        if (r != STATE_OK && r != STATE_ETAKEN && r != STATE_EABSENT)
            return r;
        attachment_drop(h->attachment);
    }
    return r;
}

static struct hints *
hints_new(const char *directory, uint32_t n_accounts, bool writable)
{
    struct hints *h = calloc(1, sizeof *h);

    if (h == NULL)
        return NULL;
    pthread_mutex_init(&h->thinning, NULL);
    h->n_accounts = n_accounts;
    h->directory = strdup(directory);
    h->attachment = attachment_new(directory, SEGMENT_HINTS,
                                   sizeof(struct hints_slot), writable);
    if (h->attachment == NULL || h->directory == NULL) {
        hints_free(h);
        return NULL;
    }
    return h;
}

enum state_result
hints_open(struct hints **ret, const char *directory, uint32_t n_accounts,
           char *err, size_t err_size)
{
    struct hints *h = hints_new(directory, n_accounts, true);
    enum state_result r;

    if (h == NULL) {
        snprintf(err, err_size, "out of memory");
        return STATE_ESYSTEM;
    }
    r = attach_or_make(h, directory, n_accounts, err, err_size);
    if (r != STATE_OK)
        hints_free(h);
    else
        *ret = h;
    return r;
}

enum state_result
hints_open_reader(struct hints **ret, const char *directory, char *err,
                  size_t err_size)
{
    struct hints *h = hints_new(directory, 0, false);
    struct mapping *m;
    enum state_result r;

    if (h == NULL) {
        snprintf(err, err_size, "out of memory");
        return STATE_ESYSTEM;
    }
    r = attachment_get(h->attachment, &m, err, err_size);
    if (r != STATE_OK) {
        hints_free(h);
        return r;
    }
    attachment_put(h->attachment, m);
    *ret = h;
    return r;
}

void
hints_free(struct hints *h)
{
    if (h == NULL)
        return;
    attachment_free(h->attachment);
    pthread_mutex_destroy(&h->thinning);
    free(h->directory);
    free(h->ear.seen);
    free(h);
}

/* The mapping, NULL when there is none or, for a change, none writable. */
static struct mapping *
get(struct hints *h, bool to_write)
{
    struct mapping *m;

    if (h == NULL || attachment_get(h->attachment, &m, NULL, 0) != STATE_OK)
        return NULL;
    if (!to_write || m->segment.writable)
        return m;
    attachment_put(h->attachment, m);
    return NULL;
}

static void
put(struct hints *h, struct mapping *m)
{
    if (m != NULL)
        attachment_put(h->attachment, m);
}

/* A full segment is made anew without those of whom nothing is live; false =
 * it was not. */
static bool
thin(struct hints *h, struct mapping *m, uint32_t now_minute)
{
    enum { AGAIN_MS = 10000 };
    uint64_t now_ms = clock_boot_ms(&clock_real);
    bool done = false;

    if (pthread_mutex_trylock(&h->thinning) != 0)
        return false;
    if (now_ms >= h->thin_ms && !segment_stale(&m->segment, true)) {
        h->thin_ms = now_ms + AGAIN_MS;
        done = make(h->directory, h->n_accounts, SEGMENT_REPLACE, &m->segment,
                    now_minute, NULL, 0) == STATE_OK;
    }
    pthread_mutex_unlock(&h->thinning);
    return done;
}

/* The slot with its identity written, in *m, which may be exchanged for a newer
 * one; NULL when there is no place. */
static struct hints_slot *
slot_for(struct hints *h, struct mapping **m, const char *identity, uint64_t id,
         uint32_t now_minute)
{
    enum state_result r = STATE_ESYSTEM;
    struct hints_slot *slot;
    void *claimed;

    if (*m != NULL)
        r = segment_claim(&(*m)->segment, id, &claimed);
    if (r == STATE_EFULL && thin(h, *m, now_minute)) {
        put(h, *m);
        *m = get(h, true);
        if (*m != NULL)
            r = segment_claim(&(*m)->segment, id, &claimed);
    }
    if (r != STATE_OK) {
        if (*m != NULL)
            atomic_fetch_add(&(*m)->segment.head->stat[HINTS_DROPPED], 1);
        return NULL;
    }
    slot = claimed;
    /* Several may do so at once, or after one that died here: all write the
     * same. */
    if (atomic_load_explicit(&slot->named, memory_order_acquire) == 0) {
        words_set(&slot->id, id);
        words_put_text(slot->identity, IDENTITY_WORDS, identity);
        atomic_store_explicit(&slot->named, 1, memory_order_release);
    }
    return slot;
}

/* ---- hints ---- */

static void
add(_Atomic uint64_t *cells, uint32_t minute, uint32_t messages,
    uint32_t recipients)
{
    _Atomic uint64_t *word = &cells[minute % HINT_CELLS];
    uint64_t was = words_get(word);
    struct cell c;

    do {
        c = unpack(was);
        if (c.minute != minute) /* an hour old: faded */
            c = (struct cell){.minute = minute};
        c.messages = at_most((uint64_t)c.messages + messages);
        c.recipients = at_most((uint64_t)c.recipients + recipients);
    } while (!atomic_compare_exchange_weak(word, &was, pack(c)));
}

static void
take_away(_Atomic uint64_t *cells, uint32_t minute, uint32_t messages,
          uint32_t recipients)
{
    _Atomic uint64_t *word = &cells[minute % HINT_CELLS];
    uint64_t was = words_get(word);
    struct cell c;

    do {
        c = unpack(was);
        if (c.minute != minute)
            break; /* faded, and its cell used again */
        c.messages -= messages < c.messages ? messages : c.messages;
        c.recipients -= recipients < c.recipients ? recipients : c.recipients;
    } while (!atomic_compare_exchange_weak(word, &was, pack(c)));
}

/* What has not faded; 64 * 2^20 is the most. */
static struct cell
sum(const _Atomic uint64_t *cells, uint32_t now_minute)
{
    enum { AHEAD = 2 }; /* minutes that a clock may have been set back */
    struct cell all = {0};

    for (unsigned i = 0; i < HINT_CELLS; i++) {
        struct cell c = unpack(words_get(&cells[i]));
        int32_t age = minutes_since(c.minute, now_minute);

        if (age < -AHEAD || age >= HINTS_FADE_MINUTES)
            continue;
        all.messages += c.messages;
        all.recipients += c.recipients;
    }
    return all;
}

void
hints_add(struct hints *h, const char *identity, uint64_t id, uint32_t minute,
          uint32_t recipients, uint32_t external)
{
    struct mapping *m = get(h, true);
    struct hints_slot *slot = slot_for(h, &m, identity, id, minute);

    minute &= MINUTE_MASK;
    if (slot != NULL)
        add(slot->cell, minute, 1, recipients);
    if (slot != NULL && external > 0)
        add(slot->external, minute, 0, external);
    put(h, m);
}

void
hints_clear(struct hints *h, uint64_t id, uint32_t minute, uint32_t recipients,
            uint32_t external)
{
    struct mapping *m = get(h, true);
    struct hints_slot *slot = m != NULL ? segment_find(&m->segment, id) : NULL;

    minute &= MINUTE_MASK;
    if (slot != NULL)
        take_away(slot->cell, minute, 1, recipients);
    if (slot != NULL && external > 0)
        take_away(slot->external, minute, 0, external);
    put(h, m);
}

void
hints_sum(struct hints *h, uint64_t id, uint32_t now_minute,
          uint32_t *ret_messages, uint32_t *ret_recipients)
{
    struct mapping *m = get(h, false);
    const struct hints_slot *slot =
        m != NULL ? segment_find(&m->segment, id) : NULL;
    struct cell all = {0};

    if (slot != NULL)
        all = sum(slot->cell, now_minute);
    put(h, m);
    *ret_messages = all.messages;
    *ret_recipients = all.recipients;
}

uint32_t
hints_external(struct hints *h, uint64_t id, uint32_t now_minute)
{
    struct mapping *m = get(h, false);
    const struct hints_slot *slot =
        m != NULL ? segment_find(&m->segment, id) : NULL;
    struct cell all = {0};

    if (slot != NULL)
        all = sum(slot->external, now_minute);
    put(h, m);
    return all.recipients;
}

/* ---- wishes ---- */

void
hints_want_token(struct hints *h, const char *identity, uint64_t id)
{
    struct mapping *m = get(h, true);
    uint32_t minute = (uint32_t)(clock_wall_ms(&clock_real) / 60000);
    struct hints_slot *slot = slot_for(h, &m, identity, id, minute);

    if (slot != NULL) {
        atomic_fetch_add(&slot->wanted, 1);
        segment_wake(&m->segment);
    }
    put(h, m);
}

static bool
ear_tune(struct hints *h, const struct mapping *m)
{
    uint64_t *fresh;

    if (h->ear.number == m->number)
        return true;
    fresh = calloc(m->segment.n_slots, sizeof *fresh);
    if (fresh == NULL)
        return false;
    free(h->ear.seen);
    h->ear.seen = fresh;
    h->ear.number = m->number;
    return true;
}

enum state_result
hints_wants(struct hints *h,
            void (*each)(void *cookie, uint64_t id, const char *identity),
            void *cookie)
{
    struct mapping *m = get(h, false);
    char identity[IDENTITY_WORDS * 8];
    uint64_t id;

    if (m == NULL)
        return STATE_EABSENT;
    if (!ear_tune(h, m)) {
        put(h, m);
        return STATE_ESYSTEM;
    }
    h->ear.wake = segment_wake_count(&m->segment);
    for (uint32_t i = 0; i < m->segment.n_slots; i++) {
        const struct hints_slot *slot = segment_slot(&m->segment, i, &id);
        uint64_t wanted;

        if (slot == NULL)
            continue;
        wanted = atomic_load_explicit(&slot->wanted, memory_order_acquire);
        if (wanted == h->ear.seen[i])
            continue;
        h->ear.seen[i] = wanted;
        if (words_get(&slot->id) == id &&
            words_get_text(slot->identity, IDENTITY_WORDS, identity,
                           IDENTITY_MAX + 1))
            each(cookie, id, identity);
    }
    put(h, m);
    return STATE_OK;
}

void
hints_wait(struct hints *h, uint64_t ms)
{
    struct mapping *m = get(h, false);

    if (m != NULL && m->number == h->ear.number)
        segment_wait(&m->segment, h->ear.wake, ms);
    put(h, m);
}

/* ---- statistics ---- */

void
hints_count(struct hints *h, enum hints_stat s, uint32_t n)
{
    struct mapping *m = get(h, true);

    _Static_assert((int)HINTS_STATS <= (int)SEGMENT_STATS, "a word each");
    if (m != NULL && s < HINTS_STATS)
        atomic_fetch_add_explicit(&m->segment.head->stat[s], n,
                                  memory_order_relaxed);
    put(h, m);
}

void
hints_count_decision(struct hints *h, uint64_t us)
{
    struct mapping *m = get(h, true);

    if (m != NULL)
        latency_count(&m->segment.head->stat[HINTS_DECISION_US], us);
    put(h, m);
}

uint64_t
hints_stat(const struct hints *h, unsigned stat)
{
    struct mapping *m = get((struct hints *)h, false);
    uint64_t n = m != NULL && stat < HINTS_STATS
                     ? words_get(&m->segment.head->stat[stat])
                     : 0;

    put((struct hints *)h, m);
    return n;
}
