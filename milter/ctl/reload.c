/* milter/ctl/reload.c - gmroutectl reload: the daemons load the configuration
 * again.
 * SPDX-License-Identifier: Apache-2.0
 *
 * It is loaded here first, so that a broken one signals nobody.  The order is
 * that in which they need each other: a route must not name an account that
 * the agent does not know yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "milter/ctl/look.h"

enum { COMM_MAX = 15 /* octets that the kernel keeps of a name */ };

struct daemon {
    const char *program;
    pid_t pid; /* 0 = it does not run, or cannot be told */
    bool done;
    char why[200]; /* pid is 0, or it was not done */
};

/* The memory that named this process may be old, and the number somebody
 * else's by now. */
static bool
is_called(pid_t pid, const char *program)
{
    char path[32], name[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, name, sizeof name - 1);
    close(fd);
    if (n <= 0 || name[n - 1] != '\n')
        return false;
    name[n - 1] = '\0';
    return strncmp(name, program, COMM_MAX) == 0;
}

/* Through a descriptor, so that who is asked for a name is who is signalled. */
static void
signal_daemon(struct daemon *d)
{
    int fd;

    if (d->pid <= 0)
        return;
    fd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    if (fd < 0 || !is_called(d->pid, d->program)) {
        snprintf(d->why, sizeof d->why, "process %d is not %s any more",
                 (int)d->pid, d->program);
        d->pid = 0;
    } else if (syscall(SYS_pidfd_send_signal, fd, SIGHUP, NULL, 0) == 0) {
        d->done = true;
    } else {
        snprintf(d->why, sizeof d->why, "process %d: %s%s", (int)d->pid,
                 strerror(errno),
                 errno == EPERM ? "; only root and its own user may" : "");
    }
    if (fd >= 0)
        close(fd);
}

static void
find_keeper(const struct look *k, enum segment_kind kind, struct daemon *d)
{
    struct look_daemon found;

    look_daemon(k, kind, &found);
    if (found.up)
        d->pid = (pid_t)found.info.maker_pid;
    else if (found.result == STATE_OK)
        snprintf(d->why, sizeof d->why, "does not run");
    else
        snprintf(d->why, sizeof d->why, "%s",
                 found.result == STATE_EABSENT ? "does not run" : found.why);
}

static void
find_milter(const struct look *k, struct daemon *d)
{
    char why[sizeof d->why];
    int listens =
        look_listens(k->policy->milter.listen, &d->pid, why, sizeof why);

    if (listens == 1 && d->pid == 0)
        snprintf(d->why, sizeof d->why,
                 "runs, but %s does not tell which process it is: send it "
                 "SIGHUP by hand",
                 k->policy->milter.listen);
    else if (listens != 1)
        snprintf(d->why, sizeof d->why, "%.180s", why);
}

static json_t *
json_daemon(const struct daemon *d)
{
    return json_pack(
        "{s:s, s:b, s:o, s:o}", "program", d->program, "reloads", (int)d->done,
        "pid", d->pid > 0 ? json_integer((json_int_t)d->pid) : json_null(),
        "why", d->done ? json_null() : json_string(d->why));
}

static int
reload(const struct look *k, bool json)
{
    struct daemon d[] = {{.program = "gmroute-token"},
                         {.program = "gmroute-deliver"},
                         {.program = "gmroute-milter"}};
    enum { N = sizeof d / sizeof *d };
    json_t *list = json ? json_array() : NULL;
    bool all = true;

    find_keeper(k, SEGMENT_STATUS, &d[0]);
    find_keeper(k, SEGMENT_QUOTA, &d[1]);
    find_milter(k, &d[2]);
    for (size_t i = 0; i < N; i++) {
        signal_daemon(&d[i]);
        all = all && d[i].done;
        if (json)
            json_array_append_new(list, json_daemon(&d[i]));
        else if (d[i].done)
            printf("%s (process %d) loads the configuration again\n",
                   d[i].program, (int)d[i].pid);
        else
            fprintf(stderr, "gmroutectl: %s: %s\n", d[i].program, d[i].why);
    }
    if (json)
        ctl_print_json(list);
    return all ? CTL_GOOD : CTL_NO;
}

int
ctl_reload(struct ctl *c, int argc, char **argv)
{
    struct look k;
    int status = CTL_NO;

    if (argc != 1)
        return ctl_usage("reload", "[--json]", "unknown word %s", argv[1]);
    if (look_open(&k, c))
        status = reload(&k, c->json);
    else
        fputs("gmroutectl: nobody was told to reload\n", stderr);
    look_close(&k);
    return status;
}
