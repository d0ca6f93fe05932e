/* policy/compile_hosts.c - smarthosts and OAuth2 clients.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Ports: RFC 8314 3.3 (465, implicit TLS) and RFC 6409 3.1 (587, STARTTLS).
 */
#include "policy/compile.h"

enum { PORT_IMPLICIT = 465, PORT_STARTTLS = 587 };

static const struct schema_row smarthost_rows[] = {
    {"host", &compile_domain, SCHEMA_AT(smarthost, host),
     .help = "host name; also the name that its certificate must have"},
    {"connect", &compile_host, SCHEMA_AT(smarthost, connect),
     .help = "where to connect in its place; default: host"},
    {"port", &schema_number, SCHEMA_AT(smarthost, port), .min = 1, .max = 65535,
     .help = "default: 465, with starttls 587"},
    {"tls", &schema_word, SCHEMA_AT(smarthost, tls),
     .words = "implicit|starttls", .unset = "implicit",
     .help = "TLS from the start, or after STARTTLS; never without"},
    {"ca_file", &schema_ca_file, SCHEMA_AT(smarthost, ca_file),
     .unset = "system", .help = "certificates to trust, PEM"},
    {"imap", &compile_endpoint, SCHEMA_AT(smarthost, imap),
     .help = "its IMAP server, for gmroutectl verify; TLS from the start"},
    {"pop", &compile_endpoint, SCHEMA_AT(smarthost, pop),
     .help = "its POP server, likewise"},
};

const struct schema compile_smarthost_schema =
    SCHEMA("a smarthost", smarthost_rows);

/* ---- those that everybody has ---- */

static const struct {
    const char *name, *host;
    uint16_t port;
    enum smarthost_tls tls;
} builtin[] = {
    {"gmail", "smtp.gmail.com", PORT_IMPLICIT, SMARTHOST_TLS_IMPLICIT},
    {"gmail_relay", "smtp-relay.gmail.com", PORT_IMPLICIT,
     SMARTHOST_TLS_IMPLICIT},
    {"office365", "smtp.office365.com", PORT_STARTTLS, SMARTHOST_TLS_STARTTLS},
};

enum { N_BUILTIN = sizeof builtin / sizeof *builtin };

/* Gmail's mailboxes, where Gmail is sent through. */
static void
fill_in_mailboxes(struct smarthost *s)
{
    if (s->host == NULL || strcmp(s->host, builtin[0].host) != 0)
        return;
    if (s->imap == NULL)
        s->imap = "imap.gmail.com:993";
    if (s->pop == NULL)
        s->pop = "pop.gmail.com:995";
}

bool
compile_builtin_smarthosts(struct compile *c)
{
    struct smarthost *s = compile_alloc(c, N_BUILTIN, sizeof *s);
    void *old;

    for (size_t i = 0; s != NULL && i < N_BUILTIN; i++) {
        s[i] = (struct smarthost){.name = builtin[i].name,
                                  .at = {c->p->file, 0, 0},
                                  .host = builtin[i].host,
                                  .port = builtin[i].port,
                                  .tls = builtin[i].tls};
        fill_in_mailboxes(&s[i]);
        if (!table_add(c->smarthosts, slice_of(s[i].name), &s[i], &old))
            return compile_nomem(c);
    }
    c->p->smarthosts = s;
    c->p->n_smarthosts = N_BUILTIN;
    return s != NULL;
}

/* ---- smarthosts ---- */

/* Where it goes: a built-in one is redefined in its place. */
static struct smarthost *
smarthost_room(struct compile *c, const char *name)
{
    struct policy *p = c->p;
    struct smarthost *s = table_get(c->smarthosts, slice_of(name));
    void *old;

    if (s != NULL)
        return s;
    s = &p->smarthosts[p->n_smarthosts++];
    if (table_add(c->smarthosts, slice_of(name), s, &old))
        return s;
    compile_nomem(c);
    return NULL;
}

static bool
read_smarthost(struct compile *c, const struct node *key, const struct node *n)
{
    struct smarthost draft = {.at = key->at}, *s;
    bool ok;

    if (!compile_check_name(c, key))
        return false;
    draft.name = compile_copy(c, key->text);
    s = draft.name != NULL ? smarthost_room(c, draft.name) : NULL;
    if (s == NULL)
        return false;
    ok = schema_read(c, &compile_smarthost_schema, n, n->at, &draft);
    if (draft.host == NULL && n->kind == NODE_MAP &&
        node_get(n, "host") == NULL) {
        draft.host = s->host; /* of a built-in one */
        if (draft.host == NULL)
            ok = diag_error(c->diag, key->at,
                            "a smarthost: the key host is missing");
    }
    if (draft.port == 0)
        draft.port =
            draft.tls == SMARTHOST_TLS_STARTTLS ? PORT_STARTTLS : PORT_IMPLICIT;
    fill_in_mailboxes(&draft);
    *s = draft;
    return ok;
}

/* Makes room behind the built-in ones, to which nothing points yet. */
static bool
make_room(struct compile *c, size_t n)
{
    struct smarthost *s = compile_alloc(c, n + N_BUILTIN, sizeof *s);

    if (s == NULL)
        return false;
    memcpy(s, c->p->smarthosts, N_BUILTIN * sizeof *s);
    for (size_t i = 0; i < N_BUILTIN; i++)
        if (!table_put(c->smarthosts, slice_of(s[i].name), &s[i]))
            return compile_nomem(c);
    c->p->smarthosts = s;
    return true;
}

static bool
read_smarthosts(struct compile *c, const struct schema_row *row,
                const struct node *n, void *field)
{
    bool ok = true;

    (void)field;
    c->smarthosts_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    if (!make_room(c, n->n))
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_smarthost(c, n->key[i], n->item[i]);
    return ok;
}

