/* milter/deliver/rewrite.c - see rewrite.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/rewrite.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/sha.h>

#include "policy/decide.h"
#include "policy/header.h"
#include "policy/ticket.h"

enum { LINE_WANTED = 78 /* octets: RFC 5322 2.1.1 */ };

/* ---- whose From ---- */

/* Exactly one From with exactly one address, and it is the account's. */
static bool
from_is_own(const struct fields *f, const struct mailbox *m)
{
    size_t n_fields = 0, n_addresses = 0;
    bool own = true;

    for (size_t i = 0; i < f->n; i++) {
        struct header_addresses it;
        struct header_address a;

        if (!field_is(&f->at[i], "From"))
            continue;
        n_fields++;
        it = header_addresses(f->at[i].value);
        while (header_next_address(&it, &a)) {
            n_addresses++;
            own = own && mailbox_owns(m, (struct slice){a.text, a.len});
        }
        own = own && !it.garbage;
    }
    return own && n_fields == 1 && n_addresses == 1;
}

/* ---- addresses ---- */

static bool
is_atom(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.at[i];

        if (c <= ' ' || c == 0x7f || strchr("()<>[]:;@\\,\"", c) != NULL)
            return false;
    }
    return s.len > 0 && s.at[0] != '.' && s.at[s.len - 1] != '.';
}

static void
add_quoted(struct buf *to, struct slice s)
{
    buf_add(to, "\"", 1);
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '"' || s.at[i] == '\\')
            buf_add(to, "\\", 1);
        buf_add(to, &s.at[i], 1);
    }
    buf_add(to, "\"", 1);
}

/* local@domain with quotes around a local part that needs them. */
static void
add_address(struct buf *to, struct slice address)
{
    const char *sign = memrchr(address.at, '@', address.len);
    size_t n = sign != NULL ? (size_t)(sign - address.at) : address.len;
    struct slice local = {address.at, n};

    if (is_atom(local))
        buf_add(to, local.at, local.len);
    else
        add_quoted(to, local);
    buf_add(to, address.at + n, address.len - n);
}

/* A display name that came from something not quite an address, without what
 * could end it early. */
static void
add_tame_phrase(struct buf *to, struct slice phrase)
{
    buf_add(to, "\"", 1);
    for (size_t i = 0; i < phrase.len; i++) {
        char c = phrase.at[i];

        if (c != '"' && c != '\\' && c != '\r' && c != '\n')
            buf_add(to, &c, 1);
    }
    buf_add(to, "\"", 1);
}

/* ---- the new fields ---- */

/* From: old display name, the account's address. */
static void
add_from(struct buf *to, const struct field *old, const struct mailbox *m)
{
    struct header_addresses it;
    struct header_address a = {.len = 0};
    struct slice own = slice_of(m->address);
    size_t line = to->len;

    if (old != NULL) {
        it = header_addresses(old->value);
        if (!header_next_address(&it, &a))
            a.phrase = (struct slice){NULL, 0};
    }
    if (a.phrase.len == 0) {
        buf_add_text(to, "From: ");
        buf_add_text(to, m->address);
        buf_add_text(to, "\r\n");
        return;
    }
    buf_add_text(to, "From: ");
    if (it.garbage)
        add_tame_phrase(to, a.phrase);
    else
        buf_add(to, a.phrase.at, a.phrase.len); /* folds and all */
    buf_add_text(to,
                 to->len - line + own.len + 3 > LINE_WANTED ? "\r\n <" : " <");
    buf_add_text(to, m->address);
    buf_add_text(to, ">\r\n");
}

/* Reply-To: all old addresses.  Nothing when there are none. */
static void
add_reply_to(struct buf *to, const struct fields *f)
{
    struct header_address a;
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++) {
        struct header_addresses it;

        if (!field_is(&f->at[i], "From"))
            continue;
        it = header_addresses(f->at[i].value);
        while (header_next_address(&it, &a)) {
            buf_add_text(to, n++ == 0 ? "Reply-To: " : ",\r\n ");
            add_address(to, (struct slice){a.text, a.len});
        }
    }
    if (n > 0)
        buf_add_text(to, "\r\n");
}

