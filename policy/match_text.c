/* policy/match_text.c - under which texts a value is looked up; see match.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Each function here is the twin of one in match.c that compares.
 */
#include <arpa/inet.h>

#include "policy/idn.h"
#include "policy/match.h"
#include "policy/scratch.h"

/* ---- the pattern's side ---- */

static bool
is_domain_key(enum match_key key)
{
    return key == MATCH_SENDER_DOMAIN || key == MATCH_RECIPIENT_DOMAIN ||
           key == MATCH_FROM_DOMAIN || key == MATCH_CLIENT;
}

static bool
has_any(struct slice s, const char *set)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] == '\0' || strchr(set, s.at[i]) != NULL)
            return true;
    return false;
}

/* "*@example.com", and "*.example.com" where the value is a domain: what is
 * behind the star is a tail of every value that it matches. */
static bool
glob_text(enum match_key key, struct slice glob, struct slice *ret)
{
    struct slice tail = slice_from(glob, 1), rest = slice_from(glob, 2);

    if (rest.len == 0 || glob.at[0] != '*' || has_any(rest, "*?@"))
        return false;
    *ret = tail;
    return tail.at[0] == (is_domain_key(key) ? '.' : '@');
}

bool
match_pattern_text(enum match_key key, const struct pattern *p,
                   struct slice *ret)
{
    switch (p->kind) {
    case PATTERN_EXACT:
    case PATTERN_DOMAIN:
        *ret = slice_of(p->text);
        return true;
    case PATTERN_GLOB:
        return glob_text(key, slice_of(p->text), ret);
    case PATTERN_REGEX:
    case PATTERN_LIST:
    case PATTERN_NETWORK:
        break;
    }
    return false;
}

bool
match_domain_key(enum match_key address, enum match_key *ret)
{
    switch (address) {
    case MATCH_SENDER:
        *ret = MATCH_SENDER_DOMAIN;
        return true;
    case MATCH_RECIPIENT:
        *ret = MATCH_RECIPIENT_DOMAIN;
        return true;
    case MATCH_FROM:
        *ret = MATCH_FROM_DOMAIN;
        return true;
    default:
        return false;
    }
}

bool
match_pattern_domain(const struct pattern *address, struct pattern *ret)
{
    struct slice text;
    const char *at;

    if (!match_pattern_text(MATCH_SENDER, address, &text) || text.len == 0)
        return false;
    at = memrchr(text.at, '@', text.len);
    if (at == NULL || at[1] == '\0')
        return false;
    *ret = (struct pattern){.kind = PATTERN_DOMAIN, .text = at + 1};
    return true;
}

/* ---- the value's side ---- */

struct texts_to {
    match_text_fn *fn;
    void *cookie;
    enum match_key key;
};

static void
say(const struct texts_to *to, struct slice text, char tail)
{
    to->fn(to->cookie, to->key, text, tail);
}

/* match_domain() takes one dot off the end, address_domain_matches() one
 * more. */
static void
each_domain(const struct texts_to *to, struct slice domain)
{
    for (int i = 0; i < 2 && domain.len > 0; i++) {
        bool dot = domain.at[domain.len - 1] == '.';

        if (i == 0 && dot) {
            domain.len--;
            dot = domain.len > 0 && domain.at[domain.len - 1] == '.';
        }
        if (domain.len > 0)
            say(to, domain, '.');
        if (!dot)
            return;
        domain.len--;
    }
}

static void
each_address(const struct texts_to *to, const struct match_address *a)
{
    if (a->raw.len == 0) {
        say(to, SLICE_LIT("<>"), '\0');
        return;
    }
    say(to, a->text, '@');
    if (a->differs)
        say(to, a->raw, '@');
}

static void
each_client(const struct texts_to *to, struct match *m)
{
    const struct facts_client *client = &m->f->client;
    char text[INET6_ADDRSTRLEN], room[IDN_MAX + 1];
    struct slice name = client->name;
    enum idn_result r = idn_domain(name, room, sizeof room, &name.len);

    m->nomem |= r == IDN_ENOMEM;
    if (r == IDN_OK)
        name.at = room;
    each_domain(to, name);
    if (match_client_text(client, text))
        each_domain(to, slice_of(text));
}

static void
each_from(const struct texts_to *to, struct match *m)
{
    const struct scratch_from *from = scratch_from(m->scratch);

    for (size_t i = 0; from != NULL && i < from->n; i++) {
        struct slice a = from->address[i];
        const char *at = memrchr(a.at, '@', a.len);

        if (to->key == MATCH_FROM)
            say(to, a, '@');
        else
            each_domain(to, slice_from(a, (size_t)(at + 1 - a.at)));
    }
}

void
match_each_text(struct match *m, enum match_key key, match_text_fn *fn,
                void *cookie)
{
    const struct texts_to to = {fn, cookie, key};

    switch (key) {
    case MATCH_SENDER:
        each_address(&to, &m->sender);
        break;
    case MATCH_SENDER_DOMAIN:
        each_domain(&to, m->sender.domain);
        break;
    case MATCH_RECIPIENT:
        each_address(&to, &m->recipient);
        break;
    case MATCH_RECIPIENT_DOMAIN:
        each_domain(&to, m->recipient.domain);
        break;
    case MATCH_CLIENT:
        each_client(&to, m);
        break;
    case MATCH_AUTH:
        say(&to, m->f->auth, '@');
        break;
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
        each_from(&to, m);
        break;
    default:
        break;
    }
}
