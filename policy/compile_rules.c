/* policy/compile_rules.c - rules and the default.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/compile.h"

/* A rule as it is written; exactly one of route, reject, defer, hold and
 * discard. */
struct draft {
    const char *name;
    struct condition match;
    const struct node *route, *reject, *defer, *hold, *discard;
    const struct node *otherwise, *share, *from;
    const struct node *add_header, *remove_header;
    bool shadow;
};

static const struct schema_type kept_route = {
    "mta, {account: NAME} or {pool: NAME}", compile_keep};
static const struct schema_type kept_reply = {"a reply", compile_keep};
static const struct schema_type kept_steps = {
    "wait, mta, defer, reject, {account: NAME} or {pool: NAME}, or a list of "
    "these",
    compile_keep};
static const struct schema_type kept_share = {"a share such as 80%",
                                              compile_keep};
static const struct schema_type kept_from = {"keep, rewrite or require",
                                             compile_keep};

static const struct schema_type kept_reason = {"a reason", compile_keep};
static const struct schema_type kept_true = {"true", compile_keep};
static const struct schema_type kept_fields = {"a map of names and texts",
                                               compile_keep};
static const struct schema_type kept_names = {
    "the name of a field, or a list of these", compile_keep};

static const struct schema_row rule_rows[] = {
    {"name", &schema_text, SCHEMA_AT(draft, name), .max = 100,
     .help = "for logs and explain; default: rule N"},
    {"match", &compile_match, SCHEMA_AT(draft, match),
     .help = "conditions, all of which must hold; default: none"},
    {"route", &kept_route, SCHEMA_AT(draft, route),
     .help = "which way the message goes"},
    {"reject", &kept_reply, SCHEMA_AT(draft, reject),
     .help = "refuse for good, such as \"550 5.7.1 text\""},
    {"defer", &kept_reply, SCHEMA_AT(draft, defer),
     .help = "refuse for now, such as \"451 4.7.1 text\""},
    {"otherwise", &kept_steps, SCHEMA_AT(draft, otherwise),
     .help = "what to try when the account is full or unusable; default: wait"},
    {"share", &kept_share, SCHEMA_AT(draft, share),
     .help = "part of the account's limits that may be in use"},
    {"from", &kept_from, SCHEMA_AT(draft, from),
     .help = "header From that is not the account's: keep, rewrite, require"},
    {"hold", &kept_reason, SCHEMA_AT(draft, hold),
     .help = "put the message into the MTA's quarantine; the reason that the "
             "MTA shows"},
    {"discard", &kept_true, SCHEMA_AT(draft, discard),
     .help = "take the recipient out and tell nobody: true"},
    {"add_header", &kept_fields, SCHEMA_AT(draft, add_header),
     .help = "fields to add, {Name: text}; not From, To, Cc, Bcc, Date, "
             "Message-ID, Received, Return-Path, MIME-Version, Content-*, "
             "DKIM-Signature"},
    {"remove_header", &kept_names, SCHEMA_AT(draft, remove_header),
     .help = "fields to remove, before those are added; not From, Date, "
             "Message-ID, Received, Return-Path, MIME-Version, Content-*"},
    {"shadow", &schema_yes_no, SCHEMA_AT(draft, shadow), .unset = "no",
     .help = "only log what the rule would do, and try the next one"},
};

const struct schema compile_rule_schema = SCHEMA("a rule", rule_rows);

/* ---- otherwise, share, from ---- */

static bool
is_account(const struct step *s)
{
    return s->kind == STEP_ACCOUNT || s->kind == STEP_POOL;
}

static bool
same_target(const struct step *a, const struct step *b)
{
    return a->kind == b->kind && a->account == b->account && a->pool == b->pool;
}

/* What can never come to its turn is a mistake, if a harmless one. */
static void
warn_idle_step(struct compile *c, const struct node *n, const struct plan *plan)
{
    const struct step *s = &plan->step[plan->n];

    for (unsigned i = 1; i < plan->n; i++)
        if (!is_account(&plan->step[i]) && plan->step[i].kind != STEP_WAIT) {
            diag_warning(c->diag, n->at,
                         "otherwise: nothing is tried after mta, defer or "
                         "reject");
            return;
        }
    for (unsigned i = 0; i < plan->n; i++)
        if (is_account(s) && same_target(&plan->step[i], s)) {
            diag_warning(
                c->diag, n->at, "otherwise: %s is tried already",
                s->kind == STEP_POOL ? s->pool->name : s->account->name);
            return;
        }
}

/* The route is in plan->step[0]; the steps have room for CANDIDATES_MAX. */
static bool
read_otherwise(struct compile *c, const struct node *n, struct plan *plan)
{
    struct items items;
    bool ok = true;

    if (n == NULL) {
        plan->step[plan->n++] = (struct step){.kind = STEP_WAIT};
        return true;
    }
    items = compile_items(n);
    if (items.n == 0)
        return diag_error(c->diag, n->at,
                          "otherwise: an empty list; for an answer at once "
                          "write defer");
    if (items.n >= CANDIDATES_MAX)
        return diag_error(c->diag, n->at, "otherwise: more than %d entries",
                          CANDIDATES_MAX - 1);
    for (size_t i = 0; i < items.n; i++) {
        const struct node *item = compile_item(&items, i);

        if (!compile_step(c, "otherwise", true, item, &plan->step[plan->n])) {
            ok = false;
            continue;
        }
        warn_idle_step(c, item, plan);
        plan->n++;
    }
    return ok;
}

