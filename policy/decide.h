/* policy/decide.h - facts to decision: first match wins, for each recipient.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure; any thread.  Conditions are three-valued: yes, no, not known yet.
 */
#ifndef POLICY_DECIDE_H
#define POLICY_DECIDE_H

#include "policy/decision.h"
#include "policy/facts.h"
#include "policy/policy.h"

/* Scratch that one message's decisions share: decoded header values, parsed
 * From addresses.  One message, one thread at a time; reset between
 * messages. */
struct scratch;
struct scratch *scratch_new(void); /* NULL = out of memory */
void scratch_reset(struct scratch *s);
void scratch_free(struct scratch *s);

enum decide_result {
    DECIDE_OK = 0,
    DECIDE_ENOMEM, /* answer the message with a temporary failure */
};

/* Decides for one recipient (without <>, source route stripped).
 *
 * At FACTS_RCPT the answer is ACTION_REJECT or ACTION_DEFER only when no
 * later knowledge could change it, else ACTION_UNKNOWN.  At FACTS_EOM it is
 * never ACTION_UNKNOWN.
 *
 * A recipient in mta_domains gets ACTION_MTA whatever a route says (reject
 * and defer still apply).  trace may be NULL.  *ret borrows from the policy.
 */
enum decide_result decide(const struct policy *p, const struct facts *f,
                          struct slice recipient, struct scratch *s,
                          struct decision *ret, struct trace *trace);

/* A template or named account for this sender: fills in *ret.  False when the
 * account cannot serve it (other domain, no such mailbox in its map, not
 * allowed by trust); then why (WHY_TEXT octets, may be NULL) says so. */
bool decide_mailbox(const struct account *a, const struct facts *f,
                    struct mailbox *ret, char *why);

/* The candidates a plan stands for, with templates filled in for this
 * sender, without trust (the ticket proves that the milter checked it).
 * Used by the agent when the ticket's account cannot serve. */
unsigned decide_candidates(const struct policy *p, const struct plan *plan,
                           struct slice sender,
                           struct candidate ret[CANDIDATES_MAX]);

/* from: require - does every From address belong to the mailbox (its
 * address or send_as)? */
bool decide_from_allowed(const struct mailbox *m, const struct facts *f,
                         struct scratch *s);

#endif
