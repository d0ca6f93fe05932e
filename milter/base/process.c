/* milter/base/process.c - see process.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

int
process_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;
    int error;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0) {
        errno = error;
        return -1;
    }
    if (sigaction(SIGPIPE, &ignore, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

enum process_event
process_event(int fd)
{
    struct signalfd_siginfo info;
    ssize_t n;

    do
        n = read(fd, &info, sizeof info);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof info)
        return PROCESS_NONE;
    return info.ssi_signo == SIGHUP ? PROCESS_RELOAD : PROCESS_STOP;
}

void
process_no_core(void)
{
    const struct rlimit one = {1, 1}, none = {0, 0};

    /* One octet is too little for a file, and, unlike none, stops a dump into
     * a program's pipe as well (core(5)). */
    if (setrlimit(RLIMIT_CORE, &one) != 0)
        setrlimit(RLIMIT_CORE, &none); /* lowering cannot fail */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void
process_raise_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

void
process_boot_id(uint64_t ret[2])
{
    char text[64] = "", *at = text;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0 && read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    if (fd >= 0)
        close(fd);
    ret[0] = ret[1] = 0;
    for (unsigned n = 0; n < 32; at++) {
        char digit[2] = {*at, '\0'}, *end;
        uint64_t value;

        if (*at == '-')
            continue;
        value = strtoull(digit, &end, 16);
        if (end == digit) { /* none, or not as it should be */
            ret[0] = ret[1] = 0;
            return;
        }
        ret[n / 16] = ret[n / 16] << 4 | value;
        n++;
    }
}
