/* tests/unit/ctl/test_open_messages.c - mirrors milter/ctl/open_messages.c and
 * tally.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/open_messages.h"
#include "milter/ctl/tally.h"

static struct slice
id_of(unsigned i)
{
    static char text[OPEN_ID_MAX + 1];

    snprintf(text, sizeof text, "%08X", i * 2654435761u);
    return slice_of(text);
}

static void
finds_what_was_added_and_not_removed(void **state)
{
    struct open_messages *o = open_messages_new();

    (void)state;
    assert_non_null(o);
    for (unsigned i = 0; i < 5000; i++)
        assert_non_null(open_messages_add(o, id_of(i), i));
    for (unsigned i = 0; i < 5000; i += 2)
        open_messages_remove(o, open_messages_find(o, id_of(i)));
    assert_int_equal(open_messages_count(o), 2500);
    for (unsigned i = 0; i < 5000; i++) {
        const struct open_message *m = open_messages_find(o, id_of(i));

        assert_int_equal(m != NULL, i % 2);
        assert_true(m == NULL || m->at_s == i);
    }
    for (unsigned i = 1; i < 5000; i += 2) { /* oldest first */
        assert_int_equal(open_messages_oldest(o)->at_s, i);
        open_messages_remove(o, open_messages_oldest(o));
    }
    assert_null(open_messages_oldest(o));
    assert_int_equal(open_messages_octets(o), 0);
    open_messages_free(o);
    open_messages_free(NULL);
}

static void
recipients_come_once(void **state)
{
    struct open_messages *o = open_messages_new();
    struct open_message *m;
    char address[40];

    (void)state;
    assert_non_null(o);
    m = open_messages_add(o, SLICE_LIT("4F3C2A1B"), 7);
    assert_non_null(m);
    assert_true(open_message_recipient(o, m, SLICE_LIT("a@B.example"), "x"));
    assert_true(open_message_recipient(o, m, SLICE_LIT("A@b.example"), "y"));
    assert_int_equal(m->n, 1);
    assert_string_equal(m->first->went, "x");
    for (unsigned i = 1; i < OPEN_RECIPIENTS_MAX; i++) {
        snprintf(address, sizeof address, "r%u@b.example", i);
        assert_true(open_message_recipient(o, m, slice_of(address), "x"));
    }
    assert_false(open_message_recipient(o, m, SLICE_LIT("z@b.example"), "x"));
    assert_true(open_message_recipient(o, m, SLICE_LIT("a@b.example"), "x"));
    assert_int_equal(m->n, OPEN_RECIPIENTS_MAX);
    open_messages_free(o);
}

static void
texts_lose_their_controls(void **state)
{
    struct open_messages *o = open_messages_new();
    struct open_message *m;

    (void)state;
    assert_non_null(o);
    m = open_messages_add(o, SLICE_LIT("4F3C2A1B"), 7);
    assert_non_null(m);
    assert_true(open_message_text(o, m, &m->sender, SLICE_LIT("a\0\033b")));
    assert_string_equal(m->sender, "a??b");
    assert_true(open_message_text(o, m, &m->sender, SLICE_LIT("c")));
    assert_string_equal(m->sender, "c");
    assert_int_equal(open_messages_octets(o), sizeof *m + 1);
    open_messages_free(o);
}

static void
tally_counts_by_both_parts(void **state)
{
    struct tally *t = tally_new();
    const struct tally_row *row;
    char name[20];
    size_t n;

    (void)state;
    assert_non_null(t);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "n%u", i % 500);
        assert_true(tally_add(t, name, i % 2 ? "odd" : NULL, 1));
    }
    assert_true(tally_add(t, "n7", "odd", 5));
    assert_true(tally_add(t, "n7", "other", 3));
    row = tally_rows(t, &n);
    assert_non_null(row);
    assert_int_equal(n, 501);
    assert_string_equal(row[0].name, "n7");
    assert_string_equal(row[0].detail, "odd");
    assert_int_equal(row[0].n, 7);
    assert_int_equal(row[1].n, 3);
    assert_string_equal(row[2].name, "n0"); /* of equal ones by name */
    assert_int_equal(tally_others(t), 0);
    tally_free(t);
    tally_free(NULL);
}

static void
tally_is_bounded(void **state)
{
    struct tally *t = tally_new();
    char name[20];

    (void)state;
    assert_non_null(t);
    for (unsigned i = 0; i < TALLY_MAX + 10; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_true(tally_add(t, name, NULL, 2));
    }
    assert_int_equal(tally_others(t), 20);
    tally_free(t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added_and_not_removed),
        cmocka_unit_test(recipients_come_once),
        cmocka_unit_test(texts_lose_their_controls),
        cmocka_unit_test(tally_counts_by_both_parts),
        cmocka_unit_test(tally_is_bounded),
    };

    return cmocka_run_group_tests_name("ctl/open_messages", tests, NULL, NULL);
}
