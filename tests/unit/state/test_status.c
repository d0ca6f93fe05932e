/* tests/unit/state/test_status.c - mirrors milter/state/status.c, token_book.c
 * and status_slot.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "milter/state/status_slot.h"
#include "tests/unit/state/fixture.h"

static char directory[100], err[300];
static struct token_book *book;
static struct status_reader *reader;

static void
make(void)
{
    if (token_book_make(&book, directory, 50, err, sizeof err) != STATE_OK)
        fail_msg("%s", err);
}

static int
set_up(void **state)
{
    (void)state;
    fixture_directory(directory, sizeof directory);
    make();
    reader = status_reader_new(directory, true);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    status_reader_free(reader);
    token_book_free(book);
    book = NULL;
    fixture_remove(directory);
    return 0;
}

static struct token_status
status_of(uint64_t id, enum token_state s, uint64_t serial, int64_t life_s)
{
    struct token_status ret = {
        .id = id,
        .state = s,
        .serial = serial,
        .fetched_at_s = time(NULL),
        .expires_at_s = time(NULL) + life_s,
        .next_try_at_s = time(NULL) + 10,
    };

    snprintf(ret.identity, sizeof ret.identity, "u%u@example.com",
             (unsigned)id);
    return ret;
}

static void
what_is_published_is_read(void **state)
{
    struct token_status s = status_of(7, TOKEN_OK, 1772359200000, 3600), got;
    struct token t;

    (void)state;
    assert_int_equal(status_peek(reader, 7, &got), STATE_EEMPTY);
    assert_int_equal(token_read(reader, 7, &t), STATE_EEMPTY);
    assert_int_equal(token_book_publish(book, &s, "ya29.abc", 8), STATE_OK);
    assert_int_equal(status_peek(reader, 7, &got), STATE_OK);
    assert_memory_equal(&got, &s, sizeof s);
    assert_int_equal(token_book_get(book, 7, &got), STATE_OK);
    assert_memory_equal(&got, &s, sizeof s);
    assert_int_equal(token_book_get(book, 8, &got), STATE_EEMPTY);
    assert_int_equal(token_read(reader, 7, &t), STATE_OK);
    assert_int_equal(t.len, 8);
    assert_memory_equal(t.text, "ya29.abc", 8);
    assert_int_equal(t.expires_at_s, s.expires_at_s);
    assert_true(t.serial == s.serial);
}

static void
a_failure_keeps_the_token(void **state)
{
    struct token_status s = status_of(7, TOKEN_OK, 5, 3600), got;
    struct token t;

    (void)state;
    assert_int_equal(token_book_publish(book, &s, "abc", 3), STATE_OK);
    s.state = TOKEN_RETRYING;
    strcpy(s.error, "the endpoint answered 503\nand more");
    assert_int_equal(token_book_set(book, &s), STATE_OK);
    assert_int_equal(status_peek(reader, 7, &got), STATE_OK);
    assert_int_equal(got.state, TOKEN_RETRYING);
    assert_string_equal(got.error, "the endpoint answered 503 and more");
    assert_int_equal(token_read(reader, 7, &t), STATE_OK);
    assert_int_equal(t.len, 3);
}

static void
what_is_out_of_range_is_refused(void **state)
{
    static char text[TOKEN_TEXT_MAX + 1];
    struct token_status good = status_of(7, TOKEN_OK, 5, 3600), s, got;
    struct token t;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(token_book_publish(book, &good, text, TOKEN_TEXT_MAX),
                     STATE_OK);
    assert_int_equal(token_book_publish(book, &good, text, sizeof text),
                     STATE_ECORRUPT);
    assert_int_equal(token_book_publish(book, &good, text, 0), STATE_ECORRUPT);
    assert_int_equal(token_book_publish(book, &good, "a\001b", 3),
                     STATE_ECORRUPT);
    assert_int_equal(token_book_publish(book, &good, "a b", 3), STATE_ECORRUPT);
    assert_int_equal(token_book_publish(book, &good, "a\0b", 3),
                     STATE_ECORRUPT);
    s = good;
    s.serial = 0;
    assert_int_equal(token_book_publish(book, &s, "abc", 3), STATE_ECORRUPT);
    s = good;
    s.serial = 1ull << 48;
    assert_int_equal(token_book_publish(book, &s, "abc", 3), STATE_ECORRUPT);
    s = good;
    s.id = 0;
    assert_int_equal(token_book_set(book, &s), STATE_ECORRUPT);
    s = good;
    s.state = TOKEN_STATES;
    assert_int_equal(token_book_set(book, &s), STATE_ECORRUPT);
    s = good;
    memset(s.error, 'e', sizeof s.error);
    assert_int_equal(token_book_set(book, &s), STATE_ECORRUPT);
    s = good;
    s.identity[0] = '\0';
    assert_int_equal(token_book_set(book, &s), STATE_ECORRUPT);

    assert_int_equal(status_peek(reader, 7, &got), STATE_OK); /* as it was */
    assert_memory_equal(&got, &good, sizeof got);
    assert_int_equal(token_read(reader, 7, &t), STATE_OK);
    assert_int_equal(t.len, TOKEN_TEXT_MAX);
}

