/* milter/token/refresher.c - see refresher.h: who needs a token, and when.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "milter/base/log.h"
#include "milter/token/refresher_private.h"

enum {
    /* A token refused again so soon is not cured by asking faster. */
    REFUSED_PAUSE_MS = 5000,
    /* A template's mailbox that nobody has asked for rests. */
    TEMPLATE_IDLE_MS = 86400 * 1000,
    /* A rotated refresh token that is in no file: again so soon. */
    SAVE_MS = 30 * 1000,
    /* An endpoint that takes so long and then says nothing hangs. */
    HANG_MS = 10 * 1000,
    ASIDE_MS = 5 * 1000, /* who waits for it looks again after so long */
};

uint32_t
refresher_random(void)
{
    uint32_t n = 0;

    if (getrandom(&n, sizeof n, GRND_NONBLOCK) != sizeof n)
        return 0;
    return n;
}

/* ---- accounts and clients ---- */

static struct entry *
find(struct refresher *r, uint64_t id)
{
    struct entry *e = r->table[id % REFRESHER_TABLE];

    while (e != NULL && e->status.id != id)
        e = e->next;
    return e;
}

static struct client *
client_of(struct refresher *r, const struct account *a)
{
    bool named = a->auth == AUTH_REFRESH_TOKEN;
    struct client *c;
    char *key;

    if (asprintf(&key, named ? "client %s" : "key %s",
                 named ? a->client->name : a->secret_file) < 0)
        return NULL;
    for (c = r->clients; c != NULL; c = c->next)
        if (strcmp(c->key, key) == 0) {
            free(key);
            return c;
        }
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        free(key);
        return NULL;
    }
    c->key = key;
    c->next = r->clients;
    r->clients = c;
    return c;
}

/* When a token of the last run, taken over by the book, wants its renewal; 0 =
 * there is none, or it has run out. */
static uint64_t
adopted_ms(const struct token_status *s, int64_t wall_ms)
{
    int64_t life_s = s->expires_at_s - s->fetched_at_s;
    int64_t left_ms = s->fetched_at_s * 1000 + life_s * 800 - wall_ms;

    if (s->state != TOKEN_OK || s->serial == 0 || life_s <= 0 ||
        s->expires_at_s * 1000 <= wall_ms)
        return 0;
    /* A clock that was set back must not put it off. */
    if (left_ms > life_s * 800)
        return 0;
    return left_ms > 0 ? (uint64_t)left_ms : 0;
}

/* What the configuration says of it. */
static void
configure(struct refresher *r, struct entry *e, const struct account *a)
{
    e->is_template = a->is_template;
    e->has_refresh = a->auth == AUTH_REFRESH_TOKEN;
    if (e->has_refresh && e->used_s == 0) {
        int64_t used_s = last_used_find(&r->last_used, e->status.id);

        /* Our own memory may be newer. */
        e->used_s =
            used_s > e->status.fetched_at_s ? used_s : e->status.fetched_at_s;
    }
}

static struct entry *
add(struct refresher *r, const struct mailbox *m, const char *identity)
{
    struct entry *e = calloc(1, sizeof *e);
    struct client *c = client_of(r, m->account);
    uint64_t now_ms = clock_boot_ms(r->o.clock);

    if (e == NULL || c == NULL) {
        log_error("account=%s out of memory", identity);
        free(e);
        return NULL;
    }
    e->due_ms = e->wanted_ms = now_ms;
    if (token_book_get(r->o.book, m->id, &e->status) == STATE_OK) {
        e->due_ms += adopted_ms(&e->status, clock_wall_ms(r->o.clock));
        if (e->due_ms == now_ms)
            e->status.state = TOKEN_NONE;
    }
    e->status.id = m->id;
    snprintf(e->status.identity, sizeof e->status.identity, "%s", identity);
    configure(r, e, m->account);
    e->client = c;
    e->next = r->table[m->id % REFRESHER_TABLE];
    r->table[m->id % REFRESHER_TABLE] = e;
    return e;
}

void
refresher_entry_free(struct entry *e)
{
    refresh_token_free(&e->unsaved);
    free(e);
}

