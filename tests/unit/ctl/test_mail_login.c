/* tests/unit/ctl/test_mail_login.c - mirrors milter/ctl/mail_login.c,
 * mail_fault.c and mail_servers of mail_check.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/mail_login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/mail_check.h"

/* user=a@x.test^Aauth=Bearer tok^A^A, and NUL a@x.test NUL pw */
#define BEARER "dXNlcj1hQHgudGVzdAFhdXRoPUJlYXJlciB0b2sBAQ=="
#define PLAIN  "AGFAeC50ZXN0AHB3"
#define JSON                                                          \
    "eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHR" \
    "wczovL21haWwuZ29vZ2xlLmNvbS8ifQ=="

/* A talk: "S: " lines come in, "C: " lines must go out; "TLS" is where TLS
 * starts. */
static const struct row {
    const char *name;
    enum mail_protocol protocol;
    bool starttls, bearer;
    const char *talk;
    enum mail_fault want;
    const char *said; /* must be in the server's words; NULL = any */
} rows[] = {
    {"smtp, token", MAIL_SMTP, false, true,
     "S: 220 smtp.gmail.com ESMTP x - gsmtp\n"
     "C: EHLO me.test\n"
     "S: 250-smtp.gmail.com at your service, [127.0.0.1]\n"
     "S: 250-AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH\n"
     "S: 250 SMTPUTF8\n"
     "C: AUTH XOAUTH2\nS: 334 \nC: " BEARER "\n"
     "S: 235 2.7.0 Accepted\nC: QUIT\n",
     MAIL_OK, "Accepted"},
    {"smtp, refused token", MAIL_SMTP, false, true,
     "S: 220 x\nC: EHLO me.test\nS: 250-x\nS: 250 AUTH XOAUTH2\n"
     "C: AUTH XOAUTH2\nS: 334 \nC: " BEARER "\nS: 334 " JSON "\nC: \n"
     "S: 535-5.7.8 Username and Password not accepted. For more information, "
     "go to\n"
     "S: 535 5.7.8  https://support.google.com/mail/?p=BadCredentials x - "
     "gsmtp\nC: QUIT\n",
     MAIL_TOKEN_REFUSED, "BadCredentials"},
    {"smtp, refused at once", MAIL_SMTP, false, true,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH XOAUTH2\n"
     "C: AUTH XOAUTH2\nS: 535 5.7.8 no\nC: QUIT\n",
     MAIL_TOKEN_REFUSED, "535 5.7.8 no"},
    {"smtp, challenges without end", MAIL_SMTP, false, true,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH XOAUTH2\n"
     "C: AUTH XOAUTH2\nS: 334 \nC: " BEARER "\nS: 334 x\nC: \nS: 334 x\n"
     "C: QUIT\n",
     MAIL_NOT_PROTOCOL, NULL},
    {"smtp, STARTTLS", MAIL_SMTP, true, false,
     "S: 220 x\nC: EHLO me.test\nS: 250-x\nS: 250-STARTTLS\nS: 250 SIZE 1\n"
     "C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\nTLS\n"
     "C: EHLO me.test\nS: 250-x\nS: 250 AUTH LOGIN PLAIN\n"
     "C: AUTH PLAIN\nS: 334 \nC: " PLAIN "\nS: 235 2.7.0 Accepted\nC: QUIT\n",
     MAIL_OK, NULL},
    {"smtp, no STARTTLS", MAIL_SMTP, true, false,
     "S: 220 x\nC: EHLO me.test\nS: 250-x\nS: 250 AUTH PLAIN\nC: QUIT\n",
     MAIL_NO_STARTTLS, NULL},
    {"smtp, STARTTLS refused", MAIL_SMTP, true, false,
     "S: 220 x\nC: EHLO me.test\nS: 250 STARTTLS\nC: STARTTLS\n"
     "S: 454 4.7.0 not now\nC: QUIT\n",
     MAIL_NO_STARTTLS, "not now"},
    {"smtp, AUTH only before TLS does not count", MAIL_SMTP, true, false,
     "S: 220 x\nC: EHLO me.test\nS: 250-AUTH PLAIN\nS: 250 STARTTLS\n"
     "C: STARTTLS\nS: 220 go\nTLS\nC: EHLO me.test\nS: 250 x\nC: QUIT\n",
     MAIL_NO_MECHANISM, NULL},
    {"smtp, PLAIN-CLIENTTOKEN is not PLAIN", MAIL_SMTP, false, false,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH PLAIN-CLIENTTOKEN\nC: QUIT\n",
     MAIL_NO_MECHANISM, NULL},
    {"smtp, AUTH= of old", MAIL_SMTP, false, false,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH=PLAIN\n"
     "C: AUTH PLAIN\nS: 334 \nC: " PLAIN "\nS: 535 5.7.8 BadCredentials\n"
     "C: QUIT\n",
     MAIL_PASSWORD_REFUSED, NULL},
    {"smtp, app password needed", MAIL_SMTP, false, false,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 334 \n"
     "C: " PLAIN "\nS: 534-5.7.9 Application-specific password required.\n"
     "S: 534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor x\n"
     "C: QUIT\n",
     MAIL_APP_PASSWORD, NULL},
    {"smtp, web login", MAIL_SMTP, false, false,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 334 \n"
     "C: " PLAIN "\nS: 534 5.7.14 Please log in via your web browser and\n"
     "C: QUIT\n",
     MAIL_WEB_LOGIN, NULL},
    {"smtp, too many logins", MAIL_SMTP, false, true,
     "S: 220 x\nC: EHLO me.test\nS: 250 AUTH XOAUTH2\nC: AUTH XOAUTH2\n"
     "S: 454 4.7.0 Cannot authenticate\nC: QUIT\n",
     MAIL_BUSY, NULL},
    {"smtp, EHLO refused", MAIL_SMTP, false, true,
     "S: 220 x\nC: EHLO me.test\nS: 421 4.7.0 Go away\nC: QUIT\n", MAIL_REFUSED,
     "Go away"},
    {"smtp, no SMTP at all", MAIL_SMTP, false, true,
     "S: HTTP/1.1 400 Bad Request\nC: QUIT\n", MAIL_NOT_PROTOCOL, "HTTP"},
    {"imap, token", MAIL_IMAP, false, true,
     "S: * OK Gimap ready for requests from 127.0.0.1 x\n"
     "C: a1 CAPABILITY\n"
     "S: * CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=PLAIN\n"
     "S: a1 OK Thats all she wrote! x\n"
     "C: a2 AUTHENTICATE XOAUTH2\nS: + \nC: " BEARER "\n"
     "S: * CAPABILITY IMAP4rev1 UNSELECT\n"
     "S: a2 OK a@x.test authenticated (Success)\nC: a9 LOGOUT\n",
     MAIL_OK, "authenticated"},
    {"imap, refused token", MAIL_IMAP, false, true,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=XOAUTH2\nS: a1 OK x\n"
     "C: a2 AUTHENTICATE XOAUTH2\nS: + \nC: " BEARER "\nS: + " JSON "\nC: \n"
     "S: a2 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)\n"
     "C: a9 LOGOUT\n",
     MAIL_TOKEN_REFUSED, "NO [AUTHENTICATIONFAILED]"},
    {"imap off", MAIL_IMAP, false, true,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=XOAUTH2\nS: a1 OK x\n"
     "C: a2 AUTHENTICATE XOAUTH2\n"
     "S: a2 NO [ALERT] Your account is not enabled for IMAP use. (Failure)\n"
     "C: a9 LOGOUT\n",
     MAIL_IMAP_OFF, NULL},
    {"imap, web login ahead of the answer", MAIL_IMAP, false, false,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=PLAIN\nS: a1 OK x\n"
     "C: a2 AUTHENTICATE PLAIN\nS: + \nC: " PLAIN "\n"
     "S: * NO [WEBALERT https://accounts.google.com/] Web login required.\n"
     "S: a2 NO Sorry\nC: a9 LOGOUT\n",
     MAIL_WEB_LOGIN, "Sorry"},
    {"imap, app password", MAIL_IMAP, false, false,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=PLAIN\nS: a1 OK x\n"
     "C: a2 AUTHENTICATE PLAIN\nS: + \nC: " PLAIN "\n"
     "S: a2 NO [ALERT] Application-specific password required: https://x\n"
     "C: a9 LOGOUT\n",
     MAIL_APP_PASSWORD, NULL},
    {"imap, too many connections", MAIL_IMAP, false, false,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=PLAIN\nS: a1 OK x\n"
     "C: a2 AUTHENTICATE PLAIN\n"
     "S: a2 NO [ALERT] Too many simultaneous connections. (Failure)\n"
     "C: a9 LOGOUT\n",
     MAIL_BUSY, NULL},
    {"imap, no mechanism", MAIL_IMAP, false, true,
     "S: * OK x\nC: a1 CAPABILITY\nS: * CAPABILITY AUTH=PLAIN\nS: a1 OK x\n"
     "C: a9 LOGOUT\n",
     MAIL_NO_MECHANISM, NULL},
    {"imap, goodbye", MAIL_IMAP, false, true,
     "S: * BYE Session expired\nC: a9 LOGOUT\n", MAIL_REFUSED, "expired"},
    {"imap, another tag", MAIL_IMAP, false, true,
     "S: * OK x\nC: a1 CAPABILITY\nS: a7 OK x\nC: a9 LOGOUT\n",
     MAIL_NOT_PROTOCOL, NULL},
    {"imap, POP", MAIL_IMAP, false, true, "S: +OK Gpop\nC: a9 LOGOUT\n",
     MAIL_NOT_PROTOCOL, NULL},
    {"pop, token", MAIL_POP, false, true,
     "S: +OK Gpop ready for requests from 127.0.0.1 x\nC: CAPA\n"
     "S: +OK Capability list follows\nS: USER\nS: SASL PLAIN XOAUTH2\nS: .\n"
     "C: AUTH XOAUTH2\nS: + \nC: " BEARER "\nS: +OK Welcome.\nC: QUIT\n",
     MAIL_OK, "Welcome"},
    {"pop, refused token", MAIL_POP, false, true,
     "S: +OK x\nC: CAPA\nS: +OK\nS: SASL XOAUTH2\nS: .\n"
     "C: AUTH XOAUTH2\nS: + \nC: " BEARER "\nS: + " JSON "\nC: \n"
     "S: -ERR [AUTH] Username and password not accepted.\nC: QUIT\n",
     MAIL_TOKEN_REFUSED, "-ERR [AUTH]"},
    {"pop off", MAIL_POP, false, false,
     "S: +OK x\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\n"
     "C: AUTH PLAIN\nS: + \nC: " PLAIN "\n"
     "S: -ERR [SYS/PERM] Your account is not enabled for POP access.\n"
     "C: QUIT\n",
     MAIL_POP_OFF, NULL},
    {"pop, no list", MAIL_POP, false, false,
     "S: +OK x\nC: CAPA\nS: -ERR unknown\nC: QUIT\n", MAIL_REFUSED, NULL},
    {"pop, no SASL", MAIL_POP, false, false,
     "S: +OK x\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: QUIT\n", MAIL_NO_MECHANISM,
     NULL},
};

