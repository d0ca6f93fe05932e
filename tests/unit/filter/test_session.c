/* tests/unit/filter/test_session.c - mirrors milter/filter/session.c: what the
 * MTA tells, step by step
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/filter/filter_case.h"

#define SALES "<sales@example.com>"

/* ---- refused at RCPT ---- */

static const char early[] =
    ACCOUNTS "rules:\n"
             "  - {name: never, match: {recipient_domain: no.test},\n"
             "     reject: '550 5.7.1 100% No'}\n"
             "  - {name: not now, match: {recipient_domain: later.test},\n"
             "     defer: '451 4.7.1 Later'}\n"
             "  - {name: sales, match: {sender: sales@example.com},\n"
             "     route: {account: sales}}\n"
             "default: mta\n";

static const struct row at_rcpt[] = {
    {"rejected; the others go on",
     {SALES, .rcpt = {"<n@no.test>", "<a@far.test>"}},
     "rcpt <n@no.test>: 550 5.7.1 100% No; 250; "
     "del a@far.test; tag a@far.test sales@example.com"},
    {"deferred",
     {SALES, .rcpt = {"<l@later.test>", "<a@away.local.example>"}},
     "rcpt <l@later.test>: 451 4.7.1 Later; 250; del a@away.local.example; "
     "tag a@away.local.example sales@example.com"},
    {"by a source route, too",
     {.rcpt = {"<@r.test:n@no.test>", "<a@far.test>"}},
     "rcpt <@r.test:n@no.test>: 550 5.7.1 100% No; 250"},
    {"an address of the tag domain",
     {.rcpt = {"<a@gmroute.invalid>", "<a@b.test.xxx.a1.q00.GMROUTE.invalid>",
               "<a%gmroute.invalid@b.test>", "<a@far.test>"}},
     "rcpt <a@gmroute.invalid>: 550 5.7.1 Recipient address is reserved for "
     "internal use; rcpt <a@b.test.xxx.a1.q00.GMROUTE.invalid>: 550 5.7.1 "
     "Recipient address is reserved for internal use; "
     "rcpt <a%gmroute.invalid@b.test>: 550 5.7.1 Recipient address is "
     "reserved for internal use; 250"},
};

static void
what_is_certain_is_refused_at_rcpt(void **state)
{
    (void)state;
    case_rows(early, at_rcpt, LENGTH(at_rcpt));
}

static void
refusals_are_logged_and_counted(void **state)
{
    (void)state;
    case_open(early);
    case_send(&at_rcpt[0].mail);
    case_log_has("from=sales@example.com to=n@no.test rule=never "
                 "at=/etc/gmroute/gmroute.yaml:");
    case_log_has("action=reject stage=rcpt reply=\"550 5.7.1 100% No\"");
    case_send(&at_rcpt[3].mail);
    case_log_has("address of our own tag domain");
    assert_int_equal(case_count(HINTS_REJECTED), 1);
    assert_int_equal(case_count(HINTS_FORGED), 3);
    case_close();
}

/* ---- the sendmail command ---- */

static const struct row local[] = {
    {"a template's own sender, by trust: local",
     {"ann@example.com", .local = true, .rcpt = {"a@far.test"}},
     "250; del a@far.test; tag a@far.test ann@example.com"},
    {"brackets are SMTP's: a client that hides is not local",
     {"<ann@example.com>", .local = true, .rcpt = {"<a@far.test>"}},
     "250"},
    {"the null sender", {"", .local = true, .rcpt = {"a@far.test"}}, "250"},
    {"rejected at once",
     {"ann@example.com", .local = true, .rcpt = {"n@no.test", "a@f.test"}},
     "rcpt n@no.test: 550 5.7.1 No; 250; "
     "del a@f.test; tag a@f.test ann@example.com"},
    {"a deferral would come again for ever: the queue takes it",
     {"ann@example.com", .local = true, .rcpt = {"l@later.test"}},
     "250; del l@later.test; tag l@later.test defer"},
};

static const char for_staff[] = ACCOUNTS
    "rules:\n"
    "  - {match: {recipient_domain: no.test}, reject: '550 5.7.1 No'}\n"
    "  - {match: {recipient_domain: later.test}, defer: '451 4.7.1 Later'}\n"
    "  - {match: {sender_domain: example.com}, route: {account: staff}}\n"
    "default: mta\n";

static void
local_submissions(void **state)
{
    (void)state;
    case_rows(for_staff, local, LENGTH(local));
}

