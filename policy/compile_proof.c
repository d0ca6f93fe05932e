/* policy/compile_proof.c - `tests`: messages and what should become of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Read after the rules, whose names they use.
 */
#include "policy/compile.h"

#include "policy/address.h"
#include "policy/proof.h"
#include "policy/scalar.h"

struct draft {
    struct proof proof;
    const struct node *recipient, *header, *macro, *attachment;
    const struct node *expect, *rule;
};

/* ---- single values ---- */

/* May be empty (in quotes): a value that is not there. */
static bool
read_text(struct compile *c, const struct schema_row *row, const struct node *n,
          void *field)
{
    struct slice s = {NULL, 0};

    if (n->kind != NODE_SCALAR || node_is_null(n))
        return schema_mismatch(c, row, n);
    if (compile_has_control(n->text))
        return diag_error(c->diag, n->at,
                          "%s: a line break or control character in %s",
                          row->key, node_show(n).text);
    s.len = n->text.len;
    s.at = compile_copy(c, n->text);
    memcpy(field, &s, sizeof s);
    return s.at != NULL;
}

/* As facts have it: without <> and source route; the null sender is empty. */
static bool
read_address(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    struct slice s;
    struct address a;
    const char *end;

    if (!read_text(c, row, n, &s))
        return false;
    if (!address_parse(s, &a))
        return diag_error(c->diag, n->at, "%s: %s is not an address", row->key,
                          node_show(n).text);
    end = a.domain.len > 0 ? a.domain.at + a.domain.len
                           : a.local.at + a.local.len;
    s = a.local.len > 0 ? (struct slice){a.local.at, (size_t)(end - a.local.at)}
                        : (struct slice){"", 0};
    memcpy(field, &s, sizeof s);
    return true;
}

static bool
read_client(struct compile *c, const struct schema_row *row,
            const struct node *n, void *field)
{
    struct facts_client *client = field;
    struct network net;

    if (!compile_is_text(n) || memchr(n->text.at, '/', n->text.len) != NULL ||
        compile_network(n->text, &net) != NETWORK_OK)
        return schema_mismatch(c, row, n);
    memcpy(client->address, net.address, sizeof net.address);
    client->known = true;
    return true;
}

static bool
read_now(struct compile *c, const struct schema_row *row, const struct node *n,
         void *field)
{
    enum scalar_result r = SCALAR_ESYNTAX;
    int64_t now_s = 0;

    if (compile_is_text(n))
        r = scalar_time(n->text, &now_s);
    if (r == SCALAR_ERANGE)
        return diag_error(c->diag, n->at, "%s: there is no such time as %s",
                          row->key, node_show(n).text);
    if (r != SCALAR_OK)
        return schema_mismatch(c, row, n);
    memcpy(field, &now_s, sizeof now_s);
    return true;
}

static const struct schema_type text = {"a text", read_text};
static const struct schema_type address = {"an address (the null sender is "
                                           "\"<>\")",
                                           read_address};
static const struct schema_type client = {"an IPv4 or IPv6 address",
                                          read_client};
static const struct schema_type now = {"a time such as 2026-01-05T12:00:00Z",
                                       read_now};
static const struct schema_type kept_addresses = {
    "an address or a list of addresses", compile_keep};
static const struct schema_type kept_fields = {
    "a map of names and texts or lists of texts", compile_keep};
static const struct schema_type kept_macros = {"a map of names and texts",
                                               compile_keep};
static const struct schema_type kept_names = {"a file name or a list of these",
                                              compile_keep};
static const struct schema_type kept_expect = {
    "mta, {account: NAME}, {pool: NAME}, reject, defer, hold or discard",
    compile_keep};
static const struct schema_type kept_rule = {"the name of a rule, or default",
                                             compile_keep};

