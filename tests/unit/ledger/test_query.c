/* tests/unit/ledger/test_query.c - mirrors milter/ledger/query.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/ledger/query.h"
#include "tests/unit/ledger/kit.h"

/* Six attempts, told apart by their tickets 1..6, a second each. */
static int
desk_setup(void **state)
{
    static const struct {
        const char *queue_id, *sender, *recipient, *message_id, *identity;
        uint64_t account;
        enum outcome_kind k;
    } past[] = {
        {"Q1", "s@e.com", "a@x", "<1@e>", "sales@e.com", 7, OUTCOME_SENT},
        {"Q1", "s@e.com", "b@x", "<1@e>", "sales@e.com", 7, OUTCOME_REFUSED},
        {"Q2", "t@e.com", "a@x", "<2@e>", "news@e.com", 8, OUTCOME_DEFERRED},
        {"Q2", "t@e.com", "a@x", "<2@e>", "news@e.com", 8, OUTCOME_IN_DOUBT},
        {"Q3", "", "c@x", "", "", 0, OUTCOME_DEFERRED},
        {"Q4", "s@e.com", "a@x", "<4@e>", "sales@e.com", 7, OUTCOME_SENT},
    };
    struct kit_desk *d;

    kit_desk_setup(state);
    d = *state;
    for (unsigned i = 0; i < 6; i++) {
        struct attempt a = kit_attempt(i + 1, past[i].recipient, 0);
        struct attempt_result res;
        int64_t row;

        a.queue_id = past[i].queue_id;
        a.sender = past[i].sender;
        a.message_id = past[i].message_id;
        a.identity = past[i].identity;
        a.account = past[i].account;
        a.diverted_from = past[i].account == 7 ? 8 : 0;
        assert_int_equal(ledger_begin(d->l, &a, 1, NULL, &row), LEDGER_OK);
        res = kit_result(row, past[i].k);
        assert_int_equal(ledger_finish(d->l, &res, 1, NULL, NULL, 10000),
                         LEDGER_OK);
        d->clock.wall_ms += 1000;
    }
    return 0;
}

struct got {
    char tickets[4096]; /* "1 2 3 " */
    unsigned n, stop_after;
    struct query_row last; /* its texts are dead */
    char reply[64], outcome[16];
};

static bool
note(void *cookie, const struct query_row *r)
{
    struct got *g = cookie;
    size_t len = strlen(g->tickets);

    if (len < sizeof g->tickets - 24)
        snprintf(g->tickets + len, 24, "%llu ", (unsigned long long)r->ticket);
    g->last = *r;
    snprintf(g->reply, sizeof g->reply, "%s", r->reply);
    snprintf(g->outcome, sizeof g->outcome, "%s", r->outcome);
    return ++g->n != g->stop_after;
}

static const struct row {
    const char *name;
    struct query_filter f;
    const char *want;
} rows[] = {
    {"everything, oldest first", {0}, "1 2 3 4 5 6 "},
    {"a queue id", {.queue_id = "Q1"}, "1 2 "},
    {"an account", {.identity = "news@e.com"}, "3 4 "},
    {"an account in capitals", {.identity = "NEWS@E.com"}, "3 4 "},
    {"an unknown account", {.identity = "nobody@e.com"}, ""},
    {"a recipient", {.recipient = "a@x"}, "1 3 4 6 "},
    {"a recipient in capitals", {.recipient = "A@X"}, "1 3 4 6 "},
    {"a sender", {.sender = "t@e.com"}, "3 4 "},
    {"a Message-ID", {.message_id = "<4@e>"}, "6 "},
    {"an outcome", {.outcome = "deferred"}, "3 5 "},
    {"in doubt", {.outcome = "in_doubt"}, "4 "},
    {"a ticket", {.ticket = 5}, "5 "},
    {"since a time", {.since_ms = (int64_t)KIT_NOW_MS + 4000}, "5 6 "},
    {"the newest two", {.limit = 2}, "5 6 "},
    {"the newest sent", {.outcome = "sent", .limit = 1}, "6 "},
    {"all must hold", {.recipient = "a@x", .outcome = "sent"}, "1 6 "},
    {"SQL is text", {.queue_id = "Q1' OR 1=1 --"}, ""},
    {"empty is any", {.queue_id = "", .sender = ""}, "1 2 3 4 5 6 "},
};

static void
filters_each_row(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    char err[1024] = "";

    assert_true(query_open(&q, d->directory, err, sizeof err));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct got g = {.n = 0};

        print_message("  %s\n", rows[i].name);
        assert_true(query_rows(q, &rows[i].f, note, &g, err, sizeof err));
        assert_string_equal(g.tickets, rows[i].want);
    }
    query_close(q);
    query_close(NULL);
}

static void
a_row_has_all_its_columns(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    struct got g = {.n = 0};
    struct query_filter f = {.ticket = 2};
    char err[1024];

    assert_true(query_open(&q, d->directory, err, sizeof err));
    assert_true(query_rows(q, &f, note, &g, err, sizeof err));
    assert_int_equal(g.n, 1);
    assert_int_equal(g.last.at_ms, KIT_NOW_MS + 1000);
    assert_int_equal(g.last.account, 7);
    assert_int_equal(g.last.size_octets, 1234);
    assert_int_equal(g.last.code, 451);
    assert_int_equal(g.last.duration_ms, 321);
    assert_string_equal(g.reply, "so says Gmail");
    assert_string_equal(g.outcome, "refused");
    query_close(q);
}

