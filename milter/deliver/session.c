/* milter/deliver/session.c - see session.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/clock.h"

enum {
    READ_BLOCK = 16 * 1024,
    QUIT_MS = 1000, /* a peer that does not even take QUIT is left */
    /* Unused this long, it may have been closed at the other end with the
     * news still under way. */
    CAREFUL_MS = 2000,
};

static uint64_t
now_ms(void)
{
    return clock_boot_ms(&clock_real);
}

static uint64_t
sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* One flight of bytes both ways, until the machine wants nothing. */
struct pump {
    struct session *s;
    const struct session_target *target; /* for the handshake; NULL: none */
    struct message_copy *copy;           /* NULL: no content */
    char *block;                         /* SMTP_BLOCK octets, with copy */
    uint64_t until_ms;
    uint64_t wait_from_ms; /* what is awaited is awaited since then */
    bool wrote;            /* something of it: an answer may come */
    enum smtp_state waits_in;
    bool tls_failed; /* the handshake, not the wire */
};

static void
lose(struct pump *p, enum stream_result r, const char *doing)
{
    char why[400];

    if (r == STREAM_ETIMEOUT)
        snprintf(why, sizeof why, "timeout while %s", doing);
    else
        snprintf(why, sizeof why, "%s while %s", stream_error(p->s->stream),
                 doing);
    smtp_lost(p->s->smtp, r == STREAM_EOF, why);
}

/* Takes what has arrived, without waiting: a server may answer before we have
 * said all, and must find us listening. */
static void
read_arrived(struct pump *p)
{
    char in[READ_BLOCK];
    size_t n = 0;
    enum stream_result r;

    while (smtp_state(p->s->smtp) != SMTP_DEAD) {
        r = stream_read(p->s->stream, in, sizeof in, 0, &n);
        if (r == STREAM_ETIMEOUT)
            return;
        if (r != STREAM_OK) {
            lose(p, r, "sending");
            return;
        }
        smtp_input(p->s->smtp, in, n);
    }
}

static void
pump_content(struct pump *p)
{
    size_t n = 0;

    if (p->wrote)
        read_arrived(p);
    if (smtp_want(p->s->smtp) != SMTP_WANT_CONTENT)
        return;
    if (p->copy == NULL ||
        !message_copy_read(p->copy, p->block, SMTP_BLOCK, &n) || n == 0)
        smtp_content_end(p->s->smtp);
    else
        smtp_content(p->s->smtp, p->block, n);
}

static void
pump_write(struct pump *p)
{
    struct slice out = smtp_output(p->s->smtp);
    enum stream_result r =
        stream_write(p->s->stream, out.at, out.len,
                     sooner(now_ms() + SMTP_MS_BLOCK, p->until_ms));
    char why[400];

    p->wrote = true;

    if (r == STREAM_OK) {
        smtp_written(p->s->smtp);
        p->wait_from_ms = now_ms();
        return;
    }
    /* What it said before it stopped listening counts. */
    snprintf(why, sizeof why, "%s while sending",
             r == STREAM_ETIMEOUT ? "timeout" : stream_error(p->s->stream));
    read_arrived(p);
    smtp_lost(p->s->smtp, false, why);
}

static void
pump_read(struct pump *p)
{
    struct smtp *m = p->s->smtp;
    char in[READ_BLOCK], doing[60];
    uint64_t deadline_ms;
    size_t n = 0;
    enum stream_result r;

    if (smtp_state(m) == SMTP_FINAL) { /* which may take long */
        free(p->block);
        p->block = NULL;
    }
    if (p->waits_in != smtp_state(m)) {
        p->waits_in = smtp_state(m);
        p->wait_from_ms = now_ms();
    }
    /* Not from the last octet: a reply has to be whole by then. */
    deadline_ms = sooner(p->wait_from_ms + smtp_timeout_ms(m), p->until_ms);
    r = stream_read(p->s->stream, in, sizeof in, deadline_ms, &n);
    if (r == STREAM_OK) { /* what came in time counts, however late we are */
        smtp_input(m, in, n);
        return;
    }
    snprintf(doing, sizeof doing, "waiting for a reply (%s)",
             smtp_state_name(smtp_state(m)));
    lose(p, r, doing);
}

static enum stream_result
shake_hands(struct pump *p)
{
    const struct session_target *t = p->target;
    enum stream_result r =
        stream_start_tls(p->s->stream, t->tls, t->host, t->tls_key,
                         sooner(now_ms() + SMTP_MS_CONNECT, p->until_ms));

    p->tls_failed = r == STREAM_ETLS;
    return r;
}

static void
pump_run(struct pump *p)
{
    enum stream_result r;

    p->waits_in = SMTP_STATES;
    for (;;) {
        switch (smtp_want(p->s->smtp)) {
        case SMTP_WANT_NOTHING:
            return;
        case SMTP_WANT_CONTENT:
            pump_content(p);
            break;
        case SMTP_WANT_WRITE:
            pump_write(p);
            break;
        case SMTP_WANT_READ:
            pump_read(p);
            break;
        case SMTP_WANT_TLS:
            r = shake_hands(p);
            if (r == STREAM_OK)
                smtp_tls_done(p->s->smtp);
            else
                lose(p, r, "starting TLS");
            break;
        }
    }
}

/* ---- opening ---- */

static void
failed(struct lease *ret, enum smtp_stage stage, struct verdict v,
       const char *text)
{
    *ret = (struct lease){.verdict = v, .stage = stage};
    snprintf(ret->reply.text, sizeof ret->reply.text, "%s", text);
}

static struct verdict
our_failure(const char *meaning)
{
    return (struct verdict){.kind = OUTCOME_DEFERRED,
                            .scope = SCOPE_CLIENT,
                            .close_session = true,
                            .meaning = meaning};
}

