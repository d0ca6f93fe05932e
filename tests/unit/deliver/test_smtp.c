/* tests/unit/deliver/test_smtp.c - the SMTP client against servers that are
 * written down, some of them liars.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A server is a text of replies, with '|' where it waits for what we say
 * next.  Each is played with its replies whole and cut into single octets:
 * the end must be the same.
 */
#include "milter/deliver/smtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/base/buf.h"
#include "milter/deliver/pool.h"

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

/* ---- the stage ---- */

struct play {
    struct smtp *m;
    struct buf said; /* all we wrote */
    const char *content;
    size_t given, piece; /* octets of content at a time */
    unsigned handshakes;
};

/* Lets the machine speak until it listens or is done. */
static void
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
static void
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

static void
play_open(struct play *p, const struct smtp_options *o)
{
    *p = (struct play){.content = "", .piece = 7};
    buf_init(&p->said, 1 << 20);
    p->m = smtp_new(o);
    assert_non_null(p->m);
}

static void
play_close(struct play *p)
{
    smtp_free(p->m);
    buf_free(&p->said);
}

static const char *
said(struct play *p)
{
    buf_add(&p->said, "", 1);
    p->said.len--;
    return p->said.at;
}

static struct smtp_options
options(enum smtp_login login, bool starttls, const char *secret)
{
    return (struct smtp_options){
        .hostname = "relay.example.com",
        .starttls = starttls,
        .login = login,
        .sasl = {"a@example.com", slice_of(secret), "smtp.gmail.com", 465},
    };
}

/* ---- the login ---- */

struct login_row {
    const char *name;
    enum smtp_login login;
    bool starttls;
    const char *server;
    const char *said;         /* NULL: not looked at */
    const char *must_not_say; /* NULL: nothing */
    /* 0 = it succeeds */
    int stage; /* enum smtp_stage + 1 */
    uint16_t code;
    int effect; /* enum outcome_effect */
};

static const struct login_row logins[] = {
    {"token over TLS", SMTP_LOGIN_TOKEN, false, GREETING EHLO_TLS ACCEPTED,
     "EHLO relay.example.com\r\n" XOAUTH2, NULL, 0, 0, 0},
    {"token over STARTTLS", SMTP_LOGIN_TOKEN, true,
     GREETING EHLO_CLEAR "220 2.0.0 Ready to start TLS\r\n|" EHLO_TLS ACCEPTED,
     "EHLO relay.example.com\r\nSTARTTLS\r\nEHLO relay.example.com\r\n" XOAUTH2,
     NULL, 0, 0, 0},
    {"password", SMTP_LOGIN_PASSWORD, false, GREETING EHLO_TLS ACCEPTED,
     "EHLO relay.example.com\r\nAUTH PLAIN AGFAZXhhbXBsZS5jb20AdG9r\r\n", NULL,
     0, 0, 0},
    {"no login", SMTP_LOGIN_NONE, false, GREETING EHLO_TLS,
     "EHLO relay.example.com\r\n", "AUTH", 0, 0, 0},
    {"bearer when there is no xoauth2", SMTP_LOGIN_TOKEN, false,
     GREETING "250-x\r\n250 AUTH OAUTHBEARER\r\n|" ACCEPTED,
     "EHLO relay.example.com\r\nAUTH OAUTHBEARER "
     "bixhPWFAZXhhbXBsZS5jb20sAWhvc3Q9c210cC5nbWFpbC5jb20BcG9ydD00NjUBYXV0aD1C"
     "ZWFyZXIgdG9rAQE=\r\n",
     NULL, 0, 0, 0},
    {"multi-line greeting", SMTP_LOGIN_NONE, false,
     "220-hello\r\n220-there\r\n220 you\r\n|" EHLO_TLS, NULL, NULL, 0, 0, 0},
    {"token refused in two steps", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS
     "334 eyJzdGF0dXMiOiI0MDAifQ==\r\n|"
     "535-5.7.8 Username and Password not accepted. For more, go to\r\n"
     "535 5.7.8  https://support.google.com/mail/?p=BadCredentials x\r\n",
     "EHLO relay.example.com\r\n" XOAUTH2 "\r\n", NULL, STAGE_AUTH + 1, 535,
     EFFECT_TOKEN},
    {"token refused in one step", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS
     "535 5.7.8  https://support.google.com/mail/?p=BadCredentials x\r\n",
     "EHLO relay.example.com\r\n" XOAUTH2, NULL, STAGE_AUTH + 1, 535,
     EFFECT_TOKEN},
    {"bearer refused", SMTP_LOGIN_TOKEN, false,
     GREETING "250-x\r\n250 AUTH OAUTHBEARER\r\n|334 eyJ9\r\n|535 5.7.8 no\r\n",
     NULL, NULL, STAGE_AUTH + 1, 535, EFFECT_TOKEN},
    {"accepted after the refusal: a liar", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS "334 eyJ9\r\n|235 2.7.0 Accepted\r\n", NULL, NULL,
     STAGE_AUTH + 1, 235, EFFECT_NONE},
    {"334 for ever", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS "334 eyJ9\r\n|334 eyJ9\r\n|334 eyJ9\r\n", NULL, NULL,
     STAGE_AUTH + 1, 334, EFFECT_NONE},
    {"app password refused", SMTP_LOGIN_PASSWORD, false,
     GREETING EHLO_TLS
     "535-5.7.8 Username and Password not accepted.\r\n"
     "535 5.7.8  https://support.google.com/mail/?p=BadCredentials x\r\n",
     NULL, NULL, STAGE_AUTH + 1, 535, EFFECT_DISABLE},
    {"250 is not 235", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS "250 2.0.0 OK\r\n", NULL, "MAIL", STAGE_AUTH + 1, 250,
     EFFECT_NONE},
    {"too many logins", SMTP_LOGIN_TOKEN, false,
     GREETING EHLO_TLS
     "454 4.7.0 Too many login attempts, please try again later. x\r\n",
     NULL, NULL, STAGE_AUTH + 1, 454, EFFECT_COOL},
    {"no mechanism of ours", SMTP_LOGIN_TOKEN, false,
     GREETING "250-x\r\n250 AUTH LOGIN CRAM-MD5\r\n", NULL, "AUTH",
     STAGE_AUTH + 1, 0, EFFECT_NONE},
    {"no AUTH at all", SMTP_LOGIN_PASSWORD, false,
     GREETING "250 smtp.gmail.com AUTH PLAIN\r\n", NULL, "AUTH", STAGE_AUTH + 1,
     0, EFFECT_NONE},
    {"no STARTTLS: nothing secret is said", SMTP_LOGIN_TOKEN, true,
     GREETING "250-x\r\n250 AUTH XOAUTH2 PLAIN\r\n", NULL, "AUTH",
     STAGE_STARTTLS + 1, 0, EFFECT_NONE},
    {"STARTTLS refused", SMTP_LOGIN_TOKEN, true,
     GREETING EHLO_CLEAR "454 4.7.0 TLS not available\r\n", NULL, "AUTH",
     STAGE_STARTTLS + 1, 454, EFFECT_NONE},
    {"words smuggled behind STARTTLS", SMTP_LOGIN_TOKEN, true,
     GREETING EHLO_CLEAR "220 go\r\n250 evil\r\n", NULL, "AUTH",
     STAGE_STARTTLS + 1, 0, EFFECT_NONE},
    {"half a word smuggled behind STARTTLS", SMTP_LOGIN_TOKEN, true,
     GREETING EHLO_CLEAR "220 go\r\n25", NULL, "AUTH", STAGE_STARTTLS + 1, 0,
     EFFECT_NONE},
    {"offers of before TLS are forgotten", SMTP_LOGIN_TOKEN, true,
     GREETING EHLO_CLEAR "220 go\r\n|250 x\r\n", NULL, "AUTH", STAGE_AUTH + 1,
     0, EFFECT_NONE},
    {"421 greeting", SMTP_LOGIN_TOKEN, false, "421 4.4.5 Server busy\r\n", "",
     NULL, STAGE_CONNECT + 1, 421, EFFECT_NONE},
    {"554 greeting", SMTP_LOGIN_TOKEN, false, "554 no SMTP here\r\n", "", NULL,
     STAGE_CONNECT + 1, 554, EFFECT_NONE},
    {"250 greeting", SMTP_LOGIN_TOKEN, false, "250 hello\r\n", "", NULL,
     STAGE_CONNECT + 1, 250, EFFECT_NONE},
    {"EHLO answered before it was said", SMTP_LOGIN_TOKEN, false,
     "220 x\r\n250-y\r\n250 AUTH XOAUTH2\r\n", "", "AUTH", STAGE_EHLO + 1, 0,
     EFFECT_NONE},
    {"EHLO refused", SMTP_LOGIN_TOKEN, false,
     GREETING "421 4.7.0 Try again later, closing connection. (EHLO) x\r\n",
     NULL, "AUTH", STAGE_EHLO + 1, 421, EFFECT_NONE},
    {"EHLO answered with 220", SMTP_LOGIN_TOKEN, false, GREETING "220 x\r\n",
     NULL, "AUTH", STAGE_EHLO + 1, 220, EFFECT_NONE},
    {"not SMTP", SMTP_LOGIN_TOKEN, false, "HTTP/1.1 400 Bad Request\r\n", "",
     NULL, STAGE_CONNECT + 1, 0, EFFECT_NONE},
    {"codes disagree", SMTP_LOGIN_TOKEN, false, "220-x\r\n554 y\r\n", "", NULL,
     STAGE_CONNECT + 1, 0, EFFECT_NONE},
};

