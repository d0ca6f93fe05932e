/* milter/ctl/login_browser.c - gmroutectl login: the address that is shown, and
 * what comes back from the browser.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/ctl/login.h"
#include "milter/ctl/redirect_wait.h"

enum {
    PASTE_PORT = 8085, /* where nobody listens: only the address counts */
    PASTE_TRIES = 3,
};

static bool
open_port(struct login *l)
{
    uint16_t port = (uint16_t)(l->port != 0 ? l->port : PASTE_PORT);
    char err[200];

    if (!l->paste) {
        l->fd = redirect_listen((uint16_t)l->port, &port, err, sizeof err);
        if (l->fd < 0)
            return login_fail(
                l, "%s; --port chooses another, --paste needs none", err);
    }
    /* Microsoft's console registers localhost, with any port, and no
     * address; it is the same host to a browser. */
    snprintf(l->redirect_uri, sizeof l->redirect_uri, "http://%s:%u/",
             l->m.account->client->provider == OAUTH_PROVIDER_MICROSOFT
                 ? "localhost"
                 : "127.0.0.1",
             port);
    return true;
}

static bool
show_address(struct login *l, const char *challenge)
{
    const struct oauth_client *client = l->m.account->client;
    struct oauth2_login q = {.auth_url = client->auth_url,
                             .client_id = client->client_id,
                             .scope = client->scope,
                             .redirect_uri = l->redirect_uri,
                             .state = l->state,
                             .challenge = challenge,
                             .login_hint = l->m.address};
    struct buf url;
    bool ok;

    buf_init(&url, 16 * 1024);
    ok = oauth2_login_url(&url, &q);
    if (ok) {
        fprintf(l->say,
                "Open this address in a browser and log in as %s:\n\n%.*s\n\n",
                l->m.address, (int)url.len, url.at);
        if (l->paste)
            fputs("In the end the browser goes to an address that it cannot "
                  "open. Copy that\naddress, all of it, from its address "
                  "line, and paste it here:\n",
                  l->say);
        else
            fprintf(l->say,
                    "Waiting at %s (a browser on another host: use --paste, or "
                    "first\n\"ssh -L PORT:127.0.0.1:PORT\" to here with that "
                    "port).\n",
                    l->redirect_uri);
        fflush(l->say);
    }
    buf_free(&url);
    return ok || login_fail(l, "out of memory");
}

/* One line, without its end; false at the end of the input. */
static bool
read_pasted(char *line, size_t size, size_t *ret_len)
{
    size_t n = 0;
    char c;

    for (;;) {
        ssize_t got = read(STDIN_FILENO, &c, 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 && n == 0)
            return false;
        if (got <= 0 || c == '\n')
            break;
        if (n < size)
            line[n++] = c;
    }
    *ret_len = n;
    return true;
}

static bool
take_pasted(struct login *l)
{
    char line[REDIRECT_HEAD_MAX];
    size_t len = 0;
    bool ok = false;

    for (int tries = 0; tries < PASTE_TRIES && !ok; tries++) {
        if (tries > 0)
            fputs("That is neither the address nor a code; once more:\n",
                  l->say);
        if (!read_pasted(line, sizeof line, &len))
            break;
        ok = redirect_pasted((struct slice){line, len}, &l->answer);
    }
    explicit_bzero(line, sizeof line);
    if (!ok)
        return login_fail(l, "no code was pasted; nothing has changed");
    /* A code alone has none: that it was asked for here shows when it is
     * exchanged. */
    if (l->answer.state[0] != '\0' && strcmp(l->answer.state, l->state) != 0)
        return login_fail(
            l, "state mismatch: what was pasted answers another login "
               "than this one; open the address above and paste what "
               "comes of that");
    return true;
}

static bool
take_redirect(struct login *l)
{
    uint64_t until_ms = clock_boot_ms(&clock_real) + l->timeout_s * 1000;

    switch (redirect_wait(l->fd, l->state, until_ms, &l->answer)) {
    case REDIRECT_COME:
        return true;
    case REDIRECT_FOREIGN:
        return login_fail(
            l,
            "state mismatch: the browser answered another login than "
            "this one, and none came for this one within %llu s; start "
            "again and open the new address",
            (unsigned long long)l->timeout_s);
    case REDIRECT_TIMEOUT:
        return login_fail(
            l,
            "nobody came back within %llu s. If the browser showed an error: "
            "redirect_uri_mismatch means that the OAuth client is not of the "
            "type for desktop apps; \"access blocked\", that the account is no "
            "test user of the app, or the app not allowed in the Admin "
            "console. If it could not open %s, it runs on another host: use "
            "--paste. --timeout waits longer",
            (unsigned long long)l->timeout_s, l->redirect_uri);
    default:
        return login_fail(l, "waiting for the browser: %s", strerror(errno));
    }
}

/* What the page said no with. */
static bool
check_answer(struct login *l)
{
    static const struct {
        const char *error, *why;
    } known[] = {
        {"access_denied",
         "the person did not allow it, or may not; start again and allow it"},
        {"admin_policy_enforced",
         "an administrator's policy blocks the app: Admin console, Security, "
         "API controls"},
        {"org_internal",
         "the OAuth client is limited to its own organisation, and this "
         "account is not in it"},
        {"invalid_scope",
         "the scope is refused: check `scope` and the client's consent screen"},
        {"unauthorized_client",
         "the OAuth client may not log in this way: want one for desktop apps"},
        {"server_error", "the page failed; try again later"},
        {"temporarily_unavailable", "the page failed; try again later"},
    };
    const char *why = "see the provider's help for this error";

    if (l->answer.error[0] == '\0')
        return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].error, l->answer.error) == 0)
            why = known[i].why;
    return login_fail(l, "%s%s%s%s: %s", l->answer.error,
                      l->answer.description[0] != '\0' ? " (" : "",
                      l->answer.description,
                      l->answer.description[0] != '\0' ? ")" : "", why);
}

bool
login_browser(struct login *l, const char *challenge)
{
    return open_port(l) && show_address(l, challenge) &&
           (l->paste ? take_pasted(l) : take_redirect(l)) && check_answer(l);
}
