/* tests/unit/state/test_hints.c - mirrors milter/state/hints.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "milter/state/hints.h"
#include "tests/unit/state/fixture.h"

enum { NOW = 29539320 /* 2026-03-01 10:00, in minutes */, ID = 4711 };

static char directory[100], err[300];
static struct hints *hints;

static int
set_up(void **state)
{
    (void)state;
    fixture_directory(directory, sizeof directory);
    return hints_open(&hints, directory, 50, err, sizeof err) != STATE_OK;
}

static int
tear_down(void **state)
{
    (void)state;
    hints_free(hints);
    fixture_remove(directory);
    return 0;
}

static void
assert_sum(struct hints *h, uint32_t now, uint32_t messages,
           uint32_t recipients)
{
    uint32_t m = 99, r = 99;

    hints_sum(h, ID, now, &m, &r);
    assert_int_equal(m, messages);
    assert_int_equal(r, recipients);
}

static void
what_is_added_is_cleared(void **state)
{
    (void)state;
    assert_sum(hints, NOW, 0, 0);
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    hints_add(hints, "a@example.com", ID, NOW, 4, 0);
    hints_add(hints, "a@example.com", ID, NOW + 1, 1, 0);
    hints_add(hints, "b@example.com", ID + 1, NOW, 50, 0);
    assert_sum(hints, NOW + 1, 3, 8);
    hints_clear(hints, ID, NOW, 3, 0);
    assert_sum(hints, NOW + 1, 2, 5);
    hints_clear(hints, ID, NOW + 1, 1, 0);
    hints_clear(hints, ID, NOW, 4, 0);
    assert_sum(hints, NOW + 1, 0, 0);
    hints_clear(hints, ID, NOW, 4, 0); /* never below nothing */
    hints_clear(hints, 12345, NOW, 4, 0);
    assert_sum(hints, NOW + 1, 0, 0);
}

static void
external_recipients_are_counted_apart(void **state)
{
    (void)state;
    hints_add(hints, "a@example.com", ID, NOW, 3, 1);
    hints_add(hints, "a@example.com", ID, NOW, 4, 4);
    assert_sum(hints, NOW, 2, 7);
    assert_int_equal(hints_external(hints, ID, NOW), 5);
    hints_clear(hints, ID, NOW, 4, 4);
    assert_int_equal(hints_external(hints, ID, NOW), 1);
    assert_int_equal(hints_external(hints, ID, NOW + 60), 0); /* faded */
    hints_add(hints, "a@example.com", ID, NOW + 64, 5, 2); /* the same cell */
    hints_clear(hints, ID, NOW, 3, 1);
    assert_int_equal(hints_external(hints, ID, NOW + 64), 2);
    assert_int_equal(hints_external(hints, 12345, NOW), 0);
    assert_int_equal(hints_external(NULL, ID, NOW), 0);
}

static void
hints_fade_after_an_hour(void **state)
{
    (void)state;
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    assert_sum(hints, NOW + 59, 1, 3);
    assert_sum(hints, NOW + 60, 0, 0);
    assert_sum(hints, NOW + 64, 0, 0);
    hints_add(hints, "a@example.com", ID, NOW + 64, 5, 0); /* the same cell */
    assert_sum(hints, NOW + 64, 1, 5);
    hints_clear(hints, ID, NOW, 3, 0); /* late: not its cell any more */
    assert_sum(hints, NOW + 64, 1, 5);
}

static void
a_clock_set_back_keeps_young_hints(void **state)
{
    (void)state;
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    assert_sum(hints, NOW - 2, 1, 3);
    assert_sum(hints, NOW - 3, 0, 0); /* from the future: no hint */
}

static void
minutes_wrap(void **state)
{
    uint32_t wrap = 0x2000000; /* a multiple of 2^24 */

    (void)state;
    hints_add(hints, "a@example.com", ID, wrap - 1, 3, 0);
    hints_add(hints, "a@example.com", ID, wrap, 4, 0);
    assert_sum(hints, wrap + 1, 2, 7);
    assert_sum(hints, wrap + 59, 1, 4);
    hints_clear(hints, ID, wrap - 1, 3, 0);
    assert_sum(hints, wrap + 1, 1, 4);
}

static void
counts_stop_at_their_most(void **state)
{
    (void)state;
    hints_add(hints, "a@example.com", ID, NOW, UINT32_MAX, 0);
    hints_add(hints, "a@example.com", ID, NOW, UINT32_MAX, 0);
    assert_sum(hints, NOW, 2, (1 << 20) - 1);
    hints_clear(hints, ID, NOW, UINT32_MAX, 0);
    assert_sum(hints, NOW, 1, 0);
}

static void
a_full_table_is_counted_and_forgotten(void **state)
{
    uint32_t m, r;

    (void)state;
    for (uint64_t id = 1; id <= 100; id++)
        hints_add(hints, "a@example.com", id, NOW, 1, 0);
    assert_int_equal(hints_stat(hints, HINTS_DROPPED), 100 - 56);
    hints_sum(hints, 56, NOW, &m, &r);
    assert_int_equal(m, 1);
    hints_sum(hints, 57, NOW, &m, &r);
    assert_int_equal(m, 0);
    hints_want_token(hints, "a@example.com", 57);
    assert_int_equal(hints_stat(hints, HINTS_DROPPED), 100 - 56 + 1);
}

