/* tests/unit/token/test_refresher.c - mirrors milter/token/refresher.c: a day of
 * tokens against an endpoint that is a function, on a clock that stands still.
 * SPDX-License-Identifier: Apache-2.0
 */
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

static struct endpoint {
    _Atomic unsigned asked;     /* requests so far */
    _Atomic unsigned now, most; /* at once */
    unsigned status;
    const char *body;
    unsigned pause_us;
    bool hangs;                 /* but for service accounts */
    _Atomic unsigned cut_count; /* of those that hang, all at once */
} endpoint;

static const char a_token[] =
    "{\"access_token\":\"ya29.token\",\"expires_in\":3600}";

static void
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
    assert_true(buf_add(&ret->body, endpoint.body, strlen(endpoint.body)));
    if (endpoint.pause_us != 0)
        usleep(endpoint.pause_us);
    atomic_fetch_sub(&endpoint.now, 1);
    atomic_fetch_add(&endpoint.asked, 1);
}

void
https_answer_free(struct https_answer *a)
{
    buf_wipe_free(&a->body);
}

static void
answer_with(unsigned status, const char *body)
{
    memset(&endpoint, 0, sizeof endpoint);
    endpoint.status = status;
    endpoint.body = body;
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

static void
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
static void
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

static void
read_file(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    ret[fread(ret, 1, size - 1, f)] = '\0';
    fclose(f);
}

static struct policy *
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

static void
on_alert(void *cookie, const struct alert *what)
{
    (void)cookie;
    pthread_mutex_lock(&told.lock);
    assert_true(alert_book_note(told.book, what));
    pthread_mutex_unlock(&told.lock);
}

/* Everything new, a line each: "topic subject state". */
static const char *
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

static void
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

static int
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

static int
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
static void
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

static struct token_status
status_of(unsigned account)
{
    struct token_status s;

    assert_int_equal(status_peek(t.status, t.mailbox[account].id, &s),
                     STATE_OK);
    return s;
}

static unsigned
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

static bool
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

/* ---- tests ---- */

static void
everybody_gets_one_and_it_is_renewed_in_time(void **state)
{
    struct token token;

    (void)state;
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_int_equal(token_read(t.status, t.mailbox[0].id, &token), STATE_OK);
    assert_int_equal(token.len, strlen("ya29.token"));
    assert_true(atomic_load(&endpoint.most) <= 4);
    fixture_pass(LIFE_S * 1000 * 3 / 100);
    run_until(ACCOUNTS); /* too early for any */
    fixture_pass(LIFE_S * 1000 * 82 / 100);
    run_until(2 * ACCOUNTS); /* late for all */
    /* That was by schedule, and so is the next. */
    fixture_pass(LIFE_S * 1000 * 75 / 100);
    run_until(2 * ACCOUNTS);
    fixture_pass(LIFE_S * 1000 * 10 / 100);
    run_until(3 * ACCOUNTS);
}

/* Those who came together do not come together again. */
static void
a_start_is_spread_over_the_life(void **state)
{
    unsigned before = 0, most = 0;

    (void)state;
    run_until(ACCOUNTS);
    atomic_store(&endpoint.asked, 0);
    for (unsigned i = 0; i < 17; i++) {
        unsigned n;

        fixture_pass(LIFE_S * 1000 / 20);
        for (unsigned k = 0; k < 30; k++) {
            refresher_tick(t.refresher);
            usleep(1000);
        }
        n = atomic_load(&endpoint.asked);
        most = n - before > most ? n - before : most;
        before = n;
    }
    assert_true(before >= ACCOUNTS);
    assert_true(most <= ACCOUNTS * 3 / 5);
}

static void
a_restart_costs_no_request(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    fixture_pass(LIFE_S * 1000 / 2);
    refresher_free(t.refresher);
    token_book_free(t.book);
    start_book();
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    fixture_pass(LIFE_S * 1000 * 35 / 100);
    run_until(2 * ACCOUNTS);
}

/* However many wait for it: a wish for what is being fetched is no second
 * request. */
static void
many_wishes_are_one_request(void **state)
{
    uint64_t serial;

    (void)state;
    run_until(ACCOUNTS);
    serial = status_of(3).serial;
    endpoint.pause_us = 30000;
    fixture_pass(10000); /* a token refused at once would be pointless */
    for (unsigned i = 0; i < 20; i++) {
        refresher_want(t.refresher, "a3@example.com", serial);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    run_until(ACCOUNTS + 1);
    assert_true(status_of(3).serial > serial);
    /* Who saw the old one refused only now gets the new one. */
    refresher_want(t.refresher, "a3@example.com", serial);
    run_until(ACCOUNTS + 1);
}

static void
a_refused_client_is_asked_for_once(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    answer_with(401, "{\"error\":\"invalid_client\"}");
    fixture_pass(LIFE_S * 1000 * 76 / 100); /* about when the first are due */
    for (unsigned i = 0; i < 50 && atomic_load(&endpoint.asked) == 0; i++) {
        fixture_pass(10000);
        refresher_tick(t.refresher);
        usleep(5000);
    }
    usleep(20000);
    assert_in_range(atomic_load(&endpoint.asked), 1, 4);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
    assert_non_null(strstr(status_of(7).error, "client_secret_file"));
    /* The tokens they have are as good as ever. */
    assert_true(status_of(7).expires_at_s * 1000 >
                atomic_load(&fixture_wall_ms));

    /* Ten minutes later one tries, for all of them. */
    answer_with(401, "{\"error\":\"invalid_client\"}");
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    run_until(1);
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

static void
a_new_client_secret_is_tried_at_once(void **state)
{
    (void)state;
    answer_with(401, "{\"error\":\"invalid_client\"}");
    for (unsigned i = 0; i < 50 && count(TOKEN_CLIENT_BROKEN) != ACCOUNTS;
         i++) {
        refresher_tick(t.refresher);
        usleep(5000);
        if (atomic_load(&endpoint.asked) == 0)
            continue;
        break;
    }
    usleep(20000);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
    answer_with(200, a_token);
    run_until(0);
    write_file(t.secret, "another\n");
    fixture_pass(1000);
    for (unsigned i = 0; i < 50 && atomic_load(&endpoint.asked) == 0; i++) {
        refresher_tick(t.refresher);
        usleep(2000);
    }
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

/* Refuses the client, for everybody. */
static void
refuse_all(void)
{
    answer_with(401, "{\"error\":\"invalid_client\"}");
    for (unsigned i = 0; i < 50 && count(TOKEN_CLIENT_BROKEN) != ACCOUNTS;
         i++) {
        refresher_tick(t.refresher);
        usleep(5000);
    }
    usleep(20000);
    assert_int_equal(count(TOKEN_CLIENT_BROKEN), ACCOUNTS);
}

static void
one_alert_for_a_client_and_one_for_an_account(void **state)
{
    unsigned lines = 0;

    (void)state;
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    refuse_all();
    assert_string_equal(news(), "client client corp client_refused\n");
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");

    /* Trouble with the network is told when tokens have run out, once. */
    answer_with(0, "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 / 5);
    for (unsigned i = 2; i < 8; i++) {
        run_until(i * ACCOUNTS);
        fixture_pass(400 * 1000);
    }
    assert_string_equal(news(), "client client corp transient\n");
    answer_with(200, a_token);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");

    answer_with(400, "{\"error\":\"invalid_grant\"}");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    for (const char *p = news(); *p != '\0'; p++)
        lines += *p == '\n';
    assert_int_equal(lines, ACCOUNTS); /* each needs a login of its own */
    answer_with(200, "{\"access_token\":\"x\","
                     "\"refresh_token_expires_in\":90000}");
    write_file(t.token, "1//login\n");
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "ending a7@example.com ends_soon\n"));
}

/* Whoever is refused for himself was let in as a client. */
static void
an_answer_about_the_account_frees_the_client(void **state)
{
    (void)state;
    refuse_all();
    answer_with(401, "{\"error\":\"unauthorized_client\"}");
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_CONFIG), ACCOUNTS);
}

/* A new secret, and an endpoint that says nothing of it: no storm. */
static void
a_probe_without_an_answer_is_not_repeated_at_once(void **state)
{
    (void)state;
    refuse_all();
    answer_with(503, "");
    write_file(t.secret, "another\n");
    run_until(1);
    run_until(1);
    fixture_pass(6 * 1000); /* another account tries */
    answer_with(200, a_token);
    fixture_pass(11 * 60 * 1000);
    run_until(1);
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

static void
a_passing_failure_leaves_the_token_in_use(void **state)
{
    struct token_status s;
    unsigned asked;

    (void)state;
    run_until(ACCOUNTS);
    answer_with(0, "");
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    run_until(ACCOUNTS);
    s = status_of(0);
    assert_int_equal(s.state, TOKEN_RETRYING);
    assert_true(s.expires_at_s * 1000 > atomic_load(&fixture_wall_ms));
    assert_non_null(strstr(s.error, "no route to host"));
    /* One second, then two, ...: not at once, but soon. */
    run_until(ACCOUNTS);
    fixture_pass(1300);
    run_until(2 * ACCOUNTS);
    asked = atomic_load(&endpoint.asked);
    answer_with(200, a_token);
    fixture_pass(10000);
    run_until(ACCOUNTS);
    assert_int_equal(asked, 2 * ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

/* Whatever the network and the endpoint do. */
static void
no_trouble_costs_a_secret_or_a_valid_token(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
    } rows[] = {{0, ""},
                {500, "{\"error\":\"invalid_grant\"}"},
                {502, "<html>Bad Gateway</html>"},
                {429, "{\"error\":\"invalid_client\"}"},
                {403, "<html>Sorry...</html>"},
                {400, "{\"error\":\"invalid_gr"},
                {401, ""},
                {200, "{\"access_token\":\"\"}"},
                {200, "<html>Welcome to the hotel</html>"}};
    char before[64], after[64], path[160];
    struct token token;
    uint64_t serial;

    (void)state;
    run_until(ACCOUNTS);
    serial = status_of(0).serial;
    read_file(t.token, before, sizeof before);
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %u %s\n", rows[i].status, rows[i].body);
        answer_with(rows[i].status, rows[i].body);
        run_until(ACCOUNTS);
        assert_int_equal(count(TOKEN_RETRYING), ACCOUNTS);
        assert_int_equal(token_read(t.status, t.mailbox[0].id, &token),
                         STATE_OK);
        assert_int_equal(token.serial, serial);
        assert_true(token.expires_at_s * 1000 > atomic_load(&fixture_wall_ms));
        read_file(t.token, after, sizeof after);
        assert_string_equal(before, after);
        fixture_pass(2000ull << i); /* longer than the pause before the next */
    }
    snprintf(path, sizeof path, "%s/tokens/%016" PRIx64 ".token", t.directory,
             t.mailbox[0].id);
    assert_int_equal(access(path, F_OK), -1);
}

/* Asleep for a night: whoever ran out is asked for at once, nobody twice. */
static void
a_night_asleep_is_made_up_for_at_once(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    fixture_pass(9 * HOUR_MS);
    endpoint.pause_us = 2000;
    run_until(2 * ACCOUNTS);
    assert_true(atomic_load(&endpoint.most) <= 4);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_true(status_of(1).expires_at_s * 1000 >
                atomic_load(&fixture_wall_ms));
}

/* Behind an endpoint that is slow, who is waited for does not wait for all. */
static void
who_is_waited_for_comes_first(void **state)
{
    (void)state;
    endpoint.pause_us = 60000;
    refresher_tick(t.refresher); /* four are asked for, sixteen wait */
    refresher_want(t.refresher, "a3@example.com", 0);
    refresher_want(t.refresher, "a12@example.com", 0);
    refresher_want(t.refresher, "a19@example.com", 0);
    for (unsigned i = 0; i < 5000 && atomic_load(&endpoint.asked) < 8; i++)
        usleep(500);
    usleep(20000);
    assert_in_range(count(TOKEN_OK), 8, 12);
    assert_int_equal(status_of(3).state, TOKEN_OK);
    assert_int_equal(status_of(12).state, TOKEN_OK);
    assert_int_equal(status_of(19).state, TOKEN_OK);
    endpoint.pause_us = 0;
    run_until(ACCOUNTS);
}

/* Half of the accounts are of an endpoint that is a black hole. */
static void
an_endpoint_that_hangs_does_not_hold_the_others(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    answer_with(200, a_token);
    endpoint.hangs = true;
    fixture_pass(LIFE_S * 1000 * 85 / 100);
    refresher_tick(t.refresher);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.now) < 4; i++)
        usleep(500);
    assert_int_equal(atomic_load(&endpoint.now), 4); /* nobody knows yet */
    fixture_pass(30000);
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.asked) < 4; i++)
        usleep(500);
    for (unsigned i = 0; i < 20; i++) {
        fixture_pass(1000);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&endpoint.now), 1);
    refresher_want(t.refresher, "s1@staff.example", 0);
    for (unsigned i = 0; i < 2000 && !has_token("s1@staff.example"); i++) {
        refresher_tick(t.refresher);
        usleep(500);
    }
    assert_true(has_token("s1@staff.example"));
    assert_int_equal(atomic_load(&endpoint.now), 1);

    /* It is told as soon as somebody has no token any more. */
    assert_string_equal(news(), "");
    fixture_pass(LIFE_S * 1000 / 5);
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && atomic_load(&endpoint.asked) < 6; i++)
        usleep(500);
    usleep(20000);
    assert_string_equal(news(), "client client corp transient\n");

    /* And over as soon as one is answered. */
    endpoint.hangs = false;
    atomic_fetch_add(&endpoint.cut_count, 1);
    for (unsigned i = 0; i < 2000 && count(TOKEN_OK) < ACCOUNTS; i++) {
        fixture_pass(1000);
        refresher_tick(t.refresher);
        usleep(1000);
    }
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");
}

