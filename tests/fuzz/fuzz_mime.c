/* tests/fuzz/fuzz_mime.c - a message from a stranger, its structure.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: in pieces of any size the names are those of the
 * whole, and no others come once mime_wants_body() says so; they are UTF-8,
 * without path, controls, and what Windows drops, and within the bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/mime.h"
#include "policy/utf8.h"

enum { NAMES_MAX = 1000, NAME_MAX_OCTETS = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

/* Octets up to and with the LF. */
static size_t
line_length(struct slice s)
{
    const char *end = s.len > 0 ? memchr(s.at, '\n', s.len) : NULL;

    return end != NULL ? (size_t)(end - s.at) + 1 : s.len;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Gives the fields up to the first empty line; returns what is behind it. */
static struct slice
feed_header(struct mime *m, struct slice s)
{
    while (s.len > 0 && s.at[0] != '\n' && s.at[0] != '\r') {
        size_t n = line_length(s);
        const char *colon;

        while (n < s.len && is_blank(s.at[n]))
            n += line_length(slice_from(s, n));
        colon = memchr(s.at, ':', n);
        if (colon != NULL) {
            size_t len = (size_t)(colon - s.at);

            mime_header(m, (struct slice){s.at, len},
                        (struct slice){colon + 1, n - len - 1});
        }
        s = slice_from(s, n);
    }
    return slice_from(s, line_length(s));
}

static void
check_name(struct slice s)
{
    check(s.len > 0 && s.len <= NAME_MAX_OCTETS);
    check(s.at[0] != ' ' && s.at[s.len - 1] != ' ' && s.at[s.len - 1] != '.');
    while (s.len > 0) {
        size_t n = utf8_length(s);

        check(n > 0);
        check((unsigned char)s.at[0] >= ' ' && s.at[0] != 0x7F);
        check(s.at[0] != '/' && s.at[0] != '\\');
        s = slice_from(s, n);
    }
}

static void
check_same(struct mime *a, struct mime *b)
{
    size_t n, m;
    const struct slice *x = mime_names(a, &n), *y = mime_names(b, &m);

    check(n == m && n <= NAMES_MAX);
    for (size_t i = 0; i < n; i++)
        check(slice_eq(x[i], y[i]));
    check(mime_cut(a) == mime_cut(b));
}

/* Pieces whose sizes the octets themselves choose. */
static void
feed_pieces(struct mime *m, struct slice s, uint32_t seed, unsigned most)
{
    while (s.len > 0 && mime_wants_body(m)) {
        size_t n;

        seed = seed * 1664525u + 1013904223u;
        n = (seed >> 8) % most + 1;
        n = n < s.len ? n : s.len;
        mime_body(m, s.at, n);
        s = slice_from(s, n);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice all = {(const char *)data, size}, body;
    struct mime *whole = mime_new(), *pieces = mime_new();
    const struct slice *name;
    uint32_t seed = 0;
    size_t n;

    check(whole != NULL && pieces != NULL);
    for (size_t i = 0; i < size; i++)
        seed = seed * 31 + data[i];
    body = feed_header(whole, all);
    mime_body(whole, body.at, body.len);
    name = mime_names(whole, &n);
    for (size_t i = 0; i < n; i++)
        check_name(name[i]);

    feed_header(pieces, all);
    feed_pieces(pieces, body, seed, 100);
    check_same(whole, pieces);

    mime_reset(pieces); /* and nothing is left of the last one */
    feed_header(pieces, all);
    feed_pieces(pieces, body, seed, 2);
    check_same(whole, pieces);
    mime_free(pieces);
    mime_free(whole);
    return 0;
}
