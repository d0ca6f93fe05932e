/* milter/deliver/lmtp.h - the server side of LMTP, without sockets: bytes in,
 * events and replies out.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The caller feeds what arrived, asks for events until LMTP_NEED_INPUT, and
 * sends what has gathered in `out`.  Events marked "answer" stop the machine
 * until lmtp_answer() was called.  Commands pipelined behind one are kept.
 *
 * Sources: RFC 2033; RFC 5321 4.1 and 4.5.3.1; RFC 1870; RFC 2920; Postfix
 * XFORWARD_README.  DSN is not offered: the MTA then sends success reports
 * itself.
 */
#ifndef DELIVER_LMTP_H
#define DELIVER_LMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/base/buf.h"

enum {
    LMTP_LINE_MAX = 4096,       /* octets of a command line, CRLF included */
    LMTP_RECIPIENTS_MAX = 1000, /* accepted in one transaction */
    LMTP_ERRORS_MAX = 20,       /* bad commands before we hang up */
    /* Octets of a message: what Google takes anywhere (its MX hosts); each
     * smarthost names its own, smaller limit. */
    LMTP_SIZE_MAX = 157286400,
    LMTP_PROGRESS = 64 * 1024, /* octets of content that count as progress */
    LMTP_INPUT_MAX = 128 * 1024,
    LMTP_OUTPUT_MAX = 1024 * 1024,
};

enum lmtp_event {
    LMTP_NEED_INPUT, /* send `out`, read, feed */
    LMTP_MAIL,       /* answer; `path`: the sender without <> */
    LMTP_RCPT,       /* answer; `path`: the recipient without <> */
    LMTP_DATA,       /* answer: "354 ..." lets the content come */
    LMTP_CONTENT,    /* some of it, in `content`: dots unstuffed */
    LMTP_END,        /* answer once for each accepted recipient, in order, then
                      * lmtp_end() */
    LMTP_RESET,      /* RSET or a new LHLO: forget the transaction */
    LMTP_CLOSE,      /* QUIT or hopeless: send `out`, hang up */
};

struct lmtp {
    struct buf in, out;
    const char *hostname; /* borrowed */
    size_t eaten;         /* octets of `in` behind us */
    unsigned errors, n_recipients;
    int state; /* enum in lmtp.c */
    int asked; /* the event that waits for its answer */
    bool greeted, has_mail, skipping_line;
    /* Grows with each command and each LMTP_PROGRESS of content: a client that
     * sends an octet now and then makes none. */
    uint64_t progress;
    uint64_t content_size; /* octets of this message so far */

    /* Of the last event; valid until the next call. */
    struct slice path, content;
    bool smtputf8, body_8bit;
    char ident[64]; /* XFORWARD IDENT: the queue id; "" = none sent */
};

void lmtp_init(struct lmtp *l, const char *hostname); /* writes the greeting */
void lmtp_free(struct lmtp *l);

/* False: out of memory or over LMTP_INPUT_MAX (the caller fed without asking
 * for events). */
bool lmtp_feed(struct lmtp *l, const void *data, size_t len);

enum lmtp_event lmtp_next(struct lmtp *l);

/* One reply line, without CRLF: "250 2.1.5 OK". */
void lmtp_answer(struct lmtp *l, const char *reply);

/* Is content expected?  And is it more than LMTP_SIZE_MAX by now? */
bool lmtp_in_content(const struct lmtp *l);
bool lmtp_is_too_large(const struct lmtp *l);

/* After the last answer to LMTP_END. */
void lmtp_end(struct lmtp *l);

#endif
