/* milter/deliver/pool_login.c - a new session: token or password, then the
 * log-in.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/clock.h"
#include "milter/base/conf.h"
#include "milter/deliver/pool_private.h"

enum {
    TOKEN_POLL_MS = 1000,
    TOKEN_LEFT_MIN_S = 2, /* less would end during the log-in */
    PASSWORD_MAX = 1000,  /* octets of the file */
};

void
pool_fail(struct lease *ret, enum outcome_scope scope, enum smtp_stage stage,
          const char *meaning, const char *text)
{
    *ret = (struct lease){
        .verdict = {.kind = OUTCOME_DEFERRED,
                    .scope = scope,
                    .meaning = meaning},
        .stage = stage,
    };
    snprintf(ret->reply.text, sizeof ret->reply.text, "%s", text);
}

char *
pool_target(const struct mailbox *m)
{
    const struct account *a = m->account;
    const struct smarthost *h = a->smarthost;
    char *text;

    if (asprintf(&text, "%s|%s|%u|%d|%s|%d|%s|%s", h->host,
                 h->connect != NULL ? h->connect : "", (unsigned)h->port,
                 (int)h->tls, h->ca_file != NULL ? h->ca_file : "",
                 (int)a->auth, a->secret_file != NULL ? a->secret_file : "",
                 m->address) < 0)
        return NULL;
    return text;
}

/* ---- trust stores ---- */

static bool
same_file(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return strcmp(a, b) == 0;
}

static struct tls_client *
tls_add(struct pool_sessions *p, const char *ca_file, char *err,
        size_t err_size)
{
    struct pool_tls *t = calloc(1, sizeof *t);

    snprintf(err, err_size, "out of memory");
    if (t == NULL)
        return NULL;
    if (ca_file != NULL && (t->ca_file = strdup(ca_file)) == NULL) {
        free(t);
        return NULL;
    }
    t->client = tls_client_new(ca_file, err, err_size);
    if (t->client == NULL) {
        free(t->ca_file);
        free(t);
        return NULL;
    }
    t->next = p->tls;
    p->tls = t;
    return t->client;
}

/* One for each CA file, kept for the pool's life. */
static struct tls_client *
tls_of(struct pool_sessions *p, const char *ca_file, char *err, size_t err_size)
{
    struct tls_client *found = NULL;

    pthread_mutex_lock(&p->tls_lock);
    for (struct pool_tls *t = p->tls; t != NULL && found == NULL; t = t->next)
        if (same_file(t->ca_file, ca_file))
            found = t->client;
    if (found == NULL)
        found = tls_add(p, ca_file, err, err_size);
    pthread_mutex_unlock(&p->tls_lock);
    return found;
}

/* ---- tokens ---- */

/* NULL: the token daemon may still bring one. */
static const char *
lasting_failure(enum token_state s)
{
    switch (s) {
    case TOKEN_NEEDS_LOGIN:
        return "the account needs a new consent: gmroutectl login";
    case TOKEN_CLIENT_BROKEN:
        return "the OAuth client is refused";
    case TOKEN_NO_MAILBOX:
        return "the service account knows no such mailbox";
    case TOKEN_CONFIG:
        return "the token request is refused: configuration";
    default:
        return NULL;
    }
}

/* A token other than the one refused, that is still good.  Renewing in time
 * is the token daemon's business. */
static bool
token_usable(struct pool_sessions *p, uint64_t id, uint64_t refused,
             struct token *ret)
{
    int64_t now_s = clock_wall_ms(p->o.clock) / 1000;

    return token_read(p->o.status, id, ret) == STATE_OK &&
           ret->serial != refused && ret->len > 0 &&
           ret->len <= TOKEN_TEXT_MAX &&
           ret->expires_at_s - now_s >= TOKEN_LEFT_MIN_S;
}

/* When a session that logs in now with this token is retired: a margin before
 * the token's end, shorter for a token of a short life. */
static int64_t
retire_at_s(const struct pool_sessions *p, const struct token *t)
{
    int64_t left_s = t->expires_at_s - clock_wall_ms(p->o.clock) / 1000;
    int64_t margin_s = left_s / 10;

    if (margin_s > POOL_TOKEN_MARGIN_S)
        margin_s = POOL_TOKEN_MARGIN_S;
    return t->expires_at_s - margin_s;
}

