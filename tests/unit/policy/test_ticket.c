/* tests/unit/policy/test_ticket.c - tags: written, read, and every way to
 * change one.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/address.h"
#include "policy/base32.h"
#include "policy/ticket_private.h"
#include "ticket_case.h"

#define TAG "gmroute.invalid"

static const struct ticket_keys keys = {
    .n = 2,
    .key = {{.id = 7, .secret = "0123456789abcdef0123456789abcde"},
            {.id = 6, .secret = "an older key"}}};

static const struct ticket a_ticket = {.number = 0x0123456789abcdef,
                                       .minute = 29833333,
                                       .plan = 0xcafe1234,
                                       .from = FROM_REWRITE,
                                       .defer = true,
                                       .share_percent = 80};

static void
assert_ticket(const struct ticket *a, const struct ticket *b)
{
    assert_true(a->number == b->number);
    assert_int_equal(a->minute, b->minute);
    assert_int_equal(a->plan, b->plan);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->refuse, b->refuse);
    assert_int_equal(a->defer, b->defer);
    assert_int_equal(a->share_percent, b->share_percent);
}

static enum ticket_result
read_text(const char *address, struct tag *ret)
{
    return ticket_read(slice_of(address), TAG, &keys, ret);
}

/* ---- round trips ---- */

static const char *const recipients[] = {
    "user@example.com",
    "User.Name+ext@Sub.Example.COM",
    "a%b@example.com",
    "host!user@example.com",
    "a=b#c$d&e*f/g?h^i`j{k|l}m~n@example.com",
    "\"a@b\"@example.com",
    "\"quoted name\"@example.com",
    "\"with \\\" and \\\\\"@example.com",
    "\"plain\"@example.com",
    "j\xc3\xbcrgen@b\xc3\xb8k.example",
    "x@localhost",
    "x@xn--bcher-kva.example",
    "\"user@x.gmroute.invalid\"@example.com",
    "a@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com",
};

enum { N_RECIPIENTS = sizeof(recipients) / sizeof(recipients[0]) };

static void
test_round_trip(void **state)
{
    struct mailbox boxes[] = {mailbox_of(&sales, "sales@example.com"),
                              mailbox_of(&staff, "ann.lee@example.com")};

    (void)state;
    for (size_t i = 0; i < N_RECIPIENTS; i++)
        for (size_t j = 0; j < 3; j++) {
            const struct mailbox *m = j < 2 ? &boxes[j] : NULL;
            char tagged[TAGGED_MAX + 1], label[LABEL_MAX + 1];
            struct tag tag;

            assert_int_equal(ticket_write(&a_ticket, slice_of(recipients[i]), m,
                                          TAG, &keys, tagged),
                             TICKET_OK);
            assert_true(slice_starts(slice_of(tagged), recipients[i]));
            assert_true(ticket_is_tagged(slice_of(tagged), TAG));
            assert_int_equal(read_text(tagged, &tag), TICKET_OK);
            assert_ticket(&tag.ticket, &a_ticket);
            assert_string_equal(tag.recipient, recipients[i]);
            assert_int_equal(ticket_account_label(m, label), TICKET_OK);
            assert_true(slice_eq(tag.account, slice_of(label)));
            assert_int_equal(tag.queue, ticket_queue(m != NULL ? m->id : 0));
        }
}

/* A local part of n octets, quoted when it needs to be. */
static void
random_recipient(uint64_t *seed, char *ret)
{
    static const char plain[] = "abcXYZ0189.+-_=%!#'\xc3\xa9",
                      quoted[] = "ab @,;:<>()[]\\\"\xe4";
    size_t n = 1 + random_u64(seed) % 20;
    bool quote = random_u64(seed) % 3 == 0;

    if (quote)
        *ret++ = '"';
    while (n-- > 0) {
        char c = quote ? quoted[random_u64(seed) % (sizeof(quoted) - 1)]
                       : plain[random_u64(seed) % (sizeof(plain) - 1)];

        if (c == '"' || c == '\\')
            *ret++ = '\\';
        *ret++ = c;
    }
    if (quote)
        *ret++ = '"';
    *ret++ = '@';
    for (n = 1 + random_u64(seed) % 3; n > 0; n--)
        ret += sprintf(ret, "%c%x.", "aZ"[random_u64(seed) % 2],
                       (unsigned)(random_u64(seed) % 4096));
    strcpy(ret, "example");
}

