/* tests/unit/policy/test_zone.c - mirrors policy/zone.c
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

#include "policy/arena.h"
#include "policy/zone.h"
#include "tests/unit/policy/tzif.h"

#define LENGTH(a)     (sizeof(a) / sizeof *(a))
#define TEXT(literal) (literal), sizeof(literal) - 1

static const char *const days[] = {"sun", "mon", "tue", "wed",
                                   "thu", "fri", "sat"};

/* Exactly as large as it is, so that the sanitizer sees what is behind it. */
static const struct zone *
read_exactly(struct arena *a, const char *text, size_t len, const char **error)
{
    char *copy = malloc(len > 0 ? len : 1);
    const struct zone *z;

    assert_non_null(copy);
    memcpy(copy, text, len);
    z = zone_read(a, copy, len, error);
    free(copy);
    return z;
}

static const char *
show(const struct zone *z, int64_t now_s)
{
    static char text[32];
    struct wall_clock w = zone_wall(z, now_s);

    assert_in_range(w.weekday, 0, 6);
    assert_in_range(w.minute, 0, 1439);
    snprintf(text, sizeof text, "%s %02u:%02u", days[w.weekday], w.minute / 60,
             w.minute % 60);
    return text;
}

/* ---- UTC ---- */

static void
no_zone_is_utc(void **state)
{
    static const struct {
        int64_t now_s;
        const char *want;
    } rows[] = {
        {0, "thu 00:00"},
        {-1, "wed 23:59"},
        {1792412999, "mon 12:29"},
        {951782400, "tue 00:00"}, /* 29 February 2000 */
        {INT64_MAX, "sun 15:30"},
        {INT64_MIN, "sun 08:29"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++)
        assert_string_equal(show(NULL, rows[i].now_s), rows[i].want);
}

/* ---- the rule at the end ---- */

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static const struct rule_row {
    const char *rule;
    int64_t now_s;
    const char *want;
} rules[] = {
    {"UTC0", 1700000000, "tue 22:13"},
    {"<+0545>-5:45", 1700000000, "wed 03:58"},
    {"<-12>12", 1700000000, "tue 10:13"},
    {"<LMT>-0:00:30", 59, "thu 00:01"},
    /* Berlin, 2026: daylight from 29 March to 25 October, both 01:00 UTC. */
    {BERLIN, 1774745999, "sun 01:59"},
    {BERLIN, 1774746000, "sun 03:00"},
    {BERLIN, 1792889999, "sun 02:59"},
    {BERLIN, 1792890000, "sun 02:00"},
    {BERLIN, 4070908800, "thu 01:00"},  /* 1 January 2099 */
    {BERLIN, 4086547200, "wed 02:00"},  /* 1 July 2099 */
    {BERLIN, 16725225600, "fri 01:00"}, /* 1 January 2500 */
    /* The southern summer spans the new year. */
    {"AEST-10AEDT,M10.1.0,M4.1.0/3", 1767225600, "thu 11:00"},
    {"AEST-10AEDT,M10.1.0,M4.1.0/3", 1782864000, "wed 10:00"},
    /* Ireland's winter is the exception to its standard time. */
    {"IST-1GMT0,M10.5.0,M3.5.0/1", 1767225600, "thu 00:00"},
    {"IST-1GMT0,M10.5.0,M3.5.0/1", 1782864000, "wed 01:00"},
    /* Daylight all year, as RFC 8536 3.3.1 writes it: 3 hours and 4. */
    {"XXX3EDT4,0/0,J365/23", 1767225600 + 3 * 3600 - 60, "wed 22:59"},
    {"XXX3EDT4,0/0,J365/23", 1767225600 + 3 * 3600, "wed 23:00"},
    {"XXX3EDT4,0/0,J365/23", 1782864000, "tue 20:00"},
    /* Times before the day, and days after it. */
    {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1774745999, "sat 22:59"},
    {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1774746000, "sun 00:00"},
    {"EET-2EEST,M3.4.4/50,M10.4.4/50", 1774655999, "sat 01:59"},
    {"EET-2EEST,M3.4.4/50,M10.4.4/50", 1774656000, "sat 03:00"},
    /* J60 is 1 March in a leap year, too; 59 is 29 February then. */
    {"AAA0BBB,J60/0,J300", 1835481599, "tue 23:59"}, /* 29 February 2028 */
    {"AAA0BBB,J60/0,J300", 1835481600, "wed 01:00"},
    {"AAA0BBB,59/0,300", 1835395199, "mon 23:59"},
    {"AAA0BBB,59/0,300", 1835395200, "tue 01:00"},
    /* The fifth Monday where there are four. */
    {"AAA0BBB,M2.5.1/0,M3.1.1", 1771804799, "sun 23:59"},
    {"AAA0BBB,M2.5.1/0,M3.1.1", 1771804800, "mon 01:00"},
    /* Half an hour, and seconds. */
    {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 1767225600, "thu 11:00"},
    {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 1782864000, "wed 10:30"},
    {"AAA-0:0:59", 1, "thu 00:01"},
};

static size_t
tzif_of(const char *rule, char ret[400])
{
    static const char blocks[] = TZIF_OLD("2") TZIF_OLD("2");

    memcpy(ret, blocks, sizeof blocks - 1);
    return sizeof blocks - 1 +
           (size_t)snprintf(ret + sizeof blocks - 1, 400 - sizeof blocks,
                            "\n%s\n", rule);
}

static void
rules_of_years(void **state)
{
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < LENGTH(rules); i++) {
        char text[400];
        const char *error;
        const struct zone *z =
            read_exactly(a, text, tzif_of(rules[i].rule, text), &error);

        print_message("  %s at %lld\n", rules[i].rule,
                      (long long)rules[i].now_s);
        assert_non_null(z);
        assert_string_equal(show(z, rules[i].now_s), rules[i].want);
    }
    arena_free(a);
}

