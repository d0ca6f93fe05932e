/* milter/filter/session.h - one connection of the MTA, one message at a time.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Knows mail, not libmilter: callbacks.c translates.  Everything of a message
 * lives here, since libmilter may run two callbacks of one connection on
 * different threads.  A session keeps the policy it began with.
 *
 * No call blocks or touches disk or network.
 */
#ifndef FILTER_SESSION_H
#define FILTER_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "milter/base/conf.h"
#include "milter/state/admit.h"
#include "milter/filter/mta_ops.h"
#include "policy/ticket.h"

/* What all sessions of the process share. */
struct session_env {
    struct admit_env admit;
    const struct ticket_keys *keys;
    _Atomic uint64_t next_number; /* of messages; starts at random */
};

struct session; /* opaque */

enum answer {
    ANSWER_CONTINUE,
    ANSWER_SKIP,     /* of the body: the rest of it is of no use to us */
    ANSWER_REJECT,   /* with a reply: 5xx */
    ANSWER_TEMPFAIL, /* with a reply: 4xx */
};

/* Takes a reference on conf.  NULL = out of memory. */
struct session *session_new(struct session_env *env, struct conf *conf);
void session_free(struct session *s); /* takes NULL */

const struct policy *session_policy(const struct session *s);

/* name may be NULL, addr may be NULL (local submission of some MTAs). */
void session_connect(struct session *s, const char *name,
                     const struct sockaddr *addr);
void session_helo(struct session *s, const char *helo);

/* MAIL: path as the MTA gives it, with or without <>; args: its parameters,
 * NULL-terminated.  Begins a message.  The session asks for the macros that
 * it needs at each of the steps that take `ops`. */
enum answer session_mail(struct session *s, const char *path, char *const *args,
                         const struct mta_ops *ops, void *mta);
enum answer session_rcpt(struct session *s, const char *path, char *const *args,
                         const struct mta_ops *ops, void *mta);
enum answer session_header(struct session *s, const char *name,
                           const char *value);
/* A piece of the body, of any size. */
enum answer session_body(struct session *s, const void *piece, size_t octets);

/* End of the message: decides, plans, applies, logs; then forgets it. */
enum answer session_eom(struct session *s, const struct mta_ops *ops,
                        void *mta);

/* Forgets the message; the connection goes on. */
void session_reset(struct session *s);

/* The reply behind ANSWER_REJECT and ANSWER_TEMPFAIL, in three parts:
 * "550", "5.7.1", text. */
struct session_reply {
    char code[4], enhanced[12], text[256];
};
const struct session_reply *session_reply(const struct session *s);

#endif
