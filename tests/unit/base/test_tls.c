/* tests/unit/base/test_tls.c - mirrors milter/base/tls.c, tls_reason.c and
 * tls_sessions.c
 * SPDX-License-Identifier: Apache-2.0
 */
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

#include "milter/base/clock.h"
#include "milter/base/stream.h"
#include "milter/base/tls_sessions.h"
#include "tests/unit/base/tls_peer.h"

enum { SOON = 60000 /* ms; long, for a slow machine: never waited out */ };

static char directory[] = "/tmp/gmroute-tls-XXXXXX", ca_file[100];
static struct cert ca, stranger, good;
static struct tls_client *client;

static uint64_t
in_ms(uint64_t ms)
{
    return clock_boot_ms(&clock_real) + ms;
}

static int
setup(void **state)
{
    char err[200] = "";

    (void)state;
    /* The server side of OpenSSL writes without MSG_NOSIGNAL.  Tests of our
     * side set it back. */
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(ca_file, sizeof ca_file, "%s/ca.pem", directory);
    ca = cert_new(NULL, "Test CA", NULL, -DAY, DAY, true);
    stranger = cert_new(NULL, "Another CA", NULL, -DAY, DAY, true);
    good = cert_new(&ca, "smtp.example.com", "DNS:smtp.example.com", -DAY, DAY,
                    false);
    cert_write_pem(&ca, ca_file);
    client = tls_client_new(ca_file, err, sizeof err);
    if (client == NULL)
        print_error("%s\n", err);
    return client != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    tls_client_free(client);
    cert_free(&ca);
    cert_free(&stranger);
    cert_free(&good);
    unlink(ca_file);
    rmdir(directory);
    return 0;
}

/* Starts the peer at the other end of a new stream. */
static struct stream *
connect_to(struct tls_peer *p)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    p->fd = pair[1];
    tls_peer_start(p);
    return stream_from_fd(pair[0]);
}

static void
say_hello(struct tls_peer *p)
{
    SSL_write(p->ssl, "hello", 5);
}

static enum stream_result
read_all(struct stream *s, char *to, size_t len)
{
    while (len > 0) {
        size_t n = 0;
        enum stream_result r = stream_read(s, to, len, in_ms(SOON), &n);

        if (r != STREAM_OK)
            return r;
        to += n;
        len -= n;
    }
    return STREAM_OK;
}

/* ---- certificates ---- */

enum signer { BY_CA, BY_STRANGER, BY_ITSELF };

