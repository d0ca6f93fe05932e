/* tests/unit/ctl/test_doctor.c - what doctor reads of a Postfix and a
 * sendmail.cf, and the checks that no test can bring about on a real host
 * (the others: tests/e2e/test_doctor.py).
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

#include "milter/ctl/doctor.h"
#include "milter/state/status.h"

static const char policy_text[] =
    "gmroute: 1\n"
    "mta_domains: [example.com]\n"
    "milter: {listen: 'unix:/q/gmroute/milter.sock'}\n"
    "deliver: {listen: 'unix:/q/gmroute/deliver.sock'}\n"
    "accounts:\n"
    "  sales: {address: sales@example.com, auth: {password_file: /s}}\n"
    "rules:\n"
    "  - {match: {sender: sales@example.com}, route: {account: sales}}\n";

/* As mta-config makes it; the defaults are Postfix's. */
static const char main_text[] =
    "config_directory = /etc/postfix\n"
    "gmroute_destination_concurrency_limit = 10\n"
    "gmroute_destination_recipient_limit = 100\n"
    "gmroute_initial_destination_concurrency = 10\n"
    "lmtp_data_done_timeout = 600s\n"
    "lmtp_data_init_timeout = 120s\n"
    "lmtp_lhlo_timeout = 300s\n"
    "lmtp_rcpt_timeout = 300s\n"
    "lmtp_send_xforward_command = no\n"
    "mail_owner = postfix\n"
    "maximal_queue_lifetime = 5d\n"
    "message_size_limit = 10240000\n"
    "milter_command_timeout = 30s\n"
    "milter_connect_timeout = 30s\n"
    "milter_content_timeout = 300s\n"
    "milter_protocol = 6\n"
    "non_smtpd_milters = unix:gmroute/milter.sock\n"
    "queue_directory = /q\n"
    "smtpd_milters = inet:127.0.0.1:9, { unix:gmroute/milter.sock, "
    "connect_timeout=9s }\n"
    "smtputf8_enable = yes\n";
static const char services_text[] =
    "smtp       inet  n       -       y       -       -       smtpd\n"
    "cleanup    unix  n       -       y       -       0       cleanup\n"
    "retry      unix  -       -       y       -       -       error\n"
    "gmroute    unix  -       -       n       -       320     lmtp -o "
    "lmtp_send_xforward_command=yes -o {x=a b}\n"
    "gmclean    unix  n       -       n       -       0       cleanup\n"
    "bounce     unix  -       -       y       -       0       bounce\n"
    "127.0.0.1:10026 inet n   -       -       -       -       smtpd\n";
static const char overrides_text[] =
    "gmroute/unix/lmtp_send_xforward_command = yes\n"
    "gmroute/unix/x = a b\n"
    "gmclean/unix/non_smtpd_milters =\n"
    "bounce/unix/cleanup_service_name = gmclean\n"
    "bounce/unix/internal_mail_filter_classes = bounce\n"
    "defer/unix/cleanup_service_name = gmclean\n"
    "defer/unix/internal_mail_filter_classes = bounce\n"
    "trace/unix/cleanup_service_name = gmclean\n"
    "trace/unix/internal_mail_filter_classes = bounce\n"
    "127.0.0.1:10026/inet/smtpd_milters = unix:gmroute/milter.sock\n";

struct fixture {
    struct policy *policy;
    struct mta_settings mta;
    struct map_answer map;
    struct doctor_host host;
    struct doctor_case k;
    struct sendmail_settings sendmail;
};

