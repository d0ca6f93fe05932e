/* milter/base/stream.h - read and write with a deadline, over a socket or
 * TLS: the seam where tests put memory or a lying peer.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Deadlines are absolute, clock_boot_ms() of the machine's clock.  One thread
 * at a time.  SIGPIPE is never raised.
 */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum stream_result {
    STREAM_OK = 0,
    STREAM_EOF,      /* orderly end */
    STREAM_ETIMEOUT, /* the deadline passed */
    STREAM_ELOST,    /* reset, or any other error; stream_error() says */
    STREAM_ETLS,     /* handshake or certificate; stream_error() says */
};

struct stream;

struct stream_ops { /* ret_n: octets done, > 0 when STREAM_OK */
    enum stream_result (*read)(void *cookie, void *to, size_t max,
                               uint64_t deadline_ms, size_t *ret_n);
    enum stream_result (*write)(void *cookie, const void *from, size_t len,
                                uint64_t deadline_ms, size_t *ret_n);
    void (*close)(void *cookie);
};

/* Takes the connected socket over and makes it non-blocking.  NULL = out of
 * memory or not a descriptor; it is closed in that case too. */
struct stream *stream_from_fd(int fd);

/* Over anything else; close is called once, by stream_close.  A deadline that
 * has passed asks for what is there without waiting. */
struct stream *stream_from_ops(const struct stream_ops *ops, void *cookie);

/* Connects to host (name or address) and port over TCP, trying each address
 * in turn with its share of the time left, TCP_NODELAY and SO_KEEPALIVE.
 * NULL on failure, with a sentence in err (err_size > 0).  The look-up of a
 * name is bounded by resolv.conf(5), not by the deadline. */
struct stream *stream_connect(const char *host, uint16_t port,
                              uint64_t deadline_ms, char *err, size_t err_size);

void stream_close(struct stream *s); /* takes NULL */

/* Reads at least one octet.  What has arrived is read even when the deadline
 * has passed. */
enum stream_result stream_read(struct stream *s, void *to, size_t max,
                               uint64_t deadline_ms, size_t *ret_n);

/* Writes all of it; after a failure how much went out is not known. */
enum stream_result stream_write(struct stream *s, const void *from, size_t len,
                                uint64_t deadline_ms);

/* True when the peer has neither closed nor sent anything while we were not
 * looking.  Does not block or eat. */
bool stream_quiet(struct stream *s);

/* Why the last call failed, valid until the next one. */
const char *stream_error(const struct stream *s);
const char *stream_result_text(enum stream_result r);

/* Makes a blocked read or write of another thread, and all later ones, fail
 * soon.  The caller sees to it that the stream is not closed meanwhile. */
void stream_abort(struct stream *s);

/* ---- TLS, as a client ---- */

struct tls_client; /* trust store and session tickets; any thread */

/* ca_file (PEM) NULL = the system's store.  TLS 1.2 or better.  NULL on
 * failure, with a sentence in err.  Is freed after all its streams. */
struct tls_client *tls_client_new(const char *ca_file, char *err,
                                  size_t err_size);
void tls_client_free(struct tls_client *c); /* takes NULL */

/* Handshake on a connected stream: sends SNI, verifies name and chain,
 * offers the newest session ticket kept under `key` (any text: endpoint and
 * credentials it may be shared for) and the name.  A name that is an IP
 * address is looked for among the certificate's addresses, without SNI.
 *
 * STREAM_ETLS: stream_error() names the cause: expired, wrong name,
 * self-signed, unknown CA.  After any failure the stream can only be closed. */
enum stream_result stream_start_tls(struct stream *s, struct tls_client *c,
                                    const char *name, const char *key,
                                    uint64_t deadline_ms);

/* "TLSv1.3 TLS_AES_256_GCM_SHA384 resumed", for logs; "" without TLS. */
const char *stream_tls_info(const struct stream *s);

#endif
