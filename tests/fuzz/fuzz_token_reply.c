/* tests/fuzz/fuzz_token_reply.c - what a token endpoint answers, or something
 * else does.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first octet is the grant, the next two the HTTP status, the rest the
 * body.  Whatever it is: a token that can stand in an AUTH line, or a sentence
 * that can stand in a log; and no trouble of the server's is a lasting state.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/oauth/oauth2.h"
#include "milter/token/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static bool
is_token(const char *s, size_t max)
{
    size_t n = strlen(s);

    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return n > 0 && n <= max;
}

static bool
is_sentence(const char *s, size_t room)
{
    size_t n = strnlen(s, room);

    for (size_t i = 0; i < n; i++)
        if (s[i] < ' ' || s[i] > '~')
            return false;
    return n > 0 && n < room;
}

static void
check_pause(const struct oauth2_answer *a)
{
    struct schedule_facts f = {.class = a->class,
                               .life_s = a->expires_in_s,
                               .retry_after_s = a->retry_after_s,
                               .failures = 1,
                               .random = 12345};
    uint64_t ms = schedule_pause_ms(&f);

    check(ms >= 700 && ms <= 31ull * 86400 * 1000);
    check(schedule_state(a->class) < TOKEN_STATES);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct oauth2_answer a;
    unsigned status;

    if (size < 3)
        return 0;
    status = 200 + (data[1] * 256u + data[2]) % 400;
    oauth2_parse(data[0] & 1 ? OAUTH2_GRANT_JWT : OAUTH2_GRANT_REFRESH, status,
                 (const char *)data + 3, size - 3, &a);
    check(a.class < OAUTH2_CLASSES);
    if (a.class == OAUTH2_OK) {
        check(status == 200);
        check(is_token(a.access_token, TOKEN_TEXT_MAX));
        check(a.expires_in_s >= 1 && a.expires_in_s <= 30 * 86400);
    } else {
        check(a.access_token == NULL && a.refresh_token == NULL);
        check(is_sentence(a.why, sizeof a.why));
    }
    check(a.refresh_token == NULL ||
          is_token(a.refresh_token, OAUTH2_REFRESH_TOKEN_MAX));
    check(a.refresh_left_s >= 0);
    check((status < 500 && status != 429) || a.class == OAUTH2_TRANSIENT);
    check_pause(&a);
    oauth2_answer_free(&a);
    return 0;
}
