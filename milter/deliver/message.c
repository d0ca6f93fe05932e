/* milter/deliver/message.c - content coming in; see message.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "milter/base/place.h"
#include "milter/deliver/message_private.h"

enum {
    HEADER_MAX = 1 << 20, /* octets; Gmail takes less */
    ID_MAX = 998,         /* octets kept of a Message-ID: RFC 5322 2.1.1 */
};

struct message *
message_new(const char *spill_directory)
{
    struct message *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    m->fd = -1;
    buf_init(&m->memory, MESSAGE_MEMORY);
    buf_init(&m->header, HEADER_MAX);
    m->spill_directory = strdup(spill_directory);
    m->id = strdup("");
    if (m->spill_directory == NULL || m->id == NULL) {
        message_free(m);
        return NULL;
    }
    return m;
}

void
message_free(struct message *m)
{
    if (m == NULL)
        return;
    if (m->fd >= 0)
        close(m->fd);
    buf_free(&m->memory);
    buf_free(&m->header);
    fields_free(&m->fields);
    free(m->spill_directory);
    free(m->id);
    free(m);
}

static bool fail(struct message *m, char *err, size_t err_size, const char *fmt,
                 ...) __attribute__((format(printf, 4, 5)));

static bool
fail(struct message *m, char *err, size_t err_size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, err_size, fmt, ap);
    va_end(ap);
    m->broken = true;
    return false;
}

/* ---- the spill file ---- */

/* A file without a name: nothing is left behind, whatever happens to us.  It
 * lies beside the ledger, where the agent may write. */
