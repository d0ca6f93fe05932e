/* tests/unit/deliver/test_relay.c - one LMTP transaction, its accounts and its
 * server: who waits for whom, and whom a reply is about.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All but the MTA is real: pool, ledger, quota, tickets, TLS, and a server that
 * says what it is told.  The clock runs fast, so that seconds of waiting pass.
 */
#include "milter/deliver/relay.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/log.h"
#include "tests/unit/deliver/liar.h"
#include "tests/unit/ledger/torn_vfs.h"

enum { ACCOUNTS = 20, ROUNDS = 8, FAST = 10, PAIR = 19 /* has two sessions */ };

/* ---- a clock that runs fast ---- */

static uint64_t began_ms;

static uint64_t
fast_boot_ms(void *cookie)
{
    uint64_t now_ms = clock_boot_ms(&clock_real);

    (void)cookie;
    return began_ms + (now_ms - began_ms) * FAST;
}

static int64_t
fast_wall_ms(void *cookie)
{
    (void)cookie;
    return clock_wall_ms(&clock_real);
}

static const struct clock fast = {fast_boot_ms, fast_wall_ms, NULL};

/* ---- the stage ---- */

struct stage {
    struct liar liar;
    char top[64];
    struct policy *policy;
    struct ticket_keys keys;
    struct status_reader *status;
    struct quota_reader *reader;
    struct relay_env env;
    _Atomic uint64_t ticket;
};

static void
write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, 0600), 0);
}

/* user0..9@example.com, user10..19@example.org; one session each, the last
 * one two. */
static void
write_config(struct stage *s, const char *path)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fprintf(f,
            "gmroute: 1\nhostname: relay.test\nmta_domains: [example.com]\n"
            "state: {directory: \"%s\", runtime: \"%s\", accounts: 64}\n"
            "smarthosts:\n  gmail: {host: smtp.example, connect: 127.0.0.1, "
            "port: %u, tls: implicit, ca_file: \"%s\"}\n"
            "rules:\n  - match: {sender: user0@example.com}\n"
            "    route: {account: user0}\ndefault: mta\naccounts:\n",
            s->top, s->top, (unsigned)s->liar.port, s->liar.ca_file);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        fprintf(f,
                "  user%u: {address: user%u@example.%s, auth: {password_file: "
                "pw}, sessions: {max: %u}}\n",
                i, i, i < ACCOUNTS / 2 ? "com" : "org", 1 + (i == PAIR));
    fclose(f);
}

