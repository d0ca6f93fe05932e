/* milter/ctl/waiting.c - see waiting.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/waiting.h"

/* As the agent: who has not come back for longer waits no more
 * (ATTEMPTS_FORGET_MS of milter/deliver/attempts.h). */
enum { FORGET_MS = 2 * 4000 * 1000 };

void
waiting_coming(const struct look *k, uint64_t id, struct waiting *w)
{
    hints_sum(k->hints, id, (uint32_t)(k->now_ms / 60000), &w->coming_messages,
              &w->coming_recipients);
}

void
waiting_oldest(const struct look *k, uint64_t id, struct waiting *w)
{
    struct query *q = NULL;
    char err[400];

    if (!query_open(&q, k->policy->state.directory, err, sizeof err) ||
        !query_oldest_waiting(q, id, k->now_ms - FORGET_MS, &w->oldest_ms, err,
                              sizeof err))
        w->oldest_ms = 0;
    query_close(q);
}

void
waiting_loss(const struct look *k, struct query_loss *ret)
{
    struct query *q = NULL;
    char err[400];

    if (!query_open(&q, k->policy->state.directory, err, sizeof err) ||
        !query_last_loss(q, ret, err, sizeof err))
        *ret = (struct query_loss){0};
    query_close(q);
}