/* With one more line of main.cf, which wins over its namesake. */
static void
start(struct fixture *x, const char *more)
{
    struct diag *d = calloc(1, sizeof *d);
    struct arena *a = arena_new();
    const char *text = arena_printf(a, "%s%s", more, main_text);

    memset(x, 0, sizeof *x);
    x->policy = policy_compile(policy_text, strlen(policy_text),
                               "/etc/gmroute.yaml", NULL, d);
    assert_non_null(x->policy);
    free(d);
    x->mta = (struct mta_settings){
        .arena = a, .directory = "/etc/postfix", .is_default = true};
    assert_true(postconf_parse_main(&x->mta, text));
    assert_true(postconf_parse_set(&x->mta, text));
    assert_true(postconf_parse_services(&x->mta, services_text));
    assert_true(postconf_parse_overrides(&x->mta, overrides_text));
    x->map = (struct map_answer){.parameter = "transport_maps",
                                 .map = "texthash:/etc/postfix/gmroute",
                                 .below = "retry:4.3.5",
                                 .bare = "retry:4.3.5"};
    for (unsigned i = 0; i < TICKET_QUEUES; i++)
        x->map.queue[i] = arena_printf(a, "gmroute:unix:gmroute/q%02u.sock", i);
    x->k = (struct doctor_case){
        .arena = a,
        .policy = x->policy,
        .config = "/etc/gmroute.yaml",
        .mta = &x->mta,
        .maps = &x->map,
        .n_maps = 1,
        .cleaner = {.map = "pcre:/x", .address = "REPLACE <a@b>"}};
    x->host.mta_user = "postfix";
    x->host.mta_user_exists = true;
    x->host.daemon[0].up = x->host.daemon[1].up = true;
    x->host.socket[0].listens = x->host.socket[1].listens = -1;
    x->host.state =
        (struct file_fact){.path = "/s", .is_directory = true, .mode = 0750};
    x->host.ledger = (struct file_fact){.path = "/s/ledger.db"};
    x->host.runtime = x->host.state;
    x->host.space[1].is_tmpfs = true;
}

static void
end(struct fixture *x)
{
    policy_free(x->policy);
    arena_free(x->k.arena);
}

/* Exactly this one is found; NULL = none. */
static void
finds(const struct fixture *x, const char *check, const char *what,
      const char *remedy)
{
    struct findings f;

    assert_true(doctor_examine(&x->k, &f));
    for (size_t i = 0; i < f.n; i++)
        print_message("  %s: %s\n", f.at[i].check->name, f.at[i].what);
    assert_int_equal(f.n, check != NULL);
    if (check == NULL)
        return;
    assert_string_equal(f.at[0].check->name, check);
    assert_non_null(strstr(f.at[0].what, what));
    assert_non_null(strstr(f.at[0].remedy, remedy));
}

/* ---- main.cf of other Postfixes ---- */

static void
finds_what_a_version_changes(void **state)
{
    static const struct {
        const char *more, *check, *what, *remedy;
    } rows[] = {
        {"milter_default_action = tempfail\n", NULL, "", ""},
        {"milter_default_action = accept\n", "default-action", "is accept",
         "postconf -e milter_default_action=tempfail"},
        {"milter_default_action = tempfail\nmilter_protocol = 4\n",
         "milter-protocol", "is 4", "milter_protocol=6"},
        {"milter_default_action = tempfail\n"
         "default_process_limit = 50\nsoft_bounce = yes\n",
         "soft-bounce", "yes", "soft_bounce=no"},
    };
    struct fixture x;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(&x, rows[i].more);
        finds(&x, rows[i].check, rows[i].what, rows[i].remedy);
        end(&x);
    }
    /* Postfix 3.11: not in main.cf, and another default. */
    start(&x, "milter_default_action = shutdown\n");
    for (size_t i = 0; i < x.mta.n_main; i++)
        x.mta.main[i].is_set = false;
    finds(&x, "default-action", "shutdown, the default of this Postfix",
          "postconf -e milter_default_action=tempfail");
    end(&x);
}

/* ---- the host ---- */

static void
no_user(struct fixture *x)
{
    x->host.mta_user_exists = false;
}

static void
foreign_ledger(struct fixture *x)
{
    x->host.has_agent = true;
    x->host.agent = 101;
    x->host.state.uid = 101;
    x->host.ledger.uid = 7;
}

static void
foreign_state(struct fixture *x)
{
    x->host.has_agent = true;
    x->host.agent = 101;
    x->host.ledger.uid = 101;
}

static void
no_time_server(struct fixture *x)
{
    x->host.clock_unsynchronised = true;
}

static void
clock_off(struct fixture *x)
{
    x->host.has_skew = true;
    x->host.skew_s = -75;
}

static void
clock_near(struct fixture *x)
{
    x->host.has_skew = true;
    x->host.skew_s = 60;
}

static struct token_fact one_token = {.identity = "a@example.com",
                                      .error = "said so"};

static void
needs_login(struct fixture *x)
{
    one_token.state = TOKEN_NEEDS_LOGIN;
    x->host.tokens = &one_token;
    x->host.n_tokens = 1;
}

static void
retrying(struct fixture *x)
{
    needs_login(x);
    one_token.state = TOKEN_RETRYING;
}

