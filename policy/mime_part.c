/* policy/mime_part.c - what the header of a part tells; see mime_private.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "policy/arena.h"
#include "policy/mime_private.h"

/* ---- names ---- */

static bool
names_grow(struct mime_found *f)
{
    size_t size = f->size > 0 ? 2 * f->size : 8;
    struct slice *grown = realloc(f->name, size * sizeof *grown);

    if (grown == NULL)
        return false;
    f->name = grown;
    f->size = size;
    return true;
}

static void
name_add(void *cookie, struct slice name)
{
    struct mime_found *f = cookie;
    char *copy;

    for (size_t i = f->first; i < f->n; i++)
        if (slice_eq(f->name[i], name))
            return;
    if (f->arena == NULL)
        f->arena = arena_new();
    if (f->n == MIME_NAMES_MAX) {
        f->cut = true;
        return;
    }
    if (f->arena == NULL || (f->n == f->size && !names_grow(f)) ||
        (copy = arena_copy(f->arena, name)) == NULL) {
        f->nomem = true;
        return;
    }
    f->name[f->n++] = (struct slice){copy, name.len};
}

void
mime_found_free(struct mime_found *f)
{
    arena_free(f->arena);
    free(f->name);
    *f = (struct mime_found){0};
}

/* ---- fields ---- */

static bool
starts(const char *type, const char *prefix)
{
    return slice_starts(slice_of(type), prefix);
}

static enum mime_kind
kind_of(const char *type)
{
    static const char *const messages[] = {
        "message/rfc822",  "message/global",        "message/news",
        "message/partial", "message/external-body",
    };
    size_t n = strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789/.+-_");
    struct slice s = {type, n};

    if (n == 0)
        return MIME_KIND_UNTOLD;
    if (slice_starts(s, "multipart/") || slice_eq(s, SLICE_LIT("multipart")))
        return MIME_KIND_MULTIPART;
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        if (slice_eq(s, slice_of(messages[i])))
            return MIME_KIND_MESSAGE;
    return MIME_KIND_LEAF;
}

/* Of several types the one with a structure counts, and the first of those:
 * but who sends several means to be read in several ways. */
static void
take_type(struct mime_part *p, struct mime_field *f, bool *cut)
{
    enum mime_kind kind = kind_of(f->type);
    char boundary[MIME_BOUNDARY_MAX];
    size_t len = 0;
    bool sure = true;

    if (kind == MIME_KIND_UNTOLD)
        return;
    if (kind == MIME_KIND_MULTIPART) {
        len = mime_field_boundary(f, boundary, sizeof boundary, &sure);
        *cut |= !sure || len == 0;
    }
    /* What a fragment goes on with came in another message. */
    *cut |= starts(f->type, "message/partial");
    if (p->kind == MIME_KIND_UNTOLD || p->kind == MIME_KIND_LEAF) {
        *cut |= p->kind == MIME_KIND_LEAF && kind != MIME_KIND_LEAF;
        p->kind = kind;
        p->is_digest = starts(f->type, "multipart/digest");
        p->boundary_len = len;
        memcpy(p->boundary, boundary, len);
    } else {
        *cut |= kind != p->kind || len != p->boundary_len ||
                memcmp(p->boundary, boundary, len) != 0;
    }
}

static void
take_encoding(struct mime_part *p, const struct mime_field *f)
{
    enum mime_encoding encoding = mime_encoding_of(slice_of(f->type));

    if (!p->has_encoding)
        p->encoding = encoding;
    p->two_encodings |= encoding != p->encoding;
    p->has_encoding = true;
}

void
mime_part_field(struct mime_part *p, struct mime_found *found,
                struct slice name, struct slice value)
{
    bool is_type = slice_eq_nocase(name, SLICE_LIT("Content-Type"));
    bool is_encoding =
        slice_eq_nocase(name, SLICE_LIT("Content-Transfer-Encoding"));
    struct mime_field f;

    if (!is_type && !is_encoding &&
        !slice_eq_nocase(name, SLICE_LIT("Content-Disposition")))
        return;
    mime_field_read(value, &f);
    if (is_encoding) {
        take_encoding(p, &f);
        return;
    }
    if (is_type)
        take_type(p, &f, &found->cut);
    if (!mime_field_names(&f, name_add, found))
        found->cut = true;
    found->nomem |= f.nomem;
}
