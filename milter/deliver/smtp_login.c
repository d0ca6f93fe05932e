/* milter/deliver/smtp_login.c - greeting, EHLO, STARTTLS and AUTH; see
 * smtp.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/deliver/smtp_machine.h"

enum { COMMAND_LINE_MAX = 512 /* octets, CRLF included: RFC 5321 4.5.3.1.4 */ };

enum smtp_stage
smtp_login_stage(enum smtp_state s)
{
    switch (s) {
    case SMTP_GREETING:
        return STAGE_CONNECT;
    case SMTP_EHLO:
        return STAGE_EHLO;
    case SMTP_STARTTLS:
    case SMTP_TLS:
        return STAGE_STARTTLS;
    default:
        return STAGE_AUTH;
    }
}

void
smtp_login_fail(struct smtp *m, struct verdict v, const struct reply *r)
{
    m->failure = (struct letter_result){.verdict = v,
                                        .stage = smtp_login_stage(m->state)};
    if (r != NULL)
        m->failure.reply = *r;
    m->has_failure = true;
    smtp_die(m);
}

static void
fail_here(struct smtp *m, enum smtp_stage stage, enum outcome_scope scope,
          const char *meaning)
{
    smtp_login_fail(m, smtp_verdict(OUTCOME_DEFERRED, scope, meaning), NULL);
    m->failure.stage = stage;
}

static void
fail_reply(struct smtp *m, const struct reply *r)
{
    smtp_login_fail(m, smtp_judge_refusal(m, smtp_login_stage(m->state), r), r);
}

/* ---- EHLO ---- */

/* The next blank-separated word; empty at the end. */
static struct slice
next_word(struct slice *s)
{
    struct slice w;
    size_t n = 0;

    *s = slice_trim(*s);
    while (n < s->len && s->at[n] != ' ' && s->at[n] != '\t')
        n++;
    w = (struct slice){s->at, n};
    *s = slice_from(*s, n);
    return w;
}

/* Octets; a number too big is as good as no limit. */
static uint64_t
read_size(struct slice s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9' || n > UINT64_MAX / 10 - 1)
            return 0;
        n = n * 10 + (uint64_t)(s.at[i] - '0');
    }
    return n;
}

static void
read_offer_line(struct smtp_offer *o, struct slice line)
{
    struct slice word = next_word(&line);

    if (slice_eq_nocase(word, SLICE_LIT("PIPELINING"))) {
        o->pipelining = true;
    } else if (slice_eq_nocase(word, SLICE_LIT("CHUNKING"))) {
        o->chunking = true;
    } else if (slice_eq_nocase(word, SLICE_LIT("STARTTLS"))) {
        o->starttls = true;
    } else if (slice_eq_nocase(word, SLICE_LIT("8BITMIME"))) {
        o->eightbit = true;
    } else if (slice_eq_nocase(word, SLICE_LIT("SMTPUTF8"))) {
        o->utf8 = true;
    } else if (slice_eq_nocase(word, SLICE_LIT("SIZE"))) {
        o->size = true;
        o->size_max = read_size(next_word(&line));
    } else if (slice_eq_nocase(word, SLICE_LIT("AUTH"))) {
        while ((word = next_word(&line)).len > 0)
            for (int i = 0; i < SASL_MECHANISMS; i++)
                if (slice_eq_nocase(
                        word, slice_of(sasl_name((enum sasl_mechanism)i))))
                    o->mechanism[i] = true;
    }
}

/* The reply as it came, since struct reply joins its lines.  The first line
 * is the server's name. */
static void
read_offer(struct smtp_offer *o, struct slice raw)
{
    bool first = true;

    *o = (struct smtp_offer){0};
    while (raw.len > 0) {
        const char *end = memchr(raw.at, '\n', raw.len);
        size_t n = end != NULL ? (size_t)(end + 1 - raw.at) : raw.len;

        if (!first && n > 4)
            read_offer_line(o, slice_trim((struct slice){raw.at + 4, n - 4}));
        first = false;
        raw = slice_from(raw, n);
    }
}

static void
send_ehlo(struct smtp *m)
{
    buf_printf(&m->out, "EHLO %s\r\n", m->o.hostname);
    m->state = SMTP_EHLO;
}

/* ---- AUTH ---- */

static bool
choose_mechanism(struct smtp *m)
{
    static const enum sasl_mechanism by_token[] = {SASL_XOAUTH2,
                                                   SASL_OAUTHBEARER};

    if (m->o.login == SMTP_LOGIN_PASSWORD) {
        m->mechanism = SASL_PLAIN;
        return m->offer.mechanism[SASL_PLAIN];
    }
    for (size_t i = 0; i < sizeof by_token / sizeof *by_token; i++)
        if (m->offer.mechanism[by_token[i]]) {
            m->mechanism = by_token[i];
            return true;
        }
    return false;
}

