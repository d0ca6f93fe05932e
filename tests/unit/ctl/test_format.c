/* tests/unit/ctl/test_format.c - mirrors milter/ctl/format.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "milter/ctl/format.h"

static void
test_durations(void **state)
{
    static const struct {
        uint64_t ms;
        const char *want;
    } rows[] = {
        {0, "now"},
        {1, "1 s"},
        {1000, "1 s"},
        {1001, "2 s"},
        {119000, "119 s"},
        {119001, "2 min"},
        {121000, "3 min"},
        {7199000, "120 min"},
        {7200000, "2 h"},
        {86400000, "24 h"},
        {7260000, "2 h 1 min"},
        {UINT64_MAX, "5124095576030 h 25 min"},
    };
    char text[FORMAT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ctl_duration(rows[i].ms, text, sizeof text);
        assert_string_equal(text, rows[i].want);
    }
}

static void
test_sizes(void **state)
{
    static const struct {
        uint64_t n;
        const char *want;
    } rows[] = {
        {0, "0 B"},
        {999, "999 B"},
        {1000, "1 KB"},
        {1099, "1 KB"},
        {1100, "1.1 KB"},
        {9999, "9.9 KB"},
        {10999, "10 KB"},
        {300000000, "300 MB"},
        {1500000000, "1.5 GB"},
        {UINT64_MAX, "18 EB"},
    };
    char text[FORMAT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ctl_units(DIM_BYTES, rows[i].n, text, sizeof text);
        assert_string_equal(text, rows[i].want);
    }
    ctl_units(DIM_MESSAGES, 1500, text, sizeof text);
    assert_string_equal(text, "1500");
}

static void
test_100_percent_is_all_of_it(void **state)
{
    (void)state;
    assert_int_equal(ctl_percent(0, 10), 0);
    assert_int_equal(ctl_percent(999, 1000), 99);
    assert_int_equal(ctl_percent(1000, 1000), 100);
    assert_int_equal(ctl_percent(3, 2), 150);
    assert_int_equal(ctl_percent(0, 0), 100);
    assert_int_equal(ctl_percent(UINT64_MAX, 1), 999);
    assert_int_equal(ctl_percent(UINT64_MAX, UINT64_MAX), 100);
}

static void
test_times_for_scripts(void **state)
{
    json_t *j = ctl_json_time(1772359200);

    (void)state;
    assert_string_equal(json_string_value(j), "2026-03-01T10:00:00Z");
    json_decref(j);
    assert_true(json_is_null(ctl_json_time(0)));
}

static void
check_table(unsigned width, const char *want)
{
    static const char *const titles[] = {"NAME", ">N", "WHY", NULL};
    struct ctl_table *t = ctl_table_new(titles);
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(t);
    assert_non_null(out);
    ctl_table_cell(t, "%s", "\xc3\xa4\xc3\xb6");
    ctl_table_cell(t, "%d", 7);
    ctl_table_cell(t, "%s", "a long reason");
    ctl_table_cell(t, "%s", "short");
    ctl_table_cell(t, "%d", 1234);
    ctl_table_cell(t, "%s", "");
    assert_true(ctl_table_print(t, out, width));
    fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static void
test_tables(void **state)
{
    (void)state;
    /* aligned by characters, not octets; no space at an end */
    check_table(0, "NAME      N  WHY\n"
                   "\xc3\xa4\xc3\xb6        7  a long reason\n"
                   "short  1234\n");
    check_table(17, "NAME      N  WHY\n"
                    "\xc3\xa4\xc3\xb6        7  a lo\n"
                    "short  1234\n");
    check_table(6, "NAME\n"
                   "\xc3\xa4\xc3\xb6\n"
                   "short\n");
    check_table(1, "N\n\xc3\xa4\ns\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_100_percent_is_all_of_it),
        cmocka_unit_test(test_times_for_scripts),
        cmocka_unit_test(test_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
