/* tests/unit/deliver/test_smtp.c - transactions with servers that are
 * written down, some of them liars.
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

/* ---- transactions ---- */

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
