/* policy/match.c - see match.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/match.h"

#include <arpa/inet.h>
#include <assert.h>

#include "policy/address.h"
#include "policy/glob.h"
#include "policy/idn.h"
#include "policy/match_private.h"
#include "policy/netset.h"
#include "policy/scratch.h"
#include "policy/set.h"

/* ---- the values of one recipient ---- */

static void
address_init(struct match *m, struct match_address *a, struct slice raw)
{
    size_t len = address_canonical(raw, a->room, sizeof a->room);
    const char *at;

    m->nomem |= idn_address((struct slice){a->room, len}, a->room,
                            sizeof a->room, &len) == IDN_ENOMEM;
    a->raw = raw;
    a->text = len > 0 ? (struct slice){a->room, len} : raw;
    a->differs = !slice_eq_nocase(a->raw, a->text);
    at = a->text.len > 0 ? memrchr(a->text.at, '@', a->text.len) : NULL;
    a->domain = (struct slice){NULL, 0};
    if (at != NULL)
        a->domain = slice_from(a->text, (size_t)(at + 1 - a->text.at));
}

void
match_init(struct match *m, const struct facts *f, struct slice recipient,
           struct scratch *s)
{
    m->f = f;
    m->scratch = s;
    m->unreadable_unknown = false;
    m->wall_done = m->sample_done = false;
    m->unparseable = m->regex_limit = m->nomem = false;
    address_init(m, &m->sender, f->sender);
    address_init(m, &m->recipient, recipient);
    scratch_bind(s, f);
}

/* ---- one value, one pattern ---- */

static bool
regex_matches(struct match *m, const struct pattern *p, struct value v)
{
    switch (scratch_regex(m->scratch, p->regex, v.text, v.keep)) {
    case REGEX_YES:
        return true;
    case REGEX_LIMIT:
        m->regex_limit = true;
        return false;
    case REGEX_ENOMEM:
        m->nomem = true;
        return false;
    case REGEX_NO:
        return false;
    }
    return false;
}

/* Is the value in the set; a domain also as ".parent" of any parent? */
static bool
set_matches(const struct string_set *set, struct value v)
{
    if (set == NULL)
        return false;
    if (string_set_has(set, v.text))
        return true;
    for (size_t i = 1; v.is_domain && i < v.text.len; i++)
        if (v.text.at[i] == '.' && string_set_has(set, slice_from(v.text, i)))
            return true;
    return false;
}

/* slice_eq_nocase without strlen(): rules are many, and most differ early. */
static bool
equals_text(struct slice v, const char *text)
{
    for (size_t i = 0; i < v.len; i++)
        if (text[i] == '\0' || slice_lower(text[i]) != slice_lower(v.at[i]))
            return false;
    return text[v.len] == '\0';
}

static bool
plain_matches(struct match *m, const struct pattern *p, struct value v)
{
    switch (p->kind) {
    case PATTERN_EXACT:
        return v.is_domain ? address_domain_matches(v.text, slice_of(p->text))
                           : equals_text(v.text, p->text);
    case PATTERN_GLOB:
        return glob_matches(slice_of(p->text), v.text);
    case PATTERN_REGEX:
        return regex_matches(m, p, v);
    case PATTERN_DOMAIN:
        return address_domain_matches(v.text, slice_of(p->text));
    case PATTERN_NETWORK: /* asked elsewhere, of the client alone */
    case PATTERN_LIST:    /* lists hold no lists */
        return false;
    }
    return false;
}

static bool
pattern_matches(struct match *m, const struct pattern *p, struct value v)
{
    if (p->kind != PATTERN_LIST)
        return plain_matches(m, p, v);
    if (set_matches(p->list->exact, v))
        return true;
    for (size_t i = 0; i < p->list->n; i++)
        if (plain_matches(m, &p->list->pattern[i], v))
            return true;
    return false;
}

bool
match_any_pattern(struct match *m, const struct condition *c, struct value v)
{
    for (size_t i = 0; i < c->n_patterns; i++)
        if (pattern_matches(m, &c->pattern[i], v))
            return true;
    return false;
}

static enum truth
truth_of(bool yes)
{
    return yes ? TRUTH_YES : TRUTH_NO;
}

/* ---- the envelope and the connection ---- */

