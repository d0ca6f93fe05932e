/* milter/oauth/grant.c - see grant.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/oauth/grant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "milter/base/conf.h"
#include "milter/base/log.h"
#include "milter/oauth/oauth2_code.h"
#include "milter/oauth/oauth2_private.h"
#include "milter/oauth/wipe.h"

#define GOOGLE_TOKEN_URL "https://oauth2.googleapis.com/token"
#define GMAIL_SCOPE      "https://mail.google.com/"

enum {
    FORM_MAX = 32 * 1024,
    TIMEOUT_MS = 30 * 1000,
    TESTING_S = 7 * 86400,
    SKEW_MIN_S = 30, /* smaller differences are the network's */
};

static void
fail(struct oauth2_answer *ret, enum oauth2_class class, const char *why)
{
    ret->class = class;
    snprintf(ret->why, sizeof ret->why, "%s", why);
}

static void
note_skew(struct grant_request *q, const struct https_answer *h)
{
    int64_t skew_s;

    if (h->date_s == 0)
        return;
    skew_s = h->date_s - clock_wall_ms(q->clock) / 1000;
    q->skew_s = skew_s > SKEW_MIN_S || skew_s < -SKEW_MIN_S ? skew_s : 0;
}

static void
post(struct grant_request *q, enum oauth2_grant grant,
     struct https_request *request, const struct buf *form,
     struct oauth2_answer *ret)
{
    struct https_answer h;

    request->form = form->at;
    request->form_len = form->len;
    request->timeout_ms = TIMEOUT_MS;
    request->stop = q->stop;
    q->post(request, &h);
    if (h.status == 0) {
        ret->class = OAUTH2_TRANSIENT;
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint cannot be reached: %s", h.error);
        oauth2_say_again(grant, ret);
    } else {
        oauth2_parse(grant, h.status, h.body.at != NULL ? h.body.at : "",
                     h.body.len, ret);
        ret->retry_after_s = h.retry_after_s;
        note_skew(q, &h);
    }
    https_answer_free(&h);
}

/* ---- refresh tokens ---- */

bool
grant_save(struct grant_request *q)
{
    char err[300];

    if (q->unsaved->text == NULL)
        return true;
    if (!secret_store(q->policy->state.directory, q->mailbox->id, q->unsaved,
                      err, sizeof err)) {
        log_error("account=%s the endpoint gave a new refresh token, which "
                  "cannot be stored: %s; it is kept in memory, and lost when "
                  "this daemon ends",
                  q->mailbox->address, err);
        return false;
    }
    refresh_token_free(q->unsaved);
    return true;
}

/* `used` is what was asked with; some endpoints send it back each time. */
static void
keep_rotated(struct grant_request *q, struct oauth2_answer *a,
             const struct refresh_token *used)
{
    if (a->class != OAUTH2_OK || a->refresh_token == NULL ||
        strcmp(a->refresh_token, used->text) == 0)
        return;
    refresh_token_free(q->unsaved);
    *q->unsaved = *used;
    q->unsaved->text = a->refresh_token;
    a->refresh_token = NULL;
    grant_save(q);
}

/* gmroutectl login writes the file, so its time is that of the consent. */
static void
note_age(const struct grant_request *q, struct oauth2_answer *a)
{
    const struct account *account = q->mailbox->account;
    int64_t now_s = clock_wall_ms(q->clock) / 1000;
    int64_t given_s = secret_written_s(account->secret_file);
    int64_t used_s = q->used_s > given_s ? q->used_s : given_s;

    if (given_s == 0)
        return;
    a->unused_s = now_s > used_s ? now_s - used_s : 0;
    if (a->refresh_left_s == 0 && account->client->testing &&
        given_s + TESTING_S > now_s)
        a->refresh_left_s = given_s + TESTING_S - now_s;
}

/* The client's secret, if it has one; false with a sentence in err. */
static bool
client_secret(const struct oauth_client *c, char **ret, size_t *ret_len,
              char *err, size_t err_size)
{
    *ret = NULL;
    *ret_len = 0;
    return c->client_secret_file == NULL ||
           conf_secret(c->client_secret_file, SECRET_MAX, ret, ret_len, err,
                       err_size);
}

static struct https_request
client_request(const struct oauth_client *c)
{
    return (struct https_request){
        .url = c->token_url, .connect = c->connect, .ca_file = c->ca_file};
}

