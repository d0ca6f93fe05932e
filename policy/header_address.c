/* policy/header_address.c - the addresses in a From; see header.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/header.h"
#include "policy/header_private.h"

/* ---- words ---- */

enum token_kind {
    TOKEN_END,
    TOKEN_ATOM,    /* dots are part of it; also a whole encoded word */
    TOKEN_QUOTED,  /* with its quotes */
    TOKEN_LITERAL, /* with its brackets */
    TOKEN_SPECIAL, /* one of < > @ , ; : */
    TOKEN_BAD,     /* what cannot stand here, or has no end */
};

struct token {
    enum token_kind kind;
    bool doubtful; /* an encoded word that is an address to some */
    struct slice text;
};

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
is_atom(char c)
{
    unsigned char u = (unsigned char)c;

    return u > ' ' && u != 0x7F && strchr("()<>@,;:\\\"[]", c) == NULL;
}

size_t
header_comment_length(struct slice s, bool *ret_closed)
{
    size_t depth = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == '(')
            depth++;
        else if (s.at[i] == ')' && --depth == 0) {
            *ret_closed = true;
            return i + 1;
        }
    }
    *ret_closed = false;
    return s.len;
}

size_t
header_enclosed_length(struct slice s, char close)
{
    for (size_t i = 1; i < s.len; i++) {
        if (s.at[i] == '\\')
            i++;
        else if (s.at[i] == close)
            return i + 1;
    }
    return 0;
}

/* "=?charset?q?text?=": its text may hold what an atom may not. */
static size_t
encoded_word_length(struct slice s)
{
    size_t questions = 0;

    if (!slice_starts(s, "=?"))
        return 0;
    for (size_t i = 2; i < s.len && !is_space(s.at[i]); i++) {
        if (s.at[i] != '?')
            continue;
        if (++questions == 3)
            return i + 1 < s.len && s.at[i + 1] == '=' ? i + 2 : 0;
    }
    return 0;
}

/* Who does not know that what an atom may not hold can stand in an encoded
 * word finds an address in "=?utf-8?q?,ceo@example.com,?=". */
static bool
hides_address(struct slice word)
{
    bool at = false, special = false;

    for (size_t i = 0; i < word.len; i++) {
        at |= word.at[i] == '@';
        special |= word.at[i] != '\0' && strchr("<>,;:", word.at[i]) != NULL;
    }
    return at && special;
}

static size_t
atom_length(struct slice s, bool *ret_doubtful)
{
    size_t n = encoded_word_length(s);

    *ret_doubtful = hides_address((struct slice){s.at, n});
    while (n < s.len && is_atom(s.at[n]))
        n++;
    return n;
}

/* Takes one token off *s; white space and comments go first. */
static struct token
token_next(struct slice *s)
{
    struct token t = {TOKEN_END, false, {NULL, 0}};
    bool closed = true;
    size_t n;

    while (s->len > 0 && (is_space(s->at[0]) || s->at[0] == '(')) {
        n = s->at[0] == '(' ? header_comment_length(*s, &closed) : 1;
        *s = slice_from(*s, n);
    }
    if (!closed) /* then nothing is left */
        t.kind = TOKEN_BAD;
    if (s->len == 0)
        return t;

    if (s->at[0] == '"') {
        n = header_enclosed_length(*s, '"');
        t.kind = TOKEN_QUOTED;
    } else if (s->at[0] == '[') {
        n = header_enclosed_length(*s, ']');
        t.kind = TOKEN_LITERAL;
    } else if (s->at[0] != '\0' && strchr("<>@,;:", s->at[0]) != NULL) {
        n = 1;
        t.kind = TOKEN_SPECIAL;
    } else {
        n = atom_length(*s, &t.doubtful);
        t.kind = n > 0 ? TOKEN_ATOM : TOKEN_BAD;
        n = n > 0 ? n : 1;
    }
    if (n == 0) { /* never closed */
        t.kind = TOKEN_BAD;
        n = s->len;
    }
    t.text = (struct slice){s->at, n};
    *s = slice_from(*s, n);
    return t;
}

struct slice
header_first_token(struct slice raw)
{
    struct token t = token_next(&raw);

    return t.kind == TOKEN_ATOM ? t.text : (struct slice){NULL, 0};
}

static bool
is_special(struct token t, char c)
{
    return t.kind == TOKEN_SPECIAL && t.text.at[0] == c;
}

/* What ends a list element. */
static bool
is_end(struct token t)
{
    return t.kind == TOKEN_END || is_special(t, ',') || is_special(t, ';');
}

/* ---- one addr-spec, word by word: RFC 5322 3.4.1 and 4.4 ---- */

struct spec {
    enum { SPEC_LOCAL, SPEC_DOMAIN } part;
    bool bad;     /* no addr-spec any more */
    bool glue;    /* the last word was an atom that ended with a dot */
    size_t words; /* in this part */
    size_t local; /* octets of the local part, once in SPEC_DOMAIN */
    size_t len;
    char *text; /* HEADER_ADDRESS_MAX + 1 octets */
};

static void
spec_put(struct spec *p, char c)
{
    unsigned char u = (unsigned char)c;

    if (p->len == HEADER_ADDRESS_MAX || u < ' ' || u == 0x7F)
        p->bad = true;
    else
        p->text[p->len++] = c;
}

static void
spec_put_quoted(struct spec *p, struct slice text)
{
    for (size_t i = 1; i + 1 < text.len; i++) {
        if (text.at[i] == '\r' || text.at[i] == '\n')
            continue; /* a fold */
        if (text.at[i] == '\\' && i + 2 < text.len)
            i++;
        spec_put(p, text.at[i]);
    }
}

