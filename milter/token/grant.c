/* milter/token/grant.c - see grant.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/grant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/base/conf.h"
#include "milter/base/log.h"
#include "milter/token/secret.h"

#define GOOGLE_TOKEN_URL "https://oauth2.googleapis.com/token"
#define GMAIL_SCOPE      "https://mail.google.com/"

enum { FORM_MAX = 32 * 1024, TIMEOUT_MS = 30 * 1000 };

static void
fail(struct oauth2_answer *ret, enum oauth2_class class, const char *why)
{
    ret->class = class;
    snprintf(ret->why, sizeof ret->why, "%.199s", why);
}

/* Clock skew: seconds by which the endpoint is ahead; small differences are
 * the network's. */
static void
note_skew(struct grant_request *q, const struct https_answer *h)
{
    int64_t skew_s;

    if (h->date_s == 0)
        return;
    skew_s = h->date_s - clock_wall_ms(q->clock) / 1000;
    q->skew_s = skew_s > 30 || skew_s < -30 ? skew_s : 0;
}

static void
post(struct grant_request *q, struct https_request *request, struct buf *form,
     struct oauth2_answer *ret)
{
    struct https_answer h;

    request->form = form->at;
    request->form_len = form->len;
    request->timeout_ms = TIMEOUT_MS;
    q->post(request, &h);
    if (h.status == 0) {
        ret->class = OAUTH2_TRANSIENT;
        snprintf(ret->why, sizeof ret->why,
                 "the token endpoint cannot be reached: %s", h.error);
    } else {
        oauth2_parse(h.status, h.body.at != NULL ? h.body.at : "", h.body.len,
                     ret);
        note_skew(q, &h);
    }
    https_answer_free(&h);
}

static void
keep_rotated(const struct grant_request *q, const struct oauth2_answer *a)
{
    char err[300];

    if (a->class != OAUTH2_OK || a->refresh_token == NULL)
        return;
    if (!secret_store_refresh_token(q->policy->state.directory, q->mailbox->id,
                                    a->refresh_token, err, sizeof err))
        log_error("account=%s the endpoint gave a new refresh token, which "
                  "cannot be stored: %s; if the old one stops working: "
                  "gmroutectl login",
                  q->mailbox->address, err);
}

static void
ask_refresh(struct grant_request *q, struct oauth2_answer *ret)
{
    const struct account *a = q->mailbox->account;
    const struct oauth_client *client = a->client;
    char *token = NULL, *secret = NULL, err[300];
    size_t token_len = 0, secret_len = 0;
    struct buf form;
    struct https_request request = {.url = client->token_url,
                                    .connect = client->connect,
                                    .ca_file = client->ca_file};

    buf_init(&form, FORM_MAX);
    if (!secret_refresh_token(q->policy->state.directory, q->mailbox->id,
                              a->secret_file, &token, &token_len, err,
                              sizeof err) ||
        (client->client_secret_file != NULL &&
         !conf_secret(client->client_secret_file, SECRET_MAX, &secret,
                      &secret_len, err, sizeof err))) {
        fail(ret, OAUTH2_CONFIG, err);
        goto done;
    }
    if (!oauth2_refresh_form(&form, client->client_id, secret, token)) {
        fail(ret, OAUTH2_CONFIG, "the refresh token is too long");
        goto done;
    }
    post(q, &request, &form, ret);
    keep_rotated(q, ret);
done:
    buf_wipe_free(&form);
    conf_secret_free(token, token_len);
    conf_secret_free(secret, secret_len);
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
    const char *audience;

    buf_init(&form, FORM_MAX);
    if (!conf_secret(a->secret_file, SECRET_MAX, &json, &len, err,
                     sizeof err)) {
        fail(ret, OAUTH2_CONFIG, err);
        goto done;
    }
    if (!service_key_parse(json, len, &key, err, sizeof err)) {
        ret->class = OAUTH2_CONFIG;
        snprintf(ret->why, sizeof ret->why, "%.100s: %.90s", a->secret_file,
                 err);
        goto done;
    }
    audience = key.token_uri != NULL ? key.token_uri : GOOGLE_TOKEN_URL;
    request.url = a->token_url != NULL ? a->token_url : audience;
    if (!oauth2_jwt_form(&form, &key, q->mailbox->address, GMAIL_SCOPE,
                         audience, clock_wall_ms(q->clock) / 1000 + q->skew_s,
                         err, sizeof err)) {
        ret->class = OAUTH2_CONFIG;
        snprintf(ret->why, sizeof ret->why, "%.100s: %.90s", a->secret_file,
                 err);
        goto done;
    }
    post(q, &request, &form, ret);
done:
    buf_wipe_free(&form);
    service_key_free(&key);
    conf_secret_free(json, len);
}

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
