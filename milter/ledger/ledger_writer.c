/* milter/ledger/ledger_writer.c - the queue, and the one thread that writes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A round (ledger_round.c): everything queued becomes one transaction.  When
 * that is committed, begins and notes are answered, and what must be on disk
 * first goes to the syncer (ledger_sync.c): whoever wants to send does not
 * wait for the disk.  While it is written, the next round gathers.
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
    return clock_us() / 1000;
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

    if (e->answered)
        return true;
    pthread_mutex_unlock(&l->mutex);
    while (sem_clockwait(&e->done, CLOCK_MONOTONIC, &until) != 0 &&
           errno == EINTR)
        ;
    pthread_mutex_lock(&l->mutex);
    return e->answered;
}

struct ledger_entry *
ledger_writer_take(struct ledger *l)
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

/* ---- answers; the mutex is held, but for ledger_writer_wake() ---- */

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
    if (first != NULL)
        pthread_cond_signal(&l->work);
}

/* It is in the book.  False: it is not done with, but to be undone. */
static bool
is_written(struct ledger *l, struct ledger_entry *e)
{
    l->shared.stats.entries++;
    e->result = LEDGER_OK;
    e->answered = true;
    if (e->kind == ENTRY_BEGIN && e->abandoned) {
        make_undo(l, e);
        return false;
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
    return true;
}

struct ledger_entry *
ledger_writer_accept(struct ledger *l, struct ledger_entry **batch, bool all)
{
    struct ledger_entry *undo = NULL, **undo_end = &undo;
    struct ledger_entry *done = NULL, **done_end = &done;

    for (struct ledger_entry **at = batch, *e; (e = *at) != NULL;) {
        if (!all && e->kind != ENTRY_BEGIN && e->kind != ENTRY_NOTE) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        e->next = NULL;
        if (is_written(l, e)) {
            *done_end = e;
            done_end = &e->next;
        } else {
            *undo_end = e;
            undo_end = &e->next;
        }
    }
    requeue(l, undo);
    return done;
}

void
ledger_writer_wake(struct ledger *l, struct ledger_entry *accepted)
{
    struct ledger_entry *next;

    if (accepted == NULL)
        return;
    for (struct ledger_entry *e = accepted; e != NULL; e = e->next)
        sem_post(&e->done);
    pthread_mutex_lock(&l->mutex);
    for (struct ledger_entry *e = accepted; e != NULL; e = next) {
        next = e->next;
        settle(l, e);
    }
    pthread_mutex_unlock(&l->mutex);
}

static void
refuse(struct ledger_entry *e)
{
    e->result = LEDGER_EUNAVAILABLE;
    e->answered = true;
    sem_post(&e->done);
}

void
ledger_writer_refuse(struct ledger *l, struct ledger_entry *batch, bool tried)
{
    struct ledger_entry *keep = NULL, **keep_end = &keep, *next;

    for (struct ledger_entry *e = batch; e != NULL; e = next) {
        bool waits = e->kind == ENTRY_BEGIN || e->kind == ENTRY_RECOVER ||
                     e->kind == ENTRY_BOOT;

        next = e->next;
        /* A result's caller has a time of his own; nobody else waits for the
         * disk to come back. */
        if (e->kind != ENTRY_FINISH)
            refuse(e);
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
    if ((rc = ledger_sql_do(s, SQL_BEGIN)) != SQLITE_OK)
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

        snprintf(err, sizeof err, "%s", l->own.book->trouble);
        ledger_round_trouble(l, rc, err);
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
        if (l->sync.rc != 0)
            return true;
        if (l->shared.stop) {
            if (l->shared.first == NULL || *last_try) {
                if (l->sync.first == NULL && !l->sync.busy)
                    return false;
                pthread_cond_wait(&l->work, &l->mutex);
                continue;
            }
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

/* Each round costs, however little is in it.  The mutex is held. */
static void
gather(struct ledger *l)
{
    uint64_t at_us = l->own.round_us + LEDGER_GATHER_US, now = clock_us();
    struct timespec t = {0};

    if (now < at_us && l->shared.air.n >= LEDGER_GATHER_ROWS) {
        t.tv_nsec = (long)(at_us - now) * 1000;
        pthread_mutex_unlock(&l->mutex);
        nanosleep(&t, NULL);
        pthread_mutex_lock(&l->mutex);
        now = clock_us();
    }
    l->own.round_us = now;
}

static void *
writer_main(void *cookie)
{
    struct ledger *l = cookie;
    bool probe, last_try = false;

    pthread_mutex_lock(&l->mutex);
    while (rest(l, &probe, &last_try)) {
        struct ledger_entry *batch;

        gather(l);
        batch = ledger_writer_take(l);
        pthread_mutex_unlock(&l->mutex);
        ledger_round(l, batch, probe);
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
    if (!ledger_sync_start(l))
        return false;
    if (pthread_create(&l->writer, NULL, writer_main, l) == 0)
        return true;
    ledger_sync_stop(l);
    return false;
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
    ledger_sync_stop(l);

    pthread_mutex_lock(&l->mutex);
    left = ledger_writer_take(l);
    for (; left != NULL; left = next) {
        next = left->next;
        refuse(left);
        settle(l, left);
    }
    pthread_mutex_unlock(&l->mutex);
    ledger_sql_close(l->own.book);
    l->own.book = NULL;
}
