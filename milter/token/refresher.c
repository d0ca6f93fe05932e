/* milter/token/refresher.c - see refresher.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/token/refresher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "milter/base/log.h"
#include "milter/token/grant.h"
#include "milter/token/secret.h"

enum {
    TABLE = 16384,
    WEEK_MS = 7 * 86400 * 1000,
    HOUR_MS = 3600 * 1000,
    BACKOFF_MAX_MS = 300 * 1000,
    /* A token refused again so soon is not cured by asking faster. */
    REFUSED_PAUSE_MS = 5000,
    /* A template's mailbox that nobody has asked for rests. */
    TEMPLATE_IDLE_MS = 86400 * 1000,
};

/* One account's token. */
struct entry {
    struct entry *next;  /* in the table */
    struct entry *ready; /* in the workers' queue */
    bool asking;         /* a worker has it, or it is queued */
    bool gone;           /* dropped while asking */
    bool is_template;
    struct token_status status;
    uint64_t due_ms; /* boot clock */
    uint64_t wanted_ms, fetched_ms;
    uint64_t stamp; /* of the secret file at the last try */
    unsigned failures;
    int64_t skew_s; /* endpoint's clock less ours */
};

struct refresher {
    struct refresher_options o;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool stopping;
    struct entry *table[TABLE];
    struct entry *ready, **ready_end;
    unsigned n_workers;
    pthread_t *worker;
};

static uint64_t
jitter(uint64_t ms, unsigned percent)
{
    uint32_t r = 0;
    uint64_t span = ms * percent / 100;

    if (getrandom(&r, sizeof r, GRND_NONBLOCK) != sizeof r || span == 0)
        return ms;
    return ms - span + r % (2 * span + 1);
}

static struct entry *
find(struct refresher *r, uint64_t id)
{
    struct entry *e = r->table[id % TABLE];

    while (e != NULL && e->status.id != id)
        e = e->next;
    return e;
}

static struct entry *
add(struct refresher *r, const struct mailbox *m, const char *identity)
{
    struct entry *e = calloc(1, sizeof *e);

    if (e == NULL)
        return NULL;
    e->status.id = m->id;
    strcpy(e->status.identity, identity);
    e->is_template = m->account->is_template;
    e->due_ms = clock_boot_ms(r->o.clock);
    e->wanted_ms = e->due_ms;
    e->next = r->table[m->id % TABLE];
    r->table[m->id % TABLE] = e;
    return e;
}

static bool
wants_tokens(const struct account *a)
{
    return a->auth == AUTH_REFRESH_TOKEN || a->auth == AUTH_SERVICE_ACCOUNT;
}

/* ---- what an answer does to the schedule ---- */

static enum token_state
state_of(enum oauth2_class c)
{
    switch (c) {
    case OAUTH2_OK:
        return TOKEN_OK;
    case OAUTH2_NEEDS_LOGIN:
        return TOKEN_NEEDS_LOGIN;
    case OAUTH2_CLIENT:
        return TOKEN_CLIENT_BROKEN;
    case OAUTH2_NO_MAILBOX:
        return TOKEN_NO_MAILBOX;
    case OAUTH2_UNAUTHORIZED:
    case OAUTH2_CONFIG:
        return TOKEN_CONFIG;
    default:
        return TOKEN_RETRYING;
    }
}

static uint64_t
pause_ms(const struct entry *e, const struct oauth2_answer *a)
{
    uint64_t life_ms, backoff_ms;

    switch (a->class) {
    case OAUTH2_OK:
        life_ms = (uint64_t)a->expires_in_s * 1000;
        return jitter(life_ms * 4 / 5 < WEEK_MS ? life_ms * 4 / 5 : WEEK_MS, 5);
    case OAUTH2_NEEDS_LOGIN:
    case OAUTH2_NO_MAILBOX:
        return jitter(6 * (uint64_t)HOUR_MS, 5);
    case OAUTH2_UNAUTHORIZED:
    case OAUTH2_CONFIG:
        return jitter(HOUR_MS, 5);
    case OAUTH2_CLIENT:
        return jitter(HOUR_MS / 6, 5);
    default:
        backoff_ms = e->failures < 10 ? 1000ull << e->failures : BACKOFF_MAX_MS;
        return jitter(backoff_ms < BACKOFF_MAX_MS ? backoff_ms : BACKOFF_MAX_MS,
                      25);
    }
}

