/* milter/ledger/ledger_sql_open.c - the tables, and opening the file they are
 * in.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ledger/ledger_sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "milter/base/place.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

/* PRAGMA application_id, so that file(1) and we can tell a ledger from any
 * other database: "gmrt". */
#define APPLICATION_ID 0x676d7274

static const char schema_1[] =
    "CREATE TABLE meta("
    " key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE account_name("
    " account INTEGER PRIMARY KEY, identity TEXT NOT NULL) STRICT;"
    "CREATE INDEX account_name_identity ON account_name(identity);"
    "CREATE TABLE attempt("
    " row INTEGER PRIMARY KEY,"
    " at_ms INTEGER NOT NULL,"    /* wall clock, Unix time */
    " quota_ms INTEGER NOT NULL," /* quota time of the charge; 0 = none */
    " account INTEGER NOT NULL,"
    " ticket INTEGER NOT NULL,"
    " queue_id TEXT NOT NULL,"
    " sender TEXT NOT NULL,"
    " recipient TEXT NOT NULL,"
    " size INTEGER NOT NULL,"
    " message_id TEXT NOT NULL,"
    " digest BLOB NOT NULL,"
    " outcome TEXT NOT NULL,"
    " stage TEXT NOT NULL,"
    " code INTEGER NOT NULL,"
    " enhanced TEXT NOT NULL,"
    " reply TEXT NOT NULL,"
    " duration_ms INTEGER NOT NULL) STRICT;"
    "CREATE INDEX attempt_ticket ON attempt(ticket, recipient);"
    "CREATE INDEX attempt_queue ON attempt(queue_id);"
    "CREATE INDEX attempt_account ON attempt(account, at_ms);"
    "CREATE INDEX attempt_at ON attempt(at_ms);"
    "CREATE INDEX attempt_sending ON attempt(row)"
    " WHERE outcome = '" LEDGER_SENDING "';"
    "CREATE TABLE spent("
    " account INTEGER NOT NULL,"
    " dimension INTEGER NOT NULL," /* enum dimension */
    " window_ms INTEGER NOT NULL,"
    " bucket INTEGER NOT NULL," /* number, see policy/window.h */
    " units INTEGER NOT NULL,"
    " until_ms INTEGER NOT NULL," /* quota time; then it no longer counts */
    " PRIMARY KEY(account, dimension, window_ms, bucket))"
    " STRICT, WITHOUT ROWID;"
    "CREATE INDEX spent_until ON spent(until_ms);"
    "CREATE TABLE account_state("
    " account INTEGER PRIMARY KEY,"
    " state TEXT NOT NULL,"
    " until_ms INTEGER NOT NULL," /* quota time; 0 = none */
    " reason TEXT NOT NULL,"
    " changed_ms INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES('newest_quota_ms', 0), ('probe_ms', 0);"
    "PRAGMA application_id = " STRING(APPLICATION_ID) ";";

/* Observed limits, rests, diverts. */
static const char schema_2_accounts[] =
    "CREATE TABLE observed("
    " account INTEGER NOT NULL,"
    " dimension INTEGER NOT NULL," /* enum dimension */
    " window_ms INTEGER NOT NULL,"
    " units INTEGER NOT NULL," /* used when Gmail said that it was full */
    " at_ms INTEGER NOT NULL," /* quota time */
    " PRIMARY KEY(account, dimension, window_ms)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE divert("
    " account INTEGER PRIMARY KEY,"
    " other INTEGER NOT NULL,"
    " changed_ms INTEGER NOT NULL) STRICT;"
    "ALTER TABLE account_state ADD COLUMN rests INTEGER NOT NULL DEFAULT 0;"
    "UPDATE account_state SET rests = 1 WHERE state IN ('cooling', 'disabled');"
    "ALTER TABLE attempt ADD COLUMN diverted_from INTEGER NOT NULL DEFAULT 0;";

/* Whom an account has mailed when, as far as a limit of different recipients
 * counts it. */
static const char schema_2_mailed[] =
    "CREATE TABLE mailed("
    " account INTEGER NOT NULL,"
    " recipient INTEGER NOT NULL," /* recipient_hash, policy.h */
    " at_ms INTEGER NOT NULL,"     /* quota time */
    " external INTEGER NOT NULL,"
    " sends INTEGER NOT NULL,"    /* that stand at this time */
    " until_ms INTEGER NOT NULL," /* quota time; then it no longer counts */
    " PRIMARY KEY(account, recipient, at_ms)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX mailed_until ON mailed(until_ms);";

_Static_assert(LEDGER_SCHEMA == 2, "migrate() sets user_version");

/* What leads to each schema from the one before. */
static const struct {
    int schema;
    const char *sql;
} steps[] = {
    {1, schema_1},
    {2, schema_2_accounts},
    {2, schema_2_mailed},
};

/* ---- opening ---- */

static bool
file_of(const char *path, const char *suffix, struct ledger_file *ret)
{
    char name[LEDGER_PATH_MAX + 32];
    struct stat st;

    snprintf(name, sizeof name, "%s%s", path, suffix);
    if (stat(name, &st) != 0)
        return false;
    ret->device = st.st_dev;
    ret->inode = st.st_ino;
    return true;
}

