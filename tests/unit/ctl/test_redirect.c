/* tests/unit/ctl/test_redirect.c - mirrors milter/ctl/redirect.c
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/ctl/redirect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TAIL " HTTP/1.1\r\nHost: 127.0.0.1:8085\r\n\r\n"

static const struct row {
    const char *name, *request;
    enum redirect_kind want;
    const char *code, *state, *error, *description;
} rows[] = {
    {"a code", "GET /?state=s-1&code=4/0Ab_c-d&scope=https://x/" TAIL,
     REDIRECT_ANSWER, "4/0Ab_c-d", "s-1", "", ""},
    {"encoded", "GET /?code=4%2F0A%2b&state=s" TAIL, REDIRECT_ANSWER, "4/0A+",
     "s", "", ""},
    {"denied",
     "GET /?error=access_denied&error_description=No+way%0a&state=s" TAIL,
     REDIRECT_ANSWER, "", "s", "access_denied", "No way?"},
    {"no state", "GET /?code=c" TAIL, REDIRECT_ANSWER, "c", "", "", ""},
    {"HTTP/1.0", "GET /?code=c HTTP/1.0\r\n\r\n", REDIRECT_ANSWER, "c", "", "",
     ""},
    {"what we do not know", "GET /?a&b=&=c&&code=c&%=%zz" TAIL, REDIRECT_ANSWER,
     "c", "", "", ""},
    {"an icon", "GET /favicon.ico" TAIL, REDIRECT_OTHER, NULL, NULL, NULL,
     NULL},
    {"another path", "GET /x?code=c&state=s" TAIL, REDIRECT_OTHER, NULL, NULL,
     NULL, NULL},
    {"nothing", "GET /" TAIL, REDIRECT_OTHER, NULL, NULL, NULL, NULL},
    {"POST", "POST /?code=c&state=s" TAIL, REDIRECT_OTHER, NULL, NULL, NULL,
     NULL},
    {"HEAD", "HEAD /?code=c&state=s" TAIL, REDIRECT_OTHER, NULL, NULL, NULL,
     NULL},
    {"a code twice", "GET /?code=c&code=d" TAIL, REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"a state twice", "GET /?code=c&state=s&state=s" TAIL, REDIRECT_BAD, NULL,
     NULL, NULL, NULL},
    {"code and error", "GET /?code=c&error=e" TAIL, REDIRECT_BAD, NULL, NULL,
     NULL, NULL},
    {"an empty code", "GET /?code=&state=s" TAIL, REDIRECT_BAD, NULL, NULL,
     NULL, NULL},
    {"a space", "GET /?code=a%20b" TAIL, REDIRECT_BAD, NULL, NULL, NULL, NULL},
    {"a line end", "GET /?code=a%0d%0ab" TAIL, REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"a NUL", "GET /?code=a%00b" TAIL, REDIRECT_BAD, NULL, NULL, NULL, NULL},
    {"cut encoding", "GET /?code=a%2" TAIL, REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"bad encoding", "GET /?code=a%g0" TAIL, REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"not ASCII", "GET /?code=a%c3%a4" TAIL, REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"a full address", "GET http://127.0.0.1/?code=c" TAIL, REDIRECT_BAD, NULL,
     NULL, NULL, NULL},
    {"two spaces", "GET  /?code=c" TAIL, REDIRECT_BAD, NULL, NULL, NULL, NULL},
    {"no version", "GET /?code=c\r\n\r\n", REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"HTTP/2", "GET /?code=c HTTP/2.0\r\n\r\n", REDIRECT_BAD, NULL, NULL, NULL,
     NULL},
    {"TLS", "\026\003\001", REDIRECT_MORE, NULL, NULL, NULL, NULL},
    {"half", "GET /?code=c HTTP/1.1\r\nHost: x\r\n", REDIRECT_MORE, NULL, NULL,
     NULL, NULL},
    {"nothing yet", "", REDIRECT_MORE, NULL, NULL, NULL, NULL},
};

static void
requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *t = &rows[i];
        struct redirect r;

        print_message("  %s\n", t->name);
        memset(&r, 'x', sizeof r);
        assert_int_equal(redirect_request(slice_of(t->request), &r), t->want);
        if (t->want != REDIRECT_ANSWER) {
            assert_int_equal(r.code[0], 'x'); /* as it was */
            continue;
        }
        assert_string_equal(r.code, t->code);
        assert_string_equal(r.state, t->state);
        assert_string_equal(r.error, t->error);
        assert_string_equal(r.description, t->description);
    }
}

