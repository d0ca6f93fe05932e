/* tests/unit/ctl/test_untag.c - mirrors milter/ctl/untag.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/ctl/untag.h"

#define TICKET "aaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbb"
#define TAIL   ".gmroute.invalid"

static const struct row {
    const char *name, *address, *recipient, *label; /* NULL = not tagged */
} rows[] = {
    {"tagged", "bob@gmail.com." TICKET ".aone.q03" TAIL, "bob@gmail.com",
     "aone"},
    {"case and the root's dot",
     "Bob@gmail.com." TICKET ".aone.Q03.GMROUTE.Invalid.", "Bob@gmail.com",
     "aone"},
    {"refused by rule", "bob@gmail.com." TICKET ".x.q00" TAIL, "bob@gmail.com",
     "x"},
    {"a quoted local part", "\"b b\"@gmail.com." TICKET ".aone.q03" TAIL,
     "\"b b\"@gmail.com", "aone"},
    {"an ordinary address", "bob@gmail.com", NULL, NULL},
    {"the tag domain itself", "bob@gmroute.invalid", NULL, NULL},
    {"another domain that ends so",
     "bob@gmail.com." TICKET ".aone.q03.xgmroute.invalid", NULL, NULL},
    {"no queue", "bob@gmail.com." TICKET ".aone" TAIL, NULL, NULL},
    {"a queue that is none", "bob@gmail.com." TICKET ".aone.q3x" TAIL, NULL,
     NULL},
    {"a short ticket", "bob@gmail.com.abc.aone.q03" TAIL, NULL, NULL},
    {"nothing before the ticket", "bob@" TICKET ".aone.q03" TAIL, NULL, NULL},
    {"no local part at all", TICKET ".aone.q03" TAIL, NULL, NULL},
    {"empty", "", NULL, NULL},
};

static void
reads_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        struct untagged u = {.label = "untouched"};

        print_message("  %s\n", t->name);
        assert_int_equal(untag(slice_of(t->address), "gmroute.invalid", &u),
                         t->recipient != NULL);
        if (t->recipient == NULL) {
            assert_string_equal(u.label, "untouched");
            continue;
        }
        assert_string_equal(u.recipient, t->recipient);
        assert_string_equal(u.label, t->label);
    }
}

/* What ticket_write() makes comes back, whatever the account. */
static void
a_written_ticket_comes_back(void **state)
{
    static const struct ticket_keys keys = {.n = 1, .key = {{.id = 1}}};
    static const char *const recipient[] = {
        "bob@gmail.com", "\"a@b\"@x.example", "a+b=c@sub.x.example"};
    struct ticket t = {.number = 7, .share_percent = 100};

    (void)state;
    for (size_t i = 0; i < sizeof recipient / sizeof *recipient; i++) {
        char tagged[TAGGED_MAX + 1];
        struct untagged u;

        assert_int_equal(ticket_write(&t, slice_of(recipient[i]), NULL,
                                      "gmroute.invalid", &keys, tagged),
                         TICKET_OK);
        assert_true(untag(slice_of(tagged), "gmroute.invalid", &u));
        assert_string_equal(u.recipient, recipient[i]);
        assert_string_equal(u.label, "x");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_each_row),
        cmocka_unit_test(a_written_ticket_comes_back),
    };

    return cmocka_run_group_tests_name("ctl/untag", tests, NULL, NULL);
}
