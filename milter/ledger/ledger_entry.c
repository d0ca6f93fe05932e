/* milter/ledger/ledger_entry.c - what a caller said, copied whole.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "milter/ledger/ledger_private.h"

/* Octets of a text that are kept: at most max, and no half UTF-8 sequence at
 * the cut. */
static size_t
kept(const char *text, size_t max)
{
    size_t len = text != NULL ? strlen(text) : 0;

    if (len <= max)
        return len;
    for (len = max; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
        len--;
    return len;
}

/* Copies a text to *at and moves *at behind it. */
static char *
put(char **at, const char *text, size_t max)
{
    size_t len = kept(text, max);
    char *start = *at;

    if (len > 0)
        memcpy(start, text, len);
    start[len] = '\0';
    *at = start + len + 1;
    return start;
}

/* Recipient and identity are keys, so never cut. */
static size_t
attempt_room(const struct attempt *a)
{
    return kept(a->recipient, SIZE_MAX) + kept(a->identity, SIZE_MAX) +
           kept(a->queue_id, LEDGER_ID) + kept(a->sender, LEDGER_TEXT) +
           kept(a->message_id, LEDGER_TEXT) + 5;
}

/* Octets for who the recipients are. */
static size_t
taken_room(const struct taken *t)
{
    return t != NULL && t->cost.who != NULL
               ? t->cost.n_who * sizeof *t->cost.who
               : 0;
}

/* Moves *at, which is aligned for them, behind the recipients. */
static bool
copy_taken(struct taken *to, const struct taken *from, char **at)
{
    if (from == NULL)
        return false;
    *to = *from;
    if (to->n > LIMITS_MAX)
        to->n = LIMITS_MAX;
    if (taken_room(from) > 0) {
        memcpy(*at, from->cost.who, taken_room(from));
        to->cost.who = (const struct recipient_id *)(const void *)*at;
        *at += taken_room(from);
    }
    return true;
}

static struct ledger_flight *
flight_new(const struct attempt *a, size_t n, const struct taken *charge,
           int64_t at_ms)
{
    size_t size = sizeof(struct ledger_flight) + n * sizeof(struct ledger_row);
    struct ledger_flight *f;
    char *at;

    for (size_t i = 0; i < n; i++)
        size += attempt_room(&a[i]);
    size += taken_room(charge);
    f = calloc(1, size);
    if (f == NULL)
        return NULL;
    f->refs = 1;
    f->at_ms = at_ms;
    f->n = n;
    at = (char *)&f->row[n];
    f->charged = copy_taken(&f->charge, charge, &at);
    for (size_t i = 0; i < n; i++) {
        struct attempt *to = &f->row[i].a;

        *to = a[i];
        to->recipient = put(&at, a[i].recipient, SIZE_MAX);
        to->identity = put(&at, a[i].identity, SIZE_MAX);
        to->queue_id = put(&at, a[i].queue_id, LEDGER_ID);
        to->sender = put(&at, a[i].sender, LEDGER_TEXT);
        to->message_id = put(&at, a[i].message_id, LEDGER_TEXT);
        f->row[i].flight = f;
    }
    return f;
}

void
ledger_entry_drop_flight(struct ledger_flight *f)
{
    if (f != NULL && --f->refs == 0)
        free(f);
}

/* `more` octets follow the entry, for its texts and arrays. */
static struct ledger_entry *
entry_new(enum ledger_entry_kind kind, size_t more)
{
    struct ledger_entry *e = calloc(1, sizeof *e + more);

    if (e == NULL)
        return NULL;
    e->kind = kind;
    e->refs = 1;
    sem_init(&e->done, 0, 0);
    return e;
}

void
ledger_entry_drop(struct ledger_entry *e)
{
    if (e == NULL || --e->refs > 0)
        return;
    sem_destroy(&e->done);
    ledger_entry_drop_flight(e->flight);
    free(e->lost);
    free(e);
}

struct ledger_entry *
ledger_entry_begin(const struct attempt *a, size_t n,
                   const struct taken *charge, int64_t at_ms)
{
    struct ledger_entry *e = entry_new(ENTRY_BEGIN, 0);

    if (e == NULL)
        return NULL;
    e->flight = flight_new(a, n, charge, at_ms);
    if (e->flight == NULL) {
        ledger_entry_drop(e);
        return NULL;
    }
    return e;
}

/* An entry with n results behind it (n_max of them at first), and the charges
 * that they change. */
static struct ledger_entry *
entry_with_endings(enum ledger_entry_kind kind, const struct attempt_result *r,
                   size_t n, bool rows_only, const struct taken *before,
                   const struct taken *after)
{
    size_t room = n * sizeof *r + taken_room(before) + taken_room(after);
    struct ledger_entry *e;
    char *at;

    for (size_t i = 0; i < n; i++)
        room +=
            kept(r[i].enhanced, LEDGER_ID) + kept(r[i].reply, LEDGER_TEXT) + 2;
    e = entry_new(kind, room);
    if (e == NULL)
        return NULL;
    e->ending = (struct attempt_result *)(e + 1);
    at = (char *)&e->ending[n];
    e->charged_before = copy_taken(&e->before, before, &at);
    e->charged_after = copy_taken(&e->after, after, &at);
    for (size_t i = 0; i < n; i++) {
        if (rows_only && r[i].row == 0)
            continue; /* there was no flight */
        e->ending[e->n] = r[i];
        e->ending[e->n].enhanced = put(&at, r[i].enhanced, LEDGER_ID);
        e->ending[e->n].reply = put(&at, r[i].reply, LEDGER_TEXT);
        e->n++;
    }
    return e;
}

struct ledger_entry *
ledger_entry_finish(const struct attempt_result *r, size_t n,
                    const struct taken *before, const struct taken *after)
{
    return entry_with_endings(ENTRY_FINISH, r, n, true, before, after);
}

struct ledger_entry *
ledger_entry_note(const struct attempt *a, size_t n,
                  const struct attempt_result *r, int64_t at_ms)
{
    struct ledger_entry *e =
        entry_with_endings(ENTRY_NOTE, r, n, false, NULL, NULL);

    if (e == NULL)
        return NULL;
    e->flight = flight_new(a, n, NULL, at_ms);
    if (e->flight == NULL) {
        ledger_entry_drop(e);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        e->flight->row[i].finished = true;
        e->flight->row[i].kind = r[i].kind;
    }
    return e;
}

struct ledger_entry *
ledger_entry_state(const char *identity, uint64_t account, enum account_state s,
                   uint64_t until_ms, const char *reason, uint32_t rests,
                   int64_t at_ms)
{
    struct ledger_entry *e = entry_new(
        ENTRY_STATE, kept(identity, SIZE_MAX) + kept(reason, LEDGER_TEXT) + 2);
    char *at;

    if (e == NULL)
        return NULL;
    at = (char *)(e + 1);
    e->identity = put(&at, identity, SIZE_MAX);
    e->reason = put(&at, reason, LEDGER_TEXT);
    e->account = account;
    e->state = s;
    e->until_ms = until_ms;
    e->rests = rests;
    e->changed_ms = at_ms;
    return e;
}

struct ledger_entry *
ledger_entry_rested(uint64_t account, uint64_t now_ms)
{
    struct ledger_entry *e = entry_new(ENTRY_RESTED, 0);

    if (e == NULL)
        return NULL;
    e->account = account;
    e->until_ms = now_ms;
    return e;
}

struct ledger_entry *
ledger_entry_observe(const char *identity, const struct observation *o,
                     bool lifted)
{
    struct ledger_entry *e =
        entry_new(ENTRY_OBSERVE, sizeof *o + kept(identity, SIZE_MAX) + 1);
    char *at;

    if (e == NULL)
        return NULL;
    e->observed = (struct observation *)(e + 1);
    *e->observed = *o;
    if (e->observed->n > LIMITS_MAX)
        e->observed->n = LIMITS_MAX;
    at = (char *)(e->observed + 1);
    e->identity = put(&at, identity, SIZE_MAX);
    e->lifted = lifted;
    return e;
}

struct ledger_entry *
ledger_entry_divert(const char *identity, uint64_t account,
                    const char *other_identity, uint64_t other, int64_t at_ms)
{
    struct ledger_entry *e =
        entry_new(ENTRY_DIVERT, kept(identity, SIZE_MAX) +
                                    kept(other_identity, SIZE_MAX) + 2);
    char *at;

    if (e == NULL)
        return NULL;
    at = (char *)(e + 1);
    e->identity = put(&at, identity, SIZE_MAX);
    e->other_identity = put(&at, other_identity, SIZE_MAX);
    e->account = account;
    e->other = other;
    e->changed_ms = at_ms;
    return e;
}

struct ledger_entry *
ledger_entry_forget(uint64_t account)
{
    struct ledger_entry *e = entry_new(ENTRY_FORGET, 0);

    if (e != NULL)
        e->account = account;
    return e;
}

struct ledger_entry *
ledger_entry_recover(int64_t upto_row)
{
    struct ledger_entry *e = entry_new(ENTRY_RECOVER, 0);

    if (e != NULL)
        e->upto_row = upto_row;
    return e;
}

static struct ledger_entry *
entry_mark(enum ledger_entry_kind kind, const uint64_t boot_id[2])
{
    struct ledger_entry *e = entry_new(kind, 0);

    if (e != NULL)
        memcpy(e->mark.boot_id, boot_id, sizeof e->mark.boot_id);
    return e;
}

struct ledger_entry *
ledger_entry_boot(const uint64_t boot_id[2], struct taken *lost, size_t n_lost,
                  int64_t at_ms)
{
    struct ledger_entry *e = entry_mark(ENTRY_BOOT, boot_id);

    if (e == NULL) {
        free(lost);
        return NULL;
    }
    e->lost = lost;
    e->n_lost = n_lost;
    e->changed_ms = at_ms;
    return e;
}

struct ledger_entry *
ledger_entry_end(const uint64_t boot_id[2])
{
    return entry_mark(ENTRY_END, boot_id);
}

struct ledger_entry *
ledger_entry_clock(int64_t behind_ms)
{
    struct ledger_entry *e = entry_new(ENTRY_CLOCK, 0);

    if (e != NULL)
        e->behind_ms = behind_ms;
    return e;
}
