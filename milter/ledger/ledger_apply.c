/* milter/ledger/ledger_apply.c - what an entry does to the tables.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Everything here may be done twice: a commit whose end is unknown (an fsync
 * that failed, a file that was replaced) is followed by the same entries in a
 * new transaction.  Rows have their numbers before; a result marks only rows
 * that are still "sending", and changes the charge only when it marked one.
 */
#include <string.h>

#include "milter/ledger/ledger_private.h"

static int
apply_name(struct ledger_sql *s, uint64_t account, const char *identity)
{
    uint64_t *known = &s->named[account % LEDGER_SQL_NAMED];
    sqlite3_stmt *st;
    int rc;

    if (account == 0 || identity[0] == '\0' || *known == account)
        return SQLITE_OK; /* an identity's account is always the same */
    if ((st = ledger_sql_get(s, SQL_NAME)) == NULL)
        return ledger_sql_run(s, NULL);
    ledger_sql_bind_u64(st, 1, account);
    ledger_sql_bind_text(st, 2, identity);
    if ((rc = ledger_sql_run(s, st)) == SQLITE_OK)
        *known = account;
    return rc;
}

/* end NULL: it is being sent. */
static int
apply_attempt(struct ledger_sql *s, const struct ledger_flight *f,
              const struct ledger_row *row, const struct attempt_result *end)
{
    const struct attempt *a = &row->a;
    sqlite3_stmt *st;
    int rc = apply_name(s, a->account, a->identity);

    if (rc != SQLITE_OK)
        return rc;
    if ((st = ledger_sql_get(s, SQL_ATTEMPT)) == NULL)
        return ledger_sql_run(s, NULL);
    sqlite3_bind_int64(st, 1, row->row);
    sqlite3_bind_int64(st, 2, f->at_ms);
    ledger_sql_bind_u64(st, 3, f->charged ? f->charge.at_ms : 0);
    ledger_sql_bind_u64(st, 4, a->account);
    ledger_sql_bind_u64(st, 5, a->ticket);
    ledger_sql_bind_text(st, 6, a->queue_id);
    ledger_sql_bind_text(st, 7, a->sender);
    ledger_sql_bind_text(st, 8, a->recipient);
    ledger_sql_bind_u64(st, 9, a->size_octets);
    ledger_sql_bind_text(st, 10, a->message_id);
    sqlite3_bind_blob(st, 11, a->digest.octet, LEDGER_DIGEST, SQLITE_STATIC);
    ledger_sql_bind_text(
        st, 12, end != NULL ? ledger_sql_outcome(end->kind) : LEDGER_SENDING);
    ledger_sql_bind_text(st, 13,
                         end != NULL ? ledger_sql_stage(end->stage) : "");
    sqlite3_bind_int(st, 14, end != NULL ? end->code : 0);
    ledger_sql_bind_text(st, 15, end != NULL ? end->enhanced : "");
    ledger_sql_bind_text(st, 16, end != NULL ? end->reply : "");
    sqlite3_bind_int64(st, 17, end != NULL ? end->duration_ms : 0);
    ledger_sql_bind_u64(st, 18, a->diverted_from);
    return ledger_sql_run(s, st);
}

/* Kept for each recipient, in `mailed`. */
static bool
by_recipient(const struct taken *t, unsigned i)
{
    return dimension_is_unique(t->charge[i].dimension) && t->cost.who != NULL;
}

/* Until when the recipients of t count; 0 = nothing counts them. */
static uint64_t
recipients_until_ms(const struct taken *t)
{
    uint64_t latest_ms = 0;

    for (unsigned i = 0; i < t->n; i++) {
        uint64_t ms =
            ledger_sql_until_ms(t->charge[i].window_ms, t->charge[i].bucket);

        if (by_recipient(t, i) && ms > latest_ms)
            latest_ms = ms;
    }
    return latest_ms;
}

static int
apply_mail(struct ledger_sql *s, enum ledger_sql_statement w,
           const struct taken *t, const struct recipient_id *r,
           uint64_t until_ms)
{
    sqlite3_stmt *st = ledger_sql_get(s, w);

    if (st == NULL)
        return ledger_sql_run(s, NULL);
    ledger_sql_bind_u64(st, 1, t->id);
    ledger_sql_bind_u64(st, 2, r->hash);
    ledger_sql_bind_u64(st, 3, t->at_ms);
    if (w == SQL_MAIL) {
        sqlite3_bind_int(st, 4, r->external);
        ledger_sql_bind_u64(st, 5, until_ms);
    }
    return ledger_sql_run(s, st);
}

