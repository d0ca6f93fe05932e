/* tests/race/race_kill.c - writers killed anywhere, inside an update or while
 * they make a segment, and started again: readers never see nonsense, and the
 * next writer makes all good.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "milter/state/layout.h"
#include "tests/race/pattern.h"
#include "tests/race/race.h"
#include "tests/race/writers.h"

enum { SECONDS = 5, RECOVER_MS = 30000 };

static pid_t writer[WRITERS];

static void
read_until(const char *directory, uint64_t end_ms)
{
    struct pattern p;

    pattern_init(&p, directory);
    pattern_open_reader(&p);
    while (!race_over(end_ms)) {
        pattern_read(&p);
        race_nap_us(500); /* leaves the processors to the writers */
    }
    printf("reader: %" PRIu64 " good, %" PRIu64 " busy, %" PRIu64
           " not there\n",
           p.good, p.busy, p.none);
    pattern_close(&p);
}

/* How many slots a dead writer left in the middle of an update. */
static unsigned
left_open(const char *directory, enum segment_kind kind)
{
    struct segment s = {0};
    unsigned n = 0;
    uint64_t id;

    if (segment_attach(&s, directory, kind, 0, false, NULL, 0) != STATE_OK)
        return 0;
    for (uint32_t i = 0; i < s.n_slots; i++) {
        const _Atomic uint32_t *seq = segment_slot(&s, i, &id);

        n += seq != NULL && (atomic_load(seq) & 1) != 0;
    }
    segment_detach(&s);
    return n;
}

static void
start(enum writer w, const char *directory)
{
    /* The tower reads its own book: it gets by without pauses, too. */
    writer[w] = writers_start(w, directory, true);
}

static void
stop(enum writer w)
{
    int status;

    kill(writer[w], SIGKILL);
    RACE_CHECK(waitpid(writer[w], &status, 0) == writer[w], "wait");
    RACE_CHECK(WIFSIGNALED(status), "a writer ended by itself: %d", status);
}

/* Kills and starts them in turn, at odd moments; how many were caught inside
 * an update. */
static unsigned
harass(const char *directory, uint64_t end_ms, unsigned *ret_kills)
{
    unsigned caught = 0, kills = 0;
    uint64_t seed = 7;

    for (int i = 0; i < WRITERS; i++)
        start((enum writer)i, directory);
    while (!race_over(end_ms)) {
        enum writer w = (enum writer)(race_random(&seed) % WRITERS);

        race_nap_us(race_random(&seed) % 25000);
        stop(w);
        kills++;
        if (w == WRITER_AGENT)
            caught += left_open(directory, SEGMENT_QUOTA);
        else if (w == WRITER_TOWER)
            caught += left_open(directory, SEGMENT_TOKEN) +
                      left_open(directory, SEGMENT_STATUS);
        start(w, directory);
    }
    for (int i = 0; i < WRITERS; i++)
        stop((enum writer)i);
    *ret_kills = kills;
    return caught;
}

/* After all that, one clean start makes everything readable. */
static void
recover(const char *directory)
{
    uint64_t end_ms = clock_boot_ms(&clock_real) + RECOVER_MS;
    struct pattern p;
    uint64_t seed = 1;

    pattern_init(&p, directory);
    pattern_open_agent(&p);
    pattern_open_tower(&p);
    pattern_open_milter(&p);
    pattern_open_reader(&p);
    for (int i = 0; i < 100; i++) {
        pattern_write_quota(&p, &p.sales, &seed);
        pattern_write_quota(&p, &p.news, &seed);
        pattern_write_token(&p, 1);
        pattern_write_token(&p, 2);
        pattern_write_hints(&p);
    }
    do {
        p.busy = p.none = 0;
        pattern_read(&p);
    } while ((p.busy > 0 || p.none > 0) && !race_over(end_ms));
    RACE_CHECK(p.busy == 0 && p.none == 0, "%" PRIu64 " busy, %" PRIu64, p.busy,
               p.none);
    RACE_CHECK(fixture_count(directory, ".quota.new-") == 0 &&
                   fixture_count(directory, ".status.new-") == 0 &&
                   fixture_count(directory, ".token.new-") == 0,
               "something was left in %s", directory);
    pattern_close(&p);
}

int
main(void)
{
    char directory[100];
    uint64_t end_ms = race_end_ms(SECONDS);
    unsigned caught, kills;
    int status;
    pid_t reader;

    fixture_directory(directory, sizeof directory);
    fflush(stdout);
    reader = fork();
    RACE_CHECK(reader >= 0, "fork");
    if (reader == 0) {
        read_until(directory, end_ms);
        return 0;
    }
    caught = harass(directory, end_ms, &kills);
    printf("%u kills, %u slots left in the middle of an update\n", kills,
           caught);
    RACE_CHECK(caught > 0, "no writer was killed where it hurts");
    RACE_CHECK(waitpid(reader, &status, 0) == reader && status == 0,
               "the reader: %d", status);
    recover(directory);
    fixture_remove(directory);
    return 0;
}
