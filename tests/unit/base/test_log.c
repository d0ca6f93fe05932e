/* tests/unit/base/test_log.c - mirrors milter/base/log.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/log.h"

static char got[LOG_LINE_MAX + 1];
static unsigned n_got;
static enum log_level got_level;

static void
keep_line(enum log_level level, const char *line)
{
    got_level = level;
    n_got++;
    snprintf(got, sizeof got, "%s", line);
}

static int
setup(void **state)
{
    (void)state;
    log_open("test_log", LOG_TO_STDERR, LOG_LEVEL_INFO);
    log_capture(keep_line);
    got[0] = '\0';
    n_got = 0;
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    log_capture(NULL);
    return 0;
}

static const struct row {
    const char *name, *value, *want;
} rows[] = {
    {"plain", "sent", "k=sent"},
    {"address", "a+b@example.com", "k=a+b@example.com"},
    {"space", "250 ok", "k=\"250 ok\""},
    {"quote", "a\"b", "k=\"a\\\"b\""},
    {"equals", "a=b", "k=\"a=b\""},
    {"backslash", "a\\b", "k=\"a\\\\b\""},
    {"empty is left out", "", ""},
    {"NULL is left out", NULL, ""},
    {"a second line cannot be forged", "x\nqueue=1 status=sent",
     "k=\"x?queue=1 status=sent\""},
    {"CR, tab, escape, DEL", "a\r\t\033[31m\177", "k=a???[31m?"},
    {"UTF-8 stays", "Gr\xc3\xbc\xc3\x9f\x65", "k=Gr\xc3\xbc\xc3\x9f\x65"},
    {"four octets stay", "\xf0\x9f\x93\xa7", "k=\xf0\x9f\x93\xa7"},
    {"Latin-1", "Gr\xfc\xdf\x65", "k=Gr??e"},
    {"overlong slash", "\xc0\xaf", "k=??"},
    {"overlong three", "\xe0\x80\xaf", "k=???"},
    {"surrogate", "\xed\xa0\x80", "k=???"},
    {"past the last code point", "\xf4\x90\x80\x80", "k=????"},
    {"cut character", "a\xe2\x82", "k=a??"},
    {"lone continuation", "\x80z", "k=?z"},
    {"C1 control", "a\xc2\x9b\x62", "k=a?b"},
    {"right-to-left override", "a\xe2\x80\xae\x62", "k=a?b"},
    {"line separator", "a\xe2\x80\xa8\x62", "k=a?b"},
};

static void
writes_each_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct log_line l = log_line(LOG_LEVEL_INFO);

        print_message("  %s\n", rows[i].name);
        log_kv(&l, "k", rows[i].value);
        log_end(&l);
        assert_string_equal(got, rows[i].want);
    }
}

static void
pairs_stand_in_order(void **state)
{
    struct log_line l = log_line(LOG_LEVEL_WARN);

    (void)state;
    log_kv(&l, "queue", "4ABC");
    log_kv_slice(&l, "to", (struct slice){"b@example.com", 1});
    log_kv(&l, "none", NULL);
    log_kv_u64(&l, "size", UINT64_MAX);
    log_kv_u64(&l, "delay", 0);
    log_kv_slice(&l, "nul", (struct slice){"a\0b", 3});
    log_end(&l);
    assert_string_equal(
        got, "queue=4ABC to=b size=18446744073709551615 delay=0 nul=a?b");
    assert_int_equal(got_level, LOG_LEVEL_WARN);

    log_end(&l); /* a line is written once */
    assert_int_equal(n_got, 1);
}

static void
one_value_cannot_push_out_the_others(void **state)
{
    char longs[3000];
    struct log_line l = log_line(LOG_LEVEL_INFO);

    (void)state;
    memset(longs, 'x', sizeof longs);
    longs[0] = ' ';
    longs[sizeof longs - 1] = '\0';
    log_kv(&l, "subject", longs);
    log_kv(&l, "status", "sent");
    log_end(&l);
    assert_true(strlen(got) < LOG_VALUE_MAX + 50);
    assert_non_null(strstr(got, "xxx...\" status=sent"));
}

/* Whatever the lengths, a full line is marked, in its bounds, and its quotes
 * are closed. */
static void
a_full_line_is_marked(void **state)
{
    static const char *const fill[] = {"x", " ", "\"", "\xf0\x9f\x93\xa7"};

    (void)state;
    for (unsigned f = 0; f < 4; f++)
        for (unsigned size = 1; size < 480; size++) {
            struct log_line l = log_line(LOG_LEVEL_INFO);
            char value[2000] = "";
            unsigned quotes = 0;
            size_t len;

            for (unsigned i = 0; strlen(value) < size; i++)
                strcat(value, fill[f]);
            for (unsigned i = 0; i < 2000; i++)
                log_kv(&l, "key", value);
            log_kv(&l, "last", "seen");
            log_end(&l);
            len = strlen(got);
            assert_true(len < LOG_LINE_MAX);
            assert_true(len > LOG_LINE_MAX - 20);
            assert_null(strstr(got, "last=seen"));
            assert_true(strcmp(got + len - 3, "...") == 0 ||
                        strcmp(got + len - 4, "...\"") == 0);
            assert_null(strchr(got, '?')); /* no character cut in half */
            for (size_t i = 0; i < len; i++) {
                if (got[i] == '\\')
                    i++;
                else if (got[i] == '"')
                    quotes++;
            }
            assert_int_equal(quotes % 2, 0);
        }
}