static const struct row logins[] = {
    {"the sender's own login",
     {"<ann@example.com>", .login = "ann@example.com",
      .rcpt = {"<a@far.test>"}},
     "250; del a@far.test; tag a@far.test ann@example.com"},
    {"somebody else's",
     {"<ann@example.com>", .login = "bob@example.com",
      .rcpt = {"<a@far.test>"}},
     "250"},
    {"none", {"<ann@example.com>", .rcpt = {"<a@far.test>"}}, "250"},
    {"no brackets, but a client: not local",
     {"ann@example.com", .rcpt = {"a@far.test"}},
     "250"},
};

static void
logins_are_the_messages_own(void **state)
{
    (void)state;
    case_rows(for_staff, logins, LENGTH(logins));
}

/* ---- a content filter ---- */

static void
only_a_known_filter_brings_tags_back(void **state)
{
    struct mail m = {SALES, .rcpt = {"<a@far.test>", "<b@far.test>"}};
    struct ticket t = {.number = 1, .minute = 2, .share_percent = 100};
    char tagged[TAGGED_MAX + 1], path[TAGGED_MAX + 3];
    char want[3 * TAGGED_MAX];

    (void)state;
    case_open(early);
    assert_int_equal(ticket_write(&t, SLICE_LIT("a@far.test"), NULL,
                                  "gmroute.invalid", case_env.keys, tagged),
                     TICKET_OK);
    snprintf(path, sizeof path, "<%s>", tagged);
    m.rcpt[0] = path;
    snprintf(want, sizeof want,
             "rcpt %s: 550 5.7.1 Recipient address is reserved for internal "
             "use; 250; del b@far.test; tag b@far.test sales@example.com",
             path);
    assert_string_equal(case_send(&m), want);
    m.client = "9"; /* milter.reinject_from */
    assert_string_equal(case_send(&m), "250; del b@far.test; "
                                       "tag b@far.test sales@example.com");
    case_log_has("rule=\"already routed\"");
    path[1] = 'b'; /* the tag of another recipient */
    assert_memory_equal(case_send(&m), "rcpt <b@far.test.", 17);
    case_log_has("wrong signature");
    case_close();
}

/* ---- what a message leaves behind ---- */

static void
an_aborted_message_leaves_nothing(void **state)
{
    const struct mail whole = {SALES, .rcpt = {"<b@far.test>"}};
    char path[] = "<sales@example.com>", rcpt[] = "<a@far.test>";
    char *no_args[] = {NULL};
    struct session *s;

    (void)state;
    case_open(ACCOUNTS "rules:\n"
                       "  - {match: {header: {X-No: '*'}},\n"
                       "     reject: '550 5.7.1 No'}\n"
                       "  - {match: {size: '> 1KB'}, discard: true}\n"
                       "  - {match: {sender: sales@example.com},\n"
                       "     route: {account: sales}}\n"
                       "default: mta\n");
    s = case_connect(&whole);
    for (unsigned steps = 0; steps <= 4; steps++) {
        static const char octets[2000];

        case_mail_begins(&whole);
        if (steps > 0)
            session_mail(s, path, no_args, &case_ops, NULL);
        if (steps > 1)
            session_rcpt(s, rcpt, no_args, &case_ops, NULL);
        if (steps > 2)
            session_header(s, "X-No", "y");
        if (steps > 3)
            session_body(s, octets, sizeof octets);
        session_reset(s);
        assert_string_equal(case_send_over(s, &whole),
                            "250; del b@far.test; "
                            "tag b@far.test sales@example.com");
    }
    session_free(s);
    case_close();
}

static void
steps_out_of_order_are_deferred(void **state)
{
    const struct mail m = {.sender = SALES};
    char rcpt[] = "<a@far.test>";
    char *no_args[] = {NULL};
    struct session *s;

    (void)state;
    case_open(early);
    s = case_connect(&m);
    case_mail_begins(&m);
    assert_int_equal(session_header(s, "Subject", "x"), ANSWER_CONTINUE);
    assert_int_equal(session_body(s, "x", 1), ANSWER_SKIP);
    assert_int_equal(session_rcpt(s, rcpt, no_args, &case_ops, NULL),
                     ANSWER_TEMPFAIL);
    assert_string_equal(session_reply(s)->code, "451");
    /* No MAIL at all. */
    assert_int_equal(session_eom(s, &case_ops, NULL), ANSWER_TEMPFAIL);
    session_free(s);
    case_close();
}

/* ---- size ---- */

static const char by_size[] =
    ACCOUNTS "rules:\n"
             "  - {name: exact, match: {size: '34'}, hold: exact}\n"
             "default: mta\n";

