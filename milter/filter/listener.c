/* milter/filter/listener.c - see listener.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/filter/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool
listener_is_unix(const char *listen)
{
    return strncasecmp(listen, "unix:", 5) == 0 ||
           strncasecmp(listen, "local:", 6) == 0 || listen[0] == '/';
}

int
listener_find(void)
{
    struct rlimit files;
    int last = 1024;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 1024)
        last = (int)files.rlim_cur;
    for (int fd = 3; fd < last; fd++) {
        int listens = 0;
        socklen_t len = sizeof listens;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 &&
            listens)
            return fd;
    }
    return -1;
}

void
listener_set_nodelay(void)
{
    int on = 1;

    setsockopt(listener_find(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool
listener_is_taken(const char *listen)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *colon = strchr(listen, ':');
    const char *path = listen[0] != '/' && colon != NULL ? colon + 1 : listen;
    bool taken;
    int fd;

    if (strlen(path) >= sizeof addr.sun_path)
        return false; /* libmilter says so */
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    taken = fd >= 0 &&
            (connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 ||
             errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return taken;
}
