/* tests/unit/token/test_refresher.c - mirrors milter/token/refresher.c, and its
 * queue, thin and uses: a day of tokens.
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
everybody_gets_one_and_it_is_renewed_in_time(void **state)
{
    struct token token;

    (void)state;
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_int_equal(token_read(t.status, t.mailbox[0].id, &token), STATE_OK);
    assert_int_equal(token.len, strlen("ya29.token"));
    assert_true(atomic_load(&endpoint.most) <= 4);
    fixture_pass(LIFE_S * 1000 * 3 / 100);
    run_until(ACCOUNTS); /* too early for any */
    fixture_pass(LIFE_S * 1000 * 82 / 100);
    run_until(2 * ACCOUNTS); /* late for all */
    /* That was by schedule, and so is the next. */
    fixture_pass(LIFE_S * 1000 * 75 / 100);
    run_until(2 * ACCOUNTS);
    fixture_pass(LIFE_S * 1000 * 10 / 100);
    run_until(3 * ACCOUNTS);
}

/* Those who came together do not come together again. */
static void
a_start_is_spread_over_the_life(void **state)
{
    unsigned before = 0, most = 0;

    (void)state;
    run_until(ACCOUNTS);
    atomic_store(&endpoint.asked, 0);
    for (unsigned i = 0; i < 17; i++) {
        unsigned n;

        fixture_pass(LIFE_S * 1000 / 20);
        for (unsigned k = 0; k < 30; k++) {
            refresher_tick(t.refresher);
            usleep(1000);
        }
        n = atomic_load(&endpoint.asked);
        most = n - before > most ? n - before : most;
        before = n;
    }
    assert_true(before >= ACCOUNTS);
    assert_true(most <= ACCOUNTS * 3 / 5);
}

static void
a_restart_costs_no_request(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    fixture_pass(LIFE_S * 1000 / 2);
    refresher_free(t.refresher);
    token_book_free(t.book);
    start_book();
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    fixture_pass(LIFE_S * 1000 * 35 / 100);
    run_until(2 * ACCOUNTS);
}

/* However many wait for it: a wish for what is being fetched is no second
 * request. */
static void
many_wishes_are_one_request(void **state)
{
    uint64_t serial;

    (void)state;
    run_until(ACCOUNTS);
    serial = status_of(3).serial;
    endpoint.pause_us = 30000;
    fixture_pass(10000); /* a token refused at once would be pointless */
    for (unsigned i = 0; i < 20; i++) {
        refresher_want(t.refresher, "a3@example.com", serial);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    run_until(ACCOUNTS + 1);
    assert_true(status_of(3).serial > serial);
    /* Who saw the old one refused only now gets the new one. */
    refresher_want(t.refresher, "a3@example.com", serial);
    run_until(ACCOUNTS + 1);
}

/* Asleep for a night: whoever ran out is asked for at once, nobody twice. */
static void
a_night_asleep_is_made_up_for_at_once(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    fixture_pass(9 * HOUR_MS);
    endpoint.pause_us = 2000;
    run_until(2 * ACCOUNTS);
    assert_true(atomic_load(&endpoint.most) <= 4);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_true(status_of(1).expires_at_s * 1000 >
                atomic_load(&fixture_wall_ms));
}

/* Behind an endpoint that is slow, who is waited for does not wait for all. */
static void
who_is_waited_for_comes_first(void **state)
{
    (void)state;
    endpoint.pause_us = 60000;
    refresher_tick(t.refresher); /* four are asked for, sixteen wait */
    refresher_want(t.refresher, "a3@example.com", 0);
    refresher_want(t.refresher, "a12@example.com", 0);
    refresher_want(t.refresher, "a19@example.com", 0);
    for (unsigned i = 0; i < 5000 && atomic_load(&endpoint.asked) < 8; i++)
        usleep(500);
    usleep(20000);
    assert_in_range(count(TOKEN_OK), 8, 12);
    assert_int_equal(status_of(3).state, TOKEN_OK);
    assert_int_equal(status_of(12).state, TOKEN_OK);
    assert_int_equal(status_of(19).state, TOKEN_OK);
    endpoint.pause_us = 0;
    run_until(ACCOUNTS);
}

/* The machine starts anew: of the memory nothing is left. */
static void
reboot(void)
{
    char path[120];

    refresher_free(t.refresher);
    token_book_free(t.book);
    status_reader_free(t.status);
    for (const char *const *name =
             (const char *const[]){"status", "token", NULL};
         *name != NULL; name++) {
        snprintf(path, sizeof path, "%s/%s", t.directory, *name);
        assert_int_equal(unlink(path), 0);
    }
    start_book();
    t.status = status_reader_new(t.directory, true);
    assert_non_null(t.status);
}

static void
pass_days(unsigned n)
{
    fixture_pass(n * 24 * HOUR_MS);
}

/* The file is as old as the consent; what counts is the last use. */
static void
a_reboot_does_not_forget_the_last_use(void **state)
{
    time_t given = (time_t)(atomic_load(&fixture_wall_ms) / 1000) - 500 * 86400;
    struct timeval times[2] = {{.tv_sec = given}, {.tv_sec = given}};

    (void)state;
    assert_int_equal(utimes(t.token, times), 0);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    reboot();
    answer_with(503, "");
    pass_days(148);
    run_until(ACCOUNTS);
    assert_null(strstr(news(), "unused"));
    reboot();
    answer_with(503, "");
    pass_days(3);
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "unused a7@example.com unused\n"));
    answer_with(200, a_token);
    pass_days(1);
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "unused a7@example.com ok\n"));
    /* A crash costs an hour of it at most. */
    fixture_pass(LIFE_S * 1000);
    run_until(2 * ACCOUNTS);
    for (unsigned i = 0; i < 200; i++) {
        struct last_used l;
        char err[300];
        int64_t used_s;

        refresher_tick(t.refresher);
        assert_true(last_used_read(t.directory, &l, err, sizeof err));
        used_s = last_used_find(&l, t.mailbox[7].id);
        last_used_free(&l);
        if (used_s >= atomic_load(&fixture_wall_ms) / 1000 - 2 * LIFE_S)
            return;
        usleep(5000);
    }
    fail_msg("not stored");
}

