/* milter/ctl/open_messages.c - see open_messages.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/open_messages.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1 << 18 };

struct open_messages {
    struct open_message *bucket[BUCKETS];
    struct open_message *oldest, *newest;
    size_t n, octets;
};

struct open_messages *
open_messages_new(void)
{
    return calloc(1, sizeof(struct open_messages));
}

void
open_messages_free(struct open_messages *o)
{
    if (o == NULL)
        return;
    while (o->oldest != NULL)
        open_messages_remove(o, o->oldest);
    free(o);
}

/* FNV-1a, 32 bits; without case when asked. */
static uint32_t
hash_of(struct slice s, bool fold)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)(fold ? slice_lower(s.at[i]) : s.at[i])) *
            16777619u;
    return h ^ h >> 15;
}

struct open_message *
open_messages_find(struct open_messages *o, struct slice id)
{
    struct open_message *m = o->bucket[hash_of(id, false) % BUCKETS];

    while (m != NULL && !slice_eq(slice_of(m->id), id))
        m = m->next;
    return m;
}

struct open_message *
open_messages_add(struct open_messages *o, struct slice id, int64_t at_s)
{
    struct open_message **at = &o->bucket[hash_of(id, false) % BUCKETS];
    struct open_message *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    memcpy(m->id, id.at, id.len);
    m->at_s = at_s;
    m->octets = sizeof *m;
    m->next = *at;
    *at = m;
    m->older = o->newest;
    *(o->newest != NULL ? &o->newest->newer : &o->oldest) = m;
    o->newest = m;
    o->n++;
    o->octets += m->octets;
    return m;
}

void
open_messages_remove(struct open_messages *o, struct open_message *m)
{
    struct open_message **at =
        &o->bucket[hash_of(slice_of(m->id), false) % BUCKETS];

    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    *(m->older != NULL ? &m->older->newer : &o->oldest) = m->newer;
    *(m->newer != NULL ? &m->newer->older : &o->newest) = m->older;
    o->n--;
    o->octets -= m->octets;
    while (m->first != NULL) {
        struct open_recipient *next = m->first->next;

        free(m->first);
        m->first = next;
    }
    free(m->client_name);
    free(m->auth);
    free(m->sender);
    free(m->message_id);
    free(m);
}

struct open_message *
open_messages_oldest(struct open_messages *o)
{
    return o->oldest;
}

size_t
open_messages_count(const struct open_messages *o)
{
    return o->n;
}

size_t
open_messages_octets(const struct open_messages *o)
{
    return o->octets;
}

static void
copy_clean(char *to, struct slice from)
{
    for (size_t i = 0; i < from.len; i++) {
        unsigned char c = (unsigned char)from.at[i];

        to[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    to[from.len] = '\0';
}

bool
open_message_text(struct open_messages *o, struct open_message *m, char **field,
                  struct slice text)
{
    char *copy = malloc(text.len + 1);

    if (copy == NULL)
        return false;
    copy_clean(copy, text);
    if (*field != NULL) {
        m->octets -= strlen(*field);
        o->octets -= strlen(*field);
        free(*field);
    }
    *field = copy;
    m->octets += text.len;
    o->octets += text.len;
    return true;
}

bool
open_message_recipient(struct open_messages *o, struct open_message *m,
                       struct slice address, const char *went)
{
    uint32_t hash = hash_of(address, true);
    struct open_recipient *r;

    for (r = m->first; r != NULL; r = r->next)
        if (r->hash == hash && slice_eq_nocase(slice_of(r->address), address))
            return true;
    if (m->n == OPEN_RECIPIENTS_MAX)
        return false;
    r = calloc(1, sizeof *r + address.len + 1);
    if (r == NULL)
        return false;
    copy_clean(r->address, address);
    r->hash = hash;
    r->went = went;
    *(m->last != NULL ? &m->last->next : &m->first) = r;
    m->last = r;
    m->n++;
    m->octets += sizeof *r + address.len;
    o->octets += sizeof *r + address.len;
    return true;
}