static const struct row sizes[] = {
    {"header, empty line and body",
     {.rcpt = {"<a@far.test>"},
      .headers = "Subject: x\n",
      .body = "12345678901234567890"},
     "250; hold exact"},
    {"one octet less",
     {.rcpt = {"<a@far.test>"},
      .headers = "Subject: x\n",
      .body = "1234567890123456789"},
     "250"},
    {"a folded field: its line end counts two",
     {.rcpt = {"<a@far.test>"},
      .headers = "Subject: x\n y\n",
      .body = "1234567890123456"},
     "250; hold exact"},
    {"the client's claim is no knowledge",
     {.rcpt = {"<a@far.test>"}, .arg = "SIZE=34", .headers = "A: b\n"},
     "250"},
};

static void
every_octet_is_counted(void **state)
{
    (void)state;
    case_rows(by_size, sizes, LENGTH(sizes));
    case_open(by_size);
    for (case_piece = 1; case_piece < 25; case_piece++)
        assert_string_equal(case_send(&sizes[0].mail), sizes[0].want);
    case_close();
}

/* ---- macros ---- */

static const char by_macro[] = ACCOUNTS
    "rules:\n"
    "  - {name: bad client, match: {macro: {client_addr: 192.0.2.66}},\n"
    "     reject: '550 5.7.1 Bad client'}\n"
    "  - {name: slow, match: {macro: {rcpt_mailer: error}},\n"
    "     reject: '550 5.7.1 No mailer'}\n"
    "  - {name: kept, match: {macro: {rcpt_host: one}}, hold: one}\n"
    "  - {name: one letter, match: {macro: {i: queueid}, sender: id@x},\n"
    "     discard: true}\n"
    "  - {name: tls, match: {tls: yes, sender: tls@x}, discard: true}\n"
    "default: mta\n";

static const struct row macros[] = {
    {"none", {.rcpt = {"<a@far.test>"}}, "250"},
    {"known at MAIL: refused at RCPT",
     {.macro = {"client_addr=192.0.2.66"},
      .rcpt = {"<a@far.test>", "<b@far.test>"}},
     "rcpt <a@far.test>: 550 5.7.1 Bad client; "
     "rcpt <b@far.test>: 550 5.7.1 Bad client; 250"},
    {"known at the end alone: refused there",
     {.late = {"client_addr=192.0.2.66"}, .rcpt = {"<a@far.test>"}},
     "550 5.7.1 Bad client"},
    {"what was there first stays",
     {.macro = {"client_addr=192.0.2.1"},
      .late = {"client_addr=192.0.2.66"},
      .rcpt = {"<a@far.test>"}},
     "250"},
    {"an empty value is a value",
     {.macro = {"client_addr="},
      .late = {"client_addr=192.0.2.66"},
      .rcpt = {"<a@far.test>"}},
     "250"},
    {"of one RCPT: refused there, the others go on",
     {.macro = {"client_addr=192.0.2.1"},
      .rcpt_macro = {"rcpt_mailer=error", "rcpt_mailer=smtp"},
      .rcpt = {"<a@far.test>", "<b@far.test>"}},
     "rcpt <a@far.test>: 550 5.7.1 No mailer; 250"},
    {"of one RCPT, at the end",
     {.rcpt_macro = {"rcpt_host=one", "rcpt_host=two"},
      .rcpt = {"<a@far.test>", "<b@far.test>"}},
     "250; hold one"},
    {"the last RCPT's is nobody else's",
     {.rcpt = {"<a@far.test>", "<b@far.test>"}, .late = {"rcpt_host=one"}},
     "250"},
    {"one letter", {"<id@x>", .rcpt = {"<a@far.test>"}}, "250; del a@far.test"},
    {"TLS",
     {"<tls@x>", .macro = {"tls_version=TLSv1.3"}, .rcpt = {"<a@far.test>"}},
     "250; del a@far.test"},
    {"no TLS", {"<tls@x>", .rcpt = {"<a@far.test>"}}, "250"},
};

static void
macros_belong_to_their_step(void **state)
{
    (void)state;
    case_rows(by_macro, macros, LENGTH(macros));
}

static void
the_helo_name_is_the_connections(void **state)
{
    struct mail m = {.rcpt = {"<a@far.test>"}, .helo = "bad.test"};
    struct session *s;

    (void)state;
    case_open(ACCOUNTS "rules:\n"
                       "  - {match: {helo: bad.test},\n"
                       "     reject: '550 5.7.1 Bad name'}\n"
                       "default: mta\n");
    s = case_connect(&m);
    for (int i = 0; i < 2; i++)
        assert_string_equal(case_send_over(s, &m),
                            "rcpt <a@far.test>: 550 5.7.1 Bad name; 250");
    session_helo(s, "good.test"); /* the last one counts */
    assert_string_equal(case_send_over(s, &m), "250");
    session_free(s);
    m.helo = NULL;
    assert_string_equal(case_send(&m), "250");
    case_close();
}