static struct ticket
random_ticket(uint64_t *seed)
{
    return (struct ticket){.number = random_u64(seed),
                           .minute = (uint32_t)random_u64(seed),
                           .plan = (uint32_t)random_u64(seed),
                           .from = (enum from_handling)(random_u64(seed) % 3),
                           .refuse = random_u64(seed) % 2 == 0,
                           .defer = random_u64(seed) % 2 == 0,
                           .share_percent = (uint8_t)(random_u64(seed) % 101)};
}

static void
test_random_round_trips(void **state)
{
    struct mailbox m = mailbox_of(&staff, "ann.lee@example.com");
    uint64_t seed = 4;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct ticket t = random_ticket(&seed);
        char recipient[128], tagged[TAGGED_MAX + 1];
        struct tag tag;

        random_recipient(&seed, recipient);
        assert_int_equal(
            ticket_write(&t, slice_of(recipient), &m, TAG, &keys, tagged),
            TICKET_OK);
        assert_int_equal(read_text(tagged, &tag), TICKET_OK);
        assert_ticket(&tag.ticket, &t);
        assert_string_equal(tag.recipient, recipient);
    }
}

/* What an MTA may do on the way. */
static void
test_what_the_mta_may_change(void **state)
{
    static const struct {
        const char *recipient, *local; /* as it comes back */
    } rows[] = {
        {"user@Example.COM", "user"},
        {"user@Example.COM", "\"user\""},
        {"\"plain\"@example.com", "plain"},
        {"\"two words\"@example.com", "\"two\\ words\""},
        {"\"a\\@b\"@example.com", "\"a@b\""},
        {"\"us\"\"er\"@example.com", "user"},
    };
    struct mailbox m = mailbox_of(&staff, "ann@example.com");

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int fold = 0; fold < 3; fold++) {
            char tagged[TAGGED_MAX + 1], changed[TAGGED_MAX + 16];
            const char *domain;
            struct tag tag;

            assert_int_equal(
                ticket_write(&a_ticket, slice_of(rows[i].recipient), &m, TAG,
                             &keys, tagged),
                TICKET_OK);
            domain = strrchr(tagged, '@');
            snprintf(changed, sizeof(changed), "%s%s%s", rows[i].local, domain,
                     fold == 2 ? "." : "");
            for (char *c = changed + strlen(rows[i].local); *c != '\0'; c++)
                if (fold == 1 && *c >= 'a' && *c <= 'z')
                    *c = (char)(*c - 'a' + 'A');
                else if (fold == 0)
                    *c = slice_lower(*c);
            assert_int_equal(read_text(changed, &tag), TICKET_OK);
            assert_ticket(&tag.ticket, &a_ticket);
            assert_true(slice_starts(slice_of(tag.recipient), rows[i].local));
        }
}

static void
test_source_routes_and_dots_are_left_out(void **state)
{
    char tagged[TAGGED_MAX + 1];
    struct tag tag;

    (void)state;
    assert_int_equal(
        ticket_write(&a_ticket, slice_of("@a.b,@c:user@Example.com."), NULL,
                     TAG, &keys, tagged),
        TICKET_OK);
    assert_true(slice_starts(slice_of(tagged), "user@Example.com."));
    assert_int_equal(read_text(tagged, &tag), TICKET_OK);
    assert_string_equal(tag.recipient, "user@Example.com");
}

/* ---- changes ---- */

/* Does the changed address still say the same, as ticket.h allows? */
static bool
says_the_same(const char *a, const char *b)
{
    char x[512], y[512];
    size_t n = address_canonical(slice_of(a), x, sizeof(x));

    if (n == 0 || address_canonical(slice_of(b), y, sizeof(y)) != n)
        return false;
    /* the queue's digits are not signed */
    memcpy(x + n - strlen("00." TAG), "00", 2);
    memcpy(y + n - strlen("00." TAG), "00", 2);
    return memcmp(x, y, n) == 0;
}

