/* tests/unit/policy/test_base32.c - mirrors policy/base32.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/base32.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
test_base32(void **state)
{
    /* RFC 4648 10 */
    static const char *const rows[][2] = {
        {"", ""},
        {"f", "my"},
        {"fo", "mzxq"},
        {"foo", "mzxw6"},
        {"foob", "mzxw6yq"},
        {"fooba", "mzxw6ytb"},
        {"foobar", "mzxw6ytboi"},
    };
    uint8_t octets[8];
    char text[16];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = strlen(rows[i][0]);

        base32_write((const uint8_t *)rows[i][0], n, text);
        assert_string_equal(text, rows[i][1]);
        assert_true(base32_read(slice_of(rows[i][1]), octets, n));
        assert_memory_equal(octets, rows[i][0], n);
    }
    assert_true(base32_read(slice_of("MzXw6"), octets, 3));
    assert_false(base32_read(slice_of("mz"), octets, 1)); /* unused bits */
    assert_false(base32_read(slice_of("mzxr"), octets, 2));
    assert_false(base32_read(slice_of("my======"), octets, 1));
    assert_false(base32_read(slice_of("m1"), octets, 1));
    assert_false(base32_read(slice_of("m8"), octets, 1));
    assert_false(base32_read(slice_of("m"), octets, 1));
    assert_false(base32_read(slice_of("mya"), octets, 1));
    memcpy(octets, "unmoved", 8);
    assert_false(base32_read(slice_of("aaaaaaaaaaaa!"), octets, 8));
    assert_memory_equal(octets, "unmoved", 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base32),
    };

    return cmocka_run_group_tests_name("policy/base32", tests, NULL, NULL);
}
