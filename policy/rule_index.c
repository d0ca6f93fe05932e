/* policy/rule_index.c - files the rules; see rule_index.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Twice over the rules: first every text that could file a rule is counted,
 * then each rule takes the condition whose commonest text is the rarest.  So
 * rules that share a sender's domain and differ in the recipient are filed
 * under the recipient.
 */
#include "policy/arena.h"
#include "policy/match.h"
#include "policy/rule_index_private.h"

enum { COST_NONE = UINT32_MAX /* no anchor */ };

/* What a condition that is asked may leave in struct match. */
enum marks {
    MARKS_NONE,
    MARKS_FROM, /* when From cannot be read, else nothing */
    MARKS_ANY,
};

struct count {
    uint64_t hash; /* 0 = free */
    uint32_t seen; /* how often it could file a rule */
    uint32_t n;    /* how often it does */
    uint32_t last; /* number of the last such rule + 1 */
    uint32_t begin;
};

struct filed {
    uint32_t count; /* index into build.count */
    uint32_t rule;
};

struct list_use {
    enum match_key key;
    const struct pattern *pattern;
    uint64_t hash;
};

struct build {
    struct rule_index *x;
    size_t mask;
    struct count *count; /* a hash table, large enough for all texts */
    size_t n_texts;      /* of all patterns, at most */
    size_t n_filed, n_always, n_from, n_lists;
    struct filed *filed;
    struct list_use *list; /* each but once for a key */
    uint32_t *always, *from;
};

/* ---- one pattern ---- */

uint64_t
rule_hash_network(const uint8_t address[16], unsigned bits)
{
    uint64_t h = rule_hash_start(MATCH_CLIENT) + bits;

    for (unsigned i = 0; i < bits / 8; i++)
        h = (h ^ address[i]) * 0x100000001b3u;
    if (bits % 8 != 0)
        h = (h ^ (uint8_t)(address[bits / 8] >> (8 - bits % 8))) *
            0x100000001b3u;
    return rule_hash_end(h);
}

static uint64_t
hash_list(enum match_key key, const struct pattern_list *list)
{
    uint64_t h = rule_hash_start(key) ^ (uintptr_t)list;

    return rule_hash_end(h * 0x9e3779b97f4a7c15u);
}

static bool
has_regex(const struct pattern *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i].kind == PATTERN_REGEX ||
            (p[i].kind == PATTERN_LIST &&
             has_regex(p[i].list->pattern, p[i].list->n)))
            return true;
    return false;
}

/* What the rule is filed under; 0 = the pattern cannot file it. */
static uint64_t
pattern_hash(enum match_key key, const struct pattern *p)
{
    struct slice text;

    if (p->kind == PATTERN_NETWORK)
        return key == MATCH_CLIENT && p->network.bits <= 128
                   ? rule_hash_network(p->network.address, p->network.bits)
                   : 0;
    if (p->kind == PATTERN_LIST)
        return has_regex(p, 1) ? 0 : hash_list(key, p->list);
    return match_pattern_text(key, p, &text) ? rule_hash_text(key, text) : 0;
}

/* ---- one condition ---- */

static bool
is_text_key(enum match_key key)
{
    switch (key) {
    case MATCH_SENDER:
    case MATCH_SENDER_DOMAIN:
    case MATCH_RECIPIENT:
    case MATCH_RECIPIENT_DOMAIN:
    case MATCH_CLIENT:
    case MATCH_AUTH:
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
        return true;
    default:
        return false;
    }
}

static bool
is_bounce(const struct condition *c)
{
    for (size_t i = 0; i < c->n_kinds; i++)
        if (c->kind[i] != KIND_BOUNCE)
            return false;
    return c->key == MATCH_KIND && c->n_kinds > 0;
}

static enum marks
marks_of(const struct condition *c)
{
    enum marks m = MARKS_NONE;

    switch (c->key) {
    case MATCH_SENDER:
    case MATCH_SENDER_DOMAIN:
    case MATCH_RECIPIENT:
    case MATCH_RECIPIENT_DOMAIN:
    case MATCH_CLIENT:
    case MATCH_AUTH:
    case MATCH_HELO:
    case MATCH_MACRO:
        return has_regex(c->pattern, c->n_patterns) ? MARKS_ANY : MARKS_NONE;
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
        return has_regex(c->pattern, c->n_patterns) ? MARKS_ANY : MARKS_FROM;
    case MATCH_TLS:
    case MATCH_TIME:
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
    case MATCH_KIND:
        return MARKS_NONE;
    case MATCH_ALL:
    case MATCH_ANY:
    case MATCH_NOT:
        for (size_t i = 0; i < c->n_children; i++) {
            enum marks one = marks_of(&c->child[i]);

            m = one > m ? one : m;
        }
        return m;
    case MATCH_HEADER:
    case MATCH_ATTACHMENT:
    case MATCH_SAMPLE:
        break;
    }
    return MARKS_ANY;
}

