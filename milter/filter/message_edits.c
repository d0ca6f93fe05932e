/* milter/filter/message_edits.c - see message_private.h: fates to edits.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/log.h"
#include "milter/filter/message_private.h"

static const char no_memory[] = "451 4.3.0 Out of memory";

/* ---- recipients ---- */

static enum ticket_result
tag(struct finish *x, const struct fate *f, char ret[TAGGED_MAX + 1])
{
    struct ticket t = x->ticket;
    bool routed = f->action == ACTION_ACCOUNT;

    t.plan = f->plan != NULL ? f->plan->hash : 0;
    t.share_percent = (uint8_t)(f->plan != NULL ? f->plan->share_percent : 100);
    t.from = f->plan != NULL ? f->plan->from : FROM_KEEP;
    t.refuse = f->action == ACTION_REJECT;
    t.defer = f->action == ACTION_DEFER;
    return ticket_write(&t, slice_of(f->recipient->spelling),
                        routed ? &f->group->admission.mailbox : NULL,
                        session_policy(x->s)->milter.tag_domain,
                        x->s->env->keys, ret);
}

/* The recipient cannot carry a tag: `untaggable` decides.  NULL: it goes on;
 * else the reply for the whole message, since nothing smaller can be refused
 * any more. */
static const char *
untaggable(struct finish *x, struct fate *f, enum ticket_result why)
{
    const char *text = ticket_result_text(why), *reply;
    enum untaggable how;

    log_warn("queue=%s recipient=<%s> cannot be tagged: %s", x->s->queue_id,
             f->recipient->spelling, text);
    if (why != TICKET_ELONG && why != TICKET_ELITERAL &&
        why != TICKET_EMALFORMED)
        return "451 4.3.0 gmroute: temporary failure"; /* our own fault */
    /* A temporary refusal of sendmail(1) would be tried again for ever, and
     * the queue cannot take this one. */
    if (f->action == ACTION_REJECT ||
        (f->action == ACTION_DEFER && !x->s->local))
        return f->reply;
    how = f->action == ACTION_DEFER ? UNTAGGABLE_DEFER
                                    : session_policy(x->s)->untaggable;
    if (how == UNTAGGABLE_MTA) {
        message_group_remove(f);
        f->action = ACTION_MTA;
        f->rule = "untaggable";
        return NULL;
    }
    reply = arena_printf(
        x->s->arena, "%s Recipient cannot be routed: %s",
        how == UNTAGGABLE_DEFER && !x->s->local ? "451 4.1.3" : "550 5.1.3",
        text);
    return reply != NULL ? reply : no_memory;
}

/* Held recipients stay as they are: when a person releases the message, the
 * MTA routes them; the tagged ones beside them have waited with it. */
static bool
stays(enum action a)
{
    return a == ACTION_MTA || a == ACTION_HOLD;
}

static const char *
plan_recipients(struct finish *x)
{
    struct arena *a = x->s->arena;

    for (size_t i = 0; i < x->n; i++) {
        struct fate *f = &x->fate[i];
        const struct recipient *r = f->recipient;
        const char *esmtp, *added;
        char tagged[TAGGED_MAX + 1];
        enum ticket_result result;
        /* The first one's tag stands for all, and is decided before them. */
        enum action action = f->first != NULL ? f->first->action : f->action;

        if (stays(action))
            continue;
        if (f->first != NULL || action == ACTION_DISCARD) {
            if (!edits_del_rcpt(&x->edits, a, r->spelling))
                return no_memory;
            continue;
        }
        result = tag(x, f, tagged);
        if (result != TICKET_OK) {
            const char *reply = untaggable(x, f, result);

            if (reply != NULL)
                return reply;
            continue;
        }
        esmtp = edits_esmtp(a, r->spelling, r->orcpt, r->notify);
        added = arena_copy(a, slice_of(tagged));
        if (esmtp == NULL || added == NULL ||
            !edits_del_rcpt(&x->edits, a, r->spelling) ||
            !edits_add_rcpt(&x->edits, a, added, esmtp))
            return no_memory;
    }
    return NULL;
}

/* ---- header ---- */

static bool
same_name(const char *a, const char *b)
{
    return slice_eq_nocase(slice_of(a), slice_of(b));
}

/* Another rule, or this one, has said so already. */
static bool
removed_before(const struct finish *x, const struct edit_source *at, size_t n)
{
    const char *name = at->edits->remove[n];

    for (const struct edit_source *e = x->sources; e != NULL; e = e->next) {
        size_t end = e == at ? n : e->edits->n_remove;

        for (size_t i = 0; i < end; i++)
            if (same_name(e->edits->remove[i], name))
                return true;
        if (e == at)
            break;
    }
    return false;
}

/* Another rule has; one that says it twice means it. */
static bool
added_before(const struct finish *x, const struct edit_source *at, size_t n)
{
    for (const struct edit_source *e = x->sources; e != at; e = e->next)
        for (size_t i = 0; i < e->edits->n_add; i++)
            if (same_name(e->edits->add[i].name, at->edits->add[n].name) &&
                strcmp(e->edits->add[i].value, at->edits->add[n].value) == 0)
                return true;
    return false;
}

static bool
is_removed(const struct finish *x, const char *name)
{
    for (const struct edit_source *e = x->sources; e != NULL; e = e->next)
        for (size_t i = 0; i < e->edits->n_remove; i++)
            if (same_name(e->edits->remove[i], name))
                return true;
    return false;
}

/* What a content filter brings back has been edited on its first pass. */
static bool
added_on_first_pass(const struct finish *x, const char *name, const char *value)
{
    const struct pairs *h = &x->s->headers;

    if (!x->s->reinjects || is_removed(x, name))
        return false;
    for (size_t i = 0; i < h->n; i++)
        if (slice_eq_nocase(h->at[i].name, slice_of(name)) &&
            slice_eq(slice_trim(h->at[i].value), slice_of(value)))
            return true;
    return false;
}

/* From the last field of the name to the first, so that no removal moves one
 * that is still to come. */
static bool
plan_removal(struct finish *x, const char *name)
{
    const struct pairs *h = &x->s->headers;
    unsigned n = 0;

    for (size_t i = 0; i < h->n; i++)
        n += slice_eq_nocase(h->at[i].name, slice_of(name));
    for (; n > 0; n--)
        if (!edits_remove_header(&x->edits, x->s->arena, name, n))
            return false;
    return true;
}

/* What came with the message goes first: no rule removes what another one
 * adds. */
static const char *
plan_header(struct finish *x)
{
    for (struct edit_source *e = x->sources; e != NULL; e = e->next) {
        if (e->edits->n_remove > 0 && x->s->headers_cut)
            return "550 5.6.0 The message has too many header fields";
        for (size_t i = 0; i < e->edits->n_remove; i++)
            if (!removed_before(x, e, i) &&
                !plan_removal(x, e->edits->remove[i]))
                return no_memory;
    }
    for (struct edit_source *e = x->sources; e != NULL; e = e->next)
        for (size_t i = 0; i < e->edits->n_add; i++)
            if (!added_before(x, e, i) &&
                !added_on_first_pass(x, e->edits->add[i].name,
                                     e->edits->add[i].value) &&
                !edits_add_header(&x->edits, x->s->arena, e->edits->add[i].name,
                                  e->edits->add[i].value))
                return no_memory;
    return NULL;
}

const char *
message_edits_plan(struct finish *x)
{
    const char *reply;

    if (x->hold != NULL && !edits_quarantine(&x->edits, x->s->arena, x->hold))
        return no_memory;
    reply = plan_header(x);
    return reply != NULL ? reply : plan_recipients(x);
}
