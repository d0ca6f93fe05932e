/* milter/base/control.c - see control.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/control.h"

#include <stdio.h>
#include <string.h>

static const char *const verbs[] = {
    [CONTROL_PAUSE] = "pause",
    [CONTROL_RESUME] = "resume",
    [CONTROL_DIVERT] = "divert",
    [CONTROL_DIVERT_END] = "divert-end",
    [CONTROL_QUOTA_RESET] = "quota-reset",
};

enum { VERBS = sizeof verbs / sizeof *verbs };

_Static_assert(CONTROL_LINE_MAX > 2 * IDENTITY_MAX + CONTROL_TEXT_MAX + 20,
               "a whole request fits into a line");

const char *
control_verb_name(enum control_verb v)
{
    return (unsigned)v < VERBS ? verbs[v] : "?";
}

static bool
is_printable(char c)
{
    return c >= ' ' && c <= '~';
}

/* Copies a word, or all of the rest; false when it is too long. */
static bool
take(struct slice s, char *ret, size_t max)
{
    if (s.len > max)
        return false;
    if (s.len > 0)
        memcpy(ret, s.at, s.len);
    ret[s.len] = '\0';
    return true;
}

static struct slice
next_word(struct slice *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->at, ' ', rest->len) : NULL;
    struct slice word = *rest;

    if (end == NULL) {
        *rest = slice_from(*rest, rest->len);
        return word;
    }
    word.len = (size_t)(end - rest->at);
    *rest = slice_from(*rest, word.len + 1);
    return word;
}

bool
control_parse(const char *line, struct control_request *ret)
{
    struct slice rest = slice_of(line), verb;
    struct control_request q = {.verb = CONTROL_PAUSE};
    struct slice identity, other = {0};
    unsigned v = 0;

    for (size_t i = 0; i < rest.len; i++)
        if (!is_printable(line[i]))
            return false;
    verb = next_word(&rest);
    while (v < VERBS && !slice_eq(verb, slice_of(verbs[v])))
        v++;
    identity = next_word(&rest);
    if (v == CONTROL_DIVERT) {
        other = next_word(&rest);
        if (other.len == 0)
            return false;
    }
    if (v == VERBS || identity.len == 0 ||
        !take(identity, q.identity, IDENTITY_MAX) ||
        !take(other, q.other, IDENTITY_MAX) ||
        !take(slice_trim(rest), q.text, CONTROL_TEXT_MAX))
        return false;
    q.verb = (enum control_verb)v;
    *ret = q;
    return true;
}

void
control_format(const struct control_request *q, char ret[CONTROL_LINE_MAX])
{
    int n = snprintf(ret, CONTROL_LINE_MAX, "%s %s%s%s%s%.*s",
                     control_verb_name(q->verb), q->identity,
                     q->other[0] != '\0' ? " " : "", q->other,
                     q->text[0] != '\0' ? " " : "", CONTROL_TEXT_MAX, q->text);

    if (n > CONTROL_LINE_MAX - 2)
        n = CONTROL_LINE_MAX - 2;
    for (int i = 0; i < n; i++)
        if (!is_printable(ret[i]))
            ret[i] = '?';
    ret[n] = '\n';
    ret[n + 1] = '\0';
}
