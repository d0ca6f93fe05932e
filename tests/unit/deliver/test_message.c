/* tests/unit/deliver/test_message.c - content in, Gmail's copy out.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/message.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "milter/base/buf.h"

static struct account account = {.address = "sales@example.com"};
static struct mailbox mailbox = {
    .account = &account, .id = 1, .address = "sales@example.com"};

static const struct copy_options keep = {
    .mailbox = &mailbox,
    .from = FROM_KEEP,
    .sender = "bob@example.org",
    .hostname = "relay.example.com",
    .now_s = 1795485157, /* Tue, 24 Nov 2026 01:52:37 UTC */
    .ticket = 0x1234,
};

/* Content in pieces of `piece` octets. */
static struct message *
load(struct slice text, size_t piece)
{
    struct message *m = message_new("/tmp");
    char err[200] = "";

    assert_non_null(m);
    while (text.len > 0) {
        size_t n = text.len < piece ? text.len : piece;

        if (!message_add(m, text.at, n, err, sizeof err))
            fail_msg("%s", err);
        text = slice_from(text, n);
    }
    if (!message_end(m, err, sizeof err))
        fail_msg("%s", err);
    return m;
}

/* All of the copy, read in pieces; the length announced is the length read. */
static struct buf
copy_of(const struct message *m, const struct copy_options *o, size_t piece)
{
    struct message_copy *c = message_copy_new(m, o);
    struct buf all;
    size_t n = 1;

    assert_non_null(c);
    buf_init(&all, SIZE_MAX - 1);
    for (int again = 0; again < 2; again++) { /* rewound, it is the same */
        struct buf b;

        buf_init(&b, SIZE_MAX - 1);
        message_copy_rewind(c);
        do {
            char *to = malloc(piece);

            assert_true(message_copy_read(c, to, piece, &n));
            assert_true(n <= piece);
            assert_true(buf_add(&b, to, n));
            free(to);
        } while (n > 0);
        assert_true(message_copy_read(c, (char[1]){0}, 1, &n) && n == 0);
        assert_int_equal(b.len, message_copy_size(c));
        if (again)
            assert_true(slice_eq(buf_slice(&b), buf_slice(&all)));
        buf_free(&all);
        all = b;
    }
    message_copy_free(c);
    return all;
}

static void
expect_copy(const char *name, const struct message *m,
            const struct copy_options *o, size_t piece, struct slice want)
{
    struct buf got = copy_of(m, o, piece);

    if (!slice_eq(buf_slice(&got), want))
        fail_msg("%s/%zu: got <%.*s>", name, piece, SLICE_FMT(got));
    buf_free(&got);
}

#define ID   "Message-ID: <1@x>\r\n"
#define DATE "Date: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
#define ADDED_ID \
    "Message-ID: <0000000000001234.686b5e4cf4f963ad@example.org>\r\n"
#define ADDED_DATE "Date: Tue, 24 Nov 2026 01:52:37 +0000\r\n"
#define S(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }

struct row {
    const char *name;
    struct slice in, out; /* out empty: the same */
};

