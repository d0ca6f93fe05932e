/* milter/base/control.h - what gmroutectl asks of the agent, and the answer:
 * one line each, over a socket in state.runtime.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure.  A request is "VERB IDENTITY [TEXT]", or "divert IDENTITY OTHER
 * [TEXT]", and a line end; an answer begins with "ok " or "no ".  Identities
 * are those of struct mailbox: what a name of the configuration means is
 * looked up by who asks.
 */
#ifndef BASE_CONTROL_H
#define BASE_CONTROL_H

#include <stdbool.h>

#include "policy/policy.h"

enum control_verb {
    CONTROL_PAUSE, /* until somebody resumes it; the text says why */
    /* Ends pause, cooling and disabled; not what was spent, nor what Gmail was
     * seen to allow, nor a divert. */
    CONTROL_RESUME,
    /* Mail for the account goes through the other one, also what is tagged
     * already, until CONTROL_DIVERT_END. */
    CONTROL_DIVERT,
    CONTROL_DIVERT_END,
    /* Forgets what was spent, what Gmail was seen to allow, and rests: whatever
     * is sent next may exceed what Google allows. */
    CONTROL_QUOTA_RESET,
};

enum {
    CONTROL_TEXT_MAX = 100,
    /* Octets of a request or an answer, NUL included: two identities fit. */
    CONTROL_LINE_MAX = 1024,
};

/* In state.runtime, or in its directory of this name, whose group may ask too
 * (base/place.h). */
#define CONTROL_PLACE  "control"
#define CONTROL_SOCKET "control.sock"

struct control_request {
    enum control_verb verb;
    char identity[IDENTITY_MAX + 1];
    char other[IDENTITY_MAX + 1];    /* CONTROL_DIVERT; else "" */
    char text[CONTROL_TEXT_MAX + 1]; /* printable ASCII; may be empty */
};

const char *control_verb_name(enum control_verb v);

/* Without line end.  False: no request that we know, or something is too long
 * or not printable; *ret is as it was. */
bool control_parse(const char *line, struct control_request *ret);

/* With line end; characters of the text that cannot be sent become '?', and
 * what is too long of it is cut. */
void control_format(const struct control_request *q,
                    char ret[CONTROL_LINE_MAX]);

#endif
