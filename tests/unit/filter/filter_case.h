/* tests/unit/filter/filter_case.h - one connection after the other, driven as
 * an MTA drives it; what was asked of the MTA comes out as text.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TESTS_FILTER_CASE_H
#define TESTS_FILTER_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "milter/filter/session.h"

#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* Accounts that the policies of these tests share. */
#define ACCOUNTS                                                         \
    "gmroute: 1\n"                                                       \
    "mta_domains: [local.example]\n"                                     \
    "internal_domains: [local.example]\n"                                \
    "milter: {reinject_from: [192.0.2.9]}\n"                             \
    "accounts:\n"                                                        \
    "  sales:\n"                                                         \
    "    address: sales@example.com\n"                                   \
    "    auth: {password_file: s.pw}\n"                                  \
    "    quota: {messages: 1000 per 24h, recipients_per_message: 100}\n" \
    "  news:\n"                                                          \
    "    address: news@gmail.com\n"                                      \
    "    auth: {password_file: n.pw}\n"                                  \
    "    quota: gmail\n"                                                 \
    "  staff:\n"                                                         \
    "    address: '*@example.com'\n"                                     \
    "    trust: [login, local]\n"                                        \
    "    auth: {service_account: {key_file: sa.json}}\n"                 \
    "    quota: workspace\n"                                             \
    "pools:\n"                                                           \
    "  bulk: {accounts: [news, sales]}\n"

enum { RCPTS_MAX = 8, MACROS_MAX = 8 };

struct mail {
    const char *sender;          /* "<a@b>"; NULL = "<someone@else.test>" */
    const char *arg;             /* a parameter of MAIL */
    const char *rcpt[RCPTS_MAX]; /* as the client writes it; a parameter may
                                  * follow the '>' and a space */
    const char *rcpt_macro[RCPTS_MAX]; /* "name=value" of this RCPT */
    const char *headers; /* "Name: value\n" lines, folded with "\n " */
    const char *body;
    const char *login;
    const char *client; /* "192.0.2.x" as its last octet; NULL = 1 */
    const char *helo;
    bool local;                                       /* the sendmail command */
    const char *macro[MACROS_MAX], *late[MACROS_MAX]; /* "name=value" from MAIL
                                                       * on, from EOM on */
};

struct row {
    const char *name;
    struct mail mail;
    const char *want;
};

/* The policy of what follows; an error in it fails the test.  The segments of
 * the shared memory start anew. */
void case_open(const char *yaml);
void case_close(void);
extern struct session_env case_env;
const struct policy *case_policy(void);

/* Nobody may use the account until case_open(). */
void case_pause(const char *account);

/* One message over a connection of its own.  The text is, in order,
 *
 *   rcpt PATH: 550 5.7.1 text    for each that was refused at once
 *   250                          or the reply to the whole message
 *   hold REASON
 *   -NAME[INDEX]                 a field removed
 *   +NAME: VALUE                 a field added
 *   del RECIPIENT
 *   tag RECIPIENT ACCOUNT        or "refuse" or "defer" in its place, and then
 *                                parameters other than its own ORCPT
 *
 * joined with "; ".  Lives until the next call. */
const char *case_send(const struct mail *m);

/* The same over a connection that is already there. */
struct session *case_connect(const struct mail *m);
const char *case_send_over(struct session *s, const struct mail *m);

/* For tests that take the steps themselves: the MTA, and the message that its
 * macros are of. */
extern const struct mta_ops case_ops;
void case_mail_begins(const struct mail *m);

/* Each row by itself; then all of them over one connection, from the first to
 * the last and back: nothing of a message may be left for the next one.
 * Rows with the same client, HELO and origin only. */
void case_rows(const char *yaml, const struct row *row, size_t n);

/* From now on the MTA refuses the n-th edit of a message, from 1; 0 = none. */
extern unsigned case_refuse_edit;
/* Edits asked for since the message began, the refused one included. */
extern unsigned case_edits;
/* Octets of a piece of the body; 0 = all of it at once. */
extern size_t case_piece;
/* Pieces of the body that the session wanted. */
extern unsigned case_pieces_wanted;

/* What was logged since the message began, one line each. */
extern char case_log[64 * 1024];
void case_log_has(const char *text);
void case_log_lacks(const char *text);

uint64_t case_count(enum hints_stat s); /* since case_open() */

#endif
