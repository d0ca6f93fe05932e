/* tests/unit/deliver/test_pool.c - sessions lent, taken back and retired,
 * against a server that lies and leaves.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Real sockets, real TLS, real shared memory; only the pool's clock can be
 * put forward.
 */
#include "milter/deliver/pool.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "milter/base/clock.h"
#include "tests/unit/deliver/liar.h"

enum { LONG_MS = 60 * 1000, ACCOUNT_ID = 77 };

/* base64 of user=me@example.com^Aauth=Bearer good^A^A, and of
 * ^@me@example.com^@abcdefghijklmnop */
#define GOOD_TOKEN    "dXNlcj1tZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciBnb29kAQE="
#define GOOD_PASSWORD "AG1lQGV4YW1wbGUuY29tAGFiY2RlZmdoaWprbG1ub3A="

/* ---- the stage ---- */

static _Atomic uint64_t jumped_ms;

static uint64_t
stage_boot_ms(void *cookie)
{
    (void)cookie;
    return clock_boot_ms(&clock_real) + atomic_load(&jumped_ms);
}

static int64_t
stage_wall_ms(void *cookie)
{
    (void)cookie;
    return clock_wall_ms(&clock_real) + (int64_t)atomic_load(&jumped_ms);
}

static const struct clock stage_clock = {stage_boot_ms, stage_wall_ms, NULL};

struct stage {
    struct liar liar;
    char directory[64], password_file[80];
    struct policy policy;
    struct smarthost smarthost;
    struct account account;
    struct mailbox mailbox;
    struct quota *quota;
    struct quota_reader *reader;
    struct token_book *book;
    struct status_reader *status;
    struct pool_sessions *pool;
    struct message *message;
    struct message_copy *copy;
};

static void
write_password(struct stage *s, const char *text, mode_t mode)
{
    FILE *f = fopen(s->password_file, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(s->password_file, mode), 0);
}

static void
publish_token(struct stage *s, const char *text, uint64_t serial,
              int64_t left_s)
{
    struct token_status t = {
        .id = ACCOUNT_ID,
        .state = TOKEN_OK,
        .serial = serial,
        .fetched_at_s = stage_wall_ms(NULL) / 1000,
        .expires_at_s = stage_wall_ms(NULL) / 1000 + left_s,
    };

    snprintf(t.identity, sizeof t.identity, "me@example.com");
    assert_int_equal(token_book_publish(s->book, &t, text, strlen(text)),
                     STATE_OK);
}

static void
publish_state(struct stage *s, enum token_state state, const char *error)
{
    struct token_status t = {.id = ACCOUNT_ID, .state = state};

    snprintf(t.identity, sizeof t.identity, "me@example.com");
    snprintf(t.error, sizeof t.error, "%s", error);
    assert_int_equal(token_book_set(s->book, &t), STATE_OK);
}

static struct pool_sessions *
new_pool(struct stage *s)
{
    struct pool_options o = {.quota = s->quota,
                             .status = s->status,
                             .clock = &stage_clock,
                             .hostname = "relay.example.com",
                             .sessions_max = 100};
    struct pool_sessions *p = pool_new(&o);

    assert_non_null(p);
    return p;
}

static void
set_up_state(struct stage *s)
{
    char err[200] = "";

    snprintf(s->directory, sizeof s->directory, "/tmp/test_pool.XXXXXX");
    assert_non_null(mkdtemp(s->directory));
    snprintf(s->password_file, sizeof s->password_file, "%s/pw", s->directory);
    s->policy.state.accounts = 64;
    if (quota_make(&s->quota, s->directory, &s->policy, &stage_clock, 0, err,
                   sizeof err) != STATE_OK ||
        token_book_make(&s->book, s->directory, 64, err, sizeof err) !=
            STATE_OK)
        fail_msg("%s", err);
    assert_int_equal(quota_open(s->quota, &s->mailbox), STATE_OK);
    s->reader = quota_reader_new(s->directory, &stage_clock);
    s->status = status_reader_new(s->directory, true);
    assert_true(s->reader != NULL && s->status != NULL);
}