static int
set_up(void **state)
{
    struct stage *s = calloc(1, sizeof *s);
    struct pool_options o = {
        .clock = &fast, .hostname = "relay.test", .sessions_max = 100};
    char path[100], err[500] = "";
    struct diag d = {0};

    assert_non_null(s);
    log_open("test", LOG_TO_STDERR, LOG_LEVEL_ERROR);
    began_ms = clock_boot_ms(&clock_real);
    liar_start(&s->liar, NULL);
    snprintf(s->top, sizeof s->top, "/tmp/test_relay.XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(path, sizeof path, "%s/pw", s->top);
    write_file(path, "abcdefghijklmnop\n");
    snprintf(path, sizeof path, "%s/gmroute.yaml", s->top);
    write_config(s, path);
    s->policy = conf_load(path, &d);
    assert_non_null(s->policy);
    s->env.conf = conf_holder_new(s->policy);
    s->env.clock = &fast;
    s->env.keys = &s->keys;
    s->env.hostname = "relay.test";
    if (!conf_ticket_keys_make(s->top, err, sizeof err) ||
        !conf_ticket_keys(s->top, &s->keys, err, sizeof err) ||
        ledger_open(&s->env.ledger, s->top, &fast, err, sizeof err) !=
            LEDGER_OK ||
        quota_make(&s->env.quota, s->top, s->policy, &fast, 0, err,
                   sizeof err) != STATE_OK ||
        hints_open(&s->env.hints, s->top, 64, err, sizeof err) != STATE_OK)
        fail_msg("%s", err);
    s->env.attempts = attempts_new(s->env.quota);
    s->env.suspects = suspects_new();
    s->reader = quota_reader_new(s->top, &fast);
    s->status = status_reader_new(s->top, true);
    o.quota = s->env.quota;
    o.status = s->status;
    s->env.pool = pool_new(&o);
    assert_true(s->env.attempts != NULL && s->env.suspects != NULL &&
                s->reader != NULL && s->status != NULL && s->env.pool != NULL);
    *state = s;
    return 0;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int
tear_down(void **state)
{
    struct stage *s = *state;

    pool_drain(s->env.pool, 0);
    pool_free(s->env.pool);
    attempts_free(s->env.attempts);
    suspects_free(s->env.suspects);
    status_reader_free(s->status);
    quota_reader_free(s->reader);
    hints_free(s->env.hints);
    ledger_close(s->env.ledger);
    torn_vfs_forget();
    quota_free(s->env.quota);
    conf_holder_free(s->env.conf);
    liar_stop(&s->liar);
    nftw(s->top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

static struct mailbox
mailbox(const struct stage *s, unsigned i)
{
    char address[60];
    struct mailbox m;

    snprintf(address, sizeof address, "user%u@example.%s", i,
             i < ACCOUNTS / 2 ? "com" : "org");
    assert_true(policy_mailbox(s->policy, address, &m));
    return m;
}

static struct relay *
begin_empty(struct stage *s, struct ticket *ret)
{
    struct relay *r = relay_new(&s->env, "a@example.com", "QUEUE1");

    assert_non_null(r);
    *ret = (struct ticket){.number = atomic_fetch_add(&s->ticket, 1) + 1,
                           .minute = (uint32_t)(fast_wall_ms(NULL) / 60000),
                           .from = FROM_KEEP,
                           .share_percent = 100};
    return r;
}

static void
add(struct stage *s, struct relay *r, const struct ticket *t, unsigned account,
    unsigned recipient)
{
    struct mailbox m = mailbox(s, account);
    char tagged[TAGGED_MAX + 1], to[40];

    snprintf(to, sizeof to, "you%u@far.test", recipient);
    assert_int_equal(
        ticket_write(t, slice_of(to), &m, s->policy->milter.tag_domain,
                     &s->keys, tagged),
        TICKET_OK);
    assert_string_equal(relay_rcpt(r, tagged), "250 2.1.5 OK");
}

/* A transaction with a recipient for each of n accounts from `first` on. */
static struct relay *
begin(struct stage *s, unsigned first, unsigned n)
{
    struct ticket t;
    struct relay *r = begin_empty(s, &t);

    for (unsigned i = first; i < first + n; i++)
        add(s, r, &t, i, i);
    return r;
}

static void
content(struct relay *r)
{
    static const char text[] = "From: a@example.com\r\nMessage-ID: <1@x>\r\n"
                               "Date: Sun, 01 Mar 2026 10:00:00 +0000\r\n\r\n"
                               "hello\r\n";

    relay_content(r, text, sizeof text - 1);
    relay_finish(r);
}

/* All of it; how many recipients got a reply that begins with `want`. */
static size_t
deliver(struct stage *s, unsigned first, unsigned n, const char *want)
{
    struct relay *r = begin(s, first, n);
    const char *reply = relay_data(r);
    size_t got = 0;

    if (reply[0] == '3') {
        content(r);
        for (size_t i = 0; i < n; i++)
            got += strncmp(relay_reply(r, i), want, strlen(want)) == 0;
    } else {
        got = strncmp(reply, want, strlen(want)) == 0 ? n : 0;
    }
    relay_free(r);
    return got;
}

static enum account_state
state_of(struct stage *s, unsigned i)
{
    struct quota_view v;

    assert_int_equal(quota_peek(s->reader, mailbox(s, i).id, &v), STATE_OK);
    return v.state;
}

/* ---- several accounts in one transaction ---- */

static void
accounts_go_side_by_side(void **state)
{
    struct stage *s = *state;

    atomic_store(&s->liar.final_delay_ms, 50);
    assert_int_equal(deliver(s, 0, ACCOUNTS, "250 "), ACCOUNTS);
    assert_int_equal(deliver(s, 0, ACCOUNTS, "250 "), ACCOUNTS);
    assert_int_equal(atomic_load(&s->liar.messages), 2 * ACCOUNTS);
    assert_int_equal(atomic_load(&s->liar.logins), ACCOUNTS);
}

struct finishing {
    struct relay *r;
    atomic_bool done;
};

static void *
finish_main(void *cookie)
{
    struct finishing *f = cookie;

    assert_int_equal(relay_data(f->r)[0], '3');
    content(f->r);
    atomic_store(&f->done, true);
    return NULL;
}

/* The only session of the first account is in other hands. */
static void
a_busy_account_holds_nobody_up(void **state)
{
    struct stage *s = *state;
    struct mailbox busy = mailbox(s, 0);
    struct finishing f = {.r = begin(s, 0, 3)};
    struct lease held;
    pthread_t thread;

    assert_int_equal(quota_open(s->env.quota, &busy), STATE_OK);
    held = pool_lease(s->env.pool, &busy, fast_boot_ms(NULL) + 60000, false);
    assert_non_null(held.session);
    assert_int_equal(pthread_create(&thread, NULL, finish_main, &f), 0);
    for (int i = 0; i < 1000 && atomic_load(&s->liar.messages) < 2; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&s->liar.messages), 2);
    assert_false(atomic_load(&f.done));
    pool_return(s->env.pool, held.session, true);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(strncmp(relay_reply(f.r, i), "250 ", 4), 0);
    assert_int_equal(atomic_load(&s->liar.messages), 3);
    relay_free(f.r);
}

struct pair {
    struct stage *s;
    size_t sent;
};

static void *
pair_main(void *cookie)
{
    struct pair *p = cookie;

    p->sent = deliver(p->s, 0, 2, "250 ");
    return NULL;
}

/* Each may have one account's session and want the other's. */
static void
transactions_do_not_wait_for_each_other(void **state)
{
    struct stage *s = *state;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct pair pair[2] = {{.s = s}, {.s = s}};
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, pair_main, &pair[0]), 0);
        pair_main(&pair[1]);
        pthread_join(thread, NULL);
        assert_int_equal(pair[0].sent, 2);
        assert_int_equal(pair[1].sent, 2);
    }
    assert_int_equal(atomic_load(&s->liar.messages), 4 * ROUNDS);
}

