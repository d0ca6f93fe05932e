/* policy/header.c - unfolding and encoded words; see header.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/header.h"

#include <stdint.h>

enum charset {
    CHARSET_UTF8, /* us-ascii is a part of it */
    CHARSET_LATIN1,
    CHARSET_LATIN9,
    CHARSET_CP1252,
    CHARSETS,
};

enum { REPLACEMENT = 0xFFFD };

/* UTF-8 goes out whole characters at a time; a character may come in pieces,
 * even split over two encoded words. */
struct decoder {
    char *to;
    size_t size, len;
    bool cut;
    /* The character under way, in UTF-8. */
    unsigned want; /* continuation octets still to come */
    uint32_t code, lowest;
};

/* ---- characters out ---- */

static void
put_code(struct decoder *d, uint32_t c)
{
    unsigned char b[4];
    size_t n;

    if (c == '\r' || c == '\n' || c == 0)
        c = ' ';
    if (c < 0x80) {
        b[0] = (unsigned char)c;
        n = 1;
    } else if (c < 0x800) {
        b[0] = (unsigned char)(0xC0 | (c >> 6));
        b[1] = (unsigned char)(0x80 | (c & 0x3F));
        n = 2;
    } else if (c < 0x10000) {
        b[0] = (unsigned char)(0xE0 | (c >> 12));
        b[1] = (unsigned char)(0x80 | ((c >> 6) & 0x3F));
        b[2] = (unsigned char)(0x80 | (c & 0x3F));
        n = 3;
    } else {
        b[0] = (unsigned char)(0xF0 | (c >> 18));
        b[1] = (unsigned char)(0x80 | ((c >> 12) & 0x3F));
        b[2] = (unsigned char)(0x80 | ((c >> 6) & 0x3F));
        b[3] = (unsigned char)(0x80 | (c & 0x3F));
        n = 4;
    }
    if (d->cut || d->size - d->len < n) {
        d->cut = true; /* nothing may follow a gap */
        return;
    }
    memcpy(d->to + d->len, b, n);
    d->len += n;
}

/* The character under way will not be finished. */
static void
flush(struct decoder *d)
{
    if (d->want > 0)
        put_code(d, REPLACEMENT);
    d->want = 0;
}

static bool
is_surrogate(uint32_t c)
{
    return c >= 0xD800 && c <= 0xDFFF;
}

static void
put_utf8(struct decoder *d, unsigned char c)
{
    if (d->want > 0 && (c & 0xC0) == 0x80) {
        d->code = d->code << 6 | (c & 0x3Fu);
        if (--d->want > 0)
            return;
        if (d->code < d->lowest || d->code > 0x10FFFF || is_surrogate(d->code))
            d->code = REPLACEMENT;
        put_code(d, d->code);
        return;
    }
    flush(d);
    if (c < 0x80) {
        put_code(d, c);
    } else if (c >= 0xC2 && c <= 0xDF) {
        d->want = 1;
        d->code = c & 0x1Fu;
        d->lowest = 0x80;
    } else if (c >= 0xE0 && c <= 0xEF) {
        d->want = 2;
        d->code = c & 0x0Fu;
        d->lowest = 0x800;
    } else if (c >= 0xF0 && c <= 0xF4) {
        d->want = 3;
        d->code = c & 0x07u;
        d->lowest = 0x10000;
    } else {
        put_code(d, REPLACEMENT);
    }
}

/* 0x80..0x9F; 0 = undefined. */
static const uint16_t cp1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
    0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
    0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
    0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178,
};

static uint32_t
latin9(unsigned char c)
{
    switch (c) {
    case 0xA4:
        return 0x20AC;
    case 0xA6:
        return 0x0160;
    case 0xA8:
        return 0x0161;
    case 0xB4:
        return 0x017D;
    case 0xB8:
        return 0x017E;
    case 0xBC:
        return 0x0152;
    case 0xBD:
        return 0x0153;
    case 0xBE:
        return 0x0178;
    default:
        return c;
    }
}

static void
put_octet(struct decoder *d, enum charset cs, unsigned char c)
{
    uint32_t code = c;

    if (cs == CHARSET_UTF8) {
        put_utf8(d, c);
        return;
    }
    flush(d);
    if (cs == CHARSET_LATIN9)
        code = latin9(c);
    else if (cs == CHARSET_CP1252 && c >= 0x80 && c <= 0x9F)
        code = cp1252[c - 0x80] != 0 ? cp1252[c - 0x80] : REPLACEMENT;
    put_code(d, code);
}

