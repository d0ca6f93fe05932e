/* policy/mime.c - the walk through a message's parts; see mime.h.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Line by line.  A body's lines are skipped, but for those that begin with
 * "--": of each line only its start is kept, as far as a boundary may reach.
 * A header's fields are kept one at a time.
 *
 * A message that is encoded (RFC 2046 5.2.1 forbids it, yet it is sent, and
 * opened) is decoded into a layer of its own, with own lines and boundaries.
 */
#include "policy/mime.h"

#include <stdlib.h>

#include "policy/mime_private.h"

enum {
    HEADER_OCTETS_MAX = 64 * 1024, /* of one part */
    DEPTH_MAX = 100, /* multiparts and messages inside one another */
    LAYERS_MAX = 4,  /* encoded messages inside one another, and the first */
    LINE_KEPT = 2 + MIME_BOUNDARY_MAX + 2, /* "--boundary--" */
};

/* A multipart whose parts we are in. */
struct level {
    size_t at, len; /* the boundary, in mime.boundary */
    size_t depth;
    bool is_digest;
};

enum state {
    STATE_BODY, /* boundaries alone count */
    STATE_HEADER,
    STATE_ENCODED, /* the same, and the rest goes to the next layer */
};

struct layer {
    enum state state;
    size_t first_level; /* its levels: from here to the next layer's */
    struct mime_transfer transfer;
    /* The line under way. */
    size_t len; /* octets kept of it */
    bool plain; /* it is no delimiter */
    bool tail;  /* what was not kept is not all white space */
    bool begun;
    char line[LINE_KEPT];
};

struct buffer {
    char *at;
    size_t len, size;
};

struct mime {
    struct mime_found found;
    bool started, finished; /* the body */

    struct mime_part part; /* whose header is, or was last, under way */
    struct buffer field;   /* of the header under way, the last one */
    size_t depth;
    struct level level[DEPTH_MAX];
    size_t n_levels;
    struct buffer boundary;
    struct layer layer[LAYERS_MAX];
    size_t n_layers;
};

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The buffers' maxima are checked by who adds.  False = out of memory. */
static bool
buffer_add(struct buffer *b, const char *at, size_t len)
{
    if (len == 0)
        return true;
    if (b->size - b->len < len) {
        size_t size = b->size > 0 ? b->size : 256;
        char *grown;

        while (size - b->len < len)
            size *= 2;
        grown = realloc(b->at, size);
        if (grown == NULL)
            return false;
        b->at = grown;
        b->size = size;
    }
    memcpy(b->at + b->len, at, len);
    b->len += len;
    return true;
}

static void
buffer_free(struct buffer *b)
{
    free(b->at);
    *b = (struct buffer){0};
}

/* ---- the fields of a header ---- */

static void
part_begin(struct mime *m, enum mime_kind untold)
{
    m->part = (struct mime_part){.untold = untold};
    m->found.first = m->found.n;
    m->field.len = 0;
}

/* Octets of the name that the field begins with; 0 = it has none. */
static size_t
field_name_length(struct slice s)
{
    const char *colon = memchr(s.at, ':', s.len);
    struct slice name = {s.at, colon != NULL ? (size_t)(colon - s.at) : 0};

    while (name.len > 0 && is_blank(name.at[name.len - 1]))
        name.len--;
    for (size_t i = 0; i < name.len; i++)
        if (is_blank(name.at[i]))
            return 0;
    return name.len;
}

/* The field in the buffer is whole. */
static void
field_end(struct mime *m)
{
    struct slice s = {m->field.at, m->field.len};
    size_t n;

    m->field.len = 0;
    if (s.len == 0 || slice_starts(s, "From ") || slice_starts(s, ">From "))
        return; /* the latter two come from a mailbox file */
    n = field_name_length(s);
    if (n > 0) {
        const char *colon = memchr(s.at, ':', s.len);

        mime_part_field(&m->part, &m->found, (struct slice){s.at, n},
                        slice_from(s, (size_t)(colon + 1 - s.at)));
        return;
    }
    /* No field: the header ends here to some readers, to others it does not,
     * and to some it is the rest of the field before. */
    m->found.cut = true;
    mime_part_field(&m->part, &m->found, SLICE_LIT("Content-Disposition"), s);
}

/* ---- the structure ---- */

static bool
layer_open(struct mime *m, struct layer *l)
{
    if (m->n_layers == LAYERS_MAX)
        return false;
    l->state = STATE_ENCODED;
    l->transfer = (struct mime_transfer){.encoding = m->part.encoding};
    m->layer[m->n_layers++] =
        (struct layer){.state = STATE_HEADER, .first_level = m->n_levels};
    return true;
}

static void
message_open(struct mime *m, struct layer *l)
{
    enum mime_encoding encoding = m->part.encoding;

    l->state = STATE_HEADER;
    if (encoding == MIME_ENCODING_OTHER)
        m->found.cut = true;
    else if (encoding != MIME_IDENTITY && !layer_open(m, l)) {
        m->found.cut = true;
        l->state = STATE_BODY;
        return;
    }
    m->depth++;
    part_begin(m, MIME_KIND_LEAF);
    m->part.skips_blank = true;
}

