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
 * later knowledge could change it, else ACTION_UNKNOWN (hold and discard are
 * no refusals).  At FACTS_EOM it is never ACTION_UNKNOWN.
 *
 * A rule with `shadow: true` is listed when it would have decided, and the
 * next rule is tried; at FACTS_RCPT it is not asked.
 *
 * A rule that routes to accounts of which none can serve the sender does not
 * match, whatever its `otherwise` says: that is for accounts that are full or
 * unusable now.  Accounts that cannot serve it beside one that can are left
 * out.  A default that routes so leaves the recipient to the MTA.
 *
 * A recipient in mta_domains gets ACTION_MTA whatever a route says (reject,
 * defer, hold and discard still apply).  trace may be NULL.  *ret borrows
 * from the policy.
 */
enum decide_result decide(const struct policy *p, const struct facts *f,
                          struct slice recipient, struct scratch *s,
                          struct decision *ret, struct trace *trace);

/* A template or named account for this sender: fills in *ret.  False when the
 * account cannot serve it (other domain, no such mailbox in its map, not
 * allowed by trust); then why (WHY_TEXT octets, may be NULL) says so.
 *
 * A template becomes the sender's local part in lower case, without quotes
 * and without the extension ("+" and what follows, unless it comes first).
 * With a map, the first of these that is an alias in it gives the mailbox:
 * the whole address, it without the extension, the local part, that without
 * the extension; a mailbox of the map also stands for itself, and who is not
 * in the map is not served.  Aliases and mailboxes may be written with or
 * without the domain, which is always the template's.
 *
 * Here a template is never exchanged for the named account of the same
 * address; decide() and decide_candidates() do that, and ask the trust of
 * both. */
bool decide_mailbox(const struct account *a, const struct facts *f,
                    struct mailbox *ret, char *why);

/* The candidates a plan stands for, with templates filled in for this
 * sender, without trust (the ticket proves that the milter checked it).
 * Used by the agent when the ticket's account cannot serve.  It has no content
 * then, so a weighted pool is drawn by the sender here. */
unsigned decide_candidates(const struct policy *p, const struct plan *plan,
                           struct slice sender,
                           struct candidate ret[CANDIDATES_MAX]);

/* Is it the mailbox's own: its address, or one that send_as names?  As
 * header_next_address() gives it; a domain of U-labels is the same as its
 * A-labels. */
bool mailbox_owns(const struct mailbox *m, struct slice address);

/* from: require - is there a From, can all of it be read, and does every
 * address in it belong to the mailbox (its address or send_as)? */
bool decide_from_allowed(const struct mailbox *m, const struct facts *f);

#endif
