/* milter/deliver/message_private.h - the inside of struct message, for
 * message.c (arrival) and message_copy.c (Gmail's copy) alone.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_MESSAGE_PRIVATE_H
#define DELIVER_MESSAGE_PRIVATE_H

#include "milter/base/buf.h"
#include "milter/deliver/fields.h"
#include "milter/deliver/message.h"

enum { MESSAGE_BLOCK = 64 * 1024 };

/* Line ends, made CRLF.  A bare CR or LF would be a line end to some and none
 * to others further on, which is how a second message is smuggled inside the
 * first (RFC 5321 2.3.8, 4.1.1.4).  So on the way out every run of CRs with
 * or without an LF behind it, and every LF, is one CRLF; DATA and BDAT send
 * the same.  "CR CR LF", which broken programs make, stays one line end.
 *
 * NULs at the start of a line are dropped: servers that drop them all, behind
 * our dot-stuffing, would see the dot behind them begin the line.  (A message
 * has none: RFC 5322 3.5, RFC 6532.) */
struct crlf {
    bool cr;    /* CRs were eaten; their line end is not written yet */
    bool start; /* at the start of a line */
    bool stray; /* the octets are not the same */
};

enum { CRLF_MAX = 3 /* octets that one octet can become */ };

/* The next octet becomes ret[0..n); returns n. */
static inline size_t
crlf_next(struct crlf *x, char c, char ret[CRLF_MAX])
{
    size_t n = 0;

    if (c == '\r') {
        x->stray |= x->cr;
        x->cr = true;
        return 0;
    }
    if (c == '\n' || x->cr) {
        x->stray |= c != '\n' || !x->cr;
        ret[n++] = '\r';
        ret[n++] = '\n';
        x->cr = false;
        x->start = true;
    }
    if (c == '\0' && x->start) {
        x->stray = true;
    } else if (c != '\n') {
        ret[n++] = c;
        x->start = false;
    }
    return n;
}

/* The end of it all: the line end that is missing; returns its octets. */
static inline size_t
crlf_end(struct crlf *x, char ret[CRLF_MAX])
{
    if (!x->cr && x->start)
        return 0;
    x->stray = true;
    x->cr = false;
    x->start = true;
    ret[0] = '\r';
    ret[1] = '\n';
    return 2;
}

struct message {
    char *spill_directory;
    struct buf memory; /* content not in the file */
    int fd;            /* -1: all is in memory */
    uint64_t in_file;  /* octets */
    uint64_t size;     /* octets, as received */
    bool broken;       /* an error was returned: no more of it */
    /* Known after message_end. */
    struct buf header; /* its fields, line ends made CRLF */
    struct fields fields;
    uint64_t body_at;   /* where the body begins, as received */
    uint64_t body_size; /* octets of it with line ends made CRLF */
    bool body_stray;    /* it has others */
    bool is_8bit, needs_utf8;
    char *id;
    struct digest digest;
};

/* Octets of the content as received.  Sets errno on failure. */
bool message_read(const struct message *m, uint64_t from, char *to, size_t max,
                  size_t *ret_n);

#endif