/* The machine starts anew: of the memory nothing is left. */
static void
reboot(void)
{
    char path[120];

    refresher_free(t.refresher);
    token_book_free(t.book);
    status_reader_free(t.status);
    for (const char *const *name =
             (const char *const[]){"status", "token", NULL};
         *name != NULL; name++) {
        snprintf(path, sizeof path, "%s/%s", t.directory, *name);
        assert_int_equal(unlink(path), 0);
    }
    start_book();
    t.status = status_reader_new(t.directory, true);
    assert_non_null(t.status);
}

static void
pass_days(unsigned n)
{
    fixture_pass(n * 24 * HOUR_MS);
}

/* The file is as old as the consent; what counts is the last use. */
static void
a_reboot_does_not_forget_the_last_use(void **state)
{
    time_t given = (time_t)(atomic_load(&fixture_wall_ms) / 1000) - 500 * 86400;
    struct timeval times[2] = {{.tv_sec = given}, {.tv_sec = given}};

    (void)state;
    assert_int_equal(utimes(t.token, times), 0);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    reboot();
    answer_with(503, "");
    pass_days(148);
    run_until(ACCOUNTS);
    assert_null(strstr(news(), "unused"));
    reboot();
    answer_with(503, "");
    pass_days(3);
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "unused a7@example.com unused\n"));
    answer_with(200, a_token);
    pass_days(1);
    run_until(ACCOUNTS);
    assert_non_null(strstr(news(), "unused a7@example.com ok\n"));
    /* A crash costs an hour of it at most. */
    fixture_pass(LIFE_S * 1000);
    run_until(2 * ACCOUNTS);
    for (unsigned i = 0; i < 200; i++) {
        struct last_used l;
        char err[300];
        int64_t used_s;

        refresher_tick(t.refresher);
        assert_true(last_used_read(t.directory, &l, err, sizeof err));
        used_s = last_used_find(&l, t.mailbox[7].id);
        last_used_free(&l);
        if (used_s >= atomic_load(&fixture_wall_ms) / 1000 - 2 * LIFE_S)
            return;
        usleep(5000);
    }
    fail_msg("not stored");
}