static const struct row rows[] = {
    {"plain", S(ID DATE "Subject: x\r\n\r\nHello\r\n"), S("")},
    {"folds, cases, odd spaces",
     S("rEcEiVeD: a\r\n\tb\r\n c\r\n" ID "date : x\r\nX-Empty:\r\n\r\nb\r\n"),
     S("")},
    {"empty body", S(ID DATE "\r\n"), S("")},
    {"empty lines at the end", S(ID DATE "\r\nx\r\n\r\n\r\n"), S("")},
    {"dots and 8 bit and NUL", S(ID DATE "\r\n.\r\n..\r\n\xff\0z\r\n"), S("")},
    {"body looks like a header", S(ID DATE "\r\nBcc: x\r\n\r\nBcc: y\r\n"),
     S("")},
    {"long line", S(ID DATE "\r\n0123456789012345678901234567890\r\n"), S("")},

    {"no blank line, no body", S(ID DATE), S(ID DATE "\r\n")},
    {"no end of the last line", S(ID DATE "\r\nx"), S(ID DATE "\r\nx\r\n")},
    {"header without its last line end", S(ID "Date: x"),
     S(ID "Date: x\r\n\r\n")},
    {"blank line forgotten", S(ID DATE "this is no field\r\nBcc: x\r\n"),
     S(ID DATE "\r\nthis is no field\r\nBcc: x\r\n")},
    {"body alone", S("\r\nx\r\n"), S(ADDED_ID ADDED_DATE "\r\nx\r\n")},
    {"no header at all", S("hello there\r\n"),
     S(ADDED_ID ADDED_DATE "\r\nhello there\r\n")},
    {"begins with a fold", S(" x: y\r\n" ID "\r\n"),
     S(ADDED_ID ADDED_DATE "\r\n x: y\r\n" ID "\r\n")},
    {"nothing", S(""), S(ADDED_ID ADDED_DATE "\r\n")},

    {"bare LF", S("Message-ID: <1@x>\nDate: x\n\na\n.\nb\r\n"),
     S(ID "Date: x\r\n\r\na\r\n.\r\nb\r\n")},
    {"bare CR", S("Message-ID: <1@x>\rDate: x\r\ra\r.\rb"),
     S(ID "Date: x\r\n\r\na\r\n.\r\nb\r\n")},
    {"smuggled end with LF", S(ID DATE "\r\na\n.\r\nMAIL FROM:<>\r\n"),
     S(ID DATE "\r\na\r\n.\r\nMAIL FROM:<>\r\n")},
    {"smuggled end with CR", S(ID DATE "\r\na\r.\rMAIL FROM:<>\r\n"),
     S(ID DATE "\r\na\r\n.\r\nMAIL FROM:<>\r\n")},
    {"CR CR LF is one line end", S(ID "Date: x\r\r\n\r\na\r\r\n\r\r\nb\r\n"),
     S(ID "Date: x\r\n\r\na\r\n\r\nb\r\n")},
    {"CR at the very end", S(ID DATE "\r\na\r"), S(ID DATE "\r\na\r\n")},
    {"LF CR", S(ID DATE "\r\na\n\rb\r\n"), S(ID DATE "\r\na\r\n\r\nb\r\n")},
    {"equal lengths, different octets", S(ID DATE "\r\na\r\r\nb\nc\r\n"),
     S(ID DATE "\r\na\r\nb\r\nc\r\n")},
    {"NULs before a dot", S(ID DATE "\r\na\r\n\0\0.\r\nb\0.\r\n"),
     S(ID DATE "\r\na\r\n.\r\nb\0.\r\n")},
    {"NUL behind a bare CR", S(ID DATE "\r\na\r\0.\r\nb\r\n"),
     S(ID DATE "\r\na\r\n.\r\nb\r\n")},
    {"field hidden behind a NUL", S(ID DATE "\0Bcc: me@x\r\n\r\nb\r\n"),
     S(ID DATE "\r\nb\r\n")},
    {"body of NULs alone", S(ID DATE "\r\n\0\0"), S(ID DATE "\r\n")},
    {"field hidden behind a CR", S(ID DATE "X: y\rBcc: me@x\r\n\r\nb\r\n"),
     S(ID DATE "X: y\r\n\r\nb\r\n")},
    {"field hidden behind an LF", S(ID DATE "X: y\nBcc: me@x\r\n\r\nb\r\n"),
     S(ID DATE "X: y\r\n\r\nb\r\n")},

    {"Bcc", S(ID "Bcc: a@x,\r\n b@x,\r\n\tc@x\r\n" DATE "BCC:d\r\n\r\nb\r\n"),
     S(ID DATE "\r\nb\r\n")},
    {"Resent-Bcc, and names like it",
     S(ID "Resent-Bcc: a\r\nX-Bcc: b\r\nBccx: c\r\n" DATE "bcc : d\r\n\r\n"),
     S(ID "X-Bcc: b\r\nBccx: c\r\n" DATE "\r\n")},
    {"Bcc last, without line end", S(ID DATE "Bcc: a"), S(ID DATE "\r\n")},
    {"no Message-ID", S(DATE "\r\nb\r\n"), S(DATE ADDED_ID "\r\nb\r\n")},
    {"blank Message-ID", S("Message-ID: \r\n \r\n" DATE "\r\nb\r\n"),
     S(DATE ADDED_ID "\r\nb\r\n")},
    {"no Date", S(ID "X: y\r\n\r\nb\r\n"),
     S(ID "X: y\r\n" ADDED_DATE "\r\nb\r\n")},
    {"odd Message-ID and Date stay", S("message-id: me\r\nDATE: now\r\n\r\n"),
     S("")},
    {"Resent-Date is not Date", S(ID "Resent-Date: x\r\n\r\n"),
     S(ID "Resent-Date: x\r\n" ADDED_DATE "\r\n")},
};