static void
log_change(const struct entry *e, enum token_state before,
           const struct oauth2_answer *a)
{
    bool bad = e->status.state != TOKEN_OK;
    struct log_line l;

    if (e->status.state == before && !bad) {
        l = log_line(LOG_LEVEL_DEBUG);
    } else {
        l = log_line(bad ? LOG_LEVEL_WARN : LOG_LEVEL_INFO);
    }
    log_kv(&l, "account", e->status.identity);
    log_kv(&l, "token", token_state_name(e->status.state));
    if (!bad)
        log_kv_u64(&l, "life_s", (uint64_t)a->expires_in_s);
    log_kv(&l, "why", bad ? a->why : "");
    log_end(&l);
}

/* Under the lock. */
static void
apply(struct refresher *r, struct entry *e, const struct oauth2_answer *a)
{
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    int64_t wall_ms = clock_wall_ms(r->o.clock);
    struct token_status *s = &e->status;
    enum token_state before = s->state;
    enum state_result result;

    s->state = state_of(a->class);
    e->due_ms = now_ms + pause_ms(e, a);
    s->next_try_at_s = (wall_ms + (int64_t)(e->due_ms - now_ms)) / 1000;
    if (a->class == OAUTH2_OK) {
        e->failures = 0;
        e->fetched_ms = now_ms;
        s->error[0] = 0;
        s->fetched_at_s = wall_ms / 1000;
        s->expires_at_s = wall_ms / 1000 + a->expires_in_s;
        /* Counts on over restarts: the agent compares serials. */
        s->serial =
            (uint64_t)wall_ms > s->serial ? (uint64_t)wall_ms : s->serial + 1;
        result = token_book_publish(r->o.book, s, a->access_token,
                                    strlen(a->access_token));
    } else {
        e->failures++;
        memcpy(s->error, a->why, sizeof s->error);
        result = token_book_set(r->o.book, s);
    }
    if (result != STATE_OK)
        log_error("account=%s token cannot be published: %s", s->identity,
                  state_result_text(result));
    log_change(e, before, a);
}

/* ---- workers ---- */

static void
work_off(struct refresher *r, struct entry *e)
{
    struct grant_request q = {
        .clock = r->o.clock,
        .post = r->o.post,
        .skew_s = e->skew_s,
    };
    struct conf *conf = conf_ref(r->o.conf);
    struct oauth2_answer a = {.class = OAUTH2_CONFIG};
    struct mailbox m;

    pthread_mutex_unlock(&r->lock);
    if (policy_mailbox(conf->policy, e->status.identity, &m)) {
        q.policy = conf->policy;
        q.mailbox = &m;
        grant_ask(&q, &a);
    } else {
        strcpy(a.why, "the account is no longer configured");
    }
    pthread_mutex_lock(&r->lock);
    if (q.mailbox != NULL)
        e->stamp = secret_stamp(m.account->secret_file);
    e->skew_s = q.skew_s;
    if (!e->gone)
        apply(r, e, &a);
    oauth2_answer_free(&a);
    conf_unref(conf);
}

