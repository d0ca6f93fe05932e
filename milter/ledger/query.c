/* milter/ledger/query.c - see query.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Two passes: first the row numbers that match, newest first, then the rows,
 * oldest first, in portions.  Every statement ends before the caller sees a
 * row: a pager that is left open overnight holds no transaction open, which
 * would keep the agent's WAL growing.
 */
#include "milter/ledger/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ledger/ledger_sql.h"

enum {
    LIMIT_DEFAULT = 100,
    PORTION = 64,      /* rows read at once */
    SCAN_ROWS = 50000, /* rows looked through in one transaction */
    TEXTS = 10,        /* text columns of a row */
};

struct query {
    struct ledger_sql *book;
};

bool
query_open(struct query **ret, const char *directory, char *err,
           size_t err_size)
{
    struct query *q = calloc(1, sizeof *q);
    char place[LEDGER_PLACE_MAX];

    if (q == NULL) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    q->book = ledger_sql_open(ledger_place(directory, place), LEDGER_SQL_READ,
                              NULL, err, err_size);
    if (q->book == NULL) {
        free(q);
        return false;
    }
    *ret = q;
    return true;
}

void
query_close(struct query *q)
{
    if (q == NULL)
        return;
    ledger_sql_close(q->book);
    free(q);
}

/* ---- first pass: which rows ---- */

struct rows {
    int64_t *row; /* newest first */
    size_t n, room;
};

/* An indexed column is asked for: straight to its rows. */
static bool
is_narrow(const struct query_filter *f)
{
    return (f->queue_id != NULL && f->queue_id[0] != '\0') ||
           (f->identity != NULL && f->identity[0] != '\0') || f->ticket != 0;
}

static void
add_text(char *sql, size_t size, const char *what, const char *value)
{
    if (value != NULL && value[0] != '\0')
        strncat(sql, what, size - strlen(sql) - 1);
}

static sqlite3_stmt *
prepare_rows(struct query *q, const struct query_filter *f)
{
    /* "+row" keeps SQLite from walking along the row numbers. */
    const char *row = is_narrow(f) ? "+row" : "row";
    char sql[1024];
    sqlite3_stmt *st;

    snprintf(sql, sizeof sql,
             "SELECT row FROM attempt WHERE %s <= ?1 AND %s > ?2", row, row);

    add_text(sql, sizeof sql, " AND queue_id = ?3", f->queue_id);
    add_text(sql, sizeof sql, " AND recipient = ?4 COLLATE NOCASE",
             f->recipient);
    add_text(sql, sizeof sql, " AND sender = ?5 COLLATE NOCASE", f->sender);
    add_text(sql, sizeof sql, " AND message_id = ?6", f->message_id);
    add_text(sql, sizeof sql, " AND outcome = ?7", f->outcome);
    add_text(sql, sizeof sql,
             " AND account IN (SELECT account FROM account_name"
             " WHERE identity = lower(?8))",
             f->identity);
    if (f->ticket != 0)
        add_text(sql, sizeof sql, " AND ticket = ?9", "x");
    if (f->since_ms != 0)
        add_text(sql, sizeof sql, " AND at_ms >= ?10", "x");
    add_text(sql, sizeof sql, " ORDER BY ", "x");
    add_text(sql, sizeof sql, row, "x");
    add_text(sql, sizeof sql, " DESC LIMIT ?11", "x");

    st = ledger_sql_prepare(q->book, sql);
    if (st == NULL)
        return NULL;
    ledger_sql_bind_text(st, 3, f->queue_id);
    ledger_sql_bind_text(st, 4, f->recipient);
    ledger_sql_bind_text(st, 5, f->sender);
    ledger_sql_bind_text(st, 6, f->message_id);
    ledger_sql_bind_text(st, 7, f->outcome);
    ledger_sql_bind_text(st, 8, f->identity);
    ledger_sql_bind_u64(st, 9, f->ticket);
    sqlite3_bind_int64(st, 10, f->since_ms);
    return st;
}

static bool
rows_add(struct rows *r, int64_t row)
{
    if (r->n == r->room) {
        size_t room = r->room == 0 ? 256 : r->room * 2;
        int64_t *more = realloc(r->row, room * sizeof *more);

        if (more == NULL)
            return false;
        r->row = more;
        r->room = room;
    }
    r->row[r->n++] = row;
    return true;
}

/* The row before the first one of that time or later: where to stop. */
static bool
row_before(struct query *q, int64_t since_ms, int64_t *ret)
{
    sqlite3_stmt *st = ledger_sql_prepare(
        q->book, "SELECT coalesce(min(row) - 1, (SELECT max(row) FROM attempt))"
                 " FROM attempt INDEXED BY attempt_at WHERE at_ms >= ?1");
    int rc;

    if (st == NULL)
        return false;
    sqlite3_bind_int64(st, 1, since_ms);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        ledger_sql_fail(q->book, rc);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW;
}

