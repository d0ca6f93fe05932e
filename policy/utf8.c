/* policy/utf8.c - see utf8.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/utf8.h"

static unsigned char
octet(struct slice s, size_t i)
{
    return (unsigned char)s.at[i];
}

size_t
utf8_length(struct slice s)
{
    size_t n;
    uint32_t code;

    if (s.len == 0)
        return 0;
    if (octet(s, 0) < 0x80)
        return 1;
    if (octet(s, 0) < 0xC2 || octet(s, 0) > 0xF4)
        return 0;
    n = octet(s, 0) < 0xE0 ? 2 : octet(s, 0) < 0xF0 ? 3 : 4;
    if (n > s.len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((octet(s, i) & 0xC0) != 0x80)
            return 0;
    code = utf8_code(s);
    if ((n == 3 && code < 0x800) || (n == 4 && code < 0x10000) ||
        (code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF)
        return 0;
    return n;
}

uint32_t
utf8_code(struct slice s)
{
    unsigned char c = octet(s, 0);
    size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    uint32_t code = n == 1 ? c : c & (0xFFu >> (n + 1));

    for (size_t i = 1; i < n; i++)
        code = code << 6 | (octet(s, i) & 0x3F);
    return code;
}

bool
utf8_is_text(struct slice s)
{
    uint32_t c = utf8_code(s);

    if (c < 0x20)
        return c == '\t' || c == '\n' || c == '\r';
    if (c < 0xA0)
        return c < 0x7F || c == 0x85;
    return c != 0xFEFF && c != 0xFFFE && c != 0xFFFF;
}
