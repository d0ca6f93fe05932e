/* milter/state/quota.h - what every account may still send: hint, take,
 * give_back, peek.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One place enforces the limits: the agent takes room immediately before it
 * sends and gives it back on a definite refusal.  The milter forecasts only:
 * it peeks, and hints what it has accepted.
 *
 * Narrow on purpose: a store shared by several hosts can stand behind these
 * calls later.
 *
 * Quota time is CLOCK_BOOTTIME plus an offset that the first agent of a boot
 * takes once at start (so that it is about Unix time, in ms, and never goes
 * back, also not below the newest ledger time) and publishes in the segment's
 * head.
 */
#ifndef STATE_QUOTA_H
#define STATE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "milter/base/clock.h"
#include "milter/state/segment.h"
#include "milter/state/statistics.h"
#include "policy/policy.h"

enum account_state {
    ACCOUNT_OK = 0,
    ACCOUNT_COOLING,     /* until a time; Gmail asked for rest */
    ACCOUNT_NEEDS_LOGIN, /* the refresh token is dead: a person is needed */
    ACCOUNT_PAUSED,      /* an administrator said so */
    ACCOUNT_DISABLED,    /* Gmail refuses it; a person is needed; tried
                          * again at its time, if it has one */
    ACCOUNT_STATES,
};

const char *account_state_name(enum account_state s);

/* One recipient, for the limits that count different ones. */
struct recipient_id {
    uint64_t hash; /* recipient_hash (policy.h) */
    bool external;
};

/* Brings n of them into the order that struct cost wants; returns how many
 * different ones there are. */
uint32_t recipient_ids_sort(struct recipient_id *r, uint32_t n);

/* What one transaction costs. */
struct cost {
    uint32_t messages; /* 1, or 0 for a part of one */
    uint32_t recipients;
    uint32_t external_recipients;
    uint64_t bytes; /* octets of content; 0 = not known yet */
    /* The different recipients, sorted by hash, each once; borrowed, also by
     * what was taken for this cost.  NULL: it is not known who they are, and
     * each of them counts as new. */
    const struct recipient_id *who;
    uint32_t n_who;
};

/* What a window of the dimension counts of it; of different recipients, as if
 * all of them were new. */
uint64_t quota_units(const struct cost *c, enum dimension d);

/* What was taken, for quota_give_back and the ledger: the bucket that each
 * window of the account was charged in.  Where different recipients are counted
 * and cost.who says who they are, the charge stands at at_ms for each of
 * them. */
struct taken {
    uint64_t id;
    uint64_t at_ms; /* quota time */
    struct cost cost;
    bool probe; /* the one message that tries an account after a rest */
    unsigned n;
    struct {
        enum dimension dimension;
        uint64_t window_ms;
        uint64_t bucket;
        uint64_t units;
    } charge[LIMITS_MAX];
};

/* Why an account cannot take something now, and when it can.
 *
 * COOLING ends by time: once its until has passed the state is OK here.
 * at_ms is WINDOW_NEVER
 * - with limiting >= 0: the cost exceeds that whole limit (its share), or
 * - with limiting -1: the state is one that a person must end, or the account
 *   is unknown here; nobody knows when. */
struct room {
    bool ok;
    enum account_state state; /* of the agent; the token's is in status.h */
    int limiting;             /* enum dimension: what makes at_ms so late;
                               * -1 = no window */
    uint64_t at_ms;           /* quota time when it fits */
    uint64_t limit, used;     /* of the limiting window, whole */
    uint64_t window_ms;
};

