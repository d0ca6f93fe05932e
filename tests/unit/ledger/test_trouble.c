/* tests/unit/ledger/test_trouble.c - mirrors milter/ledger/ledger_round.c and
 * ledger_sql_open.c: what the book does on bad days.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/ledger/ledger_private.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/ledger/torn_vfs.h"

static void
path_of(const struct kit_desk *r, const char *name, char ret[KIT_PATH + 32])
{
    snprintf(ret, KIT_PATH + 32, "%s/%s", r->directory, name);
}

static enum ledger_result
begin(struct ledger *l, uint64_t ticket, const struct taken *charge,
      int64_t *ret)
{
    struct attempt a = kit_attempt(ticket, "a@x", 42);

    return ledger_begin(l, &a, 1, charge, ret);
}

static enum ledger_result
finish(struct ledger *l, int64_t row, enum outcome_kind k,
       const struct taken *before, uint64_t wait_ms)
{
    struct attempt_result res = kit_result(row, k);

    return ledger_finish(l, &res, 1, before, NULL, wait_ms);
}

static int64_t
count(const struct kit_desk *r, const char *outcome)
{
    char sql[128];

    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM attempt WHERE outcome = '%s'", outcome);
    return kit_number(r->directory, sql);
}

static void
assert_trouble(const struct ledger *l, const char *word)
{
    char text[1024] = "";

    ledger_trouble(l, text, sizeof text);
    print_message("    %s\n", text);
    assert_non_null(strstr(text, word));
}

/* ---- the disk refuses ---- */

static const struct fault_row {
    const char *name;
    int write_rc, sync_rc;
    const char *word; /* in the text */
} fault_rows[] = {
    {"full", SQLITE_FULL, 0, "full"},
    {"broken at writing", SQLITE_IOERR_WRITE, 0, "disk I/O error"},
    {"broken at fsync", 0, SQLITE_IOERR_FSYNC, "disk I/O error"},
    {"turned read-only", SQLITE_READONLY, 0, "readonly"},
};

/* One finish waits in memory through the trouble, a begin is refused at
 * once; then all is well by itself. */
static void
results_outlive_a_bad_disk(void **state)
{
    for (size_t i = 0; i < sizeof fault_rows / sizeof *fault_rows; i++) {
        const struct fault_row *t = &fault_rows[i];
        struct kit_desk *r = *state;
        struct taken charge = kit_charge(42, KIT_NOW_MS, 1);
        int64_t kept[3] = {0}, other = -7;
        uint64_t start;

        print_message("  %s\n", t->name);
        for (unsigned k = 0; k < 3; k++)
            assert_int_equal(begin(r->l, 1 + k, &charge, &kept[k]), LEDGER_OK);
        torn_vfs_fail_writes(t->write_rc);
        torn_vfs_fail_syncs(t->sync_rc);
        assert_int_equal(finish(r->l, kept[0], OUTCOME_SENT, NULL, 100),
                         LEDGER_EUNAVAILABLE);
        assert_int_equal(finish(r->l, kept[1], OUTCOME_REFUSED, &charge, 0),
                         LEDGER_EUNAVAILABLE);
        assert_true(kit_wait_ok(r->l, false));
        assert_trouble(r->l, t->word);
        start = clock_boot_ms(&clock_real);
        assert_int_equal(begin(r->l, 9, &charge, &other), LEDGER_EUNAVAILABLE);
        assert_int_equal(other, -7);
        assert_true(clock_boot_ms(&clock_real) - start < 5000);
        assert_int_equal(ledger_set_state(r->l, "sales@example.com", 42,
                                          ACCOUNT_COOLING, 1, "kept too", 1),
                         LEDGER_EUNAVAILABLE);
        usleep(300000); /* some tries fail */
        assert_false(ledger_ok(r->l));

        torn_vfs_fail_writes(0);
        torn_vfs_fail_syncs(0);
        assert_true(kit_wait_ok(r->l, true));
        assert_trouble(r->l, "");
        assert_int_equal(finish(r->l, kept[2], OUTCOME_SENT, NULL, 10000),
                         LEDGER_OK);
        assert_int_equal(count(r, "sent"), 2);
        assert_int_equal(count(r, "refused"), 1);
        assert_int_equal(count(r, "sending"), 0);
        assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 2);
        assert_int_equal(
            kit_number(r->directory, "SELECT count(*) FROM account_state"), 1);
        assert_int_equal(begin(r->l, 10, &charge, &other), LEDGER_OK);
        kit_desk_teardown(state);
        kit_desk_setup(state);
    }
}

