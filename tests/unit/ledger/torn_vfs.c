/* tests/unit/ledger/torn_vfs.c - see torn_vfs.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/ledger/torn_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One write or truncation that no fsync has covered yet. */
struct change {
    struct change *next;
    bool truncates;
    uint64_t at; /* offset, or the new size */
    size_t len;
    uint8_t data[];
};

struct image { /* what is safe on the disk of one path */
    struct image *next;
    char path[512];
    uint8_t *data;
    size_t size, room;
    struct change *first, **last;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct image *images;
static atomic_int write_rc, sync_rc;
static atomic_uint sync_ms;
static atomic_uint_fast64_t wal_syncs;

struct torn_file {
    sqlite3_file base;
    struct image *image; /* NULL: not of interest */
    bool wal;
    sqlite3_file *real; /* lies behind this struct */
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs torn_vfs;

/* ---- images ---- */

static struct image *
image_of(const char *path)
{
    struct image *i = images;

    while (i != NULL && strcmp(i->path, path) != 0)
        i = i->next;
    if (i == NULL) {
        i = calloc(1, sizeof *i);
        if (i == NULL)
            abort();
        snprintf(i->path, sizeof i->path, "%s", path);
        i->last = &i->first;
        i->next = images;
        images = i;
    }
    return i;
}

static void
image_apply(uint8_t **data, size_t *size, size_t *room, const struct change *c)
{
    size_t end = (size_t)c->at + (c->truncates ? 0 : c->len);

    if (end > *room) {
        *room = end * 2;
        *data = realloc(*data, *room);
        if (*data == NULL)
            abort();
    }
    if (end > *size)
        memset(*data + *size, 0, end - *size);
    if (c->truncates || end > *size)
        *size = end;
    if (!c->truncates)
        memcpy(*data + c->at, c->data, c->len);
}

static void
image_change(struct image *i, bool truncates, uint64_t at, const void *data,
             size_t len)
{
    struct change *c = calloc(1, sizeof *c + len);

    if (c == NULL)
        abort();
    c->truncates = truncates;
    c->at = at;
    c->len = len;
    if (len > 0)
        memcpy(c->data, data, len);
    pthread_mutex_lock(&mutex);
    *i->last = c;
    i->last = &c->next;
    pthread_mutex_unlock(&mutex);
}

static void
drop_changes(struct image *i, bool apply)
{
    struct change *next;

    for (struct change *c = i->first; c != NULL; c = next) {
        next = c->next;
        if (apply)
            image_apply(&i->data, &i->size, &i->room, c);
        free(c);
    }
    i->first = NULL;
    i->last = &i->first;
}

static bool
image_write(const char *dir, const char *name, const struct image *i,
            unsigned *seed)
{
    size_t size = i->size, room = i->size;
    uint8_t *data = malloc(room + 1);
    char path[600];
    bool ok = data != NULL;
    FILE *f;

    if (ok && size > 0)
        memcpy(data, i->data, size);
    for (struct change *c = i->first; ok && c != NULL; c = c->next)
        if (*seed != 0 && rand_r(seed) % 2 == 0)
            image_apply(&data, &size, &room, c);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = ok ? fopen(path, "w") : NULL;
    ok = f != NULL && (size == 0 || fwrite(data, size, 1, f) == 1);
    if (f != NULL)
        ok = fclose(f) == 0 && ok;
    free(data);
    return ok;
}

bool
torn_vfs_power_cut(const char *from, const char *to, unsigned seed)
{
    static const char *const name[] = {"ledger.db", "ledger.db-wal"};
    bool ok = true;

    pthread_mutex_lock(&mutex);
    for (unsigned k = 0; k < 2; k++) {
        char path[512];

        snprintf(path, sizeof path, "%s/%s", from, name[k]);
        ok = image_write(to, name[k], image_of(path), &seed) && ok;
    }
    pthread_mutex_unlock(&mutex);
    return ok;
}

void
torn_vfs_forget(void)
{
    pthread_mutex_lock(&mutex);
    while (images != NULL) {
        struct image *next = images->next;

        drop_changes(images, false);
        free(images->data);
        free(images);
        images = next;
    }
    pthread_mutex_unlock(&mutex);
}

/* ---- a file ---- */

static sqlite3_file *
real_of(sqlite3_file *f)
{
    return ((struct torn_file *)f)->real;
}

static int
torn_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int
torn_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
}

static int
torn_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    struct torn_file *t = (struct torn_file *)f;
    int rc = atomic_load(&write_rc);

