/* milter/deliver/smtp_letter.c - one transaction: MAIL, RCPT, DATA or BDAT,
 * content, and whose reply each reply is; see smtp.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/deliver/smtp_machine.h"

/* ---- places ---- */

enum { PLACE_RSET = 0, PLACE_MAIL = 1, PLACE_RCPT = 2 };

static size_t
place_data(const struct smtp_transaction *t)
{
    return PLACE_RCPT + t->n_rcpt;
}

static enum smtp_step
step_at(const struct smtp_transaction *t, size_t place)
{
    if (place == PLACE_RSET)
        return STEP_RSET;
    if (place == PLACE_MAIL)
        return STEP_MAIL;
    if (place < place_data(t))
        return STEP_RCPT;
    if (place == place_data(t))
        return t->chunked ? STEP_BDAT : STEP_DATA;
    return STEP_END;
}

static enum smtp_stage
stage_of(enum smtp_step s)
{
    static const enum smtp_stage stages[] = {
        [STEP_RSET] = STAGE_RSET,    [STEP_MAIL] = STAGE_MAIL,
        [STEP_RCPT] = STAGE_RCPT,    [STEP_DATA] = STAGE_DATA,
        [STEP_BDAT] = STAGE_CONTENT, [STEP_END] = STAGE_CONTENT,
    };

    return stages[s];
}

/* ---- results ---- */

static void
settle(struct smtp *m, size_t k, struct verdict v, const struct reply *r,
       enum smtp_stage stage)
{
    struct smtp_transaction *t = &m->t;

    t->ret[t->rcpt[k].index] =
        (struct letter_result){.verdict = v, .reply = *r, .stage = stage};
    t->rcpt[k].state = RCPT_JUDGED;
    t->n_judged++;
    m->halve |= v.halve_sessions;
    t->close |= v.close_session;
}

static void
settle_rest(struct smtp *m, struct verdict v, const struct reply *r,
            enum smtp_stage stage)
{
    for (size_t k = 0; k < m->t.n_rcpt; k++)
        if (m->t.rcpt[k].state != RCPT_JUDGED)
            settle(m, k, v, r, stage);
}

/* Our own failure in the middle: what has no result was not sent. */
static void
abandon(struct smtp *m, const char *meaning)
{
    static const struct reply none;

    settle_rest(m, smtp_verdict(OUTCOME_DEFERRED, SCOPE_MESSAGE, meaning),
                &none, STAGE_CONTENT);
    m->t.ret = NULL;
    smtp_die(m);
}

void
smtp_letter_lost(struct smtp *m, bool orderly, const char *why)
{
    struct smtp_transaction *t = &m->t;
    bool left_before = orderly && t->reused && t->answered == t->start;
    enum smtp_stage stage = STAGE_CONTENT;
    struct reply r = {.code = 0};

    if (t->ret == NULL)
        return;
    if (t->answered < t->sent)
        stage = stage_of(step_at(t, t->answered));
    snprintf(r.text, sizeof r.text, "%s", why);
    settle_rest(
        m,
        outcome_judge_lost(stage, t->reused, t->content_sent && !left_before),
        &r, stage);
    t->ret = NULL;
}

static void
finish(struct smtp *m)
{
    m->t.ret = NULL;
    m->t.content_open = false;
    if (m->t.close)
        smtp_die(m);
    else
        m->state = SMTP_READY;
}

/* ---- commands ---- */

static void
write_mail(struct smtp *m)
{
    const struct smtp_transaction *t = &m->t;

    buf_printf(&m->out, "MAIL FROM:<%s>", t->e.mail_from);
    if (m->offer.size)
        buf_printf(&m->out, " SIZE=%" PRIu64, t->e.size);
    if (m->offer.eightbit && (t->e.is_8bit || t->utf8))
        buf_add_text(&m->out, " BODY=8BITMIME");
    if (t->utf8)
        buf_add_text(&m->out, " SMTPUTF8");
    buf_add_text(&m->out, "\r\n");
}

static void
open_content(struct smtp_transaction *t)
{
    t->content_open = t->e.size > 0 || !t->chunked;
    t->content_whole = !t->content_open;
    t->content_left = t->e.size;
    t->at_line_start = true;
}

static void
write_step(struct smtp *m, size_t place)
{
    struct smtp_transaction *t = &m->t;

    switch (step_at(t, place)) {
    case STEP_RSET:
        buf_add_text(&m->out, "RSET\r\n");
        break;
    case STEP_MAIL:
        write_mail(m);
        m->need_rset = true; /* until it has ended well */
        break;
    case STEP_RCPT:
        buf_printf(&m->out, "RCPT TO:<%s>\r\n",
                   t->e.rcpt[t->rcpt[place - PLACE_RCPT].index]);
        break;
    case STEP_DATA:
        buf_add_text(&m->out, "DATA\r\n");
        break;
    case STEP_BDAT:
        buf_printf(&m->out, "BDAT %" PRIu64 " LAST\r\n", t->e.size);
        open_content(t);
        break;
    case STEP_END:
        buf_add_text(&m->out, ".\r\n");
        break;
    }
}

