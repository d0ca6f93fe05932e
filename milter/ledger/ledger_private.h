/* milter/ledger/ledger_private.h - the inside of struct ledger, for the files
 * of this room.
 * SPDX-License-Identifier: Apache-2.0
 *
 *   ledger.c         the calls of ledger.h: make an entry, queue it, wait
 *   ledger_entry.c   entries: what a caller said, copied whole
 *   ledger_writer.c  the queue and the one thread that writes
 *   ledger_round.c   one transaction of it, in the right file
 *   ledger_sync.c    the thread that brings it to the disk
 *   ledger_apply.c   what an entry does to the tables
 *   ledger_sql.c     the tables and statements
 *   ledger_seen.c    what is in the air, and "was this sent before?"
 *   ledger_start.c   what an agent reads when it starts
 *   ledger_loss.c    what a loss of power may have taken from the book
 */
#ifndef LEDGER_LEDGER_PRIVATE_H
#define LEDGER_LEDGER_PRIVATE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "milter/ledger/ledger.h"
#include "milter/ledger/ledger_sql.h"

enum {
    LEDGER_QUEUE_MAX = 100000, /* entries kept while the disk refuses */
    LEDGER_NOTES_MAX = 10000,  /* of them, notes: those can be spared */
    LEDGER_BEGIN_MS = 30000,   /* a disk that hangs: begin gives up */
    /* With so many flights under way a round waits for more: at least so long
     * after the one before it began. */
    LEDGER_GATHER_ROWS = 8,
    LEDGER_GATHER_US = 700,
    LEDGER_RETRY_FIRST_MS = 100,
    LEDGER_RETRY_MAX_MS = 1000,
    LEDGER_PRUNE_MS = 60000,   /* between two looks for old rows */
    LEDGER_PRUNE_ROWS = 200,   /* in one transaction */
    LEDGER_PRUNE_MORE_MS = 20, /* pause while there are more of them */
    LEDGER_AIR_CHAINS = 4096,  /* a power of two */
    /* Who was in use so shortly before the newest charge may have had
     * something in flight when the power went... */
    LEDGER_RECENT_MS = 10 * 60 * 1000,
    /* ... therefore each account has a charge on disk that is younger. */
    LEDGER_SYNC_MS = LEDGER_RECENT_MS / 2,
    LEDGER_SYNCED = 4096,   /* accounts remembered; a power of two */
    LEDGER_CLOCK_MS = 1000, /* so far clocks may drift apart unnoted */
};

#define LEDGER_KEEP_MS (35ull * 86400 * 1000)

/* ---- entries ---- */

struct ledger_flight;

/* One recipient's attempt, from begin (or note) until its end is on disk. */
struct ledger_row {
    struct ledger_flight *flight;
    struct ledger_row *next_row, *next_ticket; /* chains of struct air */
    struct attempt a;                          /* texts owned by the flight */
    int64_t row;
    bool in_air;   /* it is in those chains */
    bool finished; /* `kind` is known, though perhaps not on disk */
    enum outcome_kind kind;
};

/* What one ledger_begin or ledger_note said; one allocation, texts included.
 * All but the state of its rows is constant once it is queued. */
struct ledger_flight {
    unsigned refs; /* of its entry, and of each of its rows in the air */
    int64_t at_ms; /* wall clock */
    bool charged, committed;
    struct taken charge;
    size_t n;
    struct ledger_row row[];
};

enum ledger_entry_kind {
    ENTRY_BEGIN,
    ENTRY_FINISH,
    ENTRY_NOTE,
    ENTRY_UNDO, /* a begin that nobody waited for, or of unknown end */
    ENTRY_STATE,
    ENTRY_RESTED,
    ENTRY_OBSERVE,
    ENTRY_DIVERT,
    ENTRY_FORGET,
    ENTRY_RECOVER,
    ENTRY_BOOT, /* which boot this is, and what the last one lost */
    ENTRY_END,  /* no begin comes any more */
    ENTRY_CLOCK,
};

/* A begin that is not fsynced may be lost with the power.  So the first one
 * after an opening is fsynced together with the note that there are any. */
struct ledger_mark {
    uint64_t boot_id[2];
    bool begun;
};

struct ledger_entry {
    struct ledger_entry *next;
    enum ledger_entry_kind kind;
    unsigned refs; /* the queue's and the waiting caller's */
    bool answered, abandoned;
    enum ledger_result result;
    sem_t done; /* not the mutex's: a wait on that costs a call more */