static bool
add_response(struct smtp *m)
{
    /* One reservation, so that growing leaves no copy of the secret. */
    if (!buf_reserve(&m->out, SASL_RESPONSE_MAX + 64))
        return false;
    m->out_secret = true;
    return sasl_response(m->mechanism, &m->o.sasl, &m->out) &&
           buf_add_text(&m->out, "\r\n");
}

static void
send_auth(struct smtp *m)
{
    if (!choose_mechanism(m)) {
        fail_here(m, STAGE_AUTH, SCOPE_CLIENT,
                  m->o.login == SMTP_LOGIN_PASSWORD
                      ? "the server does not offer AUTH PLAIN"
                      : "the server does not offer AUTH XOAUTH2");
        return;
    }
    if (!buf_reserve(&m->out, SASL_RESPONSE_MAX + 64) ||
        !buf_printf(&m->out, "AUTH %s ", sasl_name(m->mechanism)) ||
        !add_response(m)) {
        fail_here(m, STAGE_AUTH, SCOPE_ACCOUNT,
                  "the login cannot be written: it is too long or holds "
                  "control characters");
        return;
    }
    m->auth_was_long = m->out.len > COMMAND_LINE_MAX;
    m->state = SMTP_AUTH;
}

/* The same again without the initial response: for servers that keep to 512
 * octets or want it on its own line (RFC 4954 4). */
static bool
wants_two_steps(const struct smtp *m, const struct reply *r)
{
    if (m->auth_was_long &&
        (r->code == 500 || r->code == 501 || r->code == 555))
        return true;
    /* Gmail: "Optional Argument not permitted for that AUTH mode" */
    return r->code == 535 && r->enhanced.klass == 5 &&
           r->enhanced.subject == 5 && r->enhanced.detail == 4;
}

static void
ready(struct smtp *m)
{
    m->state = SMTP_READY;
    m->o.sasl = (struct sasl_login){.user = NULL}; /* borrowed no longer */
}

static void
take_auth(struct smtp *m, const struct reply *r)
{
    if (r->code == 235 && m->state != SMTP_AUTH_FAILED &&
        m->state != SMTP_AUTH_ASK) {
        ready(m);
    } else if (r->code == 334 && m->state == SMTP_AUTH_ASK) {
        if (add_response(m))
            m->state = SMTP_AUTH_ANSWER;
        else
            fail_here(m, STAGE_AUTH, SCOPE_CLIENT, "out of memory");
    } else if (r->code == 334 && m->state != SMTP_AUTH_FAILED) {
        /* A refused token comes in two steps: an error to be answered, then
         * the reply. */
        buf_printf(&m->out, "%s\r\n", sasl_failed_answer(m->mechanism));
        m->state = SMTP_AUTH_FAILED;
    } else if (m->state == SMTP_AUTH && wants_two_steps(m, r)) {
        buf_printf(&m->out, "AUTH %s\r\n", sasl_name(m->mechanism));
        m->state = SMTP_AUTH_ASK;
    } else {
        fail_reply(m, r);
    }
}

/* ---- one step after the other ---- */

static void
after_ehlo(struct smtp *m)
{
    if (!m->tls) {
        if (!m->offer.starttls) {
            fail_here(m, STAGE_STARTTLS, SCOPE_CLIENT,
                      "the server does not offer STARTTLS");
            return;
        }
        buf_add_text(&m->out, "STARTTLS\r\n");
        m->state = SMTP_STARTTLS;
    } else if (m->o.login != SMTP_LOGIN_NONE) {
        send_auth(m);
    } else {
        ready(m);
    }
}

void
smtp_tls_done(struct smtp *m)
{
    if (m->state != SMTP_TLS)
        return;
    m->tls = true;
    m->offer = (struct smtp_offer){0}; /* said in clear text: forgotten */
    send_ehlo(m);
    m->unseen = true;
}

void
smtp_login_reply(struct smtp *m, const struct reply *r, struct slice raw)
{
    switch (m->state) {
    case SMTP_GREETING:
        if (r->code == 220)
            send_ehlo(m);
        else
            fail_reply(m, r);
        break;
    case SMTP_EHLO:
        if (r->code != 250) {
            fail_reply(m, r);
            break;
        }
        read_offer(&m->offer, raw);
        after_ehlo(m);
        break;
    case SMTP_STARTTLS:
        if (r->code == 220)
            m->state = SMTP_TLS; /* anything behind it ends the session */
        else
            fail_reply(m, r);
        break;
    default:
        take_auth(m, r);
        break;
    }
    m->unseen = m->out.len > 0;
    if (buf_failed(&m->out))
        fail_here(m, smtp_login_stage(m->state), SCOPE_CLIENT, "out of memory");
}