/* ---- attachments ---- */

#define BY_NAME         \
    ACCOUNTS "rules:\n" \
             "  - {name: exe, match: {attachment: '*.exe'}, hold: exe}\n"

#define MULTIPART "Content-Type: multipart/mixed; boundary=b\n"

static const char with_exe[] = "--b\r\n\r\nhello\r\n"
                               "--b\r\n"
                               "Content-Disposition: attachment;\r\n"
                               " filename*0*=utf-8''a%2E; filename*1=exe\r\n"
                               "\r\nMZ\r\n--b--\r\n";

static const struct row attachments[] = {
    {"in a part",
     {.rcpt = {"<a@far.test>"}, .headers = MULTIPART, .body = with_exe},
     "250; hold exe"},
    {"of the message itself",
     {.rcpt = {"<a@far.test>"},
      .headers = "Content-Type: x/y; name=a.exe\n",
      .body = "MZ\r\n"},
     "250; hold exe"},
    {"none: the same text without a structure",
     {.rcpt = {"<a@far.test>"}, .headers = "X: y\n", .body = with_exe},
     "250"},
    {"no body", {.rcpt = {"<a@far.test>"}, .headers = MULTIPART}, "250"},
};

static void
attachments_come_in_pieces_of_any_size(void **state)
{
    (void)state;
    case_rows(BY_NAME "default: mta\n", attachments, LENGTH(attachments));
    case_open(BY_NAME "default: mta\n");
    for (size_t i = 0; i < LENGTH(attachments); i++)
        for (case_piece = 1; case_piece < sizeof with_exe; case_piece++)
            assert_string_equal(case_send(&attachments[i].mail),
                                attachments[i].want);
    case_close();
}

static void
a_body_of_no_interest_is_skipped(void **state)
{
    (void)state;
    case_open(BY_NAME "default: mta\n");
    case_piece = 10;
    case_send(&attachments[0].mail);
    assert_in_range(case_pieces_wanted, sizeof with_exe / 10 - 2,
                    sizeof with_exe / 10 + 1);
    for (int i = 1; i <= 2; i++) {
        case_send(&attachments[i].mail);
        assert_int_equal(case_pieces_wanted, 0);
    }
    /* A size must be exact, also where the structure has ended. */
    case_open(BY_NAME "  - {match: {size: '> 10MB'}, hold: large}\n"
                      "default: mta\n");
    case_piece = 10;
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(attachments[i].mail.body);

        case_send(&attachments[i].mail);
        assert_int_equal(case_pieces_wanted, (n + 9) / 10);
    }
    case_close();
}

/* What cannot be read to its end decided as if there were no name. */
static void
a_structure_that_cannot_be_read_is_logged(void **state)
{
    const struct mail m = {.rcpt = {"<a@far.test>"},
                           .headers = "Content-Type: multipart/mixed\n",
                           .body = with_exe};

    (void)state;
    case_open(BY_NAME "default: mta\n");
    assert_string_equal(case_send(&m), "250");
    case_log_has("a header or a MIME structure that cannot be read");
    case_open("unparseable: reject\n" BY_NAME "default: mta\n");
    assert_memory_equal(case_send(&m), "550 5.6.0 ", 10);
    case_close();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_certain_is_refused_at_rcpt),
        cmocka_unit_test(refusals_are_logged_and_counted),
        cmocka_unit_test(local_submissions),
        cmocka_unit_test(logins_are_the_messages_own),
        cmocka_unit_test(only_a_known_filter_brings_tags_back),
        cmocka_unit_test(an_aborted_message_leaves_nothing),
        cmocka_unit_test(steps_out_of_order_are_deferred),
        cmocka_unit_test(every_octet_is_counted),
        cmocka_unit_test(macros_belong_to_their_step),
        cmocka_unit_test(the_helo_name_is_the_connections),
        cmocka_unit_test(attachments_come_in_pieces_of_any_size),
        cmocka_unit_test(a_body_of_no_interest_is_skipped),
        cmocka_unit_test(a_structure_that_cannot_be_read_is_logged),
    };

    return cmocka_run_group_tests_name("filter/session", tests, NULL, NULL);
}
