/* milter/token/alert.h - what somebody is to be told, and when.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure: facts go in as they come, one subject at most once in an interval
 * comes out.  What is bad and good again between two tellings is not told.
 */
#ifndef TOKEN_ALERT_H
#define TOKEN_ALERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

enum alert_topic {
    ALERT_TOKEN,  /* an account gets no token until a person helps */
    ALERT_CLIENT, /* the same for all accounts of a client or key */
    ALERT_QUOTA,  /* an account has used most of a limit */
    ALERT_ENDING, /* a refresh token ends in a known time */
    ALERT_UNUSED, /* a refresh token was not used for months */
    ALERT_TOPICS,
};

const char *alert_topic_name(enum alert_topic t);

enum { ALERT_STATE_MAX = 31, ALERT_WHY_MAX = 299 };

struct alert {
    enum alert_topic topic;
    char subject[IDENTITY_MAX + 1];  /* an account's identity, or a client */
    char state[ALERT_STATE_MAX + 1]; /* "ok": nothing is wrong any more */
    char why[ALERT_WHY_MAX + 1];     /* a sentence; "" when it is ok */
    int64_t since_s;                 /* Unix time of the state; 0 = not known */
};

/* Cuts what does not fit. */
struct alert alert_of(enum alert_topic topic, const char *subject,
                      const char *state, const char *why);
bool alert_is_ok(const struct alert *a);

/* "account sales@example.com: needs_login: invalid_grant: ..." */
void alert_text(const struct alert *a, char *ret, size_t size);

struct alert_book;

struct alert_book *alert_book_new(void); /* NULL = out of memory */
void alert_book_free(struct alert_book *b);

/* The newest word on the subject; a state that it is in already has begun when
 * it was first said.  One that is ok and of which nothing bad was ever said is
 * forgotten.  False = out of memory. */
bool alert_book_note(struct alert_book *b, const struct alert *a);

/* Something to be told now; it counts as told.  False = nothing. */
bool alert_book_next(struct alert_book *b, uint64_t now_ms,
                     uint64_t interval_ms, struct alert *ret);

#endif
