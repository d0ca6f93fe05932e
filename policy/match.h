/* policy/match.h - conditions: yes, no, not known yet.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Private to policy/.  Kleene's logic: "all" is no as soon as one child is
 * no, "any" is yes as soon as one is yes, whatever the unknown ones turn out
 * to be.
 */
#ifndef POLICY_MATCH_H
#define POLICY_MATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/facts.h"
#include "policy/rule.h"
#include "policy/zone.h"

enum truth { TRUTH_NO, TRUTH_YES, TRUTH_UNKNOWN };

enum { MATCH_ADDRESS_MAX = 1024 /* longer ones are compared as they are */ };

/* An envelope address, ready to be compared. */
struct match_address {
    struct slice raw;    /* as received; empty = the null sender */
    struct slice text;   /* canonical (address_canonical), with A-labels; raw
                          * when it is no address with both parts */
    struct slice domain; /* without trailing dot; empty when there is none */
    bool differs;        /* raw is another spelling, compared as well */
    char room[MATCH_ADDRESS_MAX];
};

/* What the conditions are asked about: one recipient.  Do not copy it: it
 * points into itself. */
struct match {
    const struct facts *f;
    struct scratch *scratch;
    struct match_address sender, recipient;
    /* A condition on what cannot be read is "not known", not "no". */
    bool unreadable_unknown;

    /* What the clock of the zone asked last shows; most policies have one. */
    bool wall_done;
    const struct zone *wall_zone;
    struct wall_clock wall;
    /* Where the message lies among all, as MATCH_SAMPLE asks; once done. */
    bool sample_done;
    uint32_t sample; /* 0..2^32-1, evenly spread */

    /* Found out while matching; never cleared. */
    bool unparseable; /* a condition looked at a header that cannot be read */
    bool regex_limit; /* an expression gave no answer within its limits */
    bool nomem;       /* out of memory: the answers mean nothing */
};

void match_init(struct match *m, const struct facts *f, struct slice recipient,
                struct scratch *s);

enum truth match_condition(struct match *m, const struct condition *c);

/* Why a condition that answered no (or not known) did so, for a person: the
 * first part that failed and the value found, shortened. */
void match_explain(struct match *m, const struct condition *c,
                   char ret[WHY_TEXT]);

/* At FACTS_LOG, neither an address nor a name, and not sendmail(1): a condition
 * on the client is not known. */
bool match_client_untold(const struct facts *f);

bool match_network(const struct network *net,
                   const struct facts_client *client);

enum { CLIENT_TEXT = 46 /* INET6_ADDRSTRLEN */ };

/* The client's address as patterns see it: IPv4 when it is IPv4.  False when
 * it is not known. */
bool match_client_text(const struct facts_client *client,
                       char ret[CLIENT_TEXT]);

/* ---- finding patterns without asking each (policy/rule_index.h) ----
 *
 * The contract: when a pattern has a text and matches a value, then one of
 * the value's texts, or one of their tails, is the pattern's text, without
 * case.  The reverse need not hold. */

/* Keys on sender, recipient, client, auth and From.  False: the pattern has
 * no text. */
bool match_pattern_text(enum match_key key, const struct pattern *p,
                        struct slice *ret);

/* Is it about the domain of an address? */
static inline bool
match_is_domain_key(enum match_key key)
{
    return key == MATCH_SENDER_DOMAIN || key == MATCH_RECIPIENT_DOMAIN ||
           key == MATCH_FROM_DOMAIN;
}

/* The key on the domain of what this key is on: sender, recipient, from. */
bool match_domain_key(enum match_key address, enum match_key *ret);
/* What the domain of every address matches that `address` matches; *ret
 * borrows from it.  False: cannot say. */
bool match_pattern_domain(const struct pattern *address, struct pattern *ret);

/* Tails are what follows octet 1 and begins with `tail`; NUL = none count. */
typedef void match_text_fn(void *cookie, enum match_key key, struct slice text,
                           char tail);

/* Calls fn for each text that the key's value has.  From must be known and
 * readable. */
void match_each_text(struct match *m, enum match_key key, match_text_fn *fn,
                     void *cookie);

#endif
