/* tests/unit/policy/compile_case.h - configurations and what is said of them.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TEST_COMPILE_CASE_H
#define TEST_COMPILE_CASE_H

#include <stddef.h>

#include "policy/policy.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* How rows begin, so that they show only what they are about. */
#define HEAD "gmroute: 1\n"
#define ACCOUNT                                              \
    HEAD "accounts: {a: {address: a@x.example, auth: none, " \
         "smarthost: gmail_relay}}\n"
#define RULES ACCOUNT "rules:\n"

struct compile_row {
    const char *name;
    size_t len; /* of the YAML, when it has a NUL inside; else 0 */
    const char *yaml;
    /* A line for each error, as "line:col: text", and for each warning, as
     * "line:col: warning: text"; those of other files begin with the path.
     * "" = nothing to say. */
    const char *want;
};

/* The configuration is /c/f; next to it lie good.txt, bad.txt, empty.txt and
 * map.txt, see compile_case.c. */
extern const struct policy_files compile_case_files;

void compile_case_check(const struct compile_row *row, size_t n);

/* The same with other files around the configuration. */
void compile_case_check_in(const struct policy_files *files,
                           const struct compile_row *row, size_t n);

/* Must be good; warnings are allowed. */
struct policy *compile_case_good(const char *yaml);

#endif
