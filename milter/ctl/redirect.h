/* milter/ctl/redirect.h - what a browser brings back from a login: a request
 * to our loopback address, or its address line pasted by a person.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Anybody on this host, and any page that the browser shows, can send
 * such a request: what is not exactly what the standard allows is refused, and
 * whether `state` is ours must be checked before anything else is believed.
 * The code is a secret until it is exchanged; the caller wipes *ret.
 *
 * Sources: RFC 6749 4.1.2 and appendix A, RFC 8252 7.3, RFC 9112 3.
 */
#ifndef CTL_REDIRECT_H
#define CTL_REDIRECT_H

#include <stdbool.h>

#include "policy/slice.h"

enum {
    REDIRECT_HEAD_MAX = 16 * 1024, /* octets of a request's head */
    REDIRECT_CODE_MAX = 4096,
    REDIRECT_STATE_MAX = 128,
    REDIRECT_TEXT_MAX = 300, /* a longer text is cut */
};

/* Visible ASCII, in `description` spaces too; "" = not given. */
struct redirect {
    char code[REDIRECT_CODE_MAX + 1];
    char state[REDIRECT_STATE_MAX + 1];
    char error[REDIRECT_TEXT_MAX + 1]; /* "access_denied"; then no code */
    char description[REDIRECT_TEXT_MAX + 1];
};

enum redirect_kind {
    REDIRECT_ANSWER, /* *ret holds a code or an error */
    REDIRECT_MORE,   /* the head has not arrived whole: read on */
    REDIRECT_OTHER,  /* a request, but for something else: an icon */
    REDIRECT_BAD,    /* no HTTP request, too long, or against the standard */
};

/* The octets that have come so far.  Only with REDIRECT_ANSWER is *ret set. */
enum redirect_kind redirect_request(struct slice data, struct redirect *ret);

/* What a person pasted: an address, its part behind the question mark, or a
 * code alone, which has no state.  False: none of these; *ret is as it was. */
bool redirect_pasted(struct slice text, struct redirect *ret);

#endif