static void
tokens_are_for_those_who_may(void **state)
{
    struct status_reader *other = status_reader_new(directory, false);
    struct token_status s = status_of(7, TOKEN_OK, 5, 3600), got;
    struct token t;
    struct stat st;
    char path[200];

    (void)state;
    assert_int_equal(token_book_publish(book, &s, "abc", 3), STATE_OK);
    assert_int_equal(token_read(other, 7, &t), STATE_EACCESS);
    assert_int_equal(status_peek(other, 7, &got), STATE_OK);
    status_reader_free(other);
    status_reader_free(NULL);
    snprintf(path, sizeof path, "%s/token", directory);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

/* ---- restarts ---- */

static void
a_restart_keeps_valid_tokens(void **state)
{
    struct token_status s, got;
    struct token t;

    (void)state;
    s = status_of(1, TOKEN_OK, 11, 3600);
    assert_int_equal(token_book_publish(book, &s, "valid", 5), STATE_OK);
    s = status_of(2, TOKEN_OK, 12, -1);
    assert_int_equal(token_book_publish(book, &s, "expired", 7), STATE_OK);
    s = status_of(3, TOKEN_OK, 13, 3600);
    assert_int_equal(token_book_publish(book, &s, "dead", 4), STATE_OK);
    s.state = TOKEN_NEEDS_LOGIN; /* somebody may have logged in since */
    assert_int_equal(token_book_set(book, &s), STATE_OK);
    s = status_of(4, TOKEN_RETRYING, 14, 3600);
    assert_int_equal(token_book_publish(book, &s, "retrying", 8), STATE_OK);
    assert_int_equal(token_read(reader, 1, &t), STATE_OK);
    token_book_free(book);
    make();

    assert_int_equal(token_read(reader, 1, &t), STATE_OK); /* came over */
    assert_memory_equal(t.text, "valid", 5);
    assert_true(t.serial == 11);
    assert_int_equal(status_peek(reader, 1, &got), STATE_OK);
    assert_true(got.serial == 11 && got.state == TOKEN_OK);
    assert_int_equal(token_read(reader, 2, &t), STATE_EEMPTY);
    assert_int_equal(status_peek(reader, 2, &got), STATE_EEMPTY);
    assert_int_equal(token_read(reader, 3, &t), STATE_EEMPTY);
    assert_int_equal(token_read(reader, 4, &t), STATE_OK);
    assert_int_equal(token_book_get(book, 4, &got), STATE_OK);
    assert_int_equal(got.state, TOKEN_RETRYING);
}

static void
a_restart_over_damage_starts_empty(void **state)
{
    struct token_status s = status_of(1, TOKEN_OK, 11, 3600);
    struct token t;
    char path[200];

    (void)state;
    assert_int_equal(token_book_publish(book, &s, "valid", 5), STATE_OK);
    token_book_free(book);
    book = NULL;
    snprintf(path, sizeof path, "%s/token", directory);
    assert_int_equal(truncate(path, 5000), 0);
    make();
    assert_int_equal(token_read(reader, 1, &t), STATE_EEMPTY);
}

static void
one_daemon_at_a_time(void **state)
{
    struct token_book *second = NULL;
    struct token_status s = status_of(1, TOKEN_OK, 11, 3600);

    (void)state;
    assert_int_equal(token_book_make(&second, directory, 50, err, sizeof err),
                     STATE_ETAKEN);
    assert_null(second);
    assert_int_equal(token_book_publish(book, &s, "abc", 3), STATE_OK);
    assert_int_equal(status_peek(reader, 1, &s), STATE_OK);
}

static void
absent_until_the_daemon_starts(void **state)
{
    struct status_reader *early;
    struct token_status s;
    struct token t;
    char other[100];

    (void)state;
    fixture_directory(other, sizeof other);
    early = status_reader_new(other, true);
    assert_int_equal(status_peek(early, 1, &s), STATE_EABSENT);
    assert_int_equal(token_read(early, 1, &t), STATE_EABSENT);
    assert_int_equal(status_each(early, NULL, NULL), STATE_EABSENT);
    status_wait(early, 1, 0, 30);
    status_reader_free(early);
    fixture_remove(other);
}

static void
a_full_book_is_an_error(void **state)
{
    enum state_result r = STATE_OK;
    struct token_status s;
    uint64_t id;

    (void)state;
    for (id = 1; r == STATE_OK && id < 1000; id++) {
        s = status_of(id, TOKEN_OK, 1, 3600);
        r = token_book_publish(book, &s, "abc", 3);
    }
    assert_int_equal(r, STATE_EFULL);
    assert_int_equal(id - 1, 57);
}

/* ---- damage ---- */

static bool
count(void *cookie, const struct token_status *s)
{
    (void)s;
    return ++*(unsigned *)cookie < 3;
}

static void
each_account_is_shown(void **state)
{
    struct token_status s;
    unsigned n = 0;

    (void)state;
    for (uint64_t id = 1; id <= 5; id++) {
        s = status_of(id, TOKEN_NONE, 0, 0);
        assert_int_equal(token_book_set(book, &s), STATE_OK);
    }
    assert_int_equal(status_each(reader, count, &n), STATE_OK);
    assert_int_equal(n, 3);
    for (int t = 0; t < TOKEN_STATES; t++)
        assert_string_not_equal(token_state_name((enum token_state)t), "?");
    assert_string_equal(token_state_name(TOKEN_STATES), "?");
}

/* A property: a flipped bit is noticed, or changes a time, an error text or
 * nothing; it never crashes. */
static void
flipped_bits_of_a_status(void **state)
{
    struct token_status s = status_of(7, TOKEN_OK, 5, 3600), got;
    struct status_slot slot;

    (void)state;
    memset(&slot, 0, sizeof slot);
    assert_int_equal(status_slot_read(&slot, 7, &got), STATE_EEMPTY);
    status_slot_publish(&slot, &s);
    assert_int_equal(status_slot_read(&slot, 8, &got), STATE_ECORRUPT);
    for (size_t bit = 32; bit < sizeof slot * 8; bit++) {
        enum state_result r;

        ((unsigned char *)&slot)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        r = status_slot_read(&slot, 7, &got);
        ((unsigned char *)&slot)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(r == STATE_OK || r == STATE_ECORRUPT);
        if (r == STATE_OK)
            assert_true(got.id == 7 && got.state < TOKEN_STATES &&
                        strlen(got.identity) <= IDENTITY_MAX &&
                        strlen(got.error) < sizeof got.error);
    }
    atomic_fetch_add(&slot.seq, 1);
    assert_int_equal(status_slot_read(&slot, 7, &got), STATE_EBUSY);
    status_slot_publish(&slot, &s); /* taken over by the next writer */
    assert_int_equal(status_slot_read(&slot, 7, &got), STATE_OK);
    assert_memory_equal(&got, &s, sizeof s);
}

/* ---- waiting ---- */

static void *
publish_soon(void *arg)
{
    struct token_status other = status_of(8, TOKEN_OK, 5, 3600);

    usleep(30000);
    token_book_publish(book, &other, "other", 5); /* not ours: goes on */
    usleep(30000);
    token_book_publish(book, arg, "abc", 3);
    return NULL;
}

static void
waiting_ends_with_a_new_serial(void **state)
{
    struct token_status s = status_of(7, TOKEN_OK, 6, 3600);
    uint64_t start_ms = clock_boot_ms(&clock_real);
    pthread_t thread;
    struct token t;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, publish_soon, &s), 0);
    status_wait(reader, 7, 5, 60000); /* before there is anything */
    assert_int_equal(token_read(reader, 7, &t), STATE_OK);
    assert_true(clock_boot_ms(&clock_real) - start_ms < 30000);
    pthread_join(thread, NULL);
    status_wait(reader, 7, 5, 60000); /* is there already */
    start_ms = clock_boot_ms(&clock_real);
    status_wait(reader, 7, 6, 30);
    assert_true(clock_boot_ms(&clock_real) - start_ms >= 20);
}