/* May the command at t->sent be written now?  When the server pipelines, all
 * up to DATA or BDAT may; else only what nothing is awaited for. */
static bool
may_send(const struct smtp_transaction *t)
{
    if (t->sent > place_data(t))
        return false;
    if (!t->pipelined)
        return t->answered == t->sent;
    if (t->chunked && t->e.careful && t->sent == place_data(t))
        return t->mail_ok || t->answered == t->sent;
    return true;
}

static void
send_more(struct smtp *m)
{
    struct smtp_transaction *t = &m->t;

    while (may_send(t)) {
        /* All answered, and nobody to send it to. */
        if (t->sent == place_data(t) && t->answered == t->sent &&
            t->n_accepted == 0) {
            finish(m);
            return;
        }
        write_step(m, t->sent);
        t->sent++;
        m->unseen = true;
    }
    if (buf_failed(&m->out))
        abandon(m, "out of memory");
}

/* ---- replies ---- */

/* Nobody will get this message: is writing the rest of it worth the
 * connection? */
static void
give_up_content(struct smtp *m)
{
    if (m->t.content_open && m->t.content_left > SMTP_DRAIN_MAX) {
        m->t.ret = NULL;
        smtp_die(m);
    }
}

static bool
is_positive(const struct reply *r)
{
    return r->code >= 200 && r->code < 300;
}

/* 421: the server closes; nothing sent behind it will be answered, or was
 * accepted.  (RFC 5321 3.8) */
static void
take_closing(struct smtp *m, size_t place, const struct reply *r)
{
    struct smtp_transaction *t = &m->t;
    enum smtp_step step = step_at(t, place);
    struct verdict v = smtp_judge_refusal(m, stage_of(step), r);

    if (step == STEP_RCPT && v.scope == SCOPE_RECIPIENT) {
        struct reply none = {.code = 0};

        if (t->rcpt[place - PLACE_RCPT].state != RCPT_JUDGED)
            settle(m, place - PLACE_RCPT, v, r, STAGE_RCPT);
        snprintf(none.text, sizeof none.text,
                 "the server closed the connection at another recipient");
        settle_rest(m, outcome_judge_lost(STAGE_RCPT, t->reused, false), &none,
                    STAGE_RCPT);
    } else {
        settle_rest(m, v, r, stage_of(step));
    }
    t->ret = NULL;
    smtp_die(m);
}

static void
take_mail(struct smtp *m, const struct reply *r)
{
    m->t.mail_ok = is_positive(r);
    if (m->t.mail_ok)
        return;
    settle_rest(m, smtp_judge_refusal(m, STAGE_MAIL, r), r, STAGE_MAIL);
    if (m->t.pipelined)
        give_up_content(m);
    else
        finish(m);
}

static void
take_rcpt(struct smtp *m, size_t k, const struct reply *r)
{
    struct smtp_transaction *t = &m->t;

    t->n_answered++;
    if (t->rcpt[k].state == RCPT_WAITING) { /* not judged with MAIL */
        if (is_positive(r)) {
            t->rcpt[k].state = RCPT_ACCEPTED;
            t->n_accepted++;
        } else {
            struct verdict v = smtp_judge_refusal(m, STAGE_RCPT, r);

            /* The others may still get this very message: sending it again
             * now could give it to them twice. */
            if (v.kind == OUTCOME_RECONNECT)
                v.kind = OUTCOME_DEFERRED;
            settle(m, k, v, r, STAGE_RCPT);
        }
    }
    if (t->n_answered == t->n_rcpt && t->n_accepted == 0)
        give_up_content(m);
}

static void
take_data(struct smtp *m, const struct reply *r)
{
    struct smtp_transaction *t = &m->t;

    if (r->code != 354) {
        struct verdict v = smtp_judge_refusal(m, STAGE_DATA, r);

        t->close |= v.close_session; /* also when nobody is left to judge */
        settle_rest(m, v, r, STAGE_DATA);
        finish(m);
        return;
    }
    if (t->n_accepted > 0) {
        open_content(t);
        m->state = SMTP_CONTENT;
        return;
    }
    /* 354 for nobody: an empty message ends it (RFC 2920 3.1). */
    write_step(m, t->sent);
    t->sent++;
    m->unseen = true;
    m->state = SMTP_FINAL;
}

