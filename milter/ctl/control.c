/* milter/ctl/control.c - gmroutectl pause, resume, divert and quota-reset:
 * asked of the agent.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "milter/base/place.h"
#include "milter/ctl/look.h"

enum { ANSWER_S = 60 /* the agent waits for the disk, 30 s */ };

static int
agent_connect(const char *runtime)
{
    struct timeval limit = {.tv_sec = ANSWER_S};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char place[sizeof addr.sun_path];
    bool fits = place_of(runtime, CONTROL_PLACE, place, sizeof place, NULL);
    int fd, n = snprintf(addr.sun_path, sizeof addr.sun_path,
                         "%s/" CONTROL_SOCKET, place);

    if (!fits || n < 0 || (size_t)n >= sizeof addr.sun_path) {
        fprintf(stderr, "gmroutectl: state.runtime is too long\n");
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        connect(fd, (const struct sockaddr *)&addr, sizeof addr) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        return fd;
    }
    fprintf(stderr, "gmroutectl: nothing was changed: %s: %s; %s\n",
            addr.sun_path, strerror(errno),
            errno == EACCES
                ? "only root, the agent's own user and the group gmroute-admin "
                  "may ask for changes"
                : "gmroute-deliver does not run: start it, then ask again");
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

/* ---- the commands ---- */

/* The words from `from` on, with spaces between them. */
static void
join(int from, int argc, char **argv, char *ret, size_t size)
{
    size_t n = 0;

    ret[0] = '\0';
    for (int i = from; i < argc && n < size - 1; i++)
        n += (size_t)snprintf(ret + n, size - n, "%s%s", i > from ? " " : "",
                              argv[i]);
}

/* For account, and other (NULL = none), as the configuration has them. */
static int
change(struct ctl *c, struct control_request *q, const char *account,
       const char *other)
{
    struct policy *p = ctl_load(c, false);
    struct mailbox m;
    int status = CTL_USAGE;

    if (p != NULL && look_identity(p, account, false, &m, q->identity) &&
        (other == NULL || look_identity(p, other, false, &m, q->other))) {
        if (strcmp(q->identity, q->other) == 0)
            fprintf(stderr, "gmroutectl: %s and %s are the same account\n",
                    account, other);
        else
            status = ask_agent(p->state.runtime, q, c->json);
    }
    policy_free(p);
    return status;
}

int
ctl_pause(struct ctl *c, int argc, char **argv)
{
    struct control_request q = {.verb = CONTROL_PAUSE};

    if (argc < 2 || argv[1][0] == '-')
        return ctl_usage("pause", "ACCOUNT [REASON] [--json]",
                         "want an account");
    join(2, argc, argv, q.text, sizeof q.text);
    return change(c, &q, argv[1], NULL);
}

int
ctl_resume(struct ctl *c, int argc, char **argv)
{
    struct control_request q = {.verb = CONTROL_RESUME};

    if (argc != 2 || argv[1][0] == '-')
        return ctl_usage("resume", "ACCOUNT [--json]", "want one account");
    return change(c, &q, argv[1], NULL);
}

int
ctl_divert(struct ctl *c, int argc, char **argv)
{
    static const char synopsis[] =
        "ACCOUNT OTHER [REASON] [--json]\n"
        "       gmroutectl divert --end ACCOUNT [--json]";
    struct control_request q = {.verb = CONTROL_DIVERT};

    if (argc == 3 && strcmp(argv[1], "--end") == 0) {
        q.verb = CONTROL_DIVERT_END;
        return change(c, &q, argv[2], NULL);
    }
    if (argc < 3 || argv[1][0] == '-' || argv[2][0] == '-')
        return ctl_usage("divert", synopsis,
                         "want the account, and the one to send through "
                         "instead");
    join(3, argc, argv, q.text, sizeof q.text);
    return change(c, &q, argv[1], argv[2]);
}

/* "y" and nothing else is a yes. */
static bool
is_confirmed(const char *account)
{
    char answer[16];

    fprintf(stderr,
            "This forgets what %s has sent.  Google does not forget: what is "
            "sent now may exceed its limits and lock the account for a day.\n"
            "Go on? [y/N] ",
            account);
    return fgets(answer, sizeof answer, stdin) != NULL &&
           (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0);
}

int
ctl_quota_reset(struct ctl *c, int argc, char **argv)
{
    static const char synopsis[] = "ACCOUNT [--yes] [--json]";
    struct control_request q = {.verb = CONTROL_QUOTA_RESET};
    const char *account = NULL;
    bool yes = false;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--yes") == 0)
            yes = true;
        else if (account != NULL || argv[i][0] == '-')
            return ctl_usage("quota-reset", synopsis, "unknown word %s",
                             argv[i]);
        else
            account = argv[i];
    if (account == NULL)
        return ctl_usage("quota-reset", synopsis, "want an account");
    if (!yes && !isatty(STDIN_FILENO))
        return ctl_usage("quota-reset", synopsis,
                         "nobody is there to confirm it: give --yes");
    if (!yes && !is_confirmed(account)) {
        fputs("gmroutectl: nothing was changed\n", stderr);
        return CTL_NO;
    }
    return change(c, &q, account, NULL);
}
