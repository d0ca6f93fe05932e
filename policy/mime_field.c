/* policy/mime_field.c - a type and its parameters; see mime_private.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/header_private.h"
#include "policy/mime_private.h"

enum { WORD_MAX = 20 /* octets, "filename*9999*" among them */ };

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
is_letter(char c)
{
    c = slice_lower(c);
    return c >= 'a' && c <= 'z';
}

/* ---- attributes ---- */

/* Which of ours the word begins with, and moves it behind. */
static bool
attribute_take(struct slice *word, enum mime_attribute *ret)
{
    static const char *const known[MIME_ATTRIBUTES] = {
        [MIME_NAME] = "name",
        [MIME_FILENAME] = "filename",
        [MIME_BOUNDARY] = "boundary",
    };

    for (size_t i = 0; i < MIME_ATTRIBUTES; i++) {
        struct slice name = slice_of(known[i]);

        if (word->len >= name.len &&
            slice_eq_nocase((struct slice){word->at, name.len}, name)) {
            *word = slice_from(*word, name.len);
            *ret = (enum mime_attribute)i;
            return true;
        }
    }
    return false;
}

/* The digits at the start of s as a number, and moves s behind; -1 = none,
 * or too large. */
static int
number_take(struct slice *s)
{
    int n = s->len > 0 && s->at[0] >= '0' && s->at[0] <= '9' ? 0 : -1;

    while (s->len > 0 && s->at[0] >= '0' && s->at[0] <= '9') {
        if (n > MIME_PARTS_MAX)
            return -1;
        n = 10 * n + (s->at[0] - '0');
        *s = slice_from(*s, 1);
    }
    return n > MIME_PARTS_MAX ? -1 : n;
}

/* Reads "filename*1*". */
static bool
attribute_parse(struct slice word, struct mime_piece *ret, bool *cut)
{
    struct mime_piece p = {.part = -1};

    if (!attribute_take(&word, &p.attribute))
        return false;
    if (word.len > 0 && word.at[0] == '*') {
        word = slice_from(word, 1);
        if (word.len == 0) {
            p.encoded = true;
        } else {
            p.part = number_take(&word);
            if (p.part < 0) {
                *cut = true;
                return false;
            }
            p.encoded = slice_eq(word, SLICE_LIT("*"));
            word = p.encoded ? slice_from(word, 1) : word;
        }
    }
    if (word.len > 0)
        return false;
    *ret = p;
    return true;
}

static void
piece_add(struct mime_field *f, struct slice word, struct slice text)
{
    struct mime_piece p;

    if (!attribute_parse(word, &p, &f->cut))
        return;
    if (f->n == MIME_PIECES_MAX) {
        f->cut = true;
        return;
    }
    p.text = text;
    f->piece[f->n++] = p;
}

/* ---- as the standard has it ---- */

/* Skips white space and comments; a comment makes the field an odd one, for
 * many do not know comments. */
static void
skip_space(struct slice *s, bool *odd)
{
    while (s->len > 0 && (is_space(s->at[0]) || s->at[0] == '(')) {
        bool closed;
        size_t n = 1;

        if (s->at[0] == '(') {
            *odd = true;
            n = header_comment_length(*s, &closed);
        }
        *s = slice_from(*s, n);
    }
}

/* Octets before the first of `ends`, or before white space. */
static size_t
count_until(struct slice s, const char *ends)
{
    size_t n = 0;

    while (n < s.len && !is_space(s.at[n]) &&
           (s.at[n] == '\0' || strchr(ends, s.at[n]) == NULL))
        n++;
    return n;
}

/* What stands before the first semicolon. */
static void
read_type(struct slice *s, struct mime_field *f, bool *odd)
{
    const struct slice whole = *s;
    size_t n = 0;

    skip_space(s, odd);
    while (s->len > 0 && s->at[0] != ';') {
        if (s->at[0] == '=') { /* a parameter already: there is no type */
            *odd = true;
            *s = whole;
            f->type[0] = '\0';
            return;
        }
        if (s->at[0] == '"')
            *odd = true;
        else if (n < MIME_TYPE_MAX && s->at[0] != '\0')
            f->type[n++] = slice_lower(s->at[0]);
        *s = slice_from(*s, 1);
        skip_space(s, odd);
    }
    f->type[n] = '\0';
}

