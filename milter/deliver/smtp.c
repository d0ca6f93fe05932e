/* milter/deliver/smtp.c - the machine's bytes and states; see smtp.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/smtp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/deliver/smtp_machine.h"

enum {
    IN_MAX = REPLY_LINE_MAX * REPLY_LINES_MAX + SMTP_BLOCK,
    /* Envelope, and two blocks with every octet a dot. */
    OUT_MAX = (SMTP_RECIPIENTS_MAX + 4) * (SMTP_ADDRESS_MAX + 100) +
              4 * SMTP_BLOCK + SASL_RESPONSE_MAX,
    OUT_KEPT = 16 * 1024, /* between two writes: a small message's */
};

const char *
smtp_state_name(enum smtp_state s)
{
    static const char *const names[SMTP_STATES] = {
        [SMTP_GREETING] = "greeting",
        [SMTP_EHLO] = "ehlo",
        [SMTP_STARTTLS] = "starttls",
        [SMTP_TLS] = "tls",
        [SMTP_AUTH] = "auth",
        [SMTP_AUTH_ASK] = "auth ask",
        [SMTP_AUTH_ANSWER] = "auth answer",
        [SMTP_AUTH_FAILED] = "auth failed",
        [SMTP_READY] = "ready",
        [SMTP_ENVELOPE] = "envelope",
        [SMTP_CONTENT] = "content",
        [SMTP_FINAL] = "final",
        [SMTP_QUIT] = "quit",
        [SMTP_DEAD] = "dead",
    };

    return s < SMTP_STATES ? names[s] : "?";
}

struct smtp *
smtp_new(const struct smtp_options *o)
{
    struct smtp *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->o = *o;
    m->tls = !o->starttls;
    m->state = SMTP_GREETING;
    buf_init(&m->in, IN_MAX);
    buf_init(&m->out, OUT_MAX);
    return m;
}

void
smtp_free(struct smtp *m)
{
    if (m == NULL)
        return;
    buf_free(&m->in);
    buf_wipe_free(&m->out);
    free(m);
}

enum smtp_state
smtp_state(const struct smtp *m)
{
    return m->state;
}

unsigned
smtp_transactions(const struct smtp *m)
{
    return m->n_transactions;
}

bool
smtp_halve(const struct smtp *m)
{
    return m->halve;
}

const struct letter_result *
smtp_login_failure(const struct smtp *m)
{
    return m->has_failure ? &m->failure : NULL;
}

struct verdict
smtp_verdict(enum outcome_kind kind, enum outcome_scope scope,
             const char *meaning)
{
    return (struct verdict){.kind = kind, .scope = scope, .meaning = meaning};
}

struct verdict
smtp_judge_refusal(const struct smtp *m, enum smtp_stage stage,
                   const struct reply *r)
{
    struct verdict v = outcome_judge(stage, r, m->o.login == SMTP_LOGIN_TOKEN);

    if (v.kind == OUTCOME_SENT) {
        v = smtp_verdict(OUTCOME_DEFERRED, SCOPE_SESSION,
                         "a reply with a code that cannot be here");
        v.close_session = true;
    }
    return v;
}

void
smtp_die(struct smtp *m)
{
    m->state = SMTP_DEAD;
    m->t.content_open = false;
    if (m->out_secret && m->out.at != NULL)
        explicit_bzero(m->out.at, m->out.room);
    m->out_secret = false;
    buf_clear(&m->out);
    buf_clear(&m->in);
}

/* ---- out ---- */

enum smtp_want
smtp_want(const struct smtp *m)
{
    if (m->state == SMTP_DEAD)
        return SMTP_WANT_NOTHING;
    /* Envelope and first content share a write. */
    if (m->t.content_open && m->out.len < SMTP_BLOCK)
        return SMTP_WANT_CONTENT;
    if (m->out.len > 0)
        return SMTP_WANT_WRITE;
    if (m->state == SMTP_TLS)
        return SMTP_WANT_TLS;
    return m->state == SMTP_READY ? SMTP_WANT_NOTHING : SMTP_WANT_READ;
}

uint32_t
smtp_timeout_ms(const struct smtp *m)
{
    switch (m->state) {
    case SMTP_GREETING:
        return SMTP_MS_GREETING;
    case SMTP_EHLO:
    case SMTP_STARTTLS:
    case SMTP_QUIT:
        return SMTP_MS_EHLO;
    case SMTP_TLS:
        return SMTP_MS_CONNECT;
    case SMTP_AUTH:
    case SMTP_AUTH_ASK:
    case SMTP_AUTH_ANSWER:
    case SMTP_AUTH_FAILED:
        return SMTP_MS_AUTH;
    case SMTP_CONTENT:
        return SMTP_MS_BLOCK;
    case SMTP_FINAL:
        return SMTP_MS_FINAL;
    default:
        return SMTP_MS_ENVELOPE;
    }
}

