/* tests/unit/ledger/test_schema.c - mirrors milter/ledger/ledger_sql_open.c: a
 * book of an older schema is brought up to date, whole.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/ledger/ledger_sql.h"
#include "milter/ledger/query.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

/* As the agent of schema 1 made it; never to be changed. */
static const char book_1[] =
    "CREATE TABLE meta("
    " key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE account_name("
    " account INTEGER PRIMARY KEY, identity TEXT NOT NULL) STRICT;"
    "CREATE INDEX account_name_identity ON account_name(identity);"
    "CREATE TABLE attempt("
    " row INTEGER PRIMARY KEY,"
    " at_ms INTEGER NOT NULL,"
    " quota_ms INTEGER NOT NULL,"
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
    " WHERE outcome = 'sending';"
    "CREATE TABLE spent("
    " account INTEGER NOT NULL,"
    " dimension INTEGER NOT NULL,"
    " window_ms INTEGER NOT NULL,"
    " bucket INTEGER NOT NULL,"
    " units INTEGER NOT NULL,"
    " until_ms INTEGER NOT NULL,"
    " PRIMARY KEY(account, dimension, window_ms, bucket))"
    " STRICT, WITHOUT ROWID;"
    "CREATE INDEX spent_until ON spent(until_ms);"
    "CREATE TABLE account_state("
    " account INTEGER PRIMARY KEY,"
    " state TEXT NOT NULL,"
    " until_ms INTEGER NOT NULL,"
    " reason TEXT NOT NULL,"
    " changed_ms INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES('newest_quota_ms', 0), ('probe_ms', 0);"
    "PRAGMA application_id = 1735225972; PRAGMA user_version = 1;";

/* And what it wrote: a message of two recipients sent, one under way, one put
 * off; what was spent; accounts at rest, disabled and paused. */
static const char rows_1[] =
    "INSERT INTO account_name VALUES(41, 'a@example.com'),"
    " (42, 'b@example.com'), (43, 'c@example.com');"
    "INSERT INTO attempt VALUES"
    "(1, 1790000000000, 1790000000000, 42, 7, 'Q1', 's@x', 'r@x', 9, '<1@x>',"
    " zeroblob(32), 'sent', 'content', 250, '2.0.0', 'OK', 12),"
    "(2, 1790000000000, 1790000000000, 42, 7, 'Q1', 's@x', 'q@x', 9, '<1@x>',"
    " zeroblob(32), 'sent', 'content', 250, '2.0.0', 'OK', 12),"
    "(3, 1790000000001, 1790000000001, 42, 8, 'Q2', 's@x', 'r@x', 9, '<2@x>',"
    " zeroblob(32), 'sending', '', 0, '', '', 0),"
    "(4, 1790000000002, 0, 43, 9, 'Q3', '', 'r@x', 9, '<3@x>',"
    " zeroblob(32), 'deferred', 'mail', 451, '4.7.1', 'no room', 1);"
    "INSERT INTO spent VALUES(42, 0, 86400000, 2983333, 2, 1790086799999);"
    "INSERT INTO account_state VALUES"
    "(41, 'cooling', 1790000003600, '550 5.4.5', 5),"
    "(42, 'disabled', 1790000003600, '535', 6),"
    "(43, 'paused', 0, 'me', 7);"
    "UPDATE meta SET value = 1790000000001 WHERE key = 'newest_quota_ms';";

static int
setup(void **state)
{
    char *directory = calloc(1, KIT_PATH);
    char path[KIT_PATH + 16];
    int fd;

    if (directory == NULL)
        return -1;
    kit_directory(directory);
    snprintf(path, sizeof path, "%s/ledger.db", directory);
    fd = open(path, O_CREAT | O_WRONLY, 0640);
    if (fd < 0)
        return -1;
    close(fd);
    *state = directory;
    return kit_exec(directory, "PRAGMA journal_mode = WAL") &&
                   kit_exec(directory, book_1) && kit_exec(directory, rows_1)
               ? 0
               : -1;
}

static int
teardown(void **state)
{
    torn_vfs_fail_writes(0);
    kit_remove(*state);
    torn_vfs_forget();
    free(*state);
    return 0;
}

/* Its tables, columns and indexes, in one text. */
static void
shape_of(const char *directory, char *ret, size_t size)
{
    int rc;
    char err[LEDGER_TROUBLE_MAX];
    struct ledger_sql *s =
        ledger_sql_open(directory, LEDGER_SQL_READ, &rc, err, sizeof err);
    sqlite3_stmt *st;

    assert_non_null(s);
    st = ledger_sql_prepare(
        s, "SELECT group_concat(line, ' ') FROM (SELECT t.name || '.' ||"
           " c.name || ':' || c.type || ':' || c.\"notnull\" || ':' || c.pk"
           " AS line FROM sqlite_schema t, pragma_table_info(t.name) c"
           " UNION ALL SELECT name FROM sqlite_schema WHERE type = 'index'"
           " ORDER BY 1)");
    assert_non_null(st);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    snprintf(ret, size, "%s", ledger_sql_text(st, 0));
    sqlite3_finalize(st);
    ledger_sql_close(s);
}

