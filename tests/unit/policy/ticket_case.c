/* tests/unit/policy/ticket_case.c - see ticket_case.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "ticket_case.h"

#include <stdio.h>

const struct smarthost gmail = {.name = "gmail"};
const struct smarthost relay = {.name = "gmail_relay"};

const struct account sales = {
    .name = "sales", .address = "sales@example.com", .smarthost = &gmail};
const struct account sales_by_relay = {
    .name = "relay", .address = "sales@example.com", .smarthost = &relay};
const struct account staff = {.name = "staff",
                              .address = "*@example.com",
                              .domain = "example.com",
                              .is_template = true,
                              .smarthost = &gmail};
const struct account staff_by_relay = {.name = "staff_relay",
                                       .address = "*@example.com",
                                       .domain = "example.com",
                                       .is_template = true,
                                       .smarthost = &relay};

struct mailbox
mailbox_of(const struct account *a, const char *address)
{
    struct mailbox m = {.account = a};
    char identity[IDENTITY_MAX + 1];

    snprintf(m.address, sizeof(m.address), "%s", address);
    m.id = mailbox_identity(m.address, a->smarthost->name, identity);
    return m;
}

uint64_t
random_u64(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}
