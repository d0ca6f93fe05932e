/* milter/base/stream_private.h - what stream.c and tls.c share.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A stream is a stack of one or two layers.  The lower reads and writes a
 * socket (or a test's memory); stream_start_tls puts TLS on top, which speaks
 * to the lower one through the same three operations.
 */
#ifndef BASE_STREAM_PRIVATE_H
#define BASE_STREAM_PRIVATE_H

#include <stdatomic.h>

#include "milter/base/stream.h"

enum { STREAM_ERROR_MAX = 300 /* octets, NUL included */ };

struct tls;

struct stream {
    const struct stream_ops *ops; /* the top layer */
    void *cookie;
    struct tls *tls; /* the top layer's cookie when it is TLS, else NULL */
    int fd;          /* of the socket; -1 = none */
    atomic_bool aborted;
    bool has_ahead; /* stream_quiet had to read one octet */
    char ahead;
    char error[STREAM_ERROR_MAX];
};

/* Writes the text of stream_error(); returns r. */
enum stream_result stream_fail(struct stream *s, enum stream_result r,
                               const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
