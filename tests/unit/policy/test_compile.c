/* tests/unit/policy/test_compile.c - mirrors policy/compile*.c and policy.c:
 * what good configurations come to.
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

#include "compile_case.h"
#include "policy/arena.h"
#include "policy/proof.h"
#include "policy/rule.h"
#include "policy/set.h"

#define HOUR_MS (3600ull * 1000)

/* ---- the example that administrators copy ---- */

static char example[64 * 1024];
static size_t example_len;

static int
read_example(void **state)
{
    FILE *f = fopen(SOURCE_DIR "/etc/gmroute.yaml", "r");

    (void)state;
    if (f == NULL)
        return 1;
    example_len = fread(example, 1, sizeof example - 1, f);
    fclose(f);
    return example_len == 0;
}

static void
the_example_is_good(void **state)
{
    static struct diag d;
    struct policy *p = policy_compile(example, example_len,
                                      "/etc/gmroute/gmroute.yaml", NULL, &d);

    (void)state;
    for (unsigned i = 0; i < d.n; i++)
        print_error("%u:%u: %s\n", d.item[i].at.line, d.item[i].at.col,
                    d.item[i].text);
    assert_int_equal(d.n, 0);
    assert_string_equal(p->hostname, "relay.example.com");
    assert_string_equal(p->clients[0].client_secret_file,
                        "/etc/gmroute/secrets/corp.secret");
    assert_int_equal(p->n_accounts, 4);
    assert_int_equal(p->n_rules, 8);
    assert_string_equal(p->rules[1].name, "newsletter");
    assert_int_equal(p->rules[1].plan->share_percent, 80);
    assert_int_equal(p->rules[1].plan->from, FROM_REWRITE);
    assert_int_equal(p->rules[1].plan->n, 3);
    assert_true(p->rules[5].shadow);
    assert_true(p->rules[7].null_sender_meant);
    assert_false(p->rules[6].null_sender_meant);
    assert_int_equal(p->n_proofs, 2);
    assert_true(proof_run(p, &d));
    policy_free(p);
}

/* However it is cut, and whatever octet is bent: an answer and no crash. */
static void
no_prefix_does_harm(void **state)
{
    static struct diag d;

    (void)state;
    for (size_t n = 0; n < example_len; n++) {
        char *text = malloc(n + 1); /* the sanitizer sees its end */
        struct policy *p;

        memcpy(text, example, n);
        p = policy_compile(text, n, "/f", &compile_case_files, &d);
        assert_int_equal(p == NULL, d.n_errors > 0);
        policy_free(p);
        free(text);
    }
}

static void
no_bent_octet_does_harm(void **state)
{
    static const char bent[] = "\0\n :-{}[]*&!'\"#\t\377";
    static struct diag d;

    (void)state;
    for (size_t n = 0; n < example_len; n++) {
        char was = example[n];
        struct policy *p;

        example[n] = bent[n % (sizeof bent - 1)];
        p = policy_compile(example, example_len, "/f", &compile_case_files, &d);
        assert_int_equal(p == NULL, d.n_errors > 0);
        policy_free(p);
        example[n] = was;
    }
}

/* ---- settings ---- */

static void
nothing_given_is_good(void **state)
{
    struct policy *p = compile_case_good(HEAD);

    (void)state;
    assert_string_equal(p->file, "/c/f");
    assert_null(p->hostname);
    assert_int_equal(p->n_mta_domains + p->n_internal_domains, 0);
    assert_int_equal(p->untaggable, UNTAGGABLE_MTA);
    assert_false(p->unparseable_reject);
    assert_string_equal(p->milter.listen, "unix:/run/gmroute/milter.sock");
    assert_string_equal(p->milter.tag_domain, "gmroute.invalid");
    assert_int_equal(p->milter.n_reinject_from, 0);
    assert_string_equal(p->deliver.listen,
                        "unix:/var/spool/postfix/gmroute/deliver.sock");
    assert_int_equal(p->deliver.connections_max, 512);
    assert_string_equal(p->state.directory, "/var/lib/gmroute");
    assert_string_equal(p->state.runtime, "/run/gmroute");
    assert_int_equal(p->state.accounts, 16384);
    assert_int_equal(p->state.unique_recipients, 1000000);
    assert_int_equal(p->n_smarthosts, 3);
    assert_string_equal(p->smarthosts[1].host, "smtp-relay.gmail.com");
    assert_int_equal(p->default_plan->step[0].kind, STEP_MTA);
    assert_int_equal(p->default_at.line, 0);
    assert_int_equal(p->needs, 0);
    policy_free(p);
}

