/* policy/mime_name.c - what the pieces of a parameter say; see
 * mime_private.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "policy/charset.h"
#include "policy/digit.h"
#include "policy/header.h"
#include "policy/mime_private.h"

/* One way to read the pieces of an attribute. */
struct reading {
    bool literal; /* a backslash that quotes nothing stands for itself */
    bool percent; /* all pieces are encoded, whatever they say */
    bool last;    /* of two pieces of one number the last, not the first */
    bool stop;    /* where a number is missing, not at the end */
};

struct names {
    mime_name_fn *fn;
    void *cookie;
    bool exact;
    char *raw;  /* octets, in their charset; room for all of the field */
    char *text; /* HEADER_DECODED_MAX of that */
};

/* ---- the name behind the text ---- */

static bool
is_end(char c)
{
    return c == ' ' || c == '.' || c == '/' || c == '\\';
}

/* Takes controls out, the path off, and what Windows does not write to the
 * disk: it drops dots and spaces at the end of a name, so "evil.exe. " runs as
 * evil.exe, and must be matched as such. */
static struct slice
clean(char *text, size_t len)
{
    struct slice s;
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '\t')
            text[n++] = ' ';
        else if (c >= ' ' && c != 0x7F)
            text[n++] = text[i];
    }
    while (n > 0 && is_end(text[n - 1]))
        n--;
    s = (struct slice){text, n};
    while (n > 0 && text[n - 1] != '/' && text[n - 1] != '\\')
        n--;
    if (n == 0 && s.len > 2 && text[1] == ':' && slice_lower(text[0]) >= 'a' &&
        slice_lower(text[0]) <= 'z')
        n = 2; /* "C:name" */
    return slice_trim(slice_from(s, n));
}

/* The end of a long name, which tells the kind of file. */
static struct slice
last_part(struct slice s)
{
    s = slice_from(s, s.len - MIME_NAME_MAX);
    while (((unsigned char)s.at[0] & 0xC0) == 0x80)
        s = slice_from(s, 1); /* not in the middle of a character */
    return s;
}

static bool
has_encoded_word(struct slice s)
{
    for (size_t i = 0; i + 1 < s.len; i++)
        if (s.at[i] == '=' && s.at[i + 1] == '?')
            return true;
    return false;
}

static void
give(struct names *w, size_t len)
{
    struct slice whole = {w->text, len}, name;

    w->exact &= !has_encoded_word(whole);
    name = clean(w->text, len);
    if (name.len > MIME_NAME_MAX) {
        w->exact = false;
        name = last_part(name);
    }
    if (name.len > 0)
        w->fn(w->cookie, name);
}

/* The octets in w->raw, in no charset that anyone told. */
static void
give_plain(struct names *w, size_t len)
{
    bool exact;

    len = header_decode_name((struct slice){w->raw, len}, w->text, &exact);
    w->exact &= exact;
    give(w, len);
}

static void
give_charset(struct names *w, enum charset cs, size_t len)
{
    struct charset_text t = {.to = w->text, .size = CHARSET_TEXT_MAX(len)};

    for (size_t i = 0; i < len; i++)
        charset_put(&t, cs, (unsigned char)w->raw[i]);
    charset_flush(&t);
    w->exact &= cs != CHARSET_OTHER;
    give(w, t.len);
}

/* ---- pieces into octets ---- */

/* Quotes go, and so do backslashes that quote something.  Only before a quote
 * or a backslash that is beyond doubt: "C:\dir\name" is what others mean. */
static size_t
put_plain(struct slice s, bool literal, char *to)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '"')
            continue;
        if (s.at[i] == '\\' && i + 1 < s.len &&
            (!literal || s.at[i + 1] == '"' || s.at[i + 1] == '\\'))
            i++;
        to[n++] = s.at[i];
    }
    return n;
}

static size_t
put_percent(struct slice s, char *to)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        int octet = digit_hex_octet(slice_from(s, i + 1));

        if (s.at[i] == '"')
            continue;
        to[n] = s.at[i];
        if (s.at[i] == '%' && octet >= 0) {
            to[n] = (char)octet;
            i += 2;
        }
        n++;
    }
    return n;
}