static struct stage *
set_up(enum auth_kind auth)
{
    struct copy_options o = {.from = FROM_KEEP, .sender = "", .hostname = "h"};
    struct stage *s = calloc(1, sizeof *s);
    char err[200];

    atomic_store(&jumped_ms, 0);
    liar_start(&s->liar, NULL);
    s->smarthost = (struct smarthost){.name = "gmail",
                                      .host = "smtp.example",
                                      .connect = "127.0.0.1",
                                      .port = s->liar.port,
                                      .ca_file = s->liar.ca_file};
    s->account = (struct account){
        .name = "me",
        .address = "me@example.com",
        .smarthost = &s->smarthost,
        .auth = auth,
        .sessions = {
            .max = 2, .idle_ms = 60000, .age_ms = 600000, .messages = 100}};
    s->mailbox = (struct mailbox){.account = &s->account, .id = ACCOUNT_ID};
    snprintf(s->mailbox.address, sizeof s->mailbox.address, "me@example.com");
    set_up_state(s);
    s->account.secret_file = s->password_file;
    s->pool = new_pool(s);
    s->message = message_new("/tmp");
    o.mailbox = &s->mailbox;
    assert_true(message_add(s->message, "A: b\r\n\r\nc\r\n", 11, err, 200));
    assert_true(message_end(s->message, err, sizeof err));
    s->copy = message_copy_new(s->message, &o);
    return s;
}

static void
tear_down(struct stage *s)
{
    struct dirent *e;
    DIR *d;

    pool_drain(s->pool, 0);
    pool_free(s->pool);
    message_copy_free(s->copy);
    message_free(s->message);
    status_reader_free(s->status);
    quota_reader_free(s->reader);
    token_book_free(s->book);
    quota_free(s->quota);
    liar_stop(&s->liar);
    d = opendir(s->directory);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    assert_int_equal(rmdir(s->directory), 0);
    free(s);
}

static struct lease
lease_for(struct stage *s, uint64_t ms, bool fresh)
{
    return pool_lease(s->pool, &s->mailbox, stage_boot_ms(NULL) + ms, fresh);
}

static struct session *
lease(struct stage *s)
{
    struct lease l = lease_for(s, LONG_MS, false);

    if (l.session == NULL)
        fail_msg("no session: %s (%u %s)", l.verdict.meaning, l.reply.code,
                 l.reply.text);
    return l.session;
}

static struct letter_result
send_copy(struct session *session, struct message_copy *copy, bool *ret_usable)
{
    const char *rcpt[] = {"you@x.org"};
    struct letter l = {"me@example.com", 1, rcpt, copy, false, false};
    struct letter_result r;

    *ret_usable = session_send(session, &l, &r);
    return r;
}

/* One message through the pool, with the kind of its end. */
static enum outcome_kind
send_one(struct stage *s)
{
    struct session *session = lease(s);
    struct letter_result r;
    bool usable;

    r = send_copy(session, s->copy, &usable);
    pool_return(s->pool, session, usable);
    return r.verdict.kind;
}

/* The server's counts come a moment after our replies. */
static void
expect_count(const char *what, atomic_int *count, int want)
{
    for (int i = 0; i < 3000 && atomic_load(count) != want; i++)
        usleep(10000);
    if (atomic_load(count) != want)
        fail_msg("%s: %d, want %d", what, atomic_load(count), want);
}

static void
expect_sessions(struct stage *s, uint32_t open, uint32_t busy)
{
    struct quota_view v;

    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.sessions_open, open);
    assert_int_equal(v.sessions_busy, busy);
}

/* ---- reuse and retirement ---- */

static void
test_reuse(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a;
    struct letter_result r;
    bool usable;

    (void)state;
    a = lease(s);
    assert_false(session_reused(a));
    expect_sessions(s, 1, 1);
    r = send_copy(a, s->copy, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_SENT);
    assert_int_equal(r.reply.code, 250);
    assert_true(usable);
    assert_non_null(strstr(session_info(a), "smtp.example"));
    assert_non_null(strstr(session_info(a), "TLSv1."));
    pool_return(s->pool, a, usable);
    expect_sessions(s, 1, 0);
    a = lease(s);
    assert_true(session_reused(a));
    pool_return(s->pool, a, true);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 1);
    assert_int_equal(atomic_load(&s->liar.messages), 2);
    a = lease(s);
    pool_return(s->pool, a, false); /* a bad word about it, and it is gone */
    expect_sessions(s, 0, 0);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    tear_down(s);
}

