/* milter/base/notify.h - telling the service manager how we are.
 * SPDX-License-Identifier: Apache-2.0
 *
 * sd_notify(3)'s protocol, one datagram each, to $NOTIFY_SOCKET; nothing
 * happens when that is not set.  Our own, because the protocol is documented
 * and stable, and libsystemd would bring a compression library and its
 * constructors into processes that hold secrets.
 *
 * For the main thread.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include <stdint.h>

/* We can serve mail, with one line for `systemctl status`.  Ends a reload, and
 * may be said again with another line. */
void notify_ready(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void notify_reloading(void);
void notify_stopping(void);

/* How often notify_alive wants to be called, in ms: half of what the manager
 * waits for.  0 = it does not watch us. */
uint64_t notify_watch_ms(void);
/* We are alive, as far as the caller has seen just now.  Cheap: tells the
 * manager no more often than notify_watch_ms. */
void notify_alive(void);

#endif
