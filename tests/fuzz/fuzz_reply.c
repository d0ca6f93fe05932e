/* tests/fuzz/fuzz_reply.c - what a server answers, or something else does.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: a reply found is the same without what follows it,
 * asks for more without its last octet, and its verdict and the line for the
 * MTA are sane at every stage.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/outcome.h"
#include "policy/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_reply(const struct reply *r)
{
    size_t len = strnlen(r->text, REPLY_TEXT_MAX);
    struct slice keyword = reply_keyword(r);

    check(r->code >= 200 && r->code <= 599);
    check(r->lines >= 1 && r->lines <= REPLY_LINES_MAX);
    check(r->enhanced.subject <= 999 && r->enhanced.detail <= 999);
    check(len < REPLY_TEXT_MAX);
    for (size_t i = 0; i < len; i++)
        check(r->text[i] >= ' ' && r->text[i] <= '~');
    check(keyword.len == 0 ||
          (keyword.at >= r->text && keyword.at + keyword.len <= r->text + len));
}

static void
check_line(const struct verdict *v, const struct reply *r)
{
    char line[LMTP_REPLY_MAX];
    size_t len = outcome_lmtp_reply(v, r, line), used = 0;
    struct reply back;

    check(len < LMTP_REPLY_MAX && line[len] == '\0');
    check(reply_parse(line, len, &back, &used) == REPLY_OK && used == len);
    check(back.lines == 1 && back.text[0] != '\0');
    check(back.enhanced.klass == back.code / 100);
    check((v->kind == OUTCOME_SENT) == (back.code == 250));
    check((v->kind == OUTCOME_REFUSED) == (back.code >= 500));
}

static void
judge(const struct reply *r)
{
    for (int s = 0; s < STAGE_COUNT; s++)
        for (int oauth = 0; oauth < 2; oauth++) {
            struct verdict v = outcome_judge((enum smtp_stage)s, r, oauth != 0);

            check(v.meaning != NULL && v.meaning[0] != '\0');
            check(v.kind != OUTCOME_SENT || r->code < 300 || r->code == 354);
            check(v.kind != OUTCOME_REFUSED ||
                  (r->code >= 500 && v.scope <= SCOPE_MESSAGE && !v.full));
            check_line(&v, r);
        }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *wire = (const char *)data;
    size_t at = 0, used = 0, n;
    struct reply r, again;

    while (reply_parse(wire + at, size - at, &r, &used) == REPLY_OK) {
        check(used > 0 && used <= size - at);
        check_reply(&r);
        memset(&again, 0, sizeof(again));
        check(reply_parse(wire + at, used, &again, &n) == REPLY_OK);
        check(n == used && memcmp(&r, &again, sizeof(r)) == 0);
        check(reply_parse(wire + at, used - 1, &again, &n) == REPLY_MORE);
        judge(&r);
        at += used;
    }
    return 0;
}