/* A copy of one account, for readers (status, quota, forecasts). */
struct quota_view {
    uint64_t now_ms; /* quota time of the copy */
    uint64_t id;
    char identity[IDENTITY_MAX + 1];
    enum account_state state;
    uint64_t state_until_ms; /* quota time; COOLING */
    char state_reason[120];
    uint32_t waiting_messages, waiting_recipients; /* tried and put off */
    uint32_t waiting_external;                     /* of these recipients */
    uint32_t sessions_open, sessions_busy;
    uint64_t sent, refused, deferred, in_doubt, logins; /* since agent start */
    unsigned n;                                         /* windows */
    struct {
        enum dimension dimension;
        uint64_t limit, window_ms, used;
        uint64_t room_at_ms;    /* when one more unit fits */
        uint64_t room_n_at_ms;  /* when quota_reader_units() more fit */
        uint64_t full_since_ms; /* at the earliest (window_spent_at);
                                 * 0 = one more fits */
        /* What was used when Gmail said that the daily limit is reached; at
         * quota time observed_at_ms, 0 = not within OBSERVED_KEEP_MS.  While
         * it holds, `allowed` may be less than the limit; else it is the
         * limit. */
        uint64_t observed, observed_at_ms, allowed;
        bool observed_holds;
    } window[LIMITS_MAX];
};

/* So long after its end a rest is remembered, for the next one of an account
 * that nobody has used meanwhile. */
#define RESTS_KEEP_MS (24ull * 3600 * 1000)

/* How long an observed limit is shown. */
#define OBSERVED_KEEP_MS (30ull * 24 * 3600 * 1000)

/* What Gmail was seen to allow, for the ledger and the log. */
struct observation {
    uint64_t id;
    uint64_t at_ms; /* quota time */
    unsigned n;
    struct {
        enum dimension dimension;
        uint64_t window_ms, limit, used;
    } window[LIMITS_MAX];
};

/* ---- the agent's side: the one writer ---- */

struct quota; /* the agent's handle: segment and locks */

/* What the ledger knows of quota time; all 0 = nothing. */
struct quota_start {
    uint64_t floor_ms;  /* the newest quota time in it */
    uint64_t behind_ms; /* so far behind Unix time was it, when last looked */
};

/* Makes the segment for this policy, always a fresh one, with a slot for each
 * named account; the ledger refills it.  An older one is marked retired, and
 * its readers come over by themselves.  STATE_ETAKEN while another agent
 * lives.  Quota time goes on as the older one had it; without an older one of
 * this boot as `start` says (NULL = nothing is known): quota_start_ms.  The
 * clock is borrowed. */
enum state_result quota_make(struct quota **ret, const char *directory,
                             const struct policy *p, const struct clock *clock,
                             const struct quota_start *start, char *err,
                             size_t err_size);

/* Where quota time starts in a new boot: as far behind Unix time as it was,
 * and never below the floor. */
uint64_t quota_start_ms(const struct quota_start *start, int64_t wall_ms);
void quota_free(struct quota *q);

/* Limits changed: windows of the same dimension and length keep what was
 * spent; a new one starts with what the others of its dimension know.
 * STATE_ELAYOUT: an account has more limits than the segment has windows for,
 * and err asks for a restart of the agent; STATE_ENOSPACE: no memory for more
 * of them.  Nothing was changed then. */
enum state_result quota_reload(struct quota *q, const struct policy *p,
                               char *err, size_t err_size);

uint64_t quota_now_ms(const struct quota *q);

/* Makes sure the mailbox has a slot with its account's limits, for ten minutes
 * at least; cheap when it has.  In a full segment senders of a template leave
 * who have waited longest and of whom nothing counts.  STATE_EFULL,
 * STATE_ENOSPACE, STATE_ELAYOUT (as quota_reload). */
enum state_result quota_open(struct quota *q, const struct mailbox *m);

/* Takes room for one transaction, all windows or none.  share_percent 1..100
 * of every limit but pace; 100 = the whole limit.  Returns true and *ret, or
 * false and *ret_room.  An account that was never opened has no room. */
bool quota_take(struct quota *q, uint64_t id, const struct cost *c,
                unsigned share_percent, struct taken *ret,
                struct room *ret_room);
void quota_give_back(struct quota *q, const struct taken *t);

/* Gmail accepted a message, which is spent: an account that has come back from
 * a rest is as good as any (true: it has, just now), and an observed limit that
 * more was let through than is forgotten: *ret_lifted, n > 0. */
bool quota_accepted(struct quota *q, uint64_t id,
                    struct observation *ret_lifted);

