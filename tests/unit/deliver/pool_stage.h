/* tests/unit/deliver/pool_stage.h - a pool, an account and a server, for the
 * tests of the pool.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Real sockets, real TLS, real shared memory; only the pool's clock can be
 * put forward.
 */
#ifndef TEST_POOL_STAGE_H
#define TEST_POOL_STAGE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "milter/base/clock.h"
#include "milter/deliver/pool.h"
#include "tests/unit/deliver/liar.h"

enum { LONG_MS = 60 * 1000, ACCOUNT_ID = 77 };

/* base64 of user=me@example.com^Aauth=Bearer good^A^A, and of
 * ^@me@example.com^@abcdefghijklmnop */
#define GOOD_TOKEN    "dXNlcj1tZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciBnb29kAQE="
#define GOOD_PASSWORD "AG1lQGV4YW1wbGUuY29tAGFiY2RlZmdoaWprbG1ub3A="

extern _Atomic uint64_t jumped_ms; /* of the pool's clock; set_up: 0 */
extern const struct clock stage_clock;

struct stage {
    struct liar liar;
    char directory[64], password_file[80];
    struct policy policy;
    struct smarthost smarthost;
    struct account account;
    struct mailbox mailbox;
    struct quota *quota;
    struct quota_reader *reader;
    struct token_book *book;
    struct status_reader *status;
    struct pool_sessions *pool;
    struct message *message;
    struct message_copy *copy;
};

uint64_t stage_boot_ms(void *cookie);
int64_t stage_wall_ms(void *cookie);
void write_password(struct stage *s, const char *text, mode_t mode);
void publish_token(struct stage *s, const char *text, uint64_t serial,
                   int64_t left_s);
void publish_state(struct stage *s, enum token_state state, const char *error);
struct pool_sessions *new_pool(struct stage *s);
void set_up_state(struct stage *s);
struct stage *set_up(enum auth_kind auth);
void tear_down(struct stage *s);
struct lease lease_for(struct stage *s, uint64_t ms, bool fresh);
struct session *lease(struct stage *s);
struct letter_result send_copy(struct session *session,
                               struct message_copy *copy, bool *ret_usable);
enum outcome_kind send_one(struct stage *s);
void expect_count(const char *what, atomic_int *count, int want);
void expect_sessions(struct stage *s, uint32_t open, uint32_t busy);

#endif