static void *
worker(void *cookie)
{
    struct refresher *r = cookie;

    pthread_mutex_lock(&r->lock);
    while (!r->stopping) {
        struct entry *e = r->ready;

        if (e == NULL) {
            pthread_cond_wait(&r->work, &r->lock);
            continue;
        }
        r->ready = e->ready;
        if (r->ready == NULL)
            r->ready_end = &r->ready;
        e->ready = NULL;
        work_off(r, e);
        e->asking = false;
        if (e->gone)
            free(e);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

struct refresher *
refresher_new(const struct refresher_options *o)
{
    struct refresher *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->o = *o;
    r->ready_end = &r->ready;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    r->worker = calloc(o->workers, sizeof *r->worker);
    while (r->worker != NULL && r->n_workers < o->workers &&
           pthread_create(&r->worker[r->n_workers], NULL, worker, r) == 0)
        r->n_workers++;
    if (r->n_workers == 0) {
        refresher_free(r);
        return NULL;
    }
    return r;
}

void
refresher_free(struct refresher *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->n_workers; i++)
        pthread_join(r->worker[i], NULL);
    for (unsigned i = 0; i < TABLE; i++)
        while (r->table[i] != NULL) {
            struct entry *e = r->table[i];

            r->table[i] = e->next;
            free(e);
        }
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    free(r->worker);
    free(r);
}

/* ---- who is on the list ---- */

void
refresher_reload(struct refresher *r)
{
    struct conf *conf = conf_ref(r->o.conf);
    const struct policy *p = conf->policy;
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    struct mailbox m;

    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < TABLE; i++)
        for (struct entry **at = &r->table[i]; *at != NULL;) {
            struct entry *e = *at;

            if (policy_mailbox(p, e->status.identity, &m) &&
                wants_tokens(m.account)) {
                if (e->status.state != TOKEN_OK)
                    e->due_ms = now_ms;
                at = &e->next;
                continue;
            }
            *at = e->next;
            e->gone = true;
            if (!e->asking)
                free(e);
        }
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];
        char identity[IDENTITY_MAX + 1];

        if (a->is_template || !wants_tokens(a))
            continue;
        mailbox_identity(a->address, a->smarthost->name, identity);
        if (policy_mailbox(p, identity, &m) && find(r, m.id) == NULL &&
            add(r, &m, identity) == NULL)
            log_error("account=%s out of memory", identity);
    }
    pthread_mutex_unlock(&r->lock);
    conf_unref(conf);
}

void
refresher_want(struct refresher *r, const char *identity,
               uint64_t refused_serial)
{
    struct conf *conf = conf_ref(r->o.conf);
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    struct mailbox m;
    struct entry *e;

    if (!policy_mailbox(conf->policy, identity, &m) ||
        !wants_tokens(m.account)) {
        conf_unref(conf);
        return;
    }
    pthread_mutex_lock(&r->lock);
    e = find(r, m.id);
    if (e == NULL)
        e = add(r, &m, identity);
    if (e != NULL) {
        bool useless =
            e->status.serial <= refused_serial ||
            e->status.expires_at_s * 1000 <= clock_wall_ms(r->o.clock);

        e->wanted_ms = now_ms;
        /* Lasting failures wait for a person, not for the next message. */
        if (useless && !e->asking &&
            (e->status.state == TOKEN_OK || e->status.state == TOKEN_NONE)) {
            uint64_t soonest = e->fetched_ms + REFUSED_PAUSE_MS;

            e->due_ms =
                e->fetched_ms != 0 && soonest > now_ms ? soonest : now_ms;
        }
    }
    pthread_mutex_unlock(&r->lock);
    conf_unref(conf);
}

/* Somebody has put a new secret where an old one was refused. */
static bool
secret_changed(const struct policy *p, const struct entry *e)
{
    struct mailbox m;

    if (e->status.state == TOKEN_OK || e->status.state == TOKEN_NONE ||
        e->status.state == TOKEN_RETRYING ||
        !policy_mailbox(p, e->status.identity, &m))
        return false;
    return secret_stamp(m.account->secret_file) != e->stamp;
}

void
refresher_tick(struct refresher *r)
{
    struct conf *conf = conf_ref(r->o.conf);
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    bool any = false;

    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < TABLE; i++)
        for (struct entry *e = r->table[i]; e != NULL; e = e->next) {
            if (e->asking)
                continue;
            if (e->due_ms > now_ms) {
                if (!secret_changed(conf->policy, e))
                    continue;
            } else if (e->is_template &&
                       now_ms - e->wanted_ms > TEMPLATE_IDLE_MS) {
                continue;
            }
            e->asking = true;
            *r->ready_end = e;
            r->ready_end = &e->ready;
            any = true;
        }
    if (any)
        pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    conf_unref(conf);
}