/* The value at the start of *s. */
static struct slice
take_value(struct slice *s, bool *odd)
{
    struct slice text;
    size_t n;

    if (s->len > 0 && s->at[0] == '"') {
        n = header_enclosed_length(*s, '"');
        text = (struct slice){s->at + 1, n > 0 ? n - 2 : s->len - 1};
        *odd |= n == 0;
        *s = n > 0 ? slice_from(*s, n) : (struct slice){NULL, 0};
        return text;
    }
    n = count_until(*s, ";(");
    text = (struct slice){s->at, n};
    *odd |= n == 0 || memchr(s->at, '"', n) != NULL; /* n > 0: not NULL */
    *s = slice_from(*s, n);
    return text;
}

/* Reads one parameter and what is wrong with it; *s is not empty. */
static void
read_parameter(struct slice *s, struct mime_field *f, bool *odd)
{
    struct slice word;

    skip_space(s, odd);
    if (s->len > 0 && s->at[0] == ';') {
        *s = slice_from(*s, 1);
        return;
    }
    word = (struct slice){s->at, count_until(*s, "=;(\"")};
    *s = slice_from(*s, word.len);
    skip_space(s, odd);
    if (s->len > 0 && s->at[0] == '=') {
        *s = slice_from(*s, 1);
        skip_space(s, odd);
        piece_add(f, word, take_value(s, odd));
        skip_space(s, odd);
        *odd |= s->len > 0 && s->at[0] != ';';
    } else if (word.len > 0) {
        *odd = true; /* a word without a value */
    } else if (s->len > 0 && s->at[0] != ';') {
        *odd = true;
        *s = slice_from(*s, 1);
    }
}

/* ---- as the others have it ---- */

/* Octets up to the semicolon; those in quotes that are closed do not count.
 * *no_quotes: no more of them is closed, so that we look once only. */
static size_t
count_value(struct slice s, bool *no_quotes)
{
    size_t n = 0;

    while (n < s.len && s.at[n] != ';') {
        size_t quoted = 0;

        if (s.at[n] == '"' && !*no_quotes) {
            quoted = header_enclosed_length(slice_from(s, n), '"');
            *no_quotes = quoted == 0;
        }
        n += quoted > 0 ? quoted : s.at[n] == '\\' && n + 1 < s.len ? 2 : 1;
    }
    return n;
}

/* Takes whatever looks like "name=...", wherever it stands, up to the next
 * semicolon. */
static void
read_odd(struct slice s, struct mime_field *f)
{
    bool no_quotes = false, in_word = false;

    while (s.len > 0) {
        struct slice rest = s, word;
        enum mime_attribute a;
        size_t n;

        if (in_word || !attribute_take(&rest, &a)) {
            in_word = is_letter(s.at[0]) || s.at[0] == '-' || s.at[0] == '_';
            s = slice_from(s, 1);
            continue;
        }
        in_word = true;
        word = (struct slice){s.at, s.len < WORD_MAX ? s.len : WORD_MAX};
        word.len = count_until(word, "=;(\"");
        rest = slice_from(s, word.len);
        while (rest.len > 0 && is_space(rest.at[0]))
            rest = slice_from(rest, 1);
        s = slice_from(s, 1);
        if (rest.len == 0 || rest.at[0] != '=')
            continue;
        rest = slice_from(rest, 1);
        n = count_value(rest, &no_quotes);
        piece_add(f, word, slice_trim((struct slice){rest.at, n}));
        s = slice_from(rest, n);
        in_word = false;
    }
}

void
mime_field_read(struct slice value, struct mime_field *ret)
{
    struct slice s = value;
    bool odd = false;

    ret->n = 0;
    ret->cut = ret->nomem = false;
    read_type(&s, ret, &odd);
    while (s.len > 0)
        read_parameter(&s, ret, &odd);
    if (odd)
        read_odd(value, ret);
}
