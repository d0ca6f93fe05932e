/* policy/decide_private.h - what decide.c and decide_account.c share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_DECIDE_PRIVATE_H
#define POLICY_DECIDE_PRIVATE_H

#include "policy/decide.h"

struct decide_listing {
    const struct policy *p;
    const struct facts *f;
    struct scratch *scratch; /* NULL = nothing is remembered */
    bool check_trust;
};

/* Lists the steps of a plan for this sender; accounts that cannot serve it
 * are left out, pools become their members, and an account that is there
 * already is not listed again.
 *
 * Sets *ret_n to the number of candidates, 0 when the plan names accounts and
 * none of them can serve; then why (WHY_TEXT octets, may be NULL) says so.
 * False = out of memory: some may be missing. */
bool decide_list(const struct decide_listing *asked, const struct plan *plan,
                 struct candidate ret[CANDIDATES_MAX], unsigned *ret_n,
                 char *why);

/* decide() by asking every rule in turn: what it does for a trace, and what
 * tests hold it against. */
enum decide_result decide_scan(const struct policy *p, const struct facts *f,
                               struct slice recipient, struct scratch *s,
                               struct decision *ret, struct trace *trace);

#endif
