/* tests/unit/ctl/test_maillog.c - mirrors milter/ctl/maillog.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/maillog.h"

#define AT   "Nov 25 08:52:08 mx "
#define AT_S 1795596728 /* 2026-11-25 08:52:08 */

/* `want` is what show() makes of the event. */
static const struct row {
    const char *name, *line, *want;
} rows[] = {
    {"a client with a name",
     AT "postfix/smtpd[123]: 4F3C2A1B: client=mail.example.com[192.0.2.1]",
     "client 4F3C2A1B mail.example.com 192.0.2.1"},
    {"a client without one",
     AT "postfix/smtpd[123]: 4F3C2A1B: client=unknown[203.0.113.9]",
     "client 4F3C2A1B unknown 203.0.113.9"},
    {"IPv6 and a port",
     AT "postfix/smtpd[1]: 4F3C2A1B: client=six.example[2001:db8::1]:40112",
     "client 4F3C2A1B six.example 2001:db8::1"},
    {"a login",
     AT "postfix/submission/smtpd[9]: 4ZbkQ83jwNz1xW: "
        "client=pc[192.0.2.7], sasl_method=PLAIN, sasl_username=joe@x.example",
     "client 4ZbkQ83jwNz1xW pc 192.0.2.7 auth=joe@x.example"},
    {"a login with odd characters",
     AT "postfix/smtps/smtpd[9]: 4F3C2A1B: client=pc[192.0.2.7], "
        "sasl_method=LOGIN, sasl_username=j, o=\"e\" [x]@y",
     "client 4F3C2A1B pc 192.0.2.7 auth=j, o=\"e\" [x]@y"},
    {"a login and AUTH= of MAIL",
     AT "postfix/smtpd[9]: 4F3C2A1B: client=pc[192.0.2.7], "
        "sasl_method=PLAIN, sasl_username=joe, sasl_sender=ann@x.example",
     "client 4F3C2A1B pc 192.0.2.7 auth=joe"},
    {"back from a content filter",
     AT "postfix/smtpd[9]: 4F3C2A1B: client=localhost[127.0.0.1], "
        "orig_queue_id=99AABBCC, orig_client=pc[192.0.2.7]",
     "client 4F3C2A1B localhost 127.0.0.1 passed-on"},
    {"a client without an address",
     AT "postfix/smtpd[9]: 4F3C2A1B: client=localhost", "other"},
    {"a client that never ends",
     AT "postfix/smtpd[9]: 4F3C2A1B: client=localhost[127.0.0.1", "other"},
    {"the sendmail command",
     AT "postfix/pickup[5]: 4F3C2A1B: uid=1000 from=<joe>", "local 4F3C2A1B"},
    {"a Message-ID",
     AT "postfix/cleanup[5]: 4F3C2A1B: message-id=<a.b@c.example>",
     "id 4F3C2A1B <a.b@c.example>"},
    {"none", AT "postfix/cleanup[5]: 4F3C2A1B: message-id=<>",
     "id 4F3C2A1B <>"},
    {"of a resent message",
     AT "postfix/cleanup[5]: 4F3C2A1B: resent-message-id=<a@c>", "other"},
    {"a message in the queue",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<a@b.example>, size=1234, nrcpt=2 "
        "(queue active)",
     "queued 4F3C2A1B <a@b.example> 1234 2"},
    {"the null sender",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<>, size=99, nrcpt=1 (queue active)",
     "queued 4F3C2A1B <> 99 1"},
    {"a quoted sender that looks like the end",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<\"a>, size=1\"@b>, size=2, nrcpt=1 "
        "(queue active)",
     "queued 4F3C2A1B <\"a>, size=1\"@b> 2 1"},
    {"expired",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<a@b>, status=expired, returned to "
        "sender",
     "other"},
    {"a size that is no number",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<a@b>, size=x, nrcpt=1", "other"},
    {"a size of more than 64 bits",
     AT "postfix/qmgr[7]: 4F3C2A1B: from=<a@b>, "
        "size=99999999999999999999, nrcpt=1",
     "other"},
    {"removed", AT "postfix/qmgr[7]: 4F3C2A1B: removed", "removed 4F3C2A1B"},
    {"removed is all of it", AT "postfix/qmgr[7]: 4F3C2A1B: removed it",
     "other"},
    {"sent by smtp",
     AT "postfix/smtp[8]: 4F3C2A1B: to=<x@y.example>, "
        "relay=mx.y.example[192.0.2.3]:25, delay=1.2, delays=0.1/0/0.5/0.6, "
        "dsn=2.0.0, status=sent (250 2.0.0 OK)",
     "to 4F3C2A1B <x@y.example> sent"},
    {"an alias was expanded",
     AT "postfix/local[8]: 4F3C2A1B: to=<joe@mx.example>, "
        "orig_to=<root@x.example>, relay=local, delay=0.1, "
        "delays=0.1/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)",
     "to 4F3C2A1B <joe@mx.example> orig=<root@x.example> sent"},
    {"deferred by our agent",
     AT "postfix/gmroute/lmtp[8]: 4F3C2A1B: to=<x@y.example.abc.a1.q00.g."
        "invalid>, relay=mx[gmroute/q00.sock], delay=1, delays=0/0/0/1, "
        "dsn=4.7.1, status=deferred (host mx said: 451 4.7.1 (full))",
     "to 4F3C2A1B <x@y.example.abc.a1.q00.g.invalid> deferred"},
    {"virtual",
     AT "postfix/virtual[8]: 4F3C2A1B: to=<v@y.example>, relay=virtual, "
        "delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered)",
     "to 4F3C2A1B <v@y.example> sent"},
    {"the queue manager defers",
     AT "postfix/qmgr[8]: 4F3C2A1B: to=<v@y.example>, relay=none, delay=1, "
        "delays=0/0/0/1, dsn=4.3.0, status=deferred (suspended)",
     "to 4F3C2A1B <v@y.example> deferred"},
    {"error(8) bounces",
     AT "postfix/error[8]: 4F3C2A1B: to=<v@y.example>, relay=none, delay=1, "
        "delays=0/0/0/1, dsn=5.0.0, status=bounced (no)",
     "to 4F3C2A1B <v@y.example> bounced"},
    {"a quoted recipient",
     AT "postfix/smtp[8]: 4F3C2A1B: to=<\"a b>, relay=\\\"x\"@y.example>, "
        "relay=none, delay=1, status=sent (ok)",
     "to 4F3C2A1B <\"a b>, relay=\\\"x\"@y.example> sent"},
    {"a recipient that never ends",
     AT "postfix/smtp[8]: 4F3C2A1B: to=<\"a@y, relay=none, status=sent",
     "other"},
    {"no status", AT "postfix/smtp[8]: 4F3C2A1B: to=<a@y>, relay=none",
     "other"},
    {"a bounce is announced",
     AT "postfix/bounce[8]: 4F3C2A1B: sender non-delivery notification: "
        "5F3C2A1B",
     "other"},
    {"refused before the queue",
     AT "postfix/smtpd[8]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 550 no; "
        "from=<a@b> to=<c@d> proto=ESMTP helo=<x>",
     "other"},
    {"a warning", AT "postfix/smtpd[8]: warning: client=x[1.2.3.4]", "other"},
    {"connect", AT "postfix/smtpd[8]: connect from x[192.0.2.1]", "other"},
    {"of another program",
     AT "sshd[8]: 4F3C2A1B: client=mail.example.com[192.0.2.1]", "other"},
    {"our own milter", AT "gmroute-milter[8]: queue=4F3C2A1B from=a@b to=c@d",
     "other"},
    {"RFC 3339",
     "2026-11-25T09:52:08.123456+01:00 mx postfix/qmgr[7]: 4F3C2A1B: removed",
     "removed 4F3C2A1B zone"},
    {"RFC 3339, UTC",
     "2026-11-25T08:52:08Z mx postfix/qmgr[7]: 4F3C2A1B: removed",
     "removed 4F3C2A1B zone"},
    {"RFC 3339 without a zone",
     "2026-11-25 08:52:08 mx postfix/qmgr[7]: 4F3C2A1B: removed",
     "removed 4F3C2A1B"},
    {"a day of one digit is padded",
     "Nov  5 08:52:08 mx postfix/qmgr[7]: 4F3C2A1B: removed",
     "removed 4F3C2A1B @1793868728"},
    {"empty", "", NULL},
    {"no time", "postfix/qmgr[7]: 4F3C2A1B: removed", NULL},
    {"the 31st of November",
     "Nov 31 08:52:08 mx postfix/qmgr[7]: 4F3C2A1B: removed", NULL},
    {"hour 24", "Nov 25 24:00:00 mx postfix/qmgr[7]: 4F3C2A1B: removed", NULL},
    {"a month nobody knows", "Foo 25 08:52:08 mx x/qmgr[7]: 4F3C2A1B: removed",
     NULL},
    {"29 February 2026",
     "2026-02-29T00:00:00Z mx postfix/qmgr[7]: 4F3C2A1B: removed", NULL},
    {"an offset of 99 hours",
     "2026-02-28T00:00:00+99:00 mx postfix/qmgr[7]: 4F3C2A1B: removed", NULL},
};

static void
show(const struct maillog_event *e, char *ret, size_t size)
{
    static const char *const kind[] = {"other",  "client", "local",  "id",
                                       "queued", "to",     "removed"};
    int n = snprintf(ret, size, "%s", kind[e->kind]);

#define ADD(...) (n += snprintf(ret + n, size - (size_t)n, __VA_ARGS__))
    if (e->kind != MAILLOG_OTHER)
        ADD(" %.*s", SLICE_FMT(e->queue_id));
    if (e->kind == MAILLOG_CLIENT)
        ADD(" %.*s %.*s", SLICE_FMT(e->client_name),
            SLICE_FMT(e->client_address));
    if (e->auth.len > 0)
        ADD(" auth=%.*s", SLICE_FMT(e->auth));
    if (e->passed_on)
        ADD(" passed-on");
    if (e->kind == MAILLOG_MESSAGE_ID)
        ADD(" %.*s", SLICE_FMT(e->message_id));
    if (e->kind == MAILLOG_QUEUED)
        ADD(" <%.*s> %" PRIu64 " %" PRIu64, SLICE_FMT(e->sender),
            e->size_octets, e->n_recipients);
    if (e->kind == MAILLOG_DELIVERY)
        ADD(" <%.*s>", SLICE_FMT(e->recipient));
    if (e->original.len > 0)
        ADD(" orig=<%.*s>", SLICE_FMT(e->original));
    if (e->kind == MAILLOG_DELIVERY)
        ADD(" %.*s", SLICE_FMT(e->status));
    if (e->has_zone)
        ADD(" zone");
    if (e->at_s != AT_S)
        ADD(" @%" PRId64, e->at_s);
#undef ADD
}

static void
reads_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        struct maillog m = {.year = 2026};
        struct maillog_event e = {.n_recipients = 777};
        char text[400];

        print_message("  %s\n", t->name);
        assert_int_equal(maillog_line(&m, slice_of(t->line), &e),
                         t->want != NULL);
        if (t->want == NULL) { /* untouched on failure */
            assert_int_equal(e.n_recipients, 777);
            continue;
        }
        show(&e, text, sizeof text);
        assert_string_equal(text, t->want);
    }
}

