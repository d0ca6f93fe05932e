/* tests/unit/deliver/test_connection.c - an LMTP connection on its socket: how
 * long it is waited for.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/connection.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Five minutes after this clock's now are half a second from the real now:
 * RFC 5321 4.5.3.2.7 in a test's time. */
enum { COMMAND_MS = 5 * 60 * 1000, WAIT_MS = 500 };

static uint64_t
early_boot_ms(void *cookie)
{
    (void)cookie;
    return clock_boot_ms(&clock_real) - COMMAND_MS + WAIT_MS;
}

static const struct clock early = {early_boot_ms, NULL, NULL};

struct stage {
    struct relay_env env;
    struct connection connection;
    pthread_t thread;
    int fd; /* the client's end */
};

static void *
serve(void *cookie)
{
    struct stage *s = cookie;

    connection_serve(&s->connection);
    stream_close(s->connection.stream);
    return NULL;
}

static void
start(struct stage *s)
{
    int fd[2];

    memset(s, 0, sizeof *s);
    s->env.clock = &early;
    s->env.hostname = "relay.test";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    s->fd = fd[0];
    s->connection.env = &s->env;
    s->connection.stream = stream_from_fd(fd[1]);
    assert_non_null(s->connection.stream);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* Everything it says until it hangs up; the client says `text` again and again
 * every 50 ms, `times` times. */
static void
talk(struct stage *s, const char *text, int times, char *ret, size_t size)
{
    size_t len = 0;
    ssize_t n;

    for (int i = 0; i < times; i++) {
        /* It may have hung up. */
        if (send(s->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
            break;
        usleep(50 * 1000);
    }
    while ((n = recv(s->fd, ret + len, size - 1 - len, 0)) > 0)
        len += (size_t)n;
    ret[len] = 0;
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static void
a_silent_client_is_left(void **state)
{
    struct stage s;
    char said[1000];

    (void)state;
    start(&s);
    talk(&s, "", 0, said, sizeof said);
    assert_string_equal(said, "220 relay.test LMTP gmroute\r\n"
                              "421 4.4.2 Timeout\r\n");
}

/* An octet now and then is no command. */
static void
a_slow_client_is_left(void **state)
{
    struct stage s;
    char said[1000];
    uint64_t began = clock_boot_ms(&clock_real);

    (void)state;
    start(&s);
    talk(&s, "N", 200, said, sizeof said);
    assert_non_null(strstr(said, "421 4.4.2 Timeout\r\n"));
    assert_true(clock_boot_ms(&clock_real) - began < 200 * 50);
}

static void
one_that_works_is_not(void **state)
{
    struct stage s;
    char said[2000];

    (void)state;
    start(&s);
    talk(&s, "NOOP\r\n", 30, said, sizeof said);
    for (const char *at = said, *next; *at != 0; at = next + 2) {
        next = strstr(at, "\r\n");
        assert_non_null(next);
        if (next[2] == 0)
            assert_int_equal(strncmp(at, "421 4.4.2", 9), 0);
    }
    /* All thirty of them, over three times the wait. */
    assert_int_equal(strlen(said), strlen("220 relay.test LMTP gmroute\r\n") +
                                       30 * strlen("250 2.0.0 OK\r\n") +
                                       strlen("421 4.4.2 Timeout\r\n"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_client_is_left),
        cmocka_unit_test(a_slow_client_is_left),
        cmocka_unit_test(one_that_works_is_not),
    };

    return cmocka_run_group_tests_name("deliver/connection", tests, NULL, NULL);
}
