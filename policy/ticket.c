/* policy/ticket.c - see ticket.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/ticket.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "policy/address.h"
#include "policy/base32.h"
#include "policy/ticket_private.h"

enum { /* where things stand: ticket.h */
       VERSION = 1,
       AT_VERSION = 0,
       AT_KEY = 1,
       AT_NUMBER = 2,
       AT_MINUTE = 10,
       AT_PLAN = 14,
       AT_FLAGS = 18,
       AT_SHARE = 19,
       AT_MAC = 20,
       MAC_OCTETS = TICKET_OCTETS - AT_MAC,
       FLAG_FROM = 3, /* mask */
       FLAG_REFUSE = 1 << 2,
       FLAG_DEFER = 1 << 3,
       FLAGS = FLAG_FROM | FLAG_REFUSE | FLAG_DEFER,
       QUEUE_LABEL = 3, /* "q07" */
};

_Static_assert(BASE32_CHARS(TICKET_OCTETS) == TICKET_LABEL,
               "the label holds the ticket");

const char *
ticket_result_text(enum ticket_result r)
{
    switch (r) {
    case TICKET_OK:
        return "good";
    case TICKET_EFOREIGN:
        return "not an address of the tag domain";
    case TICKET_EMALFORMED:
        return "malformed";
    case TICKET_EKEY:
        return "no key for its signature";
    case TICKET_EMAC:
        return "wrong signature";
    case TICKET_ELONG:
        return "too long for a tag";
    case TICKET_ELITERAL:
        return "an address literal cannot be tagged";
    case TICKET_ENOMEM:
        return "out of memory";
    }
    return "?";
}

/* ---- octets ---- */

static void
put(uint8_t *at, unsigned octets, uint64_t value)
{
    for (unsigned i = octets; i > 0; i--, value >>= 8)
        at[i - 1] = (uint8_t)value;
}

static uint64_t
get(const uint8_t *at, unsigned octets)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < octets; i++)
        value = value << 8 | at[i];
    return value;
}

static void
pack(const struct ticket *t, uint8_t key_id, uint8_t ret[TICKET_OCTETS])
{
    unsigned flags = (unsigned)t->from & FLAG_FROM;

    if (t->refuse)
        flags |= FLAG_REFUSE;
    if (t->defer)
        flags |= FLAG_DEFER;
    ret[AT_VERSION] = VERSION;
    ret[AT_KEY] = key_id;
    put(ret + AT_NUMBER, 8, t->number);
    put(ret + AT_MINUTE, 4, t->minute);
    put(ret + AT_PLAN, 4, t->plan);
    ret[AT_FLAGS] = (uint8_t)flags;
    ret[AT_SHARE] = t->share_percent;
}

/* False: not of this version, or a value that has no meaning. */
static bool
unpack(const uint8_t octets[TICKET_OCTETS], struct ticket *ret)
{
    unsigned flags = octets[AT_FLAGS];

    if (octets[AT_VERSION] != VERSION || (flags & ~(unsigned)FLAGS) != 0 ||
        (flags & FLAG_FROM) > FROM_REQUIRE || octets[AT_SHARE] > 100)
        return false;
    ret->number = get(octets + AT_NUMBER, 8);
    ret->minute = (uint32_t)get(octets + AT_MINUTE, 4);
    ret->plan = (uint32_t)get(octets + AT_PLAN, 4);
    ret->from = (enum from_handling)(flags & FLAG_FROM);
    ret->refuse = (flags & FLAG_REFUSE) != 0;
    ret->defer = (flags & FLAG_DEFER) != 0;
    ret->share_percent = octets[AT_SHARE];
    return true;
}

/* The MAC over octets 0..19, the account label in lower case, a NUL and the
 * canonical recipient.  False: no memory. */
static bool
sign(const uint8_t octets[TICKET_OCTETS], struct slice account,
     struct slice canonical, const struct ticket_key *key,
     uint8_t ret[MAC_OCTETS])
{
    unsigned char text[AT_MAC + LABEL_MAX + 1 + TAGGED_MAX];
    unsigned char mac[EVP_MAX_MD_SIZE];
    size_t n = AT_MAC;

    if (account.len > LABEL_MAX || canonical.len > TAGGED_MAX)
        return false;
    memcpy(text, octets, AT_MAC);
    for (size_t i = 0; i < account.len; i++)
        text[n++] = (unsigned char)slice_lower(account.at[i]);
    text[n++] = '\0';
    memcpy(text + n, canonical.at, canonical.len);
    n += canonical.len;
    if (HMAC(EVP_sha256(), key->secret, TICKET_KEY_OCTETS, text, n, mac,
             NULL) == NULL)
        return false;
    memcpy(ret, mac, MAC_OCTETS);
    return true;
}