static void
take_final(struct smtp *m, const struct reply *r)
{
    struct smtp_transaction *t = &m->t;

    struct verdict v;

    if (is_positive(r) && t->n_accepted > 0) {
        if (!t->content_sent) {
            smtp_lost(m, false,
                      "the server accepted a message it did not have");
            return;
        }
        settle_rest(
            m, outcome_judge(STAGE_CONTENT, r, m->o.login == SMTP_LOGIN_TOKEN),
            r, STAGE_CONTENT);
        m->need_rset = false;
    } else if (t->n_accepted > 0) {
        v = smtp_judge_refusal(m, STAGE_CONTENT, r);
        if (v.kind == OUTCOME_IN_DOUBT && !t->content_sent)
            v.kind = OUTCOME_DEFERRED; /* it cannot have it */
        settle_rest(m, v, r, STAGE_CONTENT);
    }
    t->n_accepted = 0;
    if (t->content_open)
        give_up_content(m); /* else its rest is written, then finished */
    else
        finish(m);
}

void
smtp_letter_reply(struct smtp *m, const struct reply *r)
{
    struct smtp_transaction *t = &m->t;
    size_t place = t->answered;

    if (place >= t->sent) {
        if (t->chunked || m->state != SMTP_CONTENT || r->code < 400) {
            smtp_lost(m, false, "the server sent more replies than commands");
            return;
        }
        /* An error in the middle of DATA's content: there is no way to stop
         * politely. */
        settle_rest(m, smtp_judge_refusal(m, STAGE_CONTENT, r), r,
                    STAGE_CONTENT);
        t->ret = NULL;
        smtp_die(m);
        return;
    }
    t->answered++;
    if (r->code == 421) {
        take_closing(m, place, r);
        return;
    }
    switch (step_at(t, place)) {
    case STEP_RSET:
        if (!is_positive(r)) {
            settle_rest(m, smtp_judge_refusal(m, STAGE_RSET, r), r, STAGE_RSET);
            t->ret = NULL;
            smtp_die(m);
        }
        break;
    case STEP_MAIL:
        take_mail(m, r);
        break;
    case STEP_RCPT:
        take_rcpt(m, place - PLACE_RCPT, r);
        break;
    case STEP_DATA:
        take_data(m, r);
        break;
    case STEP_BDAT:
    case STEP_END:
        take_final(m, r);
        break;
    }
    if (t->ret != NULL && t->close && t->n_judged == t->n_rcpt) {
        t->ret = NULL; /* nothing left to hear */
        smtp_die(m);
    }
    if (m->state == SMTP_ENVELOPE)
        send_more(m);
}

/* ---- content ---- */

static void
add_stuffed(struct smtp *m, const char *data, size_t len)
{
    bool start = m->t.at_line_start;
    size_t from = 0;

    for (size_t i = 0; i < len; i++) {
        if (start && data[i] == '.') {
            buf_add(&m->out, data + from, i - from);
            buf_add(&m->out, ".", 1);
            from = i;
        }
        start = data[i] == '\n';
    }
    buf_add(&m->out, data + from, len - from);
    m->t.at_line_start = start;
}

static void
content_given(struct smtp *m)
{
    struct smtp_transaction *t = &m->t;

    t->content_open = false;
    t->content_whole = true;
    if (t->answered > place_data(t))
        finish(m); /* was refused before all of it was written */
    else
        m->state = SMTP_FINAL;
}

void
smtp_content(struct smtp *m, const char *data, size_t len)
{
    struct smtp_transaction *t = &m->t;

    if (!t->content_open)
        return;
    if (len > t->content_left) {
        abandon(m, "the message is longer than was announced");
        return;
    }
    t->content_left -= len;
    if (t->chunked)
        buf_add(&m->out, data, len);
    else
        add_stuffed(m, data, len);
    if (buf_failed(&m->out))
        abandon(m, "out of memory");
    else if (t->chunked && t->content_left == 0)
        content_given(m);
}

void
smtp_content_end(struct smtp *m)
{
    struct smtp_transaction *t = &m->t;

    if (!t->content_open)
        return;
    if (t->content_left > 0) {
        abandon(m, "our copy of the message could not be read");
        return;
    }
    if (!t->at_line_start)
        buf_add_text(&m->out, "\r\n");
    write_step(m, t->sent);
    t->sent++;
    t->content_open = false;
    t->content_whole = true;
    m->state = SMTP_FINAL;
    if (buf_failed(&m->out))
        abandon(m, "out of memory");
}

void
smtp_letter_start(struct smtp *m)
{
    struct smtp_transaction *t = &m->t;

    t->start = m->need_rset ? PLACE_RSET : PLACE_MAIL;
    t->sent = t->answered = t->start;
    t->reused = m->n_transactions > 0;
    m->n_transactions++;
    m->state = SMTP_ENVELOPE;
    send_more(m);
}
