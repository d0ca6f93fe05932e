/* tests/unit/deliver/test_lmtp.c - mirrors milter/deliver/lmtp.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/lmtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* What a whole dialogue came to: events and content in order, and all that
 * was answered. */
struct heard {
    struct buf events, content, replies;
    bool closed;
};

static void
take_output(struct lmtp *l, struct heard *h)
{
    buf_add(&h->replies, l->out.at, l->out.len);
    buf_clear(&l->out);
}

/* Answers as a friendly agent would. */
static void
work(struct lmtp *l, struct heard *h)
{
    for (;;) {
        switch (lmtp_next(l)) {
        case LMTP_NEED_INPUT:
            take_output(l, h);
            return;
        case LMTP_MAIL:
            buf_printf(&h->events, "mail(%.*s) ", SLICE_FMT(l->path));
            lmtp_answer(l, "250 2.1.0 OK");
            break;
        case LMTP_RCPT:
            buf_printf(&h->events, "rcpt(%.*s) ", SLICE_FMT(l->path));
            lmtp_answer(l, "250 2.1.5 OK");
            break;
        case LMTP_DATA:
            buf_add_text(&h->events, "data ");
            lmtp_answer(l, "354 Go ahead");
            break;
        case LMTP_CONTENT:
            buf_add(&h->content, l->content.at, l->content.len);
            break;
        case LMTP_END:
            buf_add_text(&h->events, "end ");
            lmtp_answer(l, "250 2.0.0 sent");
            lmtp_end(l);
            break;
        case LMTP_RESET:
            buf_add_text(&h->events, "reset ");
            break;
        case LMTP_CLOSE:
            take_output(l, h);
            h->closed = true;
            return;
        }
    }
}

/* Plays `in`, cut into pieces of `step` octets; 0 = whole. */
static void
play(const char *in, size_t len, size_t step, struct heard *h)
{
    struct lmtp l;

    *h = (struct heard){0};
    buf_init(&h->events, 1 << 16);
    buf_init(&h->content, 1 << 16);
    buf_init(&h->replies, 1 << 16);
    lmtp_init(&l, "relay.test");
    work(&l, h);
    for (size_t at = 0; at < len && !h->closed;) {
        size_t n = step == 0 || step > len - at ? len - at : step;

        assert_true(lmtp_feed(&l, in + at, n));
        work(&l, h);
        at += n;
    }
    lmtp_free(&l);
    buf_add(&h->events, "", 1);
    buf_add(&h->content, "", 1);
    buf_add(&h->replies, "", 1);
}

static void
heard_free(struct heard *h)
{
    buf_free(&h->events);
    buf_free(&h->content);
    buf_free(&h->replies);
}

#define OPEN        "LHLO mta\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
#define OPEN_EVENTS "reset mail(a@b) rcpt(c@d) data "

static const struct row {
    const char *name, *in, *events, *content, *reply; /* part of all replies */
} rows[] = {
    {"one message", OPEN "x\r\n.\r\nQUIT\r\n", OPEN_EVENTS "end ", "x\r\n",
     "250 2.0.0 sent\r\n221 "},
    {"stuffed dots", OPEN "..\r\n..x\r\nx.\r\n.\r\n", OPEN_EVENTS "end ",
     ".\r\n.x\r\nx.\r\n", "250 2.0.0 sent"},
    {"no content", OPEN ".\r\n", OPEN_EVENTS "end ", "", "250 2.0.0 sent"},
    {"a bare LF ends no line", OPEN "x\n.\n.\r\n.\r\n", OPEN_EVENTS "end ",
     "x\n.\n.\r\n", "250 2.0.0 sent"},
    {"LF dot CRLF is no end", OPEN "x\n.\r\ny\r\n.\r\n", OPEN_EVENTS "end ",
     "x\n.\r\ny\r\n", "250 2.0.0 sent"},
    {"CRLF dot LF is no end", OPEN "x\r\n.\ny\r\n.\r\n", OPEN_EVENTS "end ",
     "x\r\n\ny\r\n", "250 2.0.0 sent"},
    {"CRLF dot CR is no end", OPEN "x\r\n.\ry\r\n.\r\n", OPEN_EVENTS "end ",
     "x\r\n\ry\r\n", "250 2.0.0 sent"},
    {"CRLF dot CR CR LF is no end", OPEN "x\r\n.\r\r\n.\r\n",
     OPEN_EVENTS "end ", "x\r\n\r\r\n", "250 2.0.0 sent"},
    {"CR dot CR is no end", OPEN "x\r.\ry\r\n.\r\n", OPEN_EVENTS "end ",
     "x\r.\ry\r\n", "250 2.0.0 sent"},
    {"two messages", OPEN "x\r\n.\r\nMAIL FROM:<>\r\nRSET\r\n",
     OPEN_EVENTS "end mail() reset ", "x\r\n", "250 2.0.0 sent"},
    {"quoted local part with >",
     "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<\"a>b\\\"\"@c>\r\n",
     "reset mail(a@b) rcpt(\"a>b\\\"\"@c) ", "", "250 2.1.5"},
    {"no recipient", "LHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n",
     "reset mail(a@b) ", "", "503 5.5.1 No valid recipients"},
    {"MAIL before LHLO", "MAIL FROM:<a@b>\r\n", "", "", "503 5.5.1 LHLO"},
    {"not SMTP", "EHLO x\r\n", "", "", "500 5.5.1 This is LMTP"},
    {"bare LF in a command", "LHLO x\nNOOP\r\n", "", "", "500 5.5.2 Control"},
    {"bare LF in an address", "LHLO x\r\nMAIL FROM:<a\nRCPT TO:<v@w>@b>\r\n",
     "reset ", "", "500 5.5.2 Control"},
    {"DSN is not offered",
     "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\n",
     "reset mail(a@b) ", "", "555 5.5.4"},
    {"no brackets", "LHLO x\r\nMAIL FROM:a@b\r\n", "reset ", "", "501 5.5.4"},
    {"as large as can be", "LHLO x\r\nMAIL FROM:<a@b> SIZE=157286400\r\n",
     "reset mail(a@b) ", "", "250-SIZE 157286400\r\n"},
    {"larger", "LHLO x\r\nMAIL FROM:<a@b> SIZE=157286401\r\n", "reset ", "",
     "552 5.3.4"},
    {"larger than 64 bits",
     "LHLO x\r\nMAIL FROM:<a@b> SIZE=99999999999999999999999\r\n", "reset ", "",
     "552 5.3.4"},
};

