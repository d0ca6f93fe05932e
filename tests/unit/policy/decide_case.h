/* tests/unit/policy/decide_case.h - configurations as people write them, mail as rows,
 * decisions as text: for the tests of decide()
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_POLICY_DECIDE_CASE_H
#define TESTS_POLICY_DECIDE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/decide.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

enum { CASE_HEADERS_MAX = 16, CASE_TEXT = 1000 };

/* Accounts that all the policies below share. */
#define ACCOUNTS                                                            \
    "gmroute: 1\n"                                                          \
    "mta_domains: [local.example, .lan.example]\n"                          \
    "oauth_clients:\n"                                                      \
    "  corp: {client_id: x.apps.googleusercontent.com,\n"                   \
    "         client_secret_file: corp.secret}\n"                           \
    "accounts:\n"                                                           \
    "  sales:\n"                                                            \
    "    address: Sales@example.com\n"                                      \
    "    auth: {oauth2: {client: corp, refresh_token_file: sales.token}}\n" \
    "    send_as: [info@example.com, '@promo.example.com']\n"               \
    "    quota: workspace\n"                                                \
    "  news:\n"                                                             \
    "    address: news@gmail.com\n"                                         \
    "    auth: {password_file: news.pw}\n"                                  \
    "    quota: gmail\n"                                                    \
    "  logins:\n"                                                           \
    "    address: logins@example.com\n"                                     \
    "    auth: {password_file: l.pw}\n"                                     \
    "    trust: {logins: logins.txt}\n"                                     \
    "    quota: workspace\n"                                                \
    "  staff:\n"                                                            \
    "    address: '*@example.com'\n"                                        \
    "    auth: {service_account: {key_file: sa.json}}\n"                    \
    "    quota: workspace\n"                                                \
    "  mapped:\n"                                                           \
    "    address: '*@mapped.example'\n"                                     \
    "    auth: {service_account: {key_file: sa.json}}\n"                    \
    "    trust: any\n"                                                      \
    "    quota: workspace\n"                                                \
    "pools:\n"                                                              \
    "  bulk: {accounts: [news, sales], pick: round_robin}\n"                \
    "  mixed: {accounts: [staff, news, mapped], pick: round_robin}\n"       \
    "lists:\n"                                                              \
    "  vip: {file: vip.txt}\n"

struct mail {
    const char *sender, *recipient, *login, *headers;
    uint64_t size;
    bool local;
    const char *client; /* 192.0.2.x as its last octet; NULL = not known */
};

struct row {
    const char *name;
    struct mail mail;
    const char *at_rcpt, *at_end; /* at_rcpt NULL = unknown */
};

/* For cmocka's groups: the scratch that all cases share. */
int case_setup(void **state);
int case_teardown(void **state);
extern struct scratch *case_scratch;

/* The policy; an error in it fails the test.  Knows the files
 * /etc/gmroute/{mailboxes,logins,vip}.txt. */
struct policy *case_compile(const char *yaml);

struct facts case_facts(const struct mail *m, enum facts_stage stage,
                        struct facts_pair h[CASE_HEADERS_MAX]);

/* Decides; the text is
 *     people: account ann@example.com(staff) wait
 *     nobody: reject 550 5.7.1 no
 * or "unknown".  What else there is to see stays in case_decision. */
void case_decide(const struct policy *p, const struct mail *m,
                 enum facts_stage stage, struct trace *trace,
                 char ret[CASE_TEXT]);
extern struct decision case_decision;

/* Asks for each row at RCPT and at the end of the message. */
void case_rows(const char *yaml, const struct row *row, size_t n);

#endif