/* settled: it stands for all that was mailed to them before. */
static int
apply_recipients(struct ledger_sql *s, const struct taken *t, bool settled)
{
    uint64_t until_ms = recipients_until_ms(t);
    int rc = SQLITE_OK;

    if (until_ms == 0)
        return SQLITE_OK;
    for (uint32_t i = 0; i < t->cost.n_who && rc == SQLITE_OK; i++) {
        if (settled)
            rc = apply_mail(s, SQL_MAIL_FORGET, t, &t->cost.who[i], 0);
        if (rc == SQLITE_OK)
            rc = apply_mail(s, SQL_MAIL, t, &t->cost.who[i], until_ms);
    }
    return rc;
}

static int
apply_charge(struct ledger_sql *s, const struct taken *t, bool settled)
{
    int rc = apply_recipients(s, t, settled);

    for (unsigned i = 0; i < t->n && rc == SQLITE_OK; i++) {
        sqlite3_stmt *st;

        if (t->charge[i].units == 0 || by_recipient(t, i))
            continue;
        if ((st = ledger_sql_get(s, SQL_CHARGE)) == NULL)
            return ledger_sql_run(s, NULL);
        ledger_sql_bind_u64(st, 1, t->id);
        sqlite3_bind_int(st, 2, (int)t->charge[i].dimension);
        ledger_sql_bind_u64(st, 3, t->charge[i].window_ms);
        ledger_sql_bind_u64(st, 4, t->charge[i].bucket);
        ledger_sql_bind_u64(st, 5, t->charge[i].units);
        ledger_sql_bind_u64(
            st, 6,
            ledger_sql_until_ms(t->charge[i].window_ms, t->charge[i].bucket));
        rc = ledger_sql_run(s, st);
    }
    return rc;
}

static int
apply_give_back(struct ledger_sql *s, const struct taken *t)
{
    uint32_t n_who = recipients_until_ms(t) != 0 ? t->cost.n_who : 0;
    int rc = SQLITE_OK;

    for (uint32_t i = 0; i < n_who && rc == SQLITE_OK; i++)
        rc = apply_mail(s, SQL_MAIL_GIVE_BACK, t, &t->cost.who[i], 0);
    for (unsigned i = 0; i < t->n && rc == SQLITE_OK; i++) {
        sqlite3_stmt *st;

        if (t->charge[i].units == 0 || by_recipient(t, i))
            continue;
        if ((st = ledger_sql_get(s, SQL_GIVE_BACK)) == NULL)
            return ledger_sql_run(s, NULL);
        ledger_sql_bind_u64(st, 1, t->id);
        sqlite3_bind_int(st, 2, (int)t->charge[i].dimension);
        ledger_sql_bind_u64(st, 3, t->charge[i].window_ms);
        ledger_sql_bind_u64(st, 4, t->charge[i].bucket);
        ledger_sql_bind_u64(st, 5, t->charge[i].units);
        rc = ledger_sql_run(s, st);
    }
    return rc;
}

static int
apply_begin(struct ledger_sql *s, const struct ledger_flight *f)
{
    for (size_t i = 0; i < f->n; i++) {
        int rc = apply_attempt(s, f, &f->row[i], NULL);

        if (rc != SQLITE_OK)
            return rc;
        if (sqlite3_changes(s->db) == 0)
            /* Somebody else wrote rows; a new opening counts them. */
            return ledger_sql_fail(s, SQLITE_CONSTRAINT);
    }
    return f->charged ? apply_charge(s, &f->charge, false) : SQLITE_OK;
}

int
ledger_apply_again(struct ledger_sql *s, const struct ledger_flight *f)
{
    bool absent = false;

    for (size_t i = 0; i < f->n; i++) {
        int rc;

        if (!f->row[i].in_air)
            continue;
        if ((rc = apply_attempt(s, f, &f->row[i], NULL)) != SQLITE_OK)
            return rc;
        absent = absent || sqlite3_changes(s->db) > 0;
    }
    return absent && f->charged ? apply_charge(s, &f->charge, false)
                                : SQLITE_OK;
}

static int
apply_ending(struct ledger_sql *s, const struct attempt_result *r, bool *marked)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_FINISH);
    int rc;

    if (st == NULL)
        return ledger_sql_run(s, NULL);
    sqlite3_bind_int64(st, 1, r->row);
    ledger_sql_bind_text(st, 2, ledger_sql_outcome(r->kind));
    ledger_sql_bind_text(st, 3, ledger_sql_stage(r->stage));
    sqlite3_bind_int(st, 4, r->code);
    ledger_sql_bind_text(st, 5, r->enhanced);
    ledger_sql_bind_text(st, 6, r->reply);
    sqlite3_bind_int64(st, 7, r->duration_ms);
    rc = ledger_sql_run(s, st);
    if (rc == SQLITE_OK && sqlite3_changes(s->db) > 0)
        *marked = true;
    return rc;
}

/* Nothing was given back, the bucket is the same, and what was charged is
 * there: as nearly always. */
