/* milter/deliver/listener.c - see listener.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/listener.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/log.h"
#include "milter/deliver/connection.h"
#include "policy/ticket.h"

enum { BACKLOG = 512, STACK_OCTETS = 512 * 1024 };

struct listener {
    int fd;
    unsigned connections_max;
    struct relay_env *env;
    char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* "" = inet */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct connection *connections;
    unsigned n;
};

struct thread_start {
    struct listener *l;
    struct connection *c;
};

/* A socket that nobody listens on any more is taken away; a live one is
 * another agent's. */
static bool
clear_path(const struct sockaddr_un *addr, char *err, size_t err_size)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool live = fd >= 0 &&
                connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0;
    struct stat st;

    if (fd >= 0)
        close(fd);
    if (live) {
        snprintf(err, err_size, "deliver.listen: another process listens on %s",
                 addr->sun_path);
        return false;
    }
    if (lstat(addr->sun_path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(addr->sun_path);
    return true;
}

static void
make_links(const char *path)
{
    const char *name = strrchr(path, '/');
    int dir_len = name != NULL ? (int)(name - path) : 0;

    for (unsigned i = 0; i < TICKET_QUEUES && name != NULL; i++) {
        char link[160];
        struct stat st;

        snprintf(link, sizeof link, "%.*s/q%02u.sock", dir_len, path, i);
        if (lstat(link, &st) == 0 && S_ISLNK(st.st_mode))
            unlink(link);
        if (symlink(name + 1, link) != 0)
            log_warn("%s: %s; mail of its queue waits in the MTA", link,
                     strerror(errno));
    }
}

static int
open_unix(struct listener *l, const char *path, char *err, size_t err_size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    mode_t mask;
    int fd, bound;

    if (strlen(path) >= sizeof addr.sun_path) {
        snprintf(err, err_size,
                 "deliver.listen: path is longer than %zu octets",
                 sizeof addr.sun_path - 1);
        return -1;
    }
    strcpy(addr.sun_path, path);
    if (!clear_path(&addr, err, err_size))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        snprintf(err, err_size, "deliver.listen: %s", strerror(errno));
        return -1;
    }
    /* Owner and group of the directory say who may connect. */
    mask = umask(0117);
    bound = bind(fd, (const struct sockaddr *)&addr, sizeof addr);
    umask(mask);
    if (bound != 0) {
        snprintf(err, err_size, "deliver.listen: %s: %s", path,
                 strerror(errno));
        close(fd);
        return -1;
    }
    strcpy(l->path, path);
    return fd;
}

static int
open_inet(const char *where, char *err, size_t err_size)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    const char *at = strchr(where, '@');
    struct addrinfo *list = NULL;
    char port[16];
    int fd = -1, code, on = 1;

    snprintf(port, sizeof port, "%.*s",
             at != NULL ? (int)(at - where) : (int)strlen(where), where);
    code = getaddrinfo(at != NULL ? at + 1 : "127.0.0.1", port, &hints, &list);
    if (code != 0) {
        snprintf(err, err_size, "deliver.listen: inet:%s: %s", where,
                 gai_strerror(code));
        return -1;
    }
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) != 0) {
            snprintf(err, err_size, "deliver.listen: inet:%s: %s", where,
                     strerror(errno));
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

struct listener *
listener_open(const char *listen_on, unsigned connections_max,
              struct relay_env *env, char *err, size_t err_size)
{
    struct listener *l = calloc(1, sizeof *l);

    if (l == NULL) {
        snprintf(err, err_size, "out of memory");
        return NULL;
    }
    snprintf(err, err_size,
             "deliver.listen: want unix:/path or inet:port@host, got \"%s\"",
             listen_on);
    l->fd = -1;
    if (strncmp(listen_on, "unix:", 5) == 0)
        l->fd = open_unix(l, listen_on + 5, err, err_size);
    else if (strncmp(listen_on, "inet:", 5) == 0)
        l->fd = open_inet(listen_on + 5, err, err_size);
    if (l->fd >= 0 && listen(l->fd, BACKLOG) != 0) {
        snprintf(err, err_size, "deliver.listen: %s", strerror(errno));
        close(l->fd);
        l->fd = -1;
    }
    if (l->fd < 0) {
        free(l);
        return NULL;
    }
    if (l->path[0] != 0)
        make_links(l->path);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->ended, NULL);
    l->connections_max = connections_max;
    l->env = env;
    return l;
}

int
listener_fd(struct listener *l)
{
    bool full;

    pthread_mutex_lock(&l->lock);
    full = l->n >= l->connections_max;
    pthread_mutex_unlock(&l->lock);
    return full ? -1 : l->fd;
}

static void *
serve(void *cookie)
{
    struct thread_start start = *(struct thread_start *)cookie;
    struct listener *l = start.l;
    struct connection *c = start.c;

    free(cookie);
    connection_serve(c);
    pthread_mutex_lock(&l->lock);
    for (struct connection **at = &l->connections; *at != NULL;
         at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    l->n--;
    pthread_cond_broadcast(&l->ended);
    stream_close(c->stream); /* under the lock: listener_close may abort it */
    pthread_mutex_unlock(&l->lock);
    free(c);
    return NULL;
}

static bool
start_thread(struct listener *l, struct connection *c)
{
    struct thread_start *start = malloc(sizeof *start);
    pthread_attr_t attr;
    pthread_t thread;
    bool ok;

    if (start == NULL)
        return false;
    *start = (struct thread_start){l, c};
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_OCTETS);
    ok = pthread_create(&thread, &attr, serve, start) == 0;
    pthread_attr_destroy(&attr);
    if (!ok)
        free(start);
    return ok;
}

void
listener_accept(struct listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    struct connection *c;

    if (fd < 0)
        return;
    c = calloc(1, sizeof *c);
    if (c != NULL)
        c->stream = stream_from_fd(fd);
    if (c == NULL || c->stream == NULL) {
        close(fd);
        free(c);
        log_error("LMTP connection refused: out of memory");
        return;
    }
    c->env = l->env;
    pthread_mutex_lock(&l->lock);
    c->next = l->connections;
    l->connections = c;
    l->n++;
    if (!start_thread(l, c)) {
        l->connections = c->next;
        l->n--;
        stream_close(c->stream);
        free(c);
        log_error("LMTP connection refused: cannot start a thread");
    }
    pthread_mutex_unlock(&l->lock);
}

/* Hangs up on those that are idle; on all when force is set. */
static void
abort_some(struct listener *l, bool force)
{
    for (struct connection *c = l->connections; c != NULL; c = c->next)
        if (force || !atomic_load(&c->busy))
            stream_abort(c->stream);
}

void
listener_stop(struct listener *l)
{
    close(l->fd);
    l->fd = -1;
    if (l->path[0] != 0)
        unlink(l->path);
    atomic_store(&l->env->stopping, true);
    pthread_mutex_lock(&l->lock);
    abort_some(l, false);
    pthread_mutex_unlock(&l->lock);
}

void
listener_close(struct listener *l, unsigned ms)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    pthread_mutex_lock(&l->lock);
    while (l->n > 0)
        if (pthread_cond_timedwait(&l->ended, &l->lock, &until) == ETIMEDOUT)
            break;
    while (l->n > 0) {
        /* Their sessions with Gmail have timeouts of their own. */
        abort_some(l, true);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&l->ended, &l->lock, &until);
    }
    pthread_mutex_unlock(&l->lock);
    pthread_cond_destroy(&l->ended);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
