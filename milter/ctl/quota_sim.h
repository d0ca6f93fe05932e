/* milter/ctl/quota_sim.h - the accounts' limits, played through at the times
 * of a log.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The same windows as the agent's (policy/window.h), empty at the start.  A
 * message that must wait is sent, first come first served, as soon as there
 * is room; what waits stands before all that comes later.  Times are Unix
 * time in ms and should not go back; one that does is taken as the newest.
 */
#ifndef CTL_QUOTA_SIM_H
#define CTL_QUOTA_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/state/quota.h"
#include "policy/policy.h"

enum {
    QUOTA_SIM_ACCOUNTS_MAX = 100000, /* more have room for everything */
    QUOTA_SIM_WAITING_MAX = 1000000, /* in all; more count as deferred */
    QUOTA_SIM_MAILED_MAX = 10000000, /* recipients that limits of different
                                      * ones remember; more are new ones */
};

/* One account, at the end. */
struct quota_sim_account {
    char address[MAILBOX_MAX + 1];
    uint64_t messages, recipients, octets; /* sent at once or after a wait */
    uint64_t waited;                       /* messages of them that waited */
    uint64_t wait_longest_ms;
    uint64_t over;          /* messages that found no room */
    uint64_t first_full_ms; /* when that was first; over > 0 */
    uint64_t room_at_ms;    /* and when there was room for that one */
    enum dimension first_limit;
};

struct quota_sim;

struct quota_sim *quota_sim_new(void); /* NULL = out of memory */
void quota_sim_free(struct quota_sim *s);

/* How long until the account can take this, behind all that waits: 0 = now,
 * WINDOW_NEVER = it is larger than a whole limit.  When it is not 0, that is
 * remembered as "found no room". */
uint64_t quota_sim_wait_ms(struct quota_sim *s, const struct mailbox *m,
                           uint64_t now_ms, const struct cost *c,
                           unsigned share_percent);

/* How many messages like this one the account can take now. */
uint64_t quota_sim_room(struct quota_sim *s, const struct mailbox *m,
                        uint64_t now_ms, const struct cost *c,
                        unsigned share_percent);

/* Sends it now (wait_ms 0), or lets it wait.  False = out of memory, or too
 * many wait. */
bool quota_sim_send(struct quota_sim *s, const struct mailbox *m,
                    uint64_t now_ms, const struct cost *c,
                    unsigned share_percent, uint64_t wait_ms);

/* Every account that was asked about, most messages first; the caller frees
 * the list.  NULL = out of memory. */
const struct quota_sim_account **quota_sim_accounts(struct quota_sim *s,
                                                    size_t *ret_n);

#endif