/* What went out must be this line. */
static void
assert_sent(struct mail_login *m, const char *line, size_t len)
{
    assert_true(m->out.len >= len + 2);
    assert_memory_equal(m->out.at, line, len);
    assert_memory_equal(m->out.at + len, "\r\n", 2);
    buf_eat(&m->out, len + 2);
}

static void
play(const struct row *t)
{
    struct mail_credentials who = {
        .sasl = {.user = "a@x.test",
                 .secret = slice_of(t->bearer ? "tok" : "pw")},
        .bearer = t->bearer,
        .helo = "me.test",
    };
    enum mail_want want = MAIL_WANT_LINE;
    struct mail_login m;

    print_message("  %s\n", t->name);
    mail_login_begin(&m, t->protocol, t->starttls, &who);
    for (const char *at = t->talk; *at != '\0';) {
        size_t len = strcspn(at, "\n");

        if (at[0] == 'C') {
            assert_sent(&m, at + 3, len - 3);
        } else {
            assert_int_equal(m.out.len, 0);
            assert_int_equal(want,
                             at[0] == 'S' ? MAIL_WANT_LINE : MAIL_WANT_TLS);
            want = at[0] == 'S'
                       ? mail_login_line(&m, (struct slice){at + 3, len - 3})
                       : mail_login_secured(&m);
        }
        at += len + 1;
    }
    assert_int_equal(m.out.len, 0);
    assert_int_equal(want, MAIL_WANT_NOTHING);
    assert_string_equal(mail_fault_name(m.fault), mail_fault_name(t->want));
    if (t->said != NULL)
        assert_non_null(strstr(m.said, t->said));
    mail_login_free(&m);
}

