/* tests/unit/deliver/test_rewrite.c - From handling on Gmail's copy.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/rewrite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *send_as[] = {"info@example.com", "@promo.example.com",
                                "a@xn--mnchen-3ya.example"};
static struct account account = {
    .address = "sales@example.com", .n_send_as = 3, .send_as = send_as};
static struct mailbox mailbox = {
    .account = &account, .id = 1, .address = "sales@example.com"};

#define TAIL "Message-ID: <1@x>\r\nDate: x\r\n"

struct row {
    const char *name;
    const char *in;  /* without TAIL */
    const char *out; /* NULL: unchanged; without TAIL */
    const char *end; /* behind TAIL */
};

/* With FROM_REWRITE. */
static const struct row rows[] = {
    {"the account's own", "From: Sales <sales@example.com>\r\n", NULL, ""},
    {"own, bare", "From: sales@example.com\r\n", NULL, ""},
    {"own, other case", "FROM: <Sales@EXAMPLE.com>\r\n", NULL, ""},
    {"own, with comments and folds",
     "From: (x) \"A, B\"\r\n\t<sales@example.com> (y)\r\n", NULL, ""},
    {"send_as address", "From: Info <info@example.com>\r\n", NULL, ""},
    {"send_as in U-labels", "From: <a@m\303\274nchen.example>\r\n", NULL, ""},
    {"send_as domain", "From: x <any@promo.example.com>\r\n", NULL, ""},
    {"own keeps its signature",
     "DKIM-Signature: v=1; h=from:to; b=x\r\nFrom: sales@example.com\r\n", NULL,
     ""},

    {"foreign", "From: Bob <bob@x.org>\r\n",
     "From: Bob <sales@example.com>\r\nX-Original-From: Bob <bob@x.org>\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"foreign, bare", "From: bob@x.org\r\n",
     "From: sales@example.com\r\nX-Original-From: bob@x.org\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"a longer domain is not the send_as domain",
     "From: a@evilpromo.example.com\r\n",
     "From: sales@example.com\r\nX-Original-From: a@evilpromo.example.com\r\n",
     "Reply-To: a@evilpromo.example.com\r\n"},
    {"nor is one below it", "From: a@x.promo.example.com\r\n",
     "From: sales@example.com\r\nX-Original-From: a@x.promo.example.com\r\n",
     "Reply-To: a@x.promo.example.com\r\n"},
    {"has Reply-To already",
     "Reply-To: list@x.org\r\nFrom: Bob <bob@x.org>\r\n",
     "Reply-To: list@x.org\r\nFrom: Bob <sales@example.com>\r\n"
     "X-Original-From: Bob <bob@x.org>\r\n",
     ""},
    {"quoted name with what looks like an address",
     "From: \"sales@example.com <x\" <bob@x.org>\r\n",
     "From: \"sales@example.com <x\" <sales@example.com>\r\n"
     "X-Original-From: \"sales@example.com <x\" <bob@x.org>\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"encoded name", "From: =?utf-8?q?B=C3=B6b?= <bob@x.org>\r\n",
     "From: =?utf-8?q?B=C3=B6b?= <sales@example.com>\r\n"
     "X-Original-From: =?utf-8?q?B=C3=B6b?= <bob@x.org>\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"name folded",
     "From: A very long name that goes on and on until it has to be\r\n"
     "\tfolded <bob@x.org>\r\n",
     "From: A very long name that goes on and on until it has to be\r\n"
     "\tfolded\r\n <sales@example.com>\r\n"
     "X-Original-From: A very long name that goes on and on until it has to "
     "be\r\n\tfolded <bob@x.org>\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"two addresses", "From: Bob <bob@x.org>, sales@example.com\r\n",
     "From: Bob <sales@example.com>\r\n"
     "X-Original-From: Bob <bob@x.org>, sales@example.com\r\n",
     "Reply-To: bob@x.org,\r\n sales@example.com\r\n"},
    {"a group", "From: The Team: a@x.org, B <b@x.org>;\r\n",
     "From: sales@example.com\r\n"
     "X-Original-From: The Team: a@x.org, B <b@x.org>;\r\n",
     "Reply-To: a@x.org,\r\n b@x.org\r\n"},
    {"an empty group", "From: Nobody:;\r\n",
     "From: sales@example.com\r\nX-Original-From: Nobody:;\r\n", ""},
    {"two From fields",
     "From: sales@example.com\r\nX: y\r\nFrom: Bob <bob@x.org>\r\n",
     "From: sales@example.com\r\nX-Original-From: sales@example.com\r\n"
     "X: y\r\nX-Original-From: Bob <bob@x.org>\r\n",
     "Reply-To: sales@example.com,\r\n bob@x.org\r\n"},
    {"local part that needs quotes", "From: \"a b\\\"c\"@x.org\r\n",
     "From: sales@example.com\r\nX-Original-From: \"a b\\\"c\"@x.org\r\n",
     "Reply-To: \"a b\\\"c\"@x.org\r\n"},
    {"own address only in a comment", "From: bob@x.org (sales@example.com)\r\n",
     "From: sales@example.com\r\n"
     "X-Original-From: bob@x.org (sales@example.com)\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"garbage", "From: <<<>>>\r\n",
     "From: sales@example.com\r\nX-Original-From: <<<>>>\r\n", ""},
    {"own address among garbage", "From: sales@example.com, <<\r\n",
     "From: sales@example.com\r\nX-Original-From: sales@example.com, <<\r\n",
     "Reply-To: sales@example.com\r\n"},
    {"address for a name", "From: sales@example.com <bob@x.org>\r\n",
     "From: \"sales@example.com\" <sales@example.com>\r\n"
     "X-Original-From: sales@example.com <bob@x.org>\r\n",
     "Reply-To: bob@x.org\r\n"},
    {"empty From", "From:\r\n",
     "From: sales@example.com\r\nX-Original-From:\r\n", ""},
    {"no From", "To: x@y\r\n", "To: x@y\r\n", "From: sales@example.com\r\n"},
    {"Sender and Resent-From stay",
     "Sender: s@x\r\nResent-From: r@x\r\nFrom: b@x\r\n",
     "Sender: s@x\r\nResent-From: r@x\r\nFrom: sales@example.com\r\n"
     "X-Original-From: b@x\r\n",
     "Reply-To: b@x\r\n"},

    {"signatures that cover From go",
     "DKIM-Signature: v=1; a=rsa-sha256; d=x.org;\r\n\th=Subject : From\r\n"
     "\t:To; b=abc=\r\nFrom: b@x\r\n",
     "From: sales@example.com\r\nX-Original-From: b@x\r\n",
     "Reply-To: b@x\r\n"},
    {"others stay",
     "DKIM-Signature: v=1; h=subject:fromage:x-from; bh=from; b=from\r\n"
     "DKIM-Signature: v=1; b=\r\nX-DKIM-Signature: h=from\r\nFrom: b@x\r\n",
     "DKIM-Signature: v=1; h=subject:fromage:x-from; bh=from; b=from\r\n"
     "DKIM-Signature: v=1; b=\r\nX-DKIM-Signature: h=from\r\n"
     "From: sales@example.com\r\nX-Original-From: b@x\r\n",
     "Reply-To: b@x\r\n"},
};