/* Seven days after the consent it is over. */
static void
testing_mode_is_told_of_two_days_ahead(void **state)
{
    time_t given = (time_t)(atomic_load(&fixture_wall_ms) / 1000) - 4 * 86400;
    struct timeval times[2] = {{.tv_sec = given}, {.tv_sec = given}};
    unsigned lines = 0;

    (void)state;
    assert_int_equal(utimes(t.token, times), 0);
    t.testing = true;
    conf_publish(t.conf, make_policy());
    refresher_reload(t.refresher);
    run_until(ACCOUNTS);
    assert_string_equal(news(), "");
    fixture_pass(25 * HOUR_MS);
    run_until(2 * ACCOUNTS);
    for (const char *p = news(); (p = strstr(p, "ends_soon\n")) != NULL; p++)
        lines++;
    assert_int_equal(lines, ACCOUNTS); /* each of them needs a login */
    fixture_pass(HOUR_MS);
    run_until(3 * ACCOUNTS);
    assert_string_equal(news(), "");
    write_file(t.token, "1//login\n"); /* now, which is a day ago */
    fixture_pass(HOUR_MS);
    run_until(4 * ACCOUNTS);
    assert_non_null(strstr(news(), "ending a7@example.com ok\n"));
}

/* What an administrator has just allowed takes up to a day to come into
 * force. */
