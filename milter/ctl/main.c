/* milter/ctl/main.c - gmroutectl: the command tree.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/ctl.h"

static const struct command {
    const char *name;
    int (*run)(struct ctl *c, int argc, char **argv);
    const char *help;
} commands[] = {
    {"check", ctl_check, "load the configuration, run the policy's tests"},
    {"explain", ctl_explain, "why a message would go where it goes"},
    {"replay", ctl_replay, "what the policy would do with a log's mail"},
    {"status", ctl_status, "what needs a person, what runs, what waits"},
    {"accounts", ctl_accounts, "a line for each account"},
    {"quota", ctl_quota, "what is used, what is left, when room returns"},
    {"sessions", ctl_sessions, "open and busy sessions to Gmail"},
    {"tokens", ctl_tokens, "age and state of every access token"},
    {"log", ctl_log, "what was tried and what Gmail said, from the ledger"},
    {"top", ctl_top, "what is being sent, as it happens"},
    {"metrics", ctl_metrics, "counters and gauges for Prometheus"},
    {"pause", ctl_pause, "send nothing through an account until it is resumed"},
    {"resume", ctl_resume, "end a pause, cooling, or being out of service"},
    {"divert", ctl_divert, "send one account's mail through another"},
    {"quota-reset", ctl_quota_reset, "forget what an account has sent"},
    {"reload", ctl_reload, "have the daemons load the configuration again"},
    {"login", ctl_login, "a person's consent, for a refresh token"},
    {"verify", ctl_verify, "really log in, and say what failed"},
    {"token", ctl_token, "a current access token, for other programs"},
    {"doctor", ctl_doctor, "what is wrong with the MTA and this host"},
    {"mta-config", ctl_mta_config, "the lines to add to the MTA"},
};

static void
usage(FILE *to)
{
    fputs("usage: gmroutectl [-c FILE] [--json] COMMAND [OPTIONS]\n"
          "  -c FILE   configuration, default /etc/gmroute/gmroute.yaml\n"
          "  --json    for scripts\n"
          "commands:\n",
          to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
}

/* Takes -c FILE and --json out of the words, wherever they stand. */
static bool
global_options(struct ctl *c, int *argc, char **argv)
{
    int n = 0;

    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            c->json = true;
        } else if (strcmp(argv[i], "-c") == 0) {
            if (i + 1 == *argc) {
                fputs("gmroutectl: -c: want a file\n", stderr);
                return false;
            }
            c->file = argv[++i];
        } else {
            argv[n++] = argv[i];
        }
    }
    argv[n] = NULL;
    *argc = n;
    return true;
}

int
main(int argc, char **argv)
{
    struct ctl c = {.file = "/etc/gmroute/gmroute.yaml"};

    if (!global_options(&c, &argc, argv))
        return CTL_USAGE;
    if (argc < 2) {
        usage(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return CTL_GOOD;
    }
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
        puts("gmroutectl " GMROUTE_VERSION);
        return CTL_GOOD;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&c, argc - 1, argv + 1);
    fprintf(stderr, "gmroutectl: %s: no such command\n", argv[1]);
    usage(stderr);
    return CTL_USAGE;
}
