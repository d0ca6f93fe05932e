/* tests/unit/base/test_clock.c - mirrors milter/base/clock.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/clock.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { NIGHT_S = 9 * 3600, SLACK_MS = 60 * 1000 };

/* A machine that was asleep for a night, as a time namespace shows it: of the
 * system's clocks CLOCK_BOOTTIME alone knows of it.  Needs root. */
static bool
sleep_a_night(void)
{
    FILE *f;
    bool ok;

    if (unshare(CLONE_NEWTIME) != 0)
        return false;
    f = fopen("/proc/self/timens_offsets", "w");
    if (f == NULL)
        return false;
    ok = fprintf(f, "boottime %d 0\n", NIGHT_S) > 0;
    return fclose(f) == 0 && ok;
}

static void
time_asleep_counts(void **state)
{
    int64_t before_ms = (int64_t)clock_boot_ms(&clock_real);
    int status;
    pid_t pid;

    (void)state;
    if (!sleep_a_night())
        skip();
    pid = fork(); /* the children are in the namespace */
    assert_true(pid >= 0);
    if (pid == 0) {
        int64_t passed_ms = (int64_t)clock_boot_ms(&clock_real) - before_ms;

        _exit(passed_ms >= NIGHT_S * 1000LL &&
                      passed_ms < NIGHT_S * 1000LL + SLACK_MS
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(time_asleep_counts)};

    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
