/* milter/token/refresher_thin.c - room in the book for who comes next.
 * SPDX-License-Identifier: Apache-2.0
 *
 * An id is never taken out of a segment, and templates bring any number of
 * senders.  So a book that is nearly full is made anew, without the mailboxes
 * of templates that were wanted least recently: a quarter of all that there is
 * room for, so that it is not done for each sender.  Whoever is left out and
 * writes again is asked for like a new one.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "milter/base/log.h"
#include "milter/token/refresher_private.h"

enum {
    NEARLY_FULL = 16,      /* so much, or less, of the whole is left: a 16th */
    NO_USE_MS = 60 * 1000, /* nobody could go: not again so soon */
};

static bool
may_go(const struct entry *e)
{
    return e->is_template && e->job == JOB_NONE && e->unsaved.text == NULL;
}

static int
older_first(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;

    return ((*x)->wanted_ms > (*y)->wanted_ms) -
           ((*x)->wanted_ms < (*y)->wanted_ms);
}

/* Those that may go, the least recently wanted first; NULL = no memory. */
static struct entry **
candidates(struct refresher *r, size_t *ret_n, size_t *ret_all)
{
    struct entry **list;
    size_t n = 0;

    *ret_all = 0;
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (struct entry *e = r->table[i]; e != NULL; e = e->next) {
            n += may_go(e);
            (*ret_all)++;
        }
    list = calloc(n + 1, sizeof(struct entry *));
    if (list == NULL)
        return NULL;
    *ret_n = 0;
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (struct entry *e = r->table[i]; e != NULL; e = e->next)
            if (may_go(e))
                list[(*ret_n)++] = e;
    qsort(list, *ret_n, sizeof(struct entry *), older_first);
    return list;
}

static void
take_out(struct refresher *r, struct entry *gone)
{
    struct entry **at = &r->table[gone->status.id % REFRESHER_TABLE];

    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    refresher_entry_free(gone);
}

static bool
is_known(void *cookie, uint64_t id)
{
    const struct refresher *r = cookie;
    const struct entry *e = r->table[id % REFRESHER_TABLE];

    while (e != NULL && e->status.id != id)
        e = e->next;
    return e != NULL;
}

void
refresher_thin(struct refresher *r, uint64_t now_ms)
{
    uint32_t room = token_book_room(r->o.book), most = r->o.slots;
    size_t n, all, drop;
    struct entry **list;
    char err[256];

    if (room > most / NEARLY_FULL || now_ms < r->thin_ms)
        return;
    r->thin_ms = now_ms + NO_USE_MS;
    list = candidates(r, &n, &all);
    if (list == NULL)
        return;
    /* Those of the last run that nobody has wanted since go without ado. */
    drop = all > most - most / 4 ? all - (most - most / 4) : 0;
    for (size_t i = 0; i < drop && i < n; i++)
        take_out(r, list[i]);
    free(list);
    if (token_book_thin(r->o.book, is_known, r, err, sizeof err) != STATE_OK)
        log_error("shared memory: %s", err);
    else if (token_book_room(r->o.book) <= most / NEARLY_FULL)
        log_error("shared memory is full of accounts that are in use: raise "
                  "state.accounts (%" PRIu32 ")",
                  most);
    else
        r->thin_ms = now_ms;
}
