/* policy/mime.h - the file names in a message's MIME structure.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure; one message, one thread at a time.  Header fields and body come in as
 * they arrive, the body in pieces of any size; nothing of it is kept but the
 * names and the headers of the part that is being read.  Time is linear and
 * memory bounded, whatever comes in.
 *
 * Mail readers differ in what they make of broken mail, and who hides a name
 * counts on it: of a field that can be read in several ways each gives a name,
 * and where the structure itself is in doubt mime_cut() says so.  Not looked
 * into: files in a file (zip, winmail.dat), and "begin 644 name" in a text
 * (uuencode), for the sake of mime_wants_body().
 *
 * Bounds: 1,000 names, of 1 KiB each (the end of longer ones counts); 64 KiB
 * for the header of a part; 100 multiparts and messages inside one another,
 * three of these encoded (base64, quoted-printable); boundaries of 256 octets.
 *
 * Sources: RFC 2045 5, RFC 2046 5.1 and 5.2.1, RFC 2183 2.3 (Content-
 * Disposition: filename), RFC 2231 (parameter continuations, charset), RFC
 * 2047 (as mail programs use it in parameters, against its section 5).
 */
#ifndef POLICY_MIME_H
#define POLICY_MIME_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/slice.h"

struct mime;

struct mime *mime_new(void); /* NULL = out of memory */
void mime_free(struct mime *m);
void mime_reset(struct mime *m); /* before each message */

/* A field of the message's own header; value raw, folded as received. */
void mime_header(struct mime *m, struct slice name, struct slice value);

/* The body, after all fields. */
void mime_body(struct mime *m, const void *at, size_t len);

/* False when nothing in the rest of the body can change the answer: it has no
 * structure (neither multipart nor a message in a message).  Asked after the
 * header, and after each piece of the body. */
bool mime_wants_body(const struct mime *m);

/* After the last piece, and before mime_cut() and mime_failed().  The names, decoded to UTF-8,
 * without the path of a "C:\dir\name", and without the dots and spaces at the
 * end that Windows drops; of a part with several, each once.  NULL when there
 * are none.  Lives until mime_reset(). */
const struct slice *mime_names(struct mime *m, size_t *ret_n);

/* There may be other names: a bound was reached, or a name could not be
 * decoded. */
bool mime_cut(const struct mime *m);

/* Memory ran out, which is our failure and not the message's: names may be
 * missing.  Asked after mime_names(). */
bool mime_failed(const struct mime *m);

#endif
