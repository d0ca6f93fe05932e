/* milter/filter/listener.h - what libmilter leaves undone about its socket.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FILTER_LISTENER_H
#define FILTER_LISTENER_H

#include <stdbool.h>

/* libmilter's syntax: is it a unix socket? */
bool listener_is_unix(const char *listen);

/* libmilter takes any socket in its way away, also one that is in use. */
bool listener_is_taken(const char *listen);

/* libmilter hides its listener: finds it by what it is.  -1 = there is none. */
int listener_find(void);

/* libmilter never sets TCP_NODELAY, but connections inherit the option from
 * the listener. */
void listener_set_nodelay(void);

#endif
