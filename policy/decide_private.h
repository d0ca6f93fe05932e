/* policy/decide_private.h - what decide.c and decide_account.c share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef POLICY_DECIDE_PRIVATE_H
#define POLICY_DECIDE_PRIVATE_H

#include "policy/decide.h"

/* Lists the steps of a plan for this sender; accounts that cannot serve it
 * are left out, pools become their members, and an account that is there
 * already is not listed again.
 *
 * Returns the number of candidates, 0 when the plan names accounts and none
 * of them can serve; then why (WHY_TEXT octets, may be NULL) says so. */
unsigned decide_list(const struct policy *p, const struct plan *plan,
                     const struct facts *f, bool check_trust,
                     struct candidate ret[CANDIDATES_MAX], char *why);

#endif
