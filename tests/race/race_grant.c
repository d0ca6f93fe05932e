/* tests/race/race_grant.c - 64 threads never get more than the limit, and all
 * of it, whatever else goes on.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "milter/state/quota.h"
#include "policy/window.h"
#include "tests/race/race.h"
#include "tests/unit/state/fixture.h"

enum { THREADS = 64, LIMIT = 64000 };

static char directory[100];
static struct fixture_policy fixture;
static struct quota *quota;
static struct mailbox sales, news;

static void
make(const struct limit *limit, unsigned n)
{
    char err[300] = "";

    quota_free(quota);
    fixture_policy(&fixture, limit, n);
    fixture.policy.state.unique_recipients = 1000000;
    sales = fixture_mailbox(&fixture.account[0], "sales@example.com");
    RACE_CHECK(quota_make(&quota, directory, &fixture.policy, &fixture_clock, 0,
                          err, sizeof err) == STATE_OK,
               "%s", err);
}

static struct quota_view
view(void)
{
    struct quota_reader *r = quota_reader_new(directory, &fixture_clock);
    struct quota_view v;
    enum state_result result = quota_peek(r, sales.id, &v);

    RACE_CHECK(result == STATE_OK, "%s", state_result_text(result));
    quota_reader_free(r);
    return v;
}

static void
run(void *(*what)(void *arg), void *arg, size_t size)
{
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++)
        RACE_CHECK(pthread_create(&thread[i], NULL, what,
                                  (char *)arg + (size_t)i * size) == 0,
                   "thread %d", i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

/* ---- as fast as they can, until it is full ---- */

struct greedy {
    uint64_t granted;
};

static void *
take_all(void *arg)
{
    struct greedy *g = arg;
    struct cost c = {.messages = 1, .recipients = 3};
    struct taken t;
    struct room room;

    while (quota_take(quota, sales.id, &c, 100, &t, &room))
        g->granted++;
    RACE_CHECK(room.limiting == DIM_RECIPIENTS, "limited by %d", room.limiting);
    return NULL;
}

static void
exactly_the_limit(void)
{
    static const struct limit limits[] = {
        {DIM_MESSAGES, LIMIT, DAY_MS},
        {DIM_RECIPIENTS, 3 * (LIMIT / 2), DAY_MS}};
    struct greedy greedy[THREADS] = {{0}};
    struct quota_view v;
    uint64_t sum = 0;

    make(limits, 2);
    run(take_all, greedy, sizeof *greedy);
    for (int i = 0; i < THREADS; i++)
        sum += greedy[i].granted;
    v = view();
    printf("granted %llu of %d\n", (unsigned long long)sum, LIMIT / 2);
    RACE_CHECK(sum == LIMIT / 2, "%llu", (unsigned long long)sum);
    RACE_CHECK(v.window[0].used == sum && v.window[1].used == 3 * sum,
               "used %llu and %llu", (unsigned long long)v.window[0].used,
               (unsigned long long)v.window[1].used);
}

/* ---- taking and giving back ---- */

/* ---- different recipients: one account, many threads, one cap ---- */

enum { PEOPLE = 3000, UNIQUE_LIMIT = 1000, EACH = 20 };

static struct recipient_id
person(uint64_t n)
{
    return (struct recipient_id){n * 0x9e3779b97f4a7c15u + 1, n % 2 == 1};
}