/* The null sender's text files `kind: bounce`. */
static uint64_t
bounce_hash(void)
{
    return rule_hash_text(MATCH_SENDER, SLICE_LIT("<>"));
}

typedef bool hash_fn(struct build *b, enum match_key key,
                     const struct pattern *p, uint64_t hash, void *cookie);

/* Calls fn for every hash of a condition that could file a rule by itself;
 * stops when it says false.  False also when the condition cannot. */
static bool
each_hash(struct build *b, const struct condition *c, hash_fn *fn, void *cookie)
{
    if (is_bounce(c))
        return fn(b, MATCH_SENDER, NULL, bounce_hash(), cookie);
    if (!is_text_key(c->key) || c->n_patterns == 0)
        return false;
    for (size_t i = 0; i < c->n_patterns; i++) {
        uint64_t hash = pattern_hash(c->key, &c->pattern[i]);

        if (hash == 0 || !fn(b, c->key, &c->pattern[i], hash, cookie))
            return false;
    }
    return true;
}

static struct count *
find_count(struct build *b, uint64_t hash)
{
    size_t i = hash & b->mask;

    while (b->count[i].hash != 0 && b->count[i].hash != hash)
        i = (i + 1) & b->mask;
    return &b->count[i];
}

static bool
see(struct build *b, enum match_key key, const struct pattern *p, uint64_t hash,
    void *cookie)
{
    struct count *c = find_count(b, hash);

    (void)key;
    (void)p;
    (void)cookie;
    c->hash = hash;
    c->seen++;
    return true;
}

static void
see_all(struct build *b, const struct condition *c)
{
    if (c->key != MATCH_ALL && c->key != MATCH_ANY)
        each_hash(b, c, see, NULL);
    else
        for (size_t i = 0; i < c->n_children; i++)
            see_all(b, &c->child[i]);
}

static bool
commonest(struct build *b, enum match_key key, const struct pattern *p,
          uint64_t hash, void *cookie)
{
    uint32_t *cost = cookie, seen = find_count(b, hash)->seen;

    (void)key;
    (void)p;
    if (*cost < seen)
        *cost = seen;
    return true;
}

static uint32_t
leaf_cost(struct build *b, const struct condition *c, enum marks before)
{
    uint32_t cost = 0;

    if (before > (rule_key_is_from(c->key) ? MARKS_FROM : MARKS_NONE) ||
        !each_hash(b, c, commonest, &cost))
        return COST_NONE;
    return cost;
}

/* The child of an `all` that files it best, NULL when none can; `before` is
 * what was asked before the `all`, and becomes what is asked before that
 * child.  A condition that leaves marks is asked whatever comes behind it. */
static const struct condition *best_child(struct build *b,
                                          const struct condition *c,
                                          enum marks *before,
                                          uint32_t *ret_cost);

static uint32_t
cost_of(struct build *b, const struct condition *c, enum marks before)
{
    uint32_t cost = 0;

    if (c->key == MATCH_ALL) {
        best_child(b, c, &before, &cost);
        return cost;
    }
    if (c->key != MATCH_ANY)
        return leaf_cost(b, c, before);
    for (size_t i = 0; i < c->n_children; i++) {
        uint32_t one = cost_of(b, &c->child[i], before);

        if (one == COST_NONE || cost > COST_NONE - 1 - one)
            return COST_NONE;
        cost += one;
    }
    return c->n_children > 0 ? cost : COST_NONE;
}

static const struct condition *
best_child(struct build *b, const struct condition *c, enum marks *before,
           uint32_t *ret_cost)
{
    const struct condition *best = NULL;
    enum marks best_before = MARKS_NONE, now = *before;

    *ret_cost = COST_NONE;
    for (size_t i = 0; i < c->n_children && now != MARKS_ANY; i++) {
        uint32_t cost = cost_of(b, &c->child[i], now);
        enum marks one = marks_of(&c->child[i]);

        if (cost < *ret_cost) {
            best = &c->child[i];
            best_before = now;
            *ret_cost = cost;
        }
        now = one > now ? one : now;
    }
    *before = best_before;
    return best;
}

