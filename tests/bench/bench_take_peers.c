/* tests/bench/bench_take_peers.c - the same with a locked file, SQLite, Redis.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each of them does less than quota_take: three plain counters that nothing
 * ever takes out again by time, no buckets, no states, no sharing with readers
 * in other processes beyond what it does by itself.  So it is the least that
 * one of these would cost.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/bench_take.h"

enum { LIMIT = 1000000 };

static char path[300];

static void *
room_for(size_t size)
{
    void *p = calloc(1, size);

    if (p == NULL)
        taker_fail("out of memory");
    return p;
}

/* ---- a file, a record for each account, fcntl(2) locks ---- */

struct file {
    int fd;
};

static void
file_open(const char *directory)
{
    uint64_t zero[TAKE_ACCOUNTS * TAKE_WINDOWS] = {0};
    int fd;

    snprintf(path, sizeof path, "%s/counters", directory);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, zero, sizeof zero) != sizeof zero)
        taker_fail("cannot make the file of counters");
    close(fd);
}

static void *
file_join(void)
{
    struct file *f = room_for(sizeof *f);

    f->fd = open(path, O_RDWR | O_CLOEXEC);
    if (f->fd < 0)
        taker_fail("cannot open the file of counters");
    return f;
}

/* Locks of the open file, so that they hold between threads too. */
static void
file_lock(const struct file *f, short type, off_t at)
{
    struct flock lock = {.l_type = type,
                         .l_whence = SEEK_SET,
                         .l_start = at,
                         .l_len = TAKE_WINDOWS * 8};

    if (fcntl(f->fd, F_OFD_SETLKW, &lock) != 0)
        taker_fail("fcntl");
}

static void
file_add(const struct file *f, unsigned account, int64_t n)
{
    off_t at = (off_t)account * TAKE_WINDOWS * 8;
    int64_t count[TAKE_WINDOWS];

    file_lock(f, F_WRLCK, at);
    if (pread(f->fd, count, sizeof count, at) != sizeof count)
        taker_fail("pread");
    for (unsigned i = 0; i < TAKE_WINDOWS; i++)
        if (count[i] + n > LIMIT)
            taker_fail("no room in the file");
    for (unsigned i = 0; i < TAKE_WINDOWS; i++)
        count[i] += n;
    if (pwrite(f->fd, count, sizeof count, at) != sizeof count)
        taker_fail("pwrite");
    file_lock(f, F_UNLCK, at);
}

static void
file_take(void *thread, unsigned account)
{
    file_add(thread, account, 1);
    file_add(thread, account, -1);
}

static void
file_leave(void *thread)
{
    struct file *f = thread;

    close(f->fd);
    free(f);
}

const struct taker taker_fcntl = {"fcntl", file_open, file_join, file_take,
                                  file_leave};

/* ---- SQLite, one row for each account, no fsync ---- */

struct table {
    sqlite3 *db;
    sqlite3_stmt *begin, *add, *commit;
};

static void
table_exec(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        taker_fail(sqlite3_errmsg(db));
}

static sqlite3_stmt *
table_prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        taker_fail(sqlite3_errmsg(db));
    return st;
}

static sqlite3 *
table_connect(void)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        taker_fail("cannot open the database");
    sqlite3_busy_timeout(db, 60000);
    table_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    return db;
}

static void
table_open(const char *directory)
{
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/counters.db", directory);
    unlink(path);
    db = table_connect();
    table_exec(db, "CREATE TABLE account(id INTEGER PRIMARY KEY, a INTEGER,"
                   " b INTEGER, c INTEGER);"
                   "INSERT INTO account VALUES(0,0,0,0),(1,0,0,0),(2,0,0,0),"
                   "(3,0,0,0),(4,0,0,0),(5,0,0,0),(6,0,0,0),(7,0,0,0)");
    sqlite3_close(db);
}

static void *
table_join(void)
{
    struct table *t = room_for(sizeof *t);

    t->db = table_connect();
    t->begin = table_prepare(t->db, "BEGIN IMMEDIATE");
    t->add =
        table_prepare(t->db, "UPDATE account SET a = a + ?2, b = b + ?2,"
                             " c = c + ?2 WHERE id = ?1 AND a + ?2 <= 1000000"
                             " AND b + ?2 <= 1000000 AND c + ?2 <= 1000000");
    t->commit = table_prepare(t->db, "COMMIT");
    return t;
}