static void
talks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        play(&rows[i]);
}

static void
a_secret_that_cannot_be_sent(void **state)
{
    struct mail_credentials who = {
        .sasl = {.user = "a@x.test", .secret = slice_of("a\nb")},
        .helo = "me.test"};
    struct mail_login m;

    (void)state;
    mail_login_begin(&m, MAIL_SMTP, false, &who);
    mail_login_line(&m, slice_of("220 x"));
    mail_login_line(&m, slice_of("250 AUTH PLAIN"));
    assert_int_equal(mail_login_line(&m, slice_of("334 ")), MAIL_WANT_NOTHING);
    assert_int_equal(m.fault, MAIL_PASSWORD_REFUSED);
    assert_memory_equal(m.out.at, "QUIT\r\n", m.out.len);
    mail_login_free(&m);
}

static void
every_fault_has_a_name_and_a_remedy(void **state)
{
    (void)state;
    for (unsigned f = 0; f < MAIL_FAULTS; f++) {
        assert_non_null(mail_fault_name(f));
        assert_int_equal(mail_fault_remedy(f)[0] == '\0', f == MAIL_OK);
    }
}

static void
handshakes(void **state)
{
    static const struct {
        const char *sentence;
        enum mail_fault want;
    } sentences[] = {
        {"self-signed certificate (subject OU = No SNI provided; please fix "
         "your client., CN = invalid2.invalid)",
         MAIL_TLS_SNI},
        {"the certificate is for invalid2.invalid, not smtp.gmail.com",
         MAIL_TLS_SNI},
        {"no server name (SNI) was sent, for 10.0.0.1 is an address: the "
         "certificate is for a.test, not 10.0.0.1",
         MAIL_TLS_SNI},
        {"the certificate is for a.test, not b.test", MAIL_TLS_NAME},
        {"self-signed certificate (subject CN = x)", MAIL_TLS_CA},
        {"unknown CA: the certificate's issuer is not in the trust store",
         MAIL_TLS_CA},
        {"certificate has expired on 2020-01-01", MAIL_TLS_TIME},
        {"certificate is not valid before 2030-01-01", MAIL_TLS_TIME},
        {"the server's answer is not TLS", MAIL_TLS_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++)
        assert_int_equal(mail_tls_fault(sentences[i].sentence),
                         sentences[i].want);
}

static void
servers(void **state)
{
    struct smarthost h = {.host = "smtp.gmail.com",
                          .port = 465,
                          .tls = SMARTHOST_TLS_IMPLICIT,
                          .imap = "imap.gmail.com:993",
                          .pop = "pop.gmail.com:995"};
    struct mail_server s[MAIL_SERVERS_MAX];

    (void)state;
    assert_int_equal(mail_servers(&h, s), 4);
    assert_true(s[0].used && !s[0].starttls && s[0].port == 465);
    assert_true(!s[1].used && s[1].starttls && s[1].port == 587);
    assert_string_equal(s[1].host, "smtp.gmail.com");
    assert_int_equal(s[2].protocol, MAIL_IMAP);
    assert_string_equal(s[2].host, "imap.gmail.com");
    assert_int_equal(s[2].port, 993);
    assert_int_equal(s[3].protocol, MAIL_POP);
    assert_false(s[3].starttls);

    h.tls = SMARTHOST_TLS_STARTTLS;
    h.port = 587;
    h.imap = NULL;
    assert_int_equal(mail_servers(&h, s), 3);
    assert_true(s[0].used && s[0].starttls && s[0].port == 587);
    assert_true(!s[1].used && !s[1].starttls && s[1].port == 465);
    assert_int_equal(s[2].protocol, MAIL_POP);

    h.port = 2525; /* somebody's own: nothing is known besides */
    h.pop = NULL;
    assert_int_equal(mail_servers(&h, s), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(talks),
        cmocka_unit_test(a_secret_that_cannot_be_sent),
        cmocka_unit_test(every_fault_has_a_name_and_a_remedy),
        cmocka_unit_test(handshakes),
        cmocka_unit_test(servers),
    };

    return cmocka_run_group_tests_name("ctl/mail_login", tests, NULL, NULL);
}