static void
check_login(const struct login_row *r, size_t step)
{
    struct smtp_options o = options(r->login, r->starttls, "tok");
    const struct letter_result *f;
    struct play p;

    play_open(&p, &o);
    /* "words smuggled" come in one piece: a machine that shakes hands between
     * two octets has had its TLS. */
    if (strstr(r->name, "smuggled") != NULL ||
        strstr(r->name, "before it was said") != NULL)
        step = 0;
    serve(&p, r->server, step);
    f = smtp_login_failure(p.m);
    if (r->said != NULL && strcmp(said(&p), r->said) != 0)
        fail_msg("%s/%zu: said %s", r->name, step, said(&p));
    if (r->must_not_say != NULL && strstr(said(&p), r->must_not_say) != NULL)
        fail_msg("%s/%zu: said %s", r->name, step, said(&p));
    if (r->stage == 0) {
        if (f != NULL || smtp_state(p.m) != SMTP_READY)
            fail_msg("%s/%zu: %s", r->name, step,
                     smtp_state_name(smtp_state(p.m)));
        assert_int_equal(p.handshakes, r->starttls);
    } else {
        if (f == NULL || smtp_state(p.m) != SMTP_DEAD)
            fail_msg("%s/%zu: no failure, %s", r->name, step,
                     smtp_state_name(smtp_state(p.m)));
        if ((int)f->stage != r->stage - 1 || f->reply.code != r->code ||
            (r->effect != EFFECT_NONE && (int)f->verdict.effect != r->effect))
            fail_msg("%s/%zu: stage %s, %u, effect %d", r->name, step,
                     smtp_stage_name(f->stage), f->reply.code,
                     f->verdict.effect);
        assert_int_not_equal(f->verdict.kind, OUTCOME_SENT);
        assert_int_not_equal(f->verdict.kind, OUTCOME_REFUSED);
        assert_non_null(f->verdict.meaning);
    }
    play_close(&p);
}

static void
test_logins(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof logins / sizeof *logins; i++) {
        check_login(&logins[i], 0);
        check_login(&logins[i], 1);
        check_login(&logins[i], 3);
    }
}

/* Cut anywhere, the login ends as a failure with a stage, never as a
 * refusal of mail. */
static void
test_login_cut_anywhere(void **state)
{
    static const char whole[] =
        GREETING EHLO_CLEAR "220 2.0.0 Ready\r\n|" EHLO_TLS ACCEPTED;
    struct smtp_options o = options(SMTP_LOGIN_TOKEN, true, "tok");

    (void)state;
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        char *part = strndup(whole, n);
        struct play p;

        play_open(&p, &o);
        serve(&p, part, 0);
        assert_int_not_equal(smtp_state(p.m), SMTP_READY);
        smtp_lost(p.m, true, "cut");
        assert_int_equal(smtp_state(p.m), SMTP_DEAD);
        assert_non_null(smtp_login_failure(p.m));
        assert_int_equal(smtp_login_failure(p.m)->verdict.kind,
                         OUTCOME_DEFERRED);
        assert_string_equal(smtp_login_failure(p.m)->reply.text, "cut");
        play_close(&p);
        free(part);
    }
}

