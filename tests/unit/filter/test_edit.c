/* tests/unit/filter/test_edit.c - mirrors milter/filter/edit.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "milter/filter/edit.h"

static const struct row {
    const char *name, *original, *orcpt, *notify, *want;
} rows[] = {
    {"plain", "a@b.test", NULL, NULL, "ORCPT=rfc822;a@b.test"},
    {"the client's own ORCPT", "a@b.test", "ORCPT=rfc822;x@y.test", NULL,
     "ORCPT=rfc822;x@y.test"},
    {"NOTIFY goes along", "a@b.test", NULL, "NOTIFY=NEVER",
     "ORCPT=rfc822;a@b.test NOTIFY=NEVER"},
    {"both of the client's", "a@b.test", "orcpt=x-y;z", "notify=SUCCESS",
     "orcpt=x-y;z notify=SUCCESS"},
    {"plus and equals are escaped", "a+b=c@d.test", NULL, NULL,
     "ORCPT=rfc822;a+2Bb+3Dc@d.test"},
    {"a space in quotes", "\"a b\"@c.test", NULL, NULL,
     "ORCPT=rfc822;\"a+20b\"@c.test"},
    {"UTF-8 octet by octet", "\xc3\xa4@b.test", NULL, NULL,
     "ORCPT=rfc822;+C3+A4@b.test"},
    {"controls and DEL", "\x01\x7f@b", NULL, NULL, "ORCPT=rfc822;+01+7F@b"},
    {"the ends of xchar", "!~@b", NULL, NULL, "ORCPT=rfc822;!~@b"},
    {"empty", "", NULL, NULL, "ORCPT=rfc822;"},
};

static void
writes_the_parameters(void **state)
{
    struct arena *a = arena_new();

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];

        print_message("  %s\n", t->name);
        assert_string_equal(edits_esmtp(a, t->original, t->orcpt, t->notify),
                            t->want);
    }
    arena_free(a);
}

/* Property: what is written decodes to what it was, and needs no quoting. */
static void
xtext_comes_back(void **state)
{
    struct arena *a = arena_new();
    char original[3] = "", back[8];

    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        const char *p, *x;
        size_t n = 0;
        unsigned octet;

        original[0] = (char)c;
        original[1] = '@';
        x = edits_esmtp(a, original, NULL, NULL) + strlen("ORCPT=rfc822;");
        for (p = x; *p != 0; p++) {
            assert_true(*p > ' ' && *p <= '~' && *p != '=');
            if (*p == '+') {
                assert_int_equal(sscanf(p + 1, "%2X", &octet), 1);
                back[n++] = (char)octet;
                p += 2;
            } else {
                back[n++] = *p;
            }
        }
        back[n] = 0;
        assert_string_equal(back, original);
    }
    arena_free(a);
}

/* ---- applying ---- */

static char said[400];
static unsigned left; /* edits until one is refused */

static bool
say(const char *what, const char *name, const char *value, unsigned index)
{
    size_t len = strlen(said);

    if (left-- == 0)
        return false;
    snprintf(said + len, sizeof said - len, "%s %s %s %u\n", what, name, value,
             index);
    return true;
}

static bool
quarantine(void *mta, const char *reason)
{
    assert_ptr_equal(mta, said);
    return say("hold", "", reason, 0);
}

static bool
remove_header(void *mta, const char *name, unsigned index)
{
    assert_ptr_equal(mta, said);
    return say("remove", name, "", index);
}

static bool
add_header(void *mta, const char *name, const char *value)
{
    assert_ptr_equal(mta, said);
    return say("field", name, value, 0);
}

static bool
del_rcpt(void *mta, const char *address)
{
    assert_ptr_equal(mta, said);
    return say("del", address, "", 0);
}

static bool
add_rcpt(void *mta, const char *address, const char *esmtp)
{
    assert_ptr_equal(mta, said);
    return say("add", address, esmtp, 0);
}

static const struct mta_ops ops = {
    .quarantine = quarantine,
    .remove_header = remove_header,
    .add_header = add_header,
    .del_rcpt = del_rcpt,
    .add_rcpt = add_rcpt,
};

static void
applies_in_order_and_stops_at_a_refusal(void **state)
{
    static const char *const line[] = {"hold  why 0\n", "remove X-A  2\n",
                                       "field X-B c d 0\n", "del a@b  0\n",
                                       "add a@tag ORCPT=x 0\n"};
    struct arena *a = arena_new();
    char want[sizeof said] = "";
    struct edits e;

    (void)state;
    edits_init(&e);
    left = 0;
    assert_true(edits_apply(&e, &ops, said)); /* nothing to refuse */
    assert_true(edits_quarantine(&e, a, "why"));
    assert_true(edits_remove_header(&e, a, "X-A", 2));
    assert_true(edits_add_header(&e, a, "X-B", "c d"));
    assert_true(edits_del_rcpt(&e, a, "a@b"));
    assert_true(edits_add_rcpt(&e, a, "a@tag", "ORCPT=x"));
    assert_int_equal(e.n, 5);
    for (unsigned i = 0; i <= 5; i++) {
        said[0] = 0;
        left = i;
        assert_true(edits_apply(&e, &ops, said) == (i == 5));
        assert_string_equal(said, want);
        if (i < 5)
            snprintf(want + strlen(want), sizeof want - strlen(want), "%s",
                     line[i]);
    }
    arena_free(a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_parameters),
        cmocka_unit_test(xtext_comes_back),
        cmocka_unit_test(applies_in_order_and_stops_at_a_refusal),
    };

    return cmocka_run_group_tests_name("filter/edit", tests, NULL, NULL);
}
