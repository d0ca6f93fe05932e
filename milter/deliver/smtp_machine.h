/* milter/deliver/smtp_machine.h - the inside of struct smtp, for smtp.c
 * (bytes and states), smtp_login.c, smtp_begin.c and smtp_letter.c alone.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_SMTP_MACHINE_H
#define DELIVER_SMTP_MACHINE_H

#include "milter/base/buf.h"
#include "milter/deliver/pool.h"
#include "milter/deliver/smtp.h"
#include "policy/reply.h"

/* What the last EHLO offered. */
struct smtp_offer {
    bool pipelining, chunking, starttls, eightbit, utf8, size;
    uint64_t size_max; /* octets; 0 = no limit named */
    bool mechanism[SASL_MECHANISMS];
};

/* The commands of a transaction have fixed places:
 *
 *   0 RSET, 1 MAIL, 2.. RCPT, n+2 DATA or BDAT, n+3 the content's end
 *
 * so that "sent" and "answered" are two places in that order.  (BDAT has no
 * place n+3: its reply is the content's.) */
enum smtp_step {
    STEP_RSET,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_BDAT,
    STEP_END,
};

enum rcpt_state {
    RCPT_WAITING = 0,
    RCPT_ACCEPTED, /* by its own reply; the content's is awaited */
    RCPT_JUDGED,   /* its result stands */
};

struct smtp_transaction {
    struct smtp_envelope e;
    struct letter_result *ret; /* of e's recipients; NULL: none under way */
    size_t n_rcpt;             /* RCPT commands: recipients not refused here */
    struct {
        size_t index; /* in e and ret */
        enum rcpt_state state;
    } rcpt[SMTP_RECIPIENTS_MAX];
    size_t n_accepted, n_answered; /* RCPT replies */
    size_t n_judged;
    size_t sent, answered; /* places: the next one */
    size_t seen;           /* `sent` when the caller last looked */
    size_t start;          /* the first place */
    bool utf8;
    bool chunked; /* BDAT, not DATA */
    bool pipelined;
    bool reused; /* not the first of this connection */
    bool mail_ok;
    bool close; /* a verdict said so */
    /* Content. */
    bool content_open;     /* wanted from the caller */
    bool content_whole;    /* all of it is in the output */
    bool content_sent;     /* ... and has been looked at by the caller */
    bool at_line_start;    /* DATA: a dot here is stuffed */
    uint64_t content_left; /* octets still to be given */
};

struct smtp {
    struct smtp_options o;
    enum smtp_state state;
    struct buf in, out;
    size_t in_line; /* octets since the last line end in `in` */
    bool out_secret;
    bool unseen; /* commands in `out` the caller has not looked at */
    bool tls;
    struct smtp_offer offer;
    enum sasl_mechanism mechanism;
    bool auth_was_long;           /* the initial response passed 512 octets */
    struct letter_result failure; /* of the login */
    bool has_failure;
    bool need_rset;
    bool halve;
    unsigned n_transactions;
    struct smtp_transaction t;
};

/* ---- smtp.c ---- */

/* A verdict of our own, when no reply can be judged. */
struct verdict smtp_verdict(enum outcome_kind kind, enum outcome_scope scope,
                            const char *meaning);
/* outcome_judge for a reply that was not the one waited for. */
struct verdict smtp_judge_refusal(const struct smtp *m, enum smtp_stage stage,
                                  const struct reply *r);
void smtp_die(struct smtp *m);

/* ---- smtp_login.c ---- */

void smtp_login_reply(struct smtp *m, const struct reply *r, struct slice raw);
void smtp_login_fail(struct smtp *m, struct verdict v, const struct reply *r);
enum smtp_stage smtp_login_stage(enum smtp_state s);

/* ---- smtp_letter.c ---- */

/* Sends the first commands of m->t, whose envelope, ret and recipients are
 * chosen. */
void smtp_letter_start(struct smtp *m);
void smtp_letter_reply(struct smtp *m, const struct reply *r);
/* Judges what has no result yet as lost here and now. */
void smtp_letter_lost(struct smtp *m, bool orderly, const char *why);

#endif
