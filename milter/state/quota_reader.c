/* milter/state/quota_reader.c - see quota.h: looking, from any process.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/state/attachment.h"
#include "milter/state/quota_private.h"
#include "milter/state/words.h"

struct quota_reader {
    struct attachment *attachment;
    const struct clock *clock;
    uint64_t units;      /* quota_reader_units() */
    struct {             /* the ear's thread alone */
        uint64_t number; /* of the mapping that `seen` is about */
        uint64_t *seen;  /* a request word each slot */
    } ear;
};

struct quota_reader *
quota_reader_new(const char *directory, const struct clock *clock)
{
    struct quota_reader *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->clock = clock;
    r->units = 1;
    r->attachment = attachment_new(directory, SEGMENT_QUOTA, 0, false);
    if (r->attachment == NULL) {
        free(r);
        return NULL;
    }
    return r;
}

void
quota_reader_free(struct quota_reader *r)
{
    if (r == NULL)
        return;
    attachment_free(r->attachment);
    free(r->ear.seen);
    free(r);
}

void
quota_reader_units(struct quota_reader *r, uint64_t n)
{
    r->units = n;
}

/* The mapping, if its slots are as large as its windows need. */
static enum state_result
get(struct quota_reader *r, struct mapping **ret)
{
    enum state_result result = attachment_get(r->attachment, ret, NULL, 0);
    const struct segment *s;

    if (result != STATE_OK)
        return result;
    s = &(*ret)->segment;
    if (s->windows >= 1 &&
        s->slot_size >= sizeof(struct quota_slot) +
                            s->windows * sizeof(struct quota_window))
        return STATE_OK;
    attachment_put(r->attachment, *ret);
    attachment_drop(r->attachment);
    return STATE_ECORRUPT;
}

static enum state_result
now(const struct quota_reader *r, const struct segment *s, uint64_t *ret_ms)
{
    int64_t ms;

    if (__builtin_add_overflow((int64_t)clock_boot_ms(r->clock),
                               s->head->offset_ms, &ms) ||
        ms < 0 || (uint64_t)ms >= QUOTA_TIME_MAX)
        return STATE_ECORRUPT;
    *ret_ms = (uint64_t)ms;
    return STATE_OK;
}

static void
view(const struct quota_reader *r, const struct quota_slot *slot,
     uint64_t now_ms, struct quota_view *ret)
{
    uint64_t waiting = words_get(&slot->waiting);
    uint64_t sessions = words_get(&slot->sessions);

    memset(ret, 0, sizeof *ret);
    ret->now_ms = now_ms;
    ret->id = words_get(&slot->id);
    words_get_text(slot->identity, IDENTITY_WORDS, ret->identity,
                   sizeof ret->identity);
    ret->state = quota_slot_state(slot, now_ms);
    if (ret->state != ACCOUNT_OK) {
        ret->state_until_ms = words_get(&slot->until_ms);
        words_get_text(slot->reason, REASON_WORDS, ret->state_reason,
                       sizeof ret->state_reason);
    }
    ret->waiting_messages = (uint32_t)(waiting >> 32);
    ret->waiting_recipients = (uint32_t)waiting;
    ret->waiting_external = (uint32_t)words_get(&slot->waiting_external);
    ret->sessions_open = (uint32_t)(sessions >> 32);
    ret->sessions_busy = (uint32_t)sessions;
    ret->sent = words_get(&slot->count[QUOTA_SENT]);
    ret->refused = words_get(&slot->count[QUOTA_REFUSED]);
    ret->deferred = words_get(&slot->count[QUOTA_DEFERRED]);
    ret->in_doubt = words_get(&slot->count[QUOTA_IN_DOUBT]);
    ret->logins = words_get(&slot->count[QUOTA_LOGIN]);
    ret->n = (unsigned)words_get(&slot->n_windows);
    for (unsigned i = 0; i < ret->n; i++) {
        const struct quota_window *w = &slot->window[i];

        ret->window[i].dimension = (enum dimension)words_get(&w->dimension);
        ret->window[i].limit = words_get(&w->window.limit);
        ret->window[i].window_ms = words_get(&w->window.window_ms);
        ret->window[i].used = window_used(&w->window, now_ms);
        ret->window[i].room_at_ms = window_room_at(&w->window, now_ms, 1, 100);
        ret->window[i].room_n_at_ms =
            window_room_at(&w->window, now_ms, r->units, 100);
        if (ret->window[i].room_at_ms > now_ms)
            ret->window[i].full_since_ms = window_spent_at(&w->window, now_ms);
        ret->window[i].allowed = window_limit(&w->window, now_ms);
        if (words_get(&w->observed_at_ms) + OBSERVED_KEEP_MS <= now_ms)
            continue; /* never, or long ago */
        ret->window[i].observed = words_get(&w->observed);
        ret->window[i].observed_at_ms = words_get(&w->observed_at_ms);
        ret->window[i].observed_holds =
            now_ms < words_get(&w->window.ceiling_until_ms);
    }
}

enum state_result
quota_peek(struct quota_reader *r, uint64_t id, struct quota_view *ret)
{
    struct quota_copy copy;
    struct mapping *m;
    enum state_result result;
    uint64_t now_ms;

    result = get(r, &m);
    if (result != STATE_OK)
        return result;
    result = quota_segment_read(&m->segment, id, m->segment.windows, &copy);
    if (result == STATE_OK)
        result = now(r, &m->segment, &now_ms);
    if (result == STATE_OK)
        view(r, quota_copy_slot(&copy), now_ms, ret);
    attachment_put(r->attachment, m);
    return result;
}

