/* tests/unit/policy/test_ticket_account.c - mirrors policy/ticket_account.c:
 * the labels of accounts, and the accounts of labels.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/ticket_private.h"
#include "ticket_case.h"

/* ---- account labels ---- */

static void
test_labels_of_templates(void **state)
{
    static const struct {
        const char *address, *tail;
        enum ticket_result want;
    } rows[] = {
        {"ann@example.com", "ann", TICKET_OK},
        {"Ann.Lee@Example.COM", "ann-dlee", TICKET_OK},
        {"a-b_c'd+e.f@example.com", "a-hb-uc-ad-pe-df", TICKET_OK},
        {"a=b@example.com", "a-x3db", TICKET_OK},
        {"\xc3\xa9@example.com", "-xc3-xa9", TICKET_OK},
        {"a@b@example.com", "a-x40b", TICKET_OK},
        {"-@example.com", "-h", TICKET_OK},
        {"@example.com", "", TICKET_EMALFORMED},
        /* 57 characters are left of 63 */
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example."
         "com",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         TICKET_OK},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example."
         "com",
         "", TICKET_ELONG},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.@example.com",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-d",
         TICKET_OK},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.@example."
         "com",
         "", TICKET_ELONG},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mailbox m = mailbox_of(&staff, rows[i].address);
        char label[LABEL_MAX + 1] = "untouched";

        assert_int_equal(ticket_account_label(&m, label), rows[i].want);
        if (rows[i].want != TICKET_OK) {
            assert_string_equal(label, "untouched");
            continue;
        }
        assert_int_equal(label[0], 't');
        assert_int_equal(label[5], '-');
        assert_string_equal(label + 6, rows[i].tail);
        assert_true(strlen(label) <= LABEL_MAX);
        assert_int_not_equal(label[strlen(label) - 1], '-');
        assert_true(ticket_label_is_good(slice_of(label)));
    }
}

static void
test_labels_tell_accounts_apart(void **state)
{
    struct mailbox m[] = {
        mailbox_of(&sales, "sales@example.com"),
        mailbox_of(&sales_by_relay, "sales@example.com"),
        mailbox_of(&staff, "sales@example.com"),
        mailbox_of(&staff_by_relay, "sales@example.com"),
        mailbox_of(&staff, "sale@example.com"),
    };
    char label[6][LABEL_MAX + 1];

    (void)state;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(ticket_account_label(&m[i], label[i]), TICKET_OK);
    assert_int_equal(ticket_account_label(NULL, label[5]), TICKET_OK);
    assert_string_equal(label[5], "x");
    assert_int_equal(strlen(label[0]), 14);
    for (size_t i = 0; i < 6; i++) {
        assert_true(ticket_label_is_good(slice_of(label[i])));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(label[i], label[j]);
    }
}

