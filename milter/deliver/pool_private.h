/* milter/deliver/pool_private.h - what pool.c (who gets which session) and
 * pool_login.c (making one) and pool_entry.c (one account's) share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_POOL_PRIVATE_H
#define DELIVER_POOL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "milter/deliver/pool.h"
#include "milter/deliver/session.h"

enum { POOL_BUCKETS = 4096 };

/* Log-ins of one account: a burst, then one in POOL_LOGIN_MS.  Gmail answers
 * about a hundred in an hour, and fewer in a row, with 454 4.7.0. */
enum { POOL_LOGIN_BURST = 20, POOL_LOGIN_MS = 60 * 1000 };

/* Retired at most this long before the token's expiry: Gmail ends a session
 * with its token, and a message must not be in the middle of it. */
enum { POOL_TOKEN_MARGIN_S = 120 };

struct pool_tls { /* one trust store */
    struct pool_tls *next;
    char *ca_file; /* NULL = the system's */
    struct tls_client *client;
};

struct pool_sessions {
    struct pool_options o;
    pthread_mutex_t lock; /* of all entries; never held over I/O */
    pthread_cond_t idle;  /* the last leased session came back */
    struct entry **bucket;
    size_t n_leased;                 /* leased, or being logged in */
    size_t n_open;                   /* those, and the idle ones */
    struct session *oldest, *newest; /* idle */
    atomic_bool draining;
    struct session *leaving; /* QUIT said, not closed */
    pthread_mutex_t tls_lock;
    struct pool_tls *tls;
};

uint64_t pool_now_ms(const struct pool_sessions *p);

/* All that makes a session of this mailbox safe to share, as text: endpoint,
 * TLS demands, whose credentials and from where.  Owned by the caller; NULL =
 * out of memory. */
char *pool_target(const struct mailbox *m);

/* Connects and logs in, with a token replaced once if it is refused.  NULL:
 * *ret says why.  Blocks until deadline_ms (the pool's clock). */
struct session *pool_log_in(struct pool_sessions *p, const struct mailbox *m,
                            uint64_t deadline_ms, struct lease *ret);

/* A verdict that no server gave; text goes into the reply, with code 0. */
void pool_fail(struct lease *ret, enum outcome_scope scope,
               enum smtp_stage stage, const char *meaning, const char *text);

#endif