/* Sends to some, of whom some are refused. */
static void *
mail_people(void *arg)
{
    struct greedy *g = arg;
    uint64_t seed = (uintptr_t)arg;

    for (unsigned i = 0; i < 4000; i++) {
        struct recipient_id who[EACH], kept[EACH];
        struct cost c = {.messages = 1, .recipients = EACH, .who = who};
        struct cost part = {.who = kept};
        struct taken t;
        struct room room;

        for (unsigned k = 0; k < EACH; k++)
            who[k] = person(race_random(&seed) % PEOPLE);
        c.n_who = recipient_ids_sort(who, EACH);
        if (!quota_take(quota, i % 2 == 0 ? sales.id : news.id, &c, 100, &t,
                        &room)) {
            RACE_CHECK(room.limiting == DIM_UNIQUE_RECIPIENTS &&
                           room.at_ms != WINDOW_NEVER,
                       "limited by %d", room.limiting);
            continue;
        }
        g->granted++;
        if (race_random(&seed) % 2 == 0) {
            quota_give_back(quota, &t);
            continue;
        }
        for (unsigned k = 0; k < c.n_who; k++)
            if (race_random(&seed) % 4 == 0)
                kept[part.n_who++] = who[k];
        part.recipients = part.n_who;
        quota_give_back_recipients(quota, &t, &part);
        quota_settle(quota, &t);
        if (i % 100 == 0)
            quota_sweep(quota);
    }
    return NULL;
}

/* Time stands still, so that what is settled stays: nobody passes the limit,
 * and what was given back left nothing. */
static void
different_recipients(void)
{
    static const struct limit limits[] = {
        {DIM_UNIQUE_RECIPIENTS, UNIQUE_LIMIT, DAY_MS},
        {DIM_UNIQUE_EXTERNAL_RECIPIENTS, UNIQUE_LIMIT, DAY_MS}};
    struct greedy greedy[THREADS] = {{0}};
    struct quota_view v;
    uint64_t external = 0, all = 0;

    make(limits, 2);
    news = fixture_mailbox(&fixture.account[1], "news@example.com");
    run(mail_people, greedy, sizeof *greedy);
    v = view();
    printf("%llu different recipients of %d\n",
           (unsigned long long)v.window[0].used, UNIQUE_LIMIT);
    RACE_CHECK(v.window[0].used <= UNIQUE_LIMIT &&
                   v.window[0].used > UNIQUE_LIMIT - EACH &&
                   v.window[1].used < v.window[0].used,
               "used %llu", (unsigned long long)v.window[0].used);
    /* Each of those who count has room; the others have not. */
    for (uint64_t n = 0; n < PEOPLE; n++) {
        struct recipient_id who[EACH] = {person(n)};
        struct cost c = {
            .messages = 1, .recipients = 1, .who = who, .n_who = 1};
        struct room room;

        /* With so many new ones that they alone fill it. */
        for (uint64_t k = v.window[0].used; k < UNIQUE_LIMIT; k++)
            who[c.n_who++] = person(PEOPLE + k);
        c.n_who = recipient_ids_sort(who, c.n_who);
        if (!quota_fits(quota, sales.id, &c, 100, &room))
            continue;
        all++;
        external += n % 2 == 1;
    }
    RACE_CHECK(all == v.window[0].used && external == v.window[1].used,
               "%llu and %llu are known", (unsigned long long)all,
               (unsigned long long)external);
}

struct generous {
    uint64_t seed, end_ms;
    uint64_t messages, recipients; /* kept */
    uint64_t takes;
};

static void *
take_and_give(void *arg)
{
    struct generous *g = arg;
    struct taken t;
    struct room room;

    while (!race_over(g->end_ms)) {
        uint32_t n = (uint32_t)(race_random(&g->seed) % 5) + 1, back;
        struct cost c = {.messages = 1, .recipients = n}, kept = c;

        if (!quota_take(quota, sales.id, &c, 100, &t, &room))
            continue;
        g->takes++;
        back = (uint32_t)(race_random(&g->seed) % n);
        kept.recipients = n - back;
        switch (race_random(&g->seed) % 100) {
        case 0: /* keep */
            g->messages++;
            g->recipients += n;
            break;
        case 1: /* keep a part */
            quota_give_back_recipients(quota, &t, &kept);
            g->messages++;
            g->recipients += n - back;
            break;
        case 2: /* give back in two parts */
            quota_give_back_recipients(quota, &t, &kept);
            quota_give_back(quota, &t);
            break;
        default:
            quota_give_back(quota, &t);
        }
    }
    return NULL;
}