static void
an_old_book_has_the_shape_of_a_new_one(void **state)
{
    char fresh[KIT_PATH], old_shape[6000], new_shape[6000];

    ledger_close(kit_open(*state, &clock_real));
    kit_directory(fresh);
    ledger_close(kit_open(fresh, &clock_real));
    shape_of(*state, old_shape, sizeof old_shape);
    shape_of(fresh, new_shape, sizeof new_shape);
    assert_true(strlen(new_shape) > 500);
    assert_string_equal(old_shape, new_shape);
    assert_int_equal(kit_number(*state, "PRAGMA user_version"), LEDGER_SCHEMA);
    assert_int_equal(kit_number(fresh, "PRAGMA user_version"), LEDGER_SCHEMA);
    kit_remove(fresh);
}

static void
add_rests(void *cookie, uint64_t account, const char *identity,
          enum account_state s, uint64_t until_ms, const char *reason,
          uint32_t rests)
{
    uint32_t *sum = cookie;

    (void)identity;
    (void)until_ms;
    (void)reason;
    assert_int_equal(rests, s == ACCOUNT_PAUSED ? 0 : 1);
    *sum += (uint32_t)account * 10 + rests;
}

static void
add_waiting(void *cookie, uint64_t ticket, uint64_t account,
            const char *identity, uint64_t last_ms, uint32_t recipients)
{
    (void)identity;
    (void)last_ms;
    *(uint64_t *)cookie += ticket * 1000 + account + recipients;
}

static bool
count_row(void *cookie, const struct query_row *r)
{
    assert_string_equal(r->diverted_from, "");
    ++*(unsigned *)cookie;
    return true;
}

static void
nothing_of_an_old_book_is_lost(void **state)
{
    struct ledger *l = kit_open(*state, &clock_real);
    enum ledger_seen seen;
    uint64_t in_doubt = 0, waiting = 0;
    struct query *q = NULL;
    uint32_t sum = 0;
    unsigned rows = 0;
    char err[500];

    assert_int_equal(ledger_recover(l, &in_doubt), LEDGER_OK);
    assert_int_equal(in_doubt, 1);
    assert_true(ledger_newest_ms(l) == 1790000000001);
    assert_int_equal(kit_spent(l, 42, DIM_MESSAGES), 2);
    assert_int_equal(ledger_seen(l, 7, "q@x", NULL, &seen), LEDGER_OK);
    assert_int_equal(seen, SEEN_SENT);
    assert_int_equal(ledger_seen(l, 8, "r@x", NULL, &seen), LEDGER_OK);
    assert_int_equal(seen, SEEN_DOUBT);
    assert_int_equal(ledger_states(l, add_rests, &sum), LEDGER_OK);
    assert_int_equal(sum, 410 + 1 + 420 + 1 + 430);
    assert_int_equal(ledger_waiting(l, 0, add_waiting, &waiting), LEDGER_OK);
    assert_int_equal(waiting, 8000 + 42 + 1 + 9000 + 43 + 1);
    assert_true(query_open(&q, *state, err, sizeof err));
    assert_true(query_rows(q, &(struct query_filter){0}, count_row, &rows, err,
                           sizeof err));
    assert_int_equal(rows, 4);
    query_close(q);
    ledger_close(l);
}

/* The disk is full in the middle: the old book is as it was, and the next start
 * does it. */
static void
an_upgrade_that_fails_changes_nothing(void **state)
{
    struct ledger *l = NULL;
    char err[500] = "";

    torn_vfs_fail_writes(SQLITE_FULL);
    assert_int_equal(ledger_open(&l, *state, &clock_real, err, sizeof err),
                     LEDGER_EUNAVAILABLE);
    assert_null(l);
    torn_vfs_fail_writes(0);
    assert_int_equal(kit_number(*state, "PRAGMA user_version"), 1);
    assert_int_equal(kit_number(*state, "SELECT count(*) FROM attempt"), 4);
    assert_int_equal(kit_number(*state, "SELECT count(*) FROM sqlite_schema"
                                        " WHERE name = 'observed'"),
                     0);
    ledger_close(kit_open(*state, &clock_real));
    assert_int_equal(kit_number(*state, "PRAGMA user_version"), LEDGER_SCHEMA);
}

static void
a_reader_waits_for_the_agent(void **state)
{
    struct query *q = NULL;
    char err[500] = "";

    assert_false(query_open(&q, *state, err, sizeof err));
    assert_non_null(strstr(err, "older gmroute (schema 1"));
    assert_non_null(strstr(err, "start this version's gmroute-deliver"));
    assert_int_equal(kit_number(*state, "PRAGMA user_version"), 1);
    ledger_close(kit_open(*state, &clock_real));
    assert_true(query_open(&q, *state, err, sizeof err));
    query_close(q);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_old_book_has_the_shape_of_a_new_one),
        TEST(nothing_of_an_old_book_is_lost),
        TEST(an_upgrade_that_fails_changes_nothing),
        TEST(a_reader_waits_for_the_agent),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/schema", tests, NULL, NULL);
}