static void
unauthorized_is_tried_hourly_for_a_day(void **state)
{
    unsigned asked = ACCOUNTS;

    (void)state;
    answer_with(401, "{\"error\":\"unauthorized_client\"}");
    run_until(asked);
    assert_int_equal(count(TOKEN_CONFIG), ACCOUNTS);
    assert_string_equal(news(), "client client corp unauthorized\n");
    for (unsigned hour = 1; hour <= 24; hour++) {
        fixture_pass(50 * 60 * 1000);
        run_until(asked);
        fixture_pass(14 * 60 * 1000);
        asked += ACCOUNTS;
        run_until(asked);
    }
    fixture_pass(5 * HOUR_MS);
    run_until(asked);
    fixture_pass(80 * 60 * 1000);
    run_until(asked + ACCOUNTS);
    assert_string_equal(news(), "");
    /* Whoever does not want to wait reloads. */
    answer_with(200, a_token);
    refresher_reload(t.refresher);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    assert_string_equal(news(), "client client corp ok\n");
}

static void
a_dead_refresh_token_waits_for_a_person(void **state)
{
    (void)state;
    answer_with(400, "{\"error\":\"invalid_grant\"}");
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_NEEDS_LOGIN), ACCOUNTS);
    fixture_pass(3600 * 1000);
    refresher_want(t.refresher, "a1@example.com", 0);
    run_until(ACCOUNTS); /* no message makes it come sooner */
    answer_with(200, a_token);
    write_file(t.token, "1//login\n");
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
}