struct other { /* a begin in a thread of its own */
    struct kit_desk *r;
    uint64_t account;
    enum ledger_result result;
    int64_t row;
};

static void *
begin_main(void *cookie)
{
    struct other *o = cookie;
    struct taken charge = kit_charge(o->account, KIT_NOW_MS, 1);
    struct attempt a = kit_attempt(77, "a@x", o->account);

    o->result = ledger_begin(o->r->l, &a, 1, &charge, &o->row);
    return NULL;
}

/* A begin of the account shares its commit with a finish, and the fsync
 * fails. */
static void
fail_beside_a_finish(struct other *o, int64_t row)
{
    struct ledger *l = o->r->l;
    pthread_t thread;

    torn_vfs_slow_syncs(300);
    torn_vfs_fail_syncs(SQLITE_IOERR_FSYNC);
    assert_int_equal(pthread_create(&thread, NULL, begin_main, o), 0);
    usleep(50000);
    finish(l, row, OUTCOME_SENT, NULL, 0);
    pthread_join(thread, NULL);
    torn_vfs_slow_syncs(0);
    torn_vfs_fail_syncs(0);
    assert_true(kit_wait_ok(l, true));
    assert_int_equal(finish(l, row, OUTCOME_SENT, NULL, 10000), LEDGER_OK);
}

/* Two of account 42, the first one of which is synced. */
static void
two_begins(struct kit_desk *r, int64_t row[2])
{
    static const uint64_t boot_id[2] = {1, 1};
    static const struct ledger_loss_ops none = {0};
    struct taken charge = kit_charge(42, KIT_NOW_MS, 1);

    assert_int_equal(ledger_boot(r->l, boot_id, &none), LEDGER_OK);
    assert_int_equal(begin(r->l, 1, &charge, &row[0]), LEDGER_OK);
    assert_int_equal(begin(r->l, 2, &charge, &row[1]), LEDGER_OK);
}

/* One that has to be on disk before it is answered, and nobody can say whether
 * it is.  It does not fly, so nothing may stay spent. */
static void
a_begin_of_unknown_end_is_undone(void **state)
{
    struct kit_desk *r = *state;
    struct other o = {.r = r, .account = 43}; /* its first */
    int64_t row[2];

    two_begins(r, row);
    fail_beside_a_finish(&o, row[0]);
    assert_int_equal(o.result, LEDGER_EUNAVAILABLE);
    assert_int_equal(finish(r->l, row[1], OUTCOME_SENT, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(count(r, "sent"), 2);
    assert_int_equal(count(r, "sending"), 0);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 2);
    assert_int_equal(kit_spent(r->l, 43, DIM_MESSAGES), 0);
}

/* One that was answered at the commit: it flies, whatever the disk says, and
 * its row and charge are there in the end. */
static void
a_begin_that_flew_stays(void **state)
{
    struct kit_desk *r = *state;
    struct other o = {.r = r, .account = 42};
    int64_t row[2];

    two_begins(r, row);
    torn_vfs_slow_syncs(300);
    finish(r->l, row[1], OUTCOME_SENT, NULL, 0); /* holds the writer up */
    usleep(100000);
    fail_beside_a_finish(&o, row[0]);
    assert_int_equal(o.result, LEDGER_OK);
    assert_int_equal(finish(r->l, o.row, OUTCOME_SENT, NULL, 10000), LEDGER_OK);
    assert_int_equal(count(r, "sent"), 3);
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 3);
}

