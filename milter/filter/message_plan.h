/* milter/filter/message_plan.h - the end of one message: decisions,
 * admission, tickets, edits.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FILTER_MESSAGE_PLAN_H
#define FILTER_MESSAGE_PLAN_H

#include "milter/filter/session_private.h"

/* Decides for every recipient, admits, plans the edits, applies them, and
 * logs one line for each recipient.  Hints are counted only after the MTA has
 * taken every edit. */
enum answer message_finish(struct session *s, const struct mta_ops *ops,
                           void *mta);

void message_log_refused(const struct session *s, const char *recipient,
                         const struct decision *d);

#endif