static bool
find_rows(struct query *q, const struct query_filter *f, struct rows *ret,
          char *err, size_t err_size)
{
    size_t limit = f->limit != 0 ? f->limit : LIMIT_DEFAULT;
    sqlite3_stmt *st = prepare_rows(q, f);
    int64_t upto = 0, end = 0;
    int rc = SQLITE_DONE;

    if (st == NULL || (f->since_ms != 0 && !row_before(q, f->since_ms, &end)) ||
        ledger_sql_number(q->book, SQL_LAST_ROW, &upto) != SQLITE_OK)
        goto failed;
    while (upto > end && ret->n < limit) {
        int64_t after =
            !is_narrow(f) && upto - end > SCAN_ROWS ? upto - SCAN_ROWS : end;

        sqlite3_bind_int64(st, 1, upto);
        sqlite3_bind_int64(st, 2, after);
        sqlite3_bind_int64(st, 11, (int64_t)(limit - ret->n));
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            if (!rows_add(ret, sqlite3_column_int64(st, 0))) {
                sqlite3_finalize(st);
                snprintf(err, err_size, "out of memory");
                return false;
            }
        if (rc != SQLITE_DONE) {
            ledger_sql_fail(q->book, rc);
            goto failed;
        }
        sqlite3_reset(st);
        upto = after;
    }
    sqlite3_finalize(st);
    return true;

failed:
    sqlite3_finalize(st);
    snprintf(err, err_size, "%s", q->book->trouble);
    return false;
}

/* ---- second pass: the rows ---- */

static const char columns[] =
    "SELECT a.at_ms, a.ticket, a.account, a.size, a.code, a.duration_ms,"
    " a.queue_id, n.identity, a.sender, a.recipient, a.message_id,"
    " a.outcome, a.stage, a.enhanced, a.reply, d.identity"
    " FROM attempt a LEFT JOIN account_name n USING(account)"
    " LEFT JOIN account_name d ON d.account = a.diverted_from"
    " WHERE a.row = ?1";

/* Octets of the character at t, by its lead octet (RFC 3629 4); 0 = none that
 * may be shown. */
static size_t
character(const unsigned char *t)
{
    size_t len = t[0] < 0x80                   ? 1
                 : t[0] >= 0xc2 && t[0] < 0xe0 ? 2
                 : t[0] >= 0xe0 && t[0] < 0xf0 ? 3
                 : t[0] >= 0xf0 && t[0] < 0xf5 ? 4
                                               : 0;

    if (len == 1)
        return t[0] >= 0x20 && t[0] != 0x7f;
    for (size_t i = 1; i < len; i++)
        if ((t[i] & 0xc0) != 0x80)
            return 0;
    if ((t[0] == 0xc2 && t[1] < 0xa0) ||  /* C1 controls */
        (t[0] == 0xe0 && t[1] < 0xa0) ||  /* overlong */
        (t[0] == 0xed && t[1] >= 0xa0) || /* surrogates */
        (t[0] == 0xf0 && t[1] < 0x90) ||  /* overlong */
        (t[0] == 0xf4 && t[1] >= 0x90))   /* past U+10FFFF */
        return 0;
    return len;
}

static void
clean(char *text)
{
    unsigned char *t = (unsigned char *)text;

    while (*t != '\0') {
        size_t len = character(t);

        if (len == 0)
            *t = '?';
        t += len != 0 ? len : 1;
    }
}

struct copy {
    struct query_row r;
    char *text; /* all its texts; owned */
};

static bool
copy_row(sqlite3_stmt *st, int64_t row, struct copy *ret)
{
    const char **field[TEXTS] = {
        &ret->r.queue_id,      &ret->r.identity,   &ret->r.sender,
        &ret->r.recipient,     &ret->r.message_id, &ret->r.outcome,
        &ret->r.stage,         &ret->r.enhanced,   &ret->r.reply,
        &ret->r.diverted_from,
    };
    int64_t code = sqlite3_column_int64(st, 4);
    int64_t duration = sqlite3_column_int64(st, 5);
    size_t size = 0;
    char *at;

    for (int i = 0; i < TEXTS; i++)
        size += strlen(ledger_sql_text(st, 6 + i)) + 1;
    at = ret->text = malloc(size);
    if (at == NULL)
        return false;
    for (int i = 0; i < TEXTS; i++) {
        const char *from = ledger_sql_text(st, 6 + i);

        strcpy(at, from);
        clean(at);
        *field[i] = at;
        at += strlen(from) + 1;
    }
    ret->r.row = row;
    ret->r.at_ms = sqlite3_column_int64(st, 0);
    ret->r.ticket = ledger_sql_u64(st, 1);
    ret->r.account = ledger_sql_u64(st, 2);
    ret->r.size_octets = ledger_sql_u64(st, 3);
    ret->r.code = (uint16_t)(code > 0 && code < 1000 ? code : 0);
    ret->r.duration_ms =
        duration < 0
            ? 0
            : (uint32_t)(duration < UINT32_MAX ? duration : UINT32_MAX);
    return true;
}

