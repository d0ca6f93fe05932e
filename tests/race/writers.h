/* tests/race/writers.h - processes that write the pattern until they are
 * killed.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_RACE_WRITERS_H
#define TESTS_RACE_WRITERS_H

#include <stdbool.h>
#include <sys/types.h>

enum writer { WRITER_AGENT, WRITER_TOWER, WRITER_MILTER, WRITERS };

/* Starts one, with as many threads as the real daemon would use at once.
 * restless: without the pauses that let a reader through. */
pid_t writers_start(enum writer w, const char *directory, bool restless);

#endif
