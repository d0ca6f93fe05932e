/* tests/race/race_core.c - the agent's core, quota and ledger together, killed
 * at any moment and started again.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A life opens the ledger, rebuilds the windows and lets four threads deliver:
 * take room, write "sending", tell the witness (that is Gmail), settle, write
 * the result.  It is killed, at times with its runtime directory, which is a
 * boot.  After each death:
 * - the windows are rebuilt to the bucket as the ledger says;
 * - the ledger's charges are the sum of its rows that went or may have gone;
 * - whatever Gmail got is among them, once, and what was acknowledged is
 *   "sent";
 * and in the end no window has let through more than its limit, by the
 * witness's own clock.
 *
 * race_core [KILLS]
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "milter/ledger/ledger.h"
#include "milter/state/quota_private.h"
#include "milter/state/words.h"
#include "policy/window.h"
#include "tests/race/race.h"
#include "tests/unit/ledger/kit.h"
#include "tests/unit/state/fixture.h"

enum {
    KILLS = 250,
    THREADS = 4,
    ACCOUNTS = 3,
    RECIPIENTS = 4,
    TICKETS = 1 << 20,
    LONG_LIFE = 25, /* every so many lives one must get something done */
    LONG_MS = 60000,
};

#define MONTH_MS (30 * DAY_MS)

/* The long ones hold everything: their charges are compared with the rows. */
static const struct limit limits[] = {
    {DIM_MESSAGES, 40, 10000},
    {DIM_RECIPIENTS, 85, 10000},
    {DIM_PACE, 15, 2000},
    {DIM_BYTES, 40000, 7001},
    {DIM_MESSAGES, 1 << 30, MONTH_MS},
    {DIM_RECIPIENTS, 1 << 30, MONTH_MS},
};
enum { LIMITS = sizeof limits / sizeof *limits };

enum fate {
    FATE_NONE,    /* Gmail never saw it */
    FATE_SENT,    /* Gmail has it */
    FATE_REFUSED, /* Gmail refused it */
};

/* What Gmail, and the MTA, know: survives every life. */
struct send {
    _Atomic uint8_t fate, answered;
    uint8_t account, recipients; /* recipients: accepted */
    uint32_t bytes;
    uint64_t taken_ms, sent_ms; /* true time */
};

static struct witness {
    _Atomic uint64_t true_ms, booted_ms;
    atomic_uint next; /* ticket */
    atomic_bool is_up;
    struct send send[TICKETS];
} * witness;

static char runtime[100], state[KIT_PATH];
static struct fixture_policy policy;
static struct mailbox account[ACCOUNTS];
static struct quota *quota;
static struct ledger *ledger;

static uint64_t
read_boot(void *cookie)
{
    (void)cookie;
    return atomic_load(&witness->true_ms) - atomic_load(&witness->booted_ms);
}

static int64_t
read_wall(void *cookie)
{
    (void)cookie;
    return (int64_t)atomic_load(&witness->true_ms);
}

static const struct clock true_clock = {read_boot, read_wall, NULL};

static int
account_of(uint64_t id)
{
    for (int i = 0; i < ACCOUNTS; i++)
        if (account[i].id == id)
            return i;
    return -1;
}

/* ---- a life: the start ---- */

static void
restore_bucket(void *cookie, uint64_t id, const char *identity,
               enum dimension d, uint64_t window_ms, uint64_t bucket,
               uint64_t units)
{
    (void)cookie;
    RACE_CHECK(account_of(id) >= 0, "account %s", identity);
    quota_restore(quota, id, d, window_ms, bucket, units);
}

/* The buckets of one window, as the ledger has them. */
struct wanted {
    uint64_t id, window_ms, newest, used;
    enum dimension dimension;
    uint64_t bucket[WINDOW_BUCKETS];
};

