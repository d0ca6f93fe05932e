/* policy/glob.h - patterns with * and ?, over the whole string.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_GLOB_H
#define POLICY_GLOB_H

#include <stdbool.h>

#include "policy/slice.h"

/* '*' is any text, '?' any one character (UTF-8); all else is itself, ASCII
 * letters without case.  At most value octets times pattern octets steps,
 * whatever the two are; values come from strangers, patterns do not. */
bool glob_matches(struct slice pattern, struct slice value);

#endif