/* A server that keeps to 512 octets gets a long token in two steps. */
static void
test_long_initial_response(void **state)
{
    static const char *const answers[] = {"500 5.5.2 line too long\r\n|",
                                          "501 5.5.2 too long\r\n|",
                                          "555 5.5.2 Syntax error\r\n|"};
    char token[2049];
    struct smtp_options o;

    (void)state;
    memset(token, 't', sizeof token - 1);
    token[sizeof token - 1] = '\0';
    o = options(SMTP_LOGIN_TOKEN, false, token);
    for (size_t i = 0; i < 3; i++) {
        struct play p;
        const char *second;

        play_open(&p, &o);
        serve(&p, GREETING EHLO_TLS, 0);
        assert_true(p.said.len > 512);
        serve(&p, answers[i], 1);
        second = strstr(said(&p), "AUTH XOAUTH2\r\n");
        assert_non_null(second);
        serve(&p, "334 \r\n|" ACCEPTED, 1);
        assert_int_equal(smtp_state(p.m), SMTP_READY);
        /* The same response stands on a line of its own. */
        second = strstr(said(&p), "AUTH XOAUTH2\r\n") + 14;
        assert_memory_equal(second, strstr(said(&p), "AUTH XOAUTH2 ") + 13,
                            2700);
        play_close(&p);

        play_open(&p, &o); /* refused again: no third try */
        serve(&p, GREETING EHLO_TLS, 0);
        serve(&p, answers[i], 0);
        serve(&p, answers[i], 0);
        assert_int_equal(smtp_state(p.m), SMTP_DEAD);
        assert_int_equal(smtp_login_failure(p.m)->stage, STAGE_AUTH);
        play_close(&p);

        play_open(&p, &o); /* two steps, refused in two steps */
        serve(&p, GREETING EHLO_TLS, 0);
        serve(&p, answers[i], 0);
        serve(&p, "334 \r\n|334 eyJ9\r\n|535 5.7.8 no\r\n", 1);
        assert_int_equal(smtp_login_failure(p.m)->verdict.effect, EFFECT_TOKEN);
        play_close(&p);
    }
    o = options(SMTP_LOGIN_TOKEN, false, "short"); /* not for a short one */
    struct play p;

    play_open(&p, &o);
    serve(&p, GREETING EHLO_TLS "501 5.5.2 Cannot Decode response\r\n", 0);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    play_close(&p);
}

static void
test_unspeakable_secret(void **state)
{
    struct smtp_options o = options(SMTP_LOGIN_TOKEN, false, "a\r\nRSET");
    struct play p;

    (void)state;
    play_open(&p, &o);
    serve(&p, GREETING EHLO_TLS, 0);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    assert_string_equal(said(&p), "EHLO relay.example.com\r\n");
    assert_int_equal(smtp_login_failure(p.m)->verdict.scope, SCOPE_ACCOUNT);
    play_close(&p);
}

/* ---- transactions ---- */

#define PIPE_CHUNK                                               \
    "250-x\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n" \
    "250-PIPELINING\r\n250 CHUNKING\r\n|"
#define PIPE  "250-x\r\n250 PIPELINING\r\n|"
#define CHUNK "250-x\r\n250 CHUNKING\r\n|"
#define BARE  "250 x\r\n|"

#define OK      "250 2.0.0 OK x - gsmtp\r\n"
#define NO_USER "550 5.1.1 no such user\r\n"
#define LIMIT   "550 5.4.5 Daily user sending limit exceeded\r\n"

static const char content[] = "Subject: x\r\n\r\n.hidden\r\n..\r\nend\r\n";
#define STUFFED  "Subject: x\r\n\r\n..hidden\r\n...\r\nend\r\n.\r\n"
#define SENT     OUTCOME_SENT
#define REFUSED  OUTCOME_REFUSED
#define DEFERRED OUTCOME_DEFERRED
#define DOUBT    OUTCOME_IN_DOUBT
#define AGAIN    OUTCOME_RECONNECT

enum { RCPTS = 3 };

static const char *const rcpts[RCPTS] = {"r0@x.org", "r1@x.org", "r2@x.org"};

#define MAIL      "MAIL FROM:<s@x.org>\r\n"
#define MAIL_SIZE "MAIL FROM:<s@x.org> SIZE=32\r\n"
#define RCPT \
    "RCPT TO:<r0@x.org>\r\nRCPT TO:<r1@x.org>\r\nRCPT TO:<r2@x.org>\r\n"
#define BODY "Subject: x\r\n\r\n.hidden\r\n..\r\nend\r\n"

enum end { END_READY, END_DEAD };

struct row {
    const char *name;
    const char *ehlo;
    const char *server; /* of the transaction */
    bool reused;        /* the second one of its session */
    bool eof;           /* the server closes when it has said that */
    const char *said;   /* NULL: not looked at */
    enum outcome_kind kind[RCPTS];
    uint16_t code[RCPTS];
    enum smtp_stage stage[RCPTS];
    enum end end;
};

#define ALL(x)  \
    {           \
        x, x, x \
    }

