/* milter/token/command.c - see command.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/clock.h"

enum { INPUT_MAX = 4096, /* fits into any pipe: PIPE_BUF */ LOOK_MS = 20 };

/* A pipe that holds the input already; -1 with errno. */
static int
input_of(const char *text)
{
    size_t len = strlen(text);
    int fd[2];

    if (len > INPUT_MAX) {
        errno = E2BIG;
        return -1;
    }
    if (pipe2(fd, O_CLOEXEC) != 0)
        return -1;
    if (write(fd[1], text, len) != (ssize_t)len) {
        close(fd[0]);
        fd[0] = -1;
    }
    close(fd[1]);
    return fd[0];
}

/* The daemon blocks signals and ignores SIGPIPE: the program must not. */
static int
spawn(const struct command *c, int input, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, usual;
    int error;

    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    error = posix_spawn_file_actions_init(&files);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attr);
    if (error != 0) {
        posix_spawn_file_actions_destroy(&files);
        return error;
    }
    posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null",
                                     O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null",
                                     O_WRONLY, 0);
    /* Not all that libraries open is closed by itself. */
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &usual);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    error = posix_spawn(ret, c->argv[0], &files, &attr, c->argv, c->env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static uint64_t
now_ms(void)
{
    return clock_us() / 1000;
}

/* Its status; sets *ret_killed. */
static int
wait_for(pid_t pid, const struct command *c, bool *ret_killed)
{
    static const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    uint64_t end_ms = now_ms() + c->timeout_ms;
    int status = 0;
    pid_t done;

    *ret_killed = false;
    while ((done = waitpid(pid, &status, WNOHANG)) == 0 ||
           (done < 0 && errno == EINTR)) {
        if (!*ret_killed &&
            (now_ms() >= end_ms || (c->stop != NULL && atomic_load(c->stop)))) {
            *ret_killed = true;
            kill(-pid, SIGKILL);
        }
        nanosleep(&pause, NULL);
    }
    return status;
}

bool
command_run(const struct command *c, char *err, size_t err_size)
{
    int input = input_of(c->input), error, status;
    bool killed;
    pid_t pid;

    if (input < 0) {
        snprintf(err, err_size, "no pipe: %s", strerror(errno));
        return false;
    }
    error = spawn(c, input, &pid);
    close(input);
    if (error != 0) {
        snprintf(err, err_size, "%s: %s", c->argv[0], strerror(error));
        return false;
    }
    status = wait_for(pid, c, &killed);
    if (killed)
        snprintf(err, err_size, "%s: did not end in time, killed", c->argv[0]);
    else if (WIFSIGNALED(status))
        snprintf(err, err_size, "%s: ended by signal %d", c->argv[0],
                 WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        snprintf(err, err_size, "%s: ended with status %d", c->argv[0],
                 WEXITSTATUS(status));
    else
        return true;
    return false;
}
