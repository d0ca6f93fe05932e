/* tests/fuzz/fuzz_address.c - an envelope address from a stranger.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: the parts lie in the address, in order, and have
 * nothing in them that an address may not have; the canonical spelling fits
 * where it says, and is the same for another case of the domain.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_part(struct slice part, struct slice text)
{
    if (part.len == 0)
        return;
    check(part.at >= text.at && part.at + part.len <= text.at + text.len);
    for (size_t i = 0; i < part.len; i++)
        check((unsigned char)part.at[i] >= ' ' && part.at[i] != 0x7F);
}

static void
parse(struct slice text)
{
    struct address a;

    if (!address_parse(text, &a))
        return;
    check_part(a.local, text);
    check_part(a.domain, text);
    check(a.local.len > 0 || a.domain.len == 0);
    if (a.domain.len == 0)
        return;
    check(a.domain.at > a.local.at + a.local.len - 1);
    check(memchr(a.domain.at, ' ', a.domain.len) == NULL);
    check(a.is_literal == (a.domain.at[0] == '['));
    if (a.domain.at[a.domain.len - 1] != '.')
        check(address_domain_matches(a.domain, a.domain));
}

static void
canonical(struct slice text)
{
    size_t room = text.len + 1, n, m;
    char *first = malloc(room), *second = malloc(room),
         *other = malloc(text.len + 1);

    check(first != NULL && second != NULL && other != NULL);
    n = address_canonical(text, first, room);
    check(n < room);
    if (n > 0) {
        const char *at = memrchr(first, '@', n);
        struct address a;

        check(at != NULL && at > first && first[n] == '\0');
        check(address_parse(text, &a));
        memcpy(other, text.at, text.len);
        for (size_t i = 0; i < a.domain.len; i++) {
            char *c = other + (a.domain.at - text.at) + i;

            *c = slice_lower(*c);
        }
        m = address_canonical((struct slice){other, text.len}, second, room);
        check(m == n && memcmp(first, second, n) == 0);
        check(address_canonical(text, second, n) == 0); /* no room */
    }
    free(first);
    free(second);
    free(other);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};

    parse(text);
    canonical(text);
    return 0;
}
