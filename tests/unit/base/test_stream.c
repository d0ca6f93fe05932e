/* tests/unit/base/test_stream.c - mirrors milter/base/stream.c and connect.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/clock.h"
#include "milter/base/stream.h"

enum { SOON = 30000 /* ms; long, for a slow machine: never waited out */ };

static uint64_t
in_ms(uint64_t ms)
{
    return clock_boot_ms(&clock_real) + ms;
}

/* A stream and the other end of its socket. */
static struct stream *
pair_up(int *ret_peer)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    *ret_peer = pair[1];
    return stream_from_fd(pair[0]);
}

static void
reads_what_is_there(void **state)
{
    char got[10];
    size_t n = 0;
    int peer;
    struct stream *s = pair_up(&peer);

    (void)state;
    assert_int_equal(write(peer, "hello", 5), 5);
    assert_int_equal(stream_read(s, got, sizeof got, in_ms(SOON), &n),
                     STREAM_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(got, "hello", 5);
    assert_string_equal(stream_tls_info(s), "");
    close(peer);
    n = 77;
    assert_int_equal(stream_read(s, got, sizeof got, in_ms(SOON), &n),
                     STREAM_EOF);
    assert_int_equal(n, 77);
    assert_string_equal(stream_error(s), "the peer closed the connection");
    stream_close(s);
}

static void
a_deadline_ends_a_read(void **state)
{
    char got[10];
    size_t n = 77;
    int peer;
    struct stream *s = pair_up(&peer);
    uint64_t from = clock_boot_ms(&clock_real);

    (void)state;
    assert_int_equal(stream_read(s, got, sizeof got, from + 50, &n),
                     STREAM_ETIMEOUT);
    assert_true(clock_boot_ms(&clock_real) >= from + 50);
    assert_int_equal(n, 77);
    assert_string_equal(stream_error(s), "timeout");
    /* Nothing is broken by it, and what came in time is read late. */
    assert_int_equal(write(peer, "x", 1), 1);
    assert_int_equal(stream_read(s, got, sizeof got, from, &n), STREAM_OK);
    assert_int_equal(n, 1);
    close(peer);
    stream_close(s);
}

static void
a_deadline_ends_a_write_nobody_reads(void **state)
{
    static char much[8 << 20];
    int peer;
    struct stream *s = pair_up(&peer);

    (void)state;
    assert_int_equal(stream_write(s, much, sizeof much, in_ms(50)),
                     STREAM_ETIMEOUT);
    assert_string_equal(stream_error(s), "timeout");
    close(peer);
    stream_close(s);
}

enum { MUCH = 4 << 20 };

static void *
drain(void *cookie)
{
    int fd = *(int *)cookie;
    char part[4096];
    size_t total = 0;
    unsigned char want = 0;
    ssize_t n;

    while ((n = read(fd, part, sizeof part)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if ((unsigned char)part[i] != want++)
                return NULL; /* not total: the test fails */
        total += (size_t)n;
    }
    return (void *)total;
}

static void
writes_more_than_the_socket_holds(void **state)
{
    unsigned char *much = malloc(MUCH);
    int peer;
    struct stream *s = pair_up(&peer);
    pthread_t thread;
    void *total;

    (void)state;
    for (unsigned i = 0; i < MUCH; i++)
        much[i] = (unsigned char)i;
    assert_int_equal(pthread_create(&thread, NULL, drain, &peer), 0);
    assert_int_equal(stream_write(s, much, MUCH, in_ms(SOON)), STREAM_OK);
    stream_close(s);
    pthread_join(thread, &total);
    assert_int_equal((size_t)total, MUCH);
    close(peer);
    free(much);
}

/* A peer that takes one octet a look: progress, but never an end. */
static enum stream_result
write_one(void *cookie, const void *from, size_t len, uint64_t deadline_ms,
          size_t *ret_n)
{
    const struct timespec t = {.tv_nsec = 1000000};

    (void)from, (void)len, (void)deadline_ms;
    nanosleep(&t, NULL);
    (*(unsigned *)cookie)++;
    *ret_n = 1;
    return STREAM_OK;
}

static enum stream_result
read_nothing(void *cookie, void *to, size_t max, uint64_t deadline_ms,
             size_t *ret_n)
{
    (void)cookie, (void)to, (void)max, (void)deadline_ms, (void)ret_n;
    return STREAM_ELOST;
}

static void
close_nothing(void *cookie)
{
    *(unsigned *)cookie = 0;
}

static void
slow_progress_does_not_outlive_the_deadline(void **state)
{
    static const struct stream_ops ops = {read_nothing, write_one,
                                          close_nothing};
    static char much[1 << 20];
    unsigned count = 0;
    struct stream *s = stream_from_ops(&ops, &count);
    size_t n;

    (void)state;
    assert_int_equal(stream_write(s, much, sizeof much, in_ms(30)),
                     STREAM_ETIMEOUT);
    assert_true(count > 0 && count < 1000);
    /* Ops that give no reason get the result's own text. */
    assert_int_equal(stream_read(s, much, 1, in_ms(30), &n), STREAM_ELOST);
    assert_string_equal(stream_error(s), "connection lost");
    assert_true(count > 0);
    stream_close(s);
    assert_int_equal(count, 0); /* closed once */
}

/* The test program does not ignore SIGPIPE, so one would end it. */
static void
a_closed_peer_raises_no_signal(void **state)
{
    int peer;
    struct stream *s = pair_up(&peer);

    (void)state;
    close(peer);
    assert_int_equal(stream_write(s, "x", 1, in_ms(SOON)), STREAM_ELOST);
    assert_string_equal(stream_error(s), strerror(EPIPE));
    stream_close(s);
}

static void
no_room_is_no_end(void **state)
{
    char got[1];
    size_t n = 77;
    int peer;
    struct stream *s = pair_up(&peer);

    (void)state;
    assert_int_equal(stream_read(s, got, 0, in_ms(SOON), &n), STREAM_ELOST);
    assert_int_equal(n, 77);
    assert_int_equal(stream_write(s, NULL, 0, in_ms(SOON)), STREAM_OK);
    close(peer);
    stream_close(s);
}

static void
quiet_looks_without_eating(void **state)
{
    char got[10];
    size_t n;
    int peer;
    struct stream *s = pair_up(&peer);

    (void)state;
    assert_true(stream_quiet(s));
    assert_true(stream_quiet(s));
    assert_int_equal(write(peer, "421", 3), 3);
    assert_false(stream_quiet(s));
    assert_false(stream_quiet(s));
    assert_int_equal(stream_read(s, got, 10, in_ms(SOON), &n), STREAM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(stream_read(s, got + 1, 9, in_ms(SOON), &n), STREAM_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(got, "421", 3);
    assert_true(stream_quiet(s));
    close(peer);
    assert_false(stream_quiet(s));
    assert_int_equal(stream_read(s, got, 10, in_ms(SOON), &n), STREAM_EOF);
    stream_close(s);
}

static void *
abort_soon(void *cookie)
{
    const struct timespec t = {.tv_nsec = 30000000};

    nanosleep(&t, NULL);
    stream_abort(cookie);
    return NULL;
}

static void
abort_ends_a_blocked_read_and_write(void **state)
{
    static char much[8 << 20];

    (void)state;
    for (unsigned writing = 0; writing < 2; writing++) {
        int peer;
        struct stream *s = pair_up(&peer);
        pthread_t thread;
        size_t n;

        assert_int_equal(pthread_create(&thread, NULL, abort_soon, s), 0);
        assert_int_equal(writing
                             ? stream_write(s, much, sizeof much, in_ms(SOON))
                             : stream_read(s, much, 1, in_ms(SOON), &n),
                         STREAM_ELOST);
        assert_string_equal(stream_error(s), "given up by this side");
        pthread_join(thread, NULL);
        assert_int_equal(stream_read(s, much, 1, in_ms(SOON), &n),
                         STREAM_ELOST);
        assert_int_equal(stream_write(s, "x", 1, in_ms(SOON)), STREAM_ELOST);
        assert_false(stream_quiet(s));
        close(peer);
        stream_close(s);
    }
}

static void
takes_no_bad_descriptor(void **state)
{
    (void)state;
    assert_null(stream_from_fd(-1));
    stream_close(NULL);
}

/* ---- connecting ---- */

static int
listen_on_loopback(uint16_t *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static void
connects_by_name_and_address(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    uint16_t port;
    int listener = listen_on_loopback(&port);

    (void)state;
    assert_int_equal(listen(listener, 5), 0);
    for (unsigned i = 0; i < 2; i++) {
        char err[200] = "?", got[2];
        size_t n;
        struct stream *s =
            stream_connect(hosts[i], port, in_ms(SOON), err, sizeof err);
        int peer;

        assert_string_equal(err, "");
        assert_non_null(s);
        peer = accept(listener, NULL, NULL);
        assert_int_equal(write(peer, "hi", 2), 2);
        assert_int_equal(stream_read(s, got, 2, in_ms(SOON), &n), STREAM_OK);
        close(peer);
        stream_close(s);
    }
    close(listener);
}

static void
says_why_it_cannot_connect(void **state)
{
    char err[200] = "", tiny[20];
    uint16_t port;
    int not_listening = listen_on_loopback(&port);

    (void)state;
    assert_null(
        stream_connect("127.0.0.1", port, in_ms(SOON), err, sizeof err));
    assert_non_null(strstr(err, "cannot connect to 127.0.0.1 port "));
    assert_non_null(strstr(err, ": 127.0.0.1: Connection refused"));
    assert_null(
        stream_connect("127.0.0.1", port, in_ms(SOON), tiny, sizeof tiny));
    assert_string_equal(tiny, "cannot connect to 1");
    assert_null(stream_connect("127.0.0.1", port, in_ms(SOON), tiny, 1));
    assert_string_equal(tiny, "");
    close(not_listening);

    assert_null(stream_connect("no-such-host.invalid", 25, in_ms(SOON), err,
                               sizeof err));
    assert_non_null(
        strstr(err, "cannot find the address of no-such-host.invalid: "));
    assert_null(stream_connect("", 25, in_ms(SOON), err, sizeof err));
    assert_null(stream_connect("a b", 25, in_ms(SOON), err, sizeof err));
}

/* A listener whose queue is full answers no further SYN. */
static void
a_deadline_ends_a_connect(void **state)
{
    enum { MANY = 20 };
    uint16_t port;
    int listener = listen_on_loopback(&port);
    struct stream *s[MANY];
    char err[200] = "";
    unsigned n = 0;

    (void)state;
    assert_int_equal(listen(listener, 0), 0);
    while (n < MANY) {
        s[n] = stream_connect("127.0.0.1", port, in_ms(300), err, sizeof err);
        if (s[n] == NULL)
            break;
        n++;
    }
    assert_true(n < MANY);
    assert_non_null(strstr(err, "127.0.0.1: Connection timed out"));
    while (n > 0)
        stream_close(s[--n]);
    close(listener);
}

static void
texts_for_all_results(void **state)
{
    (void)state;
    for (int r = STREAM_OK; r <= STREAM_ETLS; r++)
        assert_string_not_equal(stream_result_text((enum stream_result)r),
                                stream_result_text((enum stream_result)99));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there),
        cmocka_unit_test(a_deadline_ends_a_read),
        cmocka_unit_test(a_deadline_ends_a_write_nobody_reads),
        cmocka_unit_test(writes_more_than_the_socket_holds),
        cmocka_unit_test(slow_progress_does_not_outlive_the_deadline),
        cmocka_unit_test(a_closed_peer_raises_no_signal),
        cmocka_unit_test(no_room_is_no_end),
        cmocka_unit_test(quiet_looks_without_eating),
        cmocka_unit_test(abort_ends_a_blocked_read_and_write),
        cmocka_unit_test(takes_no_bad_descriptor),
        cmocka_unit_test(connects_by_name_and_address),
        cmocka_unit_test(says_why_it_cannot_connect),
        cmocka_unit_test(a_deadline_ends_a_connect),
        cmocka_unit_test(texts_for_all_results),
    };

    return cmocka_run_group_tests_name("base/stream", tests, NULL, NULL);
}
