/* milter/ctl/doctor_tables.c - do Postfix's tables lead tagged recipients, and
 * these alone, to the agent?
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"

#define TRANSPORT "transport_maps"

static bool
is_transport(const struct map_answer *m)
{
    return strcmp(m->parameter, TRANSPORT) == 0;
}

static bool
goes_to_us(const char *answer)
{
    return answer != NULL && strncmp(answer, "gmroute:", 8) == 0;
}

/* What the first table that knows says of a queue label. */
static const char *
label_answer(const struct doctor_case *k, unsigned label)
{
    for (size_t i = 0; i < k->n_maps; i++)
        if (is_transport(&k->maps[i]) && !k->maps[i].is_pattern &&
            k->maps[i].queue[label] != NULL)
            return k->maps[i].queue[label];
    return NULL;
}

/* Our table as pcre or regexp. */
static const struct map_answer *
pattern_table(const struct doctor_case *k)
{
    for (size_t i = 0; i < k->n_maps; i++)
        if (is_transport(&k->maps[i]) && k->maps[i].is_pattern &&
            (goes_to_us(k->maps[i].address) || goes_to_us(k->maps[i].queue[0])))
            return &k->maps[i];
    return NULL;
}

static bool
has_rows(const struct doctor_case *k)
{
    for (unsigned i = 0; i < TICKET_QUEUES; i++)
        if (label_answer(k, i) != NULL)
            return true;
    return false;
}

/* ---- checks ---- */

static void
unreadable(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->n_maps; i++) {
        const struct map_answer *m = &k->maps[i];
        const char *path = strchr(m->map, ':') + 1;
        bool ours =
            is_transport(m) &&
            strncmp(path, k->mta->directory, strlen(k->mta->directory)) == 0 &&
            strcmp(path + strlen(k->mta->directory), "/gmroute") == 0;

        if (m->err == NULL)
            continue;
        found(f, "%s: %s cannot be asked: %s", m->parameter, m->map, m->err);
        if (ours)
            mend_apply(k, f);
        else
            advise(f,
                   "mend the table (postmap -q x %s shows the error), or "
                   "take it out of %s",
                   m->map, m->parameter);
    }
}

/* The list without one table. */
static const char *
without(const struct doctor_case *k, const struct map_answer *gone)
{
    struct slice rest = slice_of(mta_main(k->mta, gone->parameter)), entry;
    const char *left = "";

    while (left != NULL && mta_list_next(&rest, &entry))
        if (!slice_ends_nocase(entry, slice_of(gone->map)))
            left = arena_printf(k->arena, "%s%s%.*s", left,
                                left[0] != '\0' ? ", " : "", SLICE_FMT(entry));
    return left != NULL ? left : "";
}

static void
patterns(const struct doctor_case *k, struct findings *f)
{
    const struct map_answer *m = pattern_table(k);

    if (m == NULL)
        return;
    found(f, "%s leads tagged recipients to the agent by patterns", m->map);
    mend_main(k, f, TRANSPORT, without(k, m));
    mend_apply(k, f);
}

static void
table_missing(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->n_maps; i++)
        if (is_transport(&k->maps[i]) && k->maps[i].err != NULL)
            return; /* perhaps that one */
    if (has_rows(k) || pattern_table(k) != NULL)
        return;
    found(f, "no table of " TRANSPORT " has the tag domain %s",
          k->policy->milter.tag_domain);
    mend_apply(k, f);
}

static void
rows_missing(const struct doctor_case *k, struct findings *f)
{
    const char *labels = "";

    if (!has_rows(k))
        return;
    for (unsigned i = 0; i < TICKET_QUEUES && labels != NULL; i++)
        if (label_answer(k, i) == NULL)
            labels = arena_printf(k->arena, "%s%sq%02u", labels,
                                  labels[0] != '\0' ? ", " : "", i);
    if (labels == NULL || labels[0] == '\0')
        return;
    found(f, TRANSPORT " has no row for the queue labels %s", labels);
    mend_apply(k, f);
}

/* The path that a nexthop leads to, from where lmtp(8) looks at it. */
static bool
leads_to(const struct doctor_case *k, const char *answer, const char *want)
{
    const struct mta_service *v = mta_service(k->mta, "gmroute/unix");
    const char *queue = mta_main(k->mta, "queue_directory"), *full;

    if (!goes_to_us(answer))
        return false;
    answer += strlen("gmroute:");
    if (strcmp(answer, want) == 0)
        return true;
    if (strncmp(answer, "unix:", 5) != 0 || strncmp(want, "unix:", 5) != 0)
        return false;
    answer += 5;
    want += 5;
    full = want[0] == '/' ? want : arena_printf(k->arena, "%s/%s", queue, want);
    if (full == NULL || answer[0] != '/')
        return false;
    if (v != NULL && v->is_chrooted)
        answer = arena_printf(k->arena, "%s%s", queue, answer);
    return answer != NULL && strcmp(answer, full) == 0;
}

