/* tests/fuzz/fuzz_mail_login.c - a mail server that says anything at all while
 * somebody logs in.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The first octet chooses protocol and login; the rest is lines.  Whatever
 * they are: the talk ends by our goodbye, the secret goes out at most once,
 * never before TLS, and the words that are kept are printable.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "milter/ctl/mail_login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BEARER "dXNlcj1hQHgudGVzdAFhdXRoPUJlYXJlciB0b2sBAQ=="
#define PLAIN  "AGFAeC50ZXN0AHRvaw=="

static void
check(bool good)
{
    if (!good)
        abort();
}

/* How often the secret is in what goes out now, which is then sent. */
static unsigned
sent(struct mail_login *m)
{
    const char *response = m->who->bearer ? BEARER : PLAIN;
    bool secret = m->out.len > 0 && memmem(m->out.at, m->out.len, response,
                                           strlen(response)) != NULL;

    check(m->out.len == 0 || m->out.at[m->out.len - 1] == '\n');
    buf_clear(&m->out);
    return secret ? 1 : 0;
}

static void
talk(struct mail_login *m, struct slice rest)
{
    enum mail_want want = MAIL_WANT_LINE;
    unsigned secrets = 0;

    while (want != MAIL_WANT_NOTHING && rest.len > 0) {
        const char *end = memchr(rest.at, '\n', rest.len);
        struct slice line = {rest.at,
                             end != NULL ? (size_t)(end - rest.at) : rest.len};
        bool clear = m->starttls;

        if (want == MAIL_WANT_TLS) {
            want = mail_login_secured(m);
        } else {
            want = mail_login_line(m, line);
            rest = slice_from(rest, line.len + 1);
        }
        secrets += sent(m);
        check(secrets <= (clear ? 0u : 1u));
    }
    if (want == MAIL_WANT_NOTHING)
        check(m->fault < MAIL_FAULTS);
    check(strnlen(m->said, sizeof m->said) < sizeof m->said);
    for (const char *c = m->said; *c != '\0'; c++)
        check(*c >= ' ' && *c <= '~');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned choice = size > 0 ? data[0] : 0;
    struct mail_credentials who = {
        .sasl = {.user = "a@x.test", .secret = slice_of("tok")},
        .bearer = (choice & 8) != 0,
        .helo = "me.test",
    };
    enum mail_protocol protocol = (enum mail_protocol)(choice % 4 % 3);
    struct mail_login m;

    mail_login_begin(&m, protocol, protocol == MAIL_SMTP && (choice & 4) != 0,
                     &who);
    if (size > 1)
        talk(&m, (struct slice){(const char *)data + 1, size - 1});
    mail_login_free(&m);
    return 0;
}