static void
test_rows(void **state)
{
    static const size_t pieces[] = {1, 2, 7, 100000};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];

        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            struct message *m = load(r->in, pieces[k]);

            assert_int_equal(message_size(m), r->in.len);
            expect_copy(r->name, m, &keep, pieces[k],
                        r->out.len > 0 ? r->out : r->in);
            message_free(m);
        }
    }
}

/* ---- what is known of it ---- */

static void
test_message_id(void **state)
{
    static const struct {
        const char *header, *id;
    } ids[] = {
        {"Message-ID: <a@b>\r\n", "<a@b>"},
        {"MESSAGE-id:\r\n <a@b>\r\n", "<a@b>"},
        {"Message-ID: (c) <a@b> (d)\r\n", "<a@b>"},
        {"Message-ID: bare\r\n", "bare"},
        {"Message-ID: <un\r\n closed\r\n", "<un?? closed"},
        {"Message-ID: ><\r\n", "><"},
        {"Message-ID: \r\nMessage-ID: <2@b>\r\n", "<2@b>"},
        {"Message-ID: <1@b>\r\nMessage-ID: <2@b>\r\n", "<1@b>"},
        {"Subject: x\r\n", ""},
        {"X: y\r\n\r\nMessage-ID: <a@b>\r\n", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct message *m = load(slice_of(ids[i].header), 5);

        assert_string_equal(message_id(m), ids[i].id);
        message_free(m);
    }
}

static void
test_digest(void **state)
{
    static const char text[] = "<1@x>\0body\r\n";
    struct message *m = load(SLICE_LIT("A: b\r\n" ID "\r\nbody\r\n"), 3);
    struct message *same =
        load(SLICE_LIT(ID "Received: later\r\n\r\nbody\r\n"), 100);
    struct message *other_id =
        load(SLICE_LIT("Message-ID: <2@x>\r\n\r\nbody\r\n"), 100);
    struct message *other_body = load(SLICE_LIT(ID "\r\nBody\r\n"), 100);
    uint8_t want[32];

    (void)state;
    SHA256((const unsigned char *)text, sizeof text - 1, want);
    assert_memory_equal(message_digest(m)->octet, want, 32);
    assert_memory_equal(message_digest(same)->octet, want, 32);
    assert_memory_not_equal(message_digest(other_id)->octet, want, 32);
    assert_memory_not_equal(message_digest(other_body)->octet, want, 32);
    message_free(m);
    message_free(same);
    message_free(other_id);
    message_free(other_body);
}

static void
test_octets(void **state)
{
    static const struct {
        const char *text;
        bool is_8bit, utf8;
    } cases[] = {
        {"A: b\r\n\r\nc\r\n", false, false},
        {"A: b\r\n\r\n\xc3\xb6\r\n", true, false},
        {"A: \xc3\xb6\r\n\r\nc\r\n", true, true},
        {"no field \xc3\xb6\r\n", true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct message *m = load(slice_of(cases[i].text), 2);

        assert_int_equal(message_is_8bit(m), cases[i].is_8bit);
        assert_int_equal(message_needs_utf8(m), cases[i].utf8);
        message_free(m);
    }
}

/* ---- large ones ---- */

static struct buf
large(size_t size, const char *end)
{
    struct buf b;
    uint32_t x = 12345;

    buf_init(&b, SIZE_MAX - 1);
    buf_add_text(&b, ID DATE "\r\n");
    while (b.len < size) {
        x = x * 1664525 + 1013904223;
        buf_printf(&b, "%08x%s", (unsigned)x, x % 9 == 0 ? "\r\n" : "");
    }
    buf_add_text(&b, end);
    assert_false(buf_failed(&b));
    return b;
}

static void
test_sizes_around_the_spill(void **state)
{
    static const size_t sizes[] = {MESSAGE_MEMORY - 9, MESSAGE_MEMORY,
                                   MESSAGE_MEMORY + 1, 2 * MESSAGE_MEMORY + 5,
                                   5000000};
    static const char *const ends[] = {"\r\n", "", "\n", "\r"};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < 4; k++) {
            struct buf in = large(sizes[i], ends[k]);
            struct message *m = load(buf_slice(&in), 10007);
            struct buf want = large(sizes[i], "\r\n");

            expect_copy("large", m, &keep, 65536, buf_slice(&want));
            message_free(m);
            buf_free(&in);
            buf_free(&want);
        }
}

static void
test_nothing_is_left_behind(void **state)
{
    char directory[] = "/tmp/test_message.XXXXXX", err[200];
    struct buf in = large(3 * MESSAGE_MEMORY, "\r\n");
    struct message *m;

    (void)state;
    assert_non_null(mkdtemp(directory));
    m = message_new(directory);
    assert_true(message_add(m, in.at, in.len, err, sizeof err));
    assert_int_equal(rmdir(directory), 0); /* empty while it is in use */
    assert_true(message_end(m, err, sizeof err));
    expect_copy("unnamed", m, &keep, 65536, buf_slice(&in));
    message_free(m);
    buf_free(&in);
}

static void
test_no_spill_directory(void **state)
{
    struct buf in = large(3 * MESSAGE_MEMORY, "\r\n");
    struct message *m = message_new("/tmp/no/such/directory");
    char err[200] = "";

    (void)state;
    assert_false(message_add(m, in.at, in.len, err, sizeof err));
    assert_non_null(strstr(err, "/tmp/no/such/directory"));
    assert_non_null(strstr(err, "No such file"));
    /* and it never turns into half a message */
    assert_false(message_add(m, "x", 1, err, sizeof err));
    assert_false(message_end(m, err, sizeof err));
    message_free(m);
    buf_free(&in);
}

/* The file that holds it cannot grow: RLIMIT_FSIZE stands for a full disk. */
static void
test_disk_full(void **state)
{
    struct buf in = large(3 * MESSAGE_MEMORY, "\r\n");
    struct message *m = message_new("/tmp");
    struct rlimit old, small = {MESSAGE_MEMORY, RLIM_INFINITY};
    char err[200] = "";
    bool added;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    added = message_add(m, in.at, in.len, err, sizeof err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(added);
    assert_non_null(strstr(err, "cannot write a message to /tmp"));
    assert_false(message_end(m, err, sizeof err));
    message_free(m);
    buf_free(&in);
}

static void
test_header_limit(void **state)
{
    struct message *m = message_new("/tmp");
    char err[200] = "", line[1000];

    (void)state;
    memset(line, 'x', sizeof line);
    memcpy(line, "X: ", 3);
    memcpy(line + 998, "\r\n", 2);
    for (size_t i = 0; i < 1048; i++)
        assert_true(message_add(m, line, sizeof line, err, sizeof err));
    assert_true(message_add(m, "\r\nbody\r\n", 8, err, sizeof err));
    assert_true(message_end(m, err, sizeof err)); /* just below */
    message_free(m);

    m = message_new("/tmp");
    for (size_t i = 0; i < 1049; i++)
        assert_true(message_add(m, line, sizeof line, err, sizeof err));
    assert_false(message_end(m, err, sizeof err));
    assert_non_null(strstr(err, "header"));
    message_free(m);
}

static void
the_top_received_names_the_queue_id(void **state)
{
    static const struct {
        const char *name, *head, *want;
    } received[] = {
        {"sendmail",
         "Received: from c.test (relay.test [127.0.0.1])\r\n"
         "\tby relay.test (8.17.1.9/8.17.1.9) with ESMTP id 6APCtXES0057;\r\n"
         "\tWed, 25 Nov 2026 12:55:33 GMT\r\n",
         "6APCtXES0057"},
        {"postfix",
         "Received: from c.test (unknown [127.0.0.1])\r\n"
         "\tby relay.test (Postfix) with ESMTP id 4XYZ12 for <id@id.test>;\r\n"
         "\tWed, 25 Nov 2026 12:55:33 +0000\r\n",
         "4XYZ12"},
        {"the top one",
         "Received: by a with SMTP ID one; x\r\n"
         "Received: by b id two; x\r\n",
         "one"},
        {"in a comment only", "Received: by a (id three) ; x id four\r\n", ""},
        {"nothing behind it", "Received: by a with id\r\n", ""},
        {"id cut by the date", "Received: by a id;x\r\n", ""},
        {"ends in a comment", "Received: by a ((id\r\n", ""},
        {"closes what is not open", "Received: ))) id five\r\n", "five"},
        {"none", "Subject: x\r\n", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof received / sizeof *received; i++) {
        struct message *m = load(slice_of(received[i].head), 1000);
        struct slice id = message_queue_id(m);

        print_message("  %s\n", received[i].name);
        assert_int_equal(id.len, strlen(received[i].want));
        assert_true(slice_eq(id, slice_of(received[i].want)));
        message_free(m);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_top_received_names_the_queue_id),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_message_id),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_octets),
        cmocka_unit_test(test_sizes_around_the_spill),
        cmocka_unit_test(test_nothing_is_left_behind),
        cmocka_unit_test(test_no_spill_directory),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_header_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
