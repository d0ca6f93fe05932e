/* policy/compile.c - the top of the configuration; see compile.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/index.h"
#include "policy/rule_index.h"
#include "policy/set.h"

enum { FORMAT_VERSION = 1 };

/* ---- what all parts use ---- */

bool
compile_nomem(struct compile *c)
{
    c->nomem = true;
    return false;
}

void *
compile_alloc(struct compile *c, size_t n, size_t size)
{
    void *at = arena_alloc(c->arena, n, size);

    if (at == NULL)
        c->nomem = true;
    return at;
}

char *
compile_copy(struct compile *c, struct slice s)
{
    char *copy = arena_copy(c->arena, s);

    if (copy == NULL)
        c->nomem = true;
    return copy;
}

char *
compile_lower(struct compile *c, struct slice s)
{
    char *copy = compile_copy(c, s);

    for (size_t i = 0; copy != NULL && i < s.len; i++)
        copy[i] = slice_lower(copy[i]);
    return copy;
}

bool
compile_is_text(const struct node *n)
{
    return n->kind == NODE_SCALAR && n->text.len > 0 && !node_is_null(n);
}

bool
compile_has_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] < 0x20 || s.at[i] == 0x7F)
            return true;
    return false;
}

struct items
compile_items(const struct node *n)
{
    if (n->kind == NODE_LIST)
        return (struct items){.n = n->n, .list = n};
    return (struct items){.n = 1, .single = n};
}

const struct node *
compile_item(const struct items *items, size_t i)
{
    return items->list != NULL ? items->list->item[i] : items->single;
}

bool
compile_keep(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    (void)c;
    (void)row;
    memcpy(field, &n, sizeof n);
    return true;
}

bool
compile_check_name(struct compile *c, const struct node *key)
{
    enum { NAME_MAX_ = 63 }; /* it becomes a part of IDENTITY_MAX */
    bool good = key->text.len > 0 && key->text.len <= NAME_MAX_;

    for (size_t i = 0; good && i < key->text.len; i++) {
        char l = slice_lower(key->text.at[i]);

        good = (l >= 'a' && l <= 'z') || (l >= '0' && l <= '9') || l == '_' ||
               l == '-' || l == '.';
    }
    if (good)
        return true;
    return diag_error(c->diag, key->at,
                      "%s cannot be a name: want 1 to %d letters, digits, "
                      "\"_\", \"-\" or \".\"",
                      node_show_text(key->text).text, NAME_MAX_);
}

static void
suggest_each(struct slice key, void *value, void *cookie)
{
    (void)value;
    suggest_try(cookie, key);
}

void *
compile_find(struct compile *c, const struct table *t, bool lost,
             const char *what, const struct node *name)
{
    struct suggest hint;
    char text[SUGGEST_TEXT];
    void *found;

    if (!compile_is_text(name)) {
        diag_error(c->diag, name->at, "want the name of %s, found %s", what,
                   node_show(name).text);
        return NULL;
    }
    found = t != NULL ? table_get(t, name->text) : NULL;
    if (found != NULL || lost)
        return found;
    hint = suggest_start(name->text);
    if (t != NULL && c->diag->n < DIAG_MAX)
        table_each(t, suggest_each, &hint);
    diag_error(c->diag, name->at, "%s: there is no such %s%s",
               node_show_text(name->text).text, what + strcspn(what, " ") + 1,
               suggest_text(&hint, text));
    return NULL;
}

struct place
compile_place(struct loc here, struct loc there)
{
    enum { FILE_SHOWN = 80 }; /* octets; of a longer path the end */
    const char *file = there.file != NULL ? there.file : "";
    struct slice dir = compile_directory(here.file != NULL ? here.file : "");
    struct place ret;
    size_t len;

    if (here.file != NULL && strcmp(here.file, file) == 0) {
        snprintf(ret.text, sizeof ret.text, "line %u", there.line);
        return ret;
    }
    if (dir.len > 0 && strncmp(file, dir.at, dir.len) == 0)
        file += dir.len;
    len = strlen(file);
    snprintf(ret.text, sizeof ret.text, "%s%s:%u",
             len > FILE_SHOWN ? "..." : "",
             file + (len > FILE_SHOWN ? len - FILE_SHOWN : 0), there.line);
    return ret;
}

