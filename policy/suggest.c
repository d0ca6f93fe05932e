/* policy/suggest.c - see suggest.h: distance by insertions, deletions,
 * changes and swaps of neighbours.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/suggest.h"

#include <stdio.h>

enum { WORD_MAX = 40 /* octets; longer words get no suggestion */ };

static unsigned
min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned
distance(struct slice a, struct slice b)
{
    unsigned row[3][WORD_MAX + 1]; /* before last, last, this one */

    for (unsigned j = 0; j <= b.len; j++) {
        row[1][j] = j;
        row[0][j] = 0;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        row[2][0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            char x = slice_lower(a.at[i - 1]), y = slice_lower(b.at[j - 1]);

            row[2][j] = min(row[1][j - 1] + (x != y),
                            min(row[1][j], row[2][j - 1]) + 1);
            if (i > 1 && j > 1 && x == slice_lower(b.at[j - 2]) &&
                y == slice_lower(a.at[i - 2]))
                row[2][j] = min(row[2][j], row[0][j - 2] + 1);
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][b.len];
}

struct suggest
suggest_start(struct slice word)
{
    /* About a third of the letters may be wrong. */
    return (struct suggest){.word = word,
                            .distance = (unsigned)(word.len / 3 + 2)};
}

void
suggest_try(struct suggest *s, struct slice candidate)
{
    size_t more = s->word.len > candidate.len ? s->word.len - candidate.len
                                              : candidate.len - s->word.len;
    unsigned d;

    if (s->word.len == 0 || s->word.len > WORD_MAX || candidate.len == 0 ||
        candidate.len > WORD_MAX || more >= s->distance)
        return;
    d = distance(s->word, candidate);
    if (d < s->distance && d < s->word.len) {
        s->distance = d;
        s->best = candidate;
    }
}

const char *
suggest_text(const struct suggest *s, char ret[SUGGEST_TEXT])
{
    ret[0] = '\0';
    if (s->best.len > 0)
        snprintf(ret, SUGGEST_TEXT, "; did you mean \"%.*s\"?",
                 SLICE_FMT(s->best));
    return ret;
}
