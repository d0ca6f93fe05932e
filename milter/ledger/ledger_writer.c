/* milter/ledger/ledger_writer.c - the queue, and the one thread that writes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A round: everything queued becomes one transaction; when a result is among
 * it, its commit ends with an fsync (PRAGMA synchronous FULL instead of
 * NORMAL).  While one round waits for the disk, the next gathers.
 *
 * A round that fails loses nothing: what must be kept (results, states,
 * notes) goes back to the front of the queue, what must not wait (begins) is
 * answered "unavailable", and the next try comes within a second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/ledger/ledger_private.h"

uint64_t
ledger_writer_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct timespec
at_ms(uint64_t ms)
{
    return (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

/* ---- the queue; the mutex is held ---- */

bool
ledger_writer_queue(struct ledger *l, struct ledger_entry *e)
{
    if (l->shared.queued >= LEDGER_QUEUE_MAX ||
        (e->kind == ENTRY_NOTE && l->shared.notes >= LEDGER_NOTES_MAX)) {
        l->shared.stats.failures++;
        return false;
    }
    if (e->flight != NULL) {
        for (size_t i = 0; i < e->flight->n; i++)
            e->flight->row[i].row = l->shared.next_row++;
        ledger_air_add(&l->shared.air, e->flight);
    }
    e->refs++;
    e->next = NULL;
    *l->shared.last = e;
    l->shared.last = &e->next;
    l->shared.queued++;
    l->shared.notes += e->kind == ENTRY_NOTE;
    pthread_cond_signal(&l->work);
    return true;
}

bool
ledger_writer_wait(struct ledger *l, struct ledger_entry *e, uint64_t wait_ms)
{
    struct timespec until = at_ms(ledger_writer_now_ms() + wait_ms);

    while (!e->answered)
        if (pthread_cond_timedwait(&e->done, &l->mutex, &until) == ETIMEDOUT)
            return e->answered;
    return true;
}

static struct ledger_entry *
queue_take(struct ledger *l)
{
    struct ledger_entry *all = l->shared.first;

    l->shared.first = NULL;
    l->shared.last = &l->shared.first;
    return all; /* still counted, until they are settled */
}

/* The entry is done with. */
static void
settle(struct ledger *l, struct ledger_entry *e)
{
    l->shared.queued--;
    l->shared.notes -= e->kind == ENTRY_NOTE;
    ledger_entry_drop(e);
}

static void
answer(struct ledger_entry *e, enum ledger_result result)
{
    e->result = result;
    e->answered = true;
    pthread_cond_signal(&e->done);
}

/* ---- the end of a round; the mutex is held ---- */

void
ledger_writer_trouble(struct ledger *l, const char *text)
{
    snprintf(l->shared.trouble, sizeof l->shared.trouble, "%s", text);
    l->shared.ok = false;
    l->shared.stats.failures++;
    pthread_cond_signal(&l->work);
}

/* A begin that has no taker: whatever is on disk of it must not stay there as
 * "sending", nor its charge. */
static void
make_undo(struct ledger *l, struct ledger_entry *e)
{
    ledger_air_remove_all(&l->shared.air, e->flight);
    e->kind = ENTRY_UNDO;
}

/* Puts a list in front of the queue, keeping its order. */
static void
requeue(struct ledger *l, struct ledger_entry *first)
{
    struct ledger_entry **end = &first;

    while (*end != NULL)
        end = &(*end)->next;
    *end = l->shared.first;
    if (l->shared.first == NULL)
        l->shared.last = end == &first ? &l->shared.first : end;
    l->shared.first = first;
}

static void
settle_written(struct ledger *l, struct ledger_entry *batch)
{
    struct ledger_entry *undo = NULL, **undo_end = &undo, *next;

    for (struct ledger_entry *e = batch; e != NULL; e = next) {
        next = e->next;
        l->shared.stats.entries++;
        answer(e, LEDGER_OK);
        if (e->kind == ENTRY_BEGIN && e->abandoned) {
            make_undo(l, e);
            e->next = NULL;
            *undo_end = e;
            undo_end = &e->next;
            continue;
        }
        if (e->kind == ENTRY_BEGIN)
            e->flight->committed = true;
        else if (e->kind == ENTRY_NOTE)
            ledger_air_remove_all(&l->shared.air, e->flight);
        for (size_t i = 0; e->kind == ENTRY_FINISH && i < e->n; i++) {
            struct ledger_row *r =
                ledger_air_find(&l->shared.air, e->ending[i].row);

            if (r != NULL)
                ledger_air_remove(&l->shared.air, r);
        }
        settle(l, e);
    }
    requeue(l, undo);
}

