/* tests/unit/ctl/test_redirect_wait.c - mirrors milter/ctl/redirect_wait.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/redirect_wait.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/clock.h"

#define GOOD "GET /?state=right&code=4/x HTTP/1.1\r\nHost: x\r\n\r\n"

static int
visit(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        return -1;
    return fd;
}

/* What a browser does; a thread may not use cmocka. */
struct browser {
    uint16_t port;
    int silent;         /* connections that say nothing, opened first */
    const char *first;  /* a request before the good one; NULL = none */
    const char *second; /* NULL = none */
    char answer[4000];  /* to the first */
};

static void
ask(uint16_t port, const char *request, char *ret, size_t size)
{
    int fd = visit(port);
    size_t n = 0;
    ssize_t got;

    /* In single octets: no request comes as one. */
    for (const char *c = request; fd >= 0 && *c != '\0'; c++)
        if (send(fd, c, 1, MSG_NOSIGNAL) != 1)
            break;
    while (fd >= 0 && n < size - 1 &&
           (got = recv(fd, ret + n, size - 1 - n, 0)) > 0)
        n += (size_t)got;
    ret[n] = '\0';
    if (fd >= 0)
        close(fd);
}

static void *
browse(void *cookie)
{
    struct browser *b = cookie;
    int silent[20];
    char rest[4000];

    for (int i = 0; i < b->silent; i++)
        silent[i] = visit(b->port);
    if (b->first != NULL)
        ask(b->port, b->first, b->answer, sizeof b->answer);
    if (b->second != NULL)
        ask(b->port, b->second, rest, sizeof rest);
    for (int i = 0; i < b->silent; i++)
        close(silent[i]);
    return NULL;
}

static enum redirect_wait
wait_for(struct browser *b, uint64_t ms, struct redirect *ret)
{
    char err[200];
    int fd = redirect_listen(0, &b->port, err, sizeof err);
    enum redirect_wait result;
    pthread_t thread;

    assert_true(fd >= 0);
    assert_int_equal(pthread_create(&thread, NULL, browse, b), 0);
    result = redirect_wait(fd, "right", clock_boot_ms(&clock_real) + ms, ret);
    close(fd);
    pthread_join(thread, NULL);
    return result;
}

static void
comes(void **state)
{
    struct browser b = {.first = GOOD};
    struct redirect r;

    (void)state;
    assert_int_equal(wait_for(&b, 10000, &r), REDIRECT_COME);
    assert_string_equal(r.code, "4/x");
    assert_non_null(strstr(b.answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(b.answer, "no-store"));
    assert_null(strstr(b.answer, "4/x")); /* the page repeats nothing */
}

static void
others_come_before(void **state)
{
    static const struct {
        const char *request, *answer;
    } before[] = {
        {"GET /favicon.ico HTTP/1.1\r\n\r\n", "404 Not Found"},
        {"GET /?state=wrong&code=c HTTP/1.1\r\n\r\n", "Not this login"},
        {"GET /?state=righ&code=c HTTP/1.1\r\n\r\n", "Not this login"},
        {"GET /?state=wrong&error=access_denied HTTP/1.1\r\n\r\n",
         "Not this login"},
        {"GET /?code=c HTTP/1.1\r\n\r\n", "Not this login"},
        {"nonsense\r\n\r\n", "400 Bad Request"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        struct browser b = {.first = before[i].request, .second = GOOD};
        struct redirect r;

        assert_int_equal(wait_for(&b, 10000, &r), REDIRECT_COME);
        assert_non_null(strstr(b.answer, before[i].answer));
    }
}

static void
more_connections_than_are_kept(void **state)
{
    struct browser b = {.silent = 20, .first = GOOD};
    struct redirect r;

    (void)state;
    assert_int_equal(wait_for(&b, 10000, &r), REDIRECT_COME);
}

static void
nobody_comes(void **state)
{
    struct browser silent = {.silent = 1};
    struct browser stranger = {.first =
                                   "GET /?state=wrong&code=c HTTP/1.1\r\n\r\n"};
    struct redirect r;

    (void)state;
    assert_int_equal(wait_for(&silent, 200, &r), REDIRECT_TIMEOUT);
    assert_int_equal(wait_for(&stranger, 2000, &r), REDIRECT_FOREIGN);
}

static void
a_port_that_is_taken(void **state)
{
    char err[200] = "";
    uint16_t port, again;
    int fd = redirect_listen(0, &port, err, sizeof err);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(redirect_listen(port, &again, err, sizeof err), -1);
    assert_non_null(strstr(err, "in use"));
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes),
        cmocka_unit_test(others_come_before),
        cmocka_unit_test(more_connections_than_are_kept),
        cmocka_unit_test(nobody_comes),
        cmocka_unit_test(a_port_that_is_taken),
    };

    return cmocka_run_group_tests_name("ctl/redirect_wait", tests, NULL, NULL);
}