/* "<>" is the null sender's other spelling. */
static bool
any_null_pattern(const struct condition *c)
{
    static const struct value null = {.text = {"<>", 2}};

    for (size_t i = 0; i < c->n_patterns; i++) {
        const struct pattern *p = &c->pattern[i];

        if (p->kind == PATTERN_EXACT && strcmp(p->text, "<>") == 0)
            return true;
        if (p->kind == PATTERN_LIST && set_matches(p->list->exact, null))
            return true;
    }
    return false;
}

static enum truth
match_address(struct match *m, const struct condition *c,
              const struct match_address *a)
{
    if (match_any_pattern(m, c, (struct value){.text = a->text}))
        return TRUTH_YES;
    if (a->raw.len == 0)
        return truth_of(any_null_pattern(c));
    return truth_of(a->differs &&
                    match_any_pattern(m, c, (struct value){.text = a->raw}));
}

enum truth
match_domain(struct match *m, const struct condition *c, struct slice domain,
             bool keep)
{
    struct value v = {.text = domain, .is_domain = true, .keep = keep};

    if (domain.len > 0 && domain.at[domain.len - 1] == '.')
        v.text.len--;
    return truth_of(v.text.len > 0 && match_any_pattern(m, c, v));
}

/* Without a login "*" does not match: only "" does. */
static enum truth
match_auth(struct match *m, const struct condition *c)
{
    struct value v = {.text = m->f->auth, .keep = true};

    if (v.text.len > 0)
        return truth_of(match_any_pattern(m, c, v));
    for (size_t i = 0; i < c->n_patterns; i++)
        if (c->pattern[i].kind == PATTERN_EXACT &&
            c->pattern[i].text[0] == '\0')
            return TRUTH_YES;
    return TRUTH_NO;
}

bool
match_network(const struct network *net, const struct facts_client *client)
{
    return client->known && netset_holds(net, client->address);
}

static bool
any_network(const struct pattern *p, size_t n,
            const struct facts_client *client)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i].kind == PATTERN_NETWORK &&
            match_network(&p[i].network, client))
            return true;
        if (p[i].kind == PATTERN_LIST && client->known &&
            netset_has(p[i].list->network, p[i].list->n_networks,
                       client->address))
            return true;
    }
    return false;
}

bool
match_client_text(const struct facts_client *client, char ret[CLIENT_TEXT])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    bool is_ipv4 = memcmp(client->address, mapped, sizeof mapped) == 0;

    static_assert(CLIENT_TEXT == INET6_ADDRSTRLEN, "as match.h says");
    return client->known &&
           inet_ntop(is_ipv4 ? AF_INET : AF_INET6,
                     client->address + is_ipv4 * 12, ret, CLIENT_TEXT) != NULL;
}

static enum truth
match_client_name(struct match *m, const struct condition *c, struct slice name)
{
    char room[IDN_MAX + 1];
    enum idn_result r = idn_domain(name, room, sizeof room, &name.len);

    m->nomem |= r == IDN_ENOMEM;
    if (r == IDN_OK)
        name.at = room;
    return match_domain(m, c, name, r != IDN_OK);
}

/* Our ledger does not know who brought the message. */
bool
match_client_untold(const struct facts *f)
{
    return f->stage == FACTS_LOG && !f->local && !f->client.known &&
           f->client.name.len == 0;
}

static enum truth
match_client(struct match *m, const struct condition *c)
{
    const struct facts_client *client = &m->f->client;
    char text[CLIENT_TEXT];

    if (any_network(c->pattern, c->n_patterns, client))
        return TRUTH_YES;
    if (client->name.len > 0 &&
        !slice_eq_nocase(client->name, SLICE_LIT("unknown")) &&
        match_client_name(m, c, client->name) == TRUTH_YES)
        return TRUTH_YES;
    if (!match_client_text(client, text))
        return match_client_untold(m->f) ? TRUTH_UNKNOWN : TRUTH_NO;
    return truth_of(
        match_any_pattern(m, c, (struct value){.text = slice_of(text)}));
}

/* Here an empty name matches nothing: it is none. */
static enum truth
match_helo(struct match *m, const struct condition *c)
{
    if (m->f->stage == FACTS_LOG && m->f->helo.len == 0)
        return TRUTH_UNKNOWN;
    return match_domain(m, c, m->f->helo, true);
}

