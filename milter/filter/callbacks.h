/* milter/filter/callbacks.h - libmilter's events, translated for session.h;
 * the only user of libmilter's header.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FILTER_CALLBACKS_H
#define FILTER_CALLBACKS_H

#include <stdbool.h>

#include "milter/filter/session.h"

/* Registers the filter and opens its socket (libmilter's syntax).  env and
 * conf are borrowed until the process ends.  False with a sentence in err. */
bool callbacks_open(struct session_env *env, struct conf_holder *conf,
                    const char *listen, char *err, size_t err_size);

/* Serves until callbacks_stop(); false when libmilter failed. */
bool callbacks_run(void);
void callbacks_stop(void);

#endif
