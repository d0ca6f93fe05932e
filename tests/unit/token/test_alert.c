/* tests/unit/token/test_alert.c - mirrors milter/token/alert.c, alerter.c,
 * command.c and quota_watch.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/token/alert_letter.h"
#include "milter/token/alerter.h"
#include "milter/token/quota_watch.h"
#include "tests/unit/state/fixture.h"

/* ---- the book ---- */

static struct alert_book *book;

static int
new_book(void **state)
{
    (void)state;
    book = alert_book_new();
    return book == NULL;
}

static int
free_book(void **state)
{
    (void)state;
    alert_book_free(book);
    return 0;
}

static void
note(const char *subject, const char *word)
{
    struct alert a = alert_of(ALERT_TOKEN, subject, word, "because");

    assert_true(alert_book_note(book, &a));
}

/* "subject state" of what is to be told at that minute; "" = nothing. */
static const char *
told_at(unsigned minute)
{
    static char text[400];
    struct alert a;

    text[0] = '\0';
    if (alert_book_next(book, minute * 60000ull, HOUR_MS, &a))
        snprintf(text, sizeof text, "%s %s", a.subject, a.state);
    return text;
}

static void
bad_and_good_again_are_told_once_an_hour(void **state)
{
    (void)state;
    note("a", "ok"); /* nobody has believed anything else */
    assert_string_equal(told_at(0), "");
    note("a", "needs_login");
    assert_string_equal(told_at(1), "a needs_login");
    note("a", "needs_login");
    assert_string_equal(told_at(2), "");
    note("a", "configuration");
    assert_string_equal(told_at(3), ""); /* within the hour */
    note("a", "ok");
    assert_string_equal(told_at(60), "");
    assert_string_equal(told_at(61), "a ok");
    assert_string_equal(told_at(122), "");
    note("a", "needs_login");
    assert_string_equal(told_at(123), "a needs_login");
}

static void
what_passes_within_the_hour_is_not_told(void **state)
{
    (void)state;
    note("a", "needs_login");
    assert_string_equal(told_at(1), "a needs_login");
    note("a", "ok");
    note("a", "needs_login");
    assert_string_equal(told_at(100), "");
    note("b", "needs_login");
    note("b", "ok");
    assert_string_equal(told_at(101), "");
}

static void
each_subject_and_topic_has_its_own_hour(void **state)
{
    struct alert quota = alert_of(ALERT_QUOTA, "a", "nearly_full", "x");

    (void)state;
    note("a", "needs_login");
    note("b", "needs_login");
    assert_true(alert_book_note(book, &quota));
    assert_string_equal(told_at(1), "a needs_login");
    assert_string_equal(told_at(1), "b needs_login");
    assert_string_equal(told_at(1), "a nearly_full");
    assert_string_equal(told_at(1), "");
    note("a", "ok");
    note("c", "needs_login"); /* behind the one that goes */
    assert_string_equal(told_at(61), "a ok");
    assert_string_equal(told_at(61), "c needs_login");
    assert_string_equal(told_at(200), "");
    note("d", "needs_login");
    assert_string_equal(told_at(200), "d needs_login");
}

static void
sentences(void **state)
{
    struct alert a = alert_of(ALERT_TOKEN, "a@x.example", "needs_login",
                              "the refresh token is revoked: login");
    char text[400];

    (void)state;
    alert_text(&a, text, sizeof text);
    assert_string_equal(text, "account a@x.example: needs_login: the refresh "
                              "token is revoked: login");
    a = alert_of(ALERT_CLIENT, "client corp", "ok", "");
    alert_text(&a, text, sizeof text);
    assert_string_equal(text, "client corp: all is well again");
    a = alert_of(ALERT_QUOTA, "a@x.example", "nearly_full", "95 %");
    alert_text(&a, text, sizeof text);
    assert_string_equal(text, "account a@x.example: quota: nearly_full: 95 %");
}

/* ---- the mail ---- */

