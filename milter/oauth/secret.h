/* milter/oauth/secret.h - refresh tokens: where they come from, where rotated
 * ones go.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A token that the endpoint rotated is kept in state.directory/tokens, together
 * with a digest of the configured token that it began with.  It is used in
 * place of the configured one for as long as that file says the same; another
 * content means that somebody has logged in again.  (Times are not looked at:
 * whoever copies configuration about touches files without changing them.)
 * Nothing here ever deletes a token.
 */
#ifndef TOKEN_SECRET_H
#define TOKEN_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SECRET_MAX = 64 * 1024, SECRET_DIGEST = 32 /* octets: SHA-256 */ };

struct refresh_token {
    char *text;                    /* owned; NULL = none */
    uint8_t origin[SECRET_DIGEST]; /* of the configured token */
};

void refresh_token_free(struct refresh_token *t); /* wipes; NULL inside */

/* The token to use next.  `unsaved`, if it holds one, stands for a rotated one
 * that is in no file yet.  False with a sentence in err; never falls back to
 * an older token then: using one twice can cost all. */
bool secret_refresh_token(const char *directory, uint64_t account,
                          const char *configured,
                          const struct refresh_token *unsaved,
                          struct refresh_token *ret, char *err,
                          size_t err_size);

/* Writes a rotated token: new file, fsync, rename, fsync of the directory. */
bool secret_store(const char *directory, uint64_t account,
                  const struct refresh_token *t, char *err, size_t err_size);

/* The same for what is no secret, but ours: `path` is in
 * state.directory/tokens, which is made. */
bool secret_replace(const char *directory, const char *path, const char *text,
                    char *err, size_t err_size);

/* Puts a token that a login gave where the configuration names it, mode 0600,
 * in the same way.  The old one is there until the new one is. */
bool secret_install(const char *path, const char *token, uid_t user,
                    gid_t group, char *err, size_t err_size);

/* Changes whenever the file does, also its owner or mode; 0 = no file. */
uint64_t secret_stamp(const char *path);
/* When the file was written, Unix time; 0 = no file. */
int64_t secret_written_s(const char *path);
uint64_t secret_rotated_stamp(const char *directory, uint64_t account);

/* All of it, past stdio, which would keep a copy.  False: errno. */
bool secret_write(int fd, const char *text, size_t len);

#endif
