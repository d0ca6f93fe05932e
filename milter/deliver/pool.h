/* milter/deliver/pool.h - logged-in sessions, kept by account, smarthost and
 * TLS demands.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One session serves one account for its life (Gmail: no identity changes).
 * At most sessions.max of an account are open at once; they are retired by
 * age, idleness, number of messages, and the token's expiry, and the least
 * recently used of all accounts' when too many are kept.  Log-ins of an account
 * are paced.  Any thread; a leased session belongs to one thread.
 */
#ifndef DELIVER_POOL_H
#define DELIVER_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/deliver/message.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"
#include "policy/outcome.h"
#include "policy/policy.h"

struct pool_sessions;
struct session; /* one leased, logged-in connection */

struct pool_options {
    struct quota *quota;          /* borrowed: session counts, token wishes */
    struct status_reader *status; /* borrowed: tokens */
    const struct clock *clock;
    const char *hostname; /* EHLO name */
    /* Kept open, all accounts together.  Sessions in use do not make way: they
     * are as many as the MTA's connections. */
    size_t sessions_max;
};

struct pool_sessions *pool_new(const struct pool_options *o);

/* Closes idle sessions with QUIT; waits up to ms for leased ones. */
void pool_drain(struct pool_sessions *p, uint64_t ms);
void pool_free(struct pool_sessions *p);

/* Closes idle sessions that are due; call about once a second.  Does not wait
 * for the peers. */
void pool_tick(struct pool_sessions *p);

/* A session ready for MAIL, or why there is none. */
struct lease {
    struct session *session; /* NULL: see verdict and reply */
    struct verdict verdict;
    struct reply reply;
    enum smtp_stage stage;
};

/* Waits until deadline_ms (the pool's boot clock) for a free place, first come
 * first served, a token and the log-in.  A refused token is replaced once, on
 * the spot: asked for through quota_want_token and waited for.  A log-in that
 * failed stands for a few seconds for those who wait behind it.  Texts that
 * are no reply of the server (a token's trouble, a file's) are in reply.text,
 * with code 0.  `fresh`: never an already used session (after a stale one).
 *
 * Not everybody may wait: those whose turn is seconds away, by what a session
 * is held lately, go when POOL_LINE_MIN wait before them.  They would fill the
 * MTA's connections of their queue, and accounts that share it would starve. */
enum { POOL_LINE_MIN = 2, POOL_LINE_MS = 15000 };
struct lease pool_lease(struct pool_sessions *p, const struct mailbox *m,
                        uint64_t deadline_ms, bool fresh);

/* Gives it back; `usable` false closes it.  A reply that asked for fewer
 * sessions (verdict.halve_sessions) is taken care of here. */
void pool_return(struct pool_sessions *p, struct session *s, bool usable);

/* What a transaction needs. */
struct letter {
    const char *mail_from; /* "" = null */
    size_t n_rcpt;
    const char *const *rcpt;
    struct message_copy *copy;
    bool is_8bit, needs_utf8;
};

/* What became of one recipient. */
struct letter_result {
    struct verdict verdict;
    struct reply reply; /* code 0: no reply, see verdict.meaning */
    enum smtp_stage stage;
};

/* Sends one transaction, at most 100 recipients (the caller splits).  Fills
 * ret[0..n_rcpt).  Returns true when the session can serve another one.
 *
 * With PIPELINING and CHUNKING the content leaves behind the commands, before
 * their replies: a server that accepts none of the recipients drops it
 * (RFC 3030 2).  Otherwise it is not sent when no recipient was accepted. */
bool session_send(struct session *s, const struct letter *l,
                  struct letter_result *ret);

/* Has this session carried a transaction before this one? */
bool session_reused(const struct session *s);
enum { SESSION_INFO_MAX = 300 };                   /* octets, NUL included */
const char *session_info(const struct session *s); /* for logs */

#endif