static const struct schema_row proof_rows[] = {
    {"name", &schema_text, SCHEMA_AT(draft, proof.name), .max = 100,
     .help = "how it is called when it fails; default: test N"},
    {"sender", &address, SCHEMA_AT(draft, proof.facts.sender),
     .help = "of the envelope; default: the null sender"},
    {"recipient", &kept_addresses, SCHEMA_AT(draft, recipient),
     .need = SCHEMA_REQUIRED,
     .help = "of the envelope; of several, each must come out as expected"},
    {"client", &client, SCHEMA_AT(draft, proof.facts.client),
     .help = "the client's address"},
    {"client_name", &text, SCHEMA_AT(draft, proof.facts.client.name),
     .help = "the client's verified host name"},
    {"helo", &text, SCHEMA_AT(draft, proof.facts.helo),
     .help = "what the client calls itself"},
    {"auth", &text, SCHEMA_AT(draft, proof.facts.auth),
     .help = "the SASL login; default: none"},
    {"local", &schema_yes_no, SCHEMA_AT(draft, proof.facts.local),
     .unset = "no", .help = "it comes from the sendmail command"},
    {"tls", &schema_yes_no, SCHEMA_AT(draft, proof.facts.tls), .unset = "no",
     .help = "the client speaks TLS"},
    {"now", &now, SCHEMA_AT(draft, proof.facts.now_s),
     .unset = "2026-01-05T12:00:00Z",
     .help = "when it comes (RFC 3339); the default is a Monday at noon"},
    {"size", &schema_size, SCHEMA_AT(draft, proof.facts.size_octets),
     .unset = "0", .help = "of the whole message"},
    {"recipients", &schema_number, SCHEMA_AT(draft, proof.facts.n_recipients),
     .min = 1, .max = 1000 * 1000,
     .help = "how many the message has; default: those listed"},
    {"header", &kept_fields, SCHEMA_AT(draft, header),
     .help = "fields of the header, {Name: text} or {Name: [text, text]}"},
    {"macro", &kept_macros, SCHEMA_AT(draft, macro),
     .help = "what the MTA tells in macros, {name: text}"},
    {"attachment", &kept_names, SCHEMA_AT(draft, attachment),
     .help = "file names in the message"},
    {"expect", &kept_expect, SCHEMA_AT(draft, expect), .need = SCHEMA_REQUIRED,
     .help = "what must become of it, with room and tokens everywhere"},
    {"rule", &kept_rule, SCHEMA_AT(draft, rule),
     .help = "which rule must decide it"},
};

const struct schema compile_proof_schema = SCHEMA("a test", proof_rows);

/* ---- lists and maps ---- */

static bool
read_recipients(struct compile *c, const struct node *n, struct proof *p)
{
    static const struct schema_row row = {.key = "recipient", .type = &address};
    struct items items = compile_items(n);
    struct slice *recipient;
    bool ok = true;

    if (items.n == 0)
        return diag_error(c->diag, n->at, "recipient: an empty list");
    recipient = compile_alloc(c, items.n, sizeof *recipient);
    if (recipient == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++) {
        const struct node *item = compile_item(&items, i);

        if (!read_address(c, &row, item, &recipient[i]))
            ok = false;
        else if (recipient[i].len == 0)
            ok = diag_error(c->diag, item->at,
                            "recipient: want an address, found %s",
                            node_show(item).text);
    }
    p->recipient = recipient;
    p->n_recipients = items.n;
    return ok;
}

static bool
read_attachments(struct compile *c, const struct node *n, struct facts *f)
{
    static const struct schema_row row = {.key = "attachment", .type = &text};
    struct items items = compile_items(n);
    struct slice *name = compile_alloc(c, items.n, sizeof *name);
    bool ok = name != NULL;

    for (size_t i = 0; name != NULL && i < items.n; i++)
        ok &= read_text(c, &row, compile_item(&items, i), &name[i]);
    f->attachment = name;
    f->n_attachments = items.n;
    return ok;
}

/* How many values a map of values and lists of values has. */
static size_t
count_values(const struct node *map)
{
    size_t n = 0;

    for (size_t i = 0; i < map->n; i++)
        n += compile_items(map->item[i]).n;
    return n;
}

static bool
read_header(struct compile *c, const struct node *n, struct facts *f)
{
    static const struct schema_row row = {.key = "header", .type = &text};
    struct facts_pair *pair;
    bool ok = true;

    if (n->kind != NODE_MAP)
        return diag_error(c->diag, n->at, "header: want %s, found %s",
                          kept_fields.form, node_show(n).text);
    pair = compile_alloc(c, count_values(n), sizeof *pair);
    f->header = pair;
    for (size_t i = 0; pair != NULL && i < n->n; i++) {
        struct items items = compile_items(n->item[i]);
        struct slice name = n->key[i]->text;

        if (!compile_is_field_name(name)) {
            ok = diag_error(c->diag, n->key[i]->at,
                            "header: %s is not the name of a field",
                            node_show(n->key[i]).text);
            continue;
        }
        name.at = compile_copy(c, name);
        for (size_t k = 0; k < items.n; k++) {
            struct facts_pair *to = &pair[f->n_headers++];

            to->name = name;
            ok &= read_text(c, &row, compile_item(&items, k), &to->value);
        }
    }
    return ok && !c->nomem;
}

/* {name} and name are one. */
static struct slice
without_braces(struct slice s)
{
    if (s.len >= 2 && s.at[0] == '{' && s.at[s.len - 1] == '}')
        return (struct slice){s.at + 1, s.len - 2};
    return s;
}

static bool
read_macros(struct compile *c, const struct node *n, struct facts *f)
{
    static const struct schema_row row = {.key = "macro", .type = &text};
    struct facts_pair *pair;
    bool ok = true;

    if (n->kind != NODE_MAP)
        return diag_error(c->diag, n->at, "macro: want %s, found %s",
                          kept_macros.form, node_show(n).text);
    pair = compile_alloc(c, n->n, sizeof *pair);
    f->macro = pair;
    for (size_t i = 0; pair != NULL && i < n->n; i++) {
        struct facts_pair *to = &pair[f->n_macros++];

        to->name = without_braces(n->key[i]->text);
        to->name.at = compile_copy(c, to->name);
        ok &= read_text(c, &row, n->item[i], &to->value);
    }
    return ok && !c->nomem;
}