static void
the_caller_can_stop(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    struct got g = {.stop_after = 2};
    struct query_filter f = {0};
    char err[1024];

    assert_true(query_open(&q, d->directory, err, sizeof err));
    assert_true(query_rows(q, &f, note, &g, err, sizeof err));
    assert_string_equal(g.tickets, "1 2 ");
    query_close(q);
}

static int64_t
oldest_waiting(struct kit_desk *d, uint64_t account, int64_t since_ms)
{
    struct query *q = NULL;
    int64_t ms = -1;
    char err[1024];

    assert_true(query_open(&q, d->directory, err, sizeof err));
    if (!query_oldest_waiting(q, account, since_ms, &ms, err, sizeof err))
        fail_msg("%s", err);
    query_close(q);
    return ms;
}

static void
who_waits_longest(void **state)
{
    struct kit_desk *d = *state;
    struct attempt a = kit_attempt(3, "a@x", 8);
    struct attempt_result res;
    int64_t row;

    /* Ticket 3 was put off; 4 is in doubt; 5 is nobody's account. */
    assert_int_equal(oldest_waiting(d, 0, 0), KIT_NOW_MS + 2000);
    assert_int_equal(oldest_waiting(d, 8, 0), KIT_NOW_MS + 2000);
    assert_int_equal(oldest_waiting(d, 7, 0), 0);
    assert_int_equal(oldest_waiting(d, 0, KIT_NOW_MS + 2001),
                     KIT_NOW_MS + 3000);
    /* Put off once more: it waits since its first try, which is long ago. */
    a.identity = "news@e.com";
    assert_int_equal(ledger_begin(d->l, &a, 1, NULL, &row), LEDGER_OK);
    assert_int_equal(oldest_waiting(d, 0, 0), KIT_NOW_MS + 3000); /* flies */
    res = kit_result(row, OUTCOME_DEFERRED);
    assert_int_equal(ledger_finish(d->l, &res, 1, NULL, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(oldest_waiting(d, 8, KIT_NOW_MS + 5000),
                     KIT_NOW_MS + 2000);
    /* And sent. */
    assert_int_equal(ledger_begin(d->l, &a, 1, NULL, &row), LEDGER_OK);
    res = kit_result(row, OUTCOME_SENT);
    assert_int_equal(ledger_finish(d->l, &res, 1, NULL, NULL, 10000),
                     LEDGER_OK);
    assert_int_equal(oldest_waiting(d, 0, 0), KIT_NOW_MS + 3000);
    assert_int_equal(oldest_waiting(d, 0, KIT_NOW_MS + 3001), 0);
}

static bool
write_meanwhile(void *cookie, const struct query_row *r)
{
    struct kit_desk *d = cookie;
    struct attempt a = kit_attempt(r->ticket + 100, "a@x", 7);
    int64_t row;

    /* No transaction of the query's is open now: a checkpoint that needs the
     * whole WAL to itself goes through. */
    return ledger_begin(d->l, &a, 1, NULL, &row) == LEDGER_OK &&
           kit_number(d->directory, "PRAGMA wal_checkpoint(RESTART)") == 0;
}

static void
a_slow_caller_holds_nothing_up(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    struct query_filter f = {0};
    char err[1024];

    assert_true(query_open(&q, d->directory, err, sizeof err));
    assert_true(query_rows(q, &f, write_meanwhile, d, err, sizeof err));
    query_close(q);
    assert_int_equal(kit_number(d->directory, "SELECT count(*) FROM attempt"),
                     12);
}

/* More rows than one portion and one scan hold. */
static void
many_rows_come_whole(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    struct got g = {.n = 0};
    struct query_filter f = {.limit = 200000};
    char err[1024];

    assert_true(kit_exec(
        d->directory,
        "INSERT INTO attempt SELECT 100 + value * 3, 1, 0, 7, value, 'Q', 's',"
        " 'r', 1, '', x'', CASE WHEN value = 7 THEN 'sent' ELSE 'deferred'"
        " END, '', 0, '', '', 0, 0 FROM (WITH RECURSIVE c(value) AS (VALUES(1)"
        " UNION ALL SELECT value + 1 FROM c WHERE value < 60000)"
        " SELECT value FROM c)"));
    assert_true(query_open(&q, d->directory, err, sizeof err));
    assert_true(query_rows(q, &f, note, &g, err, sizeof err));
    assert_int_equal(g.n, 60006);
    assert_int_equal(g.last.ticket, 60000);
    f = (struct query_filter){.outcome = "sent", .limit = 3};
    g = (struct got){.n = 0};
    assert_true(query_rows(q, &f, note, &g, err, sizeof err));
    assert_string_equal(g.tickets, "1 6 7 ");
    query_close(q);
}

static const struct text_row {
    const char *name, *in, *want;
} text_rows[] = {
    {"plain", "250 OK", "250 OK"},
    {"UTF-8", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xa7",
     "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xa7"},
    {"terminal commands", "a\x1b[2Jb\r\nc\x7f", "a?[2Jb??c?"},
    {"C1 controls",
     "a\xc2\x9b"
     "2J",
     "a??2J"},
    {"Latin-1", "M\xfcller", "M?ller"},
    {"cut in the middle", "a\xe2\x82", "a??"},
    {"overlong", "\xc0\xaf\xe0\x80\xaf", "?????"},
    {"surrogate", "\xed\xa0\x80", "???"},
    {"past the end", "\xf4\x90\x80\x80\xf5", "?????"},
};

static void
texts_of_strangers_are_harmless(void **state)
{
    struct kit_desk *d = *state;
    struct query *q = NULL;
    char err[1024];

    assert_true(query_open(&q, d->directory, err, sizeof err));
    for (size_t i = 0; i < sizeof text_rows / sizeof *text_rows; i++) {
        struct attempt a = kit_attempt(1000 + i, "a@x", 7);
        struct query_filter f = {.ticket = 1000 + i};
        struct got g = {.n = 0};
        struct attempt_result res;
        int64_t row;

        print_message("  %s\n", text_rows[i].name);
        assert_int_equal(ledger_begin(d->l, &a, 1, NULL, &row), LEDGER_OK);
        res = kit_result(row, OUTCOME_SENT);
        res.reply = text_rows[i].in;
        assert_int_equal(ledger_finish(d->l, &res, 1, NULL, NULL, 10000),
                         LEDGER_OK);
        assert_true(query_rows(q, &f, note, &g, err, sizeof err));
        assert_string_equal(g.reply, text_rows[i].want);
    }
    query_close(q);
}

/* ---- what can go wrong at opening ---- */

static void
assert_no_query(const char *directory, const char *word)
{
    struct query *q = NULL;
    char err[1024] = "";

    assert_false(query_open(&q, directory, err, sizeof err));
    print_message("    %s\n", err);
    assert_null(q);
    assert_non_null(strstr(err, word));
}

static void
says_why_it_cannot_open(void **state)
{
    struct kit_desk *d = *state;
    char path[KIT_PATH + 32];
    FILE *f;

    ledger_close(d->l);
    d->l = NULL;
    assert_no_query("/nonexistent", "has not made it yet");
    assert_true(kit_exec(d->directory, "PRAGMA user_version = 9"));
    assert_no_query(d->directory, "schema 9");
    snprintf(path, sizeof path, "%s/ledger.db", d->directory);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_no_query(d->directory, "has not made it yet");
    f = fopen(path, "w");
    assert_non_null(f);
    for (unsigned i = 0; i < 5000; i++)
        fputs("junk", f);
    fclose(f);
    assert_no_query(d->directory, "not a database");
}

/* As a user who can read the three files and write none. */
static int
read_as_nobody(const struct kit_desk *d)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct query *q = NULL;
        struct got g = {.n = 0};
        struct query_filter f = {0};
        char err[1024] = "";

        if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
            _exit(3);
        if (!query_open(&q, d->directory, err, sizeof err)) {
            fprintf(stderr, "    %s\n", err);
            _exit(strstr(err, "permission to read") != NULL ? 4 : 5);
        }
        if (!query_rows(q, &f, note, &g, err, sizeof err)) {
            fprintf(stderr, "    %s\n", err);
            _exit(6);
        }
        query_close(q);
        _exit(strcmp(g.tickets, "1 2 3 4 5 6 ") == 0 ? 0 : 7);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static void
set_modes(const struct kit_desk *d, mode_t mode)
{
    static const char *const file[] = {"ledger.db", "ledger.db-wal",
                                       "ledger.db-shm"};

    for (unsigned i = 0; i < 3; i++) {
        char path[KIT_PATH + 32];

        snprintf(path, sizeof path, "%s/%s", d->directory, file[i]);
        assert_int_equal(chmod(path, mode), 0);
    }
}

static void
reading_needs_no_right_to_write(void **state)
{
    struct kit_desk *d = *state;

    if (geteuid() != 0)
        skip();
    chmod(d->directory, 0755);
    set_modes(d, 0644);
    assert_int_equal(read_as_nobody(d), 0); /* beside the agent */
    ledger_close(d->l);
    d->l = NULL;
    assert_int_equal(read_as_nobody(d), 0); /* after it */
    set_modes(d, 0640);
    assert_int_equal(read_as_nobody(d), 4); /* and says what it needs */
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, desk_setup, kit_desk_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(filters_each_row),
        TEST(a_row_has_all_its_columns),
        TEST(who_waits_longest),
        TEST(the_caller_can_stop),
        TEST(a_slow_caller_holds_nothing_up),
        TEST(many_rows_come_whole),
        TEST(texts_of_strangers_are_harmless),
        TEST(says_why_it_cannot_open),
        TEST(reading_needs_no_right_to_write),
    };

    return cmocka_run_group_tests_name("ledger/query", tests, NULL, NULL);
}
