/* policy/outcome.h - the judge: (stage, reply) to what it means.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One pure table, a row for each reply Gmail is known to give, and classes
 * by code for the rest.  A daily-limit reply is 5xx on the wire and never
 * lasting here.
 *
 * Always true of a verdict: OUTCOME_SENT only for what the stage waits for
 * (2xx; 220 at STARTTLS, 235 at AUTH, 354 at DATA); OUTCOME_REFUSED only for
 * a 5xx at MAIL, RCPT, DATA or CONTENT, with SCOPE_RECIPIENT at RCPT and
 * SCOPE_MESSAGE elsewhere; OUTCOME_IN_DOUBT only at CONTENT; OUTCOME_SPLIT
 * only at RCPT; 421 closes the session.
 *
 * Sources: Google, "Gmail SMTP errors and codes" (support.google.com/a/
 * answer/3726730) and "Gmail sending limits" (answer/166852); RFC 5321 4.2,
 * RFC 3463, RFC 4954.
 */
#ifndef POLICY_OUTCOME_H
#define POLICY_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/reply.h"

enum smtp_stage {
    STAGE_CONNECT, /* greeting */
    STAGE_EHLO,
    STAGE_STARTTLS, /* the command, and the handshake */
    STAGE_AUTH,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_DATA,    /* DATA's 354 */
    STAGE_CONTENT, /* the reply after the end of the message */
    STAGE_RSET,
    STAGE_COUNT,
};

const char *smtp_stage_name(enum smtp_stage s);

enum outcome_kind {
    /* Accepted at this stage: the message itself only at STAGE_CONTENT. */
    OUTCOME_SENT = 0,
    OUTCOME_REFUSED,   /* lasting: bounce */
    OUTCOME_DEFERRED,  /* try later */
    OUTCOME_IN_DOUBT,  /* may have been accepted */
    OUTCOME_RECONNECT, /* stale session: send again now on a new one */
    OUTCOME_SPLIT,     /* this recipient wants a transaction of its own */
    OUTCOME_KINDS,
};

const char *outcome_kind_name(enum outcome_kind k); /* "sent", ... */

enum outcome_scope {
    SCOPE_RECIPIENT,
    SCOPE_MESSAGE,
    SCOPE_SESSION, /* this connection only */
    SCOPE_ACCOUNT,
    SCOPE_CLIENT,       /* our host or its settings */
    SCOPE_ORGANISATION, /* every account of the customer */
};

/* On the account. */
enum outcome_effect {
    EFFECT_NONE,
    EFFECT_COOL,    /* rest for cool_ms */
    EFFECT_TOKEN,   /* token refused: ask for a new one, once, at once */
    EFFECT_DISABLE, /* a person is needed */
};

/* What one reply means. */
struct verdict {
    enum outcome_kind kind;
    enum outcome_scope scope;
    enum outcome_effect effect;
    uint64_t cool_ms;    /* EFFECT_COOL: first rest; doubling is the caller's */
    bool halve_sessions; /* too many at once */
    bool close_session;  /* the session cannot be used again */
    bool full;           /* the account's limit, by Gmail's own word */
    bool suspect;        /* a second one within an hour is about the account,
                          * which then rests: outcome_suspected() */
    bool daily;          /* full: the account's own limit of a day, so that it
                          * allows what has been sent of it and no more */
    const char *meaning; /* static: one phrase for logs, for a person */
};

/* oauth: the session logged in with a token, so a refused login may be cured
 * by a new one.
 *
 * A 503 to DATA or BDAT after every RCPT was refused, or to RCPT after MAIL
 * was, only repeats that: it defers what has no verdict yet and leaves the
 * session usable. */
struct verdict outcome_judge(enum smtp_stage stage, const struct reply *r,
                             bool oauth);

/* What the session's end without a reply means at this stage.  content_sent:
 * the whole message, its end included, may have reached the peer: then it is
 * in doubt whatever the stage.  reused: the session has carried a message
 * before, so that it may have been stale. */
struct verdict outcome_judge_lost(enum smtp_stage stage, bool reused,
                                  bool content_sent);

/* What a second refusal of this kind says of the account: it rests; nothing
 * else is changed by it. */
#define OUTCOME_SUSPECT_MS (3600 * 1000ull)
struct verdict outcome_suspected(void);

enum { LMTP_REPLY_MAX = 480 /* octets, CRLF and NUL included */ };

/* The line for the MTA: Gmail's code, enhanced code and text where they can
 * be passed on, a 4xx with the reason where Gmail's code must not be (a 5xx
 * about the account; a 421, which would stop the MTA's whole queue).
 * r NULL or with code 0: there was no reply; its text then tells the cause in
 * our own words (a certificate, a token, a lost connection).
 *
 * One line of printable ASCII with CRLF; the enhanced code's class is always
 * the code's.  Returns its length. */
size_t outcome_lmtp_reply(const struct verdict *v, const struct reply *r,
                          char ret[LMTP_REPLY_MAX]);

#endif