/* ---- rows of settings ---- */

static bool
read_version(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    (void)field;
    if (n->kind != NODE_SCALAR || !slice_eq(n->text, SLICE_LIT("1")))
        return diag_error(c->diag, n->at,
                          "%s: format version %s is not known: this program "
                          "reads version %d",
                          row->key, node_show(n).text, FORMAT_VERSION);
    return true;
}

static const struct schema_type version = {"a format version", read_version};

static bool
read_hostname(struct compile *c, const struct schema_row *row,
              const struct node *n, void *field)
{
    if (!compile_domain.read(c, row, n, field))
        return false;
    if (memchr(n->text.at, '.', n->text.len) == NULL)
        diag_warning(c->diag, n->at,
                     "%s: %s has no dot: Google refuses EHLO names that are "
                     "not fully qualified",
                     row->key, node_show(n).text);
    return true;
}

static const struct schema_type host_name = {"a host name", read_hostname};

static bool
read_tag_domain(struct compile *c, const struct schema_row *row,
                const struct node *n, void *field)
{
    if (!compile_domain.read(c, row, n, field))
        return false;
    if (n->text.len > row->max)
        return diag_error(c->diag, n->at,
                          "%s: longer than %" PRIu64 " octets, which leaves "
                          "too little room for addresses",
                          row->key, row->max);
    if (!slice_ends_nocase(n->text, SLICE_LIT(".invalid")))
        diag_warning(c->diag, n->at,
                     "%s: mail to %s and below it will be refused; a name "
                     "that ends in .invalid cannot be anybody's (RFC 2606)",
                     row->key, node_show(n).text);
    return true;
}

static const struct schema_type tag_domain = {"a domain", read_tag_domain};

/* The object of the top: the policy, and what becomes other fields of it. */
struct top {
    struct policy p;
    struct texts mta_domains, internal_domains;
    struct networks reinject_from;
    unsigned unparseable; /* 0 ignore, 1 reject */
};

static const struct schema_row milter_rows[] = {
    {"listen", &compile_milter_listen, SCHEMA_AT(top, p.milter.listen),
     .unset = "unix:/run/gmroute/milter.sock",
     .help = "where the MTA reaches the milter; libmilter's syntax"},
    {"tag_domain", &tag_domain, SCHEMA_AT(top, p.milter.tag_domain), .max = 63,
     .unset = "gmroute.invalid",
     .help = "tagged recipients lie below this domain"},
    {"reinject_from", &compile_networks, SCHEMA_AT(top, reinject_from),
     .help = "content filters that hand tagged mail back"},
};

static const struct schema_row deliver_rows[] = {
    {"listen", &compile_lmtp_listen, SCHEMA_AT(top, p.deliver.listen),
     .unset = "unix:/var/spool/postfix/gmroute/deliver.sock",
     .help = "where the MTA hands mail over by LMTP"},
    {"connections", &schema_number, SCHEMA_AT(top, p.deliver.connections_max),
     .min = 1, .max = 10000, .unset = "512",
     .help = "LMTP connections at once"},
    {"sessions", &schema_number, SCHEMA_AT(top, p.deliver.sessions_max),
     .min = 1, .max = 100000, .unset = "4096",
     .help = "sessions kept open, all accounts together"},
};

static const struct schema_row state_rows[] = {
    {"directory", &schema_path, SCHEMA_AT(top, p.state.directory),
     .unset = "/var/lib/gmroute", .help = "ledger, keys and rotated tokens"},
    {"runtime", &schema_path, SCHEMA_AT(top, p.state.runtime),
     .unset = "/run/gmroute", .help = "the shared-memory files, on a tmpfs"},
    {"accounts", &schema_number, SCHEMA_AT(top, p.state.accounts), .min = 1,
     .max = 1 << 20, .unset = "16384",
     .help = "mailboxes that have room in the shared memory"},
    {"unique_recipients", &schema_number,
     SCHEMA_AT(top, p.state.unique_recipients), .min = 1, .max = 100000000,
     .unset = "1000000",
     .help = "recipients that unique limits remember, of all accounts"},
};