static void
test_every_change_of_one_character(void **state)
{
    struct mailbox boxes[] = {mailbox_of(&sales, "sales@example.com"),
                              mailbox_of(&staff, "ann.lee@example.com")};
    unsigned n_same = 0, n_refused = 0;

    (void)state;
    for (size_t i = 0; i < N_RECIPIENTS * 2; i++) {
        char tagged[TAGGED_MAX + 1], changed[TAGGED_MAX + 1];

        assert_int_equal(ticket_write(&a_ticket, slice_of(recipients[i / 2]),
                                      &boxes[i % 2], TAG, &keys, tagged),
                         TICKET_OK);
        for (size_t at = 0; tagged[at] != '\0'; at++)
            for (int c = 1; c < 256; c++) {
                struct tag tag = {.queue = 99};

                strcpy(changed, tagged);
                changed[at] = (char)c;
                if (strcmp(changed, tagged) == 0)
                    continue;
                if (read_text(changed, &tag) != TICKET_OK) {
                    n_refused++;
                    assert_int_equal(tag.queue, 99);
                    continue;
                }
                n_same++;
                if (!says_the_same(tagged, changed))
                    fail_msg("%s\nis read as\n%s", changed, tagged);
            }
    }
    assert_true(n_refused > 500000);
    assert_true(n_same < 10000); /* case of letters, digits of the queue */
}

static void
test_every_part_of_an_address(void **state)
{
    struct mailbox m = mailbox_of(&staff, "ann.lee@example.com");
    char tagged[TAGGED_MAX + 1];
    struct tag tag;
    size_t len;

    (void)state;
    assert_int_equal(ticket_write(&a_ticket, slice_of("user@a.example.com"), &m,
                                  TAG, &keys, tagged),
                     TICKET_OK);
    len = strlen(tagged);
    for (size_t n = 0; n < len; n++) {
        struct slice prefix = {tagged, n}, suffix = {tagged + len - n, n};
        enum ticket_result r = ticket_read(prefix, TAG, &keys, &tag);

        assert_true(r == TICKET_EFOREIGN || r == TICKET_EMALFORMED);
        assert_int_not_equal(ticket_read(suffix, TAG, &keys, &tag), TICKET_OK);
    }
    /* a label left out, or doubled */
    for (size_t i = 0; i < len; i++)
        for (size_t j = i + 1; j <= len; j++) {
            char changed[2 * TAGGED_MAX + 1];

            snprintf(changed, sizeof(changed), "%.*s%s", (int)i, tagged,
                     tagged + j);
            assert_int_not_equal(read_text(changed, &tag), TICKET_OK);
            snprintf(changed, sizeof(changed), "%.*s%s", (int)j, tagged,
                     tagged + i);
            assert_int_not_equal(read_text(changed, &tag), TICKET_OK);
        }
}

/* A good tag's ticket with another's account or recipient. */
static void
test_parts_of_two_tags(void **state)
{
    struct mailbox a = mailbox_of(&sales, "sales@example.com");
    struct mailbox b = mailbox_of(&staff, "ann@example.com");
    char one[TAGGED_MAX + 1], two[TAGGED_MAX + 1], mixed[2 * TAGGED_MAX];
    char *ticket_one, *ticket_two, *account_one, *account_two;
    struct tag tag;

    (void)state;
    assert_int_equal(
        ticket_write(&a_ticket, slice_of("u@one.example"), &a, TAG, &keys, one),
        TICKET_OK);
    assert_int_equal(
        ticket_write(&a_ticket, slice_of("u@two.example"), &b, TAG, &keys, two),
        TICKET_OK);
    ticket_one = strstr(one, ".example.") + 9;
    ticket_two = strstr(two, ".example.") + 9;
    account_one = ticket_one + TICKET_LABEL;
    account_two = ticket_two + TICKET_LABEL;
    snprintf(mixed, sizeof(mixed), "%.*s%s", (int)(account_one - one), one,
             account_two);
    assert_int_equal(read_text(mixed, &tag), TICKET_EMAC);
    snprintf(mixed, sizeof(mixed), "%.*s%s", (int)(ticket_one - one), one,
             ticket_two);
    assert_int_equal(read_text(mixed, &tag), TICKET_EMAC);
    snprintf(mixed, sizeof(mixed), "v%s", one + 1);
    assert_int_equal(read_text(mixed, &tag), TICKET_EMAC);
}

