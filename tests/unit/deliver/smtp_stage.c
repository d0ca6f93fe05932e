/* tests/unit/deliver/smtp_stage.c - see smtp_stage.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/deliver/smtp_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char content[] = "Subject: x\r\n\r\n.hidden\r\n..\r\nend\r\n";
const char *const rcpts[RCPTS] = {"r0@x.org", "r1@x.org", "r2@x.org"};

/* Lets the machine speak until it listens or is done. */
void
speak(struct play *p)
{
    for (;;) {
        struct slice out;
        size_t n;

        switch (smtp_want(p->m)) {
        case SMTP_WANT_CONTENT:
            n = strlen(p->content) - p->given;
            n = n < p->piece ? n : p->piece;
            if (n == 0)
                smtp_content_end(p->m);
            else
                smtp_content(p->m, p->content + p->given, n);
            p->given += n;
            break;
        case SMTP_WANT_WRITE:
            out = smtp_output(p->m);
            assert_true(out.len > 0);
            assert_true(buf_add(&p->said, out.at, out.len));
            smtp_written(p->m);
            break;
        case SMTP_WANT_TLS:
            p->handshakes++;
            smtp_tls_done(p->m);
            break;
        default:
            return;
        }
    }
}

/* Plays the server's text.  step 0: each part at once; else so many octets at
 * a time. */
void
serve(struct play *p, const char *server, size_t step)
{
    speak(p);
    while (*server != '\0') {
        size_t part = strcspn(server, "|");

        while (part > 0) {
            size_t n = step == 0 || step > part ? part : step;
            char *copy = malloc(n); /* so that reading past it is seen */

            memcpy(copy, server, n);
            smtp_input(p->m, copy, n);
            free(copy);
            server += n;
            part -= n;
            if (step > 0)
                speak(p);
        }
        speak(p);
        if (*server == '|')
            server++;
    }
}

void
play_open(struct play *p, const struct smtp_options *o)
{
    *p = (struct play){.content = "", .piece = 7};
    buf_init(&p->said, 1 << 20);
    p->m = smtp_new(o);
    assert_non_null(p->m);
}

void
play_close(struct play *p)
{
    smtp_free(p->m);
    buf_free(&p->said);
}

const char *
said(struct play *p)
{
    buf_add(&p->said, "", 1);
    p->said.len--;
    return p->said.at;
}

struct smtp_options
options(enum smtp_login login, bool starttls, const char *secret)
{
    return (struct smtp_options){
        .hostname = "relay.example.com",
        .starttls = starttls,
        .login = login,
        .sasl = {"a@example.com", slice_of(secret), "smtp.gmail.com", 465},
    };
}

const struct smtp_envelope envelope = {
    .mail_from = "s@x.org",
    .n_rcpt = RCPTS,
    .rcpt = rcpts,
    .size = 32,
};

void
ready_session(struct play *p, const char *ehlo)
{
    struct smtp_options o = options(SMTP_LOGIN_NONE, false, "");

    play_open(p, &o);
    serve(p, GREETING, 0);
    serve(p, ehlo, 0);
    assert_int_equal(smtp_state(p->m), SMTP_READY);
    p->content = content;
    buf_clear(&p->said);
}

/* A good first transaction, so that the next one is the second. */
void
use_session(struct play *p, const char *ehlo)
{
    struct letter_result ret[RCPTS];
    const char *server = strcmp(ehlo, PIPE_CHUNK) == 0 ? OK OK OK OK OK
                                                       : OK OK OK OK
                             "354 go\r\n|" OK;

    assert_true(smtp_begin(p->m, &envelope, ret));
    serve(p, server, 0);
    assert_int_equal(smtp_state(p->m), SMTP_READY);
    assert_int_equal(ret[0].verdict.kind, OUTCOME_SENT);
    p->given = 0;
    buf_clear(&p->said);
}
