/* milter/ctl/doctor_look_maps.c - asks Postfix's tables what becomes of tagged
 * recipients, and reads which domains the MTA takes for its own.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/doctor.h"

/* Tables that see a tagged recipient on its way to the agent. */
static const char *const recipient_maps[] = {
    "transport_maps",           "virtual_alias_maps", "canonical_maps",
    "recipient_canonical_maps", "relocated_maps",     "lmtp_generic_maps"};

/* Lists of domains, whose entries may be tables or files. */
static const char *const domain_lists[] = {
    "mydestination", "virtual_mailbox_domains", "virtual_alias_domains",
    "relay_domains", "virtual_alias_maps"};

enum {
    MAPS_MAX = 64,
    DOMAINS_MAX = 500,  /* missing ones: more of them say no more */
    TABLE_MAX = 8 << 20 /* octets of a table that is read */
};

struct collect { /* domains */
    struct doctor_case *k;
    const char *parameter;
    bool nomem;
};

/* ---- asking ---- */

/* "proxy:" needs a Postfix that runs; the table is the same. */
static struct slice
without_proxy(struct slice map)
{
    while (slice_starts(map, "proxy:"))
        map = slice_from(map, 6);
    return map;
}

static const char *
tagged(const struct doctor_case *k)
{
    return arena_printf(
        k->arena, "gmroute-doctor@doctor.example.%s.aaaaaaaaaaaaaa.q00.%s",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        k->policy->milter.tag_domain);
}

static bool
ask_one(struct doctor_case *k, struct map_answer *m)
{
    const char *keys[TICKET_QUEUES + 4] = {NULL}, *answer[TICKET_QUEUES + 4];
    const char *domain = k->policy->milter.tag_domain;
    char err[400];

    for (unsigned i = 0; i < TICKET_QUEUES; i++)
        keys[i] = arena_printf(k->arena, ".q%02u.%s", i, domain);
    keys[TICKET_QUEUES] = arena_printf(k->arena, ".%s", domain);
    keys[TICKET_QUEUES + 1] = domain;
    keys[TICKET_QUEUES + 2] = tagged(k);
    for (unsigned i = 0; i < TICKET_QUEUES + 3; i++)
        if (keys[i] == NULL)
            return false;
    if (!postconf_ask(k->mta, m->map, keys, answer, err, sizeof err)) {
        m->err = arena_copy(k->arena, slice_of(err));
        return m->err != NULL;
    }
    memcpy(m->queue, answer, sizeof m->queue);
    m->below = answer[TICKET_QUEUES];
    m->bare = answer[TICKET_QUEUES + 1];
    m->address = answer[TICKET_QUEUES + 2];
    return true;
}

static bool
ask_list(struct doctor_case *k, const char *parameter)
{
    struct slice rest =
        slice_of(mta_effective(k->mta, "gmroute/unix", parameter));
    struct slice entry;

    while (k->n_maps < MAPS_MAX && mta_list_next(&rest, &entry)) {
        struct map_answer *m = &k->maps[k->n_maps];
        struct slice map = without_proxy(entry);

        if (memchr(map.at, ':', map.len) == NULL)
            continue;
        *m = (struct map_answer){.parameter = parameter,
                                 .map = arena_copy(k->arena, map),
                                 .is_pattern = slice_starts(map, "pcre:") ||
                                               slice_starts(map, "regexp:")};
        if (m->map == NULL || !ask_one(k, m))
            return false;
        k->n_maps++;
    }
    return true;
}

/* What the service that bounces go through makes of a tagged address. */
static bool
ask_cleaner(struct doctor_case *k)
{
    static const char *const bounces[] = {"bounce/unix", "defer/unix",
                                          "trace/unix"};
    const char *service = NULL;
    const char *keys[2] = {NULL}, *answer[2] = {NULL};
    struct slice rest, map;
    const char *key;
    char err[400];

    for (size_t i = 0; i < 3 && service == NULL; i++)
        service = mta_override(k->mta, bounces[i], "cleanup_service_name");
    if (service == NULL)
        return true;
    key = arena_printf(k->arena, "%s/unix", service);
    if (key == NULL)
        return false;
    rest = slice_of(mta_effective(k->mta, key, "body_checks"));
    if (mta_service(k->mta, key) == NULL || !mta_list_next(&rest, &map))
        return true;
    k->cleaner.map = arena_copy(k->arena, without_proxy(map));
    keys[0] = arena_printf(k->arena, "<%s>: host", tagged(k));
    if (k->cleaner.map == NULL || keys[0] == NULL)
        return false;
    if (!postconf_ask(k->mta, k->cleaner.map, keys, answer, err, sizeof err))
        k->cleaner.err = arena_copy(k->arena, slice_of(err));
    k->cleaner.address = answer[0];
    return true;
}

/* ---- the MTA's own domains ---- */