/* Takes one more token; p->bad when it does not fit there. */
static void
spec_add(struct spec *p, struct token t)
{
    if (p->bad)
        return;
    if (is_special(t, '@')) {
        p->bad = p->part == SPEC_DOMAIN || p->len == 0;
        p->part = SPEC_DOMAIN;
        p->local = p->len;
        p->words = 0;
        p->glue = false;
        if (!p->bad)
            spec_put(p, '@');
        return;
    }
    if (t.kind != TOKEN_ATOM && t.kind != TOKEN_QUOTED &&
        t.kind != TOKEN_LITERAL) {
        p->bad = true;
        return;
    }
    if (p->words > 0 && !p->glue && t.text.at[0] != '.')
        p->bad = true; /* two words with no dot between */
    if (p->part == SPEC_LOCAL && t.kind == TOKEN_LITERAL)
        p->bad = true;
    if (p->part == SPEC_DOMAIN && t.kind == TOKEN_QUOTED)
        p->bad = true;
    if (t.kind == TOKEN_QUOTED) {
        spec_put_quoted(p, t.text);
    } else {
        for (size_t i = 0; i < t.text.len; i++)
            spec_put(p, p->part == SPEC_DOMAIN ? slice_lower(t.text.at[i])
                                               : t.text.at[i]);
    }
    p->words++;
    p->glue = t.kind == TOKEN_ATOM && t.text.at[t.text.len - 1] == '.';
}

/* Is it whole?  Then its text is, too. */
static bool
spec_end(struct spec *p)
{
    if (p->bad || p->part != SPEC_DOMAIN)
        return false;
    while (p->len > p->local + 1 && p->text[p->len - 1] == '.')
        p->len--;
    p->text[p->len] = '\0';
    return p->len > p->local + 1;
}

/* ---- one list element ---- */

struct element {
    struct header_addresses *it;
    struct header_address *address; /* text is filled while reading */
    struct spec spec;
    const char *start;
    bool has_phrase; /* any word so far */
    bool has_at;     /* an @ outside <> */
};

/* Skips to the end of the element, which was garbage. */
static void
skip_element(struct header_addresses *it, struct token t)
{
    it->garbage = true;
    while (!is_end(t))
        t = token_next(&it->rest);
    if (is_special(t, ';'))
        it->in_group = false;
}

/* After '<'.  Reads to the end of the element. */
static bool
angle_address(struct element *e)
{
    struct header_addresses *it = e->it;
    struct spec p = {.text = e->address->text};
    struct token t = token_next(&it->rest);

    if (is_special(t, '@')) { /* a route, RFC 5322 4.4 */
        while (t.kind != TOKEN_END && t.kind != TOKEN_BAD &&
               !is_special(t, ':') && !is_special(t, '>'))
            t = token_next(&it->rest);
        if (is_special(t, ':'))
            t = token_next(&it->rest);
    }
    while (!is_special(t, '>') && !is_end(t) && t.kind != TOKEN_BAD) {
        spec_add(&p, t);
        t = token_next(&it->rest);
    }
    if (!is_special(t, '>') || !spec_end(&p)) {
        skip_element(it, t);
        return false;
    }
    e->address->len = p.len;
    it->garbage |= e->has_at;
    t = token_next(&it->rest);
    if (!is_end(t))
        skip_element(it, t);
    else if (is_special(t, ';')) {
        it->garbage |= !it->in_group;
        it->in_group = false;
    }
    return true;
}

/* The element ended without <>: an addr-spec, or nothing at all. */
static bool
bare_address(struct element *e, struct token end)
{
    bool whole = spec_end(&e->spec);

    if (is_special(end, ';')) {
        e->it->garbage |= !e->it->in_group;
        e->it->in_group = false;
    }
    e->it->garbage |= e->has_phrase && !whole;
    e->address->len = e->spec.len;
    return whole;
}

/* Reads one element; true = it gave an address. */
static bool
read_element(struct header_addresses *it, struct header_address *ret)
{
    struct element e = {.it = it, .address = ret, .start = it->rest.at};

    e.spec.text = ret->text;
    ret->phrase = (struct slice){NULL, 0};
    for (;;) {
        const char *here;
        struct token t = token_next(&it->rest);

        if (is_end(t))
            return bare_address(&e, t);
        here = t.text.at;
        if (is_special(t, '<')) {
            if (e.has_phrase)
                ret->phrase = slice_trim(
                    (struct slice){e.start, (size_t)(here - e.start)});
            return angle_address(&e);
        }
        if (is_special(t, ':') && e.has_phrase && !e.has_at && !it->in_group) {
            it->in_group = true;
            e = (struct element){.it = it, .address = ret, .start = here + 1};
            e.spec.text = ret->text;
            continue;
        }
        if (t.kind == TOKEN_BAD || is_special(t, ':') || is_special(t, '>')) {
            skip_element(it, t);
            return false;
        }
        it->garbage |= t.doubtful;
        spec_add(&e.spec, t);
        e.has_phrase = true;
        e.has_at |= is_special(t, '@');
    }
}

struct header_addresses
header_addresses(struct slice raw)
{
    return (struct header_addresses){.rest = raw};
}

bool
header_next_address(struct header_addresses *it, struct header_address *ret)
{
    while (it->rest.len > 0)
        if (read_element(it, ret))
            return true;
    it->garbage |= it->in_group; /* a group without its ';' */
    return false;
}