static void
no_inodes(struct fixture *x)
{
    x->host.space[2] = (struct space_fact){.what = "the MTA's queue",
                                           .path = "/q",
                                           .size = 1ull << 40,
                                           .free = 1ull << 39,
                                           .files = 1000,
                                           .free_files = 3};
}

static void
a_link(struct fixture *x)
{
    x->k.mta = NULL;
    x->k.sendmail = &x->sendmail;
    x->k.report_program = "/etc/mail/gmclean";
    x->host.socket[1].what = "agent";
    x->host.socket[1].file =
        (struct file_fact){.path = "/q/gmroute/deliver.sock",
                           .is_link = true,
                           .leads_to = "other.sock"};
}

static const char cf_text[] =
    "# not a line of its own\n"
    "Cwlocalhost  a.test\n"
    "C{w}b.test\n"
    "Fw-o /etc/mail/local-host-names %[^\\#]\n"
    "Fw/etc/mail/more\n"
    "O Timeout.queuereturn=5d\n"
    "O MaxMessageSize=25000000\n"
    "O InputMailFilters=other, gmroute\n"
    "Xgmroute, S=local:/q/gmroute/milter.sock, F=T, T=S:30s;R:1m;E:2m\n"
    "Mgmroute,\tP=[IPC], F=mDFMuXzn8,\n"
    "\t\tE=\\r\\n, L=2040,\n"
    "\t\tA=FILE /q/gmroute/deliver.sock\n"
    "R$* < @ $+ . $- . gmroute.invalid . > $*\t$#gmroute $@ $3 $: x\n"
    "R$* < @ $+ . $- . gmroute.invalid > $*\t$#gmroute $@ $3 $: x\n"
    "R$* < @ $* gmroute.invalid . > $*\t$#error $@ 4.3.5 $: \"451\"\n";

static void
finds_what_is_wrong_with_a_host(void **state)
{
    static const struct {
        void (*change)(struct fixture *x);
        const char *check, *what, *remedy;
    } rows[] = {
        {no_user, "mta-user", "postfix does not exist", "mail_owner"},
        {foreign_ledger, "ledger-owner", "runs as 101", "chown 101 /s/led"},
        {foreign_state, "state-directory", "cannot write", "chown 101 /s"},
        {no_time_server, "clock-unsynchronised", "time server", "set-ntp"},
        {clock_off, "clock-skew", "75 s ahead", "set-ntp"},
        {clock_near, NULL, "", ""},
        {needs_login, "token", "said so", "gmroutectl login a@example.com"},
        {retrying, "token-retrying", "said so", "gmroutectl verify"},
        {no_inodes, "disk-full", "3 inodes", "du -xh"},
        {a_link, "socket-link", "symbolic link", "other.sock"},
    };
    struct fixture x;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(&x, "milter_default_action = tempfail\n");
        x.k.host = &x.host;
        assert_true(sendmail_parse(x.k.arena, "/cf", cf_text, &x.sendmail));
        rows[i].change(&x);
        finds(&x, rows[i].check, rows[i].what, rows[i].remedy);
        end(&x);
    }
}

/* ---- reading ---- */

static void
reads_postfix(void **state)
{
    struct fixture x;
    const struct mta_service *v;

    (void)state;
    start(&x, "");
    assert_string_equal(mta_main(&x.mta, "queue_directory"), "/q");
    assert_string_equal(mta_main(&x.mta, "no_such"), "");
    v = mta_service(&x.mta, "gmroute/unix");
    assert_non_null(v);
    assert_string_equal(v->command, "lmtp");
    assert_int_equal(v->maxproc, 320);
    assert_false(v->is_chrooted);
    v = mta_service(&x.mta, "127.0.0.1:10026/inet");
    assert_non_null(v);
    assert_false(v->has_maxproc);
    assert_false(v->is_chrooted);
    assert_true(mta_service(&x.mta, "smtp/inet")->is_chrooted);
    assert_null(mta_service(&x.mta, "smtp/unix"));
    assert_string_equal(mta_override(&x.mta, "gmroute/unix", "x"), "a b");
    assert_string_equal(
        mta_override(&x.mta, "gmclean/unix", "non_smtpd_milters"), "");
    assert_null(mta_override(&x.mta, "gmclean/unix", "x"));
    assert_string_equal(
        mta_effective(&x.mta, "127.0.0.1:10026/inet", "smtpd_milters"),
        "unix:gmroute/milter.sock");
    assert_string_equal(mta_effective(&x.mta, "smtp/inet", "queue_directory"),
                        "/q");
    x.mta.map_types = "btree\npcre\n";
    assert_true(mta_has_map_type(&x.mta, SLICE_LIT("pcre")));
    assert_false(mta_has_map_type(&x.mta, SLICE_LIT("pc")));
    end(&x);
}