static void
multipart_open(struct mime *m)
{
    const struct mime_part *p = &m->part;

    /* RFC 2045 6.4 forbids it, and nobody knows who decodes it. */
    m->found.cut |= p->encoding != MIME_IDENTITY;
    if (p->boundary_len == 0) {
        m->found.cut = true;
        return;
    }
    if (!buffer_add(&m->boundary, p->boundary, p->boundary_len)) {
        m->found.nomem = true;
        return;
    }
    m->depth++;
    m->level[m->n_levels++] = (struct level){
        .at = m->boundary.len - p->boundary_len,
        .len = p->boundary_len,
        .depth = m->depth,
        .is_digest = p->is_digest,
    };
}

/* The header is over.  is_whole: up to its end. */
static void
header_end(struct mime *m, struct layer *l, bool is_whole)
{
    const struct mime_part *p = &m->part;
    enum mime_kind kind = p->kind == MIME_KIND_UNTOLD ? p->untold : p->kind;

    l->state = STATE_BODY;
    m->found.cut |= !is_whole;
    if (kind != MIME_KIND_MULTIPART && kind != MIME_KIND_MESSAGE)
        return;
    m->found.cut |= p->two_encodings;
    if (m->depth == DEPTH_MAX)
        m->found.cut = true;
    else if (kind == MIME_KIND_MULTIPART)
        multipart_open(m);
    else if (is_whole)
        message_open(m, l);
}

/* ---- delimiter lines: RFC 2046 5.1.1 ---- */

/* Which multipart the line belongs to, if any: the innermost whose boundary it
 * is, or else the one with most of its octets, as "--" + boundary need not be
 * all of a line. */
struct delimiter {
    struct level *level; /* NULL = none */
    bool is_close;
    bool is_exact;
};

static size_t
levels_end(const struct mime *m, size_t k)
{
    return k + 1 < m->n_layers ? m->layer[k + 1].first_level : m->n_levels;
}

static struct delimiter
delimiter_find(struct mime *m, size_t k)
{
    const struct layer *l = &m->layer[k];
    struct delimiter found = {NULL, false, false};
    struct slice s = {l->line, l->len};

    while (s.len > 0 && is_blank(s.at[s.len - 1]))
        s.len--;
    if (!slice_starts(s, "--"))
        return found;
    s = slice_from(s, 2);
    for (size_t i = levels_end(m, k); i-- > l->first_level;) {
        struct level *level = &m->level[i];
        struct slice rest = slice_from(s, level->len);
        bool is_close = slice_starts(rest, "--");

        if (s.len < level->len ||
            memcmp(s.at, m->boundary.at + level->at, level->len) != 0)
            continue;
        if (!l->tail && rest.len == (is_close ? 2 : 0))
            return (struct delimiter){level, is_close, true};
        if (found.level == NULL || found.level->len < level->len)
            found = (struct delimiter){level, is_close, false};
    }
    return found;
}

/* Ends what is inside the multipart and begins its next part. */
static void
delimiter_line(struct mime *m, size_t k, struct delimiter d)
{
    size_t n_levels = (size_t)(d.level - m->level) + 1;

    m->found.cut |= !d.is_exact;
    m->layer[k].state = d.is_close ? STATE_BODY : STATE_HEADER;
    m->n_layers = k + 1;
    m->n_levels = n_levels;
    m->boundary.len = d.level->at + d.level->len;
    m->depth = d.level->depth;
    part_begin(m, d.level->is_digest ? MIME_KIND_MESSAGE : MIME_KIND_LEAF);
}

/* ---- lines ---- */

static void feed(struct mime *m, size_t k, struct slice s);

/* To the next layer, decoded. */
static void
pass_on(struct mime *m, size_t k, struct slice s)
{
    struct mime_transfer *t = &m->layer[k].transfer;
    char decoded[512 + sizeof t->held];

    while (s.len > 0) {
        struct slice part = {s.at, s.len < 512 ? s.len : 512};

        s = slice_from(s, part.len);
        part.len = mime_transfer_decode(t, part, decoded);
        m->found.cut |= t->odd;
        feed(m, k + 1, (struct slice){decoded, part.len});
    }
}

/* The line was not the delimiter it might have been. */
static void
line_is_plain(struct mime *m, size_t k, size_t kept)
{
    struct layer *l = &m->layer[k];

    l->plain = true;
    if (l->state == STATE_ENCODED)
        pass_on(m, k, (struct slice){l->line, kept});
}

/* Ends the header at its last allowed octet; what follows is body. */
static void
header_add(struct mime *m, size_t k, struct slice s)
{
    struct layer *l = &m->layer[k];
    size_t room = HEADER_OCTETS_MAX - m->part.octets;
    size_t n = s.len < room ? s.len : room;

    if (!l->begun && !(s.at[0] == ' ' || s.at[0] == '\t'))
        field_end(m);
    m->part.octets += n;
    if (!buffer_add(&m->field, s.at, n))
        m->found.nomem = true;
    if (n == s.len)
        return;
    field_end(m);
    header_end(m, l, false);
    l->plain = l->len + n > 0; /* but a line of the body may begin here */
}