static void
nothing_is_lost_or_made_up(unsigned seconds)
{
    static const struct limit limits[] = {{DIM_MESSAGES, 1000000, DAY_MS},
                                          {DIM_RECIPIENTS, 3000000, DAY_MS}};
    struct generous g[THREADS] = {{0}};
    uint64_t end_ms = race_end_ms(seconds), messages = 0, recipients = 0;
    uint64_t takes = 0;
    struct quota_view v;

    make(limits, 2);
    for (int i = 0; i < THREADS; i++) {
        g[i].seed = (uint64_t)i + 1;
        g[i].end_ms = end_ms;
    }
    run(take_and_give, g, sizeof *g);
    for (int i = 0; i < THREADS; i++) {
        messages += g[i].messages;
        recipients += g[i].recipients;
        takes += g[i].takes;
    }
    v = view();
    printf("%llu takes, kept %llu messages, %llu recipients\n",
           (unsigned long long)takes, (unsigned long long)messages,
           (unsigned long long)recipients);
    RACE_CHECK(v.window[0].used == messages, "%llu",
               (unsigned long long)v.window[0].used);
    RACE_CHECK(v.window[1].used == recipients, "%llu",
               (unsigned long long)v.window[1].used);
}

/* ---- everything at once, with a reader in another process ---- */

enum { ACCOUNTS = 3, MESSAGES_MAX = 40000 };

static struct fixture_policy other; /* the same windows, and one more */
static struct mailbox everybody[ACCOUNTS];
static atomic_bool is_done;

struct busy {
    uint64_t seed, end_ms;
    struct {
        uint64_t messages, recipients; /* kept */
    } kept[ACCOUNTS];
};

static void
rest_and_wake(const struct mailbox *m)
{
    quota_rest(quota, m->id, 1000, "Gmail asked for it");
    quota_set_state(quota, m->id, ACCOUNT_OK, 0, "");
}

static void *
do_everything(void *arg)
{
    struct busy *b = arg;

    while (!race_over(b->end_ms)) {
        unsigned who = (unsigned)(race_random(&b->seed) % ACCOUNTS);
        uint32_t n = (uint32_t)(race_random(&b->seed) % 5) + 1, back;
        struct cost c = {.messages = 1, .recipients = n, .bytes = 100};
        struct observation lifted;
        struct taken t;
        struct room room;

        if (race_random(&b->seed) % 500 == 0)
            rest_and_wake(&everybody[who]);
        if (!quota_take(quota, everybody[who].id, &c, 100, &t, &room))
            continue;
        back = (uint32_t)(race_random(&b->seed) % n);
        switch (race_random(&b->seed) % 8) {
        case 0:
            c.recipients -= back;
            quota_give_back_recipients(quota, &t, &c);
            quota_settle(quota, &t);
            quota_accepted(quota, t.id, &lifted);
            b->kept[who].messages++;
            b->kept[who].recipients += n - back;
            break;
        case 1:
            quota_settle(quota, &t);
            quota_give_back(quota, &t);
            break;
        default:
            quota_give_back(quota, &t);
        }
    }
    return NULL;
}

static void *
reload_and_let_time_pass(void *arg)
{
    char problem[300];

    (void)arg;
    for (bool more = true; !atomic_load(&is_done); more = !more) {
        RACE_CHECK(quota_reload(quota, more ? &other.policy : &fixture.policy,
                                problem, sizeof problem) == STATE_OK,
                   "%s", problem);
        fixture_pass(100);
        race_nap_us(300);
    }
    return NULL;
}

