/* milter/state/status.h - the token state of each account, for everybody;
 * and the tokens themselves, for the agent alone.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Both segments are written by the token daemon alone, a sequence number
 * around each slot.
 */
#ifndef STATE_STATUS_H
#define STATE_STATUS_H

#include <stdint.h>

#include "milter/state/segment.h"

enum token_state {
    TOKEN_NONE = 0,    /* never asked for */
    TOKEN_OK,          /* usable */
    TOKEN_RETRYING,    /* last renewal failed in passing; may still be valid */
    TOKEN_NEEDS_LOGIN, /* refresh token dead: gmroutectl login */
    TOKEN_CLIENT_BROKEN, /* the OAuth client is refused: all its accounts */
    TOKEN_NO_MAILBOX,    /* service account: no such user */
    TOKEN_CONFIG,        /* our request is refused: configuration or bug */
    TOKEN_STATES,
};

const char *token_state_name(enum token_state s);

struct token_status { /* a private copy */
    uint64_t id;
    char identity[IDENTITY_MAX + 1];
    enum token_state state;
    uint64_t serial;      /* of the newest token, below 2^48; 0 = none */
    int64_t fetched_at_s; /* Unix time; 0 = never */
    int64_t expires_at_s;
    int64_t next_try_at_s; /* 0 = none planned */
    char error[200];       /* last failure, for a person; "" = none */
};

/* Octets; Google documents at most 2048 for an access token.  Longer is
 * refused, never cut. */
enum { TOKEN_TEXT_MAX = 4096 };

struct token {       /* a private copy: the caller wipes it */
    uint64_t serial; /* grows with every publish, never 0 */
    int64_t expires_at_s;
    uint32_t len;      /* octets used in text; there is no NUL */
    uint32_t reserved; /* 0 */
    char text[TOKEN_TEXT_MAX];
};

/* ---- the token daemon's side ---- */

struct token_book; /* both segments, writable; any thread */

/* Makes both segments, always fresh ones, and takes over what is still valid
 * in the old ones, so that a restart costs no renewals (token_book_get).
 * STATE_ETAKEN while another token daemon lives. */
enum state_result token_book_make(struct token_book **ret,
                                  const char *directory, uint32_t n_accounts,
                                  char *err, size_t err_size);
void token_book_free(struct token_book *b);

/* Mailboxes that the book can still take in. */
uint32_t token_book_room(struct token_book *b);

/* Makes both segments anew with those alone that `keep` says; readers come over
 * by the retired mark.  Whoever is left out has no state and no token, as if
 * never asked for.  On failure all is as it was, and err says why. */
enum state_result token_book_thin(struct token_book *b,
                                  bool (*keep)(void *cookie, uint64_t id),
                                  void *cookie, char *err, size_t err_size);

/* Says that the daemon is alive; about once a second (segment_inspect). */
void token_book_beat(struct token_book *b);

/* How far the clock of a token endpoint is ahead of ours, for people: in
 * segment_info.stat of the status segment, as an int64_t. */
enum { STATUS_SKEW_S = 0 };
void token_book_note_skew(struct token_book *b, int64_t skew_s);

/* What the book says of an account; STATE_EEMPTY = nothing. */
enum state_result token_book_get(struct token_book *b, uint64_t id,
                                 struct token_status *ret);

/* Publishes the state of an account and wakes those that wait for it.
 * STATE_ECORRUPT when a field of *s is out of range; STATE_EFULL,
 * STATE_ENOSPACE. */
enum state_result token_book_set(struct token_book *b,
                                 const struct token_status *s);

/* Publishes a token first, with the serial and expiry of *s, then its status.
 * STATE_ECORRUPT also for a text that is empty, longer than TOKEN_TEXT_MAX or
 * not all visible ASCII (RFC 6750 2.1). */
enum state_result token_book_publish(struct token_book *b,
                                     const struct token_status *s,
                                     const char *text, size_t len);

/* ---- readers ---- */

struct status_reader; /* attaches by itself, again after a restart */

/* with_tokens: also maps the token segment (the agent alone may).  NULL = out
 * of memory.  Any thread. */
struct status_reader *status_reader_new(const char *directory,
                                        bool with_tokens);
void status_reader_free(struct status_reader *r);

/* STATE_EEMPTY: nothing was published for this account; STATE_EABSENT: the
 * token daemon has made no segment; STATE_EBUSY: it died while it wrote this
 * one. */
enum state_result status_peek(struct status_reader *r, uint64_t id,
                              struct token_status *ret);

/* The same for the token; the caller wipes *ret. */
enum state_result token_read(struct status_reader *r, uint64_t id,
                             struct token *ret);
enum state_result status_each(struct status_reader *r,
                              bool (*each)(void *cookie,
                                           const struct token_status *s),
                              void *cookie);
/* Waits until the status of the account changes from `seen_serial` or to a
 * lasting failure, at most ms.  Polls cheaply through the futex word. */
void status_wait(struct status_reader *r, uint64_t id, uint64_t seen_serial,
                 uint64_t ms);

#endif
