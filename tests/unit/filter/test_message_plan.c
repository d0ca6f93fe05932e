/* tests/unit/filter/test_message_plan.c - mirrors milter/filter/message_plan.c
 * and message_groups.c: what becomes of a message and its recipients
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/filter/filter_case.h"

#define SALES "<sales@example.com>"

/* The first rule looks into the message, so that only its end can tell. */
static const char every_action[] = ACCOUNTS
    "rules:\n"
    "  - {name: late, match: {header: {X-Late: '*'}},\n"
    "     reject: '550 5.7.1 Not with that header'}\n"
    "  - {name: never, match: {recipient_domain: no.test},\n"
    "     reject: '550 5.7.1 No'}\n"
    "  - {name: not now, match: {recipient_domain: later.test},\n"
    "     defer: '451 4.7.1 Later'}\n"
    "  - {name: odd, match: {recipient_domain: hold.test}, hold: looks odd}\n"
    "  - {name: odder, match: {recipient_domain: hold2.test}, hold: odder}\n"
    "  - {name: gone, match: {recipient_domain: gone.test}, discard: true}\n"
    "  - {name: away, match: {recipient_domain: away.test}, route: mta}\n"
    "  - {name: news, match: {recipient_domain: news.test},\n"
    "     route: {account: news}}\n"
    "  - {name: sales, match: {sender: sales@example.com},\n"
    "     route: {account: sales}}\n"
    "default: mta\n";

