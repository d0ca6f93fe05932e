/* policy/rule_walk.c - looks the rules up and walks them in order; see
 * rule_index.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/match.h"
#include "policy/rule_index_private.h"
#include "policy/scratch.h"

/* ---- looking up ---- */

struct look {
    const struct rule_index *x;
    struct rule_hits *hits;
};

static void
add_range(struct rule_hits *h, struct rule_range r)
{
    if (r.at == r.end)
        return;
    if (h->n == RULE_HITS_MAX) {
        h->all = true;
        return;
    }
    h->range[h->n++] = r;
}

static void
look_up(const struct look *l, uint64_t hash)
{
    add_range(l->hits, rule_index_find(l->x, hash));
}

static void
look_up_text(void *cookie, enum match_key key, struct slice text, char tail)
{
    const struct look *l = cookie;
    uint64_t h = rule_hash_start(key);

    for (size_t i = text.len; i > 0; i--) {
        char c = text.at[i - 1];

        h = rule_hash_step(h, c);
        if (c == tail && i > 1)
            look_up(l, rule_hash_end(h));
    }
    look_up(l, rule_hash_end(h));
}

/* The keys that `which` holds bits of. */
static void
look_up_keys(const struct look *l, unsigned which, struct match *m)
{
    struct look look = *l;

    for (unsigned key = 0; which >> key != 0; key++)
        if ((l->x->keys & which) >> key & 1)
            match_each_text(m, (enum match_key)key, look_up_text, &look);
    for (size_t i = 0; i < l->x->n_lists; i++) {
        const struct rule_list *list = &l->x->list[i];

        if (which >> list->condition.key & 1 &&
            match_condition(m, &list->condition) != TRUTH_NO)
            look_up(l, list->hash);
    }
}

static void
look_up_networks(const struct look *l, const struct facts_client *client)
{
    for (unsigned i = 0; client->known && i < l->x->n_bits; i++)
        look_up(l, rule_hash_network(client->address, l->x->bits[i]));
}

/* Is From known, and all of it? */
static bool
from_is_readable(struct match *m)
{
    const struct scratch_from *from;

    if (m->f->stage != FACTS_EOM)
        return false;
    from = scratch_from(m->scratch);
    return from != NULL && !from->garbage;
}

enum {
    KEYS_FROM = 1 << MATCH_FROM | 1 << MATCH_FROM_DOMAIN,
    KEYS_RECIPIENT = 1 << MATCH_RECIPIENT | 1 << MATCH_RECIPIENT_DOMAIN,
    KEYS_MESSAGE = 1 << MATCH_SENDER | 1 << MATCH_SENDER_DOMAIN |
                   1 << MATCH_CLIENT | 1 << MATCH_AUTH,
};

/* Is some rule filed under who the client is? */
static bool
rule_index_has_clients(const struct rule_index *x)
{
    if (x->n_bits > 0 || (x->keys >> MATCH_CLIENT & 1) != 0)
        return true;
    for (size_t i = 0; i < x->n_lists; i++)
        if (x->list[i].condition.key == MATCH_CLIENT)
            return true;
    return false;
}

static void
look_up_message(const struct rule_index *x, struct match *m,
                struct rule_hits *hits)
{
    const struct look l = {x, hits};

    hits->n = 0;
    /* Not known is not "no". */
    hits->all = match_client_untold(m->f) && rule_index_has_clients(x);
    add_range(hits, x->always);
    look_up_keys(&l, KEYS_MESSAGE, m);
    look_up_networks(&l, &m->f->client);
    if (x->from.at == x->from.end)
        return;
    if (from_is_readable(m))
        look_up_keys(&l, KEYS_FROM, m);
    else
        add_range(hits, x->from);
}

/* One after the other; returns the octets used, 0 when there is no room. */
static size_t
put_facts(const struct facts *f, unsigned char to[RULE_SEEN_MAX])
{
    const struct slice text[] = {f->sender, f->auth, f->client.name};
    size_t n = 0;

    to[n++] = (unsigned char)f->stage;
    to[n++] = f->client.known;
    to[n++] = f->local;
    memcpy(to + n, f->client.address, sizeof f->client.address);
    n += sizeof f->client.address;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        if (text[i].len > UINT8_MAX || text[i].len + 1 > RULE_SEEN_MAX - n)
            return 0;
        to[n++] = (unsigned char)text[i].len;
        if (text[i].len > 0)
            memcpy(to + n, text[i].at, text[i].len);
        n += text[i].len;
    }
    return n;
}

/* The hits of the message that the scratch is bound to. */
static const struct rule_hits *
message_hits(const struct rule_index *x, struct match *m)
{
    struct rule_message_hits *h = scratch_rule_hits(m->scratch);
    unsigned char now[RULE_SEEN_MAX];
    size_t n = put_facts(m->f, now);

    if (h->index == x && n > 0 && h->n_seen == n &&
        memcmp(h->seen, now, n) == 0)
        return &h->hits;
    look_up_message(x, m, &h->hits);
    h->index = x;
    h->n_seen = n;
    memcpy(h->seen, now, n);
    return &h->hits;
}

/* ---- walking ---- */

void
rule_walk_start(struct rule_walk *w, const struct rule_index *index,
                size_t n_rules, struct match *m)
{
    const struct rule_hits *message;
    struct rule_hits own;
    struct look l = {index, &own};

    w->next = 0;
    w->n_rules = n_rules;
    w->n = 0;
    w->plain = true;
    if (index == NULL)
        return;
    message = message_hits(index, m);
    own.n = 0;
    own.all = false;
    look_up_keys(&l, KEYS_RECIPIENT, m);
    w->plain = message->all || own.all;
    for (unsigned i = 0; i < message->n; i++)
        w->range[w->n++] = message->range[i];
    for (unsigned i = 0; i < own.n; i++)
        w->range[w->n++] = own.range[i];
}

bool
rule_walk_next(struct rule_walk *w, size_t *ret_rule)
{
    uint32_t least = UINT32_MAX;

    if (w->plain) {
        *ret_rule = w->next;
        return w->next++ < w->n_rules;
    }
    for (unsigned i = 0; i < w->n; i++)
        if (*w->range[i].at < least)
            least = *w->range[i].at;
    /* A rule may be in several. */
    for (unsigned i = w->n; i > 0; i--)
        if (*w->range[i - 1].at == least &&
            ++w->range[i - 1].at == w->range[i - 1].end)
            w->range[i - 1] = w->range[--w->n];
    *ret_rule = least;
    return least != UINT32_MAX;
}
