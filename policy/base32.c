/* policy/base32.c - see base32.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/base32.h"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void
base32_write(const uint8_t *octets, size_t n, char *ret)
{
    unsigned bits = 0, n_bits = 0;

    for (size_t i = 0; i < n; i++) {
        bits = (bits << 8 | octets[i]) & 0xfff;
        for (n_bits += 8; n_bits >= 5; n_bits -= 5)
            *ret++ = alphabet[bits >> (n_bits - 5) & 31];
    }
    if (n_bits > 0)
        *ret++ = alphabet[bits << (5 - n_bits) & 31];
    *ret = '\0';
}

/* 0..31, or -1. */
static int
value_of(char c)
{
    c = slice_lower(c);
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

/* One pass; with ret NULL it only looks. */
static bool
read_octets(struct slice text, uint8_t *ret)
{
    unsigned bits = 0, n_bits = 0;

    for (size_t i = 0; i < text.len; i++) {
        int value = value_of(text.at[i]);

        if (value < 0)
            return false;
        bits = (bits << 5 | (unsigned)value) & 0xfff;
        n_bits += 5;
        if (n_bits >= 8) {
            n_bits -= 8;
            if (ret != NULL)
                *ret++ = (uint8_t)(bits >> n_bits);
        }
    }
    return (bits & ((1u << n_bits) - 1)) == 0;
}

bool
base32_read(struct slice text, uint8_t *ret, size_t n)
{
    return text.len == BASE32_CHARS(n) && read_octets(text, NULL) &&
           read_octets(text, ret);
}

bool
base32_is_text(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (value_of(text.at[i]) < 0)
            return false;
    return true;
}