static void
test_starttls(void **state)
{
    struct stage *s = set_up(AUTH_PASSWORD);

    (void)state;
    s->liar.starttls = true;
    s->liar.login = GOOD_PASSWORD;
    s->smarthost.tls = SMARTHOST_TLS_STARTTLS;
    write_password(s, "abcd efgh ijkl mnop\n", 0600);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

static void
test_most_recent_first(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a = lease(s), *b = lease(s), *c;

    (void)state;
    assert_ptr_not_equal(a, b);
    expect_sessions(s, 2, 2);
    pool_return(s->pool, a, true);
    pool_return(s->pool, b, true);
    c = lease(s);
    assert_ptr_equal(c, b);
    pool_return(s->pool, c, true);
    tear_down(s);
}

static void
test_messages_of_a_session(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    s->account.sessions.messages = 2;
    for (int i = 0; i < 5; i++)
        assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    expect_count("quits", &s->liar.quits, 2);
    tear_down(s);
}

static void
test_idle_and_age(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 50000);
    pool_tick(s->pool);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 1); /* not yet */
    atomic_fetch_add(&jumped_ms, 61000);
    pool_tick(s->pool);
    expect_sessions(s, 0, 0);
    expect_count("quits", &s->liar.quits, 1);
    pool_tick(s->pool);
    expect_count("open", &s->liar.open, 0);

    for (int i = 0; i < 13; i++) { /* busy, but old in the end */
        assert_int_equal(send_one(s), OUTCOME_SENT);
        atomic_fetch_add(&jumped_ms, 50000);
    }
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    tear_down(s);
}

/* Due, and nobody ticked: it is not lent all the same. */
static void
test_due_at_lease(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 60000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    tear_down(s);
}

/* The account's smarthost or secret is another one now. */
static void
test_configured_otherwise(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    s->smarthost.connect = "localhost";
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    expect_sessions(s, 1, 0);
    tear_down(s);
}

/* ---- the server leaves ---- */

static void
test_stale(void **state)
{
    struct stage *s = set_up(AUTH_NONE);

    (void)state;
    atomic_store(&s->liar.end_after_message, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send_one(s), OUTCOME_SENT);
        expect_count("open", &s->liar.open, 0);
    }
    assert_int_equal(atomic_load(&s->liar.connections), 3);
    expect_sessions(s, 1, 0); /* the stale one is still believed in */
    tear_down(s);
}

static void
test_leaves_at_mail(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a;
    struct lease l;
    bool usable;

    (void)state;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_store(&s->liar.die_at_mail, 1);
    a = lease(s);
    assert_int_equal(send_copy(a, s->copy, &usable).verdict.kind,
                     OUTCOME_RECONNECT);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    assert_false(session_reused(l.session));
    assert_int_equal(send_copy(l.session, s->copy, &usable).verdict.kind,
                     OUTCOME_SENT);
    pool_return(s->pool, l.session, usable);
    tear_down(s);
}

static void
test_leaves_at_the_end(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct letter_result r;
    struct session *a;
    bool usable;

    (void)state;
    atomic_store(&s->liar.die_at_end, 1);
    a = lease(s);
    r = send_copy(a, s->copy, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_IN_DOUBT);
    assert_int_equal(r.stage, STAGE_CONTENT);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    expect_sessions(s, 0, 0);
    tear_down(s);
}

/* A server that refuses MAIL and stops reading 20 MB of content: no hang,
 * and its words count. */
static void
test_refuses_and_stops_reading(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};
    struct message *m = message_new("/tmp");
    struct message_copy *c;
    struct letter_result r;
    struct session *a;
    char block[10000], err[200];
    bool usable;

    (void)state;
    memset(block, 'x', sizeof block);
    assert_true(message_add(m, "A: b\r\n\r\n", 8, err, sizeof err));
    for (int i = 0; i < 2000; i++)
        assert_true(message_add(m, block, sizeof block, err, sizeof err));
    assert_true(message_end(m, err, sizeof err));
    c = message_copy_new(m, &o);
    atomic_store(&s->liar.refuse_and_leave, true);
    a = lease(s);
    r = send_copy(a, c, &usable);
    assert_int_equal(r.verdict.kind, OUTCOME_REFUSED);
    assert_int_equal(r.reply.code, 552);
    assert_false(usable);
    pool_return(s->pool, a, usable);
    message_copy_free(c);
    message_free(m);
    tear_down(s);
}

