/* tests/support/killer.c - kills the process that loads it (LD_PRELOAD) at a
 * step of its work that is named, with SIGKILL.
 * SPDX-License-Identifier: Apache-2.0
 *
 * GMROUTE_KILL names steps, with commas between; each is waited for once, in
 * that order, and the last one kills:
 *
 *   CALL:WHEN[:TEXT]    CALL   send, pwrite, sync, tls_write, tls_read
 *                       WHEN   before or after the call
 *                       TEXT   found in what is sent or was read
 *
 * "send:after:354,pwrite:before": when "354" has been answered, before the
 * next write to a file.  So there is no code for it in the programs.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

enum { STEPS_MAX = 8, WORD_MAX = 64 };

static struct step {
    char call[WORD_MAX], when[WORD_MAX], text[WORD_MAX];
} steps[STEPS_MAX];
static size_t n_steps, at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void
read_steps(void)
{
    const char *s = getenv("GMROUTE_KILL");

    while (s != NULL && *s != '\0' && n_steps < STEPS_MAX) {
        struct step *x = &steps[n_steps++];

        if (sscanf(s, "%63[^:,]:%63[^:,]:%63[^,]", x->call, x->when, x->text) <
            2)
            abort();
        s = strchr(s, ',');
        s = s != NULL ? s + 1 : NULL;
    }
}

static void
pass(const char *call, const char *when, const void *data, ssize_t len)
{
    const struct step *x;

    if (n_steps == 0)
        return;
    pthread_mutex_lock(&lock);
    x = &steps[at];
    if (strcmp(x->call, call) == 0 && strcmp(x->when, when) == 0 &&
        (x->text[0] == '\0' || (len > 0 && memmem(data, (size_t)len, x->text,
                                                  strlen(x->text)) != NULL)) &&
        ++at == n_steps)
        kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&lock);
}

/* The function that this one stands before. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t
send(int fd, const void *data, size_t len, int flags)
{
    ssize_t n;

    pass("send", "before", data, (ssize_t)len);
    n = NEXT(send)(fd, data, len, flags);
    pass("send", "after", data, n);
    return n;
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t to)
{
    ssize_t n;

    pass("pwrite", "before", data, (ssize_t)len);
    n = NEXT(pwrite64)(fd, data, len, to);
    pass("pwrite", "after", data, n);
    return n;
}

int
fdatasync(int fd)
{
    int rc;

    pass("sync", "before", NULL, 0);
    rc = NEXT(fdatasync)(fd);
    pass("sync", "after", NULL, 0);
    return rc;
}

int SSL_write(void *ssl, const void *data, int len);

int
SSL_write(void *ssl, const void *data, int len)
{
    int n;

    pass("tls_write", "before", data, len);
    n = NEXT(SSL_write)(ssl, data, len);
    pass("tls_write", "after", data, n);
    return n;
}

int SSL_read(void *ssl, void *data, int len);

int
SSL_read(void *ssl, void *data, int len)
{
    int n = NEXT(SSL_read)(ssl, data, len);

    pass("tls_read", "after", data, n);
    return n;
}
