/* policy/outcome.c - see outcome.h.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/outcome.h"

#include <stdio.h>
#include <string.h>

#include "policy/outcome_table.h"

enum { MINUTE_MS = 60000 };

const char *
smtp_stage_name(enum smtp_stage s)
{
    static const char *const names[STAGE_COUNT] = {
        [STAGE_CONNECT] = "connect",   [STAGE_EHLO] = "ehlo",
        [STAGE_STARTTLS] = "starttls", [STAGE_AUTH] = "auth",
        [STAGE_MAIL] = "mail",         [STAGE_RCPT] = "rcpt",
        [STAGE_DATA] = "data",         [STAGE_CONTENT] = "content",
        [STAGE_RSET] = "rset",
    };

    return (unsigned)s < STAGE_COUNT ? names[s] : "?";
}

const char *
outcome_kind_name(enum outcome_kind k)
{
    static const char *const names[OUTCOME_KINDS] = {
        [OUTCOME_SENT] = "sent",           [OUTCOME_REFUSED] = "refused",
        [OUTCOME_DEFERRED] = "deferred",   [OUTCOME_IN_DOUBT] = "in_doubt",
        [OUTCOME_RECONNECT] = "reconnect", [OUTCOME_SPLIT] = "split",
    };

    return (unsigned)k < OUTCOME_KINDS ? names[k] : "?";
}

/* ---- the verdict ---- */

/* Is this the reply that the stage waits for? */
static bool
is_accepted(enum smtp_stage stage, unsigned code)
{
    switch (stage) {
    case STAGE_STARTTLS:
        return code == 220; /* RFC 3207 4 */
    case STAGE_AUTH:
        return code == 235; /* RFC 4954 4; nothing is sent before it */
    case STAGE_DATA:
        return code == 354;
    default:
        return code >= 200 && code <= 299;
    }
}

static bool
row_matches(const struct outcome_row *row, enum smtp_stage stage,
            const struct reply *r, struct slice keyword)
{
    if ((row->stages & 1u << stage) == 0)
        return false;
    if (row->code != 0 && row->code != r->code)
        return false;
    if (row->enhanced != 0 &&
        row->enhanced != ENHANCED(r->enhanced.klass, r->enhanced.subject,
                                  r->enhanced.detail))
        return false;
    if (row->keyword != NULL && !slice_eq(keyword, slice_of(row->keyword)))
        return false;
    return row->text == NULL || strcasestr(r->text, row->text) != NULL;
}

/* A 2xx or 3xx that the stage does not wait for, or no reply code at all:
 * replies and commands have come apart. */
static struct verdict
judge_out_of_step(enum smtp_stage stage)
{
    struct verdict v = {
        .kind = OUTCOME_DEFERRED,
        .scope = SCOPE_SESSION,
        .close_session = true,
        .meaning = "a reply that does not fit the command",
    };

    if (stage == STAGE_CONTENT) {
        v.kind = OUTCOME_IN_DOUBT;
        v.scope = SCOPE_MESSAGE;
    }
    return v;
}

/* What no row knows. */
static struct verdict
judge_by_class(enum smtp_stage stage, unsigned code)
{
    bool lasting = code >= 500;
    struct verdict v = {.kind = OUTCOME_DEFERRED};

    switch (stage) {
    case STAGE_AUTH: /* never a reason to bounce mail */
        v.scope = SCOPE_ACCOUNT;
        v.effect = EFFECT_COOL;
        v.cool_ms = lasting ? 15 * MINUTE_MS : MINUTE_MS;
        v.close_session = true;
        v.meaning = "the login failed";
        break;
    case STAGE_MAIL:
    case STAGE_DATA:
    case STAGE_CONTENT:
        v.kind = lasting ? OUTCOME_REFUSED : OUTCOME_DEFERRED;
        v.scope = SCOPE_MESSAGE;
        v.meaning = lasting ? "Gmail refused the message"
                            : "Gmail does not take the message now";
        break;
    case STAGE_RCPT:
        v.kind = lasting ? OUTCOME_REFUSED : OUTCOME_DEFERRED;
        v.scope = SCOPE_RECIPIENT;
        v.meaning = lasting ? "Gmail refused the recipient"
                            : "Gmail does not take the recipient now";
        break;
    case STAGE_RSET:
        v.kind = OUTCOME_RECONNECT;
        v.scope = SCOPE_SESSION;
        v.close_session = true;
        v.meaning = "the session could not be reset";
        break;
    default:
        v.scope = SCOPE_CLIENT;
        v.close_session = true;
        v.meaning = "Gmail does not take the connection";
        break;
    }
    return v;
}