static void
test_big_message(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};
    struct message *m = message_new("/tmp");
    struct message_copy *c;
    struct session *a;
    char block[10000], err[200];
    bool usable;

    (void)state;
    memset(block, '\n', sizeof block); /* twice as much on the way out */
    assert_true(message_add(m, "A: b\r\n\r\n", 8, err, sizeof err));
    for (int i = 0; i < 300; i++)
        assert_true(message_add(m, block, sizeof block, err, sizeof err));
    assert_true(message_end(m, err, sizeof err));
    c = message_copy_new(m, &o);
    a = lease(s);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(send_copy(a, c, &usable).verdict.kind, OUTCOME_SENT);
        assert_true(usable);
        assert_int_equal(atomic_load(&s->liar.octets),
                         i * (int)message_copy_size(c));
    }
    assert_true(message_copy_size(c) > 6000000);
    pool_return(s->pool, a, usable);
    message_copy_free(c);
    message_free(m);
    tear_down(s);
}

static void
test_wrong_certificate(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->smarthost.host = "smtp.gmail.com";
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_CLIENT);
    assert_int_equal(l.stage, STAGE_STARTTLS);
    assert_non_null(strstr(l.verdict.meaning, "TLS"));
    assert_non_null(strstr(l.reply.text, "smtp.gmail.com"));
    expect_sessions(s, 0, 0);
    tear_down(s);
}

static void
test_no_trust_store(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->smarthost.ca_file = "/no/such/ca.pem";
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_non_null(strstr(l.reply.text, "/no/such/ca.pem"));
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    tear_down(s);
}

/* ---- many at once ---- */

struct crowd {
    struct stage *s;
    pthread_t thread;
    uint64_t ms;
    struct lease lease;
    enum outcome_kind kind;
    struct message_copy *copy;
    atomic_int *order; /* next place */
    int place;
    atomic_bool *hold; /* until false, keeps the session */
};

static void *
crowd_member(void *cookie)
{
    struct crowd *c = cookie;
    bool usable;

    c->lease = lease_for(c->s, c->ms, false);
    if (c->lease.session == NULL)
        return NULL;
    if (c->order != NULL)
        c->place = atomic_fetch_add(c->order, 1);
    c->kind = send_copy(c->lease.session, c->copy, &usable).verdict.kind;
    while (c->hold != NULL && atomic_load(c->hold))
        usleep(1000);
    pool_return(c->s->pool, c->lease.session, usable);
    return NULL;
}

static void
crowd_start(struct crowd *c, struct stage *s, uint64_t ms)
{
    struct copy_options o = {
        .mailbox = &s->mailbox, .sender = "", .hostname = "h"};

    c->s = s;
    c->ms = ms;
    c->copy = message_copy_new(s->message, &o);
    assert_int_equal(pthread_create(&c->thread, NULL, crowd_member, c), 0);
}

static void
crowd_join(struct crowd *c)
{
    pthread_join(c->thread, NULL);
    message_copy_free(c->copy);
}

static void
test_never_more_than_max(void **state)
{
    enum { N = 40 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    struct quota_view v;

    (void)state;
    s->account.sessions.max = 3;
    s->account.sessions.messages = 7; /* with changes on the way */
    atomic_store(&s->liar.final_delay_ms, 5);
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        assert_non_null(crowd[i].lease.session);
        assert_int_equal(crowd[i].kind, OUTCOME_SENT);
    }
    assert_int_equal(atomic_load(&s->liar.messages), N);
    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.sessions_busy, 0);
    assert_in_range(v.sessions_open, 0, 3);
    expect_count("quits", &s->liar.quits,
                 atomic_load(&s->liar.connections) - (int)v.sessions_open);
    /* One that was told to go may still be on its way out. */
    assert_true(atomic_load(&s->liar.most_open) <= 3 + 3);
    tear_down(s);
}

