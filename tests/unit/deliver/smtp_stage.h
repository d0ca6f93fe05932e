/* tests/unit/deliver/smtp_stage.h - the SMTP client against servers that are
 * written down.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A server is a text of replies, with '|' where it waits for what we say
 * next.  Each is played with its replies whole and cut into single octets:
 * the end must be the same.
 */
#ifndef TEST_SMTP_STAGE_H
#define TEST_SMTP_STAGE_H

#include "milter/base/buf.h"
#include "milter/deliver/pool.h"
#include "milter/deliver/smtp.h"

#define GREETING "220 smtp.gmail.com ESMTP x - gsmtp\r\n|"
#define EHLO_TLS                                                            \
    "250-smtp.gmail.com at your service, [192.0.2.1]\r\n"                   \
    "250-SIZE 35882577\r\n250-8BITMIME\r\n"                                 \
    "250-AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH\r\n" \
    "250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250-CHUNKING\r\n"         \
    "250 SMTPUTF8\r\n|"
#define EHLO_CLEAR                                             \
    "250-smtp.gmail.com at your service\r\n250-PIPELINING\r\n" \
    "250-AUTH PLAIN XOAUTH2\r\n250 STARTTLS\r\n|"
#define ACCEPTED "235 2.7.0 Accepted\r\n"
#define TOKEN    "user=a@example.com^auth=Bearer tok^^"
#define XOAUTH2 \
    "AUTH XOAUTH2 dXNlcj1hQGV4YW1wbGUuY29tAWF1dGg9QmVhcmVyIHRvawEB\r\n"

#define PIPE_CHUNK                                               \
    "250-x\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n" \
    "250-PIPELINING\r\n250 CHUNKING\r\n|"
#define PIPE  "250-x\r\n250 PIPELINING\r\n|"
#define CHUNK "250-x\r\n250 CHUNKING\r\n|"
#define BARE  "250 x\r\n|"

#define OK      "250 2.0.0 OK x - gsmtp\r\n"
#define NO_USER "550 5.1.1 no such user\r\n"
#define LIMIT   "550 5.4.5 Daily user sending limit exceeded\r\n"

extern const char content[];
#define STUFFED  "Subject: x\r\n\r\n..hidden\r\n...\r\nend\r\n.\r\n"
#define SENT     OUTCOME_SENT
#define REFUSED  OUTCOME_REFUSED
#define DEFERRED OUTCOME_DEFERRED
#define DOUBT    OUTCOME_IN_DOUBT
#define AGAIN    OUTCOME_RECONNECT

enum { RCPTS = 3 };

extern const char *const rcpts[RCPTS];

#define MAIL      "MAIL FROM:<s@x.org>\r\n"
#define MAIL_SIZE "MAIL FROM:<s@x.org> SIZE=32\r\n"
#define RCPT \
    "RCPT TO:<r0@x.org>\r\nRCPT TO:<r1@x.org>\r\nRCPT TO:<r2@x.org>\r\n"
#define BODY "Subject: x\r\n\r\n.hidden\r\n..\r\nend\r\n"

extern const struct smtp_envelope envelope; /* to rcpts, with content */

struct play {
    struct smtp *m;
    struct buf said; /* all we wrote */
    const char *content;
    size_t given, piece; /* octets of content at a time */
    unsigned handshakes;
};

void speak(struct play *p);
void serve(struct play *p, const char *server, size_t step);
void play_open(struct play *p, const struct smtp_options *o);
void play_close(struct play *p);
const char *said(struct play *p);
struct smtp_options options(enum smtp_login login, bool starttls,
                            const char *secret);
void ready_session(struct play *p, const char *ehlo);
void use_session(struct play *p, const char *ehlo);

#endif
