/* milter/ctl/look.h - a look at the daemons' memory, for the commands that
 * show it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Read-only, as the user who runs the command may.  Times of quota memory are
 * turned into Unix time by what they are from now.
 */
#ifndef CTL_LOOK_H
#define CTL_LOOK_H

#include <sys/types.h>

#include "milter/ctl/ctl.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"

struct look {
    struct policy *policy;
    struct quota_reader *quota;
    struct status_reader *status;
    struct hints *hints; /* NULL = not there */
    int64_t now_ms;      /* Unix time */
};

/* False with a sentence on standard error; look_close() in either case. */
bool look_open(struct look *k, const struct ctl *c);
void look_close(struct look *k);

/* The identity of an account by its name in the configuration, its address, or
 * the address that a template is filled in with.  False: there is none; says
 * so, and what may have been meant, unless `quiet`. */
bool look_identity(const struct policy *p, const char *word, bool quiet,
                   struct mailbox *ret, char ret_identity[IDENTITY_MAX + 1]);

/* No quota memory: says so on standard error; CTL_USAGE. */
int look_no_quota(const struct look *k, enum state_result r);

/* A time of quota memory as Unix time in ms; 0 stays 0, WINDOW_NEVER too. */
int64_t look_unix_ms(const struct look *k, const struct quota_view *v,
                     uint64_t quota_ms);

/* As a pair of keys in `j`: NAME, RFC 3339, and NAME_in_s, seconds from now
 * (negative: ago); both null for 0. */
void look_json_time(const struct look *k, json_t *j, const char *name,
                    int64_t unix_ms);

/* "in 2 h 5 min (10:05:00)" or "10:05:00 (3 s ago)", with the day when it is
 * another one. */
void look_when(const struct look *k, int64_t unix_ms, char *ret, size_t size);

/* Columns of standard output when it is a terminal; else 0. */
unsigned look_terminal_width(void);

/* ---- a daemon that beats ---- */

enum { LOOK_BEAT_S = 10 /* older is dead: it beats once a second */ };

struct look_daemon {
    enum state_result result;
    char why[200]; /* result is not STATE_OK */
    bool up;
    struct segment_info info;
};

/* SEGMENT_QUOTA: gmroute-deliver, SEGMENT_STATUS: gmroute-token. */
void look_daemon(const struct look *k, enum segment_kind kind,
                 struct look_daemon *ret);
/* Does somebody listen at a socket, in libmilter's syntax or the agent's?
 * -1 = cannot tell, and why.  Its process, 0 = not known, which is so unless
 * it is a unix socket; ret_pid may be NULL. */
int look_listens(const char *at, pid_t *ret_pid, char *why, size_t size);

/* ---- all accounts ---- */

struct account_row {
    uint64_t id;
    char *identity;
    enum account_state state;
    int64_t until_ms; /* Unix time; 0 = open end */
    char reason[120];
    uint32_t waiting_messages, waiting_recipients;
    uint32_t coming_messages; /* accepted, not yet tried */
    uint32_t sessions_open, sessions_busy;
    uint64_t sent, refused, deferred, in_doubt, logins; /* since agent start */
    /* The window with the greatest used share; pace is no limit to watch.
     * has_window false: there is none. */
    bool has_window;
    enum dimension dimension;
    uint64_t window_ms, used, limit;
    unsigned percent;
    /* No room at all for one more in some window but pace. */
    bool is_full;
    int64_t full_since_ms, room_at_ms; /* Unix time; 0 = not known */
    bool has_token;
    enum token_state token;
};

struct account_rows {
    struct account_row *row; /* by identity */
    size_t n;
    bool partial; /* some could not be read: damaged, or written by an agent
                   * that died */
};

/* All that the agent knows.  Not STATE_OK: there are none, and why
 * (STATE_ESYSTEM: out of memory).  To be freed in any case. */
enum state_result look_accounts(const struct look *k, struct account_rows *ret);
void look_accounts_free(struct account_rows *a);
/* Says so on standard error when rows are missing. */
void look_partial(const struct account_rows *a);

#endif
