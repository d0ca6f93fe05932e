/* policy/scratch.c - see scratch.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "policy/scratch.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>

#include "policy/header.h"
#include "policy/idn.h"

enum {
    IDENTITIES_KEPT = 4,
    REGEX_KEPT = 256,                /* answers; a power of two */
    LEAVES_KEPT = 512,               /* the same */
    REGEX_STEPS = 100 * 1000 * 1000, /* for one search, about */
    REGEX_STEPS_MIN = 1000,          /* at each place of the value */
    REGEX_STEPS_MAX = 500 * 1000,    /* the same, for short values */
    REGEX_HEAP_KIB = 4096,
    REGEX_STACK_MIN = 32 * 1024, /* of the machine code, octets */
    REGEX_STACK_MAX = 256 * 1024,
};

struct header_slot {
    bool done;
    struct scratch_text value; /* its text is malloc'ed */
};

struct regex_slot {
    uint64_t message; /* scratch.message at that time */
    const void *code;
    struct slice value;
    enum regex_answer answer;
};

struct leaf_slot {
    uint64_t message; /* scratch.message at that time */
    const void *condition;
    const struct slice *attachment;
    size_t n_attachments;
    bool attachments_cut, strict;
    struct scratch_leaf leaf;
};

struct identity_slot {
    uint64_t message; /* scratch.message at that time */
    const char *smarthost;
    uint64_t id;
    char address[MAILBOX_MAX + 1];
    char identity[IDENTITY_MAX + 1];
};

struct scratch {
    uint64_t message; /* counts resets: what is older is forgotten */
    const struct facts_pair *header; /* the facts' own */
    size_t n_headers;
    struct header_slot *slot; /* n_headers of them; NULL = none decoded yet */
    size_t text_used;         /* octets */

    bool from_done;
    struct scratch_from from;
    char *from_text;

    pcre2_match_context *context;
    pcre2_match_data *match;
    pcre2_jit_stack *stack;
    struct regex_slot regex[REGEX_KEPT];
    struct leaf_slot leaf[LEAVES_KEPT];

    struct rule_message_hits hits;

    unsigned next_identity;
    struct identity_slot identity[IDENTITIES_KEPT];
};

struct scratch *
scratch_new(void)
{
    struct scratch *s = calloc(1, sizeof *s);

    if (s != NULL)
        s->message = 1; /* empty slots have 0 */
    return s;
}

void
scratch_reset(struct scratch *s)
{
    if (s->slot != NULL)
        for (size_t i = 0; i < s->n_headers; i++)
            free((char *)s->slot[i].value.text.at);
    free(s->slot);
    free(s->from.address);
    free(s->from_text);
    s->slot = NULL;
    s->from_text = NULL;
    s->from = (struct scratch_from){0};
    s->from_done = false;
    s->header = NULL;
    s->n_headers = 0;
    s->text_used = 0;
    s->hits.index = NULL;
    s->message++;
}

void
scratch_free(struct scratch *s)
{
    if (s == NULL)
        return;
    scratch_reset(s);
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

void
scratch_bind(struct scratch *s, const struct facts *f)
{
    if (s->header == f->header && s->n_headers == f->n_headers)
        return;
    scratch_reset(s);
    s->header = f->header;
    s->n_headers = f->n_headers;
}

/* ---- headers ---- */

bool
scratch_header(struct scratch *s, size_t i, struct scratch_text *ret)
{
    struct slice raw = s->header[i].value;
    size_t room = SCRATCH_TEXT_MAX - s->text_used, len;
    struct header_slot *slot;
    char *text, *shrunk;

    if (s->slot == NULL) {
        s->slot = calloc(s->n_headers, sizeof *s->slot);
        if (s->slot == NULL)
            return false;
    }
    slot = &s->slot[i];
    if (!slot->done) {
        if (raw.len < room / 3)
            room = HEADER_DECODED_MAX(raw.len);
        text = malloc(room + 1);
        if (text == NULL)
            return false;
        len = header_decode(raw, text, room, &slot->value.cut);
        shrunk = realloc(text, len + 1);
        slot->value.text = (struct slice){shrunk != NULL ? shrunk : text, len};
        slot->done = true;
        s->text_used += len;
    }
    *ret = slot->value;
    return true;
}

static bool
from_add(struct scratch_from *from, size_t *max, struct slice address)
{
    if (from->n == *max) {
        size_t more = *max > 0 ? 2 * *max : 4;
        struct slice *grown =
            realloc(from->address, more * sizeof *from->address);

        if (grown == NULL)
            return false;
        from->address = grown;
        *max = more;
    }
    from->address[from->n++] = address;
    return true;
}

static bool
is_from(const struct facts_pair *header)
{
    /* "From : x" is one to many who read it. */
    return slice_eq_nocase(slice_trim(header->name), SLICE_LIT("From"));
}

/* Room for the addresses of all From fields: none is longer than its source,
 * but that A-labels may be (one letter of two octets gives seven). */
static size_t
from_octets(const struct scratch *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->n_headers; i++)
        if (is_from(&s->header[i]))
            n += s->header[i].value.len *
                 (idn_is_ascii(s->header[i].value) ? 1 : 4);
    return n < SCRATCH_TEXT_MAX ? n : SCRATCH_TEXT_MAX;
}

