/* milter/state/token_book.c - see status.h: the token daemon's side.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/status.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/clock.h"
#include "milter/state/status_slot.h"
#include "milter/state/token_slot.h"
#include "milter/state/words.h"

struct token_book {
    struct segment status, token;
    pthread_mutex_t lock; /* one writer of slots at a time */
    char *directory;
    uint32_t n_accounts;
};

/* ---- writing, under the lock ---- */

static enum state_result
put_status(struct token_book *b, const struct token_status *s)
{
    enum state_result r;
    void *slot;

    if (!status_slot_fits(s))
        return STATE_ECORRUPT;
    r = segment_claim(&b->status, s->id, &slot);
    if (r == STATE_OK)
        status_slot_publish(slot, s);
    return r;
}

static enum state_result
put_token(struct token_book *b, uint64_t id, const struct token *t)
{
    enum state_result r;
    void *slot;

    r = segment_claim(&b->token, id, &slot);
    if (r == STATE_OK)
        token_slot_publish(slot, id, t);
    return r;
}

/* ---- making ---- */

/* Takes over the tokens that can still be used; what does not read well, or
 * does not fit, is fetched again as if it had never been. */
static void
take_over(struct token_book *b, const struct segment *status,
          const struct segment *token)
{
    int64_t now_s = clock_wall_ms(&clock_real) / 1000;
    struct token_status s;
    struct token t;
    uint64_t id;

    for (uint32_t i = 0; i < token->n_slots; i++) {
        const struct token_slot *slot = segment_slot(token, i, &id);
        const struct status_slot *its =
            slot != NULL ? segment_find(status, id) : NULL;

        if (its == NULL || token_slot_read(slot, id, &t) != STATE_OK)
            continue;
        if (t.expires_at_s > now_s &&
            status_slot_read(its, id, &s) == STATE_OK && s.serial == t.serial &&
            (s.state == TOKEN_OK || s.state == TOKEN_RETRYING) &&
            put_token(b, id, &t) == STATE_OK)
            put_status(b, &s);
    }
    explicit_bzero(&t, sizeof t);
}

static struct segment_shape
shape_of(const struct token_book *b, enum segment_kind kind)
{
    return (struct segment_shape){
        .kind = kind,
        .n_accounts = b->n_accounts,
        .slot_size = kind == SEGMENT_TOKEN ? sizeof(struct token_slot)
                                           : sizeof(struct status_slot)};
}

static enum state_result
build(struct token_book *b, struct segment *ret, enum segment_kind kind,
      char *err, size_t err_size)
{
    struct segment_shape shape = shape_of(b, kind);

    return segment_build(ret, b->directory, &shape, err, err_size);
}

enum state_result
token_book_make(struct token_book **ret, const char *directory,
                uint32_t n_accounts, char *err, size_t err_size)
{
    struct segment old_status = {0}, old_token = {0};
    struct token_book *b = calloc(1, sizeof *b);
    enum state_result r;

    if (b == NULL) {
        snprintf(err, err_size, "out of memory");
        return STATE_ESYSTEM;
    }
    pthread_mutex_init(&b->lock, NULL);
    b->n_accounts = n_accounts;
    b->directory = strdup(directory);
    if (b->directory == NULL) {
        token_book_free(b);
        snprintf(err, err_size, "out of memory");
        return STATE_ESYSTEM;
    }
    r = build(b, &b->token, SEGMENT_TOKEN, err, err_size);
    if (r == STATE_OK)
        r = build(b, &b->status, SEGMENT_STATUS, err, err_size);
    if (r != STATE_OK)
        goto done;
    if (segment_attach(&old_status, directory, SEGMENT_STATUS,
                       sizeof(struct status_slot), false, NULL,
                       0) == STATE_OK &&
        segment_attach(&old_token, directory, SEGMENT_TOKEN,
                       sizeof(struct token_slot), false, NULL, 0) == STATE_OK)
        take_over(b, &old_status, &old_token);
    token_book_beat(b);
    r = segment_install(&b->token, SEGMENT_REPLACE, err, err_size);
    if (r == STATE_OK)
        r = segment_install(&b->status, SEGMENT_REPLACE, err, err_size);
done:
    segment_detach(&old_status);
    segment_detach(&old_token);
    if (r != STATE_OK)
        token_book_free(b);
    else
        *ret = b;
    return r;
}

void
token_book_free(struct token_book *b)
{
    if (b == NULL)
        return;
    segment_detach(&b->status);
    segment_detach(&b->token);
    pthread_mutex_destroy(&b->lock);
    free(b->directory);
    free(b);
}

void
token_book_beat(struct token_book *b)
{
    uint64_t now_s = (uint64_t)(clock_wall_ms(&clock_real) / 1000);

    words_set(&b->status.head->heartbeat_s, now_s);
    words_set(&b->token.head->heartbeat_s, now_s);
}

void
token_book_note_skew(struct token_book *b, int64_t skew_s)
{
    words_set(&b->status.head->stat[STATUS_SKEW_S], (uint64_t)skew_s);
}

