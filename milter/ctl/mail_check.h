/* milter/ctl/mail_check.h - really logging in at one server, and out again.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_MAIL_CHECK_H
#define CTL_MAIL_CHECK_H

#include "milter/ctl/mail_login.h"
#include "policy/policy.h"

struct mail_server {
    enum mail_protocol protocol;
    char host[256];      /* also SNI and the name verified */
    const char *connect; /* where to connect instead; NULL = host */
    uint16_t port;
    bool starttls;       /* else TLS from the start */
    const char *ca_file; /* NULL = the system's store */
    bool used;           /* is what mail is sent by */
};

struct mail_verdict {
    enum mail_fault fault;
    char said[400]; /* what server, TLS or system said; printable */
    char tls[100];  /* "TLSv1.3 ..."; "" = did not get so far */
};

enum { MAIL_SERVERS_MAX = 4, MAIL_CHECK_MS = 20000 /* for one server */ };

/* The servers to look at for a smarthost, first the one that it names.  Pure.
 * One on 465 or 587 has the other as well; IMAP and POP where they are
 * configured. */
unsigned mail_servers(const struct smarthost *h,
                      struct mail_server ret[MAIL_SERVERS_MAX]);

/* Blocks for at most ms, but for the look-up of a name. */
void mail_check(const struct mail_server *s, const struct mail_credentials *who,
                unsigned ms, struct mail_verdict *ret);

#endif
