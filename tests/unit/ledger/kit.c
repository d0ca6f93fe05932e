/* tests/unit/ledger/kit.c - see kit.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/ledger/kit.h"

#include <ftw.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/window.h"
#include "tests/unit/ledger/torn_vfs.h"

void
kit_directory(char ret[KIT_PATH])
{
    const char *base = getenv("TMPDIR");

    snprintf(ret, KIT_PATH, "%.90s/gmledger-XXXXXX",
             base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(ret));
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

void
kit_remove(const char *directory)
{
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static uint64_t
boot_ms(void *cookie)
{
    (void)cookie;
    return clock_boot_ms(&clock_real);
}

static int64_t
wall_ms(void *cookie)
{
    struct kit_clock *c = cookie;

    return c->wall_ms;
}

void
kit_clock_init(struct kit_clock *c, uint64_t wall)
{
    c->clock = (struct clock){boot_ms, wall_ms, c};
    c->wall_ms = (int64_t)wall;
}

struct ledger *
kit_open(const char *directory, const struct clock *clock)
{
    struct ledger *l = NULL;
    char err[1024] = "";

    if (ledger_open(&l, directory, clock, err, sizeof err) != LEDGER_OK)
        fail_msg("ledger_open: %s", err);
    return l;
}

struct digest
kit_digest(uint8_t fill)
{
    struct digest d;

    memset(d.octet, fill, sizeof d.octet);
    return d;
}

int
kit_desk_setup(void **state)
{
    struct kit_desk *d = calloc(1, sizeof *d);

    assert_non_null(d);
    kit_directory(d->directory);
    kit_clock_init(&d->clock, KIT_NOW_MS);
    d->l = kit_open(d->directory, &d->clock.clock);
    *state = d;
    return 0;
}

int
kit_desk_teardown(void **state)
{
    struct kit_desk *d = *state;

    torn_vfs_fail_writes(0);
    torn_vfs_fail_syncs(0);
    torn_vfs_slow_syncs(0);
    ledger_close(d->l);
    kit_remove(d->directory);
    torn_vfs_forget();
    free(d);
    return 0;
}

void
kit_desk_reopen(struct kit_desk *d)
{
    ledger_close(d->l);
    d->l = kit_open(d->directory, &d->clock.clock);
}

struct attempt
kit_attempt(uint64_t ticket, const char *recipient, uint64_t account)
{
    return (struct attempt){
        .ticket = ticket,
        .recipient = recipient,
        .queue_id = "4XyZ1",
        .sender = "s@example.com",
        .identity = account == 0 ? "" : "sales@example.com",
        .account = account,
        .message_id = "<1@example.com>",
        .size_octets = 1234,
        .digest = kit_digest(7),
    };
}

struct attempt_result
kit_result(int64_t row, enum outcome_kind k)
{
    return (struct attempt_result){
        .row = row,
        .kind = k,
        .stage = STAGE_CONTENT,
        .code = k == OUTCOME_SENT ? 250 : 451,
        .enhanced = k == OUTCOME_SENT ? "2.0.0" : "4.3.0",
        .reply = "so says Gmail",
        .duration_ms = 321,
    };
}

struct taken
kit_charge(uint64_t account, uint64_t at_ms, uint32_t recipients)
{
    struct taken t = {
        .id = account,
        .at_ms = at_ms,
        .cost = {.messages = 1, .recipients = recipients},
        .n = 3,
    };
    static const struct {
        enum dimension d;
        uint64_t window_ms;
    } window[] = {{DIM_MESSAGES, KIT_DAY_MS},
                  {DIM_RECIPIENTS, KIT_DAY_MS},
                  {DIM_PACE, KIT_DAY_MS / 24}};

    for (unsigned i = 0; i < t.n; i++) {
        t.charge[i].dimension = window[i].d;
        t.charge[i].window_ms = window[i].window_ms;
        t.charge[i].bucket = at_ms * WINDOW_PARTS / window[i].window_ms;
        t.charge[i].units = i == 1 ? recipients : 1;
    }
    return t;
}

struct sum {
    uint64_t account, units;
    enum dimension d;
};

static void
add_up(void *cookie, uint64_t account, const char *identity, enum dimension d,
       uint64_t window_ms, uint64_t bucket, uint64_t units)
{
    struct sum *s = cookie;

    (void)identity;
    (void)window_ms;
    (void)bucket;
    if (account == s->account && d == s->d)
        s->units += units;
}

uint64_t
kit_spent(struct ledger *l, uint64_t account, enum dimension d)
{
    struct sum s = {.account = account, .d = d};

    assert_int_equal(ledger_spent(l, (struct ledger_part){0, 1}, add_up, &s),
                     LEDGER_OK);
    return s.units;
}

static sqlite3 *
raw(const char *directory)
{
    char path[KIT_PATH + 16];
    sqlite3 *db = NULL;
    int persist = 1;

    snprintf(path, sizeof path, "%s/ledger.db", directory);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    sqlite3_busy_timeout(db, 5000);
    return db;
}

int64_t
kit_number(const char *directory, const char *sql)
{
    sqlite3 *db = raw(directory);
    sqlite3_stmt *st = NULL;
    int64_t v = -1;

    if (db != NULL && sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return v;
}

bool
kit_exec(const char *directory, const char *sql)
{
    sqlite3 *db = raw(directory);
    bool ok =
        db != NULL && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;

    sqlite3_close(db);
    return ok;
}

bool
kit_wait(bool (*yes)(void *cookie), void *cookie)
{
    for (unsigned i = 0; i < 3000; i++) {
        if (yes(cookie))
            return true;
        usleep(10000);
    }
    return false;
}

static bool
is_ok(void *cookie)
{
    return ledger_ok(cookie);
}

static bool
is_not_ok(void *cookie)
{
    return !ledger_ok(cookie);
}

bool
kit_wait_ok(struct ledger *l, bool ok)
{
    return kit_wait(ok ? is_ok : is_not_ok, l);
}