static int
open_unnamed(const char *state_directory)
{
    char directory[PATH_MAX];
    int fd = -1;
    char *path;

    errno = ENAMETOOLONG;
    if (place_of(state_directory, "ledger", directory, sizeof directory, NULL))
        fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    /* A file system that cannot do that. */
    if (asprintf(&path, "%s/message.XXXXXX", directory) < 0) {
        errno = ENOMEM;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd;
}

static bool
spill(struct message *m, char *err, size_t err_size)
{
    size_t done = 0;

    if (m->fd < 0)
        m->fd = open_unnamed(m->spill_directory);
    if (m->fd < 0)
        return fail(m, err, err_size, "cannot make a file in %s: %s",
                    m->spill_directory, strerror(errno));
    while (done < m->memory.len) {
        ssize_t n = pwrite(m->fd, m->memory.at + done, m->memory.len - done,
                           (off_t)(m->in_file + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(m, err, err_size, "cannot write a message to %s: %s",
                        m->spill_directory, strerror(n < 0 ? errno : ENOSPC));
        done += (size_t)n;
    }
    m->in_file += done;
    buf_clear(&m->memory);
    return true;
}

bool
message_add(struct message *m, const void *data, size_t len, char *err,
            size_t err_size)
{
    const char *at = data;

    if (m->broken)
        return fail(m, err, err_size, "the message is incomplete");
    while (len > 0) {
        size_t room = MESSAGE_MEMORY - m->memory.len;
        size_t n = len < room ? len : room;

        if (!buf_add(&m->memory, at, n))
            return fail(m, err, err_size, "out of memory");
        m->size += n;
        at += n;
        len -= n;
        if (m->memory.len == MESSAGE_MEMORY && len > 0 &&
            !spill(m, err, err_size))
            return false;
    }
    return true;
}

bool
message_read(const struct message *m, uint64_t from, char *to, size_t max,
             size_t *ret_n)
{
    uint64_t left = from < m->size ? m->size - from : 0;
    size_t n = left < max ? (size_t)left : max;
    ssize_t got;

    if (n == 0 || from >= m->in_file) {
        if (n > 0)
            memcpy(to, m->memory.at + (from - m->in_file), n);
        *ret_n = n;
        return true;
    }
    if (n > m->in_file - from)
        n = (size_t)(m->in_file - from);
    do
        got = pread(m->fd, to, n, (off_t)from);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        errno = EIO; /* somebody cut our file */
    if (got <= 0)
        return false;
    *ret_n = (size_t)got;
    return true;
}

/* ---- the header ---- */

struct reader { /* octet by octet, with line ends made CRLF */
    struct message *m;
    uint64_t at; /* of the octet after the last one taken */
    size_t line; /* in m->header: where the line under way begins */
    uint64_t line_at;
    bool ended;
    struct crlf crlf;
};

/* A line is complete in m->header.  Is it still header?  If not, it is taken
 * off again and the body begins at it, or behind it if it is blank. */
static void
end_line(struct reader *r, uint64_t next_at)
{
    struct buf *h = &r->m->header;
    struct slice line = {h->at + r->line, h->len - r->line - 2};
    bool more = line.len > 0 && r->line > 0 &&
                (line.at[0] == ' ' || line.at[0] == '\t');

    if (!more && !fields_is_start(line)) {
        r->m->body_at = line.len == 0 ? next_at : r->line_at;
        h->len = r->line;
        r->ended = true;
        return;
    }
    r->line = h->len;
    r->line_at = next_at;
}

static bool
read_header_octet(struct reader *r, char c)
{
    char out[CRLF_MAX];
    size_t n = crlf_next(&r->crlf, c, out);

    for (size_t i = 0; i < n; i++) {
        if (!buf_add(&r->m->header, &out[i], 1))
            return false;
        if (out[i] != '\n')
            continue;
        /* After bare CRs it was c that showed the line's end. */
        end_line(r, c == '\n' ? r->at : r->at - 1);
        if (r->ended)
            return true;
    }
    return true;
}

static bool
read_header(struct message *m, char *err, size_t err_size)
{
    struct reader r = {.m = m, .crlf = {.start = true}};
    char block[4096], out[CRLF_MAX];
    size_t n = 0;

    m->body_at = m->size;
    while (!r.ended && r.at < m->size) {
        uint64_t from = r.at;

        if (!message_read(m, from, block, sizeof block, &n))
            return fail(m, err, err_size, "cannot read a message from %s: %s",
                        m->spill_directory, strerror(errno));
        for (size_t i = 0; i < n && !r.ended; i++) {
            r.at = from + i + 1;
            if (!read_header_octet(&r, block[i]))
                return fail(m, err, err_size,
                            "the message's header has more than %d octets",
                            HEADER_MAX);
        }
    }
    n = r.ended ? 0 : crlf_end(&r.crlf, out);
    if (!buf_add(&m->header, out, n))
        return fail(m, err, err_size,
                    "the message's header has more than %d octets", HEADER_MAX);
    if (n > 0)
        end_line(&r, m->size);
    return true;
}

/* "<...>" when there is one, else the trimmed value; no line ends, no
 * controls. */
static char *
read_id(const struct fields *f)
{
    const struct field *field = fields_find(f, "Message-ID");
    struct slice v;
    const char *open, *end;
    char *id;

    if (field == NULL)
        return strdup("");
    v = slice_trim(field->value);
    open = memchr(v.at, '<', v.len);
    end =
        open != NULL ? memchr(open, '>', v.len - (size_t)(open - v.at)) : NULL;
    if (end != NULL)
        v = (struct slice){open, (size_t)(end + 1 - open)};
    if (v.len > ID_MAX)
        v.len = ID_MAX;
    id = strndup(v.at, v.len);
    for (char *c = id; c != NULL && *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return id;
}

/* ---- the body ---- */

static bool
has_8bit(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] >= 0x80)
            return true;
    return false;
}

static void
count_body(struct message *m, struct crlf *crlf, struct slice block)
{
    char out[CRLF_MAX];

    for (size_t i = 0; i < block.len; i++)
        m->body_size += crlf_next(crlf, block.at[i], out);
    m->is_8bit = m->is_8bit || has_8bit(block);
}

/* SHA-256 over Message-ID, NUL, body as received. */
static bool
read_body(struct message *m, EVP_MD_CTX *hash, char *err, size_t err_size)
{
    struct crlf crlf = {.start = true};
    char out[CRLF_MAX], *block = malloc(MESSAGE_BLOCK);
    uint64_t at = m->body_at;
    size_t n = 0;
    bool ok = block != NULL &&
              EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(hash, m->id, strlen(m->id) + 1) == 1;

    if (!ok)
        fail(m, err, err_size, "out of memory");
    while (ok && at < m->size) {
        ok = message_read(m, at, block, MESSAGE_BLOCK, &n);
        if (!ok) {
            fail(m, err, err_size, "cannot read a message from %s: %s",
                 m->spill_directory, strerror(errno));
            break;
        }
        EVP_DigestUpdate(hash, block, n);
        count_body(m, &crlf, (struct slice){block, n});
        at += n;
    }
    if (ok && m->body_at < m->size)
        m->body_size += crlf_end(&crlf, out);
    m->body_stray = crlf.stray;
    if (ok)
        EVP_DigestFinal_ex(hash, m->digest.octet, NULL);
    free(block);
    return ok;
}

bool
message_end(struct message *m, char *err, size_t err_size)
{
    EVP_MD_CTX *hash;
    bool ok;

    if (m->broken)
        return fail(m, err, err_size, "the message is incomplete");
    if (!read_header(m, err, err_size))
        return false;
    free(m->id);
    m->id = NULL;
    if (!fields_parse(&m->fields, buf_slice(&m->header)) ||
        (m->id = read_id(&m->fields)) == NULL) {
        m->id = m->id != NULL ? m->id : strdup("");
        return fail(m, err, err_size, "out of memory");
    }
    m->needs_utf8 = has_8bit(buf_slice(&m->header));
    m->is_8bit = m->needs_utf8;
    hash = EVP_MD_CTX_new();
    if (hash == NULL)
        return fail(m, err, err_size, "out of memory");
    ok = read_body(m, hash, err, err_size);
    EVP_MD_CTX_free(hash);
    return ok;
}

/* ---- what is known of it ---- */

uint64_t
message_size(const struct message *m)
{
    return m->size;
}

const char *
message_id(const struct message *m)
{
    return m->id != NULL ? m->id : "";
}

struct slice
message_queue_id(const struct message *m)
{
    const struct field *top = fields_find(&m->fields, "Received");

    return top != NULL ? fields_received_id(top->value)
                       : (struct slice){NULL, 0};
}

const struct digest *
message_digest(const struct message *m)
{
    return &m->digest;
}

bool
message_is_8bit(const struct message *m)
{
    return m->is_8bit;
}

bool
message_needs_utf8(const struct message *m)
{
    return m->needs_utf8;
}
