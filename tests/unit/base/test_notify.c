/* tests/unit/base/test_notify.c - mirrors milter/base/notify.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/notify.h"

/* The service manager: a datagram socket in the abstract name space. */
struct manager {
    int fd;
    char name[64];
};

static void
listen_at(int fd, const struct sockaddr_un *at, size_t name_len)
{
    assert_true(fd >= 0);
    assert_int_equal(
        bind(fd, (const struct sockaddr *)at,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_len)),
        0);
}

static int
setup(void **state)
{
    static struct manager m;
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(m.name, sizeof m.name, "@gmroute-test-%d", (int)getpid());
    memcpy(at.sun_path + 1, m.name + 1, strlen(m.name) - 1);
    m.fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    listen_at(m.fd, &at, strlen(m.name));
    setenv("NOTIFY_SOCKET", m.name, 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    *state = &m;
    return 0;
}

static int
teardown(void **state)
{
    struct manager *m = *state;

    close(m->fd);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

/* A datagram on a unix socket is there when sendto() has returned. */
static void
assert_told(int fd, const char *want)
{
    char text[1000];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);

    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, want);
}

static void
assert_silent(int fd)
{
    char text[1000];

    assert_int_equal(recv(fd, text, sizeof text, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void
the_states_of_a_life(void **state)
{
    struct manager *m = *state;
    unsigned long long us;
    char text[200] = "", again[200];

    notify_ready("%d accounts", 7);
    assert_told(m->fd, "READY=1\nSTATUS=7 accounts");
    notify_reloading();
    assert_true(recv(m->fd, text, sizeof text - 1, MSG_DONTWAIT) > 0);
    assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%llu", &us), 1);
    snprintf(again, sizeof again, "RELOADING=1\nMONOTONIC_USEC=%llu", us);
    assert_string_equal(text, again); /* and nothing behind it */
    notify_stopping();
    assert_told(m->fd, "STOPPING=1");
    assert_silent(m->fd);
}

static void
a_status_is_one_line_and_not_too_long(void **state)
{
    struct manager *m = *state;
    char text[2000], got[2000];
    ssize_t n;

    notify_ready("%s", "disk full\nWATCHDOG=trigger\n");
    assert_told(m->fd, "READY=1\nSTATUS=disk full WATCHDOG=trigger ");
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    notify_ready("%s", text);
    n = recv(m->fd, got, sizeof got, MSG_DONTWAIT);
    assert_true(n > 300 && n < 500);
    assert_int_equal(got[n - 1], 'x');
}

static void
a_socket_with_a_name_in_the_file_system(void **state)
{
    char directory[] = "/tmp/gmroute-notify-XXXXXX";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/notify", directory);
    listen_at(fd, &at, strlen(at.sun_path) + 1);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    notify_stopping();
    assert_told(fd, "STOPPING=1");
    close(fd);
    unlink(at.sun_path);
    rmdir(directory);
}

static void
a_bad_notify_socket_does_no_harm(void **state)
{
    char too_long[300];
    const char *const paths[] = {
        "", "@", "/", "relative", "/nonexistent/gmroute", too_long};

    (void)state;
    memset(too_long, '/', sizeof too_long);
    too_long[sizeof too_long - 1] = '\0';
    unsetenv("NOTIFY_SOCKET");
    notify_ready("x");
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        setenv("NOTIFY_SOCKET", paths[i], 1);
        notify_ready("x");
    }
}

/* Its queue is full, and stays so. */
static void
a_manager_that_hangs_does_not_stop_us(void **state)
{
    struct manager *m = *state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(m->name));

    memcpy(at.sun_path + 1, m->name + 1, strlen(m->name) - 1);
    while (sendto(fd, "x", 1, 0, (struct sockaddr *)&at, len) == 1)
        continue;
    assert_int_equal(errno, EAGAIN);
    close(fd);
    notify_stopping();
}

static void
whether_somebody_watches(void **state)
{
    char pid[24];
    const struct {
        const char *usec, *pid;
        uint64_t want_ms;
    } rows[] = {
        {NULL, NULL, 0},
        {"60000000", NULL, 30000},
        {"60000000", pid, 30000},
        {"60000000", "1", 0} /* it is for init */,
        {"", NULL, 0},
        {"-5", NULL, 0},
        {"12 s", NULL, 0},
        {" 60000000", NULL, 0},
    };

    (void)state;
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (rows[i].usec != NULL)
            setenv("WATCHDOG_USEC", rows[i].usec, 1);
        if (rows[i].pid != NULL)
            setenv("WATCHDOG_PID", rows[i].pid, 1);
        print_message("  %s\n", rows[i].usec != NULL ? rows[i].usec : "unset");
        assert_int_equal(notify_watch_ms(), rows[i].want_ms);
    }
}

static void
alive_is_told_no_more_often_than_wanted(void **state)
{
    static const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    struct manager *m = *state;

    notify_alive(); /* nobody wants to know */
    assert_silent(m->fd);
    setenv("WATCHDOG_USEC", "3600000000", 1);
    notify_alive();
    assert_told(m->fd, "WATCHDOG=1");
    notify_alive();
    assert_silent(m->fd);
    setenv("WATCHDOG_USEC", "2000", 1); /* every ms */
    nanosleep(&pause, NULL);
    notify_alive();
    assert_told(m->fd, "WATCHDOG=1");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_states_of_a_life, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_is_one_line_and_not_too_long,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_socket_with_a_name_in_the_file_system,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_notify_socket_does_no_harm, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_manager_that_hangs_does_not_stop_us,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(whether_somebody_watches, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(alive_is_told_no_more_often_than_wanted,
                                        setup, teardown),
    };

    return cmocka_run_group_tests_name("base/notify", tests, NULL, NULL);
}
