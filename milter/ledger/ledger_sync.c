/* milter/ledger/ledger_sync.c - the syncer: brings to the disk what the writer
 * has committed, and answers it then.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One fsync covers everything that was committed before it began, and the
 * writer goes on meanwhile.  When one fails, the syncer rests until the writer
 * has taken back what was not answered (ledger_round.c).
 */
#include <stdio.h>
#include <string.h>

#include "milter/ledger/ledger_private.h"

/* ---- begins that must be on disk; the mutex is held ---- */

/* After a loss of power nothing would tell that the account was in use,
 * without a young charge on disk; or more of it would be missing than is
 * charged for then. */
bool
ledger_sync_holds(struct ledger *l, const struct ledger_flight *f)
{
    const struct taken *t = &f->charge;
    struct ledger_synced *s = &l->sync.account[t->id % LEDGER_SYNCED];
    unsigned at_once = f->row[0].a.at_once;

    if (s->account != t->id || s->at_ms + LEDGER_SYNC_MS < t->at_ms)
        return true;
    if (s->commit <= l->sync.synced)
        s->unsynced = 0; /* all of them are on disk */
    s->commit = l->sync.committed + 1;
    s->unsynced++;
    return at_once != 0 && s->unsynced > at_once;
}

static void
note_synced(struct ledger *l, const struct ledger_entry *e)
{
    const struct taken *t;
    struct ledger_synced *s;

    if (e->kind != ENTRY_BEGIN || !e->flight->charged)
        return;
    t = &e->flight->charge;
    s = &l->sync.account[t->id % LEDGER_SYNCED];
    if (s->account != t->id)
        *s = (struct ledger_synced){.account = t->id};
    s->at_ms = t->at_ms;
}

/* ---- the list; the mutex is held ---- */

void
ledger_sync_add(struct ledger *l, struct ledger_entry *batch, bool sync,
                bool marks)
{
    l->sync.committed++;
    l->sync.marked = l->sync.marked || marks;
    if (!sync)
        return;
    l->sync.wanted = true;
    *l->sync.last = batch;
    while (*l->sync.last != NULL)
        l->sync.last = &(*l->sync.last)->next;
    pthread_cond_signal(&l->sync.work);
}

struct ledger_entry *
ledger_sync_take(struct ledger *l)
{
    struct ledger_entry *all = l->sync.first;

    l->sync.first = NULL;
    l->sync.last = &l->sync.first;
    l->sync.wanted = false;
    return all;
}

bool
ledger_sync_again(struct ledger *l, bool saved)
{
    bool ok;

    pthread_mutex_lock(&l->mutex);
    l->sync.rc = SQLITE_OK;
    l->sync.wanted = false; /* until there is a book again */
    ok = l->sync.first == NULL || saved;
    pthread_mutex_unlock(&l->mutex);
    return ok;
}

void
ledger_sync_opened(struct ledger *l)
{
    l->sync.begun = l->sync.marked = false; /* another file's mark is its own */
    memset(l->sync.account, 0, sizeof l->sync.account);
    l->sync.wanted = l->sync.first != NULL;
    if (l->sync.wanted)
        pthread_cond_signal(&l->sync.work);
}

void
ledger_sync_wait(struct ledger *l)
{
    pthread_mutex_lock(&l->mutex);
    while (l->sync.busy || (l->sync.wanted && l->sync.rc == SQLITE_OK))
        pthread_cond_wait(&l->sync.rest, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

int
ledger_sync_failure(struct ledger *l, char *err, size_t err_size)
{
    int rc;

    pthread_mutex_lock(&l->mutex);
    rc = l->sync.rc;
    if (rc != SQLITE_OK)
        snprintf(err, err_size, "%s", l->sync.trouble);
    pthread_mutex_unlock(&l->mutex);
    return rc;
}

/* ---- the thread ---- */

static int
sync_book(const struct ledger_sql *s, char *err, size_t err_size)
{
    int rc = ledger_sql_fsync(s, err, err_size);

    if (rc != SQLITE_OK || !ledger_sql_moved(s, NULL))
        return rc;
    /* Written into files that lost their names meanwhile. */
    snprintf(err, err_size, "%s was moved, replaced or removed", s->path);
    return SQLITE_CANTOPEN;
}

static void
put_back(struct ledger *l, struct ledger_entry *first)
{
    struct ledger_entry **end = &first;

    while (*end != NULL)
        end = &(*end)->next;
    *end = l->sync.first;
    if (*end == NULL)
        l->sync.last = end == &first ? &l->sync.first : end;
    l->sync.first = first;
}

/* One fsync, for all that is there; with the mutex, which is let go. */
static void
sync_once(struct ledger *l)
{
    struct ledger_entry *batch = ledger_sync_take(l), *accepted = NULL, *e;
    const struct ledger_sql *book = l->own.book; /* kept while busy */
    uint64_t upto = l->sync.committed;
    bool marked = l->sync.marked;
    char err[LEDGER_TROUBLE_MAX];
    int rc;

    l->sync.busy = true;
    pthread_mutex_unlock(&l->mutex);
    rc = sync_book(book, err, sizeof err);
    pthread_mutex_lock(&l->mutex);
    if (rc == SQLITE_OK) {
        l->shared.stats.fsyncs++;
        l->sync.synced = upto;
        l->sync.begun = l->sync.begun || marked;
        for (e = batch; e != NULL; e = e->next)
            note_synced(l, e);
        accepted = ledger_writer_accept(l, &batch, true);
    } else {
        put_back(l, batch);
        l->sync.rc = rc;
        snprintf(l->sync.trouble, sizeof l->sync.trouble, "%s", err);
    }
    l->sync.busy = false;
    pthread_cond_signal(&l->sync.rest);
    pthread_cond_signal(&l->work); /* the writer may be waiting to stop */
    pthread_mutex_unlock(&l->mutex);
    ledger_writer_wake(l, accepted);
    pthread_mutex_lock(&l->mutex);
}

static void *
sync_main(void *cookie)
{
    struct ledger *l = cookie;

    pthread_mutex_lock(&l->mutex);
    for (;;) {
        if (l->sync.wanted && l->sync.rc == SQLITE_OK)
            sync_once(l);
        else if (l->sync.stop)
            break;
        else
            pthread_cond_wait(&l->sync.work, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

bool
ledger_sync_start(struct ledger *l)
{
    l->sync.last = &l->sync.first;
    pthread_cond_init(&l->sync.work, NULL);
    pthread_cond_init(&l->sync.rest, NULL);
    return pthread_create(&l->sync.thread, NULL, sync_main, l) == 0;
}

void
ledger_sync_stop(struct ledger *l)
{
    pthread_mutex_lock(&l->mutex);
    l->sync.stop = true;
    pthread_cond_signal(&l->sync.work);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->sync.thread, NULL);
    pthread_cond_destroy(&l->sync.work);
    pthread_cond_destroy(&l->sync.rest);
}
