/* milter/deliver/relay_scope.c - accounts that a reply is about, too: those of
 * the organisation, or all that this host has with the server.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Only accounts that the agent knows: the named ones, and mailboxes of
 * templates that have been in use.  Another one is told by its own first
 * message.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "milter/base/log.h"
#include "milter/deliver/relay_private.h"

struct others {
    struct relay *r;
    const struct mailbox *m; /* who got the reply */
    const struct verdict *v;
    char reason[120];
    uint64_t n;
};

static const char *
domain_of(const struct mailbox *m)
{
    const char *at = strrchr(m->address, '@');

    return at != NULL ? at + 1 : "";
}

/* An organisation is known to us by its domain. */
static bool
is_meant(const struct others *o, const struct mailbox *m)
{
    return m->id != o->m->id &&
           strcasecmp(m->account->smarthost->host,
                      o->m->account->smarthost->host) == 0 &&
           (o->v->scope == SCOPE_CLIENT ||
            strcasecmp(domain_of(m), domain_of(o->m)) == 0);
}

/* Several of them may be told at the same time: the first one speaks for
 * all. */
static bool
rests_already(const struct others *o, uint64_t id)
{
    static const struct cost least = {.messages = 1};
    struct quota *q = o->r->env->quota;
    struct room room = {0};

    return !quota_fits(q, id, &least, 100, &room) && room.state != ACCOUNT_OK &&
           (room.state != ACCOUNT_COOLING ||
            room.at_ms >= quota_now_ms(q) + o->v->cool_ms / 2);
}

static void
rest_one(void *cookie, uint64_t id, const char *identity)
{
    struct others *o = cookie;
    struct relay_env *env = o->r->env;
    struct mailbox m;
    uint64_t until_ms;

    if (!policy_mailbox(o->r->conf->policy, identity, &m) || !is_meant(o, &m) ||
        rests_already(o, id))
        return;
    until_ms = quota_rest(env->quota, id, o->v->cool_ms, o->reason);
    if (until_ms == 0)
        return;
    ledger_put_state(env->ledger, identity, id, ACCOUNT_COOLING, until_ms,
                     o->reason, quota_rests(env->quota, id));
    o->n++;
}

void
relay_rest_others(struct relay *r, const struct mailbox *m,
                  const struct verdict *v)
{
    struct others o = {.r = r, .m = m, .v = v};
    struct log_line l;

    if (v->effect != EFFECT_COOL ||
        (v->scope != SCOPE_ORGANISATION && v->scope != SCOPE_CLIENT))
        return;
    snprintf(o.reason, sizeof o.reason, "%s (told to %.60s)", v->meaning,
             m->address);
    quota_accounts(r->env->quota, rest_one, &o);
    if (o.n == 0)
        return;
    l = log_line(LOG_LEVEL_WARN);
    log_kv(&l, "queue", r->queue_id);
    log_kv(&l, "account", m->address);
    log_kv_u64(&l, "others_cooling", o.n);
    log_kv(
        &l, v->scope == SCOPE_CLIENT ? "server" : "organisation",
        v->scope == SCOPE_CLIENT ? m->account->smarthost->host : domain_of(m));
    log_kv(&l, "reason", v->meaning);
    log_end(&l);
}
