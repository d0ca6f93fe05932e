/* milter/state/status_slot.c - see status_slot.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/status_slot.h"

#include <string.h>

#include "milter/state/words.h"

bool
status_slot_fits(const struct token_status *s)
{
    return s->id != 0 && s->state < TOKEN_STATES &&
           s->serial <= REQUEST_SERIAL_MASK && s->identity[0] != '\0' &&
           memchr(s->identity, '\0', sizeof s->identity) != NULL &&
           memchr(s->error, '\0', sizeof s->error) != NULL;
}

void
status_slot_publish(struct status_slot *slot, const struct token_status *s)
{
    words_write_begin(&slot->seq);
    words_set(&slot->id, s->id);
    words_set(&slot->state, s->state);
    words_set(&slot->serial, s->serial);
    words_set(&slot->fetched_at_s, (uint64_t)s->fetched_at_s);
    words_set(&slot->expires_at_s, (uint64_t)s->expires_at_s);
    words_set(&slot->next_try_at_s, (uint64_t)s->next_try_at_s);
    words_put_text(slot->error, ERROR_WORDS, s->error);
    words_put_text(slot->identity, IDENTITY_WORDS, s->identity);
    words_write_end(&slot->seq);
}

/* From a private copy. */
static enum state_result
unpack(const struct status_slot *copy, uint64_t id, struct token_status *ret)
{
    struct token_status s = {
        .id = words_get(&copy->id),
        .serial = words_get(&copy->serial),
        .fetched_at_s = (int64_t)words_get(&copy->fetched_at_s),
        .expires_at_s = (int64_t)words_get(&copy->expires_at_s),
        .next_try_at_s = (int64_t)words_get(&copy->next_try_at_s),
    };

    if (s.id != id || words_get(&copy->state) >= TOKEN_STATES ||
        !words_get_text(copy->error, ERROR_WORDS, s.error, sizeof s.error) ||
        !words_get_text(copy->identity, IDENTITY_WORDS, s.identity,
                        sizeof s.identity))
        return STATE_ECORRUPT;
    s.state = (enum token_state)words_get(&copy->state);
    if (!status_slot_fits(&s))
        return STATE_ECORRUPT;
    *ret = s;
    return STATE_OK;
}

enum state_result
status_slot_read(const struct status_slot *slot, uint64_t id,
                 struct token_status *ret)
{
    struct status_slot copy;
    unsigned tries = 0;
    uint32_t seq;

    do {
        seq = words_read_begin(&slot->seq);
        if (seq == 0)
            return STATE_EEMPTY;
        if ((seq & 1) != 0)
            continue;
        words_copy((_Atomic uint64_t *)(void *)&copy,
                   (const _Atomic uint64_t *)(const void *)slot,
                   sizeof copy / 8);
        if (words_read_good(&slot->seq, seq))
            return unpack(&copy, id, ret);
    } while (words_try_again(&tries));
    return STATE_EBUSY;
}
