/* milter/ctl/sendmail_cf.h - a sendmail.cf, as data.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  A line that begins with white space goes on with the one before.
 */
#ifndef CTL_SENDMAIL_CF_H
#define CTL_SENDMAIL_CF_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/arena.h"
#include "policy/slice.h"

struct sendmail_settings {
    struct arena *arena;
    const char *path;
    size_t n;
    const char **line; /* whole ones, comments left out */
};

/* False = out of memory. */
bool sendmail_parse(struct arena *a, const char *path, const char *text,
                    struct sendmail_settings *ret);

/* The value of "O NAME=value" (the last one counts), NULL = it is not set. */
const char *sendmail_option(const struct sendmail_settings *s,
                            const char *name);
/* What stands behind "Xname," or "Mname,", NULL = there is none. */
const char *sendmail_filter(const struct sendmail_settings *s,
                            const char *name);
const char *sendmail_mailer(const struct sendmail_settings *s,
                            const char *name);
/* The value of KEY= in such a list, in the arena; NULL = it is not there. */
const char *sendmail_field(const struct sendmail_settings *s,
                           const char *fields, char key);
/* A time inside a filter's T=: which 'S'; in seconds, -1 = not there. */
long sendmail_filter_time(const char *times, char which);
/* Is there a rule with all of these texts in it? NULL-terminated. */
bool sendmail_rule(const struct sendmail_settings *s, const char *const *texts);
/* Calls each() for every word of class w, and file() for every file of it. */
void sendmail_class_w(const struct sendmail_settings *s, void *cookie,
                      void (*word)(void *cookie, struct slice word),
                      void (*file)(void *cookie, struct slice path));

#endif
