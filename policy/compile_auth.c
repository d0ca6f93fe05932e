/* policy/compile_auth.c - how an account logs in.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

/* Exactly one of them is wanted. */
struct ways {
    const struct node *oauth2, *service_account;
    const char *password_file;
};

static bool
read_client_name(struct compile *c, const struct schema_row *row,
                 const struct node *n, void *field)
{
    const struct oauth_client *client =
        compile_find(c, c->clients, c->clients_lost, "an OAuth2 client", n);

    (void)row;
    memcpy(field, &client, sizeof client);
    return client != NULL;
}

static const struct schema_type client_name = {"the name of an OAuth2 client",
                                               read_client_name};

static const struct schema_row oauth2_rows[] = {
    {"client", &client_name, SCHEMA_AT(account, client),
     .need = SCHEMA_REQUIRED, .help = "an entry of oauth_clients"},
    {"refresh_token_file", &schema_secret_file, SCHEMA_AT(account, secret_file),
     .need = SCHEMA_REQUIRED, .help = "file with the refresh token"},
};

static const struct schema_row service_rows[] = {
    {"key_file", &schema_secret_file, SCHEMA_AT(account, secret_file),
     .need = SCHEMA_REQUIRED, .help = "the service account's key, JSON"},
    {"token_url", &compile_https, SCHEMA_AT(account, token_url),
     .help = "token endpoint; default: the key's token_uri"},
    {"connect", &compile_endpoint, SCHEMA_AT(account, token_connect),
     .help = "where to connect; default: as the URL says"},
    {"ca_file", &schema_ca_file, SCHEMA_AT(account, token_ca_file),
     .unset = "system", .help = "certificates to trust, PEM"},
};

static const struct schema oauth2_schema = SCHEMA("oauth2", oauth2_rows);
static const struct schema service_schema =
    SCHEMA("service_account", service_rows);

static const struct schema_type kept_map = {"a map", compile_keep};

static const struct schema_row way_rows[] = {
    {"oauth2", &kept_map, SCHEMA_AT(ways, oauth2), .sub = &oauth2_schema,
     .help = "a user's refresh token"},
    {"service_account", &kept_map, SCHEMA_AT(ways, service_account),
     .sub = &service_schema,
     .help = "a key with domain-wide delegation for the address"},
    {"password_file", &schema_secret_file, SCHEMA_AT(ways, password_file),
     .help = "file with an app password"},
};

const struct schema compile_auth_schema = SCHEMA("auth", way_rows);

const struct schema_type compile_auth = {
    "none, or one of oauth2, service_account, password_file", compile_keep};

/* A refresh token and a password belong to one mailbox. */
static bool
check_template(struct compile *c, const struct node *n, const struct account *a)
{
    if (!a->is_template)
        return true;
    if (a->auth == AUTH_REFRESH_TOKEN)
        return diag_error(c->diag, n->at,
                          "auth: a refresh token is one user's; a template "
                          "needs service_account or none");
    if (a->auth == AUTH_PASSWORD)
        diag_warning(c->diag, n->at,
                     "auth: one password for every sender of \"%s\"",
                     a->address);
    return true;
}

bool
compile_read_auth(struct compile *c, const struct node *n, struct account *a)
{
    struct ways w = {.oauth2 = NULL};
    bool ok = true;

    if (n->kind == NODE_SCALAR && slice_eq(n->text, SLICE_LIT("none"))) {
        a->auth = AUTH_NONE;
        return true;
    }
    if (n->kind != NODE_MAP)
        return diag_error(c->diag, n->at, "auth: want %s, found %s",
                          compile_auth.form, node_show(n).text);
    if (!schema_read(c, &compile_auth_schema, n, n->at, &w))
        return false;
    if (n->n != 1)
        return diag_error(c->diag, n->at,
                          "auth: want exactly one of oauth2, service_account, "
                          "password_file");
    if (w.oauth2 != NULL) {
        a->auth = AUTH_REFRESH_TOKEN;
        ok = schema_read(c, &oauth2_schema, w.oauth2, w.oauth2->at, a);
    } else if (w.service_account != NULL) {
        a->auth = AUTH_SERVICE_ACCOUNT;
        ok = schema_read(c, &service_schema, w.service_account,
                         w.service_account->at, a);
    } else {
        a->auth = AUTH_PASSWORD;
        a->secret_file = w.password_file;
    }
    return check_template(c, n, a) && ok;
}
