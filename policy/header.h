/* policy/header.h - header field bodies as a rule sees them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure; any thread; time linear in the input, whatever the input.
 *
 * Sources: RFC 5322 2.2.3 (folding), 3.4 and 4.4 (addresses, old forms),
 * RFC 2047 (encoded words), RFC 6532 (UTF-8).
 */
#ifndef POLICY_HEADER_H
#define POLICY_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

/* Room that header_decode never needs more of, for len octets of input. */
#define HEADER_DECODED_MAX(len) (3 * (len))

/* Writes the unfolded and RFC 2047-decoded value into ret: trimmed, valid
 * UTF-8 (octets that are not become U+FFFD), no CR, LF or NUL (they become a
 * space), no NUL at the end.  A line break and the white space octet behind
 * it are one space.  Encoded words in utf-8, us-ascii,
 * iso-8859-1, -2, -5, -7, -9 and -15, windows-1250, -1251 and -1252, and
 * koi8-r are decoded wherever they stand, neighbours are joined; others are
 * left as they are (gb18030, shift_jis, iso-2022-jp, euc-kr: the tables would
 * be larger than the program, and iconv(3) loads them from the disk).
 *
 * Returns the length; *ret_cut says whether the end did not fit. */
size_t header_decode(struct slice raw, char *ret, size_t ret_size,
                     bool *ret_cut);

/* The same for the name of a file, into HEADER_DECODED_MAX octets: of an
 * encoded word in a charset we do not know, or with a broken encoding, the
 * ASCII is kept, for "=?x-who?q?=DD.exe?=" ends with .exe to everyone.
 * *ret_exact says whether there was none such. */
size_t header_decode_name(struct slice raw, char *ret, bool *ret_exact);

enum { HEADER_ADDRESS_MAX = 512 /* octets; longer ones are garbage */ };

struct header_address {
    size_t len; /* octets in text */
    /* local@domain, NUL-terminated: quotes, comments and white space taken
     * off, domain in lower case without trailing dot. */
    char text[HEADER_ADDRESS_MAX + 1];
    struct slice phrase; /* display name as written; empty = none */
};

/* Walks the addresses of a From-like field body, undecoded and folded:
 *
 *     struct header_addresses it = header_addresses(raw);
 *     while (header_next_address(&it, &address))
 *         ...
 *     if (it.garbage)
 *         ... some part of it was no address
 *
 * Groups, comments, quoted strings, routes and empty list elements are
 * understood.  A broken element gives no address and sets garbage; the next
 * one is tried.  Phrases are not decoded before they are parsed, so an
 * encoded word cannot pretend to be an address; one that others may take for
 * an address, as it stands, sets garbage, too.  Of "a@b <c@d>" c@d is the
 * address, and the rest is garbage. */
struct header_addresses {
    struct slice rest;
    bool in_group;
    bool garbage;
};

struct header_addresses header_addresses(struct slice raw);
bool header_next_address(struct header_addresses *it,
                         struct header_address *ret);

/* The first word of a field body, comments skipped: the "bulk" of
 * "(x) bulk; y=z".  Borrows from raw; empty when there is none. */
struct slice header_first_token(struct slice raw);

#endif
