/* milter/ledger/ledger.c - see ledger.h: make an entry, queue it, wait.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ledger/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "milter/ledger/ledger_private.h"

/* ---- opening and closing ---- */

/* One agent for each book: two would each believe in their own counts. */
static int
lock_directory(const char *directory, char *err, size_t err_size)
{
    char path[LEDGER_PATH_MAX + 16];
    int fd;

    if (strlen(directory) > LEDGER_PATH_MAX) {
        snprintf(err, err_size,
                 "ledger: the directory's path is longer than "
                 "%d octets",
                 LEDGER_PATH_MAX);
        return -1;
    }
    snprintf(path, sizeof path, "%s/ledger.lock", directory);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
        snprintf(err, err_size,
                 "%s: %s; the agent's user must be able to write the state "
                 "directory",
                 path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(err, err_size,
                 errno == EWOULDBLOCK
                     ? "%s: another gmroute-deliver has this ledger open"
                     : "%s: cannot be locked",
                 path);
        close(fd);
        return -1;
    }
    return fd;
}

/* The name of a new file is safe only when its directory is. */
static void
sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static void
ledger_free(struct ledger *l)
{
    if (l == NULL)
        return;
    ledger_sql_close(l->reader.book);
    ledger_sql_close(l->own.book);
    ledger_air_free(&l->shared.air);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
    pthread_mutex_destroy(&l->read_mutex);
    free(l->directory);
    free(l);
}

enum ledger_result
ledger_open(struct ledger **ret, const char *directory,
            const struct clock *clock, char *err, size_t err_size)
{
    struct ledger *l = calloc(1, sizeof *l);
    char place[LEDGER_PLACE_MAX];
    pthread_condattr_t attr;

    if (l == NULL) {
        snprintf(err, err_size, "ledger: out of memory");
        return LEDGER_EUNAVAILABLE;
    }
    l->lock_fd = -1;
    l->begin_ms = LEDGER_BEGIN_MS;
    l->clock = clock;
    l->shared.last = &l->shared.first;
    l->shared.ok = true;
    l->shared.next_row = 1;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_mutex_init(&l->read_mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->work, &attr);
    pthread_condattr_destroy(&attr);

    directory = ledger_place(directory, place);
    l->directory = strdup(directory);
    if (l->directory == NULL) {
        snprintf(err, err_size, "ledger: out of memory");
        goto failed;
    }
    l->lock_fd = lock_directory(directory, err, err_size);
    if (l->lock_fd < 0 || ledger_writer_open(l, err, err_size) != SQLITE_OK)
        goto failed;
    sync_directory(directory);
    l->shared.opened_row = l->shared.next_row - 1;
    if (!ledger_writer_start(l)) {
        snprintf(err, err_size, "ledger: cannot start a thread");
        goto failed;
    }
    *ret = l;
    return LEDGER_OK;

failed:
    ledger_free(l);
    return LEDGER_EUNAVAILABLE;
}

/* What was begun and has no end stays "sending", and is on disk with this. */
static void
say_end(struct ledger *l)
{
    struct ledger_entry *e = NULL;

    pthread_mutex_lock(&l->mutex);
    if (l->shared.booted)
        e = ledger_entry_end(l->shared.boot_id);
    if (e != NULL)
        ledger_writer_queue(l, e);
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
}

void
ledger_close(struct ledger *l)
{
    if (l == NULL)
        return;
    /* The reader first: the last one to close empties the WAL. */
    pthread_mutex_lock(&l->read_mutex);
    ledger_sql_close(l->reader.book);
    l->reader.book = NULL;
    pthread_mutex_unlock(&l->read_mutex);
    say_end(l);
    ledger_writer_stop(l);
    ledger_free(l);
}

/* ---- how it is ---- */

/* The object is const to callers; its lock is not. */
static struct ledger *
unconst(const struct ledger *l)
{
    return (struct ledger *)(uintptr_t)l;
}

bool
ledger_ok(const struct ledger *l)
{
    bool ok;

    pthread_mutex_lock(&unconst(l)->mutex);
    ok = l->shared.ok;
    pthread_mutex_unlock(&unconst(l)->mutex);
    return ok;
}

void
ledger_trouble(const struct ledger *l, char *ret, size_t size)
{
    pthread_mutex_lock(&unconst(l)->mutex);
    snprintf(ret, size, "%s", l->shared.ok ? "" : l->shared.trouble);
    pthread_mutex_unlock(&unconst(l)->mutex);
}

void
ledger_stats(const struct ledger *l, struct ledger_stats *ret)
{
    pthread_mutex_lock(&unconst(l)->mutex);
    *ret = l->shared.stats;
    pthread_mutex_unlock(&unconst(l)->mutex);
}

/* ---- writing ---- */

