/* tests/unit/deliver/test_pool.c - sessions lent, taken back and retired,
 * against a server that lies and leaves.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/deliver/pool_stage.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/clock.h"

/* ---- reuse and retirement ---- */

static void
test_reuse(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a;
    struct letter_result r;
    bool usable;

    (void)state;
    a = lease(s);
    assert_false(session_reused(a));
    expect_sessions(s, 1, 1);
    r = send_copy(a, s->copy, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_SENT);
    assert_int_equal(r.reply.code, 250);
    assert_true(usable);
    assert_non_null(strstr(session_info(a), "smtp.example"));
    assert_non_null(strstr(session_info(a), "TLSv1."));
    pool_return(s->pool, a, usable);
    expect_sessions(s, 1, 0);
    a = lease(s);
    assert_true(session_reused(a));
    pool_return(s->pool, a, true);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 1);
    assert_int_equal(atomic_load(&s->liar.messages), 2);
    a = lease(s);
    pool_return(s->pool, a, false); /* a bad word about it, and it is gone */
    expect_sessions(s, 0, 0);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    tear_down(s);
}

static void
test_starttls(void **state)
{
    struct stage *s = set_up(AUTH_PASSWORD);

    (void)state;
    s->liar.starttls = true;
    s->liar.login = GOOD_PASSWORD;
    s->smarthost.tls = SMARTHOST_TLS_STARTTLS;
    write_password(s, "abcd efgh ijkl mnop\n", 0600);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

static void
test_most_recent_first(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a = lease(s), *b = lease(s), *c;

    (void)state;
    assert_ptr_not_equal(a, b);
    expect_sessions(s, 2, 2);
    pool_return(s->pool, a, true);
    pool_return(s->pool, b, true);
    c = lease(s);
    assert_ptr_equal(c, b);
    pool_return(s->pool, c, true);
    tear_down(s);
}

static void
test_messages_of_a_session(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    s->account.sessions.messages = 2;
    for (int i = 0; i < 5; i++)
        assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    expect_count("quits", &s->liar.quits, 2);
    tear_down(s);
}

static void
test_idle_and_age(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 50000);
    pool_tick(s->pool);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 1); /* not yet */
    atomic_fetch_add(&jumped_ms, 61000);
    pool_tick(s->pool);
    expect_sessions(s, 0, 0);
    expect_count("quits", &s->liar.quits, 1);
    pool_tick(s->pool);
    expect_count("open", &s->liar.open, 0);

    for (int i = 0; i < 13; i++) { /* busy, but old in the end */
        assert_int_equal(send_one(s), OUTCOME_SENT);
        atomic_fetch_add(&jumped_ms, 50000);
    }
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    tear_down(s);
}

/* Due, and nobody ticked: it is not lent all the same. */
static void
test_due_at_lease(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 60000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    tear_down(s);
}

/* The account's smarthost or secret is another one now. */
static void
test_configured_otherwise(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    s->smarthost.connect = "localhost";
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    expect_sessions(s, 1, 0);
    tear_down(s);
}

/* ---- the server leaves ---- */

static void
test_stale(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    atomic_store(&s->liar.end_after_message, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send_one(s), OUTCOME_SENT);
        expect_count("open", &s->liar.open, 0);
    }
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    expect_sessions(s, 1, 0); /* the stale one is still believed in */
    tear_down(s);
}

static void
test_leaves_at_mail(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a;
    struct lease l;
    bool usable;

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_store(&s->liar.die_at_mail, 1);
    a = lease(s);
    assert_int_equal(send_copy(a, s->copy, &usable).verdict.kind,
                     OUTCOME_RECONNECT);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    assert_false(session_reused(l.session));
    assert_int_equal(send_copy(l.session, s->copy, &usable).verdict.kind,
                     OUTCOME_SENT);
    pool_return(s->pool, l.session, usable);
    tear_down(s);
}

static void
test_leaves_at_the_end(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct letter_result r;
    struct session *a;
    bool usable;

    (void)state;
    atomic_store(&s->liar.die_at_end, 1);
    a = lease(s);
    r = send_copy(a, s->copy, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_IN_DOUBT);
    assert_int_equal(r.stage, STAGE_CONTENT);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    expect_sessions(s, 0, 0);
    tear_down(s);
}

/* A server that refuses MAIL and stops reading 20 MB of content: no hang,
 * and its words count. */
static void
test_refuses_and_stops_reading(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};
    struct message *m = message_new("/tmp");
    struct message_copy *c;
    struct letter_result r;
    struct session *a;
    char block[10000], err[200];
    bool usable;

    (void)state;
    memset(block, 'x', sizeof block);
    assert_true(message_add(m, "A: b\r\n\r\n", 8, err, sizeof err));
    for (int i = 0; i < 2000; i++)
        assert_true(message_add(m, block, sizeof block, err, sizeof err));
    assert_true(message_end(m, err, sizeof err));
    c = message_copy_new(m, &o);
    atomic_store(&s->liar.refuse_and_leave, true);
    a = lease(s);
    r = send_copy(a, c, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_REFUSED);
    assert_int_equal(r.reply.code, 552);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    message_copy_free(c);
    message_free(m);
    tear_down(s);
}

