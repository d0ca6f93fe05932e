/* tests/unit/oauth/test_https.c - mirrors milter/oauth/https.c, against a
 * server in this process.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/https.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/base/tls_peer.h"

#define TOO_LONG_A_LABEL \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

enum { CONNECTIONS_MAX = 32, FD_MAX = 256 };

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Sun, 01 Mar 2026 10:00:00 GMT\r\n"
                             "Retry-After: 17\r\n"
                             "Content-Length: 5\r\n"
                             "\r\n"
                             "hello";

static struct server {
    int fd;
    uint16_t port;
    char ca_file[64], connect[32];
    SSL_CTX *ctx;
    pthread_t accepting, serving[CONNECTIONS_MAX];
    atomic_uint connections, requests, resumed;
    /* what it does */
    atomic_uint most;   /* answers on one connection, then it hangs up; 0 = any
                         * number */
    atomic_bool silent; /* the request after that is read before it hangs up */
    atomic_uint pause_us;
    atomic_uint size; /* of a long answer; 0 = `answer` */
    atomic_bool hang;
} s;

/* ---- the server ---- */

static bool
read_request(SSL *ssl)
{
    char text[4096];
    size_t n = 0;

    for (;;) {
        int got = SSL_read(ssl, text + n, (int)(sizeof text - 1 - n));

        if (got <= 0)
            return false;
        n += (size_t)got;
        text[n] = '\0';
        if (strstr(text, "\r\n\r\na=b") != NULL)
            return true;
    }
}

static bool
send_answer(SSL *ssl)
{
    unsigned size = atomic_load(&s.size);
    char head[80], block[1024];

    if (size == 0)
        return SSL_write(ssl, answer, sizeof answer - 1) > 0;
    memset(block, 'x', sizeof block);
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n",
             size);
    if (SSL_write(ssl, head, (int)strlen(head)) <= 0)
        return false;
    for (unsigned sent = 0; sent < size; sent += sizeof block)
        if (SSL_write(ssl, block, sizeof block) <= 0)
            return false;
    return true;
}

static void *
serve(void *cookie)
{
    int fd = (int)(intptr_t)cookie;
    SSL *ssl = SSL_new(s.ctx);

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        unsigned most = atomic_load(&s.most);

        atomic_fetch_add(&s.resumed, SSL_session_reused(ssl) == 1);
        for (unsigned n = 0; most == 0 || n < most; n++) {
            if (!read_request(ssl))
                break;
            atomic_fetch_add(&s.requests, 1);
            while (atomic_load(&s.hang))
                usleep(1000);
            usleep(atomic_load(&s.pause_us));
            if (!send_answer(ssl))
                break;
        }
        if (atomic_load(&s.silent))
            read_request(ssl);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void *
accept_all(void *cookie)
{
    int fd;

    (void)cookie;
    while ((fd = accept(s.fd, NULL, NULL)) >= 0) {
        unsigned n = atomic_load(&s.connections);

        if (n >= CONNECTIONS_MAX || pthread_create(&s.serving[n], NULL, serve,
                                                   (void *)(intptr_t)fd) != 0)
            abort();
        atomic_store(&s.connections, n + 1);
    }
    return NULL;
}

static int
start(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct cert ca = cert_new(NULL, "Test CA", NULL, -DAY, DAY, true);
    struct cert c = cert_new(&ca, "token", "DNS:token.test", -DAY, DAY, false);
    int fd;

    (void)state;
    memset(&s, 0, sizeof s);
    snprintf(s.ca_file, sizeof s.ca_file, "/tmp/gmroute-https-XXXXXX");
    fd = mkstemp(s.ca_file);
    close(fd);
    cert_write_pem(&ca, s.ca_file);
    s.ctx = tls_peer_ctx(&c);
    cert_free(&c);
    cert_free(&ca);
    s.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s.fd < 0 || bind(s.fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(s.fd, 16) != 0 ||
        getsockname(s.fd, (struct sockaddr *)&at, &len) != 0)
        return 1;
    s.port = ntohs(at.sin_port);
    snprintf(s.connect, sizeof s.connect, "127.0.0.1:%u", s.port);
    return pthread_create(&s.accepting, NULL, accept_all, NULL);
}

static int
stop(void **state)
{
    (void)state;
    https_stop();
    shutdown(s.fd, SHUT_RDWR);
    pthread_join(s.accepting, NULL);
    close(s.fd);
    for (unsigned i = 0; i < atomic_load(&s.connections); i++)
        pthread_join(s.serving[i], NULL);
    SSL_CTX_free(s.ctx);
    unlink(s.ca_file);
    return 0;
}

/* ---- requests ---- */

static struct https_request
request(void)
{
    return (struct https_request){.url = "https://token.test/token",
                                  .connect = s.connect,
                                  .ca_file = s.ca_file,
                                  .form = "a=b",
                                  .form_len = 3,
                                  .timeout_ms = 20000};
}

static void
post_well(void)
{
    struct https_request q = request();
    struct https_answer a;

    https_post(&q, &a);
    assert_string_equal(a.error, "");
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body.len, 5);
    assert_memory_equal(a.body.at, "hello", 5);
    assert_int_equal(a.date_s, 1772359200);
    assert_int_equal(a.retry_after_s, 17);
    https_answer_free(&a);
}

