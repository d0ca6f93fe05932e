/* policy/outcome_table.c - what Gmail is known to answer, a row for each.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Sources: Google, "Gmail SMTP errors and codes" (support.google.com/a/
 * answer/3726730), "SMTP relay: error messages" (answer/6140680), "Gmail
 * sending limits" (answer/166852); published logs for the wording.
 *
 * The wording drifts, the keyword in the help link does not; so a row names
 * code, enhanced code and keyword where they suffice, and a piece of the text
 * only where nothing else tells two replies apart.
 *
 * Here an EFFECT_TOKEN means "login refused"; a reply about a recipient is
 * about the message outside RCPT: outcome_judge() settles both.
 */
#include "policy/outcome_table.h"

#define AT(stage) (1u << STAGE_##stage)
#define ANY       ((1u << STAGE_COUNT) - 1)
#define MAILING   (AT(MAIL) | AT(RCPT) | AT(DATA) | AT(CONTENT))

#define E(klass, subject, detail) ENHANCED(klass, subject, detail)

#define MINUTES(n) ((n)*60000ull)
#define HOURS(n)   ((n)*3600000ull)

/* Send again now, on a new session. */
#define AGAIN(why)                                         \
    {                                                      \
        .kind = OUTCOME_RECONNECT, .scope = SCOPE_SESSION, \
        .close_session = true, .meaning = why              \
    }
#define LATER(whose, why)                                                \
    {                                                                    \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_##whose, .meaning = why \
    }
#define REST(whose, ms, why)                                 \
    {                                                        \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_##whose,    \
        .effect = EFFECT_COOL, .cool_ms = ms, .meaning = why \
    }
#define FULL(whose, ms, why)                                               \
    {                                                                      \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_##whose,                  \
        .effect = EFFECT_COOL, .cool_ms = ms, .full = true, .meaning = why \
    }
/* The same of the account's own limits of a day. */
#define FULL_DAY(why)                                             \
    {                                                             \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT,         \
        .effect = EFFECT_COOL, .cool_ms = HOURS(1), .full = true, \
        .daily = true, .meaning = why                             \
    }
/* Too many sessions, or too fast. */
#define CROWDED(ms, why)                                              \
    {                                                                 \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT,             \
        .effect = EFFECT_COOL, .cool_ms = ms, .halve_sessions = true, \
        .close_session = true, .meaning = why                         \
    }
#define LOGIN(why)                                                    \
    {                                                                 \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT,             \
        .effect = EFFECT_TOKEN, .close_session = true, .meaning = why \
    }
/* A person must look at the account. */
#define PERSON(why)                                                     \
    {                                                                   \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT,               \
        .effect = EFFECT_DISABLE, .close_session = true, .meaning = why \
    }
/* Our program or its settings are wrong: the mail waits until they are not. */
#define OURS(why)                                        \
    {                                                    \
        .kind = OUTCOME_DEFERRED, .scope = SCOPE_CLIENT, \
        .close_session = true, .meaning = why            \
    }
#define BOUNCE(whose, why)                                              \
    {                                                                   \
        .kind = OUTCOME_REFUSED, .scope = SCOPE_##whose, .meaning = why \
    }
/* The same, of a message that makes the account suspicious. */
#define SUSPECT(why)                                                      \
    {                                                                     \
        .kind = OUTCOME_REFUSED, .scope = SCOPE_MESSAGE, .suspect = true, \
        .meaning = why                                                    \
    }
#define SPLIT(why)                                                      \
    {                                                                   \
        .kind = OUTCOME_SPLIT, .scope = SCOPE_RECIPIENT, .meaning = why \
    }

