/* tests/unit/token/test_refresher_trouble.c - mirrors
 * milter/token/refresher_answer.c: what refusals and endpoints that fail do to
 * accounts, and what people are told.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <cmocka.h>

#include "tests/unit/token/refresher_case.h"

static void
a_refused_client_is_asked_for_once(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    answer_with(401, "{\"error\":\"invalid_client\"}");
    fixture_pass(LIFE_S * 1000 * 76 / 100); /* about when the first are due */
    for (unsigned i = 0; i < 50 && atomic_load(&endpoint.asked) == 0; i++) {
        fixture_pass(10000);
        refresher_tick(t.refresher);
        usleep(5000);
    }
    usleep(20000);
    assert_in_range(atomic_load(&endpoint.asked), 1, 4);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
    assert_string_equal(status_of(7).error,
                        "client corp: invalid_client: the OAuth client is "
                        "unknown or its secret is wrong: check client_id and "
                        "client_secret_file");
    /* The tokens they have are as good as ever. */
    assert_true(status_of(7).expires_at_s * 1000 >
                atomic_load(&fixture_wall_ms));

    /* Ten minutes later one tries, for all of them. */
    answer_with(401, "{\"error\":\"invalid_client\"}");
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    run_until(1);
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

static void
a_new_client_secret_is_tried_at_once(void **state)
{
    (void)state;
    answer_with(401, "{\"error\":\"invalid_client\"}");
    for (unsigned i = 0; i < 50 && count(TOKEN_CLIENT_BROKEN) != ACCOUNTS;
         i++) {
        refresher_tick(t.refresher);
        usleep(5000);
        if (atomic_load(&endpoint.asked) == 0)
            continue;
        break;
    }
    usleep(20000);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
    answer_with(200, a_token);
    run_until(0);
    write_file(t.secret, "another\n");
    fixture_pass(1000);
    for (unsigned i = 0; i < 50 && atomic_load(&endpoint.asked) == 0; i++) {
        refresher_tick(t.refresher);
        usleep(2000);
    }
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

/* Refuses the client, for everybody. */
static void
refuse_all(void)
{
    answer_with(401, "{\"error\":\"invalid_client\"}");
    for (unsigned i = 0; i < 50 && count(TOKEN_CLIENT_BROKEN) != ACCOUNTS;
         i++) {
        refresher_tick(t.refresher);
        usleep(5000);
    }
    usleep(20000);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
}

static void
one_alert_for_a_client_and_one_for_an_account(void **state)
{
    unsigned lines = 0;

    (void)state;
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    refuse_all();
    assert_string_equal(news(), "client client corp client_refused\n");
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");

    /* Trouble with the network is told when tokens have run out, once. */
    answer_with(0, "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 / 5);
    for (unsigned i = 2; i < 8; i++) {
        run_until(i * ACCOUNTS);
        fixture_pass(400 * 1000);
    }
    assert_string_equal(news(), "client client corp transient\n");
    answer_with(200, a_token);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");

    answer_with(400, "{\"error\":\"invalid_grant\"}");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    for (const char *p = news(); *p != '\0'; p++)
        lines += *p == '\n';
    assert_int_equal(lines, ACCOUNTS); /* each needs a login of its own */
    answer_with(200, "{\"access_token\":\"x\","
                     "\"refresh_token_expires_in\":90000}");
    write_file(t.token, "1//login\n");
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "ending a7@example.com ends_soon\n"));
}

/* Whoever is refused for himself was let in as a client. */
static void
an_answer_about_the_account_frees_the_client(void **state)
{
    (void)state;
    refuse_all();
    answer_with(401, "{\"error\":\"unauthorized_client\"}");
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_CONFIG), ACCOUNTS);
}