/* ---- what is expected ---- */

static const struct {
    const char *word;
    enum action action;
} words[] = {
    {"mta", ACTION_MTA},   {"reject", ACTION_REJECT},   {"defer", ACTION_DEFER},
    {"hold", ACTION_HOLD}, {"discard", ACTION_DISCARD},
};

/* A bare word that is none may be meant as a name. */
static bool
wrong_expect(struct compile *c, const struct node *n)
{
    bool is_word = n->kind == NODE_SCALAR;
    struct suggest hint = suggest_start(is_word ? n->text : SLICE_LIT(""));
    char room[SUGGEST_TEXT];

    if (is_word && table_get(c->accounts, n->text) != NULL)
        return diag_error(c->diag, n->at,
                          "expect: want %s, found %s; did you mean {account: "
                          "%.*s}?",
                          kept_expect.form, node_show(n).text,
                          SLICE_FMT(n->text));
    if (is_word && table_get(c->pools, n->text) != NULL)
        return diag_error(c->diag, n->at,
                          "expect: want %s, found %s; did you mean {pool: "
                          "%.*s}?",
                          kept_expect.form, node_show(n).text,
                          SLICE_FMT(n->text));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        suggest_try(&hint, slice_of(words[i].word));
    return diag_error(c->diag, n->at, "expect: want %s, found %s%s",
                      kept_expect.form, node_show(n).text,
                      suggest_text(&hint, room));
}

static bool
read_expect(struct compile *c, const struct node *n, struct proof *p)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (n->kind == NODE_SCALAR &&
            slice_eq(n->text, slice_of(words[i].word))) {
            p->action = words[i].action;
            return true;
        }
    p->action = ACTION_ACCOUNT;
    if (n->kind != NODE_MAP || n->n != 1)
        return wrong_expect(c, n);
    if (slice_eq(n->key[0]->text, SLICE_LIT("account"))) {
        p->account = compile_find(c, c->accounts, c->accounts_lost,
                                  "an account", n->item[0]);
        return p->account != NULL;
    }
    if (slice_eq(n->key[0]->text, SLICE_LIT("pool"))) {
        p->pool =
            compile_find(c, c->pools, c->pools_lost, "a pool", n->item[0]);
        return p->pool != NULL;
    }
    return diag_error(c->diag, n->key[0]->at,
                      "unknown key %s in expect: want %s",
                      node_show(n->key[0]).text, kept_expect.form);
}

static bool
read_rule_name(struct compile *c, const struct node *n, struct proof *p)
{
    const struct rule *r;

    p->rule = "default";
    if (n->kind == NODE_SCALAR && slice_eq(n->text, slice_of(p->rule)))
        return true;
    r = compile_find(c, c->rule_names, c->rules_lost, "a rule", n);
    if (r != NULL)
        p->rule = r->name;
    return r != NULL;
}

/* ---- the whole ---- */

static bool
read_proof(struct compile *c, const struct node *n, size_t number,
           struct proof *ret)
{
    struct draft d = {.proof = {.at = n->at, .facts = {.stage = FACTS_EOM}}};
    struct proof *p = &d.proof;
    bool ok = schema_read(c, &compile_proof_schema, n, n->at, &d);

    if (n->kind != NODE_MAP)
        return false;
    if (p->name == NULL) {
        p->name = arena_printf(c->arena, "test %zu", number);
        ok &= p->name != NULL || compile_nomem(c);
    }
    if (d.recipient != NULL)
        ok &= read_recipients(c, d.recipient, p);
    if (d.header != NULL)
        ok &= read_header(c, d.header, &p->facts);
    if (d.macro != NULL)
        ok &= read_macros(c, d.macro, &p->facts);
    if (d.attachment != NULL)
        ok &= read_attachments(c, d.attachment, &p->facts);
    if (d.expect != NULL)
        ok &= read_expect(c, d.expect, p);
    if (d.rule != NULL)
        ok &= read_rule_name(c, d.rule, p);
    if (p->facts.n_recipients == 0)
        p->facts.n_recipients = p->n_recipients;
    *ret = *p;
    return ok;
}

static bool
read_proofs(struct compile *c, const struct schema_row *row,
            const struct node *n, void *field)
{
    struct policy *p = c->p;
    bool ok = true;

    (void)field;
    if (n->kind != NODE_LIST)
        return schema_mismatch(c, row, n);
    p->proofs = compile_alloc(c, n->n, sizeof *p->proofs);
    if (p->proofs == NULL)
        return false;
    p->n_proofs = n->n;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_proof(c, n->item[i], i + 1, &p->proofs[i]);
    return ok;
}

const struct schema_type compile_proofs = {"a list of tests", read_proofs};
