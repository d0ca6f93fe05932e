/* tests/unit/policy/ticket_case.h - accounts that tags are made for.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_TICKET_CASE_H
#define TESTS_TICKET_CASE_H

#include "policy/ticket.h"

extern const struct smarthost gmail, relay;

/* Named ones and templates, each through both smarthosts. */
extern const struct account sales, sales_by_relay, staff, staff_by_relay;

struct mailbox mailbox_of(const struct account *a, const char *address);

/* The next of a row that begins with *seed (splitmix64). */
uint64_t random_u64(uint64_t *seed);

#endif
