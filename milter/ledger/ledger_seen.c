/* milter/ledger/ledger_seen.c - what is in the air, and "was this sent
 * before?"
 * SPDX-License-Identifier: Apache-2.0
 *
 * The air is looked at first, the tables second: a row that leaves the air in
 * between is on disk by then, so nothing is overlooked.  A row found in both
 * counts as the air says, which knows its end earlier.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ledger/ledger_private.h"

/* ---- the air ---- */

static size_t
chain_of(uint64_t key)
{
    /* Fibonacci hashing: both keys may be plain counters. */
    return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 32) &
           (LEDGER_AIR_CHAINS - 1);
}

void
ledger_air_add(struct ledger_air *air, struct ledger_flight *f)
{
    for (size_t i = 0; i < f->n; i++) {
        struct ledger_row *r = &f->row[i];
        struct ledger_row **by_row = &air->by_row[chain_of((uint64_t)r->row)];
        struct ledger_row **by_ticket = &air->by_ticket[chain_of(r->a.ticket)];

        r->next_row = *by_row;
        *by_row = r;
        r->next_ticket = *by_ticket;
        *by_ticket = r;
        r->in_air = true;
        air->n++;
        f->refs++;
    }
}

struct ledger_row *
ledger_air_find(struct ledger_air *air, int64_t row)
{
    struct ledger_row *r = air->by_row[chain_of((uint64_t)row)];

    while (r != NULL && r->row != row)
        r = r->next_row;
    return r;
}

void
ledger_air_remove(struct ledger_air *air, struct ledger_row *r)
{
    struct ledger_row **at = &air->by_row[chain_of((uint64_t)r->row)];

    if (!r->in_air)
        return;
    while (*at != r)
        at = &(*at)->next_row;
    *at = r->next_row;
    at = &air->by_ticket[chain_of(r->a.ticket)];
    while (*at != r)
        at = &(*at)->next_ticket;
    *at = r->next_ticket;
    r->in_air = false;
    air->n--;
    ledger_entry_drop_flight(r->flight);
}

void
ledger_air_remove_all(struct ledger_air *air, struct ledger_flight *f)
{
    f->refs++; /* outlives its last row here */
    for (size_t i = 0; i < f->n; i++)
        ledger_air_remove(air, &f->row[i]);
    ledger_entry_drop_flight(f);
}

void
ledger_air_free(struct ledger_air *air)
{
    for (size_t i = 0; i < LEDGER_AIR_CHAINS; i++)
        while (air->by_row[i] != NULL)
            ledger_air_remove(air, air->by_row[i]);
}

/* ---- seen ---- */

enum { AIR_KNOWN = 64 /* rows of one ticket and recipient looked at */ };

struct evidence {
    bool tried, sent, other, doubt;
    size_t n_rows;
    int64_t row[AIR_KNOWN]; /* found in the air: the tables' word is older */
};

static void
weigh(struct evidence *v, bool sending, enum outcome_kind kind,
      const uint8_t *digest, const struct digest *want)
{
    v->tried = true;
    if (sending || kind == OUTCOME_IN_DOUBT)
        v->doubt = true;
    else if (kind == OUTCOME_SENT && want != NULL &&
             memcmp(digest, want->octet, LEDGER_DIGEST) != 0)
        v->other = true;
    else if (kind == OUTCOME_SENT)
        v->sent = true;
}

static void
look_in_air(struct ledger *l, uint64_t ticket, const char *recipient,
            const struct digest *want, struct evidence *v)
{
    struct ledger_row *r = l->shared.air.by_ticket[chain_of(ticket)];

    for (; r != NULL; r = r->next_ticket) {
        if (r->a.ticket != ticket || strcmp(r->a.recipient, recipient) != 0)
            continue;
        weigh(v, !r->finished, r->kind, r->a.digest.octet, want);
        if (v->n_rows < AIR_KNOWN)
            v->row[v->n_rows++] = r->row;
    }
}

static bool
in_air(const struct evidence *v, int64_t row)
{
    for (size_t i = 0; i < v->n_rows; i++)
        if (v->row[i] == row)
            return true;
    return false;
}

/* With read_mutex held.  A connection of its own, so that no reader waits for
 * an fsync. */
static bool
reader_ready(struct ledger *l, uint64_t generation, char *err, size_t err_size)
{
    if (l->reader.book != NULL && l->reader.generation != generation) {
        ledger_sql_close(l->reader.book);
        l->reader.book = NULL;
    }
    if (l->reader.book == NULL) {
        l->reader.book =
            ledger_sql_open(l->directory, LEDGER_SQL_READ, NULL, err, err_size);
        l->reader.generation = generation;
    }
    return l->reader.book != NULL;
}

static bool
look_in_book(struct ledger_sql *s, uint64_t ticket, const char *recipient,
             const struct digest *want, struct evidence *v)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_SEEN);
    int rc;

    if (st == NULL)
        return false;
    ledger_sql_bind_u64(st, 1, ticket);
    ledger_sql_bind_text(st, 2, recipient);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *word = ledger_sql_text(st, 1);
        const uint8_t *digest = sqlite3_column_blob(st, 2);
        enum outcome_kind kind = OUTCOME_IN_DOUBT;

        if (in_air(v, sqlite3_column_int64(st, 0)))
            continue;
        /* "sending", or a word that we do not know: it may have been sent. */
        ledger_sql_outcome_parse(word, &kind);
        if (sqlite3_column_bytes(st, 2) != LEDGER_DIGEST)
            kind = kind == OUTCOME_SENT ? OUTCOME_IN_DOUBT : kind;
        weigh(v, false, kind, digest, want);
    }
    if (rc != SQLITE_DONE)
        ledger_sql_fail(s, rc);
    sqlite3_reset(st);
    return rc == SQLITE_DONE;
}

static enum ledger_seen
verdict(const struct evidence *v)
{
    if (v->sent)
        return SEEN_SENT;
    if (v->other)
        return SEEN_OTHER;
    if (v->doubt)
        return SEEN_DOUBT;
    return v->tried ? SEEN_TRIED : SEEN_NEVER;
}

enum ledger_result
ledger_seen(struct ledger *l, uint64_t ticket, const char *recipient,
            const struct digest *digest, enum ledger_seen *ret)
{
    struct evidence v = {0};
    char err[LEDGER_TROUBLE_MAX];
    uint64_t generation;
    bool read;

    pthread_mutex_lock(&l->mutex);
    look_in_air(l, ticket, recipient, digest, &v);
    generation = l->shared.generation;
    pthread_mutex_unlock(&l->mutex);
    if (v.sent) { /* the tables could only agree */
        *ret = SEEN_SENT;
        return LEDGER_OK;
    }

    pthread_mutex_lock(&l->read_mutex);
    read = reader_ready(l, generation, err, sizeof err);
    if (read && !look_in_book(l->reader.book, ticket, recipient, digest, &v)) {
        read = false;
        snprintf(err, sizeof err, "%s", l->reader.book->trouble);
        ledger_sql_close(l->reader.book);
        l->reader.book = NULL;
    }
    pthread_mutex_unlock(&l->read_mutex);
    if (!read) {
        pthread_mutex_lock(&l->mutex);
        ledger_writer_trouble(l, err); /* until the writer proves it wrong */
        pthread_mutex_unlock(&l->mutex);
        return LEDGER_EUNAVAILABLE;
    }
    *ret = verdict(&v);
    return LEDGER_OK;
}
