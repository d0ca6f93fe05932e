/* milter/ledger/ledger.h - the book: what was tried, what Gmail said, what
 * was spent.
 * SPDX-License-Identifier: Apache-2.0
 *
 * SQLite in persistent WAL mode, one writer thread; callers block until
 * their entry is as safe as it has to be.  Entries of callers that wait at
 * the same time share one transaction and one fsync.
 *
 * The book is the truth, shared memory its fast view: the spent buckets kept
 * here rebuild an empty quota segment whatever the number of rows.
 */
#ifndef LEDGER_LEDGER_H
#define LEDGER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/base/clock.h"
#include "milter/state/quota.h"
#include "policy/outcome.h"

struct ledger;

enum ledger_result {
    LEDGER_OK = 0,
    LEDGER_EUNAVAILABLE, /* disk full, read-only, locked, corrupt: no new send
                          * may start; ledger_trouble() says why */
};

enum {
    LEDGER_DIGEST = 32,
    LEDGER_TEXT = 1024, /* octets kept of a sender, Message-ID or reply */
    LEDGER_ID = 64,     /* octets kept of a queue id or enhanced code */
};

/* What identifies the content of a message: SHA-256 over its Message-ID, a
 * NUL, and its body. */
struct digest {
    uint8_t octet[LEDGER_DIGEST];
};

/* One attempt of one recipient.  Texts are borrowed during the call. */
struct attempt {
    uint64_t ticket;       /* message number */
    const char *recipient; /* original, canonical spelling */
    const char *queue_id;  /* XFORWARD IDENT; "" = unknown */
    const char *sender;    /* MAIL FROM as the agent got it; "" = null */
    const char *identity;  /* of the account; "" = none (refused by rule) */
    uint64_t account;      /* mailbox id; 0 = none */
    uint64_t
        diverted_from; /* the ticket's, when its mail is diverted; 0 = no */
    const char *message_id; /* with <>; "" = none */
    uint64_t size_octets;
    struct digest digest;
    /* A loss of power may take so many begins of the account, which is what
     * ledger_boot charges for: one more waits for the disk.  0 = the caller
     * sees to it. */
    unsigned at_once;
};

/* How it ended. */
struct attempt_result {
    int64_t row; /* from ledger_begin; 0 = there was no flight */
    enum outcome_kind kind;
    enum smtp_stage stage;
    uint16_t code;        /* 0 = no reply */
    const char *enhanced; /* "5.1.1"; "" = none */
    const char *reply;    /* text for people */
    uint32_t duration_ms;
};

/* Opens or makes `directory`/ledger.db (`directory`/ledger/ledger.db where that
 * directory exists: base/place.h) and starts the writer.  A corrupt file
 * is LEDGER_EUNAVAILABLE with the remedy in err; it is never replaced by
 * itself. */
enum ledger_result ledger_open(struct ledger **ret, const char *directory,
                               const struct clock *clock, char *err,
                               size_t err_size);
/* Writes what waits, and after ledger_boot that the end was in order; takes
 * NULL. */
void ledger_close(struct ledger *l);

bool ledger_ok(const struct ledger *l);
void ledger_trouble(const struct ledger *l, char *ret, size_t size);

/* Before the flight: one "sending" row for each recipient, and the charge.
 * Returns when committed, which is not fsynced (but see at_once).  rets: one
 * row number each. */
enum ledger_result ledger_begin(struct ledger *l, const struct attempt *a,
                                size_t n, const struct taken *charge,
                                int64_t *rets);

/* After the flight, before the LMTP answer: the results, and the charge as it
 * stands now: `before` (what ledger_begin wrote) is subtracted from its
 * buckets and `after` is added to its own; both NULL = no change, `after`
 * NULL = all is given back.  Returns when fsynced.  While the disk refuses,
 * keeps the entry and writes it as soon as it can, and returns EUNAVAILABLE
 * after wait_ms. */
enum ledger_result ledger_finish(struct ledger *l,
                                 const struct attempt_result *r, size_t n,
                                 const struct taken *before,
                                 const struct taken *after, uint64_t wait_ms);

/* An attempt without a flight (no room, no token, refused by rule): one row
 * each, not waited for. */
void ledger_note(struct ledger *l, const struct attempt *a, size_t n,
                 const struct attempt_result *r);

enum ledger_seen {
    SEEN_NEVER = 0,
    SEEN_TRIED, /* tried before, not sent */
    SEEN_SENT,  /* sent, with this digest */
    SEEN_OTHER, /* sent, with another digest: not the same message */
    SEEN_DOUBT, /* "sending" or in doubt: may have been sent */
};

/* What does the book know of this ticket and recipient?  Reads also what is
 * still waiting to be written.  digest NULL: SEEN_SENT means sent, whatever
 * its content. */
enum ledger_result ledger_seen(struct ledger *l, uint64_t ticket,
                               const char *recipient,
                               const struct digest *digest,
                               enum ledger_seen *ret);

/* ---- start-up of the agent ---- */

/* Marks "sending" rows left by an agent that died as in doubt; returns how
 * many. */
enum ledger_result ledger_recover(struct ledger *l, uint64_t *ret_in_doubt);