static void
want_bucket(void *cookie, uint64_t id, const char *identity, enum dimension d,
            uint64_t window_ms, uint64_t bucket, uint64_t units)
{
    struct wanted *w = cookie;

    (void)identity;
    if (id != w->id || d != w->dimension || window_ms != w->window_ms ||
        bucket + WINDOW_PARTS < w->newest)
        return;
    RACE_CHECK(bucket <= w->newest, "a bucket of the future");
    w->bucket[bucket % WINDOW_BUCKETS] += units;
    w->used += units;
}

static void
check_window(uint64_t id, struct window *have, enum dimension d)
{
    struct wanted want = {.id = id, .dimension = d};

    window_advance(have, quota_now_ms(quota));
    want.window_ms = words_get(&have->window_ms);
    want.newest = words_get(&have->newest);
    RACE_CHECK(ledger_spent(ledger, (struct ledger_part){0, 1}, want_bucket,
                            &want) == LEDGER_OK,
               "spent");
    RACE_CHECK(words_get(&have->used) == want.used,
               "%s per %" PRIu64 " ms: %" PRIu64 ", in the ledger %" PRIu64,
               dimension_name(d), want.window_ms, words_get(&have->used),
               want.used);
    for (unsigned i = 0; i < WINDOW_BUCKETS; i++)
        RACE_CHECK(words_get(&have->bucket[i]) == want.bucket[i],
                   "%s per %" PRIu64 " ms: another bucket", dimension_name(d),
                   want.window_ms);
}

static void
check_windows(void)
{
    for (int i = 0; i < ACCOUNTS; i++) {
        struct quota_slot *slot = quota_lock(quota, account[i].id);

        RACE_CHECK(slot != NULL, "no slot");
        for (uint64_t k = 0; k < words_get(&slot->n_windows); k++)
            check_window(account[i].id, &slot->window[k].window,
                         (enum dimension)words_get(&slot->window[k].dimension));
        quota_unlock(quota, slot);
    }
}

static void
begin_life(void)
{
    char err[1024] = "";
    uint64_t in_doubt;

    RACE_CHECK(
        ledger_open(&ledger, state, &true_clock, err, sizeof err) == LEDGER_OK,
        "%s", err);
    RACE_CHECK(ledger_recover(ledger, &in_doubt) == LEDGER_OK, "recover");
    RACE_CHECK(quota_make(&quota, runtime, &policy.policy, &true_clock,
                          &(struct quota_start){ledger_newest_ms(ledger), 0},
                          err, sizeof err) == STATE_OK,
               "%s", err);
    RACE_CHECK(quota_now_ms(quota) == atomic_load(&witness->true_ms),
               "quota time is %" PRIu64, quota_now_ms(quota));
    for (int i = 0; i < ACCOUNTS; i++)
        RACE_CHECK(quota_open(quota, &account[i]) == STATE_OK, "open");
    RACE_CHECK(ledger_spent(ledger, (struct ledger_part){0, 1}, restore_bucket,
                            NULL) == LEDGER_OK,
               "restore");
    for (int i = 0; i < ACCOUNTS; i++)
        quota_restored(quota, account[i].id);
    check_windows();
    atomic_store(&witness->is_up, true);
}

/* ---- a life: the work ---- */

/* Gmail gets it, now. */
static void
tell_the_witness(unsigned ticket, unsigned who, const struct taken *t,
                 uint8_t accepted)
{
    struct send *s = &witness->send[ticket];

    s->account = (uint8_t)who;
    s->recipients = accepted;
    s->bytes = (uint32_t)t->cost.bytes;
    s->taken_ms = t->at_ms;
    s->sent_ms = atomic_load(&witness->true_ms);
    atomic_store(&s->fate, accepted > 0 ? FATE_SENT : FATE_REFUSED);
}

/* As relay_flight.c does it. */
static void
finish(struct taken *t, const int64_t *row, uint8_t n, uint8_t accepted)
{
    struct attempt_result result[RECIPIENTS];
    struct taken before = *t;
    struct cost kept = t->cost;
    struct observation lifted;
    const struct taken *after = NULL;

    for (uint8_t i = 0; i < n; i++)
        result[i] =
            kit_result(row[i], i < accepted ? OUTCOME_SENT : OUTCOME_REFUSED);
    if (accepted == 0) {
        quota_give_back(quota, t);
    } else {
        kept.recipients = accepted;
        if (accepted < n)
            quota_give_back_recipients(quota, t, &kept);
        quota_settle(quota, t);
        quota_accepted(quota, t->id, &lifted);
        after = t;
    }
    RACE_CHECK(
        ledger_finish(ledger, result, n, &before, after, 30000) == LEDGER_OK,
        "finish");
}