static void
test_bad_labels(void **state)
{
    static const char *const rows[] = {
        "",
        "x1",
        "y",
        "a",
        "aaaaaaaaaaaaa",   /* 12 */
        "aaaaaaaaaaaaaaa", /* 14 */
        "aaaaaaaaaaaaab",  /* the unused bit is set */
        "aaaaaaaaaaaaa1",
        "tabcd",
        "tabcd-",
        "tabcdx",
        "tabcd-a-",
        "tabcd-a-z",
        "tabcd-a-x",
        "tabcd-a-x4",
        "tabcd-a-x00", /* NUL */
        "tabcd-a-x41", /* 'A' is never written */
        "tabcd-a-x61", /* 'a' has a shorter spelling */
        "tabcd-a-x2d", /* so has '-' */
        "tabcd-a-x2e",
        "tabcd-a-xzz",
        "tabcd-a.b",
        "tabcd-a_b",
        "tabc1-ab",
        "tabc--ab",
        "tabcd-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (ticket_label_is_good(slice_of(rows[i])))
            fail_msg("\"%s\" is taken for a label", rows[i]);
    assert_true(ticket_label_is_good(slice_of("X")));
    assert_true(ticket_label_is_good(slice_of("TABCD-A-X3D-H")));
    assert_true(ticket_label_is_good(slice_of("AAAAAAAAAAAAAQ")));
}

/* Whatever reads as a template's label is what writing its address gives. */
static void
test_one_spelling_only(void **state)
{
    static const char letters[] = "--------xhduap0123456789abcdefz.A";
    char prefix[LABEL_MAX + 1];
    struct mailbox m = mailbox_of(&staff, "a@example.com");
    uint64_t seed = 3, n_good = 0;

    (void)state;
    assert_int_equal(ticket_account_label(&m, prefix), TICKET_OK);
    for (int round = 0; round < 200000; round++) {
        char label[32], address[64], again[LABEL_MAX + 1];
        size_t n = 6, len = 6 + 1 + random_u64(&seed) % 8, n_local = 0;

        memcpy(label, prefix, 6);
        while (n < len)
            label[n++] = letters[random_u64(&seed) % (sizeof(letters) - 1)];
        label[n] = '\0';
        if (!ticket_label_is_good(slice_of(label)))
            continue;
        n_good++;
        /* decode by hand, trusting the label */
        for (size_t i = 6; i < n; i++) {
            unsigned octet = (unsigned char)slice_lower(label[i]);

            if (octet == '-') {
                const char *at = strchr("h-d.u_a'p+", slice_lower(label[++i]));

                if (at != NULL) {
                    octet = (unsigned char)at[1];
                } else {
                    assert_int_equal(sscanf(label + i + 1, "%2x", &octet), 1);
                    i += 2;
                }
            }
            address[n_local++] = (char)octet;
        }
        snprintf(address + n_local, sizeof(address) - n_local, "@example.com");
        m = mailbox_of(&staff, address);
        assert_int_equal(ticket_account_label(&m, again), TICKET_OK);
        assert_true(slice_eq_nocase(slice_of(again), slice_of(label)));
    }
    assert_true(n_good > 1000);
}

static void
test_queues(void **state)
{
    unsigned seen = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        char address[64];
        struct mailbox m;
        unsigned q;

        snprintf(address, sizeof(address), "user%d@example.com", i);
        m = mailbox_of(&staff, address);
        q = ticket_queue(m.id);
        assert_true(q < TICKET_QUEUES);
        assert_int_equal(q, ticket_queue(m.id));
        seen |= 1u << q;
    }
    assert_int_equal(seen, UINT32_MAX);
    assert_true(ticket_queue(UINT64_MAX) < TICKET_QUEUES);
}

/* ---- the mailbox of a label ---- */

/* A policy of these accounts; what it is asked for, it searches. */
static struct policy
policy_of(struct account *a, size_t n)
{
    return (struct policy){.accounts = a, .n_accounts = n};
}

