/* tests/race/writers.c - see writers.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tests/race/writers.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/race/pattern.h"
#include "tests/race/race.h"

static struct pattern p;
static bool is_restless;
static atomic_bool is_over; /* never: they are killed */

static void
pause_for_readers(void)
{
    if (!is_restless)
        race_nap_us(100);
}

static void *
write_sales(void *arg)
{
    uint64_t seed = 1;

    (void)arg;
    while (!is_over) {
        pattern_write_quota(&p, &p.sales, &seed);
        pause_for_readers();
    }
    return NULL;
}

static void *
write_news(void *arg)
{
    uint64_t seed = 2;

    (void)arg;
    while (!is_over) {
        pattern_write_quota(&p, &p.news, &seed);
        pause_for_readers();
    }
    return NULL;
}

/* Slower than a millisecond, so that serials follow the clock. */
static void *
write_slow_token(void *arg)
{
    (void)arg;
    while (!is_over) {
        pattern_write_token(&p, 1);
        race_nap_us(1500);
    }
    return NULL;
}

static void *
write_fast_token(void *arg)
{
    (void)arg;
    while (!is_over) {
        pattern_write_token(&p, 2);
        pause_for_readers();
    }
    return NULL;
}

static void *
write_hints(void *arg)
{
    (void)arg;
    while (!is_over) {
        pattern_write_hints(&p);
        pause_for_readers();
    }
    return NULL;
}

static void
work(enum writer w, const char *directory)
{
    static void *(*const job[WRITERS][2])(void *arg) = {
        [WRITER_AGENT] = {write_sales, write_news},
        [WRITER_TOWER] = {write_slow_token, write_fast_token},
        [WRITER_MILTER] = {write_hints, write_hints},
    };
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives a failed test */
    pattern_init(&p, directory);
    switch (w) {
    case WRITER_AGENT:
        pattern_open_agent(&p);
        break;
    case WRITER_TOWER:
        pattern_open_tower(&p);
        break;
    default:
        pattern_open_milter(&p);
    }
    RACE_CHECK(pthread_create(&thread, NULL, job[w][0], NULL) == 0, "thread");
    job[w][1](NULL);
}

pid_t
writers_start(enum writer w, const char *directory, bool restless)
{
    pid_t child = fork();

    RACE_CHECK(child >= 0, "fork");
    if (child == 0) {
        is_restless = restless;
        work(w, directory);
        _exit(1);
    }
    return child;
}