/* Nobody has written from there for a day; the named ones go on. */
static void
an_idle_mailbox_of_a_template_rests(void **state)
{
    (void)state;
    run_until(ACCOUNTS);
    refresher_want(t.refresher, "s1@staff.example", 0);
    run_until(ACCOUNTS + 1);
    answer_with(200, a_token);
    fixture_pass(23 * HOUR_MS);
    run_until(ACCOUNTS + 1);
    fixture_pass(2 * HOUR_MS);
    run_until(2 * ACCOUNTS + 1);
    refresher_want(t.refresher, "s1@staff.example", 0);
    run_until(2 * ACCOUNTS + 2);
}

/* Many more senders of a template than slots, day after day. */
static void
slots_of_templates_are_used_again(void **state)
{
    char identity[64];

    (void)state;
    run_until(ACCOUNTS);
    for (unsigned i = 0; i < 5 * SLOTS; i++) {
        snprintf(identity, sizeof identity, "s%u@staff.example", i);
        refresher_want(t.refresher, identity, 0);
        refresher_want(t.refresher, "often@staff.example", 0);
        fixture_pass(1000);
        for (unsigned k = 0; k < 2000 && !has_token(identity); k++) {
            refresher_tick(t.refresher);
            usleep(500);
        }
        assert_true(has_token(identity));
    }
    /* Who is wanted often and who is configured by name have stayed. */
    assert_true(has_token("often@staff.example"));
    assert_true(has_token("a0@example.com"));
    assert_true(has_token("a19@example.com"));
    assert_false(has_token("s0@staff.example"));
    /* Whoever comes back gets a new one. */
    refresher_want(t.refresher, "s0@staff.example", 0);
    for (unsigned k = 0; k < 2000 && !has_token("s0@staff.example"); k++) {
        refresher_tick(t.refresher);
        usleep(500);
    }
    assert_true(has_token("s0@staff.example"));
}

