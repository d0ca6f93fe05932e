/* milter/base/notify.c - see notify.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter/base/clock.h"

enum { STATUS_MAX = 400 /* octets */ };

static void
send_text(const char *text)
{
    static const struct timeval limit = {.tv_sec = 1};
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;
    int fd;

    if (len < 2 || (path[0] != '/' && path[0] != '@') ||
        len >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, len);
    if (path[0] == '@') /* the abstract name space: unix(7) */
        to.sun_path[0] = '\0';

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* A manager that does not listen must not stop the mail. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

void
notify_ready(const char *fmt, ...)
{
    static const char head[] = "READY=1\nSTATUS=";
    char text[sizeof head + STATUS_MAX], *line = text + sizeof head - 1;
    va_list ap;

    memcpy(text, head, sizeof head);
    va_start(ap, fmt);
    vsnprintf(line, STATUS_MAX, fmt, ap);
    va_end(ap);
    for (; *line != '\0'; line++)
        if (*line == '\n')
            *line = ' '; /* a line would be another variable */
    send_text(text);
}

/* The time tells reloads apart (Type=notify-reload). */
void
notify_reloading(void)
{
    char text[64];

    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             clock_us());
    send_text(text);
}

void
notify_stopping(void)
{
    send_text("STOPPING=1");
}

/* ---- the watchdog ---- */

/* A whole decimal number, alone; 0 = it is none. */
static uint64_t
number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    uint64_t n;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    n = strtoull(text, &end, 10);
    return *end == '\0' ? n : 0;
}

uint64_t
notify_watch_ms(void)
{
    uint64_t pid = number_of("WATCHDOG_PID");

    /* Meant for another process that has handed its environment on? */
    if (pid != 0 && pid != (uint64_t)getpid())
        return 0;
    return number_of("WATCHDOG_USEC") / 2000;
}

void
notify_alive(void)
{
    static uint64_t told_us; /* 0 = never */
    uint64_t every_us = notify_watch_ms() * 1000, now_us = clock_us();

    if (every_us == 0 || (told_us != 0 && now_us - told_us < every_us))
        return;
    told_us = now_us;
    send_text("WATCHDOG=1");
}
