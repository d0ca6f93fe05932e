/* milter/ctl/program.h - runs a program of the MTA and reads what it prints.
 * SPDX-License-Identifier: Apache-2.0
 *
 * No shell, so no word of a configuration is ever taken for more than a word.
 */
#ifndef CTL_PROGRAM_H
#define CTL_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/arena.h"

struct program {
    const char *const *argv; /* a name without a slash is looked for in PATH,
                              * then in /usr/sbin; NULL at the end */
    const char *input;       /* on standard input; NULL = none */
    uint64_t timeout_ms;     /* then it is killed, and what it started */
};

enum { PROGRAM_OUTPUT_MAX = 1 << 20 /* octets of each; more is an error */ };

/* Blocks.  *ret_out is what it printed, in the arena, with a NUL.  False when
 * it could not be run, was killed, printed too much, or ended with another
 * status than 0 or 1 (of postmap -q, "not found"): err has the program, and
 * its own last words where it had some. */
bool program_answer(const struct program *p, struct arena *arena,
                    const char **ret_out, int *ret_status, char *err,
                    size_t err_size);

#endif
