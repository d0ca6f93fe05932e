/* milter/ctl/redirect_wait.h - waiting for the browser at a loopback port.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef CTL_REDIRECT_WAIT_H
#define CTL_REDIRECT_WAIT_H

#include <stddef.h>
#include <stdint.h>

#include "milter/ctl/redirect.h"

/* Listens at 127.0.0.1 alone; port 0 = any free one.  Returns the descriptor
 * and sets *ret_port; -1 with a sentence in err. */
int redirect_listen(uint16_t port, uint16_t *ret_port, char *err,
                    size_t err_size);

enum redirect_wait {
    REDIRECT_COME,    /* *ret holds the answer to this login */
    REDIRECT_TIMEOUT, /* nobody came */
    REDIRECT_FOREIGN, /* nobody but with another state */
    REDIRECT_FAILED,  /* the system; errno */
};

/* Waits until deadline_ms (clock_boot_ms) for a request with this state,
 * answering every other one as it deserves: an icon that is asked for, or a
 * page that guesses, does not end the wait.  The browser is shown a page. */
enum redirect_wait redirect_wait(int fd, const char *state,
                                 uint64_t deadline_ms, struct redirect *ret);

#endif