/* ---- filing ---- */

struct filing {
    uint32_t rule;
    bool from; /* under From, too */
};

static void
note_network(struct rule_index *x, unsigned bits)
{
    for (unsigned i = 0; i < x->n_bits; i++)
        if (x->bits[i] == bits)
            return;
    x->bits[x->n_bits++] = (uint8_t)bits;
}

static bool
file_hash(struct build *b, enum match_key key, const struct pattern *p,
          uint64_t hash, void *cookie)
{
    struct count *c = find_count(b, hash);
    struct filing *f = cookie;

    f->from |= rule_key_is_from(key);
    if (p != NULL && p->kind == PATTERN_NETWORK)
        note_network(b->x, p->network.bits);
    else if (p != NULL && p->kind == PATTERN_LIST && c->n == 0)
        b->list[b->n_lists++] = (struct list_use){key, p, hash};
    else if (p == NULL || p->kind != PATTERN_LIST)
        b->x->keys |= 1u << key;
    if (c->last == f->rule + 1)
        return true; /* twice in one rule */
    c->last = f->rule + 1;
    c->n++;
    b->filed[b->n_filed++] = (struct filed){(uint32_t)(c - b->count), f->rule};
    return true;
}

static void
file_condition(struct build *b, const struct condition *c, enum marks before,
               struct filing *f)
{
    uint32_t cost;

    if (c->key == MATCH_ALL) {
        c = best_child(b, c, &before, &cost);
        file_condition(b, c, before, f);
    } else if (c->key == MATCH_ANY) {
        for (size_t i = 0; i < c->n_children; i++)
            file_condition(b, &c->child[i], before, f);
    } else {
        each_hash(b, c, file_hash, f);
    }
}

static void
file_rule(struct build *b, const struct rule *r, uint32_t number)
{
    struct filing f = {.rule = number};

    if (cost_of(b, &r->match, MARKS_NONE) == COST_NONE) {
        b->always[b->n_always++] = number;
        return;
    }
    file_condition(b, &r->match, MARKS_NONE, &f);
    if (f.from)
        b->from[b->n_from++] = number;
}

/* ---- the whole ---- */

static size_t
texts_of(const struct condition *c)
{
    size_t n = c->n_patterns + (c->n_kinds > 0);

    for (size_t i = 0; i < c->n_children; i++)
        n += texts_of(&c->child[i]);
    return n;
}

