/* policy/match_explain.c - why a condition did not hold, in one line.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Runs only for `explain` and debug logs, so it asks match_condition() again
 * where that keeps the text and the truth together.
 */
#include <arpa/inet.h>
#include <inttypes.h>

#include "policy/line.h"
#include "policy/match.h"
#include "policy/scratch.h"

enum { PATTERNS_SHOWN = 2 };

/* ---- what was found ---- */

static const char *
key_name(const struct condition *c)
{
    switch (c->key) {
    case MATCH_SENDER:
        return "sender";
    case MATCH_SENDER_DOMAIN:
        return "sender domain";
    case MATCH_RECIPIENT:
        return "recipient";
    case MATCH_RECIPIENT_DOMAIN:
        return "recipient domain";
    case MATCH_CLIENT:
        return "client";
    case MATCH_AUTH:
        return "login";
    case MATCH_FROM:
        return "header From";
    case MATCH_FROM_DOMAIN:
        return "domain of header From";
    case MATCH_HEADER:
        return c->name;
    case MATCH_SIZE:
        return "size";
    case MATCH_KIND:
        return "kind";
    case MATCH_ALL:
    case MATCH_ANY:
    case MATCH_NOT:
        break;
    }
    return "condition";
}

static void
found_client(struct line *l, const struct facts_client *client)
{
    char text[INET6_ADDRSTRLEN] = "";
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    bool is_ipv4 = memcmp(client->address, mapped, sizeof mapped) == 0;

    if (!client->known) {
        line_add(l, "not known");
        return;
    }
    inet_ntop(is_ipv4 ? AF_INET : AF_INET6, client->address + is_ipv4 * 12,
              text, sizeof text);
    line_add(l, "%s", text);
    if (client->name.len > 0) {
        line_add(l, " (");
        line_value(l, client->name, "");
        line_add(l, ")");
    }
}

static void
found_from(struct line *l, struct match *m)
{
    const struct scratch_from *from = scratch_from(m->scratch);

    if (from == NULL || from->n == 0) {
        line_add(l, "none");
        return;
    }
    line_value(l, from->address[0], "");
    if (from->n > 1)
        line_add(l, " and %zu more", from->n - 1);
}

static void
found_header(struct line *l, struct match *m, const struct condition *c)
{
    struct scratch_text value;
    size_t n = 0;

    for (size_t i = 0; i < m->f->n_headers; i++) {
        if (!slice_eq_nocase(m->f->header[i].name, slice_of(c->name)))
            continue;
        if (n++ == 0 && scratch_header(m->scratch, i, &value))
            line_value(l, value.text, "empty");
    }
    if (n == 0)
        line_add(l, "not there");
    if (n > 1)
        line_add(l, " and %zu more", n - 1);
}

static void
found(struct line *l, struct match *m, const struct condition *c)
{
    switch (c->key) {
    case MATCH_SENDER:
        line_value(l, m->sender.raw, "<>");
        break;
    case MATCH_SENDER_DOMAIN:
        line_value(l, m->sender.domain, "none");
        break;
    case MATCH_RECIPIENT:
        line_value(l, m->recipient.raw, "<>");
        break;
    case MATCH_RECIPIENT_DOMAIN:
        line_value(l, m->recipient.domain, "none");
        break;
    case MATCH_CLIENT:
        found_client(l, &m->f->client);
        break;
    case MATCH_AUTH:
        line_value(l, m->f->auth, "none");
        break;
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
        found_from(l, m);
        break;
    case MATCH_HEADER:
        found_header(l, m, c);
        break;
    case MATCH_SIZE:
        line_add(l, "%" PRIu64, m->f->size_octets);
        break;
    case MATCH_KIND:
    case MATCH_ALL:
    case MATCH_ANY:
    case MATCH_NOT:
        line_add(l, "other");
        break;
    }
}

/* ---- what was wanted ---- */

static void
want_pattern(struct line *l, const struct pattern *p)
{
    if (p->kind == PATTERN_LIST)
        line_add(l, "list %s", p->list->name);
    else
        line_value(l, slice_of(p->text), "\"\"");
}

static void
want(struct line *l, const struct condition *c)
{
    static const char *const op[] = {"", "< ", "<= ", "> ", ">= "};
    static const char *const kind[] = {"bounce", "auto", "bulk"};
    size_t n = c->key == MATCH_SIZE   ? c->n_numbers
               : c->key == MATCH_KIND ? c->n_kinds
                                      : c->n_patterns;

    for (size_t i = 0; i < n && i < PATTERNS_SHOWN; i++) {
        line_add(l, i == 0 ? ", want " : " or ");
        if (c->key == MATCH_SIZE)
            line_add(l, "%s%" PRIu64, op[c->number[i].op], c->number[i].value);
        else if (c->key == MATCH_KIND)
            line_add(l, "%s", kind[c->kind[i]]);
        else
            want_pattern(l, &c->pattern[i]);
    }
    if (n > PATTERNS_SHOWN)
        line_add(l, " or %zu more", n - PATTERNS_SHOWN);
}

/* ---- trees ---- */

/* Evaluates a leaf and says what it stumbled over, if it did. */
static enum truth
ask(struct match *m, const struct condition *c, bool *ret_unparseable,
    bool *ret_limit)
{
    bool unparseable = m->unparseable, limit = m->regex_limit;
    enum truth t;

    m->unparseable = m->regex_limit = false;
    t = match_condition(m, c);
    *ret_unparseable = m->unparseable;
    *ret_limit = m->regex_limit;
    m->unparseable |= unparseable;
    m->regex_limit |= limit;
    return t;
}

static void
explain_leaf(struct line *l, struct match *m, const struct condition *c)
{
    bool unparseable, limit;
    enum truth t = ask(m, c, &unparseable, &limit);

    if (t == TRUTH_UNKNOWN && !unparseable) {
        line_add(l, "%s is not known yet", key_name(c));
        return;
    }
    line_add(l, "%s is ", key_name(c));
    found(l, m, c);
    if (t == TRUTH_YES) /* below a "not" */
        line_add(l, ", which is excluded");
    else
        want(l, c);
    if (unparseable)
        line_add(l, "; it cannot be parsed");
    if (limit)
        line_add(l, "; an expression gave up");
}

/* The first child that is to blame: one that says no, else one that does
 * not know. */
static const struct condition *
blamed(struct match *m, const struct condition *c)
{
    const struct condition *unknown = NULL;

    for (size_t i = 0; i < c->n_children; i++) {
        enum truth t = match_condition(m, &c->child[i]);

        if (t == TRUTH_NO)
            return &c->child[i];
        if (t == TRUTH_UNKNOWN && unknown == NULL)
            unknown = &c->child[i];
    }
    return unknown;
}

static void
explain(struct line *l, struct match *m, const struct condition *c)
{
    const struct condition *child;

    /* Each step goes one level down the tree. */
    while (c->key == MATCH_ALL || c->key == MATCH_ANY || c->key == MATCH_NOT) {
        child = blamed(m, c);
        if (c->key == MATCH_NOT) {
            line_add(l, "not: ");
            if (child == NULL && c->n_children > 0)
                child = &c->child[0];
        }
        if (c->key == MATCH_ANY && c->n_children > 1)
            line_add(l, "none of %zu, the first: ", c->n_children);
        if (child == NULL) {
            line_add(l, "nothing to match");
            return;
        }
        c = child;
    }
    explain_leaf(l, m, c);
}

void
match_explain(struct match *m, const struct condition *c, char ret[WHY_TEXT])
{
    struct line l = line_start(ret, WHY_TEXT);

    explain(&l, m, c);
}