static const struct cert_row {
    const char *name; /* of the row */
    enum signer signer;
    const char *cn, *alt;
    long from_s, to_s;
    const char *ask;    /* name verified */
    const char *error;  /* part of the text; NULL = good */
    const char *error2; /* another part; NULL = none */
} cert_rows[] = {
    {"good", BY_CA, "x", "DNS:smtp.example.com", -DAY, DAY, "smtp.example.com",
     NULL, NULL},
    {"second name", BY_CA, "x", "DNS:a.example.com,DNS:smtp.example.com", -DAY,
     DAY, "smtp.example.com", NULL, NULL},
    {"case does not matter", BY_CA, "x", "DNS:SMTP.example.COM", -DAY, DAY,
     "smtp.Example.com", NULL, NULL},
    {"root's dot", BY_CA, "x", "DNS:smtp.example.com", -DAY, DAY,
     "smtp.example.com.", NULL, NULL},
    {"wildcard label", BY_CA, "x", "DNS:*.example.com", -DAY, DAY,
     "smtp.example.com", NULL, NULL},
    {"address", BY_CA, "x", "IP:127.0.0.1", -DAY, DAY, "127.0.0.1", NULL, NULL},
    {"address, version 6", BY_CA, "x", "IP:::1", -DAY, DAY, "::1", NULL, NULL},
    {"wildcard for part of a label", BY_CA, "x", "DNS:s*.example.com", -DAY,
     DAY, "smtp.example.com",
     "the certificate is for s*.example.com, not smtp.example.com",
     "hostname mismatch"},
    {"wildcard for two labels", BY_CA, "x", "DNS:*.example.com", -DAY, DAY,
     "a.smtp.example.com", "not a.smtp.example.com", NULL},
    {"other name", BY_CA, "x", "DNS:mx.example.net", -DAY, DAY,
     "smtp.example.com",
     "the certificate is for mx.example.net, not smtp.example.com", NULL},
    {"many other names", BY_CA, "x",
     "DNS:a.example,DNS:b.example,IP:10.0.0.1,DNS:d.example,DNS:e.example",
     -DAY, DAY, "smtp.example.com",
     "is for a.example, b.example, 10.0.0.1 (and 2 more), not smtp", NULL},
    {"only a subject", BY_CA, "mx.example.net", NULL, -DAY, DAY,
     "smtp.example.com", "is for CN = mx.example.net, not smtp.example.com",
     NULL},
    {"other address", BY_CA, "x", "IP:127.0.0.1,DNS:127.0.0.2", -DAY, DAY,
     "127.0.0.2", "is for 127.0.0.1, 127.0.0.2, not 127.0.0.2",
     "IP address mismatch"},
    {"expired", BY_CA, "x", "DNS:smtp.example.com", -9 * DAY, -DAY,
     "smtp.example.com", "certificate has expired on 20", "CN = x"},
    {"not yet valid", BY_CA, "x", "DNS:smtp.example.com", DAY, 9 * DAY,
     "smtp.example.com", "not valid before 20", "clock"},
    {"self-signed", BY_ITSELF, "No SNI provided", "DNS:smtp.example.com", -DAY,
     DAY, "smtp.example.com", "self-signed certificate",
     "CN = No SNI provided"},
    {"unknown CA", BY_STRANGER, "x", "DNS:smtp.example.com", -DAY, DAY,
     "smtp.example.com", "unknown CA", "unable to get local issuer"},
    {"a name that would forge a log line", BY_ITSELF, "a\nqueue=1", NULL, -DAY,
     DAY, "smtp.example.com", "self-signed certificate", "queue"},
};

static void
certificate_row(const struct cert_row *t)
{
    const struct cert *by = t->signer == BY_CA         ? &ca
                            : t->signer == BY_STRANGER ? &stranger
                                                       : NULL;
    struct cert c = cert_new(by, t->cn, t->alt, t->from_s, t->to_s, by == NULL);
    struct tls_peer p = {.ctx = tls_peer_ctx(&c), .act = say_hello};
    struct stream *s = connect_to(&p);
    enum stream_result r;
    char got[5];

    print_message("  %s\n", t->name);
    r = stream_start_tls(s, client, t->ask, t->name, in_ms(SOON));
    if (t->error == NULL) {
        assert_string_equal(stream_error(s), "");
        assert_int_equal(r, STREAM_OK);
        assert_int_equal(read_all(s, got, 5), STREAM_OK);
        assert_memory_equal(got, "hello", 5);
    } else {
        assert_int_equal(r, STREAM_ETLS);
        if (strstr(stream_error(s), t->error) == NULL ||
            (t->error2 != NULL && strstr(stream_error(s), t->error2) == NULL))
            fail_msg("error text: %s", stream_error(s));
        assert_null(strchr(stream_error(s), '\n'));
        /* Nothing can be said over a stream whose peer is not known. */
        assert_int_equal(stream_write(s, "x", 1, in_ms(SOON)), STREAM_ELOST);
    }
    stream_close(s);
    tls_peer_join(&p);
    if (t->error == NULL) {
        bool is_address = strspn(t->ask, "0123456789.:") == strlen(t->ask);
        size_t len = strcspn(t->ask, "") - (t->ask[strlen(t->ask) - 1] == '.');

        assert_int_equal(strlen(p.sni), is_address ? 0 : len);
        assert_memory_equal(p.sni, t->ask, is_address ? 0 : len);
    }
    SSL_CTX_free(p.ctx);
    cert_free(&c);
}