static enum ticket_result
verify(const uint8_t octets[TICKET_OCTETS], struct slice account,
       struct slice canonical, const struct ticket_keys *keys)
{
    enum ticket_result result = TICKET_EKEY;

    for (unsigned i = 0; i < keys->n && i < TICKET_KEYS_MAX; i++) {
        uint8_t mac[MAC_OCTETS];

        if (keys->key[i].id != octets[AT_KEY])
            continue; /* ids may repeat: hosts that share keys draw their own */
        result = TICKET_EMAC;
        if (!sign(octets, account, canonical, &keys->key[i], mac))
            return TICKET_ENOMEM;
        if (CRYPTO_memcmp(mac, octets + AT_MAC, MAC_OCTETS) == 0)
            return TICKET_OK;
    }
    return result;
}

/* ---- labels ---- */

static struct slice
without_dot(struct slice domain)
{
    if (domain.len > 0 && domain.at[domain.len - 1] == '.')
        domain.len--;
    return domain;
}

/* Takes the last label, and the dot before it, off *domain. */
static struct slice
take_last_label(struct slice *domain)
{
    const char *dot =
        domain->len > 0 ? memrchr(domain->at, '.', domain->len) : NULL;
    struct slice label = *domain;

    if (dot == NULL) {
        domain->len = 0;
        return label;
    }
    label = slice_from(*domain, (size_t)(dot - domain->at) + 1);
    domain->len = (size_t)(dot - domain->at);
    return label;
}

/* Every label there and none too long? */
static enum ticket_result
check_labels(struct slice domain)
{
    size_t len = 0;

    for (size_t i = 0; i <= domain.len; i++) {
        if (i < domain.len && domain.at[i] != '.') {
            len++;
            continue;
        }
        if (len == 0)
            return TICKET_EMALFORMED;
        if (len > LABEL_MAX)
            return TICKET_ELONG;
        len = 0;
    }
    return TICKET_OK;
}

/* What stands before ".<parent>" of a domain.  False: it is not below. */
static bool
take_parent(struct slice domain, struct slice parent, struct slice *ret)
{
    if (domain.len <= parent.len || !slice_ends_nocase(domain, parent) ||
        domain.at[domain.len - parent.len - 1] != '.')
        return false;
    *ret = (struct slice){domain.at, domain.len - parent.len - 1};
    return true;
}

/* ---- writing ---- */

enum ticket_result
ticket_write(const struct ticket *t, struct slice recipient,
             const struct mailbox *m, const char *tag_domain,
             const struct ticket_keys *keys, char ret[TAGGED_MAX + 1])
{
    char account[LABEL_MAX + 1], canonical[TAGGED_MAX + 1];
    char label[TICKET_LABEL + 1], tagged[TAGGED_MAX + 1];
    uint8_t octets[TICKET_OCTETS];
    enum ticket_result result;
    struct address a;
    size_t len;
    int n;

    if (!address_parse(recipient, &a) || a.local.len == 0 ||
        a.domain.len == 0 || t->share_percent > 100)
        return TICKET_EMALFORMED;
    if (a.local.at[0] == '@')
        return TICKET_EMALFORMED; /* would read back as a source route */
    if (a.is_literal)
        return TICKET_ELITERAL;
    a.domain = without_dot(a.domain);
    result = check_labels(a.domain);
    if (result == TICKET_OK)
        result = ticket_account_label(m, account);
    if (result != TICKET_OK)
        return result;
    if (keys->n == 0)
        return TICKET_EKEY;
    len = address_canonical(recipient, canonical, sizeof(canonical));
    if (len == 0 || a.local.len > TAGGED_MAX || a.domain.len > TAGGED_MAX)
        return TICKET_ELONG;

    pack(t, keys->key[0].id, octets);
    if (!sign(octets, slice_of(account), (struct slice){canonical, len},
              &keys->key[0], octets + AT_MAC))
        return TICKET_ENOMEM;
    base32_write(octets, TICKET_OCTETS, label);
    n = snprintf(tagged, sizeof(tagged), "%.*s@%.*s.%s.%s.q%02u.%s",
                 SLICE_FMT(a.local), SLICE_FMT(a.domain), label, account,
                 ticket_queue(m != NULL ? m->id : 0), tag_domain);
    if (n < 0 || n > TAGGED_MAX)
        return TICKET_ELONG;
    memcpy(ret, tagged, (size_t)n + 1);
    return TICKET_OK;
}

/* ---- reading ---- */

