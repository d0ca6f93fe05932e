/* milter/token/refresher_answer.c - what a token endpoint's answer changes: the
 * account, its schedule, and everybody else of a client that is refused.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "milter/base/log.h"
#include "milter/token/refresher_private.h"
#include "milter/token/schedule.h"

enum {
    /* When a refused client is accepted again, its accounts come back over so
     * many ms, not all at once. */
    RETURN_MS = 30 * 1000,
    /* A probe that could not ask about the client: another account tries. */
    PROBE_NEXT_MS = 5 * 1000,
    FULL_MS = 2 * 1000,
    /* Of an endpoint that does not answer an account without a token: after
     * about half a minute. */
    TOLD_FAILURES = 5,
    /* A refresh token that ends so soon, and one that was not used for five
     * months, are worth an alert (gmail.md 3.4: seven days in Testing mode,
     * six months unused). */
    ENDS_SOON_S = 2 * 86400,
    UNUSED_S = 150 * 86400,
    DAY_MS = 86400 * 1000,
};

static uint64_t
pause_ms(const struct entry *e, const struct oauth2_answer *a)
{
    return schedule_pause_ms(&(struct schedule_facts){
        .class = a->class,
        .life_s = a->expires_in_s,
        .off_beat = e->off_beat,
        .retry_after_s = a->retry_after_s,
        .failures = e->failures,
        .random = refresher_random(),
    });
}

static void
set_due(struct refresher *r, struct entry *e, uint64_t due_ms)
{
    uint64_t now_ms = clock_boot_ms(r->o.clock);

    e->due_ms = due_ms;
    e->status.next_try_at_s =
        (clock_wall_ms(r->o.clock) + (int64_t)(due_ms - now_ms)) / 1000;
}

/* What does not fit is cut: the log has all of it. */
static void
set_error(struct token_status *s, const char *why)
{
    size_t len = strlen(why);

    if (len > sizeof s->error - 1)
        len = sizeof s->error - 1;
    memcpy(s->error, why, len);
    s->error[len] = '\0';
}

static void
published(const struct entry *e, enum state_result result)
{
    if (result != STATE_OK)
        log_error("account=%s token cannot be published: %s",
                  e->status.identity, state_result_text(result));
}

static void
log_change(const struct entry *e, enum token_state before,
           const struct oauth2_answer *a)
{
    bool bad = e->status.state != TOKEN_OK;
    struct log_line l =
        log_line(e->status.state == before && !bad ? LOG_LEVEL_DEBUG
                 : bad                             ? LOG_LEVEL_WARN
                                                   : LOG_LEVEL_INFO);

    log_kv(&l, "account", e->status.identity);
    log_kv(&l, "token", token_state_name(e->status.state));
    if (!bad)
        log_kv_u64(&l, "life_s", (uint64_t)a->expires_in_s);
    else
        log_kv(&l, "why", a->why);
    log_end(&l);
}

/* ---- alerts ---- */

static void
note(const struct refresher *r, enum alert_topic topic, const char *subject,
     const char *state, const char *why)
{
    struct alert a = alert_of(topic, subject, state, why);

    if (r->o.note != NULL)
        r->o.note(r->o.note_cookie, &a);
}

static void
note_client(const struct refresher *r, struct client *c,
            enum oauth2_class class, const char *why)
{
    c->told = class;
    note(r, ALERT_CLIENT, c->key,
         class == OAUTH2_OK ? "ok" : oauth2_class_name(class), why);
}

static bool
has_run_out(const struct refresher *r, const struct entry *e)
{
    return e->status.expires_at_s * 1000 <= clock_wall_ms(r->o.clock);
}

/* Is there still one of the client that was refused for want of delegation, or
 * that has run out? */
static bool
anybody_in(const struct refresher *r, const struct client *c,
           enum oauth2_class class)
{
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (const struct entry *e = r->table[i]; e != NULL; e = e->next)
            if (e->client == c && e->class == class &&
                (class != OAUTH2_TRANSIENT || has_run_out(r, e)))
                return true;
    return false;
}

