/* milter/token/refresher_uses.c - when each refresh token was last used, over
 * reboots.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every renewal is a use, and what is asked of the answer is months: so all are
 * written together, once an hour and at the end.  100,000 accounts are 3 MB.
 */
#include <stdlib.h>

#include "milter/base/log.h"
#include "milter/token/refresher_private.h"

enum { SAVE_EVERY_MS = 3600 * 1000 };

void
refresher_uses_load(struct refresher *r)
{
    struct conf *conf = conf_ref(r->o.conf);
    char err[600];

    if (!last_used_read(conf->policy->state.directory, &r->last_used, err,
                        sizeof err))
        log_warn("when refresh tokens were last used is not known: %s", err);
    conf_unref(conf);
    r->uses_ms = clock_boot_ms(r->o.clock) + SAVE_EVERY_MS;
}

bool
refresher_uses_due(const struct refresher *r, uint64_t now_ms)
{
    return r->uses_changed && !r->uses_busy && now_ms >= r->uses_ms;
}

/* False = out of memory. */
static bool
collect(const struct refresher *r, struct last_used *ret)
{
    struct last_use *uses;
    size_t n = 0;
    bool ok;

    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (const struct entry *e = r->table[i]; e != NULL; e = e->next)
            n += e->has_refresh && e->used_s > 0;
    uses = calloc(n + 1, sizeof *uses);
    if (uses == NULL)
        return false;
    n = 0;
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (const struct entry *e = r->table[i]; e != NULL; e = e->next)
            if (e->has_refresh && e->used_s > 0)
                uses[n++] = (struct last_use){e->status.id, e->used_s};
    ok = last_used_merge(uses, n, &r->last_used,
                         clock_wall_ms(r->o.clock) / 1000, ret);
    free(uses);
    return ok;
}

void
refresher_uses_save(struct refresher *r)
{
    struct last_used all;
    struct conf *conf;
    char err[600];
    bool ok;

    r->uses_ms = clock_boot_ms(r->o.clock) + SAVE_EVERY_MS;
    if (!collect(r, &all)) {
        log_error("when refresh tokens were last used: out of memory");
        return;
    }
    r->uses_changed = false;
    r->uses_busy = true;
    pthread_mutex_unlock(&r->lock);
    conf = conf_ref(r->o.conf);
    ok = last_used_write(conf->policy->state.directory, &all, err, sizeof err);
    if (!ok)
        log_warn("when refresh tokens were last used is not stored, and tried "
                 "again in an hour: %s",
                 err);
    conf_unref(conf);
    pthread_mutex_lock(&r->lock);
    r->uses_busy = false;
    r->uses_changed |= !ok;
    last_used_free(&r->last_used);
    r->last_used = all;
}