static void
waiting_ends_with_a_lasting_failure(void **state)
{
    static const enum token_state lasting[] = {
        TOKEN_NEEDS_LOGIN, TOKEN_CLIENT_BROKEN, TOKEN_NO_MAILBOX, TOKEN_CONFIG};
    uint64_t start_ms = clock_boot_ms(&clock_real);
    struct token_status s;

    (void)state;
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        s = status_of(7, lasting[i], 0, 0);
        assert_int_equal(token_book_set(book, &s), STATE_OK);
        status_wait(reader, 7, 0, 60000);
    }
    assert_true(clock_boot_ms(&clock_real) - start_ms < 30000);
}

/* The daemon dies and comes again while somebody waits. */
static void *
restart_soon(void *arg)
{
    usleep(50000);
    token_book_free(book);
    make();
    usleep(20000);
    token_book_publish(book, arg, "abc", 3);
    return NULL;
}

static void
waiting_outlives_the_daemon(void **state)
{
    struct token_status s = status_of(7, TOKEN_OK, 6, 3600);
    uint64_t start_ms = clock_boot_ms(&clock_real);
    pthread_t thread;
    struct token t;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, restart_soon, &s), 0);
    status_wait(reader, 7, 0, 60000);
    assert_int_equal(token_read(reader, 7, &t), STATE_OK);
    assert_true(clock_boot_ms(&clock_real) - start_ms < 30000);
    pthread_join(thread, NULL);
}

static void
the_heart_beats(void **state)
{
    struct segment_info info;

    (void)state;
    assert_int_equal(
        segment_inspect(directory, SEGMENT_STATUS, &info, err, sizeof err),
        STATE_OK);
    assert_true(info.heartbeat_s >= time(NULL) - 100);
    assert_true(info.heartbeat_s <= time(NULL));
    assert_int_equal(info.maker_pid, getpid());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_published_is_read),
        TEST(a_failure_keeps_the_token),
        TEST(what_is_out_of_range_is_refused),
        TEST(tokens_are_for_those_who_may),
        TEST(a_restart_keeps_valid_tokens),
        TEST(a_restart_over_damage_starts_empty),
        TEST(one_daemon_at_a_time),
        TEST(absent_until_the_daemon_starts),
        TEST(a_full_book_is_an_error),
        TEST(each_account_is_shown),
        TEST(flipped_bits_of_a_status),
        TEST(waiting_ends_with_a_new_serial),
        TEST(waiting_ends_with_a_lasting_failure),
        TEST(waiting_outlives_the_daemon),
        TEST(the_heart_beats),
    };

    return cmocka_run_group_tests_name("state/status", tests, NULL, NULL);
}
