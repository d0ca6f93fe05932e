/* milter/token/refresher_private.h - what refresher.c (who and when) and
 * refresher_answer.c (what an answer changes) share.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All of it is guarded by refresher.lock, but for an entry's `unsaved`, which
 * belongs to the worker that has the entry.
 */
#ifndef TOKEN_REFRESHER_PRIVATE_H
#define TOKEN_REFRESHER_PRIVATE_H

#include <pthread.h>

#include "milter/oauth/grant.h"
#include "milter/token/last_used.h"
#include "milter/token/refresher.h"
#include "milter/token/refresher_queue.h"

enum { REFRESHER_TABLE = 16384 };

/* An OAuth client, or a service account's key: what one refusal speaks for. */
struct client {
    struct client *next;
    char *key;    /* "client NAME" or "key PATH" */
    bool refused; /* nobody of it is asked for, but one probe at a time */
    bool probing;
    bool hangs;             /* its endpoint lets us wait and says nothing */
    unsigned asking;        /* requests under way */
    uint64_t due_ms;        /* refused: of the next probe, boot clock */
    uint64_t stamp;         /* of its file when it was refused */
    int64_t skew_s;         /* its endpoint's clock less ours, as last seen */
    enum oauth2_class told; /* what an alert said of it; OK = nothing bad */
};

enum job {
    JOB_NONE,
    JOB_ASK,
    JOB_PROBE, /* the same, on behalf of a refused client */
    JOB_SAVE,
};

/* One account's token. */
struct entry {
    struct queued queued; /* the first: a pointer to it is one to this */
    struct entry *next;   /* in the table */
    struct client *client;
    enum job job; /* a worker has it, or it is queued */
    bool gone;    /* dropped meanwhile */
    bool is_template;
    bool has_refresh; /* a refresh token, which dies when it is not used */
    int64_t used_s;   /* of that: Unix time, as far as is known; 0 = is not */
    struct token_status status;
    uint64_t due_ms;  /* boot clock */
    uint64_t save_ms; /* next try to store `unsaved` */
    uint64_t wanted_ms, fetched_ms;
    uint64_t stamp;          /* of the account's own secret at the last try */
    enum oauth2_class class; /* of the last answer, and how often in a row */
    unsigned failures;
    bool off_beat;                /* the last answer did not come by schedule */
    struct refresh_token unsaved; /* rotated, and not on disk yet */
};

struct refresher {
    struct refresher_options o;
    pthread_mutex_t lock;
    pthread_cond_t work;
    atomic_bool stopping;
    uint64_t started_ms, thin_ms;
    struct last_used last_used; /* as on disk */
    bool uses_changed;          /* since then */
    bool uses_busy;             /* a worker writes them */
    uint64_t uses_ms;           /* not before */
    struct entry *table[REFRESHER_TABLE];
    struct client *clients;
    struct queue queue; /* for the workers */
    unsigned hanging;   /* requests under way to endpoints that hang */
    unsigned n_workers;
    pthread_t *worker;
};

uint32_t refresher_random(void);
void refresher_entry_free(struct entry *e);

/* When the book is nearly full: leaves out the mailboxes of templates that were
 * wanted least recently (refresher_thin.c).  The lock is held. */
void refresher_thin(struct refresher *r, uint64_t now_ms);

/* When each refresh token was last used, from and to disk (refresher_uses.c).
 * The lock is held, and given back while it is written. */
void refresher_uses_load(struct refresher *r);
bool refresher_uses_due(const struct refresher *r, uint64_t now_ms);
void refresher_uses_save(struct refresher *r);

/* Takes in the answer for e; its stamps are those of now. */
void refresher_apply(struct refresher *r, struct entry *e,
                     const struct oauth2_answer *a, uint64_t client_stamp);

#endif
