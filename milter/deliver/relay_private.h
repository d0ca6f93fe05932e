/* milter/deliver/relay_private.h - what relay.c (the transaction),
 * relay_account.c (whose account) and relay_flight.c (the sending) share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_RELAY_PRIVATE_H
#define DELIVER_RELAY_PRIVATE_H

#include "milter/deliver/message.h"
#include "milter/deliver/relay.h"
#include "policy/decision.h"

enum {
    /* Longest wait before 354; Postfix waits 120 s for it
     * (lmtp_data_init_timeout). */
    RELAY_WAIT_MS = 100 * 1000,
    /* Of that, how long accounts of one transaction hold their sessions for
     * those that have none yet. */
    RELAY_COMPANY_MS = 5 * 1000,
    /* Longest wait for a session once the content is here:
     * Postfix waits 600 s for the replies (lmtp_data_done_timeout). */
    RELAY_EXCHANGE_MS = 60 * 1000,
    RELAY_ROUNDS_MAX = 64, /* transactions for one group */
};

struct rcpt {
    struct tag tag;
    char canonical[TAGGED_MAX + 1];
    struct mailbox mailbox; /* the tag's */
    bool claimed;           /* attempts_begin succeeded */
    bool sent_before;       /* by the book; the content decides */
    bool tried_before;
    struct recipient_id id;
    bool done; /* `reply` and `kind` stand */
    enum outcome_kind kind;
    char reply[LMTP_REPLY_MAX]; /* without CRLF */
    int64_t row;                /* in the book, of the flight under way */
};

/* Recipients that share one Gmail transaction: account, ticket, handling. */
struct group {
    /* The tag's, or the one that an administrator diverts its mail to. */
    struct mailbox own;
    struct mailbox mailbox; /* that serves it now */
    uint64_t ticket;
    uint32_t minute;
    const struct plan *plan; /* NULL: the policy no longer has it */
    enum from_handling from;
    unsigned share_percent;
    size_t n;
    struct rcpt **rcpt;       /* borrowed from the transaction */
    struct recipient_id *who; /* room for all of them: relay_cost */
    /* Accounts to try after `own`, in order. */
    unsigned n_others;
    struct mailbox *other;
    unsigned tried_others; /* how many of them are behind us */
    struct session *session;
    bool session_usable;
    bool in_line;  /* for room of the tag's account */
    int waits_for; /* enum dimension that has none there; -1 = another reason */
    bool late;     /* had no session before the content: served last */
    /* Why it cannot be sent now; code of the verdict for the book. */
    struct verdict refusal;
    struct reply refusal_reply;
    enum smtp_stage refusal_stage;
    char refusal_text[200];
};

struct relay {
    struct relay_env *env;
    struct conf *conf;
    char *sender, *queue_id;
    struct message *message;
    bool failed; /* content could not be kept */
    char failure[160];
    size_t n, room;
    struct rcpt **rcpt;
    size_t n_groups;
    struct group *group;
    char answer[LMTP_REPLY_MAX]; /* of relay_rcpt, relay_data */
};

/* ---- relay_account.c ---- */

/* The account itself, or the one that its mail is diverted to, if the
 * configuration has that one. */
struct mailbox relay_carrier(const struct relay *r, const struct mailbox *m);

/* Is this recipient's mail on its way through the account it was diverted to? */
bool relay_is_diverted(const struct group *g, const struct rcpt *c);

/* What one transaction with the next open recipients of g costs.  Who they are
 * is written to `who`, room for g->n, which the cost borrows. */
struct cost relay_cost(const struct group *g, uint64_t octets,
                       struct recipient_id *who);

/* Finds an account of g with room, waits for room that is near and for a
 * session; sets g->mailbox and g->session.  False: g->refusal... say why. */
bool relay_find_session(struct relay *r, struct group *g, uint64_t deadline_ms);

/* The account of g turned out unusable: its session is given back, and the
 * next candidate is looked for. */
bool relay_exchange(struct relay *r, struct group *g, uint64_t deadline_ms);

/* Gives the session back, and the place in line. */
void relay_drop_session(struct relay *r, struct group *g);

/* g has its room, or waits no longer: the next in line may look. */
void relay_leave_line(struct relay *r, struct group *g);

/* What a reply does to the account: rest, what Gmail was seen to allow, or out
 * of service.  What it refused is given back already. */
void relay_apply_effect(struct relay *r, const struct mailbox *m,
                        const struct verdict *v, const struct reply *reply);

/* A message of the account was refused as unsolicited: does it rest now? */
void relay_suspect(struct relay *r, const struct mailbox *m,
                   const struct reply *reply);

/* Gmail accepted a message of the account. */
void relay_accepted(struct relay *r, const struct mailbox *m);

/* ---- relay_scope.c ---- */

/* Sends to rest whom else the verdict about m is about, by its scope. */
void relay_rest_others(struct relay *r, const struct mailbox *m,
                       const struct verdict *v);

/* ---- relay_flight.c ---- */

/* Sends the message to every open recipient of g; afterwards all of them are
 * done. */
void relay_send_group(struct relay *r, struct group *g);

/* Ends every open recipient of g with its refusal. */
void relay_refuse_group(struct relay *r, struct group *g);

/* ---- relay.c ---- */

void relay_end_rcpt(struct relay *r, struct rcpt *c, enum outcome_kind kind,
                    const char *reply);

#endif