/* Waits for one until the deadline.  The caller wipes *ret in any case. */
static bool
token_wait(struct pool_sessions *p, uint64_t id, uint64_t refused,
           uint64_t deadline_ms, struct token *ret, struct lease *ret_failure)
{
    bool asked = false;

    for (;;) {
        struct token_status s = {.state = TOKEN_NONE};
        uint64_t now = pool_now_ms(p), wait;
        const char *lasting;

        if (token_usable(p, id, refused, ret))
            return true;
        if (status_peek(p->o.status, id, &s) != STATE_OK)
            s = (struct token_status){.state = TOKEN_NONE};
        s.error[sizeof s.error - 1] = '\0';
        if (!asked)
            quota_want_token(p->o.quota, id, refused != 0 ? refused : s.serial);
        asked = true;
        lasting = lasting_failure(s.state);
        if (lasting != NULL) {
            pool_fail(ret_failure, SCOPE_ACCOUNT, STAGE_AUTH, lasting, s.error);
            return false;
        }
        if (now >= deadline_ms || atomic_load(&p->draining)) {
            pool_fail(ret_failure, SCOPE_ACCOUNT, STAGE_AUTH,
                      "no access token in time", s.error);
            return false;
        }
        wait = deadline_ms - now;
        status_wait(p->o.status, id, s.serial,
                    wait < TOKEN_POLL_MS ? wait : TOKEN_POLL_MS);
    }
}

/* ---- the log-in ---- */

/* An app password is shown in four groups: the spaces do not belong to it. */
static size_t
strip_spaces(char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ')
            s[n++] = s[i];
    return n;
}

struct login { /* what pool_log_in works on */
    struct pool_sessions *p;
    const struct mailbox *m;
    struct session_target target;
    uint64_t deadline_ms; /* the pool's clock */
};

/* The stream's deadlines are of the machine's clock. */
static struct session *
open_now(const struct login *l, struct lease *ret)
{
    uint64_t now = pool_now_ms(l->p);
    uint64_t left = l->deadline_ms > now ? l->deadline_ms - now : 0;
    struct session *s =
        session_open(&l->target, clock_boot_ms(&clock_real) + left, ret);

    if (s != NULL)
        quota_count(l->p->o.quota, l->m->id, QUOTA_LOGIN, 1);
    return s;
}

static struct session *
by_password(struct login *l, struct lease *ret)
{
    struct session *s;
    char *secret, err[300];
    size_t len, stripped;

    if (!conf_secret(l->m->account->secret_file, PASSWORD_MAX, &secret, &len,
                     err, sizeof err)) {
        pool_fail(ret, SCOPE_ACCOUNT, STAGE_AUTH,
                  "the password file cannot be used", err);
        return NULL;
    }
    stripped = strip_spaces(secret, len);
    l->target.login = SMTP_LOGIN_PASSWORD;
    l->target.secret = (struct slice){secret, stripped};
    s = open_now(l, ret);
    conf_secret_free(secret, len);
    return s;
}

static struct session *
by_token(struct login *l, struct lease *ret)
{
    struct session *s = NULL;
    uint64_t refused = 0;
    struct token token;

    l->target.login = SMTP_LOGIN_TOKEN;
    for (int tries = 0; tries < 2 && s == NULL; tries++) {
        if (!token_wait(l->p, l->m->id, refused, l->deadline_ms, &token, ret))
            break;
        l->target.secret = (struct slice){token.text, token.len};
        s = open_now(l, ret);
        if (s != NULL) {
            s->retire_at_s = retire_at_s(l->p, &token);
            break;
        }
        if (ret->verdict.effect != EFFECT_TOKEN)
            break;
        refused = token.serial;
        if (tries == 0) {
            quota_want_token(l->p->o.quota, l->m->id, refused);
            continue;
        }
        ret->verdict.kind = OUTCOME_DEFERRED;
        ret->verdict.scope = SCOPE_ACCOUNT;
        ret->verdict.effect = EFFECT_DISABLE;
        ret->verdict.meaning = "a new token was refused, too: wrong scope, "
                               "wrong mailbox, or the account is closed";
    }
    explicit_bzero(&token, sizeof token);
    return s;
}

struct session *
pool_log_in(struct pool_sessions *p, const struct mailbox *m,
            uint64_t deadline_ms, struct lease *ret)
{
    const struct smarthost *h = m->account->smarthost;
    char err[300], key[40];
    struct login l = {
        .p = p,
        .m = m,
        .deadline_ms = deadline_ms,
        .target = {.host = h->host,
                   .connect = h->connect,
                   .port = h->port,
                   .starttls = h->tls == SMARTHOST_TLS_STARTTLS,
                   .tls_key = key,
                   .hostname = p->o.hostname,
                   .login = SMTP_LOGIN_NONE,
                   .user = m->address},
    };

    snprintf(key, sizeof key, "%016" PRIx64, m->id);
    l.target.tls = tls_of(p, h->ca_file, err, sizeof err);
    if (l.target.tls == NULL) {
        pool_fail(ret, SCOPE_CLIENT, STAGE_STARTTLS, "no trust store for TLS",
                  err);
        return NULL;
    }
    switch (m->account->auth) {
    case AUTH_NONE:
        return open_now(&l, ret);
    case AUTH_PASSWORD:
        return by_password(&l, ret);
    default:
        return by_token(&l, ret);
    }
}