/* ---- encoded words: RFC 2047 2 ---- */

struct word {
    enum charset charset;
    char encoding; /* 'b' or 'q' */
    struct slice text;
    size_t len; /* octets of the whole word */
};

static bool
charset_find(struct slice name, enum charset *ret)
{
    static const struct {
        const char *name;
        enum charset charset;
    } known[] = {
        {"utf-8", CHARSET_UTF8},          {"utf8", CHARSET_UTF8},
        {"us-ascii", CHARSET_UTF8},       {"ascii", CHARSET_UTF8},
        {"iso-8859-1", CHARSET_LATIN1},   {"iso8859-1", CHARSET_LATIN1},
        {"latin1", CHARSET_LATIN1},       {"iso-8859-15", CHARSET_LATIN9},
        {"iso8859-15", CHARSET_LATIN9},   {"latin-9", CHARSET_LATIN9},
        {"windows-1252", CHARSET_CP1252}, {"cp1252", CHARSET_CP1252},
    };
    const char *star = memchr(name.at, '*', name.len); /* RFC 2231 5 */

    if (star != NULL)
        name.len = (size_t)(star - name.at);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (slice_eq_nocase(name, slice_of(known[i].name))) {
            *ret = known[i].charset;
            return true;
        }
    return false;
}

static int
base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool
is_base64(struct slice text)
{
    while (text.len > 0 && text.at[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++)
        if (base64_value(text.at[i]) < 0)
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

/* Is there an encoded word that we can decode at the start of s? */
static bool
word_parse(struct slice s, struct word *ret)
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
    if (memchr(w.text.at, '\n', w.text.len) != NULL ||
        !charset_find(charset, &w.charset))
        return false;
    if (w.encoding != 'q' && (w.encoding != 'b' || !is_base64(w.text)))
        return false;
    w.len = (size_t)(rest.at + 1 - s.at);
    *ret = w;
    return true;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
put_q(struct decoder *d, const struct word *w)
{
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.at[i];

        if (c == '=' && w->text.len - i > 2 &&
            hex_value(w->text.at[i + 1]) >= 0 &&
            hex_value(w->text.at[i + 2]) >= 0) {
            c = (char)(hex_value(w->text.at[i + 1]) << 4 |
                       hex_value(w->text.at[i + 2]));
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        put_octet(d, w->charset, (unsigned char)c);
    }
}

static void
put_b(struct decoder *d, const struct word *w)
{
    uint32_t bits = 0;
    unsigned n = 0;

    for (size_t i = 0; i < w->text.len; i++) {
        int v = base64_value(w->text.at[i]);

        if (v < 0)
            break; /* padding */
        bits = (bits << 6 | (uint32_t)v) & 0xFFFFFF;
        n += 6;
        if (n >= 8) {
            n -= 8;
            put_octet(d, w->charset, (unsigned char)(bits >> n & 0xFF));
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
put_plain(struct decoder *d, struct slice s)
{
    size_t n = 0;

    if (!is_break(s.at[0])) {
        put_utf8(d, (unsigned char)s.at[0]);
        return 1;
    }
    while (n < s.len && is_break(s.at[n]))
        n++;
    if (n < s.len && is_space(s.at[n]))
        n++; /* old mailers fold with a tab in place of the space */
    put_utf8(d, ' ');
    return n;
}

size_t
header_decode(struct slice raw, char *ret, size_t ret_size, bool *ret_cut)
{
    struct decoder d = {.to = ret, .size = ret_size};
    struct slice s = slice_trim(raw);
    struct word w;

    while (s.len > 0 && !d.cut) {
        if (!word_parse(s, &w)) {
            s = slice_from(s, put_plain(&d, s));
            continue;
        }
        flush(&d);
        do { /* neighbours: RFC 2047 6.2 */
            size_t gap;

            if (w.encoding == 'q')
                put_q(&d, &w);
            else
                put_b(&d, &w);
            s = slice_from(s, w.len);
            gap = count_space(s);
            if (!word_parse(slice_from(s, gap), &w))
                break;
            s = slice_from(s, gap);
        } while (true);
        flush(&d);
    }
    flush(&d);
    *ret_cut = d.cut;
    return d.len;
}