static void
each_dialogue_however_it_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        char first[4096];

        print_message("  %s\n", t->name);
        for (size_t step = 0; step <= 7; step++) {
            struct heard h;

            play(t->in, strlen(t->in), step, &h);
            assert_string_equal(h.events.at, t->events);
            assert_string_equal(h.content.at, t->content);
            assert_non_null(strstr(h.replies.at, t->reply));
            if (step == 0)
                strcpy(first, h.replies.at);
            assert_string_equal(h.replies.at, first);
            heard_free(&h);
        }
    }
}

static void
nul_and_overlong_lines_are_refused(void **state)
{
    static const char nul[] = "LHLO x\r\nMAIL FROM:<a\0b@c>\r\nNOOP\r\n";
    char longer[LMTP_LINE_MAX * 3];
    struct heard h;

    (void)state;
    play(nul, sizeof nul - 1, 0, &h);
    assert_string_equal(h.events.at, "reset ");
    assert_non_null(strstr(h.replies.at, "500 5.5.2 Control"));
    heard_free(&h);

    memset(longer, 'x', sizeof longer);
    memcpy(longer + sizeof longer - 8, "\r\nNOOP\r\n", 8);
    for (size_t step = 0; step <= 1000; step += 500) {
        play(longer, sizeof longer, step, &h);
        assert_non_null(strstr(h.replies.at, "500 5.5.6 Line too long\r\n250"));
        heard_free(&h);
    }
}

static void
too_many_recipients_are_refused(void **state)
{
    static const char rcpt[] = "RCPT TO:<c@d>\r\n";
    struct buf in;
    struct heard h;
    size_t n = 0;

    (void)state;
    buf_init(&in, 1 << 20);
    buf_add_text(&in, "LHLO x\r\nMAIL FROM:<a@b>\r\n");
    for (unsigned i = 0; i < LMTP_RECIPIENTS_MAX + 2; i++)
        buf_add_text(&in, rcpt);
    play(in.at, in.len, 4096, &h);
    for (const char *at = h.events.at; (at = strstr(at, "rcpt(")) != NULL; at++)
        n++;
    assert_int_equal(n, LMTP_RECIPIENTS_MAX);
    assert_non_null(strstr(h.replies.at, "452 4.5.3 Too many recipients\r\n"
                                         "452 4.5.3"));
    assert_false(h.closed);
    heard_free(&h);
    buf_free(&in);
}

/* Counted as it comes, and no further than is asked. */
static void
content_past_the_limit_is_told(void **state)
{
    static char block[LMTP_INPUT_MAX / 2];
    struct lmtp l;
    struct heard h = {0};
    uint64_t fed = 0, before;

    (void)state;
    memset(block, 'x', sizeof block);
    buf_init(&h.events, 1 << 16);
    buf_init(&h.content, 1 << 16); /* keeps the first of it alone */
    buf_init(&h.replies, 1 << 16);
    lmtp_init(&l, "relay.test");
    assert_true(lmtp_feed(&l, OPEN, strlen(OPEN)));
    work(&l, &h);
    assert_true(lmtp_in_content(&l));
    before = l.progress;
    assert_true(lmtp_feed(&l, block, 100));
    work(&l, &h);
    assert_int_equal(l.progress, before); /* a drop is no progress */
    for (fed = 100; fed + sizeof block <= LMTP_SIZE_MAX; fed += sizeof block) {
        assert_true(lmtp_feed(&l, block, sizeof block));
        work(&l, &h);
    }
    assert_int_equal(l.progress - before, fed / LMTP_PROGRESS);
    assert_false(lmtp_is_too_large(&l));
    assert_true(lmtp_feed(&l, block, sizeof block));
    work(&l, &h);
    assert_true(lmtp_is_too_large(&l));
    assert_true(lmtp_feed(&l, "\r\n.\r\n", 5));
    before = l.progress;
    work(&l, &h);
    assert_int_equal(l.progress, before + 1);
    assert_false(lmtp_in_content(&l));
    assert_false(lmtp_is_too_large(&l)); /* the next one begins at 0 */
    lmtp_free(&l);
    heard_free(&h);
}

static void
too_many_errors_end_it(void **state)
{
    char in[LMTP_ERRORS_MAX * 5 + 1] = "";
    struct heard h;

    (void)state;
    for (unsigned i = 0; i < LMTP_ERRORS_MAX; i++)
        memcpy(in + i * 5, "bad\r\n", 6);
    play(in, strlen(in), 0, &h);
    assert_true(h.closed);
    assert_non_null(strstr(h.replies.at, "421 4.7.0 Too many errors"));
    heard_free(&h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_dialogue_however_it_is_cut),
        cmocka_unit_test(nul_and_overlong_lines_are_refused),
        cmocka_unit_test(too_many_recipients_are_refused),
        cmocka_unit_test(content_past_the_limit_is_told),
        cmocka_unit_test(too_many_errors_end_it),
    };

    return cmocka_run_group_tests_name("deliver/lmtp", tests, NULL, NULL);
}
