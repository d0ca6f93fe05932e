/* milter/state/token_slot.c - see token_slot.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/state/token_slot.h"

#include <string.h>

#include "milter/state/words.h"

enum { HEAD_WORDS = offsetof(struct token, text) / 8 };

bool
token_slot_text_ok(const char *text, size_t len)
{
    if (len == 0 || len > TOKEN_TEXT_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

void
token_slot_publish(struct token_slot *slot, uint64_t id, const struct token *t)
{
    uint64_t copy[TOKEN_WORDS];

    memcpy(copy, t, sizeof copy);
    words_write_begin(&slot->seq);
    words_set(&slot->id, id);
    for (size_t i = 0; i < TOKEN_WORDS; i++)
        words_set(&slot->word[i], copy[i]);
    words_write_end(&slot->seq);
    explicit_bzero(copy, sizeof copy);
}

/* Copies what the length says; a torn length is told by the sequence. */
static void
read_words(const struct token_slot *slot, struct token *ret)
{
    uint64_t copy[TOKEN_WORDS] = {0};
    size_t n = HEAD_WORDS;

    for (size_t i = 0; i < n; i++)
        copy[i] = words_get(&slot->word[i]);
    memcpy(ret, copy, HEAD_WORDS * 8);
    if (ret->len <= TOKEN_TEXT_MAX)
        n += (ret->len + 7) / 8;
    for (size_t i = HEAD_WORDS; i < n; i++)
        copy[i] = words_get(&slot->word[i]);
    memcpy(ret, copy, sizeof *ret);
    explicit_bzero(copy, sizeof copy);
}

enum state_result
token_slot_read(const struct token_slot *slot, uint64_t id, struct token *ret)
{
    enum state_result r = STATE_EBUSY;
    unsigned tries = 0;
    struct token t;
    uint32_t seq;

    do {
        uint64_t owner;

        seq = words_read_begin(&slot->seq);
        if (seq == 0)
            return STATE_EEMPTY;
        if ((seq & 1) != 0)
            continue;
        owner = words_get(&slot->id);
        read_words(slot, &t);
        if (words_read_good(&slot->seq, seq)) {
            r = owner == id && t.serial != 0 && t.reserved == 0 &&
                        token_slot_text_ok(t.text, t.len)
                    ? STATE_OK
                    : STATE_ECORRUPT;
            break;
        }
    } while (words_try_again(&tries));
    if (r == STATE_OK)
        *ret = t;
    explicit_bzero(&t, sizeof t);
    return r;
}
