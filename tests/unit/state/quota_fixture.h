/* tests/unit/state/quota_fixture.h - an agent's segment and a reader of it, for
 * the quota tests.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_STATE_QUOTA_FIXTURE_H
#define TESTS_STATE_QUOTA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "milter/state/quota.h"
#include "milter/state/quota_private.h"
#include "tests/unit/state/fixture.h"

static char directory[100], err[300];
static struct fixture_policy fixture;
static struct quota *quota;
static struct quota_reader *reader;
static struct mailbox sales;

static const struct limit plain[] = {
    {DIM_MESSAGES, 10, DAY_MS},
    {DIM_RECIPIENTS, 40, DAY_MS},
    {DIM_PACE, 6, 60000},
};

static inline void
make(void)
{
    if (quota_make(&quota, directory, &fixture.policy, &fixture_clock, 0, err,
                   sizeof err) != STATE_OK)
        fail_msg("%s", err);
}

static inline int
set_up(void **state)
{
    (void)state;
    fixture_directory(directory, sizeof directory);
    fixture_policy(&fixture, plain, 3);
    sales = fixture_mailbox(&fixture.account[0], "sales@example.com");
    make();
    reader = quota_reader_new(directory, &fixture_clock);
    return 0;
}

static inline int
tear_down(void **state)
{
    (void)state;
    quota_reader_free(reader);
    quota_free(quota);
    quota = NULL;
    fixture_remove(directory);
    return 0;
}

static inline struct cost
cost_of(uint32_t recipients)
{
    return (struct cost){.messages = 1, .recipients = recipients};
}

static inline bool
take(uint32_t recipients, struct taken *ret, struct room *ret_room)
{
    struct cost c = cost_of(recipients);

    return quota_take(quota, sales.id, &c, 100, ret, ret_room);
}

static inline void
accepted(void)
{
    struct observation lifted;

    quota_accepted(quota, sales.id, &lifted);
}

static inline uint64_t
used(enum dimension d)
{
    struct quota_view v;

    assert_int_equal(quota_peek(reader, sales.id, &v), STATE_OK);
    for (unsigned i = 0; i < v.n; i++)
        if (v.window[i].dimension == d)
            return v.window[i].used;
    fail_msg("no window for %d", (int)d);
    return 0;
}

static inline struct room
forecast(uint32_t recipients, uint32_t messages_ahead,
         uint32_t recipients_ahead, unsigned share, uint64_t *ret_now_ms)
{
    struct cost c = cost_of(recipients);
    struct cost ahead = {.messages = messages_ahead,
                         .recipients = recipients_ahead};
    struct room room;

    assert_int_equal(
        quota_forecast(reader, &sales, &c, &ahead, share, &room, ret_now_ms),
        STATE_OK);
    return room;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