static bool
wants_tokens(const struct account *a)
{
    return a->auth == AUTH_REFRESH_TOKEN || a->auth == AUTH_SERVICE_ACCOUNT;
}

/* ---- workers ---- */

/* Stores what could not be stored before. */
static void
save(const struct refresher *r, struct entry *e)
{
    struct conf *conf = conf_ref(r->o.conf);
    struct mailbox m;
    struct grant_request q = {
        .policy = conf->policy, .mailbox = &m, .unsaved = &e->unsaved};

    if (policy_mailbox(conf->policy, e->status.identity, &m))
        grant_save(&q);
    conf_unref(conf);
}

static void
ask(struct refresher *r, struct entry *e, int64_t *skew_s,
    struct oauth2_answer *ret, uint64_t *ret_client_stamp)
{
    struct conf *conf = conf_ref(r->o.conf);
    struct mailbox m;
    struct grant_request q = {
        .policy = conf->policy,
        .mailbox = &m,
        .clock = r->o.clock,
        .post = r->o.post,
        .stop = &r->stopping,
        .skew_s = *skew_s,
        .used_s = e->used_s,
        .unsaved = &e->unsaved,
    };

    *ret = (struct oauth2_answer){.class = OAUTH2_CONFIG};
    snprintf(ret->why, sizeof ret->why, "the account is no longer configured");
    *ret_client_stamp = 0;
    if (policy_mailbox(conf->policy, e->status.identity, &m) &&
        wants_tokens(m.account)) {
        *ret_client_stamp = grant_client_stamp(m.account);
        grant_ask(&q, ret);
        /* After the answer, which may have changed the rotated one. */
        e->stamp = grant_stamp(conf->policy, &m);
        *skew_s = q.skew_s;
    }
    conf_unref(conf);
}

/* Whatever becomes of it, another may try. */
static void
end_probe(struct refresher *r, struct entry *e)
{
    if (e->job != JOB_PROBE)
        return;
    e->client->probing = false;
    e->client->due_ms = clock_boot_ms(r->o.clock);
}

/* One clock for all that ask there: who comes next need not fail first. */
static void
note_skew(struct refresher *r, struct client *c, int64_t skew_s)
{
    if (skew_s != 0 && c->skew_s == 0)
        log_warn("oauth=\"%s\" the endpoint's clock is %lld s %s ours, which "
                 "is allowed for: check time synchronisation",
                 c->key, llabs((long long)skew_s),
                 skew_s > 0 ? "ahead of" : "behind");
    else if (skew_s == 0 && c->skew_s != 0)
        log_info("oauth=\"%s\" the endpoint's clock and ours agree again",
                 c->key);
    if (skew_s != c->skew_s)
        token_book_note_skew(r->o.book, skew_s);
    c->skew_s = skew_s;
}

/* An endpoint that hangs holds one worker, and all that hang hold half of them:
 * the others are for those that answer. */
static bool
has_to_wait(const struct refresher *r, const struct entry *e)
{
    return e->job == JOB_ASK && !e->gone && e->client->hangs &&
           (e->client->asking > 0 || r->hanging >= (r->o.workers + 1) / 2);
}

static void
note_hang(struct client *c, bool hangs)
{
    if (hangs && !c->hangs)
        log_warn("oauth=\"%s\" the endpoint hangs: one account at a time asks "
                 "it",
                 c->key);
    else if (!hangs && c->hangs)
        log_info("oauth=\"%s\" the endpoint answers again", c->key);
    c->hangs = hangs;
}

/* Gives the lock back meanwhile. */
static void
ask_of_client(struct refresher *r, struct entry *e, struct oauth2_answer *ret,
              uint64_t *ret_client_stamp)
{
    struct client *c = e->client;
    uint64_t start_ms = clock_boot_ms(r->o.clock);
    int64_t skew_s = c->skew_s;
    bool hung = c->hangs;

    c->asking++;
    r->hanging += hung;
    pthread_mutex_unlock(&r->lock);
    ask(r, e, &skew_s, ret, ret_client_stamp);
    pthread_mutex_lock(&r->lock);
    c->asking--;
    r->hanging -= hung;
    note_skew(r, c, skew_s);
    note_hang(c, ret->class == OAUTH2_TRANSIENT &&
                     clock_boot_ms(r->o.clock) - start_ms >= HANG_MS);
}