static bool
deliver(uint64_t *seed)
{
    static const char *const recipient[RECIPIENTS] = {"a@x", "b@x", "c@x",
                                                      "d@x"};
    unsigned who = (unsigned)(race_random(seed) % ACCOUNTS), ticket;
    uint8_t n = (uint8_t)(1 + race_random(seed) % RECIPIENTS), accepted = n;
    struct cost c = {
        .messages = 1, .recipients = n, .bytes = 1 + race_random(seed) % 3000};
    struct attempt a[RECIPIENTS];
    int64_t row[RECIPIENTS];
    struct taken t;
    struct room room;

    if (!quota_take(quota, account[who].id, &c, 100, &t, &room))
        return false;
    ticket = atomic_fetch_add(&witness->next, 1);
    RACE_CHECK(ticket < TICKETS, "more tickets than expected");
    for (uint8_t i = 0; i < n; i++) {
        a[i] = kit_attempt(ticket, recipient[i], account[who].id);
        a[i].identity = account[who].address;
    }
    RACE_CHECK(ledger_begin(ledger, a, n, &t, row) == LEDGER_OK, "begin");
    if (race_random(seed) % 3 == 0)
        accepted = (uint8_t)(race_random(seed) % n);
    tell_the_witness(ticket, who, &t, accepted);
    finish(&t, row, n, accepted);
    atomic_store(&witness->send[ticket].answered, 1);
    return true;
}

static void *
deliver_all(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;

    for (;;)
        if (!deliver(&seed)) /* full: time has to pass */
            race_nap_us(200);
    return NULL;
}

static void
live(uint64_t seed)
{
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives a failed test */
    begin_life();
    for (uint64_t i = 1; i <= THREADS; i++)
        RACE_CHECK(pthread_create(&thread, NULL, deliver_all,
                                  (void *)(uintptr_t)(seed * 16 + i)) == 0,
                   "thread");
    for (;;) {
        atomic_fetch_add(&witness->true_ms, race_random(&seed) % 40);
        race_nap_us(300);
    }
}

/* ---- after a death ---- */

