/* milter/state/layout.h - what lies in the slots.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A file format, drawn in README.md: fixed widths, no pointers, nothing but
 * lock-free atomics.  Any change here is a new SEGMENT_LAYOUT (segment.h).
 */
#ifndef STATE_LAYOUT_H
#define STATE_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

#include "milter/state/status.h"
#include "policy/policy.h"
#include "policy/window.h"

enum {
    IDENTITY_WORDS = (IDENTITY_MAX + 1 + 7) / 8,
    REASON_WORDS = 120 / 8,
    ERROR_WORDS = 200 / 8,
    QUOTA_COUNTS = 5, /* enum quota_event */
    HINT_CELLS = 64,  /* minutes */
    TOKEN_WORDS = 3 + TOKEN_TEXT_MAX / 8,
};

_Static_assert(IDENTITY_WORDS == 40, "layout 3");

/* ---- quota: one slot is a quota_slot and head->windows quota_windows ---- */

struct quota_window {
    _Atomic uint64_t dimension; /* enum dimension */
    /* What was used when Gmail last said that the limit is reached; quota
     * time, 0 = never.  Kept for showing when the ceiling has run out. */
    _Atomic uint64_t observed, observed_at_ms;
    struct window window; /* policy/window.h */
};

struct quota_slot {
    _Atomic uint32_t seq; /* around id .. identity and the windows; 0 = the
                           * slot was never filled in */
    uint32_t spare32;
    _Atomic uint64_t id;
    _Atomic uint64_t n_windows; /* in use, 0..head->windows */
    _Atomic uint64_t state;     /* enum account_state */
    _Atomic uint64_t until_ms;  /* quota time */
    _Atomic uint64_t reason[REASON_WORDS];
    _Atomic uint64_t identity[IDENTITY_WORDS];
    /* Each of these is one word, written on its own. */
    _Atomic uint64_t waiting;  /* messages << 32 | recipients */
    _Atomic uint64_t sessions; /* open << 32 | busy */
    _Atomic uint64_t count[QUOTA_COUNTS];
    /* With state and until_ms, under seq: how often in a row the account has
     * been sent to rest, and until when the message that tries it again counts
     * as under way (quota time; 0 = none is). */
    _Atomic uint64_t rests, probe_until_ms;
    /* Its mail goes through the account of this id instead; 0 = no.  One word,
     * written on its own, when the other one's slot is there. */
    _Atomic uint64_t divert;
    _Atomic uint64_t waiting_external; /* of the recipients in `waiting` */
    _Atomic uint64_t spare[1];
    struct quota_window window[];
};

_Static_assert(sizeof(struct window) == 8 * 151, "layout 3");
_Static_assert(sizeof(struct quota_window) == 1232, "layout 3");
_Static_assert(sizeof(struct quota_slot) == 576, "layout 3");
_Static_assert(LIMITS_MAX == 12, "layout 3");

/* A request word: how often a token was asked for, and which one was refused.
 * 0 = never asked. */
enum { REQUEST_SERIAL_BITS = 48 };

#define REQUEST_SERIAL_MASK ((1ull << REQUEST_SERIAL_BITS) - 1)

/* ---- hints ---- */

struct hints_slot {
    _Atomic uint64_t id;
    _Atomic uint64_t named;  /* 1: identity is written */
    _Atomic uint64_t wanted; /* how often a token was wished for */
    _Atomic uint64_t spare[5];
    _Atomic uint64_t identity[IDENTITY_WORDS];
    _Atomic uint64_t cell[HINT_CELLS];     /* minute << 40 | messages << 20 |
                                        * recipients, at minute % 64 */
    _Atomic uint64_t external[HINT_CELLS]; /* the same; no messages */
};

_Static_assert(sizeof(struct hints_slot) == 1408, "layout 3");

/* ---- status ---- */

struct status_slot {
    _Atomic uint32_t seq; /* around all the rest; 0 = never filled in */
    uint32_t spare32;
    _Atomic uint64_t id;
    _Atomic uint64_t state; /* enum token_state */
    _Atomic uint64_t serial;
    _Atomic uint64_t fetched_at_s, expires_at_s, next_try_at_s; /* Unix time */
    _Atomic uint64_t error[ERROR_WORDS];
    _Atomic uint64_t identity[IDENTITY_WORDS];
    _Atomic uint64_t spare[8];
};

_Static_assert(sizeof(struct status_slot) == 640, "layout 3");

/* ---- token ---- */

struct token_slot {
    _Atomic uint32_t seq; /* around all the rest; 0 = never filled in */
    uint32_t spare32;
    _Atomic uint64_t id;
    _Atomic uint64_t word[TOKEN_WORDS]; /* struct token (status.h) */
    _Atomic uint64_t spare[3];
};

_Static_assert(sizeof(struct token) == 8 * TOKEN_WORDS, "no tail octets");
_Static_assert(sizeof(struct token_slot) == 4160, "layout 3");

#endif
