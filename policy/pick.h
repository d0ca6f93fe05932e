/* policy/pick.h - which member of a pool comes first.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Weighted rendezvous hashing: each member draws a number from the seed
 * and its own id, and the draws are ordered.  A member that joins or leaves a
 * pool therefore moves only those seeds that it wins or had won (David Thaler
 * and Chinya Ravishankar, "Using name-based mappings to increase hit rates",
 * 1998; with weights, -ln(u)/w).
 */
#ifndef POLICY_PICK_H
#define POLICY_PICK_H

#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

/* The same for every spelling of a name in upper and lower case, on every host
 * and in every version. */
uint64_t pick_seed(struct slice name);

/* Smaller comes first.  weight: 1..; over many seeds a member comes first in
 * proportion to its weight. */
double pick_draw(uint64_t seed, uint64_t id, unsigned weight);

#endif