/* tried: the commit may have happened all the same. */
static void
settle_failed(struct ledger *l, struct ledger_entry *batch, bool tried)
{
    struct ledger_entry *keep = NULL, **keep_end = &keep, *next;

    for (struct ledger_entry *e = batch; e != NULL; e = next) {
        bool waits = e->kind == ENTRY_BEGIN || e->kind == ENTRY_RECOVER ||
                     e->kind == ENTRY_BOOT;

        next = e->next;
        /* A result's caller has a time of his own; nobody else waits for the
         * disk to come back. */
        if (e->kind != ENTRY_FINISH)
            answer(e, LEDGER_EUNAVAILABLE);
        if (e->kind == ENTRY_BEGIN && tried)
            make_undo(l, e);
        else if (e->kind == ENTRY_BEGIN)
            ledger_air_remove_all(&l->shared.air, e->flight);
        if (waits && e->kind != ENTRY_UNDO) {
            settle(l, e);
            continue;
        }
        e->next = NULL;
        *keep_end = e;
        keep_end = &e->next;
    }
    requeue(l, keep);
}

/* ---- a round; without the mutex ---- */

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
        (rc = carry_over(l, s)) != SQLITE_OK) {
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
    pthread_mutex_unlock(&l->mutex);
    l->own.book = s;
    l->own.begun = false; /* another file's mark is another one */
    memset(l->own.synced, 0, sizeof l->own.synced);
    return SQLITE_OK;
}

/* Gives the connection up.  save: what the WAL holds goes into the database
 * first, as far as possible: the WAL's name may be gone. */
