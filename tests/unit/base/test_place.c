/* tests/unit/base/test_place.c - mirrors milter/base/place.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/place.h"

static void
a_directory_of_its_own(void **state)
{
    char top[] = "/tmp/gmroute-place-XXXXXX", own[64], place[64];
    bool is_own;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(top));
    snprintf(own, sizeof own, "%s/quota", top);

    assert_true(place_of(top, "quota", place, sizeof place, &is_own));
    assert_string_equal(place, top);
    assert_false(is_own);

    fd = open(own, O_WRONLY | O_CREAT, 0600); /* all side by side */
    assert_true(fd >= 0);
    close(fd);
    assert_true(place_of(top, "quota", place, sizeof place, &is_own));
    assert_string_equal(place, top);
    assert_false(is_own);
    unlink(own);

    assert_int_equal(mkdir(own, 0700), 0);
    assert_true(place_of(top, "quota", place, sizeof place, &is_own));
    assert_string_equal(place, own);
    assert_true(is_own);
    assert_true(place_of(top, "quota", place, sizeof place, NULL));
    assert_string_equal(place, own);
    rmdir(own);
    rmdir(top);
}

/* One that just fits may not be taken for another. */
static void
what_does_not_fit_is_refused(void **state)
{
    char room[16];

    (void)state;
    assert_true(place_of("/nowhere", "quota", room, sizeof room, NULL));
    assert_string_equal(room, "/nowhere");
    assert_false(place_of("/nowhere.", "quotas", room, sizeof room, NULL));
    assert_false(place_of("/nowhere/at/all/", "x", room, sizeof room, NULL));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_of_its_own),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests_name("base/place", tests, NULL, NULL);
}
