/* tests/unit/policy/test_diag.c - mirrors policy/diag.c
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

#include "policy/diag.h"

static struct diag d;

static int
empty(void **state)
{
    (void)state;
    memset(&d, 0, sizeof d);
    return 0;
}

static void
levels_and_counts(void **state)
{
    const struct loc at = {"f", 3, 4};

    (void)state;
    diag_warning(&d, at, "w %d", 1);
    assert_int_equal(d.n_errors, 0);
    assert_false(diag_error(&d, at, "%s", "e"));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.n_errors, 1);
    assert_int_equal(d.item[0].level, DIAG_WARNING);
    assert_string_equal(d.item[0].text, "w 1");
    assert_int_equal(d.item[1].level, DIAG_ERROR);
    assert_int_equal(d.item[1].at.line, 3);
    assert_int_equal(d.item[1].at.col, 4);
}

static void
more_than_it_holds(void **state)
{
    (void)state;
    for (unsigned i = 0; i < DIAG_MAX + 7; i++)
        diag_error(&d, (struct loc){"f", i + 1, 1}, "%u", i);
    assert_int_equal(d.n, DIAG_MAX);
    assert_int_equal(d.n_errors, DIAG_MAX + 7);
    assert_int_equal(d.dropped, 7);
    assert_string_equal(d.item[DIAG_MAX - 1].text, "99");
}

static void
long_text_is_cut(void **state)
{
    (void)state;
    diag_error(&d, (struct loc){"f", 1, 1}, "%0500d", 1);
    assert_int_equal(strlen(d.item[0].text), DIAG_TEXT - 1);
}

/* The configuration whose errors these are is gone when they are printed. */
static void
file_names_outlast_their_owner(void **state)
{
    char *name = strdup("/etc/x");

    (void)state;
    diag_error(&d, (struct loc){name, 1, 1}, "a");
    diag_error(&d, (struct loc){name, 2, 1}, "b");
    free(name);
    assert_string_equal(d.item[0].at.file, "/etc/x");
    assert_ptr_equal(d.item[0].at.file, d.item[1].at.file);
    assert_int_equal(d.used, sizeof "/etc/x");
    diag_error(&d, (struct loc){NULL, 0, 0}, "c");
    assert_null(d.item[2].at.file);
}

static void
of_a_long_path_the_end(void **state)
{
    char name[DIAG_FILE + 100];

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memcpy(name + sizeof name - 7, "/a.txt", 7);
    diag_error(&d, (struct loc){name, 1, 1}, "long");
    assert_int_equal(strlen(d.item[0].at.file), DIAG_FILE - 1);
    assert_non_null(strstr(d.item[0].at.file, "/a.txt"));
}

/* As many files as there are items, each with at least the end of its path;
 * short ones are whole. */
static void
each_item_has_a_file_of_its_own(void **state)
{
    static const size_t lengths[] = {5,   60,        DIAG_FILE_MIN,
                                     250, DIAG_FILE, 2 * DIAG_FILE};

    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        char name[2 * DIAG_FILE + 1];

        empty(state);
        for (unsigned i = 0; i < DIAG_MAX + 3; i++) {
            memset(name, 'x', lengths[k]);
            snprintf(name + lengths[k] - 4, 5, "/%03u", i);
            diag_error(&d, (struct loc){name, 1, 1}, "x");
        }
        assert_int_equal(d.n, DIAG_MAX);
        for (unsigned i = 0; i < DIAG_MAX; i++) {
            size_t len = strlen(d.item[i].at.file);

            assert_int_equal(strtoul(d.item[i].at.file + len - 3, NULL, 10), i);
            assert_in_range(
                len,
                lengths[k] < DIAG_FILE_MIN ? lengths[k] : DIAG_FILE_MIN - 1,
                DIAG_FILE - 1);
        }
    }
}

static void
sorts_as_one_reads(void **state)
{
    static const struct loc at[] = {{"b", 1, 1}, {"a", 2, 5}, {"a", 10, 1},
                                    {"a", 2, 4}, {"a", 2, 5}, {NULL, 0, 0},
                                    {"a", 0, 0}};
    static const char want[] = "5631420";
    char got[8] = "";

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        diag_error(&d, at[i], "%u", i);
    diag_sort(&d);
    for (unsigned i = 0; i < 7; i++)
        strcat(got, d.item[i].text);
    /* 1 and 4 stand in one place: in the order in which they were found. */
    assert_string_equal(got, want);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(levels_and_counts, empty),
        cmocka_unit_test_setup(more_than_it_holds, empty),
        cmocka_unit_test_setup(long_text_is_cut, empty),
        cmocka_unit_test_setup(file_names_outlast_their_owner, empty),
        cmocka_unit_test_setup(of_a_long_path_the_end, empty),
        cmocka_unit_test_setup(each_item_has_a_file_of_its_own, empty),
        cmocka_unit_test_setup(sorts_as_one_reads, empty),
    };

    return cmocka_run_group_tests_name("policy/diag", tests, NULL, NULL);
}
