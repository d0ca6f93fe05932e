/* tests/unit/base/test_tls_sessions.c - sessions kept and resumed:
 * tls_sessions.c.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/base/tls_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/tls_sessions.h"

/* ---- sessions ---- */

/* One connection; its info. */
static void
visit(SSL_CTX *ctx, struct tls_client *c, const char *name, const char *key,
      char info[100])
{
    struct tls_peer p = {.ctx = ctx, .act = say_hello};
    struct stream *s = connect_to(&p);
    char got[5];

    assert_int_equal(stream_start_tls(s, c, name, key, in_ms(SOON)), STREAM_OK);
    snprintf(info, 100, "%s", stream_tls_info(s));
    assert_int_equal(read_all(s, got, 5), STREAM_OK);
    stream_close(s);
    tls_peer_join(&p);
}

static bool
resumed(const char *info)
{
    size_t len = strlen(info);

    return len > 8 && strcmp(info + len - 8, " resumed") == 0;
}

static void
sessions_are_resumed(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    char info[100];

    (void)state;
    for (unsigned v = 0; v < 2; v++) {
        struct cert both =
            cert_new(&ca, "x", "DNS:a.example,DNS:b.example", -DAY, DAY, false);
        SSL_CTX *ctx = tls_peer_ctx(&both);
        const char *key = v == 0 ? "key 1.2" : "key 1.3";

        SSL_CTX_set_max_proto_version(ctx, versions[v]);
        visit(ctx, client, "a.example", key, info);
        assert_non_null(strstr(info, v == 0 ? "TLSv1.2 " : "TLSv1.3 TLS_"));
        assert_false(resumed(info));
        for (unsigned i = 0; i < 3; i++) {
            visit(ctx, client, "a.example", key, info);
            assert_true(resumed(info));
        }
        visit(ctx, client, "a.example", "another's key", info);
        assert_false(resumed(info));
        visit(ctx, client, "b.example", key, info);
        assert_false(resumed(info));
        SSL_CTX_free(ctx);
        cert_free(&both);
    }
}

/* A server that forgot its ticket keys just makes a full handshake. */
static void
a_refused_ticket_does_no_harm(void **state)
{
    SSL_CTX *one = tls_peer_ctx(&good), *two = tls_peer_ctx(&good);
    char info[100];

    (void)state;
    visit(one, client, "smtp.example.com", "forgetful", info);
    visit(two, client, "smtp.example.com", "forgetful", info);
    assert_false(resumed(info));
    visit(two, client, "smtp.example.com", "forgetful", info);
    assert_true(resumed(info));
    SSL_CTX_free(one);
    SSL_CTX_free(two);
}

/* A lost connection costs no ticket: the next one is quick all the same. */
static void
hello_and_hang_up(struct tls_peer *p)
{
    say_hello(p);
    hang_up(p);
}

static void
a_lost_connection_keeps_its_ticket(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good), .act = hello_and_hang_up};
    struct stream *s = connect_to(&p);
    char got[6], info[100];

    (void)state;
    assert_int_equal(
        stream_start_tls(s, client, "smtp.example.com", "lossy", in_ms(SOON)),
        STREAM_OK);
    assert_int_equal(read_all(s, got, 6), STREAM_ELOST);
    stream_close(s);
    tls_peer_join(&p);
    visit(p.ctx, client, "smtp.example.com", "lossy", info);
    assert_true(resumed(info));
    SSL_CTX_free(p.ctx);
}

static void
step_by_step(struct tls_peer *p)
{
    char go;
    int from = *(int *)p->cookie;

    if (read(from, &go, 1) == 1)
        say_hello(p);
    if (read(from, &go, 1) == 1)
        goodbye(p);
}

static bool
readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, SOON) == 1;
}

/* The tickets of TLS 1.3 wait in the socket of an idle session; they are no
 * sign that the server has anything to say. */
