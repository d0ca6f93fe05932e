/* tests/unit/policy/test_decide_memory.c - policy/decide.c, scratch.c and
 * proof.c when memory runs out: each allocation is refused in turn, and the
 * answer is DECIDE_ENOMEM or the right one, never another.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/proof.h"
#include "tests/support/failing_alloc.h"
#include "tests/unit/policy/decide_case.h"

static void
every_allocation_may_fail(void **state)
{
    struct policy *p = case_compile(
        ACCOUNTS "rules:\n"
                 "  - {match: {header: {Subject: x}}, route: mta}\n"
                 "  - {match: {header: {Y: y}}, hold: x, shadow: yes}\n"
                 "  - {route: {pool: bulk}, shadow: yes}\n"
                 "  - {match: {from: no@where}, route: mta}\n"
                 "  - {match: {header: {X: '/y/'}}, reject: '550 5.7.1 no'}\n"
                 "  - {name: hit, route: {account: news}}\n");
    struct mail m = {.sender = "a@b",
                     .recipient = "r@s",
                     .headers = "From: a@b, c@d, e@f, g@h, i@j, k@l\n"
                                "Subject: =?utf-8?q?z?=\nX: z\nY: y\n"};
    struct facts_pair h[CASE_HEADERS_MAX];
    struct facts f = case_facts(&m, FACTS_EOM, h);
    enum decide_result r = DECIDE_ENOMEM;
    unsigned long n;

    (void)state;
    for (n = 0; r == DECIDE_ENOMEM; n++) {
        assert_true(n < 100);
        scratch_reset(case_scratch);
        alloc_left = n;
        r = decide(p, &f, slice_of(m.recipient), case_scratch, &case_decision,
                   NULL);
        alloc_left = ALLOC_FOR_EVER;
    }
    print_message("  %lu failed first\n", n - 1);
    assert_true(n > 4); /* or nothing was tested */
    assert_int_equal(r, DECIDE_OK);
    assert_int_equal(case_decision.action, ACTION_ACCOUNT);
    assert_string_equal(case_decision.rule, "hit");
    assert_int_equal(case_decision.n_shadows, 2);

    /* A scratch that ran out once serves the next message. */
    scratch_reset(case_scratch);
    alloc_left = 1;
    assert_int_equal(decide(p, &f, slice_of(m.recipient), case_scratch,
                            &case_decision, NULL),
                     DECIDE_ENOMEM);
    alloc_left = ALLOC_FOR_EVER;
    assert_int_equal(decide(p, &f, slice_of(m.recipient), case_scratch,
                            &case_decision, NULL),
                     DECIDE_OK);
    assert_string_equal(case_decision.rule, "hit");
    scratch_reset(case_scratch);
    policy_free(p);
}

static void
no_proof_fails_for_want_of_memory(void **state)
{
    static struct diag d;
    struct policy *p = case_compile(
        ACCOUNTS "rules:\n"
                 "  - {name: x, match: {header: {X: '/y/'}, from: a@b}, hold: "
                 "x}\n"
                 "tests:\n"
                 "  - {recipient: r@s, header: {X: y, From: a@b}, expect: "
                 "hold}\n"
                 "  - {recipient: r@s, header: {X: z, From: a@b}, expect: "
                 "hold, rule: x}\n");
    unsigned long n;

    (void)state;
    for (n = 0;; n++) {
        assert_true(n < 100);
        d = (struct diag){.n = 0};
        alloc_left = n;
        assert_false(proof_run(p, &d));
        alloc_left = ALLOC_FOR_EVER;
        assert_int_equal(d.n_errors, 1);
        if (strcmp(d.item[0].text, "out of memory") != 0)
            break;
        assert_int_equal(d.item[0].at.line, 0);
    }
    print_message("  %lu failed first\n", n);
    assert_true(n > 6);
    assert_non_null(strstr(d.item[0].text, "\"x\": "));
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(no_proof_fails_for_want_of_memory),
    };

    return cmocka_run_group_tests_name("policy/decide, out of memory", tests,
                                       case_setup, case_teardown);
}
