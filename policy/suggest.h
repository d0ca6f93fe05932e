/* policy/suggest.h - "did you mean": the nearest of some words.
 * SPDX-License-Identifier: Apache-2.0
 *
 * For policy/ and gmroutectl.
 */
#ifndef POLICY_SUGGEST_H
#define POLICY_SUGGEST_H

#include "policy/slice.h"

struct suggest {
    struct slice word; /* what was written */
    struct slice best; /* nearest so far; empty = none near enough */
    unsigned distance;
};

enum { SUGGEST_TEXT = 100 /* octets, NUL included */ };

struct suggest suggest_start(struct slice word);
void suggest_try(struct suggest *s, struct slice candidate);

/* "; did you mean \"x\"?", or "". */
const char *suggest_text(const struct suggest *s, char ret[SUGGEST_TEXT]);

#endif
