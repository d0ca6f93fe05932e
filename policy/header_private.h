/* policy/header_private.h - what all structured fields are made of.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_HEADER_PRIVATE_H
#define POLICY_HEADER_PRIVATE_H

#include "policy/slice.h"

/* Octets of the comment that s begins with; all of it when it has no end. */
size_t header_comment_length(struct slice s, bool *ret_closed);

/* Octets up to and with the closing character, from the opening one that s
 * begins with on; 0 = it is missing. */
size_t header_enclosed_length(struct slice s, char close);

#endif