static void
ask_refresh(struct grant_request *q, struct oauth2_answer *ret)
{
    const struct account *a = q->mailbox->account;
    const struct oauth_client *client = a->client;
    struct refresh_token token = {NULL, {0}};
    char *secret, err[300];
    size_t secret_len;
    struct buf form;
    struct https_request request = client_request(client);

    buf_init(&form, FORM_MAX);
    if (!client_secret(client, &secret, &secret_len, err, sizeof err)) {
        fail(ret, OAUTH2_CLIENT, err);
        goto done;
    }
    if (!secret_refresh_token(q->policy->state.directory, q->mailbox->id,
                              a->secret_file, q->unsaved, &token, err,
                              sizeof err)) {
        fail(ret, OAUTH2_SECRET, err);
        goto done;
    }
    if (!oauth2_refresh_form(&form, client->client_id, secret, token.text)) {
        fail(ret, OAUTH2_SECRET,
             "client id, client secret and refresh token together are too "
             "long to be right");
        goto done;
    }
    post(q, OAUTH2_GRANT_REFRESH, &request, &form, ret);
    keep_rotated(q, ret, &token);
    note_age(q, ret);
done:
    buf_wipe_free(&form);
    refresh_token_free(&token);
    conf_secret_free(secret, secret_len);
}

/* ---- a login ---- */

void
grant_login(struct grant_request *q, const struct grant_code *code,
            struct oauth2_answer *ret)
{
    const struct oauth_client *client = q->mailbox->account->client;
    char *secret, err[300];
    size_t secret_len;
    struct buf form;
    struct https_request request = client_request(client);

    *ret = (struct oauth2_answer){.class = OAUTH2_CONFIG};
    buf_init(&form, FORM_MAX);
    if (!client_secret(client, &secret, &secret_len, err, sizeof err))
        fail(ret, OAUTH2_CLIENT, err);
    else if (!oauth2_code_form(&form, client->client_id, secret, code->code,
                               code->verifier, code->redirect_uri))
        fail(ret, OAUTH2_CONFIG,
             "client id, client secret and code together are too long to be "
             "right");
    else
        post(q, OAUTH2_GRANT_CODE, &request, &form, ret);
    buf_wipe_free(&form);
    conf_secret_free(secret, secret_len);
}

/* ---- service accounts ---- */

/* Key and form; false with a sentence in err. */
static bool
sign(const struct grant_request *q, const char *json, size_t len,
     struct service_key *key, struct buf *form, char *err, size_t err_size)
{
    int64_t now_s = clock_wall_ms(q->clock) / 1000 + q->skew_s;

    if (!service_key_parse(json, len, key, err, err_size))
        return false;
    if (key->token_uri == NULL) {
        key->token_uri = wipe_strdup(GOOGLE_TOKEN_URL);
        if (key->token_uri == NULL) {
            snprintf(err, err_size, "out of memory");
            return false;
        }
    }
    if (strncasecmp(key->token_uri, "https://", 8) != 0) {
        snprintf(err, err_size, "token_uri does not begin with https://");
        return false;
    }
    return oauth2_jwt_form(form, key, q->mailbox->address, GMAIL_SCOPE,
                           key->token_uri, now_s, err, err_size);
}

static void
ask_service_account(struct grant_request *q, struct oauth2_answer *ret)
{
    const struct account *a = q->mailbox->account;
    char *json = NULL, err[300];
    size_t len = 0;
    struct service_key key = {0};
    struct buf form;
    struct https_request request = {.connect = a->token_connect,
                                    .ca_file = a->token_ca_file};

    buf_init(&form, FORM_MAX);
    if (!conf_secret(a->secret_file, SECRET_MAX, &json, &len, err,
                     sizeof err)) {
        fail(ret, OAUTH2_CLIENT, err);
        goto done;
    }
    if (!sign(q, json, len, &key, &form, err, sizeof err)) {
        ret->class = OAUTH2_CLIENT;
        snprintf(ret->why, sizeof ret->why, "%.150s: %.140s", a->secret_file,
                 err);
        goto done;
    }
    request.url = a->token_url != NULL ? a->token_url : key.token_uri;
    post(q, OAUTH2_GRANT_JWT, &request, &form, ret);
done:
    buf_wipe_free(&form);
    service_key_free(&key);
    conf_secret_free(json, len);
}

/* ---- both ---- */

void
grant_ask(struct grant_request *q, struct oauth2_answer *ret)
{
    *ret = (struct oauth2_answer){.class = OAUTH2_CONFIG};
    switch (q->mailbox->account->auth) {
    case AUTH_REFRESH_TOKEN:
        ask_refresh(q, ret);
        break;
    case AUTH_SERVICE_ACCOUNT:
        ask_service_account(q, ret);
        break;
    default:
        fail(ret, OAUTH2_CONFIG, "the account does not use OAuth2");
    }
}

uint64_t
grant_stamp(const struct policy *p, const struct mailbox *m)
{
    uint64_t rotated = 0;

    if (m->account->auth == AUTH_REFRESH_TOKEN)
        rotated = secret_rotated_stamp(p->state.directory, m->id);
    return secret_stamp(m->account->secret_file) * 3 + rotated;
}

uint64_t
grant_client_stamp(const struct account *a)
{
    if (a->auth == AUTH_SERVICE_ACCOUNT)
        return secret_stamp(a->secret_file);
    return a->client != NULL && a->client->client_secret_file != NULL
               ? secret_stamp(a->client->client_secret_file)
               : 0;
}
