/* milter/oauth/wipe.h - memory that is wiped before it is given back, for the
 * libraries that handle secrets.
 * SPDX-License-Identifier: Apache-2.0
 *
 * libcurl, jansson and OpenSSL copy request bodies, answers, keys and TLS
 * records into memory of their own and free it as it is.  With these functions
 * below them nothing of it outlives the request.
 */
#ifndef TOKEN_WIPE_H
#define TOKEN_WIPE_H

#include <stdbool.h>
#include <stddef.h>

/* As their namesakes in <stdlib.h>; not to be mixed with those. */
void *wipe_malloc(size_t size);
void *wipe_calloc(size_t n, size_t size);
void *wipe_realloc(void *p, size_t size);
char *wipe_strdup(const char *text);
void wipe_free(void *p);

/* Puts them under OpenSSL and jansson (https_start does so for libcurl).  Once,
 * as the first thing of the program: false when OpenSSL has allocated
 * already. */
bool wipe_start(void);

#endif
