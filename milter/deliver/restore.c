/* milter/deliver/restore.c - see restore.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "milter/deliver/restore.h"

#include <inttypes.h>
#include <stdio.h>

#include "milter/base/log.h"
#include "milter/base/parallel.h"
#include "policy/window.h"

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
    uint64_t now_ms; /* quota time */
    /* Buckets come account by account, and there may be millions. */
    uint64_t account; /* of the one before; 0 = none yet */
    bool known;
    /* Accounts for which shared memory has no place, and why. */
    uint64_t n_left_out;
    enum state_result trouble;
};

/* An account that is no longer configured has no limits to keep. */
static bool
reopen(struct restoring *r, uint64_t account, const char *identity)
{
    enum state_result result;
    struct mailbox m;

    if (!policy_mailbox(r->policy, identity, &m) || m.id != account)
        return false;
    result = quota_open(r->quota, &m);
    if (result == STATE_OK)
        return true;
    r->trouble = result;
    r->n_left_out++;
    return false;
}

static void
restore_spent(void *cookie, uint64_t account, const char *identity,
              enum dimension d, uint64_t window_ms, uint64_t bucket,
              uint64_t units)
{
    struct restoring *r = cookie;

    /* Since the newest charge time has passed: no place is needed for who has
     * nothing that counts. */
    if (bucket + WINDOW_PARTS < window_bucket_of(window_ms, r->now_ms))
        return;
    if (account != r->account) {
        if (r->known)
            quota_restored(r->quota, r->account);
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

/* ---- windows: half of the time goes into fresh memory, and the book can be
 * read by several at once ---- */

struct reader {
    struct restoring restoring;
    enum ledger_result result;
};

struct readers {
    struct ledger *ledger;
    struct reader reader[PARALLEL_MAX];
};

static void
restore_part(void *cookie, unsigned i, unsigned of)
{
    struct readers *all = cookie;
    struct reader *x = &all->reader[i];
    struct ledger_part part = {i, of};
    struct restoring *r = &x->restoring;

    x->result = ledger_spent(all->ledger, part, restore_spent, r);
    if (r->known)
        quota_restored(r->quota, r->account);
    r->known = false;
    r->account = 0;
    if (x->result == LEDGER_OK)
        x->result = ledger_mailed(all->ledger, part, restore_mailed, r);
}

static bool
restore_windows(struct restoring *r, struct ledger *l)
{
    struct readers all = {.ledger = l};
    unsigned n = parallel_parts();
    bool ok = true;

    for (unsigned i = 0; i < n; i++)
        all.reader[i].restoring = *r;
    parallel(n, restore_part, &all);
    for (unsigned i = 0; i < n; i++) {
        const struct reader *x = &all.reader[i];

        ok = ok && x->result == LEDGER_OK;
        r->n_left_out += x->restoring.n_left_out;
        if (x->restoring.trouble != STATE_OK)
            r->trouble = x->restoring.trouble;
    }
    return ok;
}

/* ---- the rest ---- */

static void
restore_state(void *cookie, uint64_t account, const char *identity,
              enum account_state s, uint64_t until_ms, const char *reason,
              uint32_t rests)
{
    struct restoring *r = cookie;

    /* Rests that were over long ago need no place: a reply about a whole
     * organisation sends all its accounts to rest. */
    if ((s == ACCOUNT_COOLING || s == ACCOUNT_DISABLED) && until_ms != 0 &&
        until_ms + RESTS_KEEP_MS <= r->now_ms)
        return;
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
    uint64_t n_left_out = r->n_left_out;

    /* Until they come again all of them are taken for external: a forecast
     * rather too late than too early. */
    if (reopen(r, account, identity))
        attempts_waiting(r->attempts, ticket, account, (struct portion){0},
                         (struct portion){recipients, recipients}, last_ms);
    r->n_left_out = n_left_out; /* it can do without */
}

bool
restore_diverts(const struct policy *p, struct ledger *l, struct quota *q)
{
    struct restoring r = {.policy = p, .quota = q};

    return ledger_diverts(l, restore_divert, &r) == LEDGER_OK;
}

bool
restore_memory(const struct policy *p, struct ledger *l, struct quota *q,
               struct attempts *a, char *err, size_t err_size)
{
    uint64_t now_ms = quota_now_ms(q);
    struct restoring r = {
        .policy = p, .quota = q, .attempts = a, .now_ms = now_ms};

    if (!restore_windows(&r, l) ||
        ledger_states(l, restore_state, &r) != LEDGER_OK ||
        ledger_observed(l, restore_observed, &r) != LEDGER_OK ||
        ledger_diverts(l, restore_divert, &r) != LEDGER_OK ||
        ledger_waiting(
            l, now_ms > ATTEMPTS_FORGET_MS ? now_ms - ATTEMPTS_FORGET_MS : 0,
            restore_waiting, &r) != LEDGER_OK) {
        ledger_trouble(l, err, err_size);
        return false;
    }
    if (r.n_left_out == 0)
        return true;
    /* They would start anew, with nothing spent. */
    snprintf(err, err_size,
             "%" PRIu64 " accounts of the ledger have no place in shared "
             "memory (%s): %s",
             r.n_left_out, state_result_text(r.trouble),
             r.trouble == STATE_EFULL ? "raise state.accounts"
                                      : "make room on state.runtime");
    return false;
}
