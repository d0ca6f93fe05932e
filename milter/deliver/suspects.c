/* milter/deliver/suspects.c - see suspects.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/suspects.h"

#include <pthread.h>
#include <stdlib.h>

#include "policy/outcome.h"

struct suspects {
    pthread_mutex_t lock;
    struct {
        uint64_t account, at_ms; /* 0 = nobody */
    } seen[SUSPECTS_MAX];
};

struct suspects *
suspects_new(void)
{
    struct suspects *s = calloc(1, sizeof *s);

    if (s != NULL)
        pthread_mutex_init(&s->lock, NULL);
    return s;
}

void
suspects_free(struct suspects *s)
{
    if (s == NULL)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Mailbox ids are hashes: two accounts share a place seldom, and then the
 * later one has it. */
bool
suspects_again(struct suspects *s, uint64_t account, uint64_t now_ms)
{
    uint64_t *who = &s->seen[account % SUSPECTS_MAX].account;
    uint64_t *at_ms = &s->seen[account % SUSPECTS_MAX].at_ms;
    bool again;

    pthread_mutex_lock(&s->lock);
    again = *who == account && now_ms < *at_ms + OUTCOME_SUSPECT_MS;
    *who = again ? 0 : account;
    *at_ms = now_ms;
    pthread_mutex_unlock(&s->lock);
    return again;
}
