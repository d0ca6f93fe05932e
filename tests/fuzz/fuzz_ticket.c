/* tests/fuzz/fuzz_ticket.c - a recipient: one to tag, or one that claims to
 * be tagged.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: what can be tagged reads back as it was; what
 * reads well can be written again and says the same; what reads well, or is
 * refused as ours, is seen to be ours.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/address.h"
#include "policy/ticket.h"

#define TAG "gmroute.invalid"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct ticket_keys keys = {
    .n = 1, .key = {{.id = 7, .secret = "0123456789abcdef0123456789abcde"}}};

static const struct smarthost gmail = {.name = "gmail"};

static void
check(bool good)
{
    if (!good)
        abort();
}

static bool
same_canonical(struct slice a, struct slice b)
{
    char x[1024], y[1024];
    size_t n = address_canonical(a, x, sizeof(x));

    return n > 0 && address_canonical(b, y, sizeof(y)) == n &&
           memcmp(x, y, n) == 0;
}

static void
write_and_read(struct slice recipient, const struct mailbox *m)
{
    struct ticket t = {.number = 1, .share_percent = 100};
    char tagged[TAGGED_MAX + 1];
    struct tag tag;

    if (ticket_write(&t, recipient, m, TAG, &keys, tagged) != TICKET_OK)
        return;
    check(strlen(tagged) <= TAGGED_MAX);
    check(ticket_is_tagged(slice_of(tagged), TAG));
    check(ticket_read(slice_of(tagged), TAG, &keys, &tag) == TICKET_OK);
    check(tag.ticket.number == 1 && tag.ticket.share_percent == 100);
    check(same_canonical(recipient, slice_of(tag.recipient)));
    check(ticket_tail(slice_of(tagged), TAG) ==
          strlen(tagged) - strlen(tag.recipient));
}

static void
read_and_write(struct slice address)
{
    enum ticket_result result;
    char again[TAGGED_MAX + 1];
    struct tag tag, back;

    result = ticket_read(address, TAG, &keys, &tag);
    if (result != TICKET_EFOREIGN)
        check(ticket_is_tagged(address, TAG));
    if (result != TICKET_OK)
        return;
    check(tag.account.at >= address.at &&
          tag.account.at + tag.account.len <= address.at + address.len);
    check(tag.queue < TICKET_QUEUES);
    if (ticket_write(&tag.ticket, slice_of(tag.recipient), NULL, TAG, &keys,
                     again) == TICKET_OK) {
        check(ticket_read(slice_of(again), TAG, &keys, &back) == TICKET_OK);
        check(strcmp(tag.recipient, back.recipient) == 0);
        check(back.ticket.number == tag.ticket.number);
    }
}

/* The octets as an account label, and as the local part of a template's
 * address. */
static void
label(struct slice text)
{
    struct account staff = {.name = "staff",
                            .address = "*@example.com",
                            .domain = "example.com",
                            .is_template = true,
                            .smarthost = &gmail};
    const struct policy p = {.accounts = &staff, .n_accounts = 1};
    char written[LABEL_MAX + 1], again[LABEL_MAX + 1];
    struct mailbox m = {.account = &staff}, back;

    if (ticket_mailbox(&p, text, &back)) {
        check(ticket_account_label(&back, again) == TICKET_OK);
        check(slice_eq_nocase(slice_of(again), text));
    }
    if (text.len == 0 || text.len > 64 || memchr(text.at, '@', text.len) ||
        memchr(text.at, '\0', text.len))
        return;
    memcpy(m.address, text.at, text.len);
    strcpy(m.address + text.len, "@example.com");
    if (ticket_account_label(&m, written) != TICKET_OK)
        return;
    if (text.len == 1 && text.at[0] == '*')
        return; /* the template's own spelling: nobody's mailbox */
    check(ticket_mailbox(&p, slice_of(written), &back));
    check(slice_eq_nocase(slice_of(back.address), slice_of(m.address)));
    write_and_read(slice_of("user@example.org"), &back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};

    write_and_read(text, NULL);
    read_and_write(text);
    label(text);
    return 0;
}
