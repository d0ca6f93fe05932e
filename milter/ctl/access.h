/* milter/ctl/access.h - what an account logs in with, as the agent would: its
 * access token or its password.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_ACCESS_H
#define CTL_ACCESS_H

#include <sys/types.h>

#include "milter/state/status.h"
#include "policy/policy.h"

/* Before anything else of a command that handles secrets: nothing of them is
 * left in freed memory or in a core dump.  On failure says so. */
bool access_start(void);

/* The mailbox behind a name or an address of the configuration; on failure
 * says why on standard error. */
bool ctl_mailbox(const struct policy *p, const char *word, struct mailbox *ret);

struct access {
    struct slice secret;  /* at in `memory` */
    bool bearer;          /* an access token */
    bool no_mail_scope;   /* it was granted, but not for what was asked */
    const char *source;   /* for people: "the memory of gmroute-token" */
    int64_t expires_at_s; /* Unix time; 0 = a password */
    char why[400];        /* without a secret: what to do */
    char *memory;         /* owned; wiped by access_free */
    size_t size;
};

/* A token from the token daemon's memory if this user may read it and one is
 * there; else asked of the endpoint, with the account's own secret (a refresh
 * token that is rotated then is stored).  False with a sentence in ret->why.
 * Blocks. */
bool access_get(const struct policy *p, const struct mailbox *m,
                struct access *ret);
void access_free(struct access *a);

/* The directory that a file is in; "." for a name alone. */
void access_directory(const char *path, char *ret, size_t size);

/* The user that reads the account's secrets: whoever made the token daemon's
 * memory, else the owner of `path`, else of its directory. */
void access_daemon(const struct policy *p, const char *path, uid_t *ret_user,
                   gid_t *ret_group);

#endif
