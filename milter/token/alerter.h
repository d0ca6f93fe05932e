/* milter/token/alerter.h - tells people: a thread that runs the commands of
 * `alert:` one after the other.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TOKEN_ALERTER_H
#define TOKEN_ALERTER_H

#include "milter/base/clock.h"
#include "milter/base/conf.h"
#include "milter/token/alert.h"
#include "milter/token/command.h"

struct alerter;

struct alerter_options { /* all borrowed */
    struct conf_holder *conf;
    const struct clock *clock;
    bool (*run)(const struct command *c, char *err, size_t err_size);
};

struct alerter *alerter_new(const struct alerter_options *o); /* NULL = no
                                                               * memory */
/* What is not told yet is told no more. */
void alerter_free(struct alerter *a);

/* Any thread; does not block. */
void alerter_note(struct alerter *a, const struct alert *what);

#endif