static bool
read_share_from(struct compile *c, const struct draft *d, struct plan *plan)
{
    static const struct schema_row share = {"share", &schema_percent,
                                            .size = sizeof(unsigned), .min = 1,
                                            .max = 100};
    static const struct schema_row from = {"from", &schema_word,
                                           .size = sizeof(unsigned),
                                           .words = "keep|rewrite|require"};
    bool ok = true;

    if (d->share != NULL)
        ok &= schema_percent.read(c, &share, d->share, &plan->share_percent);
    if (d->from != NULL)
        ok &= schema_word.read(c, &from, d->from, &plan->from);
    return ok;
}

/* These go with an account. */
static bool
check_no_extras(struct compile *c, const struct draft *d)
{
    const struct {
        const char *key;
        const struct node *n;
    } extras[] = {
        {"otherwise", d->otherwise}, {"share", d->share}, {"from", d->from}};
    bool ok = true;

    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
        if (extras[i].n != NULL)
            ok = diag_error(c->diag, extras[i].n->at,
                            "%s goes with a route to an account or pool only",
                            extras[i].key);
    return ok;
}

/* ---- what a rule does ---- */

static bool
read_route(struct compile *c, const struct draft *d, struct rule *r,
           struct plan *plan)
{
    struct step *s = &plan->step[0];
    bool ok;

    if (!compile_step(c, "route", false, d->route, s))
        return false;
    plan->n = 1;
    r->action = is_account(s) ? ACTION_ACCOUNT : ACTION_MTA;
    if (r->action == ACTION_MTA)
        return check_no_extras(c, d);
    ok = read_share_from(c, d, plan);
    return read_otherwise(c, d->otherwise, plan) && ok;
}

static bool
read_refusal(struct compile *c, const struct draft *d, struct rule *r,
             struct plan *plan)
{
    struct step *s = &plan->step[0];

    r->action = d->reject != NULL ? ACTION_REJECT : ACTION_DEFER;
    s->kind = d->reject != NULL ? STEP_REJECT : STEP_DEFER;
    r->reply = d->reject != NULL ? compile_reply(c, "reject", '5', d->reject)
                                 : compile_reply(c, "defer", '4', d->defer);
    s->reply = r->reply;
    plan->n = 1;
    return r->reply != NULL;
}

/* The MTA shows it to its administrator: as a reply, printable ASCII. */
static bool
read_hold(struct compile *c, const struct draft *d, struct rule *r)
{
    enum { REASON_OCTETS_MAX = 200 };
    const struct node *n = d->hold;
    bool yes;

    r->action = ACTION_HOLD;
    if (!compile_is_text(n) || slice_trim(n->text).len == 0 ||
        node_bool(n, &yes))
        return diag_error(c->diag, n->at,
                          "hold: want the reason, as a text, found %s",
                          node_show(n).text);
    if (n->text.len > REASON_OCTETS_MAX)
        return diag_error(c->diag, n->at,
                          "hold: the reason is longer than %d octets",
                          REASON_OCTETS_MAX);
    for (size_t i = 0; i < n->text.len; i++)
        if (n->text.at[i] < ' ' || (unsigned char)n->text.at[i] >= 0x7F)
            return diag_error(c->diag, n->at,
                              "hold: a reason is one line of printable ASCII, "
                              "found %s",
                              node_show(n).text);
    r->reply = compile_copy(c, n->text);
    return r->reply != NULL;
}

static bool
read_discard(struct compile *c, const struct draft *d, struct rule *r)
{
    const struct node *n = d->discard;
    bool yes;

    r->action = ACTION_DISCARD;
    if (!node_bool(n, &yes))
        return diag_error(c->diag, n->at, "discard: want true, found %s",
                          node_show(n).text);
    if (!yes)
        return diag_error(c->diag, n->at,
                          "discard: %s is no action: leave it out",
                          node_show(n).text);
    return true;
}

/* plan->n stays 0 for actions that need none. */
static bool
read_action(struct compile *c, const struct draft *d, struct rule *r,
            struct plan *plan)
{
    bool ok;

    if (d->route != NULL)
        return read_route(c, d, r, plan);
    if (d->hold != NULL)
        ok = read_hold(c, d, r);
    else if (d->discard != NULL)
        ok = read_discard(c, d, r);
    else
        ok = read_refusal(c, d, r, plan);
    return check_no_extras(c, d) && ok;
}

/* Edits go with what goes on. */
static bool
read_edits(struct compile *c, const struct draft *d, struct rule *r)
{
    const struct node *first =
        d->add_header != NULL ? d->add_header : d->remove_header;

    if (!compile_edits(c, d->add_header, d->remove_header, &r->edits))
        return false;
    if (r->edits != NULL && !rule_lets_pass(r))
        diag_warning(c->diag, first->at,
                     "%s changes nothing: the rule lets no message pass",
                     first == d->add_header ? "add_header" : "remove_header");
    return true;
}