static const struct row rows[] = {
    /* One flight. */
    {"one flight", PIPE_CHUNK, OK OK OK OK OK, false, false,
     MAIL_SIZE RCPT "BDAT 32 LAST\r\n" BODY, ALL(SENT), ALL(250),
     ALL(STAGE_CONTENT), END_READY},
    {"one flight, one refused",
     PIPE_CHUNK,
     OK OK NO_USER OK OK,
     false,
     false,
     NULL,
     {SENT, REFUSED, SENT},
     {250, 550, 250},
     {STAGE_CONTENT, STAGE_RCPT, STAGE_CONTENT},
     END_READY},
    {"one flight, all refused", PIPE_CHUNK,
     OK NO_USER NO_USER NO_USER "503 5.5.1 RCPT first. x\r\n", false, false,
     NULL, ALL(REFUSED), ALL(550), ALL(STAGE_RCPT), END_READY},
    {"one flight, all refused, BDAT accepted all the same", PIPE_CHUNK,
     OK NO_USER NO_USER NO_USER OK, false, false, NULL, ALL(REFUSED), ALL(550),
     ALL(STAGE_RCPT), END_READY},
    {"one flight, MAIL refused", PIPE_CHUNK,
     "552 5.2.3 too big p=MaxSizeError\r\n503 5.5.1 MAIL first\r\n"
     "503 5.5.1 MAIL first\r\n503 5.5.1 MAIL first\r\n503 5.5.1 no\r\n",
     false, false, NULL, ALL(REFUSED), ALL(552), ALL(STAGE_MAIL), END_READY},
    {"one flight, limit", PIPE_CHUNK, OK OK OK OK LIMIT, false, false, NULL,
     ALL(DEFERRED), ALL(550), ALL(STAGE_CONTENT), END_READY},
    {"one flight, message refused",
     PIPE_CHUNK,
     OK OK NO_USER OK "552 5.7.0 blocked ?p=BlockedMessage x\r\n",
     false,
     false,
     NULL,
     ALL(REFUSED),
     {552, 550, 552},
     {STAGE_CONTENT, STAGE_RCPT, STAGE_CONTENT},
     END_READY},
    {"452 too many recipients",
     PIPE_CHUNK,
     OK OK OK "452 4.5.3 too many ?p=TooManyRecipientsError x\r\n" OK,
     false,
     false,
     NULL,
     {SENT, SENT, OUTCOME_SPLIT},
     {250, 250, 452},
     {STAGE_CONTENT, STAGE_CONTENT, STAGE_RCPT},
     END_READY},
    {"fewer replies than commands", PIPE_CHUNK, OK OK OK, false, true, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_RCPT), END_DEAD},
    {"lost before the final reply", PIPE_CHUNK, OK OK OK OK, false, true, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_CONTENT), END_DEAD},
    {"lost in the final reply", PIPE_CHUNK, OK OK OK OK "250 2.0.", false, true,
     NULL, ALL(DOUBT), ALL(0), ALL(STAGE_CONTENT), END_DEAD},
    {"lost in a multi-line final reply", PIPE_CHUNK,
     OK OK OK OK "550-5.7.1 spam\r\n", false, true, NULL, ALL(DOUBT), ALL(0),
     ALL(STAGE_CONTENT), END_DEAD},
    {"a refusal stands when the rest is lost",
     PIPE_CHUNK,
     OK NO_USER OK OK,
     false,
     true,
     NULL,
     {REFUSED, DOUBT, DOUBT},
     {550, 0, 0},
     {STAGE_RCPT, STAGE_CONTENT, STAGE_CONTENT},
     END_DEAD},
    {"no reply at all, new session", PIPE_CHUNK, "", false, true, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_MAIL), END_DEAD},
    {"no reply at all, used session", PIPE_CHUNK, "", true, true, NULL,
     ALL(AGAIN), ALL(0), ALL(STAGE_MAIL), END_DEAD},
    {"used session, answered MAIL, then lost", PIPE_CHUNK, OK, true, true, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_RCPT), END_DEAD},
    {"more replies than commands", PIPE_CHUNK, OK OK OK OK OK OK, false, false,
     NULL, ALL(SENT), ALL(250), ALL(STAGE_CONTENT), END_DEAD},
    {"half a reply too many", PIPE_CHUNK, OK OK OK OK OK "2", false, false,
     NULL, ALL(SENT), ALL(250), ALL(STAGE_CONTENT), END_DEAD},
    {"421 at MAIL: expired", PIPE_CHUNK,
     "421 4.7.0 Connection expired, try reconnecting x\r\n", false, false, NULL,
     ALL(AGAIN), ALL(421), ALL(STAGE_MAIL), END_DEAD},
    {"451 4.4.2 at MAIL: idle", PIPE_CHUNK,
     "451 4.4.2 Timeout - closing connection. x\r\n", true, false, NULL,
     ALL(AGAIN), ALL(451), ALL(STAGE_MAIL), END_DEAD},
    {"421 at a recipient, its own",
     PIPE_CHUNK,
     OK OK "421 4.7.0 TLS required for RCPT domain, closing connection. x\r\n",
     false,
     false,
     NULL,
     {DEFERRED, DEFERRED, DEFERRED},
     {0, 421, 0},
     ALL(STAGE_RCPT),
     END_DEAD},
    {"session's end at a recipient, and on it goes",
     PIPE_CHUNK,
     OK OK "451 4.4.2 Timeout - closing connection. x\r\n" OK OK,
     true,
     false,
     NULL,
     {SENT, DEFERRED, SENT},
     {250, 451, 250},
     {STAGE_CONTENT, STAGE_RCPT, STAGE_CONTENT},
     END_DEAD},
    {"421 at the end", PIPE_CHUNK,
     OK OK OK OK "421 4.3.0 Temporary System Problem. Try again later\r\n",
     false, false, NULL, ALL(DEFERRED), ALL(421), ALL(STAGE_CONTENT), END_DEAD},
    {"garbage for a reply", PIPE_CHUNK, OK "what?\r\n", false, false, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_RCPT), END_DEAD},
    {"codes disagree", PIPE_CHUNK, OK OK OK OK "250-yes\r\n550 no\r\n", false,
     false, NULL, ALL(DOUBT), ALL(0), ALL(STAGE_CONTENT), END_DEAD},
    {"354 to RCPT",
     PIPE_CHUNK,
     OK "354 go\r\n" OK OK OK,
     false,
     false,
     NULL,
     {DEFERRED, SENT, SENT},
     {354, 250, 250},
     {STAGE_RCPT, STAGE_CONTENT, STAGE_CONTENT},
     END_DEAD},
    {"354 for the final reply", PIPE_CHUNK, OK OK OK OK "354 go\r\n", false,
     false, NULL, ALL(DOUBT), ALL(354), ALL(STAGE_CONTENT), END_DEAD},

    /* Two round trips. */
    {"DATA", PIPE, OK OK OK OK "354 Go ahead\r\n|" OK, false, false,
     MAIL RCPT "DATA\r\n" STUFFED, ALL(SENT), ALL(250), ALL(STAGE_CONTENT),
     END_READY},
    {"DATA, one refused",
     PIPE,
     OK NO_USER OK OK "354 go\r\n|" OK,
     false,
     false,
     NULL,
     {REFUSED, SENT, SENT},
     {550, 250, 250},
     {STAGE_RCPT, STAGE_CONTENT, STAGE_CONTENT},
     END_READY},
    {"DATA, all refused", PIPE,
     OK NO_USER NO_USER NO_USER "503 5.5.1 RCPT first\r\n", false, false,
     MAIL RCPT "DATA\r\n", ALL(REFUSED), ALL(550), ALL(STAGE_RCPT), END_READY},
    {"DATA, all refused, 354 all the same", PIPE,
     OK NO_USER NO_USER NO_USER "354 go\r\n|554 no valid recipients\r\n", false,
     false, MAIL RCPT "DATA\r\n.\r\n", ALL(REFUSED), ALL(550), ALL(STAGE_RCPT),
     END_READY},
    {"DATA, MAIL refused, 354 all the same", PIPE,
     LIMIT "503 x\r\n503 x\r\n503 x\r\n354 go\r\n|250 thanks\r\n", false, false,
     MAIL RCPT "DATA\r\n.\r\n", ALL(DEFERRED), ALL(550), ALL(STAGE_MAIL),
     END_READY},
    {"DATA refused: limit", PIPE, OK OK OK OK LIMIT, false, false,
     MAIL RCPT "DATA\r\n", ALL(DEFERRED), ALL(550), ALL(STAGE_DATA), END_READY},
    {"DATA answered 250", PIPE, OK OK OK OK OK, false, false,
     MAIL RCPT "DATA\r\n", ALL(DEFERRED), ALL(250), ALL(STAGE_DATA), END_DEAD},
    {"lost before 354", PIPE, OK OK OK OK, false, true, MAIL RCPT "DATA\r\n",
     ALL(DEFERRED), ALL(0), ALL(STAGE_DATA), END_DEAD},
    {"lost after the dot", PIPE, OK OK OK OK "354 go\r\n", false, true, NULL,
     ALL(DOUBT), ALL(0), ALL(STAGE_CONTENT), END_DEAD},
    {"DATA, limit at the end", PIPE, OK OK OK OK "354 go\r\n|" LIMIT, false,
     false, NULL, ALL(DEFERRED), ALL(550), ALL(STAGE_CONTENT), END_READY},
    {"DATA on a used session that is gone", PIPE, "", true, true, NULL,
     ALL(AGAIN), ALL(0), ALL(STAGE_MAIL), END_DEAD},

    /* Step by step. */
    {"steps, BDAT", CHUNK, OK "|" OK "|" OK "|" OK "|" OK, false, false,
     MAIL RCPT "BDAT 32 LAST\r\n" BODY, ALL(SENT), ALL(250), ALL(STAGE_CONTENT),
     END_READY},
    {"steps", BARE, OK "|" OK "|" OK "|" OK "|354 go\r\n|" OK, false, false,
     MAIL RCPT "DATA\r\n" STUFFED, ALL(SENT), ALL(250), ALL(STAGE_CONTENT),
     END_READY},
    {"steps, MAIL refused", BARE, LIMIT, false, false, MAIL, ALL(DEFERRED),
     ALL(550), ALL(STAGE_MAIL), END_READY},
    {"steps, all refused", BARE, OK "|" NO_USER "|" NO_USER "|" NO_USER, false,
     false, MAIL RCPT, ALL(REFUSED), ALL(550), ALL(STAGE_RCPT), END_READY},
    {"steps, lost after the first", BARE, OK "|" OK, false, true, NULL,
     ALL(DEFERRED), ALL(0), ALL(STAGE_RCPT), END_DEAD},
};

