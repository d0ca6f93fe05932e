/* milter/ctl/login.c - gmroutectl login: a person's first consent becomes the
 * account's refresh token.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Order: consent, exchange, a real login with the new token, and only then is
 * the file written, so that a login as the wrong person leaves the old token
 * where it is.  The token daemon sees the file by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/ctl/access.h"
#include "milter/ctl/ctl.h"
#include "milter/ctl/login.h"
#include "milter/oauth/grant.h"

#define SYNOPSIS "ACCOUNT [--paste] [--port PORT] [--timeout SECONDS] [--json]"

enum {
    TIMEOUT_S = 300,
    DAEMON_MS = 15000, /* for the token daemon to take the new file */
};

bool
login_fail(struct login *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(l->error, sizeof l->error, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- before anybody is asked ---- */

static bool
check_account(struct login *l)
{
    const char *path = l->m.account->secret_file;

    switch (l->m.account->auth) {
    case AUTH_REFRESH_TOKEN:
        return strncmp(path, "credential:", 11) != 0 ||
               login_fail(
                   l,
                   "%s is the service manager's to write: log in with a "
                   "configuration (-c) that names a file, put what is in it "
                   "where LoadCredential= takes it from, and restart "
                   "gmroute-token",
                   path);
    case AUTH_SERVICE_ACCOUNT:
        return login_fail(l, "%s uses a service account, which needs no login",
                          l->m.address);
    case AUTH_PASSWORD:
        return login_fail(l,
                          "%s uses an app password: put it into %s, then "
                          "\"gmroutectl verify\"",
                          l->m.address, path);
    default:
        return login_fail(l, "%s does not log in (auth: none)", l->m.address);
    }
}

/* So that nobody consents in vain. */
static bool
check_file(struct login *l)
{
    const char *path = l->m.account->secret_file;
    char directory[600];
    uid_t user;
    gid_t group;

    access_daemon(l->p, path, &user, &group);
    if (geteuid() != 0 && geteuid() != user)
        return login_fail(
            l,
            "%s is for user id %u, who runs gmroute-token: be root or "
            "that user",
            path, (unsigned)user);
    access_directory(path, directory, sizeof directory);
    if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) != 0)
        return login_fail(l, "%s: cannot write there: %s", directory,
                          strerror(errno));
    return true;
}

static bool
make_secrets(struct login *l, char challenge[OAUTH2_VERIFIER + 1])
{
    unsigned char random[2 * OAUTH2_RANDOM];
    bool ok = getentropy(random, sizeof random) == 0 &&
              oauth2_random_text(random, l->verifier) &&
              oauth2_random_text(random + OAUTH2_RANDOM, l->state) &&
              oauth2_challenge(l->verifier, challenge);

    explicit_bzero(random, sizeof random);
    return ok || login_fail(l, "no random numbers, or no memory");
}

/* ---- the token ---- */

static bool
exchange(struct login *l, struct oauth2_answer *ret)
{
    struct grant_request q = {.policy = l->p,
                              .mailbox = &l->m,
                              .clock = &clock_real,
                              .post = https_post};
    struct grant_code code = {l->answer.code, l->verifier, l->redirect_uri};

    grant_login(&q, &code, ret);
    if (ret->class != OAUTH2_OK)
        return login_fail(l, "%s", ret->why);
    if (!oauth2_scope_covers(ret->scope, l->m.account->client->scope))
        return login_fail(
            l,
            "not all was allowed: want the scope \"%s\", got \"%s\". "
            "Start again and tick every box; or the scope is missing "
            "on the client's consent screen",
            l->m.account->client->scope, ret->scope);
    if (ret->refresh_token == NULL)
        return login_fail(
            l, "the endpoint gave no refresh token. It gives one only "
               "when it is asked to (access_type=offline, prompt=consent; "
               "Microsoft: offline_access in `scope`), which was done "
               "here: check `auth_url`, or take the app's access back in "
               "the account's security settings and start again");
    return true;
}

/* Would the agent get in?  What does not speak against the token itself only
 * leaves it unproven. */
static bool
try_token(struct login *l, const struct oauth2_answer *a)
{
    struct mail_server servers[MAIL_SERVERS_MAX];
    char helo[256];
    struct mail_credentials who = {
        .sasl = {.user = l->m.address, .secret = slice_of(a->access_token)},
        .bearer = true,
        .helo = helo};

    mail_servers(l->m.account->smarthost, servers); /* the first is ours */
    ctl_helo(l->p, helo, sizeof helo);
    mail_check(&servers[0], &who, MAIL_CHECK_MS, &l->verdict);
    switch (l->verdict.fault) {
    case MAIL_TOKEN_REFUSED:
        return login_fail(
            l,
            "%s refused the new token for %s: the wrong account, most "
            "likely: the browser was logged in as somebody else. Start "
            "again in a private window. Nothing was written. (%s)",
            servers[0].host, l->m.address, l->verdict.said);
    case MAIL_WEB_LOGIN:
    case MAIL_REFUSED:
        return login_fail(l,
                          "%s refused the login: %s. %s. Nothing was written",
                          servers[0].host, l->verdict.said,
                          mail_fault_remedy(l->verdict.fault));
    default:
        return true;
    }
}