/* What holds for every verdict, whichever row it comes from. */
static struct verdict
settle(struct verdict v, enum smtp_stage stage, unsigned code, bool oauth)
{
    /* A reply to RCPT speaks for that recipient alone, one to anything else
     * for all of them. */
    if (v.scope == SCOPE_RECIPIENT && stage != STAGE_RCPT)
        v.scope = SCOPE_MESSAGE;
    if (v.kind == OUTCOME_REFUSED && stage == STAGE_RCPT)
        v.scope = SCOPE_RECIPIENT;
    if (v.kind == OUTCOME_REFUSED && code < 500)
        v.kind = OUTCOME_DEFERRED;
    if (v.effect == EFFECT_TOKEN && !oauth)
        v.effect = EFFECT_DISABLE; /* a password does not mend itself */
    if (code == 421)
        v.close_session = true; /* RFC 5321 3.8 */
    return v;
}

struct verdict
outcome_judge(enum smtp_stage stage, const struct reply *r, bool oauth)
{
    struct slice keyword;

    if (r->code == 0)
        return outcome_judge_lost(stage, false, stage == STAGE_CONTENT);
    if (is_accepted(stage, r->code))
        return (struct verdict){
            .kind = OUTCOME_SENT,
            .scope = stage == STAGE_RCPT ? SCOPE_RECIPIENT : SCOPE_MESSAGE,
            .meaning = "accepted",
        };
    keyword = reply_keyword(r);
    if (r->code >= 300)
        for (size_t i = 0; i < outcome_table_rows; i++)
            if (row_matches(&outcome_table[i], stage, r, keyword))
                return settle(outcome_table[i].verdict, stage, r->code, oauth);
    if (r->code < 400 || r->code > 599)
        return judge_out_of_step(stage);
    return settle(judge_by_class(stage, r->code), stage, r->code, oauth);
}

struct verdict
outcome_judge_lost(enum smtp_stage stage, bool reused, bool content_sent)
{
    struct verdict v = {
        .kind = OUTCOME_DEFERRED,
        .scope = SCOPE_SESSION,
        .close_session = true,
        .meaning = "the connection was lost",
    };

    if (content_sent) {
        v.kind = OUTCOME_IN_DOUBT;
        v.scope = SCOPE_MESSAGE;
        v.meaning = "the connection was lost before Gmail answered: the "
                    "message may have been accepted";
    } else if (reused && (stage == STAGE_MAIL || stage == STAGE_RSET)) {
        v.kind = OUTCOME_RECONNECT;
        v.meaning = "the session had gone stale";
    } else if (stage <= STAGE_STARTTLS) {
        v.scope = SCOPE_CLIENT;
        v.meaning = "no session with Gmail: the connection was lost";
    }
    return v;
}

struct verdict
outcome_suspected(void)
{
    return (struct verdict){
        .kind = OUTCOME_DEFERRED,
        .scope = SCOPE_ACCOUNT,
        .effect = EFFECT_COOL,
        .cool_ms = OUTCOME_SUSPECT_MS,
        .meaning = "Gmail takes one message after the other for unsolicited "
                   "mail",
    };
}

/* ---- the answer to the MTA ---- */

struct line_head {
    unsigned code, subject, detail; /* the class is the code's first digit */
    bool passed; /* Gmail's own code: its text alone says it all */
};