static void
verifies_each_certificate(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cert_rows / sizeof *cert_rows; i++)
        certificate_row(&cert_rows[i]);
}

static void
no_name_is_no_permission(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good)};
    struct stream *s = connect_to(&p);

    (void)state;
    assert_int_equal(stream_start_tls(s, client, "", "k", in_ms(SOON)),
                     STREAM_ETLS);
    assert_string_equal(stream_error(s), "no name to verify");
    assert_int_equal(stream_start_tls(s, client, NULL, "k", in_ms(SOON)),
                     STREAM_ETLS);
    stream_close(s);
    tls_peer_join(&p);
    assert_false(p.accepted);
    SSL_CTX_free(p.ctx);
}

static void
trust_that_cannot_be_loaded(void **state)
{
    char err[300] = "", path[150];
    FILE *f;

    (void)state;
    assert_null(tls_client_new("/nonexistent/ca.pem", err, sizeof err));
    assert_string_equal(err, "cannot load CA certificates from "
                             "/nonexistent/ca.pem: No such file or directory");

    snprintf(path, sizeof path, "%s/empty.pem", directory);
    f = fopen(path, "w");
    fputs("not a certificate\n", f);
    fclose(f);
    assert_null(tls_client_new(path, err, sizeof err));
    assert_non_null(strstr(err, path));
    assert_non_null(strstr(err, "no certificate"));
    unlink(path);
    tls_client_free(NULL);
}

static void
the_system_store_does_not_know_our_ca(void **state)
{
    char err[300] = "";
    struct tls_client *c = tls_client_new(NULL, err, sizeof err);
    struct tls_peer p = {.ctx = tls_peer_ctx(&good)};
    struct stream *s = connect_to(&p);

    (void)state;
    assert_non_null(c);
    assert_int_equal(
        stream_start_tls(s, c, "smtp.example.com", "k", in_ms(SOON)),
        STREAM_ETLS);
    assert_non_null(strstr(stream_error(s), "unknown CA"));
    stream_close(s);
    tls_client_free(c);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
}

/* ---- handshakes that do not come off ---- */

static void
old_protocols_are_refused(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good)};
    struct stream *s;

    (void)state;
    SSL_CTX_set_min_proto_version(p.ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(p.ctx, TLS1_1_VERSION);
    SSL_CTX_set_security_level(p.ctx, 0);
    s = connect_to(&p);
    assert_int_equal(
        stream_start_tls(s, client, "smtp.example.com", "old", in_ms(SOON)),
        STREAM_ETLS);
    assert_non_null(
        strstr(stream_error(s), "the server has no TLS 1.2 or later"));
    stream_close(s);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
}

static struct stream *
bare_pair(int *ret_peer)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    *ret_peer = pair[1];
    return stream_from_fd(pair[0]);
}

static enum stream_result
start(struct stream *s, uint64_t ms)
{
    return stream_start_tls(s, client, "smtp.example.com", "k", in_ms(ms));
}

static void
a_silent_peer_times_out(void **state)
{
    int peer;
    struct stream *s = bare_pair(&peer);

    (void)state;
    assert_int_equal(start(s, 50), STREAM_ETIMEOUT);
    assert_string_equal(stream_error(s), "timeout in the TLS handshake");
    stream_close(s);
    close(peer);
}

static void
a_peer_that_does_not_speak_tls(void **state)
{
    int peer;
    struct stream *s = bare_pair(&peer);

    (void)state;
    assert_int_equal(write(peer, "220 ready\r\n", 11), 11);
    assert_int_equal(start(s, SOON), STREAM_ETLS);
    assert_non_null(strstr(stream_error(s), "the server's answer is not TLS"));
    stream_close(s);
    close(peer);
}

