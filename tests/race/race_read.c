/* tests/race/race_read.c - readers in other processes never see a torn or
 * impossible state, and do get through.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/race/pattern.h"
#include "tests/race/race.h"
#include "tests/race/writers.h"

enum { READERS = 2, SECONDS = 3, GOOD_MIN = 500 };

static void
read_until(const char *directory, uint64_t end_ms)
{
    struct pattern p;

    pattern_init(&p, directory);
    pattern_open_reader(&p);
    while (!race_over(end_ms))
        pattern_read(&p);
    printf("%" PRIu64 " good, %" PRIu64 " busy, %" PRIu64 " not there yet\n",
           p.good, p.busy, p.none);
    RACE_CHECK(p.good >= GOOD_MIN, "%" PRIu64 " good reads", p.good);
    pattern_close(&p);
}

int
main(void)
{
    char directory[100];
    pid_t writer[WRITERS], reader[READERS];
    uint64_t end_ms = race_end_ms(SECONDS);
    int status, failed = 0;

    fixture_directory(directory, sizeof directory);
    for (int i = 0; i < WRITERS; i++)
        writer[i] = writers_start((enum writer)i, directory, false);
    for (int i = 0; i < READERS; i++) {
        reader[i] = fork();
        RACE_CHECK(reader[i] >= 0, "fork");
        if (reader[i] == 0) {
            read_until(directory, end_ms);
            return 0;
        }
    }
    for (int i = 0; i < READERS; i++)
        failed |= waitpid(reader[i], &status, 0) < 0 || status != 0;
    for (int i = 0; i < WRITERS; i++) {
        /* It must have lived until now. */
        failed |= waitpid(writer[i], &status, WNOHANG) != 0;
        kill(writer[i], SIGKILL);
        waitpid(writer[i], &status, 0);
    }
    fixture_remove(directory);
    return failed;
}