static const struct smtp_envelope envelope = {
    .mail_from = "s@x.org",
    .n_rcpt = RCPTS,
    .rcpt = rcpts,
    .size = 32,
};

static void
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
static void
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

static void
check_row(const struct row *r, size_t step)
{
    struct letter_result ret[RCPTS];
    struct play p;

    memset(ret, 0xee, sizeof ret);
    ready_session(&p, r->ehlo);
    if (r->reused)
        use_session(&p, r->ehlo);
    assert_true(smtp_begin(p.m, &envelope, ret));
    speak(&p);
    serve(&p, r->server, step);
    if (r->eof)
        smtp_lost(p.m, true, "gone");
    if (r->said != NULL && strcmp(said(&p), r->said) != 0)
        fail_msg("%s/%zu: said %s", r->name, step, said(&p));
    for (size_t i = 0; i < RCPTS; i++)
        if (ret[i].verdict.kind != r->kind[i] ||
            ret[i].reply.code != r->code[i] || ret[i].stage != r->stage[i])
            fail_msg("%s/%zu: recipient %zu: %s %u at %s (%s)", r->name, step,
                     i, outcome_kind_name(ret[i].verdict.kind),
                     ret[i].reply.code, smtp_stage_name(ret[i].stage),
                     ret[i].verdict.meaning);
    if (smtp_state(p.m) != (r->end == END_READY ? SMTP_READY : SMTP_DEAD))
        fail_msg("%s/%zu: ended %s", r->name, step,
                 smtp_state_name(smtp_state(p.m)));
    play_close(&p);
}

static void
test_transactions(void **state)
{
    (void)state;
    assert_int_equal(strlen(content), 32);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        check_row(&rows[i], 0);
        check_row(&rows[i], 1);
        check_row(&rows[i], 13);
    }
}

/* Lost at every octet of the replies to one flight: what is not answered is
 * in doubt, what is answered stands, and nothing is left without a result. */
static void
test_lost_anywhere(void **state)
{
    static const char whole[] = OK OK NO_USER OK OK;

    (void)state;
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        char *part = strndup(whole, n);
        struct letter_result ret[RCPTS];
        struct play p;

        memset(ret, 0xee, sizeof ret);
        ready_session(&p, PIPE_CHUNK);
        assert_true(smtp_begin(p.m, &envelope, ret));
        speak(&p);
        serve(&p, part, 0);
        smtp_lost(p.m, false, "reset");
        assert_int_equal(ret[0].verdict.kind, OUTCOME_IN_DOUBT);
        assert_int_equal(ret[1].verdict.kind, n < strlen(OK OK NO_USER)
                                                  ? OUTCOME_IN_DOUBT
                                                  : OUTCOME_REFUSED);
        assert_int_equal(ret[2].verdict.kind, OUTCOME_IN_DOUBT);
        assert_int_equal(smtp_state(p.m), SMTP_DEAD);
        play_close(&p);
        free(part);
    }
}

/* Before the end of the content was handed over, nothing is in doubt. */
static void
test_lost_before_the_end(void **state)
{
    struct letter_result ret[RCPTS];
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_content(p.m, content, 31);
    smtp_output(p.m);
    smtp_written(p.m);
    smtp_lost(p.m, false, "reset");
    for (size_t i = 0; i < RCPTS; i++)
        assert_int_equal(ret[i].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);

    ready_session(&p, PIPE_CHUNK); /* all given, but never looked at */
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_content(p.m, content, 32);
    smtp_lost(p.m, false, "reset");
    assert_int_equal(ret[0].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);
}

/* A used session that was reset (not ended in order) may have got it all. */
static void
test_reset_of_used_session(void **state)
{
    struct letter_result ret[RCPTS];
    struct smtp_envelope e = envelope;
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    use_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &e, ret));
    speak(&p);
    smtp_lost(p.m, false, "reset");
    assert_int_equal(ret[0].verdict.kind, OUTCOME_IN_DOUBT);
    play_close(&p);

    /* Which is why an idle one is used carefully: no content before MAIL is
     * answered, so no doubt. */
    e.careful = true;
    ready_session(&p, PIPE_CHUNK);
    use_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &e, ret));
    speak(&p);
    assert_string_equal(said(&p), MAIL_SIZE RCPT);
    smtp_lost(p.m, false, "reset");
    assert_int_equal(ret[0].verdict.kind, OUTCOME_RECONNECT);
    play_close(&p);
}