static void
reads_lists_and_numbers(void **state)
{
    static const char *const words[] = {"a:b", "{ c, d }", "inline:{e=f, g=h}",
                                        "i"};
    struct slice rest = SLICE_LIT(" a:b, { c, d },\tinline:{e=f, g=h} ,i,"),
                 word;
    struct arena *a = arena_new();
    size_t n = 0;

    (void)state;
    while (mta_list_next(&rest, &word)) {
        assert_true(n < 4);
        assert_true(slice_eq(word, slice_of(words[n++])));
    }
    assert_int_equal(n, 4);
    rest = SLICE_LIT("{ never closed");
    assert_true(mta_list_next(&rest, &word));
    assert_false(mta_list_next(&rest, &word));
    assert_int_equal(mta_seconds("5d"), 5 * 86400);
    assert_int_equal(mta_seconds("2h"), 7200);
    assert_int_equal(mta_seconds("100s"), 100);
    assert_int_equal(mta_seconds("3"), 3);
    assert_int_equal(mta_seconds(""), -1);
    assert_int_equal(mta_seconds("-1s"), -1);
    assert_int_equal(mta_seconds("99999999999999999999w"), -1);
    assert_int_equal(mta_seconds("9223372036854775807w"), INT64_MAX);
    assert_int_equal(mta_number("x"), -1);
    assert_string_equal(mta_quote(a, "unix:/a_b-c.d"), "unix:/a_b-c.d");
    assert_string_equal(mta_quote(a, ""), "''");
    assert_string_equal(mta_quote(a, "a b; $(c)"), "'a b; $(c)'");
    assert_string_equal(mta_quote(a, "it's"), "'it'\\''s'");
    arena_free(a);
}

static void
take(void *cookie, struct slice word)
{
    char *all = cookie;

    snprintf(all + strlen(all), 200 - strlen(all), "%.*s;", SLICE_FMT(word));
}

static void
reads_sendmail(void **state)
{
    static const char *const there[] = {"gmroute.invalid >", "$#gmroute", NULL};
    static const char *const not [] = {"gmroute.invalid >", "$#error", NULL};
    struct sendmail_settings s;
    struct arena *a = arena_new();
    char words[200] = "";

    (void)state;
    assert_true(sendmail_parse(a, "/cf", cf_text, &s));
    assert_string_equal(sendmail_option(&s, "timeout.QueueReturn"), "5d");
    assert_null(sendmail_option(&s, "Timeout.queue"));
    assert_string_equal(sendmail_field(&s, sendmail_filter(&s, "gmroute"), 'T'),
                        "S:30s;R:1m;E:2m");
    assert_null(sendmail_field(&s, sendmail_filter(&s, "gmroute"), 'Q'));
    assert_null(sendmail_filter(&s, "gm"));
    assert_string_equal(sendmail_field(&s, sendmail_mailer(&s, "gmroute"), 'A'),
                        "FILE /q/gmroute/deliver.sock");
    assert_int_equal(sendmail_filter_time("S:30s;R:1m;E:2m", 'R'), 60);
    assert_int_equal(sendmail_filter_time("S:30s", 'E'), -1);
    assert_int_equal(sendmail_filter_time("S:", 'S'), -1);
    assert_true(sendmail_rule(&s, there));
    assert_false(sendmail_rule(&s, not ));
    sendmail_class_w(&s, words, take, take);
    assert_string_equal(words, "localhost;a.test;b.test;"
                               "/etc/mail/local-host-names;/etc/mail/more;");
    assert_true(sendmail_parse(a, "/cf", "", &s));
    assert_true(sendmail_parse(a, "/cf", "\tgoes on with nothing\nO x", &s));
    arena_free(a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_version_changes),
        cmocka_unit_test(finds_what_is_wrong_with_a_host),
        cmocka_unit_test(reads_postfix),
        cmocka_unit_test(reads_lists_and_numbers),
        cmocka_unit_test(reads_sendmail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