/* Gmail has answered, and the disk takes its time: somebody else has the
 * session. */
static void
a_session_does_not_wait_for_the_disk(void **state)
{
    struct stage *s = *state;
    struct mailbox m = mailbox(s, PAIR);
    struct finishing f[2];
    struct lease other;
    pthread_t thread[2];

    assert_int_equal(quota_open(s->env.quota, &m), STATE_OK);
    other = pool_lease(s->env.pool, &m, fast_boot_ms(NULL) + 60000, false);
    assert_non_null(other.session);
    assert_int_equal(deliver(s, PAIR, 1, "250 "), 1);
    torn_vfs_slow_syncs(4000);
    for (int i = 0; i < 2; i++) {
        f[i] = (struct finishing){.r = begin(s, PAIR, 1)};
        assert_int_equal(pthread_create(&thread[i], NULL, finish_main, &f[i]),
                         0);
    }
    for (int i = 0; i < 1000 && atomic_load(&s->liar.messages) < 3; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&s->liar.messages), 3);
    assert_false(atomic_load(&f[0].done) || atomic_load(&f[1].done));
    torn_vfs_slow_syncs(0);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(strncmp(relay_reply(f[i].r, 0), "250 ", 4), 0);
        relay_free(f[i].r);
    }
    pool_return(s->env.pool, other.session, true);
}

/* ---- one account, many recipients ---- */

static void
many_recipients_are_split(void **state)
{
    static const struct {
        unsigned recipients;
        int rcpts_max, transactions;
    } rows[] = {{100, 0, 1}, {101, 0, 2}, {250, 0, 3}, {150, 40, 4}, {3, 1, 3}};
    struct stage *s = *state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ticket t;
        struct relay *r = begin_empty(s, &t);

        atomic_store(&s->liar.rcpts_max, rows[i].rcpts_max);
        atomic_store(&s->liar.messages, 0);
        atomic_store(&s->liar.rcpts, 0);
        for (unsigned k = 0; k < rows[i].recipients; k++)
            add(s, r, &t, (unsigned)i, k);
        assert_int_equal(relay_data(r)[0], '3');
        content(r);
        for (size_t k = 0; k < rows[i].recipients; k++)
            assert_int_equal(strncmp(relay_reply(r, k), "250 ", 4), 0);
        assert_int_equal(atomic_load(&s->liar.rcpts), rows[i].recipients);
        assert_int_equal(atomic_load(&s->liar.messages), rows[i].transactions);
        relay_free(r);
    }
}