static void
settings_are_kept(void **state)
{
    struct policy *p = compile_case_good(
        HEAD "hostname: Relay.Example.COM.\n"
             "mta_domains: [A.example, .b.example]\n"
             "internal_domains: c.example\n"
             "untaggable: defer\n"
             "unparseable: reject\n"
             "milter: {listen: 'inet:8891@127.0.0.1', tag_domain: T.Invalid,\n"
             "         reinject_from: [127.0.0.1, '2001:db8::/32']}\n"
             "deliver: {listen: 'inet:2424@[::1]', connections: 7}\n"
             "state: {directory: sub/state, runtime: /r, accounts: 1,\n"
             "        unique_recipients: 7}\n"
             "smarthosts:\n"
             "  gmail: {connect: 127.0.0.1, port: 2465, ca_file: ca.pem}\n"
             "  other: {host: mail.example, tls: starttls, pop: 'p.x:1'}\n"
             "default: {reject: '550 5.7.1 no'}\n");

    (void)state;
    assert_string_equal(p->hostname, "relay.example.com");
    assert_string_equal(p->mta_domains[0], "a.example");
    assert_int_equal(p->n_internal_domains, 1);
    assert_int_equal(p->untaggable, UNTAGGABLE_DEFER);
    assert_true(p->unparseable_reject);
    assert_string_equal(p->milter.tag_domain, "t.invalid");
    assert_int_equal(p->milter.n_reinject_from, 2);
    assert_int_equal(p->milter.reinject_from[0].bits, 128);
    assert_int_equal(p->milter.reinject_from[0].address[10], 0xFF);
    assert_int_equal(p->milter.reinject_from[1].bits, 32);
    assert_int_equal(p->deliver.connections_max, 7);
    assert_string_equal(p->state.directory, "/c/sub/state");
    assert_string_equal(p->state.runtime, "/r");
    assert_int_equal(p->state.unique_recipients, 7);
    assert_int_equal(p->n_smarthosts, 4);
    assert_string_equal(p->smarthosts[0].host, "smtp.gmail.com");
    assert_string_equal(p->smarthosts[0].connect, "127.0.0.1");
    assert_int_equal(p->smarthosts[0].port, 2465);
    assert_string_equal(p->smarthosts[0].ca_file, "/c/ca.pem");
    assert_string_equal(p->smarthosts[0].imap, "imap.gmail.com:993");
    assert_string_equal(p->smarthosts[0].pop, "pop.gmail.com:995");
    assert_null(p->smarthosts[1].imap);
    assert_null(p->smarthosts[3].imap);
    assert_string_equal(p->smarthosts[3].pop, "p.x:1");
    assert_int_equal(p->smarthosts[2].port, 587);
    assert_int_equal(p->smarthosts[2].tls, SMARTHOST_TLS_STARTTLS);
    assert_string_equal(p->default_plan->step[0].reply, "550 5.7.1 no");
    assert_int_equal(p->default_at.line, 15);
    assert_int_equal(p->needs, POLICY_NEEDS_RCPT_REPLY);
    policy_free(p);
}

/* ---- accounts ---- */

#define ACCOUNTS                                                            \
    HEAD "oauth_clients: {corp: {client_id: x}}\n"                          \
         "accounts:\n"                                                      \
         "  sales: {address: Sales@Example.COM,\n"                          \
         "    auth: {oauth2: {client: corp, refresh_token_file: s/t}}}\n"   \
         "  relay: {address: r@x.example, smarthost: gmail_relay,\n"        \
         "    auth: none}\n"                                                \
         "  staff: {address: '*@x.example', map: {file: aliases.txt},\n"    \
         "    auth: {service_account: {key_file: /k}}, send_as: '@Y.z'}\n"  \
         "  own: {address: o@x.example, auth: {password_file: p},\n"        \
         "    mail_from: original, max_wait: 90m, sessions: {max: 1},\n"    \
         "    trust: [{logins: logins.txt, clients: 10.0.0.0/8}, local],\n" \
         "    quota: {messages: [5 per 1h, 20 per 7d], bytes: 2KiB per\n"   \
         "            1m, recipients_per_message: 7}}\n"