static void
a_letter_says_all_that_a_person_needs(void **state)
{
    struct alert a =
        alert_of(ALERT_TOKEN, "a@x.example", "needs_login",
                 "invalid_grant: the refresh token is expired or revoked");
    char letter[ALERT_LETTER_MAX + 1];

    (void)state;
    a.since_s = 1772359200;
    alert_letter(&a, "relay.example", "postmaster", letter);
    assert_string_equal(
        letter,
        "To: postmaster\n"
        "Subject: gmroute on relay.example: a@x.example needs a login\n"
        "Auto-Submitted: auto-generated\n"
        "MIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n"
        "\n"
        "What:   a@x.example needs a login (token: needs_login)\n"
        "Why:    invalid_grant: the refresh token is expired or revoked\n"
        "Since:  2026-03-01 10:00:00 UTC\n"
        "Where:  gmroute-token on relay.example\n"
        "To do:  gmroutectl login a@x.example\n"
        "\n"
        "Mail goes on for as long as the tokens at hand are valid; then it "
        "waits, or\n"
        "goes where the rule's `otherwise` says.\n"
        "\n"
        "`gmroutectl tokens` and `gmroutectl quota` show how it stands now.\n");
    a = alert_of(ALERT_CLIENT, "client corp", "ok", "");
    alert_letter(&a, "relay.example", "postmaster", letter);
    assert_non_null(strstr(letter, "Subject: gmroute on relay.example: client "
                                   "corp is well again\n"));
    assert_non_null(strstr(letter, "(client: ok)\nSince:  not known\n"));
    assert_null(strstr(letter, "To do:"));
    assert_null(strstr(letter, "waits"));
}

/* Whatever somebody calls himself. */
static void
no_subject_becomes_a_command_or_a_header(void **state)
{
    static const struct {
        const char *subject, *remedy;
        bool in_header;
    } names[] = {
        {"a.b+c-d_e@x.example", "gmroutectl login a.b+c-d_e@x.example", true},
        {"$(reboot)@x.example", "gmroutectl login '$(reboot)@x.example'",
         false},
        {"a'b;c@x.example", "gmroutectl login ACCOUNT", false},
        {"-a@x.example", "gmroutectl login '-a@x.example'", true},
        {"a\nBcc: b@x.example", "gmroutectl login ACCOUNT", false},
        {"\xc3\xa4@x.example", "gmroutectl login ACCOUNT", false},
        {"a@x.example smarthost", "gmroutectl login 'a@x.example smarthost'",
         true},
    };
    char letter[ALERT_LETTER_MAX + 1], remedy[ALERT_REMEDY_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct alert a =
            alert_of(ALERT_TOKEN, names[i].subject, "needs_login", "why");
        char want[400];

        alert_remedy(&a, remedy);
        assert_string_equal(remedy, names[i].remedy);
        alert_letter(&a, "h", "postmaster", letter);
        snprintf(want, sizeof want,
                 "To: postmaster\nSubject: gmroute on h: %s needs a login\n"
                 "Auto-Submitted",
                 names[i].in_header ? names[i].subject : "an account");
        assert_memory_equal(letter, want, strlen(want));
    }
}

static void
each_topic_and_state_has_a_remedy_that_fits(void **state)
{
    static const char *const states[] = {
        "needs_login",    "no_mailbox",   "configuration",
        "client_refused", "unauthorized", "transient",
        "nearly_full",    "ends_soon",    "unused"};
    char remedy[ALERT_REMEDY_MAX + 1], name[IDENTITY_MAX + 1];

    (void)state;
    memset(name, 'a', IDENTITY_MAX);
    name[IDENTITY_MAX] = '\0';
    for (unsigned t = 0; t < ALERT_TOPICS; t++)
        for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
            struct alert a = alert_of(t, name, states[i], "why");
            char letter[ALERT_LETTER_MAX + 1];

            memset(a.why, 'w', ALERT_WHY_MAX);
            alert_remedy(&a, remedy);
            assert_true(strlen(remedy) > 10);
            alert_letter(&a, "host.example", "postmaster@host.example", letter);
            assert_non_null(strstr(letter, "show how it stands now.\n"));
            /* A pipe holds so much (command.c). */
            assert_true(strlen(letter) < 4096);
        }
}