enum state_result
quota_peek_divert(struct quota_reader *r, uint64_t id,
                  char ret[IDENTITY_MAX + 1])
{
    struct mapping *m;
    enum state_result result = get(r, &m);

    if (result != STATE_OK)
        return result;
    if (!quota_segment_divert(&m->segment, id, ret))
        result = STATE_EEMPTY;
    attachment_put(r->attachment, m);
    return result;
}

enum state_result
quota_each(struct quota_reader *r,
           bool (*each)(void *cookie, const struct quota_view *v), void *cookie)
{
    enum state_result result, first = STATE_OK;
    struct quota_copy copy;
    struct quota_view v;
    struct mapping *m;
    uint64_t id, now_ms;

    result = get(r, &m);
    if (result != STATE_OK)
        return result;
    for (uint32_t i = 0; i < m->segment.n_slots; i++) {
        if (segment_slot(&m->segment, i, &id) == NULL)
            continue;
        result = quota_segment_read(&m->segment, id, m->segment.windows, &copy);
        if (result == STATE_OK)
            result = now(r, &m->segment, &now_ms);
        if (result == STATE_OK) {
            view(r, quota_copy_slot(&copy), now_ms, &v);
            if (!each(cookie, &v))
                break;
        } else if (result != STATE_EEMPTY && first == STATE_OK) {
            first = result;
        }
    }
    attachment_put(r->attachment, m);
    return first;
}

enum state_result
quota_forecast(struct quota_reader *r, const struct mailbox *m,
               const struct cost *c, const struct cost *ahead,
               unsigned share_percent, struct room *ret, uint64_t *ret_now_ms)
{
    struct quota_copy copy;
    struct mapping *mapping;
    enum state_result result;
    uint64_t now_ms;

    result = get(r, &mapping);
    if (result != STATE_OK)
        return result;
    result = quota_segment_read(&mapping->segment, m->id,
                                mapping->segment.windows, &copy);
    if (result == STATE_EEMPTY) { /* the agent has not met it yet */
        memset(&copy, 0, sizeof(struct quota_slot));
        quota_slot_limits(quota_copy_slot(&copy), &m->account->quota);
        result = STATE_OK;
    }
    if (result == STATE_OK)
        result = now(r, &mapping->segment, &now_ms);
    if (result == STATE_OK) {
        quota_slot_room(quota_copy_slot(&copy), c, ahead, share_percent, now_ms,
                        ret);
        *ret_now_ms = now_ms;
    }
    attachment_put(r->attachment, mapping);
    return result;
}

/* ---- the token daemon's ear ---- */

/* Makes `seen` fit this mapping: after a restart of the agent nothing of it
 * was seen yet. */
static bool
ear_tune(struct quota_reader *r, const struct mapping *m)
{
    uint64_t *fresh;

    if (r->ear.number == m->number)
        return true;
    fresh = calloc(m->segment.n_slots, sizeof *fresh);
    if (fresh == NULL)
        return false;
    free(r->ear.seen);
    r->ear.seen = fresh;
    r->ear.number = m->number;
    return true;
}

static unsigned
ear_listen(struct quota_reader *r, const struct mapping *m,
           void (*each)(void *cookie, uint64_t id, const char *identity,
                        uint64_t refused_serial),
           void *cookie)
{
    const struct segment *s = &m->segment;
    char identity[IDENTITY_MAX + 1];
    unsigned n = 0;
    uint64_t id;

    for (uint32_t i = 0; i < s->n_slots; i++) {
        uint64_t word = atomic_load_explicit(&s->word[i], memory_order_acquire);

        if (word == r->ear.seen[i])
            continue;
        r->ear.seen[i] = word;
        /* The word was changed when an account left, too. */
        if (segment_slot(s, i, &id) == NULL ||
            !quota_segment_identity(s, id, identity))
            continue;
        each(cookie, id, identity, word & REQUEST_SERIAL_MASK);
        n++;
    }
    return n;
}

static void
nap(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

/* One look, and one wait of at most `step_ms`; how many were called. */
static enum state_result
ear_step(struct quota_reader *r, uint64_t step_ms, unsigned *ret_n,
         void (*each)(void *cookie, uint64_t id, const char *identity,
                      uint64_t refused_serial),
         void *cookie)
{
    enum { ABSENT_MS = 100 };
    enum state_result result;
    struct mapping *m;
    uint32_t before;

    result = get(r, &m);
    if (result != STATE_OK) {
        nap(step_ms < ABSENT_MS ? step_ms : ABSENT_MS);
        return result;
    }
    if (ear_tune(r, m)) {
        before = segment_wake_count(&m->segment);
        *ret_n = ear_listen(r, m, each, cookie);
        if (*ret_n == 0)
            segment_wait(&m->segment, before, step_ms);
    } else {
        result = STATE_ESYSTEM;
    }
    attachment_put(r->attachment, m);
    return result;
}

enum state_result
quota_wants(struct quota_reader *r, uint64_t wait_ms,
            void (*each)(void *cookie, uint64_t id, const char *identity,
                         uint64_t refused_serial),
            void *cookie)
{
    enum { STEP_MS = 1000 }; /* then see whether the agent is still the same */
    uint64_t start_ms = clock_boot_ms(&clock_real), passed_ms = 0;
    enum state_result result;
    unsigned n = 0;

    do {
        uint64_t left_ms = wait_ms - passed_ms;

        result = ear_step(r, left_ms < STEP_MS ? left_ms : STEP_MS, &n, each,
                          cookie);
        passed_ms = clock_boot_ms(&clock_real) - start_ms;
    } while (n == 0 && passed_ms < wait_ms);
    return result;
}