    struct ledger_flight *flight;       /* BEGIN, NOTE, UNDO; else NULL */
    size_t n;                           /* FINISH, NOTE */
    struct attempt_result *ending;      /* texts owned by the entry */
    bool charged_before, charged_after; /* FINISH: which of them are set */
    struct taken before, after;
    uint64_t account; /* STATE, RESTED, DIVERT, FORGET */
    enum account_state state;
    uint64_t until_ms; /* STATE; RESTED: what ends by then */
    uint32_t rests;
    int64_t changed_ms;           /* STATE, DIVERT, BOOT */
    char *identity, *reason;      /* STATE; OBSERVE, DIVERT: identity */
    struct observation *observed; /* OBSERVE; owned */
    bool lifted;                  /* OBSERVE */
    uint64_t other;               /* DIVERT; 0 = its end */
    char *other_identity;         /* DIVERT */
    int64_t upto_row;             /* RECOVER */
    uint64_t n_changed;           /* RECOVER: how many rows it found */
    struct ledger_mark mark;      /* BOOT, END */
    int64_t behind_ms;            /* CLOCK: Unix time - quota time */
    size_t n_lost;                /* BOOT */
    struct taken *lost;           /* owned */
};

/* NULL = out of memory.  One reference, the caller's. */
struct ledger_entry *ledger_entry_begin(const struct attempt *a, size_t n,
                                        const struct taken *charge,
                                        int64_t at_ms);
struct ledger_entry *ledger_entry_finish(const struct attempt_result *r,
                                         size_t n, const struct taken *before,
                                         const struct taken *after);
struct ledger_entry *ledger_entry_note(const struct attempt *a, size_t n,
                                       const struct attempt_result *r,
                                       int64_t at_ms);
struct ledger_entry *ledger_entry_state(const char *identity, uint64_t account,
                                        enum account_state s, uint64_t until_ms,
                                        const char *reason, uint32_t rests,
                                        int64_t at_ms);
struct ledger_entry *ledger_entry_rested(uint64_t account, uint64_t now_ms);
struct ledger_entry *ledger_entry_observe(const char *identity,
                                          const struct observation *o,
                                          bool lifted);
struct ledger_entry *ledger_entry_divert(const char *identity, uint64_t account,
                                         const char *other_identity,
                                         uint64_t other, int64_t at_ms);
struct ledger_entry *ledger_entry_forget(uint64_t account);
struct ledger_entry *ledger_entry_recover(int64_t upto_row);
/* Takes `lost`, also when it fails. */
struct ledger_entry *ledger_entry_boot(const uint64_t boot_id[2],
                                       struct taken *lost, size_t n_lost,
                                       int64_t at_ms);
struct ledger_entry *ledger_entry_clock(int64_t behind_ms);
struct ledger_entry *ledger_entry_end(const uint64_t boot_id[2]);

/* Drops one reference, with the ledger's mutex held once the entry was
 * queued; takes NULL. */
void ledger_entry_drop(struct ledger_entry *e);
void ledger_entry_drop_flight(struct ledger_flight *f);

/* Writes the entry inside an open transaction. */
int ledger_apply(struct ledger_sql *s, struct ledger_entry *e);
int ledger_apply_mark(struct ledger_sql *s, const struct ledger_mark *m);
/* Writes rows and charge of a flight that began in a file that is gone. */
int ledger_apply_again(struct ledger_sql *s, const struct ledger_flight *f);

/* ---- what was lost with the power ---- */

/* One counting row of `spent`; units 0: given back. */
struct ledger_bucket {
    enum dimension dimension;
    uint64_t window_ms, units;
    uint64_t end_ms; /* quota time: the first after the bucket */
};

/* What may have been in flight for one account when the power went: the
 * charge for sessions.max transactions of the average in these buckets, which
 * are in the order of the table's key.  False: it was not in use.  Pure. */
bool ledger_loss(const struct ledger_bucket *b, size_t n,
                 const struct account *a, uint64_t newest_ms, uint64_t now_ms,
                 struct taken *ret);

/* ---- the air: rows that are begun, or whose end is not on disk yet ---- */

struct ledger_air {
    size_t n;
    struct ledger_row *by_row[LEDGER_AIR_CHAINS];
    struct ledger_row *by_ticket[LEDGER_AIR_CHAINS];
};

void ledger_air_add(struct ledger_air *air, struct ledger_flight *f);
struct ledger_row *ledger_air_find(struct ledger_air *air, int64_t row);
/* Takes the row out, and frees its flight when that was the last one. */
void ledger_air_remove(struct ledger_air *air, struct ledger_row *r);
void ledger_air_remove_all(struct ledger_air *air, struct ledger_flight *f);
void ledger_air_free(struct ledger_air *air);

/* ---- the ledger ---- */

struct ledger_synced { /* what is on disk of one account */
    uint64_t account;
    uint64_t at_ms;    /* a charge, quota time */
    uint64_t commit;   /* the round of its last begin */
    unsigned unsynced; /* begins up to that one that may not be on disk */
};

struct ledger {
    char *directory;
    const struct clock *clock;
    uint64_t begin_ms; /* LEDGER_BEGIN_MS; a test may be less patient */
    int lock_fd;
    pthread_t writer;