static void
test_careful(void **state)
{
    /* The second: all answers to the envelope at once, while the content that
     * the first of them allows is not on the wire yet. */
    static const char *const servers[] = {OK "|" OK NO_USER OK OK,
                                          OK OK NO_USER OK "|" OK};
    struct letter_result ret[RCPTS];
    struct smtp_envelope e = envelope;
    struct play p;

    (void)state;
    e.careful = true;
    for (size_t i = 0; i < 4; i++) {
        size_t step = i % 2;

        ready_session(&p, PIPE_CHUNK);
        assert_true(smtp_begin(p.m, &e, ret));
        serve(&p, servers[i / 2], step);
        assert_string_equal(said(&p), MAIL_SIZE RCPT "BDAT 32 LAST\r\n" BODY);
        assert_int_equal(ret[0].verdict.kind, OUTCOME_SENT);
        assert_int_equal(ret[1].verdict.kind, OUTCOME_REFUSED);
        assert_int_equal(smtp_state(p.m), SMTP_READY);
        play_close(&p);

        ready_session(&p, PIPE_CHUNK); /* refused: no content at all */
        assert_true(smtp_begin(p.m, &e, ret));
        serve(&p, LIMIT "503 x\r\n503 x\r\n503 x\r\n", step);
        assert_string_equal(said(&p), MAIL_SIZE RCPT);
        assert_int_equal(ret[2].verdict.kind, OUTCOME_DEFERRED);
        assert_int_equal(smtp_state(p.m), SMTP_READY);
        play_close(&p);
    }
}

/* After a failed transaction RSET goes before the next, once, and its reply
 * is counted. */