/* ".x" stands for every subdomain. */
static bool
is_known(const struct policy *p, struct slice domain)
{
    char sub[300];

    if (domain.at[0] != '.')
        return policy_is_mta_domain(p, domain);
    snprintf(sub, sizeof sub, "x%.*s", SLICE_FMT(domain));
    return policy_is_mta_domain(p, slice_of(sub));
}

static void
take_domain(struct collect *c, struct slice domain, bool is_alias)
{
    struct doctor_case *k = c->k;
    struct own_domain *d = &k->domains[k->n_domains];

    if (domain.len == 0 || k->n_domains == DOMAINS_MAX ||
        is_known(k->policy, domain))
        return;
    for (size_t i = 0; i < k->n_domains; i++)
        if (k->domains[i].is_alias == is_alias &&
            slice_eq_nocase(slice_of(k->domains[i].domain), domain))
            return;
    d->parameter = c->parameter;
    d->domain = arena_copy(k->arena, domain);
    d->is_alias = is_alias;
    c->nomem = c->nomem || d->domain == NULL;
    k->n_domains += d->domain != NULL;
}

/* The key of a line of a table; of an aliases' table, its domain. */
static void
take_line(struct collect *c, struct slice line)
{
    bool is_alias = strcmp(c->parameter, "virtual_alias_maps") == 0;
    struct slice key = line;
    const char *at;

    if (line.len == 0 || line.at[0] == '#' || line.at[0] == ' ' ||
        line.at[0] == '\t')
        return;
    key.len = 0;
    while (key.len < line.len && strchr(" \t\r", line.at[key.len]) == NULL)
        key.len++;
    at = memrchr(key.at, '@', key.len);
    if (at != NULL)
        take_domain(c, slice_from(key, (size_t)(at - key.at) + 1), true);
    else if (!is_alias)
        take_domain(c, key, false);
}

static void
take_table(struct collect *c, struct slice path)
{
    const char *name = arena_copy(c->k->arena, path);
    FILE *f = name != NULL ? fopen(name, "re") : NULL;
    char *line = NULL;
    size_t size = 0, total = 0;
    ssize_t n;

    if (f == NULL)
        return; /* that it cannot be read, asking it has said */
    while ((n = getline(&line, &size, f)) > 0 && total < TABLE_MAX) {
        total += (size_t)n;
        if (line[n - 1] == '\n')
            n--;
        take_line(c, (struct slice){line, (size_t)n});
    }
    free(line);
    fclose(f);
}

static void
take_list(struct collect *c)
{
    static const char *const text_types[] = {"hash", "btree", "lmdb",    "cdb",
                                             "dbm",  "sdbm",  "texthash"};
    struct slice rest = slice_of(mta_main(c->k->mta, c->parameter)), entry;

    while (mta_list_next(&rest, &entry)) {
        struct slice map = without_proxy(entry);
        const char *colon = memchr(map.at, ':', map.len);
        struct slice type = {map.at,
                             colon != NULL ? (size_t)(colon - map.at) : 0};

        if (map.at[0] == '/') {
            take_table(c, map);
        } else if (colon == NULL) {
            if (strchr("![", map.at[0]) == NULL)
                take_domain(c, map, false);
        }
        for (size_t i = 0; i < sizeof text_types / sizeof *text_types; i++)
            if (slice_eq(type, slice_of(text_types[i])))
                take_table(c, slice_from(map, type.len + 1));
    }
}

bool
doctor_look_maps(struct doctor_case *k)
{
    struct collect c = {.k = k};

    k->maps = arena_alloc(k->arena, MAPS_MAX, sizeof *k->maps);
    k->domains = arena_alloc(k->arena, DOMAINS_MAX, sizeof *k->domains);
    if (k->maps == NULL || k->domains == NULL)
        return false;
    for (size_t i = 0; i < sizeof recipient_maps / sizeof *recipient_maps; i++)
        if (!ask_list(k, recipient_maps[i]))
            return false;
    for (size_t i = 0; i < sizeof domain_lists / sizeof *domain_lists; i++) {
        c.parameter = domain_lists[i];
        take_list(&c);
    }
    return !c.nomem && ask_cleaner(k);
}

/* ---- Sendmail ---- */

static void
take_word(void *cookie, struct slice word)
{
    if (word.at[0] != '[')
        take_domain(cookie, word, false);
}

static void
take_file(void *cookie, struct slice path)
{
    take_table(cookie, path);
}

bool
doctor_look_class_w(struct doctor_case *k)
{
    struct collect c = {.k = k, .parameter = "class w"};

    k->domains = arena_alloc(k->arena, DOMAINS_MAX, sizeof *k->domains);
    if (k->domains == NULL)
        return false;
    sendmail_class_w(k->sendmail, &c, take_word, take_file);
    return !c.nomem;
}
