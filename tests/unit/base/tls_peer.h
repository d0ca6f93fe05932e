/* tests/unit/base/tls_peer.h - certificates made on the spot, and a TLS
 * server in a thread at the other end of a socket.
 * SPDX-License-Identifier: Apache-2.0
 *
 * What fails in here ends the test program: it is no result of a test.
 */
#ifndef TEST_TLS_PEER_H
#define TEST_TLS_PEER_H

#include <pthread.h>
#include <stdbool.h>

#include <openssl/ssl.h>

struct cert {
    X509 *x;
    EVP_PKEY *key;
};

enum { DAY = 86400 /* s */ };

/* alt: "DNS:a.example, IP:127.0.0.1" or NULL; valid from now + from_s until
 * now + to_s.  issuer NULL = self-signed. */
struct cert cert_new(const struct cert *issuer, const char *cn, const char *alt,
                     long from_s, long to_s, bool is_ca);
void cert_free(struct cert *c);
void cert_write_pem(const struct cert *c, const char *path);

/* A context that can serve several connections (tickets!). */
SSL_CTX *tls_peer_ctx(const struct cert *c);

struct tls_peer {
    int fd; /* owned */
    SSL_CTX *ctx;
    void (*act)(struct tls_peer *p); /* after a good handshake; NULL = none */
    void *cookie;
    /* found out: */
    SSL *ssl;
    bool accepted;
    char sni[256]; /* "" = the client sent none */
    pthread_t thread;
};

/* Serves one handshake on p->fd, calls act, says goodbye unless act closed
 * the socket (and set fd to -1). */
void tls_peer_start(struct tls_peer *p);
void tls_peer_join(struct tls_peer *p);

#endif