static const struct row fates[] = {
    {"nobody's mail stays with the MTA", {.rcpt = {"<a@far.test>"}}, "250"},
    {"routed",
     {SALES, .rcpt = {"<a@far.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com"},
    {"mixed: each goes where it should",
     {SALES, .rcpt = {"<a@far.test>", "<b@away.test>", "<c@local.example>",
                      "<d@news.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com; "
     "del d@news.test; tag d@news.test news@gmail.com"},
    {"one recipient in three spellings is tagged once",
     {SALES,
      .rcpt = {"<A@far.test>", "<a@FAR.test>", "<a@far.test>", "<b@far.test>"}},
     "250; del A@far.test; tag A@far.test sales@example.com; "
     "del a@FAR.test; del a@far.test; "
     "del b@far.test; tag b@far.test sales@example.com"},
    {"the same spelling twice is deleted twice",
     {SALES, .rcpt = {"<a@far.test>", "<a@far.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com; del a@far.test"},
    {"a source route means nothing",
     {SALES, .rcpt = {"<@relay.example,@b.example:a@far.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com"},
    {"a source route of the sender, too",
     {"<@relay.example:sales@example.com>", .rcpt = {"<a@far.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com"},
    {"a quoted local part keeps its spelling",
     {SALES, .rcpt = {"<\"a b\"@far.test>"}},
     "250; del \"a b\"@far.test; tag \"a b\"@far.test sales@example.com "
     "ORCPT=rfc822;\"a+20b\"@far.test"},
    {"the client's ORCPT survives",
     {SALES, .rcpt = {"<a@far.test> ORCPT=rfc822;o@p.test"}},
     "250; del a@far.test; tag a@far.test sales@example.com "
     "ORCPT=rfc822;o@p.test"},
    {"NOTIFY survives",
     {SALES, .rcpt = {"<a@far.test> notify=NEVER"}},
     "250; del a@far.test; tag a@far.test sales@example.com "
     "ORCPT=rfc822;a@far.test notify=NEVER"},
    {"the null sender stays", {"<>", .rcpt = {"<a@far.test>"}}, "250"},

    {"refused", {SALES, .rcpt = {"<n@no.test>"}}, "550 5.7.1 No"},
    {"all refused",
     {SALES, .rcpt = {"<n@no.test>", "<m@no.test>"}},
     "550 5.7.1 No"},
    {"deferred", {SALES, .rcpt = {"<l@later.test>"}}, "451 4.7.1 Later"},
    {"refused and deferred: try all again",
     {SALES, .rcpt = {"<n@no.test>", "<l@later.test>"}},
     "451 4.7.1 Later"},
    {"refused beside routed",
     {SALES, .rcpt = {"<n@no.test>", "<a@far.test>"}},
     "250; del n@no.test; tag n@no.test refuse; "
     "del a@far.test; tag a@far.test sales@example.com"},
    {"refused beside one that stays",
     {SALES, .rcpt = {"<b@away.test>", "<n@no.test>"}},
     "250; del n@no.test; tag n@no.test refuse"},
    {"deferred beside routed",
     {SALES, .rcpt = {"<a@far.test>", "<l@later.test>"}},
     "250; del a@far.test; tag a@far.test sales@example.com; "
     "del l@later.test; tag l@later.test defer"},

    {"held: its recipients keep their addresses",
     {SALES, .rcpt = {"<h@hold.test>", "<i@hold.test>"}},
     "250; hold looks odd"},
    {"held: a recipient of the MTA's own",
     {.rcpt = {"<h@hold.test>", "<c@local.example>"}},
     "250; hold looks odd"},
    {"held beside routed: the tagged one waits with it",
     {SALES, .rcpt = {"<a@far.test>", "<h@hold.test>"}},
     "250; hold looks odd; del a@far.test; tag a@far.test sales@example.com"},
    {"held beside refused: a person may want it",
     {SALES, .rcpt = {"<n@no.test>", "<h@hold.test>"}},
     "250; hold looks odd; del n@no.test; tag n@no.test refuse"},
    {"held beside deferred",
     {SALES, .rcpt = {"<h@hold.test>", "<l@later.test>"}},
     "250; hold looks odd; del l@later.test; tag l@later.test defer"},
    {"held for two reasons: the first",
     {SALES, .rcpt = {"<h@hold2.test>", "<h@hold.test>"}},
     "250; hold odder"},
    {"held, in two spellings",
     {SALES, .rcpt = {"<h@hold.test>", "<H@hold.test>"}},
     "250; hold looks odd"},

    {"discarded", {SALES, .rcpt = {"<g@gone.test>"}}, "250; del g@gone.test"},
    {"all discarded",
     {SALES, .rcpt = {"<g@gone.test>", "<f@gone.test>"}},
     "250; del g@gone.test; del f@gone.test"},
    {"discarded, in two spellings",
     {SALES, .rcpt = {"<g@gone.test>", "<G@gone.test>"}},
     "250; del g@gone.test; del G@gone.test"},
    {"discarded beside routed",
     {SALES, .rcpt = {"<g@gone.test>", "<a@far.test>"}},
     "250; del g@gone.test; del a@far.test; "
     "tag a@far.test sales@example.com"},
    {"discarded beside one that stays",
     {.rcpt = {"<b@far.test>", "<g@gone.test>"}},
     "250; del g@gone.test"},
    {"discarded beside refused: the client is told",
     {SALES, .rcpt = {"<g@gone.test>", "<n@no.test>"}},
     "550 5.7.1 No"},
    {"discarded beside deferred: all again",
     {SALES, .rcpt = {"<l@later.test>", "<g@gone.test>"}},
     "451 4.7.1 Later"},
    {"discarded, refused and deferred",
     {SALES, .rcpt = {"<n@no.test>", "<l@later.test>", "<g@gone.test>"}},
     "451 4.7.1 Later"},
    {"discarded beside held",
     {SALES, .rcpt = {"<g@gone.test>", "<h@hold.test>"}},
     "250; hold looks odd; del g@gone.test"},
    {"discarded, refused and held",
     {SALES, .rcpt = {"<g@gone.test>", "<n@no.test>", "<h@hold.test>"}},
     "250; hold looks odd; del g@gone.test; del n@no.test; "
     "tag n@no.test refuse"},

    {"everything at once",
     {SALES, .rcpt = {"<a@far.test>", "<n@no.test>", "<l@later.test>",
                      "<h@hold.test>", "<g@gone.test>", "<b@away.test>",
                      "<c@local.example>", "<A@far.test>"}},
     "250; hold looks odd; del a@far.test; tag a@far.test sales@example.com; "
     "del n@no.test; tag n@no.test refuse; "
     "del l@later.test; tag l@later.test defer; del g@gone.test; "
     "del A@far.test"},
    {"everything refused by a header: nothing is edited",
     {SALES, .rcpt = {"<a@far.test>", "<h@hold.test>", "<g@gone.test>"},
      .headers = "Subject: x\nX-Late: y\n"},
     "550 5.7.1 Not with that header"},
};

static void
each_recipient_has_its_fate(void **state)
{
    (void)state;
    case_rows(every_action, fates, LENGTH(fates));
}

static void
lines_say_why(void **state)
{
    struct mail m = {SALES,
                     .rcpt = {"<a@far.test>", "<n@no.test>", "<h@hold.test>",
                              "<g@gone.test>", "<G@gone.test>"},
                     .headers = "Message-ID: <1@x>\n"};

    (void)state;
    case_open(every_action);
    case_send(&m);
    case_log_has("queue=QUEUEID from=sales@example.com to=a@far.test "
                 "rule=sales at=/etc/gmroute/gmroute.yaml:");
    case_log_has("action=account hold=\"looks odd\" ticket=");
    case_log_has("action=hold hold=\"looks odd\" on_release=mta "
                 "message_id=<1@x>");
    case_log_has("action=discard hold=\"looks odd\" message_id=<1@x>");
    case_log_has("to=G@gone.test same_as=g@gone.test");
    case_log_has("reply=\"550 5.7.1 No\"");
    m.headers = "X-Late: y\n"; /* what was not done is not said */
    case_send(&m);
    case_log_has("to=h@hold.test rule=late");
    case_log_lacks("hold=");
    case_log_lacks("on_release");
    case_log_lacks("ticket=");
    case_log_lacks("action=discard");
    case_close();
}

/* ---- hints and counters ---- */

static uint32_t
hinted(const char *account)
{
    const struct account *a = policy_account(case_policy(), account);
    char identity[IDENTITY_MAX + 1];
    uint32_t messages, recipients;
    uint64_t id = mailbox_identity(a->address, a->smarthost->name, identity);
    int64_t now_ms = clock_wall_ms(case_env.admit.clock);

    hints_sum(case_env.admit.hints, id, (uint32_t)(now_ms / 60000), &messages,
              &recipients);
    return messages * 1000 + recipients;
}

static void
what_is_on_its_way_is_hinted(void **state)
{
    const struct mail routed = {
        SALES, .rcpt = {"<a@far.test>", "<b@far.test>", "<A@far.test>",
                        "<c@away.test>"}};
    const struct mail held = {SALES, .rcpt = {"<a@far.test>", "<h@hold.test>"}};
    const struct mail refused = {SALES, .rcpt = {"<a@far.test>"},
                                 .headers = "X-Late: y\n"};

    (void)state;
    case_open(every_action);
    case_send(&routed);
    assert_int_equal(hinted("sales"), 1002);
    assert_int_equal(case_count(HINTS_ROUTED), 2);
    case_send(&held); /* not before somebody releases it */
    assert_int_equal(hinted("sales"), 1002);
    case_send(&refused);
    assert_int_equal(hinted("sales"), 1002);
    assert_int_equal(hinted("news"), 0);
    assert_int_equal(case_count(HINTS_MESSAGES), 3);
    assert_int_equal(case_count(HINTS_REJECTED), 1);
    assert_int_equal(case_count(HINTS_FAILED), 0);
    case_close();
}

/* ---- accounts that cannot take it ---- */

static const char with_news[] = ACCOUNTS
    "rules:\n"
    "  - {name: waits, match: {recipient_domain: wait.test},\n"
    "     route: {account: news}, otherwise: wait}\n"
    "  - {name: refuses, match: {recipient_domain: no.test},\n"
    "     route: {account: news}, otherwise: reject}\n"
    "  - {name: defers, match: {recipient_domain: later.test},\n"
    "     route: {account: news}, otherwise: defer}\n"
    "  - {name: lets go, match: {recipient_domain: mta.test},\n"
    "     route: {account: news}, otherwise: mta}\n"
    "  - {name: tries on, match: {recipient_domain: next.test},\n"
    "     route: {account: news}, otherwise: {account: sales}}\n"
    "  - {name: odd, match: {recipient_domain: hold.test}, hold: odd}\n"
    "  - {name: gone, match: {recipient_domain: gone.test}, discard: true}\n"
    "default: mta\n";

static const struct row paused[] = {
    {"the next account",
     {.rcpt = {"<a@next.test>"}},
     "250; del a@next.test; tag a@next.test sales@example.com"},
    {"the MTA", {.rcpt = {"<a@mta.test>"}}, "250"},
    {"beside one that goes on it waits for the account",
     {.rcpt = {"<a@later.test>", "<b@mta.test>"}},
     "250; del a@later.test; tag a@later.test news@gmail.com"},
    {"beside a held one, too",
     {.rcpt = {"<a@later.test>", "<b@hold.test>"}},
     "250; hold odd; del a@later.test; tag a@later.test news@gmail.com"},
};

static void
admission_has_the_last_word(void **state)
{
    const struct mail later = {.rcpt = {"<a@later.test>"}};
    const struct mail gone = {.rcpt = {"<a@later.test>", "<b@gone.test>"}};
    const struct mail no = {.rcpt = {"<a@no.test>"}};
    const struct mail local = {"someone@else.test", .local = true,
                               .rcpt = {"a@later.test"}};

    (void)state;
    case_open(with_news);
    case_pause("news");
    for (size_t i = 0; i < LENGTH(paused); i++) {
        print_message("  %s\n", paused[i].name);
        assert_string_equal(case_send(&paused[i].mail), paused[i].want);
    }
    /* Alone it is answered; sendmail(1) would try again for ever. */
    assert_memory_equal(case_send(&later), "451 4.", 6);
    assert_memory_equal(case_send(&gone), "451 4.", 6);
    assert_memory_equal(case_send(&no), "550 5.", 6);
    assert_string_equal(case_send(&local), "250; del a@later.test; "
                                           "tag a@later.test news@gmail.com");
    case_log_has("why=");
    case_close();
}

/* ---- header From ---- */

static void
from_must_be_the_accounts(void **state)
{
    struct mail m = {SALES, .rcpt = {"<a@far.test>", "<h@hold.test>"},
                     .headers = "From: <sales@example.com>\n"};

    (void)state;
    case_open(ACCOUNTS
              "rules:\n"
              "  - {match: {recipient_domain: hold.test}, hold: odd}\n"
              "  - {match: {sender: sales@example.com}, from: require,\n"
              "     route: {account: sales}}\n"
              "default: mta\n");
    assert_string_equal(case_send(&m), "250; hold odd; del a@far.test; "
                                       "tag a@far.test sales@example.com");
    m.headers = "From: <boss@example.com>\n";
    assert_string_equal(case_send(&m),
                        "550 5.7.1 From header is not an address of the "
                        "account that would send the message");
    case_close();
}

/* ---- what cannot be tagged ---- */

#define LABEL59 "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define LONG    "<x@" LABEL59 "." LABEL59 "." LABEL59 ".test>"

static const char untaggable_rules[] =
    "rules:\n"
    "  - {match: {header: {X-Late: '*'}}, reject: '550 5.7.1 late'}\n"
    "  - {match: {recipient: '*@[*.9]'}, defer: '451 4.7.1 Not yet'}\n"
    "  - {match: {recipient: '*@[*'}, reject: '550 5.7.1 No literals'}\n"
    "  - {match: {recipient: '*@[*'}, route: {account: sales}}\n"
    "  - {match: {sender: sales@example.com}, route: {account: sales}}\n"
    "default: mta\n";

static void
untaggable(const char *how, const char *want, const char *want_mixed)
{
    const struct mail alone = {SALES, .rcpt = {LONG}};
    const struct mail mixed = {SALES, .rcpt = {LONG, "<a@far.test>"}};
    char yaml[4096];

    print_message("  %s\n", how);
    snprintf(yaml, sizeof yaml, "%suntaggable: %s\n%s", ACCOUNTS, how,
             untaggable_rules);
    case_open(yaml);
    assert_string_equal(case_send(&alone), want);
    case_log_has("cannot be tagged");
    assert_string_equal(case_send(&mixed), want_mixed);
    case_close();
}

static void
untaggable_recipients_are_decided_by_the_policy(void **state)
{
    static const char no[] = "550 5.1.3 Recipient cannot be routed: too long "
                             "for a tag";
    static const char later[] =
        "451 4.1.3 Recipient cannot be routed: too long "
        "for a tag";

    (void)state;
    untaggable("mta", "250",
               "250; del a@far.test; tag a@far.test sales@example.com");
    untaggable("reject", no, no);
    untaggable("defer", later, later);
}

/* Nothing smaller than the message can be refused at its end. */
static void
an_untaggable_refused_recipient_refuses_all(void **state)
{
    const struct mail m = {SALES, .rcpt = {"<x@[192.0.2.5]>", "<a@far.test>"}};
    char yaml[4096];

    (void)state;
    snprintf(yaml, sizeof yaml, "%s%s", ACCOUNTS, untaggable_rules);
    case_open(yaml);
    assert_string_equal(case_send(&m), "550 5.7.1 No literals");
    case_close();
}

/* Nobody but the queue ends what sendmail(1) hands in, and it is not there. */
static void
an_untaggable_one_of_a_program_is_never_deferred(void **state)
{
    static const char no[] = "550 5.1.3 Recipient cannot be routed: ";
    struct mail m = {
        .sender = "sales@example.com", .rcpt = {LONG}, .local = true};
    char yaml[4096];

    (void)state;
    snprintf(yaml, sizeof yaml, "%suntaggable: defer\n%s", ACCOUNTS,
             untaggable_rules);
    case_open(yaml);
    assert_memory_equal(case_send(&m), no, sizeof no - 1);
    m.rcpt[0] = "<x@[192.0.2.9]>"; /* by a rule */
    assert_memory_equal(case_send(&m), no, sizeof no - 1);
    m.local = false;
    assert_non_null(strstr(case_send(&m), "451 4.7.1 Not yet"));
    case_close();
}

static void
without_a_key_it_is_a_temporary_failure(void **state)
{
    static const struct ticket_keys none = {0};
    const struct mail m = {SALES, .rcpt = {"<a@far.test>"}};

    (void)state;
    case_open(every_action);
    case_env.keys = &none;
    assert_string_equal(case_send(&m), "451 4.3.0 gmroute: temporary failure");
    case_close();
}

/* ---- shadows ---- */

static void
shadows_only_log(void **state)
{
    const struct mail m = {SALES,
                           .rcpt = {"<a@far.test>", "<c@local.example>"}};

    (void)state;
    case_open(ACCOUNTS
              "rules:\n"
              "  - {name: try, shadow: true, match: {sender: sales@*},\n"
              "     route: {account: news}, add_header: {X-A: b}}\n"
              "  - {name: pool, shadow: true, match: {sender: sales@*},\n"
              "     route: {pool: bulk}}\n"
              "  - {name: hard, shadow: true, match: {sender: sales@*},\n"
              "     reject: '550 5.7.1 no'}\n"
              "  - {name: other, shadow: true, match: {sender: nobody@*},\n"
              "     discard: true}\n"
              "  - {name: sales, match: {sender: sales@*},\n"
              "     route: {account: sales}}\n"
              "default: mta\n");
    assert_string_equal(case_send(&m), "250; del a@far.test; "
                                       "tag a@far.test sales@example.com");
    case_log_has("to=a@far.test shadow=yes rule=try "
                 "at=/etc/gmroute/gmroute.yaml:");
    case_log_has("would=account account=news\n");
    case_log_has("would=account pool=bulk\n");
    case_log_has("to=c@local.example shadow=yes rule=try");
    case_log_has("would=mta\n");
    case_log_has("would=reject\n");
    case_log_lacks("rule=other");
    case_log_has("rule=sales");
    case_close();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_recipient_has_its_fate),
        cmocka_unit_test(lines_say_why),
        cmocka_unit_test(what_is_on_its_way_is_hinted),
        cmocka_unit_test(admission_has_the_last_word),
        cmocka_unit_test(from_must_be_the_accounts),
        cmocka_unit_test(untaggable_recipients_are_decided_by_the_policy),
        cmocka_unit_test(an_untaggable_refused_recipient_refuses_all),
        cmocka_unit_test(an_untaggable_one_of_a_program_is_never_deferred),
        cmocka_unit_test(without_a_key_it_is_a_temporary_failure),
        cmocka_unit_test(shadows_only_log),
    };

    return cmocka_run_group_tests_name("filter/message_plan", tests, NULL,
                                       NULL);
}