/* ---- whom a reply is about ---- */

static void
count_state(void *cookie, uint64_t account, const char *identity,
            enum account_state state, uint64_t until_ms, const char *reason,
            uint32_t rests)
{
    (void)account, (void)identity, (void)until_ms, (void)rests;
    if (state == ACCOUNT_COOLING && reason[0] != '\0')
        ++*(unsigned *)cookie;
}

static void
check_cooling(struct stage *s, unsigned from, unsigned to)
{
    unsigned in_book = 0;

    for (unsigned i = 0; i < ACCOUNTS; i++)
        if ((state_of(s, i) == ACCOUNT_COOLING) != (i >= from && i < to))
            fail_msg("user%u is %s", i, account_state_name(state_of(s, i)));
    assert_int_equal(ledger_states(s->env.ledger, count_state, &in_book),
                     LEDGER_OK);
    assert_int_equal(in_book, to - from);
}

static void
an_organisation_rests(void **state)
{
    struct stage *s = *state;

    s->liar.final = "550 5.7.1 Daily SMTP relay limit exceeded for customer. "
                    "x - gsmtp\r\n";
    assert_int_equal(deliver(s, 12, 1, "451 4.7.1"), 1);
    check_cooling(s, ACCOUNTS / 2, ACCOUNTS);
    s->liar.final = NULL;
    assert_int_equal(deliver(s, 15, 1, "451 4.7.1"), 1);
    assert_int_equal(atomic_load(&s->liar.messages), 0);
    assert_int_equal(deliver(s, 0, 1, "250 "), 1);
}

static void
a_host_rests(void **state)
{
    struct stage *s = *state;

    s->liar.final = "550-5.7.28 Our system has detected an unusual rate of\r\n"
                    "550 5.7.28  https://support.google.com/mail/?p="
                    "UnsolicitedIPError x - gsmtp\r\n";
    assert_int_equal(deliver(s, 12, 1, "451 4.7.28"), 1);
    check_cooling(s, 0, ACCOUNTS);
}

static void
an_account_rests_alone(void **state)
{
    struct stage *s = *state;

    s->liar.final = "550 5.4.5 Daily user sending limit exceeded. x\r\n";
    assert_int_equal(deliver(s, 3, 1, "451 4.4.5"), 1);
    check_cooling(s, 3, 4);
}

static void
the_second_suspicion_cools(void **state)
{
    struct stage *s = *state;

    s->liar.final = "550-5.7.1 this message is likely unsolicited mail.\r\n"
                    "550 5.7.1  https://support.google.com/mail/?p="
                    "UnsolicitedMessageError x - gsmtp\r\n";
    assert_int_equal(deliver(s, 4, 1, "550 5.7.1"), 1);
    check_cooling(s, 0, 0);
    assert_int_equal(deliver(s, 5, 1, "550 5.7.1"), 1); /* another's first */
    check_cooling(s, 0, 0);
    assert_int_equal(deliver(s, 4, 1, "550 5.7.1"),
                     1); /* bounced all the same */
    check_cooling(s, 4, 5);
}

static void
suspicion_passes(void **state)
{
    struct suspects *x = suspects_new();

    (void)state;
    assert_non_null(x);
    assert_false(suspects_again(x, 7, 1));
    assert_false(suspects_again(x, 7, 1 + OUTCOME_SUSPECT_MS));
    assert_true(suspects_again(x, 7, 2 * OUTCOME_SUSPECT_MS));
    assert_false(suspects_again(x, 7, 2 * OUTCOME_SUSPECT_MS)); /* a new one */
    assert_false(suspects_again(x, 7 + SUSPECTS_MAX, 2 * OUTCOME_SUSPECT_MS));
    suspects_free(x);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(accounts_go_side_by_side),
        TEST(a_busy_account_holds_nobody_up),
        TEST(transactions_do_not_wait_for_each_other),
        TEST(a_session_does_not_wait_for_the_disk),
        TEST(many_recipients_are_split),
        TEST(an_organisation_rests),
        TEST(a_host_rests),
        TEST(an_account_rests_alone),
        TEST(the_second_suspicion_cools),
        cmocka_unit_test(suspicion_passes),
    };

    torn_vfs_install();
    return cmocka_run_group_tests_name("deliver/relay", tests, NULL, NULL);
}
