/* milter/token/refresher.h - who needs a token and when: one renewal at a
 * time for each account, a few at once over all.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A token is renewed at about 80 % of its life, with jitter; one that is
 * still valid stays published while renewal fails.  Failures back off from
 * one second to five minutes when they are transient, and wait for a person
 * (hourly or slower, or until the secret file changes) when they are not.
 */
#ifndef TOKEN_REFRESHER_H
#define TOKEN_REFRESHER_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/clock.h"
#include "milter/base/conf.h"
#include "milter/state/status.h"
#include "milter/token/alert.h"
#include "milter/oauth/https.h"

struct refresher;

struct refresher_options { /* all borrowed */
    struct conf_holder *conf;
    struct token_book *book;
    const struct clock *clock;
    void (*post)(const struct https_request *q, struct https_answer *ret);
    /* What people may want to hear; must not block.  NULL = nobody. */
    void (*note)(void *cookie, const struct alert *what);
    void *note_cookie;
    uint32_t slots;   /* accounts that the book is made for */
    unsigned workers; /* requests at once */
};

/* Starts the workers.  NULL = out of memory. */
struct refresher *refresher_new(const struct refresher_options *o);
void refresher_free(struct refresher *r); /* waits for what is under way */

/* After start and after each reload: takes up the configured accounts, drops
 * those that are gone, and asks again for what was refused. */
void refresher_reload(struct refresher *r);

/* Somebody needs a token for this account other than the one with this
 * serial; 0 = has none. */
void refresher_want(struct refresher *r, const char *identity,
                    uint64_t refused_serial);

/* Hands what is due to the workers; about once a second, and after wants. */
void refresher_tick(struct refresher *r);

#endif
