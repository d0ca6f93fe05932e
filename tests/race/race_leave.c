/* tests/race/race_leave.c - four times as many senders as slots: readers in
 * other processes never see one account's numbers under another's name.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Sender k mails 1 + k % 7 recipients at a time, and half of them have their
 * mail diverted to the next one now and then.  Time flies, so that windows
 * empty themselves and slots change hands thousands of times a second.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "milter/state/quota.h"
#include "tests/race/race.h"
#include "tests/unit/state/fixture.h"

enum {
    SENDERS = 200,
    SLOTS = 50,
    READERS = 2,
    THREADS = 3,
    SECONDS = 3,
    TICK_MS = 40 * 60 * 1000,
    LIMIT = 20,
    OPENED_MIN = 2000,
    GOOD_MIN = 200,
};

/* ---- what all processes share ---- */

struct shared {
    _Atomic uint64_t boot_ms;
    _Atomic uint64_t opened, full;
};

static struct shared *shared;
static struct fixture_policy fixture;
static struct mailbox sender[SENDERS];

static uint64_t
read_boot(void *cookie)
{
    (void)cookie;
    return atomic_load(&shared->boot_ms);
}

static int64_t
read_wall(void *cookie)
{
    (void)cookie;
    return 1772359200000 + (int64_t)atomic_load(&shared->boot_ms);
}

static const struct clock flying = {read_boot, read_wall, NULL};

static void
make_senders(void)
{
    static const struct limit limits[] = {
        {DIM_MESSAGES, LIMIT, DAY_MS},
        {DIM_RECIPIENTS, LIMIT * 7, DAY_MS},
    };

    fixture_policy(&fixture, limits, 2);
    fixture.policy.state.accounts = SLOTS;
    for (unsigned k = 0; k < SENDERS; k++) {
        char address[60];

        snprintf(address, sizeof address, "s%u@staff.example.com", k);
        sender[k] = fixture_mailbox(&fixture.account[2], address);
    }
}

/* ---- the agent ---- */

static struct quota *quota;

static void
use(unsigned k, uint64_t *seed)
{
    const struct mailbox *m = &sender[k];
    struct cost c = {.messages = 1, .recipients = 1 + k % 7};
    enum state_result r = quota_open(quota, m);
    struct taken t;
    struct room room;

    if (r == STATE_EFULL) {
        atomic_fetch_add(&shared->full, 1);
        return;
    }
    RACE_CHECK(r == STATE_OK, "%s", state_result_text(r));
    atomic_fetch_add(&shared->opened, 1);
    if (quota_take(quota, m->id, &c, 100, &t, &room)) {
        if (race_random(seed) % 4 == 0)
            quota_give_back(quota, &t);
        else
            quota_settle(quota, &t);
    }
    if (k % 2 == 0 && quota_open(quota, &sender[k + 1]) == STATE_OK) {
        quota_set_divert(quota, m->id, sender[k + 1].id);
        race_nap_us(20);
        quota_set_divert(quota, m->id, 0);
    }
}

static void *
send_mail(void *arg)
{
    uint64_t seed = (uintptr_t)arg + 1;

    for (;;)
        use((unsigned)(race_random(&seed) % SENDERS), &seed);
    return NULL;
}

static void
be_agent(const char *directory)
{
    pthread_t thread;
    char err[300];

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives a failed test */
    RACE_CHECK(quota_make(&quota, directory, &fixture.policy, &flying, 0, err,
                          sizeof err) == STATE_OK,
               "%s", err);
    for (uintptr_t i = 0; i < THREADS; i++)
        RACE_CHECK(pthread_create(&thread, NULL, send_mail, (void *)i) == 0,
                   "thread");
    for (;;) {
        race_nap_us(1000);
        atomic_fetch_add(&shared->boot_ms, TICK_MS);
    }
}

/* ---- the readers ---- */

static void
check_view(const struct quota_view *v, unsigned k)
{
    RACE_CHECK(v->id == sender[k].id, "sender %u: id %" PRIx64, k, v->id);
    RACE_CHECK(strcmp(v->identity, sender[k].address) == 0, "sender %u: %s", k,
               v->identity);
    RACE_CHECK(v->n == 2 && v->window[0].used <= LIMIT, "sender %u: %" PRIu64,
               k, v->window[0].used);
    RACE_CHECK(v->window[1].used == v->window[0].used * (1 + k % 7),
               "sender %u: %" PRIu64 " messages, %" PRIu64 " recipients", k,
               v->window[0].used, v->window[1].used);
}

static bool
check_each(void *cookie, const struct quota_view *v)
{
    unsigned k;

    (void)cookie;
    if (sscanf(v->identity, "s%u@", &k) == 1)
        check_view(v, k);
    return true;
}

static void
be_reader(const char *directory, uint64_t seed, uint64_t end_ms)
{
    struct quota_reader *r = quota_reader_new(directory, &flying);
    uint64_t good = 0, none = 0, diverts = 0;

    while (!race_over(end_ms)) {
        unsigned k = (unsigned)(race_random(&seed) % SENDERS);
        char other[IDENTITY_MAX + 1];
        struct quota_view v;
        enum state_result s = quota_peek(r, sender[k].id, &v);

        if (s == STATE_OK)
            check_view(&v, k);
        RACE_CHECK(s == STATE_OK || s == STATE_EEMPTY || s == STATE_EABSENT ||
                       s == STATE_EBUSY,
                   "%s", state_result_text(s));
        good += s == STATE_OK;
        none += s == STATE_EEMPTY;
        if (quota_peek_divert(r, sender[k].id, other) == STATE_OK) {
            RACE_CHECK(k % 2 == 0 && strcmp(other, sender[k + 1].address) == 0,
                       "sender %u is diverted to %s", k, other);
            diverts++;
        }
        if (k % 8 == 0) {
            s = quota_each(r, check_each, NULL);
            RACE_CHECK(s == STATE_OK || s == STATE_EABSENT || s == STATE_EBUSY,
                       "%s", state_result_text(s));
        }
    }
    printf("%" PRIu64 " seen, %" PRIu64 " diverted, %" PRIu64 " not there\n",
           good, diverts, none);
    RACE_CHECK(good >= GOOD_MIN && none > 0 && diverts > 0, "too few");
    quota_reader_free(r);
}

int
main(void)
{
    char directory[100];
    pid_t agent, reader[READERS];
    uint64_t end_ms = race_end_ms(SECONDS);
    int status, failed = 0;

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    RACE_CHECK(shared != MAP_FAILED, "mmap");
    atomic_store(&shared->boot_ms, 1000);
    fixture_directory(directory, sizeof directory);
    make_senders();
    agent = fork();
    RACE_CHECK(agent >= 0, "fork");
    if (agent == 0)
        be_agent(directory);
    for (int i = 0; i < READERS; i++) {
        reader[i] = fork();
        RACE_CHECK(reader[i] >= 0, "fork");
        if (reader[i] == 0) {
            be_reader(directory, (uint64_t)i + 1, end_ms);
            return 0;
        }
    }
    for (int i = 0; i < READERS; i++)
        failed |= waitpid(reader[i], &status, 0) < 0 || status != 0;
    /* It must have lived until now. */
    failed |= waitpid(agent, &status, WNOHANG) != 0;
    kill(agent, SIGKILL);
    waitpid(agent, &status, 0);
    fixture_remove(directory);
    printf("%" PRIu64 " opened, %" PRIu64 " found it full\n",
           atomic_load(&shared->opened), atomic_load(&shared->full));
    RACE_CHECK(atomic_load(&shared->opened) >= OPENED_MIN, "too few");
    return failed;
}
