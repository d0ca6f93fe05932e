/* tests/unit/token/refresher_case.h - a refresher without its daemon: an
 * endpoint that is a function, on a clock that stands still.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_REFRESHER_CASE_H
#define TESTS_REFRESHER_CASE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "milter/token/last_used.h"
#include "milter/token/refresher.h"
#include "tests/unit/state/fixture.h"

enum { ACCOUNTS = 20, LIFE_S = 3600, SLOTS = 100 };

/* ---- the endpoint ---- */

static struct endpoint {        /* all of it is looked at by workers */
    _Atomic unsigned asked;     /* requests so far */
    _Atomic unsigned now, most; /* at once */
    _Atomic unsigned status;
    const char *_Atomic body;
    _Atomic unsigned pause_us;
    _Atomic bool hangs;         /* but for service accounts */
    _Atomic unsigned cut_count; /* of those that hang, all at once */
} endpoint;

static const char a_token[] =
    "{\"access_token\":\"ya29.token\",\"expires_in\":3600}";

static inline void
post(const struct https_request *q, struct https_answer *ret)
{
    unsigned now = atomic_fetch_add(&endpoint.now, 1) + 1;
    unsigned cut_count = atomic_load(&endpoint.cut_count);
    bool hangs = endpoint.hangs && memmem(q->form, q->form_len, "assertion",
                                          strlen("assertion")) == NULL;

    while (hangs && atomic_load(&endpoint.cut_count) == cut_count)
        usleep(500);
    if (now > atomic_load(&endpoint.most))
        atomic_store(&endpoint.most, now);
    memset(ret, 0, sizeof *ret);
    buf_init(&ret->body, HTTPS_BODY_MAX);
    ret->status = hangs ? 0 : endpoint.status;
    if (ret->status == 0)
        snprintf(ret->error, sizeof ret->error, "no route to host");
    assert_true(buf_add_text(&ret->body, endpoint.body));
    usleep(endpoint.pause_us);
    atomic_fetch_sub(&endpoint.now, 1);
    atomic_fetch_add(&endpoint.asked, 1);
}

void
https_answer_free(struct https_answer *a)
{
    buf_wipe_free(&a->body);
}

static inline void
answer_with(unsigned status, const char *body)
{
    endpoint.status = status;
    endpoint.body = body;
    endpoint.pause_us = 0;
    endpoint.hangs = false;
    atomic_store(&endpoint.asked, 0);
    atomic_store(&endpoint.most, 0);
}

/* ---- a daemon without its loop ---- */

static struct tower {
    char directory[64], secret[100], token[100], key[100];
    struct conf_holder *conf;
    struct token_book *book;
    struct status_reader *status;
    struct refresher *refresher;
    struct mailbox mailbox[ACCOUNTS];
    bool testing; /* mode of the client's consent screen */
} t;

static inline void
write_file(const char *path, const char *text)
{
    FILE *f;

    unlink(path);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, 0600), 0);
}

/* Of a service account. */
static inline void
write_key(const char *path)
{
    static char json[8192];
    EVP_PKEY *key = EVP_RSA_gen(1024);
    BIO *bio = BIO_new(BIO_s_mem());
    json_t *file;
    char pem[4096];
    int n;

    assert_non_null(key);
    assert_true(
        PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
    n = BIO_read(bio, pem, sizeof pem - 1);
    assert_true(n > 0);
    pem[n] = '\0';
    file = json_pack("{s:s, s:s}", "client_email", "sa@p.example",
                     "private_key", pem);
    memset(json, 0, sizeof json); /* json_dumpb writes no NUL */
    assert_true(json_dumpb(file, json, sizeof json - 1, 0) < sizeof json);
    write_file(path, json);
    json_decref(file);
    BIO_free(bio);
    EVP_PKEY_free(key);
}

static inline void
read_file(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    ret[fread(ret, 1, size - 1, f)] = '\0';
    fclose(f);
}

static inline struct policy *
make_policy(void)
{
    static char text[16384];
    static struct diag d;
    int n =
        snprintf(text, sizeof text,
                 "gmroute: 1\n"
                 "state: {directory: %s, runtime: %s, accounts: 100}\n"
                 "oauth_clients: {corp: {client_id: i, "
                 "client_secret_file: %s, testing: %s}}\n"
                 "accounts:\n",
                 t.directory, t.directory, t.secret, t.testing ? "yes" : "no");
    struct policy *p;

    for (unsigned i = 0; i < ACCOUNTS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "  a%u: {address: a%u@example.com, auth: {oauth2: "
                      "{client: corp, refresh_token_file: %s}}}\n",
                      i, i, t.token);
    n += snprintf(text + n, sizeof text - (size_t)n,
                  "  staff: {address: '*@staff.example', auth: "
                  "{service_account: {key_file: %s}}}\n",
                  t.key);
    p = policy_compile(text, (size_t)n, "/t.yaml", NULL, &d);
    if (p == NULL)
        fail_msg("%u: %s", d.item[0].at.line, d.item[0].text);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        char identity[64];

        snprintf(identity, sizeof identity, "a%u@example.com", i);
        assert_true(policy_mailbox(p, identity, &t.mailbox[i]));
    }
    return p;
}

