/* milter/ctl/doctor_main.c - main.cf: whose domains, how long, how large, how
 * many at once.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "milter/ctl/doctor.h"
#include "milter/ctl/mta_plan.h"

enum { GMAIL_OCTETS = 25000000 /* of a message, as Gmail documents it */ };

/* ---- the MTA's own domains ---- */

/* "[a, b]" of mta_domains, and those that are missing. */
static const char *
domains_line(const struct doctor_case *k, bool is_alias)
{
    const char *text = "";

    for (size_t i = 0; i < k->policy->n_mta_domains && text != NULL; i++)
        text = arena_printf(k->arena, "%s%s%s", text, i > 0 ? ", " : "",
                            k->policy->mta_domains[i]);
    for (size_t i = 0; i < k->n_domains && text != NULL; i++)
        if (k->domains[i].is_alias == is_alias)
            text =
                arena_printf(k->arena, "%s%s%s", text,
                             text[0] != '\0' ? ", " : "", k->domains[i].domain);
    return text != NULL ? text : "";
}

/* The first few with where they stand. */
static const char *
missing_domains(const struct doctor_case *k, bool is_alias)
{
    const char *text = "";
    size_t n = 0;

    for (size_t i = 0; i < k->n_domains && text != NULL; i++) {
        if (k->domains[i].is_alias != is_alias)
            continue;
        if (n++ < 5)
            text =
                arena_printf(k->arena, "%s%s%s (%s)", text, n > 1 ? ", " : "",
                             k->domains[i].domain, k->domains[i].parameter);
    }
    if (text != NULL && n > 5)
        text = arena_printf(k->arena, "%s and %zu more", text, n - 5);
    return n > 0 && text != NULL ? text : NULL;
}

void
doctor_own_domains(const struct doctor_case *k, struct findings *f)
{
    const char *missing = missing_domains(k, false);

    if (missing == NULL)
        return;
    found(f, "mta_domains does not have %s", missing);
    advise(f, "in %s: mta_domains: [%s]", k->policy->file,
           domains_line(k, false));
}

static void
alias_domains(const struct doctor_case *k, struct findings *f)
{
    const char *missing = missing_domains(k, true);

    if (missing == NULL)
        return;
    found(f,
          "there are virtual aliases of domains that mta_domains does not "
          "have: %s",
          missing);
    advise(f, "in %s: mta_domains: [%s]", k->policy->file,
           domains_line(k, true));
}

bool
doctor_needs_login(const struct policy *p)
{
    for (size_t i = 0; i < p->n_accounts; i++) {
        const struct trust *t = &p->accounts[i].trust;

        if (!t->any && (t->login || t->n_logins > 0))
            return true;
    }
    return false;
}

/* ---- time and size ---- */

const struct account *
doctor_longest_wait(const struct policy *p)
{
    const struct account *ret = NULL;

    for (size_t i = 0; i < p->n_accounts; i++)
        if (ret == NULL || p->accounts[i].max_wait_ms > ret->max_wait_ms)
            ret = &p->accounts[i];
    return ret;
}

static void
lifetime(const struct doctor_case *k, struct findings *f)
{
    int64_t s = mta_seconds(mta_main(k->mta, "maximal_queue_lifetime"));
    const struct account *longest = doctor_longest_wait(k->policy);
    const char *want;

    if (longest == NULL || s < 0 || longest->max_wait_ms / 1000 <= (uint64_t)s)
        return;
    found(f,
          "maximal_queue_lifetime is %s, and mail for the account %s may "
          "wait for %" PRIu64 " hours (max_wait)",
          mta_main(k->mta, "maximal_queue_lifetime"), longest->name,
          longest->max_wait_ms / 3600000);
    want = arena_printf(k->arena, "%" PRIu64 "h",
                        longest->max_wait_ms / 3600000 + 24);
    mend_main(k, f, "maximal_queue_lifetime", want != NULL ? want : "5d");
}

static void
message_size(const struct doctor_case *k, struct findings *f)
{
    int64_t n = mta_number(mta_main(k->mta, "message_size_limit"));

    if (n > 0 && n <= GMAIL_OCTETS)
        return;
    found(f, "message_size_limit is %s",
          mta_main(k->mta, "message_size_limit"));
    mend_main(k, f, "message_size_limit", "25000000");
}

static void
smtputf8(const struct doctor_case *k, struct findings *f)
{
    if (strcmp(mta_main(k->mta, "smtputf8_enable"), "no") != 0)
        return;
    found(f, "smtputf8_enable is no");
    mend_main(k, f, "smtputf8_enable", "yes");
}

/* ---- the transport ---- */

static bool
is_there(const struct doctor_case *k)
{
    return mta_service(k->mta, "gmroute/unix") != NULL;
}

