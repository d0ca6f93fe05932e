/* policy/match_message.c - conditions on the message; see match.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <openssl/evp.h>

#include "policy/header.h"
#include "policy/match_private.h"
#include "policy/scratch.h"

static enum truth
truth_of(bool yes)
{
    return yes ? TRUTH_YES : TRUTH_NO;
}

/* A value that could not be read: see struct match. */
static enum truth
unreadable(struct match *m)
{
    m->unparseable = true;
    return m->unreadable_unknown ? TRUTH_UNKNOWN : TRUTH_NO;
}

/* ---- the header ---- */

static enum truth
match_from(struct match *m, const struct condition *c)
{
    const struct scratch_from *from = scratch_from(m->scratch);

    if (from == NULL) {
        m->nomem = true;
        return TRUTH_NO;
    }
    for (size_t i = 0; i < from->n; i++) {
        struct slice a = from->address[i];
        const char *at = memrchr(a.at, '@', a.len);
        struct slice domain = slice_from(a, (size_t)(at + 1 - a.at));
        bool yes = c->key == MATCH_FROM
                       ? match_any_pattern(m, c, (struct value){a, false, true})
                       : match_domain(m, c, domain, true) == TRUTH_YES;

        if (yes)
            return TRUTH_YES;
    }
    return from->garbage ? unreadable(m) : TRUTH_NO;
}

static enum truth
match_header(struct match *m, const struct condition *c)
{
    struct slice name = slice_of(c->name);
    struct scratch_text value;
    bool cut = false;

    for (size_t i = 0; i < m->f->n_headers; i++) {
        if (!slice_eq_nocase(m->f->header[i].name, name))
            continue;
        if (!scratch_header(m->scratch, i, &value)) {
            m->nomem = true;
            return TRUTH_NO;
        }
        if (match_any_pattern(m, c, (struct value){value.text, false, true}))
            return TRUTH_YES;
        cut |= value.cut;
    }
    return cut ? unreadable(m) : TRUTH_NO;
}

/* ---- how large, how many ---- */

static enum truth
match_number(const struct condition *c, uint64_t have)
{
    for (size_t i = 0; i < c->n_numbers; i++) {
        uint64_t want = c->number[i].value;
        bool yes = false;

        switch (c->number[i].op) {
        case COMPARE_EQ:
            yes = have == want;
            break;
        case COMPARE_LT:
            yes = have < want;
            break;
        case COMPARE_LE:
            yes = have <= want;
            break;
        case COMPARE_GT:
            yes = have > want;
            break;
        case COMPARE_GE:
            yes = have >= want;
            break;
        }
        if (yes)
            return TRUTH_YES;
    }
    return TRUTH_NO;
}

/* ---- what kind ---- */

/* RFC 3834 5: anything but "no" was sent by a machine. */
static bool
is_auto(const struct facts_pair *h)
{
    return slice_eq_nocase(h->name, SLICE_LIT("Auto-Submitted")) &&
           !slice_eq_nocase(header_first_token(h->value), SLICE_LIT("no"));
}

static bool
is_bulk(const struct facts_pair *h)
{
    static const char list[] = "List-";
    struct slice start = h->name, word;

    if (start.len >= sizeof list) { /* and at least one octet more */
        start.len = sizeof list - 1;
        if (slice_eq_nocase(start, slice_of(list)))
            return true;
    }
    if (!slice_eq_nocase(h->name, SLICE_LIT("Precedence")))
        return false;
    word = header_first_token(h->value);
    return slice_eq_nocase(word, SLICE_LIT("bulk")) ||
           slice_eq_nocase(word, SLICE_LIT("list")) ||
           slice_eq_nocase(word, SLICE_LIT("junk"));
}

static enum truth
match_one_kind(const struct match *m, enum mail_kind kind)
{
    if (kind == KIND_BOUNCE)
        return truth_of(m->f->sender.len == 0);
    if (m->f->stage != FACTS_EOM)
        return TRUTH_UNKNOWN;
    for (size_t i = 0; i < m->f->n_headers; i++)
        if (kind == KIND_AUTO ? is_auto(&m->f->header[i])
                              : is_bulk(&m->f->header[i]))
            return TRUTH_YES;
    return TRUTH_NO;
}

static enum truth
match_kind(const struct match *m, const struct condition *c)
{
    enum truth t = TRUTH_NO;

    for (size_t i = 0; i < c->n_kinds; i++) {
        enum truth one = match_one_kind(m, c->kind[i]);

        if (one == TRUTH_YES)
            return TRUTH_YES;
        if (one == TRUTH_UNKNOWN)
            t = TRUTH_UNKNOWN;
    }
    return t;
}

/* ---- attachments ---- */

static enum truth
match_attachment(struct match *m, const struct condition *c)
{
    for (size_t i = 0; i < m->f->n_attachments; i++)
        if (match_any_pattern(
                m, c,
                (struct value){.text = m->f->attachment[i], .keep = true}))
            return TRUTH_YES;
    return m->f->attachments_cut ? unreadable(m) : TRUTH_NO;
}

