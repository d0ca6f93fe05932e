/* milter/ctl/token.c - gmroutectl token: a current access token, for other
 * programs.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Who may have one is decided by the file system alone: whoever may open the
 * token daemon's memory, which is root and its owner, and its group if it is
 * readable for that.  The token goes to standard output and nowhere else.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/ctl/access.h"
#include "milter/ctl/ctl.h"
#include "milter/oauth/secret.h"

enum {
    LEFT_S = 60,       /* what is left of a token that is worth giving away */
    WAIT_MS = 5000,    /* for one that is being renewed */
    LEFT_MAX_S = 3600, /* what may be asked for */
};

#define SYNOPSIS "ACCOUNT [--min-left SECONDS] [--json]"

static int64_t
now_s(void)
{
    return clock_wall_ms(&clock_real) / 1000;
}

static void
say_absent(const struct policy *p, const struct mailbox *m,
           enum state_result result)
{
    if (result == STATE_EACCESS)
        fprintf(stderr,
                "gmroutectl: %s/token: this user may not read it: want root, "
                "the user of gmroute-token, or its group if the file is "
                "readable for that\n",
                p->state.runtime);
    else if (result == STATE_EABSENT)
        fprintf(stderr, "gmroutectl: %s/token: %s; is gmroute-token running?\n",
                p->state.runtime, state_result_text(result));
    else if (result == STATE_EEMPTY && m->account->is_template)
        fprintf(stderr,
                "gmroutectl: %s has no token: a template's mailbox gets its "
                "first one with its first message\n",
                m->address);
    else if (result == STATE_EEMPTY)
        fprintf(stderr,
                "gmroutectl: %s has no token; \"gmroutectl tokens %s\" says "
                "why\n",
                m->address, m->address);
    else
        fprintf(stderr, "gmroutectl: %s/token: %s\n", p->state.runtime,
                state_result_text(result));
}

/* Why one that is running out is not renewed. */
static void
say_short(struct status_reader *r, const struct mailbox *m,
          const struct token *t)
{
    struct token_status s = {0};
    int64_t left_s = t->expires_at_s - now_s();

    status_peek(r, m->id, &s);
    fprintf(stderr, "gmroutectl: %s: its token %s", m->address,
            left_s > 0 ? "ends in " : "has expired");
    if (left_s > 0)
        fprintf(stderr, "%" PRId64 " s", left_s);
    fprintf(stderr, ", and there is no newer one%s%s\n",
            s.error[0] != '\0' ? ": " : "", s.error);
}

/* Past stdio, which would keep a copy.  A token is visible ASCII without
 * quotes and backslashes, or it would not be in the memory; but check. */
static int
print(const struct ctl *c, const struct mailbox *m, const struct token *t)
{
    char text[TOKEN_TEXT_MAX + MAILBOX_MAX + 200], expires[40];
    bool plain = memchr(t->text, '"', t->len) == NULL &&
                 memchr(t->text, '\\', t->len) == NULL;
    int n = -1;
    bool ok;

    if (!c->json) {
        n = snprintf(text, sizeof text, "%.*s\n", (int)t->len, t->text);
    } else if (plain && strpbrk(m->address, "\"\\") == NULL) {
        ctl_rfc3339(t->expires_at_s, expires, sizeof expires);
        n = snprintf(text, sizeof text,
                     "{\"account\": \"%s\", \"access_token\": \"%.*s\", "
                     "\"token_type\": \"Bearer\", \"expires\": \"%s\", "
                     "\"seconds_left\": %" PRId64 "}\n",
                     m->address, (int)t->len, t->text, expires,
                     t->expires_at_s - now_s());
    }
    ok = n > 0 && (size_t)n < sizeof text &&
         secret_write(STDOUT_FILENO, text, (size_t)n);
    explicit_bzero(text, sizeof text);
    if (!ok)
        fputs("gmroutectl: the token cannot be written\n", stderr);
    return ok ? CTL_GOOD : CTL_USAGE;
}

static int
give(const struct ctl *c, const struct policy *p, const struct mailbox *m,
     int64_t left_s)
{
    struct status_reader *r = status_reader_new(p->state.runtime, true);
    struct token t = {0};
    enum state_result result;
    int status = CTL_NO;

    if (r == NULL)
        return CTL_USAGE;
    result = token_read(r, m->id, &t);
    if (result == STATE_OK && t.expires_at_s < now_s() + left_s) {
        status_wait(r, m->id, t.serial, WAIT_MS);
        result = token_read(r, m->id, &t);
    }
    if (result != STATE_OK)
        say_absent(p, m, result);
    else if (t.expires_at_s < now_s() + left_s)
        say_short(r, m, &t);
    else
        status = print(c, m, &t);
    if (result == STATE_EACCESS || result == STATE_EABSENT)
        status = CTL_USAGE;
    explicit_bzero(&t, sizeof t);
    status_reader_free(r);
    return status;
}

int
ctl_token(struct ctl *c, int argc, char **argv)
{
    const char *word = NULL;
    uint64_t left_s = LEFT_S;
    struct mailbox m;
    struct policy *p;
    int status = CTL_USAGE;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--min-left") == 0) {
            if (!ctl_number(argv[++i], 0, LEFT_MAX_S, &left_s))
                return ctl_usage("token", SYNOPSIS,
                                 "--min-left: want 0 to %d seconds",
                                 LEFT_MAX_S);
        } else if (argv[i][0] == '-' || word != NULL) {
            return ctl_usage("token", SYNOPSIS, "unknown word %s", argv[i]);
        } else {
            word = argv[i];
        }
    }
    if (word == NULL)
        return ctl_usage("token", SYNOPSIS, "want an account");
    if (!access_start())
        return CTL_USAGE;
    p = ctl_load(c, false);
    if (p == NULL)
        return CTL_NO;
    if (ctl_mailbox(p, word, &m)) {
        bool oauth2 = m.account->auth == AUTH_REFRESH_TOKEN ||
                      m.account->auth == AUTH_SERVICE_ACCOUNT;

        if (oauth2)
            status = give(c, p, &m, (int64_t)left_s);
        else
            fprintf(stderr, "gmroutectl: %s does not use OAuth2\n", m.address);
    }
    policy_free(p);
    return status;
}