static bool
stands_as_it_was(const struct ledger_sql *s, const struct ledger_entry *e)
{
    const struct taken *before = &e->before, *after = &e->after;

    if (!e->charged_before || !e->charged_after ||
        e->ending[0].row <= s->forgotten_row)
        return false;
    if (before->n != after->n || recipients_until_ms(after) != 0)
        return false;
    for (unsigned i = 0; i < after->n; i++)
        if (before->charge[i].dimension != after->charge[i].dimension ||
            before->charge[i].window_ms != after->charge[i].window_ms ||
            before->charge[i].bucket != after->charge[i].bucket ||
            before->charge[i].units != after->charge[i].units)
            return false;
    return true;
}

static int
apply_finish(struct ledger_sql *s, const struct ledger_entry *e)
{
    bool marked = false;

    for (size_t i = 0; i < e->n; i++) {
        int rc = apply_ending(s, &e->ending[i], &marked);

        if (rc != SQLITE_OK)
            return rc;
    }
    if (stands_as_it_was(s, e))
        return SQLITE_OK;
    if (marked && e->charged_before) {
        int rc = apply_give_back(s, &e->before);

        if (rc != SQLITE_OK)
            return rc;
    }
    return marked && e->charged_after ? apply_charge(s, &e->after, true)
                                      : SQLITE_OK;
}

static int
apply_undo(struct ledger_sql *s, const struct ledger_flight *f)
{
    bool marked = false;

    for (size_t i = 0; i < f->n; i++) {
        struct attempt_result r = {
            .row = f->row[i].row,
            .kind = OUTCOME_DEFERRED,
            .stage = STAGE_CONNECT,
            .enhanced = "",
            .reply = "never sent: the ledger could not be written",
        };
        int rc = apply_ending(s, &r, &marked);

        if (rc != SQLITE_OK)
            return rc;
    }
    return marked && f->charged ? apply_give_back(s, &f->charge) : SQLITE_OK;
}

static int
apply_note(struct ledger_sql *s, const struct ledger_entry *e)
{
    for (size_t i = 0; i < e->flight->n; i++) {
        int rc = apply_attempt(s, e->flight, &e->flight->row[i], &e->ending[i]);

        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}

static int
apply_state(struct ledger_sql *s, const struct ledger_entry *e)
{
    bool clear = e->state == ACCOUNT_OK;
    sqlite3_stmt *st;
    int rc = apply_name(s, e->account, e->identity);

    if (rc != SQLITE_OK)
        return rc;
    st = ledger_sql_get(s, clear ? SQL_STATE_CLEAR : SQL_STATE_SET);
    if (st == NULL)
        return ledger_sql_run(s, NULL);
    ledger_sql_bind_u64(st, 1, e->account);
    if (!clear) {
        ledger_sql_bind_text(st, 2, ledger_sql_state(e->state));
        ledger_sql_bind_u64(st, 3, e->until_ms);
        ledger_sql_bind_text(st, 4, e->reason);
        sqlite3_bind_int64(st, 5, e->changed_ms);
        sqlite3_bind_int64(st, 6, e->rests);
    }
    return ledger_sql_run(s, st);
}

/* A statement of an account and at most one more number. */
static int
apply_account(struct ledger_sql *s, enum ledger_sql_statement w,
              uint64_t account, uint64_t number)
{
    sqlite3_stmt *st = ledger_sql_get(s, w);

    if (st == NULL)
        return ledger_sql_run(s, NULL);
    ledger_sql_bind_u64(st, 1, account);
    if (sqlite3_bind_parameter_count(st) > 1)
        ledger_sql_bind_u64(st, 2, number);
    return ledger_sql_run(s, st);
}

static int
apply_observe(struct ledger_sql *s, const struct ledger_entry *e)
{
    const struct observation *o = e->observed;
    int rc = apply_name(s, o->id, e->identity);

    for (unsigned i = 0; i < o->n && rc == SQLITE_OK; i++) {
        sqlite3_stmt *st = ledger_sql_get(
            s, e->lifted ? SQL_OBSERVED_CLEAR : SQL_OBSERVED_SET);

        if (st == NULL)
            return ledger_sql_run(s, NULL);
        ledger_sql_bind_u64(st, 1, o->id);
        sqlite3_bind_int(st, 2, (int)o->window[i].dimension);
        ledger_sql_bind_u64(st, 3, o->window[i].window_ms);
        if (!e->lifted) {
            ledger_sql_bind_u64(st, 4, o->window[i].used);
            ledger_sql_bind_u64(st, 5, o->at_ms);
        }
        rc = ledger_sql_run(s, st);
    }
    return rc;
}

static int
apply_divert(struct ledger_sql *s, const struct ledger_entry *e)
{
    sqlite3_stmt *st;
    int rc;

    if (e->other == 0)
        return apply_account(s, SQL_DIVERT_CLEAR, e->account, 0);
    if ((rc = apply_name(s, e->account, e->identity)) != SQLITE_OK ||
        (rc = apply_name(s, e->other, e->other_identity)) != SQLITE_OK)
        return rc;
    if ((st = ledger_sql_get(s, SQL_DIVERT_SET)) == NULL)
        return ledger_sql_run(s, NULL);
    ledger_sql_bind_u64(st, 1, e->account);
    ledger_sql_bind_u64(st, 2, e->other);
    sqlite3_bind_int64(st, 3, e->changed_ms);
    return ledger_sql_run(s, st);
}

static int
apply_forget(struct ledger_sql *s, uint64_t account)
{
    static const enum ledger_sql_statement all[] = {
        SQL_FORGET_SPENT, SQL_FORGET_MAILED, SQL_FORGET_OBSERVED,
        SQL_FORGET_RESTS, SQL_FORGET_COOLING};
    int rc = ledger_sql_number(s, SQL_LAST_ROW, &s->forgotten_row);

    for (size_t i = 0; i < sizeof all / sizeof *all && rc == SQLITE_OK; i++)
        rc = apply_account(s, all[i], account, 0);
    return rc;
}

static int
apply_recover(struct ledger_sql *s, struct ledger_entry *e)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_RECOVER);
    int rc;

    if (st == NULL)
        return ledger_sql_run(s, NULL);
    sqlite3_bind_int64(st, 1, e->upto_row);
    rc = ledger_sql_run(s, st);
    if (rc == SQLITE_OK)
        e->n_changed = (uint64_t)sqlite3_changes64(s->db);
    return rc;
}

