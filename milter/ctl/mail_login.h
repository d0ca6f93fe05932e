/* milter/ctl/mail_login.h - logging in at a mail server, as a conversation
 * without sockets, and what a failure means.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure: lines in, lines out.  No mail is sent or read.  Not libcurl, which
 * gives up at the challenge that a refused token is answered with, and so
 * never hears the reply behind it that says why.
 *
 * Sources: RFC 5321, 3207, 4954 (SMTP); RFC 9051 (IMAP); RFC 1939, 2449, 5034
 * (POP); Google, "OAuth 2.0 Mechanism"; gmail.md 1, 2, 8 (texts).
 */
#ifndef CTL_MAIL_LOGIN_H
#define CTL_MAIL_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/buf.h"
#include "milter/base/sasl.h"

enum mail_protocol { MAIL_SMTP, MAIL_IMAP, MAIL_POP, MAIL_PROTOCOLS };

const char *mail_protocol_name(enum mail_protocol p); /* "SMTP" */

/* What came of it, each with its own remedy. */
enum mail_fault {
    MAIL_OK = 0,
    MAIL_UNREACHABLE,      /* name, route, port, or nobody answers */
    MAIL_TLS_NAME,         /* the certificate is for another name */
    MAIL_TLS_CA,           /* its issuer is not trusted */
    MAIL_TLS_TIME,         /* expired, or not valid yet */
    MAIL_TLS_SNI,          /* the server was not told a name */
    MAIL_TLS_OTHER,        /* the handshake failed otherwise */
    MAIL_NO_STARTTLS,      /* not offered */
    MAIL_NO_MECHANISM,     /* our way to log in is not offered */
    MAIL_TOKEN_REFUSED,    /* expired, revoked, or of another account */
    MAIL_SCOPE,            /* the token is not for mail */
    MAIL_PASSWORD_REFUSED, /* wrong, or no passwords allowed */
    MAIL_APP_PASSWORD,     /* it is the account's own password */
    MAIL_WEB_LOGIN,        /* the provider wants to see a person */
    MAIL_IMAP_OFF,         /* switched off for the account */
    MAIL_POP_OFF,
    MAIL_BUSY,         /* too many logins or connections */
    MAIL_REFUSED,      /* for a reason that is not known here */
    MAIL_NOT_PROTOCOL, /* an answer that makes no sense */
    MAIL_FAULTS,
};

const char *mail_fault_name(enum mail_fault f);   /* "token_refused" */
const char *mail_fault_remedy(enum mail_fault f); /* a sentence; "" for OK */

/* What a sentence of stream_error() after a failed handshake stands for. */
enum mail_fault mail_tls_fault(const char *sentence);

/* Does the server tell us to go on later, not that we are wrong? */
bool mail_fault_passes(enum mail_fault f);

enum mail_want {
    MAIL_WANT_LINE,    /* send what is in `out`, if anything, and read a line */
    MAIL_WANT_TLS,     /* start TLS, then mail_login_secured() */
    MAIL_WANT_NOTHING, /* send `out`; `fault` says how it ended */
};

enum { MAIL_LINE_MAX = 8192, MAIL_SAID_MAX = 300 };

struct mail_credentials {   /* borrowed */
    struct sasl_login sasl; /* user and secret */
    bool bearer;            /* the secret is an access token */
    const char *helo;
};

struct mail_login {
    enum mail_protocol protocol;
    const struct mail_credentials *who;
    bool starttls; /* is still to come */
    unsigned step; /* mail_login.c */
    bool offered;  /* our mechanism, by the list being read */
    bool offers_starttls;
    unsigned challenges;
    enum mail_fault fault;
    char said[MAIL_SAID_MAX]; /* the server's words, printable ASCII */
    struct buf out; /* a secret: the caller empties (wipes) it when sent */
};

/* The server speaks first. */
void mail_login_begin(struct mail_login *m, enum mail_protocol protocol,
                      bool starttls, const struct mail_credentials *who);
enum mail_want mail_login_line(struct mail_login *m, struct slice line);
enum mail_want mail_login_secured(struct mail_login *m);
void mail_login_free(struct mail_login *m);

#endif