/* A disk that hangs: who must be on it before it flies is let go, and what is
 * written in the end without it is taken back.  Others fly meanwhile. */
static void
a_begin_that_nobody_waits_for_is_undone(void **state)
{
    struct kit_desk *r = *state;
    struct taken charge = kit_charge(43, KIT_NOW_MS, 1);
    struct attempt a = kit_attempt(3, "a@x", 43);
    int64_t row[2], other;

    two_begins(r, row);
    r->l->begin_ms = 100;
    torn_vfs_slow_syncs(1000);
    finish(r->l, row[0], OUTCOME_SENT, NULL, 0);
    charge.id = 42;
    assert_int_equal(begin(r->l, 4, &charge, &other), LEDGER_OK);
    charge.id = 43; /* its first */
    assert_int_equal(ledger_begin(r->l, &a, 1, &charge, &other),
                     LEDGER_EUNAVAILABLE);
    assert_false(ledger_ok(r->l));
    assert_trouble(r->l, "does not answer");
    torn_vfs_slow_syncs(0);
    assert_true(kit_wait_ok(r->l, true));
    r->l->begin_ms = 10000;
    assert_int_equal(finish(r->l, row[1], OUTCOME_SENT, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(count(r, "sending"), 1); /* ticket 4 */
    assert_int_equal(count(r, "sent"), 2);
    assert_int_equal(count(r, "deferred"), 1); /* ticket 3 */
    assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 3);
    assert_int_equal(kit_spent(r->l, 43, DIM_MESSAGES), 0);
}

/* Closing in the middle of it: what is on disk stays right. */
static void
closing_in_trouble_ends(void **state)
{
    struct kit_desk *r = *state;
    int64_t row;
    uint64_t n;

    assert_int_equal(begin(r->l, 1, NULL, &row), LEDGER_OK);
    torn_vfs_fail_writes(SQLITE_FULL);
    assert_int_equal(finish(r->l, row, OUTCOME_SENT, NULL, 50),
                     LEDGER_EUNAVAILABLE);
    ledger_close(r->l);
    torn_vfs_fail_writes(0);
    r->l = kit_open(r->directory, &r->clock.clock);
    assert_int_equal(ledger_recover(r->l, &n), LEDGER_OK);
    assert_int_equal(n, 1); /* in doubt: the truth was lost with us */
}

/* Closing writes what waits. */
static void
closing_writes_what_waits(void **state)
{
    struct kit_desk *r = *state;
    int64_t row[100];

    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(begin(r->l, 1 + i, NULL, &row[i]), LEDGER_OK);
    torn_vfs_slow_syncs(50);
    for (unsigned i = 0; i < 100; i++)
        finish(r->l, row[i], OUTCOME_SENT, NULL, 0);
    ledger_close(r->l);
    r->l = NULL;
    assert_int_equal(count(r, "sent"), 100);
}

static void
a_real_full_disk(void **state)
{
    struct kit_desk *r = *state;
    char filler[KIT_PATH + 32];
    static uint8_t block[65536];
    struct taken charge = kit_charge(42, KIT_NOW_MS, 1);
    int64_t row[64];
    unsigned n = 0;
    struct ledger *l;
    int fd;

    if (geteuid() != 0 || mkdir("/dev/null/x", 0) == 0)
        skip();
    ledger_close(r->l);
    r->l = NULL;
    if (mount("none", r->directory, "tmpfs", 0, "size=2m") != 0)
        skip();
    l = kit_open(r->directory, &r->clock.clock);
    for (; n < 64; n++)
        assert_int_equal(begin(l, 1 + n, &charge, &row[n]), LEDGER_OK);
    path_of(r, "filler", filler);
    fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, block, sizeof block) > 0)
        ;
    while (write(fd, block, 512) > 0)
        ;
    /* Parts of the WAL may be free still: finish until it shows. */
    for (unsigned i = 0; i < n; i++)
        finish(l, row[i], OUTCOME_SENT, NULL, 0);
    for (unsigned i = 0; ledger_ok(l) && i < 5000; i++) {
        int64_t more;

        begin(l, 1000 + i, NULL, &more);
    }
    assert_false(ledger_ok(l));
    assert_trouble(l, "full");
    usleep(1500000);
    assert_false(ledger_ok(l));
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    assert_true(kit_wait_ok(l, true));
    assert_int_equal(begin(l, 99999, NULL, &row[0]), LEDGER_OK);
    assert_int_equal(finish(l, row[0], OUTCOME_SENT, NULL, 10000), LEDGER_OK);
    assert_int_equal(count(r, "sent"), n + 1);
    assert_int_equal(kit_spent(l, 42, DIM_MESSAGES), n);
    ledger_close(l);
    umount(r->directory);
}

