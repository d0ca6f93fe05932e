/* policy/glob.c - see glob.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/glob.h"

#include <stddef.h>

/* Octets of the character at v[i], as far as they are there. */
static size_t
character_length(struct slice v, size_t i)
{
    size_t n = 1;

    if ((unsigned char)v.at[i] >= 0xC0)
        while (n < 4 && i + n < v.len &&
               ((unsigned char)v.at[i + n] & 0xC0) == 0x80)
            n++;
    return n;
}

/* Only the last star ever has to take more: what an earlier one could take
 * instead, the last one can take as well. */
bool
glob_matches(struct slice pattern, struct slice value)
{
    size_t p = 0, v = 0;
    bool star = false;
    size_t star_p = 0, star_v = 0;

    while (v < value.len) {
        if (p < pattern.len && pattern.at[p] == '*') {
            star = true;
            star_p = ++p;
            star_v = v;
        } else if (p < pattern.len && pattern.at[p] == '?') {
            v += character_length(value, v);
            p++;
        } else if (p < pattern.len &&
                   slice_lower(pattern.at[p]) == slice_lower(value.at[v])) {
            v++;
            p++;
        } else if (star) {
            v = ++star_v;
            p = star_p;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*')
        p++;
    return p == pattern.len;
}
