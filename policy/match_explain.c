/* policy/match_explain.c - why a condition did not hold, in one line.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Runs only for `explain` and debug logs, so it asks match_condition() again
 * where that keeps the text and the truth together.
 */
#include <arpa/inet.h>
#include <inttypes.h>

#include "policy/line.h"
#include "policy/match_private.h"
#include "policy/scratch.h"

enum { PATTERNS_SHOWN = 2 };

/* ---- what was found ---- */

static void
show_key(struct line *l, const struct condition *c)
{
    static const char *const name[] = {
        [MATCH_SENDER] = "sender",
        [MATCH_SENDER_DOMAIN] = "sender domain",
        [MATCH_RECIPIENT] = "recipient",
        [MATCH_RECIPIENT_DOMAIN] = "recipient domain",
        [MATCH_CLIENT] = "client",
        [MATCH_AUTH] = "login",
        [MATCH_HELO] = "helo",
        [MATCH_TLS] = "tls",
        [MATCH_TIME] = "time",
        [MATCH_FROM] = "header From",
        [MATCH_FROM_DOMAIN] = "domain of header From",
        [MATCH_SIZE] = "size",
        [MATCH_RECIPIENTS] = "number of recipients",
        [MATCH_ATTACHMENT] = "attachment",
        [MATCH_SAMPLE] = "sample",
        [MATCH_KIND] = "kind",
        [MATCH_ALL] = "condition",
        [MATCH_ANY] = "condition",
        [MATCH_NOT] = "condition",
    };

    if (c->key == MATCH_HEADER)
        line_add(l, "%s", c->name);
    else if (c->key == MATCH_MACRO)
        line_add(l, "macro {%s}", c->name);
    else
        line_add(l, "%s", name[c->key]);
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
found_time(struct line *l, struct match *m, const struct condition *c)
{
    static const char *const day[] = {"sun", "mon", "tue", "wed",
                                      "thu", "fri", "sat"};
    struct wall_clock w = match_wall(m, c->zone);

    line_add(l, "%s %02u:%02u in %s", day[w.weekday], w.minute / 60,
             w.minute % 60, c->zone_name != NULL ? c->zone_name : "UTC");
}

static void
found_macro(struct line *l, const struct match *m, const struct condition *c)
{
    const struct facts_pair *macro = match_macro_of(m->f, c->name);

    if (macro == NULL)
        line_add(l, "not there");
    else
        line_value(l, macro->value, "empty");
}

static void
found_attachment(struct line *l, const struct match *m)
{
    if (m->f->n_attachments == 0) {
        line_add(l, "none");
        return;
    }
    line_value(l, m->f->attachment[0], "empty");
    if (m->f->n_attachments > 1)
        line_add(l, " and %zu more", m->f->n_attachments - 1);
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
    case MATCH_HELO:
        line_value(l, m->f->helo, "none");
        break;
    case MATCH_TLS:
        line_add(l, m->f->tls ? "yes" : "no");
        break;
    case MATCH_TIME:
        found_time(l, m, c);
        break;
    case MATCH_MACRO:
        found_macro(l, m, c);
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
    case MATCH_RECIPIENTS:
        line_add(l, "%zu", m->f->n_recipients);
        break;
    case MATCH_ATTACHMENT:
        found_attachment(l, m);
        break;
    case MATCH_SAMPLE:
        if (match_find_sample(m))
            line_add(l, "at %.4f%%", (double)m->sample * 100 / 4294967296.0);
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

static size_t
wants(const struct condition *c)
{
    switch (c->key) {
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
        return c->n_numbers;
    case MATCH_KIND:
        return c->n_kinds;
    case MATCH_TIME:
        return c->n_spans;
    case MATCH_TLS:
    case MATCH_SAMPLE:
        return 1;
    default:
        return c->n_patterns;
    }
}

static void
want_one(struct line *l, const struct condition *c, size_t i)
{
    static const char *const op[] = {"", "< ", "<= ", "> ", ">= "};
    static const char *const kind[] = {"bounce", "auto", "bulk"};

    switch (c->key) {
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
        line_add(l, "%s%" PRIu64, op[c->number[i].op], c->number[i].value);
        break;
    case MATCH_KIND:
        line_add(l, "%s", kind[c->kind[i]]);
        break;
    case MATCH_TIME:
        line_add(l, "%s", c->span[i].text);
        break;
    case MATCH_TLS:
        line_add(l, c->yes ? "yes" : "no");
        break;
    case MATCH_SAMPLE:
        line_add(l, "below %g%%", c->per_cent);
        break;
    default:
        want_pattern(l, &c->pattern[i]);
        break;
    }
}

static void
want(struct line *l, const struct condition *c)
{
    size_t n = wants(c);

    for (size_t i = 0; i < n && i < PATTERNS_SHOWN; i++) {
        line_add(l, i == 0 ? ", want " : " or ");
        want_one(l, c, i);
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

    show_key(l, c);
    if (t == TRUTH_UNKNOWN && !unparseable) {
        line_add(l, m->f->stage == FACTS_LOG ? " is not in the log"
                                             : " is not known yet");
        return;
    }
    line_add(l, " is ");
    found(l, m, c);
    if (t == TRUTH_YES) /* below a "not" */
        line_add(l, ", which is excluded");
    else
        want(l, c);
    if (unparseable)
        line_add(l, c->key == MATCH_ATTACHMENT ? "; there may be more"
                                               : "; it cannot be parsed");
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