static void
accounts_get_defaults(void **state)
{
    struct policy *p = compile_case_good(ACCOUNTS);
    const struct account *sales = policy_account(p, "sales"),
                         *relay = policy_account(p, "relay"),
                         *staff = policy_account(p, "staff");

    (void)state;
    assert_string_equal(sales->address, "Sales@example.com");
    assert_string_equal(sales->domain, "example.com");
    assert_string_equal(sales->smarthost->name, "gmail");
    assert_int_equal(sales->auth, AUTH_REFRESH_TOKEN);
    assert_string_equal(sales->client->scope, "https://mail.google.com/");
    assert_string_equal(sales->client->token_url,
                        "https://oauth2.googleapis.com/token");
    assert_null(sales->client->client_secret_file);
    assert_string_equal(sales->secret_file, "/c/s/t");
    assert_true(sales->mail_from_account);
    assert_true(sales->trust.any);
    assert_int_equal(sales->max_wait_ms, 24 * HOUR_MS);
    assert_int_equal(sales->sessions.max, 3);
    assert_int_equal(sales->sessions.idle_ms, 60 * 1000);
    assert_int_equal(sales->sessions.age_ms, 600 * 1000);
    assert_int_equal(sales->sessions.messages, 100);
    assert_int_equal(sales->quota.n, 7); /* workspace */
    assert_int_equal(sales->quota.limit[5].dimension, DIM_BYTES);
    assert_int_equal(sales->quota.limit[5].max, 300 * 1000 * 1000);
    assert_int_equal(sales->quota.limit[5].window_ms, HOUR_MS);
    assert_int_equal(sales->quota.recipients_per_message, 100);

    assert_false(relay->mail_from_account);
    assert_int_equal(relay->auth, AUTH_NONE);
    assert_int_equal(relay->quota.n, 2);
    assert_int_equal(relay->quota.limit[0].max, 10000);

    assert_true(staff->is_template);
    assert_false(staff->trust.any);
    assert_true(staff->trust.login && staff->trust.local);
    assert_string_equal(staff->secret_file, "/k");
    assert_string_equal(staff->send_as[0], "@y.z");
    assert_int_equal(staff->n_map, 2);
    assert_string_equal(staff->map[0].alias, "Info@other.example");
    assert_string_equal(staff->map[1].mailbox, "ann");
    assert_null(policy_account(p, "nobody"));
    policy_free(p);
}

static void
accounts_keep_what_is_given(void **state)
{
    struct policy *p = compile_case_good(ACCOUNTS);
    const struct account *own = policy_account(p, "own");

    (void)state;
    assert_false(own->mail_from_account);
    assert_int_equal(own->max_wait_ms, 90 * 60 * 1000);
    assert_int_equal(own->sessions.max, 1);
    assert_int_equal(own->sessions.messages, 100);
    assert_false(own->trust.any || own->trust.login);
    assert_true(own->trust.local);
    assert_int_equal(own->trust.n_logins, 3); /* sorted, each once */
    assert_string_equal(own->trust.logins[0], "ann");
    assert_string_equal(own->trust.logins[1], "b#b");
    assert_string_equal(own->trust.logins[2], "zoe");
    assert_int_equal(own->trust.n_clients, 1);
    assert_int_equal(own->trust.clients[0].bits, 104);
    assert_int_equal(own->quota.n, 3);
    assert_int_equal(own->quota.limit[1].max, 20);
    assert_int_equal(own->quota.limit[1].window_ms, 7 * 24 * HOUR_MS);
    assert_int_equal(own->quota.limit[2].max, 2048);
    assert_int_equal(own->quota.recipients_per_message, 7);
    policy_free(p);
}