static void
check(const char *name, enum from_handling from, const char *in,
      const char *want)
{
    struct copy_options o = {.mailbox = &mailbox,
                             .from = from,
                             .sender = "bob@x.org",
                             .hostname = "relay.example.com"};
    struct fields f;
    struct buf b;

    buf_init(&b, 1 << 20);
    assert_true(fields_parse(&f, slice_of(in)));
    assert_true(rewrite_header(&f, &o, &b));
    if (!slice_eq(buf_slice(&b), slice_of(want)))
        fail_msg("%s: got <%.*s>", name, SLICE_FMT(b));
    fields_free(&f);
    buf_free(&b);
}

static void
test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        char in[2000], want[2000];

        snprintf(in, sizeof in, "%s" TAIL, r->in);
        snprintf(want, sizeof want, "%s" TAIL "%s",
                 r->out != NULL ? r->out : r->in, r->end);
        check(r->name, FROM_REWRITE, in, want);
        check(r->name, FROM_KEEP, in, in);
        check(r->name, FROM_REQUIRE, in, in); /* was checked before */
    }
}

struct id_row {
    const char *sender, *domain;
};

/* The Message-ID we make: the same at each try, its domain the sender's. */
static void
test_message_id(void **state)
{
    static const struct id_row ids[] = {
        {"bob@x.org", "@x.org>"},
        {"bob@X.Example.ORG", "@X.Example.ORG>"},
        {"", "@relay.example.com>"},
        {"postmaster", "@relay.example.com>"},
        {"bob@[192.0.2.1]", "@relay.example.com>"},
        {"bob@x..org", "@relay.example.com>"},
        {"bob@x.org.", "@relay.example.com>"},
        {"bob@d\xc3\xb6rf.example", "@relay.example.com>"},
        {"bob@x>\r\nBcc: y", "@relay.example.com>"},
        {"\"a@b\"@x.org", "@x.org>"},
    };
    struct fields none = {0, NULL};

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct copy_options o = {.mailbox = &mailbox,
                                 .sender = ids[i].sender,
                                 .hostname = "relay.example.com",
                                 .ticket = 0xfedcba9876543210u};
        struct buf b, again, other;
        const char *end;

        buf_init(&b, 10000);
        buf_init(&again, 10000);
        buf_init(&other, 10000);
        assert_true(rewrite_header(&none, &o, &b));
        o.now_s = 1;
        assert_true(rewrite_header(&none, &o, &again));
        o.ticket++;
        assert_true(rewrite_header(&none, &o, &other));
        buf_add(&b, "", 1);
        assert_memory_equal(b.at, "Message-ID: <fedcba9876543210.", 30);
        end = strstr(b.at, "\r\n");
        if (memcmp(end - strlen(ids[i].domain), ids[i].domain,
                   strlen(ids[i].domain)) != 0)
            fail_msg("%s: %s", ids[i].sender, b.at);
        assert_memory_equal(b.at, again.at, (size_t)(end - b.at));
        assert_memory_not_equal(b.at, other.at, (size_t)(end - b.at));
        buf_free(&b);
        buf_free(&again);
        buf_free(&other);
    }
}

