/* milter/ledger/ledger_start.c - what an agent reads when it starts.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Rare and long reads: each on a connection of its own, so that `each` may
 * call the ledger.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ledger/ledger_private.h"

enum ledger_result
ledger_recover(struct ledger *l, uint64_t *ret_in_doubt)
{
    struct ledger_entry *e;
    enum ledger_result result = LEDGER_EUNAVAILABLE;

    pthread_mutex_lock(&l->mutex);
    e = ledger_entry_recover(l->shared.opened_row);
    if (e != NULL && l->shared.ok && ledger_writer_queue(l, e) &&
        ledger_writer_wait(l, e, l->begin_ms))
        result = e->result;
    if (result == LEDGER_OK)
        *ret_in_doubt = e->n_changed;
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
    return result;
}

uint64_t
ledger_newest_ms(struct ledger *l)
{
    uint64_t ms;

    pthread_mutex_lock(&l->mutex);
    ms = l->shared.newest_ms;
    pthread_mutex_unlock(&l->mutex);
    return ms;
}

struct quota_start
ledger_quota_start(struct ledger *l)
{
    struct quota_start start;

    pthread_mutex_lock(&l->mutex);
    start.floor_ms = l->shared.newest_ms;
    /* A wall clock that was behind quota time was wrong, and says nothing. */
    start.behind_ms =
        l->shared.behind_ms > 0 ? (uint64_t)l->shared.behind_ms : 0;
    pthread_mutex_unlock(&l->mutex);
    return start;
}

/* One statement, from its first row to its last. */
struct scan {
    struct ledger *l;
    struct ledger_sql *book;
    sqlite3_stmt *st; /* NULL: it could not be opened */
    int rc;
};

static struct scan
scan_open(struct ledger *l, const char *sql)
{
    struct scan s = {.l = l, .rc = SQLITE_ERROR};
    char err[LEDGER_TROUBLE_MAX] = "";

    s.book =
        ledger_sql_open(l->directory, LEDGER_SQL_READ, NULL, err, sizeof err);
    if (s.book != NULL) {
        s.st = ledger_sql_prepare(s.book, sql);
        snprintf(err, sizeof err, "%s", s.book->trouble);
    }
    if (s.st == NULL) {
        pthread_mutex_lock(&l->mutex);
        ledger_writer_trouble(l, err);
        pthread_mutex_unlock(&l->mutex);
    }
    return s;
}

static bool
scan_next(struct scan *s)
{
    s->rc = s->st != NULL ? sqlite3_step(s->st) : SQLITE_ERROR;
    return s->rc == SQLITE_ROW;
}

static enum ledger_result
scan_close(struct scan *s)
{
    if (s->st != NULL && s->rc != SQLITE_DONE) {
        ledger_sql_fail(s->book, s->rc);
        pthread_mutex_lock(&s->l->mutex);
        ledger_writer_trouble(s->l, s->book->trouble);
        pthread_mutex_unlock(&s->l->mutex);
    }
    sqlite3_finalize(s->st);
    ledger_sql_close(s->book);
    return s->rc == SQLITE_DONE ? LEDGER_OK : LEDGER_EUNAVAILABLE;
}

/* The name of the account a scan has come to: looked up when it changes, and
 * not for each of a million rows. */
struct naming {
    struct scan *of;
    sqlite3_stmt *st; /* NULL until the first */
    uint64_t account; /* 0 = none yet */
    char identity[IDENTITY_MAX + 1];
};