enum ledger_result
ledger_begin(struct ledger *l, const struct attempt *a, size_t n,
             const struct taken *charge, int64_t *rets)
{
    struct ledger_entry *e =
        ledger_entry_begin(a, n, charge, clock_wall_ms(l->clock));
    enum ledger_result result = LEDGER_EUNAVAILABLE;

    if (e == NULL)
        return LEDGER_EUNAVAILABLE;
    pthread_mutex_lock(&l->mutex);
    if (l->shared.ok && ledger_writer_queue(l, e)) {
        if (ledger_writer_wait(l, e, l->begin_ms)) {
            result = e->result;
        } else {
            e->abandoned = true; /* the writer will undo it */
            ledger_writer_trouble(l, "the disk does not answer");
        }
    }
    for (size_t i = 0; result == LEDGER_OK && i < n; i++)
        rets[i] = e->flight->row[i].row;
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
    return result;
}

enum ledger_result
ledger_finish(struct ledger *l, const struct attempt_result *r, size_t n,
              const struct taken *before, const struct taken *after,
              uint64_t wait_ms)
{
    struct ledger_entry *e = ledger_entry_finish(r, n, before, after);
    enum ledger_result result = LEDGER_EUNAVAILABLE;

    pthread_mutex_lock(&l->mutex);
    /* Known from here on, whatever becomes of the entry. */
    for (size_t i = 0; i < n; i++) {
        struct ledger_row *row = ledger_air_find(&l->shared.air, r[i].row);

        if (row != NULL && !row->finished) {
            row->finished = true;
            row->kind = r[i].kind;
        }
    }
    if (e == NULL)
        l->shared.stats.failures++;
    else if (e->n == 0)
        result = LEDGER_OK;
    else if (ledger_writer_queue(l, e) && ledger_writer_wait(l, e, wait_ms))
        result = e->result;
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
    return result;
}

/* Queued, and not waited for. */
static void
leave(struct ledger *l, struct ledger_entry *e)
{
    pthread_mutex_lock(&l->mutex);
    if (e == NULL)
        l->shared.stats.failures++;
    else
        ledger_writer_queue(l, e);
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
}

void
ledger_note(struct ledger *l, const struct attempt *a, size_t n,
            const struct attempt_result *r)
{
    leave(l, ledger_entry_note(a, n, r, clock_wall_ms(l->clock)));
}

/* Kept in any case, but not waited for while there is trouble. */
static enum ledger_result
keep(struct ledger *l, struct ledger_entry *e)
{
    enum ledger_result result = LEDGER_EUNAVAILABLE;

    if (e == NULL)
        return LEDGER_EUNAVAILABLE;
    pthread_mutex_lock(&l->mutex);
    if (ledger_writer_queue(l, e) && l->shared.ok &&
        ledger_writer_wait(l, e, l->begin_ms))
        result = e->result;
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
    return result;
}

enum ledger_result
ledger_set_state(struct ledger *l, const char *identity, uint64_t account,
                 enum account_state s, uint64_t until_ms, const char *reason,
                 uint32_t rests)
{
    return keep(l, ledger_entry_state(identity, account, s, until_ms, reason,
                                      rests, clock_wall_ms(l->clock)));
}

void
ledger_put_state(struct ledger *l, const char *identity, uint64_t account,
                 enum account_state s, uint64_t until_ms, const char *reason,
                 uint32_t rests)
{
    leave(l, ledger_entry_state(identity, account, s, until_ms, reason, rests,
                                clock_wall_ms(l->clock)));
}

void
ledger_rested(struct ledger *l, uint64_t account, uint64_t now_ms)
{
    leave(l, ledger_entry_rested(account, now_ms));
}

void
ledger_clock(struct ledger *l, uint64_t quota_ms)
{
    int64_t behind_ms = clock_wall_ms(l->clock) - (int64_t)quota_ms;
    struct ledger_entry *e = NULL;

    pthread_mutex_lock(&l->mutex);
    if (llabs(behind_ms - l->shared.behind_ms) > LEDGER_CLOCK_MS)
        e = ledger_entry_clock(behind_ms);
    if (e != NULL && ledger_writer_queue(l, e))
        l->shared.behind_ms = behind_ms;
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
}

enum ledger_result
ledger_observe(struct ledger *l, const char *identity,
               const struct observation *o, bool lifted)
{
    return keep(l, ledger_entry_observe(identity, o, lifted));
}

enum ledger_result
ledger_set_divert(struct ledger *l, const char *identity, uint64_t account,
                  const char *other_identity, uint64_t other)
{
    return keep(l, ledger_entry_divert(identity, account, other_identity, other,
                                       clock_wall_ms(l->clock)));
}

enum ledger_result
ledger_forget(struct ledger *l, uint64_t account)
{
    return keep(l, ledger_entry_forget(account));
}
