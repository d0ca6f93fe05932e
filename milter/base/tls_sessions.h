/* milter/base/tls_sessions.h - the newest TLS session of each server, kept
 * for the next handshake.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A bounded table by key; when a bucket is full its oldest goes.  Any thread.
 */
#ifndef BASE_TLS_SESSIONS_H
#define BASE_TLS_SESSIONS_H

#include <openssl/ssl.h>

struct tls_sessions;

struct tls_sessions *tls_sessions_new(void); /* NULL = out of memory */
void tls_sessions_free(struct tls_sessions *t);

/* Takes the session over, in place of an older one of that key. */
void tls_sessions_put(struct tls_sessions *t, const char *key, SSL_SESSION *s);

/* The caller owns what it gets; NULL = none that can be used now.  A ticket
 * of TLS 1.3 is given out once (RFC 8446 C.4). */
SSL_SESSION *tls_sessions_take(struct tls_sessions *t, const char *key);

#endif