/* The calendar repeats after 400 years, for all times there are. */
static void
rules_hold_for_ever(void **state)
{
    static const int64_t era_s = (int64_t)146097 * 86400;
    static const char text[] = TZIF_RULE(BERLIN);
    struct arena *a = arena_new();
    const char *error;
    const struct zone *z = read_exactly(a, TEXT(text), &error);
    int64_t eras[] = {-700000000, -5, 1, 700000000};

    (void)state;
    assert_non_null(z);
    for (int64_t now_s = 0; now_s < era_s; now_s += 864001 * 7)
        for (size_t i = 0; i < LENGTH(eras); i++) {
            struct wall_clock here = zone_wall(z, now_s),
                              there = zone_wall(z, now_s + eras[i] * era_s);

            assert_int_equal(here.weekday, there.weekday);
            assert_int_equal(here.minute, there.minute);
        }
    show(z, INT64_MAX);
    show(z, INT64_MIN);
    arena_free(a);
}

/* ---- transitions ---- */

/* Two hours east until 1000, one until 2000, two, and then the rule. */
#define TWO_HOURS TZIF_TYPE("\0\0\x1c\x20")
#define ONE_HOUR  TZIF_TYPE("\0\0\x0e\x10")
static const char narrow[] =
    TZIF_HEAD("\0", "\0", "\2", "\2") "\0\0\x03\xe8"
                                      "\0\0\x07\xd0"
                                      "\1\0" TWO_HOURS ONE_HOUR "\0";
#define WIDE(version, footer)            \
    TZIF_OLD(version)                    \
    TZIF_HEAD(version, "\0", "\2", "\2") \
    "\0\0\0\0\0\0\x03\xe8"               \
    "\0\0\0\0\0\0\x07\xd0"               \
    "\1\0" TWO_HOURS ONE_HOUR "\0" footer
static const char wide[] = WIDE("2", "\n\n");
static const char ruled[] = WIDE("3", "\nUTC0\n");
static const char newer[] = WIDE("4", "\nUTC0\n");

static void
transitions(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *after;
    } rows[] = {{TEXT(narrow), "thu 02:33"},
                {TEXT(wide), "thu 02:33"},
                {TEXT(ruled), "thu 00:33"},
                {TEXT(newer), "thu 00:33"}};
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *error;
        const struct zone *z =
            read_exactly(a, rows[i].text, rows[i].len, &error);

        assert_non_null(z);
        assert_string_equal(show(z, INT64_MIN), "sun 10:29");
        assert_string_equal(show(z, 999), "thu 02:16");
        assert_string_equal(show(z, 1000), "thu 01:16");
        assert_string_equal(show(z, 1999), "thu 01:33");
        assert_string_equal(show(z, 2000), rows[i].after);
    }
    arena_free(a);
}

/* ---- what cannot be read ---- */