static void
a_state_has_begun_when_it_was_first_said(void **state)
{
    struct alert a = alert_of(ALERT_TOKEN, "a", "needs_login", "x"), b;

    (void)state;
    a.since_s = 100;
    assert_true(alert_book_note(book, &a));
    a.since_s = 200;
    assert_true(alert_book_note(book, &a));
    assert_true(alert_book_next(book, 60000, HOUR_MS, &b));
    assert_int_equal(b.since_s, 100);
    a = alert_of(ALERT_TOKEN, "a", "ok", "");
    a.since_s = 300;
    assert_true(alert_book_note(book, &a));
    assert_true(alert_book_next(book, 60000 + HOUR_MS, HOUR_MS, &b));
    assert_int_equal(b.since_s, 300);
}

/* ---- quota ---- */

static void
quota_rows(void **state)
{
    struct quota_view v = {.n = 3, .identity = "a@x.example"};
    struct alert a;

    (void)state;
    v.window[0].dimension = DIM_MESSAGES;
    v.window[0].limit = 500;
    v.window[0].window_ms = DAY_MS;
    v.window[1].dimension = DIM_PACE;
    v.window[1].limit = v.window[1].used = 20;
    v.window[2].dimension = DIM_BYTES;
    v.window[2].limit = 300000000;
    v.window[2].window_ms = HOUR_MS;
    v.window[0].used = 449;
    a = quota_watch(&v, 90);
    assert_true(alert_is_ok(&a));
    v.window[0].used = 450;
    a = quota_watch(&v, 90);
    assert_string_equal(a.state, "nearly_full");
    assert_string_equal(a.why,
                        "90 % of a limit is used: 450 of 500 messages in "
                        "24 h; what is more will wait or go "
                        "elsewhere");
    v.window[2].used = 300000000;
    a = quota_watch(&v, 90);
    assert_non_null(strstr(a.why, "300000000 of 300000000 bytes in 1 h"));
}

/* ---- commands ---- */

static bool
run(const char *script, const char *input, uint64_t timeout_ms, char *err)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    char *env[] = {(char *)"PATH=/usr/bin:/bin", (char *)"FACT=a b", NULL};

    err[0] = '\0';
    return command_run(
        &(struct command){
            .argv = argv, .env = env, .input = input, .timeout_ms = timeout_ms},
        err, 200);
}

static void
commands(void **state)
{
    char err[200], *argv[] = {(char *)"/nowhere", NULL}, *env[] = {NULL};
    struct command none = {
        .argv = argv, .env = env, .input = "", .timeout_ms = 1000};
    time_t start = time(NULL);

    (void)state;
    assert_true(run("test \"$FACT\" = 'a b' && test -z \"$HOME\" && "
                    "read line && test \"$line\" = 'one line'",
                    "one line\n", 10000, err));
    /* Whatever a library has left open. */
    assert_int_equal(dup2(STDIN_FILENO, 99), 99);
    assert_true(run("test -e /proc/$$/fd/0 && ! test -e /proc/$$/fd/99", "",
                    10000, err));
    close(99);
    assert_false(run("exit 3", "", 10000, err));
    assert_non_null(strstr(err, "ended with status 3"));
    assert_false(run("kill -9 $$", "", 10000, err));
    assert_non_null(strstr(err, "ended by signal 9"));
    assert_false(run("sleep 600 & sleep 600", "", 200, err));
    assert_non_null(strstr(err, "did not end in time"));
    assert_true(time(NULL) - start < 300);
    assert_false(command_run(&none, err, sizeof err));
    assert_non_null(strstr(err, "/nowhere: No such file"));
}

/* ---- the thread ---- */