/* Nobody has written from there for a day; the named ones go on. */
static void
an_idle_mailbox_of_a_template_rests(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    refresher_want(t.refresher, "s1@staff.example", 0);
    run_until(ACCOUNTS + 1);
    answer_with(200, a_token);
    fixture_pass(23 * HOUR_MS);
    run_until(ACCOUNTS + 1);
    fixture_pass(2 * HOUR_MS);
    run_until(2 * ACCOUNTS + 1);
    refresher_want(t.refresher, "s1@staff.example", 0);
    run_until(2 * ACCOUNTS + 2);
}

/* Many more senders of a template than slots, day after day. */
static void
slots_of_templates_are_used_again(void **state)
{
    char identity[64];

    (void)state;
    run_until(ACCOUNTS);
    for (unsigned i = 0; i < 5 * SLOTS; i++) {
        snprintf(identity, sizeof identity, "s%u@staff.example", i);
        refresher_want(t.refresher, identity, 0);
        refresher_want(t.refresher, "often@staff.example", 0);
        fixture_pass(1000);
        for (unsigned k = 0; k < 2000 && !has_token(identity); k++) {
            refresher_tick(t.refresher);
            usleep(500);
        }
        assert_true(has_token(identity));
    }
    /* Who is wanted often and who is configured by name have stayed. */
    assert_true(has_token("often@staff.example"));
    assert_true(has_token("a0@example.com"));
    assert_true(has_token("a19@example.com"));
    assert_false(has_token("s0@staff.example"));
    /* Whoever comes back gets a new one. */
    refresher_want(t.refresher, "s0@staff.example", 0);
    for (unsigned k = 0; k < 2000 && !has_token("s0@staff.example"); k++) {
        refresher_tick(t.refresher);
        usleep(500);
    }
    assert_true(has_token("s0@staff.example"));
}

static void
a_rotated_token_is_kept_until_it_is_on_disk(void **state)
{
    static const char rotated[] =
        "{\"access_token\":\"x\",\"refresh_token\":\"1//new\"}";
    char folder[100], path[160];

    (void)state;
    /* A directory that cannot be unlinked is where the new file would be. */
    snprintf(folder, sizeof folder, "%s/tokens", t.directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        snprintf(path, sizeof path, "%s/%016" PRIx64 ".token.new", folder,
                 t.mailbox[i].id);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    answer_with(200, rotated);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        snprintf(path, sizeof path, "%s/%016" PRIx64 ".token.new", folder,
                 t.mailbox[i].id);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(fixture_count(folder, ""), 2); /* . and .. */
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS); /* stored, with no further request */
    for (unsigned i = 0; i < 200 && fixture_count(folder, "") < ACCOUNTS + 2;
         i++)
        usleep(5000);
    assert_int_equal(fixture_count(folder, ""), ACCOUNTS + 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everybody_gets_one_and_it_is_renewed_in_time),
        TEST(a_start_is_spread_over_the_life),
        TEST(a_restart_costs_no_request),
        TEST(many_wishes_are_one_request),
        TEST(a_night_asleep_is_made_up_for_at_once),
        TEST(who_is_waited_for_comes_first),
        TEST(a_reboot_does_not_forget_the_last_use),
        TEST(an_idle_mailbox_of_a_template_rests),
        TEST(slots_of_templates_are_used_again),
        TEST(a_rotated_token_is_kept_until_it_is_on_disk),
    };

    return cmocka_run_group_tests_name("token/refresher", tests, NULL, NULL);
}