static void
test_date(void **state)
{
    static const struct {
        int64_t s;
        const char *want;
    } dates[] = {
        {0, "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n"},
        {951782399, "Date: Mon, 28 Feb 2000 23:59:59 +0000\r\n"},
        {951782400, "Date: Tue, 29 Feb 2000 00:00:00 +0000\r\n"},
        {1795485157, "Date: Tue, 24 Nov 2026 01:52:37 +0000\r\n"},
        {4102444799, "Date: Thu, 31 Dec 2099 23:59:59 +0000\r\n"},
    };

    (void)state;
    setenv("TZ", "Asia/Tokyo", 1);
    for (size_t i = 0; i < sizeof dates / sizeof *dates; i++) {
        struct copy_options o = {.mailbox = &mailbox,
                                 .sender = "",
                                 .hostname = "h",
                                 .now_s = dates[i].s};
        struct fields none = {0, NULL};
        struct buf b;

        buf_init(&b, 10000);
        assert_true(rewrite_header(&none, &o, &b));
        assert_true(slice_ends_nocase(buf_slice(&b), slice_of(dates[i].want)));
        buf_free(&b);
    }
}

static void
test_no_room(void **state)
{
    struct copy_options o = {
        .mailbox = &mailbox, .sender = "", .hostname = "h"};
    struct fields f;
    struct buf b;

    (void)state;
    assert_true(fields_parse(&f, SLICE_LIT("From: a@b\r\n" TAIL)));
    for (size_t max = 0; max < 38; max++) {
        buf_init(&b, max);
        assert_false(rewrite_header(&f, &o, &b));
        buf_free(&b);
    }
    buf_init(&b, 39);
    assert_true(rewrite_header(&f, &o, &b));
    buf_free(&b);
    fields_free(&f);
}

#define TICKET "aea7izqykfs7uzbiahekmpx5c3ycuade7t42xujwjyjjcegh"
#define TAG    "." TICKET ".adpc3fx2d4e4ek.q05.gmroute.invalid"

/* What a content filter's way back leaves. */
static void
test_received(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: unchanged */
    } traces[] = {
        {"Received: from a by b\r\n\tfor <x@far.test" TAG ">;\r\n\tMon\r\n",
         "Received: from a by b\r\n\tfor <x@far.test>;\r\n\tMon\r\n"},
        {"received: for x@far.test" TAG "\r\n", "received: for x@far.test\r\n"},
        {"Received: for <x@far.test" TAG "> <y@z" TAG ".>;\r\n",
         "Received: for <x@far.test> <y@z>;\r\n"},
        {"Received: for <x@far.test." TICKET ".q05.gmroute.invalid>\r\n", NULL},
        {"Received: for <x@far.testx" TAG ".org>\r\n", NULL},
        {"X-Received: for <x@far.test" TAG ">\r\n", NULL},
        {"Received:\r\n", NULL},
    };
    struct copy_options o = {.mailbox = &mailbox,
                             .sender = "",
                             .hostname = "h",
                             .tag_domain = "gmroute.invalid"};

    (void)state;
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        const char *want = traces[i].out != NULL ? traces[i].out : traces[i].in;
        char in[2000];
        struct fields f;
        struct buf b;

        buf_init(&b, 10000);
        snprintf(in, sizeof in, "%s" TAIL, traces[i].in);
        assert_true(fields_parse(&f, slice_of(in)));
        assert_true(rewrite_header(&f, &o, &b));
        assert_int_equal(b.len, strlen(want) + strlen(TAIL));
        assert_memory_equal(b.at, want, strlen(want));
        buf_free(&b);
        fields_free(&f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_message_id),
        cmocka_unit_test(test_date),     cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_received),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
