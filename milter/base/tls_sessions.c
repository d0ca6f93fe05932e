/* milter/base/tls_sessions.c - see tls_sessions.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/base/tls_sessions.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

enum { BUCKETS = 256, WAYS = 4 };

struct entry {
    char *key; /* owned; NULL = free */
    SSL_SESSION *session;
    uint64_t stamp; /* of the put: the smallest is the oldest */
};

struct tls_sessions {
    pthread_mutex_t lock;
    uint64_t stamp;
    struct entry entry[BUCKETS][WAYS];
};

struct tls_sessions *
tls_sessions_new(void)
{
    struct tls_sessions *t = calloc(1, sizeof *t);

    if (t != NULL && pthread_mutex_init(&t->lock, NULL) != 0) {
        free(t);
        t = NULL;
    }
    return t;
}

static void
empty(struct entry *e)
{
    free(e->key);
    SSL_SESSION_free(e->session);
    *e = (struct entry){0};
}

void
tls_sessions_free(struct tls_sessions *t)
{
    if (t == NULL)
        return;
    for (unsigned b = 0; b < BUCKETS; b++)
        for (unsigned w = 0; w < WAYS; w++)
            empty(&t->entry[b][w]);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* FNV-1a: keys are ours, nobody can aim at a bucket. */
static struct entry *
bucket_of(struct tls_sessions *t, const char *key)
{
    uint32_t h = 2166136261u;

    for (const char *p = key; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    return t->entry[(h ^ h >> 16) % BUCKETS];
}

void
tls_sessions_put(struct tls_sessions *t, const char *key, SSL_SESSION *s)
{
    struct entry *bucket = bucket_of(t, key), *to = NULL;
    char *copy = strdup(key);

    if (copy == NULL) {
        SSL_SESSION_free(s);
        return;
    }
    pthread_mutex_lock(&t->lock);
    for (unsigned w = 0; w < WAYS; w++) {
        struct entry *e = &bucket[w];

        if (e->key != NULL && strcmp(e->key, key) == 0) {
            to = e;
            break;
        }
        if (to == NULL || e->stamp < to->stamp)
            to = e; /* a free one has stamp 0 */
    }
    empty(to);
    *to = (struct entry){copy, s, ++t->stamp};
    pthread_mutex_unlock(&t->lock);
}

/* With a resumed session the chain is not verified again, so its certificate
 * must still be good. */
static bool
is_usable(SSL_SESSION *s)
{
    X509 *peer = SSL_SESSION_get0_peer(s);

    return SSL_SESSION_is_resumable(s) && peer != NULL &&
           X509_cmp_current_time(X509_get0_notAfter(peer)) > 0;
}

SSL_SESSION *
tls_sessions_take(struct tls_sessions *t, const char *key)
{
    struct entry *bucket = bucket_of(t, key);
    SSL_SESSION *found = NULL;

    pthread_mutex_lock(&t->lock);
    for (unsigned w = 0; w < WAYS && found == NULL; w++) {
        struct entry *e = &bucket[w];

        if (e->key == NULL || strcmp(e->key, key) != 0)
            continue;
        if (is_usable(e->session)) {
            found = e->session;
            SSL_SESSION_up_ref(found);
        }
        if (found == NULL ||
            SSL_SESSION_get_protocol_version(found) >= TLS1_3_VERSION)
            empty(e);
        break;
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}