int
ledger_apply_mark(struct ledger_sql *s, const struct ledger_mark *m)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_MARK);

    if (st != NULL) {
        ledger_sql_bind_u64(st, 1, m->boot_id[0]);
        ledger_sql_bind_u64(st, 2, m->boot_id[1]);
        sqlite3_bind_int(st, 3, m->begun);
    }
    return ledger_sql_run(s, st);
}

/* For people: what was charged last, all accounts together. */
static int
apply_loss(struct ledger_sql *s, const struct ledger_entry *e)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_LOSS_SET);
    uint64_t messages = 0, recipients = 0, octets = 0;

    if (st == NULL)
        return ledger_sql_run(s, NULL);
    for (size_t i = 0; i < e->n_lost; i++) {
        messages += e->lost[i].cost.messages;
        recipients += e->lost[i].cost.recipients;
        octets += e->lost[i].cost.bytes;
    }
    sqlite3_bind_int64(st, 1, e->changed_ms);
    ledger_sql_bind_u64(st, 2, e->n_lost);
    ledger_sql_bind_u64(st, 3, messages);
    ledger_sql_bind_u64(st, 4, recipients);
    ledger_sql_bind_u64(st, 5, octets);
    return ledger_sql_run(s, st);
}

static int
apply_boot(struct ledger_sql *s, const struct ledger_entry *e)
{
    int rc = SQLITE_OK;

    for (size_t i = 0; i < e->n_lost && rc == SQLITE_OK; i++)
        rc = apply_charge(s, &e->lost[i], true);
    if (rc == SQLITE_OK && e->n_lost > 0)
        rc = apply_loss(s, e);
    return rc == SQLITE_OK ? ledger_apply_mark(s, &e->mark) : rc;
}

static int
apply_clock(struct ledger_sql *s, const struct ledger_entry *e)
{
    sqlite3_stmt *st = ledger_sql_get(s, SQL_BEHIND_SET);

    if (st != NULL)
        sqlite3_bind_int64(st, 1, e->behind_ms);
    return ledger_sql_run(s, st);
}

int
ledger_apply(struct ledger_sql *s, struct ledger_entry *e)
{
    switch (e->kind) {
    case ENTRY_BEGIN:
        return apply_begin(s, e->flight);
    case ENTRY_FINISH:
        return apply_finish(s, e);
    case ENTRY_NOTE:
        return apply_note(s, e);
    case ENTRY_UNDO:
        return apply_undo(s, e->flight);
    case ENTRY_STATE:
        return apply_state(s, e);
    case ENTRY_RESTED:
        return apply_account(s, SQL_RESTED, e->account, e->until_ms);
    case ENTRY_OBSERVE:
        return apply_observe(s, e);
    case ENTRY_DIVERT:
        return apply_divert(s, e);
    case ENTRY_FORGET:
        return apply_forget(s, e->account);
    case ENTRY_RECOVER:
        return apply_recover(s, e);
    case ENTRY_BOOT:
        return apply_boot(s, e);
    case ENTRY_CLOCK:
        return apply_clock(s, e);
    case ENTRY_END:
        return ledger_apply_mark(s, &e->mark);
    }
    return SQLITE_MISUSE;
}
