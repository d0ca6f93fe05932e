/* tests/unit/base/test_control.c - mirrors milter/base/control.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/base/control.h"

static const struct row {
    const char *name, *line;
    bool good;
    enum control_verb verb;
    const char *identity, *text, *other; /* other NULL = none */
} rows[] = {
    {"pause", "pause a@b", true, CONTROL_PAUSE, "a@b", "", NULL},
    {"pause with a reason", "pause a@b on holiday", true, CONTROL_PAUSE, "a@b",
     "on holiday", NULL},
    {"another smarthost", "resume a@b/gmail_relay", true, CONTROL_RESUME,
     "a@b/gmail_relay", "", NULL},
    {"spaces behind", "resume a@b  ", true, CONTROL_RESUME, "a@b", "", NULL},
    {"divert", "divert a@b c@d", true, CONTROL_DIVERT, "a@b", "", "c@d"},
    {"divert with a reason", "divert a@b c@d/gmail_relay it is full", true,
     CONTROL_DIVERT, "a@b", "it is full", "c@d/gmail_relay"},
    {"the end of it", "divert-end a@b", true, CONTROL_DIVERT_END, "a@b", "",
     NULL},
    {"quota-reset", "quota-reset a@b", true, CONTROL_QUOTA_RESET, "a@b", "",
     NULL},
    {"divert to nobody", "divert a@b", false, 0, NULL, NULL, NULL},
    {"divert to a space", "divert a@b ", false, 0, NULL, NULL, NULL},
    {"divert to two spaces", "divert a@b  c@d", false, 0, NULL, NULL, NULL},
    {"a verb's beginning", "divert- a@b", false, 0, NULL, NULL, NULL},
    {"nothing", "", false, 0, NULL, NULL, NULL},
    {"no account", "pause", false, 0, NULL, NULL, NULL},
    {"no account but a space", "pause ", false, 0, NULL, NULL, NULL},
    {"two spaces", "pause  a@b", false, 0, NULL, NULL, NULL},
    {"unknown verb", "paus a@b", false, 0, NULL, NULL, NULL},
    {"verb in capitals", "PAUSE a@b", false, 0, NULL, NULL, NULL},
    {"control character", "pause a@b x\ty", false, 0, NULL, NULL, NULL},
    {"not ASCII", "pause a@b \xc3\xa4", false, 0, NULL, NULL, NULL},
};

static void
requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        struct control_request q = {.text = "as it was"};

        print_message("  %s\n", t->name);
        assert_int_equal(control_parse(t->line, &q), t->good);
        if (!t->good) {
            assert_string_equal(q.text, "as it was");
            continue;
        }
        assert_int_equal(q.verb, t->verb);
        assert_string_equal(q.identity, t->identity);
        assert_string_equal(q.text, t->text);
        assert_string_equal(q.other, t->other != NULL ? t->other : "");
    }
}

static void
too_long_is_refused(void **state)
{
    char line[CONTROL_LINE_MAX];
    struct control_request q;

    (void)state;
    snprintf(line, sizeof line, "pause %0*d", IDENTITY_MAX, 0);
    assert_true(control_parse(line, &q));
    snprintf(line, sizeof line, "pause %0*d", IDENTITY_MAX + 1, 0);
    assert_false(control_parse(line, &q));
    snprintf(line, sizeof line, "divert a %0*d", IDENTITY_MAX, 0);
    assert_true(control_parse(line, &q));
    snprintf(line, sizeof line, "divert a %0*d", IDENTITY_MAX + 1, 0);
    assert_false(control_parse(line, &q));
    snprintf(line, sizeof line, "pause a %0*d", CONTROL_TEXT_MAX, 0);
    assert_true(control_parse(line, &q));
    snprintf(line, sizeof line, "pause a %0*d", CONTROL_TEXT_MAX + 1, 0);
    assert_false(control_parse(line, &q));
}

/* What is formatted is understood, whatever a person typed as the reason. */
static void
round_trip(void **state)
{
    static const char *const texts[] = {"", "on holiday", "ta\tb\nline",
                                        "\xc3\xa4\x01"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct control_request q = {.verb = CONTROL_DIVERT}, back;
        char line[CONTROL_LINE_MAX];

        snprintf(q.identity, sizeof q.identity, "%0*d", IDENTITY_MAX, 0);
        snprintf(q.other, sizeof q.other, "%0*d", IDENTITY_MAX, 1);
        snprintf(q.text, sizeof q.text, "%s", texts[i]);
        control_format(&q, line);
        assert_int_equal(line[strlen(line) - 1], '\n');
        line[strlen(line) - 1] = '\0';
        assert_true(control_parse(line, &back));
        assert_int_equal(back.verb, q.verb);
        assert_string_equal(back.identity, q.identity);
        assert_string_equal(back.other, q.other);
        assert_int_equal(strlen(back.text), strlen(texts[i]));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(too_long_is_refused),
        cmocka_unit_test(round_trip),
    };

    return cmocka_run_group_tests_name("base/control", tests, NULL, NULL);
}
