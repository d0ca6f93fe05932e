/* milter/ledger/ledger_sql.h - the book's tables, and the statements on them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to the room.  One connection, used by one thread at a time.  Calls
 * return SQLite's result codes (extended ones); after a failure `trouble`
 * holds a sentence for people, with the remedy where there is one.
 */
#ifndef LEDGER_LEDGER_SQL_H
#define LEDGER_LEDGER_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "milter/state/quota.h"
#include "policy/outcome.h"

/* PRAGMA user_version: a change of the tables is a new number, and a step in
 * ledger_sql_open.c that leads from the old one to it. */
enum { LEDGER_SCHEMA = 2 };

enum {
    LEDGER_PATH_MAX = 255,     /* octets of the directory's path */
    LEDGER_TROUBLE_MAX = 1024, /* octets, NUL included */
    LEDGER_BUSY_MS = 1000, /* how long another program's lock is waited for */
};

enum ledger_sql_access { LEDGER_SQL_WRITE, LEDGER_SQL_READ };

enum ledger_sql_statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_PROBE,
    SQL_NEWEST_SET,
    SQL_NEWEST_GET,
    SQL_BEHIND_SET,
    SQL_BEHIND_GET,
    SQL_LOSS_SET,
    SQL_MARK,
    SQL_LAST_ROW,
    SQL_NAME,
    SQL_ATTEMPT,
    SQL_FINISH,
    SQL_CHARGE,
    SQL_GIVE_BACK,
    SQL_MAIL,
    SQL_MAIL_GIVE_BACK,
    SQL_MAIL_FORGET,
    SQL_STATE_SET,
    SQL_STATE_CLEAR,
    SQL_RESTED,
    SQL_OBSERVED_SET,
    SQL_OBSERVED_CLEAR,
    SQL_DIVERT_SET,
    SQL_DIVERT_CLEAR,
    SQL_FORGET_SPENT,
    SQL_FORGET_MAILED,
    SQL_FORGET_OBSERVED,
    SQL_FORGET_RESTS,
    SQL_FORGET_COOLING,
    SQL_RECOVER,
    SQL_SEEN,
    SQL_PRUNE_ATTEMPTS,
    SQL_PRUNE_SPENT,
    SQL_PRUNE_MAILED,
    SQL_PRUNE_OBSERVED,
    SQL_STATEMENTS
};

/* Which file this is, whatever its name. */
struct ledger_file {
    dev_t device;
    ino_t inode;
};

enum { LEDGER_SQL_NAMED = 1024 };

struct ledger_sql {
    sqlite3 *db;
    sqlite3_stmt *stmt[SQL_STATEMENTS]; /* prepared at first use */
    int wal_frames;                     /* in the WAL after the last commit */
    int wal_done; /* of them, already in the database too */
    struct ledger_file file, wal, shm; /* as opened */
    sqlite3_file *wal_file;            /* SQLite's; ledger_sql_wal() */
    /* The charges of flights up to this row may be gone: an account was reset,
     * or they began in another file. */
    int64_t forgotten_row;
    /* Accounts whose names are in the table; emptied by a rollback. */
    uint64_t named[LEDGER_SQL_NAMED];
    char path[LEDGER_PATH_MAX + 16];
    char trouble[LEDGER_TROUBLE_MAX];
};

/* The directory that the book is in: `directory`/ledger where that is one (see
 * base/place.h), else `directory` itself.  Of a path that is too long, that
 * path: who opens it says so. */
enum { LEDGER_PLACE_MAX = LEDGER_PATH_MAX + 16 };
const char *ledger_place(const char *directory, char room[LEDGER_PLACE_MAX]);

/* Opens `directory`/ledger.db.  LEDGER_SQL_WRITE makes it when it is absent or
 * empty.  NULL with a sentence in err; *ret_rc (may be NULL) says the code. */
struct ledger_sql *ledger_sql_open(const char *directory,
                                   enum ledger_sql_access access, int *ret_rc,
                                   char *err, size_t err_size);
void ledger_sql_close(struct ledger_sql *s); /* takes NULL */

/* Has one of the three files been removed or replaced since?  *ret_db (may
 * be NULL): the database itself. */
bool ledger_sql_moved(const struct ledger_sql *s, bool *ret_db);

/* The statement, prepared and reset; NULL on failure. */
sqlite3_stmt *ledger_sql_get(struct ledger_sql *s, enum ledger_sql_statement w);
/* Steps a statement that returns no rows, and resets it. */
int ledger_sql_run(struct ledger_sql *s, sqlite3_stmt *st);
/* Both at once, for statements without parameters. */
int ledger_sql_do(struct ledger_sql *s, enum ledger_sql_statement w);
/* First column of the first row; 0 when there is none or it is NULL. */
int ledger_sql_number(struct ledger_sql *s, enum ledger_sql_statement w,
                      int64_t *ret);
/* Prepares any other text; NULL on failure. */
sqlite3_stmt *ledger_sql_prepare(struct ledger_sql *s, const char *sql);

/* Runs any text without parameters. */
int ledger_sql_exec(struct ledger_sql *s, const char *sql);

/* What to do about a failure, to be put behind its text; "" = nothing. */
const char *ledger_sql_remedy(int rc);
/* Notes a failure for people in s->trouble, and returns rc. */
int ledger_sql_fail(struct ledger_sql *s, int rc);

/* Learns which file the WAL is: once, after the first commit. */
int ledger_sql_wal(struct ledger_sql *s);
/* Brings all that is committed to the disk: what PRAGMA synchronous = FULL
 * does at the end of each commit, for as many as there were.  Any thread, at
 * any time while s is open; failures are told in err alone. */
int ledger_sql_fsync(const struct ledger_sql *s, char *err, size_t err_size);

/* Is it time to move the WAL's content into the database? */
bool ledger_sql_checkpoint_due(const struct ledger_sql *s);
/* Moves the WAL's content into the database.  `whole`: until nothing is left
 * in it (fsyncs both), or SQLITE_BUSY. */
int ledger_sql_checkpoint(struct ledger_sql *s, bool whole);

/* 64-bit ids are stored as signed integers, bit for bit. */
int ledger_sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v);
uint64_t ledger_sql_u64(sqlite3_stmt *st, int column);
/* NULL is bound as "" and read as "". */
int ledger_sql_bind_text(sqlite3_stmt *st, int at, const char *text);
const char *ledger_sql_text(sqlite3_stmt *st, int column);

/* The words stored for what the enums say; a word, once stored, stays.  They
 * are those of outcome_kind_name(), smtp_stage_name() and
 * account_state_name(), written down here once more because a new word there
 * would be a new schema here. */
#define LEDGER_SENDING  "sending"
#define LEDGER_IN_DOUBT "in_doubt"
const char *ledger_sql_outcome(enum outcome_kind k);
bool ledger_sql_outcome_parse(const char *word, enum outcome_kind *ret);
const char *ledger_sql_stage(enum smtp_stage s);
const char *ledger_sql_state(enum account_state s);
bool ledger_sql_state_parse(const char *word, enum account_state *ret);

/* First quota time at which a bucket no longer counts: window.h's rule. */
uint64_t ledger_sql_until_ms(uint64_t window_ms, uint64_t bucket);

#endif
