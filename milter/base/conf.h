/* milter/base/conf.h - the configuration as a counted snapshot.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Loading reads the files, compiles, and publishes the result in one step; a
 * broken file leaves the old snapshot in place.  Who needs the policy for
 * longer than a call takes a reference; a snapshot is freed with its last
 * reference.  Any thread.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdatomic.h>
#include <stdbool.h>

#include "policy/diag.h"
#include "policy/policy.h"

struct conf { /* one snapshot */
    struct policy *policy;
    unsigned serial; /* 1, 2, ... */
    atomic_uint refs;
};

/* Reads and compiles; NULL when d holds errors.  Used by all programs, so
 * `check` sees exactly what the daemons see.  A file is regular and at most
 * 64 MiB; path outlives d and the policy. */
struct policy *conf_load(const char *path, struct diag *d);

struct conf_holder; /* the current snapshot */

/* Takes the policy over.  NULL = out of memory; the policy is freed then. */
struct conf_holder *conf_holder_new(struct policy *p);
/* Takes NULL.  References that are still out stay good. */
void conf_holder_free(struct conf_holder *h);

struct conf *conf_ref(struct conf_holder *h); /* the current one */
struct conf *conf_ref_again(struct conf *c);
void conf_unref(struct conf *c); /* takes NULL */

/* Makes p the current one (takes it over).  False = out of memory: p is freed
 * and the old one stays. */
bool conf_publish(struct conf_holder *h, struct policy *p);

/* Where a secret file of the configuration is: the path itself, or, of
 * "credential:NAME", the file that the service manager has put into
 * $CREDENTIALS_DIRECTORY (systemd's LoadCredential, SetCredentialEncrypted).
 * False with a sentence in err when there is none. */
enum { CONF_PATH_MAX = 1024 };
bool conf_secret_path(const char *configured, char ret[CONF_PATH_MAX],
                      char *err, size_t err_size);

/* Reads a secret file: regular, owned by root or the caller's effective
 * user, mode 0600 or 0400 (a credential also 0440, as systemd's are, of root's
 * group), at most max octets, checked on the open descriptor; white space at both ends is taken off, and what is left is not
 * empty and has no NUL.  *ret is NUL-terminated; the caller frees it
 * (conf_secret_free wipes it).  On failure err names file and remedy. */
bool conf_secret(const char *configured, size_t max, char **ret,
                 size_t *ret_len, char *err, size_t err_size);
void conf_secret_free(char *secret, size_t len); /* takes NULL */

/* The ticket keys of a state directory: files "keys/<id>.key", id 1..255
 * decimal, TICKET_KEY_OCTETS octets each; mode 0640 or stricter, and the
 * directory writable by its owner alone.  The one with the newest
 * modification time signs.  The caller wipes *ret when done with it. */
struct ticket_keys;
bool conf_ticket_keys(const char *directory, struct ticket_keys *ret, char *err,
                      size_t err_size);

/* Makes "keys" (mode 0750) in the state directory, which exists, and a first
 * key (mode 0640) where there is none.  Several processes may do so at once. */
bool conf_ticket_keys_make(const char *directory, char *err, size_t err_size);

#endif
