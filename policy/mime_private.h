/* policy/mime_private.h - between the chapters of mime.c.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Mail readers disagree about broken fields, and who wants to hide a name
 * sends one that the filter reads otherwise than the reader.  So we do not
 * choose: every reading that some reader may take gives a name.
 */
#ifndef POLICY_MIME_PRIVATE_H
#define POLICY_MIME_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/slice.h"

enum {
    MIME_PIECES_MAX = 256,   /* of parameters in one field; real ones: 10 */
    MIME_PARTS_MAX = 9999,   /* the number in filename*9999 */
    MIME_TYPE_MAX = 64,      /* octets; what we look for is shorter */
    MIME_NAME_MAX = 1024,    /* octets of a file name */
    MIME_NAMES_MAX = 1000,   /* of a message */
    MIME_BOUNDARY_MAX = 256, /* octets; RFC 2046 allows 70 */
};

/* ---- mime_field.c: a type and its parameters ---- */

enum mime_attribute {
    MIME_NAME,
    MIME_FILENAME,
    MIME_BOUNDARY,
    MIME_ATTRIBUTES,
};

/* "filename=x" is whole and plain, "filename*=utf-8''x" whole and encoded,
 * "filename*1*=x" part 1 and encoded: RFC 2231 3 and 4. */
struct mime_piece {
    enum mime_attribute attribute;
    int part; /* -1 = whole */
    bool encoded;
    struct slice text; /* as written; the quotes around it may be there */
};

struct mime_field {
    char type[MIME_TYPE_MAX + 1]; /* lower case, "" = none; cut to fit */
    bool cut;                     /* there were more pieces */
    bool nomem; /* mime_name.c: memory ran out, the answer means nothing */
    size_t n;
    struct mime_piece piece[MIME_PIECES_MAX];
};

/* Of a field that is not as it should be, some pieces come twice: as the
 * standard has them, and as someone has them who knows neither comments nor
 * where a value ends. */
void mime_field_read(struct slice value, struct mime_field *ret);

/* ---- mime_name.c: what the pieces say ---- */

/* Calls fn with each name, maybe several times with the same one.  False: not
 * every name could be decoded, or f->nomem. */
typedef void mime_name_fn(void *cookie, struct slice name);
bool mime_field_names(struct mime_field *f, mime_name_fn *fn, void *cookie);

/* Writes the boundary; returns its octets, 0 = there is none, or it does not
 * fit, or f->nomem.  *ret_sure: there is no other reading. */
size_t mime_field_boundary(struct mime_field *f, char *ret, size_t ret_size,
                           bool *ret_sure);

/* ---- mime_transfer.c: base64 and quoted-printable, RFC 2045 6 ---- */

enum mime_encoding {
    MIME_IDENTITY, /* 7bit, 8bit, binary */
    MIME_BASE64,
    MIME_QUOTED_PRINTABLE,
    MIME_ENCODING_OTHER,
};

struct mime_transfer {
    enum mime_encoding encoding;
    bool odd;      /* there was something that is not this encoding */
    uint32_t bits; /* base64: not written yet, n_bits of them */
    unsigned n_bits;
    char held[2]; /* quoted-printable: "=", "=A" or "=" and a blank */
    size_t n_held;
};

enum mime_encoding mime_encoding_of(struct slice type);

/* Room for in.len + sizeof t->held octets; returns how many there are. */
size_t mime_transfer_decode(struct mime_transfer *t, struct slice in,
                            char *ret);

/* ---- mime_part.c: what the header of a part tells ---- */

struct arena;

struct mime_found {
    bool cut;            /* there may be others, see mime_cut() */
    bool nomem;          /* see mime_failed() */
    struct arena *arena; /* where the names lie */
    struct slice *name;
    size_t n, size;
    size_t first; /* of the part under way: each of its names comes once */
};

void mime_found_free(struct mime_found *f); /* and it is as new */

enum mime_kind {
    MIME_KIND_UNTOLD, /* no Content-Type yet */
    MIME_KIND_LEAF,
    MIME_KIND_MULTIPART,
    MIME_KIND_MESSAGE,
};

struct mime_part {
    enum mime_kind kind;
    enum mime_kind untold; /* what it is without a Content-Type */
    bool is_digest;        /* multipart/digest */
    bool skips_blank;      /* its header has not begun */
    bool has_encoding;     /* there was a Content-Transfer-Encoding */
    bool two_encodings;    /* there were two that differ */
    enum mime_encoding encoding;
    size_t boundary_len; /* octets of the boundary below */
    size_t octets;       /* of its header */
    char boundary[MIME_BOUNDARY_MAX];
};

/* Takes what one more field tells. */
void mime_part_field(struct mime_part *p, struct mime_found *found,
                     struct slice name, struct slice value);

#endif
