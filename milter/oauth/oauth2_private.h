/* milter/oauth/oauth2_private.h - what the writers of requests and the
 * readers of answers share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_OAUTH2_PRIVATE_H
#define TOKEN_OAUTH2_PRIVATE_H

#include "milter/base/buf.h"
#include "milter/oauth/oauth2.h"

/* "&name=value", without the & at the beginning; the value is encoded as
 * application/x-www-form-urlencoded (RFC 6749 appendix B). */
void oauth2_add_field(struct buf *b, const char *name, const char *value);

/* RFC 7515 2: base64url without padding.  False = out of room. */
bool oauth2_add_base64url(struct buf *b, const void *data, size_t len);

/* Adds to what will pass by itself who will try again, and when. */
void oauth2_say_again(enum oauth2_grant grant, struct oauth2_answer *ret);

#endif