static void
test_big_message(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};
    struct message *m = message_new("/tmp");
    struct message_copy *c;
    struct session *a;
    char block[10000], err[200];
    bool usable;

    (void)state;
    memset(block, '\n', sizeof block); /* twice as much on the way out */
    assert_true(message_add(m, "A: b\r\n\r\n", 8, err, sizeof err));
    for (int i = 0; i < 300; i++)
        assert_true(message_add(m, block, sizeof block, err, sizeof err));
    assert_true(message_end(m, err, sizeof err));
    c = message_copy_new(m, &o);
    a = lease(s);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(send_copy(a, c, &usable).verdict.kind, OUTCOME_SENT);
        assert_true(usable);
        assert_int_equal(atomic_load(&s->liar.octets),
                         i * (int)message_copy_size(c));
    }
    assert_true(message_copy_size(c) > 6000000);
    pool_return(s->pool, a, usable);
    message_copy_free(c);
    message_free(m);
    tear_down(s);
}

static void
test_wrong_certificate(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->smarthost.host = "smtp.gmail.com";
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_CLIENT);
    assert_int_equal(l.stage, STAGE_STARTTLS);
    assert_non_null(strstr(l.verdict.meaning, "TLS"));
    assert_non_null(strstr(l.reply.text, "smtp.gmail.com"));
    expect_sessions(s, 0, 0);
    tear_down(s);
}

static void
test_no_trust_store(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->smarthost.ca_file = "/no/such/ca.pem";
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_non_null(strstr(l.reply.text, "/no/such/ca.pem"));
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    tear_down(s);
}

/* ---- many accounts ---- */

static void
test_least_recently_used_goes(void **state)
{
    enum { ACCOUNTS = 4, KEPT = 2 };
    struct stage *s = set_up(AUTH_NONE);
    struct mailbox m[ACCOUNTS];
    struct session *a[ACCOUNTS];

    (void)state;
    pool_free(s->pool);
    s->pool = pool_new(&(struct pool_options){.quota = s->quota,
                                              .status = s->status,
                                              .clock = &stage_clock,
                                              .hostname = "relay.example.com",
                                              .sessions_max = KEPT});
    for (int i = 0; i < ACCOUNTS; i++) {
        struct lease l;

        m[i] = s->mailbox;
        m[i].id = (uint64_t)(100 + i);
        l = pool_lease(s->pool, &m[i], stage_boot_ms(NULL) + LONG_MS, false);
        assert_non_null(l.session);
        a[i] = l.session;
    }
    /* All are in use: none has to go for another. */
    assert_int_equal(atomic_load(&s->liar.open), ACCOUNTS);
    for (int i = 0; i < ACCOUNTS; i++)
        pool_return(s->pool, a[i], true);
    pool_tick(s->pool);
    expect_count("open", &s->liar.open, KEPT);
    for (int i = 0; i < ACCOUNTS; i++) { /* the last two were kept */
        struct lease l = pool_lease(s->pool, &m[ACCOUNTS - 1 - i],
                                    stage_boot_ms(NULL) + LONG_MS, false);

        assert_non_null(l.session);
        pool_return(s->pool, l.session, true);
        pool_tick(s->pool);
        assert_int_equal(atomic_load(&s->liar.connections),
                         i < KEPT ? ACCOUNTS : ACCOUNTS + 1 + i - KEPT);
        expect_count("open", &s->liar.open, KEPT);
    }
    tear_down(s);
}

static void
test_pace_of_logins(void **state)
{
    enum { BURST = 22 }; /* POOL_LOGIN_BURST, and a session each */
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->account.sessions.messages = 1; /* a log-in for each message */
    for (int i = 0; i < BURST; i++)
        assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, 1000, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_non_null(strstr(l.verdict.meaning, "too often"));
    assert_int_equal(atomic_load(&s->liar.connections), BURST);
    atomic_fetch_add(&jumped_ms, 60000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, 1000, false);
    assert_null(l.session);
    /* It is waited for when it is near. */
    atomic_fetch_add(&jumped_ms, 59000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

static void
test_fresh(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->account.sessions.max = 1;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    assert_false(session_reused(l.session));
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    expect_sessions(s, 1, 1);
    pool_return(s->pool, l.session, true);

    s->account.sessions.max = 3; /* room beside an idle one */
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    expect_sessions(s, 2, 1);
    pool_return(s->pool, l.session, true);
    tear_down(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_most_recent_first),
        cmocka_unit_test(test_messages_of_a_session),
        cmocka_unit_test(test_idle_and_age),
        cmocka_unit_test(test_due_at_lease),
        cmocka_unit_test(test_configured_otherwise),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_leaves_at_mail),
        cmocka_unit_test(test_leaves_at_the_end),
        cmocka_unit_test(test_refuses_and_stops_reading),
        cmocka_unit_test(test_big_message),
        cmocka_unit_test(test_wrong_certificate),
        cmocka_unit_test(test_no_trust_store),
        cmocka_unit_test(test_least_recently_used_goes),
        cmocka_unit_test(test_pace_of_logins),
        cmocka_unit_test(test_fresh),
    };

    signal(SIGPIPE, SIG_IGN); /* the server's, in our process */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