/* ---- keys ---- */

static void
test_keys(void **state)
{
    char old[TAGGED_MAX + 1], tagged[TAGGED_MAX + 1] = "untouched";
    struct ticket_keys k = {.n = 0};
    struct tag tag;

    (void)state;
    assert_int_equal(ticket_write(&a_ticket, slice_of("u@example.com"), NULL,
                                  TAG, &k, tagged),
                     TICKET_EKEY);
    assert_string_equal(tagged, "untouched");

    k = (struct ticket_keys){.n = 1, .key = {keys.key[1]}};
    assert_int_equal(
        ticket_write(&a_ticket, slice_of("u@example.com"), NULL, TAG, &k, old),
        TICKET_OK);
    assert_int_equal(read_text(old, &tag), TICKET_OK); /* the second verifies */

    assert_int_equal(ticket_write(&a_ticket, slice_of("u@example.com"), NULL,
                                  TAG, &keys, tagged),
                     TICKET_OK);
    assert_string_not_equal(tagged, old); /* the first signs */
    assert_int_equal(ticket_read(slice_of(tagged), TAG, &k, &tag), TICKET_EKEY);
    k.key[0].id = 7;
    assert_int_equal(ticket_read(slice_of(tagged), TAG, &k, &tag), TICKET_EMAC);
    /* two keys with one id */
    k.n = 2;
    k.key[1] = keys.key[0];
    assert_int_equal(ticket_read(slice_of(tagged), TAG, &k, &tag), TICKET_OK);
    k.key[1].secret[31] ^= 1;
    assert_int_equal(ticket_read(slice_of(tagged), TAG, &k, &tag), TICKET_EMAC);
    k.n = 0;
    assert_int_equal(ticket_read(slice_of(tagged), TAG, &k, &tag), TICKET_EKEY);
}

/* The octets stay what they are: tags wait in queues while hosts are upgraded.
 * The signature was worked out by other means (Python's hmac). */
static void
test_the_format_is_kept(void **state)
{
    char tagged[TAGGED_MAX + 1];
    uint8_t octets[TICKET_OCTETS];
    static const uint8_t want[20] = {1,    7,    0x01, 0x23, 0x45,  0x67, 0x89,
                                     0xab, 0xcd, 0xef, 0x01, 0xc7,  0x38, 0x75,
                                     0xca, 0xfe, 0x12, 0x34, 1 | 8, 80};

    (void)state;
    assert_int_equal(ticket_write(&a_ticket, slice_of("User@Example.com"), NULL,
                                  TAG, &keys, tagged),
                     TICKET_OK);
    assert_true(base32_read((struct slice){tagged + 17, TICKET_LABEL}, octets,
                            TICKET_OCTETS));
    assert_memory_equal(octets, want, sizeof(want));
    assert_string_equal(tagged,
                        "User@Example.com.aedqci2fm6e2xtppahdtq5ok7yjdic"
                        "kqwt33wajc3kvtasnd.x.q00.gmroute.invalid");
}

