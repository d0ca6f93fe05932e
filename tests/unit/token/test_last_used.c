/* tests/unit/token/test_last_used.c - mirrors milter/token/last_used.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/last_used.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/state/fixture.h"

enum { NOW_S = 1772359200, DAY_S = 86400 };

static char directory[64], folder[80], path[96];

static int
setup(void **state)
{
    (void)state;
    fixture_directory(directory, sizeof directory);
    snprintf(folder, sizeof folder, "%s/tokens", directory);
    snprintf(path, sizeof path, "%s/last_used", folder);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    fixture_remove(folder);
    fixture_remove(directory);
    return 0;
}

static void
put(const char *text)
{
    FILE *f;

    mkdir(folder, 0700);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void
what_was_written_is_read(void **state)
{
    static const struct last_use uses[] = {{7, NOW_S}, {3, NOW_S - 5}};
    struct last_used none = {NULL, 0}, all, got;
    struct stat st;
    char err[300] = "";

    (void)state;
    assert_true(last_used_read(directory, &got, err, sizeof err));
    assert_int_equal(got.n, 0); /* no file, no folder */
    assert_int_equal(last_used_find(&got, 7), 0);
    assert_true(last_used_merge(uses, 2, &none, NOW_S, &all));
    assert_true(last_used_write(directory, &all, err, sizeof err));
    last_used_free(&all);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fixture_count(folder, "last_used"), 1); /* no .new */
    assert_true(last_used_read(directory, &got, err, sizeof err));
    assert_int_equal(got.n, 2);
    assert_int_equal(last_used_find(&got, 7), NOW_S);
    assert_int_equal(last_used_find(&got, 3), NOW_S - 5);
    assert_int_equal(last_used_find(&got, 5), 0);
    last_used_free(&got);
}

/* Torn, edited, of a later version: what can be read is. */
static void
lines_that_are_none_do_no_harm(void **state)
{
    struct last_used got;
    char err[300];

    (void)state;
    put("0000000000000002 20\n"
        "\n"
        "0000000000000003 -4\n"
        "0000000000000004 0\n"
        "0000000000000005 99999999999999999999999999\n"
        "0000000000000006 12 and more\n"
        "000000000000000g 12\n"
        "00000000000000071 12\n"
        "hello hello hello hello hello hello hello hello hello hello hello "
        "hello hello hello hello\n"
        "0000000000000001 30\n"
        "0000000000000002 25\n"
        "0000000000000008 1");
    assert_true(last_used_read(directory, &got, err, sizeof err));
    assert_int_equal(got.n, 2);
    assert_int_equal(last_used_find(&got, 1), 30);
    assert_int_equal(last_used_find(&got, 2), 25);
    last_used_free(&got);
    put("");
    assert_true(last_used_read(directory, &got, err, sizeof err));
    assert_int_equal(got.n, 0);
    last_used_free(&got);
}

static void
the_newest_of_each_counts_and_the_old_are_forgotten(void **state)
{
    struct last_use before[] = {{1, NOW_S - 30 * DAY_S},
                                {2, NOW_S - 30 * DAY_S},
                                {3, NOW_S - 183 * DAY_S},
                                {4, NOW_S - 185 * DAY_S}};
    const struct last_use uses[] = {{1, NOW_S}, {9, NOW_S - 400 * DAY_S}};
    struct last_used old = {before, 4}, all;

    (void)state;
    assert_true(last_used_merge(uses, 2, &old, NOW_S, &all));
    assert_int_equal(all.n, 4);
    assert_int_equal(last_used_find(&all, 1), NOW_S);
    assert_int_equal(last_used_find(&all, 2), NOW_S - 30 * DAY_S);
    assert_int_equal(last_used_find(&all, 3), NOW_S - 183 * DAY_S);
    assert_int_equal(last_used_find(&all, 4), 0);
    assert_int_equal(last_used_find(&all, 9), NOW_S - 400 * DAY_S);
    last_used_free(&all);
}

static void
a_place_that_cannot_be_written_is_named(void **state)
{
    struct last_used none = {NULL, 0};
    char err[300] = "", blocked[120];

    (void)state;
    put("0000000000000001 30\n");
    /* A directory that cannot be unlinked is where the new file would be. */
    snprintf(blocked, sizeof blocked, "%s.new", path);
    assert_int_equal(mkdir(blocked, 0700), 0);
    assert_false(last_used_write(directory, &none, err, sizeof err));
    assert_non_null(strstr(err, "tokens/last_used: "));
    assert_int_equal(rmdir(blocked), 0);
    assert_true(last_used_read(directory, &none, err, sizeof err));
    assert_int_equal(none.n, 1); /* the old one is as it was */
    last_used_free(&none);
    assert_false(last_used_write("/nowhere/at/all", &none, err, sizeof err));
    assert_non_null(strstr(err, "/nowhere/at/all/tokens/last_used: No such"));
}

static void
a_hundred_thousand_cost_little(void **state)
{
    enum { MANY = 100000 };
    struct last_use *uses = calloc(MANY, sizeof *uses);
    struct last_used none = {NULL, 0}, all, got;
    struct timespec from, to;
    struct stat st;
    char err[300];

    (void)state;
    assert_non_null(uses);
    for (size_t i = 0; i < MANY; i++)
        uses[i] = (struct last_use){(i + 1) * 0x9e3779b97f4a7c15u, NOW_S};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    assert_true(last_used_merge(uses, MANY, &none, NOW_S, &all));
    assert_true(last_used_write(directory, &all, err, sizeof err));
    assert_true(last_used_read(directory, &got, err, sizeof err));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    assert_int_equal(stat(path, &st), 0);
    print_message("  %d: %lld octets, written and read in %.0f ms of CPU\n",
                  MANY, (long long)st.st_size,
                  (double)(to.tv_sec - from.tv_sec) * 1e3 +
                      (double)(to.tv_nsec - from.tv_nsec) / 1e6);
    assert_true(st.st_size <= 3 * 1000 * 1000);
    assert_int_equal(got.n, MANY);
    assert_int_equal(last_used_find(&got, uses[MANY / 2].id), NOW_S);
    last_used_free(&all);
    last_used_free(&got);
    free(uses);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lines_that_are_none_do_no_harm, setup,
                                        teardown),
        cmocka_unit_test(the_newest_of_each_counts_and_the_old_are_forgotten),
        cmocka_unit_test_setup_teardown(a_place_that_cannot_be_written_is_named,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_hundred_thousand_cost_little, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("token/last_used", tests, NULL, NULL);
}
