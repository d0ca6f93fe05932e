/* milter/state/quota.c - see quota.h: the agent's segment and its limits.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/parallel.h"
#include "milter/state/quota_private.h"
#include "milter/state/words.h"

/* A slot: room for a reload.  A preset has up to so many; without room for them
 * an agent that was started before there was any account would have to be
 * restarted for the first. */
enum { WINDOWS_MIN = 7 };

/* ---- making ---- */

static uint32_t
most_limits(const struct policy *p)
{
    uint32_t most = 0;

    for (size_t i = 0; i < p->n_accounts; i++)
        if (p->accounts[i].quota.n > most)
            most = p->accounts[i].quota.n;
    return most;
}

/* A slot's, with so many windows. */
static uint32_t
slot_octets(uint32_t windows)
{
    return (uint32_t)(sizeof(struct quota_slot) +
                      windows * sizeof(struct quota_window));
}

static struct mailbox
named_mailbox(const struct account *a)
{
    struct mailbox m = {.account = a};
    char identity[IDENTITY_MAX + 1];

    snprintf(m.address, sizeof m.address, "%s", a->address);
    m.id = mailbox_identity(a->address, a->smarthost->name, identity);
    return m;
}

struct opening {
    struct quota *quota;
    const struct policy *policy;
    struct {
        enum state_result result;
        const char *name; /* of the account that has no place */
    } part[PARALLEL_MAX];
};

/* Most of it is fresh memory. */
static void
open_part(void *cookie, unsigned part, unsigned of)
{
    struct opening *o = cookie;
    const struct policy *p = o->policy;

    for (size_t i = part; i < p->n_accounts; i += of) {
        struct mailbox m;
        enum state_result r;

        if (p->accounts[i].is_template)
            continue;
        m = named_mailbox(&p->accounts[i]);
        r = quota_open(o->quota, &m);
        if (r == STATE_OK)
            continue;
        o->part[part].result = r;
        o->part[part].name = p->accounts[i].name;
        return;
    }
}

static enum state_result
open_named(struct quota *q, const struct policy *p, char *err, size_t err_size)
{
    enum { ALONE_MAX = 1000 }; /* accounts not worth a thread */
    struct opening o = {.quota = q, .policy = p};
    unsigned n = p->n_accounts <= ALONE_MAX ? 1 : parallel_parts();

    parallel(n, open_part, &o);
    for (unsigned i = 0; i < n; i++) {
        if (o.part[i].result == STATE_OK)
            continue;
        snprintf(err, err_size, "account %s has no place in shared memory: %s",
                 o.part[i].name, state_result_text(o.part[i].result));
        return o.part[i].result;
    }
    return STATE_OK;
}

/* A boot whose clock was late begins quota time at the floor, and stays behind
 * when the clock is set right: what was spent in it would look older than it is
 * in the next boot, were that distance not kept. */
uint64_t
quota_start_ms(const struct quota_start *start, int64_t wall_ms)
{
    uint64_t ms = wall_ms > 0 ? (uint64_t)wall_ms : 0;

    ms = ms > start->behind_ms ? ms - start->behind_ms : 0;
    return ms > start->floor_ms ? ms : start->floor_ms;
}

/* Quota time goes on as it went, if the segment of the agent before us is
 * still there: a wall clock that was set meanwhile would make all that was
 * spent look older, or newer, than it is.  After a boot CLOCK_BOOTTIME begins
 * anew: an old segment that says a time below the floor is of another boot. */
static int64_t
offset_for(const char *directory, const struct clock *clock,
           const struct quota_start *start)
{
    int64_t boot_ms = (int64_t)clock_boot_ms(clock), time_ms;
    uint64_t start_ms = quota_start_ms(start, clock_wall_ms(clock));
    struct segment old = {0};

    if (start->floor_ms > 0 && segment_attach(&old, directory, SEGMENT_QUOTA, 0,
                                              false, NULL, 0) == STATE_OK) {
        if (!__builtin_add_overflow(old.head->offset_ms, boot_ms, &time_ms) &&
            time_ms > 0 && (uint64_t)time_ms >= start->floor_ms &&
            (uint64_t)time_ms < QUOTA_TIME_MAX)
            start_ms = (uint64_t)time_ms;
        segment_detach(&old);
    }
    return (int64_t)start_ms - boot_ms;
}

