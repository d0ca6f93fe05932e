/* milter/ctl/login.h - what login.c (the account and its token) and
 * login_browser.c (a person's consent) share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_LOGIN_H
#define CTL_LOGIN_H

#include <stdio.h>

#include "milter/ctl/ctl.h"
#include "milter/ctl/mail_check.h"
#include "milter/ctl/redirect.h"
#include "milter/oauth/oauth2_code.h"

struct login {
    const struct ctl *c;
    const struct policy *p;
    struct mailbox m;
    bool paste;
    uint64_t port, timeout_s;
    FILE *say; /* where a person reads: with --json not the output */
    int fd;    /* listening; -1 = none */
    char redirect_uri[64];
    char verifier[OAUTH2_VERIFIER + 1], state[OAUTH2_VERIFIER + 1];
    struct redirect answer;
    struct mail_verdict verdict;
    bool stored;
    const char *daemon; /* what became of it there */
    char error[1200];   /* why not; "" = good */
};

/* Sets l->error.  Always false. */
bool __attribute__((format(printf, 2, 3)))
login_fail(struct login *l, const char *fmt, ...);

/* Shows the address with this challenge, waits for what comes of it, by the
 * loopback port or pasted, and checks that it answers this login: l->answer
 * holds a code then.  False with l->error set. */
bool login_browser(struct login *l, const char *challenge);

#endif
