/* milter/base/tls.c - TLS as a client, as a layer on any stream: see stream.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL reads and writes through a BIO over the layer below, which waits
 * and knows the deadline.  So it does not matter that SSL_write may have to
 * read or SSL_read to write, and no signal can be raised.
 */
#include "milter/base/stream.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "milter/base/stream_private.h"
#include "milter/base/tls_reason.h"
#include "milter/base/tls_sessions.h"

struct tls_client {
    SSL_CTX *ctx;
    BIO_METHOD *bio; /* over a struct tls */
    struct tls_sessions *sessions;
};

struct tls {
    struct stream *s;
    struct tls_client *client;
    const struct stream_ops *below;
    void *below_cookie;
    SSL *ssl;
    char *name;           /* to verify */
    char *key;            /* of the session ticket: name and caller's key */
    uint64_t deadline_ms; /* of the call under way */
    enum stream_result below_result; /* its first failure below */
    bool broken;                     /* no TLS call but SSL_free may follow */
    char
        certificate[STREAM_ERROR_MAX]; /* what is wrong with it; "" = nothing */
    char info[100];
};

/* ---- the BIO ---- */

/* A timeout is a "try again" to OpenSSL, so that a later call can go on in
 * the middle of a record. */
static int
bio_failed(BIO *bio, struct tls *t, enum stream_result r, int retry)
{
    t->below_result = r;
    if (r == STREAM_ETIMEOUT)
        BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
    return r == STREAM_EOF ? 0 : -1;
}

static int
bio_read(BIO *bio, char *to, int max)
{
    struct tls *t = BIO_get_data(bio);
    enum stream_result r;
    size_t n = 0;

    BIO_clear_retry_flags(bio);
    if (max <= 0)
        return 0;
    r = t->below->read(t->below_cookie, to, (size_t)max, t->deadline_ms, &n);
    return r == STREAM_OK ? (int)n : bio_failed(bio, t, r, BIO_FLAGS_READ);
}

static int
bio_write(BIO *bio, const char *from, int len)
{
    struct tls *t = BIO_get_data(bio);
    enum stream_result r;
    size_t n = 0;

    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return 0;
    r = t->below->write(t->below_cookie, from, (size_t)len, t->deadline_ms, &n);
    return r == STREAM_OK ? (int)n : bio_failed(bio, t, r, BIO_FLAGS_WRITE);
}

static long
bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)number, (void)pointer;
    switch (what) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return ((struct tls *)BIO_get_data(bio))->below_result == STREAM_EOF;
    default:
        return 0;
    }
}

