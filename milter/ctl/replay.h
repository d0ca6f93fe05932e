/* milter/ctl/replay.h - what gmroutectl replay shares among its files.
 * SPDX-License-Identifier: Apache-2.0
 *
 * replay.c has the command and reads a mail log; replay_ledger.c reads a
 * ledger; replay_decide.c runs a message through policy and limits;
 * replay_report.c tells what came out.
 */
#ifndef CTL_REPLAY_H
#define CTL_REPLAY_H

#include "milter/ctl/ctl.h"
#include "milter/ctl/open_messages.h"
#include "milter/ctl/quota_sim.h"
#include "milter/ctl/tally.h"
#include "policy/decide.h"

enum { REPLAY_ACTIONS = ACTION_UNKNOWN + 1 };

struct replay {
    /* options */
    const char *path;
    int64_t since_s, until_s; /* of a message's arrival; until exclusive */
    int year;                 /* of the first line; 0 = by itself */

    struct policy *policy;
    struct scratch *scratch;
    struct decision decision;
    struct open_messages *open;
    struct open_message *unsettled; /* of a ledger: the oldest one; or NULL */
    struct quota_sim *sim;
    bool from_ledger;
    uint32_t turn; /* of all round_robin pools */

    /* what came out */
    uint64_t n_lines, n_unread, n_long;
    uint64_t n_messages, n_recipients;
    uint64_t n_headless; /* messages whose beginning is not in the log */
    uint64_t n_again;    /* back from a content filter: counted once */
    uint64_t n_dropped;  /* open for too long: not followed to their end */
    uint64_t n_untold;   /* recipients over OPEN_RECIPIENTS_MAX */
    uint64_t n_outside;  /* messages before --since or after --until */
    int64_t first_s, last_s;
    uint64_t action[REPLAY_ACTIONS]; /* recipients */
    struct tally *rules, *unknown, *accounts, *changes;
    bool nomem;
};

/* What `went` says of recipients. */
#define REPLAY_MTA  "mta"
#define REPLAY_GONE "an account that is gone"

/* ---- replay_decide.c ---- */

/* Decides what is not decided yet of the message. */
void replay_settle(struct replay *r, struct open_message *m);

/* Settles it, and forgets it. */
void replay_end(struct replay *r, struct open_message *m);

/* The message of that id, made when it is not there, with room made by
 * dropping the oldest.  NULL = out of memory (nomem is set). */
struct open_message *replay_open(struct replay *r, struct slice id,
                                 int64_t at_s);

/* ---- replay_ledger.c ---- */

bool replay_is_ledger(const char *path);
/* False with a sentence. */
bool replay_ledger(struct replay *r, char *err, size_t err_size);

/* ---- replay_report.c ---- */

bool replay_text(struct replay *r);    /* false = out of memory */
json_t *replay_json(struct replay *r); /* NULL = out of memory */

#endif