/* Would quota_take succeed now?  Takes nothing. */
bool quota_fits(struct quota *q, uint64_t id, const struct cost *c,
                unsigned share_percent, struct room *ret);

/* After Gmail's answer: moves what was taken to the present bucket.  Gmail
 * counts a message when it accepts it, which is later than our taking; a
 * charge that stood in the earlier bucket would run out before Gmail's.  It
 * is for good: what counts different recipients cannot be given back after
 * it. */
void quota_settle(struct quota *q, struct taken *t);

/* Gives back a part: of t's recipients only those of *kept stay (how many, how
 * many external, and who), the others were refused while the transaction went
 * through. */
void quota_give_back_recipients(struct quota *q, struct taken *t,
                                const struct cost *kept);

/* Rebuilding from the ledger: one spent bucket of an opened account.  A
 * window length that the account no longer has counts in all its windows of
 * that dimension: rather too much than too little. */
void quota_restore(struct quota *q, uint64_t id, enum dimension d,
                   uint64_t window_ms, uint64_t bucket, uint64_t units);

/* The same for what counts different recipients: one of them, and the quota
 * time of the last send to it. */
void quota_restore_recipient(struct quota *q, uint64_t id,
                             const struct recipient_id *r, uint64_t at_ms);

/* After the account's last bucket: a window that is younger than others of its
 * dimension learns from them what it lacks. */
void quota_restored(struct quota *q, uint64_t id);

/* Sends the account to rest for first_ms, and twice as long each time it has to
 * rest again before Gmail has accepted anything: up to 24 h, up to an hour when
 * first_ms is shorter than that, and up to 15 minutes when it is 5 or less
 * (gmail.md 4.4, 5.1, 5.2).  Several replies of one burst are one rest.  After
 * it one message at a time tries the account.  Returns until when (quota time);
 * 0: nothing was changed, as below. */
uint64_t quota_rest(struct quota *q, uint64_t id, uint64_t first_ms,
                    const char *reason);

/* How often in a row it has been sent to rest. */
uint32_t quota_rests(const struct quota *q, uint64_t id);

/* Gmail says that the account's daily limit is reached; what it refused is
 * given back already.  Every window of 12 h and more that counts messages or
 * recipients gets what is used of it now as a ceiling, for one length of it
 * from now; *ret says which.  And the account rests, as with quota_rest, but
 * until there is room under the ceilings, at most 24 h. */
uint64_t quota_full(struct quota *q, uint64_t id, uint64_t first_ms,
                    const char *reason, struct observation *ret);

/* False: nothing was changed, for the account is not known, or paused, which
 * only ACCOUNT_OK ends. */
bool quota_set_state(struct quota *q, uint64_t id, enum account_state s,
                     uint64_t until_ms, const char *reason);

/* Rebuilding from the ledger: a state, with quota_rests; an observed limit of
 * an opened account, whose ceiling may hold still. */
bool quota_restore_state(struct quota *q, uint64_t id, enum account_state s,
                         uint64_t until_ms, const char *reason, uint32_t rests);
void quota_restore_observed(struct quota *q, uint64_t id, enum dimension d,
                            uint64_t window_ms, uint64_t observed,
                            uint64_t at_ms);

/* Calls each for every account of the segment. */
void quota_accounts(const struct quota *q,
                    void (*each)(void *cookie, uint64_t id,
                                 const char *identity),
                    void *cookie);

/* Forgets what was spent, observed limits and rests; a state that is not
 * COOLING stays.  False: the account is not known. */
bool quota_forget(struct quota *q, uint64_t id);

/* The mail of `id` goes through the account `other` (both opened); 0 = no
 * longer. */
void quota_set_divert(struct quota *q, uint64_t id, uint64_t other);
/* Whither; false = it is not diverted. */
bool quota_divert(const struct quota *q, uint64_t id,
                  char ret[IDENTITY_MAX + 1]);
/* One whose mail is diverted to `id`; false = there is none. */
bool quota_diverted_here(const struct quota *q, uint64_t id,
                         char ret[IDENTITY_MAX + 1]);