static void
providers(void **state)
{
    struct policy *p = compile_case_good(
        HEAD "oauth_clients:\n"
             "  g: {client_id: x, auth_url: 'https://a.example/'}\n"
             "  m: {client_id: x, provider: microsoft}\n"
             "  t: {client_id: x, provider: microsoft, tenant: y.example,\n"
             "      scope: s}\n"
             "accounts:\n"
             "  m: {address: m@x.example, smarthost: office365, auth:\n"
             "      {oauth2: {client: m, refresh_token_file: f}}}\n");
    const struct oauth_client *c = p->clients;
    const struct smarthost *s = p->accounts[0].smarthost;

    (void)state;
    assert_string_equal(c[0].auth_url, "https://a.example/");
    assert_string_equal(c[0].token_url, "https://oauth2.googleapis.com/token");
    assert_null(c[0].tenant);
    assert_string_equal(c[1].auth_url,
                        "https://login.microsoftonline.com/organizations/"
                        "oauth2/v2.0/authorize");
    assert_string_equal(c[1].scope, "https://outlook.office.com/SMTP.Send "
                                    "offline_access");
    assert_string_equal(c[2].token_url,
                        "https://login.microsoftonline.com/y.example/oauth2/"
                        "v2.0/token");
    assert_string_equal(c[2].scope, "s");
    assert_string_equal(s->host, "smtp.office365.com");
    assert_int_equal(s->port, 587);
    assert_int_equal(s->tls, SMARTHOST_TLS_STARTTLS);
    policy_free(p);
}

static void
presets(void **state)
{
    static const struct {
        const char *name;
        unsigned n;
        uint64_t max[DIM_COUNT]; /* per 24h; 0 = no such limit */
    } rows[] = {
        {"gmail", 2, {[DIM_MESSAGES] = 500, [DIM_RECIPIENTS] = 500}},
        {"workspace",
         7,
         {[DIM_MESSAGES] = 2000,
          [DIM_RECIPIENTS] = 10000,
          [DIM_EXTERNAL_RECIPIENTS] = 3000,
          [DIM_UNIQUE_RECIPIENTS] = 3000,
          [DIM_UNIQUE_EXTERNAL_RECIPIENTS] = 2000,
          [DIM_BYTES] = 1500000000}},
        {"workspace_trial",
         7,
         {[DIM_MESSAGES] = 500,
          [DIM_RECIPIENTS] = 10000,
          [DIM_EXTERNAL_RECIPIENTS] = 3000,
          [DIM_UNIQUE_RECIPIENTS] = 3000,
          [DIM_UNIQUE_EXTERNAL_RECIPIENTS] = 500,
          [DIM_BYTES] = 1500000000}},
        {"relay", 2, {[DIM_MESSAGES] = 10000, [DIM_UNIQUE_RECIPIENTS] = 10000}},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char yaml[200];
        uint64_t max[DIM_COUNT] = {0};
        struct policy *p;
        const struct quota_limits *q;

        print_message("  %s\n", rows[i].name);
        snprintf(yaml, sizeof yaml,
                 HEAD "accounts: {a: {address: a@x.example, auth: "
                      "{password_file: p}, quota: %s}}\n",
                 rows[i].name);
        p = compile_case_good(yaml);
        q = &p->accounts[0].quota;
        assert_int_equal(q->n, rows[i].n);
        for (unsigned k = 0; k < q->n; k++)
            if (q->limit[k].window_ms == 24 * HOUR_MS)
                max[q->limit[k].dimension] = q->limit[k].max;
        assert_memory_equal(max, rows[i].max, sizeof max);
        policy_free(p);
    }
}

/* ---- look-ups ---- */

/* Likewise; without case, also in the local part. */
static void
recipient_hashes(void **state)
{
    (void)state;
    assert_true(recipient_hash("sales@example.com") == 0x1bc5b2df43e13845u);
    assert_true(recipient_hash("Sales@Example.COM") == 0x1bc5b2df43e13845u);
    assert_true(recipient_hash("sale@example.com") != 0x1bc5b2df43e13845u);
}

/* The known answer keeps ids what they are: ledgers hold them. */
static void
identities(void **state)
{
    static const struct {
        const char *address, *smarthost, *identity;
        uint64_t id;
    } rows[] = {
        {"Sales@Example.com", "gmail", "sales@example.com",
         0x1bc5b2df43e13845u},
        {"a/b@x.example", "Relay", "a/b@x.example/Relay", 0xf23f722a989a3d45u},
        {"*@x.example", "gmail", "*@x.example", 0x91d182fa29bcf181u},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char identity[IDENTITY_MAX + 1];
        uint64_t id =
            mailbox_identity(rows[i].address, rows[i].smarthost, identity);

        assert_string_equal(identity, rows[i].identity);
        assert_int_equal(id, rows[i].id);
    }
}