/* Ahead of time. */
static void
note_life(const struct refresher *r, const struct entry *e,
          const struct oauth2_answer *a)
{
    const char *who = e->status.identity;
    char why[ALERT_WHY_MAX + 1] = "";

    if (a->refresh_left_s > 0 && a->refresh_left_s < ENDS_SOON_S)
        snprintf(why, sizeof why,
                 "it ends in %lld hours (Testing mode, or access given for a "
                 "time): gmroutectl login",
                 (long long)(a->refresh_left_s / 3600));
    if (a->refresh_left_s > 0)
        note(r, ALERT_ENDING, who,
             a->refresh_left_s < ENDS_SOON_S ? "ends_soon" : "ok", why);
    if (a->class == OAUTH2_OK)
        note(r, ALERT_UNUSED, who, "ok", "");
    else if (a->unused_s >= UNUSED_S &&
             (e->used_s != 0 ||
              clock_boot_ms(r->o.clock) - r->started_ms >= DAY_MS))
        /* Just started for the first time, nobody knows of its use before. */
        note(r, ALERT_UNUSED, who, "unused",
             "not used for five months; after six it is gone: see gmroutectl "
             "tokens why it cannot be");
}

/* What befalls many at once is told of their client, once. */
static void
note_answer(const struct refresher *r, struct entry *e,
            const struct oauth2_answer *a)
{
    struct client *c = e->client;

    switch (a->class) {
    case OAUTH2_OK:
        note(r, ALERT_TOKEN, e->status.identity, "ok", "");
        if (c->told != OAUTH2_OK && !anybody_in(r, c, c->told))
            note_client(r, c, OAUTH2_OK, "");
        break;
    case OAUTH2_TRANSIENT:
    case OAUTH2_CLOCK:
        if (has_run_out(r, e) && (e->failures >= TOLD_FAILURES || c->hangs) &&
            c->told == OAUTH2_OK)
            note_client(r, c, OAUTH2_TRANSIENT, a->why);
        break;
    case OAUTH2_UNAUTHORIZED:
        if (c->told == OAUTH2_OK)
            note_client(r, c, a->class, a->why);
        break;
    case OAUTH2_NO_MAILBOX:
        /* Anybody can write down a sender that does not exist. */
        if (!e->is_template)
            note(r, ALERT_TOKEN, e->status.identity,
                 token_state_name(e->status.state), a->why);
        break;
    case OAUTH2_CLIENT: /* refuse_client tells */
        break;
    default:
        note(r, ALERT_TOKEN, e->status.identity,
             token_state_name(e->status.state), a->why);
    }
    note_life(r, e, a);
}

/* ---- what an answer changes ---- */

static void
publish_token(struct refresher *r, struct entry *e,
              const struct oauth2_answer *a)
{
    int64_t wall_ms = clock_wall_ms(r->o.clock);
    struct token_status *s = &e->status;
    enum state_result result;

    e->fetched_ms = clock_boot_ms(r->o.clock);
    s->error[0] = 0;
    s->fetched_at_s = wall_ms / 1000;
    e->used_s = s->fetched_at_s;
    r->uses_changed |= e->has_refresh;
    s->expires_at_s = wall_ms / 1000 + a->expires_in_s;
    /* Counts on over restarts: the agent compares serials. */
    s->serial =
        (uint64_t)wall_ms > s->serial ? (uint64_t)wall_ms : s->serial + 1;
    set_due(r, e, e->fetched_ms + pause_ms(e, a));
    result = token_book_publish(r->o.book, s, a->access_token,
                                strlen(a->access_token));
    published(e, result);
    if (result == STATE_EFULL) /* room is made: refresher_thin.c */
        e->due_ms = e->fetched_ms + FULL_MS;
}

