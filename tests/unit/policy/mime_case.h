/* tests/unit/policy/mime_case.h - a message as a text (header, empty line,
 * body), given to a reader of MIME, and the names it found.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_MIME_CASE_H
#define TESTS_MIME_CASE_H

#include "policy/mime.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* Of a part or a message. */
#define FILE_NAMED(name) \
    "Content-Disposition: attachment; filename=" name "\n\n"

/* Gives the header's fields to m; returns the body. */
struct slice feed_header(struct mime *m, struct slice s);

/* The names, each with "|" behind, and "CUT" when there may be others. */
void take_answer(struct mime *m, char *ret, size_t size);

/* From mime_reset() to take_answer(). */
void read_whole(struct mime *m, struct slice message, char *ret, size_t size);

/* For a group: *state is a struct mime. */
int mime_case_new(void **state);
int mime_case_free(void **state);

#endif
