/* policy/ticket_account.c - account labels: which mailbox a tag names.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   x               nobody: the agent refuses the recipient
 *   a<13>           a named account: its id, 64 bits
 *   t<4>-<escaped>  a template filled in: 20 bits of the template's own id
 *                   ("*@example.com" and its smarthost), the local part
 *
 * A label is letters, digits and hyphens, does not end in a hyphen and means
 * the same in either case (RFC 1035 2.3.1), so a local part is escaped:
 * "-h" hyphen, "-d" dot, "-u" underscore, "-a" apostrophe, "-p" plus, "-xHH"
 * any other octet.
 */
#include "policy/ticket.h"

#include <stdio.h>
#include <string.h>

#include "policy/base32.h"
#include "policy/ticket_private.h"

enum {
    ID_OCTETS = 8,
    HASH_CHARS = 4,                   /* of a template */
    ESCAPE_CHARS = 4,                 /* the longest: "-xHH" */
    LOCAL_CHARS = 1 + HASH_CHARS + 1, /* before the local part */
};

static const struct {
    char plain, letter;
} escapes[] = {{'-', 'h'}, {'.', 'd'}, {'_', 'u'}, {'\'', 'a'}, {'+', 'p'}};

enum { N_ESCAPES = sizeof(escapes) / sizeof(escapes[0]) };

static const char hex[] = "0123456789abcdef";

