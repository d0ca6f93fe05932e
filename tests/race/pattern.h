/* tests/race/pattern.h - writers that keep promises, readers that check them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever a writer publishes has parts that belong together; a reader that
 * sees parts of two writes, or a half of one, finds them disagree.
 */
#ifndef TESTS_RACE_PATTERN_H
#define TESTS_RACE_PATTERN_H

#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"
#include "tests/unit/state/fixture.h"

enum {
    PATTERN_RECIPIENTS = 3, /* a message */
    PATTERN_MINUTE = 29539320,
    PATTERN_TOKENS = 2, /* ids 1 .. */
};

struct pattern { /* one process's handles; NULL = not open */
    char directory[100];
    struct fixture_policy fixture;
    struct mailbox sales, news;
    /* writing */
    struct quota *quota;
    struct token_book *book;
    struct hints *hints;
    /* reading */
    struct quota_reader *reader;
    struct status_reader *status;
    uint64_t newest_serial;
    uint64_t good, busy, none; /* reads */
};

void pattern_init(struct pattern *p, const char *directory);

/* Makes everything, as the daemons do when they start. */
void pattern_open_agent(struct pattern *p);
void pattern_open_tower(struct pattern *p);
void pattern_open_milter(struct pattern *p);

/* One round of changes each. */
void pattern_write_quota(struct pattern *p, const struct mailbox *m,
                         uint64_t *seed);
void pattern_write_token(struct pattern *p, uint64_t id);
void pattern_write_hints(struct pattern *p);

void pattern_open_reader(struct pattern *p);
/* Looks at everything once; ends the program when a promise is broken. */
void pattern_read(struct pattern *p);
void pattern_close(struct pattern *p);

#endif