static void
test_tail(void **state)
{
#define LABELS ".aaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbb.x.q00"
    static const struct {
        const char *address;
        size_t without; /* octets left of it; 0 = no tag */
    } rows[] = {
        {"u@far.test" LABELS ".gmroute.invalid", 10},
        {"u@far.test" LABELS ".GMROUTE.invalid.", 10},
        {"far.test" LABELS ".gmroute.invalid", 8},
        {"u@far.test" LABELS ".gmroute.invalid.org", 0},
        {"u@far.test" LABELS "x.gmroute.invalid", 0},
        {"u@far.test.b.x.q00.gmroute.invalid", 0},
        {"u@far.test.gmroute.invalid", 0},
        {LABELS ".gmroute.invalid", 0},
        {"gmroute.invalid", 0},
        {"u@far.test", 0},
        {"", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t tail = ticket_tail(slice_of(rows[i].address), "gmroute.invalid");

        print_message("  %s\n", rows[i].address);
        assert_int_equal(tail, rows[i].without == 0
                                   ? 0
                                   : strlen(rows[i].address) - rows[i].without);
    }
#undef LABELS
}

/* ---- what cannot be tagged ---- */

static void
test_untaggable(void **state)
{
    static const struct {
        const char *recipient;
        enum ticket_result want;
    } rows[] = {
        {"u@[192.0.2.1]", TICKET_ELITERAL},
        {"u@[IPv6:2001:db8::1]", TICKET_ELITERAL},
        {"postmaster", TICKET_EMALFORMED},
        {"", TICKET_EMALFORMED},
        {"@example.com", TICKET_EMALFORMED},
        {"u@", TICKET_EMALFORMED},
        {"u@a..b", TICKET_EMALFORMED},
        {"u@a.b..", TICKET_EMALFORMED},
        {"u@.", TICKET_EMALFORMED},
        {"a b@example.com", TICKET_EMALFORMED},
        {"@a:@b@example.com", TICKET_EMALFORMED},
        {"u@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         ".com",
         TICKET_ELONG}, /* 64 */
    };
    char tagged[TAGGED_MAX + 1] = "untouched";
    struct ticket odd = a_ticket;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum ticket_result got = ticket_write(
            &a_ticket, slice_of(rows[i].recipient), NULL, TAG, &keys, tagged);

        if (got != rows[i].want)
            fail_msg("%s: got %s", rows[i].recipient, ticket_result_text(got));
        assert_string_equal(tagged, "untouched");
    }
    odd.share_percent = 101;
    assert_int_equal(
        ticket_write(&odd, slice_of("u@example.com"), NULL, TAG, &keys, tagged),
        TICKET_EMALFORMED);
}

static void
test_length_of_the_whole(void **state)
{
    struct mailbox boxes[] = {mailbox_of(&sales, "sales@example.com"),
                              mailbox_of(&staff, "ann.lee@example.com")};

    (void)state;
    for (size_t j = 0; j < 3; j++)
        for (size_t n = 1; n < 600; n++) {
            const struct mailbox *m = j < 2 ? &boxes[j] : NULL;
            char recipient[640], tagged[TAGGED_MAX + 1], label[LABEL_MAX + 1];
            size_t len;
            struct tag tag;

            memset(recipient, 'u', n);
            strcpy(recipient + n, "@example.com");
            assert_int_equal(ticket_account_label(m, label), TICKET_OK);
            len = strlen(recipient) + 1 + TICKET_LABEL + 1 + strlen(label) + 5 +
                  strlen(TAG);
            if (len > TAGGED_MAX) {
                assert_int_equal(ticket_write(&a_ticket, slice_of(recipient), m,
                                              TAG, &keys, tagged),
                                 TICKET_ELONG);
                continue;
            }
            assert_int_equal(ticket_write(&a_ticket, slice_of(recipient), m,
                                          TAG, &keys, tagged),
                             TICKET_OK);
            assert_int_equal(strlen(tagged), len);
            assert_int_equal(read_text(tagged, &tag), TICKET_OK);
        }
}

/* ---- foreign addresses ---- */

