/* policy/ticket.h - the only thing of ours that crosses the MTA.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A tagged recipient is
 *
 *   user@original.domain.<ticket>.<account>.<queue>.<tag domain>
 *
 * <ticket>  base32 (RFC 4648 alphabet, lower case, no padding) of the
 *           TICKET_OCTETS drawn below
 * <account> "a" + 13 base32 characters of the mailbox id for a named
 *           account; "t" + 4 base32 characters of the template's hash + "-" +
 *           the filled-in local part, escaped; "x" when the agent is to
 *           refuse the recipient
 * <queue>   "q00".."q31": the account's own queue in the MTA
 *
 *   octet 0      version, 1
 *         1      key id
 *         2..9   message number
 *        10..13  minute of acceptance, Unix time / 60
 *        14..17  hash of the plan (struct plan)
 *        18      flags: bits 0-1 From handling, 2 refuse, 3 defer
 *        19      share, per cent
 *        20..29  HMAC-SHA-256, first 80 bits, over octets 0..19, the account
 *                label, a NUL and the canonical recipient
 *
 * Integers are big-endian.  The envelope sender is not covered: the MTA may
 * rewrite it; nor is the queue, which only says where the MTA lets it wait.
 * A label is at most 63 octets, the whole address at most 253.  The MTA may
 * fold the domain's case and quote the local part otherwise: the tag stays
 * good.  Nothing else may change.
 *
 * Pure: keys are arguments.
 */
#ifndef POLICY_TICKET_H
#define POLICY_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"
#include "policy/slice.h"

enum {
    TICKET_OCTETS = 30,
    TICKET_LABEL = 48, /* base32 of TICKET_OCTETS */
    TICKET_KEY_OCTETS = 32,
    TICKET_KEYS_MAX = 16,
    TICKET_QUEUES = 32,
    TAGGED_MAX = 253, /* octets of a tagged address */
    LABEL_MAX = 63,   /* octets of a domain label: RFC 1035 2.3.4 */
};

struct ticket_key {
    uint8_t id;
    uint8_t secret[TICKET_KEY_OCTETS];
};

/* Newest first: the first signs, all verify. */
struct ticket_keys {
    unsigned n;
    struct ticket_key key[TICKET_KEYS_MAX];
};

struct ticket {
    uint64_t number; /* of the message; one for all its recipients */
    uint32_t minute; /* of acceptance, Unix time / 60 */
    uint32_t plan;   /* struct plan, hash */
    enum from_handling from;
    bool refuse, defer; /* the agent answers with the plan's reply */
    uint8_t share_percent;
};

enum ticket_result {
    TICKET_OK = 0,
    TICKET_EFOREIGN,   /* not below the tag domain: an ordinary address */
    TICKET_EMALFORMED, /* below the tag domain, but not of our form; writing:
                        * not an address with both parts */
    TICKET_EKEY,       /* signed by a key we do not have; writing: no key */
    TICKET_EMAC,       /* changed, or never ours */
    TICKET_ELONG,      /* writing: a label or the address is over its limit */
    TICKET_ELITERAL,   /* writing: an address literal cannot be tagged */
    TICKET_ENOMEM,     /* libcrypto had no memory: try later */
};

const char *ticket_result_text(enum ticket_result r);

/* The account label of a mailbox (NULL: "x").  TICKET_ELONG when a
 * template's local part does not fit. */
enum ticket_result ticket_account_label(const struct mailbox *m,
                                        char ret[LABEL_MAX + 1]);

/* The mailbox an account label names, from the label and the policy alone.
 * A template filled in with a named account's address is that account.
 * False when the policy has no such account (any more), or two templates
 * whose 20-bit hash is the same. */
bool ticket_mailbox(const struct policy *p, struct slice label,
                    struct mailbox *ret);

/* q00..q31 of a mailbox: a stable hash of its id. */
unsigned ticket_queue(uint64_t mailbox_id);

/* Tags `recipient` (the exact spelling received, without <>, without source
 * route).  The local part is kept as it is. */
enum ticket_result ticket_write(const struct ticket *t, struct slice recipient,
                                const struct mailbox *m, /* NULL: "x" */
                                const char *tag_domain,
                                const struct ticket_keys *keys,
                                char ret[TAGGED_MAX + 1]);

struct tag { /* a verified tagged recipient */
    struct ticket ticket;
    struct slice account; /* label; borrows from the input */
    unsigned queue;
    char recipient[TAGGED_MAX + 1]; /* original: local part as it is */
};

/* Parses and verifies.  On any other result than TICKET_OK *ret is
 * untouched, except that TICKET_EMAC and _EKEY may be told from foreign
 * addresses by the result alone.  `address` is without <>. */
enum ticket_result ticket_read(struct slice address, const char *tag_domain,
                               const struct ticket_keys *keys, struct tag *ret);

/* Is the address at or below the tag domain at all?  Without case, also with
 * a trailing dot, a source route or quotes, and where an MTA would look for a
 * domain inside the local part ("a%b", "b!a", "a@b" in quotes). */
bool ticket_is_tagged(struct slice address, const char *tag_domain);

/* Octets of the tag at the end of an address, from the dot in front of the
 * ticket on: 0 = it ends otherwise.  The signature is not looked at. */
size_t ticket_tail(struct slice address, const char *tag_domain);

#endif