static void
test_first_come_first_served(void **state)
{
    enum { N = 6 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    atomic_int order = 0;
    struct session *held;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    for (int i = 0; i < N; i++) {
        crowd[i].order = &order;
        crowd_start(&crowd[i], s, LONG_MS);
        usleep(30000); /* let it get in line */
    }
    assert_int_equal(atomic_load(&order), 0);
    pool_return(s->pool, held, true);
    for (int i = 0; i < N; i++)
        crowd_join(&crowd[i]);
    for (int i = 0; i < N; i++)
        assert_int_equal(crowd[i].place, i);
    assert_int_equal(atomic_load(&s->liar.connections), 1);
    tear_down(s);
}

static void
test_deadline(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *held;
    struct lease l;
    uint64_t began;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    began = stage_boot_ms(NULL);
    l = lease_for(s, 300, false);
    assert_null(l.session);
    assert_true(stage_boot_ms(NULL) - began >= 300);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    l = lease_for(s, 0, false);
    assert_null(l.session);
    pool_return(s->pool, held, true);
    l = lease_for(s, 0, false); /* what is there can be had without waiting */
    assert_non_null(l.session);
    pool_return(s->pool, l.session, true);
    tear_down(s);
}

/* A server that turns us away does not see every waiting message. */
static void
test_one_failure_for_all(void **state)
{
    enum { N = 30 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    int tried;

    (void)state;
    s->liar.greeting = "421 4.4.5 Server busy, try again later.\r\n";
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        assert_null(crowd[i].lease.session);
        assert_int_not_equal(crowd[i].lease.verdict.kind, OUTCOME_SENT);
        assert_int_not_equal(crowd[i].lease.verdict.kind, OUTCOME_REFUSED);
        assert_int_equal(crowd[i].lease.reply.code, 421);
    }
    tried = atomic_load(&s->liar.connections);
    assert_true(tried >= 1 && tried <= 2 * 3);
    s->liar.greeting = NULL; /* and it is forgotten soon */
    atomic_fetch_add(&jumped_ms, 61000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

/* While another session of the account works, it is waited for. */
static void
test_failure_beside_a_good_session(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd other = {0};
    struct session *good = lease(s);

    (void)state;
    s->liar.greeting = "421 4.7.0 Too many connections\r\n";
    crowd_start(&other, s, LONG_MS);
    expect_count("connections", &s->liar.connections, 2);
    usleep(100000);
    pool_return(s->pool, good, true);
    crowd_join(&other);
    assert_ptr_equal(other.lease.session, good);
    assert_int_equal(other.kind, OUTCOME_SENT);
    tear_down(s);
}

/* "Too many at once": half of them go, for a while. */
static void
test_halved(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct session *a[4];
    struct lease l;
    bool usable;

    (void)state;
    s->account.sessions.max = 4;
    for (int i = 0; i < 4; i++)
        a[i] = lease(s);
    s->liar.final =
        "421 4.3.0 Temporary System Problem.  Try again later (10). x\r\n";
    assert_int_equal(send_copy(a[0], s->copy, &usable).verdict.kind,
                     OUTCOME_DEFERRED);
    s->liar.final = NULL;
    for (int i = 0; i < 4; i++)
        pool_return(s->pool, a[i], i > 0);
    expect_sessions(s, 2, 0);
    a[0] = lease(s);
    a[1] = lease(s);
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 290000);
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 10000); /* it grows by one */
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    a[2] = l.session;
    l = lease_for(s, 100, false);
    assert_null(l.session);
    atomic_fetch_add(&jumped_ms, 300000); /* and by another one */
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    pool_return(s->pool, l.session, true);
    for (int i = 0; i < 3; i++)
        pool_return(s->pool, a[i], true);
    tear_down(s);
}

/* Whoever's turn is seconds away goes, so that its place among the MTA's
 * connections is free for other accounts. */
static void
test_line_of_a_slow_account(void **state)
{
    enum { N = POOL_LINE_MIN + 4 };
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[N] = {0};
    struct session *held;
    int waited = 0;

    (void)state;
    s->account.sessions.max = 1;
    held = lease(s);
    for (int i = 0; i < N; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    usleep(300000); /* in line */
    atomic_fetch_add(&jumped_ms, POOL_LINE_MS);
    usleep(2500000); /* all have looked at the clock again */
    pool_return(s->pool, held, true);
    for (int i = 0; i < N; i++) {
        crowd_join(&crowd[i]);
        if (crowd[i].lease.session != NULL) {
            waited++;
            continue;
        }
        assert_int_equal(crowd[i].lease.verdict.kind, OUTCOME_DEFERRED);
        assert_int_equal(crowd[i].lease.verdict.scope, SCOPE_ACCOUNT);
        assert_non_null(strstr(crowd[i].lease.verdict.meaning, "busy"));
    }
    assert_int_equal(waited, POOL_LINE_MIN);
    assert_int_equal(atomic_load(&s->liar.messages), POOL_LINE_MIN);
    tear_down(s);
}

/* The next one is known to be slow: there is no waiting to find out. */
static void
test_line_is_judged_by_the_past(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd crowd[POOL_LINE_MIN] = {0};
    struct lease l;

    (void)state;
    s->account.sessions.max = 1;
    for (int i = 0; i < 3; i++) { /* each holds it long */
        struct session *a = lease(s);

        atomic_fetch_add(&jumped_ms, 10000);
        pool_return(s->pool, a, true);
    }
    l = lease_for(s, LONG_MS, false);
    assert_non_null(l.session);
    for (int i = 0; i < POOL_LINE_MIN; i++)
        crowd_start(&crowd[i], s, LONG_MS);
    usleep(300000);
    assert_null(lease_for(s, LONG_MS, false).session);
    pool_return(s->pool, l.session, true);
    for (int i = 0; i < POOL_LINE_MIN; i++) {
        crowd_join(&crowd[i]);
        assert_non_null(crowd[i].lease.session);
    }
    tear_down(s);
}

/* ---- many accounts ---- */

static void
test_least_recently_used_goes(void **state)
{
    enum { ACCOUNTS = 4, KEPT = 2 };
    struct stage *s = set_up(AUTH_NONE);
    struct mailbox m[ACCOUNTS];
    struct session *a[ACCOUNTS];

    (void)state;
    pool_free(s->pool);
    s->pool = pool_new(&(struct pool_options){.quota = s->quota,
                                              .status = s->status,
                                              .clock = &stage_clock,
                                              .hostname = "relay.example.com",
                                              .sessions_max = KEPT});
    for (int i = 0; i < ACCOUNTS; i++) {
        struct lease l;

        m[i] = s->mailbox;
        m[i].id = (uint64_t)(100 + i);
        l = pool_lease(s->pool, &m[i], stage_boot_ms(NULL) + LONG_MS, false);
        assert_non_null(l.session);
        a[i] = l.session;
    }
    /* All are in use: none has to go for another. */
    assert_int_equal(atomic_load(&s->liar.open), ACCOUNTS);
    for (int i = 0; i < ACCOUNTS; i++)
        pool_return(s->pool, a[i], true);
    pool_tick(s->pool);
    expect_count("open", &s->liar.open, KEPT);
    for (int i = 0; i < ACCOUNTS; i++) { /* the last two were kept */
        struct lease l = pool_lease(s->pool, &m[ACCOUNTS - 1 - i],
                                    stage_boot_ms(NULL) + LONG_MS, false);

        assert_non_null(l.session);
        pool_return(s->pool, l.session, true);
        pool_tick(s->pool);
        assert_int_equal(atomic_load(&s->liar.connections),
                         i < KEPT ? ACCOUNTS : ACCOUNTS + 1 + i - KEPT);
        expect_count("open", &s->liar.open, KEPT);
    }
    tear_down(s);
}

static void
test_pace_of_logins(void **state)
{
    enum { BURST = 22 }; /* POOL_LOGIN_BURST, and a session each */
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->account.sessions.messages = 1; /* a log-in for each message */
    for (int i = 0; i < BURST; i++)
        assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, 1000, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_non_null(strstr(l.verdict.meaning, "too often"));
    assert_int_equal(atomic_load(&s->liar.connections), BURST);
    atomic_fetch_add(&jumped_ms, 60000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, 1000, false);
    assert_null(l.session);
    /* It is waited for when it is near. */
    atomic_fetch_add(&jumped_ms, 59000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    tear_down(s);
}

static void
test_fresh(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct lease l;

    (void)state;
    s->account.sessions.max = 1;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    assert_false(session_reused(l.session));
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    expect_sessions(s, 1, 1);
    pool_return(s->pool, l.session, true);

    s->account.sessions.max = 3; /* room beside an idle one */
    l = lease_for(s, LONG_MS, true);
    assert_non_null(l.session);
    expect_sessions(s, 2, 1);
    pool_return(s->pool, l.session, true);
    tear_down(s);
}

/* ---- logins ---- */

static void
test_password(void **state)
{
    struct stage *s = set_up(AUTH_PASSWORD);
    struct lease l;
    struct quota_view v;

    (void)state;
    s->liar.login = GOOD_PASSWORD;
    l = lease_for(s, LONG_MS, false); /* no file */
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_non_null(strstr(l.reply.text, s->password_file));
    assert_int_equal(atomic_load(&s->liar.connections), 0);

    write_password(s, "abcdefghijklmnop", 0644); /* for all to read */
    atomic_fetch_add(&jumped_ms, 61000);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_non_null(strstr(l.reply.text, s->password_file));
    assert_int_equal(atomic_load(&s->liar.connections), 0);

    write_password(s, "wrongwrongwrong", 0600);
    atomic_fetch_add(&jumped_ms, 61000);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.effect, EFFECT_DISABLE);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.reply.code, 535);
    assert_int_equal(l.stage, STAGE_AUTH);

    /* Written anew: no reload is needed. */
    write_password(s, " abcd efgh ijkl mnop \n", 0600);
    atomic_fetch_add(&jumped_ms, 61000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.logins, 1);
    tear_down(s);
}

/* The token daemon, as far as it matters here: brings `text` when asked. */
struct bringer {
    struct stage *s;
    pthread_t thread;
    atomic_bool stop;
    const char *text;
    uint64_t next;
    atomic_int asked;
    _Atomic uint64_t refused; /* serial it was last asked about */
};

static void
bring(void *cookie, uint64_t id, const char *identity, uint64_t refused)
{
    struct bringer *b = cookie;

    (void)identity;
    assert_int_equal(id, ACCOUNT_ID);
    atomic_store(&b->refused, refused);
    atomic_fetch_add(&b->asked, 1);
    publish_token(b->s, b->text, ++b->next, 3599);
}

static void *
bringer_run(void *cookie)
{
    struct bringer *b = cookie;

    while (!atomic_load(&b->stop))
        quota_wants(b->s->reader, 50, bring, b);
    return NULL;
}

static void
bringer_start(struct bringer *b, struct stage *s, const char *text,
              uint64_t last)
{
    *b = (struct bringer){.s = s, .text = text, .next = last};
    assert_int_equal(pthread_create(&b->thread, NULL, bringer_run, b), 0);
}

static void
bringer_stop(struct bringer *b)
{
    atomic_store(&b->stop, true);
    pthread_join(b->thread, NULL);
}

static void
test_token(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "good", 1, 3599);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 1);
    /* Ends with its token, a little earlier. */
    s->account.sessions.idle_ms = s->account.sessions.age_ms = 1u << 30;
    assert_int_equal(send_one(s), OUTCOME_SENT);
    atomic_fetch_add(&jumped_ms, 3400 * 1000);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 1);
    atomic_fetch_add(&jumped_ms, 100 * 1000);
    publish_token(s, "good", 2, 3599);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.logins), 2);
    tear_down(s);
}

