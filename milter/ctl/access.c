/* milter/ctl/access.c - see access.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/access.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "milter/base/clock.h"
#include "milter/base/conf.h"
#include "milter/base/process.h"
#include "milter/ctl/ctl.h"
#include "milter/ctl/look.h"
#include "milter/oauth/grant.h"
#include "milter/oauth/oauth2_code.h"
#include "milter/oauth/wipe.h"

enum {
    LEFT_MIN_S = 30, /* a token that ends sooner is not worth a try */
    PASSWORD_MAX = 1024,
};

bool
access_start(void)
{
    process_no_core();
    if (wipe_start() && https_start())
        return true;
    fputs("gmroutectl: OpenSSL or libcurl cannot be started\n", stderr);
    return false;
}

bool
ctl_mailbox(const struct policy *p, const char *word, struct mailbox *ret)
{
    char identity[IDENTITY_MAX + 1];

    return look_identity(p, word, false, ret, identity);
}

void
access_free(struct access *a)
{
    wipe_free(a->memory);
    *a = (struct access){0};
}

static bool
keep(struct access *a, const char *secret, size_t len)
{
    a->memory = wipe_malloc(len + 1);
    if (a->memory == NULL) {
        snprintf(a->why, sizeof a->why, "out of memory");
        return false;
    }
    memcpy(a->memory, secret, len);
    a->memory[len] = '\0';
    a->secret = (struct slice){a->memory, len};
    return true;
}

/* ---- whose secrets ---- */

void
access_directory(const char *path, char *ret, size_t size)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        snprintf(ret, size, ".");
    else
        snprintf(ret, size, "%.*s", slash > path ? (int)(slash - path) : 1,
                 path);
}

/* Whoever has made this memory, or is to make it; if that cannot be told, the
 * owner of the secret or of its directory. */
static void
maker_of(const struct policy *p, const char *memory, const char *path,
         uid_t *ret_user, gid_t *ret_group)
{
    char where[600];
    struct stat st = {.st_uid = geteuid(), .st_gid = getegid()};

    snprintf(where, sizeof where, "%s/%s", p->state.runtime, memory);
    if (stat(where, &st) != 0 && stat(path, &st) != 0) {
        access_directory(path, where, sizeof where);
        stat(where, &st);
    }
    *ret_user = st.st_uid;
    *ret_group = st.st_gid;
}

void
access_daemon(const struct policy *p, const char *path, uid_t *ret_user,
              gid_t *ret_group)
{
    maker_of(p, "token", path, ret_user, ret_group);
}

/* Root becomes a daemon's user for a while: it reads what the daemon would
 * read, and what it writes is the daemon's. */
struct guise {
    bool root;
    gid_t own_group;
};

static bool
become(const struct policy *p, const char *memory, const char *path,
       struct guise *ret, struct access *a)
{
    uid_t user;
    gid_t group;

    *ret = (struct guise){geteuid() == 0, getegid()};
    if (!ret->root)
        return true;
    maker_of(p, memory, path, &user, &group);
    if (setegid(group) == 0 && seteuid(user) == 0)
        return true;
    snprintf(a->why, sizeof a->why, "cannot become user id %u: %s",
             (unsigned)user, strerror(errno));
    return false;
}

static bool
be_oneself(const struct guise *g)
{
    return !g->root || (seteuid(0) == 0 && setegid(g->own_group) == 0);
}

/* ---- passwords ---- */

/* Google shows an app password as four groups. */
static size_t
strip_spaces(char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ')
            s[n++] = s[i];
    return n;
}

static bool
read_password(const struct policy *p, const struct mailbox *m,
              struct access *ret)
{
    struct guise g;
    char *secret;
    size_t len;
    bool ok = false;

    ret->source = "password_file";
    if (become(p, "quota", m->account->secret_file, &g, ret) &&
        conf_secret(m->account->secret_file, PASSWORD_MAX, &secret, &len,
                    ret->why, sizeof ret->why)) {
        ok = keep(ret, secret, strip_spaces(secret, len));
        conf_secret_free(secret, len);
    }
    return be_oneself(&g) && ok;
}

/* ---- tokens ---- */

static bool
from_memory(const struct policy *p, const struct mailbox *m, int64_t now_s,
            struct access *ret)
{
    struct status_reader *r = status_reader_new(p->state.runtime, true);
    struct token t = {0};
    bool ok = r != NULL && token_read(r, m->id, &t) == STATE_OK &&
              t.expires_at_s >= now_s + LEFT_MIN_S && keep(ret, t.text, t.len);

    if (ok) {
        ret->source = "the memory of gmroute-token";
        ret->expires_at_s = t.expires_at_s;
    }
    explicit_bzero(&t, sizeof t);
    status_reader_free(r);
    return ok;
}

static void
ask_endpoint(const struct policy *p, const struct mailbox *m,
             struct oauth2_answer *ret)
{
    struct refresh_token unsaved = {NULL, {0}};
    struct grant_request q = {.policy = p,
                              .mailbox = m,
                              .clock = &clock_real,
                              .post = https_post,
                              .unsaved = &unsaved};

    grant_ask(&q, ret);
    if (ret->class == OAUTH2_CLOCK)
        grant_ask(&q, ret); /* corrected by what the first answer told */
    refresh_token_free(&unsaved);
}

static bool
from_endpoint(const struct policy *p, const struct mailbox *m, int64_t now_s,
              struct access *ret)
{
    struct oauth2_answer a = {.class = OAUTH2_CONFIG};
    struct guise g;
    bool ok = false;

    ret->source = "the token endpoint";
    if (become(p, "token", m->account->secret_file, &g, ret)) {
        ask_endpoint(p, m, &a);
        snprintf(ret->why, sizeof ret->why, "%s", a.why);
        ok = a.class == OAUTH2_OK &&
             keep(ret, a.access_token, strlen(a.access_token));
        ret->expires_at_s = now_s + a.expires_in_s;
        ret->no_mail_scope =
            ok && m->account->client != NULL &&
            !oauth2_scope_covers(a.scope, m->account->client->scope);
    }
    if (!be_oneself(&g))
        ok = false;
    oauth2_answer_free(&a);
    return ok;
}

bool
access_get(const struct policy *p, const struct mailbox *m, struct access *ret)
{
    int64_t now_s = clock_wall_ms(&clock_real) / 1000;

    *ret = (struct access){0};
    if (m->account->auth == AUTH_PASSWORD)
        return read_password(p, m, ret);
    ret->bearer = true;
    return from_memory(p, m, now_s, ret) || from_endpoint(p, m, now_s, ret);
}