static void
tickets_do_not_disturb_the_quiet(void **state)
{
    int told[2], pair[2];
    struct tls_peer p = {
        .ctx = tls_peer_ctx(&good), .act = step_by_step, .cookie = &told[0]};
    struct stream *s;
    char got[5];

    (void)state;
    assert_int_equal(pipe(told), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    p.fd = pair[1];
    SSL_CTX_set_num_tickets(p.ctx, 2);
    tls_peer_start(&p);
    s = stream_from_fd(pair[0]);
    assert_int_equal(start(s, SOON), STREAM_OK);
    assert_non_null(strstr(stream_tls_info(s), "TLSv1.3"));

    assert_true(readable(pair[0])); /* tickets, that is */
    assert_true(stream_quiet(s));
    assert_true(stream_quiet(s));
    assert_int_equal(write(told[1], "x", 1), 1);
    while (stream_quiet(s))
        assert_true(readable(pair[0]));
    assert_int_equal(read_all(s, got, 5), STREAM_OK);
    assert_memory_equal(got, "hello", 5);
    assert_true(stream_quiet(s));
    assert_int_equal(write(told[1], "x", 1), 1);
    tls_peer_join(&p);
    assert_false(stream_quiet(s));
    stream_close(s);
    close(told[0]);
    close(told[1]);
    SSL_CTX_free(p.ctx);
}

/* A session as our client would keep it, got by bare OpenSSL. */
static SSL_SESSION *
some_session(int version, const struct cert *c)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(c), .act = wait_for_eof};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    SSL_SESSION *session;
    char nothing[1];
    int pair[2];

    SSL_CTX_set_max_proto_version(p.ctx, version);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    p.fd = pair[1];
    tls_peer_start(&p);
    SSL_set_fd(ssl, pair[0]);
    assert_int_equal(SSL_connect(ssl), 1);
    SSL_shutdown(ssl);
    SSL_read(ssl, nothing, 1); /* the tickets, and the end */
    session = SSL_get1_session(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(pair[0]);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
    assert_true(SSL_SESSION_is_resumable(session));
    return session;
}

static void
put_copy(struct tls_sessions *t, const char *key, SSL_SESSION *s)
{
    SSL_SESSION_up_ref(s);
    tls_sessions_put(t, key, s);
}

static void
kept_sessions_are_bounded(void **state)
{
    enum { MANY = 5000, MOST = 1024 };
    struct tls_sessions *t = tls_sessions_new();
    SSL_SESSION *s = some_session(TLS1_2_VERSION, &good);
    unsigned found = 0;
    char key[20];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key %u", i);
        put_copy(t, key, s);
    }
    for (unsigned i = 0; i < MANY; i++) {
        SSL_SESSION *got;

        snprintf(key, sizeof key, "key %u", i);
        got = tls_sessions_take(t, key);
        found += got != NULL;
        if (i == MANY - 1)
            assert_ptr_equal(got, s); /* the newest is there */
        SSL_SESSION_free(got);
    }
    assert_true(found <= MOST);
    assert_true(found > MOST * 9 / 10);
    SSL_SESSION_free(s);
    tls_sessions_free(t);
    tls_sessions_free(NULL);
}

static void
kept_sessions_by_version(void **state)
{
    struct tls_sessions *t = tls_sessions_new();
    SSL_SESSION *old = some_session(TLS1_2_VERSION, &good);
    SSL_SESSION *new = some_session(TLS1_3_VERSION, &good), *got;

    (void)state;
    assert_null(tls_sessions_take(t, "k"));
    put_copy(t, "k", old);
    for (unsigned i = 0; i < 2; i++) { /* a session of 1.2 stays */
        got = tls_sessions_take(t, "k");
        assert_ptr_equal(got, old);
        SSL_SESSION_free(got);
    }
    put_copy(t, "k", new); /* replaces it */
    got = tls_sessions_take(t, "k");
    assert_ptr_equal(got, new);
    SSL_SESSION_free(got);
    assert_null(tls_sessions_take(t, "k")); /* 1.3: once */
    SSL_SESSION_free(old);
    SSL_SESSION_free(new);
    tls_sessions_free(t);
}

/* Resumption skips the chain, so it must not outlive the certificate. */
static void
a_session_ends_with_its_certificate(void **state)
{
    struct cert expired =
        cert_new(&ca, "x", "DNS:smtp.example.com", -2 * DAY, -DAY, false);
    struct tls_sessions *t = tls_sessions_new();
    SSL_SESSION *s = some_session(TLS1_3_VERSION, &expired);

    (void)state;
    tls_sessions_put(t, "k", s);
    assert_null(tls_sessions_take(t, "k"));
    tls_sessions_free(t);
    cert_free(&expired);
}

enum { THREADS = 4, VISITS = 15 };

static void *
visit_often(void *cookie)
{
    char info[100];

    for (unsigned i = 0; i < VISITS; i++)
        visit(cookie, client, "smtp.example.com", i % 2 ? "shared" : "s", info);
    return NULL;
}

static void
threads_share_a_client(void **state)
{
    SSL_CTX *ctx = tls_peer_ctx(&good);
    pthread_t thread[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, visit_often, ctx), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    SSL_CTX_free(ctx);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(a_refused_ticket_does_no_harm),
        cmocka_unit_test(a_lost_connection_keeps_its_ticket),
        cmocka_unit_test(tickets_do_not_disturb_the_quiet),
        cmocka_unit_test(kept_sessions_are_bounded),
        cmocka_unit_test(kept_sessions_by_version),
        cmocka_unit_test(a_session_ends_with_its_certificate),
        cmocka_unit_test(threads_share_a_client),
    };

    return cmocka_run_group_tests_name("base/tls", tests, setup, teardown);
}