/* A new secret, and an endpoint that says nothing of it: no storm. */
static void
a_probe_without_an_answer_is_not_repeated_at_once(void **state)
{
    (void)state;
    refuse_all();
    answer_with(503, "");
    write_file(t.secret, "another\n");
    run_until(1);
    run_until(1);
    fixture_pass(6 * 1000); /* another account tries */
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

static void
a_passing_failure_leaves_the_token_in_use(void **state)
{
    struct token_status s;
    unsigned asked;

    (void)state;
    run_until(ACCOUNTS);
    answer_with(0, "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    s = status_of(0);
    assert_int_equal(s.state, TOKEN_RETRYING);
    assert_true(s.expires_at_s * 1000 > atomic_load(&fixture_wall_ms));
    assert_non_null(strstr(s.error, "no route to host"));
    /* One second, then two, ...: not at once, but soon. */
    run_until(ACCOUNTS);
    fixture_pass(1300);
    run_until(2 * ACCOUNTS);
    asked = atomic_load(&endpoint.asked);
    answer_with(200, a_token);
    fixture_pass(10000);
    run_until(ACCOUNTS);
    assert_int_equal(asked, 2 * ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

/* Whatever the network and the endpoint do. */
static void
no_trouble_costs_a_secret_or_a_valid_token(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
    } rows[] = {{0, ""},
                {500, "{\"error\":\"invalid_grant\"}"},
                {502, "<html>Bad Gateway</html>"},
                {429, "{\"error\":\"invalid_client\"}"},
                {403, "<html>Sorry...</html>"},
                {400, "{\"error\":\"invalid_gr"},
                {401, ""},
                {200, "{\"access_token\":\"\"}"},
                {200, "<html>Welcome to the hotel</html>"}};
    char before[64], after[64], path[160];
    struct token token;
    uint64_t serial;

    (void)state;
    run_until(ACCOUNTS);
    serial = status_of(0).serial;
    read_file(t.token, before, sizeof before);
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %u %s\n", rows[i].status, rows[i].body);
        answer_with(rows[i].status, rows[i].body);
        run_until(ACCOUNTS);
        assert_int_equal(count(TOKEN_RETRYING), ACCOUNTS);
        assert_int_equal(token_read(t.status, t.mailbox[0].id, &token),
                         STATE_OK);
        assert_int_equal(token.serial, serial);
        assert_true(token.expires_at_s * 1000 > atomic_load(&fixture_wall_ms));
        read_file(t.token, after, sizeof after);
        assert_string_equal(before, after);
        fixture_pass(2000ull << i); /* longer than the pause before the next */
    }
    snprintf(path, sizeof path, "%s/tokens/%016" PRIx64 ".token", t.directory,
             t.mailbox[0].id);
    assert_int_equal(access(path, F_OK), -1);
}

/* Half of the accounts are of an endpoint that is a black hole. */
static void
an_endpoint_that_hangs_does_not_hold_the_others(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    answer_with(200, a_token);
    endpoint.hangs = true;
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    refresher_tick(t.refresher);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.now) < 4; i++)
        usleep(500);
    assert_int_equal(atomic_load(&endpoint.now), 4); /* nobody knows yet */
    fixture_pass(30000);
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.asked) < 4; i++)
        usleep(500);
    for (unsigned i = 0; i < 20; i++) {
        fixture_pass(1000);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&endpoint.now), 1);
    refresher_want(t.refresher, "s1@staff.example", 0);
    for (unsigned i = 0; i < 2000 && !has_token("s1@staff.example"); i++) {
        refresher_tick(t.refresher);
        usleep(500);
    }
    assert_true(has_token("s1@staff.example"));
    assert_int_equal(atomic_load(&endpoint.now), 1);

    /* It is told as soon as somebody has no token any more. */
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 / 5);
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.asked) < 6; i++)
        usleep(500);
    usleep(20000);
    assert_string_equal(news(), "client client corp transient\n");

    /* And over as soon as one is answered. */
    endpoint.hangs = false;
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && count(TOKEN_OK) < ACCOUNTS; i++) {
        fixture_pass(1000);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");
}

/* Seven days after the consent it is over. */
static void
testing_mode_is_told_of_two_days_ahead(void **state)
{
    time_t given = (time_t)(atomic_load(&fixture_wall_ms) / 1000) - 4 * 86400;
    struct timeval times[2] = {{.tv_sec = given}, {.tv_sec = given}};
    unsigned lines = 0;

    (void)state;
    assert_int_equal(utimes(t.token, times), 0);
    t.testing = true;
    conf_publish(t.conf, make_policy());
    refresher_reload(t.refresher);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(25 * HOUR_MS);
    run_until(2 * ACCOUNTS);
    for (const char *p = news(); (p = strstr(p, "ends_soon\n")) != NULL; p++)
        lines++;
    assert_int_equal(lines, ACCOUNTS); /* each of them needs a login */
    fixture_pass(HOUR_MS);
    run_until(3 * ACCOUNTS);
    assert_string_equal(news(), "");
    write_file(t.token, "1//login\n"); /* now, which is a day ago */
    fixture_pass(HOUR_MS);
    run_until(4 * ACCOUNTS);
    assert_non_null(strstr(news(), "ending a7@example.com ok\n"));
}

/* What an administrator has just allowed takes up to a day to come into
 * force. */
static void
unauthorized_is_tried_hourly_for_a_day(void **state)
{
    unsigned asked = ACCOUNTS;

    (void)state;
    answer_with(401, "{\"error\":\"unauthorized_client\"}");
    run_until(asked);
    assert_int_equal(count(TOKEN_CONFIG), ACCOUNTS);
    assert_string_equal(news(), "client client corp unauthorized\n");
    for (unsigned hour = 1; hour <= 24; hour++) {
        fixture_pass(50 * 60 * 1000);
        run_until(asked);
        fixture_pass(14 * 60 * 1000);
        asked += ACCOUNTS;
        run_until(asked);
    }
    fixture_pass(5 * HOUR_MS);
    run_until(asked);
    fixture_pass(80 * 60 * 1000);
    run_until(asked + ACCOUNTS);
    assert_string_equal(news(), "");
    /* Whoever does not want to wait reloads. */
    answer_with(200, a_token);
    refresher_reload(t.refresher);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");
}

static void
a_dead_refresh_token_waits_for_a_person(void **state)
{
    (void)state;
    answer_with(400, "{\"error\":\"invalid_grant\"}");
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_NEEDS_LOGIN), ACCOUNTS);
    fixture_pass(3600 * 1000);
    refresher_want(t.refresher, "a1@example.com", 0);
    run_until(ACCOUNTS); /* no message makes it come sooner */
    answer_with(200, a_token);
    write_file(t.token, "1//login\n");
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_refused_client_is_asked_for_once),
        TEST(one_alert_for_a_client_and_one_for_an_account),
        TEST(a_new_client_secret_is_tried_at_once),
        TEST(an_answer_about_the_account_frees_the_client),
        TEST(a_probe_without_an_answer_is_not_repeated_at_once),
        TEST(a_passing_failure_leaves_the_token_in_use),
        TEST(no_trouble_costs_a_secret_or_a_valid_token),
        TEST(an_endpoint_that_hangs_does_not_hold_the_others),
        TEST(testing_mode_is_told_of_two_days_ahead),
        TEST(unauthorized_is_tried_hourly_for_a_day),
        TEST(a_dead_refresh_token_waits_for_a_person),
    };

    return cmocka_run_group_tests_name("token/refresher_trouble", tests, NULL,
                                       NULL);
}