/* Many more senders than slots, an hour apart from each other. */
static void
slots_of_the_faded_are_used_again(void **state)
{
    struct hints *reader;
    uint32_t m, r;

    (void)state;
    assert_int_equal(hints_open_reader(&reader, directory, err, sizeof err),
                     STATE_OK);
    hints_count(hints, HINTS_ROUTED, 7);
    for (uint64_t id = 100; id < 150; id++)
        hints_add(hints, "a@example.com", id, NOW, 1, 0);
    hints_add(hints, "b@example.com", ID, NOW + 59, 3, 0);
    for (uint64_t id = 200; id < 245; id++)
        hints_add(hints, "a@example.com", id, NOW + 61, 1, 0);
    assert_int_equal(hints_stat(hints, HINTS_DROPPED), 0);
    assert_int_equal(hints_stat(reader, HINTS_ROUTED), 7);
    assert_sum(hints, NOW + 61, 1, 3);
    assert_sum(reader, NOW + 61, 1, 3);
    hints_sum(reader, 244, NOW + 61, &m, &r);
    assert_int_equal(m, 1);
    hints_sum(reader, 100, NOW, &m, &r);
    assert_int_equal(m, 0);
    hints_free(reader);
}

static void
no_handle_is_no_harm(void **state)
{
    uint32_t m = 9, r = 9;

    (void)state;
    hints_add(NULL, "a@example.com", ID, NOW, 1, 0);
    hints_clear(NULL, ID, NOW, 1, 0);
    hints_sum(NULL, ID, NOW, &m, &r);
    assert_true(m == 0 && r == 0);
    hints_want_token(NULL, "a@example.com", ID);
    assert_int_equal(hints_wants(NULL, NULL, NULL), STATE_EABSENT);
    hints_wait(NULL, 1000);
    hints_count(NULL, HINTS_ROUTED, 1);
    assert_int_equal(hints_stat(NULL, HINTS_ROUTED), 0);
    hints_free(NULL);
}

/* ---- who makes it ---- */

