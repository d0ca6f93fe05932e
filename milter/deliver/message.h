/* milter/deliver/message.h - the content of one message, held once.
 * SPDX-License-Identifier: Apache-2.0
 *
 * In memory up to MESSAGE_MEMORY, above that in an unlinked file in the state
 * directory.  Arrives from the LMTP server (dots already unstuffed, lines
 * ending in CRLF), is read as often as there are transactions, and is changed
 * for Gmail's copy only as the contract says: From handling, Bcc removed,
 * missing Message-ID and Date added (RFC 5322 3.6).
 *
 * The copy's lines all end in CRLF, the last one too: a run of CRs with or
 * without an LF behind it, and every bare LF, becomes one; NULs at the start of
 * a line go.  Otherwise what is text to us could end the message for somebody
 * further on, and the rest be taken for another one (RFC 5321 2.3.8).
 */
#ifndef DELIVER_MESSAGE_H
#define DELIVER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/ledger/ledger.h"
#include "policy/policy.h"

enum { MESSAGE_MEMORY = 1 << 20 };

struct message;

/* spill_directory: state.directory, for the unlinked file.  NULL = out of memory. */
struct message *message_new(const char *spill_directory);
void message_free(struct message *m);

/* Adds content.  False: out of memory or disk; err says which. */
bool message_add(struct message *m, const void *data, size_t len, char *err,
                 size_t err_size);

/* No more content: reads the header, digests the body (as received).  False:
 * as above, or the header has more than 1 MiB. */
bool message_end(struct message *m, char *err, size_t err_size);

uint64_t message_size(const struct message *m);  /* octets, as received */
const char *message_id(const struct message *m); /* with <>; "" = none */
/* The MTA's queue id by the top Received field; empty = not to be seen.
 * Borrowed. */
struct slice message_queue_id(const struct message *m);
const struct digest *message_digest(const struct message *m);
bool message_is_8bit(const struct message *m);
/* A header field holds non-ASCII octets: needs SMTPUTF8 (RFC 6531). */
bool message_needs_utf8(const struct message *m);

/* Gmail's copy of it for one account: a header of its own, then the body of
 * the message (borrowed: free the copy before the message). */
struct message_copy;

struct copy_options {
    const struct mailbox *mailbox;
    enum from_handling from;
    const char *sender;     /* envelope sender, "" = null */
    const char *hostname;   /* for a missing Message-ID without a sender */
    int64_t now_s;          /* for a missing Date */
    uint64_t ticket;        /* a missing Message-ID is the same at each try */
    const char *tag_domain; /* taken off in Received fields; NULL = it is not */
};

struct message_copy *message_copy_new(const struct message *m,
                                      const struct copy_options *o);
void message_copy_free(struct message_copy *c);
uint64_t message_copy_size(const struct message_copy *c); /* octets */

/* Reads from the start of the copy again. */
void message_copy_rewind(struct message_copy *c);
/* Up to max octets; *ret_n 0 = the end.  False: the spill file failed. */
bool message_copy_read(struct message_copy *c, char *to, size_t max,
                       size_t *ret_n);

#endif