static int64_t
number(sqlite3 *db, const char *sql, int64_t a)
{
    sqlite3_stmt *st = NULL;
    int64_t n = -1;

    RACE_CHECK(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK, "%s",
               sqlite3_errmsg(db));
    sqlite3_bind_int64(st, 1, a);
    if (sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

/* What was charged is what the rows have cost: a flight's rows share a
 * ticket.  Rows left as "sending" are those that the next life finds. */
static void
check_sums(sqlite3 *db)
{
    for (int i = 0; i < ACCOUNTS; i++) {
        int64_t id = (int64_t)account[i].id;
        int64_t rows = number(db,
                              "SELECT count(*) FROM attempt WHERE account = ?1 "
                              "AND outcome IN ('sent', 'in_doubt', 'sending')",
                              id);
        int64_t flights = number(
            db,
            "SELECT count(DISTINCT ticket) FROM attempt WHERE account = ?1 "
            "AND outcome IN ('sent', 'in_doubt', 'sending')",
            id);
        char sql[200];

        snprintf(sql, sizeof sql,
                 "SELECT coalesce(sum(units), 0) FROM spent WHERE account = ?1 "
                 "AND window_ms = %" PRIu64 " AND dimension = %d",
                 (uint64_t)MONTH_MS, DIM_RECIPIENTS);
        RACE_CHECK(number(db, sql, id) == rows,
                   "%" PRId64 " recipients charged, %" PRId64 " rows",
                   number(db, sql, id), rows);
        snprintf(sql, sizeof sql,
                 "SELECT coalesce(sum(units), 0) FROM spent WHERE account = ?1 "
                 "AND window_ms = %" PRIu64 " AND dimension = %d",
                 (uint64_t)MONTH_MS, DIM_MESSAGES);
        RACE_CHECK(number(db, sql, id) == flights,
                   "%" PRId64 " messages charged, %" PRId64 " flights",
                   number(db, sql, id), flights);
    }
}

static void
check_tickets(sqlite3 *db, unsigned from, unsigned to)
{
    for (unsigned t = from; t < to; t++) {
        const struct send *s = &witness->send[t];
        int64_t counted = number(db,
                                 "SELECT count(*) FROM attempt WHERE ticket ="
                                 " ?1 AND outcome IN"
                                 " ('sent', 'in_doubt', 'sending')",
                                 t);
        int64_t sent = number(
            db,
            "SELECT count(*) FROM attempt WHERE ticket = ?1 AND outcome ="
            " 'sent'",
            t);

        if (s->answered)
            RACE_CHECK(counted == s->recipients && sent == s->recipients,
                       "ticket %u: %" PRId64 " counted, %" PRId64
                       " sent, Gmail took %u",
                       t, counted, sent, s->recipients);
        else if (s->fate == FATE_SENT)
            RACE_CHECK(counted >= s->recipients, "ticket %u is lost", t);
        /* No more than the message has. */
        RACE_CHECK(counted <= RECIPIENTS, "ticket %u: %" PRId64, t, counted);
    }
}

static void
inspect(unsigned from, unsigned to)
{
    char path[KIT_PATH + 16];
    sqlite3 *db = NULL;
    int persist = 1;

    snprintf(path, sizeof path, "%s/ledger.db", state);
    if (access(path, F_OK) != 0)
        return; /* it died before it had made one */
    RACE_CHECK(
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK,
        "%s", path);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    if (number(db,
               "SELECT count(*) FROM sqlite_master WHERE name = ?1 OR"
               " name IN ('attempt', 'spent')",
               0) == 2) {
        check_sums(db);
        check_tickets(db, from, to);
    }
    sqlite3_close(db);
}

/* ---- the limit ---- */

static uint64_t
units(const struct send *s, enum dimension d)
{
    struct cost c = {
        .messages = 1, .recipients = s->recipients, .bytes = s->bytes};

    return quota_units(&c, d);
}

/* A flight that was cut off is charged when it took room: only the life that
 * died knew when Gmail got it. */
static uint64_t
time_of(const struct send *s)
{
    return s->answered ? s->sent_ms : s->taken_ms;
}

static int
by_time(const void *a, const void *b)
{
    uint64_t x = time_of(a), y = time_of(b);

    return x < y ? -1 : x > y;
}

/* Also says the most that went within each. */
static void
check_limits(unsigned to, unsigned *ret_sent, uint64_t ret_most[LIMITS])
{
    unsigned n = 0;

    for (unsigned t = 0; t < to; t++) /* those that went, side by side */
        if (witness->send[t].fate == FATE_SENT)
            memcpy((void *)&witness->send[n++], (void *)&witness->send[t],
                   sizeof witness->send[t]);
    qsort((void *)witness->send, n, sizeof *witness->send, by_time);
    for (int i = 0; i < ACCOUNTS * LIMITS; i++) {
        const struct limit *l = &limits[i % LIMITS];
        uint64_t sum = 0;
        unsigned first = 0;

        for (unsigned t = 0; t < n; t++) {
            const struct send *s = &witness->send[t];

            if (s->account != i / LIMITS)
                continue;
            sum += units(s, l->dimension);
            for (; time_of(&witness->send[first]) + l->window_ms <= time_of(s);
                 first++)
                if (witness->send[first].account == i / LIMITS)
                    sum -= units(&witness->send[first], l->dimension);
            RACE_CHECK(sum <= l->max,
                       "%" PRIu64 " %s within %" PRIu64 " ms, limit %" PRIu64,
                       sum, dimension_name(l->dimension), l->window_ms, l->max);
            if (sum > ret_most[i % LIMITS])
                ret_most[i % LIMITS] = sum;
        }
    }
    *ret_sent = n;
}

/* ---- lives and deaths ---- */

static unsigned
flights(void)
{
    return atomic_load(&witness->next);
}

static unsigned
is_up(void)
{
    return atomic_load(&witness->is_up);
}

static void
wait_for(unsigned (*what)(void), unsigned at_least)
{
    for (unsigned ms = 0; what() < at_least; ms++) {
        RACE_CHECK(ms < LONG_MS, "a life hangs");
        race_nap_us(1000);
    }
}

/* A third dies on the way to work. */
static void
let_it_live(unsigned life, uint64_t *seed)
{
    if (life % LONG_LIFE == LONG_LIFE - 1)
        wait_for(flights, flights() + 40);
    else if (life % 3 != 0)
        wait_for(is_up, 1);
    race_nap_us(50 + race_random(seed) % 15000);
}

static void
boot(void)
{
    fixture_remove(runtime);
    fixture_directory(runtime, sizeof runtime);
    atomic_store(&witness->booted_ms, atomic_load(&witness->true_ms));
}

static void
live_and_die(unsigned life, uint64_t *seed, unsigned *ret_up)
{
    int status;
    pid_t pid;

    atomic_store(&witness->is_up, false);
    fflush(NULL);
    pid = fork();
    RACE_CHECK(pid >= 0, "fork");
    if (pid == 0)
        live(race_random(seed));
    let_it_live(life, seed);
    kill(pid, SIGKILL);
    RACE_CHECK(waitpid(pid, &status, 0) == pid, "wait");
    RACE_CHECK(WIFSIGNALED(status), "it ended by itself: %d", status);
    *ret_up += atomic_load(&witness->is_up);
    atomic_fetch_add(&witness->true_ms, race_random(seed) % 400);
    if (race_random(seed) % 8 == 0)
        boot();
}

static void
make_world(void)
{
    static const char *const address[ACCOUNTS] = {
        "sales@example.com", "news@example.com", "al@staff.example.com"};

    witness = mmap(NULL, sizeof *witness, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    RACE_CHECK(witness != MAP_FAILED, "no memory");
    atomic_store(&witness->true_ms, 1772359200000);
    atomic_store(&witness->booted_ms, 1772359200000 - 5000);
    fixture_directory(runtime, sizeof runtime);
    kit_directory(state);
    fixture_policy(&policy, limits, LIMITS);
    for (int i = 0; i < ACCOUNTS; i++)
        account[i] = fixture_mailbox(&policy.account[i], address[i]);
}

int
main(int argc, char **argv)
{
    unsigned kills = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : KILLS;
    unsigned up = 0, from = 0, to = 0, sent, cut_off = 0;
    uint64_t seed = 11, most[LIMITS] = {0};

    make_world();
    for (unsigned i = 0; i < kills; i++) {
        live_and_die(i, &seed, &up);
        to = atomic_load(&witness->next);
        inspect(from, to);
        for (; from < to; from++)
            cut_off += !witness->send[from].answered;
    }
    check_limits(to, &sent, most);
    printf("%u kills, %u of them at work; %u flights, %u cut off, %u sent\n",
           kills, up, to, cut_off, sent);
    for (unsigned i = 0; i < LIMITS; i++)
        if (limits[i].window_ms != MONTH_MS)
            printf("%s: at most %" PRIu64 " within %" PRIu64
                   " ms, limit %" PRIu64 "\n",
                   dimension_name(limits[i].dimension), most[i],
                   limits[i].window_ms, limits[i].max);
    RACE_CHECK(cut_off > kills / 8, "too few were cut off");
    /* Limits that nothing comes near would prove nothing. */
    RACE_CHECK(kills < KILLS || (most[0] > limits[0].max * 8 / 10 &&
                                 most[1] > limits[1].max * 8 / 10),
               "the limits were never reached");
    fixture_remove(runtime);
    kit_remove(state);
    return 0;
}