/* ---- somebody else is there ---- */

static void
one_agent_for_each_book(void **state)
{
    struct kit_desk *r = *state;
    struct ledger *second = NULL;
    char err[1024] = "";
    int64_t row;

    assert_int_equal(
        ledger_open(&second, r->directory, &clock_real, err, sizeof err),
        LEDGER_EUNAVAILABLE);
    assert_null(second);
    assert_non_null(strstr(err, "another gmroute-deliver"));
    assert_int_equal(begin(r->l, 1, NULL, &row), LEDGER_OK);
}

/* A second writer that does not know of our lock: sqlite3's shell, say. */
static void
a_locked_book_is_waited_for(void **state)
{
    struct kit_desk *r = *state;
    char path[KIT_PATH + 32];
    sqlite3 *db = NULL;
    int64_t row, other;

    assert_int_equal(begin(r->l, 1, NULL, &row), LEDGER_OK);
    path_of(r, "ledger.db", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000); /* the writer may be pruning */
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(begin(r->l, 2, NULL, &other), LEDGER_EUNAVAILABLE);
    assert_trouble(r->l, "locked");
    assert_int_equal(finish(r->l, row, OUTCOME_SENT, NULL, 100),
                     LEDGER_EUNAVAILABLE);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_true(kit_wait_ok(r->l, true));
    assert_int_equal(begin(r->l, 3, NULL, &other), LEDGER_OK);
    assert_int_equal(count(r, "sent"), 1); /* entries keep their order */
}

/* A reader that never ends its transaction stops no writer. */
static void
a_long_reader_stops_nobody(void **state)
{
    struct kit_desk *r = *state;
    char path[KIT_PATH + 32];
    sqlite3 *db = NULL;
    struct ledger_stats s;

    path_of(r, "ledger.db", path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM attempt",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    for (unsigned i = 0; i < 1000; i++) {
        int64_t row;

        assert_int_equal(begin(r->l, 1 + i, NULL, &row), LEDGER_OK);
        assert_int_equal(finish(r->l, row, OUTCOME_SENT, NULL, 10000),
                         LEDGER_OK);
    }
    ledger_stats(r->l, &s);
    assert_int_equal(s.failures, 0);
    sqlite3_close(db);
}

/* ---- files vanish ---- */

static const struct vanish_row {
    const char *name;
    const char *gone[4]; /* removed, NULL-terminated */
    int64_t want_old;    /* rows of before that are still there */
} vanish_rows[] = {
    {"everything", {"ledger.db", "ledger.db-wal", "ledger.db-shm"}, 0},
    {"the database alone", {"ledger.db"}, 0},
    {"the WAL", {"ledger.db-wal"}, 1},
    {"the shared memory", {"ledger.db-shm"}, 1},
    {"WAL and shared memory", {"ledger.db-wal", "ledger.db-shm"}, 1},
};

