/* milter/ctl/message_file.h - a message from a file, as facts.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_MESSAGE_FILE_H
#define CTL_MESSAGE_FILE_H

#include <stdbool.h>

#include "policy/facts.h"

struct message_file {
    char *text;
    size_t len;
    size_t n_headers;
    struct facts_pair *header; /* borrows from text */
    size_t body_at;            /* where in text; len when there is none */
    uint64_t size_octets;      /* a line end counts two */
};

enum { MESSAGE_FILE_MAX = 64 << 20 };

/* "-" = standard input.  A leading mbox "From " line is passed over.  False
 * with a sentence in err. */
bool message_file_read(const char *path, struct message_file *ret, char *err,
                       size_t err_size);
void message_file_free(struct message_file *m);

static inline struct slice
message_file_body(const struct message_file *m)
{
    return slice_from((struct slice){m->text, m->len}, m->body_at);
}

#endif