    pthread_mutex_t mutex;
    pthread_cond_t work; /* the writer sleeps on it */
    struct {             /* guarded by mutex */
        struct ledger_entry *first, **last;
        size_t queued, notes;
        bool stop, ok;
        int64_t next_row, opened_row;
        uint64_t newest_ms;  /* quota time */
        int64_t behind_ms;   /* as last noted: Unix time - quota time */
        uint64_t generation; /* of the file: another one, readers reopen */
        bool booted;         /* boot_id is set: ledger_boot has succeeded */
        uint64_t boot_id[2];
        struct ledger_air air;
        struct ledger_stats stats;
        char trouble[LEDGER_TROUBLE_MAX];
    } shared;

    struct { /* the syncer; guarded by mutex */
        /* Committed, to be answered when they are on disk. */
        struct ledger_entry *first, **last;
        bool wanted, busy, stop;
        int rc; /* of an fsync that failed: the writer has to act */
        uint64_t committed, synced; /* rounds */
        bool begun;                 /* the file's mark says so, on disk */
        bool marked;                /* ... and in the WAL */
        struct ledger_synced account[LEDGER_SYNCED]; /* by the low bits */
        pthread_cond_t work, rest;
        pthread_t thread;
        char trouble[LEDGER_TROUBLE_MAX];
    } sync;

    struct { /* the writer's alone; the book is also read by the syncer */
        struct ledger_sql *book;
        bool distrust; /* an fsync failed: nothing in the WAL is safe */
        uint64_t retry_ms, retry_at_ms, chores_at_ms; /* monotonic */
        uint64_t round_us; /* the last one's begin; monotonic */
    } own;

    pthread_mutex_t read_mutex;
    struct { /* guarded by read_mutex; never held together with mutex */
        struct ledger_sql *book;
        uint64_t generation;
    } reader;
};

/* Monotonic, ms: for waiting, not for the book. */
uint64_t ledger_writer_now_ms(void);

/* Starts the thread; own.book is open. */
bool ledger_writer_start(struct ledger *l);
void ledger_writer_stop(struct ledger *l);

/* With the mutex held: queues the entry (which takes a reference), or says
 * that it cannot be kept. */
bool ledger_writer_queue(struct ledger *l, struct ledger_entry *e);
/* With the mutex held: waits for the answer.  False: wait_ms have passed. */
bool ledger_writer_wait(struct ledger *l, struct ledger_entry *e,
                        uint64_t wait_ms);

/* With the mutex held: from now on no new send starts. */
void ledger_writer_trouble(struct ledger *l, const char *text);

/* With the mutex held: takes everything queued. */
struct ledger_entry *ledger_writer_take(struct ledger *l);

/* With the mutex held: answers those of *batch that need not be on disk, or
 * all, and takes them out of it; they are for ledger_writer_wake(). */
struct ledger_entry *
ledger_writer_accept(struct ledger *l, struct ledger_entry **batch, bool all);
/* Without the mutex, so that who wakes up finds it free. */
void ledger_writer_wake(struct ledger *l, struct ledger_entry *accepted);

/* With the mutex held: these could not be written; what must be kept goes to
 * the front of the queue.  tried: the commit may have happened all the same. */
void ledger_writer_refuse(struct ledger *l, struct ledger_entry *batch,
                          bool tried);

/* ---- rounds; the writer's thread ---- */

/* Opens the book, and learns from it where to go on. */
int ledger_writer_open(struct ledger *l, char *err, size_t err_size);

/* Writes the batch; probe: there was trouble, is it over? */
void ledger_round(struct ledger *l, struct ledger_entry *batch, bool probe);

/* Something else has failed with SQLite's code rc. */
void ledger_round_trouble(struct ledger *l, int rc, const char *err);

/* ---- the syncer ---- */

bool ledger_sync_start(struct ledger *l);
void ledger_sync_stop(struct ledger *l); /* when all is on disk, or it cannot */

/* With the mutex held.  Must the begin be on disk before it is answered? */
bool ledger_sync_holds(struct ledger *l, const struct ledger_flight *f);
/* A round is committed.  sync: it has to be on disk, and `batch`, what is left
 * of it, is answered then. */
void ledger_sync_add(struct ledger *l, struct ledger_entry *batch, bool sync,
                     bool marks);
/* What is not on disk yet, in order. */
struct ledger_entry *ledger_sync_take(struct ledger *l);
/* A book was opened. */
void ledger_sync_opened(struct ledger *l);

/* Without the mutex.  Waits until nothing is to be done, or an fsync failed. */
void ledger_sync_wait(struct ledger *l);
/* Has an fsync failed?  The syncer rests until the list was taken. */
int ledger_sync_failure(struct ledger *l, char *err, size_t err_size);
/* The book was closed, for its file was moved; `saved`: with all that was
 * committed.  Its failure is no more.  False: something is lost with it. */
bool ledger_sync_again(struct ledger *l, bool saved);

#endif
