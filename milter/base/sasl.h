/* milter/base/sasl.h - what a client says to log in.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure text work: nothing is read or sent here.  Everything made here is a
 * secret; it goes into buffers that are wiped by their owner.
 *
 * Sources: RFC 4616 (PLAIN), RFC 7628 (OAUTHBEARER), Google, "OAuth 2.0
 * Mechanism" (developers.google.com/gmail/imap/xoauth2-protocol) for
 * XOAUTH2.
 */
#ifndef BASE_SASL_H
#define BASE_SASL_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/buf.h"
#include "policy/slice.h"

enum sasl_mechanism {
    SASL_PLAIN,
    SASL_XOAUTH2,
    SASL_OAUTHBEARER,
    SASL_MECHANISMS,
};

const char *sasl_name(enum sasl_mechanism m); /* "XOAUTH2" */

/* Longest response, octets of base64; with "AUTH OAUTHBEARER " and CRLF a
 * line stays below the 12288 octets of RFC 4954 4. */
enum { SASL_RESPONSE_MAX = 12000 };

struct sasl_login {      /* borrowed */
    const char *user;    /* the mailbox's address */
    struct slice secret; /* password or access token */
    const char *host;    /* OAUTHBEARER names the server it talks to */
    uint16_t port;
};

/* Appends the response in base64, one line, no line end.  The memory is
 * reserved before the first octet of the secret is written, so that growing
 * leaves no copy behind.
 *
 * False: out of memory, too long, or an octet that the mechanism cannot
 * carry (NUL, ^A, line ends); nothing was appended then. */
bool sasl_response(enum sasl_mechanism m, const struct sasl_login *l,
                   struct buf *to);

/* The line (without its end) that answers a 334 sent after our response, to
 * make the server give its final reply: "" for XOAUTH2, "AQ==" for
 * OAUTHBEARER, "*" (cancel, RFC 4954 4) for PLAIN. */
const char *sasl_failed_answer(enum sasl_mechanism m);

#endif
