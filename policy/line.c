/* policy/line.c - see line.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/line.h"

#include <stdarg.h>
#include <stdio.h>

struct line
line_start(char *at, size_t size)
{
    at[0] = '\0';
    return (struct line){at, size, 0};
}

/* Where a text can be cut so that at most max octets are left. */
static size_t
cut_at(const char *at, size_t max)
{
    while (max > 0 && ((unsigned char)at[max] & 0xC0) == 0x80)
        max--;
    return max;
}

void
line_add(struct line *l, const char *fmt, ...)
{
    size_t room = l->size - l->len;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(l->at + l->len, room, fmt, ap);
    va_end(ap);
    if (n > 0)
        l->len += (size_t)n < room ? (size_t)n : room - 1;
}

void
line_value(struct line *l, struct slice s, const char *none)
{
    size_t shown = s.len, room = l->size - l->len - 1;

    if (s.len == 0) {
        line_add(l, "%s", none);
        return;
    }
    if (shown > LINE_VALUE_MAX)
        shown = cut_at(s.at, LINE_VALUE_MAX);
    if (shown > room)
        shown = cut_at(s.at, room);
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c == '\t')
            c = ' ';
        l->at[l->len++] = c < ' ' || c == 0x7F ? '?' : (char)c;
    }
    l->at[l->len] = '\0';
    if (shown < s.len)
        line_add(l, "...");
}
