/* policy/policy.c - asking a compiled policy; see policy.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/policy.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/address.h"
#include "policy/idn.h"
#include "policy/index.h"
#include "policy/set.h"
#include "policy/table.h"

/* RFC 5321 4.5.3.1.3: a path has at most 256. */
enum { RECIPIENT_OCTETS = 320 };

const char *
dimension_name(enum dimension d)
{
    static const char *const name[] = {
        [DIM_MESSAGES] = "messages",
        [DIM_RECIPIENTS] = "recipients",
        [DIM_EXTERNAL_RECIPIENTS] = "external_recipients",
        [DIM_BYTES] = "bytes",
        [DIM_PACE] = "pace",
        [DIM_UNIQUE_RECIPIENTS] = "unique_recipients",
        [DIM_UNIQUE_EXTERNAL_RECIPIENTS] = "unique_external_recipients",
    };

    return (unsigned)d < DIM_COUNT ? name[d] : "?";
}

/* ---- mailboxes ---- */

static bool
is_gmail(const char *smarthost)
{
    return strcmp(smarthost, "gmail") == 0;
}

size_t
mailbox_identity_text(const char *address, const char *smarthost,
                      char ret[IDENTITY_MAX + 1])
{
    size_t n = 0;

    while (n < IDENTITY_MAX && address[n] != '\0') {
        ret[n] = slice_lower(address[n]);
        n++;
    }
    /* A smarthost's name keeps its case: names differ by it. */
    if (!is_gmail(smarthost)) {
        if (n < IDENTITY_MAX)
            ret[n++] = '/';
        while (n < IDENTITY_MAX && *smarthost != '\0')
            ret[n++] = *smarthost++;
    }
    ret[n] = '\0';
    return n;
}

/* The start of SHA-256, never 0; 0 = out of memory. */
static uint64_t
hash_64(const char *text, size_t n)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    uint64_t hash = 0;

    if (EVP_Digest(text, n, digest, NULL, EVP_sha256(), NULL) != 1)
        return 0;
    for (int i = 0; i < 8; i++)
        hash = hash << 8 | digest[i];
    return hash != 0 ? hash : 1;
}

uint64_t
mailbox_identity(const char *address, const char *smarthost,
                 char ret[IDENTITY_MAX + 1])
{
    return hash_64(ret, mailbox_identity_text(address, smarthost, ret));
}

uint64_t
recipient_hash(const char *canonical)
{
    char folded[RECIPIENT_OCTETS];
    size_t n = 0;

    while (n < sizeof folded && canonical[n] != '\0') {
        folded[n] = slice_lower(canonical[n]);
        n++;
    }
    return hash_64(folded, n);
}

static bool
mailbox_fill(const struct account *a, const char *address, struct mailbox *ret)
{
    struct mailbox m = {.account = a};
    char identity[IDENTITY_MAX + 1];
    int n = snprintf(m.address, sizeof m.address, "%s", address);

    if (n < 0 || (size_t)n >= sizeof m.address)
        return false;
    m.id = mailbox_identity(m.address, a->smarthost->name, identity);
    if (m.id == 0)
        return false;
    *ret = m;
    return true;
}

const struct account *
policy_find_identity(const struct policy *p, const char *identity)
{
    if (p->index != NULL)
        return table_get(p->index->identities, slice_of(identity));
    for (size_t i = 0; i < p->n_accounts; i++) {
        char have[IDENTITY_MAX + 1];

        mailbox_identity(p->accounts[i].address, p->accounts[i].smarthost->name,
                         have);
        if (strcmp(have, identity) == 0)
            return &p->accounts[i];
    }
    return NULL;
}

bool
policy_mailbox(const struct policy *p, const char *identity,
               struct mailbox *ret)
{
    const struct account *a = policy_find_identity(p, identity);
    const char *at = strrchr(identity, '@'), *end;
    char template[IDENTITY_MAX + 1], address[IDENTITY_MAX + 1];

    if (a != NULL && !a->is_template)
        return mailbox_fill(a, a->address, ret);
    if (a != NULL || at == NULL || at == identity ||
        strlen(identity) > IDENTITY_MAX)
        return false;
    /* A domain has no slash; a local part may have one. */
    end = at + strcspn(at, "/");
    snprintf(template, sizeof template, "*%s", at);
    a = policy_find_identity(p, template);
    if (a == NULL)
        return false;
    snprintf(address, sizeof address, "%.*s", (int)(end - identity), identity);
    return mailbox_fill(a, address, ret);
}

/* The first entry that is not below the id. */
static size_t
find_id(const struct policy_index *index, uint64_t id)
{
    size_t low = 0, high = index->n_ids;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (index->id[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool
policy_mailbox_by_id(const struct policy *p, uint64_t id, struct mailbox *ret)
{
    if (p->index != NULL) {
        size_t i = find_id(p->index, id);

        if (i == p->index->n_ids || p->index->id[i].id != id)
            return false;
        return mailbox_fill(p->index->id[i].account,
                            p->index->id[i].account->address, ret);
    }
    for (size_t i = 0; i < p->n_accounts; i++) {
        struct mailbox m;

        if (p->accounts[i].is_template ||
            !mailbox_fill(&p->accounts[i], p->accounts[i].address, &m) ||
            m.id != id)
            continue;
        *ret = m;
        return true;
    }
    return false;
}

const struct account *
policy_account(const struct policy *p, const char *name)
{
    if (p->index != NULL)
        return table_get(p->index->names, slice_of(name));
    for (size_t i = 0; i < p->n_accounts; i++)
        if (strcmp(p->accounts[i].name, name) == 0)
            return &p->accounts[i];
    return NULL;
}

/* ---- domains ---- */

/* The set holds patterns: "x" for x alone, ".x" for what is below x. */
static bool
set_has_domain(const struct string_set *set, struct slice domain)
{
    char room[IDN_MAX + 1];

    if (idn_domain(domain, room, sizeof room, &domain.len) == IDN_OK)
        domain.at = room;
    if (domain.len > 1 && domain.at[domain.len - 1] == '.')
        domain.len--;
    if (domain.len == 0 || domain.at[0] == '.')
        return false;
    if (string_set_has(set, domain))
        return true;
    for (size_t i = 1; i < domain.len; i++)
        if (domain.at[i] == '.' && string_set_has(set, slice_from(domain, i)))
            return true;
    return false;
}

static bool
any_domain(const char *const *pattern, size_t n, struct slice domain)
{
    for (size_t i = 0; i < n; i++)
        if (address_domain_matches(domain, slice_of(pattern[i])))
            return true;
    return false;
}

bool
policy_is_mta_domain(const struct policy *p, struct slice domain)
{
    if (p->index != NULL)
        return set_has_domain(p->index->mta_domains, domain);
    return any_domain(p->mta_domains, p->n_mta_domains, domain);
}

bool
policy_is_internal_domain(const struct policy *p, struct slice domain)
{
    if (p->index != NULL)
        return set_has_domain(p->index->internal_domains, domain);
    return any_domain(p->internal_domains, p->n_internal_domains, domain);
}

/* ---- plans ---- */

static int
compare_plan(const void *key, const void *member)
{
    uint32_t hash = *(const uint32_t *)key;
    const struct plan *plan = *(const struct plan *const *)member;

    return hash < plan->hash ? -1 : hash > plan->hash;
}

const struct plan *
policy_plan(const struct policy *p, uint32_t hash)
{
    struct plan **found = NULL;

    if (p->n_plans > 0)
        found = bsearch(&hash, p->plans, p->n_plans, sizeof *p->plans,
                        compare_plan);
    return found != NULL ? *found : NULL;
}