/* TLS that cannot be had is not a lost connection: it will fail again until
 * somebody mends a certificate, a clock or a configuration. */
static struct verdict
tls_verdict(bool handshake)
{
    if (handshake)
        return our_failure("no trusted TLS connection to the server");
    return outcome_judge_lost(STAGE_STARTTLS, false, false);
}

static bool
log_in(struct session *s, const struct session_target *t, uint64_t deadline_ms,
       struct lease *ret)
{
    struct pump p = {.s = s, .target = t, .until_ms = deadline_ms};
    struct smtp_options o = {
        .hostname = t->hostname,
        .starttls = t->starttls,
        .login = t->login,
        .sasl = {.user = t->user,
                 .secret = t->secret,
                 .host = t->host,
                 .port = t->port},
    };
    const struct letter_result *why;

    s->smtp = smtp_new(&o);
    if (s->smtp == NULL) {
        failed(ret, STAGE_CONNECT, our_failure("out of memory"), "");
        return false;
    }
    if (!t->starttls && t->tls != NULL && shake_hands(&p) != STREAM_OK) {
        failed(ret, STAGE_STARTTLS, tls_verdict(p.tls_failed),
               stream_error(s->stream));
        return false;
    }
    pump_run(&p);
    why = smtp_login_failure(s->smtp);
    if (why == NULL && smtp_state(s->smtp) == SMTP_READY)
        return true;
    if (why == NULL) {
        failed(ret, STAGE_AUTH, outcome_judge_lost(STAGE_AUTH, false, false),
               "the server ended the session after the login");
        return false;
    }
    *ret = (struct lease){
        .verdict = why->verdict, .reply = why->reply, .stage = why->stage};
    if (p.tls_failed)
        ret->verdict = tls_verdict(true);
    return false;
}

struct session *
session_open_on(struct stream *stream, const struct session_target *t,
                uint64_t deadline_ms, struct lease *ret)
{
    struct session *s = calloc(1, sizeof *s);

    if (s == NULL) {
        stream_close(stream);
        failed(ret, STAGE_CONNECT, our_failure("out of memory"), "");
        return NULL;
    }
    s->stream = stream;
    if (!log_in(s, t, deadline_ms, ret)) {
        session_close(s);
        return NULL;
    }
    snprintf(s->info, sizeof s->info, "%s:%u %s", t->host, (unsigned)t->port,
             stream_tls_info(stream));
    return s;
}

struct session *
session_open(const struct session_target *t, uint64_t deadline_ms,
             struct lease *ret)
{
    char err[300];
    struct stream *stream = stream_connect(
        t->connect != NULL ? t->connect : t->host, t->port,
        sooner(now_ms() + SMTP_MS_CONNECT, deadline_ms), err, sizeof err);

    if (stream == NULL) {
        failed(ret, STAGE_CONNECT,
               outcome_judge_lost(STAGE_CONNECT, false, false), err);
        return NULL;
    }
    return session_open_on(stream, t, deadline_ms, ret);
}

/* ---- use ---- */

bool
session_ready(const struct session *s)
{
    return smtp_state(s->smtp) == SMTP_READY;
}

bool
session_quiet(struct session *s)
{
    return session_ready(s) && stream_quiet(s->stream);
}

bool
session_reused(const struct session *s)
{
    return s->reused;
}

const char *
session_info(const struct session *s)
{
    return s->info;
}

bool
session_send(struct session *s, const struct letter *l,
             struct letter_result *ret)
{
    struct smtp_envelope e = {
        .mail_from = l->mail_from,
        .n_rcpt = l->n_rcpt,
        .rcpt = l->rcpt,
        .size = message_copy_size(l->copy),
        .is_8bit = l->is_8bit,
        .needs_utf8 = l->needs_utf8,
    };
    struct pump p = {
        .s = s,
        .copy = l->copy,
        .block = malloc(SMTP_BLOCK),
        .until_ms = now_ms() + SMTP_MS_TRANSACTION,
    };

    if (p.block == NULL) {
        for (size_t i = 0; i < l->n_rcpt; i++)
            ret[i] = (struct letter_result){
                .verdict = our_failure("out of memory"), .stage = STAGE_MAIL};
        return session_ready(s);
    }
    s->reused = smtp_transactions(s->smtp) > 0;
    e.careful = s->reused && now_ms() - s->active_ms > CAREFUL_MS;
    message_copy_rewind(l->copy);
    if (smtp_begin(s->smtp, &e, ret))
        pump_run(&p);
    s->active_ms = now_ms();
    free(p.block);
    return session_ready(s);
}

void
session_quit(struct session *s)
{
    struct slice out;

    smtp_quit(s->smtp);
    if (smtp_want(s->smtp) != SMTP_WANT_WRITE)
        return;
    out = smtp_output(s->smtp);
    if (stream_write(s->stream, out.at, out.len, now_ms() + QUIT_MS) ==
        STREAM_OK)
        smtp_written(s->smtp);
    else
        smtp_lost(s->smtp, false, "QUIT could not be written");
}

void
session_wait_end(struct session *s, uint64_t deadline_ms)
{
    char in[READ_BLOCK];
    size_t n = 0;

    while (smtp_state(s->smtp) == SMTP_QUIT) {
        if (stream_read(s->stream, in, sizeof in, deadline_ms, &n) != STREAM_OK)
            return;
        smtp_input(s->smtp, in, n);
    }
}

void
session_close(struct session *s)
{
    if (s == NULL)
        return;
    stream_close(s->stream);
    smtp_free(s->smtp);
    free(s->target);
    free(s);
}
