/* milter/deliver/session.h - one connection to a smarthost: a stream, TLS,
 * and the SMTP machine.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Moves bytes between the stream and the machine and watches the clock.  One
 * thread at a time.  Deadlines are of the machine's boot clock, as the
 * stream's are.  The public half is in pool.h.
 */
#ifndef DELIVER_SESSION_H
#define DELIVER_SESSION_H

#include "milter/base/stream.h"
#include "milter/deliver/pool.h"
#include "milter/deliver/smtp.h"

struct entry; /* pool_entry.h */

struct session {
    struct stream *stream;
    struct smtp *smtp;
    bool reused;
    uint64_t active_ms; /* when the last transaction ended; machine's clock */
    char info[SESSION_INFO_MAX];
    /* The pool's own, under its lock while the session is idle. */
    struct session *next;
    struct session *older, *newer; /* of all idle ones, by their last use */
    struct entry *entry;
    char *target;       /* all that makes it safe to share; owned */
    uint64_t opened_ms; /* the pool's clock */
    uint64_t leased_ms;
    uint64_t idle_since_ms;
    int64_t retire_at_s; /* Unix time, before its token ends; 0 = no token */
};

/* Whom to talk to, as whom; borrowed during session_open. */
struct session_target {
    const char *host;    /* also SNI and the name verified */
    const char *connect; /* NULL = host */
    uint16_t port;
    bool starttls;
    struct tls_client *tls;
    const char *tls_key;  /* whose session tickets may be used */
    const char *hostname; /* EHLO; borrowed for the session's life */
    enum smtp_login login;
    const char *user;
    struct slice secret;
};

/* Connects, encrypts and logs in.  NULL: ret's verdict, reply and stage say
 * why. */
struct session *session_open(const struct session_target *t,
                             uint64_t deadline_ms, struct lease *ret);

/* The same on a connected stream, which it takes over.  tls NULL: the stream
 * counts as encrypted already. */
struct session *session_open_on(struct stream *stream,
                                const struct session_target *t,
                                uint64_t deadline_ms, struct lease *ret);

/* Has nothing happened on it while nobody looked? */
bool session_quiet(struct session *s);

/* Ready for a transaction? */
bool session_ready(const struct session *s);

/* Says QUIT without waiting for the answer. */
void session_quit(struct session *s);
/* Waits for the end after QUIT, at most until then. */
void session_wait_end(struct session *s, uint64_t deadline_ms);

void session_close(struct session *s); /* takes NULL */

#endif
