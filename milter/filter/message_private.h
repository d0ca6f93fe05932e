/* milter/filter/message_private.h - what the message_*.c share: one message at
 * its end.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All of it lies in the message's arena.
 */
#ifndef FILTER_MESSAGE_PRIVATE_H
#define FILTER_MESSAGE_PRIVATE_H

#include "milter/filter/edit.h"
#include "milter/filter/session_private.h"

/* Recipients that the same plan routes: one sender, so one list of
 * candidates and one transaction. */
struct group {
    struct group *next;
    const struct plan *plan;
    struct decision decision;
    struct cost cost;
    struct admission admission;
};

/* What becomes of one recipient. */
struct fate {
    const struct recipient *recipient;
    enum action action;
    const char *rule;
    struct loc at;
    const struct plan *plan;
    const char *reply;                /* REJECT, DEFER; HOLD: the reason */
    const struct header_edits *edits; /* of its rule; NULL = none */
    struct group *group;      /* ACCOUNT, or refused by admission; else NULL */
    const struct fate *first; /* of the same recipient, spelled otherwise or
                               * given twice; NULL = this is the first */
    bool external;
};

/* Header edits of the rules that decided, each rule's once. */
struct edit_source {
    struct edit_source *next;
    const struct header_edits *edits;
    const char *rule;
};

struct finish { /* one message at its end */
    struct session *s;
    struct facts facts;
    struct group *groups;
    size_t n; /* recipients, in the order of their RCPTs */
    struct fate *fate;
    struct edit_source *sources, **sources_end;
    const char *hold; /* the reason; NULL = the message is not held */
    struct edits edits;
    struct ticket ticket; /* number and minute; the rest for each recipient */
    bool tickets_made;
    unsigned n_routed, n_refused, n_deferred, n_kept;
    const char *first_reject, *first_defer;
    const char *whole_reply; /* the policy refuses the whole message */
    bool unparseable, regex_limit;
};

/* ---- message_groups.c: what one account can send together ---- */

/* Joins a recipient that the decision routes to the group of its plan.  False
 * = out of memory. */
bool message_group_add(struct finish *x, struct fate *f,
                       const struct decision *d);
void message_group_remove(struct fate *f);

/* One account for each group, and what that means for its recipients. */
void message_groups_admit(struct finish *x);

/* A message that cannot be put off (some of it goes on, or sendmail(1) would
 * try again every minute for ever) waits in the queue for the account that
 * has room soonest: a tag that says "defer" would never come free. */
void message_groups_queue(struct finish *x);

/* Says what is on its way now, when the MTA has taken every edit. */
void message_groups_hint(const struct finish *x);

/* ---- message_edits.c: the plan of edits ---- */

/* NULL, or the reply for the whole message. */
const char *message_edits_plan(struct finish *x);

/* ---- message_log.c: why ---- */

void message_log_fates(const struct finish *x);
/* What could not be looked at decided as if it were not there. */
void message_log_unread(const struct finish *x);
/* The edits that were made of the header. */
void message_log_edits(const struct finish *x);
/* What shadow rules would have done with a recipient. */
void message_log_shadows(const struct session *s, const char *recipient,
                         const struct decision *d);

#endif