/* The entry is this thread's alone; the lock is given back meanwhile. */
static void
work_off(struct refresher *r, struct entry *e)
{
    uint64_t client_stamp;
    struct oauth2_answer a;

    e->save_ms = clock_boot_ms(r->o.clock) + SAVE_MS;
    if (e->job == JOB_SAVE) {
        pthread_mutex_unlock(&r->lock);
        save(r, e);
        pthread_mutex_lock(&r->lock);
        return;
    }
    if (e->job == JOB_ASK && e->client->refused)
        return; /* since it was queued: one of them all will try */
    ask_of_client(r, e, &a, &client_stamp);
    end_probe(r, e);
    if (!e->gone)
        refresher_apply(r, e, &a, client_stamp);
    oauth2_answer_free(&a);
}

static void *
worker(void *cookie)
{
    struct refresher *r = cookie;

    pthread_mutex_lock(&r->lock);
    while (!atomic_load(&r->stopping)) {
        struct entry *e;

        if (refresher_uses_due(r, clock_boot_ms(r->o.clock)))
            refresher_uses_save(r);
        e = (struct entry *)queue_take(&r->queue);
        if (e == NULL) {
            pthread_cond_wait(&r->work, &r->lock);
            continue;
        }
        if (has_to_wait(r, e)) {
            e->due_ms = clock_boot_ms(r->o.clock) + ASIDE_MS;
        } else if (!e->gone) {
            work_off(r, e);
            e->queued.awaited = false;
        } else {
            end_probe(r, e);
        }
        e->job = JOB_NONE;
        if (e->gone)
            refresher_entry_free(e);
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
    r->started_ms = clock_boot_ms(o->clock);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    refresher_uses_load(r);
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

static void
free_entries(struct refresher *r)
{
    struct entry *e;

    while ((e = (struct entry *)queue_take(&r->queue)) != NULL)
        if (e->gone)
            refresher_entry_free(e); /* the queue alone knew it */
    queue_free(&r->queue);
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        while ((e = r->table[i]) != NULL) {
            r->table[i] = e->next;
            if (e->unsaved.text != NULL)
                save(r, e); /* the last chance */
            refresher_entry_free(e);
        }
}

void
refresher_free(struct refresher *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->stopping, true);
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->n_workers; i++)
        pthread_join(r->worker[i], NULL);
    pthread_mutex_lock(&r->lock);
    if (r->uses_changed)
        refresher_uses_save(r);
    pthread_mutex_unlock(&r->lock);
    last_used_free(&r->last_used);
    free_entries(r);
    while (r->clients != NULL) {
        struct client *c = r->clients;

        r->clients = c->next;
        free(c->key);
        free(c);
    }
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    free(r->worker);
    free(r);
}

/* ---- who is on the list ---- */

/* Drops who is gone; who was refused is asked for again. */
static void
look_again(struct refresher *r, const struct policy *p)
{
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    struct mailbox m;

    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (struct entry **at = &r->table[i]; *at != NULL;) {
            struct entry *e = *at;

            if (policy_mailbox(p, e->status.identity, &m) &&
                wants_tokens(m.account)) {
                struct client *c = client_of(r, m.account);

                if (c != NULL && c != e->client) {
                    end_probe(r, e);
                    e->client = c;
                } /* without memory it keeps the old one */
                configure(r, e, m.account);
                if (e->status.state != TOKEN_OK)
                    e->due_ms = now_ms;
                at = &e->next;
                continue;
            }
            *at = e->next;
            e->gone = true;
            if (e->job == JOB_NONE)
                refresher_entry_free(e);
        }
    for (struct client *c = r->clients; c != NULL; c = c->next)
        c->due_ms = now_ms;
}