/* Adds the addresses of one field; false = out of memory. */
static bool
from_parse(struct scratch *s, struct slice raw, size_t *max, size_t *used,
           size_t size)
{
    struct header_addresses it = header_addresses(raw);
    struct header_address a;
    size_t before = s->from.n;

    while (header_next_address(&it, &a)) {
        char *to = s->from_text + *used;

        if (idn_address((struct slice){a.text, a.len}, a.text, sizeof a.text,
                        &a.len) == IDN_ENOMEM)
            return false;
        if (a.len > size - *used || s->from.n == SCRATCH_FROM_MAX) {
            s->from.garbage = true;
            return true;
        }
        memcpy(to, a.text, a.len);
        *used += a.len;
        if (!from_add(&s->from, max, (struct slice){to, a.len}))
            return false;
    }
    /* A From without any address is no better than a broken one. */
    s->from.garbage |= it.garbage || s->from.n == before;
    return true;
}

const struct scratch_from *
scratch_from(struct scratch *s)
{
    size_t size, used = 0, max = 0;

    if (s->from_done)
        return &s->from;
    size = from_octets(s);
    s->from_text = malloc(size + 1);
    if (s->from_text == NULL)
        return NULL;
    for (size_t i = 0; i < s->n_headers; i++)
        if (is_from(&s->header[i]) &&
            !from_parse(s, s->header[i].value, &max, &used, size)) {
            free(s->from.address);
            free(s->from_text);
            s->from = (struct scratch_from){0};
            s->from_text = NULL;
            return NULL;
        }
    s->from_done = true;
    return &s->from;
}

struct rule_message_hits *
scratch_rule_hits(struct scratch *s)
{
    return &s->hits;
}

/* ---- identities ---- */

uint64_t
scratch_identity(struct scratch *s, const char *address, const char *smarthost,
                 char ret[IDENTITY_MAX + 1])
{
    struct identity_slot *slot;
    uint64_t id;

    for (unsigned i = 0; s != NULL && i < IDENTITIES_KEPT; i++) {
        slot = &s->identity[i];
        if (slot->message == s->message && slot->smarthost == smarthost &&
            strcmp(slot->address, address) == 0) {
            memcpy(ret, slot->identity, strlen(slot->identity) + 1);
            return slot->id;
        }
    }
    id = mailbox_identity(address, smarthost, ret);
    if (s == NULL || id == 0 || strlen(address) > MAILBOX_MAX)
        return id;
    slot = &s->identity[s->next_identity++ % IDENTITIES_KEPT];
    slot->message = s->message;
    slot->smarthost = smarthost;
    slot->id = id;
    memcpy(slot->address, address, strlen(address) + 1);
    memcpy(slot->identity, ret, strlen(ret) + 1);
    return id;
}

/* ---- expressions ---- */

