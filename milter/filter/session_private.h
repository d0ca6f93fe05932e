/* milter/filter/session_private.h - what session.c and message_*.c share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FILTER_SESSION_PRIVATE_H
#define FILTER_SESSION_PRIVATE_H

#include "milter/filter/session.h"
#include "policy/arena.h"
#include "policy/decide.h"
#include "policy/mime.h"

enum { HEADERS_MAX = 4096 /* fields kept of one message */ };

/* One RCPT that was not refused, in the message's arena. */
struct recipient {
    struct recipient *next;
    const char *spelling;       /* as the MTA knows it: without <> and route */
    const char *folded;         /* canonical and lower case: who it is */
    const char *orcpt, *notify; /* the client's parameters; NULL = none */
    size_t n_macros;            /* of this RCPT: "rcpt_addr", ... */
    const struct facts_pair *macro;
    bool tagged_already; /* ours, brought back by a content filter */
};

struct pairs {
    size_t n, room;
    struct facts_pair *at;
};

struct session {
    struct session_env *env;
    struct conf *conf;
    struct scratch *scratch;
    struct mime *mime; /* NULL: no rule asks for attachments */
    struct session_reply reply;

    /* The connection. */
    struct arena *connection;
    struct facts_client client;
    char *helo;
    bool no_client; /* nobody came over the network */
    bool reinjects; /* a content filter that may bring tags back */
    bool lost;      /* no memory for who it is: its mail is deferred */

    /* The message; all of it is gone after session_reset(). */
    struct arena *arena;
    int64_t now_ms;
    struct slice sender, auth;
    bool tls, local, failed;
    bool headers_cut; /* more than HEADERS_MAX */
    uint64_t claimed_octets, size_octets;
    struct pairs headers, macros;
    struct recipient *recipients, **recipients_end;
    size_t n_recipients;
    const char *queue_id;
    struct decision decision; /* scratch: too large for libmilter's stacks */
};

void session_facts(const struct session *s, enum facts_stage stage,
                   struct facts *f);
enum answer session_answer(struct session *s, const char *reply);
/* A failure of our own: logged, counted, answered 451. */
enum answer session_fail(struct session *s, const char *what);

#endif
