/* milter/ctl/redirect.c - see redirect.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/redirect.h"

#include <string.h>

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded, one octet; -1 = not well formed. */
static int
decode_octet(struct slice *s)
{
    int high, low;
    char c = s->at[0];

    *s = slice_from(*s, 1);
    if (c == '+')
        return ' ';
    if (c != '%')
        return (unsigned char)c;
    if (s->len < 2)
        return -1;
    high = hex_digit(s->at[0]);
    low = hex_digit(s->at[1]);
    *s = slice_from(*s, 2);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A value that must be whole, in visible ASCII. */
static bool
take_word(struct slice value, char *ret, size_t size)
{
    size_t n = 0;

    while (value.len > 0) {
        int c = decode_octet(&value);

        if (c <= ' ' || c > '~' || n + 1 >= size)
            return false;
        ret[n++] = (char)c;
    }
    ret[n] = '\0';
    return n > 0;
}

/* A text for people: what cannot be shown is replaced, what is long is cut. */
static bool
take_text(struct slice value, char *ret, size_t size)
{
    size_t n = 0;

    while (value.len > 0) {
        int c = decode_octet(&value);

        if (c < 0)
            return false;
        if (n + 1 < size)
            ret[n++] = c >= ' ' && c <= '~' ? (char)c : '?';
    }
    ret[n] = '\0';
    return true;
}

static bool
is_named(struct slice name, const char *want)
{
    return name.len == strlen(want) && memcmp(name.at, want, name.len) == 0;
}

/* RFC 6749 3.1: a parameter comes once; those we do not know are passed by. */
static bool
take_parameter(struct slice name, struct slice value, struct redirect *r)
{
    if (is_named(name, "code"))
        return r->code[0] == '\0' && take_word(value, r->code, sizeof r->code);
    if (is_named(name, "state"))
        return r->state[0] == '\0' &&
               take_word(value, r->state, sizeof r->state);
    if (is_named(name, "error"))
        return r->error[0] == '\0' &&
               take_word(value, r->error, sizeof r->error);
    if (is_named(name, "error_description"))
        return r->description[0] == '\0' &&
               take_text(value, r->description, sizeof r->description);
    return true;
}

/* Up to the octet, or all. */
static struct slice
up_to(struct slice s, char octet)
{
    const char *end = s.len > 0 ? memchr(s.at, octet, s.len) : NULL;

    return end != NULL ? (struct slice){s.at, (size_t)(end - s.at)} : s;
}

static enum redirect_kind
read_query(struct slice query, struct redirect *ret)
{
    struct redirect r;
    enum redirect_kind kind = REDIRECT_BAD;

    memset(&r, 0, sizeof r);
    while (query.len > 0) {
        struct slice pair = up_to(query, '&'), name = up_to(pair, '=');

        if (!take_parameter(name, slice_from(pair, name.len + 1), &r))
            goto done;
        query = slice_from(query, pair.len + 1);
    }
    if (r.code[0] == '\0' && r.error[0] == '\0')
        kind = REDIRECT_OTHER;
    else if (r.code[0] == '\0' || r.error[0] == '\0')
        kind = REDIRECT_ANSWER;
    if (kind == REDIRECT_ANSWER)
        memcpy(ret, &r, sizeof r);
done:
    explicit_bzero(&r, sizeof r);
    return kind;
}

/* "GET /?code=... HTTP/1.1" */
static enum redirect_kind
read_request_line(struct slice line, struct redirect *ret)
{
    struct slice method = up_to(line, ' ');
    struct slice rest = slice_from(line, method.len + 1);
    struct slice target = up_to(rest, ' ');
    struct slice version = slice_from(rest, target.len + 1);
    struct slice path;

    if (method.len == 0 || target.len == 0 || target.at[0] != '/' ||
        (!is_named(version, "HTTP/1.1") && !is_named(version, "HTTP/1.0")))
        return REDIRECT_BAD;
    path = up_to(target, '?');
    if (!is_named(method, "GET") || path.len != 1)
        return REDIRECT_OTHER;
    return read_query(slice_from(target, path.len + 1), ret);
}

enum redirect_kind
redirect_request(struct slice data, struct redirect *ret)
{
    const char *end =
        data.len > 0 ? memmem(data.at, data.len, "\r\n\r\n", 4) : NULL;

    if (data.len > 0 && memchr(data.at, '\0', data.len) != NULL)
        return REDIRECT_BAD;
    if (end == NULL)
        return data.len < REDIRECT_HEAD_MAX ? REDIRECT_MORE : REDIRECT_BAD;
    if ((size_t)(end - data.at) > REDIRECT_HEAD_MAX)
        return REDIRECT_BAD;
    return read_request_line(up_to(data, '\r'), ret);
}

/* A code alone. */
static bool
read_code(struct slice text, struct redirect *ret)
{
    struct redirect r;
    bool ok;

    memset(&r, 0, sizeof r);
    ok = take_word(text, r.code, sizeof r.code);
    if (ok)
        memcpy(ret, &r, sizeof r);
    explicit_bzero(&r, sizeof r);
    return ok;
}

static bool
contains(struct slice s, const char *part)
{
    return s.len > 0 && memmem(s.at, s.len, part, strlen(part)) != NULL;
}

bool
redirect_pasted(struct slice text, struct redirect *ret)
{
    struct slice s = slice_trim(text), before = up_to(s, '?');

    if (before.len < s.len)
        return read_query(up_to(slice_from(s, before.len + 1), '#'), ret) ==
               REDIRECT_ANSWER;
    if (contains(s, "code=") || contains(s, "error="))
        return read_query(s, ret) == REDIRECT_ANSWER;
    return !contains(s, "://") && read_code(s, ret);
}