static void
check_view(const struct quota_view *v, const struct mailbox *m)
{
    RACE_CHECK(v->id == m->id && strcmp(v->identity, m->address) == 0, "%s",
               v->identity);
    RACE_CHECK(v->n == 3 || v->n == 4, "%u windows", v->n);
    for (unsigned i = 0; i < v->n; i++)
        RACE_CHECK(v->window[i].used <= v->window[i].limit, "%llu of %llu used",
                   (unsigned long long)v->window[i].used,
                   (unsigned long long)v->window[i].limit);
    RACE_CHECK(v->window[0].used <= v->window[1].used &&
                   v->window[1].used <= 5 * v->window[0].used &&
                   v->window[2].used == 100 * v->window[0].used,
               "%llu messages, %llu recipients, %llu octets",
               (unsigned long long)v->window[0].used,
               (unsigned long long)v->window[1].used,
               (unsigned long long)v->window[2].used);
    RACE_CHECK(v->state == ACCOUNT_OK || v->state == ACCOUNT_COOLING,
               "state %d", (int)v->state);
    RACE_CHECK(v->state == ACCOUNT_OK ||
                   (v->state_until_ms > 0 &&
                    strcmp(v->state_reason, "Gmail asked for it") == 0),
               "\"%s\"", v->state_reason);
}

static void
read_all(uint64_t end_ms)
{
    struct quota_reader *r = quota_reader_new(directory, &clock_real);
    unsigned good = 0;

    while (!race_over(end_ms))
        for (unsigned i = 0; i < ACCOUNTS; i++) {
            struct quota_view v;
            enum state_result result = quota_peek(r, everybody[i].id, &v);

            RACE_CHECK(result == STATE_OK || result == STATE_EBUSY, "%s",
                       state_result_text(result));
            if (result != STATE_OK)
                continue;
            check_view(&v, &everybody[i]);
            good++;
        }
    quota_reader_free(r);
    RACE_CHECK(good > 100, "%u good looks", good);
}

static void
everything_at_once(unsigned seconds)
{
    static const struct limit limits[] = {
        {DIM_MESSAGES, MESSAGES_MAX, DAY_MS},
        {DIM_RECIPIENTS, 3 * MESSAGES_MAX, DAY_MS},
        {DIM_BYTES, 100 * MESSAGES_MAX, DAY_MS}};
    struct limit more[4] = {[3] = {DIM_PACE, 1 << 30, 60000}};
    struct busy busy[THREADS] = {{0}};
    uint64_t end_ms = race_end_ms(seconds), sum = 0;
    struct quota_reader *r;
    pthread_t mover;
    pid_t reader;
    int status;

    make(limits, 3);
    memcpy(more, limits, sizeof limits);
    fixture_policy(&other, more, 4);
    everybody[0] = sales;
    everybody[1] = fixture_mailbox(&fixture.account[1], "news@example.com");
    everybody[2] = fixture_mailbox(&fixture.account[2], "al@staff.example.com");
    RACE_CHECK(quota_open(quota, &everybody[2]) == STATE_OK, "a template");
    fflush(stdout);
    reader = fork();
    RACE_CHECK(reader >= 0, "fork");
    if (reader == 0) {
        read_all(end_ms);
        exit(0);
    }
    RACE_CHECK(
        pthread_create(&mover, NULL, reload_and_let_time_pass, NULL) == 0,
        "thread");
    for (int i = 0; i < THREADS; i++)
        busy[i] = (struct busy){.seed = (uint64_t)i + 1, .end_ms = end_ms};
    run(do_everything, busy, sizeof *busy);
    atomic_store(&is_done, true);
    pthread_join(mover, NULL);
    RACE_CHECK(waitpid(reader, &status, 0) == reader && status == 0,
               "the reader: %d", status);
    r = quota_reader_new(directory, &fixture_clock);
    for (unsigned k = 0; k < ACCOUNTS; k++) {
        uint64_t messages = 0, recipients = 0;
        struct quota_view v;

        for (int i = 0; i < THREADS; i++) {
            messages += busy[i].kept[k].messages;
            recipients += busy[i].kept[k].recipients;
        }
        RACE_CHECK(quota_peek(r, everybody[k].id, &v) == STATE_OK, "peek");
        RACE_CHECK(
            v.window[0].used == messages && v.window[1].used == recipients,
            "account %u: %llu messages, not %llu", k,
            (unsigned long long)v.window[0].used, (unsigned long long)messages);
        sum += messages;
    }
    quota_reader_free(r);
    printf("everything at once: kept %llu messages\n", (unsigned long long)sum);
    RACE_CHECK(sum > 100, "too few");
}

