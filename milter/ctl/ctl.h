/* milter/ctl/ctl.h - what every command of gmroutectl gets, and how it
 * answers.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Exit status: 0 good, 1 a "no" (the configuration is broken, a recipient is
 * refused, nothing was found), 2 usage or set-up.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "milter/ctl/format.h"
#include "policy/diag.h"
#include "policy/policy.h"

enum { CTL_GOOD = 0, CTL_NO = 1, CTL_USAGE = 2 };

struct ctl {
    const char *file; /* -c */
    bool json;        /* --json */
};

/* Each command reads its own options from argv (argv[0] is its name). */
int ctl_check(struct ctl *c, int argc, char **argv);
int ctl_explain(struct ctl *c, int argc, char **argv);
int ctl_replay(struct ctl *c, int argc, char **argv);
int ctl_status(struct ctl *c, int argc, char **argv);
int ctl_accounts(struct ctl *c, int argc, char **argv);
int ctl_quota(struct ctl *c, int argc, char **argv);
int ctl_sessions(struct ctl *c, int argc, char **argv);
int ctl_tokens(struct ctl *c, int argc, char **argv);
int ctl_top(struct ctl *c, int argc, char **argv);
int ctl_metrics(struct ctl *c, int argc, char **argv);
int ctl_pause(struct ctl *c, int argc, char **argv);
int ctl_resume(struct ctl *c, int argc, char **argv);
int ctl_divert(struct ctl *c, int argc, char **argv);
int ctl_quota_reset(struct ctl *c, int argc, char **argv);
int ctl_reload(struct ctl *c, int argc, char **argv);
int ctl_log(struct ctl *c, int argc, char **argv);
int ctl_mta_config(struct ctl *c, int argc, char **argv);
int ctl_doctor(struct ctl *c, int argc, char **argv);
int ctl_login(struct ctl *c, int argc, char **argv);
int ctl_verify(struct ctl *c, int argc, char **argv);
int ctl_token(struct ctl *c, int argc, char **argv);

/* Prints every error, and with `warnings` every warning, to standard error as
 * file:line:col. */
void ctl_print_diag(const struct ctl *c, const struct diag *d, bool warnings);

/* Loads the configuration; prints every error and, when `warnings` is set,
 * every warning to standard error.  NULL on errors. */
struct policy *ctl_load(const struct ctl *c, bool warnings);

/* The name that this host gives in EHLO, as the agent does. */
void ctl_helo(const struct policy *p, char *ret, size_t size);

/* Wrong words on the command line: prints why and how, returns CTL_USAGE. */
int ctl_usage(const char *command, const char *synopsis, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints and frees. */
void ctl_print_json(json_t *j);
/* The same for item `i` of a list too long to be held, and its end after n. */
void ctl_json_item(size_t i, json_t *j);
void ctl_json_end(size_t n);

/* A whole number in min..max; text may be NULL. */
bool ctl_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret);

#endif