/* Takes "charset'language'" off the start. */
static enum charset
take_charset(struct slice *s, bool *ret_told)
{
    const char *first, *second;
    enum charset cs = CHARSET_UTF8;
    struct slice name;

    *ret_told = false;
    first = s->len > 0 ? memchr(s->at, '\'', s->len) : NULL;
    if (first == NULL)
        return cs;
    name = (struct slice){s->at, (size_t)(first - s->at)};
    second = memchr(first + 1, '\'', s->len - name.len - 1);
    if (second == NULL)
        return cs;
    if (name.len > 0 && name.at[0] == '"')
        name = slice_from(name, 1);
    *s = slice_from(*s, (size_t)(second + 1 - s->at));
    *ret_told = true;
    if (name.len > 0 && !charset_find(name, &cs))
        cs = CHARSET_OTHER;
    return cs;
}

/* Octets behind a NUL are not seen by who writes in C. */
static void
give_octets(struct names *w, bool encoded, enum charset cs, size_t len)
{
    const char *nul = memchr(w->raw, '\0', len);

    do {
        if (encoded)
            give_charset(w, cs, len);
        else
            give_plain(w, len);
        if (nul == NULL)
            return;
        len = (size_t)(nul - w->raw);
        nul = NULL;
    } while (true);
}

struct join {
    size_t len; /* octets in names.raw */
    bool encoded;
    enum charset charset;
    size_t n; /* pieces */
};

static void
join_piece(struct join *j, const struct mime_piece *p, struct reading r,
           char *raw)
{
    struct slice text = p->text;
    bool told;

    if (p->encoded || r.percent) {
        if (j->n == 0)
            j->charset = take_charset(&text, &told);
        j->encoded = true;
        j->len += put_percent(text, raw + j->len);
    } else {
        j->len += put_plain(text, r.literal, raw + j->len);
    }
    j->n++;
}

/* The indices of the parts of an attribute, by number and then as they came;
 * returns how many. */
static size_t
parts_in_order(const struct mime_field *f, enum mime_attribute a,
               uint16_t ret[MIME_PIECES_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++) {
        size_t k = n;

        if (f->piece[i].attribute != a || f->piece[i].part < 0)
            continue;
        for (; k > 0 && f->piece[ret[k - 1]].part > f->piece[i].part; k--)
            ret[k] = ret[k - 1];
        ret[k] = (uint16_t)i;
        n++;
    }
    return n;
}

static struct join
join_parts(const struct mime_field *f, const uint16_t *order, size_t n,
           struct reading r, char *raw)
{
    struct join j = {.charset = CHARSET_UTF8};
    int before = -1;

    for (size_t i = 0; i < n; i++) {
        const struct mime_piece *p = &f->piece[order[i]];

        if (r.last && i + 1 < n && f->piece[order[i + 1]].part == p->part)
            continue;
        if (!r.last && i > 0 && before == p->part)
            continue;
        if (r.stop && p->part > before + 1)
            break;
        join_piece(&j, p, r, raw);
        before = p->part;
    }
    return j;
}

/* ---- readings ---- */

/* A backslash before something that needs none. */
static bool
has_doubtful_backslash(struct slice s)
{
    for (size_t i = 0; i + 1 < s.len; i++)
        if (s.at[i] == '\\') {
            i++;
            if (s.at[i] != '"' && s.at[i] != '\\')
                return true;
        }
    return false;
}

static bool
tells_charset(struct slice s)
{
    bool told;

    return take_charset(&s, &told) != CHARSET_OTHER && told;
}

/* Which other readings there are, of these pieces. */
static struct reading
doubts(const struct mime_field *f, const uint16_t *order, size_t n)
{
    struct reading d = {0};
    int before = -1;

    for (size_t i = 0; i < n; i++) {
        const struct mime_piece *p = &f->piece[order[i]];

        if (!p->encoded)
            d.literal |= has_doubtful_backslash(p->text);
        if (p->part >= 0) {
            d.percent |= !p->encoded && i == 0 && tells_charset(p->text);
            d.last |= i > 0 && p->part == before;
            d.stop |= p->part > before + 1;
            before = p->part;
        }
    }
    return d;
}