/* The sends that a loss of power has taken from the book. */
struct ledger_loss_ops {
    /* The account as it is configured now, borrowed until ledger_boot
     * returns; NULL = it is not, and nothing is charged. */
    const struct account *(*account)(void *cookie, uint64_t account,
                                     const char *identity);
    /* What the account is charged; about to be written. */
    void (*charged)(void *cookie, const char *identity,
                    const struct taken *charge);
    void *cookie;
};

/* Says which boot of the machine this is (process_boot_id; 0, 0 = unknown,
 * which is like no other), after ledger_recover and before ledger_spent.
 *
 * When the last boot was another one and the agent did not end in order then,
 * "sending" rows may be missing, with their charges: they are not fsynced.  So
 * each account that was in use shortly before the newest quota time is charged
 * for sessions.max transactions of its average, at the quota time an agent
 * that starts now has, and up to its limits, for no more was ever let through.
 * All of that is one transaction with the note that it is done. */
enum ledger_result ledger_boot(struct ledger *l, const uint64_t boot_id[2],
                               const struct ledger_loss_ops *ops);

/* Newest quota time in the book; 0 = empty. */
uint64_t ledger_newest_ms(struct ledger *l);

/* Where quota time starts when this boot has none yet. */
struct quota_start ledger_quota_start(struct ledger *l);

/* Once a second or so, now being quota_ms: how quota time and the wall clock
 * stand to each other is noted when it has changed, for the next boot.  Not
 * waited for. */
void ledger_clock(struct ledger *l, uint64_t quota_ms);

/* One of `of` parts of about as many accounts, n from 0, for threads that read
 * side by side. */
struct ledger_part {
    unsigned n, of;
};

/* Calls each for every spent bucket that can still count, account by account. */
enum ledger_result
ledger_spent(struct ledger *l, struct ledger_part part,
             void (*each)(void *cookie, uint64_t account, const char *identity,
                          enum dimension d, uint64_t window_ms, uint64_t bucket,
                          uint64_t units),
             void *cookie);

/* Calls each for every recipient that a limit of different recipients can still
 * count, with the quota time of its last send; account by account. */
enum ledger_result
ledger_mailed(struct ledger *l, struct ledger_part part,
              void (*each)(void *cookie, uint64_t account, const char *identity,
                           const struct recipient_id *r, uint64_t at_ms),
              void *cookie);

/* ---- what is decided about accounts, and outlives the agent ----
 *
 * Those that write return when fsynced; while the disk refuses, at once with
 * EUNAVAILABLE, and the entry is kept and written as soon as possible. */

/* rests: how often in a row it has been sent to rest. */
enum ledger_result ledger_set_state(struct ledger *l, const char *identity,
                                    uint64_t account, enum account_state s,
                                    uint64_t until_ms, const char *reason,
                                    uint32_t rests);
/* The same, not waited for: who waits for a later one waits for it, too. */
void ledger_put_state(struct ledger *l, const char *identity, uint64_t account,
                      enum account_state s, uint64_t until_ms,
                      const char *reason, uint32_t rests);
/* Gmail accepts again: a state that was to end by now_ms (quota time) is
 * over.  Not waited for. */
void ledger_rested(struct ledger *l, uint64_t account, uint64_t now_ms);
enum ledger_result
ledger_states(struct ledger *l,
              void (*each)(void *cookie, uint64_t account, const char *identity,
                           enum account_state s, uint64_t until_ms,
                           const char *reason, uint32_t rests),
              void *cookie);

/* What Gmail was seen to allow; `lifted`: it has been disproved. */
enum ledger_result ledger_observe(struct ledger *l, const char *identity,
                                  const struct observation *o, bool lifted);
enum ledger_result ledger_observed(struct ledger *l,
                                   void (*each)(void *cookie, uint64_t account,
                                                const char *identity,
                                                enum dimension d,
                                                uint64_t window_ms,
                                                uint64_t units, uint64_t at_ms),
                                   void *cookie);

/* The mail of one account goes through another; other 0 (and "") = no
 * longer. */
enum ledger_result ledger_set_divert(struct ledger *l, const char *identity,
                                     uint64_t account,
                                     const char *other_identity,
                                     uint64_t other);
enum ledger_result ledger_diverts(struct ledger *l,
                                  void (*each)(void *cookie, uint64_t account,
                                               const char *identity,
                                               uint64_t other,
                                               const char *other_identity),
                                  void *cookie);

/* Forgets what the account has spent, what was observed of it, and its rests;
 * other states stay. */
enum ledger_result ledger_forget(struct ledger *l, uint64_t account);

/* Tickets whose last attempt, made at or after since_ms, was put off or is in
 * doubt: to rebuild the waiting counts.  Once for each account of a ticket.
 * since_ms and last_ms are Unix time (wall clock), not quota time. */
enum ledger_result ledger_waiting(
    struct ledger *l, uint64_t since_ms,
    void (*each)(void *cookie, uint64_t ticket, uint64_t account,
                 const char *identity, uint64_t last_ms, uint32_t recipients),
    void *cookie);

struct ledger_stats {
    uint64_t entries;         /* calls written: begin, finish, note, ... */
    uint64_t commits, fsyncs; /* fsyncs of commits; checkpoints come on top */
    uint64_t failures;        /* tries that failed, and entries not kept */
};
void ledger_stats(const struct ledger *l, struct ledger_stats *ret);

#endif
