/* milter/base/tls_reason.h - why a TLS handshake failed, in words an
 * administrator can act on.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BASE_TLS_REASON_H
#define BASE_TLS_REASON_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/x509_vfy.h>

/* An address is no server name (RFC 6066 3): none is sent with it. */
bool tls_reason_is_address(const char *name);

/* Why the certificate being verified in ctx is not good for `name`: "the
 * certificate is for a.example, not b.example ..."; in front of it the cause,
 * when the server chose it because it was told no name. */
void tls_reason_certificate(X509_STORE_CTX *ctx, const char *name, char *ret,
                            size_t ret_size);

/* What the library's error queue (emptied by this) says. */
void tls_reason_library(char *ret, size_t ret_size);

#endif
