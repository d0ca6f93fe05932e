/* milter/deliver/relay.h - one LMTP transaction on its way to Gmail: tickets,
 * accounts, sessions, outcomes, the book, the answers.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Blocks while it waits for room, a session, Gmail and the disk; one thread
 * for each transaction, helped by others while the accounts of a transaction
 * are served side by side.  Replies are lines without CRLF.  250 is answered for
 * a recipient only after Gmail has accepted the message for it.
 */
#ifndef DELIVER_RELAY_H
#define DELIVER_RELAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/base/conf.h"
#include "milter/deliver/attempts.h"
#include "milter/deliver/pool.h"
#include "milter/deliver/suspects.h"
#include "milter/ledger/ledger.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "policy/ticket.h"

/* What all transactions of the process share; all borrowed. */
struct relay_env {
    struct conf_holder *conf;
    const struct ticket_keys *keys;
    struct quota *quota;
    struct hints *hints;
    struct ledger *ledger;
    struct pool_sessions *pool;
    struct attempts *attempts;
    struct suspects *suspects;
    const struct clock *clock;
    const char *hostname;
    atomic_bool
        stopping; /* set once: waiting ends, transactions are answered */
};

struct relay; /* one transaction */

/* Begins one with the current configuration.  sender: without <>.  NULL =
 * out of memory. */
struct relay *relay_new(struct relay_env *env, const char *sender,
                        const char *queue_id);
void relay_free(struct relay *r); /* takes NULL; ends its claims */

/* One RCPT: the reply; "250 ..." = it is part of the transaction. */
const char *relay_rcpt(struct relay *r, const char *address);

/* DATA: waits for room and sessions.  "354 ..." or a refusal of all. */
const char *relay_data(struct relay *r);

/* Content.  An error is remembered and answered at the end. */
void relay_content(struct relay *r, const void *data, size_t len);

/* The end of the content: sends, writes the book.  Then one reply for each
 * recipient accepted, in order: relay_reply(r, 0..n-1). */
void relay_finish(struct relay *r);
size_t relay_recipients(const struct relay *r);
const char *relay_reply(const struct relay *r, size_t i);

#endif