static bool
is_literal(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Writes 1 to ESCAPE_CHARS characters for c; returns how many. */
static size_t
escape(char c, char *ret)
{
    unsigned char octet = (unsigned char)c;

    if (is_literal(c)) {
        ret[0] = c;
        return 1;
    }
    ret[0] = '-';
    for (size_t i = 0; i < N_ESCAPES; i++)
        if (escapes[i].plain == c) {
            ret[1] = escapes[i].letter;
            return 2;
        }
    ret[1] = 'x';
    ret[2] = hex[octet >> 4];
    ret[3] = hex[octet & 15];
    return ESCAPE_CHARS;
}

static int
hex_value(char c)
{
    const char *at = memchr(hex, slice_lower(c), sizeof(hex) - 1);

    return at != NULL ? (int)(at - hex) : -1;
}

/* Takes one octet of the local part off *s.  One spelling only: what escape()
 * would not write is not read, nor is a NUL or an upper-case letter. */
static bool
unescape(struct slice *s, char *ret)
{
    char again[ESCAPE_CHARS], c = slice_lower(s->at[0]);
    size_t n = 1;

    if (c == '-') {
        char letter = s->len > 1 ? slice_lower(s->at[1]) : '\0';

        n = 2;
        for (size_t i = 0; i < N_ESCAPES; i++)
            if (escapes[i].letter == letter)
                c = escapes[i].plain;
        if (letter == 'x' && s->len >= ESCAPE_CHARS) {
            int high = hex_value(s->at[2]), low = hex_value(s->at[3]);

            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            n = ESCAPE_CHARS;
        } else if (c == '-' && letter != 'h') {
            return false;
        }
    }
    if (c == '\0' || (c >= 'A' && c <= 'Z') || escape(c, again) != n)
        return false;
    *ret = c;
    *s = slice_from(*s, n);
    return true;
}

/* ---- labels ---- */

static void
octets_of(uint64_t id, uint8_t ret[ID_OCTETS])
{
    for (int i = 0; i < ID_OCTETS; i++)
        ret[i] = (uint8_t)(id >> (8 * (ID_OCTETS - 1 - i)));
}

static uint64_t
account_id(const struct account *a)
{
    char identity[IDENTITY_MAX + 1];

    return mailbox_identity(a->address, a->smarthost->name, identity);
}

/* The first HASH_CHARS characters of an id. */
static void
hash_of(uint64_t id, char ret[HASH_CHARS + 1])
{
    uint8_t octets[ID_OCTETS];
    char all[BASE32_CHARS(ID_OCTETS) + 1];

    octets_of(id, octets);
    base32_write(octets, ID_OCTETS, all);
    memcpy(ret, all, HASH_CHARS);
    ret[HASH_CHARS] = '\0';
}

static struct slice
local_of(const char *address)
{
    const char *at = strrchr(address, '@');

    return (struct slice){address, at != NULL ? (size_t)(at - address) : 0};
}

static enum ticket_result
template_label(const struct mailbox *m, char ret[LABEL_MAX + 1])
{
    struct slice local = local_of(m->address);
    uint64_t id = account_id(m->account);
    char label[LABEL_MAX + 1] = "t";
    size_t n = LOCAL_CHARS;

    if (local.len == 0)
        return TICKET_EMALFORMED;
    if (id == 0)
        return TICKET_ENOMEM;
    hash_of(id, label + 1);
    label[n - 1] = '-';
    for (size_t i = 0; i < local.len; i++) {
        char escaped[ESCAPE_CHARS];
        size_t len = escape(slice_lower(local.at[i]), escaped);

        if (len > LABEL_MAX - n)
            return TICKET_ELONG;
        memcpy(label + n, escaped, len);
        n += len;
    }
    label[n] = '\0';
    memcpy(ret, label, n + 1);
    return TICKET_OK;
}

enum ticket_result
ticket_account_label(const struct mailbox *m, char ret[LABEL_MAX + 1])
{
    uint8_t octets[ID_OCTETS];

    if (m == NULL) {
        memcpy(ret, "x", 2);
        return TICKET_OK;
    }
    if (m->account->is_template)
        return template_label(m, ret);
    if (m->id == 0) /* mailbox_identity() had no memory */
        return TICKET_ENOMEM;
    octets_of(m->id, octets);
    ret[0] = 'a';
    base32_write(octets, ID_OCTETS, ret + 1);
    return TICKET_OK;
}

/* The local part of a template's label, NUL-terminated. */
static bool
read_local(struct slice label, char ret[MAILBOX_MAX + 1])
{
    struct slice rest = slice_from(label, LOCAL_CHARS);
    size_t n = 0;

    while (rest.len > 0 && n < MAILBOX_MAX)
        if (!unescape(&rest, &ret[n++]))
            return false;
    ret[n] = '\0';
    return n > 0 && rest.len == 0;
}

static char
kind_of(struct slice label)
{
    return label.len > 0 ? slice_lower(label.at[0]) : '\0';
}

bool
ticket_label_is_good(struct slice label)
{
    char local[MAILBOX_MAX + 1];
    uint8_t octets[ID_OCTETS];
    struct slice rest = slice_from(label, 1);

    if (label.len > LABEL_MAX)
        return false;
    switch (kind_of(label)) {
    case 'x':
        return label.len == 1;
    case 'a':
        return base32_read(rest, octets, ID_OCTETS);
    case 't':
        return label.len > LOCAL_CHARS && label.at[LOCAL_CHARS - 1] == '-' &&
               base32_is_text((struct slice){rest.at, HASH_CHARS}) &&
               read_local(label, local);
    default:
        return false;
    }
}

/* ---- the mailbox of a label ---- */

static bool
named_mailbox(const struct policy *p, struct slice label, struct mailbox *ret)
{
    uint8_t octets[ID_OCTETS];
    uint64_t id = 0;

    if (!base32_read(slice_from(label, 1), octets, ID_OCTETS))
        return false;
    for (int i = 0; i < ID_OCTETS; i++)
        id = id << 8 | octets[i];
    return policy_mailbox_by_id(p, id, ret);
}

/* The template of a label; NULL when there is none, or when 20 bits do not
 * tell two apart: sending as a stranger would be worse than waiting. */
static const struct account *
template_of(const struct policy *p, struct slice label)
{
    struct slice hash = {label.at + 1, HASH_CHARS};
    const struct account *found = NULL;

    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];
        char its[HASH_CHARS + 1];

        if (!a->is_template)
            continue;
        hash_of(account_id(a), its);
        if (!slice_eq_nocase(hash, slice_of(its)))
            continue;
        if (found != NULL)
            return NULL;
        found = a;
    }
    return found;
}

static bool
template_mailbox(const struct policy *p, struct slice label,
                 struct mailbox *ret)
{
    const struct account *a = template_of(p, label);
    char local[MAILBOX_MAX + 1], address[MAILBOX_MAX + 1];
    char identity[IDENTITY_MAX + 1];
    int n;

    if (a == NULL || !read_local(label, local))
        return false;
    n = snprintf(address, sizeof(address), "%s@%s", local, a->domain);
    if (n < 0 || (size_t)n >= sizeof(address))
        return false;
    return mailbox_identity(address, a->smarthost->name, identity) != 0 &&
           policy_mailbox(p, identity, ret);
}

bool
ticket_mailbox(const struct policy *p, struct slice label, struct mailbox *ret)
{
    if (!ticket_label_is_good(label))
        return false;
    switch (kind_of(label)) {
    case 'a':
        return named_mailbox(p, label, ret);
    case 't':
        return template_mailbox(p, label, ret);
    default:
        return false;
    }
}

unsigned
ticket_queue(uint64_t mailbox_id)
{
    return (unsigned)(mailbox_id % TICKET_QUEUES);
}