static void
rows_wrong(const struct doctor_case *k, struct findings *f)
{
    for (unsigned i = 0; i < TICKET_QUEUES; i++) {
        const char *answer = label_answer(k, i);
        const char *want = mta_nexthop(k->arena, k->policy->deliver.listen, i,
                                       mta_main(k->mta, "queue_directory"));

        if (answer == NULL || want == NULL || leads_to(k, answer, want))
            continue;
        found(f,
              TRANSPORT " leads the queue label q%02u to %s, want "
                        "gmroute:%s",
              i, answer, want);
        mend_apply(k, f);
        return;
    }
}

static void
rows_shared(const struct doctor_case *k, struct findings *f)
{
    if (mta_socket_path(k->policy->deliver.listen) != NULL)
        return;
    found(f, "the agent listens at %s, one nexthop for all queue labels",
          k->policy->deliver.listen);
    advise(f, "in %s: deliver: {listen: \"unix:%s/gmroute/deliver.sock\"}",
           k->policy->file, mta_main(k->mta, "queue_directory"));
}

static bool
is_caught(const char *answer)
{
    return answer != NULL && (strncmp(answer, "retry:", 6) == 0 ||
                              strncmp(answer, "error:", 6) == 0);
}

static void
catch_all(const struct doctor_case *k, struct findings *f)
{
    const char *below = NULL, *bare = NULL;
    const char *domain = k->policy->milter.tag_domain;

    if (!has_rows(k))
        return;
    for (size_t i = 0; i < k->n_maps; i++) {
        const struct map_answer *m = &k->maps[i];

        if (!is_transport(m) || m->is_pattern)
            continue;
        below = below == NULL ? m->below : below;
        bare = bare == NULL ? m->bare : bare;
    }
    if (is_caught(below) && is_caught(bare))
        return;
    found(f, TRANSPORT " has no row \"%s%s retry:...\"",
          is_caught(below) ? "" : ".", domain);
    mend_apply(k, f);
}

/* A table that knows the whole address wins over our rows, in either order. */
static void
other_table(const struct doctor_case *k, struct findings *f)
{
    for (size_t i = 0; i < k->n_maps; i++) {
        const struct map_answer *m = &k->maps[i];

        if (m->address == NULL || m == pattern_table(k))
            continue;
        found(f, "%s: %s makes \"%s\" of a tagged recipient", m->parameter,
              m->map, m->address);
        if (m->is_pattern)
            mend(f, "sed -i -e '1i if !/[.]%s$/' -e '$a endif' %s",
                 k->policy->milter.tag_domain,
                 mta_quote(k->arena, strchr(m->map, ':') + 1));
        else
            advise(f, "let that table say nothing of addresses below %s",
                   k->policy->milter.tag_domain);
    }
}

const struct doctor_check doctor_table_checks[] = {
    {"table-unreadable", SEVERITY_ERROR, unreadable,
     "while a table cannot be read, Postfix defers all mail that asks it"},
    {"transport-pattern", SEVERITY_ERROR, patterns,
     "Postfix skips patterns with $1 there, though postmap -q shows them "
     "working: tagged mail then leaves by the default route"},
    {"transport-missing", SEVERITY_ERROR, table_missing,
     "tagged recipients would leave by the default route, to a domain that "
     "does not exist, and bounce"},
    {"transport-row-missing", SEVERITY_ERROR, rows_missing,
     "mail of the accounts with that label waits for ever, and then bounces"},
    {"transport-row-wrong", SEVERITY_ERROR, rows_wrong,
     "mail of the accounts with that label does not reach the agent, or "
     "shares a queue with others"},
    {"transport-shared", SEVERITY_NOTE, rows_shared,
     "a slow account holds up all others: only unix sockets give each label a "
     "queue of its own"},
    {"transport-catch-all", SEVERITY_ERROR, catch_all,
     "whatever else stands below the tag domain would leave by the default "
     "route"},
    {"other-table", SEVERITY_ERROR, other_table,
     "Postfix tries the whole address in all tables first, so this one wins "
     "over ours, in whatever order they stand"},
    {0}};