static void
publish_failure(struct refresher *r, struct entry *e,
                const struct oauth2_answer *a)
{
    set_error(&e->status, a->why);
    set_due(r, e, clock_boot_ms(r->o.clock) + pause_ms(e, a));
    published(e, token_book_set(r->o.book, &e->status));
}

/* ---- clients ---- */

static void
each_of_client(struct refresher *r, const struct client *c,
               void (*fn)(struct refresher *r, struct entry *e,
                          const struct oauth2_answer *a),
               const struct oauth2_answer *a)
{
    for (unsigned i = 0; i < REFRESHER_TABLE; i++)
        for (struct entry *e = r->table[i]; e != NULL; e = e->next)
            if (e->client == c)
                fn(r, e, a);
}

static void
stop_account(struct refresher *r, struct entry *e,
             const struct oauth2_answer *a)
{
    char why[sizeof a->why];

    /* Many accounts say the same: whose fault it is. */
    snprintf(why, sizeof why, "%.80s: %.200s", e->client->key, a->why);
    e->status.state = schedule_state(a->class);
    set_error(&e->status, why);
    set_due(r, e, e->client->due_ms);
    published(e, token_book_set(r->o.book, &e->status));
}

static void
return_account(struct refresher *r, struct entry *e,
               const struct oauth2_answer *a)
{
    (void)a;
    if (e->status.state == TOKEN_CLIENT_BROKEN)
        set_due(r, e,
                clock_boot_ms(r->o.clock) + refresher_random() % RETURN_MS);
}

/* One line for all its accounts, however many they are. */
static void
refuse_client(struct refresher *r, struct entry *e,
              const struct oauth2_answer *a, uint64_t stamp)
{
    struct client *c = e->client;
    bool first = !c->refused;
    struct log_line l;

    c->refused = true;
    c->stamp = stamp;
    c->due_ms = clock_boot_ms(r->o.clock) + pause_ms(e, a);
    if (!first) {
        stop_account(r, e, a);
        return;
    }
    note_client(r, c, OAUTH2_CLIENT, a->why);
    each_of_client(r, c, stop_account, a);
    l = log_line(LOG_LEVEL_ERROR);
    log_kv(&l, "oauth", c->key);
    log_kv(&l, "token", token_state_name(e->status.state));
    log_kv(&l, "why", a->why);
    log_end(&l);
}

/* Has the endpoint taken the client, whatever it says of the account? */
static bool speaks_for_client(enum oauth2_class class)
{
    return class == OAUTH2_OK || class == OAUTH2_NEEDS_LOGIN ||
           class == OAUTH2_NO_MAILBOX || class == OAUTH2_UNAUTHORIZED;
}

static void
client_is_back(struct refresher *r, struct client *c)
{
    c->refused = false;
    note_client(r, c, OAUTH2_OK, "");
    log_info("oauth=\"%s\" is accepted again", c->key);
    each_of_client(r, c, return_account, NULL);
}

void
refresher_apply(struct refresher *r, struct entry *e,
                const struct oauth2_answer *a, uint64_t client_stamp)
{
    enum token_state before = e->status.state;
    struct client *c = e->client;

    e->off_beat = before != TOKEN_OK || has_run_out(r, e);
    e->failures = a->class == e->class ? e->failures + 1 : 1;
    e->class = a->class;
    if (a->class == OAUTH2_CLIENT) {
        refuse_client(r, e, a, client_stamp);
        return;
    }
    if (c->refused && speaks_for_client(a->class)) {
        client_is_back(r, c);
    } else if (c->refused) {
        c->stamp = client_stamp;
        c->due_ms = clock_boot_ms(r->o.clock) + PROBE_NEXT_MS;
    }
    e->status.state = schedule_state(a->class);
    if (a->class == OAUTH2_OK)
        publish_token(r, e, a);
    else
        publish_failure(r, e, a);
    log_change(e, before, a);
    note_answer(r, e, a);
}