static BIO_METHOD *
bio_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");

    if (m != NULL && BIO_meth_set_read(m, bio_read) &&
        BIO_meth_set_write(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* ---- the client ---- */

/* Called by OpenSSL when a ticket has come, which with TLS 1.3 is during some
 * read after the handshake.  1 = we keep the reference. */
static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *t = SSL_get_app_data(ssl);

    if (t == NULL)
        return 0;
    tls_sessions_put(t->client->sessions, t->key, session);
    return 1;
}

/* Notes what is wrong while the certificate is still at hand; does not change
 * the verdict. */
static int
note_verdict(int ok, X509_STORE_CTX *ctx)
{
    SSL *ssl =
        X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *t = ssl != NULL ? SSL_get_app_data(ssl) : NULL;

    if (!ok && t != NULL && t->certificate[0] == '\0')
        tls_reason_certificate(ctx, t->name, t->certificate,
                               sizeof t->certificate);
    return ok;
}

static bool
load_trust(SSL_CTX *ctx, const char *ca_file, char *err, size_t err_size)
{
    char why[160];

    if (ca_file == NULL) {
        if (SSL_CTX_set_default_verify_paths(ctx) == 1)
            return true;
        tls_reason_library(why, sizeof why);
        snprintf(err, err_size, "cannot load the system's trust store: %s",
                 why);
        return false;
    }
    if (SSL_CTX_load_verify_file(ctx, ca_file) == 1)
        return true;
    tls_reason_library(why, sizeof why);
    snprintf(err, err_size, "cannot load CA certificates from %s: %s", ca_file,
             why);
    return false;
}

struct tls_client *
tls_client_new(const char *ca_file, char *err, size_t err_size)
{
    struct tls_client *c = calloc(1, sizeof *c);

    ERR_clear_error();
    snprintf(err, err_size, "out of memory");
    if (c == NULL)
        return NULL;
    c->ctx = SSL_CTX_new(TLS_client_method());
    c->bio = bio_new();
    c->sessions = tls_sessions_new();
    if (c->ctx == NULL || c->bio == NULL || c->sessions == NULL)
        goto failed;
    if (SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1) {
        tls_reason_library(err, err_size);
        goto failed;
    }
    if (!load_trust(c->ctx, ca_file, err, err_size))
        goto failed;

    /* A lost connection says nothing against its session; OpenSSL would
     * forbid to resume it.  tls_failed tells such an end from a good one. */
    SSL_CTX_set_options(c->ctx,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                 SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(c->ctx, 1);
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, note_verdict);
    SSL_CTX_set_session_cache_mode(
        c->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ctx, keep_session);
    return c;

failed:
    tls_client_free(c);
    return NULL;
}

void
tls_client_free(struct tls_client *c)
{
    if (c == NULL)
        return;
    SSL_CTX_free(c->ctx);
    BIO_meth_free(c->bio);
    tls_sessions_free(c->sessions);
    free(c);
}

/* ---- one stream ---- */

/* The result of an SSL call that returned r <= 0. */
static enum stream_result
tls_failed(struct tls *t, int r)
{
    int error = SSL_get_error(t->ssl, r);
    char why[160];

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return stream_fail(t->s, STREAM_ETIMEOUT, "timeout");
    if (error == SSL_ERROR_ZERO_RETURN && t->below_result == STREAM_OK)
        return stream_fail(t->s, STREAM_EOF, "%s",
                           stream_result_text(STREAM_EOF));
    t->broken = true;
    if (t->below_result == STREAM_EOF)
        return stream_fail(t->s, STREAM_ELOST,
                           "the peer closed the connection without ending "
                           "the TLS session");
    if (t->below_result != STREAM_OK)
        return t->below_result; /* the text is there already */
    tls_reason_library(why, sizeof why);
    return stream_fail(t->s, STREAM_ELOST, "TLS: %s", why);
}

static bool
tls_begin(struct tls *t, uint64_t deadline_ms)
{
    t->deadline_ms = deadline_ms;
    t->below_result = STREAM_OK;
    ERR_clear_error();
    return !t->broken;
}

static enum stream_result
tls_read(void *cookie, void *to, size_t max, uint64_t deadline_ms,
         size_t *ret_n)
{
    struct tls *t = cookie;
    int n;

    if (!tls_begin(t, deadline_ms))
        return stream_fail(t->s, STREAM_ELOST, "the TLS session is broken");
    n = SSL_read(t->ssl, to, max > INT_MAX ? INT_MAX : (int)max);
    if (n <= 0)
        return tls_failed(t, n);
    *ret_n = (size_t)n;
    return STREAM_OK;
}

static enum stream_result
tls_write(void *cookie, const void *from, size_t len, uint64_t deadline_ms,
          size_t *ret_n)
{
    struct tls *t = cookie;
    int n;

    if (!tls_begin(t, deadline_ms))
        return stream_fail(t->s, STREAM_ELOST, "the TLS session is broken");
    n = SSL_write(t->ssl, from, len > INT_MAX ? INT_MAX : (int)len);
    if (n <= 0)
        return tls_failed(t, n);
    *ret_n = (size_t)n;
    return STREAM_OK;
}

static void
tls_free(struct tls *t)
{
    SSL_free(t->ssl);
    free(t->name);
    free(t->key);
    free(t);
}

static void
tls_close(void *cookie)
{
    struct tls *t = cookie;

    /* Says goodbye if that can be done without waiting. */
    if (tls_begin(t, 0))
        SSL_shutdown(t->ssl);
    /* Or else OpenSSL would hold the session, which we may have kept, for
     * unfit to be resumed. */
    SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    ERR_clear_error();
    t->below->close(t->below_cookie);
    tls_free(t);
}

static const struct stream_ops tls_ops = {tls_read, tls_write, tls_close};

/* Whom we want to talk to: nothing is sent before that is set. */
static bool
set_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *want = SSL_get0_param(ssl);

    if (tls_reason_is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(want, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(want, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

static struct tls *
tls_new(struct stream *s, struct tls_client *c, const char *name,
        const char *key)
{
    struct tls *t = calloc(1, sizeof *t);
    size_t len = strlen(name);
    SSL_SESSION *session;
    BIO *bio = NULL;

    if (t == NULL)
        return NULL;
    *t = (struct tls){
        .s = s,
        .client = c,
        .below = s->ops,
        .below_cookie = s->cookie,
        .ssl = SSL_new(c->ctx),
    };
    if (len > 1 && name[len - 1] == '.')
        len--; /* no certificate has the root's dot */
    t->name = strndup(name, len);
    if (t->name == NULL || asprintf(&t->key, "%s\n%s", t->name, key) < 0) {
        t->key = NULL;
        goto failed;
    }
    bio = BIO_new(c->bio);
    if (t->ssl == NULL || bio == NULL || !set_name(t->ssl, t->name))
        goto failed;

    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    session = tls_sessions_take(c->sessions, t->key);
    if (session != NULL) {
        SSL_set_session(t->ssl, session); /* a refused one is no loss */
        SSL_SESSION_free(session);
    }
    return t;

failed:
    BIO_free(bio);
    tls_free(t);
    return NULL;
}

/* The handshake's failures; what was found out about the certificate says
 * more than the alert does. */
static enum stream_result
handshake_failed(struct tls *t)
{
    char why[STREAM_ERROR_MAX];

    if (t->certificate[0] != '\0')
        return stream_fail(t->s, STREAM_ETLS, "%s", t->certificate);
    switch (t->below_result) {
    case STREAM_OK:
        tls_reason_library(why, sizeof why);
        if (tls_reason_is_address(t->name))
            return stream_fail(t->s, STREAM_ETLS,
                               "TLS handshake: %s (no server name (SNI) was "
                               "sent, for %s is an address)",
                               why, t->name);
        return stream_fail(t->s, STREAM_ETLS, "TLS handshake: %s", why);
    case STREAM_ETIMEOUT:
        return stream_fail(t->s, STREAM_ETIMEOUT,
                           "timeout in the TLS handshake");
    case STREAM_EOF:
        return stream_fail(t->s, STREAM_ELOST,
                           "the peer closed the connection in the TLS "
                           "handshake");
    default:
        snprintf(why, sizeof why, "%s", t->s->error);
        return stream_fail(t->s, STREAM_ELOST, "%s in the TLS handshake", why);
    }
}

enum stream_result
stream_start_tls(struct stream *s, struct tls_client *c, const char *name,
                 const char *key, uint64_t deadline_ms)
{
    struct tls *t;

    s->error[0] = '\0';
    if (s->tls != NULL)
        return stream_fail(s, STREAM_ETLS, "TLS is on already");
    if (s->has_ahead)
        return stream_fail(s, STREAM_ETLS,
                           "the peer sent data in the clear before TLS");
    if (name == NULL || name[0] == '\0')
        return stream_fail(s, STREAM_ETLS, "no name to verify");
    ERR_clear_error();
    t = tls_new(s, c, name, key);
    if (t == NULL) {
        char why[160];

        tls_reason_library(why, sizeof why);
        return stream_fail(s, STREAM_ETLS, "cannot start TLS with %s: %s", name,
                           why);
    }
    /* From here on the stream's close frees t. */
    s->ops = &tls_ops;
    s->cookie = t;
    s->tls = t;

    tls_begin(t, deadline_ms);
    if (SSL_connect(t->ssl) != 1) {
        t->broken = true;
        if (atomic_load(&s->aborted))
            return stream_fail(s, STREAM_ELOST, "given up by this side");
        return handshake_failed(t);
    }
    snprintf(t->info, sizeof t->info, "%s %s%s", SSL_get_version(t->ssl),
             SSL_get_cipher_name(t->ssl),
             SSL_session_reused(t->ssl) ? " resumed" : "");
    return STREAM_OK;
}

const char *
stream_tls_info(const struct stream *s)
{
    return s->tls != NULL ? s->tls->info : "";
}
