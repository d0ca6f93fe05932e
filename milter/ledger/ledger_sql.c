/* milter/ledger/ledger_sql.c - see ledger_sql.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ledger/ledger_sql.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "policy/window.h"

/* OBSERVED_KEEP_MS (quota.h) as a text. */
#define LEDGER_OBSERVED_KEEP_MS "2592000000"

_Static_assert(OBSERVED_KEEP_MS == 2592000000, "as above");

enum { WAL_FRAMES = 1000 /* pages; about 4 MB between checkpoints */ };

static const char *const sql[SQL_STATEMENTS] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_PROBE] = "UPDATE meta SET value = value + 1 WHERE key = 'probe_ms'",
    [SQL_NEWEST_SET] = "UPDATE meta SET value = max(value, ?1)"
                       " WHERE key = 'newest_quota_ms'",
    [SQL_NEWEST_GET] = "SELECT value FROM meta WHERE key = 'newest_quota_ms'",
    [SQL_BEHIND_SET] = "INSERT INTO meta VALUES('behind_ms', ?1)"
                       " ON CONFLICT(key) DO UPDATE SET value = ?1",
    [SQL_BEHIND_GET] = "SELECT value FROM meta WHERE key = 'behind_ms'",
    [SQL_LOSS_SET] = "INSERT INTO meta VALUES('loss_at_ms', ?1),"
                     " ('loss_accounts', ?2), ('loss_messages', ?3),"
                     " ('loss_recipients', ?4), ('loss_octets', ?5)"
                     " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [SQL_MARK] = "INSERT INTO meta VALUES('boot_high', ?1), ('boot_low', ?2),"
                 " ('begun', ?3)"
                 " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [SQL_LAST_ROW] = "SELECT max(row) FROM attempt",
    [SQL_NAME] = "INSERT INTO account_name VALUES(?1, ?2)"
                 " ON CONFLICT(account) DO UPDATE SET identity = ?2"
                 " WHERE identity <> ?2",
    /* OR IGNORE: an entry that is written again after a commit of unknown
     * end has its row number already. */
    [SQL_ATTEMPT] = "INSERT OR IGNORE INTO attempt(row, at_ms, quota_ms,"
                    " account, ticket, queue_id, sender, recipient, size,"
                    " message_id, digest, outcome, stage, code, enhanced,"
                    " reply, duration_ms, diverted_from)"
                    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
                    " ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    [SQL_FINISH] = "UPDATE attempt SET outcome = ?2, stage = ?3, code = ?4,"
                   " enhanced = ?5, reply = ?6, duration_ms = ?7"
                   " WHERE row = ?1 AND outcome = '" LEDGER_SENDING "'",
    [SQL_CHARGE] = "INSERT INTO spent VALUES(?1, ?2, ?3, ?4, ?5, ?6)"
                   " ON CONFLICT(account, dimension, window_ms, bucket)"
                   " DO UPDATE SET units = units + ?5",
    [SQL_GIVE_BACK] = "UPDATE spent SET units = max(0, units - ?5)"
                      " WHERE account = ?1 AND dimension = ?2"
                      " AND window_ms = ?3 AND bucket = ?4",
    [SQL_MAIL] = "INSERT INTO mailed VALUES(?1, ?2, ?3, ?4, 1, ?5)"
                 " ON CONFLICT(account, recipient, at_ms)"
                 " DO UPDATE SET sends = sends + 1",
    [SQL_MAIL_GIVE_BACK] = "UPDATE mailed SET sends = max(0, sends - 1)"
                           " WHERE account = ?1 AND recipient = ?2"
                           " AND at_ms = ?3",
    /* A later send that has happened stands for all before it. */
    [SQL_MAIL_FORGET] = "DELETE FROM mailed WHERE account = ?1"
                        " AND recipient = ?2 AND at_ms < ?3",
    /* As in memory: nothing but SQL_STATE_CLEAR ends a pause. */
    [SQL_STATE_SET] = "INSERT INTO account_state(account, state, until_ms,"
                      " reason, changed_ms, rests)"
                      " VALUES(?1, ?2, ?3, ?4, ?5, ?6)"
                      " ON CONFLICT(account) DO UPDATE SET"
                      " state = excluded.state, until_ms = excluded.until_ms,"
                      " reason = excluded.reason,"
                      " changed_ms = excluded.changed_ms,"
                      " rests = excluded.rests"
                      " WHERE state <> 'paused' OR excluded.state = 'paused'",
    [SQL_STATE_CLEAR] = "DELETE FROM account_state WHERE account = ?1",
    /* Not one that has begun since. */
    [SQL_RESTED] = "DELETE FROM account_state WHERE account = ?1"
                   " AND state IN ('cooling', 'disabled') AND until_ms <= ?2",
    [SQL_OBSERVED_SET] = "INSERT INTO observed VALUES(?1, ?2, ?3, ?4, ?5)"
                         " ON CONFLICT(account, dimension, window_ms)"
                         " DO UPDATE SET units = ?4, at_ms = ?5",
    [SQL_OBSERVED_CLEAR] = "DELETE FROM observed WHERE account = ?1"
                           " AND dimension = ?2 AND window_ms = ?3",
    [SQL_DIVERT_SET] = "INSERT INTO divert VALUES(?1, ?2, ?3)"
                       " ON CONFLICT(account) DO UPDATE SET other = ?2,"
                       " changed_ms = ?3",
    [SQL_DIVERT_CLEAR] = "DELETE FROM divert WHERE account = ?1",
    [SQL_FORGET_SPENT] = "DELETE FROM spent WHERE account = ?1",
    [SQL_FORGET_MAILED] = "DELETE FROM mailed WHERE account = ?1",
    [SQL_FORGET_OBSERVED] = "DELETE FROM observed WHERE account = ?1",
    [SQL_FORGET_RESTS] = "UPDATE account_state SET rests = 0"
                         " WHERE account = ?1",
    [SQL_FORGET_COOLING] = "DELETE FROM account_state WHERE account = ?1"
                           " AND state = 'cooling'",
    [SQL_RECOVER] = "UPDATE attempt SET outcome = '" LEDGER_IN_DOUBT "',"
                    " reply = 'the agent stopped during the delivery'"
                    " WHERE outcome = '" LEDGER_SENDING "' AND row <= ?1",
    [SQL_SEEN] = "SELECT row, outcome, digest FROM attempt"
                 " WHERE ticket = ?1 AND recipient = ?2",
    [SQL_PRUNE_ATTEMPTS] = "DELETE FROM attempt WHERE row IN (SELECT row"
                           " FROM attempt WHERE at_ms < ?1"
                           " ORDER BY at_ms LIMIT ?2)",
    [SQL_PRUNE_SPENT] =
        "DELETE FROM spent WHERE (account, dimension, window_ms, bucket) IN"
        " (SELECT account, dimension, window_ms, bucket FROM spent"
        " WHERE until_ms <= ?1 ORDER BY until_ms LIMIT ?2)",
    [SQL_PRUNE_MAILED] =
        "DELETE FROM mailed WHERE (account, recipient, at_ms) IN"
        " (SELECT account, recipient, at_ms FROM mailed"
        " WHERE until_ms <= ?1 ORDER BY until_ms LIMIT ?2)",
    /* Neither holds nor is shown any more. */
    [SQL_PRUNE_OBSERVED] =
        "DELETE FROM observed WHERE (account, dimension, window_ms) IN"
        " (SELECT account, dimension, window_ms FROM observed"
        " WHERE at_ms + max(window_ms, " LEDGER_OBSERVED_KEEP_MS
        ") <= ?1 LIMIT ?2)",
};

