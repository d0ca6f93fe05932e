/* tests/unit/token/test_schedule.c - mirrors milter/token/schedule.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "milter/token/schedule.h"

#define S UINT64_C(1000)
#define H (3600 * S)

/* The shortest and the longest pause that any random number can give. */
static const struct row {
    const char *name;
    enum oauth2_class class;
    int64_t life_s, retry_after_s;
    unsigned failures;
    uint64_t least_ms, most_ms;
    enum token_state state;
} rows[] = {
    {"80 % of an hour, give or take 5 %", OAUTH2_OK, 3600, 0, 0, 2736 * S,
     3024 * S, TOKEN_OK},
    {"a token of one second", OAUTH2_OK, 1, 0, 0, 760, 840, TOKEN_OK},
    {"at least weekly", OAUTH2_OK, 30 * 86400, 0, 0, 168 * H * 95 / 100,
     168 * H * 105 / 100, TOKEN_OK},
    {"the first failure in passing", OAUTH2_TRANSIENT, 0, 0, 1, 750, 1250,
     TOKEN_RETRYING},
    {"the fourth", OAUTH2_TRANSIENT, 0, 0, 4, 6 * S, 10 * S, TOKEN_RETRYING},
    {"many: five minutes", OAUTH2_TRANSIENT, 0, 0, 40, 225 * S, 375 * S,
     TOKEN_RETRYING},
    {"count overflow is far away", OAUTH2_TRANSIENT, 0, 0, UINT32_MAX, 225 * S,
     375 * S, TOKEN_RETRYING},
    {"the endpoint asks for rest", OAUTH2_TRANSIENT, 0, 90, 1, 90 * S, 90 * S,
     TOKEN_RETRYING},
    {"for less than we would give", OAUTH2_TRANSIENT, 0, 1, 40, 225 * S,
     375 * S, TOKEN_RETRYING},
    {"for more than is sensible", OAUTH2_TRANSIENT, 0, INT64_MAX / 2000, 1, H,
     H, TOKEN_RETRYING},
    {"a wrong clock, corrected", OAUTH2_CLOCK, 0, 0, 1, 750, 1250,
     TOKEN_RETRYING},
    {"login needed", OAUTH2_NEEDS_LOGIN, 0, 0, 1, 6 * H * 95 / 100,
     6 * H * 105 / 100, TOKEN_NEEDS_LOGIN},
    {"no mailbox", OAUTH2_NO_MAILBOX, 0, 0, 1, 6 * H * 95 / 100,
     6 * H * 105 / 100, TOKEN_NO_MAILBOX},
    {"client refused", OAUTH2_CLIENT, 0, 0, 1, 570 * S, 630 * S,
     TOKEN_CLIENT_BROKEN},
    {"delegation not spread yet: hourly", OAUTH2_UNAUTHORIZED, 0, 0, 24,
     H * 95 / 100, H * 105 / 100, TOKEN_CONFIG},
    {"delegation missing after a day", OAUTH2_UNAUTHORIZED, 0, 0, 25,
     6 * H * 95 / 100, 6 * H * 105 / 100, TOKEN_CONFIG},
    {"configuration", OAUTH2_CONFIG, 0, 0, 1, H * 95 / 100, H * 105 / 100,
     TOKEN_CONFIG},
    {"secret file", OAUTH2_SECRET, 0, 0, 1, H * 95 / 100, H * 105 / 100,
     TOKEN_CONFIG},
};

static void
pauses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        uint64_t least = UINT64_MAX, most = 0;

        print_message("  %s\n", t->name);
        for (uint32_t n = 0; n < 100000; n++) {
            uint64_t ms = schedule_pause_ms(&(struct schedule_facts){
                .class = t->class,
                .life_s = t->life_s,
                .retry_after_s = t->retry_after_s,
                .failures = t->failures,
                .random = n * 2654435761u,
            });

            least = ms < least ? ms : least;
            most = ms > most ? ms : most;
        }
        assert_in_range(least, t->least_ms, t->least_ms + t->least_ms / 100);
        assert_in_range(most, t->most_ms - t->most_ms / 100, t->most_ms);
        assert_int_equal(schedule_state(t->class), t->state);
    }
}

/* Evenly, from a twentieth of the usual pause on. */
static void
off_the_beat(void **state)
{
    unsigned quarter[4] = {0};

    (void)state;
    for (uint32_t n = 0; n < 100000; n++) {
        uint64_t ms = schedule_pause_ms(&(struct schedule_facts){
            .class = OAUTH2_OK,
            .life_s = 3600,
            .off_beat = true,
            .random = n * 2654435761u,
        });

        assert_in_range(ms, 144 * S, 2880 * S);
        quarter[(ms - 144 * S) * 4 / (2736 * S + 1)]++;
    }
    for (unsigned i = 0; i < 4; i++)
        assert_in_range(quarter[i], 24000, 26000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pauses),
                                       cmocka_unit_test(off_the_beat)};

    return cmocka_run_group_tests_name("token/schedule", tests, NULL, NULL);
}