static void
test_reset_after_failure(void **state)
{
    static const struct {
        const char *name, *ehlo, *first, *second, *said;
        enum outcome_kind kind;
        enum smtp_state end;
    } cases[] = {
        {"after a refusal", PIPE_CHUNK, OK OK OK OK LIMIT, OK OK OK OK OK OK,
         "RSET\r\n" MAIL_SIZE RCPT "BDAT 32 LAST\r\n" BODY, OUTCOME_SENT,
         SMTP_READY},
        {"after all recipients", PIPE_CHUNK,
         OK NO_USER NO_USER NO_USER "503 no\r\n", OK OK OK OK OK OK,
         "RSET\r\n" MAIL_SIZE RCPT "BDAT 32 LAST\r\n" BODY, OUTCOME_SENT,
         SMTP_READY},
        {"not after success", PIPE_CHUNK, OK OK NO_USER OK OK, OK OK OK OK OK,
         MAIL_SIZE RCPT "BDAT 32 LAST\r\n" BODY, OUTCOME_SENT, SMTP_READY},
        {"RSET refused", PIPE_CHUNK, OK OK OK OK LIMIT, "502 what\r\n", NULL,
         OUTCOME_DEFERRED, SMTP_DEAD},
        {"RSET: session ended", PIPE_CHUNK, OK OK OK OK LIMIT,
         "421 4.7.0 Connection expired, try reconnecting\r\n", NULL,
         OUTCOME_RECONNECT, SMTP_DEAD},
        {"in steps", BARE, LIMIT,
         OK "|" OK "|" OK "|" OK "|" OK "|354 go\r\n|" OK,
         "RSET\r\n" MAIL RCPT "DATA\r\n" STUFFED, OUTCOME_SENT, SMTP_READY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct letter_result ret[RCPTS];
        struct play p;

        ready_session(&p, cases[i].ehlo);
        assert_true(smtp_begin(p.m, &envelope, ret));
        speak(&p);
        serve(&p, cases[i].first, 0);
        assert_int_equal(smtp_state(p.m), SMTP_READY);
        p.given = 0;
        buf_clear(&p.said);
        assert_true(smtp_begin(p.m, &envelope, ret));
        speak(&p);
        serve(&p, cases[i].second, 1);
        if (cases[i].said != NULL && strcmp(said(&p), cases[i].said) != 0)
            fail_msg("%s: %s", cases[i].name, said(&p));
        if (ret[0].verdict.kind != cases[i].kind ||
            smtp_state(p.m) != cases[i].end)
            fail_msg("%s: %s, %s", cases[i].name,
                     outcome_kind_name(ret[0].verdict.kind),
                     smtp_state_name(smtp_state(p.m)));
        play_close(&p);
    }
}

/* A big message that is refused early is not written to its end. */
static void
test_big_message_refused_early(void **state)
{
    static const char *const replies[] = {"552 5.2.3 no\r\n",
                                          OK NO_USER NO_USER NO_USER,
                                          OK OK OK OK "552 5.3.4 no\r\n"};
    struct smtp_envelope e = envelope;
    char block[1000];

    (void)state;
    memset(block, 'x', sizeof block);
    e.size = 10 * 1000 * 1000;
    for (size_t i = 0; i < 3; i++) {
        struct letter_result ret[RCPTS];
        struct play p;

        ready_session(&p, "250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
        assert_true(smtp_begin(p.m, &e, ret));
        smtp_content(p.m, block, sizeof block);
        smtp_output(p.m);
        smtp_written(p.m);
        smtp_input(p.m, replies[i], strlen(replies[i]));
        assert_int_equal(smtp_state(p.m), SMTP_DEAD);
        assert_int_equal(smtp_want(p.m), SMTP_WANT_NOTHING);
        for (size_t k = 0; k < RCPTS; k++)
            assert_int_equal(ret[k].verdict.kind, OUTCOME_REFUSED);
        play_close(&p);
    }
}

/* A small one is, and the session goes on. */
static void
test_small_message_refused_early(void **state)
{
    struct letter_result ret[RCPTS];
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_content(p.m, content, 10);
    smtp_output(p.m);
    smtp_written(p.m);
    smtp_input(p.m, OK OK OK OK LIMIT, strlen(OK OK OK OK LIMIT));
    assert_int_equal(smtp_want(p.m), SMTP_WANT_CONTENT);
    p.given = 10;
    speak(&p);
    assert_int_equal(p.given, 32);
    assert_int_equal(smtp_state(p.m), SMTP_READY);
    assert_int_equal(ret[0].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);
}

/* "Accepted" before the server can have it all is a lie: not sent. */
static void
test_accepted_too_early(void **state)
{
    struct letter_result ret[RCPTS];
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_content(p.m, content, 10);
    smtp_output(p.m);
    smtp_written(p.m);
    smtp_input(p.m, OK OK OK OK OK, strlen(OK OK OK OK OK));
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    for (size_t i = 0; i < RCPTS; i++)
        assert_int_equal(ret[i].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);

    ready_session(&p, PIPE); /* the same, in the middle of DATA */
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_output(p.m);
    smtp_written(p.m);
    smtp_input(p.m, OK OK OK OK "354 go\r\n" OK,
               strlen(OK OK OK OK "354 go\r\n" OK));
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    assert_int_equal(ret[0].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);
}

/* The file behind the message failed: whatever was written, it is no whole
 * message, and the connection goes. */
static void
test_content_breaks_off(void **state)
{
    static const char *const ehlo[] = {PIPE_CHUNK, PIPE};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct letter_result ret[RCPTS];
        struct play p;

        ready_session(&p, ehlo[i]);
        assert_true(smtp_begin(p.m, &envelope, ret));
        if (i == 1) {
            smtp_output(p.m);
            smtp_written(p.m);
            smtp_input(p.m, OK OK OK OK "354 go\r\n",
                       strlen(OK OK OK OK "354 go\r\n"));
        }
        smtp_content(p.m, content, 20);
        smtp_output(p.m);
        smtp_written(p.m);
        smtp_content_end(p.m);
        assert_int_equal(smtp_state(p.m), SMTP_DEAD);
        assert_int_equal(ret[0].verdict.kind, OUTCOME_DEFERRED);
        play_close(&p);
    }
    struct letter_result ret[RCPTS];
    struct play p;

    ready_session(&p, PIPE_CHUNK); /* or it grew */
    assert_true(smtp_begin(p.m, &envelope, ret));
    smtp_content(p.m, BODY "x", 33);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    assert_int_equal(ret[0].verdict.kind, OUTCOME_DEFERRED);
    play_close(&p);
}

/* ---- what is refused here ---- */

struct local_row {
    const char *name, *ehlo, *mail_from, *rcpt;
    uint64_t size;
    bool is_8bit, utf8;
    const char *said; /* NULL: refused here with... */
    uint16_t code, subject, detail;
    enum outcome_scope scope;
};

static const struct local_row locals[] = {
    {"as large as it takes", PIPE_CHUNK, "s@x.org", "r@x.org", 1000, false,
     false,
     "MAIL FROM:<s@x.org> SIZE=1000\r\nRCPT TO:<r@x.org>\r\nBDAT 1000 LAST\r\n",
     0, 0, 0, 0},
    {"larger than it takes", PIPE_CHUNK, "s@x.org", "r@x.org", 1001, false,
     false, NULL, 552, 3, 4, SCOPE_MESSAGE},
    {"SIZE 0 is no limit", "250-x\r\n250-SIZE 0\r\n250 PIPELINING\r\n",
     "s@x.org", "r@x.org", 1 << 30, false, false,
     "MAIL FROM:<s@x.org> SIZE=1073741824\r\nRCPT TO:<r@x.org>\r\nDATA\r\n", 0,
     0, 0, 0},
    {"a limit past 64 bits",
     "250-x\r\n250-SIZE 99999999999999999999999\r\n250 PIPELINING\r\n",
     "s@x.org", "r@x.org", 7, false, false,
     "MAIL FROM:<s@x.org> SIZE=7\r\nRCPT TO:<r@x.org>\r\nDATA\r\n", 0, 0, 0, 0},
    {"null sender", PIPE, "", "r@x.org", 5, false, false,
     "MAIL FROM:<>\r\nRCPT TO:<r@x.org>\r\nDATA\r\n", 0, 0, 0, 0},
    {"8BITMIME", PIPE_CHUNK, "s@x.org", "r@x.org", 5, true, false,
     "MAIL FROM:<s@x.org> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<r@x.org>\r\n"
     "BDAT 5 LAST\r\n",
     0, 0, 0, 0},
    {"8BITMIME not offered", PIPE, "s@x.org", "r@x.org", 5, true, false,
     "MAIL FROM:<s@x.org>\r\nRCPT TO:<r@x.org>\r\nDATA\r\n", 0, 0, 0, 0},
    {"header needs SMTPUTF8", PIPE_CHUNK, "s@x.org", "r@x.org", 5, true, true,
     "MAIL FROM:<s@x.org> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n"
     "RCPT TO:<r@x.org>\r\nBDAT 5 LAST\r\n",
     0, 0, 0, 0},
    {"header needs SMTPUTF8, not offered", PIPE, "s@x.org", "r@x.org", 5, true,
     true, NULL, 550, 6, 7, SCOPE_MESSAGE},
    {"sender needs SMTPUTF8", PIPE, "s\xc3\xb6@x.org", "r@x.org", 5, false,
     false, NULL, 550, 6, 7, SCOPE_MESSAGE},
    {"recipient needs SMTPUTF8", PIPE, "s@x.org", "r\xc3\xb6@x.org", 5, false,
     false, NULL, 550, 6, 7, SCOPE_RECIPIENT},
    {"recipient with SMTPUTF8", PIPE_CHUNK, "s@x.org", "r\xc3\xb6@x.org", 5,
     false, false,
     "MAIL FROM:<s@x.org> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n"
     "RCPT TO:<r\xc3\xb6@x.org>\r\nBDAT 5 LAST\r\n",
     0, 0, 0, 0},
    {"line end in the recipient", PIPE, "s@x.org", "r@x.org>\r\nDATA\r\n", 5,
     false, false, NULL, 553, 1, 3, SCOPE_RECIPIENT},
    {"> in the recipient", PIPE, "s@x.org", "r@x.org> NOTIFY=NEVER", 5, false,
     false, NULL, 553, 1, 3, SCOPE_RECIPIENT},
    {"escaped line end in quotes", PIPE, "s@x.org", "\"a\\\r\nDATA\"@x", 5,
     false, false, NULL, 553, 1, 3, SCOPE_RECIPIENT},
    {"backslash at the very end", PIPE, "s@x.org", "\"a\\", 5, false, false,
     NULL, 553, 1, 3, SCOPE_RECIPIENT},
    {"empty recipient", PIPE, "s@x.org", "", 5, false, false, NULL, 553, 1, 3,
     SCOPE_RECIPIENT},
    {"quoted recipient", PIPE, "s@x.org", "\"a <b> \\\" c\"@x.org", 5, false,
     false,
     "MAIL FROM:<s@x.org>\r\nRCPT TO:<\"a <b> \\\" c\"@x.org>\r\nDATA\r\n", 0,
     0, 0, 0},
    {"line end in the sender", PIPE, "s@x.org>\r\nRSET", "r@x.org", 5, false,
     false, NULL, 553, 1, 7, SCOPE_MESSAGE},
    {"open quote in the sender", PIPE, "\"s@x.org", "r@x.org", 5, false, false,
     NULL, 553, 1, 7, SCOPE_MESSAGE},
};

static void
test_local(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof locals / sizeof *locals; i++) {
        const struct local_row *r = &locals[i];
        const char *rcpt[1] = {r->rcpt};
        struct smtp_envelope e = {r->mail_from, 1,       rcpt, r->size,
                                  r->is_8bit,   r->utf8, false};
        struct letter_result ret[1];
        struct slice out;
        struct play p;
        bool begun;

        ready_session(&p, r->ehlo);
        begun = smtp_begin(p.m, &e, ret);
        if (begun != (r->said != NULL))
            fail_msg("%s: %d", r->name, begun);
        out = smtp_output(p.m);
        if (begun) {
            if (!slice_eq(out, slice_of(r->said)))
                fail_msg("%s: %.*s", r->name, SLICE_FMT(out));
        } else {
            assert_int_equal(out.len, 0);
            assert_int_equal(smtp_state(p.m), SMTP_READY);
            if (ret->verdict.kind != OUTCOME_REFUSED ||
                ret->verdict.scope != r->scope || ret->reply.code != r->code ||
                ret->reply.enhanced.subject != r->subject ||
                ret->reply.enhanced.detail != r->detail)
                fail_msg("%s: %u %u.%u", r->name, ret->reply.code,
                         ret->reply.enhanced.subject,
                         ret->reply.enhanced.detail);
        }
        play_close(&p);
    }
}

