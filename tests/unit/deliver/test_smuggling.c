/* tests/unit/deliver/test_smuggling.c - a second message inside the first:
 * from the MTA's octets to Gmail's, through all that is between.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The forms are those of "SMTP Smuggling" (SEC Consult, 2023) and of what was
 * found after it: ends of data that one server takes for text and the next one
 * for the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/base/buf.h"
#include "milter/deliver/lmtp.h"
#include "milter/deliver/message.h"
#include "milter/deliver/pool.h"
#include "milter/deliver/smtp.h"

#define S(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }

/* clang-format off */
static const struct slice forms[] = {
    S("\n.\n"), S("\n.\r"), S("\n.\r\n"), S("\n.\r\r\n"),
    S("\r.\n"), S("\r.\r"), S("\r.\r\n"), S("\r.\r\r\n"),
    S("\r\n.\n"), S("\r\n.\r"), S("\r\n.\r\r\n"), S("\r\r\n.\n"),
    S("\r\n\0.\r\n"), S("\r\n\0\0.\r\n"), S("\r\n\0.\n"),
    S("\n\0.\r\n"), S("\r\0.\r\0\n"), S("\r\n.\0\r\n"),
    S("\r\n.\0\n"), S("\r\0\n.\r\0\n"), S("\r\n..\n"), S("\n..\n"),
    S("\n.\n.\n"), S("\r\n\t.\r\n"), S("\r\n .\n"), S("\n\r.\n\r"),
};
/* clang-format on */

/* How somebody further on reads lines. */
enum { LF_ENDS = 1, CR_ENDS = 2, NUL_IS_NOTHING = 4, READERS = 8 };

/* Octets of text up to and with the first line that is a dot; 0 = none. */
static size_t
end_of_data(struct slice text, int reader)
{
    size_t len = 0; /* of the line so far, as the reader sees it */
    bool dot = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool end = (c == '\n' && i > 0 && text.at[i - 1] == '\r') ||
                   (c == '\n' && (reader & LF_ENDS) != 0) ||
                   (c == '\r' && (reader & CR_ENDS) != 0);

        if (end && dot && len == 1)
            return i + 1;
        if (end) {
            len = 0;
        } else if (c == '\r' && i + 1 < text.len && text.at[i + 1] == '\n') {
            continue;
        } else if (c != '\0' || (reader & NUL_IS_NOTHING) == 0) {
            dot = len == 0 && c == '.';
            len++;
        }
    }
    return 0;
}

/* ---- in ---- */

/* What the server hears as content of the one message there is. */
static struct message *
receive(struct slice content)
{
    static const char open[] =
        "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    struct message *m = message_new("/tmp");
    unsigned ends = 0, mails = 0;
    struct lmtp l;
    char err[200];

    assert_non_null(m);
    lmtp_init(&l, "relay.test");
    assert_true(lmtp_feed(&l, open, sizeof open - 1));
    assert_true(lmtp_feed(&l, content.at, content.len));
    assert_true(lmtp_feed(&l, "\r\n.\r\n", 5));
    for (enum lmtp_event e; (e = lmtp_next(&l)) != LMTP_NEED_INPUT;) {
        mails += e == LMTP_MAIL;
        ends += e == LMTP_END;
        if (e == LMTP_CONTENT)
            assert_true(message_add(m, l.content.at, l.content.len, err, 200));
        else if (e != LMTP_RESET)
            lmtp_answer(&l, e == LMTP_DATA ? "354 go" : "250 ok");
        if (e == LMTP_END)
            lmtp_end(&l);
    }
    assert_int_equal(mails, 1);
    assert_int_equal(ends, 1);
    lmtp_free(&l);
    assert_true(message_end(m, err, sizeof err));
    return m;
}

/* ---- out ---- */

static void
speak(struct smtp *s, struct message_copy *copy, struct buf *said)
{
    for (;;) {
        char block[37]; /* cut in odd places */
        struct slice out;
        size_t n = 0;

        switch (smtp_want(s)) {
        case SMTP_WANT_CONTENT:
            assert_true(message_copy_read(copy, block, sizeof block, &n));
            if (n == 0)
                smtp_content_end(s);
            else
                smtp_content(s, block, n);
            break;
        case SMTP_WANT_WRITE:
            out = smtp_output(s);
            buf_add(said, out.at, out.len);
            smtp_written(s);
            break;
        default:
            return;
        }
    }
}

static void
hear(struct smtp *s, const char *replies)
{
    smtp_input(s, replies, strlen(replies));
}