static void
header_line_end(struct mime *m, struct layer *l)
{
    size_t n = 0;

    while (n < l->len && (l->line[n] == '\r' || l->line[n] == '\n'))
        n++;
    if (n < l->len) {
        m->part.skips_blank = false;
        return;
    }
    m->field.len = 0;
    if (!m->part.skips_blank)
        header_end(m, l, true);
}

static void line_end(struct mime *m, size_t k);

/* From layer k on nothing more comes: what stops in the middle ends there. */
static void
layers_end(struct mime *m, size_t k)
{
    for (; k < m->n_layers; k++) {
        if (m->layer[k].begun)
            line_end(m, k);
        if (m->layer[k].state == STATE_HEADER)
            field_end(m);
    }
}

static void
line_end(struct mime *m, size_t k)
{
    struct layer *l = &m->layer[k];
    struct delimiter d = {NULL, false, false};

    if (!l->plain)
        d = delimiter_find(m, k);
    if (d.level != NULL) {
        layers_end(m, k + 1);
        delimiter_line(m, k, d);
    } else if (l->state == STATE_HEADER) {
        header_line_end(m, l);
    } else if (!l->plain) {
        line_is_plain(m, k, l->len);
    }
    l->len = 0;
    l->plain = l->tail = l->begun = false;
}

/* A piece of one line, the last one when it ends with LF. */
static void
line_add(struct mime *m, size_t k, struct slice s)
{
    struct layer *l = &m->layer[k];
    size_t before = l->len, room = sizeof l->line - l->len;
    size_t n = s.len < room ? s.len : room;

    if (l->state == STATE_HEADER)
        header_add(m, k, s);
    l->begun = true;
    if (l->plain) {
        if (l->state == STATE_ENCODED)
            pass_on(m, k, s);
        return;
    }
    memcpy(l->line + l->len, s.at, n);
    l->len += n;
    for (size_t i = n; i < s.len; i++)
        l->tail |= !is_blank(s.at[i]);
    if (l->state == STATE_HEADER)
        return;
    if (l->line[0] != '-' || (l->len > 1 && l->line[1] != '-') ||
        (l->len == sizeof l->line && delimiter_find(m, k).level == NULL)) {
        line_is_plain(m, k, before);
        if (l->state == STATE_ENCODED)
            pass_on(m, k, s);
    }
}

static void
feed(struct mime *m, size_t k, struct slice s)
{
    while (s.len > 0) {
        const char *end = memchr(s.at, '\n', s.len);
        size_t n = end != NULL ? (size_t)(end - s.at) + 1 : s.len;

        line_add(m, k, (struct slice){s.at, n});
        if (end != NULL)
            line_end(m, k);
        s = slice_from(s, n);
    }
}

/* ---- the doors ---- */

struct mime *
mime_new(void)
{
    struct mime *m = calloc(1, sizeof *m);

    if (m != NULL)
        mime_reset(m);
    return m;
}

void
mime_reset(struct mime *m)
{
    mime_found_free(&m->found);
    buffer_free(&m->field);
    buffer_free(&m->boundary);
    m->started = m->finished = false;
    m->depth = m->n_levels = 0;
    m->layer[0] = (struct layer){.state = STATE_HEADER};
    m->n_layers = 1;
    part_begin(m, MIME_KIND_LEAF);
}

void
mime_free(struct mime *m)
{
    if (m == NULL)
        return;
    mime_reset(m);
    free(m);
}

void
mime_header(struct mime *m, struct slice name, struct slice value)
{
    if (m->started)
        return;
    if (value.len > HEADER_OCTETS_MAX) {
        value.len = HEADER_OCTETS_MAX;
        m->found.cut = true;
    }
    mime_part_field(&m->part, &m->found, slice_trim(name), value);
}

static void
body_start(struct mime *m)
{
    if (!m->started)
        header_end(m, &m->layer[0], true);
    m->started = true;
}

bool
mime_wants_body(const struct mime *m)
{
    const struct mime_part *p = &m->part;

    if (m->finished || (m->found.cut && m->found.n == MIME_NAMES_MAX))
        return false;
    if (!m->started)
        return p->kind == MIME_KIND_MESSAGE ||
               (p->kind == MIME_KIND_MULTIPART && p->boundary_len > 0);
    return m->n_levels > 0 || m->layer[0].state != STATE_BODY;
}

void
mime_body(struct mime *m, const void *at, size_t len)
{
    if (m->finished)
        return;
    body_start(m);
    if (len > 0 && mime_wants_body(m))
        feed(m, 0, (struct slice){at, len});
}

const struct slice *
mime_names(struct mime *m, size_t *ret_n)
{
    if (!m->finished) {
        body_start(m);
        layers_end(m, 0);
        m->finished = true;
    }
    *ret_n = m->found.n;
    return m->found.name;
}

bool
mime_cut(const struct mime *m)
{
    return m->found.cut;
}

bool
mime_failed(const struct mime *m)
{
    return m->found.nomem;
}
