/* milter/deliver/smtp_begin.c - what a transaction may be refused for before
 * anything is said; see smtp.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>

#include "milter/deliver/smtp_machine.h"

static bool
is_ascii(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* Can it stand between < and > on a command line, and nowhere else? */
static bool
is_writable(const char *s)
{
    bool quoted = false;
    size_t n = 0;

    for (; s[n] != '\0'; n++) {
        unsigned char c = (unsigned char)s[n];

        if (c < 0x20 || c == 0x7f || n >= SMTP_ADDRESS_MAX)
            return false;
        if (c == '"') {
            quoted = !quoted;
        } else if (quoted && c == '\\') {
            unsigned char next = (unsigned char)s[n + 1];

            if (next < 0x20 || next == 0x7f)
                return false;
            n++;
        } else if (!quoted && (c == ' ' || c == '<' || c == '>')) {
            return false;
        }
    }
    return !quoted;
}

static struct letter_result
refused_here(enum outcome_scope scope, uint16_t code, uint16_t subject,
             uint16_t detail, enum smtp_stage stage, const char *text)
{
    struct letter_result x = {
        .verdict = smtp_verdict(OUTCOME_REFUSED, scope, text),
        .reply = {.code = code, .enhanced = {5, subject, detail}, .lines = 1},
        .stage = stage,
    };

    snprintf(x.reply.text, sizeof x.reply.text, "%s", text);
    return x;
}

static struct letter_result
no_utf8(enum outcome_scope scope, enum smtp_stage stage)
{
    return refused_here(scope, 550, 6, 7, stage,
                        "The message needs SMTPUTF8, which the server does "
                        "not offer");
}

/* Is the whole message impossible on this connection? */
static bool
check_message(const struct smtp *m, const struct smtp_envelope *e,
              struct letter_result *ret)
{
    if (m->state != SMTP_READY) {
        *ret = (struct letter_result){
            .verdict = smtp_verdict(OUTCOME_DEFERRED, SCOPE_SESSION,
                                    "the session is not ready"),
            .stage = STAGE_MAIL};
        ret->verdict.close_session = true;
        return false;
    }
    if (!is_writable(e->mail_from)) {
        *ret = refused_here(SCOPE_MESSAGE, 553, 1, 7, STAGE_MAIL,
                            "The sender address is not a valid RFC 5321 "
                            "address");
        return false;
    }
    if (m->offer.size && m->offer.size_max > 0 && e->size > m->offer.size_max) {
        *ret = refused_here(SCOPE_MESSAGE, 552, 3, 4, STAGE_MAIL, "");
        ret->verdict.meaning = "larger than the server takes";
        snprintf(ret->reply.text, sizeof ret->reply.text,
                 "Your message exceeded Google's message size limits: it has "
                 "%" PRIu64 " octets, the server takes %" PRIu64,
                 e->size, m->offer.size_max);
        return false;
    }
    if (!m->offer.utf8 && (e->needs_utf8 || !is_ascii(e->mail_from))) {
        *ret = no_utf8(SCOPE_MESSAGE, STAGE_MAIL);
        return false;
    }
    return true;
}

/* Is this recipient impossible here? */
static bool
check_recipient(const struct smtp *m, const char *rcpt,
                struct letter_result *ret)
{
    if (rcpt[0] == '\0' || !is_writable(rcpt)) {
        *ret = refused_here(SCOPE_RECIPIENT, 553, 1, 3, STAGE_RCPT,
                            "The recipient address is not a valid RFC 5321 "
                            "address");
        return false;
    }
    if (!m->offer.utf8 && !is_ascii(rcpt)) {
        *ret = no_utf8(SCOPE_RECIPIENT, STAGE_RCPT);
        return false;
    }
    return true;
}

/* Fills in the recipients that get a RCPT. */
static void
choose_recipients(struct smtp *m, struct letter_result *ret)
{
    struct smtp_transaction *t = &m->t;

    for (size_t i = 0; i < t->e.n_rcpt; i++) {
        if (t->n_rcpt == SMTP_RECIPIENTS_MAX) {
            ret[i] = (struct letter_result){
                .verdict = smtp_verdict(OUTCOME_SPLIT, SCOPE_RECIPIENT,
                                        "more recipients than one "
                                        "transaction takes"),
                .stage = STAGE_RCPT};
        } else if (check_recipient(m, t->e.rcpt[i], &ret[i])) {
            t->rcpt[t->n_rcpt++].index = i;
            t->utf8 |= !is_ascii(t->e.rcpt[i]);
        }
    }
}

bool
smtp_begin(struct smtp *m, const struct smtp_envelope *e,
           struct letter_result *ret)
{
    struct smtp_transaction *t = &m->t;
    struct letter_result all;

    if (!check_message(m, e, &all)) {
        for (size_t i = 0; i < e->n_rcpt; i++)
            ret[i] = all;
        return false;
    }
    *t = (struct smtp_transaction){
        .e = *e,
        .utf8 = e->needs_utf8 || !is_ascii(e->mail_from),
        .chunked = m->offer.chunking,
        .pipelined = m->offer.pipelining,
    };
    choose_recipients(m, ret);
    if (t->n_rcpt == 0)
        return false;
    t->ret = ret;
    smtp_letter_start(m);
    return true;
}