/* ---- words ---- */

static const char *const outcome_word[OUTCOME_KINDS] = {
    [OUTCOME_SENT] = "sent",           [OUTCOME_REFUSED] = "refused",
    [OUTCOME_DEFERRED] = "deferred",   [OUTCOME_IN_DOUBT] = LEDGER_IN_DOUBT,
    [OUTCOME_RECONNECT] = "reconnect", [OUTCOME_SPLIT] = "split",
};

static const char *const stage_word[STAGE_COUNT] = {
    [STAGE_CONNECT] = "connect",   [STAGE_EHLO] = "ehlo",
    [STAGE_STARTTLS] = "starttls", [STAGE_AUTH] = "auth",
    [STAGE_MAIL] = "mail",         [STAGE_RCPT] = "rcpt",
    [STAGE_DATA] = "data",         [STAGE_CONTENT] = "content",
    [STAGE_RSET] = "rset",
};

static const char *const state_word[ACCOUNT_STATES] = {
    [ACCOUNT_OK] = "ok",
    [ACCOUNT_COOLING] = "cooling",
    [ACCOUNT_NEEDS_LOGIN] = "needs_login",
    [ACCOUNT_PAUSED] = "paused",
    [ACCOUNT_DISABLED] = "disabled",
};

/* Both enums are closed: out of range is our own mistake, kept readable. */
const char *
ledger_sql_outcome(enum outcome_kind k)
{
    return (unsigned)k < OUTCOME_KINDS ? outcome_word[k] : "unknown";
}

