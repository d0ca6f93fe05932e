/* milter/deliver/control.h - the agent's ear for gmroutectl.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A socket in state.runtime, a thread of its own, one request at a time.  Only
 * root and the agent's own user are heard; who else connects is told so.
 */
#ifndef DELIVER_CONTROL_H
#define DELIVER_CONTROL_H

#include <stddef.h>

#include "milter/deliver/relay.h"

struct control;

/* env is borrowed.  NULL: err says why, and nothing is left behind. */
struct control *control_open(const char *runtime, struct relay_env *env,
                             char *err, size_t err_size);
void control_close(struct control *c); /* takes NULL; waits for the thread */

#endif
