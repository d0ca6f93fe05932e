/* policy/compile_step.c - the forms of `route`, replies, pools.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

/* ---- replies ---- */

enum { REPLY_OCTETS_MAX = 200 };

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes a number of 1 to 3 digits, without a leading zero, off *s. */
static bool
take_part(struct slice *s)
{
    size_t n = 0;

    while (n < s->len && is_digit(s->at[n]))
        n++;
    if (n == 0 || n > 3 || (n > 1 && s->at[0] == '0'))
        return false;
    *s = slice_from(*s, n);
    return true;
}

static bool
take_char(struct slice *s, char want)
{
    if (s->len == 0 || s->at[0] != want)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

/* "550 5.7.1 text": RFC 5321 4.2, RFC 2034 4, RFC 3463 2. */
static bool
is_reply(struct slice s, char klass)
{
    if (s.len < 4 || s.at[0] != klass || s.at[1] < '0' || s.at[1] > '5' ||
        !is_digit(s.at[2]))
        return false;
    s = slice_from(s, 3);
    return take_char(&s, ' ') && take_char(&s, klass) && take_char(&s, '.') &&
           take_part(&s) && take_char(&s, '.') && take_part(&s) &&
           take_char(&s, ' ') && slice_trim(s).len > 0;
}

const char *
compile_reply(struct compile *c, const char *key, char klass,
              const struct node *n)
{
    const char *like = klass == '5' ? "550 5.7.1 text" : "451 4.7.1 text";

    if (!compile_is_text(n) || !is_reply(n->text, klass)) {
        diag_error(c->diag, n->at, "%s: want a reply such as \"%s\", found %s",
                   key, like, node_show(n).text);
        return NULL;
    }
    if (slice_starts(n->text, "421")) {
        diag_error(c->diag, n->at,
                   "%s: 421 closes the connection for all that comes on it: "
                   "want 450 or 451",
                   key);
        return NULL;
    }
    if (n->text.len > REPLY_OCTETS_MAX) {
        diag_error(c->diag, n->at, "%s: the reply is longer than %d octets",
                   key, REPLY_OCTETS_MAX);
        return NULL;
    }
    for (size_t i = 0; i < n->text.len; i++)
        if (n->text.at[i] < ' ' || (unsigned char)n->text.at[i] >= 0x7F) {
            diag_error(c->diag, n->at,
                       "%s: a reply is one line of printable ASCII, found %s",
                       key, node_show(n).text);
            return NULL;
        }
    return compile_copy(c, n->text);
}

/* ---- steps ---- */

static const char default_defer[] =
    "451 4.7.1 No sending account can take this message now, try again later";
static const char default_reject[] =
    "550 5.7.1 No sending account can take this message";

static const char *
forms(bool otherwise)
{
    return otherwise ? "wait, mta, defer, reject, {account: NAME} or {pool: "
                       "NAME}"
                     : "mta, {account: NAME} or {pool: NAME}";
}

/* A bare word that is no form may be meant as a name. */
static bool
wrong_word(struct compile *c, const char *key, bool otherwise,
           const struct node *n)
{
    const char *kind = NULL;

    if (n->kind == NODE_SCALAR && table_get(c->accounts, n->text) != NULL)
        kind = "account";
    else if (n->kind == NODE_SCALAR && table_get(c->pools, n->text) != NULL)
        kind = "pool";
    if (kind != NULL)
        return diag_error(
            c->diag, n->at, "%s: want %s, found %s; did you mean {%s: %.*s}?",
            key, forms(otherwise), node_show(n).text, kind, SLICE_FMT(n->text));
    return diag_error(c->diag, n->at, "%s: want %s, found %s", key,
                      forms(otherwise), node_show(n).text);
}

static bool
read_word_step(struct compile *c, const char *key, bool otherwise,
               const struct node *n, struct step *ret)
{
    static const struct {
        const char *word;
        bool only_otherwise;
        struct step step;
    } words[] = {
        {"mta", false, {.kind = STEP_MTA}},
        {"wait", true, {.kind = STEP_WAIT}},
        {"defer", true, {.kind = STEP_DEFER, .reply = default_defer}},
        {"reject", true, {.kind = STEP_REJECT, .reply = default_reject}},
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_eq(n->text, slice_of(words[i].word)) &&
            (otherwise || !words[i].only_otherwise)) {
            *ret = words[i].step;
            return true;
        }
    return wrong_word(c, key, otherwise, n);
}

bool
compile_step(struct compile *c, const char *key, bool otherwise,
             const struct node *n, struct step *ret)
{
    struct slice form;
    struct step s = {.kind = STEP_ACCOUNT};

    if (n->kind == NODE_SCALAR)
        return read_word_step(c, key, otherwise, n, ret);
    if (n->kind != NODE_MAP || n->n != 1)
        return wrong_word(c, key, otherwise, n);
    form = n->key[0]->text;
    if (slice_eq(form, SLICE_LIT("account"))) {
        s.account = compile_find(c, c->accounts, c->accounts_lost, "an account",
                                 n->item[0]);
        if (s.account == NULL)
            return false;
    } else if (slice_eq(form, SLICE_LIT("pool"))) {
        s.kind = STEP_POOL;
        s.pool = compile_find(c, c->pools, c->pools_lost, "a pool", n->item[0]);
        if (s.pool == NULL)
            return false;
    } else if (otherwise && slice_eq(form, SLICE_LIT("defer"))) {
        s.kind = STEP_DEFER;
        s.reply = compile_reply(c, "defer", '4', n->item[0]);
        if (s.reply == NULL)
            return false;
    } else if (otherwise && slice_eq(form, SLICE_LIT("reject"))) {
        s.kind = STEP_REJECT;
        s.reply = compile_reply(c, "reject", '5', n->item[0]);
        if (s.reply == NULL)
            return false;
    } else {
        return diag_error(c->diag, n->key[0]->at,
                          "unknown key %s in %s: want %s",
                          node_show_text(form).text, key, forms(otherwise));
    }
    *ret = s;
    return true;
}

/* ---- pools ---- */

struct member_keys {
    const struct account *account;
    unsigned weight;
};

static bool
read_account_name(struct compile *c, const struct schema_row *row,
                  const struct node *n, void *field)
{
    const struct account *a =
        compile_find(c, c->accounts, c->accounts_lost, "an account", n);

    (void)row;
    memcpy(field, &a, sizeof a);
    return a != NULL;
}

static const struct schema_type account_name = {"the name of an account",
                                                read_account_name};

static const struct schema_row member_rows[] = {
    {"account", &account_name, SCHEMA_AT(member_keys, account),
     .need = SCHEMA_REQUIRED, .help = "its name"},
    {"weight", &schema_number, SCHEMA_AT(member_keys, weight), .min = 1,
     .max = 1000, .unset = "1", .help = "its part, for pick: weighted"},
};

static const struct schema member_schema =
    SCHEMA("a member of a pool", member_rows);

struct pool_keys {
    struct pool pool;
    const struct node *accounts;
};

static const struct schema_type kept_list = {
    "a list of accounts (NAME or {account: NAME, weight: N})", compile_keep};

static const struct schema_row pool_rows[] = {
    {"accounts", &kept_list, SCHEMA_AT(pool_keys, accounts),
     .need = SCHEMA_REQUIRED, .sub = &member_schema, .help = "its members"},
    {"pick", &schema_word, SCHEMA_AT(pool_keys, pool.pick),
     .words = "most_room|round_robin|weighted|by_sender", .unset = "most_room",
     .help = "which member comes first"},
};

const struct schema compile_pool_schema = SCHEMA("a pool", pool_rows);

static bool
read_member(struct compile *c, const struct node *n, struct pool *pool)
{
    struct member_keys m = {.weight = 1};
    bool ok = n->kind == NODE_MAP ? schema_read(c, &member_schema, n, n->at, &m)
                                  : read_account_name(c, NULL, n, &m.account);

    if (!ok)
        return false;
    for (size_t i = 0; i < pool->n; i++)
        if (pool->member[i].account == m.account)
            return diag_error(c->diag, n->at,
                              "the account %s is in the pool already",
                              m.account->name);
    pool->member[pool->n].account = m.account;
    pool->member[pool->n++].weight = m.weight;
    return true;
}

static bool
read_pool(struct compile *c, const struct node *key, const struct node *n,
          struct pool *pool)
{
    struct pool_keys keys = {.accounts = NULL};
    struct items items;
    bool ok = schema_read(c, &compile_pool_schema, n, key->at, &keys);

    pool->pick = keys.pool.pick;
    if (keys.accounts == NULL)
        return false;
    items = compile_items(keys.accounts);
    if (items.n < 1 || items.n > CANDIDATES_MAX)
        return diag_error(c->diag, keys.accounts->at,
                          "a pool has 1 to %d accounts", CANDIDATES_MAX);
    pool->member = compile_alloc(c, items.n, sizeof *pool->member);
    if (pool->member == NULL)
        return false;
    for (size_t i = 0; i < items.n; i++)
        ok &= read_member(c, compile_item(&items, i), pool);
    return ok;
}

static bool
read_pools(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    struct policy *p = c->p;
    bool ok = true;

    (void)field;
    c->pools_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return schema_mismatch(c, row, n);
    p->pools = compile_alloc(c, n->n, sizeof *p->pools);
    if (p->pools == NULL)
        return false;
    for (size_t i = 0; i < n->n; i++) {
        struct pool *pool = &p->pools[p->n_pools];
        void *old;

        if (!compile_check_name(c, n->key[i])) {
            ok = false;
            continue;
        }
        p->n_pools++;
        pool->at = n->key[i]->at;
        pool->name = compile_copy(c, n->key[i]->text);
        if (pool->name == NULL ||
            !table_add(c->pools, slice_of(pool->name), pool, &old))
            return compile_nomem(c);
        ok &= read_pool(c, n->key[i], n->item[i], pool);
    }
    return ok;
}

const struct schema_type compile_pools = {"a map of pools", read_pools};