static struct {
    pthread_mutex_t lock;
    unsigned n;
    char argv[8][200], env[8][1000], input[8][1000];
} ran = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
join(char *ret, size_t size, char *const *words)
{
    size_t n = 0;

    ret[0] = '\0';
    for (; *words != NULL && n < size; words++)
        n += (size_t)snprintf(ret + n, size - n, "%s\n", *words);
}

static bool
fake_run(const struct command *c, char *err, size_t err_size)
{
    (void)err;
    (void)err_size;
    pthread_mutex_lock(&ran.lock);
    assert_true(ran.n < 8);
    join(ran.argv[ran.n], sizeof ran.argv[0], c->argv);
    join(ran.env[ran.n], sizeof ran.env[0], c->env);
    snprintf(ran.input[ran.n], sizeof ran.input[0], "%s", c->input);
    ran.n++;
    pthread_mutex_unlock(&ran.lock);
    return true;
}

static unsigned
wait_for_runs(unsigned n)
{
    unsigned have = 0;

    for (unsigned i = 0; i < 2000 && have < n; i++) {
        pthread_mutex_lock(&ran.lock);
        have = ran.n;
        pthread_mutex_unlock(&ran.lock);
        usleep(5000);
    }
    return have;
}

static void
the_thread_runs_what_is_configured(void **state)
{
    static const char text[] =
        "gmroute: 1\nhostname: h.example\n"
        "alert: {command: [/bin/page, -x], mail: postmaster, sendmail: "
        "[/bin/mta, -C, f]}\n";
    static struct diag d;
    struct conf_holder *conf = conf_holder_new(
        policy_compile(text, sizeof text - 1, "/t.yaml", NULL, &d));
    struct alert what =
        alert_of(ALERT_TOKEN, "a@x.example", "needs_login", "why \"so\"");
    struct alerter *a;

    (void)state;
    assert_non_null(conf);
    a = alerter_new(&(struct alerter_options){
        .conf = conf, .clock = &fixture_clock, .run = fake_run});
    assert_non_null(a);
    alerter_note(a, &what);
    assert_int_equal(wait_for_runs(2), 2);
    alerter_note(a, &what);
    alerter_free(a);
    conf_holder_free(conf);
    assert_int_equal(ran.n, 2);
    assert_string_equal(ran.argv[0], "/bin/page\n-x\n");
    assert_non_null(strstr(ran.env[0], "GMROUTE_ALERT=token\n"
                                       "GMROUTE_SUBJECT=a@x.example\n"
                                       "GMROUTE_STATE=needs_login\n"
                                       "GMROUTE_WHY=why \"so\"\n"));
    assert_string_equal(ran.input[0],
                        "account a@x.example: needs_login: why \"so\"\n");
    assert_string_equal(ran.argv[1],
                        "/bin/mta\n-C\nf\n-i\n-f\n<>\n--\npostmaster\n");
    assert_non_null(strstr(ran.input[1], "To: postmaster\n"
                                         "Subject: gmroute on h.example: "
                                         "a@x.example needs a login\n"));
    assert_non_null(strstr(ran.env[0], "GMROUTE_SINCE=1772359200\n"
                                       "GMROUTE_REMEDY=gmroutectl login "
                                       "a@x.example\n"));
}

#define BOOK(f) cmocka_unit_test_setup_teardown(f, new_book, free_book)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOOK(bad_and_good_again_are_told_once_an_hour),
        BOOK(what_passes_within_the_hour_is_not_told),
        BOOK(each_subject_and_topic_has_its_own_hour),
        BOOK(a_state_has_begun_when_it_was_first_said),
        cmocka_unit_test(sentences),
        cmocka_unit_test(a_letter_says_all_that_a_person_needs),
        cmocka_unit_test(no_subject_becomes_a_command_or_a_header),
        cmocka_unit_test(each_topic_and_state_has_a_remedy_that_fits),
        cmocka_unit_test(quota_rows),
        cmocka_unit_test(commands),
        cmocka_unit_test(the_thread_runs_what_is_configured),
    };

    return cmocka_run_group_tests_name("token/alert", tests, NULL, NULL);
}
