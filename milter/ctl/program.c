/* milter/ctl/program.c - see program.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/clock.h"

extern char **environ;

enum { TO, FROM, SAID, PIPES /* its standard input, output, error */ };

struct run {
    const struct program *p;
    pid_t pid;
    int fd[PIPES];       /* our ends; -1 = closed */
    size_t written;      /* of the input */
    char *text[PIPES];   /* FROM, SAID */
    size_t len[PIPES];   /* octets read */
    uint64_t end_ms;     /* CLOCK_MONOTONIC */
    const char *trouble; /* why it is to be killed; NULL = nothing */
};

static uint64_t
now_ms(void)
{
    return clock_us() / 1000;
}

static void
close_all(int *fd, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

/* A name that PATH does not lead to: a person's PATH often has no sbin. */
static int
spawn_named(struct run *r, posix_spawn_file_actions_t *files,
            posix_spawnattr_t *attr)
{
    const char *name = r->p->argv[0];
    char *const *argv = (char *const *)r->p->argv;
    char path[256];
    int error = posix_spawnp(&r->pid, name, files, attr, argv, environ);

    if (error != ENOENT || strchr(name, '/') != NULL)
        return error;
    snprintf(path, sizeof path, "/usr/sbin/%s", name);
    return posix_spawn(&r->pid, path, files, attr, argv, environ);
}

static int
spawn(struct run *r, int theirs[PIPES])
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int error = posix_spawn_file_actions_init(&files);

    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attr);
    if (error == 0) {
        for (int i = 0; i < PIPES && error == 0; i++)
            error = posix_spawn_file_actions_adddup2(&files, theirs[i], i);
        posix_spawnattr_setpgroup(&attr, 0);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
        if (error == 0)
            error = spawn_named(r, &files, &attr);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/* False with errno. */
static bool
start(struct run *r)
{
    int theirs[PIPES] = {-1, -1, -1}, pair[2], error = 0;

    for (int i = 0; i < PIPES && error == 0; i++) {
        if (pipe2(pair, O_CLOEXEC) != 0) {
            error = errno;
            break;
        }
        r->fd[i] = pair[i == TO];
        theirs[i] = pair[i != TO];
        if (fcntl(r->fd[i], F_SETFL, O_NONBLOCK) != 0)
            error = errno;
    }
    if (error == 0)
        error = spawn(r, theirs);
    close_all(theirs, PIPES);
    errno = error;
    return error == 0;
}

static void
shut(struct run *r, int which)
{
    close(r->fd[which]);
    r->fd[which] = -1;
}

static void
write_some(struct run *r)
{
    const char *input = r->p->input != NULL ? r->p->input : "";
    size_t left = strlen(input) - r->written;
    ssize_t n = left > 0 ? write(r->fd[TO], input + r->written, left) : 0;

    if (n > 0)
        r->written += (size_t)n;
    if (r->written == strlen(input) ||
        (n < 0 && errno != EAGAIN && errno != EINTR))
        shut(r, TO); /* it may end without reading all */
}

static void
read_some(struct run *r, int which)
{
    size_t room = PROGRAM_OUTPUT_MAX - r->len[which];
    ssize_t n = read(r->fd[which], r->text[which] + r->len[which], room);

    if (n > 0)
        r->len[which] += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        shut(r, which);
    if (r->len[which] == PROGRAM_OUTPUT_MAX)
        r->trouble = "prints without end";
}

static void
converse(struct run *r)
{
    while (r->trouble == NULL && (r->fd[FROM] >= 0 || r->fd[SAID] >= 0)) {
        struct pollfd p[PIPES];
        uint64_t now = now_ms();

        if (now >= r->end_ms) {
            r->trouble = "did not end in time";
            break;
        }
        for (int i = 0; i < PIPES; i++)
            p[i] = (struct pollfd){.fd = r->fd[i],
                                   .events = i == TO ? POLLOUT : POLLIN};
        if (poll(p, PIPES, (int)(r->end_ms - now)) <= 0)
            continue;
        if (p[TO].revents != 0)
            write_some(r);
        for (int i = FROM; i < PIPES && r->trouble == NULL; i++)
            if (p[i].revents != 0)
                read_some(r, i);
    }
}

/* Waits for its end, and sees to it. */
static int
reap(struct run *r)
{
    static const struct timespec pause = {.tv_nsec = 2000000};
    int status = 0;
    pid_t done;

    while ((done = waitpid(r->pid, &status, WNOHANG)) == 0 ||
           (done < 0 && errno == EINTR)) {
        if (r->trouble == NULL && now_ms() >= r->end_ms)
            r->trouble = "did not end in time";
        if (r->trouble != NULL)
            kill(-r->pid, SIGKILL);
        nanosleep(&pause, NULL);
    }
    return status;
}

/* The last line that it printed as an error. */
static const char *
last_words(struct run *r)
{
    char *text = r->text[SAID], *line;
    size_t len = r->len[SAID];

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    text[len] = '\0';
    line = strrchr(text, '\n');
    return line != NULL ? line + 1 : text;
}

/* In err, also for a status of 1, what it said last. */
static bool
judge(struct run *r, int status, int *ret_status, char *err, size_t err_size)
{
    const char *name = r->p->argv[0], *words = last_words(r);

    if (r->trouble != NULL) {
        snprintf(err, err_size, "%s %s; killed", name, r->trouble);
        return false;
    }
    if (WIFSIGNALED(status)) {
        snprintf(err, err_size, "%s ended by signal %d", name,
                 WTERMSIG(status));
        return false;
    }
    *ret_status = WEXITSTATUS(status);
    if (words[0] != '\0')
        snprintf(err, err_size, "%s", words);
    else
        snprintf(err, err_size, "%s ended with status %d", name, *ret_status);
    return *ret_status == 0 ||
           (*ret_status == 1 && strstr(words, "fatal:") == NULL);
}

bool
program_answer(const struct program *p, struct arena *arena,
               const char **ret_out, int *ret_status, char *err,
               size_t err_size)
{
    struct run r = {
        .p = p, .fd = {-1, -1, -1}, .end_ms = now_ms() + p->timeout_ms};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    bool good = false;

    r.text[FROM] = malloc(PROGRAM_OUTPUT_MAX + 1);
    r.text[SAID] = malloc(PROGRAM_OUTPUT_MAX + 1);
    snprintf(err, err_size, "out of memory");
    if (r.text[FROM] != NULL && r.text[SAID] != NULL) {
        /* It may end before it has read its input. */
        sigaction(SIGPIPE, &ignore, &before);
        if (start(&r)) {
            converse(&r);
            good = judge(&r, reap(&r), ret_status, err, err_size);
        } else {
            snprintf(err, err_size, "%s: %s", p->argv[0], strerror(errno));
        }
        sigaction(SIGPIPE, &before, NULL);
    }
    close_all(r.fd, PIPES);
    if (good) {
        *ret_out = arena_copy(arena, (struct slice){r.text[FROM], r.len[FROM]});
        good = *ret_out != NULL;
        if (!good)
            snprintf(err, err_size, "out of memory");
    }
    free(r.text[FROM]);
    free(r.text[SAID]);
    return good;
}