enum state_result
quota_make(struct quota **ret, const char *directory, const struct policy *p,
           const struct clock *clock, const struct quota_start *start,
           char *err, size_t err_size)
{
    static const struct quota_start nothing;
    struct segment_shape shape = {.kind = SEGMENT_QUOTA};
    struct quota *q;
    enum state_result r;

    if (start == NULL)
        start = &nothing;
    if (start->floor_ms >= QUOTA_TIME_MAX) {
        snprintf(err, err_size,
                 "the newest time in the ledger, %" PRIu64
                 " ms after 1970, is impossible",
                 start->floor_ms);
        return STATE_ECORRUPT;
    }
    q = calloc(1, sizeof *q);
    if (q == NULL) {
        snprintf(err, err_size, "out of memory");
        return STATE_ESYSTEM;
    }
    q->clock = clock;
    for (unsigned i = 0; i < QUOTA_STRIPES; i++)
        pthread_mutex_init(&q->stripe[i], NULL);
    pthread_rwlock_init(&q->door, NULL);
    atomic_init(&q->unique_cap.max, p->state.unique_recipients);
    shape.windows = most_limits(p);
    if (shape.windows < WINDOWS_MIN)
        shape.windows = WINDOWS_MIN;
    shape.n_accounts = p->state.accounts;
    if (shape.n_accounts < p->n_accounts)
        shape.n_accounts = (uint32_t)p->n_accounts;
    shape.slot_size = (uint32_t)(sizeof(struct quota_slot) +
                                 shape.windows * sizeof(struct quota_window));
    shape.slot_size = (shape.slot_size + 63) / 64 * 64;
    r = segment_build(&q->segment, directory, &shape, err, err_size);
    if (r != STATE_OK)
        goto done;
    /* What a reload may need costs nothing until then. */
    q->segment.reserve = slot_octets(most_limits(p));
    q->unique = calloc(q->segment.n_slots, sizeof(struct unique *));
    q->guest = calloc(q->segment.n_slots, sizeof *q->guest);
    if (q->unique == NULL || q->guest == NULL) {
        snprintf(err, err_size, "out of memory");
        r = STATE_ESYSTEM;
        goto done;
    }
    q->offset_ms = offset_for(directory, clock, start);
    q->segment.head->offset_ms = q->offset_ms;
    quota_beat(q);
    r = open_named(q, p, err, err_size);
    if (r == STATE_OK)
        r = segment_install(&q->segment, SEGMENT_REPLACE, err, err_size);
done:
    if (r != STATE_OK)
        quota_free(q);
    else
        *ret = q;
    return r;
}

void
quota_free(struct quota *q)
{
    if (q == NULL)
        return;
    for (uint32_t i = 0; q->unique != NULL && i < q->segment.n_slots; i++)
        unique_free(q->unique[i], &q->unique_cap);
    free(q->unique);
    free(q->guest);
    segment_detach(&q->segment);
    for (unsigned i = 0; i < QUOTA_STRIPES; i++)
        pthread_mutex_destroy(&q->stripe[i]);
    pthread_rwlock_destroy(&q->door);
    free(q);
}

uint64_t
quota_now_ms(const struct quota *q)
{
    return (uint64_t)((int64_t)clock_boot_ms(q->clock) + q->offset_ms);
}

void
quota_beat(struct quota *q)
{
    words_set(&q->segment.head->heartbeat_s,
              (uint64_t)(clock_wall_ms(q->clock) / 1000));
}

void
quota_ledger_trouble(struct quota *q, bool trouble)
{
    _Atomic uint64_t *since_s = &q->segment.head->stat[QUOTA_LEDGER_TROUBLE_S];

    if (trouble != (words_get(since_s) != 0))
        words_set(since_s,
                  trouble ? (uint64_t)(clock_wall_ms(q->clock) / 1000) : 0);
}

void
quota_count_flight(struct quota *q, uint64_t ms)
{
    latency_count(&q->segment.head->stat[QUOTA_FLIGHT_MS], ms);
}

void
quota_count_reply(struct quota *q, uint16_t code)
{
    _Static_assert((int)QUOTA_STATS <= (int)SEGMENT_STATS, "a word each");
    reply_code_count(&q->segment.head->stat[QUOTA_REPLIES], code);
}

/* ---- one account ---- */

static pthread_mutex_t *
stripe_of(struct quota *q, const struct quota_slot *slot)
{
    return &q->stripe[segment_index(&q->segment, slot) % QUOTA_STRIPES];
}