const char *
ledger_sql_stage(enum smtp_stage s)
{
    return (unsigned)s < STAGE_COUNT ? stage_word[s] : "unknown";
}

const char *
ledger_sql_state(enum account_state s)
{
    return (unsigned)s < ACCOUNT_STATES ? state_word[s] : "unknown";
}

bool
ledger_sql_outcome_parse(const char *word, enum outcome_kind *ret)
{
    for (unsigned k = 0; k < OUTCOME_KINDS; k++)
        if (strcmp(word, outcome_word[k]) == 0) {
            *ret = (enum outcome_kind)k;
            return true;
        }
    return false;
}

bool
ledger_sql_state_parse(const char *word, enum account_state *ret)
{
    for (unsigned k = 0; k < ACCOUNT_STATES; k++)
        if (strcmp(word, state_word[k]) == 0) {
            *ret = (enum account_state)k;
            return true;
        }
    return false;
}

uint64_t
ledger_sql_until_ms(uint64_t window_ms, uint64_t bucket)
{
    uint64_t parts;

    /* The first t of bucket + WINDOW_BUCKETS, rounded up; garbage counts for
     * ever rather than never. */
    if (bucket > (uint64_t)INT64_MAX - WINDOW_BUCKETS ||
        __builtin_mul_overflow(bucket + WINDOW_BUCKETS, window_ms, &parts) ||
        parts > (uint64_t)INT64_MAX - WINDOW_PARTS)
        return INT64_MAX;
    return (parts + WINDOW_PARTS - 1) / WINDOW_PARTS;
}

/* ---- troubles, for people ---- */

const char *
ledger_sql_remedy(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "; the file is damaged: stop gmroute-deliver, keep a copy of "
               "ledger.db and ledger.db-wal, and put back a backup, or save "
               "what can be saved with `sqlite3 ledger.db .recover | sqlite3 "
               "new.db`; without a ledger the counts of what was spent start "
               "from nothing";
    case SQLITE_FULL:
        return "; mail waits in the MTA's queue until there is room again";
    case SQLITE_BUSY:
        return "; another program holds it locked (an open transaction in "
               "the sqlite3 shell, a backup tool)";
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return "; the agent's user must be able to write the state directory "
               "and ledger.db, ledger.db-wal, ledger.db-shm in it";
    default:
        return "";
    }
}

int
ledger_sql_fail(struct ledger_sql *s, int rc)
{
    int os = s->db != NULL ? sqlite3_system_errno(s->db) : 0;
    bool about_os = (rc & 0xff) == SQLITE_IOERR ||
                    (rc & 0xff) == SQLITE_CANTOPEN ||
                    (rc & 0xff) == SQLITE_FULL;

    snprintf(s->trouble, sizeof s->trouble, "%s: %s%s%s%s%s", s->path,
             s->db != NULL && sqlite3_extended_errcode(s->db) == rc
                 ? sqlite3_errmsg(s->db)
                 : sqlite3_errstr(rc),
             about_os && os != 0 ? " (" : "",
             about_os && os != 0 ? strerror(os) : "",
             about_os && os != 0 ? ")" : "", ledger_sql_remedy(rc));
    return rc;
}

