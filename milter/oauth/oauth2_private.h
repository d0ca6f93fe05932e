/* milter/oauth/oauth2_private.h - what the writers of requests share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_OAUTH2_PRIVATE_H
#define TOKEN_OAUTH2_PRIVATE_H

#include "milter/base/buf.h"

/* "&name=value", without the & at the beginning; the value is encoded as
 * application/x-www-form-urlencoded (RFC 6749 appendix B). */
void oauth2_add_field(struct buf *b, const char *name, const char *value);

/* RFC 7515 2: base64url without padding.  False = out of room. */
bool oauth2_add_base64url(struct buf *b, const void *data, size_t len);

#endif