static void
read_all_ways(struct names *w, const struct mime_field *f,
              const uint16_t *order, size_t n)
{
    const struct reading may = doubts(f, order, n);

    for (unsigned way = 0; way < 16; way++) {
        struct reading r = {way & 1, way & 2, way & 4, way & 8};
        struct join j;

        if ((r.literal && !may.literal) || (r.percent && !may.percent) ||
            (r.last && !may.last) || (r.stop && !may.stop))
            continue;
        j = join_parts(f, order, n, r, w->raw);
        give_octets(w, j.encoded, j.charset, j.len);
    }
}

bool
mime_field_names(struct mime_field *f, mime_name_fn *fn, void *cookie)
{
    struct names w = {.fn = fn, .cookie = cookie, .exact = !f->cut};
    uint16_t order[MIME_PIECES_MAX];
    size_t octets = 0;

    for (size_t i = 0; i < f->n; i++)
        if (f->piece[i].attribute != MIME_BOUNDARY)
            octets += f->piece[i].text.len;
    if (octets == 0)
        return w.exact;
    w.raw = malloc(octets + HEADER_DECODED_MAX(octets));
    if (w.raw == NULL) {
        f->nomem = true;
        return false;
    }
    w.text = w.raw + octets;

    for (size_t i = 0; i < f->n; i++) {
        order[0] = (uint16_t)i;
        if (f->piece[i].attribute != MIME_BOUNDARY && f->piece[i].part < 0)
            read_all_ways(&w, f, order, 1);
    }
    for (int a = 0; a < MIME_BOUNDARY; a++) {
        size_t n = parts_in_order(f, (enum mime_attribute)a, order);

        if (n > 0)
            read_all_ways(&w, f, order, n);
    }
    free(w.raw);
    return w.exact;
}

/* ---- the boundary ---- */

struct boundary {
    char *to;
    size_t size, len;
    bool sure;
};

/* A boundary is text, RFC 2046 5.1.1: of a fold in it, and of white space
 * behind it, nothing is meant. */
static void
boundary_take(struct boundary *b, const struct mime_field *f,
              const uint16_t *order, size_t n, char *raw)
{
    struct reading d = doubts(f, order, n);
    struct join j = join_parts(f, order, n, (struct reading){0}, raw);
    size_t len = 0;

    b->sure &= !d.literal && !d.percent && !d.last && !d.stop;
    for (size_t i = 0; i < j.len; i++)
        if (raw[i] != '\r' && raw[i] != '\n')
            raw[len++] = raw[i];
    while (len > 0 && (raw[len - 1] == ' ' || raw[len - 1] == '\t'))
        len--;
    if (len > b->size) {
        b->sure = false;
    } else if (b->len == 0) {
        memcpy(b->to, raw, len);
        b->len = len;
    } else {
        b->sure &= len == b->len && memcmp(b->to, raw, len) == 0;
    }
}

size_t
mime_field_boundary(struct mime_field *f, char *ret, size_t ret_size,
                    bool *ret_sure)
{
    struct boundary b = {.to = ret, .size = ret_size, .sure = !f->cut};
    uint16_t order[MIME_PIECES_MAX];
    size_t octets = 0, n;
    char *raw;

    *ret_sure = false;
    for (size_t i = 0; i < f->n; i++)
        octets += f->piece[i].text.len;
    raw = malloc(octets + 1);
    if (raw == NULL) {
        f->nomem = true;
        return 0;
    }
    for (size_t i = 0; i < f->n; i++) {
        order[0] = (uint16_t)i;
        if (f->piece[i].attribute == MIME_BOUNDARY && f->piece[i].part < 0)
            boundary_take(&b, f, order, 1, raw);
    }
    n = parts_in_order(f, MIME_BOUNDARY, order);
    if (n > 0)
        boundary_take(&b, f, order, n, raw);
    free(raw);
    *ret_sure = b.sure;
    return b.len;
}