/* False: the scan has failed with it. */
static bool
naming_find(struct naming *n, uint64_t account)
{
    int rc;

    if (n->account == account && n->st != NULL)
        return true;
    if (n->st == NULL)
        n->st = ledger_sql_prepare(n->of->book, "SELECT identity FROM"
                                                " account_name WHERE"
                                                " account = ?1");
    if (n->st == NULL) {
        n->of->rc = sqlite3_extended_errcode(n->of->book->db);
        return false;
    }
    ledger_sql_bind_u64(n->st, 1, account);
    rc = sqlite3_step(n->st);
    snprintf(n->identity, sizeof n->identity, "%s",
             rc == SQLITE_ROW ? ledger_sql_text(n->st, 0) : "");
    sqlite3_reset(n->st);
    n->account = account;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        n->of->rc = rc;
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* Binds the first and the last account of a part.  Ids are hashes, which are
 * spread evenly over all numbers. */
static void
scan_part(struct scan *s, struct ledger_part part)
{
    uint64_t size = UINT64_MAX / part.of;
    uint64_t first = (uint64_t)INT64_MIN + part.n * size;
    uint64_t last =
        part.n + 1 == part.of ? (uint64_t)INT64_MAX : first + (size - 1);

    if (s->st == NULL)
        return;
    ledger_sql_bind_u64(s->st, 1, first);
    ledger_sql_bind_u64(s->st, 2, last);
}

enum ledger_result
ledger_spent(struct ledger *l, struct ledger_part part,
             void (*each)(void *cookie, uint64_t account, const char *identity,
                          enum dimension d, uint64_t window_ms, uint64_t bucket,
                          uint64_t units),
             void *cookie)
{
    /* Quota time never falls below the newest in the book, so what does not
     * count then will not count any more.  "+": nearly all rows count, so
     * walk the table, not the index. */
    struct scan s =
        scan_open(l, "SELECT account, dimension, window_ms, bucket, units"
                     " FROM spent WHERE account BETWEEN ?1 AND ?2"
                     " AND units > 0 AND +until_ms >"
                     " (SELECT value FROM meta WHERE key = 'newest_quota_ms')"
                     " ORDER BY account, dimension, window_ms, bucket");
    struct naming name = {.of = &s};

    scan_part(&s, part);
    while (scan_next(&s)) {
        uint64_t account = ledger_sql_u64(s.st, 0);
        int64_t d = sqlite3_column_int64(s.st, 1);

        if (!naming_find(&name, account))
            break;
        if (d < 0 || d >= DIM_COUNT)
            continue;
        each(cookie, account, name.identity, (enum dimension)d,
             ledger_sql_u64(s.st, 2), ledger_sql_u64(s.st, 3),
             ledger_sql_u64(s.st, 4));
    }
    sqlite3_finalize(name.st);
    return scan_close(&s);
}

enum ledger_result
ledger_mailed(struct ledger *l, struct ledger_part part,
              void (*each)(void *cookie, uint64_t account, const char *identity,
                           const struct recipient_id *r, uint64_t at_ms),
              void *cookie)
{
    /* In the order of its key; "+" as above. */
    struct scan s =
        scan_open(l, "SELECT m.account, n.identity, m.recipient, m.external,"
                     " max(m.at_ms) FROM mailed m"
                     " LEFT JOIN account_name n USING(account)"
                     " WHERE m.account BETWEEN ?1 AND ?2 AND m.sends > 0"
                     " AND +m.until_ms > (SELECT value"
                     " FROM meta WHERE key = 'newest_quota_ms')"
                     " GROUP BY m.account, m.recipient");

    scan_part(&s, part);
    while (scan_next(&s)) {
        struct recipient_id r = {ledger_sql_u64(s.st, 2),
                                 sqlite3_column_int(s.st, 3) != 0};

        each(cookie, ledger_sql_u64(s.st, 0), ledger_sql_text(s.st, 1), &r,
             ledger_sql_u64(s.st, 4));
    }
    return scan_close(&s);
}

enum ledger_result
ledger_states(struct ledger *l,
              void (*each)(void *cookie, uint64_t account, const char *identity,
                           enum account_state s, uint64_t until_ms,
                           const char *reason, uint32_t rests),
              void *cookie)
{
    struct scan s =
        scan_open(l, "SELECT a.account, n.identity, a.state, a.until_ms,"
                     " a.reason, a.rests FROM account_state a"
                     " LEFT JOIN account_name n USING(account)");

    while (scan_next(&s)) {
        enum account_state state;

        if (!ledger_sql_state_parse(ledger_sql_text(s.st, 2), &state))
            state = ACCOUNT_DISABLED; /* not a word of ours: rather rest */
        each(cookie, ledger_sql_u64(s.st, 0), ledger_sql_text(s.st, 1), state,
             ledger_sql_u64(s.st, 3), ledger_sql_text(s.st, 4),
             (uint32_t)sqlite3_column_int64(s.st, 5));
    }
    return scan_close(&s);
}

enum ledger_result
ledger_observed(struct ledger *l,
                void (*each)(void *cookie, uint64_t account,
                             const char *identity, enum dimension d,
                             uint64_t window_ms, uint64_t units,
                             uint64_t at_ms),
                void *cookie)
{
    struct scan s =
        scan_open(l, "SELECT o.account, n.identity, o.dimension, o.window_ms,"
                     " o.units, o.at_ms FROM observed o"
                     " LEFT JOIN account_name n USING(account)");

    while (scan_next(&s)) {
        int64_t d = sqlite3_column_int64(s.st, 2);

        if (d < 0 || d >= DIM_COUNT)
            continue;
        each(cookie, ledger_sql_u64(s.st, 0), ledger_sql_text(s.st, 1),
             (enum dimension)d, ledger_sql_u64(s.st, 3),
             ledger_sql_u64(s.st, 4), ledger_sql_u64(s.st, 5));
    }
    return scan_close(&s);
}

enum ledger_result
ledger_diverts(struct ledger *l,
               void (*each)(void *cookie, uint64_t account,
                            const char *identity, uint64_t other,
                            const char *other_identity),
               void *cookie)
{
    struct scan s =
        scan_open(l, "SELECT d.account, n.identity, d.other, o.identity"
                     " FROM divert d"
                     " LEFT JOIN account_name n ON n.account = d.account"
                     " LEFT JOIN account_name o ON o.account = d.other");

    while (scan_next(&s))
        each(cookie, ledger_sql_u64(s.st, 0), ledger_sql_text(s.st, 1),
             ledger_sql_u64(s.st, 2), ledger_sql_text(s.st, 3));
    return scan_close(&s);
}

enum ledger_result
ledger_waiting(struct ledger *l, uint64_t since_ms,
               void (*each)(void *cookie, uint64_t ticket, uint64_t account,
                            const char *identity, uint64_t last_ms,
                            uint32_t recipients),
               void *cookie)
{
    /* The columns beside max(row) are those of that row (SQLite, "Bare
     * columns in an aggregate query"): the last attempt of each recipient.
     * By the time's index: the other way reads the whole book. */
    struct scan s = scan_open(
        l, "SELECT t.ticket, t.account, n.identity, max(t.at_ms), count(*)"
           " FROM (SELECT ticket, recipient, account, at_ms, outcome,"
           " max(row) AS last"
           " FROM attempt INDEXED BY attempt_at WHERE at_ms >= ?1 GROUP BY "
           "ticket, recipient) t"
           " LEFT JOIN account_name n ON n.account = t.account"
           " WHERE t.last > 0 AND t.account <> 0 AND t.outcome NOT IN"
           " ('sent', 'refused', '" LEDGER_SENDING "')"
           " GROUP BY t.ticket, t.account");

    if (s.st != NULL)
        ledger_sql_bind_u64(s.st, 1,
                            since_ms <= INT64_MAX ? since_ms : INT64_MAX);
    while (scan_next(&s)) {
        uint64_t recipients = ledger_sql_u64(s.st, 4);

        each(cookie, ledger_sql_u64(s.st, 0), ledger_sql_u64(s.st, 1),
             ledger_sql_text(s.st, 2), ledger_sql_u64(s.st, 3),
             recipients < UINT32_MAX ? (uint32_t)recipients : UINT32_MAX);
    }
    return scan_close(&s);
}

/* ---- after a loss of power ---- */

static enum ledger_result
read_mark(struct ledger *l, struct ledger_mark *ret)
{
    struct scan s = scan_open(l, "SELECT key, value FROM meta"
                                 " WHERE key IN ('boot_high', 'boot_low',"
                                 " 'begun')");

    *ret = (struct ledger_mark){.begun = false};
    while (scan_next(&s)) {
        const char *key = ledger_sql_text(s.st, 0);
        uint64_t value = ledger_sql_u64(s.st, 1);

        if (strcmp(key, "begun") == 0)
            ret->begun = value != 0;
        else
            ret->boot_id[strcmp(key, "boot_low") == 0] = value;
    }
    return scan_close(&s);
}

/* The buckets of one account after the other, and what each of them lost. */
struct losses {
    const struct ledger_loss_ops *ops;
    uint64_t newest_ms, now_ms;

    struct naming name; /* of the account below */
    uint64_t account;
    struct ledger_bucket *bucket;
    size_t n_buckets, buckets_room;

    struct taken *lost;
    size_t n_lost, lost_room;
};

/* The array, with room for one more of `size` octets behind n; NULL = out of
 * memory, and nothing has changed. */
static void *
more_room(void *array, size_t n, size_t *room, size_t size)
{
    size_t want = n < 64 ? 64 : n * 2;

    if (n < *room)
        return array;
    array = reallocarray(array, want, size);
    if (array != NULL)
        *room = want;
    return array;
}

static bool
losses_end_account(struct losses *x)
{
    const struct account *a = NULL;
    struct taken *lost, t;

    if (x->n_buckets > 0) {
        if (!naming_find(&x->name, x->account))
            return false;
        a = x->ops->account(x->ops->cookie, x->account, x->name.identity);
    }
    if (a == NULL ||
        !ledger_loss(x->bucket, x->n_buckets, a, x->newest_ms, x->now_ms, &t))
        return true;
    t.id = x->account;
    lost = more_room(x->lost, x->n_lost, &x->lost_room, sizeof t);
    if (lost == NULL)
        return false;
    x->lost = lost;
    x->lost[x->n_lost++] = t;
    x->ops->charged(x->ops->cookie, x->name.identity, &t);
    return true;
}

static bool
losses_add(struct losses *x, struct scan *s)
{
    uint64_t account = ledger_sql_u64(s->st, 0), until_ms, window_ms;
    int64_t d = sqlite3_column_int64(s->st, 1);
    struct ledger_bucket *bucket;

    if (account != x->account || x->n_buckets == 0) {
        if (!losses_end_account(x))
            return false;
        x->account = account;
        x->n_buckets = 0;
    }
    window_ms = ledger_sql_u64(s->st, 2);
    until_ms = ledger_sql_u64(s->st, 3);
    if (d < 0 || d >= DIM_COUNT || window_ms == 0 || window_ms > until_ms)
        return true; /* nonsense */
    bucket =
        more_room(x->bucket, x->n_buckets, &x->buckets_room, sizeof *x->bucket);
    if (bucket == NULL)
        return false;
    x->bucket = bucket;
    x->bucket[x->n_buckets++] = (struct ledger_bucket){
        .dimension = (enum dimension)d,
        .window_ms = window_ms,
        .units = ledger_sql_u64(s->st, 4),
        .end_ms = until_ms - window_ms,
    };
    return true;
}

static enum ledger_result
find_losses(struct ledger *l, struct losses *x)
{
    /* In the order of the table: nothing is sorted. */
    struct scan s =
        scan_open(l, "SELECT account, dimension, window_ms, until_ms, units"
                     " FROM spent WHERE +until_ms >"
                     " (SELECT value FROM meta WHERE key = 'newest_quota_ms')"
                     " ORDER BY account, dimension, window_ms, bucket");
    bool ok = true;

    x->name.of = &s;
    while (ok && scan_next(&s))
        ok = losses_add(x, &s);
    ok = ok && losses_end_account(x);
    sqlite3_finalize(x->name.st);
    free(x->bucket);
    if (!ok && (s.rc == SQLITE_ROW || s.rc == SQLITE_DONE))
        s.rc = SQLITE_NOMEM;
    return scan_close(&s);
}

enum ledger_result
ledger_boot(struct ledger *l, const uint64_t boot_id[2],
            const struct ledger_loss_ops *ops)
{
    struct quota_start start = ledger_quota_start(l);
    int64_t wall_ms = clock_wall_ms(l->clock);
    struct losses x = {.ops = ops,
                       .newest_ms = start.floor_ms,
                       .now_ms = quota_start_ms(&start, wall_ms)};
    enum ledger_result result;
    struct ledger_mark mark;
    struct ledger_entry *e;

    result = read_mark(l, &mark);
    if (result == LEDGER_OK && mark.begun &&
        ((boot_id[0] | boot_id[1]) == 0 ||
         memcmp(mark.boot_id, boot_id, sizeof mark.boot_id) != 0))
        result = find_losses(l, &x);
    if (result != LEDGER_OK) {
        free(x.lost);
        return result;
    }
    e = ledger_entry_boot(boot_id, x.lost, x.n_lost, wall_ms);
    result = LEDGER_EUNAVAILABLE;
    pthread_mutex_lock(&l->mutex);
    if (e != NULL && l->shared.ok && ledger_writer_queue(l, e) &&
        ledger_writer_wait(l, e, l->begin_ms))
        result = e->result;
    if (result == LEDGER_OK) {
        memcpy(l->shared.boot_id, boot_id, sizeof l->shared.boot_id);
        l->shared.booted = true;
    }
    ledger_entry_drop(e);
    pthread_mutex_unlock(&l->mutex);
    return result;
}
