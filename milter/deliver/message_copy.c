/* milter/deliver/message_copy.c - Gmail's copy of a message: a header of its
 * own, then the body with line ends made CRLF; see message.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "milter/deliver/message_private.h"
#include "milter/deliver/rewrite.h"

enum {
    COPY_HEADER_MAX = 4 << 20,
    RAW_BLOCK = 8 * 1024, /* of a body with stray line ends, at a time */
};

struct message_copy {
    const struct message *m;
    struct buf header; /* with the blank line */
    size_t header_read;
    uint64_t body_read; /* as received */
    /* A body whose line ends are changed goes through here. */
    struct crlf crlf;
    struct buf changed;
    size_t changed_read;
    bool ended;
};

struct message_copy *
message_copy_new(const struct message *m, const struct copy_options *o)
{
    struct message_copy *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->m = m;
    buf_init(&c->header, COPY_HEADER_MAX);
    buf_init(&c->changed, RAW_BLOCK * CRLF_MAX + CRLF_MAX);
    if (!rewrite_header(&m->fields, o, &c->header) ||
        !buf_add_text(&c->header, "\r\n")) {
        message_copy_free(c);
        return NULL;
    }
    message_copy_rewind(c);
    return c;
}

void
message_copy_free(struct message_copy *c)
{
    if (c == NULL)
        return;
    buf_free(&c->header);
    buf_free(&c->changed);
    free(c);
}

uint64_t
message_copy_size(const struct message_copy *c)
{
    return c->header.len + c->m->body_size;
}

void
message_copy_rewind(struct message_copy *c)
{
    c->header_read = 0;
    c->body_read = c->m->body_at;
    c->crlf = (struct crlf){.start = true};
    buf_clear(&c->changed);
    c->changed_read = 0;
    c->ended = c->m->body_at >= c->m->size;
}

/* Fills c->changed with the next part of the body; empty = the end. */
static bool
change_more(struct message_copy *c)
{
    char block[RAW_BLOCK], out[CRLF_MAX];
    size_t n = 0;

    buf_clear(&c->changed);
    c->changed_read = 0;
    while (c->changed.len == 0 && !c->ended) {
        if (!message_read(c->m, c->body_read, block, sizeof block, &n))
            return false;
        c->body_read += n;
        for (size_t i = 0; i < n; i++)
            buf_add(&c->changed, out, crlf_next(&c->crlf, block[i], out));
        if (n == 0) {
            buf_add(&c->changed, out, crlf_end(&c->crlf, out));
            c->ended = true;
        }
    }
    return !buf_failed(&c->changed);
}

static bool
read_changed(struct message_copy *c, char *to, size_t max, size_t *ret_n)
{
    size_t n;

    if (c->changed_read == c->changed.len && !change_more(c))
        return false;
    n = c->changed.len - c->changed_read;
    if (n > max)
        n = max;
    if (n > 0)
        memcpy(to, c->changed.at + c->changed_read, n);
    c->changed_read += n;
    *ret_n = n;
    return true;
}

bool
message_copy_read(struct message_copy *c, char *to, size_t max, size_t *ret_n)
{
    size_t head = c->header.len - c->header_read, n = 0;

    if (head > max)
        head = max;
    if (head > 0) {
        memcpy(to, c->header.at + c->header_read, head);
        c->header_read += head;
    }
    if (head < max) {
        if (c->m->body_stray) {
            if (!read_changed(c, to + head, max - head, &n))
                return false;
        } else if (!message_read(c->m, c->body_read, to + head, max - head,
                                 &n)) {
            return false;
        } else {
            c->body_read += n;
        }
    }
    *ret_n = head + n;
    return true;
}