static bool
store(struct login *l, const struct oauth2_answer *a)
{
    const char *path = l->m.account->secret_file;
    char err[700];
    uid_t user;
    gid_t group;

    access_daemon(l->p, path, &user, &group);
    l->stored =
        secret_install(path, a->refresh_token, user, group, err, sizeof err);
    return l->stored || login_fail(l, "the token cannot be stored: %s", err);
}

/* Where renewal has failed the daemon tries at once when it sees the file. */
static void
await_daemon(struct login *l)
{
    static const struct timespec pause = {.tv_nsec = 100 * 1000000L};
    struct status_reader *r = status_reader_new(l->p->state.runtime, false);
    uint64_t until_ms = clock_boot_ms(&clock_real) + DAEMON_MS;
    struct token_status s;

    l->daemon = "not running: it will take the token when it starts";
    while (r != NULL && clock_boot_ms(&clock_real) < until_ms) {
        enum state_result result = status_peek(r, l->m.id, &s);

        if (result == STATE_EACCESS || result == STATE_EABSENT)
            break;
        l->daemon = "has not taken it yet: see \"gmroutectl tokens\"";
        if (result == STATE_OK && s.state == TOKEN_OK) {
            l->daemon = "ok";
            break;
        }
        nanosleep(&pause, NULL);
    }
    status_reader_free(r);
}

/* ---- all ---- */

static bool
run(struct login *l)
{
    char challenge[OAUTH2_VERIFIER + 1];
    struct oauth2_answer a = {.class = OAUTH2_CONFIG};
    bool ok;

    if (!check_account(l) || !check_file(l) || !make_secrets(l, challenge) ||
        !login_browser(l, challenge))
        return false;
    ok = exchange(l, &a) && try_token(l, &a) && store(l, &a);
    oauth2_answer_free(&a);
    if (!ok)
        return false;
    await_daemon(l);
    if (l->verdict.fault != MAIL_OK)
        return login_fail(
            l, "the token is stored, but could not be tried: %s: %s. %s",
            mail_fault_name(l->verdict.fault), l->verdict.said,
            mail_fault_remedy(l->verdict.fault));
    return true;
}

static void
report(const struct login *l, bool good)
{
    const char *path = l->m.account->secret_file;

    if (l->c->json) {
        ctl_print_json(json_pack("{s:s, s:b, s:o, s:s?, s:s}", "account",
                                 l->m.address, "done", (int)good, "stored",
                                 l->stored ? json_string(path) : json_null(),
                                 "daemon", l->daemon, "error", l->error));
        return;
    }
    if (l->stored)
        printf("refresh token  %s\ngmroute-token  %s\n", path, l->daemon);
    if (good)
        printf("login          ok: %s\n", l->verdict.said);
    else
        fprintf(stderr, "gmroutectl: %s\n", l->error);
}

static bool
read_options(struct login *l, int argc, char **argv, const char **ret_word)
{
    *ret_word = NULL;
    for (int i = 1; i < argc; i++) {
        const char *w = argv[i];

        if (strcmp(w, "--paste") == 0) {
            l->paste = true;
        } else if (strcmp(w, "--port") == 0) {
            if (!ctl_number(argv[++i], 1, 65535, &l->port)) {
                ctl_usage("login", SYNOPSIS, "--port: want 1 to 65535");
                return false;
            }
        } else if (strcmp(w, "--timeout") == 0) {
            if (!ctl_number(argv[++i], 1, 86400, &l->timeout_s)) {
                ctl_usage("login", SYNOPSIS,
                          "--timeout: want 1 to 86400 seconds");
                return false;
            }
        } else if (w[0] == '-' || *ret_word != NULL) {
            ctl_usage("login", SYNOPSIS, "unknown word %s", w);
            return false;
        } else {
            *ret_word = w;
        }
    }
    if (*ret_word == NULL)
        ctl_usage("login", SYNOPSIS, "want an account");
    return *ret_word != NULL;
}

int
ctl_login(struct ctl *c, int argc, char **argv)
{
    struct login l = {.c = c, .fd = -1, .timeout_s = TIMEOUT_S};
    const char *word;
    struct policy *p;
    int status = CTL_USAGE;

    if (!read_options(&l, argc, argv, &word))
        return CTL_USAGE;
    if (!access_start())
        return CTL_USAGE;
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_NO;
    l.p = p;
    l.say = c->json ? stderr : stdout;
    if (ctl_mailbox(p, word, &l.m)) {
        bool good = run(&l);

        report(&l, good);
        status = good ? CTL_GOOD : CTL_NO;
    }
    if (l.fd >= 0)
        close(l.fd);
    explicit_bzero(&l.answer, sizeof l.answer);
    explicit_bzero(l.verifier, sizeof l.verifier);
    policy_free(p);
    return status;
}
