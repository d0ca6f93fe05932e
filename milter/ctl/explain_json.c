/* milter/ctl/explain_json.c - gmroutectl explain, for scripts.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The keys of design section 5 stay as they are; others may be added.
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/explain.h"
#include "policy/ticket.h"
#include "policy/window.h"

static json_t *
json_place(struct loc at)
{
    char text[600];

    if (at.line == 0)
        return json_null();
    snprintf(text, sizeof text, "%s:%u:%u", at.file, at.line, at.col);
    return json_string(text);
}

static json_t *
json_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? json_string(text) : json_null();
}

/* Text from outside: jansson takes valid UTF-8 alone, and what is not is
 * shown octet for octet as ISO 8859-1. */
static json_t *
json_outside(struct slice s)
{
    json_t *j = json_stringn(s.at != NULL ? s.at : "", s.len);
    char text[2000];
    size_t n = 0;

    if (j != NULL)
        return j;
    for (size_t i = 0; i < s.len && n + 2 < sizeof text; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c >= 0x80)
            text[n++] = (char)(0xc0 | c >> 6);
        text[n++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    return json_stringn(text, n);
}

static json_t *
json_wait(uint64_t ms)
{
    return ms == WINDOW_NEVER ? json_null()
                              : json_integer((json_int_t)(ms / 1000));
}

/* ---- candidates ---- */

static json_t *
json_room(const struct explain *x, const struct tried *c)
{
    json_t *list;

    if (!c->has_quota)
        return json_null();
    list = json_array();
    for (unsigned i = 0; i < c->quota.n; i++) {
        uint64_t limit = c->quota.window[i].limit;
        uint64_t used = c->quota.window[i].used;
        uint64_t at = c->quota.window[i].room_at_ms;

        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "dimension",
                      dimension_name(c->quota.window[i].dimension), "used",
                      (json_int_t)used, "limit", (json_int_t)limit, "window_s",
                      (json_int_t)(c->quota.window[i].window_ms / 1000), "room",
                      (json_int_t)(used < limit ? limit - used : 0),
                      "room_returns",
                      used < limit || at == WINDOW_NEVER || at <= x->now_ms
                          ? json_null()
                          : ctl_json_time((int64_t)(at / 1000))));
    }
    return list;
}

static const char *
step_name(enum step_kind kind)
{
    static const char *const name[] = {
        [STEP_ACCOUNT] = "account", [STEP_POOL] = "pool",
        [STEP_MTA] = "mta",         [STEP_WAIT] = "wait",
        [STEP_DEFER] = "defer",     [STEP_REJECT] = "reject",
    };

    return name[kind];
}

static json_t *
json_candidate(struct explain *x, const struct told *t, unsigned i)
{
    const struct candidate *c = &t->group->decision.candidate[i];
    struct tried tried;

    if (c->kind != STEP_ACCOUNT)
        return json_pack("{s:s, s:o}", "try", step_name(c->kind), "reply",
                         json_or_null(c->reply));
    explain_candidate(x, t, i, &tried);
    return json_pack("{s:s, s:s, s:o, s:b, s:s, s:o, s:o, s:s}", "try",
                     "account", "account", c->mailbox.address, "pool",
                     json_or_null(c->pool != NULL ? c->pool->name : NULL),
                     "taken", tried.taken, "forecast", tried.why, "state",
                     tried.has_quota
                         ? json_string(account_state_name(tried.quota.state))
                         : json_null(),
                     "room", json_room(x, &tried), "token", tried.token);
}

/* The candidate that is taken also stands at the recipient itself. */
static void
add_account(struct explain *x, const struct told *t, json_t *j)
{
    const struct decision *d = &t->group->decision;
    struct tried tried = {.token = "unknown"};
    json_t *list = json_array();
    bool found = false;

    for (unsigned i = 0; i < d->n_candidates; i++)
        json_array_append_new(list, json_candidate(x, t, i));
    json_object_set_new(j, "candidates", list);
    if (t->action != ACTION_ACCOUNT)
        return;
    for (unsigned i = 0; i < d->n_candidates && !found; i++) {
        if (d->candidate[i].kind != STEP_ACCOUNT)
            continue;
        explain_candidate(x, t, i, &tried);
        found = tried.taken;
    }
    json_object_set_new(j, "wait_s", json_wait(t->group->admission.wait_ms));
    json_object_set_new(j, "room", json_room(x, &tried));
    json_object_set_new(j, "token", json_string(tried.token));
    json_object_set_new(j, "passed_by", json_or_null(t->group->admission.why));
}

/* ---- a recipient ---- */

