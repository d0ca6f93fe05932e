/* milter/base/daemon.h - the command line that all daemons share, and loading
 * the configuration with its errors in the log.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BASE_DAEMON_H
#define BASE_DAEMON_H

#include <stdbool.h>

#include "policy/policy.h"

struct daemon_options {
    const char *file; /* -c */
};

/* Reads -c FILE, -l LEVEL, -s, -V, -h and opens the log.  False: the process
 * is to end with *ret_status (help was asked for, or usage was wrong). */
bool daemon_options(int argc, char **argv, const char *program,
                    struct daemon_options *ret, int *ret_status);

/* For notify_ready, when the configuration could not be loaded again. */
#define DAEMON_OUTDATED                                             \
    "the configuration is broken, the one before is in force: see " \
    "\"gmroutectl check\""

/* conf_load() with every error and warning logged; NULL on errors. */
struct policy *daemon_load(const char *file);

#endif
