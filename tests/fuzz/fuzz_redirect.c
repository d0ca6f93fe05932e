/* tests/fuzz/fuzz_redirect.c - what a browser, or anybody else on this host,
 * sends to the port that waits for a login; and what a person pastes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the octets are: an answer has a code or an error, not both, in
 * visible ASCII; nothing else touches the result; and more octets behind a
 * request change nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/redirect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool good)
{
    if (!good)
        abort();
}

static void
check_visible(const char *text, size_t size, char lowest)
{
    size_t n = strnlen(text, size);

    check(n < size);
    for (size_t i = 0; i < n; i++)
        check(text[i] >= lowest && text[i] <= '~');
}

static void
check_answer(const struct redirect *r)
{
    check((r->code[0] == '\0') != (r->error[0] == '\0'));
    check_visible(r->code, sizeof r->code, '!');
    check_visible(r->state, sizeof r->state, '!');
    check_visible(r->error, sizeof r->error, '!');
    check_visible(r->description, sizeof r->description, ' ');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct redirect r, before;
    struct slice all = {(const char *)data, size};
    enum redirect_kind kind;

    memset(&r, 0x55, sizeof r);
    before = r;
    kind = redirect_request(all, &r);
    if (kind == REDIRECT_ANSWER)
        check_answer(&r);
    else
        check(memcmp(&r, &before, sizeof r) == 0);
    /* A head that was too short may become anything; one that was whole
     * stays what it was. */
    if (size > 0 && kind != REDIRECT_MORE && kind != REDIRECT_BAD) {
        char *more = malloc(size + 1);

        check(more != NULL);
        memcpy(more, data, size);
        more[size] = 'x';
        check(redirect_request((struct slice){more, size + 1}, &r) == kind);
        free(more);
    }
    r = before;
    if (redirect_pasted(all, &r))
        check_answer(&r);
    else
        check(memcmp(&r, &before, sizeof r) == 0);
    return 0;
}