static json_t *
json_reasons(const struct explain *x, const struct told *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < x->trace.n; i++) {
        const struct why *w = &x->trace.why[i];

        if (w->failed[0] != '\0' && !explain_is_shadow(t, w))
            json_array_append_new(
                list, json_pack("{s:s, s:o, s:o}", "rule", w->rule, "at",
                                json_place(w->at), "failed",
                                json_outside(slice_of(w->failed))));
    }
    return list;
}

static json_t *
json_shadows(const struct told *t)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < t->decision.n_shadows; i++) {
        const struct shadow *s = &t->decision.shadow[i];

        json_array_append_new(
            list,
            json_pack("{s:s, s:o, s:s}", "rule", s->rule, "at",
                      json_place(s->at), "action", action_name(s->action)));
    }
    return list;
}

static json_t *
json_early(const struct told *t)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "action",
                     action_name(t->early.action), "rule",
                     json_or_null(t->early.rule), "at", json_place(t->early.at),
                     "reply", json_or_null(t->early.reply));
}

static json_t *
json_told(struct explain *x, const struct told *t)
{
    const char *account = t->action == ACTION_ACCOUNT
                              ? t->group->admission.mailbox.address
                              : NULL;
    json_t *j =
        json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "recipient",
                  json_outside(t->recipient), "action", action_name(t->action),
                  "rule", json_or_null(t->decision.rule), "at",
                  json_place(t->decision.at), "account", json_or_null(account),
                  "why", json_reasons(x, t), "reply", json_or_null(t->reply),
                  "rcpt", json_early(t), "shadows", json_shadows(t));

    if (j != NULL && t->group != NULL)
        add_account(x, t, j);
    return j;
}

/* ---- edits ---- */

/* What the milter would change, without the ticket that only it can sign. */
static void
add_tag(json_t *edits, const struct told *t)
{
    const struct mailbox *m;
    char label[LABEL_MAX + 1], queue[8];

    if (t->action != ACTION_ACCOUNT)
        return;
    m = &t->group->admission.mailbox;
    if (ticket_account_label(m, label) != TICKET_OK)
        return;
    snprintf(queue, sizeof queue, "q%02u", ticket_queue(m->id));
    json_array_append_new(
        edits, json_pack("{s:s, s:o, s:s, s:s}", "edit", "tag", "recipient",
                         json_outside(t->recipient), "account_label", label,
                         "queue", queue));
}

/* Those of one rule count once, however many recipients it decides. */
static bool
edits_are_new(const struct explain *x, const struct told *t)
{
    for (const struct told *o = x->told; o < t; o++)
        if (o->decision.edits == t->decision.edits)
            return false;
    return t->decision.edits != NULL;
}

static void
add_header_edits(json_t *edits, const struct explain *x, const struct told *t)
{
    const struct header_edits *e = t->decision.edits;

    if (!edits_are_new(x, t))
        return;
    for (size_t i = 0; i < e->n_remove; i++)
        json_array_append_new(
            edits, json_pack("{s:s, s:s}", "edit", "remove_header", "name",
                             e->remove[i]));
    for (size_t i = 0; i < e->n_add; i++)
        json_array_append_new(
            edits, json_pack("{s:s, s:s, s:s}", "edit", "add_header", "name",
                             e->add[i].name, "value", e->add[i].value));
}

static void
add_other_edits(json_t *edits, const struct told *t)
{
    if (t->action == ACTION_HOLD)
        json_array_append_new(edits,
                              json_pack("{s:s, s:o}", "edit", "hold", "reason",
                                        json_or_null(t->reply)));
    if (t->action == ACTION_DISCARD)
        json_array_append_new(
            edits, json_pack("{s:s, s:o}", "edit", "discard", "recipient",
                             json_outside(t->recipient)));
}

json_t *
explain_json(struct explain *x)
{
    json_t *list = json_array(), *edits = json_array(), *names = json_array();

    for (size_t i = 0; i < x->facts.n_attachments; i++)
        json_array_append_new(names, json_outside(x->facts.attachment[i]));
    for (size_t i = 0; i < x->n_recipients; i++) {
        const struct told *t = &x->told[i];

        if (!explain_trace(x, t)) {
            json_decref(list);
            json_decref(edits);
            json_decref(names);
            return NULL;
        }
        json_array_append_new(list, json_told(x, t));
        add_header_edits(edits, x, t);
        add_tag(edits, t);
        add_other_edits(edits, t);
    }
    return json_pack("{s:o, s:o, s:s, s:I, s:o, s:b, s:o}", "recipients", list,
                     "edits", edits, "stage", x->at_rcpt ? "rcpt" : "message",
                     "size", (json_int_t)x->facts.size_octets, "attachments",
                     names, "attachments_cut", x->facts.attachments_cut,
                     "refused", json_or_null(x->refusal));
}
