/* milter/base/connect.c - stream_connect: from a name to a connected stream.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/stream.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "milter/base/clock.h"

/* Waits for a connect(2) under way; its errno, 0 = connected. */
static int
wait_connected(int fd, uint64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;

    for (;;) {
        uint64_t now = clock_boot_ms(&clock_real);
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        int n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);

        if (n > 0)
            break;
        if (n < 0 && errno != EINTR)
            return errno;
        if (clock_boot_ms(&clock_real) >= deadline_ms)
            return ETIMEDOUT;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return errno;
    return error;
}

/* The socket, or -1 with errno. */
static int
connect_to(const struct addrinfo *to, uint64_t deadline_ms)
{
    int on = 1, error = 0;
    int fd =
        socket(to->ai_family, to->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
               to->ai_protocol);

    if (fd < 0)
        return -1;
    /* Commands are small and each is waited for: Nagle would only delay. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0)
        error = errno == EINPROGRESS || errno == EINTR
                    ? wait_connected(fd, deadline_ms)
                    : errno;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

/* "ADDRESS: reason" behind the text so far, as far as it fits. */
static void
add_reason(char *err, size_t err_size, const char *separator,
           const struct addrinfo *to, int error)
{
    char address[NI_MAXHOST] = "?";
    size_t len = strnlen(err, err_size);

    getnameinfo(to->ai_addr, to->ai_addrlen, address, sizeof address, NULL, 0,
                NI_NUMERICHOST);
    snprintf(err + len, err_size - len, "%s%s: %s", separator, address,
             strerror(error));
}

struct stream *
stream_connect(const char *host, uint16_t port, uint64_t deadline_ms, char *err,
               size_t err_size)
{
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV,
    };
    struct addrinfo *list = NULL;
    struct stream *s = NULL;
    uint64_t n_left = 0;
    char service[8];
    int fd = -1, r;

    snprintf(service, sizeof service, "%u", (unsigned)port);
    r = getaddrinfo(host, service, &hints, &list);
    if (r != 0) {
        snprintf(err, err_size, "cannot find the address of %s: %s", host,
                 r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
        return NULL;
    }
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        n_left++;

    snprintf(err, err_size, "cannot connect to %s port %u:", host,
             (unsigned)port);
    for (const struct addrinfo *a = list; a != NULL && fd < 0;
         a = a->ai_next, n_left--) {
        uint64_t now = clock_boot_ms(&clock_real);
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;

        /* An address that does not answer leaves its share to the others. */
        fd = connect_to(a, now + left / n_left);
        if (fd < 0)
            add_reason(err, err_size, a == list ? " " : "; ", a, errno);
    }
    freeaddrinfo(list);
    if (fd < 0)
        return NULL;

    s = stream_from_fd(fd);
    if (s == NULL)
        snprintf(err, err_size, "out of memory");
    else if (err_size > 0)
        err[0] = '\0';
    return s;
}
