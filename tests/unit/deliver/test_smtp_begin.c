/* tests/unit/deliver/test_smtp_begin.c - what the client refuses or cuts by
 * itself, and how it ends.
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