/* ---- what people are told ---- */

static struct {
    pthread_mutex_t lock;
    struct alert_book *book;
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void
on_alert(void *cookie, const struct alert *what)
{
    (void)cookie;
    pthread_mutex_lock(&told.lock);
    assert_true(alert_book_note(told.book, what));
    pthread_mutex_unlock(&told.lock);
}

/* Everything new, a line each: "topic subject state". */
static inline const char *
news(void)
{
    static char text[4000];
    struct alert a;
    int n = 0;

    text[0] = '\0';
    pthread_mutex_lock(&told.lock);
    while (n < (int)sizeof text &&
           alert_book_next(told.book, atomic_load(&fixture_boot_ms), 0, &a))
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %s %s\n",
                      alert_topic_name(a.topic), a.subject, a.state);
    pthread_mutex_unlock(&told.lock);
    return text;
}

static inline void
start_book(void)
{
    char err[300];

    assert_int_equal(
        token_book_make(&t.book, t.directory, SLOTS, err, sizeof err),
        STATE_OK);
    t.refresher = refresher_new(&(struct refresher_options){
        .conf = t.conf,
        .book = t.book,
        .clock = &fixture_clock,
        .post = post,
        .note = on_alert,
        .slots = SLOTS,
        .workers = 4,
    });
    assert_non_null(t.refresher);
    refresher_reload(t.refresher);
}

static inline int
start(void **state)
{
    (void)state;
    fixture_directory(t.directory, sizeof t.directory);
    /* The book looks at the machine's clock to see what has run out. */
    atomic_store(&fixture_wall_ms, clock_wall_ms(&clock_real));
    snprintf(t.secret, sizeof t.secret, "%s/corp.secret", t.directory);
    snprintf(t.token, sizeof t.token, "%s/all.token", t.directory);
    write_file(t.secret, "s\n");
    write_file(t.token, "1//r\n");
    snprintf(t.key, sizeof t.key, "%s/sa.json", t.directory);
    write_key(t.key);
    t.testing = false;
    t.conf = conf_holder_new(make_policy());
    told.book = alert_book_new();
    assert_non_null(told.book);
    answer_with(200, a_token);
    start_book();
    t.status = status_reader_new(t.directory, true);
    return t.conf == NULL || t.status == NULL;
}

static inline int
stop(void **state)
{
    char folder[100];

    (void)state;
    refresher_free(t.refresher);
    token_book_free(t.book);
    status_reader_free(t.status);
    conf_holder_free(t.conf);
    alert_book_free(told.book);
    snprintf(folder, sizeof folder, "%s/tokens", t.directory);
    fixture_remove(folder);
    fixture_remove(t.directory);
    return 0;
}

/* Ticks until so many requests have been made and nobody asks any more. */
static inline void
run_until(unsigned asked)
{
    unsigned before = 0;

    for (unsigned i = 0; i < 5000; i++) {
        refresher_tick(t.refresher);
        usleep(1000);
        if (atomic_load(&endpoint.asked) < asked ||
            atomic_load(&endpoint.asked) != before ||
            atomic_load(&endpoint.now) != 0) {
            before = atomic_load(&endpoint.asked);
            continue;
        }
        break;
    }
    /* What was asked has been published. */
    usleep(20000);
    assert_int_equal(atomic_load(&endpoint.asked), asked);
}

static inline struct token_status
status_of(unsigned account)
{
    struct token_status s;

    assert_int_equal(status_peek(t.status, t.mailbox[account].id, &s),
                     STATE_OK);
    return s;
}

static inline unsigned
count(enum token_state state)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct token_status s;

        n += status_peek(t.status, t.mailbox[i].id, &s) == STATE_OK &&
             s.state == state;
    }
    return n;
}

static inline bool
has_token(const char *identity)
{
    struct conf *conf = conf_ref(t.conf);
    struct token token;
    struct mailbox m;
    bool has;

    assert_true(policy_mailbox(conf->policy, identity, &m));
    has = token_read(t.status, m.id, &token) == STATE_OK;
    conf_unref(conf);
    return has;
}

#endif