static void
a_key_that_does_not_fit(void **state)
{
    struct log_line l = log_line(LOG_LEVEL_INFO);
    char key[LOG_LINE_MAX * 2];

    (void)state;
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    log_kv(&l, "a", "b");
    log_kv(&l, key, "v");
    log_kv(&l, "c", "d");
    log_end(&l);
    assert_string_equal(got, "a=b ...");
}

static void
free_text_is_one_harmless_line(void **state)
{
    char longs[10000];

    (void)state;
    log_info("%s", "a \"b\"=\\\nfake: line\t\xff");
    assert_string_equal(got, "a \"b\"=\\?fake: line??");

    memset(longs, 'y', sizeof longs);
    longs[sizeof longs - 1] = '\0';
    log_error("%s", longs);
    assert_int_equal(got_level, LOG_LEVEL_ERROR);
    assert_true(strlen(got) < LOG_LINE_MAX);
    assert_string_equal(got + strlen(got) - 4, "y...");
}

static void
levels_are_kept(void **state)
{
    struct log_line l;

    (void)state;
    log_debug("not now");
    l = log_line(LOG_LEVEL_DEBUG);
    log_kv(&l, "a", "b");
    log_kv_u64(&l, "c", 1);
    log_end(&l);
    assert_int_equal(n_got, 0);
    log_warn("now");
    assert_int_equal(n_got, 1);
    assert_int_equal(got_level, LOG_LEVEL_WARN);

    log_open("test_log", LOG_TO_STDERR, LOG_LEVEL_DEBUG);
    log_debug("now");
    assert_int_equal(n_got, 2);
    log_open("test_log", LOG_TO_STDERR, LOG_LEVEL_ERROR);
    log_warn("not now");
    assert_int_equal(n_got, 2);
}

static void
names_of_levels(void **state)
{
    enum log_level l = LOG_LEVEL_ERROR;

    (void)state;
    assert_true(log_level_parse("debug", &l));
    assert_int_equal(l, LOG_LEVEL_DEBUG);
    assert_true(log_level_parse("warn", &l));
    assert_int_equal(l, LOG_LEVEL_WARN);
    assert_true(log_level_parse("warning", &l));
    assert_int_equal(l, LOG_LEVEL_WARN);
    assert_true(log_level_parse("info", &l));
    assert_int_equal(l, LOG_LEVEL_INFO);
    assert_false(log_level_parse("loud", &l));
    assert_false(log_level_parse("", &l));
    assert_int_equal(l, LOG_LEVEL_INFO);
}

static void
errno_survives(void **state)
{
    (void)state;
    errno = ENOSPC;
    log_info("%m");
    assert_int_equal(errno, ENOSPC);
    assert_string_equal(got, strerror(ENOSPC));
}

/* Standard error as a datagram socket: each write is one message, so a line
 * written in two pieces would show. */
static void
standard_error_gets_whole_lines(void **state)
{
    int pair[2], saved = dup(STDERR_FILENO);
    char line[LOG_LINE_MAX + 200];
    ssize_t n;

    (void)state;
    log_capture(NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    dup2(pair[1], STDERR_FILENO);
    log_error("cannot open %s", "x");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pair[1]);
    n = read(pair[0], line, sizeof line - 1);
    close(pair[0]);
    assert_true(n > 0);
    line[n] = '\0';
    assert_string_equal(line, "test_log: error: cannot open x\n");
}

enum { THREADS = 4, LINES = 300 };

static void *
log_many(void *cookie)
{
    const char *name = cookie;

    for (unsigned i = 0; i < LINES; i++) {
        struct log_line l = log_line(LOG_LEVEL_INFO);

        log_kv(&l, "thread", name);
        log_kv_u64(&l, "n", i);
        log_kv(&l, "end", "yes");
        log_end(&l);
    }
    return NULL;
}

static void
threads_do_not_mix_lines(void **state)
{
    static char *const names[THREADS] = {"a", "b", "c", "d"};
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    pthread_t thread[THREADS];
    unsigned n = 0;
    char line[200];

    (void)state;
    log_capture(NULL);
    assert_non_null(file);
    dup2(fileno(file), STDERR_FILENO);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, log_many, names[i]),
                         0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    dup2(saved, STDERR_FILENO);
    close(saved);

    rewind(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char who, rest[20];
        unsigned number;

        assert_int_equal(
            sscanf(line, "test_log: thread=%c n=%u %19s", &who, &number, rest),
            3);
        assert_string_equal(rest, "end=yes");
        n++;
    }
    assert_int_equal(n, THREADS * LINES);
    fclose(file);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(writes_each_value),
        LOG_TEST(pairs_stand_in_order),
        LOG_TEST(one_value_cannot_push_out_the_others),
        LOG_TEST(a_full_line_is_marked),
        LOG_TEST(a_key_that_does_not_fit),
        LOG_TEST(free_text_is_one_harmless_line),
        LOG_TEST(levels_are_kept),
        LOG_TEST(names_of_levels),
        LOG_TEST(errno_survives),
        LOG_TEST(standard_error_gets_whole_lines),
        LOG_TEST(threads_do_not_mix_lines),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