static void
test_token_absent(void **state)
{
    struct stage *s = set_up(AUTH_SERVICE_ACCOUNT);
    struct bringer b;
    struct lease l;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    l = lease_for(s, 300, false); /* nobody brings one */
    assert_null(l.session);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_int_equal(l.verdict.effect, EFFECT_NONE);
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    atomic_fetch_add(&jumped_ms, 61000);
    bringer_start(&b, s, "good", 0);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_true(atomic_load(&b.asked) >= 1);
    bringer_stop(&b);
    tear_down(s);
}

/* One that has run out is as good as none. */
static void
test_token_expired(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "old", 4, 1);
    bringer_start(&b, s, "good", 4);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&b.refused), 4);
    assert_int_equal(atomic_load(&s->liar.refused), 0);
    bringer_stop(&b);
    tear_down(s);
}

static void
test_token_refused_once(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "revoked", 4, 3599);
    bringer_start(&b, s, "good", 4);
    assert_int_equal(send_one(s), OUTCOME_SENT);
    assert_int_equal(atomic_load(&s->liar.refused), 1);
    assert_int_equal(atomic_load(&s->liar.connections), 2);
    assert_int_equal(atomic_load(&b.refused), 4);
    bringer_stop(&b);
    tear_down(s);
}

static void
test_token_refused_twice(void **state)
{
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);
    struct bringer b;
    struct lease l;

    (void)state;
    s->liar.login = GOOD_TOKEN;
    publish_token(s, "revoked", 4, 3599);
    bringer_start(&b, s, "revoked-too", 4);
    l = lease_for(s, LONG_MS, false);
    assert_null(l.session);
    assert_int_equal(l.verdict.effect, EFFECT_DISABLE);
    assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
    assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
    assert_int_equal(l.reply.code, 535);
    assert_int_equal(atomic_load(&s->liar.refused), 2);
    bringer_stop(&b);
    expect_sessions(s, 0, 0);
    tear_down(s);
}

