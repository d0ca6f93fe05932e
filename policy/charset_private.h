/* policy/charset_private.h - between charset.c and its tables.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_CHARSET_PRIVATE_H
#define POLICY_CHARSET_PRIVATE_H

#include "policy/charset.h"

/* What octets from 0x80 on mean; 0 = nothing.  Rows of UTF-8 and Latin-1 are
 * empty. */
extern const uint16_t charset_upper[CHARSET_OTHER][128];

#endif
