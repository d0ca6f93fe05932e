/* tests/unit/ctl/make_memory.c - the daemons' memory with known contents, for
 * test_memory.py.
 * SPDX-License-Identifier: Apache-2.0
 *
 *     make_memory CONFIG [N]   N = mailboxes of the template as well
 *
 * What it makes stays when it ends, as after a crash of the daemons.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "milter/base/conf.h"
#include "milter/state/hints.h"
#include "milter/state/quota.h"
#include "milter/state/status.h"

static void
must(enum state_result r, const char *what, const char *err)
{
    if (r == STATE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, state_result_text(r), err);
    exit(1);
}

static struct mailbox
mailbox(const struct policy *p, const char *name, const char *address)
{
    struct mailbox m = {.account = policy_account(p, name)};
    char identity[IDENTITY_MAX + 1];

    if (m.account == NULL) {
        fprintf(stderr, "no account %s\n", name);
        exit(1);
    }
    snprintf(m.address, sizeof m.address, "%s", address);
    m.id = mailbox_identity(address, m.account->smarthost->name, identity);
    return m;
}

static void
spend(struct quota *q, const struct mailbox *m, unsigned n)
{
    static const struct cost one = {
        .messages = 1, .recipients = 1, .external_recipients = 1, .bytes = 500};
    struct taken taken;
    struct room room;

    must(quota_open(q, m), m->address, "");
    for (unsigned i = 0; i < n; i++)
        if (!quota_take(q, m->id, &one, 100, &taken, &room)) {
            fprintf(stderr, "%s: no room\n", m->address);
            exit(1);
        }
    quota_count(q, m->id, QUOTA_SENT, n);
}

static void
make_quota(const struct policy *p, unsigned many)
{
    struct quota *q;
    struct mailbox m;
    char err[300] = "";

    must(quota_make(&q, p->state.runtime, p, &clock_real, 0, err, sizeof err),
         "quota", err);
    m = mailbox(p, "news", "news@example.com"); /* full */
    spend(q, &m, 2);
    quota_add_waiting(q, m.id, 3, 4, 0);
    quota_set_sessions(q, m.id, 2, 1);
    quota_count(q, m.id, QUOTA_DEFERRED, 3);
    quota_count(q, m.id, QUOTA_LOGIN, 1);
    m = mailbox(p, "sales", "sales@example.com"); /* nearly full, resting */
    spend(q, &m, 95);
    quota_rest(q, m.id, 3600000, "450 4.2.1 too \"fast\"");
    m = mailbox(p, "boss", "boss@example.com");
    must(quota_open(q, &m), "boss", "");
    quota_set_state(q, m.id, ACCOUNT_PAUSED, 0, "a holiday");
    m = mailbox(p, "staff", "o\"x\\y@staff.example.com");
    spend(q, &m, 1);
    for (unsigned i = 0; i < many; i++) {
        char address[64];

        snprintf(address, sizeof address, "user%06u@staff.example.com", i);
        m = mailbox(p, "staff", address);
        spend(q, &m, 1);
    }
}

static void
make_tokens(const struct policy *p)
{
    int64_t now_s = (int64_t)time(NULL);
    struct token_status s = {.state = TOKEN_OK,
                             .serial = 1,
                             .fetched_at_s = now_s - 600,
                             .expires_at_s = now_s + 3000,
                             .next_try_at_s = now_s + 2400};
    struct token_book *b;
    char err[300] = "";

    must(token_book_make(&b, p->state.runtime, p->state.accounts, err,
                         sizeof err),
         "status", err);
    s.id = mailbox_identity("news@example.com", "gmail", s.identity);
    must(token_book_publish(b, &s, "secret", 6), "token", "");
    s = (struct token_status){.state = TOKEN_NEEDS_LOGIN};
    snprintf(s.error, sizeof s.error, "invalid_grant: expired or revoked");
    s.id = mailbox_identity("sales@example.com", "gmail", s.identity);
    must(token_book_set(b, &s), "token", "");
}

static void
make_hints(const struct policy *p)
{
    struct hints *h;
    char err[300] = "";
    char identity[IDENTITY_MAX + 1];
    uint64_t id = mailbox_identity("news@example.com", "gmail", identity);

    must(hints_open(&h, p->state.runtime, p->state.accounts, err, sizeof err),
         "hints", err);
    hints_add(h, identity, id, (uint32_t)(time(NULL) / 60), 5, 0);
    hints_add(h, identity, id, (uint32_t)(time(NULL) / 60), 1, 0);
    hints_count(h, HINTS_MESSAGES, 9);
    hints_count(h, HINTS_ROUTED, 8);
    hints_count_decision(h, 15);
    hints_count_decision(h, 600);
}

int
main(int argc, char **argv)
{
    struct diag *d = calloc(1, sizeof *d);
    struct policy *p;

    if (argc < 2 || d == NULL)
        return 2;
    p = conf_load(argv[1], d);
    if (p == NULL) {
        fprintf(stderr, "%s: %s\n", argv[1],
                d->n > 0 ? d->item[0].text : "does not load");
        return 1;
    }
    make_quota(p, argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0);
    make_tokens(p);
    make_hints(p);
    fflush(stdout);
    _Exit(0); /* as a crash: nothing is taken down */
}