struct slice
smtp_output(struct smtp *m)
{
    m->unseen = false;
    m->t.seen = m->t.sent;
    if (m->t.content_whole)
        m->t.content_sent = true;
    return buf_slice(&m->out);
}

void
smtp_written(struct smtp *m)
{
    if (m->out_secret && m->out.at != NULL)
        explicit_bzero(m->out.at, m->out.room);
    m->out_secret = false;
    buf_clear(&m->out);
    if (m->out.room > OUT_KEPT)
        buf_free(&m->out); /* not while it waits for the reply, or is idle */
}

/* ---- in ---- */

static bool
in_login(const struct smtp *m)
{
    return m->state < SMTP_READY;
}

void
smtp_lost(struct smtp *m, bool orderly, const char *why)
{
    if (m->state == SMTP_DEAD)
        return;
    if (in_login(m)) {
        struct reply r = {.code = 0};

        snprintf(r.text, sizeof r.text, "%s", why);
        smtp_login_fail(
            m, outcome_judge_lost(smtp_login_stage(m->state), false, false),
            &r);
        return;
    }
    smtp_letter_lost(m, orderly, why);
    smtp_die(m);
}

/* An answer to what was never said?  Behind commands that wait for their
 * replies there may be others that are not on the wire yet. */
static bool
out_of_turn(const struct smtp *m)
{
    return m->unseen && (in_login(m) || m->t.answered >= m->t.seen);
}

static void
take_reply(struct smtp *m, const struct reply *r, struct slice raw)
{
    if (out_of_turn(m)) {
        smtp_lost(m, false, "the server spoke out of turn");
        return;
    }
    switch (m->state) {
    case SMTP_READY:
    case SMTP_QUIT:
    case SMTP_TLS: /* bytes in clear text before the handshake */
        smtp_lost(m, false, "the server spoke out of turn");
        return;
    case SMTP_ENVELOPE:
    case SMTP_CONTENT:
    case SMTP_FINAL:
        smtp_letter_reply(m, r);
        return;
    default:
        smtp_login_reply(m, r, raw);
        return;
    }
}

/* Is there anything that reply_parse could make more of than before?  (It
 * starts from the front each time; a server that sends one octet at a time
 * shall not cost us the square.) */
static bool
worth_parsing(struct smtp *m, const char *data, size_t len)
{
    const char *end = memrchr(data, '\n', len);

    if (end == NULL) {
        m->in_line += len;
        return m->in_line >= REPLY_LINE_MAX;
    }
    m->in_line = len - (size_t)(end + 1 - data);
    return true;
}

static void
take_replies(struct smtp *m)
{
    while (m->state != SMTP_DEAD && m->in.len > 0) {
        struct reply r;
        size_t used;

        switch (reply_parse(m->in.at, m->in.len, &r, &used)) {
        case REPLY_OK:
            break;
        case REPLY_MORE:
            if (m->state == SMTP_READY || m->state == SMTP_TLS)
                smtp_lost(m, false, "the server spoke out of turn");
            return;
        case REPLY_ETOOLONG:
            smtp_lost(m, false, "the server sent a reply without end");
            return;
        default:
            smtp_lost(m, false,
                      "the server sent something that is no SMTP reply");
            return;
        }
        take_reply(m, &r, (struct slice){m->in.at, used});
        buf_eat(&m->in, used);
    }
}

void
smtp_input(struct smtp *m, const char *data, size_t len)
{
    while (len > 0 && m->state != SMTP_DEAD) {
        size_t n = len < SMTP_BLOCK ? len : SMTP_BLOCK;
        bool parse = worth_parsing(m, data, n);

        if (!buf_add(&m->in, data, n)) {
            smtp_lost(m, false, "out of memory");
            return;
        }
        if (parse || m->state == SMTP_READY || m->state == SMTP_TLS)
            take_replies(m);
        data += n;
        len -= n;
    }
}

void
smtp_quit(struct smtp *m)
{
    if (m->state != SMTP_READY)
        return;
    buf_add_text(&m->out, "QUIT\r\n");
    m->state = SMTP_QUIT;
}
