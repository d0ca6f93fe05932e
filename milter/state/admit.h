/* milter/state/admit.h - candidates to one account, or wait, or refuse.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A forecast, not a limit: what is accepted here waits in the MTA's queue
 * until the agent takes room for it.  Used by the milter, and by
 * `gmroutectl explain` to say what the milter would do.
 */
#ifndef STATE_ADMIT_H
#define STATE_ADMIT_H

#include "milter/base/clock.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"
#include "policy/decision.h"

/* Whose turn it is in round_robin pools, by a hash of the pool's name: two
 * pools in one place share a counter, which is harmless.  Zeroed at first. */
enum { ADMIT_TURNS = 256 };
struct admit_turns {
    _Atomic uint32_t turn[ADMIT_TURNS];
};

struct admit_env { /* all borrowed */
    struct quota_reader *quota;
    struct status_reader *status;
    struct hints *hints; /* NULL: nothing is known to be on its way */
    const struct clock *clock;
    struct admit_turns *turns; /* NULL: nobody's turn moves on (explain) */
};

struct admission {
    enum action action; /* MTA, ACCOUNT, REJECT or DEFER */
    /* ACCOUNT; DEFER: the one with room soonest, for a caller that cannot
     * defer (account NULL = none). */
    struct mailbox mailbox;
    uint64_t wait_ms;  /* ACCOUNT: forecast, 0 = could go now */
    const char *reply; /* REJECT, DEFER: the policy's, or `text` */
    char text[240];    /* a reply made here */
    char why[160];     /* for the log: why not the first candidate */
};

/* Walks the decision's candidates for one transaction of this cost; the members
 * of a pool by its pick.  An account whose mail an administrator diverts stands
 * for the other one, whatever state it is in itself, if the policy, which made
 * the decision, has that one.  Reads only, but for the turns; never blocks. */
void admit(const struct admit_env *env, const struct policy *p,
           const struct decision *d, const struct cost *cost,
           struct admission *ret);

#endif