static void
recipient_limit(const struct doctor_case *k, struct findings *f)
{
    static const char name[] = "gmroute_destination_recipient_limit";
    int64_t n = mta_number(mta_main(k->mta, name));

    if (!is_there(k) || (n > 1 && n <= PLAN_RECIPIENTS))
        return;
    found(f, "%s is %s", name, mta_main(k->mta, name));
    mend_main(k, f, name, "100");
}

static void
recipient_limit_low(const struct doctor_case *k, struct findings *f)
{
    static const char name[] = "gmroute_destination_recipient_limit";
    int64_t n = mta_number(mta_main(k->mta, name));

    if (!is_there(k) || n <= 1 || n >= PLAN_RECIPIENTS)
        return;
    found(f, "%s is %" PRId64, name, n);
    mend_main(k, f, name, "100");
}

static void
concurrency(const struct doctor_case *k, struct findings *f)
{
    static const char name[] = "gmroute_destination_concurrency_limit";
    int64_t n = mta_number(mta_main(k->mta, name));

    if (!is_there(k) || n == 0 || n >= PLAN_CONCURRENCY / 2)
        return;
    found(f, "%s is %" PRId64, name, n);
    mend_main(k, f, name, "10");
}

static void
initial_concurrency(const struct doctor_case *k, struct findings *f)
{
    static const char name[] = "gmroute_initial_destination_concurrency";
    int64_t n = mta_number(mta_main(k->mta, name));

    if (!is_there(k) || n >= PLAN_CONCURRENCY)
        return;
    found(f, "%s is %" PRId64, name, n);
    mend_main(k, f, name, "10");
}

static void
rate_delay(const struct doctor_case *k, struct findings *f)
{
    static const char *const names[] = {"gmroute_destination_rate_delay",
                                        "gmroute_transport_rate_delay"};

    for (size_t i = 0; i < 2 && is_there(k); i++)
        if (mta_seconds(mta_main(k->mta, names[i])) > 0) {
            found(f, "%s is %s", names[i], mta_main(k->mta, names[i]));
            mend_main(k, f, names[i], "0s");
        }
}

static void
deferred_transport(const struct doctor_case *k, struct findings *f)
{
    struct slice rest = slice_of(mta_main(k->mta, "defer_transports")), entry;
    const char *left = "";
    bool has = false;

    while (left != NULL && mta_list_next(&rest, &entry)) {
        if (slice_eq(entry, SLICE_LIT("gmroute")))
            has = true;
        else
            left = arena_printf(k->arena, "%s%s%.*s", left,
                                left[0] != '\0' ? ", " : "", SLICE_FMT(entry));
    }
    if (!has)
        return;
    found(f, "defer_transports has gmroute");
    mend_main(k, f, "defer_transports", left != NULL ? left : "");
}

static void
soft_bounce(const struct doctor_case *k, struct findings *f)
{
    if (strcmp(mta_main(k->mta, "soft_bounce"), "yes") != 0)
        return;
    found(f, "soft_bounce is yes");
    mend_main(k, f, "soft_bounce", "no");
}

const struct doctor_check doctor_main_checks[] = {
    {"own-domains", SEVERITY_ERROR, doctor_own_domains,
     "a rule that matches would send mail for this MTA's own recipients to "
     "Gmail instead of delivering it"},
    {"alias-domains", SEVERITY_WARNING, alias_domains,
     "a recipient that goes to an account passes its alias by: the milter "
     "sees addresses before aliases are expanded"},
    {"queue-lifetime", SEVERITY_WARNING, lifetime,
     "mail that waits for room in its account would bounce before its turn"},
    {"message-size", SEVERITY_NOTE, message_size,
     "Gmail takes at most 25 MB; what is larger comes in, and then bounces"},
    {"smtputf8", SEVERITY_NOTE, smtputf8,
     "addresses outside ASCII are refused, though agent and Gmail take them"},
    {"recipient-limit", SEVERITY_WARNING, recipient_limit,
     "with 1 each recipient is a message of its own at Gmail, and the "
     "concurrency limit counts no longer; more than 100 Gmail does not take"},
    {"recipient-limit-low", SEVERITY_NOTE, recipient_limit_low,
     "a message to more recipients becomes several, each of which counts at "
     "Gmail; it takes 100"},
    {"concurrency", SEVERITY_WARNING, concurrency,
     "one slow delivery holds up all accounts that share its queue label"},
    {"initial-concurrency", SEVERITY_NOTE, initial_concurrency,
     "after a quiet time deliveries begin a few at once and grow slowly"},
    {"rate-delay", SEVERITY_WARNING, rate_delay,
     "Postfix then sends one after the other; pace belongs into the "
     "account's quota"},
    {"deferred-transport", SEVERITY_ERROR, deferred_transport,
     "mail for Gmail stays in the queue until somebody flushes it"},
    {"soft-bounce", SEVERITY_WARNING, soft_bounce,
     "what Gmail refuses for good is tried again until the queue lifetime is "
     "over, and each try counts"},
    {0}};
