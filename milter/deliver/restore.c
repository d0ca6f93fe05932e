/* milter/deliver/restore.c - see restore.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/restore.h"

#include <inttypes.h>

#include "milter/base/log.h"

/* ---- the book ---- */

struct loss {
    const struct policy *policy;
    struct mailbox mailbox;
    uint64_t accounts, messages, recipients, bytes;
};

static const struct account *
account_of(void *cookie, uint64_t account, const char *identity)
{
    struct loss *loss = cookie;

    return policy_mailbox(loss->policy, identity, &loss->mailbox) &&
                   loss->mailbox.id == account
               ? loss->mailbox.account
               : NULL;
}

static void
count_loss(void *cookie, const char *identity, const struct taken *charge)
{
    struct loss *loss = cookie;

    loss->accounts++;
    loss->messages += charge->cost.messages;
    loss->recipients += charge->cost.recipients;
    loss->bytes += charge->cost.bytes;
    log_debug("%s is charged for %" PRIu32 " messages that may have been in "
              "flight",
              identity, charge->cost.messages);
}

bool
restore_book(struct ledger *l, const struct policy *p,
             const uint64_t boot_id[2])
{
    struct loss loss = {.policy = p};
    const struct ledger_loss_ops ops = {account_of, count_loss, &loss};
    uint64_t in_doubt = 0;

    if (ledger_recover(l, &in_doubt) != LEDGER_OK ||
        ledger_boot(l, boot_id, &ops) != LEDGER_OK)
        return false;
    if (in_doubt > 0)
        log_warn("%" PRIu64 " deliveries were under way when the agent last "
                 "ended: in doubt, counted as spent, tried again when the MTA "
                 "comes",
                 in_doubt);
    if (loss.accounts > 0)
        log_warn("the machine went down while mail was sent: %" PRIu64
                 " accounts are charged for %" PRIu64 " messages, %" PRIu64
                 " recipients and %" PRIu64
                 " octets that may have been in flight",
                 loss.accounts, loss.messages, loss.recipients, loss.bytes);
    return true;
}

/* ---- memory ---- */

struct restoring {
    const struct policy *policy;
    struct quota *quota;
    struct attempts *attempts;
    /* Buckets come account by account, and there may be millions. */
    uint64_t account; /* of the one before; 0 = none yet */
    bool known;
};

/* An account that is no longer configured has no limits to keep. */
static bool
reopen(const struct restoring *r, uint64_t account, const char *identity)
{
    struct mailbox m;

    return policy_mailbox(r->policy, identity, &m) && m.id == account &&
           quota_open(r->quota, &m) == STATE_OK;
}

static void
restore_spent(void *cookie, uint64_t account, const char *identity,
              enum dimension d, uint64_t window_ms, uint64_t bucket,
              uint64_t units)
{
    struct restoring *r = cookie;

    if (account != r->account) {
        r->known = reopen(r, account, identity);
        r->account = account;
    }
    if (r->known)
        quota_restore(r->quota, account, d, window_ms, bucket, units);
}

static void
restore_mailed(void *cookie, uint64_t account, const char *identity,
               const struct recipient_id *who, uint64_t at_ms)
{
    struct restoring *r = cookie;

    if (account != r->account) {
        r->known = reopen(r, account, identity);
        r->account = account;
    }
    if (r->known)
        quota_restore_recipient(r->quota, account, who, at_ms);
}

static void
restore_state(void *cookie, uint64_t account, const char *identity,
              enum account_state s, uint64_t until_ms, const char *reason,
              uint32_t rests)
{
    struct restoring *r = cookie;

    if (reopen(r, account, identity))
        quota_restore_state(r->quota, account, s, until_ms, reason, rests);
}

static void
restore_observed(void *cookie, uint64_t account, const char *identity,
                 enum dimension d, uint64_t window_ms, uint64_t units,
                 uint64_t at_ms)
{
    struct restoring *r = cookie;

    if (reopen(r, account, identity))
        quota_restore_observed(r->quota, account, d, window_ms, units, at_ms);
}

static void
restore_divert(void *cookie, uint64_t account, const char *identity,
               uint64_t other, const char *other_identity)
{
    struct restoring *r = cookie;

    if (!reopen(r, account, identity))
        return;
    if (!reopen(r, other, other_identity))
        log_warn("mail for %s is diverted to %s, which is not configured: it "
                 "goes through %s itself",
                 identity, other_identity, identity);
    quota_set_divert(r->quota, account, other);
}

static void
restore_waiting(void *cookie, uint64_t ticket, uint64_t account,
                const char *identity, uint64_t last_ms, uint32_t recipients)
{
    struct restoring *r = cookie;

    if (reopen(r, account, identity))
        attempts_waiting(r->attempts, ticket, account, 0, recipients, last_ms);
}

bool
restore_diverts(const struct policy *p, struct ledger *l, struct quota *q)
{
    struct restoring r = {.policy = p, .quota = q};

    return ledger_diverts(l, restore_divert, &r) == LEDGER_OK;
}

bool
restore_memory(const struct policy *p, struct ledger *l, struct quota *q,
               struct attempts *a)
{
    struct restoring r = {.policy = p, .quota = q, .attempts = a};
    uint64_t now_ms = quota_now_ms(q);

    if (ledger_spent(l, restore_spent, &r) != LEDGER_OK)
        return false;
    r.account = 0;
    if (ledger_mailed(l, restore_mailed, &r) != LEDGER_OK)
        return false;
    quota_restored(q);
    return ledger_states(l, restore_state, &r) == LEDGER_OK &&
           ledger_observed(l, restore_observed, &r) == LEDGER_OK &&
           restore_diverts(p, l, q) &&
           ledger_waiting(
               l, now_ms > ATTEMPTS_FORGET_MS ? now_ms - ATTEMPTS_FORGET_MS : 0,
               restore_waiting, &r) == LEDGER_OK;
}