static void
a_vanished_file_is_replaced(void **state)
{
    for (size_t i = 0; i < sizeof vanish_rows / sizeof *vanish_rows; i++) {
        const struct vanish_row *t = &vanish_rows[i];
        struct kit_desk *r = *state;
        struct taken charge = kit_charge(42, KIT_NOW_MS, 1);
        int64_t old, flying, next;
        enum ledger_seen s;

        print_message("  %s\n", t->name);
        assert_int_equal(begin(r->l, 1, &charge, &old), LEDGER_OK);
        assert_int_equal(finish(r->l, old, OUTCOME_SENT, NULL, 10000),
                         LEDGER_OK);
        assert_int_equal(ledger_seen(r->l, 1, "a@x", NULL, &s), LEDGER_OK);
        assert_int_equal(begin(r->l, 2, &charge, &flying), LEDGER_OK);
        for (unsigned k = 0; t->gone[k] != NULL; k++) {
            char path[KIT_PATH + 32];

            path_of(r, t->gone[k], path);
            assert_int_equal(unlink(path), 0);
        }
        /* What was in the air is in the new file, and its charge. */
        assert_int_equal(finish(r->l, flying, OUTCOME_SENT, NULL, 20000),
                         LEDGER_OK);
        assert_true(kit_wait_ok(r->l, true));
        assert_int_equal(begin(r->l, 3, &charge, &next), LEDGER_OK);
        assert_true(next > flying);
        assert_int_equal(count(r, "sent"), 1 + t->want_old);
        assert_int_equal(kit_spent(r->l, 42, DIM_MESSAGES), 2 + t->want_old);
        assert_int_equal(ledger_seen(r->l, 2, "a@x", NULL, &s), LEDGER_OK);
        assert_int_equal(s, SEEN_SENT);
        assert_int_equal(ledger_seen(r->l, 1, "a@x", NULL, &s), LEDGER_OK);
        assert_int_equal(s, t->want_old ? SEEN_SENT : SEEN_NEVER);
        kit_desk_teardown(state);
        kit_desk_setup(state);
    }
}

/* ---- files that are not ours ---- */

