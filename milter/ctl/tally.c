/* milter/ctl/tally.c - see tally.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/tally.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 64 };

struct node {
    struct tally_row row;
    struct node *next;
    uint64_t hash;
    char text[]; /* name, NUL, detail, NUL */
};

struct tally {
    size_t n, n_buckets; /* a power of two */
    struct node **bucket;
    struct tally_row *sorted; /* of tally_rows */
    uint64_t others;
};

struct tally *
tally_new(void)
{
    struct tally *t = calloc(1, sizeof *t);

    if (t == NULL)
        return NULL;
    t->n_buckets = BUCKETS_FIRST;
    t->bucket = calloc(t->n_buckets, sizeof(struct node *));
    if (t->bucket != NULL)
        return t;
    free(t);
    return NULL;
}

void
tally_free(struct tally *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->n_buckets; i++)
        while (t->bucket[i] != NULL) {
            struct node *next = t->bucket[i]->next;

            free(t->bucket[i]);
            t->bucket[i] = next;
        }
    free(t->bucket);
    free(t->sorted);
    free(t);
}

/* FNV-1a (its 64-bit constants), over both parts with their NULs. */
static uint64_t
hash_of(const char *name, const char *detail)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (const char *c = name; *c != '\0'; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    h = (h ^ 0) * 0x100000001b3u;
    for (const char *c = detail; *c != '\0'; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    return h ^ h >> 29;
}

/* Twice the buckets; when there is no memory for them, chains get longer. */
static void
grow(struct tally *t)
{
    size_t n = t->n_buckets * 2;
    struct node **more = calloc(n, sizeof(struct node *));

    if (more == NULL)
        return;
    for (size_t i = 0; i < t->n_buckets; i++)
        while (t->bucket[i] != NULL) {
            struct node *x = t->bucket[i];

            t->bucket[i] = x->next;
            x->next = more[x->hash & (n - 1)];
            more[x->hash & (n - 1)] = x;
        }
    free(t->bucket);
    t->bucket = more;
    t->n_buckets = n;
}

bool
tally_add(struct tally *t, const char *name, const char *detail, uint64_t n)
{
    uint64_t hash;
    size_t name_len = strlen(name) + 1, detail_len;
    struct node *x;

    if (detail == NULL)
        detail = "";
    detail_len = strlen(detail) + 1;
    hash = hash_of(name, detail);
    for (x = t->bucket[hash & (t->n_buckets - 1)]; x != NULL; x = x->next)
        if (x->hash == hash && strcmp(x->row.name, name) == 0 &&
            strcmp(x->row.detail, detail) == 0) {
            x->row.n += n;
            return true;
        }
    if (t->n == TALLY_MAX) {
        t->others += n;
        return true;
    }
    x = malloc(sizeof *x + name_len + detail_len);
    if (x == NULL)
        return false;
    if (t->n >= t->n_buckets)
        grow(t);
    memcpy(x->text, name, name_len);
    memcpy(x->text + name_len, detail, detail_len);
    x->row = (struct tally_row){x->text, x->text + name_len, n};
    x->hash = hash;
    x->next = t->bucket[hash & (t->n_buckets - 1)];
    t->bucket[hash & (t->n_buckets - 1)] = x;
    t->n++;
    return true;
}

static int
by_count(const void *a, const void *b)
{
    const struct tally_row *x = a, *y = b;
    int order;

    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    order = strcmp(x->name, y->name);
    return order != 0 ? order : strcmp(x->detail, y->detail);
}

const struct tally_row *
tally_rows(struct tally *t, size_t *ret_n)
{
    size_t n = 0;

    free(t->sorted);
    t->sorted = calloc(t->n + 1, sizeof *t->sorted);
    if (t->sorted == NULL) {
        *ret_n = 0;
        return NULL;
    }
    for (size_t i = 0; i < t->n_buckets; i++)
        for (const struct node *x = t->bucket[i]; x != NULL; x = x->next)
            t->sorted[n++] = x->row;
    qsort(t->sorted, n, sizeof *t->sorted, by_count);
    *ret_n = n;
    return t->sorted;
}

uint64_t
tally_others(const struct tally *t)
{
    return t->others;
}