static void
the_second_attaches(void **state)
{
    struct hints *agent = NULL;
    struct stat before, after;
    char path[200];

    (void)state;
    snprintf(path, sizeof path, "%s/hints", directory);
    assert_int_equal(stat(path, &before), 0);
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    assert_int_equal(hints_open(&agent, directory, 50, err, sizeof err),
                     STATE_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_sum(agent, NOW, 1, 3);
    hints_clear(agent, ID, NOW, 3, 0);
    assert_sum(hints, NOW, 0, 0);
    hints_free(agent);
}

static void
too_small_is_replaced_and_the_first_comes_over(void **state)
{
    struct hints *agent = NULL;

    (void)state;
    assert_int_equal(hints_open(&agent, directory, 5000, err, sizeof err),
                     STATE_OK);
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    assert_sum(agent, NOW, 1, 3);
    hints_free(agent);
    assert_int_equal(hints_open(&agent, directory, 10, err, sizeof err),
                     STATE_OK); /* large enough: stays */
    assert_sum(agent, NOW, 1, 3);
    hints_free(agent);
}

static void
a_damaged_one_is_replaced_a_strangers_is_not(void **state)
{
    struct hints *h = NULL;
    char path[200];

    (void)state;
    snprintf(path, sizeof path, "%s/hints", directory);
    hints_free(hints);
    hints = NULL;
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(hints_open(&h, directory, 50, err, sizeof err), STATE_OK);
    hints_free(h);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(hints_open(&h, directory, 50, err, sizeof err),
                     STATE_EACCESS);
    assert_non_null(strstr(err, "mode"));
    assert_int_equal(hints_open(&h, "/nonexistent", 50, err, sizeof err),
                     STATE_EABSENT);
}

/* Processes that start together end up with one file. */
static void
many_first_ones_share_one(void **state)
{
    enum { RACERS = 8, ROUNDS = 20 };

    (void)state;
    hints_free(hints);
    hints = NULL;
    for (int round = 0; round < ROUNDS; round++) {
        char path[200];
        int gate[2], status;
        uint32_t m, r;

        snprintf(path, sizeof path, "%s/hints", directory);
        unlink(path);
        assert_int_equal(pipe(gate), 0);
        for (int i = 0; i < RACERS; i++)
            if (fork() == 0) {
                struct hints *h;
                char c;

                close(gate[1]);
                if (read(gate[0], &c, 1) != 0 || /* all at once */
                    hints_open(&h, directory, 50, err, sizeof err) != STATE_OK)
                    _exit(1);
                hints_add(h, "a@example.com", ID, NOW, 2, 0);
                _exit(0);
            }
        close(gate[0]);
        close(gate[1]);
        for (int i = 0; i < RACERS; i++) {
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        assert_int_equal(hints_open(&hints, directory, 50, err, sizeof err),
                         STATE_OK);
        hints_sum(hints, ID, NOW, &m, &r);
        assert_int_equal(m, RACERS);
        assert_int_equal(r, 2 * RACERS);
        hints_free(hints);
        hints = NULL;
    }
    assert_int_equal(fixture_count(directory, ".hints.new-"), 0);
}

static void
a_reader_only_reads(void **state)
{
    struct hints *r = NULL;

    (void)state;
    hints_add(hints, "a@example.com", ID, NOW, 3, 0);
    assert_int_equal(hints_open_reader(&r, directory, err, sizeof err),
                     STATE_OK);
    assert_sum(r, NOW, 1, 3);
    hints_add(r, "a@example.com", ID, NOW, 3, 0); /* nothing, and no SIGSEGV */
    hints_clear(r, ID, NOW, 3, 0);
    hints_count(r, HINTS_ROUTED, 3);
    hints_want_token(r, "a@example.com", ID);
    assert_sum(r, NOW, 1, 3);
    hints_free(r);
    assert_int_equal(hints_open_reader(&r, "/nonexistent", err, sizeof err),
                     STATE_EABSENT);
}

/* ---- wishes ---- */

struct heard {
    unsigned n;
    uint64_t id;
    char identity[IDENTITY_MAX + 1];
};

static void
hear(void *cookie, uint64_t id, const char *identity)
{
    struct heard *h = cookie;

    h->n++;
    h->id = id;
    snprintf(h->identity, sizeof h->identity, "%s", identity);
}

static void
wishes_are_heard_once(void **state)
{
    struct heard heard = {0};
    struct hints *tower = NULL;

    (void)state;
    assert_int_equal(hints_open_reader(&tower, directory, err, sizeof err),
                     STATE_OK);
    hints_add(hints, "a@example.com", ID, NOW, 1, 0); /* is no wish */
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    assert_int_equal(heard.n, 0);
    hints_want_token(hints, "a@example.com/relay", ID + 1);
    hints_want_token(hints, "a@example.com/relay", ID + 1);
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    assert_int_equal(heard.n, 1);
    assert_true(heard.id == ID + 1);
    assert_string_equal(heard.identity, "a@example.com/relay");
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    assert_int_equal(heard.n, 1);
    hints_want_token(hints, "a@example.com/relay", ID + 1);
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    assert_int_equal(heard.n, 2);
    hints_free(tower);
}

static void *
want_soon(void *arg)
{
    (void)arg;
    usleep(50000);
    hints_want_token(hints, "a@example.com", ID);
    return NULL;
}

static void
the_ear_wakes_up(void **state)
{
    uint64_t start_ms = clock_boot_ms(&clock_real);
    struct heard heard = {0};
    struct hints *tower = NULL;
    pthread_t thread;

    (void)state;
    assert_int_equal(hints_open_reader(&tower, directory, err, sizeof err),
                     STATE_OK);
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    hints_wait(tower, 30);
    assert_true(clock_boot_ms(&clock_real) - start_ms >= 20);
    assert_int_equal(pthread_create(&thread, NULL, want_soon, NULL), 0);
    while (heard.n == 0 && clock_boot_ms(&clock_real) - start_ms < 30000) {
        hints_wait(tower, 60000);
        assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    }
    assert_int_equal(heard.n, 1);
    pthread_join(thread, NULL);

    /* a wish between the look and the wait is not slept over */
    hints_want_token(hints, "a@example.com", ID);
    hints_wait(tower, 60000);
    assert_int_equal(hints_wants(tower, hear, &heard), STATE_OK);
    assert_int_equal(heard.n, 2);
    hints_free(tower);
}

static void
statistics_add_up(void **state)
{
    (void)state;
    for (int s = 0; s < HINTS_STATS; s++) {
        hints_count(hints, (enum hints_stat)s, (uint32_t)s + 1);
        hints_count(hints, (enum hints_stat)s, 1);
        assert_int_equal(hints_stat(hints, (enum hints_stat)s), s + 2);
    }
    hints_count(hints, HINTS_STATS, 1);
    assert_int_equal(hints_stat(hints, HINTS_STATS), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_added_is_cleared),
        TEST(external_recipients_are_counted_apart),
        TEST(hints_fade_after_an_hour),
        TEST(a_clock_set_back_keeps_young_hints),
        TEST(minutes_wrap),
        TEST(counts_stop_at_their_most),
        TEST(a_full_table_is_counted_and_forgotten),
        TEST(slots_of_the_faded_are_used_again),
        TEST(no_handle_is_no_harm),
        TEST(the_second_attaches),
        TEST(too_small_is_replaced_and_the_first_comes_over),
        TEST(a_damaged_one_is_replaced_a_strangers_is_not),
        TEST(many_first_ones_share_one),
        TEST(a_reader_only_reads),
        TEST(wishes_are_heard_once),
        TEST(the_ear_wakes_up),
        TEST(statistics_add_up),
    };

    return cmocka_run_group_tests_name("state/hints", tests, NULL, NULL);
}