void
refresher_reload(struct refresher *r)
{
    struct conf *conf = conf_ref(r->o.conf);
    const struct policy *p = conf->policy;
    struct mailbox m;

    pthread_mutex_lock(&r->lock);
    look_again(r, p);
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct account *a = &p->accounts[i];
        char identity[IDENTITY_MAX + 1];

        if (a->is_template || !wants_tokens(a))
            continue;
        mailbox_identity(a->address, a->smarthost->name, identity);
        if (policy_mailbox(p, identity, &m) && find(r, m.id) == NULL)
            add(r, &m, identity);
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
        if (useless)
            queue_hurry(&r->queue, &e->queued);
        /* Lasting failures wait for a person, not for the next message. */
        if (useless && e->job != JOB_ASK && e->job != JOB_PROBE &&
            (e->status.state == TOKEN_OK || e->status.state == TOKEN_NONE)) {
            uint64_t soonest = e->fetched_ms + REFUSED_PAUSE_MS;

            e->due_ms =
                e->fetched_ms != 0 && soonest > now_ms ? soonest : now_ms;
        }
    }
    pthread_mutex_unlock(&r->lock);
    conf_unref(conf);
}

/* ---- what is due ---- */

/* Somebody has put a new secret where an old one was refused. */
static bool
secret_changed(const struct policy *p, const struct entry *e)
{
    struct mailbox m;

    if (e->status.state == TOKEN_OK || e->status.state == TOKEN_NONE ||
        e->status.state == TOKEN_RETRYING ||
        !policy_mailbox(p, e->status.identity, &m))
        return false;
    if (e->client->refused)
        return grant_client_stamp(m.account) != e->client->stamp;
    /* One that waits to come back with its client was not refused itself. */
    return e->status.state != TOKEN_CLIENT_BROKEN &&
           grant_stamp(p, &m) != e->stamp;
}

static bool
is_idle(const struct entry *e, uint64_t now_ms)
{
    return e->is_template && now_ms - e->wanted_ms > TEMPLATE_IDLE_MS;
}

/* An idle mailbox of a template is asked for no more; what was wrong with it
 * then must not keep its next message away, for nobody would ask again. */
static void
forget_failure(struct refresher *r, struct entry *e, uint64_t now_ms)
{
    enum token_state s = e->status.state;

    if (e->job != JOB_NONE || !is_idle(e, now_ms) || e->due_ms > now_ms ||
        s == TOKEN_NONE || s == TOKEN_OK || s == TOKEN_RETRYING)
        return;
    e->status.state = TOKEN_NONE;
    e->status.error[0] = '\0';
    token_book_set(r->o.book, &e->status);
}

static enum job
what_is_due(const struct policy *p, const struct entry *e, uint64_t now_ms)
{
    const struct client *c = e->client;
    bool due = e->due_ms <= now_ms && !is_idle(e, now_ms);

    if (c->refused)
        due = e->due_ms <= now_ms && !c->probing && c->due_ms <= now_ms;
    if (due || (!c->probing && secret_changed(p, e)))
        return c->refused ? JOB_PROBE : JOB_ASK;
    return e->unsaved.text != NULL && e->save_ms <= now_ms ? JOB_SAVE
                                                           : JOB_NONE;
}

void
refresher_tick(struct refresher *r)
{
    struct conf *conf = conf_ref(r->o.conf);
    uint64_t now_ms = clock_boot_ms(r->o.clock);
    bool any;

    pthread_mutex_lock(&r->lock);
    any = refresher_uses_due(r, now_ms);
    refresher_thin(r, now_ms);
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (struct entry *e = r->table[i]; e != NULL; e = e->next) {
            if (e->job != JOB_NONE)
                continue;
            forget_failure(r, e, now_ms);
            e->job = what_is_due(conf->policy, e, now_ms);
            if (e->job == JOB_NONE)
                continue;
            e->queued.ends_s = e->status.expires_at_s;
            e->queued.due_ms = e->due_ms;
            if (!queue_put(&r->queue, &e->queued)) {
                e->job = JOB_NONE; /* without memory: at the next tick */
                continue;
            }
            /* One probe at a time: the others find the client not due. */
            if (e->job == JOB_PROBE) {
                e->client->probing = true;
                e->client->due_ms = UINT64_MAX;
            }
            any = true;
        }
    if (any)
        pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    conf_unref(conf);
}
