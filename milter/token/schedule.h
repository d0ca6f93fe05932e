/* milter/token/schedule.h - when a token is asked for again.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  Sources: gmail.md 3.3 (what each failure asks for), 3.4 (at least
 * weekly, so that the refresh token does not fall asleep).
 */
#ifndef TOKEN_SCHEDULE_H
#define TOKEN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/state/status.h"
#include "milter/oauth/oauth2.h"

/* The state that an answer of the class leaves an account in. */
enum token_state schedule_state(enum oauth2_class c);

struct schedule_facts {
    enum oauth2_class class;
    int64_t life_s; /* OK: of the new token */
    bool off_beat;  /* OK: it was not asked for because 80 % had passed: others
                    * may have come at the same moment */
    int64_t retry_after_s; /* the endpoint asked for; 0 = did not */
    unsigned failures;     /* of the class in a row, this one included */
    uint32_t random;       /* any: spreads what would come together */
};

/* ms until the next request.  80 % of the life, give or take 5 %, and at most a
 * week; off the beat, anything from a twentieth of that on, so that those who
 * came together (a start, an outage, a night asleep) come evenly from then on;
 * after a failure that may pass, from one second doubling to five minutes; after
 * one that a person must mend, hours: hourly for a day what may still come into
 * force, and the rest, or later, every six hours. */
uint64_t schedule_pause_ms(const struct schedule_facts *f);

#endif
