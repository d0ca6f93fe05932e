/* policy/digit.h - the digits of base64 and of hexadecimal numbers.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.
 */
#ifndef POLICY_DIGIT_H
#define POLICY_DIGIT_H

#include "policy/slice.h"

/* 0..63; -1 = no digit, '=' among them. */
static inline int
digit_base64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 0..15; -1 = no digit. */
static inline int
digit_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The octet that the two digits at the start of s are; -1 = they are none. */
static inline int
digit_hex_octet(struct slice s)
{
    if (s.len < 2 || digit_hex(s.at[0]) < 0 || digit_hex(s.at[1]) < 0)
        return -1;
    return digit_hex(s.at[0]) << 4 | digit_hex(s.at[1]);
}

#endif