/* Adds to the waiting counts; negative takes away, never below 0. */
void quota_add_waiting(struct quota *q, uint64_t id, int messages,
                       int recipients, int external);
void quota_set_sessions(struct quota *q, uint64_t id, uint32_t open,
                        uint32_t busy);
enum quota_event {
    QUOTA_SENT,
    QUOTA_REFUSED,
    QUOTA_DEFERRED,
    QUOTA_IN_DOUBT,
    QUOTA_LOGIN,
    QUOTA_EVENTS
};
void quota_count(struct quota *q, uint64_t id, enum quota_event e, uint32_t n);

/* Says that the agent is alive; about once a second (segment_inspect). */
void quota_beat(struct quota *q);

/* Forgets recipients that no longer count; about once a minute. */
void quota_sweep(struct quota *q);

/* Numbers of the segment's head (segment_inspect). */
enum quota_stat {
    QUOTA_LEDGER_TROUBLE_S, /* Unix time since when the ledger cannot be
                             * written; 0 = it can */
    QUOTA_FLIGHT_MS,        /* the first of LATENCY_WORDS */
    QUOTA_REPLIES = QUOTA_FLIGHT_MS + LATENCY_WORDS, /* of REPLY_CODES */
    QUOTA_STATS = QUOTA_REPLIES + REPLY_CODES
};

/* Tells readers whether the ledger can be written. */
void quota_ledger_trouble(struct quota *q, bool trouble);

/* A flight to Gmail took so long; and the reply that a recipient of it got, 0 =
 * none. */
void quota_count_flight(struct quota *q, uint64_t ms);
void quota_count_reply(struct quota *q, uint16_t code);

/* Asks the token daemon for a token other than the one with this serial
 * (0 = none yet), and wakes it. */
void quota_want_token(struct quota *q, uint64_t id, uint64_t refused_serial);

/* ---- readers, in any process ---- */

struct quota_reader; /* attaches by itself, again when the agent restarts;
                      * any thread */

/* NULL = out of memory.  The clock is borrowed. */
struct quota_reader *quota_reader_new(const char *directory,
                                      const struct clock *clock);
void quota_reader_free(struct quota_reader *r);

/* From now on views say when n more units fit (default 1). */
void quota_reader_units(struct quota_reader *r, uint64_t n);

/* STATE_EABSENT while the agent has made no segment, STATE_EEMPTY for an
 * account it does not know yet, STATE_EBUSY when the agent died while it wrote
 * this one. */
enum state_result quota_peek(struct quota_reader *r, uint64_t id,
                             struct quota_view *ret);

/* When could the account take this cost, with so much accepted before it
 * (hints + waiting)?  Accounts that the agent does not know yet answer from
 * their limits alone.  Other failures as quota_peek. */
enum state_result quota_forecast(struct quota_reader *r,
                                 const struct mailbox *m, const struct cost *c,
                                 const struct cost *ahead,
                                 unsigned share_percent, struct room *ret,
                                 uint64_t *ret_now_ms);

/* The account (its identity) that the mail of `id` is diverted to; STATE_EEMPTY:
 * it is not. */
enum state_result quota_peek_divert(struct quota_reader *r, uint64_t id,
                                    char ret[IDENTITY_MAX + 1]);

/* Calls each for every account of the segment until it returns false.  An
 * account that cannot be read is left out and is the result at the end. */
enum state_result quota_each(struct quota_reader *r,
                             bool (*each)(void *cookie,
                                          const struct quota_view *v),
                             void *cookie);

/* The token daemon's ear, one thread: calls each for every account whose
 * request changed since the last call; when there is none, waits up to
 * wait_ms for one.  refused_serial 0 = there was no token.  The first call
 * after a restart of either side tells all that was ever asked; who has
 * another token than the refused one has nothing to do.  STATE_EABSENT after
 * wait_ms without a segment. */
enum state_result quota_wants(struct quota_reader *r, uint64_t wait_ms,
                              void (*each)(void *cookie, uint64_t id,
                                           const char *identity,
                                           uint64_t refused_serial),
                              void *cookie);

#endif