static void
a_peer_that_hangs_up(void **state)
{
    char hello[4096];
    int peer;
    struct stream *s = bare_pair(&peer);

    (void)state;
    shutdown(peer, SHUT_WR);
    assert_int_equal(start(s, SOON), STREAM_ELOST);
    assert_string_equal(stream_error(s),
                        "the peer closed the connection in the TLS handshake");
    assert_true(read(peer, hello, sizeof hello) > 0);
    stream_close(s);
    close(peer);

    s = bare_pair(&peer);
    close(peer);
    assert_int_equal(start(s, SOON), STREAM_ELOST);
    assert_non_null(strstr(stream_error(s), "in the TLS handshake"));
    stream_close(s);
}

/* CVE-2011-0411: what came in the clear is not read as if it came by TLS. */
static void
data_before_tls_is_refused(void **state)
{
    int peer;
    struct stream *s = bare_pair(&peer);

    (void)state;
    assert_int_equal(write(peer, "250 injected\r\n", 14), 14);
    assert_false(stream_quiet(s));
    assert_int_equal(start(s, SOON), STREAM_ETLS);
    assert_non_null(strstr(stream_error(s), "in the clear"));
    stream_close(s);
    close(peer);
}

static void
tls_twice_is_refused(void **state)
{
    struct tls_peer p = {.ctx = tls_peer_ctx(&good), .act = say_hello};
    struct stream *s = connect_to(&p);
    char got[5];

    (void)state;
    assert_int_equal(start(s, SOON), STREAM_OK);
    assert_int_equal(start(s, SOON), STREAM_ETLS);
    assert_string_equal(stream_error(s), "TLS is on already");
    assert_int_equal(read_all(s, got, 5), STREAM_OK); /* still good */
    stream_close(s);
    tls_peer_join(&p);
    SSL_CTX_free(p.ctx);
}

static void *
abort_soon(void *cookie)
{
    const struct timespec t = {.tv_nsec = 30000000};

    nanosleep(&t, NULL);
    stream_abort(cookie);
    return NULL;
}

static void
abort_ends_a_handshake(void **state)
{
    int peer;
    struct stream *s = bare_pair(&peer);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, abort_soon, s), 0);
    assert_int_equal(start(s, SOON), STREAM_ELOST);
    assert_string_equal(stream_error(s), "given up by this side");
    pthread_join(thread, NULL);
    stream_close(s);
    close(peer);
}

/* ---- data ---- */

static void
goodbye(struct tls_peer *p)
{
    (void)p;
}

static void
hang_up(struct tls_peer *p)
{
    shutdown(p->fd, SHUT_RDWR);
    close(p->fd);
    p->fd = -1;
}

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
wait_for_eof(struct tls_peer *p)
{
    char part[100];

    while (SSL_read(p->ssl, part, sizeof part) > 0)
        ;
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
        cmocka_unit_test(verifies_each_certificate),
        cmocka_unit_test(no_name_is_no_permission),
        cmocka_unit_test(trust_that_cannot_be_loaded),
        cmocka_unit_test(the_system_store_does_not_know_our_ca),
        cmocka_unit_test(old_protocols_are_refused),
        cmocka_unit_test(a_silent_peer_times_out),
        cmocka_unit_test(a_peer_that_does_not_speak_tls),
        cmocka_unit_test(a_peer_that_hangs_up),
        cmocka_unit_test(data_before_tls_is_refused),
        cmocka_unit_test(tls_twice_is_refused),
        cmocka_unit_test(abort_ends_a_handshake),
        cmocka_unit_test(ends_are_told_apart),
        cmocka_unit_test(a_write_to_nobody_raises_no_signal),
        cmocka_unit_test(carries_more_than_the_socket_holds),
        cmocka_unit_test(a_write_nobody_reads_times_out),
        cmocka_unit_test(records_survive_any_split),
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
