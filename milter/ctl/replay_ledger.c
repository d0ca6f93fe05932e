/* milter/ctl/replay_ledger.c - a ledger as a source of gmroutectl replay.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A ledger holds what went through accounts, and was refused on the way; what
 * the MTA delivered by itself is not in it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/replay.h"
#include "milter/ledger/query.h"

enum { TOGETHER_S = 120 /* attempts of one message's first round */ };

bool
replay_is_ledger(const char *path)
{
    static const char magic[16] = "SQLite format 3"; /* with its NUL */
    FILE *f = fopen(path, "rb");
    char head[sizeof magic];
    bool is;

    if (f == NULL)
        return false;
    is = fread(head, 1, sizeof head, f) == sizeof head &&
         memcmp(head, magic, sizeof head) == 0;
    fclose(f);
    return is;
}

static const char *
went_by(const struct replay *r, const struct query_row *row)
{
    struct mailbox m;

    if (row->identity[0] == '\0')
        return action_name(strcmp(row->outcome, "deferred") == 0
                               ? ACTION_DEFER
                               : ACTION_REJECT);
    return policy_mailbox(r->policy, row->identity, &m) ? m.account->name
                                                        : REPLAY_GONE;
}

static bool
add_row(void *cookie, const struct query_row *row)
{
    struct replay *r = cookie;
    struct open_message *m;
    int64_t at_s = row->at_ms / 1000;
    char id[OPEN_ID_MAX + 1];

    r->n_lines++;
    while (r->unsettled != NULL && r->unsettled->at_s + TOGETHER_S < at_s) {
        replay_settle(r, r->unsettled);
        r->unsettled = r->unsettled->newer;
    }
    snprintf(id, sizeof id, "%016" PRIx64, row->ticket);
    m = replay_open(r, slice_of(id), at_s);
    if (m == NULL)
        return false;
    if (!m->began) {
        m->began = m->queued = true;
        if (r->unsettled == NULL)
            r->unsettled = m;
        m->size_octets = row->size_octets;
        if (!open_message_text(r->open, m, &m->sender, slice_of(row->sender)) ||
            (row->message_id[0] != '\0' &&
             !open_message_text(r->open, m, &m->message_id,
                                slice_of(row->message_id)))) {
            r->nomem = true;
            return false;
        }
    }
    if (!open_message_recipient(r->open, m, slice_of(row->recipient),
                                went_by(r, row)))
        r->n_untold++;
    m->n_recipients = m->n;
    return !r->nomem;
}

bool
replay_ledger(struct replay *r, char *err, size_t err_size)
{
    struct query_filter f = {.limit = UINT32_MAX};
    const char *slash = strrchr(r->path, '/');
    const char *name = slash != NULL ? slash + 1 : r->path;
    struct query *q;
    char *directory;
    bool ok;

    if (strcmp(name, "ledger.db") != 0) {
        snprintf(err, err_size,
                 "%s: a ledger is read in its directory, by the name ledger.db",
                 r->path);
        return false;
    }
    directory = slash != NULL ? strndup(r->path, (size_t)(slash - r->path) + 1)
                              : strdup(".");
    if (directory == NULL) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    if (r->since_s > 0)
        f.since_ms = r->since_s * 1000;
    r->from_ledger = true;
    ok = query_open(&q, directory, err, err_size);
    free(directory);
    if (!ok)
        return false;
    ok = query_rows(q, &f, add_row, r, err, err_size);
    query_close(q);
    return ok;
}
