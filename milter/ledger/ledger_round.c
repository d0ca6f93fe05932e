/* milter/ledger/ledger_round.c - one round: what was queued, as one transaction
 * in the right file.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All of it on the writer's thread, without the mutex where nothing is said.
 */
#include <stdio.h>
#include <string.h>

#include "milter/ledger/ledger_private.h"

/* ---- the book ---- */

static int
fail(char *err, size_t err_size, struct ledger_sql *s, int rc)
{
    snprintf(err, err_size, "%s", s->trouble);
    return rc;
}

/* Flights that began in a file that is gone get their rows and charges in the
 * new one: what is in the air is known to us, and must not be sent twice.
 * Done at every opening, since no mark of a file tells it from its own older
 * copy; rows that are there are left alone. */
static int
carry_over(struct ledger *l, struct ledger_sql *s)
{
    int rc = ledger_sql_do(s, SQL_BEGIN);

    if (rc != SQLITE_OK)
        return rc;
    pthread_mutex_lock(&l->mutex);
    for (size_t i = 0; i < LEDGER_AIR_CHAINS && rc == SQLITE_OK; i++)
        for (struct ledger_row *r = l->shared.air.by_row[i];
             r != NULL && rc == SQLITE_OK; r = r->next_row) {
            bool first = true;

            for (const struct ledger_row *b = r->flight->row; b < r; b++)
                first = first && !b->in_air;
            if (first && r->flight->committed)
                rc = ledger_apply_again(s, r->flight);
        }
    pthread_mutex_unlock(&l->mutex);
    if (rc == SQLITE_OK)
        rc = ledger_sql_do(s, SQL_COMMIT);
    if (rc != SQLITE_OK)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int
ledger_writer_open(struct ledger *l, char *err, size_t err_size)
{
    int64_t last = 0, newest = 0, behind = 0;
    int rc = SQLITE_OK;
    struct ledger_sql *s =
        ledger_sql_open(l->directory, LEDGER_SQL_WRITE, &rc, err, err_size);

    if (s == NULL)
        return rc;
    if ((rc = ledger_sql_number(s, SQL_LAST_ROW, &last)) != SQLITE_OK ||
        (rc = ledger_sql_number(s, SQL_NEWEST_GET, &newest)) != SQLITE_OK ||
        (rc = ledger_sql_number(s, SQL_BEHIND_GET, &behind)) != SQLITE_OK ||
        (rc = carry_over(l, s)) != SQLITE_OK ||
        /* From here on it is the syncer that brings things to the disk. */
        (rc = ledger_sql_exec(s, "PRAGMA synchronous = NORMAL")) != SQLITE_OK) {
        fail(err, err_size, s, rc);
        ledger_sql_close(s);
        return rc;
    }
    if ((rc = ledger_sql_wal(s)) != SQLITE_OK) {
        fail(err, err_size, s, rc);
        ledger_sql_close(s);
        return rc;
    }
    pthread_mutex_lock(&l->mutex);
    if (l->shared.next_row <= last)
        l->shared.next_row = last + 1;
    if (newest > 0 && l->shared.newest_ms < (uint64_t)newest)
        l->shared.newest_ms = (uint64_t)newest;
    l->shared.behind_ms = behind; /* what another file had is noted anew */
    l->shared.generation++;
    s->forgotten_row = l->shared.next_row - 1;
    l->own.book = s;
    ledger_sync_opened(l);
    pthread_mutex_unlock(&l->mutex);
    return SQLITE_OK;
}

/* Gives the connection up, when the syncer has let go of it.  save: what the
 * WAL holds goes into the database first, as far as possible: the WAL's name
 * may be gone. */
static bool
book_close(struct ledger *l, bool save)
{
    bool saved;

    ledger_sync_wait(l);

    /* SQLite shares the -shm of one process's connections to one file: a
     * reader left open would tie the next writer to a removed one. */
    pthread_mutex_lock(&l->read_mutex);
    ledger_sql_close(l->reader.book);
    l->reader.book = NULL;
    pthread_mutex_unlock(&l->read_mutex);

    saved = save && ledger_sql_checkpoint(l->own.book, true) == SQLITE_OK;
    ledger_sql_close(l->own.book);
    l->own.book = NULL;
    return saved;
}

/* The right file, open, with nothing doubtful in its WAL. */
static int
book_ready(struct ledger *l, char *err, size_t err_size)
{
    bool db_moved = false;
    int rc;

    if (l->own.book != NULL && ledger_sql_moved(l->own.book, &db_moved) &&
        !ledger_sync_again(l, book_close(l, !db_moved))) {
        snprintf(err, err_size, "%s/ledger.db was moved, replaced or removed",
                 l->directory);
        return SQLITE_CANTOPEN;
    }
    if (l->own.book == NULL &&
        (rc = ledger_writer_open(l, err, err_size)) != SQLITE_OK)
        return rc;
    if (l->own.distrust) {
        /* After a failed fsync the kernel may call pages clean that never
         * reached the disk.  Copied into the database they are written, and
         * synced, anew; then the WAL begins afresh. */
        rc = ledger_sql_checkpoint(l->own.book, true);
        if (rc != SQLITE_OK)
            return fail(err, err_size, l->own.book, rc);
        l->own.distrust = false;
    }
    return SQLITE_OK;
}

/* ---- the round ---- */

struct round {
    struct ledger_entry *batch;
    bool sync;   /* a result, a state or the mark is in it */
    bool begins; /* of an agent: to be found after a loss of power */
    bool holds;  /* they must be on disk before they are answered */
    bool marks;  /* they are the first in this file */
    struct ledger_mark mark;
    bool probe;      /* in trouble before: it must really write */
    bool tried;      /* COMMIT was reached */
    uint64_t newest; /* quota time charged in it */
};

static int
round_apply(struct ledger_sql *s, struct round *r)
{
    int rc = r->marks ? ledger_apply_mark(s, &r->mark) : SQLITE_OK;

    for (struct ledger_entry *e = r->batch; e != NULL && rc == SQLITE_OK;
         e = e->next)
        rc = ledger_apply(s, e);
    if (rc == SQLITE_OK && r->newest > 0) {
        sqlite3_stmt *st = ledger_sql_get(s, SQL_NEWEST_SET);

        if (st != NULL)
            ledger_sql_bind_u64(st, 1, r->newest);
        rc = ledger_sql_run(s, st);
    }
    if (rc == SQLITE_OK && r->probe)
        rc = ledger_sql_do(s, SQL_PROBE);
    return rc;
}

/* What is in it, and what that asks for. */
static void
round_look(struct ledger *l, struct round *r)
{
    bool booted;

    for (struct ledger_entry *e = r->batch; e != NULL; e = e->next) {
        r->begins = r->begins || e->kind == ENTRY_BEGIN;
        r->sync = r->sync || (e->kind != ENTRY_BEGIN && e->kind != ENTRY_NOTE);
        if (e->n_lost > 0 && e->lost[0].at_ms > r->newest)
            r->newest = e->lost[0].at_ms;
        if (e->kind == ENTRY_BEGIN && e->flight->charged &&
            e->flight->charge.at_ms > r->newest)
            r->newest = e->flight->charge.at_ms;
        if (e->charged_after && e->after.at_ms > r->newest)
            r->newest = e->after.at_ms;
    }
    pthread_mutex_lock(&l->mutex);
    booted = l->shared.booted;
    memcpy(r->mark.boot_id, l->shared.boot_id, sizeof r->mark.boot_id);
    r->mark.begun = true;
    r->begins = r->begins && booted;
    r->marks = r->begins && !l->sync.begun;
    r->holds = r->marks || r->probe;
    for (struct ledger_entry *e = r->batch; r->begins && e != NULL; e = e->next)
        if (e->kind == ENTRY_BEGIN && e->flight->charged)
            r->holds |= ledger_sync_holds(l, e->flight);
    pthread_mutex_unlock(&l->mutex);
    r->sync = r->sync || r->holds;
}

/* Commits; after that an agent's death loses nothing of it. */
static int
round_commit(struct ledger *l, struct round *r, char *err, size_t err_size)
{
    struct ledger_sql *s;
    int rc;

    if ((rc = book_ready(l, err, err_size)) != SQLITE_OK)
        return rc;
    round_look(l, r);
    s = l->own.book;
    if ((rc = ledger_sql_do(s, SQL_BEGIN)) != SQLITE_OK ||
        (rc = round_apply(s, r)) != SQLITE_OK)
        return fail(err, err_size, s, rc);
    r->tried = true;
    if ((rc = ledger_sql_do(s, SQL_COMMIT)) != SQLITE_OK)
        return fail(err, err_size, s, rc);
    return SQLITE_OK;
}

/* It is committed.  What need not be on disk is answered, the rest is the
 * syncer's. */
static void
round_good(struct ledger *l, struct round *r)
{
    struct ledger_entry *accepted = NULL;

    pthread_mutex_lock(&l->mutex);
    l->shared.stats.commits++;
    if (r->newest > l->shared.newest_ms)
        l->shared.newest_ms = r->newest;
    if (!r->holds)
        accepted = ledger_writer_accept(l, &r->batch, !r->sync);
    ledger_sync_add(l, r->batch, r->sync, r->marks);
    pthread_mutex_unlock(&l->mutex);
    ledger_writer_wake(l, accepted);
}

/* What a failure leaves of the connection. */
static void
round_failed(struct ledger *l, int rc)
{
    ledger_sync_wait(l);
    if ((rc & 0xff) == SQLITE_IOERR)
        l->own.distrust = true;
    if (l->own.book == NULL)
        return;
    if (!sqlite3_get_autocommit(l->own.book->db))
        sqlite3_exec(l->own.book->db, "ROLLBACK", NULL, NULL, NULL);
    memset(l->own.book->named, 0, sizeof l->own.book->named);
    if ((rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_FULL)
        book_close(l, false);
}

/* With the mutex. */
static void
round_bad(struct ledger *l, struct round *r, const char *err)
{
    /* Also the begins that came meanwhile: none may wait. */
    struct ledger_entry *later = ledger_writer_take(l);
    struct ledger_entry *earlier = ledger_sync_take(l);

    l->sync.rc = SQLITE_OK;
    ledger_writer_trouble(l, err);
    ledger_writer_refuse(l, later, false);
    ledger_writer_refuse(l, r->batch, r->tried);
    ledger_writer_refuse(l, earlier, true);
    l->own.retry_at_ms = ledger_writer_now_ms() + l->own.retry_ms;
    l->own.retry_ms *= 2;
    if (l->own.retry_ms > LEDGER_RETRY_MAX_MS)
        l->own.retry_ms = LEDGER_RETRY_MAX_MS;
}

void
ledger_round_trouble(struct ledger *l, int rc, const char *err)
{
    struct round none = {.batch = NULL};

    round_failed(l, rc);
    pthread_mutex_lock(&l->mutex);
    round_bad(l, &none, err);
    pthread_mutex_unlock(&l->mutex);
}

/* Has it reached the disk? */
static int
probe_end(struct ledger *l, char *err, size_t err_size)
{
    int rc;

    ledger_sync_wait(l);
    rc = ledger_sync_failure(l, err, err_size);
    if (rc != SQLITE_OK)
        return rc;
    pthread_mutex_lock(&l->mutex);
    l->shared.ok = true;
    pthread_mutex_unlock(&l->mutex);
    return SQLITE_OK;
}

void
ledger_round(struct ledger *l, struct ledger_entry *batch, bool probe)
{
    struct round r = {.batch = batch, .probe = probe};
    char err[LEDGER_TROUBLE_MAX] = "";
    int rc = ledger_sync_failure(l, err, sizeof err);

    if (rc == SQLITE_OK && batch == NULL && !probe)
        return;
    if (rc == SQLITE_OK)
        rc = round_commit(l, &r, err, sizeof err);
    if (rc == SQLITE_OK) {
        round_good(l, &r);
        r.batch = NULL;
        if (probe)
            rc = probe_end(l, err, sizeof err);
    }
    if (rc == SQLITE_OK)
        l->own.retry_ms = LEDGER_RETRY_FIRST_MS;
    if (rc != SQLITE_OK) {
        round_failed(l, rc);
        pthread_mutex_lock(&l->mutex);
        round_bad(l, &r, err);
        pthread_mutex_unlock(&l->mutex);
    }
}
