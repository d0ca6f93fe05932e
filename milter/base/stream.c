/* milter/base/stream.c - see stream.h; TLS is in tls.c.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/base/stream_private.h"

const char *
stream_result_text(enum stream_result r)
{
    switch (r) {
    case STREAM_OK:
        return "ok";
    case STREAM_EOF:
        return "the peer closed the connection";
    case STREAM_ETIMEOUT:
        return "timeout";
    case STREAM_ELOST:
        return "connection lost";
    case STREAM_ETLS:
        return "TLS failed";
    }
    return "unknown result";
}

enum stream_result
stream_fail(struct stream *s, enum stream_result r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->error, sizeof s->error, fmt, ap);
    va_end(ap);
    return r;
}

const char *
stream_error(const struct stream *s)
{
    return s->error;
}

/* ---- the socket ---- */

/* Waits until the socket may be ready; a shutdown by stream_abort wakes it
 * too. */
static enum stream_result
wait_for(struct stream *s, short events, uint64_t deadline_ms)
{
    struct pollfd p = {.fd = s->fd, .events = events};

    for (;;) {
        uint64_t now = clock_boot_ms(&clock_real);
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        int n;

        if (left == 0)
            return stream_fail(s, STREAM_ETIMEOUT, "timeout");
        n = poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (n > 0)
            return STREAM_OK;
        if (n < 0 && errno != EINTR)
            return stream_fail(s, STREAM_ELOST, "poll: %s", strerror(errno));
    }
}

/* What is there is taken even when the deadline has passed: an answer that
 * came in time is not lost because this machine was slow. */
static enum stream_result
fd_read(void *cookie, void *to, size_t max, uint64_t deadline_ms, size_t *ret_n)
{
    struct stream *s = cookie;

    for (;;) {
        ssize_t n = recv(s->fd, to, max, 0);
        enum stream_result r;

        if (n > 0) {
            *ret_n = (size_t)n;
            return STREAM_OK;
        }
        if (n == 0)
            return stream_fail(s, STREAM_EOF, "%s",
                               stream_result_text(STREAM_EOF));
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return stream_fail(s, STREAM_ELOST, "%s", strerror(errno));
        r = wait_for(s, POLLIN, deadline_ms);
        if (r != STREAM_OK)
            return r;
    }
}

static enum stream_result
fd_write(void *cookie, const void *from, size_t len, uint64_t deadline_ms,
         size_t *ret_n)
{
    struct stream *s = cookie;

    for (;;) {
        ssize_t n = send(s->fd, from, len, MSG_NOSIGNAL);
        enum stream_result r;

        if (n > 0) {
            *ret_n = (size_t)n;
            return STREAM_OK;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return stream_fail(s, STREAM_ELOST, "%s", strerror(errno));
        r = wait_for(s, POLLOUT, deadline_ms);
        if (r != STREAM_OK)
            return r;
    }
}

static void
fd_close(void *cookie)
{
    struct stream *s = cookie;

    close(s->fd);
}

static const struct stream_ops fd_ops = {fd_read, fd_write, fd_close};

/* ---- any stream ---- */

struct stream *
stream_from_ops(const struct stream_ops *ops, void *cookie)
{
    struct stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->ops = ops;
    s->cookie = cookie;
    s->fd = -1;
    atomic_init(&s->aborted, false);
    return s;
}

struct stream *
stream_from_fd(int fd)
{
    struct stream *s = stream_from_ops(&fd_ops, NULL);
    int flags = fcntl(fd, F_GETFL);

    if (s == NULL || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        free(s);
        close(fd);
        return NULL;
    }
    s->cookie = s;
    s->fd = fd;
    return s;
}

void
stream_close(struct stream *s)
{
    if (s == NULL)
        return;
    s->ops->close(s->cookie);
    free(s);
}

/* The layers fill in the error where they know more than the result. */
static enum stream_result
finish(struct stream *s, enum stream_result r)
{
    if (r == STREAM_OK)
        return r;
    if (atomic_load(&s->aborted))
        return stream_fail(s, STREAM_ELOST, "given up by this side");
    if (s->error[0] == '\0')
        return stream_fail(s, r, "%s", stream_result_text(r));
    return r;
}

enum stream_result
stream_read(struct stream *s, void *to, size_t max, uint64_t deadline_ms,
            size_t *ret_n)
{
    s->error[0] = '\0';
    if (max == 0)
        return stream_fail(s, STREAM_ELOST, "no room to read into");
    if (s->has_ahead) {
        *(char *)to = s->ahead;
        s->has_ahead = false;
        *ret_n = 1;
        return STREAM_OK;
    }
    if (atomic_load(&s->aborted))
        return finish(s, STREAM_ELOST);
    return finish(s, s->ops->read(s->cookie, to, max, deadline_ms, ret_n));
}

enum stream_result
stream_write(struct stream *s, const void *from, size_t len,
             uint64_t deadline_ms)
{
    const char *at = from;

    s->error[0] = '\0';
    if (atomic_load(&s->aborted))
        return finish(s, STREAM_ELOST);
    while (len > 0) {
        size_t n = 0;
        enum stream_result r =
            s->ops->write(s->cookie, at, len, deadline_ms, &n);

        if (r != STREAM_OK)
            return finish(s, r);
        at += n;
        len -= n;
        /* A peer that takes a little at a time cannot hold us for ever. */
        if (len > 0 && clock_boot_ms(&clock_real) >= deadline_ms)
            return finish(s, STREAM_ETIMEOUT);
    }
    return STREAM_OK;
}

/* Reads with a deadline that has passed.  Under TLS this also takes in what
 * is not data, such as new session tickets, which an idle session of TLS 1.3
 * has waiting for it. */
bool
stream_quiet(struct stream *s)
{
    size_t n = 0;
    enum stream_result r;

    s->error[0] = '\0';
    if (s->has_ahead || atomic_load(&s->aborted))
        return false;
    r = s->ops->read(s->cookie, &s->ahead, 1, 0, &n);
    s->has_ahead = r == STREAM_OK;
    return r == STREAM_ETIMEOUT;
}

void
stream_abort(struct stream *s)
{
    atomic_store(&s->aborted, true);
    if (s->fd >= 0)
        shutdown(s->fd, SHUT_RDWR);
}