/* However the network cuts it, a part of a good request asks for more. */
static void
every_prefix_asks_for_more(void **state)
{
    const char *whole = rows[0].request;
    struct redirect r;

    (void)state;
    for (size_t n = 0; n < strlen(whole); n++)
        assert_int_equal(redirect_request((struct slice){whole, n}, &r),
                         REDIRECT_MORE);
}

static void
bounds(void **state)
{
    size_t size = REDIRECT_HEAD_MAX + 4 * REDIRECT_CODE_MAX;
    char *text = malloc(size);
    struct redirect r;
    int n;

    (void)state;
    assert_non_null(text);
    memset(text, 'a', size);
    assert_int_equal(
        redirect_request((struct slice){text, REDIRECT_HEAD_MAX - 1}, &r),
        REDIRECT_MORE);
    assert_int_equal(
        redirect_request((struct slice){text, REDIRECT_HEAD_MAX}, &r),
        REDIRECT_BAD);
    text[3] = '\0';
    assert_int_equal(redirect_request((struct slice){text, 10}, &r),
                     REDIRECT_BAD);
    for (int over = 0; over <= 1; over++) {
        n = snprintf(text, size, "GET /?code=%0*d" TAIL,
                     REDIRECT_CODE_MAX + over, 7);
        assert_int_equal(redirect_request((struct slice){text, (size_t)n}, &r),
                         over ? REDIRECT_BAD : REDIRECT_ANSWER);
    }
    assert_int_equal(strlen(r.code), REDIRECT_CODE_MAX);
    free(text);
}

static void
pasted(void **state)
{
    static const struct {
        const char *text;
        bool want;
        const char *code, *state, *error;
    } pastes[] = {
        {"http://127.0.0.1:8085/?state=s&code=4/0A&scope=x\n", true, "4/0A",
         "s", ""},
        {"  http://127.0.0.1:8085/?state=s&error=access_denied#", true, "", "s",
         "access_denied"},
        {"state=s&code=c", true, "c", "s", ""},
        {"?code=c&state=s", true, "c", "s", ""},
        {"4/0AX-y_z", true, "4/0AX-y_z", "", ""},
        {"4%2F0AX", true, "4/0AX", "", ""},
        {"", false, NULL, NULL, NULL},
        {"\n", false, NULL, NULL, NULL},
        {"two words", false, NULL, NULL, NULL},
        {"http://127.0.0.1:8085/", false, NULL, NULL, NULL},
        {"http://127.0.0.1:8085/?state=s", false, NULL, NULL, NULL},
        {"https://accounts.google.com/o/oauth2/v2/auth?client_id=x", false,
         NULL, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof pastes / sizeof *pastes; i++) {
        struct redirect r;

        print_message("  %s\n", pastes[i].text);
        memset(&r, 0, sizeof r);
        assert_int_equal(redirect_pasted(slice_of(pastes[i].text), &r),
                         pastes[i].want);
        if (!pastes[i].want)
            continue;
        assert_string_equal(r.code, pastes[i].code);
        assert_string_equal(r.state, pastes[i].state);
        assert_string_equal(r.error, pastes[i].error);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(every_prefix_asks_for_more),
        cmocka_unit_test(bounds),
        cmocka_unit_test(pasted),
    };

    return cmocka_run_group_tests_name("ctl/redirect", tests, NULL, NULL);
}