/* ---- while time passes ---- */

enum { ROLLING_LIMIT = 500, ROLLING_MS = 144 * 100, GRANTS_MAX = 1 << 15 };

static atomic_bool stop;
static struct rolling {
    uint64_t at_ms[GRANTS_MAX];
    size_t n;
} rolling[THREADS];

static void *
take_as_time_goes(void *arg)
{
    struct rolling *g = arg;
    struct cost c = {.messages = 1};
    struct taken t;
    struct room room;

    while (!atomic_load(&stop) && g->n < GRANTS_MAX)
        if (quota_take(quota, sales.id, &c, 100, &t, &room))
            g->at_ms[g->n++] = t.at_ms;
    return NULL;
}

struct passing {
    uint64_t end_ms, start_ms;
};

/* Moves the clock, reloads, and looks, all at once. */
static void *
let_time_pass(void *arg)
{
    const struct passing *p = arg;
    uint64_t seed = 42;
    char err[300];

    while (!race_over(p->end_ms)) {
        fixture_pass(race_random(&seed) % 1000);
        RACE_CHECK(
            quota_reload(quota, &fixture.policy, err, sizeof err) == STATE_OK,
            "%s", err);
        race_nap_us(200);
    }
    atomic_store(&stop, true);
    return NULL;
}

static int
by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void
no_span_holds_more_than_the_limit(unsigned seconds)
{
    static const struct limit limits[] = {
        {DIM_MESSAGES, ROLLING_LIMIT, ROLLING_MS}};
    static uint64_t all[THREADS * GRANTS_MAX];
    struct passing p = {.end_ms = race_end_ms(seconds)};
    uint64_t passed_ms;
    pthread_t mover;
    size_t n = 0;

    make(limits, 1);
    p.start_ms = quota_now_ms(quota);
    RACE_CHECK(pthread_create(&mover, NULL, let_time_pass, &p) == 0, "thread");
    run(take_as_time_goes, rolling, sizeof *rolling);
    pthread_join(mover, NULL);
    passed_ms = quota_now_ms(quota) - p.start_ms;
    for (int i = 0; i < THREADS; i++) {
        memcpy(all + n, rolling[i].at_ms, rolling[i].n * sizeof *all);
        n += rolling[i].n;
    }
    qsort(all, n, sizeof *all, by_number);
    printf("granted %zu in %llu windows of %d\n", n,
           (unsigned long long)(passed_ms / ROLLING_MS), ROLLING_LIMIT);
    for (size_t i = ROLLING_LIMIT; i < n; i++)
        RACE_CHECK(all[i] - all[i - ROLLING_LIMIT] >= ROLLING_MS,
                   "%d grants within %llu ms", ROLLING_LIMIT + 1,
                   (unsigned long long)(all[i] - all[i - ROLLING_LIMIT]));
    /* and room does return: at least nine tenths of what may go goes */
    RACE_CHECK(n >= passed_ms / ROLLING_MS * ROLLING_LIMIT * 9 / 10, "%zu", n);
}

int
main(void)
{
    fixture_directory(directory, sizeof directory);
    exactly_the_limit();
    nothing_is_lost_or_made_up(1);
    everything_at_once(2);
    no_span_holds_more_than_the_limit(2);
    different_recipients();
    quota_free(quota);
    fixture_remove(directory);
    return 0;
}
