/* tests/unit/filter/test_pulse.c - mirrors milter/filter/pulse.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/filter/pulse.h"

enum { LONG_MS = 30000, SHORT_MS = 100 };

/* A filter that answers each connection with `answer`. */
struct peer {
    int listener;
    const unsigned char *answer;
    size_t len;
    unsigned char heard[64];
    size_t n_heard;
};

static void *
serve(void *cookie)
{
    struct peer *p = cookie;
    int fd = accept(p->listener, NULL, NULL);
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = recv(fd, p->heard, 17, MSG_WAITALL);
    p->n_heard = n > 0 ? (size_t)n : 0;
    send(fd, p->answer, p->len, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while ((n = recv(fd, p->heard + p->n_heard, sizeof p->heard - p->n_heard,
                     0)) > 0)
        p->n_heard += (size_t)n;
    close(fd);
    return NULL;
}

static int
listen_unix(char name[64])
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(name, 64, "/tmp/gmroute-pulse-%d", (int)getpid());
    strcpy(at.sun_path, name);
    unlink(name);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static int
listen_inet(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET}; /* any address and port */
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static bool
ask(struct peer *p)
{
    pthread_t thread;
    bool beats;

    p->n_heard = 0;
    assert_int_equal(pthread_create(&thread, NULL, serve, p), 0);
    beats = pulse_beats(p->listener, LONG_MS);
    pthread_join(thread, NULL);
    return beats;
}

static const unsigned char good[] = {0, 0, 0, 13, 'O', 0, 0, 0, 6,
                                     0, 0, 0, 1,  0,   0, 0, 0};

static void
a_filter_that_answers(void **state)
{
    static const unsigned char want[] = {0,    0, 0, 13, 'O',  0,  0,    0,
                                         6,    0, 0, 1,  0xff, 0,  0x1f, 0xff,
                                         0xff, 0, 0, 0,  1,    'Q'};
    char name[64];
    struct peer p = {.answer = good, .len = sizeof good};

    (void)state;
    p.listener = listen_unix(name);
    for (int i = 0; i < 2; i++) {
        assert_true(ask(&p));
        assert_int_equal(p.n_heard, sizeof want);
        assert_memory_equal(p.heard, want, sizeof want);
        close(p.listener);
        p.listener = listen_inet();
    }
    close(p.listener);
    unlink(name);
}

static void
one_that_answers_something_else(void **state)
{
    static const struct {
        const char *name;
        unsigned char octets[8];
        size_t len;
    } rows[] = {
        {"nothing", {0}, 0},
        {"a part", {0, 0, 0}, 3},
        {"another command", {0, 0, 0, 13, 'c'}, 5},
        {"too short to be one", {0, 0, 0, 1, 'O'}, 5},
        {"a web server", {'H', 'T', 'T', 'P', '/', '1'}, 6},
    };
    char name[64];
    struct peer p = {.listener = listen_unix(name)};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        p.answer = rows[i].octets;
        p.len = rows[i].len;
        assert_false(ask(&p));
    }
    close(p.listener);
    unlink(name);
}

/* The backlog takes the connection, and that is all that happens. */
static void
one_that_hangs(void **state)
{
    char name[64];
    int fd = listen_unix(name);

    (void)state;
    assert_false(pulse_beats(fd, SHORT_MS));
    close(fd);
    assert_false(pulse_beats(fd, SHORT_MS));
    assert_false(pulse_beats(-1, SHORT_MS));
    unlink(name);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_that_answers),
        cmocka_unit_test(one_that_answers_something_else),
        cmocka_unit_test(one_that_hangs),
    };

    return cmocka_run_group_tests_name("filter/pulse", tests, NULL, NULL);
}
