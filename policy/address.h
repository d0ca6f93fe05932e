/* policy/address.h - envelope addresses: RFC 5321 4.1.2, RFC 6531.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Slices borrow from the input.
 */
#ifndef POLICY_ADDRESS_H
#define POLICY_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct address {
    struct slice local;  /* as written, quotes included */
    struct slice domain; /* after the last @; "" when there is none */
    bool is_literal;     /* the domain is [ ... ] */
};

/* Splits a path or mailbox: takes off "<>" and a source route ("@a,@b:").
 * The empty path gives an empty local part and domain.  False: not an
 * address (controls, spaces outside quotes, unbalanced quotes or brackets,
 * empty local part). */
bool address_parse(struct slice text, struct address *ret);

/* The spelling that tickets are signed over and accounts are keyed by:
 * unquoted local part (backslashes resolved), "@", lower-case domain.
 * Writes up to ret_size octets with a NUL; returns the length, or 0 when it
 * does not fit or is no address with both parts. */
size_t address_canonical(struct slice text, char *ret, size_t ret_size);

/* Does domain d match the pattern: "x" that domain alone, ".x" any
 * subdomain?  Without case; a trailing dot of d is ignored. */
bool address_domain_matches(struct slice d, struct slice pattern);

#endif