static const struct {
    const char *name, *text;
    size_t len;
    const char *error;
} bad[] = {
    {"nothing", TEXT(""), "it is no TZif file"},
    {"another file", TEXT("Europe/Berlin, as everybody knows it to be"),
     "it is no TZif file"},
    {"magic alone", TEXT("TZif2"), "it is no TZif file"},
    {"its first half", TEXT(TZIF_OLD("2")), "it is no TZif file"},
    {"no data", TEXT(TZIF_HEAD("2", "\0", "\0", "\1")), "it is cut short"},
    {"no footer", TEXT(TZIF_OLD("2") TZIF_OLD("2")), "it is cut short"},
    {"half a footer", TEXT(TZIF_OLD("2") TZIF_OLD("2") "\nUTC0"),
     "it is cut short"},
    {"no such version", TEXT(TZIF_OLD("1")), "its version is not known"},
    {"no types", TEXT(TZIF_HEAD("\0", "\0", "\0", "\0") "\0"),
     "it has no kind of time"},
    {"leap seconds",
     TEXT(TZIF_HEAD("\0", "\1", "\0", "\1") TZIF_UTC_TYPE "\0\0\0\0\0\0\0\0\1"),
     "it counts leap seconds, which Unix time does not"},
    {"a type it does not have",
     TEXT(TZIF_HEAD("\0", "\0", "\1", "\1") "\0\0\0\1\1" TZIF_UTC_TYPE "\0"),
     "it names a kind of time that it does not have"},
    {"not in order",
     TEXT(TZIF_HEAD("\0", "\0", "\2", "\1") "\0\0\0\1\0\0\0\1\0\0" TZIF_UTC_TYPE
                                            "\0"),
     "its times are not in order"},
    {"far off",
     TEXT(TZIF_HEAD("\0", "\0", "\0", "\1") TZIF_TYPE("\x80\0\0\0") "\0"),
     "its clock is more than 26 hours off UTC"},
    {"counts past all bounds",
     TEXT("TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
          "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
          "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
     "it is cut short"},
};

static void
bad_files(void **state)
{
    struct arena *a = arena_new();
    char *large = calloc(1, (1 << 20) + 1);
    const char *error;

    (void)state;
    for (size_t i = 0; i < LENGTH(bad); i++) {
        print_message("  %s\n", bad[i].name);
        assert_null(read_exactly(a, bad[i].text, bad[i].len, &error));
        assert_string_equal(error, bad[i].error);
    }
    assert_null(zone_read(a, large, (1 << 20) + 1, &error));
    assert_string_equal(error, "it is larger than 1 MiB");
    free(large);
    arena_free(a);
}

static void
bad_rules(void **state)
{
    static const char *const text[] = {
        "UTC",
        "UT0",
        "<UTC0",
        "<UT>0",
        "U-C0",
        "UTC25",
        "UTC-",
        "UTC0:60",
        "UTC0:1:60",
        "UTC0 ",
        "UTC0DST",
        "UTC0DST,",
        "UTC0DST,M3.5.0",
        "UTC0DST,M3.5.0,",
        "UTC0DST,M3.5.0,M13.1.0",
        "UTC0DST,M3.5.0,M0.1.0",
        "UTC0DST,M3.5.0,M1.0.0",
        "UTC0DST,M3.5.0,M1.6.0",
        "UTC0DST,M3.5.0,M1.1.7",
        "UTC0DST,M3.5.0,M1.1",
        "UTC0DST,J0,J1",
        "UTC0DST,J366,J1",
        "UTC0DST,366,J1",
        "UTC0DST,1/168,J1",
        "UTC0DST,1/-,J1",
        "UTC0DST,99999999999999999999,J1",
        "UTC0DST,J1,J2,J3",
        "UTC0DST+,J1,J2",
        "\xff\xff\xff",
    };
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < LENGTH(text); i++) {
        char tzif[400];
        const char *error;

        print_message("  %s\n", text[i]);
        assert_null(read_exactly(a, tzif, tzif_of(text[i], tzif), &error));
        assert_string_equal(error, "the rule at its end cannot be read");
    }
    arena_free(a);
}

