/* tests/unit/deliver/pool_stage.c - see pool_stage.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/unit/deliver/pool_stage.h"

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

_Atomic uint64_t jumped_ms;

uint64_t
stage_boot_ms(void *cookie)
{
    (void)cookie;
    return clock_boot_ms(&clock_real) + atomic_load(&jumped_ms);
}

int64_t
stage_wall_ms(void *cookie)
{
    (void)cookie;
    return clock_wall_ms(&clock_real) + (int64_t)atomic_load(&jumped_ms);
}

const struct clock stage_clock = {stage_boot_ms, stage_wall_ms, NULL};

void
write_password(struct stage *s, const char *text, mode_t mode)
{
    FILE *f = fopen(s->password_file, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(s->password_file, mode), 0);
}

void
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

void
publish_state(struct stage *s, enum token_state state, const char *error)
{
    struct token_status t = {.id = ACCOUNT_ID, .state = state};

    snprintf(t.identity, sizeof t.identity, "me@example.com");
    snprintf(t.error, sizeof t.error, "%s", error);
    assert_int_equal(token_book_set(s->book, &t), STATE_OK);
}

struct pool_sessions *
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

void
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

struct stage *
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

void
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

struct lease
lease_for(struct stage *s, uint64_t ms, bool fresh)
{
    return pool_lease(s->pool, &s->mailbox, stage_boot_ms(NULL) + ms, fresh);
}

struct session *
lease(struct stage *s)
{
    struct lease l = lease_for(s, LONG_MS, false);

    if (l.session == NULL)
        fail_msg("no session: %s (%u %s)", l.verdict.meaning, l.reply.code,
                 l.reply.text);
    return l.session;
}

struct letter_result
send_copy(struct session *session, struct message_copy *copy, bool *ret_usable)
{
    const char *rcpt[] = {"you@x.org"};
    struct letter l = {"me@example.com", 1, rcpt, copy, false, false};
    struct letter_result r;

    *ret_usable = session_send(session, &l, &r);
    return r;
}

/* One message through the pool, with the kind of its end. */
enum outcome_kind
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
void
expect_count(const char *what, atomic_int *count, int want)
{
    for (int i = 0; i < 3000 && atomic_load(count) != want; i++)
        usleep(10000);
    if (atomic_load(count) != want)
        fail_msg("%s: %d, want %d", what, atomic_load(count), want);
}

void
expect_sessions(struct stage *s, uint32_t open, uint32_t busy)
{
    struct quota_view v;

    assert_int_equal(quota_peek(s->reader, ACCOUNT_ID, &v), STATE_OK);
    assert_int_equal(v.sessions_open, open);
    assert_int_equal(v.sessions_busy, busy);
}
