/* policy/mime_transfer.c - transfer encodings; see mime_private.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/digit.h"
#include "policy/mime_private.h"

enum mime_encoding
mime_encoding_of(struct slice type)
{
    static const char *const identity[] = {"",     "7bit",  "8bit", "binary",
                                           "none", "7-bit", "8-bit"};

    if (slice_eq(type, SLICE_LIT("base64")))
        return MIME_BASE64;
    if (slice_eq(type, SLICE_LIT("quoted-printable")))
        return MIME_QUOTED_PRINTABLE;
    for (size_t i = 0; i < sizeof identity / sizeof *identity; i++)
        if (slice_eq(type, slice_of(identity[i])))
            return MIME_IDENTITY;
    return MIME_ENCODING_OTHER;
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t
base64(struct mime_transfer *t, char c, char *ret)
{
    int v = digit_base64(c);

    if (v < 0) {
        t->odd |= c != '=' && !is_space(c);
        if (c == '=')
            t->n_bits = 0; /* padding; behind it some begin again */
        return 0;
    }
    t->bits = (t->bits << 6 | (uint32_t)v) & 0xFFFFFF;
    t->n_bits += 6;
    if (t->n_bits < 8)
        return 0;
    t->n_bits -= 8;
    *ret = (char)(t->bits >> t->n_bits & 0xFF);
    return 1;
}

/* What is held was no encoding: it stands for itself. */
static size_t
release(struct mime_transfer *t, char *ret)
{
    size_t n = t->n_held;

    t->odd = true;
    memcpy(ret, t->held, n);
    t->n_held = 0;
    return n;
}

static size_t
quoted_printable(struct mime_transfer *t, char c, char *ret)
{
    size_t n = 0;

    if (t->n_held == 0) {
        if (c != '=') {
            *ret = c;
            return 1;
        }
    } else if (t->n_held == 1 || is_space(t->held[1])) {
        if (c == '\n') { /* a line that goes on */
            t->n_held = 0;
            return 0;
        }
        if (is_space(c)) { /* how many there were does not matter */
            t->held[1] = c;
            t->n_held = 2;
            return 0;
        }
        if (t->n_held == 2 || digit_hex(c) < 0) {
            n = release(t, ret);
            return n + quoted_printable(t, c, ret + n);
        }
    } else {
        int octet = digit_hex_octet((struct slice){(char[]){t->held[1], c}, 2});

        if (octet < 0) {
            n = release(t, ret);
            return n + quoted_printable(t, c, ret + n);
        }
        t->n_held = 0;
        *ret = (char)octet;
        return 1;
    }
    t->held[t->n_held++] = c;
    return n;
}

size_t
mime_transfer_decode(struct mime_transfer *t, struct slice in, char *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++)
        n += t->encoding == MIME_BASE64
                 ? base64(t, in.at[i], ret + n)
                 : quoted_printable(t, in.at[i], ret + n);
    return n;
}