/* All that goes out for it from MAIL on. */
static struct buf
send_out(const struct message *m, bool chunking)
{
    static struct account account = {.address = "a@b"};
    static struct mailbox mailbox = {
        .account = &account, .id = 1, .address = "a@b"};
    struct copy_options how = {
        .mailbox = &mailbox, .sender = "a@b", .hostname = "relay.test"};
    struct smtp_options o = {.hostname = "relay.test"};
    struct message_copy *copy = message_copy_new(m, &how);
    const char *rcpt[] = {"c@d"};
    struct smtp_envelope e = {.mail_from = "a@b", .n_rcpt = 1, .rcpt = rcpt};
    struct smtp *s = smtp_new(&o);
    struct letter_result result;
    struct buf said;

    assert_true(s != NULL && copy != NULL);
    buf_init(&said, 1 << 20);
    hear(s, "220 x\r\n");
    speak(s, copy, &said);
    hear(s, chunking ? "250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
                     : "250-x\r\n250 PIPELINING\r\n");
    speak(s, copy, &said);
    buf_clear(&said);
    e.size = message_copy_size(copy);
    assert_true(smtp_begin(s, &e, &result));
    speak(s, copy, &said);
    hear(s, "250 ok\r\n250 ok\r\n");
    if (!chunking)
        hear(s, "354 go\r\n");
    speak(s, copy, &said);
    hear(s, "250 sent\r\n");
    assert_int_equal(result.verdict.kind, OUTCOME_SENT);
    smtp_free(s);
    message_copy_free(copy);
    return said;
}

/* The part of it behind the line that ends in `command`. */
static struct slice
behind(const struct buf *said, const char *command)
{
    struct slice s = buf_slice(said);
    const char *at = memmem(s.at, s.len, command, strlen(command)), *end;

    assert_non_null(at);
    end = memmem(at, s.len - (size_t)(at - s.at), "\r\n", 2);
    return slice_from(s, (size_t)(end + 2 - s.at));
}

/* What the next hop gets of a message that came by BDAT: stuffed at the lines
 * that end in CRLF, and no others. */
static struct buf
stuffed(struct slice text)
{
    struct buf b;
    bool start = true;

    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < text.len; i++) {
        if (start && text.at[i] == '.')
            buf_add(&b, ".", 1);
        buf_add(&b, text.at + i, 1);
        start = text.at[i] == '\n' && i > 0 && text.at[i - 1] == '\r';
    }
    buf_add_text(&b, ".\r\n");
    return b;
}

/* Whoever reads it finds the end where it is, and nowhere before. */
static void
check_one_message(size_t form, const char *how, struct slice text)
{
    for (int reader = 0; reader < READERS; reader++) {
        size_t end = end_of_data(text, reader);

        /* For whoever takes a CR for an end, the LF is what is left of it. */
        if (end + ((reader & CR_ENDS) != 0) != text.len)
            fail_msg("form %zu, %s, reader %d: ends at %zu of %zu: %.*s", form,
                     how, reader, end, text.len, SLICE_FMT(text));
    }
}

static void
check_form(size_t form, bool in_header)
{
    struct buf content, out, next;
    struct message *m;

    buf_init(&content, 1 << 16);
    buf_add_text(&content, in_header ? "Subject: x" : "Subject: x\r\n\r\ntext");
    buf_add(&content, forms[form].at, forms[form].len);
    buf_add_text(&content, "MAIL FROM:<evil@x>\r\nRCPT TO:<victim@y>\r\n"
                           "DATA\r\nSubject: evil\r\n\r\nevil");
    m = receive(buf_slice(&content));

    out = send_out(m, false);
    check_one_message(form, "DATA", behind(&out, "DATA\r\n"));
    buf_free(&out);
    out = send_out(m, true);
    next = stuffed(behind(&out, "BDAT "));
    check_one_message(form, "BDAT", buf_slice(&next));
    buf_free(&next);
    buf_free(&out);
    message_free(m);
    buf_free(&content);
}

static void
no_form_gets_through(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        check_form(i, false);
        check_form(i, true);
    }
}

/* The readers do find what a server without our care would send. */
static void
the_forms_are_dangerous(void **state)
{
    size_t found = 0;

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        bool danger = false;

        for (int reader = 0; reader < READERS; reader++)
            danger |= end_of_data(forms[i], reader) != 0;
        found += danger;
    }
    assert_true(found >= 18);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_form_gets_through),
        cmocka_unit_test(the_forms_are_dangerous),
    };

    return cmocka_run_group_tests_name("deliver/smuggling", tests, NULL, NULL);
}