static bool
regex_ready(struct scratch *s)
{
    if (s->match == NULL)
        s->match = pcre2_match_data_create(1, NULL);
    if (s->context == NULL) {
        s->context = pcre2_match_context_create(NULL);
        if (s->context != NULL)
            pcre2_set_heap_limit(s->context, REGEX_HEAP_KIB);
    }
    if (s->stack == NULL && s->context != NULL) {
        s->stack =
            pcre2_jit_stack_create(REGEX_STACK_MIN, REGEX_STACK_MAX, NULL);
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    }
    return s->match != NULL && s->context != NULL && s->stack != NULL;
}

/* PCRE2's limit holds for each place a match may begin at, so a long value
 * gets less of it. */
static uint32_t
regex_steps(size_t len)
{
    size_t steps = REGEX_STEPS / (len + 1);

    if (steps < REGEX_STEPS_MIN)
        return REGEX_STEPS_MIN;
    return steps > REGEX_STEPS_MAX ? REGEX_STEPS_MAX : (uint32_t)steps;
}

static enum regex_answer
regex_run(struct scratch *s, const void *code, struct slice value)
{
    bool cut = value.len > SCRATCH_REGEX_MAX;
    int rc;

    if (!regex_ready(s))
        return REGEX_ENOMEM;
    if (cut) {
        value.len = SCRATCH_REGEX_MAX;
        while (((unsigned char)value.at[value.len] & 0xC0) == 0x80 &&
               value.len > SCRATCH_REGEX_MAX - 4)
            value.len--; /* not in the middle of a character */
    }
    pcre2_set_match_limit(s->context, regex_steps(value.len));
    rc =
        pcre2_match(code, (PCRE2_SPTR)(value.len > 0 ? value.at : ""),
                    value.len, 0, cut ? PCRE2_NOTEOL : 0, s->match, s->context);
    if (rc >= 0)
        return REGEX_YES;
    if (rc == PCRE2_ERROR_NOMATCH)
        return cut ? REGEX_LIMIT : REGEX_NO;
    return rc == PCRE2_ERROR_NOMEMORY ? REGEX_ENOMEM : REGEX_LIMIT;
}

enum regex_answer
scratch_regex(struct scratch *s, const void *code, struct slice value,
              bool keep)
{
    uintptr_t hash = (uintptr_t)code / 16 * 31 + (uintptr_t)value.at / 8;
    struct regex_slot *slot = &s->regex[(hash ^ hash >> 8) % REGEX_KEPT];

    if (!keep)
        return regex_run(s, code, value);
    if (slot->message == s->message && slot->code == code &&
        slot->value.at == value.at && slot->value.len == value.len)
        return slot->answer;
    *slot =
        (struct regex_slot){s->message, code, value, regex_run(s, code, value)};
    if (slot->answer == REGEX_ENOMEM)
        slot->message = 0;
    return slot->answer;
}

/* ---- conditions on the message ---- */

static size_t
leaf_place(const void *condition)
{
    uintptr_t hash = (uintptr_t)condition / 8;

    return (hash ^ hash >> 9) % LEAVES_KEPT;
}

/* The header is the one that the scratch is bound to. */
static bool
is_leaf_of(const struct leaf_slot *slot, uint64_t message,
           const void *condition, const struct facts *f, bool strict)
{
    return slot->message == message && slot->condition == condition &&
           slot->attachment == f->attachment &&
           slot->n_attachments == f->n_attachments &&
           slot->attachments_cut == f->attachments_cut &&
           slot->strict == strict;
}

bool
scratch_leaf_get(const struct scratch *s, const void *condition,
                 const struct facts *f, bool strict, struct scratch_leaf *ret)
{
    const struct leaf_slot *slot = &s->leaf[leaf_place(condition)];

    if (!is_leaf_of(slot, s->message, condition, f, strict))
        return false;
    *ret = slot->leaf;
    return true;
}

void
scratch_leaf_put(struct scratch *s, const void *condition,
                 const struct facts *f, bool strict,
                 const struct scratch_leaf *leaf)
{
    s->leaf[leaf_place(condition)] = (struct leaf_slot){
        .message = s->message,
        .condition = condition,
        .attachment = f->attachment,
        .n_attachments = f->n_attachments,
        .attachments_cut = f->attachments_cut,
        .strict = strict,
        .leaf = *leaf,
    };
}
