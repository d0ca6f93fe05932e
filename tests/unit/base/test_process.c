/* tests/unit/base/test_process.c - mirrors milter/base/process.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/process.h"

static bool
readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 30000) == 1;
}

static void *
signal_from_a_thread(void *cookie)
{
    (void)cookie;
    kill(getpid(), SIGTERM); /* would end us were it not blocked here too */
    return NULL;
}

static void
signals_become_events(void **state)
{
    int fd = process_signals();
    int pair[2];
    pthread_t thread;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(process_event(fd), PROCESS_NONE);

    kill(getpid(), SIGHUP);
    assert_true(readable(fd));
    assert_int_equal(process_event(fd), PROCESS_RELOAD);
    kill(getpid(), SIGINT);
    assert_true(readable(fd));
    assert_int_equal(process_event(fd), PROCESS_STOP);
    assert_int_equal(pthread_create(&thread, NULL, signal_from_a_thread, NULL),
                     0);
    assert_true(readable(fd));
    assert_int_equal(process_event(fd), PROCESS_STOP);
    pthread_join(thread, NULL);
    assert_int_equal(process_event(fd), PROCESS_NONE);

    assert_int_equal(pipe(pair), 0);
    close(pair[0]);
    assert_int_equal(write(pair[1], "x", 1), -1); /* and we still live */
    assert_int_equal(errno, EPIPE);
    close(pair[1]);
    close(fd);
    assert_int_equal(process_event(fd), PROCESS_NONE);
}

static void
no_core_is_left(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit core;

        process_no_core();
        _exit(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
                      getrlimit(RLIMIT_CORE, &core) == 0 &&
                      core.rlim_cur <= 1 && core.rlim_max <= 1
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void
files_are_raised_to_the_hard_limit(void **state)
{
    struct rlimit before, low, after;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){64, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    process_raise_files();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_true(after.rlim_cur == before.rlim_max);
    setrlimit(RLIMIT_NOFILE, &before);
}

static void
one_boot_has_one_id(void **state)
{
    uint64_t first[2], again[2];

    (void)state;
    process_boot_id(first);
    process_boot_id(again);
    assert_true((first[0] | first[1]) != 0);
    assert_memory_equal(first, again, sizeof first);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_boot_has_one_id),
        cmocka_unit_test(signals_become_events),
        cmocka_unit_test(no_core_is_left),
        cmocka_unit_test(files_are_raised_to_the_hard_limit),
    };

    return cmocka_run_group_tests_name("base/process", tests, NULL, NULL);
}