static void
a_rotated_token_is_kept_until_it_is_on_disk(void **state)
{
    static const char rotated[] =
        "{\"access_token\":\"x\",\"refresh_token\":\"1//new\"}";
    char folder[100], path[160];

    (void)state;
    /* A directory that cannot be unlinked is where the new file would be. */
    snprintf(folder, sizeof folder, "%s/tokens", t.directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        snprintf(path, sizeof path, "%s/%016" PRIx64 ".token.new", folder,
                 t.mailbox[i].id);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    answer_with(200, rotated);
    run_until(ACCOUNTS);
    assert_int_equal(count(TOKEN_OK), ACCOUNTS);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        snprintf(path, sizeof path, "%s/%016" PRIx64 ".token.new", folder,
                 t.mailbox[i].id);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(fixture_count(folder, ""), 2); /* . and .. */
    fixture_pass(31 * 1000);
    run_until(ACCOUNTS); /* stored, with no further request */
    for (unsigned i = 0; i < 200 && fixture_count(folder, "") < ACCOUNTS + 2;
         i++)
        usleep(5000);
    assert_int_equal(fixture_count(folder, ""), ACCOUNTS + 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everybody_gets_one_and_it_is_renewed_in_time),
        TEST(a_start_is_spread_over_the_life),
        TEST(a_restart_costs_no_request),
        TEST(many_wishes_are_one_request),
        TEST(a_refused_client_is_asked_for_once),
        TEST(one_alert_for_a_client_and_one_for_an_account),
        TEST(a_new_client_secret_is_tried_at_once),
        TEST(an_answer_about_the_account_frees_the_client),
        TEST(a_probe_without_an_answer_is_not_repeated_at_once),
        TEST(a_passing_failure_leaves_the_token_in_use),
        TEST(no_trouble_costs_a_secret_or_a_valid_token),
        TEST(a_night_asleep_is_made_up_for_at_once),
        TEST(who_is_waited_for_comes_first),
        TEST(an_endpoint_that_hangs_does_not_hold_the_others),
        TEST(a_reboot_does_not_forget_the_last_use),
        TEST(testing_mode_is_told_of_two_days_ahead),
        TEST(unauthorized_is_tried_hourly_for_a_day),
        TEST(a_dead_refresh_token_waits_for_a_person),
        TEST(an_idle_mailbox_of_a_template_rests),
        TEST(slots_of_templates_are_used_again),
        TEST(a_rotated_token_is_kept_until_it_is_on_disk),
    };

    return cmocka_run_group_tests_name("token/refresher", tests, NULL, NULL);
}