static const struct schema milter_schema = SCHEMA("milter", milter_rows);
static const struct schema deliver_schema = SCHEMA("deliver", deliver_rows);
static const struct schema state_schema = SCHEMA("state", state_rows);

/* In the order in which they are read: names before what uses them. */
static const struct schema_row top_rows[] = {
    {"gmroute", &version, 0, 0, .need = SCHEMA_REQUIRED,
     .help = "version of the file's format: 1"},
    {"include", &compile_include, 0, 0,
     .help = "further files, as globs; relative to this one"},
    {"hostname", &host_name, SCHEMA_AT(top, p.hostname),
     .help = "EHLO name; default: this host's fully qualified name"},
    {"mta_domains", &compile_domains, SCHEMA_AT(top, mta_domains),
     .help = "domains that the MTA delivers itself: never routed"},
    {"internal_domains", &compile_domains, SCHEMA_AT(top, internal_domains),
     .help = "recipients elsewhere count as external"},
    {"untaggable", &schema_word, SCHEMA_AT(top, p.untaggable),
     .words = "mta|reject|defer", .unset = "mta",
     .help = "what to do with a recipient that cannot be tagged"},
    {"unparseable", &schema_word, SCHEMA_AT(top, unparseable),
     .words = "ignore|reject", .unset = "ignore",
     .help = "a header that a rule asks for and that cannot be read"},
    {"milter", &schema_map, 0, 0, .sub = &milter_schema,
     .help = "the filter that the MTA asks"},
    {"deliver", &schema_map, 0, 0, .sub = &deliver_schema,
     .help = "the agent that sends"},
    {"state", &schema_map, 0, 0, .sub = &state_schema,
     .help = "where files are kept"},
    {"alert", &compile_alert, 0, 0, .sub = &compile_alert_schema,
     .help = "whom to tell when an account needs somebody"},
    {"smarthosts", &compile_smarthosts, 0, 0, .sub = &compile_smarthost_schema,
     .help = "servers that take mail; gmail, gmail_relay and office365 are "
             "built in"},
    {"oauth_clients", &compile_clients, 0, 0, .sub = &compile_client_schema,
     .help = "OAuth2 clients that refresh tokens belong to"},
    {"accounts", &compile_accounts, 0, 0, .sub = &compile_account_schema,
     .help = "accounts to send through"},
    {"pools", &compile_pools, 0, 0, .sub = &compile_pool_schema,
     .help = "several accounts under one name"},
    {"lists", &compile_lists, 0, 0, .sub = &compile_list_schema,
     .help = "named lists of patterns, here or in files"},
    {"timezone", &compile_timezone, 0, 0,
     .help = "of the match key time, where it names none; default: the "
             "host's"},
    {"rules", &compile_rules, 0, 0,
     .help = "what goes where: the first match wins, for each recipient",
     .sub = &compile_rule_schema},
    {"default", &compile_default, 0, 0, .unset = "mta",
     .help = "for what no rule matches; a form of route"},
    {"tests", &compile_proofs, 0, 0, .sub = &compile_proof_schema,
     .help = "messages and what should become of them"},
};

const struct schema schema_top = SCHEMA("the configuration", top_rows);

/* ---- the whole ---- */

static int
compare_id(const void *a, const void *b)
{
    const struct policy_id *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

static struct string_set *
domain_set(struct compile *c, const char *const *text, size_t n)
{
    struct slice *s = arena_alloc(c->scratch, n, sizeof *s);
    struct string_set *set = NULL;

    for (size_t i = 0; s != NULL && i < n; i++)
        s[i] = slice_of(text[i]);
    if (s != NULL)
        set = string_set_new(c->arena, s, n);
    if (set == NULL)
        c->nomem = true;
    return set;
}

static bool
build_index(struct compile *c)
{
    struct policy *p = c->p;
    struct policy_index *x = compile_alloc(c, 1, sizeof *x);

    if (x == NULL)
        return false;
    x->names = c->accounts;
    x->identities = c->identities;
    x->mta_domains = domain_set(c, p->mta_domains, p->n_mta_domains);
    x->internal_domains =
        domain_set(c, p->internal_domains, p->n_internal_domains);
    x->id = compile_alloc(c, p->n_accounts, sizeof *x->id);
    x->rules = rule_index_new(c->arena, c->scratch, p->rules, p->n_rules);
    if (c->nomem || x->rules == NULL)
        return compile_nomem(c);
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];

        if (!a->is_template)
            x->id[x->n_ids++] = (struct policy_id){a->id, a};
    }
    qsort(x->id, x->n_ids, sizeof *x->id, compare_id);
    p->index = x;
    return true;
}

