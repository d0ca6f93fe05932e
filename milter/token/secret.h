/* milter/token/secret.h - refresh tokens: where they come from, where rotated
 * ones go.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A token that the endpoint rotated is kept under state.directory/tokens and
 * wins over the configured file, until that file is newer: then somebody has
 * logged in again.  Nothing here ever deletes a token.
 */
#ifndef TOKEN_SECRET_H
#define TOKEN_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECRET_MAX = 64 * 1024 };

/* The newer of the configured file and the rotated one; free with
 * conf_secret_free().  False with a sentence in err. */
bool secret_refresh_token(const char *directory, uint64_t account,
                          const char *configured, char **ret, size_t *ret_len,
                          char *err, size_t err_size);

/* Writes a rotated token: new file, fsync, rename, fsync of the directory. */
bool secret_store_refresh_token(const char *directory, uint64_t account,
                                const char *token, char *err, size_t err_size);

/* Changes whenever the file does (time, size, inode); 0 = no file. */
uint64_t secret_stamp(const char *path);

#endif