/* clang-format off */
const struct outcome_row outcome_table[] = {
    /* ---- first, what repeats an address: a stranger chose it, and must not
     * choose the row by writing a keyword or a phrase into it ---- */
    {MAILING, 553, E(5, 1, 7), NULL, NULL,
     BOUNCE(MESSAGE, "the envelope sender is not a valid address")},
    {MAILING, 553, E(5, 1, 2), NULL, "recipient domain",
     BOUNCE(RECIPIENT, "the recipient's domain was not found")},
    {MAILING, 553, 0, NULL, NULL,
     BOUNCE(RECIPIENT, "the recipient's address is not valid")},
    {AT(RCPT), 555, E(5, 5, 2), NULL, "goodbye",
     {.kind = OUTCOME_REFUSED, .scope = SCOPE_RECIPIENT,
      .close_session = true,
      .meaning = "Gmail cannot read the recipient's address"}},
    {AT(RCPT), 555, 0, NULL, NULL,
     BOUNCE(RECIPIENT, "Gmail cannot read the recipient's address")},
    {ANY, 555, 0, NULL, NULL,
     OURS("Gmail cannot read our command")},

    /* ---- the session ---- */
    {ANY, 421, E(4, 7, 0), NULL, "connection expired",
     AGAIN("the session had expired")},
    {ANY, 451, E(4, 4, 2), NULL, NULL,
     AGAIN("the session had timed out")},
    {ANY, 421, E(4, 4, 5), NULL, NULL,
     {.kind = OUTCOME_DEFERRED, .scope = SCOPE_SESSION,
      .effect = EFFECT_COOL, .cool_ms = MINUTES(1), .close_session = true,
      .meaning = "Gmail is busy"}},
    {ANY, 421, 0, NULL, "temporary system problem",
     CROWDED(MINUTES(5), "temporary system problem at Gmail: too many "
                         "sessions or too fast")},
    {ANY, 421, E(4, 3, 0), NULL, NULL,
     CROWDED(MINUTES(5), "temporary system problem at Gmail: too many "
                         "sessions or too fast")},
    {ANY, 421, E(4, 7, 0), NULL, "try again later, closing connection",
     {.kind = OUTCOME_DEFERRED, .scope = SCOPE_CLIENT,
      .effect = EFFECT_COOL, .cool_ms = MINUTES(5), .close_session = true,
      .meaning = "Gmail turns this host away: is its EHLO name a real one?"}},
    {AT(RCPT), 421, E(4, 7, 0), NULL, "required for rcpt domain",
     LATER(RECIPIENT, "the recipient's domain demands TLS of the sender")},
    {AT(RCPT), 421, E(4, 7, 0), NULL, "whitelist for rcpt domain",
     LATER(RECIPIENT, "the recipient's domain does not allow this host")},
    {AT(AUTH), 503, E(5, 7, 0), NULL, "identity change",
     AGAIN("the session was logged in already")},

    /* ---- too much at once: see also the limits below ---- */
    {MAILING, 421, E(4, 7, 28), NULL, "same message-id",
     REST(MESSAGE, HOURS(1), "too many messages with one Message-ID")},
    {MAILING, 421, 0, "UnsolicitedRateLimitError", NULL,
     REST(ACCOUNT, HOURS(1), "Gmail limits the rate: it suspects unsolicited "
                             "mail")},
    {MAILING, 421, E(4, 7, 28), NULL, NULL,
     REST(ACCOUNT, HOURS(1), "Gmail limits the rate: it suspects unsolicited "
                             "mail")},
    {MAILING, 0, 0, "UnsolicitedRateLimitError", NULL,
     REST(ACCOUNT, HOURS(4), "Gmail blocks for a while: an unusual rate of "
                             "unsolicited mail")},
    {MAILING, 0, 0, "UnsolicitedIPError", NULL,
     REST(CLIENT, HOURS(4), "Gmail blocks this host for a while: an unusual "
                            "rate of unsolicited mail")},
    {MAILING, 550, E(5, 7, 28), NULL, NULL,
     REST(CLIENT, HOURS(4), "Gmail blocks this host for a while: an unusual "
                            "rate of unsolicited mail")},
    {MAILING, 550, E(5, 7, 1), NULL, "unusual rate of",
     REST(CLIENT, HOURS(4), "Gmail blocks this host for a while: an unusual "
                            "rate of unsolicited mail")},

    /* ---- sender authentication: known from Gmail's MX hosts alone ---- */
    {MAILING, 0, E(4, 7, 23), NULL, NULL,
     LATER(CLIENT, "rate limited: no matching PTR record")},
    {MAILING, 0, E(4, 7, 24), NULL, NULL,
     LATER(CLIENT, "rate limited: the SPF record is not good")},
    {MAILING, 0, E(4, 7, 26), NULL, NULL,
     LATER(CLIENT, "rate limited: neither SPF nor DKIM passed")},
    {MAILING, 0, E(4, 7, 27), NULL, NULL,
     LATER(CLIENT, "rate limited: SPF did not pass")},
    {MAILING, 0, E(4, 7, 29), NULL, NULL,
     LATER(CLIENT, "rate limited: sent without TLS")},
    {MAILING, 0, E(4, 7, 30), NULL, NULL,
     LATER(CLIENT, "rate limited: DKIM did not pass")},
    {MAILING, 0, E(4, 7, 32), NULL, NULL,
     LATER(CLIENT, "rate limited: From is not aligned with SPF or DKIM")},
    {MAILING, 550, E(5, 7, 25), NULL, NULL,
     BOUNCE(MESSAGE, "no matching PTR record")},
    {MAILING, 550, E(5, 7, 26), NULL, NULL,
     BOUNCE(MESSAGE, "the message fails SPF, DKIM or DMARC")},
    {MAILING, 550, E(5, 7, 27), NULL, NULL,
     BOUNCE(MESSAGE, "SPF did not pass")},
    {MAILING, 550, E(5, 7, 29), NULL, NULL,
     BOUNCE(MESSAGE, "sent without TLS")},
    {MAILING, 550, E(5, 7, 30), NULL, NULL,
     BOUNCE(MESSAGE, "DKIM did not pass")},

    /* ---- login ---- */
    {AT(AUTH), 334, 0, NULL, "eyJ",
     LOGIN("Gmail refused the access token")},
    {ANY, 535, E(5, 5, 4), NULL, NULL,
     OURS("Gmail did not take the form of AUTH")},
    {AT(AUTH), 0, 0, "InvalidSecondFactor", NULL,
     PERSON("Gmail wants an application password or OAuth2")},
    {ANY, 535, 0, NULL, "application-specific password",
     PERSON("Gmail wants an application password or OAuth2")},
    {ANY, 534, 0, NULL, "application-specific password",
     PERSON("Gmail wants an application password or OAuth2")},
    {ANY, 534, E(5, 7, 14), NULL, NULL,
     PERSON("Gmail wants somebody to log in with a web browser")},
    {ANY, 534, 0, NULL, "web browser",
     PERSON("Gmail wants somebody to log in with a web browser")},
    {ANY, 534, 0, NULL, NULL,
     PERSON("Gmail does not let this account log in so")},
    {ANY, 535, 0, NULL, NULL,
     LOGIN("Gmail refused the login")},
    {ANY, 454, E(4, 7, 0), NULL, "too many login attempts",
     CROWDED(MINUTES(15), "too many logins")},
    {ANY, 454, E(4, 7, 0), NULL, "temporary system problem",
     {.kind = OUTCOME_DEFERRED, .scope = SCOPE_ACCOUNT,
      .effect = EFFECT_COOL, .cool_ms = MINUTES(1), .close_session = true,
      .meaning = "Gmail cannot check logins now"}},
    {AT(AUTH), 501, 0, NULL, NULL,
     OURS("Gmail could not read our answer to AUTH")},
    {AT(MAIL), 0, 0, "WantAuthError", NULL,
     OURS("mail was sent before the login")},
    {ANY, 530, 0, NULL, "starttls",
     OURS("Gmail wants STARTTLS first")},
    {ANY, 530, 0, NULL, NULL,
     OURS("mail was sent before the login")},

    /* ---- limits and rights of the account ---- */
    {ANY, 450, E(4, 2, 1), NULL, "relay limit exceeded",
     FULL(ORGANISATION, MINUTES(10), "the organisation's relay limit for ten "
                                     "minutes is reached")},
    {ANY, 550, E(5, 7, 1), NULL, "limit exceeded for customer",
     FULL(ORGANISATION, HOURS(1), "the organisation's daily relay limit is "
                                  "reached")},
    {ANY, 550, E(5, 4, 5), NULL, "relay limit exceeded",
     FULL_DAY("the account's daily relay limit is reached")},
    {ANY, 0, E(5, 4, 5), NULL, NULL,
     FULL_DAY("the account's daily sending limit is reached")},
    {ANY, 550, 0, NULL, "user sending limit exceeded",
     FULL_DAY("the account's daily sending limit is reached")},
    {ANY, 550, 0, NULL, "sending quota exceeded",
     FULL_DAY("the account's daily sending limit is reached")},
    {ANY, 550, 0, NULL, "relay limit exceeded",
     FULL_DAY("the account's daily relay limit is reached")},
    {ANY, 550, 0, NULL, "reached a limit for sending mail",
     FULL_DAY("the account's daily sending limit is reached")},
    {MAILING, 550, E(5, 7, 1), NULL, "email quota exceeded",
     FULL(ACCOUNT, HOURS(24), "the account's quota is used up; perhaps its "
                              "storage is full")},
    {ANY, 550, 0, NULL, "mail relay denied",
     PERSON("Gmail's relay does not know this account or host")},
    {ANY, 550, 0, NULL, "invalid credentials for relay",
     PERSON("Gmail's relay does not know this account or host")},
    {ANY, 550, E(5, 7, 0), NULL, "mail sending denied",
     PERSON("the account may not send mail")},

    /* ---- too many recipients in one transaction ---- */
    {AT(RCPT), 452, E(4, 5, 3), NULL, NULL,
     SPLIT("too many recipients for one transaction")},
    {AT(RCPT), 0, 0, "TooManyRecipientsError", NULL,
     SPLIT("too many recipients for one transaction")},
    {AT(RCPT), 451, E(4, 3, 0), NULL, "multiple destination domains",
     SPLIT("recipients of several domains in one transaction")},

    /* ---- the message ---- */
    {MAILING, 552, E(5, 3, 4), NULL, "attachments",
     BOUNCE(MESSAGE, "too many attachments")},
    {MAILING, 552, E(5, 3, 4), NULL, "header",
     BOUNCE(MESSAGE, "too many header fields, or too long ones")},
    {MAILING, 552, E(5, 3, 4), NULL, NULL,
     BOUNCE(MESSAGE, "the message is too large")},
    {MAILING, 552, E(5, 2, 3), NULL, NULL,
     BOUNCE(MESSAGE, "the message is too large")},
    {MAILING, 0, 0, "MaxSizeError", NULL,
     BOUNCE(MESSAGE, "the message is too large")},
    {MAILING, 0, 0, "BlockedMessage", NULL,
     BOUNCE(MESSAGE, "Gmail blocks this content, perhaps an attachment")},
    {MAILING, 552, E(5, 7, 0), NULL, NULL,
     BOUNCE(MESSAGE, "Gmail blocks this content, perhaps an attachment")},
    {ANY, 554, E(5, 7, 0), NULL, "unauthenticated commands",
     OURS("too many commands before the login")},
    {MAILING, 554, E(5, 7, 0), NULL, NULL,
     BOUNCE(MESSAGE, "Gmail blocks this content, perhaps an attachment")},
    {MAILING, 0, 0, "UnsolicitedMessageError", NULL,
     SUSPECT("Gmail takes the message for unsolicited mail")},
    {MAILING, 550, E(5, 7, 1), NULL, "unsolicited mail",
     SUSPECT("Gmail takes the message for unsolicited mail")},
    {MAILING, 550, E(5, 7, 1), NULL, "low reputation",
     SUSPECT("Gmail mistrusts the sender: low reputation")},
    {MAILING, 550, E(5, 7, 1), NULL, "policy",
     BOUNCE(MESSAGE, "a policy of the sender's or recipient's organisation "
                     "prohibits it")},
    {MAILING, 0, 0, "RfcMessageNonCompliant", NULL,
     BOUNCE(MESSAGE, "the message breaks RFC 5322: From, Message-ID or "
                     "doubled header fields")},
    {MAILING, 550, E(5, 7, 1), NULL, "RFC 5322",
     BOUNCE(MESSAGE, "the message breaks RFC 5322: From, Message-ID or "
                     "doubled header fields")},
    {MAILING, 0, 0, "MailLoop", NULL,
     BOUNCE(MESSAGE, "the message loops")},
    {MAILING, 554, E(5, 4, 6), NULL, NULL,
     BOUNCE(MESSAGE, "the message loops")},
    {MAILING, 554, E(5, 6, 0), NULL, "hops",
     BOUNCE(MESSAGE, "the message loops")},
    {MAILING, 554, E(5, 6, 0), NULL, NULL,
     BOUNCE(MESSAGE, "the message is malformed")},
    {MAILING, 451, E(4, 3, 0), NULL, NULL,
     LATER(MESSAGE, "Gmail does not take the message now")},

    /* ---- the recipient ---- */
    {MAILING, 0, 0, "NoSuchUser", NULL,
     BOUNCE(RECIPIENT, "no such mailbox")},
    {MAILING, 550, E(5, 1, 1), NULL, NULL,
     BOUNCE(RECIPIENT, "no such mailbox")},
    {MAILING, 0, 0, "ReceivingRatePerm", NULL,
     BOUNCE(RECIPIENT, "the recipient gets too much mail")},
    {MAILING, 550, E(5, 2, 1), NULL, "at a rate",
     BOUNCE(RECIPIENT, "the recipient gets too much mail")},
    {MAILING, 550, E(5, 2, 1), NULL, NULL,
     BOUNCE(RECIPIENT, "the recipient's mailbox is disabled")},
    {MAILING, 452, E(4, 2, 2), NULL, NULL,
     LATER(RECIPIENT, "the recipient's mailbox is full")},
    {MAILING, 552, E(5, 2, 2), NULL, NULL,
     BOUNCE(RECIPIENT, "the recipient's mailbox is full and inactive")},
    {MAILING, 450, E(4, 2, 1), NULL, NULL,
     LATER(RECIPIENT, "the recipient gets mail too quickly")},

    /* ---- our mistakes ---- */
    {AT(DATA) | AT(CONTENT), 503, 0, NULL, "rcpt first",
     LATER(SESSION, "no recipient of the transaction was accepted")},
    {AT(RCPT) | AT(DATA) | AT(CONTENT), 503, 0, NULL, "mail first",
     LATER(SESSION, "the transaction was not accepted")},
    {AT(EHLO), 501, 0, NULL, NULL,
     OURS("Gmail does not take our EHLO name")},
    {AT(STARTTLS), 501, 0, NULL, NULL,
     OURS("Gmail did not take our STARTTLS")},
    {ANY, 454, E(5, 5, 1), NULL, NULL,
     OURS("STARTTLS was sent twice")},
    {ANY, 454, E(4, 5, 0), NULL, NULL,
     OURS("commands were sent behind STARTTLS")},
    {ANY, 0, E(5, 7, 10), NULL, NULL,
     OURS("commands were sent behind STARTTLS")},
    {ANY, 500, 0, NULL, NULL,
     OURS("Gmail does not know our command")},
    {ANY, 502, 0, NULL, NULL,
     OURS("Gmail does not know our command")},
    {ANY, 503, 0, NULL, NULL,
     OURS("our commands were out of order")},
    {ANY, 504, 0, NULL, NULL,
     OURS("Gmail does not offer this way to log in, or this parameter")},
    {ANY, 523, 0, NULL, NULL,
     OURS("commands were sent behind STARTTLS")},
    {ANY, 525, 0, NULL, NULL,
     OURS("commands were sent behind STARTTLS")},
    {ANY, 538, 0, NULL, NULL,
     OURS("this way to log in needs TLS")},
};
/* clang-format on */

const size_t outcome_table_rows =
    sizeof(outcome_table) / sizeof(outcome_table[0]);
