/* policy/netset.h - many networks, asked for an address.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  A sorted array, none of whose networks holds another,
 * so that at most one can hold an address: a binary search.
 */
#ifndef POLICY_NETSET_H
#define POLICY_NETSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

/* Sorts, and drops what lies within another; returns how many are left. */
size_t netset_sort(struct network *net, size_t n);

bool netset_has(const struct network *net, size_t n, const uint8_t address[16]);

/* Is the address in the network? */
bool netset_holds(const struct network *net, const uint8_t address[16]);

#endif