/* Copies the rows of one portion; a row pruned meanwhile is left out. */
static bool
read_portion(struct query *q, sqlite3_stmt *st, const int64_t *row, size_t n,
             struct copy *ret, size_t *ret_n, char *err, size_t err_size)
{
    for (size_t i = 0; i < n; i++) {
        int rc;

        sqlite3_bind_int64(st, 1, row[n - 1 - i]);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW && !copy_row(st, row[n - 1 - i], &ret[*ret_n])) {
            snprintf(err, err_size, "out of memory");
            return false;
        }
        if (rc == SQLITE_ROW)
            ++*ret_n;
        else if (rc != SQLITE_DONE) {
            ledger_sql_fail(q->book, rc);
            snprintf(err, err_size, "%s", q->book->trouble);
            return false;
        }
        sqlite3_reset(st);
    }
    return true;
}

bool
query_rows(struct query *q, const struct query_filter *f,
           bool (*each)(void *cookie, const struct query_row *r), void *cookie,
           char *err, size_t err_size)
{
    struct rows rows = {0};
    sqlite3_stmt *st = NULL;
    bool ok = find_rows(q, f, &rows, err, err_size), more = true;

    if (ok && (st = ledger_sql_prepare(q->book, columns)) == NULL) {
        snprintf(err, err_size, "%s", q->book->trouble);
        ok = false;
    }
    for (size_t left = rows.n; ok && more && left > 0;) {
        size_t n = left < PORTION ? left : PORTION, n_copies = 0;
        struct copy copy[PORTION];

        left -= n;
        ok = read_portion(q, st, rows.row + left, n, copy, &n_copies, err,
                          err_size);
        sqlite3_reset(st);
        for (size_t i = 0; i < n_copies; i++) {
            more = ok && more && each(cookie, &copy[i].r);
            free(copy[i].text);
        }
    }
    sqlite3_finalize(st);
    free(rows.row);
    return ok;
}

bool
query_oldest_waiting(struct query *q, uint64_t account, int64_t since_ms,
                     int64_t *ret_ms, char *err, size_t err_size)
{
    /* The last attempt of each recipient as in ledger_waiting(); then the
     * first one of those that wait, by the ticket's index. */
    sqlite3_stmt *st = ledger_sql_prepare(
        q->book,
        "SELECT coalesce(min((SELECT min(b.at_ms) FROM attempt b"
        " WHERE b.ticket = t.ticket AND b.recipient = t.recipient)), 0)"
        " FROM (SELECT ticket, recipient, account, outcome, max(row) AS last"
        " FROM attempt INDEXED BY attempt_at WHERE at_ms >= ?1"
        " GROUP BY ticket, recipient) t"
        " WHERE t.account <> 0 AND (?2 = 0 OR t.account = ?2)"
        " AND t.outcome NOT IN ('sent', 'refused', '" LEDGER_SENDING "')");
    int rc = SQLITE_ERROR;

    if (st != NULL) {
        sqlite3_bind_int64(st, 1, since_ms);
        ledger_sql_bind_u64(st, 2, account);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            *ret_ms = sqlite3_column_int64(st, 0);
        else
            ledger_sql_fail(q->book, rc);
        sqlite3_finalize(st);
    }
    if (rc != SQLITE_ROW)
        snprintf(err, err_size, "%s", q->book->trouble);
    return rc == SQLITE_ROW;
}

bool
query_last_loss(struct query *q, struct query_loss *ret, char *err,
                size_t err_size)
{
    sqlite3_stmt *st = ledger_sql_prepare(
        q->book, "SELECT key, value FROM meta WHERE key LIKE 'loss!_%'"
                 " ESCAPE '!'");
    int rc = SQLITE_ERROR;

    *ret = (struct query_loss){0};
    while (st != NULL && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *key = ledger_sql_text(st, 0);
        uint64_t value = ledger_sql_u64(st, 1);

        if (strcmp(key, "loss_at_ms") == 0)
            ret->at_ms = (int64_t)value;
        else if (strcmp(key, "loss_accounts") == 0)
            ret->accounts = value;
        else if (strcmp(key, "loss_messages") == 0)
            ret->messages = value;
        else if (strcmp(key, "loss_recipients") == 0)
            ret->recipients = value;
        else if (strcmp(key, "loss_octets") == 0)
            ret->octets = value;
    }
    if (st != NULL && rc != SQLITE_DONE)
        ledger_sql_fail(q->book, rc);
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE)
        snprintf(err, err_size, "%s", q->book->trouble);
    return rc == SQLITE_DONE;
}
