/* policy/compile_accounts.c - accounts: who sends, and through what.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include "policy/address.h"
#include "policy/idn.h"

/* ---- addresses ---- */

const char *
compile_address(struct compile *c, struct slice s, char **ret)
{
    struct address a;
    const char *error;

    *ret = NULL;
    if (!compile_a_labels(c, s, &s))
        return NULL;
    if (!idn_is_ascii(s))
        return "is not ASCII, and not for an account: only its domain may be "
               "internationalized";
    if (!address_parse(s, &a) || a.local.len == 0 || s.at[0] == '<' ||
        s.at[0] == '@' || memchr(a.local.at, '@', a.local.len) != NULL)
        return "is not an address";
    if (a.domain.len == 0)
        return "has no @domain";
    if (a.is_literal)
        return "has an address literal for a domain";
    if (s.len > MAILBOX_MAX)
        return "is longer than 254 octets";
    error = compile_domain_error(a.domain, false);
    if (error != NULL)
        return error;
    *ret = compile_copy(c, s);
    for (size_t i = a.local.len; *ret != NULL && i < s.len; i++)
        (*ret)[i] = slice_lower((*ret)[i]);
    return NULL;
}

/* What becomes an account, and what can only be read when the rest of it is
 * known. */
struct draft {
    struct account a;
    struct texts send_as;
    const struct node *auth, *mail_from, *quota, *trust, *map;
};

/* "sales@example.com" or "*@example.com" */
static bool
read_address(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    const char *error = "is not an address";
    char *copy = NULL;

    if (compile_is_text(n) && memchr(n->text.at, '*', n->text.len) != NULL &&
        !slice_starts(n->text, "*@"))
        error = "is no template: want \"*@domain\"";
    else if (compile_is_text(n))
        error = compile_address(c, n->text, &copy);
    if (error != NULL)
        return diag_error(c->diag, n->at, "%s: %s %s", row->key,
                          node_show(n).text, error);
    memcpy(field, &copy, sizeof copy);
    return copy != NULL;
}

static const struct schema_type account_address = {
    "an address, or \"*@domain\" for a template", read_address};

static bool
read_send_as_one(struct compile *c, const char *key, const struct node *n,
                 const char **ret)
{
    const char *error = "is not an address or \"@domain\"";
    char *copy = NULL;

    if (compile_is_text(n) && n->text.at[0] == '@') {
        error = compile_domain_text(c, slice_from(n->text, 1), false, &copy);
        if (copy != NULL)
            copy = arena_printf(c->arena, "@%s", copy);
        c->nomem |= error == NULL && copy == NULL;
    } else if (compile_is_text(n)) {
        error = compile_address(c, n->text, &copy);
    }
    if (error != NULL)
        return diag_error(c->diag, n->at, "%s: %s %s", key, node_show(n).text,
                          error);
    *ret = copy;
    return copy != NULL;
}

