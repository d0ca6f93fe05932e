/* policy/header.c - unfolding and encoded words; see header.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/header.h"

#include <stdint.h>

#include "policy/charset.h"
#include "policy/digit.h"

/* ---- encoded words: RFC 2047 2 ---- */

struct word {
    enum charset charset;
    char encoding; /* 'b' or 'q' */
    bool exact;    /* what we make of it is what was meant */
    struct slice text;
    size_t len; /* octets of the whole word */
};

static bool
is_base64(struct slice text)
{
    while (text.len > 0 && text.at[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++)
        if (digit_base64(text.at[i]) < 0)
            return false;
    return true;
}

/* The octets up to the next '?' and moves s behind it. */
static bool
until_question(struct slice *s, struct slice *ret)
{
    const char *q = memchr(s->at, '?', s->len);

    if (q == NULL)
        return false;
    *ret = (struct slice){s->at, (size_t)(q - s->at)};
    *s = slice_from(*s, ret->len + 1);
    return s->len > 0;
}

/* Is there an encoded word that we can decode at the start of s?  In a name
 * we try the broken and the unknown ones, too. */
static bool
word_parse(struct slice s, bool is_name, struct word *ret)
{
    struct slice rest = slice_from(s, 2), charset, encoding;
    struct word w;

    if (!slice_starts(s, "=?") || rest.len == 0 ||
        !until_question(&rest, &charset) || charset.len == 0 ||
        charset.len > 64 || !until_question(&rest, &encoding) ||
        encoding.len != 1 || !until_question(&rest, &w.text) ||
        rest.at[0] != '=')
        return false;
    w.encoding = slice_lower(encoding.at[0]);
    w.charset = CHARSET_OTHER;
    w.exact = charset_find(charset, &w.charset) &&
              memchr(w.text.at, '\n', w.text.len) == NULL &&
              (w.encoding != 'b' || is_base64(w.text));
    if ((w.encoding != 'q' && w.encoding != 'b') || (!w.exact && !is_name))
        return false;
    w.len = (size_t)(rest.at + 1 - s.at);
    *ret = w;
    return true;
}

static void
put_q(struct charset_text *d, const struct word *w)
{
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.at[i];
        int octet = digit_hex_octet(slice_from(w->text, i + 1));

        if (c == '=' && octet >= 0) {
            c = (char)octet;
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        charset_put(d, w->charset, (unsigned char)c);
    }
}

static void
put_b(struct charset_text *d, const struct word *w)
{
    uint32_t bits = 0;
    unsigned n = 0;

    for (size_t i = 0; i < w->text.len; i++) {
        int v = digit_base64(w->text.at[i]);

        if (v < 0) {
            if (w->text.at[i] == '=')
                n = 0; /* padding; behind it some begin again */
            continue;
        }
        bits = (bits << 6 | (uint32_t)v) & 0xFFFFFF;
        n += 6;
        if (n >= 8) {
            n -= 8;
            charset_put(d, w->charset, (unsigned char)(bits >> n & 0xFF));
        }
    }
}

/* ---- the whole value ---- */

static bool
is_break(char c)
{
    return c == '\r' || c == '\n';
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || is_break(c);
}

static size_t
count_space(struct slice s)
{
    size_t n = 0;

    while (n < s.len && is_space(s.at[n]))
        n++;
    return n;
}

/* One octet of plain text, or one fold; returns the octets eaten. */
static size_t
put_plain(struct charset_text *d, struct slice s)
{
    size_t n = 0;

    if (!is_break(s.at[0])) {
        charset_put(d, CHARSET_UTF8, (unsigned char)s.at[0]);
        return 1;
    }
    while (n < s.len && is_break(s.at[n]))
        n++;
    if (n < s.len && is_space(s.at[n]))
        n++; /* old mailers fold with a tab in place of the space */
    charset_put(d, CHARSET_UTF8, ' ');
    return n;
}

/* False: a word could only be decoded in part, for is_name. */
static bool
decode(struct slice raw, bool is_name, struct charset_text *d)
{
    struct slice s = slice_trim(raw);
    struct word w;
    bool exact = true;

    while (s.len > 0 && !d->cut) {
        if (!word_parse(s, is_name, &w)) {
            s = slice_from(s, put_plain(d, s));
            continue;
        }
        charset_flush(d);
        do { /* neighbours: RFC 2047 6.2 */
            size_t gap;

            exact &= w.exact;
            if (w.encoding == 'q')
                put_q(d, &w);
            else
                put_b(d, &w);
            s = slice_from(s, w.len);
            gap = count_space(s);
            if (!word_parse(slice_from(s, gap), is_name, &w))
                break;
            s = slice_from(s, gap);
        } while (true);
        charset_flush(d);
    }
    charset_flush(d);
    return exact;
}

size_t
header_decode(struct slice raw, char *ret, size_t ret_size, bool *ret_cut)
{
    struct charset_text d = {.to = ret, .size = ret_size};

    decode(raw, false, &d);
    *ret_cut = d.cut;
    return d.len;
}

size_t
header_decode_name(struct slice raw, char *ret, bool *ret_exact)
{
    struct charset_text d = {.to = ret, .size = HEADER_DECODED_MAX(raw.len)};

    *ret_exact = decode(raw, true, &d);
    return d.len;
}