struct quota_slot *
quota_lock(struct quota *q, uint64_t id)
{
    struct quota_slot *slot = segment_find(&q->segment, id);

    if (slot == NULL)
        return NULL;
    pthread_mutex_lock(stripe_of(q, slot));
    if (words_get(&slot->id) == id)
        return slot;
    /* Claimed, and somebody is about to fill it; or it has left just now. */
    pthread_mutex_unlock(stripe_of(q, slot));
    return NULL;
}

void
quota_unlock(struct quota *q, struct quota_slot *slot)
{
    pthread_mutex_unlock(stripe_of(q, slot));
}

static void
fill(struct quota_slot *slot, const struct mailbox *m)
{
    char identity[IDENTITY_MAX + 1];

    mailbox_identity_text(m->address, m->account->smarthost->name, identity);
    words_write_begin(&slot->seq);
    words_set(&slot->id, m->id);
    words_put_text(slot->identity, IDENTITY_WORDS, identity);
    quota_slot_limits(slot, &m->account->quota);
    words_write_end(&slot->seq);
}

/* Under the door's shared hold: nobody leaves. */
static enum state_result
come_in(struct quota *q, const struct mailbox *m, uint64_t now_ms)
{
    struct quota_slot *slot = segment_find(&q->segment, m->id);
    struct quota_guest *guest;
    enum state_result r;
    void *claimed;

    if (slot == NULL) {
        if (slot_octets(m->account->quota.n) > q->segment.reserve)
            return STATE_ELAYOUT;
        r = segment_claim(&q->segment, m->id, &claimed);
        if (r != STATE_OK)
            return r;
        slot = claimed;
    }
    guest = &q->guest[segment_index(&q->segment, slot)];
    atomic_store_explicit(&guest->used_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&guest->stays, !m->account->is_template,
                          memory_order_relaxed);
    if (words_get(&slot->id) == m->id)
        return STATE_OK;
    pthread_mutex_lock(stripe_of(q, slot));
    if (words_get(&slot->id) != m->id)
        fill(slot, m);
    pthread_mutex_unlock(stripe_of(q, slot));
    return STATE_OK;
}

enum state_result
quota_open(struct quota *q, const struct mailbox *m)
{
    uint64_t now_ms = quota_now_ms(q);
    enum state_result r;

    do {
        pthread_rwlock_rdlock(&q->door);
        r = come_in(q, m, now_ms);
        pthread_rwlock_unlock(&q->door);
    } while (r == STATE_EFULL && quota_leave_idle(q, now_ms));
    return r;
}

/* ---- new limits ---- */

/* Builds the windows of the new limits from the slot's old ones. */
static void
reload_windows(const struct quota *q, const struct quota_slot *slot,
               const struct quota_limits *l, uint64_t now_ms,
               struct quota_window *ret)
{
    uint64_t n_old = words_get(&slot->n_windows);

    for (unsigned i = 0; i < l->n; i++) {
        const struct limit *want = &l->limit[i];
        const struct quota_window *old = quota_window_elder(
            slot->window, n_old, want->dimension, want->window_ms);

        words_set(&ret[i].dimension, want->dimension);
        words_set(&ret[i].observed, 0);
        words_set(&ret[i].observed_at_ms, 0);
        window_init(&ret[i].window, want->max, want->window_ms);
        if (old != NULL &&
            words_get(&old->window.window_ms) == want->window_ms) {
            words_copy((_Atomic uint64_t *)(void *)&ret[i],
                       (const _Atomic uint64_t *)(const void *)old,
                       sizeof ret[i] / 8);
            words_set(&ret[i].window.limit, want->max);
        } else if (dimension_is_unique(want->dimension)) {
            quota_unique_fill(q, slot, &ret[i], old, now_ms);
        } else if (old != NULL) {
            quota_window_inherit(&ret[i], old, now_ms);
        }
    }
}

static void
reload_slot(struct quota *q, uint64_t id, const struct quota_limits *l)
{
    struct quota_window fresh[LIMITS_MAX];
    struct quota_slot *slot = quota_lock(q, id);

    if (slot == NULL)
        return;
    reload_windows(q, slot, l, quota_now_ms(q), fresh);
    words_write_begin(&slot->seq);
    words_copy((_Atomic uint64_t *)(void *)slot->window,
               (const _Atomic uint64_t *)(void *)fresh,
               l->n * (sizeof *fresh / 8));
    words_set(&slot->n_windows, l->n);
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
}

