/* tests/unit/base/tls_peer.c - see tls_peer.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/base/tls_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* OpenSSL is not built for ThreadSanitizer, which therefore does not see its
 * reference counts. */
const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
    return "called_from_lib:libcrypto.so\ncalled_from_lib:libssl.so\n";
}

static void
must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "tls_peer: %s failed\n", what);
    ERR_print_errors_fp(stderr);
    abort();
}

static void
add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    must(e != NULL && X509_add_ext(x, e, -1) == 1, value);
    X509_EXTENSION_free(e);
}

struct cert
cert_new(const struct cert *issuer, const char *cn, const char *alt,
         long from_s, long to_s, bool is_ca)
{
    static long serial = 1;
    struct cert c = {X509_new(), EVP_EC_gen("P-256")};
    const struct cert *by = issuer != NULL ? issuer : &c;
    X509_NAME *name;

    must(c.x != NULL && c.key != NULL, "key generation");
    X509_set_version(c.x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c.x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(c.x), to_s);
    name = X509_get_subject_name(c.x);
    must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                    (const unsigned char *)cn, -1, -1, 0) == 1,
         "subject");
    X509_set_issuer_name(c.x, X509_get_subject_name(by->x));
    X509_set_pubkey(c.x, c.key);
    add_extension(c.x, by->x, NID_basic_constraints,
                  is_ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (alt != NULL)
        add_extension(c.x, by->x, NID_subject_alt_name, alt);
    must(X509_sign(c.x, by->key, EVP_sha256()) > 0, "signing");
    return c;
}

void
cert_free(struct cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
    *c = (struct cert){NULL, NULL};
}

void
cert_write_pem(const struct cert *c, const char *path)
{
    FILE *f = fopen(path, "w");

    must(f != NULL && PEM_write_X509(f, c->x) == 1, path);
    fclose(f);
}

SSL_CTX *
tls_peer_ctx(const struct cert *c)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    must(ctx != NULL && SSL_CTX_use_certificate(ctx, c->x) == 1 &&
             SSL_CTX_use_PrivateKey(ctx, c->key) == 1,
         "server context");
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
    return ctx;
}

static void *
serve(void *cookie)
{
    struct tls_peer *p = cookie;

    p->ssl = SSL_new(p->ctx);
    must(p->ssl != NULL && SSL_set_fd(p->ssl, p->fd) == 1, "SSL_new");
    p->accepted = SSL_accept(p->ssl) == 1;
    if (p->accepted) {
        const char *sni = SSL_get_servername(p->ssl, TLSEXT_NAMETYPE_host_name);

        snprintf(p->sni, sizeof p->sni, "%s", sni != NULL ? sni : "");
        if (p->act != NULL)
            p->act(p);
        if (p->fd >= 0)
            SSL_shutdown(p->ssl);
    }
    ERR_clear_error();
    SSL_free(p->ssl);
    p->ssl = NULL;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    return NULL;
}

void
tls_peer_start(struct tls_peer *p)
{
    p->accepted = false;
    p->sni[0] = '\0';
    must(pthread_create(&p->thread, NULL, serve, p) == 0, "pthread_create");
}

void
tls_peer_join(struct tls_peer *p)
{
    pthread_join(p->thread, NULL);
}