static bool
file_moved(const char *path, const char *suffix, const struct ledger_file *f)
{
    struct ledger_file now;

    return !file_of(path, suffix, &now) || now.device != f->device ||
           now.inode != f->inode;
}

bool
ledger_sql_moved(const struct ledger_sql *s, bool *ret_db)
{
    bool db = file_moved(s->path, "", &s->file);

    if (ret_db != NULL)
        *ret_db = db;
    return db || file_moved(s->path, "-wal", &s->wal) ||
           file_moved(s->path, "-shm", &s->shm);
}

static int
frames_hook(void *cookie, sqlite3 *db, const char *name, int frames)
{
    struct ledger_sql *s = cookie;

    (void)db;
    (void)name;
    if (frames < s->wal_frames)
        s->wal_done = 0; /* it began again at its start */
    s->wal_frames = frames;
    return SQLITE_OK;
}

/* An open(2) of our own, because SQLite would make it 0644: 0640 and nothing
 * that the umask forbids.  SQLite gives -wal and -shm the same mode.  Only a
 * file that did not exist is ever opened here: closing a descriptor of a
 * database in use would drop SQLite's locks on it (POSIX). */
static int
make_file(struct ledger_sql *s)
{
    int fd =
        open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);

    if (fd < 0) {
        if (errno == EEXIST)
            return SQLITE_OK;
        snprintf(s->trouble, sizeof s->trouble, "%s: cannot make it: %s%s",
                 s->path, strerror(errno), ledger_sql_remedy(SQLITE_CANTOPEN));
        return SQLITE_CANTOPEN;
    }
    close(fd);
    return SQLITE_OK;
}

static int
pragma_number(struct ledger_sql *s, const char *pragma, int64_t *ret)
{
    sqlite3_stmt *st = ledger_sql_prepare(s, pragma);
    int rc;

    if (st == NULL)
        return sqlite3_extended_errcode(s->db);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        ledger_sql_fail(s, rc);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Is it a ledger, and one that this program understands?  *ret_version: 0 = a
 * database without anything in it. */
static int
check_schema(struct ledger_sql *s, int64_t *ret_version)
{
    int64_t id = 0, version = 0, things = 0;
    int rc;

    if ((rc = pragma_number(s, "PRAGMA application_id", &id)) != SQLITE_OK ||
        (rc = pragma_number(s, "PRAGMA user_version", &version)) != SQLITE_OK ||
        (rc = pragma_number(s, "SELECT count(*) FROM sqlite_schema",
                            &things)) != SQLITE_OK)
        return rc;
    *ret_version = version;
    if (id == 0 && version == 0 && things == 0)
        return SQLITE_OK;
    if (id != APPLICATION_ID) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: a database, but not a ledger of gmroute "
                 "(application_id %lld): move it away",
                 s->path, (long long)id);
        return SQLITE_NOTADB;
    }
    if (version < 1 || version > LEDGER_SCHEMA) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: written by %s gmroute (schema %lld; this program knows "
                 "%d): install that version, or move the file away",
                 s->path, version > LEDGER_SCHEMA ? "a newer" : "another",
                 (long long)version, LEDGER_SCHEMA);
        return SQLITE_SCHEMA;
    }
    return SQLITE_OK;
}

/* Inside a transaction: the book becomes one of this program. */
static int
migrate(struct ledger_sql *s, int64_t version)
{
    int rc = SQLITE_OK;

    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == SQLITE_OK; i++)
        if (steps[i].schema > version)
            rc = ledger_sql_exec(s, steps[i].sql);
    if (rc == SQLITE_OK && version < LEDGER_SCHEMA)
        rc = ledger_sql_exec(s, "PRAGMA user_version = 2");
    return rc;
}

static int
to_wal_mode(struct ledger_sql *s)
{
    sqlite3_stmt *st = ledger_sql_prepare(s, "PRAGMA journal_mode = WAL");
    bool wal = false;
    int rc;

    if (st == NULL)
        return sqlite3_extended_errcode(s->db);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        wal = strcmp(ledger_sql_text(st, 0), "wal") == 0;
    else
        ledger_sql_fail(s, rc);
    sqlite3_finalize(st);
    if (rc != SQLITE_ROW)
        return rc;
    if (!wal) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: this file system cannot hold a write-ahead log (it "
                 "needs shared mappings): use a local one",
                 s->path);
        return SQLITE_CANTOPEN;
    }
    return SQLITE_OK;
}

/* Everything a writer needs; what is there is checked before anything in it
 * is changed. */