/* So that every slot has memory for so many windows. */
static enum state_result
reserve_windows(struct quota *q, uint32_t windows)
{
    uint32_t octets = slot_octets(windows);
    enum state_result r = STATE_OK;
    uint64_t id;

    if (octets <= q->segment.reserve)
        return STATE_OK;
    pthread_rwlock_wrlock(&q->door); /* nobody comes in with less */
    for (uint32_t i = 0; i < q->segment.n_slots && r == STATE_OK; i++)
        if (segment_slot(&q->segment, i, &id) != NULL)
            r = segment_reserve(&q->segment, i, octets);
    if (r == STATE_OK)
        q->segment.reserve = octets;
    pthread_rwlock_unlock(&q->door);
    return r;
}

enum state_result
quota_reload(struct quota *q, const struct policy *p, char *err,
             size_t err_size)
{
    enum state_result r;
    uint64_t id;

    if (most_limits(p) > q->segment.windows) {
        snprintf(err, err_size,
                 "an account has %" PRIu32 " limits and shared memory was made "
                 "for %" PRIu32 ": restart gmroute-deliver",
                 most_limits(p), q->segment.windows);
        return STATE_ELAYOUT;
    }
    r = reserve_windows(q, most_limits(p));
    if (r != STATE_OK) {
        snprintf(err, err_size, "no memory for more limits: %s",
                 state_result_text(r));
        return r;
    }
    atomic_store(&q->unique_cap.max, p->state.unique_recipients);
    for (uint32_t i = 0; i < q->segment.n_slots; i++) {
        char identity[IDENTITY_MAX + 1];
        struct mailbox m;

        if (segment_slot(&q->segment, i, &id) == NULL ||
            !quota_segment_identity(&q->segment, id, identity))
            continue;
        /* An account that is gone keeps what it has: it may come back. */
        atomic_store(&q->guest[i].stays, false);
        if (policy_mailbox(p, identity, &m))
            reload_slot(q, id, &m.account->quota);
    }
    return open_named(q, p, err, err_size);
}

/* ---- the past ---- */

void
quota_restore(struct quota *q, uint64_t id, enum dimension d,
              uint64_t window_ms, uint64_t bucket, uint64_t units)
{
    enum { SHIFT_MAX = 48 }; /* so that no sum of a corrupt book overflows */
    uint64_t now_ms = quota_now_ms(q), at_ms;
    struct quota_slot *slot;
    bool exact = false;
    uint64_t n;

    if (d >= DIM_COUNT || window_ms == 0 || window_ms > WINDOW_MS_MAX ||
        units == 0)
        return;
    if (units > 1ull << SHIFT_MAX)
        units = 1ull << SHIFT_MAX;
    if (bucket > window_bucket_of(window_ms, now_ms))
        bucket = window_bucket_of(window_ms, now_ms);
    at_ms = quota_bucket_end_ms(window_ms, bucket);
    if (at_ms > now_ms)
        at_ms = now_ms;
    slot = quota_lock(q, id);
    if (slot == NULL)
        return;
    n = words_get(&slot->n_windows);
    for (uint64_t i = 0; i < n; i++)
        exact |= words_get(&slot->window[i].dimension) == d &&
                 words_get(&slot->window[i].window.window_ms) == window_ms;
    words_write_begin(&slot->seq);
    for (uint64_t i = 0; i < n; i++) {
        struct window *w = &slot->window[i].window;
        uint64_t ms = words_get(&w->window_ms);

        if (words_get(&slot->window[i].dimension) != d ||
            (exact && ms != window_ms))
            continue;
        window_restore(w, now_ms,
                       ms == window_ms ? bucket : window_bucket_of(ms, at_ms),
                       units);
    }
    words_write_end(&slot->seq);
    quota_unlock(q, slot);
}

void
quota_restored(struct quota *q, uint64_t id)
{
    struct quota_slot *slot = quota_lock(q, id);
    struct quota_copy was;

    if (slot == NULL)
        return;
    if (quota_slot_has_pairs(slot)) {
        /* Each learns from what the others were told, not from what they have
         * learned. */
        words_copy(was.word, (const _Atomic uint64_t *)(const void *)slot,
                   (sizeof *slot +
                    words_get(&slot->n_windows) * sizeof *slot->window) /
                       8);
        words_write_begin(&slot->seq);
        quota_slot_level(slot, quota_copy_slot(&was), quota_now_ms(q));
        words_write_end(&slot->seq);
    }
    quota_unlock(q, slot);
}
