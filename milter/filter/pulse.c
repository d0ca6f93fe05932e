/* milter/filter/pulse.c - see pulse.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The milter protocol: a length of four octets, then a command and its data
 * (libmilter/mfdef.h).
 */
#include "milter/filter/pulse.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { OPTNEG = 'O', ANSWER_MIN = 13, HEAD = 5 };

/* Version 6, with everything that an MTA can offer: what is missing would be
 * logged. */
static const unsigned char hello[] = {
    0, 0, 0, 13, OPTNEG, 0, 0, 0, 6, 0, 0, 0x01, 0xff, 0, 0x1f, 0xff, 0xff};
static const unsigned char quit[] = {0, 0, 0, 1, 'Q'};

/* A new connection to the same address; each step on it ends in time. */
static int
call_listener(int listener, unsigned limit_ms)
{
    struct timeval limit = {.tv_sec = limit_ms / 1000,
                            .tv_usec = limit_ms % 1000 * 1000};
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    int fd = -1;

    memset(&at, 0, sizeof at);
    if (getsockname(listener, (struct sockaddr *)&at, &len) == 0)
        fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        connect(fd, (const struct sockaddr *)&at, len) == 0)
        return fd;
    close(fd);
    return -1;
}

bool
pulse_beats(int listener, unsigned limit_ms)
{
    unsigned char head[HEAD];
    int fd = call_listener(listener, limit_ms);
    bool beats;

    if (fd < 0)
        return false;
    beats = send(fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello &&
            recv(fd, head, sizeof head, MSG_WAITALL) == sizeof head &&
            head[0] == 0 && head[1] == 0 &&
            (head[2] << 8 | head[3]) >= ANSWER_MIN && head[4] == OPTNEG;
    if (beats)
        (void)!send(fd, quit, sizeof quit, MSG_NOSIGNAL);
    close(fd);
    return beats;
}
