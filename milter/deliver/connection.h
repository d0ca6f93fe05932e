/* milter/deliver/connection.h - one LMTP connection: socket, protocol machine
 * and transactions, on a thread of its own.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef DELIVER_CONNECTION_H
#define DELIVER_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>

#include "milter/base/stream.h"
#include "milter/deliver/relay.h"

/* What the listener may look at while the thread works. */
struct connection {
    struct connection *next;
    struct relay_env *env;
    struct stream *stream;
    atomic_bool busy; /* inside a transaction */
};

/* Serves until the peer is done, fails, or env->stopping is set between two
 * transactions. */
void connection_serve(struct connection *c);

#endif