/* One impossible recipient does not keep the others back. */
static void
test_local_among_others(void **state)
{
    static const char *const some[] = {"a@x.org", "b\r\n@x.org", "c@x.org"};
    struct smtp_envelope e = envelope;
    struct letter_result ret[3];
    struct play p;

    (void)state;
    e.rcpt = some;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &e, ret));
    serve(&p, OK OK NO_USER OK, 1);
    assert_string_equal(said(&p),
                        MAIL_SIZE "RCPT TO:<a@x.org>\r\nRCPT TO:<c@x.org>\r\n"
                                  "BDAT 32 LAST\r\n" BODY);
    assert_int_equal(ret[0].verdict.kind, OUTCOME_SENT);
    assert_int_equal(ret[1].reply.code, 553);
    assert_int_equal(ret[2].reply.code, 550);
    play_close(&p);
}

static void
test_over_a_hundred(void **state)
{
    const char *many[103];
    struct letter_result ret[103];
    struct smtp_envelope e = envelope;
    struct play p;

    (void)state;
    for (size_t i = 0; i < 103; i++)
        many[i] = "r@x.org";
    e.rcpt = many;
    e.n_rcpt = 103;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &e, ret));
    speak(&p);
    for (size_t i = 0; i < 102; i++)
        serve(&p, OK, 0);
    assert_int_equal(smtp_state(p.m), SMTP_READY);
    assert_int_equal(ret[99].verdict.kind, OUTCOME_SENT);
    for (size_t i = 100; i < 103; i++)
        assert_int_equal(ret[i].verdict.kind, OUTCOME_SPLIT);
    play_close(&p);
}

static void
test_not_ready(void **state)
{
    struct letter_result ret[RCPTS];
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    smtp_input(p.m, "421 bye\r\n", 9); /* spoke while idle */
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    assert_false(smtp_begin(p.m, &envelope, ret));
    assert_int_equal(ret[2].verdict.kind, OUTCOME_DEFERRED);
    assert_true(ret[2].verdict.close_session);
    play_close(&p);
}

/* Dots, wherever the content is cut. */
static void
test_stuffing(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 34; piece++) {
        struct letter_result ret[RCPTS];
        struct play p;

        ready_session(&p, PIPE);
        p.piece = piece;
        assert_true(smtp_begin(p.m, &envelope, ret));
        serve(&p, OK OK OK OK "354 go\r\n|" OK, 0);
        assert_string_equal(said(&p), MAIL RCPT "DATA\r\n" STUFFED);
        play_close(&p);
    }
}

/* A line without end is given up before it fills the memory. */
static void
test_endless(void **state)
{
    static char line[1 << 20];
    struct smtp_options o = options(SMTP_LOGIN_NONE, false, "");
    struct play p;

    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "220 ", 4);
    play_open(&p, &o);
    smtp_input(p.m, line, sizeof line);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    play_close(&p);

    play_open(&p, &o); /* lines without end, an octet at a time */
    for (size_t i = 0; i < 100000 && smtp_state(p.m) != SMTP_DEAD; i++)
        smtp_input(p.m, &"220-more\r\n"[i % 10], 1);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    play_close(&p);
}

static void
test_quit(void **state)
{
    struct play p;

    (void)state;
    ready_session(&p, PIPE);
    smtp_quit(p.m);
    speak(&p);
    assert_string_equal(said(&p), "QUIT\r\n");
    serve(&p, "221 2.0.0 closing connection\r\n", 1);
    assert_int_equal(smtp_state(p.m), SMTP_DEAD);
    assert_null(smtp_login_failure(p.m));
    play_close(&p);
}

static void
test_halve(void **state)
{
    struct letter_result ret[RCPTS];
    struct play p;

    (void)state;
    ready_session(&p, PIPE_CHUNK);
    assert_true(smtp_begin(p.m, &envelope, ret));
    speak(&p);
    assert_false(smtp_halve(p.m));
    serve(&p,
          OK OK OK OK "421 4.3.0 Temporary System Problem.  Try again later "
                      "(10). x\r\n",
          0);
    assert_true(smtp_halve(p.m));
    play_close(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logins),
        cmocka_unit_test(test_login_cut_anywhere),
        cmocka_unit_test(test_long_initial_response),
        cmocka_unit_test(test_unspeakable_secret),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_lost_anywhere),
        cmocka_unit_test(test_lost_before_the_end),
        cmocka_unit_test(test_reset_of_used_session),
        cmocka_unit_test(test_careful),
        cmocka_unit_test(test_reset_after_failure),
        cmocka_unit_test(test_big_message_refused_early),
        cmocka_unit_test(test_small_message_refused_early),
        cmocka_unit_test(test_accepted_too_early),
        cmocka_unit_test(test_content_breaks_off),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_local_among_others),
        cmocka_unit_test(test_over_a_hundred),
        cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_stuffing),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_halve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