static bool
book_close(struct ledger *l, bool save)
{
    bool saved;

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

    if (l->own.book != NULL && ledger_sql_moved(l->own.book, &db_moved))
        book_close(l, !db_moved);
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

struct round {
    struct ledger_entry *batch;
    bool sync;   /* a result, a state or the mark is in it */
    bool begins; /* of an agent: to be found after a loss of power */
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

/* Is there a begin of an account that has no young charge on disk?  After a
 * loss of power nothing would tell that it was in use. */
static bool
round_wakes(const struct ledger *l, const struct round *r)
{
    for (const struct ledger_entry *e = r->batch; e != NULL; e = e->next) {
        const struct taken *t;

        if (e->kind != ENTRY_BEGIN || !e->flight->charged)
            continue;
        t = &e->flight->charge;
        if (l->own.synced[t->id % LEDGER_SYNCED].account != t->id ||
            l->own.synced[t->id % LEDGER_SYNCED].at_ms + LEDGER_SYNC_MS <
                t->at_ms)
            return true;
    }
    return false;
}

/* It is on disk. */
static void
round_synced(struct ledger *l, const struct round *r)
{
    for (const struct ledger_entry *e = r->batch; e != NULL; e = e->next) {
        const struct taken *t;

        if (e->kind != ENTRY_BEGIN || !e->flight->charged)
            continue;
        t = &e->flight->charge;
        l->own.synced[t->id % LEDGER_SYNCED].account = t->id;
        l->own.synced[t->id % LEDGER_SYNCED].at_ms = t->at_ms;
    }
    l->own.begun = l->own.begun || r->marks;
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
    pthread_mutex_unlock(&l->mutex);
    r->mark.begun = true;
    r->begins = r->begins && booted;
    r->marks = r->begins && !l->own.begun;
    r->sync = r->sync || r->marks || (r->begins && round_wakes(l, r));
}

static int
round_write(struct ledger *l, struct round *r, char *err, size_t err_size)
{
    struct ledger_sql *s;
    bool db_moved = false;
    int rc;

    if ((rc = book_ready(l, err, err_size)) != SQLITE_OK)
        return rc;
    round_look(l, r);
    s = l->own.book;
    if ((rc = ledger_sql_sync(s, r->sync || r->probe)) != SQLITE_OK ||
        (rc = ledger_sql_do(s, SQL_BEGIN)) != SQLITE_OK ||
        (rc = round_apply(s, r)) != SQLITE_OK)
        return fail(err, err_size, s, rc);
    r->tried = true;
    if ((rc = ledger_sql_do(s, SQL_COMMIT)) != SQLITE_OK)
        return fail(err, err_size, s, rc);
    if (r->sync || r->probe)
        round_synced(l, r);
    /* Written into files that lost their names meanwhile? */
    if (!ledger_sql_moved(s, &db_moved) || book_close(l, !db_moved))
        return SQLITE_OK;
    snprintf(err, err_size, "%s/ledger.db was moved, replaced or removed",
             l->directory);
    return SQLITE_CANTOPEN;
}

/* What a failure leaves of the connection. */
static void
round_failed(struct ledger *l, int rc)
{
    if ((rc & 0xff) == SQLITE_IOERR)
        l->own.distrust = true;
    if (l->own.book == NULL)
        return;
    if (!sqlite3_get_autocommit(l->own.book->db))
        sqlite3_exec(l->own.book->db, "ROLLBACK", NULL, NULL, NULL);
    if ((rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_FULL)
        book_close(l, false);
}

static void
round_run(struct ledger *l, struct ledger_entry *batch, bool probe)
{
    struct round r = {.batch = batch, .probe = probe};
    char err[LEDGER_TROUBLE_MAX] = "";
    int rc = SQLITE_OK;

    if (batch != NULL || probe)
        rc = round_write(l, &r, err, sizeof err);
    if (rc != SQLITE_OK)
        round_failed(l, rc);

    pthread_mutex_lock(&l->mutex);
    if (rc == SQLITE_OK) {
        if (batch != NULL || probe) {
            l->shared.stats.commits++;
            l->shared.stats.fsyncs += r.sync || r.probe;
        }
        if (r.newest > l->shared.newest_ms)
            l->shared.newest_ms = r.newest;
        if (probe)
            l->shared.ok = true;
        settle_written(l, batch);
        l->own.retry_ms = LEDGER_RETRY_FIRST_MS;
    } else {
        /* Also the begins that came meanwhile: none may wait. */
        struct ledger_entry *later = queue_take(l);

        ledger_writer_trouble(l, err);
        settle_failed(l, later, false);
        settle_failed(l, batch, r.tried);
        l->own.retry_at_ms = ledger_writer_now_ms() + l->own.retry_ms;
        l->own.retry_ms *= 2;
        if (l->own.retry_ms > LEDGER_RETRY_MAX_MS)
            l->own.retry_ms = LEDGER_RETRY_MAX_MS;
    }
    pthread_mutex_unlock(&l->mutex);
}

/* ---- chores, after a good round ---- */

/* True while there is more to prune.  Old is judged by the smaller of wall
 * clock and quota time, so that a clock set wrong does not empty the book. */
static int
prune(struct ledger *l, uint64_t newest_ms, bool *ret_more)
{
    static const enum ledger_sql_statement which[] = {
        SQL_PRUNE_ATTEMPTS, SQL_PRUNE_SPENT, SQL_PRUNE_MAILED,
        SQL_PRUNE_OBSERVED};
    int64_t wall_ms = clock_wall_ms(l->clock);
    uint64_t now_ms = wall_ms > 0 ? (uint64_t)wall_ms : 0;
    struct ledger_sql *s = l->own.book;
    bool more = false;
    int rc;

    if (newest_ms != 0 && newest_ms < now_ms)
        now_ms = newest_ms;
    if ((rc = ledger_sql_sync(s, false)) != SQLITE_OK ||
        (rc = ledger_sql_do(s, SQL_BEGIN)) != SQLITE_OK)
        return rc;
    for (unsigned i = 0; i < sizeof which / sizeof *which; i++) {
        sqlite3_stmt *st = ledger_sql_get(s, which[i]);
        uint64_t before = newest_ms;

        if (which[i] == SQL_PRUNE_ATTEMPTS)
            before = now_ms > LEDGER_KEEP_MS ? now_ms - LEDGER_KEEP_MS : 0;
        if (st != NULL) {
            ledger_sql_bind_u64(st, 1, before);
            sqlite3_bind_int(st, 2, LEDGER_PRUNE_ROWS);
        }
        if ((rc = ledger_sql_run(s, st)) != SQLITE_OK)
            return rc;
        more = more || sqlite3_changes(s->db) == LEDGER_PRUNE_ROWS;
    }
    if ((rc = ledger_sql_do(s, SQL_COMMIT)) == SQLITE_OK)
        *ret_more = more;
    return rc;
}

/* A chore that fails is a trouble like any other. */
static void
chores(struct ledger *l)
{
    uint64_t newest_ms;
    bool ok, more = false;
    int rc = SQLITE_OK;

    pthread_mutex_lock(&l->mutex);
    newest_ms = l->shared.newest_ms;
    ok = l->shared.ok;
    pthread_mutex_unlock(&l->mutex);
    if (!ok || l->own.book == NULL) {
        l->own.chores_at_ms = ledger_writer_now_ms() + LEDGER_RETRY_MAX_MS;
        return;
    }

    if (ledger_sql_checkpoint_due(l->own.book))
        rc = ledger_sql_checkpoint(l->own.book, false);
    if (rc == SQLITE_BUSY)
        rc = SQLITE_OK; /* another program does it just now */
    if (rc == SQLITE_OK && ledger_writer_now_ms() >= l->own.chores_at_ms) {
        rc = prune(l, newest_ms, &more);
        l->own.chores_at_ms =
            ledger_writer_now_ms() +
            (uint64_t)(more ? LEDGER_PRUNE_MORE_MS : LEDGER_PRUNE_MS);
    }
    if (rc != SQLITE_OK) {
        char err[LEDGER_TROUBLE_MAX];

        fail(err, sizeof err, l->own.book, rc);
        round_failed(l, rc);
        pthread_mutex_lock(&l->mutex);
        ledger_writer_trouble(l, err);
        l->own.retry_at_ms = ledger_writer_now_ms() + l->own.retry_ms;
        pthread_mutex_unlock(&l->mutex);
    }
}

/* ---- the thread ---- */

/* Sleeps until there is something to do.  False: nothing more, ever.  The
 * mutex is held. */
static bool
rest(struct ledger *l, bool *ret_probe, bool *last_try)
{
    for (;;) {
        uint64_t now = ledger_writer_now_ms(), until;
        struct timespec t;

        *ret_probe = !l->shared.ok;
        if (l->shared.stop) {
            if (l->shared.first == NULL || *last_try)
                return false;
            *last_try = !l->shared.ok;
            return true;
        }
        until = l->shared.ok ? l->own.chores_at_ms : l->own.retry_at_ms;
        if ((l->shared.ok && l->shared.first != NULL) || now >= until)
            return true;
        t = at_ms(until);
        pthread_cond_timedwait(&l->work, &l->mutex, &t);
    }
}

static void *
writer_main(void *cookie)
{
    struct ledger *l = cookie;
    bool probe, last_try = false;

    pthread_mutex_lock(&l->mutex);
    while (rest(l, &probe, &last_try)) {
        struct ledger_entry *batch = queue_take(l);

        pthread_mutex_unlock(&l->mutex);
        round_run(l, batch, probe);
        chores(l);
        pthread_mutex_lock(&l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

bool
ledger_writer_start(struct ledger *l)
{
    l->own.retry_ms = LEDGER_RETRY_FIRST_MS;
    return pthread_create(&l->writer, NULL, writer_main, l) == 0;
}

void
ledger_writer_stop(struct ledger *l)
{
    struct ledger_entry *left, *next;

    pthread_mutex_lock(&l->mutex);
    l->shared.stop = true;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->writer, NULL);

    pthread_mutex_lock(&l->mutex);
    left = queue_take(l);
    for (; left != NULL; left = next) {
        next = left->next;
        answer(left, LEDGER_EUNAVAILABLE);
        settle(l, left);
    }
    pthread_mutex_unlock(&l->mutex);
    ledger_sql_close(l->own.book);
    l->own.book = NULL;
}