/* Every start of a file is refused; any octet in it may be another. */
static void
damaged_files(void **state)
{
    struct arena *a = arena_new();
    char text[sizeof ruled - 1];
    const char *error;
    unsigned good = 0;

    (void)state;
    for (size_t n = 0; n < sizeof text; n++)
        assert_null(read_exactly(a, ruled, n, &error));
    for (size_t i = 0; i < sizeof text; i++)
        for (unsigned octet = 0; octet < 256; octet++) {
            const struct zone *z;

            memcpy(text, ruled, sizeof text);
            text[i] = (char)octet;
            z = read_exactly(a, text, sizeof text, &error);
            assert_int_equal(z == NULL, error != NULL);
            if (z != NULL) {
                show(z, 1500);
                show(z, 1792890000);
                good++;
            }
        }
    assert_in_range(good, 1000, 256 * sizeof text - 1000);
    arena_free(a);
}

/* ---- the C library says the same ---- */

static size_t
read_file(const char *name, char *ret, size_t size)
{
    char path[200];
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    f = fopen(path, "rb");
    if (f == NULL)
        return 0;
    n = fread(ret, 1, size, f);
    fclose(f);
    return n;
}

static long
compare_at(const struct zone *z, int64_t now_s)
{
    struct wall_clock w = zone_wall(z, now_s);
    time_t t = (time_t)now_s;
    struct tm tm;

    assert_non_null(localtime_r(&t, &tm));
    if ((int)w.weekday != tm.tm_wday ||
        (int)w.minute != tm.tm_hour * 60 + tm.tm_min)
        fail_msg("at %lld: %s, but localtime has %s %02d:%02d",
                 (long long)now_s, show(z, now_s), days[tm.tm_wday], tm.tm_hour,
                 tm.tm_min);
    return tm.tm_gmtoff;
}

/* Around the change between two times, too. */
static void
compare_edge(const struct zone *z, int64_t before_s, int64_t after_s,
             long offset_s)
{
    while (after_s - before_s > 1) {
        int64_t middle = before_s + (after_s - before_s) / 2;

        if (compare_at(z, middle) == offset_s)
            before_s = middle;
        else
            after_s = middle;
    }
    compare_at(z, before_s - 1);
    compare_at(z, after_s + 1);
}

static unsigned
compare_zone(const char *name, int64_t step_s)
{
    static char text[64 * 1024];
    struct arena *a = arena_new();
    const struct zone *z;
    const char *error = "";
    unsigned edges = 0;
    long offset_s;

    z = zone_read(a, text, read_file(name, text, sizeof text), &error);
    if (z == NULL)
        fail_msg("%s: %s", name, error);
    setenv("TZ", name, 1);
    tzset();
    offset_s = compare_at(z, -3800000000);
    /* From 1850 to 2500. */
    for (int64_t t = -3800000000; t < 16700000000; t += step_s) {
        long now_s = compare_at(z, t + step_s);

        if (now_s != offset_s) {
            compare_edge(z, t, t + step_s, offset_s);
            edges++;
        }
        offset_s = now_s;
    }
    unsetenv("TZ");
    arena_free(a);
    return edges;
}

static void
agrees_with_libc(void **state)
{
    static const struct {
        const char *name;
        unsigned edges; /* at least, found by steps of some days */
    } rows[] = {
        {"Europe/Berlin", 900},
        {"Europe/Dublin", 900},
        {"America/New_York", 900},
        {"America/Sao_Paulo", 50},
        {"Africa/Casablanca", 150},
        {"America/Nuuk", 900},
        {"Asia/Kathmandu", 2},
        {"Australia/Lord_Howe", 900},
        {"Australia/Sydney", 900},
        {"Pacific/Apia", 5},
        {"Pacific/Chatham", 900},
        {"America/Santiago", 900},
        {"Antarctica/Troll", 900},
        {"Asia/Jerusalem", 900},
        {"Africa/Monrovia", 2},
        {"Asia/Tehran", 50},
        {"America/Los_Angeles", 900},
        {"Etc/GMT+12", 0},
        {"UTC", 0},
    };
    char octet;

    (void)state;
    if (read_file("Europe/Berlin", &octet, 1) == 0) {
        print_message("  no tzdata here\n");
        skip();
    }
    for (size_t i = 0; i < LENGTH(rows); i++) {
        unsigned edges = compare_zone(rows[i].name, 431999);

        print_message("  %s: %u changes\n", rows[i].name, edges);
        assert_true(edges >= rows[i].edges);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_zone_is_utc),
        cmocka_unit_test(rules_of_years),
        cmocka_unit_test(rules_hold_for_ever),
        cmocka_unit_test(transitions),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(bad_rules),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(agrees_with_libc),
    };

    return cmocka_run_group_tests_name("policy/zone", tests, NULL, NULL);
}
