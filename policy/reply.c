/* policy/reply.c - see reply.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/reply.h"

#include <stdbool.h>
#include <string.h>

enum { CODE_LEN = 3 /* digits of a reply code */ };

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Could line[0..len) begin a reply line?  Asked of a whole line without its
 * CRLF, and of what has arrived of one: garbage is then known at once, not
 * when the peer happens to send a line end. */
static bool
line_begins_well(const char *line, size_t len)
{
    if (len > 0 && (line[0] < '2' || line[0] > '5'))
        return false;
    if (len > 1 && !is_digit(line[1]))
        return false;
    if (len > 2 && !is_digit(line[2]))
        return false;
    return len <= CODE_LEN || line[CODE_LEN] == ' ' || line[CODE_LEN] == '-';
}

/* The line at buf, without CRLF, and how many octets it takes with it. */
static enum reply_result
next_line(const char *buf, size_t len, struct slice *ret, size_t *ret_used)
{
    const char *lf = memchr(buf, '\n', len);
    size_t used, text;

    if (lf == NULL) {
        text = len > 0 && buf[len - 1] == '\r' ? len - 1 : len;
        if (!line_begins_well(buf, text))
            return REPLY_ESYNTAX;
        return len < REPLY_LINE_MAX ? REPLY_MORE : REPLY_ETOOLONG;
    }
    used = (size_t)(lf - buf) + 1;
    /* A bare LF is no line end (RFC 5321 2.3.8): to take it for one would
     * let the text of one reply stand for two. */
    if (used < CODE_LEN + 2 || buf[used - 2] != '\r')
        return REPLY_ESYNTAX;
    if (!line_begins_well(buf, used - 2))
        return REPLY_ESYNTAX;
    if (used > REPLY_LINE_MAX)
        return REPLY_ETOOLONG;
    *ret = (struct slice){buf, used - 2};
    *ret_used = used;
    return REPLY_OK;
}

static uint16_t
code_of(struct slice line)
{
    return (uint16_t)((line.at[0] - '0') * 100 + (line.at[1] - '0') * 10 +
                      (line.at[2] - '0'));
}

/* Takes 1 to 3 digits off *s. */
static bool
take_number(struct slice *s, uint16_t *ret)
{
    uint16_t value = 0;
    size_t n = 0;

    while (n < 3 && n < s->len && is_digit(s->at[n]))
        value = (uint16_t)(value * 10 + (s->at[n++] - '0'));
    *s = slice_from(*s, n);
    *ret = value;
    return n > 0;
}

static bool
take_dot(struct slice *s)
{
    bool is_dot = s->len > 0 && s->at[0] == '.';

    *s = slice_from(*s, 1);
    return is_dot;
}

/* Takes "5.7.8" off the front of *s, when there is one (RFC 2034 4): a class
 * that disagrees with the reply code is taken as it is, since Gmail sends
 * "454 5.5.1". */
static bool
take_enhanced(struct slice *s, struct enhanced *ret)
{
    struct slice rest = *s;
    struct enhanced e;
    uint16_t klass;

    if (!take_number(&rest, &klass) ||
        (klass != 2 && klass != 4 && klass != 5) || !take_dot(&rest) ||
        !take_number(&rest, &e.subject) || !take_dot(&rest) ||
        !take_number(&rest, &e.detail))
        return false;
    if (rest.len > 0 && rest.at[0] != ' ')
        return false;
    e.klass = (uint8_t)klass;
    *ret = e;
    *s = rest;
    return true;
}

static struct slice
trim_spaces(struct slice s)
{
    while (s.len > 0 && s.at[0] == ' ')
        s = slice_from(s, 1);
    while (s.len > 0 && s.at[s.len - 1] == ' ')
        s.len--;
    return s;
}

/* Joins one line's text to r->text; *n is the length so far. */
static void
add_text(struct reply *r, size_t *n, struct slice text)
{
    text = trim_spaces(text);
    if (text.len > 0 && *n > 0 && *n < REPLY_TEXT_MAX - 1)
        r->text[(*n)++] = ' ';
    for (size_t i = 0; i < text.len && *n < REPLY_TEXT_MAX - 1; i++) {
        char c = text.at[i];

        r->text[(*n)++] = c >= ' ' && c <= '~' ? c : '?';
    }
    r->text[*n] = '\0';
}

enum reply_result
reply_parse(const char *buf, size_t len, struct reply *ret, size_t *ret_used)
{
    struct reply r = {.code = 0};
    size_t used = 0, n_text = 0;

    if (len == 0)
        return REPLY_MORE; /* buf may be NULL */
    for (;;) {
        struct slice line, text;
        enum reply_result result;
        size_t line_used;

        result = next_line(buf + used, len - used, &line, &line_used);
        if (result != REPLY_OK)
            return result;
        if (r.lines > 0 && code_of(line) != r.code)
            return REPLY_ECODE;
        r.code = code_of(line);
        r.lines++;
        used += line_used;
        text = slice_from(line, CODE_LEN + 1);
        take_enhanced(&text, &r.enhanced);
        add_text(&r, &n_text, text);
        if (line.len == CODE_LEN || line.at[CODE_LEN] == ' ')
            break;
        if (r.lines == REPLY_LINES_MAX)
            return REPLY_ETOOLONG;
    }
    *ret = r;
    *ret_used = used;
    return REPLY_OK;
}

static bool
is_keyword_char(char c)
{
    return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           c == '_';
}

struct slice
reply_keyword(const struct reply *r)
{
    for (const char *p = r->text; (p = strstr(p, "p=")) != NULL; p += 2) {
        struct slice word = {p + 2, 0};

        if (p == r->text || (p[-1] != '?' && p[-1] != '&'))
            continue;
        while (is_keyword_char(word.at[word.len]))
            word.len++;
        if (word.len > 0)
            return word;
    }
    return (struct slice){NULL, 0};
}