static int
open_writer(struct ledger_sql *s)
{
    int64_t version = 0;
    int rc;

    if (sqlite3_db_readonly(s->db, "main") == 1) {
        snprintf(s->trouble, sizeof s->trouble, "%s: cannot be written%s",
                 s->path, ledger_sql_remedy(SQLITE_READONLY));
        return SQLITE_READONLY;
    }
    if ((rc = check_schema(s, &version)) != SQLITE_OK ||
        (rc = to_wal_mode(s)) != SQLITE_OK ||
        (rc = ledger_sql_exec(s, "PRAGMA journal_size_limit = 67108864;"
                                 "PRAGMA cache_size = -16000;"
                                 "PRAGMA temp_store = MEMORY;"
                                 "PRAGMA synchronous = FULL")) != SQLITE_OK)
        return rc;
    sqlite3_wal_hook(s->db, frames_hook, s); /* ends automatic checkpoints */

    /* Also proves that it can be written now. */
    if ((rc = ledger_sql_do(s, SQL_BEGIN)) != SQLITE_OK)
        return rc;
    rc = migrate(s, version);
    if (rc == SQLITE_OK)
        rc = ledger_sql_do(s, SQL_PROBE);
    if (rc == SQLITE_OK)
        rc = ledger_sql_do(s, SQL_COMMIT);
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* Why a reader could not open it: SQLite says no more than "unable to open
 * database file". */
static int
reader_trouble(struct ledger_sql *s, int rc)
{
    struct stat st;

    ledger_sql_fail(s, rc);
    if (stat(s->path, &st) != 0)
        snprintf(
            s->trouble, sizeof s->trouble, "%s: %s%s", s->path, strerror(errno),
            errno == ENOENT ? ": gmroute-deliver has not made it yet" : "");
    else if ((rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_PERM ||
             (rc & 0xff) == SQLITE_READONLY)
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: cannot open it: reading needs the permission to read "
                 "ledger.db, ledger.db-wal and ledger.db-shm and to search "
                 "their directory (be in the agent's group, or root)",
                 s->path);
    return rc;
}

static int
open_reader(struct ledger_sql *s)
{
    int64_t version = 0;
    int rc = check_schema(s, &version);

    if (rc == SQLITE_OK && version == 0) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: empty: gmroute-deliver has not made it yet", s->path);
        return SQLITE_EMPTY;
    }
    if (rc == SQLITE_OK && version < LEDGER_SCHEMA) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: written by an older gmroute (schema %lld; this program "
                 "knows %d): start this version's gmroute-deliver, which "
                 "brings it up to date",
                 s->path, (long long)version, LEDGER_SCHEMA);
        return SQLITE_SCHEMA;
    }
    switch (rc & 0xff) {
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return reader_trouble(s, rc);
    default:
        return rc;
    }
}

static int
open_db(struct ledger_sql *s, enum ledger_sql_access access)
{
    int persist = 1;
    int rc;

    if (access == LEDGER_SQL_WRITE && (rc = make_file(s)) != SQLITE_OK)
        return rc;
    rc = sqlite3_open_v2(s->path, &s->db,
                         SQLITE_OPEN_NOMUTEX | (access == LEDGER_SQL_WRITE
                                                    ? SQLITE_OPEN_READWRITE
                                                    : SQLITE_OPEN_READONLY),
                         NULL);
    if (rc != SQLITE_OK)
        return access == LEDGER_SQL_READ ? reader_trouble(s, rc)
                                         : ledger_sql_fail(s, rc);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, LEDGER_BUSY_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    return access == LEDGER_SQL_WRITE ? open_writer(s) : open_reader(s);
}

const char *
ledger_place(const char *directory, char room[LEDGER_PLACE_MAX])
{
    return place_of(directory, "ledger", room, LEDGER_PLACE_MAX, NULL)
               ? room
               : directory;
}

struct ledger_sql *
ledger_sql_open(const char *directory, enum ledger_sql_access access,
                int *ret_rc, char *err, size_t err_size)
{
    struct ledger_sql *s = calloc(1, sizeof *s);
    int rc = SQLITE_NOMEM;

    if (s == NULL) {
        snprintf(err, err_size, "ledger: out of memory");
        goto failed;
    }
    if (strlen(directory) > LEDGER_PATH_MAX) {
        snprintf(err, err_size,
                 "ledger: the directory's path is longer than "
                 "%d octets",
                 LEDGER_PATH_MAX);
        rc = SQLITE_CANTOPEN;
        goto failed;
    }
    snprintf(s->path, sizeof s->path, "%s/ledger.db", directory);
    rc = open_db(s, access);
    if (rc == SQLITE_OK && access == LEDGER_SQL_WRITE &&
        (!file_of(s->path, "", &s->file) ||
         !file_of(s->path, "-wal", &s->wal) ||
         !file_of(s->path, "-shm", &s->shm))) {
        snprintf(s->trouble, sizeof s->trouble,
                 "%s: it or its -wal or -shm was removed while it was opened",
                 s->path);
        rc = SQLITE_CANTOPEN;
    }
    if (rc == SQLITE_OK)
        return s;
    snprintf(err, err_size, "%s", s->trouble);

failed:
    ledger_sql_close(s);
    if (ret_rc != NULL)
        *ret_rc = rc;
    return NULL;
}

void
ledger_sql_close(struct ledger_sql *s)
{
    if (s == NULL)
        return;
    for (unsigned i = 0; i < SQL_STATEMENTS; i++)
        sqlite3_finalize(s->stmt[i]);
    sqlite3_close(s->db);
    free(s);
}