/* "" = it went well. */
static const char *
error_of(const struct https_request *q)
{
    static char text[200];
    struct https_answer a;

    https_post(q, &a);
    assert_true(a.status != 0 || a.error[0] != '\0');
    snprintf(text, sizeof text, "%s", a.error);
    https_answer_free(&a);
    return text;
}

static void
one_connection_serves_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        post_well();
    assert_int_equal(atomic_load(&s.connections), 1);
    https_stop();
    post_well();
    assert_int_equal(atomic_load(&s.connections), 2);
    assert_int_equal(atomic_load(&s.requests), 11);
}

/* The server hangs up whenever it likes. */
static void
a_connection_that_is_gone_is_replaced(void **state)
{
    (void)state;
    atomic_store(&s.most, 1);
    for (unsigned i = 0; i < 5; i++) {
        post_well();
        usleep(20000);
    }
    assert_int_equal(atomic_load(&s.connections), 5);
    assert_int_equal(atomic_load(&s.requests), 5);
    assert_int_equal(atomic_load(&s.resumed), 4); /* by TLS session */
}

/* At the very moment that it is used again. */
static void
one_that_goes_under_the_request_is_replaced(void **state)
{
    (void)state;
    atomic_store(&s.most, 1);
    atomic_store(&s.silent, true);
    for (unsigned i = 0; i < 5; i++)
        post_well();
    assert_int_equal(atomic_load(&s.requests), 5);
}

static void *
post_in_thread(void *cookie)
{
    (void)cookie;
    post_well();
    return NULL;
}

static void
each_at_the_same_time_has_its_own(void **state)
{
    pthread_t thread[8];

    (void)state;
    atomic_store(&s.pause_us, 100000);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(
                pthread_create(&thread[i], NULL, post_in_thread, NULL), 0);
        for (unsigned i = 0; i < 8; i++)
            pthread_join(thread[i], NULL);
    }
    assert_int_equal(atomic_load(&s.requests), 24);
    assert_in_range(atomic_load(&s.connections), 1, 8);
}

static void
no_connection_is_handed_on(void **state)
{
    struct sockaddr_in peer;
    unsigned found = 0;

    (void)state;
    post_well();
    for (int fd = 3; fd < FD_MAX; fd++) {
        socklen_t len = sizeof peer;

        if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0 ||
            peer.sin_family != AF_INET || ntohs(peer.sin_port) != s.port)
            continue;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        found++;
    }
    assert_int_equal(found, 1);
}

static void
faults_have_sentences(void **state)
{
    struct https_request q = request();
    atomic_bool stopping = true;

    (void)state;
    q.ca_file = "/etc/passwd";
    assert_non_null(strstr(error_of(&q), "(check ca_file"));
    q.ca_file = NULL; /* the system's store knows nothing of our server */
    assert_non_null(strstr(error_of(&q), "(check ca_file or ca-cert"));
    q = request();
    q.url = "https://another.test/token";
    assert_non_null(strstr(error_of(&q), "another.test"));
    q = request();
    q.connect = TOO_LONG_A_LABEL ".invalid:443"; /* no server is asked */
    assert_non_null(strstr(error_of(&q), "(check DNS)"));
    q = request();
    q.url = "http://token.test/token";
    assert_string_not_equal(error_of(&q), "");
    q = request();
    q.connect = "127.0.0.1:1";
    assert_non_null(strstr(error_of(&q), "(check firewall and proxy)"));
    q = request();
    atomic_store(&s.size, 1 + HTTPS_BODY_MAX);
    assert_string_equal(error_of(&q), "the answer is too long");
    atomic_store(&s.size, 0);
    atomic_store(&s.hang, true);
    q.stop = &stopping;
    assert_string_equal(error_of(&q), "the daemon is stopping");
    q.stop = NULL;
    q.timeout_ms = 100;
    assert_non_null(strstr(error_of(&q), "(check firewall and proxy)"));
    atomic_store(&s.hang, false);
    post_well(); /* none of it stays behind */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_connection_serves_all),
        TEST(a_connection_that_is_gone_is_replaced),
        TEST(one_that_goes_under_the_request_is_replaced),
        TEST(each_at_the_same_time_has_its_own),
        TEST(no_connection_is_handed_on),
        TEST(faults_have_sentences),
    };

    signal(SIGPIPE, SIG_IGN);
    if (!https_start())
        return 1;
    return cmocka_run_group_tests_name("oauth/https", tests, NULL, NULL);
}
