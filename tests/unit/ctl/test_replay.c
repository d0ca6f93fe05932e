/* tests/unit/ctl/test_replay.c - mirrors milter/ctl/replay_ledger.c and
 * replay_decide.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/replay.h"
#include "tests/unit/ledger/kit.h"

static const char text[] = "gmroute: 1\n"
                           "accounts:\n"
                           "  news:\n"
                           "    address: news@e.com\n"
                           "    auth: none\n"
                           "    quota: {messages: 2 per 24h}\n"
                           "    max_wait: 1h\n"
                           "  sales: {address: sales@e.com, auth: none}\n"
                           "rules:\n"
                           "  - name: sales\n"
                           "    match: {sender: s@e.com}\n"
                           "    route: {account: sales}\n"
                           "  - name: news\n"
                           "    match: {sender: t@e.com}\n"
                           "    route: {account: news}\n"
                           "    otherwise: [wait]\n";

static void
write_attempts(const char *directory, struct kit_clock *clock)
{
    static const struct {
        uint64_t ticket;
        const char *sender, *recipient, *identity;
        uint64_t account;
        enum outcome_kind k;
        unsigned then_s; /* until the next one */
    } past[] = {
        {1, "s@e.com", "a@x.example", "sales@e.com", 7, OUTCOME_SENT, 0},
        {1, "s@e.com", "b@x.example", "sales@e.com", 7, OUTCOME_DEFERRED, 9},
        {2, "t@e.com", "a@x.example", "sales@e.com", 7, OUTCOME_SENT, 9},
        {3, "t@e.com", "a@x.example", "old@e.com", 9, OUTCOME_SENT, 9},
        /* the second round of the first message: no message of its own */
        {1, "s@e.com", "b@x.example", "sales@e.com", 7, OUTCOME_SENT, 900},
        {4, "t@e.com", "a@x.example", "news@e.com", 8, OUTCOME_SENT, 9},
        {5, "u@e.com", "a@x.example", "", 0, OUTCOME_REFUSED, 0},
    };
    struct ledger *l = kit_open(directory, &clock->clock);

    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        struct attempt a =
            kit_attempt(past[i].ticket, past[i].recipient, past[i].account);
        struct attempt_result res;
        int64_t row;

        a.sender = past[i].sender;
        a.identity = past[i].identity;
        assert_int_equal(ledger_begin(l, &a, 1, NULL, &row), LEDGER_OK);
        res = kit_result(row, past[i].k);
        assert_int_equal(ledger_finish(l, &res, 1, NULL, NULL, 10000),
                         LEDGER_OK);
        clock->wall_ms += past[i].then_s * 1000;
    }
    ledger_close(l);
}

static void
replay_init(struct replay *r, const char *path)
{
    struct diag *d = calloc(1, sizeof *d);

    assert_non_null(d);
    *r = (struct replay){.path = path,
                         .since_s = INT64_MIN,
                         .until_s = INT64_MAX,
                         .scratch = scratch_new(),
                         .open = open_messages_new(),
                         .sim = quota_sim_new(),
                         .rules = tally_new(),
                         .unknown = tally_new(),
                         .accounts = tally_new(),
                         .changes = tally_new()};
    r->policy = policy_compile(text, sizeof text - 1, "p.yaml", NULL, d);
    if (r->policy == NULL && d->n > 0)
        print_error("%s\n", d->item[0].text);
    assert_non_null(r->policy);
    free(d);
}

static void
replay_done(struct replay *r)
{
    open_messages_free(r->open);
    quota_sim_free(r->sim);
    tally_free(r->rules);
    tally_free(r->unknown);
    tally_free(r->accounts);
    tally_free(r->changes);
    scratch_free(r->scratch);
    policy_free(r->policy);
}

static uint64_t
counted(struct tally *t, const char *name, const char *detail)
{
    size_t n;
    const struct tally_row *row = tally_rows(t, &n);

    for (size_t i = 0; i < n; i++)
        if (strcmp(row[i].name, name) == 0 &&
            strcmp(row[i].detail, detail) == 0)
            return row[i].n;
    return 0;
}

static void
a_ledger_is_replayed(void **state)
{
    char directory[KIT_PATH], path[KIT_PATH + 20], err[300] = "";
    struct kit_clock clock;
    struct replay r;

    (void)state;
    kit_directory(directory);
    snprintf(path, sizeof path, "%s/ledger.db", directory);
    kit_clock_init(&clock, KIT_NOW_MS);
    write_attempts(directory, &clock);
    assert_true(replay_is_ledger(path));
    replay_init(&r, path);
    if (!replay_ledger(&r, err, sizeof err))
        fail_msg("%s", err);
    while (open_messages_oldest(r.open) != NULL)
        replay_end(&r, open_messages_oldest(r.open));

    assert_int_equal(r.n_lines, 7);
    assert_int_equal(r.n_messages, 5);
    assert_int_equal(r.n_recipients, 6);
    assert_int_equal(r.action[ACTION_ACCOUNT], 4);
    assert_int_equal(r.action[ACTION_DEFER], 1); /* the third of a day */
    assert_int_equal(r.action[ACTION_MTA], 1);
    assert_int_equal(counted(r.rules, "sales", "p.yaml:10:5"), 2);
    assert_int_equal(counted(r.rules, "news", "p.yaml:13:5"), 3);
    assert_int_equal(counted(r.rules, "default", ""), 1);
    assert_int_equal(counted(r.accounts, "sales", ""), 2);
    assert_int_equal(counted(r.changes, "sales", "news"), 1);
    assert_int_equal(counted(r.changes, REPLAY_GONE, "news"), 1);
    assert_int_equal(counted(r.changes, "news", "defer"), 1);
    assert_int_equal(counted(r.changes, "reject", "mta"), 1);
    replay_done(&r);
    kit_remove(directory);
}

static void
what_is_no_ledger_is_told(void **state)
{
    char directory[KIT_PATH], path[KIT_PATH + 20], err[300] = "";
    struct replay r;
    FILE *f;

    (void)state;
    kit_directory(directory);
    snprintf(path, sizeof path, "%s/ledger.db", directory);
    assert_false(replay_is_ledger(path));
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("SQLite format 3", f);
    assert_int_equal(fclose(f), 0);
    assert_false(replay_is_ledger(path)); /* one octet short */
    replay_init(&r, "/somewhere/copy.db");
    assert_false(replay_ledger(&r, err, sizeof err));
    assert_non_null(strstr(err, "ledger.db"));
    replay_done(&r);
    kit_remove(directory);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ledger_is_replayed),
        cmocka_unit_test(what_is_no_ledger_is_told),
    };

    return cmocka_run_group_tests_name("ctl/replay", tests, NULL, NULL);
}
