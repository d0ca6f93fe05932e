/* milter/token/last_used.h - when each refresh token was last used, over
 * reboots: one small file.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Google forgets a refresh token that was not used for six months (gmail.md
 * 3.4).  What the shared memory knows of it ends with the boot; this is
 * state.directory/tokens/last_used, a line for each account: its id in
 * hexadecimal, a space, and Unix time.  A loss of it costs no more than an
 * alert that comes late.
 */
#ifndef TOKEN_LAST_USED_H
#define TOKEN_LAST_USED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct last_use {
    uint64_t id;
    int64_t used_s; /* Unix time, above 0 */
};

struct last_used { /* by id, once each */
    struct last_use *at;
    size_t n;
};

/* No file, and lines that are no such lines, are no error.  False with a
 * sentence in err; *ret is empty then. */
bool last_used_read(const char *directory, struct last_used *ret, char *err,
                    size_t err_size);
void last_used_free(struct last_used *l);

int64_t last_used_find(const struct last_used *l, uint64_t id); /* 0 = never */

/* Joins `n` uses, in any order, with those of `old` that are not older than six
 * months, the newest of each account: who is taken out of the configuration for
 * a while is known when it is back.  False = out of memory. */
bool last_used_merge(const struct last_use *uses, size_t n,
                     const struct last_used *old, int64_t now_s,
                     struct last_used *ret);

/* New file, fsync, rename, fsync of the directory. */
bool last_used_write(const char *directory, const struct last_used *l,
                     char *err, size_t err_size);

#endif