static void
table_step(const struct table *t, sqlite3_stmt *st)
{
    if (sqlite3_step(st) != SQLITE_DONE)
        taker_fail(sqlite3_errmsg(t->db));
    sqlite3_reset(st);
}

static void
table_add(const struct table *t, unsigned account, int n)
{
    table_step(t, t->begin);
    sqlite3_bind_int(t->add, 1, (int)account);
    sqlite3_bind_int(t->add, 2, n);
    table_step(t, t->add);
    if (sqlite3_changes(t->db) != 1)
        taker_fail("no room in the table");
    table_step(t, t->commit);
}

static void
table_take(void *thread, unsigned account)
{
    table_add(thread, account, 1);
    table_add(thread, account, -1);
}

static void
table_leave(void *thread)
{
    struct table *t = thread;

    sqlite3_finalize(t->begin);
    sqlite3_finalize(t->add);
    sqlite3_finalize(t->commit);
    sqlite3_close(t->db);
    free(t);
}

const struct taker taker_sqlite = {"SQLite", table_open, table_join, table_take,
                                   table_leave};

/* ---- Redis over a unix socket, a script ---- */

struct redis {
    int fd;
    char command[2][TAKE_ACCOUNTS][200]; /* take, give back */
};

static char sha[41];

static void
redis_call(int fd, const char *command, char *ret, size_t size)
{
    size_t len = strlen(command), got = 0;

    if (write(fd, command, len) != (ssize_t)len)
        taker_fail("cannot write to Redis");
    do {
        ssize_t n = read(fd, ret + got, size - 1 - got);

        if (n <= 0)
            taker_fail("Redis has gone");
        got += (size_t)n;
        ret[got] = '\0';
    } while (ret[got - 1] != '\n' ||
             (ret[0] == '$' && strchr(ret, '\n') == &ret[got - 1]));
    if (ret[0] == '-')
        taker_fail(ret);
}

static int
redis_connect(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof a) != 0)
        taker_fail("cannot connect to Redis");
    return fd;
}

static void
redis_open(const char *socket_path)
{
    static const char script[] =
        "local n = tonumber(ARGV[1]) "
        "local c = redis.call('HMGET', KEYS[1], 'a', 'b', 'c') "
        "for i = 1, 3 do "
        "if tonumber(c[i] or 0) + n > 1000000 then return 0 end end "
        "redis.call('HINCRBY', KEYS[1], 'a', n) "
        "redis.call('HINCRBY', KEYS[1], 'b', n) "
        "redis.call('HINCRBY', KEYS[1], 'c', n) return 1";
    char command[1000], reply[200];
    int fd;

    snprintf(path, sizeof path, "%s", socket_path);
    fd = redis_connect();
    snprintf(command, sizeof command,
             "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%zu\r\n%s\r\n",
             strlen(script), script);
    redis_call(fd, command, reply, sizeof reply);
    if (strncmp(reply, "$40\r\n", 5) != 0)
        taker_fail("Redis does not take the script");
    memcpy(sha, reply + 5, 40);
    close(fd);
}

static void *
redis_join(void)
{
    struct redis *r = room_for(sizeof *r);

    r->fd = redis_connect();
    for (unsigned back = 0; back < 2; back++)
        for (unsigned i = 0; i < TAKE_ACCOUNTS; i++)
            snprintf(r->command[back][i], sizeof r->command[back][i],
                     "*5\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1\r\n"
                     "$2\r\na%u\r\n%s\r\n",
                     sha, i, back ? "$2\r\n-1" : "$1\r\n1");
    return r;
}

static void
redis_take(void *thread, unsigned account)
{
    struct redis *r = thread;
    char reply[200];

    for (unsigned back = 0; back < 2; back++) {
        redis_call(r->fd, r->command[back][account], reply, sizeof reply);
        if (strcmp(reply, ":1\r\n") != 0)
            taker_fail("no room in Redis");
    }
}

static void
redis_leave(void *thread)
{
    struct redis *r = thread;

    close(r->fd);
    free(r);
}

const struct taker taker_redis = {"Redis", redis_open, redis_join, redis_take,
                                  redis_leave};
