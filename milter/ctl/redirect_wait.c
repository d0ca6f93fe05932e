/* milter/ctl/redirect_wait.c - see redirect_wait.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Browsers open connections ahead and say nothing in them, so several are kept
 * at once; one too many takes the place of the oldest.
 */
#include "milter/ctl/redirect_wait.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "milter/base/clock.h"

enum { CONNECTIONS = 8 };

struct connection {
    int fd; /* -1 = free */
    uint64_t since_ms;
    size_t len;
    char data[REDIRECT_HEAD_MAX];
};

struct waiting {
    int listener;
    const char *state;
    bool foreign; /* one with another state has come */
    struct redirect *ret;
    struct connection at[CONNECTIONS];
};

int
redirect_listen(uint16_t port, uint16_t *ret_port, char *err, size_t err_size)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof a;
    int on = 1;

    if (fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
        listen(fd, CONNECTIONS) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &size) == 0) {
        *ret_port = ntohs(a.sin_port);
        return fd;
    }
    snprintf(err, err_size, "cannot listen at 127.0.0.1 port %u: %s", port,
             strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* ---- answers ---- */

#define PAGE(title, text)                                             \
    ("<!DOCTYPE html>\n<html lang=\"en\"><meta "                      \
     "charset=\"utf-8\"><title>" title                                \
     "</title>\n<body style=\"font-family:sans-serif;max-width:40em;" \
     "margin:4em auto\"><h1>" title "</h1><p>" text "</p></body></html>\n")

static void
respond(struct connection *c, const char *status, const char *page)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\n"
                     "Content-Length: %zu\r\nCache-Control: no-store\r\n"
                     "Referrer-Policy: no-referrer\r\nConnection: close\r\n"
                     "\r\n%s",
                     status, strlen(page), page);

    /* Fits into any socket buffer; who does not take it is left. */
    if (n > 0 && (size_t)n < sizeof text)
        (void)!send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
drop(struct connection *c)
{
    if (c->fd >= 0) {
        shutdown(c->fd, SHUT_WR);
        close(c->fd);
    }
    explicit_bzero(c->data, sizeof c->data);
    c->fd = -1;
    c->len = 0;
}

/* In a time that does not tell how much of it was right. */
static bool
is_ours(const struct waiting *w, const char *state)
{
    size_t n = strlen(w->state);

    return strlen(state) == n && CRYPTO_memcmp(w->state, state, n) == 0;
}

/* True: the wait is over. */
static bool
answer(struct waiting *w, struct connection *c)
{
    struct redirect r;
    bool over = false;

    memset(&r, 0, sizeof r);
    switch (redirect_request((struct slice){c->data, c->len}, &r)) {
    case REDIRECT_MORE:
        return false;
    case REDIRECT_OTHER:
        respond(c, "404 Not Found", PAGE("Not here", "There is no such page."));
        break;
    case REDIRECT_BAD:
        respond(c, "400 Bad Request",
                PAGE("Not understood", "This is no answer to a login."));
        break;
    case REDIRECT_ANSWER:
        over = is_ours(w, r.state);
        w->foreign |= !over;
        if (!over)
            respond(c, "400 Bad Request",
                    PAGE("Not this login",
                         "This answers another login than the one that "
                         "gmroutectl is waiting for. Open the address that it "
                         "shows now."));
        else if (r.error[0] != '\0')
            respond(c, "200 OK",
                    PAGE("Not logged in",
                         "gmroutectl says what is wrong. You can close this "
                         "page."));
        else
            respond(c, "200 OK",
                    PAGE("Thank you",
                         "gmroutectl goes on by itself and says how it went. "
                         "You can close this page."));
        break;
    }
    if (over)
        memcpy(w->ret, &r, sizeof r);
    explicit_bzero(&r, sizeof r);
    drop(c);
    return over;
}

/* ---- connections ---- */

static void
take(struct waiting *w, uint64_t now_ms)
{
    int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *place = &w->at[0];

    if (fd < 0)
        return;
    for (int i = 0; i < CONNECTIONS; i++) {
        if (w->at[i].fd < 0) {
            place = &w->at[i];
            break;
        }
        if (w->at[i].since_ms < place->since_ms)
            place = &w->at[i];
    }
    drop(place);
    place->fd = fd;
    place->since_ms = now_ms;
}

static bool
read_more(struct waiting *w, struct connection *c)
{
    ssize_t n = recv(c->fd, c->data + c->len, sizeof c->data - c->len, 0);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return false;
    if (n <= 0) {
        drop(c);
        return false;
    }
    c->len += (size_t)n;
    return answer(w, c);
}

/* One round; true: the wait is over. */
static bool
look(struct waiting *w, uint64_t now_ms, uint64_t deadline_ms, int *ret_error)
{
    uint64_t left_ms = deadline_ms - now_ms;
    struct pollfd p[CONNECTIONS + 1] = {{.fd = w->listener, .events = POLLIN}};

    for (int i = 0; i < CONNECTIONS; i++)
        p[i + 1] = (struct pollfd){.fd = w->at[i].fd, .events = POLLIN};
    *ret_error = 0;
    if (poll(p, CONNECTIONS + 1, left_ms < 1000 ? (int)left_ms : 1000) < 0) {
        *ret_error = errno == EINTR ? 0 : errno;
        return false;
    }
    for (int i = 0; i < CONNECTIONS; i++)
        if (p[i + 1].revents != 0 && read_more(w, &w->at[i]))
            return true;
    if (p[0].revents != 0)
        take(w, now_ms);
    return false;
}

enum redirect_wait
redirect_wait(int fd, const char *state, uint64_t deadline_ms,
              struct redirect *ret)
{
    struct waiting *w = calloc(1, sizeof *w);
    enum redirect_wait result = REDIRECT_FAILED;
    uint64_t now_ms;
    int error = ENOMEM;

    if (w == NULL)
        return REDIRECT_FAILED;
    w->listener = fd;
    w->state = state;
    w->ret = ret;
    for (int i = 0; i < CONNECTIONS; i++)
        w->at[i].fd = -1;
    for (;;) {
        now_ms = clock_boot_ms(&clock_real);
        if (now_ms >= deadline_ms) {
            result = w->foreign ? REDIRECT_FOREIGN : REDIRECT_TIMEOUT;
            break;
        }
        if (look(w, now_ms, deadline_ms, &error)) {
            result = REDIRECT_COME;
            break;
        }
        if (error != 0)
            break;
    }
    for (int i = 0; i < CONNECTIONS; i++)
        drop(&w->at[i]);
    free(w);
    errno = error;
    return result;
}