/* The enhanced code of a verdict without one: RFC 3463 3. */
static void
default_enhanced(struct line_head *h, const struct verdict *v)
{
    if (v->kind == OUTCOME_SENT || v->kind == OUTCOME_REFUSED)
        return; /* x.0.0 */
    if (v->kind == OUTCOME_SPLIT) {
        h->subject = 5, h->detail = 3; /* too many recipients */
        return;
    }
    switch (v->scope) {
    case SCOPE_RECIPIENT:
        h->subject = 2; /* mailbox */
        break;
    case SCOPE_MESSAGE:
        break;
    case SCOPE_SESSION:
        h->subject = 4, h->detail = 2; /* bad connection */
        break;
    case SCOPE_CLIENT:
        h->subject = 4; /* network and routing */
        break;
    case SCOPE_ACCOUNT:
    case SCOPE_ORGANISATION:
        h->subject = 7; /* security or policy */
        break;
    }
}

static bool
may_pass(enum outcome_kind kind, unsigned code)
{
    switch (kind) {
    case OUTCOME_SENT:
        return code == 250;
    case OUTCOME_REFUSED: /* the others speak of sessions, not of mail */
        return code >= 550 && code <= 555;
    case OUTCOME_DEFERRED:
    case OUTCOME_SPLIT:
        return code >= 450 && code <= 452;
    default:
        return false;
    }
}

static struct line_head
head_of(const struct verdict *v, const struct reply *r)
{
    struct line_head h = {.code = 451};

    h.passed = r != NULL && may_pass(v->kind, r->code);
    if (h.passed)
        h.code = r->code;
    else if (v->kind == OUTCOME_SENT)
        h.code = 250;
    else if (v->kind == OUTCOME_REFUSED)
        h.code = 550;

    if (v->kind == OUTCOME_IN_DOUBT || v->kind == OUTCOME_RECONNECT) {
        h.subject = 4, h.detail = 2; /* bad connection */
    } else if (r != NULL && r->enhanced.klass != 0 &&
               (h.code == 250) == (r->enhanced.klass == 2)) {
        h.subject = r->enhanced.subject % 1000u;
        h.detail = r->enhanced.detail % 1000u;
    } else {
        default_enhanced(&h, v);
    }
    return h;
}

/* Writes the part behind the codes, cut at the end when it is too long. */
static void
write_text(char *text, int size, const struct verdict *v, const struct reply *r,
           bool passed)
{
    const char *meaning =
        v->meaning != NULL && v->meaning[0] != '\0' ? v->meaning : "no reason";
    bool said = r != NULL && r->code != 0;
    size_t room = (size_t)size;

    if (passed && r->text[0] != '\0')
        snprintf(text, room, "%.*s", size, r->text);
    else if (!said && r != NULL && r->text[0] != '\0')
        snprintf(text, room, "%s (%.*s)", meaning, size, r->text);
    else if (passed || !said || v->kind == OUTCOME_SENT)
        snprintf(text, room, "%s", meaning);
    else if (r->enhanced.klass != 0)
        snprintf(text, room, "%s (%u %u.%u.%u %.*s)", meaning, r->code,
                 r->enhanced.klass, r->enhanced.subject, r->enhanced.detail,
                 size, r->text);
    else
        snprintf(text, room, "%s (%u %.*s)", meaning, r->code, size, r->text);
}

size_t
outcome_lmtp_reply(const struct verdict *v, const struct reply *r,
                   char ret[LMTP_REPLY_MAX])
{
    struct line_head h = head_of(v, r);
    size_t room = LMTP_REPLY_MAX - 2, n; /* CRLF goes behind */

    n = (size_t)snprintf(ret, room, "%u %u.%u.%u ", h.code, h.code / 100,
                         h.subject, h.detail);
    write_text(ret + n, (int)(room - n), v, r, h.passed);
    for (; ret[n] != '\0'; n++)
        if (ret[n] < ' ' || ret[n] > '~')
            ret[n] = '?'; /* one line, whatever a reply was built from */
    memcpy(ret + n, "\r\n", 3);
    return n + 2;
}