/* ---- sample ---- */

/* The value of the first field of that name, trimmed; empty = none. */
static struct slice
first_value(const struct facts *f, struct slice name)
{
    for (size_t i = 0; i < f->n_headers; i++)
        if (slice_eq_nocase(f->header[i].name, name))
            return slice_trim(f->header[i].value);
    return (struct slice){NULL, 0};
}

/* The first four octets of a SHA-256, which anybody can work out with
 * sha256sum: of the Message-ID, as it is between the white space; of a message
 * without one, of its Date, From and Subject, raw, a line feed behind each. */
static bool
hash_sample(const struct facts *f, struct slice id, uint32_t *ret)
{
    static const char *const name[] = {"Date", "From", "Subject"};
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

    if (ok && id.len > 0)
        ok = EVP_DigestUpdate(md, id.at, id.len) == 1;
    for (size_t i = 0; ok && id.len == 0 && i < sizeof name / sizeof *name;
         i++) {
        struct slice value = first_value(f, slice_of(name[i]));

        if (value.len > 0)
            ok = EVP_DigestUpdate(md, value.at, value.len) == 1;
        ok = ok && EVP_DigestUpdate(md, "\n", 1) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    *ret = (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 |
           (uint32_t)digest[2] << 8 | digest[3];
    return ok;
}

bool
match_find_sample(struct match *m)
{
    struct slice id;

    if (m->sample_done)
        return true;
    id = first_value(m->f, SLICE_LIT("Message-ID"));
    if (m->f->stage != FACTS_EOM && id.len == 0)
        return false;
    m->sample_done = hash_sample(m->f, id, &m->sample);
    m->nomem |= !m->sample_done;
    return m->sample_done;
}

static enum truth
match_sample(struct match *m, const struct condition *c)
{
    static const double all = 4294967296.0; /* 2^32 */

    if (!match_find_sample(m))
        return m->nomem ? TRUTH_NO : TRUTH_UNKNOWN;
    return truth_of(m->sample < c->per_cent / 100 * all);
}

/* ---- all of them ---- */

static bool
has_header(const struct facts *f, struct slice name)
{
    for (size_t i = 0; i < f->n_headers; i++)
        if (slice_eq_nocase(f->header[i].name, name))
            return true;
    return false;
}

/* Is there an answer at this stage? */
static bool
is_known(const struct facts *f, const struct condition *c)
{
    if (f->stage == FACTS_EOM || c->key == MATCH_KIND)
        return true;
    if (f->stage == FACTS_RCPT)
        return false;
    if (c->key == MATCH_HEADER)
        return slice_eq_nocase(slice_of(c->name), SLICE_LIT("Message-ID")) &&
               has_header(f, slice_of(c->name));
    return c->key == MATCH_SIZE || c->key == MATCH_RECIPIENTS ||
           c->key == MATCH_SAMPLE;
}

static enum truth
ask(struct match *m, const struct condition *c)
{
    switch (c->key) {
    case MATCH_FROM:
    case MATCH_FROM_DOMAIN:
        return match_from(m, c);
    case MATCH_HEADER:
        return match_header(m, c);
    case MATCH_SIZE:
        return match_number(c, m->f->size_octets);
    case MATCH_RECIPIENTS:
        return match_number(c, m->f->n_recipients);
    case MATCH_ATTACHMENT:
        return match_attachment(m, c);
    case MATCH_SAMPLE:
        return match_sample(m, c);
    case MATCH_KIND:
        return match_kind(m, c);
    default:
        return TRUTH_NO;
    }
}

/* What walks over names, addresses or fields, and over patterns for each. */
static bool
is_costly(enum match_key key)
{
    return key == MATCH_FROM || key == MATCH_FROM_DOMAIN ||
           key == MATCH_HEADER || key == MATCH_ATTACHMENT;
}

/* The message's answers are the same for each of its recipients: a stranger's
 * thousand names are held against the patterns once, not a thousand times. */
enum truth
match_message(struct match *m, const struct condition *c)
{
    struct scratch_leaf leaf;
    bool unparseable = m->unparseable, regex_limit = m->regex_limit;

    if (!is_known(m->f, c))
        return TRUTH_UNKNOWN;
    if (!is_costly(c->key) || m->f->stage != FACTS_EOM)
        return ask(m, c);
    if (!scratch_leaf_get(m->scratch, c, m->f, m->unreadable_unknown, &leaf)) {
        m->unparseable = m->regex_limit = false;
        leaf.truth = ask(m, c);
        leaf.unparseable = m->unparseable;
        leaf.regex_limit = m->regex_limit;
        if (!m->nomem)
            scratch_leaf_put(m->scratch, c, m->f, m->unreadable_unknown, &leaf);
    }
    m->unparseable = unparseable || leaf.unparseable;
    m->regex_limit = regex_limit || leaf.regex_limit;
    return (enum truth)leaf.truth;
}
