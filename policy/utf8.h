/* policy/utf8.h - UTF-8: RFC 3629.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.
 */
#ifndef POLICY_UTF8_H
#define POLICY_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/slice.h"

/* Octets of the character at the start of s; 0 = not UTF-8 (overlong, a
 * surrogate, over U+10FFFF, cut short, or s is empty). */
size_t utf8_length(struct slice s);

/* Its number; s begins with a good character. */
uint32_t utf8_code(struct slice s);

/* What YAML lets stand in a file: YAML 1.1 section 5.1. */
bool utf8_is_text(struct slice s);

#endif