/* Does the condition ask for the null sender, outside any `not`? */
static bool
means_null_sender(const struct condition *c)
{
    if (c->key == MATCH_KIND)
        for (size_t i = 0; i < c->n_kinds; i++)
            if (c->kind[i] == KIND_BOUNCE)
                return true;
    if (c->key == MATCH_SENDER)
        for (size_t i = 0; i < c->n_patterns; i++)
            if (c->pattern[i].kind == PATTERN_EXACT &&
                strcmp(c->pattern[i].text, "<>") == 0)
                return true;
    if (c->key == MATCH_ALL || c->key == MATCH_ANY)
        for (size_t i = 0; i < c->n_children; i++)
            if (means_null_sender(&c->child[i]))
                return true;
    return false;
}

static bool
name_rule(struct compile *c, const struct node *n, size_t number,
          const char *given, struct rule *r)
{
    const struct node *key = node_get(n, "name");
    struct rule *first;
    void *old;

    if (given != NULL && strcmp(given, "default") == 0)
        return diag_error(c->diag, key->at,
                          "name: \"default\" is what explain and tests call "
                          "the default itself");
    r->name = given;
    if (given == NULL)
        r->name = arena_printf(c->arena, "rule %zu", number);
    if (r->name == NULL ||
        !table_add(c->rule_names, slice_of(r->name), r, &old))
        return compile_nomem(c);
    first = old;
    if (first == NULL)
        return true;
    return diag_error(c->diag, key != NULL ? key->at : n->at,
                      "the rule in %s has the name %s too",
                      compile_place(r->at, first->at).text,
                      node_show_text(slice_of(r->name)).text);
}

static int
count_actions(const struct draft *d)
{
    return (d->route != NULL) + (d->reject != NULL) + (d->defer != NULL) +
           (d->hold != NULL) + (d->discard != NULL);
}

static bool
read_rule(struct compile *c, const struct node *n, size_t number,
          struct rule *r)
{
    struct draft d = {.match = {.key = MATCH_ALL, .at = n->at}};
    struct step steps[CANDIDATES_MAX] = {{.kind = STEP_MTA}};
    struct plan plan = {.step = steps, .share_percent = 100, .from = FROM_KEEP};
    bool ok;

    r->at = n->at;
    c->rules_lost |= n->kind != NODE_MAP;
    if (n->kind != NODE_MAP)
        return diag_error(c->diag, n->at,
                          "a rule: want a map of name, match and route, "
                          "reject, defer, hold or discard, found %s",
                          node_show(n).text);
    ok = schema_read(c, &compile_rule_schema, n, n->at, &d);
    ok &= name_rule(c, n, number, d.name, r);
    r->match = d.match;
    r->null_sender_meant = means_null_sender(&d.match);
    r->shadow = d.shadow;
    if (count_actions(&d) != 1)
        return diag_error(c->diag, n->at,
                          "a rule needs exactly one of route, reject, defer, "
                          "hold and discard");
    ok &= read_action(c, &d, r, &plan);
    ok &= read_edits(c, &d, r);
    if (!ok || plan.n == 0)
        return ok;
    r->plan = compile_plan(c, n->at, &plan);
    return r->plan != NULL;
}

static bool
read_rules(struct compile *c, const struct schema_row *row,
           const struct node *n, void *field)
{
    struct policy *p = c->p;
    bool ok = true;

    (void)field;
    c->rules_lost |= n->kind != NODE_LIST;
    if (n->kind != NODE_LIST)
        return schema_mismatch(c, row, n);
    p->rules = compile_alloc(c, n->n, sizeof *p->rules);
    if (p->rules == NULL)
        return false;
    p->n_rules = n->n;
    for (size_t i = 0; i < n->n; i++)
        ok &= read_rule(c, n->item[i], i + 1, &p->rules[i]);
    return ok;
}

const struct schema_type compile_rules = {"a list of rules", read_rules};

/* ---- default ---- */

static bool
read_default(struct compile *c, const struct schema_row *row,
             const struct node *n, void *field)
{
    struct step steps[2] = {{.kind = STEP_MTA}, {.kind = STEP_WAIT}};
    struct plan plan = {
        .step = steps, .n = 1, .share_percent = 100, .from = FROM_KEEP};

    (void)field;
    if (n->kind == NODE_MAP && n->n == 1 &&
        (slice_eq(n->key[0]->text, SLICE_LIT("reject")) ||
         slice_eq(n->key[0]->text, SLICE_LIT("defer")))) {
        if (!compile_step(c, row->key, true, n, &steps[0]))
            return false;
    } else if (!compile_step(c, row->key, false, n, &steps[0])) {
        return false;
    }
    if (is_account(&steps[0]))
        plan.n = 2;
    c->p->default_plan = compile_plan(c, n->at, &plan);
    return c->p->default_plan != NULL;
}

const struct schema_type compile_default = {
    "mta, {account: NAME}, {pool: NAME}, {reject: REPLY} or {defer: REPLY}",
    read_default};
