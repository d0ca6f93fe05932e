/* policy/address.c - see address.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/address.h"

/* Controls and DEL have no place in an address, quoted or not; octets from
 * 0x80 on are RFC 6531's and pass. */
static bool
is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* Where an octet has no place, unless quoted.  (Every message's addresses come
 * this way several times: a table.) */
enum {
    NOT_IN_LOCAL = 1 << 0,
    NOT_IN_DOMAIN = 1 << 1,
    NOT_IN_LITERAL = 1 << 2,
    NOT_IN_ROUTE = 1 << 3,
    NOWHERE = NOT_IN_LOCAL | NOT_IN_DOMAIN | NOT_IN_LITERAL | NOT_IN_ROUTE,
};

static const unsigned char misplaced[256] = {
    [' '] = NOWHERE,
    ['<'] = NOWHERE,
    ['>'] = NOWHERE,
    ['['] = NOWHERE,
    ['\\'] = NOWHERE,
    [']'] = NOT_IN_LOCAL | NOT_IN_DOMAIN | NOT_IN_ROUTE,
    [','] = NOT_IN_LOCAL | NOT_IN_DOMAIN | NOT_IN_ROUTE,
    [':'] = NOT_IN_LOCAL | NOT_IN_DOMAIN | NOT_IN_ROUTE,
    ['('] = NOT_IN_LOCAL | NOT_IN_DOMAIN,
    [')'] = NOT_IN_LOCAL | NOT_IN_DOMAIN,
    [';'] = NOT_IN_LOCAL | NOT_IN_DOMAIN,
    ['"'] = NOT_IN_DOMAIN | NOT_IN_LITERAL | NOT_IN_ROUTE,
    ['@'] = NOT_IN_DOMAIN | NOT_IN_LITERAL | NOT_IN_ROUTE,
};

static bool
is_misplaced(char c, unsigned where)
{
    return (misplaced[(unsigned char)c] & where) != 0;
}

/* Octets of a bracketed literal at the start of s; 0 = it does not end. */
static size_t
literal_length(struct slice s)
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.at[i] == ']')
            return i + 1;
        if (is_control(s.at[i]) || is_misplaced(s.at[i], NOT_IN_LITERAL))
            return 0;
    }
    return 0;
}

/* Takes "@a,@b:" off the start.  False: it begins so but goes wrong. */
static bool
skip_route(struct slice *s)
{
    size_t i = 0;

    if (s->len == 0 || s->at[0] != '@')
        return true;
    for (;;) {
        if (i == s->len || s->at[i] != '@')
            return false;
        i++;
        if (i < s->len && s->at[i] == '[') {
            size_t n = literal_length(slice_from(*s, i));

            if (n == 0)
                return false;
            i += n;
        }
        while (i < s->len && !is_misplaced(s->at[i], NOT_IN_ROUTE))
            i++;
        if (i == s->len)
            return false;
        if (s->at[i] == ':') {
            *s = slice_from(*s, i + 1);
            return s->len > 0;
        }
        if (s->at[i++] != ',')
            return false;
    }
}

static bool
local_is_good(struct slice s)
{
    bool quoted = false, any = false; /* any: besides quotes */

    for (size_t i = 0; i < s.len; i++) {
        if (is_control(s.at[i]))
            return false;
        any |= s.at[i] != '"';
        if (s.at[i] == '"') {
            quoted = !quoted;
        } else if (quoted && s.at[i] == '\\') {
            if (++i == s.len || is_control(s.at[i]))
                return false;
        } else if (!quoted && is_misplaced(s.at[i], NOT_IN_LOCAL)) {
            return false;
        }
    }
    return !quoted && any;
}

static bool
domain_is_good(struct slice s, bool *ret_literal)
{
    if (s.len == 0)
        return false;
    *ret_literal = s.at[0] == '[';
    if (*ret_literal)
        return literal_length(s) == s.len && s.len > 2;
    for (size_t i = 0; i < s.len; i++)
        if (is_control(s.at[i]) || is_misplaced(s.at[i], NOT_IN_DOMAIN))
            return false;
    return s.at[0] != '.';
}

/* Where the last @ outside quotes is; s.len = nowhere. */
static size_t
last_at(struct slice s)
{
    size_t at = s.len;
    bool quoted = false;

    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '"')
            quoted = !quoted;
        else if (quoted && s.at[i] == '\\')
            i++;
        else if (!quoted && s.at[i] == '@')
            at = i;
    }
    return at;
}

bool
address_parse(struct slice text, struct address *ret)
{
    struct address a = {.local = {"", 0}, .domain = {"", 0}};
    size_t at;

    if (text.len > 0 && text.at[0] == '<') {
        if (text.at[text.len - 1] != '>')
            return false;
        text = (struct slice){text.at + 1, text.len - 2};
    }
    if (text.len == 0) {
        *ret = a;
        return true;
    }
    if (!skip_route(&text))
        return false;
    at = last_at(text);
    a.local = (struct slice){text.at, at};
    if (!local_is_good(a.local))
        return false;
    if (at < text.len) {
        a.domain = (struct slice){text.at + at + 1, text.len - at - 1};
        if (!domain_is_good(a.domain, &a.is_literal))
            return false;
    }
    *ret = a;
    return true;
}

static struct slice
without_dot(struct slice d)
{
    if (d.len > 1 && d.at[d.len - 1] == '.')
        d.len--;
    return d;
}

size_t
address_canonical(struct slice text, char *ret, size_t ret_size)
{
    struct address a;
    size_t n = 0;

    if (!address_parse(text, &a) || a.domain.len == 0)
        return 0;
    a.domain = without_dot(a.domain);

    for (size_t i = 0; i < a.local.len; i++) {
        if (a.local.at[i] == '"')
            continue;
        if (a.local.at[i] == '\\')
            i++; /* it is followed by something: address_parse saw to it */
        if (n >= ret_size)
            return 0;
        ret[n++] = a.local.at[i];
    }
    if (ret_size < a.domain.len + 2 || n > ret_size - a.domain.len - 2)
        return 0;
    ret[n++] = '@';
    for (size_t i = 0; i < a.domain.len; i++)
        ret[n++] = slice_lower(a.domain.at[i]);
    ret[n] = '\0';
    return n;
}

bool
address_domain_matches(struct slice d, struct slice pattern)
{
    d = without_dot(d);
    if (pattern.len > 0 && pattern.at[0] == '.')
        return d.len > pattern.len && slice_ends_nocase(d, pattern);
    return slice_eq_nocase(d, pattern);
}