static bool
read_send_as(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    struct items items = compile_items(n);
    struct texts texts = {.n = 0};
    bool ok = true;

    if (n->kind == NODE_MAP)
        return schema_mismatch(c, row, n);
    texts.text = compile_alloc(c, items.n, sizeof *texts.text);
    if (texts.text == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        if (read_send_as_one(c, row->key, compile_item(&items, i),
                             &texts.text[texts.n]))
            texts.n++;
        else
            ok = false;
    memcpy(field, &texts, sizeof texts);
    return ok;
}

static const struct schema_type send_as = {
    "a list of addresses and \"@domain\"", read_send_as};

/* ---- rows ---- */

static bool
read_smarthost_name(struct compile *c, const struct schema_row *row,
                    const struct node *n, void *field)
{
    const struct smarthost *s =
        compile_find(c, c->smarthosts, c->smarthosts_lost, "a smarthost", n);

    (void)row;
    memcpy(field, &s, sizeof s);
    return s != NULL;
}

static const struct schema_type smarthost_name = {"the name of a smarthost",
                                                  read_smarthost_name};
static const struct schema_type kept_word = {"a word", compile_keep};
static const struct schema_type kept_map = {"a map", compile_keep};

static const struct schema_row session_rows[] = {
    {"max", &schema_number, SCHEMA_AT(draft, a.sessions.max), .min = 1,
     .max = 100, .unset = "3",
     .help = "logged-in sessions at once; Gmail dislikes more than a few"},
    {"idle", &schema_duration, SCHEMA_AT(draft, a.sessions.idle_ms),
     .min = 1000, .max = 3600 * 1000, .unset = "60s",
     .help = "close a session that was not used for so long"},
    {"age", &schema_duration, SCHEMA_AT(draft, a.sessions.age_ms), .min = 1000,
     .max = 3600 * 1000, .unset = "10m", .help = "close a session this old"},
    {"messages", &schema_number, SCHEMA_AT(draft, a.sessions.messages),
     .min = 1, .max = 100000, .unset = "100",
     .help = "close a session after so many messages"},
};

static const struct schema session_schema = SCHEMA("sessions", session_rows);

static const struct schema_row account_rows[] = {
    {"address", &account_address, SCHEMA_AT(draft, a.address),
     .need = SCHEMA_REQUIRED,
     .help = "login and identity; \"*@domain\": each sender its own"},
    {"smarthost", &smarthost_name, SCHEMA_AT(draft, a.smarthost),
     .unset = "gmail", .help = "server to send through"},
    {"auth", &compile_auth, SCHEMA_AT(draft, auth), .need = SCHEMA_REQUIRED,
     .sub = &compile_auth_schema, .help = "how to log in"},
    {"send_as", &send_as, SCHEMA_AT(draft, send_as),
     .help = "further addresses that Gmail lets it send as"},
    {"mail_from", &kept_word, SCHEMA_AT(draft, mail_from),
     .words = "account|original",
     .help = "MAIL FROM: account, or original (default for gmail_relay)"},
    {"quota", &compile_quota, SCHEMA_AT(draft, quota),
     .sub = &compile_quota_schema,
     .help = "limits; default: workspace, for gmail_relay relay"},
    {"max_wait", &schema_duration, SCHEMA_AT(draft, a.max_wait_ms), .min = 0,
     .max = 30ull * 86400 * 1000, .unset = "24h",
     .help = "how long mail may wait for room"},
    {"sessions", &schema_map, 0, 0, .sub = &session_schema,
     .help = "connections to the smarthost"},
    {"trust", &compile_trust, SCHEMA_AT(draft, trust),
     .sub = &compile_trust_schema,
     .help = "who may use it; default: any, for templates [login, local]"},
    {"map", &kept_map, SCHEMA_AT(draft, map), .sub = &compile_map_schema,
     .help = "alias to mailbox, for templates"},
};

const struct schema compile_account_schema = SCHEMA("an account", account_rows);

/* ---- one account ---- */

static bool
read_mail_from(struct compile *c, const struct node *n, struct account *a)
{
    static const struct schema_row row = {"mail_from", &schema_word,
                                          .size = sizeof(uint32_t),
                                          .words = "account|original"};
    uint32_t original = 0;

    if (a->smarthost != NULL)
        original = strcmp(a->smarthost->name, "gmail_relay") == 0;
    if (n != NULL && !schema_word.read(c, &row, n, &original))
        return false;
    a->mail_from_account = original == 0;
    return true;
}

/* One mailbox is one login, one set of counters, one slot. */
static bool
check_identity(struct compile *c, struct account *a)
{
    char identity[IDENTITY_MAX + 1];
    struct account *first;
    char *copy;
    void *old;

    a->id = mailbox_identity(a->address, a->smarthost->name, identity);
    if (a->id == 0)
        return compile_nomem(c);
    if (a->is_template)
        a->id = 0;
    copy = compile_copy(c, slice_of(identity));
    if (copy == NULL || !table_add(c->identities, slice_of(copy), a, &old))
        return compile_nomem(c);
    first = old;
    if (first == NULL)
        return true;
    return diag_error(c->diag, a->at,
                      "account \"%s\" has the address and smarthost of account "
                      "\"%s\" in %s",
                      a->name, first->name,
                      compile_place(a->at, first->at).text);
}

static void
warn_no_login(struct compile *c, const struct account *a)
{
    if (a->auth == AUTH_NONE && strcmp(a->smarthost->name, "gmail") == 0)
        diag_warning(c->diag, a->at,
                     "account \"%s\": smtp.gmail.com takes no mail without a "
                     "login, and auth is none",
                     a->name);
}

/* A login at one provider is none at the other's server. */
static void
warn_other_provider(struct compile *c, const struct account *a)
{
    if (a->client != NULL && a->client->provider == OAUTH_PROVIDER_MICROSOFT &&
        strcmp(a->smarthost->name, "gmail") == 0)
        diag_warning(c->diag, a->at,
                     "account \"%s\": OAuth2 client \"%s\" is Microsoft's, and "
                     "the smarthost is gmail; want smarthost: office365?",
                     a->name, a->client->name);
}

static bool
read_account(struct compile *c, const struct node *key, const struct node *n,
             struct account *a)
{
    struct draft d = {.a = {.name = a->name, .at = key->at}};
    bool ok = schema_read(c, &compile_account_schema, n, key->at, &d);

    d.a.n_send_as = d.send_as.n;
    d.a.send_as = d.send_as.text;
    if (d.a.address != NULL) {
        d.a.is_template = d.a.address[0] == '*' && d.a.address[1] == '@';
        d.a.domain = strrchr(d.a.address, '@') + 1;
    }
    ok &= read_mail_from(c, d.mail_from, &d.a);
    ok &= compile_read_quota(c, d.quota, &d.a);
    if (d.auth != NULL)
        ok &= compile_read_auth(c, d.auth, &d.a);
    if (d.a.address != NULL) {
        ok &= compile_read_trust(c, d.trust, &d.a);
        if (d.map != NULL)
            ok &= compile_read_map(c, d.map, &d.a);
    }
    *a = d.a;
    if (a->address == NULL || a->smarthost == NULL)
        return false;
    ok &= check_identity(c, a);
    if (ok) {
        warn_no_login(c, a);
        warn_other_provider(c, a);
    }
    return ok;
}

static bool
read_accounts(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    struct policy *p = c->p;
    bool ok = true;

    (void)field;
    c->accounts_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    p->accounts = compile_alloc(c, n->n, sizeof *p->accounts);
    if (p->accounts == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++) {
        struct account *a = &p->accounts[p->n_accounts];
        void *old;

        if (!compile_check_name(c, n->key[i])) {
            ok = false;
            continue;
        }
        a->name = compile_copy(c, n->key[i]->text);
        if (a->name == NULL ||
            !table_add(c->accounts, slice_of(a->name), a, &old))
            return compile_nomem(c);
        p->n_accounts++;
        ok &= read_account(c, n->key[i], n->item[i], a);
    }
    return ok;
}

const struct schema_type compile_accounts = {"a map of accounts",
                                             read_accounts};
