/* milter/token/schedule.c - see schedule.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/schedule.h"

#define SECOND_MS UINT64_C(1000)
#define HOUR_MS   (3600 * SECOND_MS)
#define WEEK_MS   (7 * 24 * HOUR_MS)
/* For a person's hand, who may not be about: the file that changes, a reload or
 * a login makes it come at once. */
#define GIVEN_UP_MS (6 * HOUR_MS)

enum {
    BACKOFF_DOUBLINGS = 9, /* 1 s to 5 min 12 s, cut below */
    SPREAD_TRIES = 24,     /* hourly: so long a delegation takes to spread */
};

static const uint64_t backoff_max_ms = 300 * SECOND_MS;

/* What a class means: the state, and how long to leave it alone; 0 = depends
 * on the answer. */
static const struct row {
    enum token_state state;
    uint64_t pause_ms;
} rows[OAUTH2_CLASSES] = {
    [OAUTH2_OK] = {TOKEN_OK, 0},
    [OAUTH2_TRANSIENT] = {TOKEN_RETRYING, 0},
    [OAUTH2_NEEDS_LOGIN] = {TOKEN_NEEDS_LOGIN, GIVEN_UP_MS},
    [OAUTH2_CLIENT] = {TOKEN_CLIENT_BROKEN, 600 * SECOND_MS},
    [OAUTH2_NO_MAILBOX] = {TOKEN_NO_MAILBOX, GIVEN_UP_MS},
    [OAUTH2_UNAUTHORIZED] = {TOKEN_CONFIG, HOUR_MS},
    [OAUTH2_CLOCK] = {TOKEN_RETRYING, 0},
    [OAUTH2_CONFIG] = {TOKEN_CONFIG, HOUR_MS},
    [OAUTH2_SECRET] = {TOKEN_CONFIG, HOUR_MS},
};

enum token_state
schedule_state(enum oauth2_class c)
{
    return rows[c].state;
}

static uint64_t
spread(uint64_t ms, unsigned percent, uint32_t random)
{
    uint64_t span = ms * percent / 100;

    return ms - span + random % (2 * span + 1);
}

static uint64_t
backoff_ms(unsigned failures)
{
    unsigned doublings = failures > 0 ? failures - 1 : 0;
    uint64_t ms = SECOND_MS
                  << (doublings < BACKOFF_DOUBLINGS ? doublings
                                                    : BACKOFF_DOUBLINGS);

    return ms < backoff_max_ms ? ms : backoff_max_ms;
}

uint64_t
schedule_pause_ms(const struct schedule_facts *f)
{
    const struct row *row = &rows[f->class];
    uint64_t asked_ms =
        f->retry_after_s > 0 ? (uint64_t)f->retry_after_s * SECOND_MS : 0;
    uint64_t ms;

    if (f->class == OAUTH2_OK) {
        ms = (uint64_t)f->life_s * SECOND_MS * 4 / 5;
        if (f->off_beat && ms < WEEK_MS)
            return ms / 20 + f->random % (ms - ms / 20 + 1);
        return spread(ms < WEEK_MS ? ms : WEEK_MS, 5, f->random);
    }
    if (f->class == OAUTH2_UNAUTHORIZED && f->failures > SPREAD_TRIES)
        return spread(GIVEN_UP_MS, 5, f->random);
    if (row->pause_ms != 0)
        return spread(row->pause_ms, 5, f->random);
    ms = spread(backoff_ms(f->failures), 25, f->random);
    /* An endpoint that asks for days of rest is not obeyed: a token would run
     * out.  An hour is what Google asks for at most. */
    if (asked_ms > HOUR_MS)
        asked_ms = HOUR_MS;
    return ms > asked_ms ? ms : asked_ms;
}
