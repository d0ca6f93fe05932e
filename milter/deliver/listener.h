/* milter/deliver/listener.h - the LMTP socket, and a thread for each
 * connection.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_LISTENER_H
#define DELIVER_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "milter/deliver/relay.h"

struct listener;

/* Opens "unix:/path" or "inet:port@host".  Beside a unix socket, the names
 * q00.sock to q31.sock are made as symbolic links to it: Postfix keeps a
 * queue for each name, so that one slow account does not hold up the others.
 * At most connections_max are served at once; more wait in the backlog.
 * env is borrowed.  NULL with a sentence in err. */
struct listener *listener_open(const char *listen, unsigned connections_max,
                               struct relay_env *env, char *err,
                               size_t err_size);

/* To poll for reading; -1 while there are enough connections. */
int listener_fd(struct listener *l);
void listener_accept(struct listener *l);

/* Stops accepting, hangs up on idle connections, and lets waiting ones know
 * (env->stopping). */
void listener_stop(struct listener *l);

/* After listener_stop: lets transactions under way finish within ms. */
void listener_close(struct listener *l, unsigned ms);

#endif
