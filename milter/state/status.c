/* milter/state/status.c - see status.h: the readers.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/status.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/base/clock.h"
#include "milter/state/attachment.h"
#include "milter/state/status_slot.h"
#include "milter/state/token_slot.h"

struct status_reader {
    struct attachment *status;
    struct attachment *token; /* NULL: not for this reader */
};

struct status_reader *
status_reader_new(const char *directory, bool with_tokens)
{
    struct status_reader *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->status = attachment_new(directory, SEGMENT_STATUS,
                               sizeof(struct status_slot), false);
    if (with_tokens)
        r->token = attachment_new(directory, SEGMENT_TOKEN,
                                  sizeof(struct token_slot), false);
    if (r->status == NULL || (with_tokens && r->token == NULL)) {
        status_reader_free(r);
        return NULL;
    }
    return r;
}

void
status_reader_free(struct status_reader *r)
{
    if (r == NULL)
        return;
    attachment_free(r->status);
    attachment_free(r->token);
    free(r);
}

static enum state_result
read_status(const struct segment *s, uint64_t id, struct token_status *ret)
{
    const struct status_slot *slot = segment_find(s, id);

    return slot != NULL ? status_slot_read(slot, id, ret) : STATE_EEMPTY;
}

enum state_result
status_peek(struct status_reader *r, uint64_t id, struct token_status *ret)
{
    struct mapping *m;
    enum state_result result = attachment_get(r->status, &m, NULL, 0);

    if (result != STATE_OK)
        return result;
    result = read_status(&m->segment, id, ret);
    attachment_put(r->status, m);
    return result;
}

enum state_result
token_read(struct status_reader *r, uint64_t id, struct token *ret)
{
    const struct token_slot *slot;
    struct mapping *m;
    enum state_result result;

    if (r->token == NULL)
        return STATE_EACCESS;
    result = attachment_get(r->token, &m, NULL, 0);
    if (result != STATE_OK)
        return result;
    slot = segment_find(&m->segment, id);
    result = slot != NULL ? token_slot_read(slot, id, ret) : STATE_EEMPTY;
    attachment_put(r->token, m);
    return result;
}

enum state_result
status_each(struct status_reader *r,
            bool (*each)(void *cookie, const struct token_status *s),
            void *cookie)
{
    enum state_result result, first = STATE_OK;
    struct token_status s;
    struct mapping *m;
    uint64_t id;

    result = attachment_get(r->status, &m, NULL, 0);
    if (result != STATE_OK)
        return result;
    for (uint32_t i = 0; i < m->segment.n_slots; i++) {
        const struct status_slot *slot = segment_slot(&m->segment, i, &id);

        if (slot == NULL)
            continue;
        result = status_slot_read(slot, id, &s);
        if (result == STATE_OK) {
            if (!each(cookie, &s))
                break;
        } else if (result != STATE_EEMPTY && first == STATE_OK) {
            first = result;
        }
    }
    attachment_put(r->status, m);
    return first;
}

/* ---- waiting ---- */

/* Nothing will come of waiting: a person is needed. */
static bool
is_lasting(enum token_state s)
{
    return s == TOKEN_NEEDS_LOGIN || s == TOKEN_CLIENT_BROKEN ||
           s == TOKEN_NO_MAILBOX || s == TOKEN_CONFIG;
}

/* One look, and one wait of at most step_ms; true = it has come. */
static bool
wait_step(struct status_reader *r, uint64_t id, uint64_t seen_serial,
          uint64_t step_ms)
{
    static const struct timespec absent = {0, 20000000};
    struct token_status s = {0};
    struct mapping *m;
    uint32_t before;
    bool come;

    if (attachment_get(r->status, &m, NULL, 0) != STATE_OK) {
        nanosleep(&absent, NULL);
        return false;
    }
    before = segment_wake_count(&m->segment);
    come = read_status(&m->segment, id, &s) == STATE_OK &&
           (s.serial != seen_serial || is_lasting(s.state));
    if (!come)
        segment_wait(&m->segment, before, step_ms);
    attachment_put(r->status, m);
    return come;
}

void
status_wait(struct status_reader *r, uint64_t id, uint64_t seen_serial,
            uint64_t ms)
{
    enum { STEP_MS = 1000 }; /* then see whether the file is still the same */
    uint64_t start_ms = clock_boot_ms(&clock_real), passed_ms = 0;

    while (passed_ms < ms) {
        uint64_t left_ms = ms - passed_ms;

        if (wait_step(r, id, seen_serial,
                      left_ms < STEP_MS ? left_ms : STEP_MS))
            return;
        passed_ms = clock_boot_ms(&clock_real) - start_ms;
    }
}
