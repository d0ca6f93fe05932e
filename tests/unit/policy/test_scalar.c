/* tests/unit/policy/test_scalar.c - mirrors policy/scalar.c: times (the
 * numbers are tested with the keys that take them)
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "policy/scalar.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* Parses a copy that is exactly as large as the text. */
static enum scalar_result
parse(const char *text, int64_t *ret)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);
    enum scalar_result r;

    memcpy(copy, text, len);
    copy = realloc(copy, len > 0 ? len : 1);
    r = scalar_time((struct slice){copy, len}, ret);
    free(copy);
    return r;
}

static void
times(void **state)
{
    static const struct {
        const char *text;
        enum scalar_result result;
        int64_t want;
    } rows[] = {
        {"1970-01-01T00:00:00Z", SCALAR_OK, 0},
        {"1970-01-01t00:00:01z", SCALAR_OK, 1},
        {"1970-01-01 00:00:01Z", SCALAR_OK, 1},
        {"1969-12-31T23:59:59Z", SCALAR_OK, -1},
        {"2026-01-05T12:00:00Z", SCALAR_OK, 1767614400},
        {"2026-01-05T13:00:00+01:00", SCALAR_OK, 1767614400},
        {"2026-01-05T06:30:00-05:30", SCALAR_OK, 1767614400},
        {"2026-01-05T12:00:00-00:00", SCALAR_OK, 1767614400},
        {"2026-01-05T12:00:00.999999999Z", SCALAR_OK, 1767614400},
        /* RFC 3339 5.8 */
        {"1985-04-12T23:20:50.52Z", SCALAR_OK, 482196050},
        {"1996-12-19T16:39:57-08:00", SCALAR_OK, 851042397},
        {"1990-12-31T23:59:60Z", SCALAR_OK, 662688000},
        {"1990-12-31T15:59:60-08:00", SCALAR_OK, 662688000},
        {"1937-01-01T12:00:27.87+00:20", SCALAR_OK, -1041337173},
        /* leap years */
        {"2024-02-29T00:00:00Z", SCALAR_OK, 1709164800},
        {"2000-02-29T00:00:00Z", SCALAR_OK, 951782400},
        {"2026-02-29T00:00:00Z", SCALAR_ERANGE, 0},
        {"2100-02-29T00:00:00Z", SCALAR_ERANGE, 0},
        {"2100-03-01T00:00:00Z", SCALAR_OK, 4107542400},
        /* the ends of what four digits can say */
        {"0000-01-01T00:00:00Z", SCALAR_OK, -62167219200},
        {"0000-02-29T00:00:00Z", SCALAR_OK, -62162121600},
        {"0001-01-01T00:00:00Z", SCALAR_OK, -62135596800},
        {"9999-12-31T23:59:59Z", SCALAR_OK, 253402300799},
        /* no such time */
        {"2026-00-01T00:00:00Z", SCALAR_ERANGE, 0},
        {"2026-13-01T00:00:00Z", SCALAR_ERANGE, 0},
        {"2026-04-00T00:00:00Z", SCALAR_ERANGE, 0},
        {"2026-04-31T00:00:00Z", SCALAR_ERANGE, 0},
        {"2026-01-01T24:00:00Z", SCALAR_ERANGE, 0},
        {"2026-01-01T00:60:00Z", SCALAR_ERANGE, 0},
        {"2026-01-01T00:00:61Z", SCALAR_ERANGE, 0},
        {"2026-01-01T12:00:60Z", SCALAR_ERANGE, 0},
        {"2026-01-01T23:59:60+01:00", SCALAR_ERANGE, 0},
        {"2026-01-01T00:00:00+24:00", SCALAR_ERANGE, 0},
        {"2026-01-01T00:00:00+01:60", SCALAR_ERANGE, 0},
        /* no times */
        {"", SCALAR_ESYNTAX, 0},
        {"now", SCALAR_ESYNTAX, 0},
        {"2026-01-05", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00Z", SCALAR_ESYNTAX, 0},
        {"2026-1-5T12:00:00Z", SCALAR_ESYNTAX, 0},
        {"26-01-05T12:00:00Z", SCALAR_ESYNTAX, 0},
        {"12026-01-05T12:00:00Z", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00.Z", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00+1:00", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00+0100", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00ZZ", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00Z ", SCALAR_ESYNTAX, 0},
        {" 2026-01-05T12:00:00Z", SCALAR_ESYNTAX, 0},
        {"2026/01/05T12:00:00Z", SCALAR_ESYNTAX, 0},
        {"2026-01-05T12:00:00CET", SCALAR_ESYNTAX, 0},
        {"-026-01-05T12:00:00Z", SCALAR_ESYNTAX, 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        int64_t got = -7;

        if (parse(rows[i].text, &got) != rows[i].result)
            print_error("%s\n", rows[i].text);
        assert_int_equal(parse(rows[i].text, &got), rows[i].result);
        assert_true(got == (rows[i].result == SCALAR_OK ? rows[i].want : -7));
    }
}

/* Each prefix of a time is none, and each ends where it ends. */
static void
no_prefix_is_a_time(void **state)
{
    static const char text[] = "2026-01-05T12:00:00.25+01:00";

    (void)state;
    for (size_t n = 0; n < strlen(text); n++) {
        char *copy = strndup(text, n);
        int64_t got;

        assert_int_equal(parse(copy, &got), SCALAR_ESYNTAX);
        free(copy);
    }
}

/* The C library counts the same days. */
static void
agrees_with_the_library(void **state)
{
    (void)state;
    for (int64_t t = -70000000000; t < 253402300799; t += 86400 * 97 + 3607) {
        time_t as_time = (time_t)t;
        char text[40];
        struct tm tm;
        int64_t got;

        assert_non_null(gmtime_r(&as_time, &tm));
        if (tm.tm_year + 1900 < 0)
            continue;
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        assert_int_equal(parse(text, &got), SCALAR_OK);
        assert_true(got == t);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(no_prefix_is_a_time),
        cmocka_unit_test(agrees_with_the_library),
    };

    return cmocka_run_group_tests_name("policy/scalar", tests, NULL, NULL);
}
