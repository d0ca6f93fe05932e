/* milter/ctl/control.c - gmroutectl pause, resume: asked of the agent.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter/ctl/ctl.h"
#include "policy/address.h"

enum { ANSWER_S = 60 /* the agent waits for the disk, 30 s */ };

/* The identity behind a name, or an address, of the configuration. */
static bool
find_identity(const struct policy *p, const char *word,
              char ret[IDENTITY_MAX + 1])
{
    const struct account *a = policy_account(p, word);
    struct mailbox m;

    if (a != NULL && a->is_template) {
        fprintf(stderr,
                "gmroutectl: %s is a template: give the address of one of its "
                "mailboxes\n",
                word);
        return false;
    }
    if (a != NULL)
        return mailbox_identity(a->address, a->smarthost->name, ret) != 0;
    if (strlen(word) <= IDENTITY_MAX) {
        for (size_t i = 0; i <= strlen(word); i++)
            ret[i] = slice_lower(word[i]);
        if (policy_mailbox(p, ret, &m))
            return true;
    }
    fprintf(stderr,
            "gmroutectl: %s is neither the name nor the address of an "
            "account\n",
            word);
    return false;
}

static int
agent_connect(const char *runtime)
{
    struct timeval limit = {.tv_sec = ANSWER_S};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, n = snprintf(addr.sun_path, sizeof addr.sun_path,
                         "%s/" CONTROL_SOCKET, runtime);

    if (n < 0 || (size_t)n >= sizeof addr.sun_path) {
        fprintf(stderr, "gmroutectl: state.runtime is too long\n");
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        return fd;
    }
    fprintf(stderr,
            "gmroutectl: %s: %s; does gmroute-deliver run, and are you "
            "root?\n",
            addr.sun_path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool
ask(int fd, const char *line, char ret[CONTROL_LINE_MAX])
{
    size_t len = strlen(line), n = 0;

    if (send(fd, line, len, MSG_NOSIGNAL) != (ssize_t)len)
        return false;
    while (n < CONTROL_LINE_MAX - 1) {
        ssize_t got = recv(fd, ret + n, CONTROL_LINE_MAX - 1 - n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    ret[n] = '\0';
    return n > 3 && ret[n - 1] == '\n';
}

static int
ask_agent(const char *runtime, const struct control_request *q, bool json)
{
    char line[CONTROL_LINE_MAX], answer[CONTROL_LINE_MAX];
    int fd = agent_connect(runtime);
    bool good;

    if (fd < 0)
        return CTL_USAGE;
    control_format(q, line);
    if (!ask(fd, line, answer)) {
        fputs("gmroutectl: the agent did not answer\n", stderr);
        close(fd);
        return CTL_USAGE;
    }
    close(fd);
    answer[strlen(answer) - 1] = '\0';
    good = strncmp(answer, "ok ", 3) == 0;
    if (json)
        ctl_print_json(
            json_pack("{s:b, s:s}", "done", (int)good, "answer", answer + 3));
    else
        fprintf(good ? stdout : stderr, "%s\n", answer + 3);
    return good ? CTL_GOOD : CTL_NO;
}

static int
change(struct ctl *c, enum control_verb verb, int argc, char **argv)
{
    struct control_request q = {.verb = verb};
    bool pause = verb == CONTROL_PAUSE;
    struct policy *p;
    int status = CTL_USAGE;
    size_t n = 0;

    if (argc < 2 || (argc > 2 && !pause))
        return ctl_usage(argv[0], pause ? "ACCOUNT [REASON]" : "ACCOUNT",
                         "want an account");
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_NO;
    if (find_identity(p, argv[1], q.identity)) {
        for (int i = 2; i < argc && n < sizeof q.text - 1; i++)
            n += (size_t)snprintf(q.text + n, sizeof q.text - n, "%s%s",
                                  i > 2 ? " " : "", argv[i]);
        status = ask_agent(p->state.runtime, &q, c->json);
    }
    policy_free(p);
    return status;
}

int
ctl_pause(struct ctl *c, int argc, char **argv)
{
    return change(c, CONTROL_PAUSE, argc, argv);
}

int
ctl_resume(struct ctl *c, int argc, char **argv)
{
    return change(c, CONTROL_RESUME, argc, argv);
}