static void
write_file(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void
assert_refused(struct kit_desk *r, const char *word)
{
    struct ledger *l = NULL;
    char err[1024] = "";

    assert_int_equal(
        ledger_open(&l, r->directory, &clock_real, err, sizeof err),
        LEDGER_EUNAVAILABLE);
    print_message("    %s\n", err);
    assert_null(l);
    assert_non_null(strstr(err, word));
}

static const struct foreign_row {
    const char *name, *word;
    const char *sql;  /* what was done to a good ledger; NULL: see octets */
    const char *text; /* what stands in the file instead */
} foreign_rows[] = {
    {"a newer schema", "a newer gmroute (schema 3", "PRAGMA user_version = 3",
     NULL},
    {"another program's", "not a ledger of gmroute",
     "PRAGMA application_id = 5", NULL},
    {"no database", "damaged", NULL,
     "this is certainly not an SQLite database, it is only a text of more "
     "than a hundred octets, as somebody might have put there by mistake\n"},
};

static void
a_foreign_file_is_left_alone(void **state)
{
    for (size_t i = 0; i < sizeof foreign_rows / sizeof *foreign_rows; i++) {
        const struct foreign_row *t = &foreign_rows[i];
        struct kit_desk *r = *state;
        char path[KIT_PATH + 32], *now;
        FILE *f;

        print_message("  %s\n", t->name);
        ledger_close(r->l);
        r->l = NULL;
        path_of(r, "ledger.db", path);
        if (t->sql != NULL)
            assert_true(kit_exec(r->directory, t->sql));
        else
            write_file(path, t->text, strlen(t->text));
        assert_refused(r, t->word);
        if (t->text != NULL) { /* as it was */
            now = calloc(1, strlen(t->text) + 2);
            f = fopen(path, "r");
            assert_non_null(f);
            assert_int_equal(fread(now, 1, strlen(t->text) + 1, f),
                             strlen(t->text));
            assert_string_equal(now, t->text);
            fclose(f);
            free(now);
        }
        kit_desk_teardown(state);
        kit_desk_setup(state);
    }
}

/* Property: whatever octets of the file are overwritten, the book opens or is
 * refused with a text; calls end; and never a crash. */
static void
a_damaged_file_never_crashes(void **state)
{
    struct kit_desk *r = *state;
    char path[KIT_PATH + 32], beside[KIT_PATH + 32];
    uint8_t *good;
    size_t size;
    unsigned opened = 0, refused = 0;
    FILE *f;

    for (unsigned i = 0; i < 200; i++) {
        struct taken charge = kit_charge(i % 5 + 1, KIT_NOW_MS, 1);
        int64_t row;

        assert_int_equal(begin(r->l, 1 + i, &charge, &row), LEDGER_OK);
        finish(r->l, row, OUTCOME_SENT, NULL, 0);
    }
    ledger_close(r->l);
    r->l = NULL;
    path_of(r, "ledger.db", path);
    f = fopen(path, "r");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size = (size_t)ftell(f);
    rewind(f);
    good = malloc(size);
    assert_non_null(good);
    assert_int_equal(fread(good, 1, size, f), size);
    fclose(f);

    srand(7);
    for (unsigned i = 0; i < 150; i++) {
        struct ledger *l = NULL;
        uint8_t *bad = malloc(size);
        char err[1024] = "";
        size_t cut = size;

        assert_non_null(bad);
        memcpy(bad, good, size);
        if (i % 3 == 0)
            cut = (size_t)rand() % size;
        else
            for (unsigned k = 0; k < 1 + i % 10; k++)
                bad[(size_t)rand() % size] = (uint8_t)rand();
        path_of(r, "ledger.db-wal", beside);
        unlink(beside);
        path_of(r, "ledger.db-shm", beside);
        unlink(beside);
        write_file(path, bad, cut);
        free(bad);
        if (ledger_open(&l, r->directory, &clock_real, err, sizeof err) !=
            LEDGER_OK) {
            assert_true(err[0] != '\0');
            refused++;
            continue;
        }
        enum ledger_seen s;
        int64_t row;
        uint64_t n;

        opened++;
        ledger_recover(l, &n);
        ledger_seen(l, 1 + (uint64_t)i, "a@x", NULL, &s);
        if (begin(l, 1000 + i, NULL, &row) == LEDGER_OK)
            finish(l, row, OUTCOME_SENT, NULL, 20);
        ledger_close(l);
    }
    print_message("  %u opened, %u refused\n", opened, refused);
    assert_true(refused > 0);
    free(good);
}

/* Found at work, not at opening: no new send, and the remedy. */
static void
damage_found_later_stops_sending(void **state)
{
    struct kit_desk *r = *state;
    char path[KIT_PATH + 32], text[1024] = "";
    static const uint8_t junk[4096] = {0xff, 0xff, 0xff};
    int64_t row;
    int fd;

    for (unsigned i = 0; i < 2000; i++) {
        struct attempt a = kit_attempt(1 + i, "a@x", 42);
        struct attempt_result res = kit_result(0, OUTCOME_DEFERRED);

        ledger_note(r->l, &a, 1, &res);
    }
    ledger_close(r->l);
    path_of(r, "ledger.db", path);
    fd = open(path, O_RDWR);
    for (off_t at = 4096 * 12; pwrite(fd, junk, 4096, at) == 4096 &&
                               at < lseek(fd, 0, SEEK_END) - 8192;
         at += 4096)
        ;
    close(fd);
    r->l = NULL;
    if (ledger_open(&r->l, r->directory, &r->clock.clock, text, sizeof text) ==
        LEDGER_OK) {
        assert_int_equal(begin(r->l, 5555, NULL, &row), LEDGER_EUNAVAILABLE);
        ledger_trouble(r->l, text, sizeof text);
    }
    assert_non_null(strstr(text, ".recover"));
}

/* As another user, in a child: root may write everywhere. */
static void
a_directory_we_cannot_write(void **state)
{
    struct kit_desk *r = *state;
    int status;
    pid_t pid;

    ledger_close(r->l);
    r->l = NULL;
    chmod(r->directory, 0555);
    pid = fork();
    if (pid == 0) {
        struct ledger *l = NULL;
        char err[1024] = "";

        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 ||
                               setuid(65534) != 0))
            _exit(3);
        if (ledger_open(&l, r->directory, &clock_real, err, sizeof err) !=
            LEDGER_EUNAVAILABLE)
            _exit(1);
        _exit(strstr(err, "Permission denied") != NULL &&
                      strstr(err, "must be able to write") != NULL
                  ? 0
                  : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    chmod(r->directory, 0755);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
a_directory_that_is_not_there(void **state)
{
    struct kit_desk *r = *state;
    struct ledger *l = NULL;
    char err[1024] = "", where[KIT_PATH + 32], *far;

    path_of(r, "nowhere", where);
    assert_int_equal(ledger_open(&l, where, &clock_real, err, sizeof err),
                     LEDGER_EUNAVAILABLE);
    assert_non_null(strstr(err, "No such file"));
    far = malloc(5000);
    assert_non_null(far);
    memset(far, 'x', 4999);
    far[4999] = '\0';
    assert_int_equal(ledger_open(&l, far, &clock_real, err, sizeof err),
                     LEDGER_EUNAVAILABLE);
    assert_non_null(strstr(err, "longer than"));
    free(far);
}

/* An empty file is what a crash before the first commit leaves. */
static void
an_empty_file_becomes_a_book(void **state)
{
    struct kit_desk *r = *state;
    char path[KIT_PATH + 32];
    int64_t row;

    ledger_close(r->l);
    path_of(r, "ledger.db", path);
    write_file(path, "", 0);
    r->l = kit_open(r->directory, &r->clock.clock);
    assert_int_equal(begin(r->l, 1, NULL, &row), LEDGER_OK);
    assert_int_equal(count(r, "sending"), 1);
}

/* A program that dies in bulk: more entries than are kept. */
static void
notes_are_spared_first(void **state)
{
    struct kit_desk *r = *state;
    struct ledger_stats s;
    int64_t row;

    assert_int_equal(begin(r->l, 1, NULL, &row), LEDGER_OK);
    torn_vfs_fail_writes(SQLITE_FULL);
    for (unsigned i = 0; i < 12000; i++) {
        struct attempt a = kit_attempt(100 + i, "a@x", 42);
        struct attempt_result res = kit_result(0, OUTCOME_DEFERRED);

        ledger_note(r->l, &a, 1, &res);
    }
    assert_int_equal(finish(r->l, row, OUTCOME_SENT, NULL, 10),
                     LEDGER_EUNAVAILABLE);
    assert_true(kit_wait_ok(r->l, false));
    ledger_stats(r->l, &s);
    assert_true(s.failures >= 1000);
    torn_vfs_fail_writes(0);
    assert_true(kit_wait_ok(r->l, true));
    assert_int_equal(begin(r->l, 2, NULL, &row), LEDGER_OK);
    assert_int_equal(count(r, "sent"), 1); /* entries keep their order */
    assert_true(count(r, "deferred") >= 10000);
    assert_true(count(r, "deferred") < 12000);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, kit_desk_setup, kit_desk_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(results_outlive_a_bad_disk),
        TEST(a_begin_of_unknown_end_is_undone),
        TEST(a_begin_that_flew_stays),
        TEST(a_begin_that_nobody_waits_for_is_undone),
        TEST(closing_in_trouble_ends),
        TEST(closing_writes_what_waits),
        TEST(a_real_full_disk),
        TEST(one_agent_for_each_book),
        TEST(a_locked_book_is_waited_for),
        TEST(a_long_reader_stops_nobody),
        TEST(a_vanished_file_is_replaced),
        TEST(a_foreign_file_is_left_alone),
        TEST(a_damaged_file_never_crashes),
        TEST(damage_found_later_stops_sending),
        TEST(a_directory_we_cannot_write),
        TEST(a_directory_that_is_not_there),
        TEST(an_empty_file_becomes_a_book),
        TEST(notes_are_spared_first),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("ledger/trouble", tests, NULL, NULL);
}