static enum truth
match_tls(const struct match *m, const struct condition *c)
{
    if (m->f->stage == FACTS_LOG && !m->f->tls)
        return TRUTH_UNKNOWN;
    return truth_of(m->f->tls == c->yes);
}

struct wall_clock
match_wall(struct match *m, const struct zone *z)
{
    if (!m->wall_done || m->wall_zone != z) {
        m->wall = zone_wall(z, m->f->now_s);
        m->wall_zone = z;
        m->wall_done = true;
    }
    return m->wall;
}

static enum truth
match_time(struct match *m, const struct condition *c)
{
    struct wall_clock now = match_wall(m, c->zone);
    unsigned today = 1u << now.weekday, yesterday = 1u << (now.weekday + 6) % 7;

    for (size_t i = 0; i < c->n_spans; i++) {
        unsigned days = c->span[i].days, begin = c->span[i].begin,
                 end = c->span[i].end;
        bool overnight = end <= begin;

        if ((days & today) != 0 && now.minute >= begin &&
            (overnight || now.minute < end))
            return TRUTH_YES;
        if (overnight && (days & yesterday) != 0 && now.minute < end)
            return TRUTH_YES;
    }
    return TRUTH_NO;
}

static const struct facts_pair *
find_pair(const struct facts_pair *pair, size_t n, const char *name)
{
    struct slice want = slice_of(name);

    for (size_t i = 0; i < n; i++)
        if (slice_eq(pair[i].name, want))
            return &pair[i];
    return NULL;
}

const struct facts_pair *
match_macro_of(const struct facts *f, const char *name)
{
    const struct facts_pair *own =
        find_pair(f->rcpt_macro, f->n_rcpt_macros, name);

    return own != NULL ? own : find_pair(f->macro, f->n_macros, name);
}

static enum truth
match_macro(struct match *m, const struct condition *c)
{
    const struct facts_pair *macro = match_macro_of(m->f, c->name);

    if (macro == NULL)
        return m->f->stage == FACTS_EOM ? TRUTH_NO : TRUTH_UNKNOWN;
    return truth_of(
        match_any_pattern(m, c, (struct value){.text = macro->value}));
}

/* ---- trees ---- */

/* All children: the first `stop` decides, else any unknown, else the
 * opposite of `stop`. */
static enum truth
match_children(struct match *m, const struct condition *c, enum truth stop)
{
    enum truth t = stop == TRUTH_NO ? TRUTH_YES : TRUTH_NO;

    for (size_t i = 0; i < c->n_children; i++) {
        enum truth one = match_condition(m, &c->child[i]);

        if (one == stop)
            return stop;
        if (one == TRUTH_UNKNOWN)
            t = TRUTH_UNKNOWN;
    }
    return t;
}

static enum truth
match_not(struct match *m, const struct condition *c)
{
    enum truth t = match_children(m, c, TRUTH_NO);

    if (t == TRUTH_UNKNOWN)
        return t;
    return t == TRUTH_YES ? TRUTH_NO : TRUTH_YES;
}

enum truth
match_condition(struct match *m, const struct condition *c)
{
    switch (c->key) {
    case MATCH_SENDER:
        return match_address(m, c, &m->sender);
    case MATCH_SENDER_DOMAIN:
        return match_domain(m, c, m->sender.domain, false);
    case MATCH_RECIPIENT:
        return match_address(m, c, &m->recipient);
    case MATCH_RECIPIENT_DOMAIN:
        return match_domain(m, c, m->recipient.domain, false);
    case MATCH_CLIENT:
        return match_client(m, c);
    case MATCH_AUTH:
        return match_auth(m, c);
    case MATCH_HELO:
        return match_helo(m, c);
    case MATCH_TLS:
        return match_tls(m, c);
    case MATCH_TIME:
        return match_time(m, c);
    case MATCH_MACRO:
        return match_macro(m, c);
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
    case MATCH_HEADER:
    case MATCH_SIZE:
    case MATCH_RECIPIENTS:
    case MATCH_ATTACHMENT:
    case MATCH_SAMPLE:
    case MATCH_KIND:
        return match_message(m, c);
    case MATCH_ALL:
        return match_children(m, c, TRUTH_NO);
    case MATCH_ANY:
        return match_children(m, c, TRUTH_YES);
    case MATCH_NOT:
        return match_not(m, c);
    }
    return TRUTH_NO;
}
