/* tests/unit/state/test_token_slot.c - mirrors milter/state/token_slot.c and
 * words.h
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "milter/state/token_slot.h"
#include "milter/state/words.h"

static struct token_slot slot;

static int
set_up(void **state)
{
    (void)state;
    memset(&slot, 0, sizeof slot);
    return 0;
}

static struct token
token_of(const char *text)
{
    struct token t = {.serial = 3, .expires_at_s = 1772359200};

    t.len = (uint32_t)strlen(text);
    memcpy(t.text, text, t.len);
    return t;
}

static void
each_length_comes_back(void **state)
{
    static const uint32_t lengths[] = {
        1, 7, 8, 9, 2047, 2048, 4088, 4095, TOKEN_TEXT_MAX};
    struct token t = {.serial = 1, .expires_at_s = 2}, got;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        memset(t.text, 0, sizeof t.text);
        memset(t.text, 'a' + (int)i, lengths[i]);
        t.len = lengths[i];
        token_slot_publish(&slot, 7, &t);
        assert_int_equal(token_slot_read(&slot, 7, &got), STATE_OK);
        assert_memory_equal(&got, &t, sizeof t);
    }
    /* nothing of a longer one is left behind a shorter one */
    t = token_of("short");
    token_slot_publish(&slot, 7, &t);
    for (size_t i = 4; i < TOKEN_WORDS; i++)
        assert_int_equal(words_get(&slot.word[i]), 0);
}

static void
empty_is_empty(void **state)
{
    struct token got = {.serial = 99};

    (void)state;
    assert_int_equal(token_slot_read(&slot, 7, &got), STATE_EEMPTY);
    assert_int_equal(got.serial, 99);
}

static const struct row {
    const char *name;
    size_t at; /* in struct token */
    uint64_t value;
    size_t size;
} rows[] = {
    {"no serial", offsetof(struct token, serial), 0, 8},
    {"no length", offsetof(struct token, len), 0, 4},
    {"too long", offsetof(struct token, len), TOKEN_TEXT_MAX + 1, 4},
    {"absurdly long", offsetof(struct token, len), UINT32_MAX, 4},
    {"reserved", offsetof(struct token, reserved), 1, 4},
    {"longer than its text", offsetof(struct token, len), 6, 4},
    {"a control", offsetof(struct token, text), 1, 1},
    {"eight bits", offsetof(struct token, text) + 2, 0x80, 1},
};

static void
damage_is_noticed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct token t = token_of("token"), got = {.serial = 99};

        print_message("  %s\n", rows[i].name);
        token_slot_publish(&slot, 7, &t);
        memcpy((char *)slot.word + rows[i].at, &rows[i].value, rows[i].size);
        assert_int_equal(token_slot_read(&slot, 7, &got), STATE_ECORRUPT);
        assert_int_equal(got.serial, 99); /* untouched */
    }
    assert_int_equal(token_slot_read(&slot, 8, &(struct token){0}),
                     STATE_ECORRUPT); /* another account's */
}

static void
a_dead_writer_is_taken_over(void **state)
{
    struct token t = token_of("new"), got = {.serial = 99};

    (void)state;
    token_slot_publish(&slot, 7, &t);
    words_write_begin(&slot.seq); /* and dies */
    words_set(&slot.word[3], 0);
    assert_int_equal(token_slot_read(&slot, 7, &got), STATE_EBUSY);
    assert_int_equal(got.serial, 99);
    token_slot_publish(&slot, 7, &t);
    assert_int_equal(token_slot_read(&slot, 7, &got), STATE_OK);
    assert_memory_equal(&got, &t, sizeof t);
}

/* The number goes round: 0 is left out, it would say "never written". */
static void
the_sequence_wraps(void **state)
{
    struct token t = token_of("token"), got;

    (void)state;
    atomic_store(&slot.seq, UINT32_MAX - 1);
    token_slot_publish(&slot, 7, &t);
    assert_int_equal(atomic_load(&slot.seq), 2);
    assert_int_equal(token_slot_read(&slot, 7, &got), STATE_OK);
}

static void
texts_in_words(void **state)
{
    _Atomic uint64_t w[3];
    char got[24];

    (void)state;
    words_put_text(w, 3, "");
    assert_true(words_get_text(w, 3, got, sizeof got));
    assert_string_equal(got, "");
    words_put_text(w, 3, "0123456789abcdef0123456"); /* just fits */
    assert_true(words_get_text(w, 3, got, sizeof got));
    assert_string_equal(got, "0123456789abcdef0123456");
    assert_false(words_get_text(w, 3, got, 23));
    words_put_text(w, 3, "0123456789abcdef012345\xc3\xa4"); /* cut whole */
    assert_true(words_get_text(w, 3, got, sizeof got));
    assert_string_equal(got, "0123456789abcdef012345");
    memset((char *)w, 'x', sizeof w); /* no end */
    assert_false(words_get_text(w, 3, got, sizeof got));
    memcpy((char *)w, "a\nb", 4);
    assert_false(words_get_text(w, 3, got, sizeof got));
}

#define TEST(f) cmocka_unit_test_setup(f, set_up)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_length_comes_back), TEST(empty_is_empty),
        TEST(damage_is_noticed),      TEST(a_dead_writer_is_taken_over),
        TEST(the_sequence_wraps),     TEST(texts_in_words),
    };

    return cmocka_run_group_tests_name("state/token_slot", tests, NULL, NULL);
}
