/* milter/token/command.h - runs a program with a deadline: the seam that tests
 * of alerts replace.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_COMMAND_H
#define TOKEN_COMMAND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command {
    char *const *argv;       /* a path, words, NULL */
    char *const *env;        /* all of the environment */
    const char *input;       /* on its standard input; at most 4096 octets */
    uint64_t timeout_ms;     /* then it and its children are killed */
    const atomic_bool *stop; /* true: the same; NULL = never */
};

/* Blocks.  Output goes nowhere.  False when it could not be run, ended with
 * another status than 0, or had to be killed: err says which. */
bool command_run(const struct command *c, char *err, size_t err_size);

#endif