static void
check_mailbox(const struct policy *p, const char *account, const char *address,
              const char *want_account)
{
    struct mailbox m, back;
    char label[LABEL_MAX + 1];

    m = mailbox_of(policy_account(p, account), address);
    assert_int_equal(ticket_account_label(&m, label), TICKET_OK);
    if (!ticket_mailbox(p, slice_of(label), &back))
        fail_msg("%s as %s: label %s names nobody", address, account, label);
    assert_string_equal(back.account->name, want_account);
    assert_true(back.id == m.id);
    for (char *c = m.address; *c != '\0'; c++)
        *c = slice_lower(*c);
    assert_string_equal(back.address, m.address);
    for (char *c = label; *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    assert_true(ticket_mailbox(p, slice_of(label), &back));
    assert_true(back.id == m.id);
}

static void
test_mailboxes(void **state)
{
    struct account accounts[] = {
        sales,
        sales_by_relay,
        {.name = "news", .address = "news@example.com", .smarthost = &gmail},
        staff,
        staff_by_relay,
        {.name = "others",
         .address = "*@example.net",
         .domain = "example.net",
         .is_template = true,
         .smarthost = &gmail},
    };
    struct policy policy =
        policy_of(accounts, sizeof(accounts) / sizeof(accounts[0]));
    const struct policy *p = &policy;
    char label[LABEL_MAX + 1];
    struct mailbox m, back = {.id = 5};

    (void)state;
    check_mailbox(p, "sales", "sales@example.com", "sales");
    check_mailbox(p, "relay", "sales@example.com", "relay");
    check_mailbox(p, "news", "news@example.com", "news");
    check_mailbox(p, "staff", "ann.lee@example.com", "staff");
    check_mailbox(p, "staff", "o'neil-b_c+d@example.com", "staff");
    check_mailbox(p, "staff_relay", "ann@example.com", "staff_relay");
    check_mailbox(p, "others", "ann@example.net", "others");
    /* a template filled in with a named account's address is that account */
    check_mailbox(p, "staff", "sales@example.com", "sales");
    check_mailbox(p, "staff_relay", "sales@example.com", "relay");
    check_mailbox(p, "staff_relay", "news@example.com", "staff_relay");

    /* accounts that the policy does not have */
    m = mailbox_of(&sales, "gone@example.com");
    assert_int_equal(ticket_account_label(&m, label), TICKET_OK);
    assert_false(ticket_mailbox(p, slice_of(label), &back));
    m = mailbox_of(&(struct account){.address = "*@example.org",
                                     .is_template = true,
                                     .smarthost = &gmail},
                   "ann@example.org");
    assert_int_equal(ticket_account_label(&m, label), TICKET_OK);
    assert_false(ticket_mailbox(p, slice_of(label), &back));
    assert_false(ticket_mailbox(p, slice_of("x"), &back));
    assert_false(ticket_mailbox(p, slice_of(""), &back));
    assert_false(ticket_mailbox(p, slice_of("tabcd-x-"), &back));
    assert_int_equal(back.id, 5);
}

/* Two templates whose 20 bits agree: nobody's mail goes out as another's. */
static void
test_templates_with_one_hash(void **state)
{
    static char labels[8192][4]; /* about 1,300 meet in 2^20 */
    static char address[2][64];
    struct account pair[2] = {
        {.name = "one", .is_template = true, .smarthost = &gmail},
        {.name = "two", .is_template = true, .smarthost = &gmail},
    };
    struct policy p = policy_of(pair, 2);
    char label[LABEL_MAX + 1];
    int i = 0, found = -1;
    struct mailbox m;

    (void)state;
    for (; i < 8192 && found < 0; i++) {
        snprintf(address[0], sizeof(address[0]), "*@d%d.example", i);
        pair[0].address = address[0];
        m = (struct mailbox){.account = &pair[0], .address = "u@x.example"};
        assert_int_equal(ticket_account_label(&m, label), TICKET_OK);
        memcpy(labels[i], label + 1, 4);
        for (int j = 0; j < i && found < 0; j++)
            if (memcmp(labels[j], labels[i], 4) == 0)
                found = j;
    }
    assert_true(found >= 0);
    snprintf(address[1], sizeof(address[1]), "*@d%d.example", found);
    pair[1].address = address[1];
    pair[0].domain = address[0] + 2;
    pair[1].domain = address[1] + 2;
    assert_false(ticket_mailbox(&p, slice_of(label), &m));
    p.n_accounts = 1; /* one of them alone is found */
    assert_true(ticket_mailbox(&p, slice_of(label), &m));
    assert_ptr_equal(m.account, &pair[0]);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_of_templates),
        cmocka_unit_test(test_labels_tell_accounts_apart),
        cmocka_unit_test(test_bad_labels),
        cmocka_unit_test(test_one_spelling_only),
        cmocka_unit_test(test_queues),
        cmocka_unit_test(test_mailboxes),
        cmocka_unit_test(test_templates_with_one_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
