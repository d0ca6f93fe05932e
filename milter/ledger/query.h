/* milter/ledger/query.h - reading the book: for gmroutectl.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Opens read-only, in short transactions, beside a running agent.
 */
#ifndef LEDGER_QUERY_H
#define LEDGER_QUERY_H

#include "milter/ledger/ledger.h"

struct query;

/* One row of the book; texts are valid during the callback, are UTF-8, and
 * hold no control characters: what a stranger put there shows as '?'. */
struct query_row {
    int64_t row;
    int64_t at_ms; /* Unix time, wall clock, of the attempt's start */
    uint64_t ticket, account, size_octets;
    const char *queue_id, *identity, *sender, *recipient, *message_id;
    const char *outcome; /* "sending", "sent", "refused", "deferred", ... */
    /* The account that it was meant for, when its mail was diverted to
     * `identity`; else "". */
    const char *diverted_from;
    const char *stage, *enhanced, *reply;
    uint16_t code;
    uint32_t duration_ms;
};

/* Empty or 0 = any; all that are given must hold. */
struct query_filter {
    const char *queue_id, *identity, *recipient, *sender, *message_id;
    const char *outcome;
    uint64_t ticket;
    int64_t since_ms;
    uint32_t limit; /* newest rows; 0 = 100 */
};

bool query_open(struct query **ret, const char *directory, char *err,
                size_t err_size);
void query_close(struct query *q);

/* Oldest first among the newest `limit`.  False with err. */
bool query_rows(struct query *q, const struct query_filter *f,
                bool (*each)(void *cookie, const struct query_row *r),
                void *cookie, char *err, size_t err_size);

/* When the message that waits longest was first tried (Unix time, ms): of
 * those whose last attempt, at since_ms or later, was put off.  account 0 =
 * any.  *ret_ms 0 = none waits.  False with err. */
bool query_oldest_waiting(struct query *q, uint64_t account, int64_t since_ms,
                          int64_t *ret_ms, char *err, size_t err_size);

/* What accounts were charged for because a loss of power may have taken it
 * from the book, when that happened last; at_ms 0 = never. */
struct query_loss {
    int64_t at_ms; /* Unix time */
    uint64_t accounts, messages, recipients, octets;
};
bool query_last_loss(struct query *q, struct query_loss *ret, char *err,
                     size_t err_size);

#endif
