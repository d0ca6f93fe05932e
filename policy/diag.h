/* policy/diag.h - what is wrong with a configuration, and exactly where.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A bounded list, a value: a test owns its own.  Checks go on after an error
 * so that one run shows every mistake; only main() prints.
 */
#ifndef POLICY_DIAG_H
#define POLICY_DIAG_H

#include <stdbool.h>

/* A place in a file; both count from 1, as editors do.  line 0 = the file as
 * a whole. */
struct loc {
    const char *file; /* borrowed from the policy, or from the diag */
    unsigned line, col;
};

enum diag_level { DIAG_ERROR, DIAG_WARNING };

enum {
    DIAG_MAX = 100,
    DIAG_TEXT = 240,      /* octets, NUL included */
    DIAG_FILE = 512,      /* octets of a path, NUL included; */
    DIAG_FILE_MIN = 128,  /* of each of many long ones */
    DIAG_FILES = 24 << 10 /* of all paths */
};

struct diag_item {
    struct loc at; /* its file lies in the diag, which must not move */
    enum diag_level level;
    char text[DIAG_TEXT];
};

struct diag {
    struct diag_item item[DIAG_MAX];
    unsigned n;        /* used in item */
    unsigned n_errors; /* all errors found, also those not kept */
    unsigned dropped;  /* found after item was full */
    unsigned used;     /* octets in files */
    char files[DIAG_FILES];
};

/* Records one error.  Always returns false, so that a check can end with
 * "return diag_error(...)". */
bool diag_error(struct diag *d, struct loc at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Records one warning: the configuration can be used all the same. */
void diag_warning(struct diag *d, struct loc at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Sorts by file, line and column, stable: the order a reader works in. */
void diag_sort(struct diag *d);

#endif