/* A line may be cut anywhere, by a full disk or by us: it is never taken for
 * more than it says, and every slice stays within it. */
static void
every_prefix_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t n = 0; n < strlen(rows[i].line); n++) {
            char *copy = malloc(n > 0 ? n : 1); /* for the sanitizer */
            struct maillog m = {.year = 2026};
            struct maillog_event e = {0};

            memcpy(copy, rows[i].line, n);
            if (maillog_line(&m, (struct slice){copy, n}, &e))
                assert_true(e.recipient.len <= n && e.sender.len <= n &&
                            e.auth.len <= n && e.message_id.len <= n);
            free(copy);
        }
}

static int64_t
at_of(struct maillog *m, const char *stamp)
{
    struct maillog_event e = {0};
    char line[100];

    snprintf(line, sizeof line, "%s mx postfix/qmgr[7]: 4F3C2A1B: removed",
             stamp);
    assert_true(maillog_line(m, slice_of(line), &e));
    return e.at_s;
}

static void
the_year_turns_with_the_log(void **state)
{
    struct maillog m = {.year = 2025};

    (void)state;
    assert_int_equal(at_of(&m, "Dec 31 23:59:59"), 1767225599);
    assert_int_equal(at_of(&m, "Jan  1 00:00:00"), 1767225600);
    /* Lines that come a little late do not turn it back or on. */
    assert_int_equal(at_of(&m, "Feb 28 00:00:00"), 1772236800);
    assert_int_equal(at_of(&m, "Jan 31 00:00:00"), 1769817600);
    assert_int_equal(m.year, 2026);
}

static void
days_are_counted_like_the_calendar(void **state)
{
    struct maillog m = {.year = 2026};

    (void)state;
    assert_int_equal(at_of(&m, "1970-01-01T00:00:00Z"), 0);
    assert_int_equal(at_of(&m, "2000-02-29T12:00:00Z"), 951825600);
    assert_int_equal(at_of(&m, "2000-03-01T00:00:00Z"), 951868800);
    assert_int_equal(at_of(&m, "2100-03-01T00:00:00Z"), 4107542400);
    assert_int_equal(at_of(&m, "2026-11-25T08:52:08-00:30"), AT_S + 1800);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_each_row),
        cmocka_unit_test(every_prefix_is_survived),
        cmocka_unit_test(the_year_turns_with_the_log),
        cmocka_unit_test(days_are_counted_like_the_calendar),
    };

    return cmocka_run_group_tests_name("ctl/maillog", tests, NULL, NULL);
}
