/* milter/deliver/smtp.h - the client side of RFC 5321, without sockets.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A machine: bytes in, bytes out, states with names.  The session moves the
 * bytes and watches the clock; a test or a fuzzer can do the same.
 *
 *   greeting -> ehlo -> (starttls -> tls -> ehlo) -> auth -> ready
 *   ready -> envelope -> content -> final -> ready
 *
 * Any state can end in `dead`.  Every command sent is owed exactly one reply;
 * a reply nobody asked for ends the session.  Content is written at most
 * once for each transaction, and only after the login.
 *
 * How many round trips a transaction takes depends on what the server offers
 * (RFC 2920, RFC 3030):
 *
 *   PIPELINING and CHUNKING  MAIL, RCPTs, BDAT LAST and content in one flight
 *   PIPELINING               MAIL, RCPTs, DATA; then the content
 *   neither                  step by step
 *
 * Sources: RFC 5321, 1870 (SIZE), 2920, 3030, 3207 (STARTTLS), 4954 (AUTH),
 * 6152 (8BITMIME), 6531 (SMTPUTF8).
 */
#ifndef DELIVER_SMTP_H
#define DELIVER_SMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/base/sasl.h"
#include "policy/outcome.h"
#include "policy/slice.h"

struct smtp;
struct letter_result; /* pool.h */

enum smtp_state {
    SMTP_GREETING,    /* 220 awaited */
    SMTP_EHLO,        /* sent */
    SMTP_STARTTLS,    /* sent */
    SMTP_TLS,         /* the caller shakes hands, then smtp_tls_done() */
    SMTP_AUTH,        /* sent with the initial response */
    SMTP_AUTH_ASK,    /* sent without it: 334 awaited */
    SMTP_AUTH_ANSWER, /* the response sent after 334 */
    SMTP_AUTH_FAILED, /* a failure's 334 answered: the final reply awaited */
    SMTP_READY,       /* logged in, nothing under way */
    SMTP_ENVELOPE,    /* MAIL, RCPT, DATA: replies awaited */
    SMTP_CONTENT,     /* content wanted from the caller */
    SMTP_FINAL,       /* all content given: its reply awaited */
    SMTP_QUIT,        /* sent */
    SMTP_DEAD,        /* no more of this connection */
    SMTP_STATES,
};

const char *smtp_state_name(enum smtp_state s);

/* How long to wait, ms: RFC 5321 4.5.3.2, shorter before the login, where
 * trying again costs nothing. */
enum {
    SMTP_MS_CONNECT = 30 * 1000, /* TCP, and the TLS handshake */
    SMTP_MS_GREETING = 60 * 1000,
    SMTP_MS_EHLO = 60 * 1000,
    SMTP_MS_AUTH = 60 * 1000,
    SMTP_MS_ENVELOPE = 5 * 60 * 1000, /* all replies to one flight */
    SMTP_MS_BLOCK = 3 * 60 * 1000,    /* writing one block of content */
    SMTP_MS_FINAL = 10 * 60 * 1000,
    SMTP_MS_TRANSACTION = 30 * 60 * 1000, /* whatever happens */
};

enum {
    SMTP_RECIPIENTS_MAX = 100, /* Google: 100 RCPT TO a message over SMTP */
    SMTP_BLOCK = 64 * 1024,    /* octets of content given at once */
    /* A transaction that has failed while its BDAT is under way is finished
     * when no more than this is left to write, else the connection is
     * dropped: cheaper than 30 MB nobody wants. */
    SMTP_DRAIN_MAX = 256 * 1024,
    SMTP_ADDRESS_MAX = 900, /* octets; longer ones are refused here */
};

enum smtp_login { SMTP_LOGIN_NONE, SMTP_LOGIN_PASSWORD, SMTP_LOGIN_TOKEN };

struct smtp_options {
    const char *hostname; /* EHLO argument; borrowed */
    bool starttls;        /* false: the connection is encrypted already */
    enum smtp_login login;
    struct sasl_login sasl; /* borrowed until `ready` or `dead` */
};

/* NULL = out of memory.  smtp_free takes NULL and wipes. */
struct smtp *smtp_new(const struct smtp_options *o);
void smtp_free(struct smtp *m);

enum smtp_state smtp_state(const struct smtp *m);

enum smtp_want {
    SMTP_WANT_NOTHING, /* ready or dead */
    SMTP_WANT_CONTENT, /* smtp_content(), even while output waits */
    SMTP_WANT_WRITE,   /* smtp_output() */
    SMTP_WANT_READ,    /* smtp_input() */
    SMTP_WANT_TLS,     /* handshake, then smtp_tls_done() */
};
enum smtp_want smtp_want(const struct smtp *m);

/* Longest wait for what is wanted now, ms. */
uint32_t smtp_timeout_ms(const struct smtp *m);

/* All bytes to be written; valid until the next call with m.  Looking at them
 * counts as sending them. */
struct slice smtp_output(struct smtp *m);
void smtp_written(struct smtp *m); /* all of them; wiped if secret */

/* Bytes from the peer: any split, any number of replies. */
void smtp_input(struct smtp *m, const char *data, size_t len);

void smtp_tls_done(struct smtp *m);

/* The connection is gone, or the wait was too long.  What was not answered is
 * judged lost; `why` (for people) goes into its reply's text, with code 0.
 *
 * orderly: the peer ended it in good order.  One that did so on a used
 * session before it answered anything had left before our flight came: the
 * message was not accepted, though all of it may be on the wire. */
void smtp_lost(struct smtp *m, bool orderly, const char *why);

/* After `dead` during the login: why.  Before that: NULL. */
const struct letter_result *smtp_login_failure(const struct smtp *m);

/* ---- a transaction ---- */

struct smtp_envelope {     /* borrowed until the transaction has ended */
    const char *mail_from; /* "" = null */
    size_t n_rcpt;         /* up to SMTP_RECIPIENTS_MAX; the rest is split off
                            * (OUTCOME_SPLIT) */
    const char *const *rcpt;
    uint64_t size; /* octets of content, exact */
    bool is_8bit, needs_utf8;
    /* The session may have gone stale: hold the content back until MAIL is
     * answered, so that a lost connection leaves no doubt.  Costs a round
     * trip where BDAT would have been in the first flight. */
    bool careful;
};

/* Begins one; only in `ready`.  ret[0..n_rcpt) is complete when the machine
 * is `ready` or `dead` again.
 *
 * False: nothing was sent and ret says why: larger than the server takes
 * (552 5.3.4), SMTPUTF8 needed and not offered (550 5.6.7), no address that
 * could be written on a line (553 5.1.x), not ready. */
bool smtp_begin(struct smtp *m, const struct smtp_envelope *e,
                struct letter_result *ret);

/* Content, in order, at most SMTP_BLOCK octets at a time: whole lines are not
 * needed, CRLF line ends are.  Dots are stuffed here where DATA needs it. */
void smtp_content(struct smtp *m, const char *data, size_t len);

/* No more content.  When it was not exactly `size` octets (our own file
 * failed), the connection is dead and the message was not sent. */
void smtp_content_end(struct smtp *m);

/* Transactions begun on this connection. */
unsigned smtp_transactions(const struct smtp *m);

/* A reply since the login asked for fewer sessions of this account. */
bool smtp_halve(const struct smtp *m);

/* Asks to end; only in `ready`. */
void smtp_quit(struct smtp *m);

#endif
