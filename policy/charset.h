/* policy/charset.h - octets in some charset, written as UTF-8.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Octets come one at a time, so that a character may be
 * split over two encoded words or two pieces of a parameter.
 */
#ifndef POLICY_CHARSET_H
#define POLICY_CHARSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

enum charset {
    CHARSET_UTF8, /* us-ascii is a part of it */
    CHARSET_LATIN1,
    CHARSET_LATIN2,
    CHARSET_CYRILLIC, /* iso-8859-5 */
    CHARSET_GREEK,    /* iso-8859-7 */
    CHARSET_LATIN5,   /* iso-8859-9 */
    CHARSET_LATIN9,   /* iso-8859-15 */
    CHARSET_CP1250,
    CHARSET_CP1251,
    CHARSET_CP1252,
    CHARSET_KOI8R,
    CHARSET_OTHER, /* not known: all but its ASCII becomes U+FFFD */
};

/* By its name, a language behind it (RFC 2231 5) left aside.  False: we do
 * not know it, and *ret is untouched. */
bool charset_find(struct slice name, enum charset *ret);

/* Where the characters go: whole ones only, valid UTF-8, no CR, LF or NUL
 * (they become a space).  Begins as {.to = room, .size = octets}. */
struct charset_text {
    char *to;
    size_t size, len;
    bool cut; /* no more fits; nothing follows a gap */
    /* The character under way, in UTF-8. */
    unsigned want; /* continuation octets still to come */
    uint32_t code, lowest;
};

void charset_put(struct charset_text *t, enum charset cs, unsigned char c);

/* The character under way will not be finished: what is there of it becomes
 * U+FFFD. */
void charset_flush(struct charset_text *t);

/* No octet of input becomes more than these. */
#define CHARSET_TEXT_MAX(len) (3 * (len))

#endif