static void
test_foreign_addresses(void **state)
{
    static const struct {
        const char *address;
        enum ticket_result want;
        bool tagged;
    } rows[] = {
        {"user@example.com", TICKET_EFOREIGN, false},
        {"", TICKET_EFOREIGN, false},
        {"postmaster", TICKET_EFOREIGN, false},
        {"gmroute.invalid", TICKET_EFOREIGN, false},
        {"gmroute.invalid@example.com", TICKET_EFOREIGN, false},
        {"x.gmroute.invalid@example.com", TICKET_EFOREIGN, false},
        {"u=x.gmroute.invalid@example.com", TICKET_EFOREIGN, false},
        {"user@notgmroute.invalid", TICKET_EFOREIGN, false},
        {"user@gmroute.invalid.example.com", TICKET_EFOREIGN, false},
        {"user@invalid", TICKET_EFOREIGN, false},
        {"user@[192.0.2.1]", TICKET_EFOREIGN, false},
        {"user@gmroute.invalid", TICKET_EMALFORMED, true},
        {"user@GMROUTE.Invalid", TICKET_EMALFORMED, true},
        {"user@gmroute.invalid.", TICKET_EMALFORMED, true},
        {"user@x.gmroute.invalid", TICKET_EMALFORMED, true},
        {"user@a.b.c.d.e.gmroute.invalid", TICKET_EMALFORMED, true},
        {"user@example.com.t.x.q00.gmroute.invalid", TICKET_EMALFORMED, true},
        {"@a,@b:user@x.gmroute.invalid", TICKET_EMALFORMED, true},
        {"<user@x.gmroute.invalid>", TICKET_EMALFORMED, true},
        {"us er@x.gmroute.invalid", TICKET_EMALFORMED, true},
        {"user@a!x.gmroute.invalid", TICKET_EMALFORMED, true},
        {"\"user@x.gmroute.invalid", TICKET_EMALFORMED, true},
        {"user@x.gmroute .invalid", TICKET_EMALFORMED, true},
        {"user@x.gmroute.invalid(comment)", TICKET_EMALFORMED, true},
        {"\"user@x.gmroute.invalid\"@example.com", TICKET_EFOREIGN, true},
        {"\"user@x.gmroute.in\\valid\"@example.com", TICKET_EFOREIGN, true},
        {"user%x.gmroute.invalid@example.com", TICKET_EFOREIGN, true},
        {"user%gmroute.invalid", TICKET_EFOREIGN, true},
        {"x.gmroute.invalid!user@example.com", TICKET_EFOREIGN, true},
        {"a!gmroute.invalid.!user@example.com", TICKET_EFOREIGN, true},
        {"@x.gmroute.invalid:user@example.com", TICKET_EFOREIGN, true},
    };
    struct tag tag = {.queue = 99};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum ticket_result got = read_text(rows[i].address, &tag);

        if (got != rows[i].want)
            fail_msg("%s: got %s", rows[i].address, ticket_result_text(got));
        if (ticket_is_tagged(slice_of(rows[i].address), TAG) != rows[i].tagged)
            fail_msg("%s: tagged?", rows[i].address);
        assert_int_equal(tag.queue, 99);
    }
    assert_false(ticket_is_tagged((struct slice){NULL, 0}, TAG));
    assert_int_equal(ticket_read((struct slice){NULL, 0}, TAG, &keys, &tag),
                     TICKET_EFOREIGN);
}

static void
test_the_tag_domain_may_be_another(void **state)
{
    char tagged[TAGGED_MAX + 1];
    struct tag tag;

    (void)state;
    assert_int_equal(ticket_write(&a_ticket, slice_of("u@gmroute.invalid"),
                                  NULL, "Tag.Example", &keys, tagged),
                     TICKET_OK);
    assert_int_equal(ticket_read(slice_of(tagged), "tag.EXAMPLE", &keys, &tag),
                     TICKET_OK);
    assert_string_equal(tag.recipient, "u@gmroute.invalid");
    assert_int_equal(read_text(tagged, &tag), TICKET_EFOREIGN);
    assert_false(ticket_is_tagged(slice_of(tagged), TAG));
}

static void
test_result_texts(void **state)
{
    (void)state;
    for (int r = TICKET_OK; r <= TICKET_ENOMEM; r++) {
        assert_true(strlen(ticket_result_text((enum ticket_result)r)) > 3);
        for (int q = TICKET_OK; q < r; q++)
            assert_string_not_equal(ticket_result_text((enum ticket_result)r),
                                    ticket_result_text((enum ticket_result)q));
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random_round_trips),
        cmocka_unit_test(test_what_the_mta_may_change),
        cmocka_unit_test(test_source_routes_and_dots_are_left_out),
        cmocka_unit_test(test_every_change_of_one_character),
        cmocka_unit_test(test_every_part_of_an_address),
        cmocka_unit_test(test_parts_of_two_tags),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_the_format_is_kept),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_untaggable),
        cmocka_unit_test(test_length_of_the_whole),
        cmocka_unit_test(test_foreign_addresses),
        cmocka_unit_test(test_the_tag_domain_may_be_another),
        cmocka_unit_test(test_result_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
