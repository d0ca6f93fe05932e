/* milter/deliver/fields.h - a message's header, cut into fields.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Source: RFC 5322 2.2; white space between name and colon is allowed as in
 * 4.5.  Slices borrow from the text, whose lines all end in CRLF.
 */
#ifndef DELIVER_FIELDS_H
#define DELIVER_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct field {
    struct slice name;  /* without the colon */
    struct slice value; /* behind the colon: folded, without the last CRLF */
    struct slice whole; /* all its lines, CRLF included */
};

struct fields {
    size_t n;
    struct field *at; /* owned */
};

/* Is this line (without its end) the first of a field? */
bool fields_is_start(struct slice line);

/* Every line of the text is the start of a field or a continuation.  False =
 * out of memory. */
bool fields_parse(struct fields *ret, struct slice text);
void fields_free(struct fields *f); /* takes an all-zero one */

bool field_is(const struct field *f, const char *name); /* without case */

/* The first of that name whose value is not blank; NULL = none. */
const struct field *fields_find(const struct fields *f, const char *name);

/* The "id" of a Received field's value: the queue id of the MTA that wrote it
 * (RFC 5321 4.4, ID = CFWS "ID" FWS ( Atom / msg-id )).  Empty = it has none. */
struct slice fields_received_id(struct slice value);

#endif