static void
test_token_lasting_failures(void **state)
{
    static const enum token_state states[] = {
        TOKEN_NEEDS_LOGIN, TOKEN_CLIENT_BROKEN, TOKEN_NO_MAILBOX, TOKEN_CONFIG};
    struct stage *s = set_up(AUTH_REFRESH_TOKEN);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct lease l;

        atomic_fetch_add(&jumped_ms, 61000);
        publish_state(s, states[i], "Token has been expired or revoked.");
        l = lease_for(s, LONG_MS, false); /* at once, not in a minute */
        assert_null(l.session);
        assert_int_equal(l.verdict.kind, OUTCOME_DEFERRED);
        assert_int_equal(l.verdict.scope, SCOPE_ACCOUNT);
        assert_string_equal(l.reply.text, "Token has been expired or revoked.");
    }
    assert_int_equal(atomic_load(&s->liar.connections), 0);
    tear_down(s);
}

/* ---- the end ---- */

static void
test_drain(void **state)
{
    struct stage *s = set_up(AUTH_NONE);
    struct crowd busy = {0}, waiting = {0};
    atomic_bool hold = true;
    struct session *a = lease(s);
    pthread_t t;

    (void)state;
    (void)t;
    busy.hold = &hold;
    crowd_start(&busy, s, LONG_MS); /* has one */
    expect_count("messages", &s->liar.messages, 1);
    crowd_start(&waiting, s, LONG_MS); /* wants one */
    usleep(100000);
    pool_return(s->pool, a, false);
    crowd_join(&waiting);
    assert_non_null(waiting.lease.session); /* got that place */
    pool_drain(s->pool, 100);               /* the busy one takes longer */
    expect_count("open", &s->liar.open, 1);
    a = lease_for(s, LONG_MS, false).session;
    assert_null(a); /* no more of them */
    atomic_store(&hold, false);
    crowd_join(&busy);
    assert_int_equal(busy.kind, OUTCOME_SENT);
    pool_drain(s->pool, LONG_MS);
    expect_count("open", &s->liar.open, 0);
    expect_count("quits", &s->liar.quits, 3);
    tear_down(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_most_recent_first),
        cmocka_unit_test(test_messages_of_a_session),
        cmocka_unit_test(test_idle_and_age),
        cmocka_unit_test(test_due_at_lease),
        cmocka_unit_test(test_configured_otherwise),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_leaves_at_mail),
        cmocka_unit_test(test_leaves_at_the_end),
        cmocka_unit_test(test_refuses_and_stops_reading),
        cmocka_unit_test(test_big_message),
        cmocka_unit_test(test_wrong_certificate),
        cmocka_unit_test(test_no_trust_store),
        cmocka_unit_test(test_never_more_than_max),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_one_failure_for_all),
        cmocka_unit_test(test_failure_beside_a_good_session),
        cmocka_unit_test(test_halved),
        cmocka_unit_test(test_line_of_a_slow_account),
        cmocka_unit_test(test_line_is_judged_by_the_past),
        cmocka_unit_test(test_least_recently_used_goes),
        cmocka_unit_test(test_pace_of_logins),
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_password),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_token_absent),
        cmocka_unit_test(test_token_expired),
        cmocka_unit_test(test_token_refused_once),
        cmocka_unit_test(test_token_refused_twice),
        cmocka_unit_test(test_token_lasting_failures),
        cmocka_unit_test(test_drain),
    };

    signal(SIGPIPE, SIG_IGN); /* the server's, in our process */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