static void
check_mailboxes(const struct policy *p)
{
    static const struct {
        const char *identity, *account, *address; /* account NULL = nobody's */
    } rows[] = {
        {"sales@example.com", "sales", "Sales@example.com"},
        {"r@x.example/gmail_relay", "relay", "r@x.example"},
        {"r@x.example", "staff", "r@x.example"},
        {"o@x.example", "own", "o@x.example"},
        {"o/o@x.example", "staff", "o/o@x.example"},
        {"ann@x.example/gmail_relay", NULL, NULL},
        {"ann@y.example", NULL, NULL},
        {"*@x.example", NULL, NULL},
        {"@x.example", NULL, NULL},
        {"ann", NULL, NULL},
        {"", NULL, NULL},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct mailbox m = {.id = 77}, again;

        print_message("  %s\n", rows[i].identity);
        assert_int_equal(policy_mailbox(p, rows[i].identity, &m),
                         rows[i].account != NULL);
        if (rows[i].account == NULL) {
            assert_int_equal(m.id, 77);
            continue;
        }
        assert_string_equal(m.account->name, rows[i].account);
        assert_string_equal(m.address, rows[i].address);
        assert_int_equal(policy_mailbox_by_id(p, m.id, &again),
                         !m.account->is_template);
        if (!m.account->is_template)
            assert_ptr_equal(again.account, m.account);
    }
}

/* A policy made by hand has no index; the answers are the same. */
static void
mailboxes(void **state)
{
    struct policy *p = compile_case_good(ACCOUNTS);
    struct policy by_hand = *p;

    (void)state;
    by_hand.index = NULL;
    check_mailboxes(p);
    check_mailboxes(&by_hand);
    assert_ptr_equal(policy_account(&by_hand, "own"), policy_account(p, "own"));
    assert_null(policy_account(&by_hand, "nobody"));
    policy_free(p);
}

static void
domains(void **state)
{
    static const struct {
        const char *domain;
        bool mta, internal;
    } rows[] = {
        {"a.example", true, false},
        {"A.EXAMPLE.", true, false},
        {"x.a.example", false, false},
        {"b.example", false, true},
        {"x.b.example", true, true},
        {"x.y.B.example.", true, true},
        {"xb.example", false, false},
        {".b.example", false, false},
        {"", false, false},
        {".", false, false},
    };
    struct policy *p =
        compile_case_good(HEAD "mta_domains: [a.example, .b.example]\n"
                               "internal_domains: [b.example, .b.example]\n");
    struct policy by_hand = *p;

    (void)state;
    by_hand.index = NULL;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        struct slice d = slice_of(rows[i].domain);

        print_message("  \"%s\"\n", rows[i].domain);
        assert_int_equal(policy_is_mta_domain(p, d), rows[i].mta);
        assert_int_equal(policy_is_internal_domain(p, d), rows[i].internal);
        assert_int_equal(policy_is_mta_domain(&by_hand, d), rows[i].mta);
    }
    policy_free(p);
}

/* ---- rules ---- */

static void
equal_plans_are_shared(void **state)
{
    static const char yaml[] = ACCOUNTS
        "rules:\n"
        "  - {match: {auth: a}, route: {account: own}}\n"
        "  - {match: {auth: b}, route: {account: own}, otherwise: wait}\n"
        "  - {match: {auth: c}, route: {account: own}, share: 50%}\n"
        "  - {match: {auth: d}, route: mta}\n"
        "  - {match: {auth: e}, reject: '550 5.7.1 x'}\n"
        "default: mta\n";
    struct policy *p = compile_case_good(yaml);
    struct policy *again = compile_case_good(yaml);

    (void)state;
    assert_ptr_equal(p->rules[0].plan, p->rules[1].plan);
    assert_ptr_not_equal(p->rules[0].plan, p->rules[2].plan);
    assert_ptr_equal(p->rules[3].plan, p->default_plan);
    assert_int_equal(p->n_plans, 4);
    for (size_t i = 0; i < p->n_plans; i++) {
        assert_true(i == 0 || p->plans[i - 1]->hash < p->plans[i]->hash);
        assert_ptr_equal(policy_plan(p, p->plans[i]->hash), p->plans[i]);
        assert_int_equal(p->plans[i]->hash, again->plans[i]->hash);
    }
    assert_null(policy_plan(p, p->plans[0]->hash + 1));
    policy_free(p);
    policy_free(again);
}

