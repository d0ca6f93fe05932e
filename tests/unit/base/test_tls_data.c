/* tests/unit/base/test_tls_data.c - octets through TLS, whatever the network
 * does to them.
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

/* ---- data ---- */

static void
ends_are_told_apart(void **state)
{
    char got[1];
    size_t n = 77;

    (void)state;
    for (unsigned orderly = 0; orderly < 2; orderly++) {
        struct tls_peer p = {.ctx = tls_peer_ctx(&good),
                             .act = orderly ? goodbye : hang_up};
        struct stream *s = connect_to(&p);

        assert_int_equal(start(s, SOON), STREAM_OK);
        tls_peer_join(&p);
        for (unsigned again = 0; again < 2; again++) {
            assert_int_equal(stream_read(s, got, 1, in_ms(SOON), &n),
                             orderly ? STREAM_EOF : STREAM_ELOST);
            if (again == 0 && !orderly)
                assert_string_equal(stream_error(s),
                                    "the peer closed the connection without "
                                    "ending the TLS session");
        }
        assert_int_equal(n, 77);
        assert_false(stream_quiet(s));
        stream_close(s);
        SSL_CTX_free(p.ctx);
    }
}

/* Our side must not raise SIGPIPE even where it is not ignored. */
static void
a_write_to_nobody_raises_no_signal(void **state)
{
    static char much[1 << 20];
    struct tls_peer p = {.ctx = tls_peer_ctx(&good), .act = hang_up};
    struct stream *s = connect_to(&p);

    (void)state;
    assert_int_equal(start(s, SOON), STREAM_OK);
    tls_peer_join(&p);
    signal(SIGPIPE, SIG_DFL);
    assert_int_equal(stream_write(s, much, sizeof much, in_ms(SOON)),
                     STREAM_ELOST);
    assert_non_null(strstr(stream_error(s), "Broken pipe"));
    stream_close(s);
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX_free(p.ctx);
}

enum { MUCH = 3 << 20 };

/* Reads MUCH octets, then sends as many back. */
static void
turn_around(struct tls_peer *p)
{
    unsigned char *at = malloc(MUCH);
    size_t have = 0;
    int n = 1;

    while (have < MUCH && n > 0) {
        n = SSL_read(p->ssl, at + have, (int)(MUCH - have));
        have += n > 0 ? (size_t)n : 0;
    }
    for (size_t sent = 0; n > 0 && sent < MUCH; sent += (size_t)n)
        n = SSL_write(p->ssl, at + sent, (int)(MUCH - sent));
    free(at);
}

static void
carries_more_than_the_socket_holds(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good), .act = turn_around};
    struct stream *s = connect_to(&p);
    char *out = malloc(MUCH), *in = malloc(MUCH);

    (void)state;
    for (unsigned i = 0; i < MUCH; i++)
        out[i] = (char)(i * 7 + (i >> 8));
    assert_int_equal(start(s, SOON), STREAM_OK);
    assert_int_equal(stream_write(s, out, MUCH, in_ms(SOON)), STREAM_OK);
    assert_int_equal(read_all(s, in, MUCH), STREAM_OK);
    assert_memory_equal(in, out, MUCH);
    stream_close(s);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
    free(out);
    free(in);
}

static void
read_nothing_until_told(struct tls_peer *p)
{
    char go;

    if (read(*(int *)p->cookie, &go, 1) == 1)
        hang_up(p);
}

static void
a_write_nobody_reads_times_out(void **state)
{
    static char much[8 << 20];
    int told[2];
    struct tls_peer p = {.ctx = tls_peer_ctx(&good),
                         .act = read_nothing_until_told,
                         .cookie = &told[0]};
    struct stream *s;

    (void)state;
    assert_int_equal(pipe(told), 0);
    s = connect_to(&p);
    assert_int_equal(start(s, SOON), STREAM_OK);
    assert_int_equal(stream_write(s, much, sizeof much, in_ms(100)),
                     STREAM_ETIMEOUT);
    stream_close(s); /* does not wait for the peer */
    assert_int_equal(write(told[1], "x", 1), 1);
    tls_peer_join(&p);
    close(told[0]);
    close(told[1]);
    SSL_CTX_free(p.ctx);
}

/* ---- a network that is as nasty as it may be ---- */

struct nasty {
    struct stream *below;
    bool times_out; /* every other call */
    unsigned calls;
};

static enum stream_result
nasty_read(void *cookie, void *to, size_t max, uint64_t deadline_ms,
           size_t *ret_n)
{
    struct nasty *n = cookie;

    (void)max;
    if (n->times_out && n->calls++ % 2 == 0)
        return STREAM_ETIMEOUT;
    return stream_read(n->below, to, 1, deadline_ms, ret_n);
}

static enum stream_result
nasty_write(void *cookie, const void *from, size_t len, uint64_t deadline_ms,
            size_t *ret_n)
{
    struct nasty *n = cookie;
    enum stream_result r;

    (void)len;
    r = stream_write(n->below, from, 1, deadline_ms);
    if (r == STREAM_OK)
        *ret_n = 1;
    return r;
}

static void
nasty_close(void *cookie)
{
    stream_close(((struct nasty *)cookie)->below);
}

static const struct stream_ops nasty_ops = {nasty_read, nasty_write,
                                            nasty_close};

static void
say_much(struct tls_peer *p)
{
    char text[5000], got[4];

    memset(text, 'm', sizeof text);
    SSL_write(p->ssl, text, sizeof text);
    if (SSL_read(p->ssl, got, 4) == 4)
        SSL_write(p->ssl, got, 4);
}

/* One octet at a time, and timeouts in the middle of records: a read goes on
 * where it stopped. */
static void
records_survive_any_split(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good), .act = say_much};
    struct nasty n = {.below = connect_to(&p)};
    struct stream *s = stream_from_ops(&nasty_ops, &n);
    char got[5000];
    unsigned timeouts = 0;

    (void)state;
    assert_int_equal(start(s, SOON), STREAM_OK);
    n.times_out = true;
    for (size_t have = 0; have < sizeof got;) {
        size_t more = 0;
        enum stream_result r =
            stream_read(s, got + have, sizeof got - have, in_ms(SOON), &more);

        assert_true(r == STREAM_OK || r == STREAM_ETIMEOUT);
        timeouts += r == STREAM_ETIMEOUT;
        have += more;
    }
    assert_true(timeouts > 1000);
    for (size_t i = 0; i < sizeof got; i++)
        assert_int_equal(got[i], 'm');
    n.times_out = false;
    assert_int_equal(stream_write(s, "done", 4, in_ms(SOON)), STREAM_OK);
    assert_int_equal(read_all(s, got, 4), STREAM_OK);
    assert_memory_equal(got, "done", 4);
    stream_close(s);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_are_told_apart),
        cmocka_unit_test(a_write_to_nobody_raises_no_signal),
        cmocka_unit_test(carries_more_than_the_socket_holds),
        cmocka_unit_test(a_write_nobody_reads_times_out),
        cmocka_unit_test(records_survive_any_split),
    };

    return cmocka_run_group_tests_name("base/tls", tests, setup, teardown);
}