/* ---- statements ---- */

sqlite3_stmt *
ledger_sql_prepare(struct ledger_sql *s, const char *text)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, text, -1, &st, NULL);

    if (rc != SQLITE_OK) {
        ledger_sql_fail(s, rc);
        return NULL;
    }
    return st;
}

sqlite3_stmt *
ledger_sql_get(struct ledger_sql *s, enum ledger_sql_statement w)
{
    if (s->stmt[w] == NULL)
        s->stmt[w] = ledger_sql_prepare(s, sql[w]);
    return s->stmt[w];
}

int
ledger_sql_run(struct ledger_sql *s, sqlite3_stmt *st)
{
    int rc;

    if (st == NULL) {
        rc = sqlite3_extended_errcode(s->db);
        return rc != SQLITE_OK ? rc : SQLITE_ERROR;
    }
    do
        rc = sqlite3_step(st);
    while (rc == SQLITE_ROW); /* a PRAGMA may answer */
    if (rc != SQLITE_DONE)
        ledger_sql_fail(s, rc);
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int
ledger_sql_do(struct ledger_sql *s, enum ledger_sql_statement w)
{
    return ledger_sql_run(s, ledger_sql_get(s, w));
}

int
ledger_sql_number(struct ledger_sql *s, enum ledger_sql_statement w,
                  int64_t *ret)
{
    sqlite3_stmt *st = ledger_sql_get(s, w);
    int64_t v = 0;
    int rc;

    if (st == NULL)
        return sqlite3_extended_errcode(s->db);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        ledger_sql_fail(s, rc);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return rc;
    *ret = v;
    return SQLITE_OK;
}

int
ledger_sql_exec(struct ledger_sql *s, const char *text)
{
    int rc = sqlite3_exec(s->db, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? rc : ledger_sql_fail(s, rc);
}

int
ledger_sql_wal(struct ledger_sql *s)
{
    int rc = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER,
                                  &s->wal_file);

    if (rc == SQLITE_OK &&
        (s->wal_file == NULL || s->wal_file->pMethods == NULL))
        rc = SQLITE_CANTOPEN;
    return rc == SQLITE_OK ? rc : ledger_sql_fail(s, rc);
}

int
ledger_sql_fsync(const struct ledger_sql *s, char *err, size_t err_size)
{
    int rc;

    errno = 0;
    rc = s->wal_file->pMethods->xSync(s->wal_file, SQLITE_SYNC_NORMAL);
    if (rc != SQLITE_OK)
        snprintf(err, err_size, "%s-wal: %s (%s)%s", s->path,
                 sqlite3_errstr(rc), strerror(errno), ledger_sql_remedy(rc));
    return rc;
}

int
ledger_sql_checkpoint(struct ledger_sql *s, bool whole)
{
    int left = 0, done = 0;
    int rc = sqlite3_wal_checkpoint_v2(
        s->db, "main",
        whole ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &left,
        &done);

    if (rc != SQLITE_OK)
        return ledger_sql_fail(s, rc);
    s->wal_frames = left;
    s->wal_done = done;
    return SQLITE_OK;
}

bool
ledger_sql_checkpoint_due(const struct ledger_sql *s)
{
    return s->wal_frames - s->wal_done >= WAL_FRAMES;
}

int
ledger_sql_bind_u64(sqlite3_stmt *st, int at, uint64_t v)
{
    int64_t same;

    memcpy(&same, &v, sizeof same);
    return sqlite3_bind_int64(st, at, same);
}

uint64_t
ledger_sql_u64(sqlite3_stmt *st, int column)
{
    int64_t v = sqlite3_column_int64(st, column);
    uint64_t same;

    memcpy(&same, &v, sizeof same);
    return same;
}

int
ledger_sql_bind_text(sqlite3_stmt *st, int at, const char *text)
{
    return sqlite3_bind_text(st, at, text != NULL ? text : "", -1,
                             SQLITE_STATIC);
}

const char *
ledger_sql_text(sqlite3_stmt *st, int column)
{
    const char *t = (const char *)sqlite3_column_text(st, column);

    return t != NULL ? t : "";
}
