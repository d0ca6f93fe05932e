/* tests/unit/deliver/test_pool_line.c - who waits for a session, and
 * for how long.
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

/* ---- many at once ---- */

struct crowd {
    struct stage *s;
    pthread_t thread;
    uint64_t ms;
    struct lease lease;
    enum outcome_kind kind;
    struct message_copy *copy;
    atomic_int *order; /* next place */
    int place;
    atomic_bool *hold; /* until false, keeps the session */
};

static void *
crowd_member(void *cookie)
{
    struct crowd *c = cookie;
    bool usable;

    c->lease = lease_for(c->s, c->ms, false);
    if (c->lease.session == NULL)
        return NULL;
    if (c->order != NULL)
        c->place = atomic_fetch_add(c->order, 1);
    c->kind = send_copy(c->lease.session, c->copy, &usable).verdict.kind;
    while (c->hold != NULL && atomic_load(c->hold))
        usleep(1000);
    pool_return(c->s->pool, c->lease.session, usable);
    return NULL;
}

static void
crowd_start(struct crowd *c, struct stage *s, uint64_t ms)
{
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};

    c->s = s;
    c->ms = ms;
    c->copy = message_copy_new(s->message, &o);
    assert_int_equal(pthread_create(&c->thread, NULL, crowd_member, c), 0);
}

static void
crowd_join(struct crowd *c)
{
    pthread_join(c->thread, NULL);
    message_copy_free(c->copy);
}

static void
test_never_more_than_max(void **state)
{
    enum { N = 40 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    struct quota_view v;

    (void)state;
    s->account.sessions.max = 3;
    s->account.sessions.messages = 7; /* with changes on the way */
    atomic_store(&s->liar.final_delay_ms, 5);
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        assert_non_null(crowd[i].lease.session);
        assert_int_equal(crowd[i].kind, OUTCOME_SENT);
    }
    assert_int_equal(atomic_load(&s->liar.messages), N);
    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.sessions_busy, 0);
    assert_in_range(v.sessions_open, 0, 3);
    expect_count("quits", &s->liar.quits,
                 atomic_load(&s->liar.connections) - (int)v.sessions_open);
    /* One that was told to go may still be on its way out. */
    assert_true(atomic_load(&s->liar.most_open) <= 3 + 3);
    tear_down(s);
}

static void
test_first_come_first_served(void **state)
{
    enum { N = 6 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    atomic_int order = 0;
    struct session *held;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    for (int i = 0; i < N; i++) {
        crowd[i].order = &order;
        crowd_start(&crowd[i], s, LONG_MS);
        usleep(30000); /* let it get in line */
    }
    assert_int_equal(atomic_load(&order), 0);
    pool_return(s->pool, held, true);
    for (int i = 0; i < N; i++)
        crowd_join(&crowd[i]);
    for (int i = 0; i < N; i++)
        assert_int_equal(crowd[i].place, i);
    assert_int_equal(atomic_load(&s->liar.connections), 1);
    tear_down(s);
}

static void
test_deadline(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *held;
    struct lease l;
    uint64_t began;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    began = stage_boot_ms(NULL);
    l = lease_for(s, 300, false);
    assert_null(l.session);
    assert_true(stage_boot_ms(NULL) - began >= 300);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    l = lease_for(s, 0, false);
    assert_null(l.session);
    pool_return(s->pool, held, true);
    l = lease_for(s, 0, false); /* what is there can be had without waiting */
    assert_non_null(l.session);
    pool_return(s->pool, l.session, true);
    tear_down(s);
}

/* A server that turns us away does not see every waiting message. */
static void
test_one_failure_for_all(void **state)
{
    enum { N = 30 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    int tried;

    (void)state;
    s->liar.greeting = "421 4.4.5 Server busy, try again later.\r\n";
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        assert_null(crowd[i].lease.session);
        assert_int_not_equal(crowd[i].lease.verdict.kind, OUTCOME_SENT);
        assert_int_not_equal(crowd[i].lease.verdict.kind, OUTCOME_REFUSED);
        assert_int_equal(crowd[i].lease.reply.code, 421);
    }
    tried = atomic_load(&s->liar.connections);
    assert_true(tried >= 1 && tried <= 2 * 3);
    s->liar.greeting = NULL; /* and it is forgotten soon */
    atomic_fetch_add(&jumped_ms, 61000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

/* While another session of the account works, it is waited for. */
static void
test_failure_beside_a_good_session(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd other = {0};
    struct session *good = lease(s);

    (void)state;
    s->liar.greeting = "421 4.7.0 Too many connections\r\n";
    crowd_start(&other, s, LONG_MS);
    expect_count("connections", &s->liar.connections, 2);
    usleep(100000);
    pool_return(s->pool, good, true);
    crowd_join(&other);
    assert_ptr_equal(other.lease.session, good);
    assert_int_equal(other.kind, OUTCOME_SENT);
    tear_down(s);
}

/* "Too many at once": half of them go, for a while. */
static void
test_halved(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a[4];
    struct lease l;
    bool usable;

    (void)state;
    s->account.sessions.max = 4;
    for (int i = 0; i < 4; i++)
        a[i] = lease(s);
    s->liar.final =
        "421 4.3.0 Temporary System Problem.  Try again later (10). x\r\n";
    assert_int_equal(send_copy(a[0], s->copy, &usable).verdict.kind,
                     OUTCOME_DEFERRED);
    s->liar.final = NULL;
    for (int i = 0; i < 4; i++)
        pool_return(s->pool, a[i], i > 0);
    expect_sessions(s, 2, 0);
    a[0] = lease(s);
    a[1] = lease(s);
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 290000);
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 10000); /* it grows by one */
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    a[2] = l.session;
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 300000); /* and by another one */
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    pool_return(s->pool, l.session, true);
    for (int i = 0; i < 3; i++)
        pool_return(s->pool, a[i], true);
    tear_down(s);
}

