/* tests/unit/deliver/test_smtp_login.c - greeting to login, with servers
 * that are written down.
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logins),
        cmocka_unit_test(test_login_cut_anywhere),
        cmocka_unit_test(test_long_initial_response),
        cmocka_unit_test(test_unspeakable_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
