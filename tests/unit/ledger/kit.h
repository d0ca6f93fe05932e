/* tests/unit/ledger/kit.h - what the ledger's tests share.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_LEDGER_KIT_H
#define TESTS_LEDGER_KIT_H

#include "milter/ledger/ledger.h"

enum { KIT_PATH = 128 };

#define KIT_DAY_MS (86400ull * 1000)
/* Some Tuesday. */
#define KIT_NOW_MS 1790000000000ull

/* A directory of its own below $TMPDIR or /tmp. */
void kit_directory(char ret[KIT_PATH]);
void kit_remove(const char *directory); /* with all that is in it */

/* A clock whose wall time a test sets; boot time is the machine's. */
struct kit_clock {
    struct clock clock;
    _Atomic int64_t wall_ms;
};
void kit_clock_init(struct kit_clock *c, uint64_t wall_ms);

/* cmocka's failure when it cannot be opened. */
struct ledger *kit_open(const char *directory, const struct clock *clock);

/* A book of its own for each test, on a disk that works again afterwards. */
struct kit_desk {
    char directory[KIT_PATH];
    struct kit_clock clock; /* at KIT_NOW_MS */
    struct ledger *l;
};
int kit_desk_setup(void **state);
int kit_desk_teardown(void **state);
void kit_desk_reopen(struct kit_desk *d);

struct attempt kit_attempt(uint64_t ticket, const char *recipient,
                           uint64_t account);
struct attempt_result kit_result(int64_t row, enum outcome_kind k);
struct digest kit_digest(uint8_t fill);

/* One message with so many recipients, in two windows of a day and one of an
 * hour. */
struct taken kit_charge(uint64_t account, uint64_t at_ms, uint32_t recipients);

/* Units of one dimension in the day's window, by ledger_spent. */
uint64_t kit_spent(struct ledger *l, uint64_t account, enum dimension d);

/* First column of the first row of any SQL on the file, by a connection of
 * its own; -1 on failure. */
int64_t kit_number(const char *directory, const char *sql);
/* Runs any SQL on the file; false on failure. */
bool kit_exec(const char *directory, const char *sql);

/* Waits until `yes` says so; false after 30 seconds. */
bool kit_wait(bool (*yes)(void *cookie), void *cookie);
bool kit_wait_ok(struct ledger *l, bool ok);

#endif