static bool
make_tables(struct compile *c)
{
    struct table **t[] = {
        &c->smarthosts, &c->clients,    &c->accounts, &c->pools,  &c->lists,
        &c->identities, &c->rule_names, &c->plans,    &c->macros, &c->zones};

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        *t[i] = table_new(c->arena);
        if (*t[i] == NULL)
            return compile_nomem(c);
    }
    return true;
}

/* The sections are read into c->p where others must see them at once; the
 * plain settings through `top`. */
static bool
compile_tree(struct compile *c, const struct node *root)
{
    struct top *top = arena_alloc(c->scratch, 1, sizeof *top);
    struct policy *p = c->p;
    bool ok;

    if (top == NULL || !make_tables(c))
        return compile_nomem(c);
    if (root->kind != NODE_MAP)
        return diag_error(c->diag, root->at,
                          "want keys and their values (gmroute: 1 and so on), "
                          "found %s",
                          node_show(root).text);
    if (!compile_builtin_smarthosts(c))
        return false;
    ok = schema_read(c, &schema_top, root, root->at, top);
    if (node_get(root, "default") != NULL)
        p->default_at = node_get(root, "default")->at;
    p->hostname = top->p.hostname;
    p->n_mta_domains = top->mta_domains.n;
    p->mta_domains = top->mta_domains.text;
    p->n_internal_domains = top->internal_domains.n;
    p->internal_domains = top->internal_domains.text;
    p->untaggable = top->p.untaggable;
    p->unparseable_reject = top->unparseable == 1;
    p->milter.listen = top->p.milter.listen;
    p->milter.tag_domain = top->p.milter.tag_domain;
    p->milter.n_reinject_from = top->reinject_from.n;
    p->milter.reinject_from = top->reinject_from.network;
    p->deliver.listen = top->p.deliver.listen;
    p->deliver.connections_max = top->p.deliver.connections_max;
    p->deliver.sessions_max = top->p.deliver.sessions_max;
    p->state.directory = top->p.state.directory;
    p->state.runtime = top->p.state.runtime;
    p->state.accounts = top->p.state.accounts;
    p->state.unique_recipients = top->p.state.unique_recipients;
    if (!ok || c->nomem)
        return false;
    compile_warn_unused_lists(c);
    compile_warn(c);
    compile_check_rules(c);
    if (!compile_sort_plans(c) || !build_index(c))
        return false;
    compile_check_unreachable(c);
    return true;
}

static struct policy *
new_policy(const char *file)
{
    struct arena *a = arena_new();
    struct policy *p = a != NULL ? arena_alloc(a, 1, sizeof *p) : NULL;

    if (p != NULL) {
        p->file = arena_copy(a, slice_of(file));
        p->arena = a;
    }
    if (p != NULL && p->file != NULL)
        return p;
    arena_free(a);
    return NULL;
}

struct policy *
policy_compile(const char *text, size_t len, const char *file,
               const struct policy_files *files, struct diag *d)
{
    struct policy *p;
    struct compile c = {.diag = d, .files = files};
    struct node *root = NULL;
    enum tree_result r = TREE_ENOMEM;

    memset(d, 0, sizeof *d);
    p = new_policy(file);
    c.scratch = arena_new();
    if (p != NULL && c.scratch != NULL) {
        c.p = p;
        c.arena = p->arena;
        r = tree_read(c.scratch, text, len, p->file, d, &root);
        if (root != NULL)
            root = compile_include_all(&c, root, len);
        if (root != NULL)
            compile_tree(&c, root);
    }
    if (r == TREE_ENOMEM || c.nomem)
        diag_error(d, (struct loc){file, 0, 0}, "out of memory");
    diag_sort(d);
    arena_free(c.scratch);
    if (d->n_errors == 0)
        return p;
    policy_free(p);
    return NULL;
}

void
policy_free(struct policy *p)
{
    if (p != NULL)
        arena_free(p->arena);
}
