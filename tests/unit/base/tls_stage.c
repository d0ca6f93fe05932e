/* tests/unit/base/tls_stage.c - see tls_stage.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/base/tls_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

char directory[] = "/tmp/gmroute-tls-XXXXXX", ca_file[100];
struct cert ca, stranger, good;
struct tls_client *client;

uint64_t
in_ms(uint64_t ms)
{
    return clock_boot_ms(&clock_real) + ms;
}

int
setup(void **state)
{
    char err[200] = "";

    (void)state;
    /* The server side of OpenSSL writes without MSG_NOSIGNAL.  Tests of our
     * side set it back. */
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(ca_file, sizeof ca_file, "%s/ca.pem", directory);
    ca = cert_new(NULL, "Test CA", NULL, -DAY, DAY, true);
    stranger = cert_new(NULL, "Another CA", NULL, -DAY, DAY, true);
    good = cert_new(&ca, "smtp.example.com", "DNS:smtp.example.com", -DAY, DAY,
                    false);
    cert_write_pem(&ca, ca_file);
    client = tls_client_new(ca_file, err, sizeof err);
    if (client == NULL)
        print_error("%s\n", err);
    return client != NULL ? 0 : -1;
}

int
teardown(void **state)
{
    (void)state;
    tls_client_free(client);
    cert_free(&ca);
    cert_free(&stranger);
    cert_free(&good);
    unlink(ca_file);
    rmdir(directory);
    return 0;
}

/* Starts the peer at the other end of a new stream. */
struct stream *
connect_to(struct tls_peer *p)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    p->fd = pair[1];
    tls_peer_start(p);
    return stream_from_fd(pair[0]);
}

void
say_hello(struct tls_peer *p)
{
    SSL_write(p->ssl, "hello", 5);
}

enum stream_result
read_all(struct stream *s, char *to, size_t len)
{
    while (len > 0) {
        size_t n = 0;
        enum stream_result r = stream_read(s, to, len, in_ms(SOON), &n);

        if (r != STREAM_OK)
            return r;
        to += n;
        len -= n;
    }
    return STREAM_OK;
}

struct stream *
bare_pair(int *ret_peer)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    *ret_peer = pair[1];
    return stream_from_fd(pair[0]);
}

enum stream_result
start(struct stream *s, uint64_t ms)
{
    return stream_start_tls(s, client, "smtp.example.com", "k", in_ms(ms));
}

void
hang_up(struct tls_peer *p)
{
    shutdown(p->fd, SHUT_RDWR);
    close(p->fd);
    p->fd = -1;
}

void
goodbye(struct tls_peer *p)
{
    (void)p;
}

void
wait_for_eof(struct tls_peer *p)
{
    char part[100];

    while (SSL_read(p->ssl, part, sizeof part) > 0)
        ;
}
