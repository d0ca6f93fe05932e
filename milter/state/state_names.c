/* milter/state/state_names.c - the names of states and results.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/quota.h"
#include "milter/state/segment.h"
#include "milter/state/status.h"

const char *
state_result_text(enum state_result r)
{
    static const char *const text[] = {
        [STATE_OK] = "ok",
        [STATE_EEMPTY] = "nothing published yet",
        [STATE_EBUSY] = "a writer is, or died, inside",
        [STATE_ECORRUPT] = "damaged: a field is out of range",
        [STATE_EFULL] = "no free slot: raise state.accounts",
        [STATE_EABSENT] = "not there (is the daemon running?)",
        [STATE_EACCESS] = "owner, mode or permission",
        [STATE_ELAYOUT] = "made by another version or for other sizes",
        [STATE_ENOSPACE] = "no space left on the tmpfs",
        [STATE_ESYSTEM] = "a system call failed",
        [STATE_ETAKEN] = "another process is its maker",
    };

    return (size_t)r < sizeof text / sizeof *text ? text[r] : "?";
}

const char *
account_state_name(enum account_state s)
{
    static const char *const name[ACCOUNT_STATES] = {
        [ACCOUNT_OK] = "ok",
        [ACCOUNT_COOLING] = "cooling",
        [ACCOUNT_NEEDS_LOGIN] = "needs_login",
        [ACCOUNT_PAUSED] = "paused",
        [ACCOUNT_DISABLED] = "disabled",
    };

    return s < ACCOUNT_STATES ? name[s] : "?";
}

const char *
token_state_name(enum token_state s)
{
    static const char *const name[TOKEN_STATES] = {
        [TOKEN_NONE] = "none",
        [TOKEN_OK] = "ok",
        [TOKEN_RETRYING] = "retrying",
        [TOKEN_NEEDS_LOGIN] = "needs_login",
        [TOKEN_CLIENT_BROKEN] = "client_broken",
        [TOKEN_NO_MAILBOX] = "no_mailbox",
        [TOKEN_CONFIG] = "config",
    };

    return s < TOKEN_STATES ? name[s] : "?";
}
