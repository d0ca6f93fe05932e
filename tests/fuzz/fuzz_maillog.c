/* tests/fuzz/fuzz_maillog.c - a mail log, and what strangers made an MTA
 * write into it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: what an event holds lies within its line, times
 * are those of the calendar, and a line says the same when it stands alone.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/maillog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_within(struct slice part, struct slice line)
{
    check(part.len == 0 ||
          (part.at >= line.at && part.at + part.len <= line.at + line.len));
}

static void
check_event(const struct maillog_event *e, struct slice line)
{
    const struct slice part[] = {
        e->queue_id,  e->client_name, e->client_address,
        e->auth,      e->message_id,  e->sender,
        e->recipient, e->original,    e->status,
    };

    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        check_within(part[i], line);
    check(e->at_s >= -86400 && e->at_s < 253402300800 + 86400);
    check((e->kind == MAILLOG_OTHER) == (e->queue_id.len == 0));
    check(e->queue_id.len <= 20);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    struct maillog log = {.year = 2026};

    while (rest.len > 0) {
        const char *end = memchr(rest.at, '\n', rest.len);
        struct slice line = {rest.at,
                             end != NULL ? (size_t)(end - rest.at) : rest.len};
        struct maillog alone = log;
        struct maillog_event e, again;

        memset(&e, 0, sizeof e);
        memset(&again, 0, sizeof again);
        if (maillog_line(&log, line, &e)) {
            check_event(&e, line);
            check(maillog_line(&alone, line, &again));
            check(e.kind == again.kind && e.at_s == again.at_s);
        }
        rest = slice_from(rest, line.len + 1);
    }
    return 0;
}
