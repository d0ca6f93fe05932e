/* tests/unit/oauth/test_wipe.c - mirrors milter/oauth/wipe.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "milter/oauth/wipe.h"

/* What free() gets: seen before it is given back. */
void __real_free(void *p);
void __wrap_free(void *p);

static const char planted[] = "1//PLANTED-REFRESH-TOKEN";
static bool watching;
static unsigned freed, dirty;

void
__wrap_free(void *p)
{
    const char *head = p;

    if (watching && p != NULL) {
        freed++;
        /* The blocks of this test are at least this long behind the head. */
        for (size_t i = 0; i < sizeof planted; i++)
            dirty += head[sizeof(max_align_t) + i] != 0;
    }
    __real_free(p);
}

static void
watch(bool on)
{
    if (on)
        freed = dirty = 0;
    watching = on;
}

static void
what_is_freed_is_wiped(void **state)
{
    char *p = wipe_malloc(sizeof planted);

    (void)state;
    memcpy(p, planted, sizeof planted);
    watch(true);
    wipe_free(p);
    watch(false);
    assert_int_equal(freed, 1);
    assert_int_equal(dirty, 0);
    wipe_free(NULL);
}

static void
what_moves_is_wiped_behind(void **state)
{
    char *p = wipe_strdup(planted);

    (void)state;
    watch(true);
    p = wipe_realloc(p, 100000);
    watch(false);
    assert_string_equal(p, planted);
    assert_int_equal(freed, 1);
    assert_int_equal(dirty, 0);
    /* Somewhat smaller stays where it is, much smaller moves. */
    assert_ptr_equal(wipe_realloc(p, 60000), p);
    watch(true);
    p = wipe_realloc(p, sizeof planted);
    watch(false);
    assert_int_equal(freed, 1);
    assert_int_equal(dirty, 0);
    assert_string_equal(p, planted);
    assert_null(wipe_realloc(p, 0));
}

static void
sizes_that_do_not_fit_are_refused(void **state)
{
    char *p;

    (void)state;
    assert_null(wipe_malloc(SIZE_MAX));
    assert_null(wipe_calloc(SIZE_MAX / 2, 3));
    p = wipe_calloc(100, 3);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(p[i], 0);
    wipe_free(p);
    p = wipe_realloc(NULL, 5);
    assert_non_null(p);
    wipe_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_freed_is_wiped),
        cmocka_unit_test(what_moves_is_wiped_behind),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests_name("token/wipe", tests, NULL, NULL);
}