/* Whoever's turn is seconds away goes, so that its place among the MTA's
 * connections is free for other accounts. */
static void
test_line_of_a_slow_account(void **state)
{
    enum { N = POOL_LINE_MIN + 4 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    struct session *held;
    int waited = 0;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    usleep(300000); /* in line */
    atomic_fetch_add(&jumped_ms, POOL_LINE_MS);
    usleep(2500000); /* all have looked at the clock again */
    pool_return(s->pool, held, true);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        if (crowd[i].lease.session != NULL) {
            waited++;
            continue;
        }
        assert_int_equal(crowd[i].lease.verdict.kind, OUTCOME_DEFERRED);
        assert_int_equal(crowd[i].lease.verdict.scope, SCOPE_ACCOUNT);
        assert_non_null(strstr(crowd[i].lease.verdict.meaning, "busy"));
    }
    assert_int_equal(waited, POOL_LINE_MIN);
    assert_int_equal(atomic_load(&s->liar.messages), POOL_LINE_MIN);
    tear_down(s);
}

/* The next one is known to be slow: there is no waiting to find out. */
static void
test_line_is_judged_by_the_past(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[POOL_LINE_MIN] = {0};
    struct lease l;

    (void)state;
    s->account.sessions.max = 1;
    for (int i = 0; i < 3; i++) { /* each holds it long */
        struct session *a = lease(s);

        atomic_fetch_add(&jumped_ms, 10000);
        pool_return(s->pool, a, true);
    }
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    for (int i = 0; i < POOL_LINE_MIN; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    usleep(300000);
    assert_null(lease_for(s, LONG_MS, false).session);
    pool_return(s->pool, l.session, true);
    for (int i = 0; i < POOL_LINE_MIN; i++) {
        crowd_join(&crowd[i]);
        assert_non_null(crowd[i].lease.session);
    }
    tear_down(s);
}

/* ---- the end ---- */

static void
test_drain(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd busy = {0}, waiting = {0};
    atomic_bool hold = true;
    struct session *a = lease(s);
    pthread_t t;

    (void)state;
    (void)t;
    busy.hold = &hold;
    crowd_start(&busy, s, LONG_MS); /* has one */
    expect_count("messages", &s->liar.messages, 1);
    crowd_start(&waiting, s, LONG_MS); /* wants one */
    usleep(100000);
    pool_return(s->pool, a, false);
    crowd_join(&waiting);
    assert_non_null(waiting.lease.session); /* got that place */
    pool_drain(s->pool, 100);               /* the busy one takes longer */
    expect_count("open", &s->liar.open, 1);
    a = lease_for(s, LONG_MS, false).session;
    assert_null(a); /* no more of them */
    atomic_store(&hold, false);
    crowd_join(&busy);
    assert_int_equal(busy.kind, OUTCOME_SENT);
    pool_drain(s->pool, LONG_MS);
    expect_count("open", &s->liar.open, 0);
    expect_count("quits", &s->liar.quits, 3);
    tear_down(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_more_than_max),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_one_failure_for_all),
        cmocka_unit_test(test_failure_beside_a_good_session),
        cmocka_unit_test(test_halved),
        cmocka_unit_test(test_line_of_a_slow_account),
        cmocka_unit_test(test_line_is_judged_by_the_past),
        cmocka_unit_test(test_drain),
    };

    signal(SIGPIPE, SIG_IGN); /* the server's, in our process */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
