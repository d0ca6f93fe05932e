/* policy/base32.h - RFC 4648 6, lower case, without padding.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.
 */
#ifndef POLICY_BASE32_H
#define POLICY_BASE32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

/* Characters that n octets take. */
#define BASE32_CHARS(n) (((n)*8 + 4) / 5)

/* Writes BASE32_CHARS(n) characters and a NUL. */
void base32_write(const uint8_t *octets, size_t n, char *ret);

/* Reads exactly n octets, in either case.  False, *ret untouched: another
 * length, another character, or unused bits that are not zero; so no two
 * spellings (but for case) read the same. */
bool base32_read(struct slice text, uint8_t *ret, size_t n);

/* Only characters of the alphabet, in either case. */
bool base32_is_text(struct slice text);

#endif
