/* policy/line.h - one line of text for a person, in a buffer of fixed size.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  What does not fit is left off, between characters.
 */
#ifndef POLICY_LINE_H
#define POLICY_LINE_H

#include <stddef.h>

#include "policy/slice.h"

enum { LINE_VALUE_MAX = 40 /* octets of a value that are shown */ };

struct line {
    char *at; /* always NUL-terminated */
    size_t size, len;
};

struct line line_start(char *at, size_t size); /* size: 1.. */
void line_add(struct line *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A value from outside: shortened, controls replaced; `none` when empty. */
void line_value(struct line *l, struct slice s, const char *none);

#endif