/* Tickets in the MTA's queue name plans by these numbers. */
static void
plan_numbers_stay(void **state)
{
    struct policy *p = compile_case_good(
        ACCOUNT "rules: [{match: {auth: a}, route: {account: a}, share: 80%, "
                "from: rewrite, otherwise: [mta]}]\n");

    (void)state;
    assert_int_equal(p->default_plan->hash, 0xa6ca62fb);
    assert_int_equal(p->rules[0].plan->hash, 0x60319544);
    policy_free(p);
}

static void
patterns(void **state)
{
    static const struct {
        const char *match;
        enum match_key key;
        enum pattern_kind kind;
        const char *text;
    } rows[] = {
        {"sender: '<>'", MATCH_SENDER, PATTERN_EXACT, "<>"},
        {"sender: Ann@X.example", MATCH_SENDER, PATTERN_EXACT, "ann@x.example"},
        {"sender: '*@X.example'", MATCH_SENDER, PATTERN_GLOB, "*@x.example"},
        {"from: /^A/", MATCH_FROM, PATTERN_REGEX, "/^A/"},
        {"sender_domain: .X.example.", MATCH_SENDER_DOMAIN, PATTERN_DOMAIN,
         ".x.example"},
        {"from_domain: x-?.example", MATCH_FROM_DOMAIN, PATTERN_GLOB,
         "x-?.example"},
        {"recipient_domain: '/x/'", MATCH_RECIPIENT_DOMAIN, PATTERN_REGEX,
         "/x/"},
        {"auth: '*'", MATCH_AUTH, PATTERN_GLOB, "*"},
        {"auth: ''", MATCH_AUTH, PATTERN_EXACT, ""},
        {"auth: yes", MATCH_AUTH, PATTERN_EXACT, "yes"},
        {"client: 10.0.0.0/8", MATCH_CLIENT, PATTERN_NETWORK, "10.0.0.0/8"},
        {"client: .X.example", MATCH_CLIENT, PATTERN_DOMAIN, ".x.example"},
        {"header: {X-Y: ''}", MATCH_HEADER, PATTERN_EXACT, ""},
        {"header: {X-Y: /}", MATCH_HEADER, PATTERN_EXACT, "/"},
        {"recipient: {list: l}", MATCH_RECIPIENT, PATTERN_LIST, "l"},
        {"recipient: 'list: l'", MATCH_RECIPIENT, PATTERN_LIST, "l"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char yaml[300];
        struct policy *p;
        const struct condition *c;

        print_message("  %s\n", rows[i].match);
        snprintf(yaml, sizeof yaml,
                 HEAD "lists: {l: [a]}\nrules: [{match: {%s}, route: mta}]\n",
                 rows[i].match);
        p = compile_case_good(yaml);
        assert_int_equal(p->rules[0].match.n_children, 1);
        c = &p->rules[0].match.child[0];
        assert_int_equal(c->key, rows[i].key);
        assert_int_equal(c->n_patterns, 1);
        assert_int_equal(c->pattern[0].kind, rows[i].kind);
        assert_string_equal(c->pattern[0].text, rows[i].text);
        assert_int_equal(c->pattern[0].regex != NULL,
                         rows[i].kind == PATTERN_REGEX);
        if (c->key == MATCH_HEADER)
            assert_string_equal(c->name, "x-y");
        policy_free(p);
    }
}

static void
trees(void **state)
{
    struct policy *p = compile_case_good(
        HEAD "rules:\n"
             "  - match: {size: ['> 1KB', 5], header: {A: 1, B: 2},\n"
             "            not: {any: [{auth: x}, {kind: bulk}]}}\n"
             "    route: mta\n");
    const struct condition *m = &p->rules[0].match;

    (void)state;
    assert_int_equal(m->key, MATCH_ALL);
    assert_int_equal(m->n_children, 3);
    assert_int_equal(m->child[1].key, MATCH_ALL);
    assert_int_equal(m->child[1].n_children, 2);
    assert_string_equal(m->child[1].child[1].name, "b");
    assert_int_equal(m->child[0].n_numbers, 2);
    assert_int_equal(m->child[0].number[0].op, COMPARE_GT);
    assert_int_equal(m->child[0].number[0].value, 1000);
    assert_int_equal(m->child[0].number[1].op, COMPARE_EQ);
    assert_int_equal(m->child[2].key, MATCH_NOT);
    assert_int_equal(m->child[2].child[0].key, MATCH_ANY);
    assert_int_equal(m->child[2].child[0].child[1].child[0].kind[0], KIND_BULK);
    assert_int_equal(p->needs, POLICY_NEEDS_HEADERS | POLICY_NEEDS_SIZE);
    policy_free(p);
}

static void
lists(void **state)
{
    struct policy *p = compile_case_good(
        HEAD
        "lists: {l: {file: list.txt}, m: ['<>', A@x.example]}\n"
        "rules: [{match: {sender: [{list: l}, {list: m}]}, route: mta}]\n");
    const struct pattern *use = p->rules[0].match.child[0].pattern;
    const struct pattern_list *l = use[0].list;

    (void)state;
    assert_int_equal(l->n, 2);
    assert_int_equal(l->pattern[0].kind, PATTERN_GLOB);
    assert_int_equal(l->pattern[1].kind, PATTERN_REGEX);
    assert_int_equal(l->n_networks, 1);
    assert_int_equal(l->network[0].bits, 104);
    assert_int_equal(string_set_count(l->exact), 4);
    assert_true(string_set_has(l->exact, SLICE_LIT("Plain@x.example")));
    assert_true(string_set_has(l->exact, SLICE_LIT(".sub.example")));
    assert_true(string_set_has(l->exact, SLICE_LIT("192.0.2.7")));
    assert_true(string_set_has(l->exact, SLICE_LIT("2001:db8::1")));
    assert_true(string_set_has(use[1].list->exact, SLICE_LIT("<>")));
    assert_true(string_set_has(use[1].list->exact, SLICE_LIT("a@x.example")));
    policy_free(p);
}

static void
needs(void **state)
{
    enum {
        H = POLICY_NEEDS_HEADERS,
        R = POLICY_NEEDS_RCPT_REPLY,
        S = POLICY_NEEDS_SIZE
    };
    static const struct {
        const char *rules;
        unsigned want;
    } rows[] = {
        {"{match: {auth: a}, route: mta}", 0},
        {"{match: {kind: bounce}, route: mta}", 0},
        {"{match: {kind: [bounce, auto]}, route: mta}", H},
        {"{match: {from: a@b}, route: mta}", H},
        {"{match: {from_domain: b}, route: mta}", H},
        {"{match: {not: {size: 1}}, route: mta}", S},
        {"{match: {auth: a}, route: {account: a}, from: require}", H},
        {"{match: {auth: a}, route: {account: a}, from: rewrite}", 0},
        {"{match: {auth: a}, reject: 550 5.7.1 x}", R},
        {"{match: {auth: a, size: 1}, reject: 550 5.7.1 x}", S},
        {"{match: {any: [{auth: a}, {size: 1}]}, defer: 450 4.7.1 x}", R | S},
        {"{match: {not: {auth: a, size: 1}}, defer: 450 4.7.1 x}", R | S},
        {"{match: {kind: [bounce, bulk]}, reject: 550 5.7.1 x}", R | H},
        {"{match: {kind: bulk}, reject: 550 5.7.1 x}", H},
        /* An earlier rule may be in the way, or not. */
        {"{match: {size: 1}, route: mta}, "
         "{match: {auth: a}, reject: 550 5.7.1 x}",
         S},
        {"{match: {size: 1, auth: b}, route: mta}, "
         "{match: {auth: a}, reject: 550 5.7.1 x}",
         R | S},
        {"{match: {size: 1}, reject: 550 5.7.1 x}, "
         "{match: {auth: a}, reject: 550 5.7.1 x}",
         R | S},
        {"{match: {size: 1}, route: {account: a}}, "
         "{match: {auth: a}, reject: 550 5.7.1 x}",
         R | S},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char yaml[500];
        struct policy *p;

        print_message("  %s\n", rows[i].rules);
        snprintf(yaml, sizeof yaml, ACCOUNT "rules: [%s]\n", rows[i].rules);
        p = compile_case_good(yaml);
        assert_int_equal(p->needs, rows[i].want);
        policy_free(p);
    }
}

/* Only behind a content filter must it be known what was added before. */
static void
needs_of_a_second_pass(void **state)
{
    static const char rule[] =
        ACCOUNT "rules: [{route: mta, add_header: {X-A: b}}]\n";
    char yaml[500];
    struct policy *p = compile_case_good(rule);

    (void)state;
    assert_int_equal(p->needs, POLICY_EDITS_HEADER);
    policy_free(p);
    snprintf(yaml, sizeof yaml, "%smilter: {reinject_from: [127.0.0.1]}\n",
             rule);
    p = compile_case_good(yaml);
    assert_int_equal(p->needs, POLICY_EDITS_HEADER | POLICY_NEEDS_HEADERS);
    policy_free(p);
}

static void
null_sender(void **state)
{
    static const struct {
        const char *match;
        bool meant;
    } rows[] = {
        {"kind: bounce", true},
        {"kind: [auto, bounce]", true},
        {"sender: '<>'", true},
        {"sender: [a@b, '<>']", true},
        {"any: [{auth: a}, {sender: '<>', auth: b}]", true},
        {"all: [{kind: bounce}]", true},
        {"not: {kind: bounce}", false},
        {"sender: '*'", false},
        {"recipient: '<>'", false},
        {"kind: auto", false},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        char yaml[300];
        struct policy *p;

        print_message("  %s\n", rows[i].match);
        snprintf(yaml, sizeof yaml,
                 ACCOUNT "rules: [{match: {%s}, route: {account: a}}]\n",
                 rows[i].match);
        p = compile_case_good(yaml);
        assert_int_equal(p->rules[0].null_sender_meant, rows[i].meant);
        policy_free(p);
    }
}

/* One value in two places, and steps that come to much. */
static void
aliases_and_steps(void **state)
{
    struct policy *p = compile_case_good(
        ACCOUNT "rules:\n"
                "  - match: &m {auth: x}\n"
                "    route: &r {account: a}\n"
                "    otherwise: [defer, {reject: '550 5.7.1 y'}]\n"
                "  - {match: *m, route: *r, otherwise: mta}\n");

    (void)state;
    assert_int_equal(p->rules[0].plan->n, 3);
    assert_int_equal(p->rules[0].plan->step[1].kind, STEP_DEFER);
    assert_memory_equal(p->rules[0].plan->step[1].reply, "451 4.7.1 ", 10);
    assert_string_equal(p->rules[0].plan->step[2].reply, "550 5.7.1 y");
    assert_int_equal(p->rules[1].plan->n, 2);
    assert_int_equal(p->rules[1].plan->step[1].kind, STEP_MTA);
    assert_string_equal(p->rules[1].name, "rule 2");
    policy_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_good),
        cmocka_unit_test(no_prefix_does_harm),
        cmocka_unit_test(no_bent_octet_does_harm),
        cmocka_unit_test(nothing_given_is_good),
        cmocka_unit_test(settings_are_kept),
        cmocka_unit_test(accounts_get_defaults),
        cmocka_unit_test(accounts_keep_what_is_given),
        cmocka_unit_test(providers),
        cmocka_unit_test(presets),
        cmocka_unit_test(recipient_hashes),
        cmocka_unit_test(identities),
        cmocka_unit_test(mailboxes),
        cmocka_unit_test(domains),
        cmocka_unit_test(equal_plans_are_shared),
        cmocka_unit_test(plan_numbers_stay),
        cmocka_unit_test(patterns),
        cmocka_unit_test(trees),
        cmocka_unit_test(lists),
        cmocka_unit_test(needs),
        cmocka_unit_test(needs_of_a_second_pass),
        cmocka_unit_test(null_sender),
        cmocka_unit_test(aliases_and_steps),
    };

    return cmocka_run_group_tests_name("policy/compile", tests, read_example,
                                       NULL);
}
