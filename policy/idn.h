/* policy/idn.h - internationalized domain names: U-labels to A-labels.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  IDNA 2008 with the mapping of UTS #46, not
 * transitional: the label that a browser would look up.  All of policy/
 * compares domains as A-labels, so each is converted once, when it is
 * compiled or when a message comes in.
 *
 * Labels with a * or ? stay as they are; the labels beside them are
 * converted, so that "*.muenchen.example" with its umlaut is asked about
 * A-labels, too.
 */
#ifndef POLICY_IDN_H
#define POLICY_IDN_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

enum { IDN_MAX = 253 /* octets of a domain of A-labels: RFC 1035 2.3.4 */ };

enum idn_result {
    IDN_OK = 0,
    IDN_SAME, /* compare it as it is: ASCII, no name, or no room */
    IDN_ENOMEM,
};

bool idn_is_ascii(struct slice s);

/* Writes the domain (perhaps with a dot before it) with A-labels in place of
 * U-labels, NUL-terminated.  ret is not touched unless the result is
 * IDN_OK. */
enum idn_result idn_domain(struct slice domain, char *ret, size_t ret_size,
                           size_t *ret_len);

/* The same for what follows the last "@" of an address; ret may be where the
 * address begins. */
enum idn_result idn_address(struct slice address, char *ret, size_t ret_size,
                            size_t *ret_len);

#endif