static size_t
slots_for(size_t n)
{
    size_t slots = 8;

    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

static bool
start(struct build *b, struct arena *a, struct arena *scratch,
      const struct rule *rule, size_t n)
{
    for (size_t i = 0; i < n; i++)
        b->n_texts += texts_of(&rule[i].match);
    if (n > UINT32_MAX / 4 || b->n_texts > UINT32_MAX / 4)
        return false;
    b->x = arena_alloc(a, 1, sizeof *b->x);
    b->mask = slots_for(b->n_texts) - 1;
    b->count = arena_alloc(scratch, b->mask + 1, sizeof *b->count);
    b->filed = arena_alloc(scratch, b->n_texts, sizeof *b->filed);
    b->list = arena_alloc(scratch, b->n_texts, sizeof *b->list);
    b->always = arena_alloc(scratch, n, sizeof *b->always);
    b->from = arena_alloc(scratch, n, sizeof *b->from);
    return b->x != NULL && b->count != NULL && b->filed != NULL &&
           b->list != NULL && b->always != NULL && b->from != NULL;
}

static bool
finish_lists(struct build *b, struct arena *a)
{
    struct rule_index *x = b->x;

    x->list = arena_alloc(a, b->n_lists, sizeof *x->list);
    if (x->list == NULL)
        return false;
    for (; x->n_lists < b->n_lists; x->n_lists++) {
        const struct list_use *use = &b->list[x->n_lists];
        struct rule_list *l = &x->list[x->n_lists];

        l->hash = use->hash;
        l->pattern = *use->pattern;
        l->condition = (struct condition){
            .key = use->key, .n_patterns = 1, .pattern = &l->pattern};
    }
    return true;
}

/* Moves the counts into slots of the right number, with their ranges. */
static bool
finish(struct build *b, struct arena *a)
{
    struct rule_index *x = b->x;
    size_t used = 0;
    uint32_t end = 0;

    for (size_t i = 0; i <= b->mask; i++)
        used += b->count[i].n > 0;
    x->mask = slots_for(used) - 1;
    x->slot = arena_alloc(a, x->mask + 1, sizeof *x->slot);
    x->rule =
        arena_alloc(a, b->n_filed + b->n_always + b->n_from, sizeof *x->rule);
    x->filter = arena_alloc(a, RULE_FILTER_BITS * (x->mask + 1) / 64,
                            sizeof *x->filter);
    if (x->slot == NULL || x->rule == NULL || x->filter == NULL)
        return false;
    for (size_t i = 0; i <= b->mask; i++) {
        struct count *c = &b->count[i];
        size_t at = c->hash & x->mask, bit;

        if (c->n == 0)
            continue;
        while (x->slot[at].hash != 0)
            at = (at + 1) & x->mask;
        x->slot[at] = (struct rule_slot){c->hash, end, c->n};
        bit = rule_filter_bit(x, c->hash);
        x->filter[bit / 64] |= (uint64_t)1 << bit % 64;
        c->begin = end;
        end += c->n;
    }
    for (size_t i = 0; i < b->n_filed; i++)
        x->rule[b->count[b->filed[i].count].begin++] = b->filed[i].rule;
    x->always.at = x->rule + end;
    x->always.end = x->from.at = x->always.at + b->n_always;
    x->from.end = x->from.at + b->n_from;
    memcpy(x->rule + end, b->always, b->n_always * sizeof *b->always);
    memcpy(x->rule + end + b->n_always, b->from, b->n_from * sizeof *b->from);
    return true;
}

struct rule_index *
rule_index_new(struct arena *a, struct arena *scratch, const struct rule *rule,
               size_t n)
{
    struct build b = {.n_texts = 0};

    if (!start(&b, a, scratch, rule, n))
        return NULL;
    for (size_t i = 0; i < n; i++)
        see_all(&b, &rule[i].match);
    for (size_t i = 0; i < n; i++)
        file_rule(&b, &rule[i], (uint32_t)i);
    return finish(&b, a) && finish_lists(&b, a) ? b.x : NULL;
}

/* ---- rules that match more than another ---- */

/* Such a rule is filed under what a pattern of the condition is filed under,
 * or a tail of that, or a network around it. */
static void
each_wider(const struct rule_index *x, enum match_key key,
           const struct pattern *p, rule_range_fn *fn, void *cookie)
{
    const char tail = match_is_domain_key(key) ? '.' : '@';
    uint64_t h = rule_hash_start(key);
    struct slice text;

    if (p->kind == PATTERN_NETWORK) {
        for (unsigned i = 0; i < x->n_bits; i++)
            if (x->bits[i] <= p->network.bits)
                fn(cookie,
                   rule_index_find(
                       x, rule_hash_network(p->network.address, x->bits[i])));
        return;
    }
    if (p->kind == PATTERN_LIST)
        fn(cookie, rule_index_find(x, hash_list(key, p->list)));
    if (!match_pattern_text(key, p, &text))
        return;
    for (size_t i = text.len; i > 0; i--) {
        h = rule_hash_step(h, text.at[i - 1]);
        if (i > 1 && text.at[i - 1] == tail)
            fn(cookie, rule_index_find(x, rule_hash_end(h)));
    }
    fn(cookie, rule_index_find(x, rule_hash_end(h)));
}

static void
each_wider_leaf(const struct rule_index *x, const struct condition *c,
                rule_range_fn *fn, void *cookie)
{
    struct pattern domain;
    enum match_key key;

    if (is_bounce(c))
        fn(cookie, rule_index_find(x, bounce_hash()));
    if (is_text_key(c->key) && c->n_patterns > 0) {
        each_wider(x, c->key, &c->pattern[0], fn, cookie);
        if (match_domain_key(c->key, &key) &&
            match_pattern_domain(&c->pattern[0], &domain))
            each_wider(x, key, &domain, fn, cookie);
    }
    for (size_t i = 0; i < c->n_children; i++)
        each_wider_leaf(x, &c->child[i], fn, cookie);
}

void
rule_index_each_wider(const struct rule_index *index, const struct condition *c,
                      rule_range_fn *fn, void *cookie)
{
    fn(cookie, index->always);
    each_wider_leaf(index, c, fn, cookie);
}
