/* tests/unit/filter/test_session_memory.c - milter/filter when memory runs out:
 * each allocation of a message is refused in turn, and the message comes out
 * as it should or is deferred whole, never another way.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/failing_alloc.h"
#include "tests/unit/filter/filter_case.h"

static const char rules[] = ACCOUNTS
    "rules:\n"
    "  - {match: {header: {X-Late: '*'}}, reject: '550 5.7.1 No'}\n"
    "  - {match: {macro: {client_addr: x}}, reject: '550 5.7.1 No x'}\n"
    "  - {match: {macro: {rcpt_addr: x}}, reject: '550 5.7.1 No y'}\n"
    "  - {match: {recipient_domain: no.test}, reject: '550 5.7.1 No one'}\n"
    "  - {match: {recipient_domain: hold.test}, hold: odd}\n"
    "  - {match: {sender: sales@example.com}, route: {account: sales},\n"
    "     remove_header: X-A, add_header: {X-One: '1'}}\n"
    "default: mta\n";

/* Large enough that the arena needs several blocks. */
static char long_header[20000];

static const struct mail mail = {
    "<sales@example.com>",
    .helo = "client.test",
    .macro = {"client_addr=192.0.2.1"},
    .rcpt_macro = {"rcpt_addr=a"},
    .rcpt = {"<a@far.test> ORCPT=rfc822;o@p.test", "<n@no.test> NOTIFY=NEVER",
             "<h@hold.test>"},
    .headers = long_header,
};
static const char want[] =
    "250; hold odd; -X-A[1]; +X-One: 1; "
    "del a@far.test; tag a@far.test sales@example.com ORCPT=rfc822;o@p.test; "
    "del n@no.test; tag n@no.test refuse ORCPT=rfc822;n@no.test NOTIFY=NEVER";

static void
fill(void)
{
    char *to = long_header;

    for (int i = 0; i < 60; i++) {
        memcpy(to, "X-B: ", 5);
        memset(to + 5, 'b', 200);
        to[205] = '\n';
        to += 206;
    }
    strcpy(to, "X-A: 1\n");
}

/* A refusal at RCPT is one of the whole message only by the client's will; so
 * each reply is a temporary one, and nothing is edited. */
static bool
is_deferred(const char *got)
{
    for (const char *at = got; *at != 0;) {
        const char *reply =
            strncmp(at, "rcpt ", 5) == 0 ? strstr(at, ">: ") + 3 : at;

        if (strncmp(reply, "451 4.3.0 ", 10) != 0)
            return false;
        at = strstr(reply, "; ");
        if (at == NULL)
            return true;
        at += 2;
    }
    return false;
}

static void
every_allocation_may_fail(void **state)
{
    unsigned long n, deferred = 0, lost = 0;
    bool done = false;

    (void)state;
    fill();
    case_open(rules);
    assert_string_equal(case_send(&mail), want);
    for (n = 0; !done; n++) {
        struct session *s;
        const char *got;

        assert_true(n < 1000);
        alloc_left = n;
        s = case_connect(&mail);
        got = s != NULL ? case_send_over(s, &mail) : NULL;
        done = alloc_left > 0;
        alloc_left = ALLOC_FOR_EVER;
        if (got == NULL || is_deferred(got)) {
            deferred++;
        } else if (strcmp(got, want) != 0) {
            fail_msg("allocation %lu: %s", n, got);
        }
        /* The connection serves the next message, unless who it is was what
         * there was no memory for. */
        if (s != NULL) {
            got = case_send_over(s, &mail);
            lost += is_deferred(got);
            if (!is_deferred(got))
                assert_string_equal(got, want);
        }
        session_free(s);
    }
    print_message("  %lu allocations, %lu times deferred\n", n - 1, deferred);
    assert_true(deferred > 10);
    assert_int_equal(lost, 2); /* the client's name, the HELO */
    case_close();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests_name("filter/session, out of memory", tests,
                                       NULL, NULL);
}