/* ---- without those that nobody wants ---- */

uint32_t
token_book_room(struct token_book *b)
{
    uint32_t room, tokens;

    pthread_mutex_lock(&b->lock);
    room = segment_room(&b->status);
    tokens = segment_room(&b->token);
    pthread_mutex_unlock(&b->lock);
    return room < tokens ? room : tokens;
}

struct thinning {
    bool (*keep)(void *cookie, uint64_t id);
    void *cookie;
};

static enum state_result
copy_statuses(struct segment *to, const struct segment *from,
              const struct thinning *t)
{
    enum state_result r = STATE_OK;
    struct token_status s;
    uint64_t id;
    void *slot;

    for (uint32_t i = 0; i < from->n_slots && r == STATE_OK; i++) {
        const struct status_slot *old = segment_slot(from, i, &id);

        if (old == NULL || !t->keep(t->cookie, id) ||
            status_slot_read(old, id, &s) != STATE_OK)
            continue;
        r = segment_claim(to, id, &slot);
        if (r == STATE_OK)
            status_slot_publish(slot, &s);
    }
    return r;
}

static enum state_result
copy_tokens(struct segment *to, const struct segment *from,
            const struct thinning *t)
{
    enum state_result r = STATE_OK;
    struct token token;
    uint64_t id;
    void *slot;

    for (uint32_t i = 0; i < from->n_slots && r == STATE_OK; i++) {
        const struct token_slot *old = segment_slot(from, i, &id);

        if (old == NULL || !t->keep(t->cookie, id) ||
            token_slot_read(old, id, &token) != STATE_OK)
            continue;
        r = segment_claim(to, id, &slot);
        if (r == STATE_OK)
            token_slot_publish(slot, id, &token);
    }
    explicit_bzero(&token, sizeof token);
    return r;
}

/* The lock is held: nobody writes meanwhile. */
static enum state_result
replace(struct token_book *b, struct segment *at, enum segment_kind kind,
        const struct thinning *t, char *err, size_t err_size)
{
    struct segment_shape shape = shape_of(b, kind);
    struct segment fresh = {0};
    enum state_result r =
        segment_build_again(&fresh, at, b->directory, &shape, err, err_size);

    if (r != STATE_OK)
        return r;
    r = kind == SEGMENT_TOKEN ? copy_tokens(&fresh, at, t)
                              : copy_statuses(&fresh, at, t);
    words_set(&fresh.head->heartbeat_s, words_get(&at->head->heartbeat_s));
    if (r != STATE_OK)
        snprintf(err, err_size, "%s", state_result_text(r));
    else
        r = segment_install(&fresh, SEGMENT_REPLACE, err, err_size);
    if (r != STATE_OK) {
        at->lock = fresh.lock;
        fresh.lock = -1;
        segment_detach(&fresh);
        return r;
    }
    segment_detach(at);
    *at = fresh;
    return STATE_OK;
}

enum state_result
token_book_thin(struct token_book *b, bool (*keep)(void *cookie, uint64_t id),
                void *cookie, char *err, size_t err_size)
{
    struct thinning t = {keep, cookie};
    enum state_result r;

    pthread_mutex_lock(&b->lock);
    r = replace(b, &b->token, SEGMENT_TOKEN, &t, err, err_size);
    /* One without the other is as good: readers look into each by itself. */
    if (r == STATE_OK)
        r = replace(b, &b->status, SEGMENT_STATUS, &t, err, err_size);
    pthread_mutex_unlock(&b->lock);
    return r;
}

/* ---- using ---- */

enum state_result
token_book_get(struct token_book *b, uint64_t id, struct token_status *ret)
{
    enum state_result r = STATE_EEMPTY;
    const struct status_slot *slot;

    pthread_mutex_lock(&b->lock);
    slot = segment_find(&b->status, id);
    if (slot != NULL)
        r = status_slot_read(slot, id, ret);
    pthread_mutex_unlock(&b->lock);
    return r;
}

enum state_result
token_book_set(struct token_book *b, const struct token_status *s)
{
    enum state_result r;

    pthread_mutex_lock(&b->lock);
    r = put_status(b, s);
    if (r == STATE_OK)
        segment_wake(&b->status);
    pthread_mutex_unlock(&b->lock);
    return r;
}

enum state_result
token_book_publish(struct token_book *b, const struct token_status *s,
                   const char *text, size_t len)
{
    struct token t = {.serial = s->serial, .expires_at_s = s->expires_at_s};
    enum state_result r;

    if (!status_slot_fits(s) || s->serial == 0 ||
        !token_slot_text_ok(text, len))
        return STATE_ECORRUPT;
    t.len = (uint32_t)len;
    memcpy(t.text, text, len);
    pthread_mutex_lock(&b->lock);
    r = put_token(b, s->id, &t);
    if (r == STATE_OK)
        r = put_status(b, s);
    if (r == STATE_OK)
        segment_wake(&b->status);
    pthread_mutex_unlock(&b->lock);
    explicit_bzero(&t, sizeof t);
    return r;
}