/* A domain that can stand in a Message-ID; empty = none. */
static struct slice
plain_domain(const char *sender)
{
    const char *sign = strrchr(sender, '@');
    struct slice d = slice_of(sign != NULL ? sign + 1 : "");

    for (size_t i = 0; i < d.len; i++) {
        char c = slice_lower(d.at[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
              (c == '.' && i > 0 && d.at[i - 1] != '.' && i + 1 < d.len)))
            return (struct slice){NULL, 0};
    }
    return d;
}

static void
add_message_id(struct buf *to, const struct copy_options *o)
{
    struct slice domain = plain_domain(o->sender);
    uint8_t hash[SHA256_DIGEST_LENGTH];

    if (domain.len == 0)
        domain = slice_of(o->hostname);
    SHA256((const unsigned char *)o->sender, strlen(o->sender), hash);
    buf_printf(to, "Message-ID: <%016" PRIx64 ".", o->ticket);
    for (size_t i = 0; i < 8; i++)
        buf_printf(to, "%02x", hash[i]);
    buf_printf(to, "@%.*s>\r\n", SLICE_FMT(domain));
}

/* RFC 5322 3.3, in UTC: never in the words of some locale. */
static void
add_date(struct buf *to, int64_t now_s)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)now_s;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL)
        return;
    buf_printf(to, "Date: %.3s, %d %.3s %04d %02d:%02d:%02d +0000\r\n",
               days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
               tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* ---- what goes ---- */

/* The next part of s up to `end`, trimmed. */
static struct slice
next_part(struct slice *s, char end)
{
    const char *at = memchr(s->at, end, s->len);
    size_t n = at != NULL ? (size_t)(at - s->at) : s->len;
    struct slice part = {s->at, n};

    *s = slice_from(*s, n + 1);
    return slice_trim(part);
}

/* RFC 6376 3.5: "h=" lists the fields signed, with colons between. */
static bool
signs_from(struct slice signature)
{
    while (signature.len > 0) {
        struct slice tag = next_part(&signature, ';');
        struct slice name;

        if (memchr(tag.at, '=', tag.len) == NULL)
            continue;
        name = next_part(&tag, '=');
        if (!slice_eq_nocase(name, SLICE_LIT("h")))
            continue;
        while (tag.len > 0)
            if (slice_eq_nocase(next_part(&tag, ':'), SLICE_LIT("from")))
                return true;
    }
    return false;
}

static bool
is_dropped(const struct field *f, bool rewriting)
{
    if (field_is(f, "Bcc") || field_is(f, "Resent-Bcc"))
        return true;
    if (slice_trim(f->value).len == 0 &&
        (field_is(f, "Message-ID") || field_is(f, "Date")))
        return true; /* as good as missing: a real one is added */
    return rewriting && field_is(f, "DKIM-Signature") && signs_from(f->value);
}

static void
add_without_tags(struct buf *to, struct slice s, const char *tag_domain)
{
    while (s.len > 0) {
        size_t n = 0;

        while (n < s.len && strchr(" \t\r\n<>;()", s.at[n]) == NULL)
            n++;
        buf_add(to, s.at, n - ticket_tail((struct slice){s.at, n}, tag_domain));
        if (n < s.len)
            buf_add(to, s.at + n, 1);
        s = slice_from(s, n + 1);
    }
}

bool
rewrite_header(const struct fields *f, const struct copy_options *o,
               struct buf *to)
{
    bool rewriting = o->from == FROM_REWRITE && !from_is_own(f, o->mailbox);
    bool has_from = false;

    for (size_t i = 0; i < f->n; i++) {
        const struct field *x = &f->at[i];

        if (is_dropped(x, rewriting))
            continue;
        if (o->tag_domain != NULL && field_is(x, "Received")) {
            add_without_tags(to, x->whole, o->tag_domain);
            continue;
        }
        if (!rewriting || !field_is(x, "From")) {
            buf_add(to, x->whole.at, x->whole.len);
            continue;
        }
        if (!has_from)
            add_from(to, x, o->mailbox);
        has_from = true;
        buf_add_text(to, "X-Original-From:");
        buf_add(to, x->value.at, x->value.len);
        buf_add_text(to, "\r\n");
    }
    if (rewriting && !has_from)
        add_from(to, NULL, o->mailbox);
    if (rewriting && fields_find(f, "Reply-To") == NULL)
        add_reply_to(to, f);
    if (fields_find(f, "Message-ID") == NULL)
        add_message_id(to, o);
    if (fields_find(f, "Date") == NULL)
        add_date(to, o->now_s);
    return !buf_failed(to);
}
