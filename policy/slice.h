/* policy/slice.h - borrowed bytes: a pointer and a length, passed by value.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A slice owns nothing and has no terminating NUL; it is valid while the
 * buffer it points into is neither freed nor overwritten.  {NULL, 0} is the
 * empty slice.  Case is folded for ASCII only, as RFC 5321 2.4 needs.
 */
#ifndef POLICY_SLICE_H
#define POLICY_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *at;
    size_t len; /* octets */
};

/* For printf("%.*s"). */
#define SLICE_FMT(s) (int)(s).len, (s).len > 0 ? (s).at : ""

#define SLICE_LIT(text) ((struct slice){"" text, sizeof(text) - 1})

static inline struct slice
slice_of(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

static inline char
slice_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static inline bool
slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool
slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (slice_lower(a.at[i]) != slice_lower(b.at[i]))
            return false;
    return true;
}

static inline bool
slice_starts(struct slice s, const char *prefix)
{
    size_t n = strlen(prefix);

    return s.len >= n && memcmp(s.at, prefix, n) == 0;
}

static inline bool
slice_ends_nocase(struct slice s, struct slice tail)
{
    return s.len >= tail.len &&
           slice_eq_nocase((struct slice){s.at + (s.len - tail.len), tail.len},
                           tail);
}

/* The part from octet `from` on; empty when that is past the end. */
static inline struct slice
slice_from(struct slice s, size_t from)
{
    if (from >= s.len)
        return (struct slice){NULL, 0};
    return (struct slice){s.at + from, s.len - from};
}

static inline struct slice
slice_trim(struct slice s)
{
    while (s.len > 0 && strchr(" \t\r\n", s.at[0]) != NULL && s.at[0] != '\0')
        s = (struct slice){s.at + 1, s.len - 1};
    while (s.len > 0 && s.at[s.len - 1] != '\0' &&
           strchr(" \t\r\n", s.at[s.len - 1]) != NULL)
        s.len--;
    return s;
}

#endif
