/* policy/reply.h - one SMTP or LMTP reply, parsed.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure: bytes in, values out.
 *
 * Sources: RFC 5321 4.2 (reply syntax), 4.5.3.1.5 (line length; we take
 * longer ones, since Gmail sends URLs); RFC 2034 and RFC 3463 (enhanced
 * codes).
 */
#ifndef POLICY_REPLY_H
#define POLICY_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

enum {
    REPLY_LINE_MAX = 2048, /* octets, CRLF included */
    REPLY_LINES_MAX = 64,
    REPLY_TEXT_MAX = 1024, /* octets of text kept, NUL included */
};

enum reply_result {
    REPLY_OK = 0,
    REPLY_MORE,     /* no complete reply yet: read more, call again */
    REPLY_ESYNTAX,  /* not a reply at all */
    REPLY_ECODE,    /* lines of one reply disagree about the code */
    REPLY_ETOOLONG, /* over REPLY_LINE_MAX or REPLY_LINES_MAX */
};

struct enhanced {             /* RFC 3463 */
    uint8_t klass;            /* 2, 4, 5; 0 = none sent */
    uint16_t subject, detail; /* 0..999 */
};

/* A value: may be kept and copied. */
struct reply {
    uint16_t code;            /* 200..599; 0 = no reply */
    struct enhanced enhanced; /* of the last line that has one */
    uint16_t lines;
    /* All lines joined by one space, codes taken off, controls and
     * non-ASCII replaced by '?', cut at the end when too long. */
    char text[REPLY_TEXT_MAX];
};

/* Parses the first whole reply in buf[0..len).
 *
 * Returns REPLY_OK and sets *ret and *ret_used (octets eaten, CRLF
 * included; the next reply, if any, starts there).  On any other result
 * *ret and *ret_used keep the values they had. */
enum reply_result reply_parse(const char *buf, size_t len, struct reply *ret,
                              size_t *ret_used);

/* The keyword of Gmail's help link ("...?p=BadCredentials ..."); empty when
 * there is none.  Borrows from r->text. */
struct slice reply_keyword(const struct reply *r);

#endif
