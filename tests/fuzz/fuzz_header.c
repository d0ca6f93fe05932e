/* tests/fuzz/fuzz_header.c - a header field body from a stranger.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: the decoded text fits where it must, is UTF-8, is
 * the same start when there is less room, and the same for a name that could
 * be decoded; the walk over the addresses ends, each of them with a local part
 * and a domain, and no controls.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/header.h"
#include "policy/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_text(struct slice s)
{
    while (s.len > 0) {
        size_t n = utf8_length(s);

        check(n > 0);
        check(s.at[0] != '\r' && s.at[0] != '\n' && s.at[0] != '\0');
        s = slice_from(s, n);
    }
}

static void
decode_name(struct slice raw, struct slice decoded)
{
    char *name = malloc(HEADER_DECODED_MAX(raw.len) + 1);
    bool exact;
    size_t n;

    check(name != NULL);
    n = header_decode_name(raw, name, &exact);
    check(n <= HEADER_DECODED_MAX(raw.len));
    check_text((struct slice){name, n});
    if (exact)
        check(slice_eq((struct slice){name, n}, decoded));
    free(name);
}

static void
decode(struct slice raw)
{
    size_t room = HEADER_DECODED_MAX(raw.len), n, half;
    char *whole = malloc(room + 1), *part;
    bool cut;

    check(whole != NULL);
    n = header_decode(raw, whole, room, &cut);
    check(!cut && n <= room);
    check_text((struct slice){whole, n});
    decode_name(raw, (struct slice){whole, n});
    part = malloc(n / 2 + 1);
    check(part != NULL);
    half = header_decode(raw, part, n / 2, &cut);
    check(half <= n / 2 && memcmp(part, whole, half) == 0);
    check(cut == (half < n));
    free(part);
    free(whole);
}

static void
walk(struct slice raw)
{
    struct header_addresses it = header_addresses(raw);
    struct header_address a;
    size_t n = 0;

    while (header_next_address(&it, &a)) {
        const char *at = strrchr(a.text, '@');

        check(++n <= raw.len);
        check(a.len == strlen(a.text) && a.len <= HEADER_ADDRESS_MAX);
        check(at != NULL && at > a.text && at[1] != '\0');
        for (size_t i = 0; i < a.len; i++)
            check((unsigned char)a.text[i] >= ' ' && a.text[i] != 0x7F);
        check(a.phrase.len == 0 ||
              (a.phrase.at >= raw.at &&
               a.phrase.at + a.phrase.len <= raw.at + raw.len));
    }
    check(it.rest.len == 0);
    header_first_token(raw);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice raw = {(const char *)data, size};

    decode(raw);
    walk(raw);
    return 0;
}
