/* tests/unit/deliver/test_pool_login.c - new sessions: passwords, tokens,
 * and what becomes of a refusal.
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

/* ---- logins ---- */

static void
test_password(void **state)
{
    struct stage *s = set_up(AUTH_PASSWORD);
    struct lease l;
    struct quota_view v;

    (void)state;
    s->liar.login = GOOD_PASSWORD;
    l = lease_for(s, LONG_MS, false); /* no file */
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_non_null(strstr(l.reply.text, s->password_file));
    assert_int_equal(atomic_load(&s->liar.connections), 0);

    write_password(s, "abcdefghijklmnop", 0644); /* for all to read */
    atomic_fetch_add(&jumped_ms, 61000);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_non_null(strstr(l.reply.text, s->password_file));
    assert_int_equal(atomic_load(&s->liar.connections), 0);

    write_password(s, "wrongwrongwrong", 0600);
    atomic_fetch_add(&jumped_ms, 61000);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.effect, EFFECT_DISABLE);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.reply.code, 535);
    assert_int_equal(l.stage, STAGE_AUTH);

    /* Written anew: no reload is needed. */
    write_password(s, " abcd efgh ijkl mnop \n", 0600);
    atomic_fetch_add(&jumped_ms, 61000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.logins, 1);
    tear_down(s);
}

/* The token daemon, as far as it matters here: brings `text` when asked. */
struct bringer {
    struct stage *s;
    pthread_t thread;
    atomic_bool stop;
    const char *text;
    uint64_t next;
    atomic_int asked;
    _Atomic uint64_t refused; /* serial it was last asked about */
};

static void
bring(void *cookie, uint64_t id, const char *identity, uint64_t refused)
{
    struct bringer *b = cookie;

    (void)identity;
    assert_int_equal(id, ACCOUNT_ID);
    atomic_store(&b->refused, refused);
    atomic_fetch_add(&b->asked, 1);
    publish_token(b->s, b->text, ++b->next, 3599);
}

static void *
bringer_run(void *cookie)
{
    struct bringer *b = cookie;

    while (!atomic_load(&b->stop))
        quota_wants(b->s->reader, 50, bring, b);
    return NULL;
}

static void
bringer_start(struct bringer *b, struct stage *s, const char *text,
              uint64_t last)
{
    *b = (struct bringer){.s = s, .text = text, .next = last};
    assert_int_equal(pthread_create(&b->thread, NULL, bringer_run, b), 0);
}

static void
bringer_stop(struct bringer *b)
{
    atomic_store(&b->stop, true);
    pthread_join(b->thread, NULL);
}

static void
test_token(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "good", 1, 3599);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 1);
    /* Ends with its token, a little earlier. */
    s->account.sessions.idle_ms = s->account.sessions.age_ms = 1u << 30;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 3400 * 1000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 1);
    atomic_fetch_add(&jumped_ms, 100 * 1000);
    publish_token(s, "good", 2, 3599);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 2);
    tear_down(s);
}

static void
test_token_absent(void **state)
{
    struct stage *s = set_up(AUTH_SERVICE_ACCOUNT);
    struct bringer b;
    struct lease l;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    l = lease_for(s, 300, false); /* nobody brings one */
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_int_equal(l.verdict.effect, EFFECT_NONE);
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    atomic_fetch_add(&jumped_ms, 61000);
    bringer_start(&b, s, "good", 0);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_true(atomic_load(&b.asked) >= 1);
    bringer_stop(&b);
    tear_down(s);
}

/* One that has run out is as good as none. */
static void
test_token_expired(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "old", 4, 1);
    bringer_start(&b, s, "good", 4);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&b.refused), 4);
    assert_int_equal(atomic_load(&s->liar.refused), 0);
    bringer_stop(&b);
    tear_down(s);
}

static void
test_token_refused_once(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "revoked", 4, 3599);
    bringer_start(&b, s, "good", 4);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.refused), 1);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    assert_int_equal(atomic_load(&b.refused), 4);
    bringer_stop(&b);
    tear_down(s);
}

static void
test_token_refused_twice(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;
    struct lease l;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "revoked", 4, 3599);
    bringer_start(&b, s, "revoked-too", 4);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.effect, EFFECT_DISABLE);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_int_equal(l.reply.code, 535);
    assert_int_equal(atomic_load(&s->liar.refused), 2);
    bringer_stop(&b);
    expect_sessions(s, 0, 0);
    tear_down(s);
}

static void
test_token_lasting_failures(void **state)
{
    static const enum token_state states[] = {
        TOKEN_NEEDS_LOGIN, TOKEN_CLIENT_BROKEN, TOKEN_NO_MAILBOX, TOKEN_CONFIG};
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct lease l;

        atomic_fetch_add(&jumped_ms, 61000);
        publish_state(s, states[i], "Token has been expired or revoked.");
        l = lease_for(s, LONG_MS, false); /* at once, not in a minute */
        assert_null(l.session);
        assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
        assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
        assert_string_equal(l.reply.text, "Token has been expired or revoked.");
    }
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    tear_down(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_token_absent),
        cmocka_unit_test(test_token_expired),
        cmocka_unit_test(test_token_refused_once),
        cmocka_unit_test(test_token_refused_twice),
        cmocka_unit_test(test_token_lasting_failures),
    };

    signal(SIGPIPE, SIG_IGN); /* the server's, in our process */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