    if (rc != SQLITE_OK && t->image != NULL)
        return rc;
    if (t->image != NULL)
        image_change(t->image, false, (uint64_t)at, from, (size_t)n);
    return t->real->pMethods->xWrite(t->real, from, n, at);
}

static int
torn_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    struct torn_file *t = (struct torn_file *)f;

    if (t->image != NULL)
        image_change(t->image, true, (uint64_t)size, NULL, 0);
    return t->real->pMethods->xTruncate(t->real, size);
}

static int
torn_sync(sqlite3_file *f, int flags)
{
    struct torn_file *t = (struct torn_file *)f;
    int rc = atomic_load(&sync_rc);
    unsigned ms = atomic_load(&sync_ms);

    (void)flags;
    if (ms > 0)
        usleep(ms * 1000);
    if (t->wal)
        atomic_fetch_add(&wal_syncs, 1);
    if (t->image != NULL && rc != SQLITE_OK) {
        /* What a kernel does after a failed writeback: the pages are clean
         * now, and never reach the disk. */
        pthread_mutex_lock(&mutex);
        drop_changes(t->image, false);
        pthread_mutex_unlock(&mutex);
        return rc;
    }
    if (t->image != NULL) {
        pthread_mutex_lock(&mutex);
        drop_changes(t->image, true);
        pthread_mutex_unlock(&mutex);
    }
    return SQLITE_OK; /* the real fsync would only take time */
}

static int
torn_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), ret);
}

static int
torn_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int
torn_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int
torn_check_lock(sqlite3_file *f, int *ret)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}

static int
torn_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int
torn_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int
torn_features(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int
torn_shm_map(sqlite3_file *f, int page, int size, int extend,
             void volatile **ret)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, ret);
}

static int
torn_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), at, n, flags);
}

static void
torn_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int
torn_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = torn_close,
    .xRead = torn_read,
    .xWrite = torn_write,
    .xTruncate = torn_truncate,
    .xSync = torn_sync,
    .xFileSize = torn_size,
    .xLock = torn_lock,
    .xUnlock = torn_unlock,
    .xCheckReservedLock = torn_check_lock,
    .xFileControl = torn_control,
    .xSectorSize = torn_sector,
    .xDeviceCharacteristics = torn_features,
    .xShmMap = torn_shm_map,
    .xShmLock = torn_shm_lock,
    .xShmBarrier = torn_shm_barrier,
    .xShmUnmap = torn_shm_unmap,
};

static int
torn_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags,
          int *ret_flags)
{
    struct torn_file *t = (struct torn_file *)f;
    int rc;

    (void)v;
    memset(t, 0, sizeof *t);
    t->real = (sqlite3_file *)(t + 1);
    rc = real_vfs->xOpen(real_vfs, name, t->real, flags, ret_flags);
    if (rc != SQLITE_OK)
        return rc;
    t->base.pMethods = &methods;
    t->wal = (flags & SQLITE_OPEN_WAL) != 0;
    if (name != NULL &&
        (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0) {
        pthread_mutex_lock(&mutex);
        t->image = image_of(name);
        pthread_mutex_unlock(&mutex);
    }
    return SQLITE_OK;
}

void
torn_vfs_install(void)
{
    if (real_vfs != NULL)
        return;
    real_vfs = sqlite3_vfs_find(NULL);
    torn_vfs = *real_vfs;
    torn_vfs.zName = "torn";
    torn_vfs.szOsFile = (int)sizeof(struct torn_file) + real_vfs->szOsFile;
    torn_vfs.xOpen = torn_open;
    sqlite3_vfs_register(&torn_vfs, 1);
}

void
torn_vfs_fail_writes(int rc)
{
    atomic_store(&write_rc, rc);
}

void
torn_vfs_fail_syncs(int rc)
{
    atomic_store(&sync_rc, rc);
}

void
torn_vfs_slow_syncs(unsigned ms)
{
    atomic_store(&sync_ms, ms);
}

uint64_t
torn_vfs_wal_syncs(void)
{
    return atomic_load(&wal_syncs);
}