static bool
read_queue(struct slice label, unsigned *ret)
{
    unsigned queue;

    if (label.len != QUEUE_LABEL || slice_lower(label.at[0]) != 'q' ||
        label.at[1] < '0' || label.at[1] > '9' || label.at[2] < '0' ||
        label.at[2] > '9')
        return false;
    queue = (unsigned)(label.at[1] - '0') * 10 + (unsigned)(label.at[2] - '0');
    if (queue >= TICKET_QUEUES)
        return false;
    *ret = queue;
    return true;
}

/* Joins the original recipient from its parts. */
static bool
join(struct slice local, struct slice domain, char ret[TAGGED_MAX + 1])
{
    if (local.len > TAGGED_MAX || domain.len > TAGGED_MAX ||
        local.len + 1 + domain.len > TAGGED_MAX)
        return false;
    memcpy(ret, local.at, local.len);
    ret[local.len] = '@';
    memcpy(ret + local.len + 1, domain.at, domain.len);
    ret[local.len + 1 + domain.len] = '\0';
    return true;
}

enum ticket_result
ticket_read(struct slice address, const char *tag_domain,
            const struct ticket_keys *keys, struct tag *ret)
{
    struct slice parent = slice_of(tag_domain), domain;
    char canonical[TAGGED_MAX + 1];
    uint8_t octets[TICKET_OCTETS];
    enum ticket_result result;
    struct address a;
    struct tag tag;
    size_t len;

    if (!address_parse(address, &a))
        return ticket_is_tagged(address, tag_domain) ? TICKET_EMALFORMED
                                                     : TICKET_EFOREIGN;
    domain = without_dot(a.domain);
    if (slice_eq_nocase(domain, parent))
        return TICKET_EMALFORMED;
    if (!take_parent(domain, parent, &domain))
        return TICKET_EFOREIGN;

    if (!read_queue(take_last_label(&domain), &tag.queue))
        return TICKET_EMALFORMED;
    tag.account = take_last_label(&domain);
    if (!ticket_label_is_good(tag.account) ||
        !base32_read(take_last_label(&domain), octets, TICKET_OCTETS) ||
        !unpack(octets, &tag.ticket) || check_labels(domain) != TICKET_OK ||
        !join(a.local, domain, tag.recipient))
        return TICKET_EMALFORMED;
    len = address_canonical(slice_of(tag.recipient), canonical,
                            sizeof(canonical));
    if (len == 0)
        return TICKET_EMALFORMED;
    result = verify(octets, tag.account, (struct slice){canonical, len}, keys);
    if (result == TICKET_OK)
        *ret = tag;
    return result;
}

size_t
ticket_tail(struct slice address, const char *tag_domain)
{
    struct slice s;
    unsigned queue;

    if (!take_parent(without_dot(address), slice_of(tag_domain), &s) ||
        !read_queue(take_last_label(&s), &queue) ||
        !ticket_label_is_good(take_last_label(&s)) ||
        take_last_label(&s).len != TICKET_LABEL)
        return 0;
    return s.len > 0 ? address.len - s.len : 0;
}

/* ---- is it one? ---- */

static bool
is_delimiter(char c)
{
    return c != '\0' && strchr("@%!,:;<>()[]", c) != NULL;
}

/* Quoting and white space: an MTA may take them out before it looks for the
 * domain. */
static bool
is_dropped(char c)
{
    return c != '\0' && strchr("\"\\ \t", c) != NULL;
}

/* Is the host the parent domain or below it?  Compares from the end. */
static bool
host_is_below(struct slice host, struct slice parent)
{
    bool begun = false;

    while (host.len > 0) {
        char c = host.at[--host.len];

        if (is_dropped(c))
            continue;
        if (parent.len == 0)
            return c == '.';
        if (c == '.' && !begun) { /* the root's dot */
            begun = true;
            continue;
        }
        begun = true;
        if (slice_lower(c) != slice_lower(parent.at[parent.len - 1]))
            return false;
        parent.len--;
    }
    return parent.len == 0;
}

bool
ticket_is_tagged(struct slice address, const char *tag_domain)
{
    bool in_host = false; /* behind an @ or %: there the hosts are */
    size_t start = 0;

    if (address.len == 0)
        return false;
    for (size_t end = 0; end <= address.len; end++) {
        char after = end < address.len ? address.at[end] : '\0';
        struct slice piece = {address.at + start, end - start};

        if (end < address.len && !is_delimiter(after))
            continue;
        /* what some MTA would take for a host */
        if ((in_host || after == '!') &&
            host_is_below(piece, slice_of(tag_domain)))
            return true;
        start = end + 1;
        in_host = in_host || after == '@' || after == '%';
    }
    return false;
}
