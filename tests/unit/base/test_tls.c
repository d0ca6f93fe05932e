/* tests/unit/base/test_tls.c - whom TLS trusts, and what it says of the
 * others: tls.c, tls_reason.c.
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
    {"self-signed", BY_ITSELF, "x", "DNS:smtp.example.com", -DAY, DAY,
     "smtp.example.com", "self-signed certificate (subject CN = x)", NULL},
    {"self-signed, named invalid something", BY_ITSELF, "x.invalidated", NULL,
     -DAY, DAY, "smtp.example.com", "self-signed certificate (subject CN",
     NULL},
    {"Google's without a name", BY_ITSELF, "invalid2.invalid", NULL, -DAY, DAY,
     "10.0.0.1",
     "no server name (SNI) was sent, for 10.0.0.1 is an address: self-signed "
     "certificate (subject CN = invalid2.invalid)",
     NULL},
    {"Google's, though a name was sent", BY_ITSELF,
     "No SNI provided; please fix your client.", NULL, -DAY, DAY,
     "smtp.example.com",
     "the server saw no server name (SNI), though smtp.example.com was sent: ",
     "self-signed certificate (subject CN = \"No SNI provided"},
    {"another name's, for an address", BY_CA, "x", "DNS:mx.example.net", -DAY,
     DAY, "::1", "no server name (SNI) was sent, for ::1 is an address: ",
     "the certificate is for mx.example.net, not ::1"},
    {"expired, of an address", BY_CA, "x", "IP:127.0.0.1", -9 * DAY, -DAY,
     "127.0.0.1", "certificate has expired on 20", NULL},
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

static int
wants_a_name(SSL *ssl, int *ret_alert, void *cookie)
{
    (void)cookie;
    *ret_alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != NULL
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* No certificate at all for a client that names no server. */
static void
an_address_where_a_name_is_wanted(void **state)
{
    static const char *const rows[][2] = {
        {"smtp.example.com", ""},
        {"127.0.0.1", "(no server name (SNI) was sent, for 127.0.0.1 is an "
                      "address)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tls_peer p = {.ctx = tls_peer_ctx(&good)};
        struct stream *s;

        SSL_CTX_set_tlsext_servername_callback(p.ctx, wants_a_name);
        s = connect_to(&p);
        assert_int_equal(
            stream_start_tls(s, client, rows[i][0], "sni", in_ms(SOON)),
            i == 0 ? STREAM_OK : STREAM_ETLS);
        if (strstr(stream_error(s), rows[i][1]) == NULL)
            fail_msg("error text: %s", stream_error(s));
        stream_close(s);
        tls_peer_join(&p);
        SSL_CTX_free(p.ctx);
    }
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifies_each_certificate),
        cmocka_unit_test(no_name_is_no_permission),
        cmocka_unit_test(trust_that_cannot_be_loaded),
        cmocka_unit_test(the_system_store_does_not_know_our_ca),
        cmocka_unit_test(old_protocols_are_refused),
        cmocka_unit_test(an_address_where_a_name_is_wanted),
        cmocka_unit_test(a_silent_peer_times_out),
        cmocka_unit_test(a_peer_that_does_not_speak_tls),
        cmocka_unit_test(a_peer_that_hangs_up),
        cmocka_unit_test(data_before_tls_is_refused),
        cmocka_unit_test(tls_twice_is_refused),
        cmocka_unit_test(abort_ends_a_handshake),
    };

    return cmocka_run_group_tests_name("base/tls", tests, setup, teardown);
}
