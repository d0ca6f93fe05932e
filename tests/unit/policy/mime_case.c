/* tests/unit/policy/mime_case.c - see mime_case.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mime_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t
line_length(struct slice s)
{
    const char *end = memchr(s.at, '\n', s.len);

    return end != NULL ? (size_t)(end - s.at) + 1 : s.len;
}

struct slice
feed_header(struct mime *m, struct slice s)
{
    while (s.len > 0 && s.at[0] != '\n' && s.at[0] != '\r') {
        size_t n = line_length(s), colon = 0;
        struct slice value;

        while (n < s.len && (s.at[n] == ' ' || s.at[n] == '\t'))
            n += line_length(slice_from(s, n));
        while (s.at[colon] != ':')
            assert_true(++colon < n);
        value = (struct slice){s.at + colon + 1, n - colon - 1};
        while (value.len > 0 && (value.at[value.len - 1] == '\n' ||
                                 value.at[value.len - 1] == '\r'))
            value.len--;
        mime_header(m, (struct slice){s.at, colon}, value);
        s = slice_from(s, n);
    }
    return s.len > 0 ? slice_from(s, line_length(s)) : s;
}

void
take_answer(struct mime *m, char *ret, size_t size)
{
    size_t n, len = 0;
    const struct slice *name = mime_names(m, &n);

    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(ret + len, size - len, "%.*s|",
                                SLICE_FMT(name[i]));
    snprintf(ret + len, size - len, "%s", mime_cut(m) ? "CUT" : "");
}

void
read_whole(struct mime *m, struct slice message, char *ret, size_t size)
{
    struct slice body;

    mime_reset(m);
    body = feed_header(m, message);
    mime_body(m, body.at, body.len);
    take_answer(m, ret, size);
}

int
mime_case_new(void **state)
{
    return (*state = mime_new()) == NULL ? -1 : 0;
}

int
mime_case_free(void **state)
{
    mime_free(*state);
    return 0;
}