const struct schema_type compile_smarthosts = {"a map of smarthosts",
                                               read_smarthosts};

/* ---- OAuth2 clients ---- */

static const struct schema_row client_rows[] = {
    {"provider", &schema_word, SCHEMA_AT(oauth_client, provider),
     .words = "google|microsoft", .unset = "google",
     .help = "whose client: gives the URLs and the scope"},
    {"tenant", &schema_text, SCHEMA_AT(oauth_client, tenant), .max = 100,
     .help = "of Microsoft: directory id or domain; default: organizations"},
    {"client_id", &schema_text, SCHEMA_AT(oauth_client, client_id),
     .need = SCHEMA_REQUIRED, .max = 256, .help = "as the provider gave it"},
    {"client_secret_file", &schema_secret_file,
     SCHEMA_AT(oauth_client, client_secret_file),
     .help = "file with the secret; none for a public client"},
    {"testing", &schema_yes_no, SCHEMA_AT(oauth_client, testing), .unset = "no",
     .help = "of Google: in Testing mode, refresh tokens end after 7 days"},
    {"auth_url", &compile_https, SCHEMA_AT(oauth_client, auth_url),
     .help = "where a person logs in; default: the provider's"},
    {"token_url", &compile_https, SCHEMA_AT(oauth_client, token_url),
     .help = "token endpoint; default: the provider's"},
    {"connect", &compile_endpoint, SCHEMA_AT(oauth_client, connect),
     .help = "where to connect; default: as token_url says"},
    {"scope", &schema_text, SCHEMA_AT(oauth_client, scope), .max = 1000,
     .help = "what to ask for; default: the provider's"},
    {"ca_file", &schema_ca_file, SCHEMA_AT(oauth_client, ca_file),
     .unset = "system", .help = "certificates to trust, PEM"},
};

const struct schema compile_client_schema =
    SCHEMA("an OAuth2 client", client_rows);

/* Google: developers.google.com/identity/protocols/oauth2/native-app;
 * Microsoft: learn.microsoft.com, "Authenticate an IMAP, POP or SMTP
 * connection using OAuth". */
static const struct provider {
    const char *auth_url, *token_url; /* %s: the tenant */
    const char *tenant;               /* NULL = has none */
    const char *scope;
} providers[] = {
    [OAUTH_PROVIDER_GOOGLE] = {"https://accounts.google.com/o/oauth2/v2/auth",
                               "https://oauth2.googleapis.com/token", NULL,
                               "https://mail.google.com/"},
    [OAUTH_PROVIDER_MICROSOFT] =
        {"https://login.microsoftonline.com/%s/oauth2/v2.0/authorize",
         "https://login.microsoftonline.com/%s/oauth2/v2.0/token",
         "organizations",
         "https://outlook.office.com/SMTP.Send offline_access"},
};

/* The URL with the tenant in the place of %s. */
static const char *
provider_url(struct compile *c, const char *pattern, const char *tenant)
{
    const char *gap = strstr(pattern, "%s");
    size_t head, n;
    char *url;

    if (gap == NULL)
        return pattern;
    head = (size_t)(gap - pattern);
    n = strlen(tenant);
    url = compile_alloc(c, strlen(pattern) + n, 1);
    if (url == NULL)
        return NULL;
    memcpy(url, pattern, head);
    memcpy(url + head, tenant, n);
    memcpy(url + head + n, gap + 2, strlen(gap + 2) + 1);
    return url;
}

static bool
check_tenant(struct compile *c, const struct node *n,
             const struct oauth_client *client)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";

    if (client->tenant == NULL)
        return true;
    if (client->provider != OAUTH_PROVIDER_MICROSOFT)
        return diag_error(c->diag, node_get(n, "tenant")->at,
                          "tenant: only with provider: microsoft");
    if (client->tenant[strspn(client->tenant, plain)] != '\0')
        return diag_error(c->diag, node_get(n, "tenant")->at,
                          "tenant: want a directory id or a domain, found "
                          "\"%s\"",
                          client->tenant);
    return true;
}

/* What the provider says where the file does not. */
static bool
fill_in(struct compile *c, struct oauth_client *client)
{
    const struct provider *p = &providers[client->provider];

    if (client->tenant == NULL)
        client->tenant = p->tenant;
    if (client->auth_url == NULL)
        client->auth_url = provider_url(c, p->auth_url, client->tenant);
    if (client->token_url == NULL)
        client->token_url = provider_url(c, p->token_url, client->tenant);
    if (client->scope == NULL)
        client->scope = p->scope;
    return client->auth_url != NULL && client->token_url != NULL;
}

static bool
read_client(struct compile *c, const struct node *key, const struct node *n)
{
    struct oauth_client *client = &c->p->clients[c->p->n_clients];
    void *old;

    if (!compile_check_name(c, key))
        return false;
    c->p->n_clients++;
    client->at = key->at;
    client->name = compile_copy(c, key->text);
    if (client->name == NULL ||
        !table_add(c->clients, slice_of(client->name), client, &old))
        return compile_nomem(c);
    return schema_read(c, &compile_client_schema, n, key->at, client) &&
           check_tenant(c, n, client) && fill_in(c, client);
}

static bool
read_clients(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    bool ok = true;

    (void)field;
    c->clients_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    c->p->clients = compile_alloc(c, n->n, sizeof *c->p->clients);
    if (c->p->clients == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_client(c, n->key[i], n->item[i]);
    return ok;
}

const struct schema_type compile_clients = {"a map of OAuth2 clients",
                                            read_clients};
