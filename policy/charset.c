/* policy/charset.c - see charset.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/charset.h"
#include "policy/charset_private.h"

enum { REPLACEMENT = 0xFFFD };

static void
put_code(struct charset_text *t, uint32_t c)
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
    if (t->cut || t->size - t->len < n) {
        t->cut = true; /* nothing may follow a gap */
        return;
    }
    memcpy(t->to + t->len, b, n);
    t->len += n;
}

void
charset_flush(struct charset_text *t)
{
    if (t->want > 0)
        put_code(t, REPLACEMENT);
    t->want = 0;
}

static bool
is_surrogate(uint32_t c)
{
    return c >= 0xD800 && c <= 0xDFFF;
}

static void
put_utf8(struct charset_text *t, unsigned char c)
{
    if (t->want > 0 && (c & 0xC0) == 0x80) {
        t->code = t->code << 6 | (c & 0x3Fu);
        if (--t->want > 0)
            return;
        if (t->code < t->lowest || t->code > 0x10FFFF || is_surrogate(t->code))
            t->code = REPLACEMENT;
        put_code(t, t->code);
        return;
    }
    charset_flush(t);
    if (c < 0x80) {
        put_code(t, c);
    } else if (c >= 0xC2 && c <= 0xDF) {
        t->want = 1;
        t->code = c & 0x1Fu;
        t->lowest = 0x80;
    } else if (c >= 0xE0 && c <= 0xEF) {
        t->want = 2;
        t->code = c & 0x0Fu;
        t->lowest = 0x800;
    } else if (c >= 0xF0 && c <= 0xF4) {
        t->want = 3;
        t->code = c & 0x07u;
        t->lowest = 0x10000;
    } else {
        put_code(t, REPLACEMENT);
    }
}

void
charset_put(struct charset_text *t, enum charset cs, unsigned char c)
{
    uint32_t code = c;

    if (cs == CHARSET_UTF8) {
        put_utf8(t, c);
        return;
    }
    charset_flush(t);
    if (c >= 0x80 && cs != CHARSET_LATIN1)
        code = cs == CHARSET_OTHER ? 0 : charset_upper[cs][c - 0x80];
    put_code(t, code == 0 && c > 0 ? REPLACEMENT : code);
}

bool
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
        {"iso-8859-2", CHARSET_LATIN2},   {"latin2", CHARSET_LATIN2},
        {"windows-1250", CHARSET_CP1250}, {"cp1250", CHARSET_CP1250},
        {"windows-1251", CHARSET_CP1251}, {"cp1251", CHARSET_CP1251},
        {"koi8-r", CHARSET_KOI8R},        {"iso-8859-5", CHARSET_CYRILLIC},
        {"iso-8859-7", CHARSET_GREEK},    {"iso-8859-9", CHARSET_LATIN5},
        {"latin5", CHARSET_LATIN5},
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
