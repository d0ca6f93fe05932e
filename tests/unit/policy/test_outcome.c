/* tests/unit/policy/test_outcome.c - what Gmail's replies mean, from the wire.
 * SPDX-License-Identifier: Apache-2.0
 */
#include "policy/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/outcome_table.h"

#define SID " x144sm11813878oif.23 - gsmtp\r\n"
#define URL "https://support.google.com/mail/?p="

#define MINUTES(n) ((n)*60000ull)
#define HOURS(n)   ((n)*3600000ull)

enum {
    OAUTH = 1,
    HALVE = 2,
    CLOSE = 4,
    IS_FULL = 8,
    DAILY = 16,
    SUSPICIOUS = 32,
};

struct row {
    const char *name;
    enum smtp_stage stage;
    const char *wire;
    enum outcome_kind kind;
    enum outcome_scope scope;
    enum outcome_effect effect;
    uint64_t cool_ms;
    unsigned flags;  /* OAUTH of the session; the rest of the verdict */
    const char *mta; /* codes of the line that the MTA gets */
};

#define R(name, stage, wire, kind, scope, effect, cool, flags, mta) \
    {                                                               \
        name, STAGE_##stage, wire, OUTCOME_##kind, SCOPE_##scope,   \
            EFFECT_##effect, cool, flags, mta                       \
    }

/* clang-format off */
static const struct row session_rows[] = {
    R("EHLO name", EHLO,
      "421 4.7.0 Try again later, closing connection. (EHLO)" SID,
      DEFERRED, CLIENT, COOL, MINUTES(5), CLOSE, "451 4.7.0"),
    R("EHLO name, 2024", EHLO,
      "421-4.7.0 Try again later, closing connection. (EHLO)\r\n"
      "421 4.7.0  https://support.google.com/mail/answer/10336" SID,
      DEFERRED, CLIENT, COOL, MINUTES(5), CLOSE, "451 4.7.0"),
    R("expired at MAIL", MAIL,
      "421 4.7.0 Connection expired, try reconnecting" SID,
      RECONNECT, SESSION, NONE, 0, CLOSE | OAUTH, "451 4.4.2"),
    R("expired at DATA", DATA,
      "421 4.7.0 Connection expired, try reconnecting" SID,
      RECONNECT, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("idle", MAIL, "451 4.4.2 Timeout - closing connection." SID,
      RECONNECT, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("idle at RSET", RSET, "451 4.4.2 Timeout - closing connection." SID,
      RECONNECT, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("busy", CONNECT, "421 4.4.5 Server busy, try again later." SID,
      DEFERRED, SESSION, COOL, MINUTES(1), CLOSE, "451 4.4.5"),
    R("temporary problem (10)", DATA,
      "421 4.3.0 Temporary System Problem.  Try again later (10)." SID,
      DEFERRED, ACCOUNT, COOL, MINUTES(5), CLOSE | HALVE, "451 4.3.0"),
    R("temporary problem (WS)", CONTENT,
      "421 4.7.0 Temporary System Problem.  Try again later (WS)." SID,
      DEFERRED, ACCOUNT, COOL, MINUTES(5), CLOSE | HALVE, "451 4.7.0"),
    R("TLS for the recipient's domain", RCPT,
      "421 4.7.0 TLS required for RCPT domain, closing connection." SID,
      DEFERRED, RECIPIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("whitelist of the recipient's domain", RCPT,
      "421 4.7.0 IP not in whitelist for RCPT domain, closing connection."
      SID, DEFERRED, RECIPIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("rate limit", CONTENT,
      "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail "
      "originating\r\n421-4.7.28 from your account. To protect our users, "
      "mail has been temporarily rate limited.\r\n"
      "421 4.7.28  " URL "UnsolicitedRateLimitError" SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), CLOSE, "451 4.7.28"),
    R("rate limit, no keyword", CONTENT,
      "421 4.7.28 unusual rate of mail, temporarily rate limited" SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), CLOSE, "451 4.7.28"),
    R("same Message-ID", CONTENT,
      "421 4.7.28 Gmail has detected this message exceeded its quota for "
      "sending messages with the same Message-ID: <a@b>." SID,
      DEFERRED, MESSAGE, COOL, HOURS(1), CLOSE, "451 4.7.28"),
    R("unauthenticated mail", CONTENT,
      "421 4.7.26 This mail has been rate limited because it is "
      "unauthenticated." SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.26"),
    R("SPF", CONTENT, "421 4.7.27 rate limited: SPF did not pass" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.27"),
    R("TLS", CONTENT, "421 4.7.29 rate limited: not sent over TLS" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.29"),
    R("DKIM", CONTENT, "421 4.7.30 rate limited: DKIM did not pass" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.30"),
    R("alignment", CONTENT, "421 4.7.32 rate limited: no alignment" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.32"),
    R("suspicious SPF", CONTENT, "451 4.7.24 The SPF record is suspicious"
      SID, DEFERRED, CLIENT, NONE, 0, 0, "451 4.7.24"),
    R("PTR", CONTENT, "421 4.7.23 no PTR record" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.23"),
    R("empty EHLO", EHLO,
      "501 5.5.4 Empty HELO/EHLO argument not allowed, closing connection."
      SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.4"),
    R("invalid EHLO", EHLO, "501 5.5.4 HELO/EHLO argument x invalid" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.4"),
    R("unrecognized", MAIL, "502 5.5.1 Unrecognized command." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("unimplemented", CONTENT, "502 5.5.1 Unimplemented command." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("too many unrecognized", RCPT,
      "502 5.5.1 Too many unrecognized commands, goodbye." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("EHLO first", MAIL, "503 5.5.1 EHLO/HELO first." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("MAIL first behind a refused MAIL", RCPT, "503 5.5.1 MAIL first." SID,
      DEFERRED, SESSION, NONE, 0, 0, "451 4.5.1"),
    R("RCPT first behind refused RCPTs", DATA,
      "503-5.5.1 RCPT first. A mail transaction protocol command was issued\r\n"
      "503 5.5.1 out of sequence." SID, DEFERRED, SESSION, NONE, 0, 0,
      "451 4.5.1"),
    R("RCPT first, BDAT", CONTENT, "503 5.5.1 RCPT first." SID,
      DEFERRED, SESSION, NONE, 0, 0, "451 4.5.1"),
    R("bad sequence", MAIL, "503 5.5.1 Bad sequence of commands." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("DATA and BDAT", CONTENT, "503 5.5.1 No DATA after BDAT." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("second AUTH", AUTH, "503 5.7.0 No identity changes permitted." SID,
      RECONNECT, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("second STARTTLS", STARTTLS,
      "454 5.5.1 STARTTLS may not be repeated." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("behind STARTTLS", STARTTLS,
      "454 4.5.0 SMTP protocol violation, no commands allowed to pipeline "
      "after STARTTLS" SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.0"),
    R("behind STARTTLS, lasting", STARTTLS,
      "525 5.7.10 SMTP protocol violation, no commands allowed to pipeline "
      "after STARTTLS" SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.10"),
    R("behind STARTTLS, 523", MAIL,
      "523 5.7.10 SMTP protocol violation, no commands allowed to pipeline "
      "after STARTTLS" SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.10"),
    R("syntax at MAIL", MAIL, "555 5.5.2 Syntax error." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.2"),
    R("syntax at RCPT", RCPT, "555 5.5.2 Syntax error." SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "555 5.5.2"),
    R("syntax at RCPT, goodbye", RCPT, "555 5.5.2 Syntax error, goodbye." SID,
      REFUSED, RECIPIENT, NONE, 0, CLOSE, "555 5.5.2"),
    R("cannot decode", AUTH, "501 5.5.2 Cannot Decode response" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.2"),
    R("STARTTLS with a parameter", STARTTLS,
      "501 5.7.11 Syntax error (no parameters allowed)" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.11"),
    R("AUTH argument", AUTH,
      "535 5.5.4 Optional Argument not permitted for that AUTH mode." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE | OAUTH, "451 4.5.4"),
    R("before the login", AUTH,
      "554 5.7.0 Too Many Unauthenticated commands." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("before the login, at MAIL", MAIL,
      "554 5.7.0 Too Many Unauthenticated commands." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
};

static const struct row login_rows[] = {
    R("challenge", AUTH,
      "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0=\r\n",
      DEFERRED, ACCOUNT, TOKEN, 0, OAUTH | CLOSE, "451 4.7.0"),
    R("bad token", AUTH,
      "535-5.7.8 Username and Password not accepted. For more information, "
      "go to\r\n535 5.7.8  " URL "BadCredentials" SID,
      DEFERRED, ACCOUNT, TOKEN, 0, OAUTH | CLOSE, "451 4.7.8"),
    R("bad password", AUTH,
      "535-5.7.8 Username and Password not accepted. Learn more at\r\n"
      "535 5.7.8  " URL "BadCredentials" SID,
      DEFERRED, ACCOUNT, DISABLE, 0, CLOSE, "451 4.7.8"),
    R("bad token, 2012", AUTH,
      "535-5.7.1 Username and Password not accepted. Learn more at\r\n"
      "535 5.7.1 http://support.google.com/mail/bin/answer.py?answer=14257"
      SID, DEFERRED, ACCOUNT, TOKEN, 0, OAUTH | CLOSE, "451 4.7.1"),
    R("second factor", AUTH,
      "534-5.7.9 Application-specific password required. For more "
      "information, go to\r\n534 5.7.9  " URL "InvalidSecondFactor" SID,
      DEFERRED, ACCOUNT, DISABLE, 0, CLOSE, "451 4.7.9"),
    R("second factor, old", AUTH,
      "535-5.7.1 Application-specific password required. Learn more at\r\n"
      "535 5.7.1 http://support.google.com/accounts/bin/answer.py?answer="
      "185833" SID, DEFERRED, ACCOUNT, DISABLE, 0, OAUTH | CLOSE, "451 4.7.1"),
    R("web browser", AUTH,
      "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1"
      "\r\n534-5.7.14 &plt=AKgnsbv> Please log in via your web browser and\r\n"
      "534-5.7.14 then try again.\r\n534-5.7.14  Learn more at\r\n"
      "534 5.7.14  https://support.google.com/mail/answer/78754" SID,
      DEFERRED, ACCOUNT, DISABLE, 0, OAUTH | CLOSE, "451 4.7.14"),
    R("web browser, 5.7.9", AUTH,
      "534 5.7.9 Please log in with your web browser and then try again."
      SID, DEFERRED, ACCOUNT, DISABLE, 0, OAUTH | CLOSE, "451 4.7.9"),
    R("other 534", AUTH, "534 5.7.9 Something else." SID,
      DEFERRED, ACCOUNT, DISABLE, 0, OAUTH | CLOSE, "451 4.7.9"),
    R("too many logins", AUTH,
      "454 4.7.0 Too many login attempts, please try again later." SID,
      DEFERRED, ACCOUNT, COOL, MINUTES(15), HALVE | CLOSE | OAUTH, "451 4.7.0"),
    R("too many logins, newer", AUTH,
      "454-4.7.0 Too many login attempts, please try again later. For more "
      "information, go to\r\n"
      "454 4.7.0  https://support.google.com/mail/answer/7126229" SID,
      DEFERRED, ACCOUNT, COOL, MINUTES(15), HALVE | CLOSE | OAUTH, "451 4.7.0"),
    R("login server fault", AUTH,
      "454 4.7.0 Cannot authenticate due to a temporary system problem. Try "
      "again later." SID, DEFERRED, ACCOUNT, COOL, MINUTES(1), CLOSE | OAUTH,
      "451 4.7.0"),
    R("login server fault, old", AUTH,
      "454 4.7.0 Cannot authenticate due to temporary system problem. Try "
      "again later." SID, DEFERRED, ACCOUNT, COOL, MINUTES(1), CLOSE,
      "451 4.7.0"),
    R("mechanism", AUTH, "504 5.7.4 Unrecognized Authentication Type" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.4"),
    R("XOAUTH", AUTH, "504 5.7.4 XOAUTH is no longer supported" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.4"),
    R("no login", MAIL,
      "530-5.7.0 Authentication Required. For more information, go to\r\n"
      "530 5.7.0  " URL "WantAuthError" SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("no login, old", MAIL, "530 5.5.1 Authentication Required." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.5.1"),
    R("no STARTTLS", MAIL, "530 5.7.0 Must issue a STARTTLS command first."
      SID, DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("no STARTTLS, at AUTH", AUTH,
      "530 5.7.0 Must issue a STARTTLS command first." SID,
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
};

static const struct row limit_rows[] = {
    R("daily limit", CONTENT,
      "550-5.4.5 Daily user sending limit exceeded. For more information on "
      "Gmail\r\n550-5.4.5 sending limits go to\r\n"
      "550 5.4.5  https://support.google.com/a/answer/166852" SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.4.5"),
    R("daily limit at DATA", DATA,
      "550 5.4.5 Daily user sending quota exceeded." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY | OAUTH, "451 4.4.5"),
    R("daily limit at MAIL", MAIL,
      "550 5.4.5 Daily sending quota exceeded." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.4.5"),
    R("daily limit at RCPT", RCPT,
      "550 5.4.5 Daily user sending limit exceeded." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.4.5"),
    R("daily limit, other words", CONTENT, "550 5.4.5 Enough." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.4.5"),
    R("daily limit, other code", CONTENT,
      "550 5.7.0 Daily user sending limit exceeded." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.7.0"),
    R("daily limit, bounce's words", CONTENT,
      "550 5.7.1 You have reached a limit for sending mail." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.7.1"),
    R("relay limit of the user", MAIL,
      "550 5.4.5 Daily SMTP relay limit exceeded for user." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(1), IS_FULL | DAILY, "451 4.4.5"),
    R("relay limit of the customer", RCPT,
      "550 5.7.1 Daily SMTP relay limit exceeded for customer." SID,
      DEFERRED, ORGANISATION, COOL, HOURS(1), IS_FULL, "451 4.7.1"),
    R("relay limit of the customer, sending", RCPT,
      "550 5.7.1 Daily SMTP relay sending limit exceeded for customer." SID,
      DEFERRED, ORGANISATION, COOL, HOURS(1), IS_FULL, "451 4.7.1"),
    R("relay peak", RCPT,
      "450 4.2.1 Peak SMTP relay limit exceeded for customer." SID,
      DEFERRED, ORGANISATION, COOL, MINUTES(10), IS_FULL, "450 4.2.1"),
    R("quota", CONTENT, "550 5.7.1 Email quota exceeded." SID,
      DEFERRED, ACCOUNT, COOL, HOURS(24), IS_FULL, "451 4.7.1"),
    R("relay denied", MAIL,
      "550-5.7.0 Mail relay denied [192.0.2.1]. Invalid credentials for "
      "relay\r\n550-5.7.0 for one of the domains in: example.com (as "
      "obtained from HELO and\r\n550 5.7.0 MAIL FROM)." SID,
      DEFERRED, ACCOUNT, DISABLE, 0, CLOSE, "451 4.7.0"),
    R("relay credentials", RCPT,
      "550 5.7.1 Invalid credentials for relay [192.0.2.1]." SID,
      DEFERRED, ACCOUNT, DISABLE, 0, CLOSE | OAUTH, "451 4.7.1"),
    R("sending denied", MAIL, "550 5.7.0 Mail Sending denied." SID,
      DEFERRED, ACCOUNT, DISABLE, 0, CLOSE, "451 4.7.0"),
    R("too many recipients", RCPT,
      "452-4.5.3 Your message has too many recipients. For more information "
      "regarding\r\n452 4.5.3  " URL "TooManyRecipientsError" SID,
      SPLIT, RECIPIENT, NONE, 0, 0, "452 4.5.3"),
    R("domain policy size", RCPT,
      "452 4.5.3 Domain policy size per transaction exceeded, please try "
      "this recipient in a separate transaction." SID,
      SPLIT, RECIPIENT, NONE, 0, 0, "452 4.5.3"),
    R("several domains", RCPT,
      "451 4.3.0 Multiple destination domains per transaction is "
      "unsupported.  Please try again." SID, SPLIT, RECIPIENT, NONE, 0, 0,
      "451 4.3.0"),
    R("too many recipients, of the whole", CONTENT,
      "452 4.5.3 Your message has too many recipients." SID,
      DEFERRED, MESSAGE, NONE, 0, 0, "452 4.5.3"),
};

static const struct row message_rows[] = {
    R("too large", CONTENT,
      "552-5.2.3 Your message exceeded Google's message size limits. Please "
      "visit\r\n552 5.2.3  " URL "MaxSizeError" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "552 5.2.3"),
    R("too large at MAIL", MAIL,
      "552-5.3.4 Your message exceeded Google's message size limits.\r\n"
      "552 5.3.4  " URL "MaxSizeError" SID, REFUSED, MESSAGE, NONE, 0, 0,
      "552 5.3.4"),
    R("attachments", CONTENT,
      "552 5.3.4 The number of attachments (501) exceeds Google's limit of "
      "500." SID, REFUSED, MESSAGE, NONE, 0, 0, "552 5.3.4"),
    R("header size", CONTENT,
      "552 5.3.4 The size of the header value exceeds Google's limit." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "552 5.3.4"),
    R("blocked", CONTENT,
      "552-5.7.0 This message was blocked because its content presents a "
      "potential\r\n552-5.7.0 security issue. Please visit\r\n"
      "552 5.7.0  " URL "BlockedMessage" SID, REFUSED, MESSAGE, NONE, 0, 0,
      "552 5.7.0"),
    R("blocked, 554", CONTENT,
      "554 5.7.0 This message was blocked. " URL "BlockedMessage" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "554 5.7.0"),
    R("blocked, old", CONTENT, "552 5.7.0 Illegal attachment." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "552 5.7.0"),
    R("unsolicited", CONTENT,
      "550-5.7.1 Our system has detected that this message is likely "
      "unsolicited mail.\r\n550 5.7.1  " URL "UnsolicitedMessageError" SID,
      REFUSED, MESSAGE, NONE, 0, SUSPICIOUS, "550 5.7.1"),
    R("unsolicited, without the keyword", CONTENT,
      "550 5.7.1 This is likely unsolicited mail." SID,
      REFUSED, MESSAGE, NONE, 0, SUSPICIOUS, "550 5.7.1"),
    R("reputation", CONTENT,
      "550 5.7.1 this message is suspicious due to the very low reputation "
      "of the sending domain." SID,
      REFUSED, MESSAGE, NONE, 0, SUSPICIOUS, "550 5.7.1"),
    R("unusual rate", CONTENT,
      "550 5.7.1 Our system has detected an unusual rate of unsolicited mail "
      "originating from your IP address." SID,
      DEFERRED, CLIENT, COOL, HOURS(4), 0, "451 4.7.1"),
    R("unusual rate, 5.7.28", CONTENT,
      "550-5.7.28 Our system has detected an unusual rate of unsolicited "
      "mail.\r\n550 5.7.28  " URL "UnsolicitedIPError" SID,
      DEFERRED, CLIENT, COOL, HOURS(4), 0, "451 4.7.28"),
    R("unusual rate, keyword", CONTENT,
      "550 5.7.1 x " URL "UnsolicitedRateLimitError" SID,
      DEFERRED, ACCOUNT, COOL, HOURS(4), 0, "451 4.7.1"),
    R("policy", CONTENT,
      "550 5.7.1 The user or domain that you are sending to (or from) has a "
      "policy that prohibited the mail that you sent." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.1"),
    R("policy rule", CONTENT,
      "550 5.7.1 This violates Example email policy. - gcdp" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.1"),
    R("policy at RCPT", RCPT,
      "550 5.7.1 The user or domain that you are sending to (or from) has a "
      "policy that prohibited the mail that you sent." SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "550 5.7.1"),
    R("no From", CONTENT,
      "550-5.7.1 This message is not RFC 5322 compliant, the issue is: 'From' "
      "header\r\n550-5.7.1 is missing.\r\n"
      "550 5.7.1  " URL "RfcMessageNonCompliant" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.1"),
    R("doubled headers", CONTENT,
      "550 5.7.1 This message is not RFC 5322 compliant. There are multiple "
      "Subject headers." SID, REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.1"),
    R("malformed", CONTENT, "554 5.6.0 Mail message is malformed." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "554 5.6.0"),
    R("hops", CONTENT,
      "554 5.6.0 Message exceeded 50 hops, this may indicate a mail loop. "
      URL "MailLoop" SID, REFUSED, MESSAGE, NONE, 0, 0, "554 5.6.0"),
    R("hops, 5.4.6", CONTENT, "554 5.4.6 Message exceeded 50 hops." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "554 5.4.6"),
    R("temporarily rejected", CONTENT,
      "451 4.3.0 Mail server temporarily rejected message." SID,
      DEFERRED, MESSAGE, NONE, 0, 0, "451 4.3.0"),
    R("DMARC", CONTENT, "550 5.7.26 Unauthenticated email from example.com "
      "is not accepted due to domain's DMARC policy." SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.26"),
    R("lasting PTR", CONTENT, "550 5.7.25 no PTR" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.25"),
    R("lasting SPF", CONTENT, "550 5.7.27 no SPF" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.27"),
    R("lasting TLS", CONTENT, "550 5.7.29 no TLS" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.29"),
    R("lasting DKIM", CONTENT, "550 5.7.30 no DKIM" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.7.30"),
};

static const struct row recipient_rows[] = {
    R("not an address", RCPT,
      "553 5.1.2 The recipient address <x> is not a valid RFC-5321 address."
      SID, REFUSED, RECIPIENT, NONE, 0, 0, "553 5.1.2"),
    R("not an address, 5.1.3", RCPT,
      "553 5.1.3 The recipient address <x> is not a valid RFC-5321 address."
      SID, REFUSED, RECIPIENT, NONE, 0, 0, "553 5.1.3"),
    R("no such domain", RCPT,
      "553 5.1.2 We weren't able to find the recipient domain. Please check "
      "for any spelling errors." SID, REFUSED, RECIPIENT, NONE, 0, 0,
      "553 5.1.2"),
    R("not a sender", MAIL,
      "553 5.1.7 The sender address <x> is not a valid RFC-5321 address."
      SID, REFUSED, MESSAGE, NONE, 0, 0, "553 5.1.7"),
    R("no such user", RCPT,
      "550-5.1.1 The email account that you tried to reach does not exist. "
      "Please try\r\n550-5.1.1 double-checking the recipient's email address "
      "for typos.\r\n550 5.1.1  " URL "NoSuchUser" SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "550 5.1.1"),
    R("disabled", RCPT,
      "550 5.2.1 The email account that you tried to reach is disabled. "
      URL "DisabledUser" SID, REFUSED, RECIPIENT, NONE, 0, 0, "550 5.2.1"),
    R("inactive", RCPT,
      "550 5.2.1 The email account that you tried to reach is inactive." SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "550 5.2.1"),
    R("over quota", RCPT,
      "452-4.2.2 The recipient's inbox is out of storage space.\r\n"
      "452 4.2.2  " URL "OverQuotaTemp" SID,
      DEFERRED, RECIPIENT, NONE, 0, 0, "452 4.2.2"),
    R("over quota for good", RCPT,
      "552-5.2.2 The recipient's inbox is out of storage space and "
      "inactive.\r\n552 5.2.2  " URL "OverQuotaPerm" SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "552 5.2.2"),
    R("too quickly", RCPT,
      "450-4.2.1 The user you are trying to contact is receiving mail too "
      "quickly.\r\n450 4.2.1  " URL "ReceivingRate" SID,
      DEFERRED, RECIPIENT, NONE, 0, 0, "450 4.2.1"),
    R("at a rate", RCPT,
      "450 4.2.1 The user you are trying to contact is receiving mail at a "
      "rate that prevents additional messages from being delivered." SID,
      DEFERRED, RECIPIENT, NONE, 0, 0, "450 4.2.1"),
    R("at a rate, lasting", RCPT,
      "550-5.2.1 The user you are trying to contact is receiving mail at a "
      "rate that\r\n550-5.2.1 prevents additional messages from being "
      "delivered.\r\n550 5.2.1  " URL "ReceivingRatePerm" SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "550 5.2.1"),
    R("no such user, of the whole", CONTENT, "550 5.1.1 No such user" SID,
      REFUSED, MESSAGE, NONE, 0, 0, "550 5.1.1"),
};

/* What no row knows, and what a stranger would like to be a row. */
static const struct row other_rows[] = {
    R("greeting", CONNECT, "220 smtp.gmail.com ESMTP abc - gsmtp\r\n",
      SENT, MESSAGE, NONE, 0, 0, "250 2.0.0"),
    R("logged in", AUTH, "235 2.7.0 Accepted\r\n", SENT, MESSAGE, NONE, 0, 0,
      "250 2.7.0"),
    R("recipient taken", RCPT, "250 2.1.5 OK" SID,
      SENT, RECIPIENT, NONE, 0, 0, "250 2.1.5"),
    R("go ahead", DATA, "354  Go ahead" SID, SENT, MESSAGE, NONE, 0, 0,
      "250 2.0.0"),
    R("message taken", CONTENT, "250 2.0.0 OK  1790000000" SID,
      SENT, MESSAGE, NONE, 0, 0, "250 2.0.0"),
    R("DATA answered 250", DATA, "250 2.0.0 OK" SID,
      DEFERRED, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("AUTH answered 250", AUTH, "250 2.0.0 OK" SID,
      DEFERRED, SESSION, NONE, 0, CLOSE, "451 4.4.2"),
    R("empty challenge", AUTH, "334 \r\n",
      DEFERRED, SESSION, NONE, 0, CLOSE | OAUTH, "451 4.4.2"),
    R("content answered 354", CONTENT, "354 Go ahead\r\n",
      IN_DOUBT, MESSAGE, NONE, 0, CLOSE, "451 4.4.2"),
    R("421 at the start", CONNECT, "421 4.7.0 no\r\n",
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("554 at the start", CONNECT, "554 5.7.1 go away\r\n",
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.1"),
    R("550 at EHLO", EHLO, "550 5.7.1 no\r\n",
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.1"),
    R("454 at STARTTLS", STARTTLS, "454 4.7.0 TLS not available\r\n",
      DEFERRED, CLIENT, NONE, 0, CLOSE, "451 4.7.0"),
    R("554 at AUTH", AUTH, "554 5.7.1 no\r\n",
      DEFERRED, ACCOUNT, COOL, MINUTES(15), CLOSE | OAUTH, "451 4.7.1"),
    R("451 at AUTH", AUTH, "451 4.3.2 later\r\n",
      DEFERRED, ACCOUNT, COOL, MINUTES(1), CLOSE, "451 4.3.2"),
    R("550 at MAIL", MAIL, "550 5.1.8 no\r\n", REFUSED, MESSAGE, NONE, 0, 0,
      "550 5.1.8"),
    R("451 at MAIL", MAIL, "451 later\r\n", DEFERRED, MESSAGE, NONE, 0, 0,
      "451 4.0.0"),
    R("550 at RCPT", RCPT, "550 no\r\n", REFUSED, RECIPIENT, NONE, 0, 0,
      "550 5.0.0"),
    R("450 at RCPT", RCPT, "450 no\r\n", DEFERRED, RECIPIENT, NONE, 0, 0,
      "450 4.2.0"),
    R("554 at the end", CONTENT, "554 no\r\n", REFUSED, MESSAGE, NONE, 0, 0,
      "554 5.0.0"),
    R("421 at the end", CONTENT, "421 bye\r\n",
      DEFERRED, MESSAGE, NONE, 0, CLOSE, "451 4.0.0"),
    R("550 at RSET", RSET, "550 no\r\n", RECONNECT, SESSION, NONE, 0, CLOSE,
      "451 4.4.2"),
    R("a keyword in an address", RCPT,
      "553 5.1.3 The recipient address <\"?p=UnsolicitedIPError\"@x> is not a "
      "valid RFC-5321 address." SID, REFUSED, RECIPIENT, NONE, 0, 0,
      "553 5.1.3"),
    R("a phrase in an address", RCPT,
      "553 5.1.2 The recipient address <\"daily user sending limit exceeded "
      "mail relay denied\"@x> is not a valid RFC-5321 address." SID,
      REFUSED, RECIPIENT, NONE, 0, 0, "553 5.1.2"),
    R("a keyword in a sender", MAIL,
      "553 5.1.7 The sender address <\"?p=UnsolicitedIPError\"@x> is not a "
      "valid RFC-5321 address." SID, REFUSED, MESSAGE, NONE, 0, 0, "553 5.1.7"),
};
/* clang-format on */

static struct reply
reply_of(const char *wire)
{
    struct reply r;
    size_t used;

    if (reply_parse(wire, strlen(wire), &r, &used) != REPLY_OK)
        fail_msg("not a reply: %s", wire);
    assert_int_equal(used, strlen(wire));
    return r;
}

static void
check_row(const struct row *row)
{
    struct reply r = reply_of(row->wire);
    struct verdict v = outcome_judge(row->stage, &r, (row->flags & OAUTH) != 0);
    char line[LMTP_REPLY_MAX];

    if (v.kind != row->kind || v.scope != row->scope ||
        v.effect != row->effect || v.cool_ms != row->cool_ms)
        fail_msg("%s: got %s, scope %d, effect %d, %llu ms (%s)", row->name,
                 outcome_kind_name(v.kind), (int)v.scope, (int)v.effect,
                 (unsigned long long)v.cool_ms, v.meaning);
    if (v.halve_sessions != ((row->flags & HALVE) != 0) ||
        v.close_session != ((row->flags & CLOSE) != 0) ||
        v.full != ((row->flags & IS_FULL) != 0) ||
        v.daily != ((row->flags & DAILY) != 0) ||
        v.suspect != ((row->flags & SUSPICIOUS) != 0))
        fail_msg("%s: halve %d, close %d, full %d, daily %d", row->name,
                 v.halve_sessions, v.close_session, v.full, v.daily);
    assert_non_null(v.meaning);
    outcome_lmtp_reply(&v, &r, line);
    if (strncmp(line, row->mta, strlen(row->mta)) != 0 ||
        line[strlen(row->mta)] != ' ')
        fail_msg("%s: the MTA gets %s", row->name, line);
    /* Gmail's own words reach it, whatever became of the code. */
    if (v.kind != OUTCOME_SENT && strlen(r.text) < 200)
        assert_non_null(strstr(line, r.text));
}

#define CHECK_ROWS(rows)                                          \
    for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++) \
    check_row(&(rows)[i])

static void
test_session_replies(void **state)
{
    (void)state;
    CHECK_ROWS(session_rows);
}

static void
test_login_replies(void **state)
{
    (void)state;
    CHECK_ROWS(login_rows);
}

static void
test_limit_replies(void **state)
{
    (void)state;
    CHECK_ROWS(limit_rows);
}

static void
test_message_replies(void **state)
{
    (void)state;
    CHECK_ROWS(message_rows);
}

static void
test_recipient_replies(void **state)
{
    (void)state;
    CHECK_ROWS(recipient_rows);
}

static void
test_other_replies(void **state)
{
    (void)state;
    CHECK_ROWS(other_rows);
}

/* ---- properties ---- */

static bool
is_mailing(enum smtp_stage s)
{
    return s == STAGE_MAIL || s == STAGE_RCPT || s == STAGE_DATA ||
           s == STAGE_CONTENT;
}

static bool
is_awaited(enum smtp_stage s, unsigned code)
{
    if (s == STAGE_STARTTLS)
        return code == 220;
    if (s == STAGE_AUTH)
        return code == 235;
    if (s == STAGE_DATA)
        return code == 354;
    return code / 100 == 2;
}

static void
check_line(const struct verdict *v, const struct reply *r)
{
    char line[LMTP_REPLY_MAX + 1];
    struct reply back;
    size_t used, len;

    memset(line, '#', sizeof(line));
    len = outcome_lmtp_reply(v, r, line);
    assert_true(len < LMTP_REPLY_MAX);
    assert_int_equal(strlen(line), len);
    assert_int_equal(line[LMTP_REPLY_MAX], '#');
    assert_int_equal(reply_parse(line, len, &back, &used), REPLY_OK);
    assert_int_equal(used, len);
    assert_int_equal(back.lines, 1);
    assert_int_equal(back.enhanced.klass, back.code / 100);
    assert_true(back.text[0] != '\0');
    for (size_t i = 0; i + 2 < len; i++)
        assert_true(line[i] >= ' ' && line[i] <= '~');
    switch (v->kind) {
    case OUTCOME_SENT:
        assert_int_equal(back.code, 250);
        break;
    case OUTCOME_REFUSED:
        assert_int_equal(back.code / 100, 5);
        break;
    case OUTCOME_IN_DOUBT:
    case OUTCOME_RECONNECT:
        assert_int_equal(back.code, 451);
        assert_int_equal(back.enhanced.subject, 4);
        assert_int_equal(back.enhanced.detail, 2);
        break;
    default: /* never 421: it would stop the MTA's whole queue */
        assert_in_range(back.code, 450, 452);
        break;
    }
}

static void
check_sane(enum smtp_stage s, const struct reply *r, bool oauth)
{
    struct verdict v = outcome_judge(s, r, oauth);

    assert_int_equal(v.kind == OUTCOME_SENT, is_awaited(s, r->code));
    assert_non_null(v.meaning);
    assert_true(v.meaning[0] != '\0');
    if (v.kind == OUTCOME_REFUSED) {
        assert_true(is_mailing(s));
        assert_true(r->code >= 500);
        assert_int_equal(v.scope,
                         s == STAGE_RCPT ? SCOPE_RECIPIENT : SCOPE_MESSAGE);
        assert_false(v.full);
        assert_int_equal(v.effect, EFFECT_NONE);
    }
    if (v.scope == SCOPE_RECIPIENT)
        assert_int_equal(s, STAGE_RCPT);
    if (v.kind == OUTCOME_IN_DOUBT)
        assert_int_equal(s, STAGE_CONTENT);
    if (v.kind == OUTCOME_SPLIT)
        assert_int_equal(s, STAGE_RCPT);
    if (v.kind == OUTCOME_RECONNECT)
        assert_true(v.close_session);
    if (r->code == 421)
        assert_true(v.close_session);
    if (!is_mailing(s) && s != STAGE_RSET && v.kind != OUTCOME_SENT)
        assert_true(v.close_session || v.full);
    assert_int_equal(v.effect == EFFECT_COOL, v.cool_ms > 0);
    if (v.full)
        assert_int_equal(v.effect, EFFECT_COOL);
    if (v.daily)
        assert_true(v.full && v.scope == SCOPE_ACCOUNT);
    if (!oauth)
        assert_int_not_equal(v.effect, EFFECT_TOKEN);
    if (r->enhanced.klass == 5 && r->enhanced.subject == 4 &&
        r->enhanced.detail == 5 && r->code == 550) {
        assert_int_equal(v.kind, OUTCOME_DEFERRED);
        assert_true(v.full);
    }
    check_line(&v, r);
}

static void
test_every_stage_and_code(void **state)
{
    static const struct enhanced enhanced[] = {
        {0, 0, 0},  {4, 7, 0}, {5, 7, 0},  {5, 7, 1},   {5, 4, 5},
        {4, 3, 0},  {4, 4, 2}, {4, 5, 3},  {5, 5, 2},   {5, 5, 1},
        {4, 7, 28}, {2, 0, 0}, {5, 1, 1},  {5, 7, 999}, {5, 999, 999},
        {4, 2, 1},  {5, 7, 8}, {5, 7, 14}, {5, 5, 4},   {5, 3, 4},
    };
    static const char *const texts[] = {
        "",
        "OK",
        "Connection expired",
        "Temporary System Problem.  Try again later (10).",
        "Daily user sending limit exceeded",
        "Mail relay denied",
        "limit exceeded for customer",
        "RCPT first",
        "go to " URL "BlockedMessage x",
        "go to " URL "TooManyRecipientsError x",
        "go to " URL "InvalidSecondFactor x",
        "go to " URL "UnsolicitedRateLimitError x",
    };

    (void)state;
    for (int s = 0; s < STAGE_COUNT; s++)
        for (uint16_t code = 200; code <= 599; code++)
            for (size_t e = 0; e < sizeof(enhanced) / sizeof(enhanced[0]);
                 e++) {
                const char *text =
                    texts[(code + e) % (sizeof(texts) / sizeof(texts[0]))];
                struct reply r = {.code = code, .enhanced = enhanced[e]};

                strcpy(r.text, text);
                check_sane((enum smtp_stage)s, &r, true);
                check_sane((enum smtp_stage)s, &r, false);
            }
}

/* A reply made from a row finds that row, or one that says the same: none is
 * dead, none shadows another. */
static void
test_every_row_is_reached(void **state)
{
    (void)state;
    for (size_t i = 0; i < outcome_table_rows; i++) {
        const struct outcome_row *row = &outcome_table[i];

        for (int s = 0; s < STAGE_COUNT; s++) {
            struct reply r = {.code = row->code != 0 ? row->code : 550};
            struct verdict v;

            if ((row->stages & 1u << s) == 0)
                continue;
            r.enhanced.klass = (uint8_t)(row->enhanced >> 20);
            r.enhanced.subject = (row->enhanced >> 10) & 1023;
            r.enhanced.detail = row->enhanced & 1023;
            snprintf(r.text, sizeof(r.text), "%s %s%s.",
                     row->text != NULL ? row->text : "x",
                     row->keyword != NULL ? "?p=" : "",
                     row->keyword != NULL ? row->keyword : "");
            v = outcome_judge((enum smtp_stage)s, &r, true);
            if (strcmp(v.meaning, row->verdict.meaning) == 0)
                break;
            if (row->stages >> s == 1) /* the last of its stages */
                fail_msg("row %zu (%s) is never reached", i,
                         row->verdict.meaning);
        }
    }
}

static void
test_lost_sessions(void **state)
{
    static const struct {
        enum smtp_stage stage;
        bool reused, content_sent;
        enum outcome_kind kind;
        enum outcome_scope scope;
    } rows[] = {
        {STAGE_CONNECT, false, false, OUTCOME_DEFERRED, SCOPE_CLIENT},
        {STAGE_EHLO, false, false, OUTCOME_DEFERRED, SCOPE_CLIENT},
        {STAGE_STARTTLS, false, false, OUTCOME_DEFERRED, SCOPE_CLIENT},
        {STAGE_AUTH, false, false, OUTCOME_DEFERRED, SCOPE_SESSION},
        {STAGE_MAIL, false, false, OUTCOME_DEFERRED, SCOPE_SESSION},
        {STAGE_MAIL, true, false, OUTCOME_RECONNECT, SCOPE_SESSION},
        {STAGE_RSET, true, false, OUTCOME_RECONNECT, SCOPE_SESSION},
        {STAGE_RCPT, true, false, OUTCOME_DEFERRED, SCOPE_SESSION},
        {STAGE_DATA, true, false, OUTCOME_DEFERRED, SCOPE_SESSION},
        {STAGE_CONTENT, false, false, OUTCOME_DEFERRED, SCOPE_SESSION},
        {STAGE_CONTENT, true, true, OUTCOME_IN_DOUBT, SCOPE_MESSAGE},
        {STAGE_MAIL, true, true, OUTCOME_IN_DOUBT, SCOPE_MESSAGE},
        {STAGE_RCPT, false, true, OUTCOME_IN_DOUBT, SCOPE_MESSAGE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct verdict v = outcome_judge_lost(rows[i].stage, rows[i].reused,
                                              rows[i].content_sent);

        assert_int_equal(v.kind, rows[i].kind);
        assert_int_equal(v.scope, rows[i].scope);
        assert_int_equal(v.effect, EFFECT_NONE);
        assert_true(v.close_session);
        check_line(&v, NULL);
    }
}

static void
test_no_reply_is_a_lost_session(void **state)
{
    struct reply none = {.code = 0};

    (void)state;
    assert_int_equal(outcome_judge(STAGE_CONTENT, &none, true).kind,
                     OUTCOME_IN_DOUBT);
    assert_int_equal(outcome_judge(STAGE_RCPT, &none, true).kind,
                     OUTCOME_DEFERRED);
}

static void
test_lines_for_the_mta(void **state)
{
    static const struct {
        enum smtp_stage stage;
        const char *wire, *line;
    } rows[] = {
        {STAGE_CONTENT, "250 2.0.0 OK  1790000000 abc - gsmtp\r\n",
         "250 2.0.0 OK  1790000000 abc - gsmtp\r\n"},
        {STAGE_CONTENT, "250\r\n", "250 2.0.0 accepted\r\n"},
        {STAGE_RCPT, "251 2.1.5 forwarded\r\n", "250 2.1.5 accepted\r\n"},
        {STAGE_RCPT,
         "550-5.1.1 The email account does not exist.\r\n"
         "550 5.1.1  " URL "NoSuchUser abc - gsmtp\r\n",
         "550 5.1.1 The email account does not exist. " URL
         "NoSuchUser abc - gsmtp\r\n"},
        {STAGE_RCPT, "550\r\n", "550 5.0.0 Gmail refused the recipient\r\n"},
        {STAGE_RCPT, "550 4.2.1 quirk\r\n", "550 5.2.1 quirk\r\n"},
        {STAGE_RCPT, "521 5.3.2 no mail here\r\n",
         "550 5.3.2 Gmail refused the recipient (521 5.3.2 no mail here)\r\n"},
        {STAGE_RCPT, "450 4.2.1 too quickly\r\n", "450 4.2.1 too quickly\r\n"},
        {STAGE_CONTENT, "550 5.4.5 Daily user sending quota exceeded.\r\n",
         "451 4.4.5 the account's daily sending limit is reached (550 5.4.5 "
         "Daily user sending quota exceeded.)\r\n"},
        {STAGE_AUTH, "535 5.7.8 Username and Password not accepted.\r\n",
         "451 4.7.8 Gmail refused the login (535 5.7.8 Username and Password "
         "not accepted.)\r\n"},
        {STAGE_AUTH, "454 4.7.0 Too many login attempts\r\n",
         "451 4.7.0 too many logins (454 4.7.0 Too many login attempts)\r\n"},
        {STAGE_MAIL, "421 4.7.0 Connection expired\r\n",
         "451 4.4.2 the session had expired (421 4.7.0 Connection "
         "expired)\r\n"},
        {STAGE_RCPT, "452 4.5.3 too many recipients\r\n",
         "452 4.5.3 too many recipients\r\n"},
        {STAGE_RCPT, "451 4.3.0 Multiple destination domains\r\n",
         "451 4.3.0 Multiple destination domains\r\n"},
        {STAGE_CONNECT, "554 go away\r\n",
         "451 4.4.0 Gmail does not take the connection (554 go away)\r\n"},
        {STAGE_CONTENT, "354 x\r\n",
         "451 4.4.2 a reply that does not fit the command (354 x)\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply r = reply_of(rows[i].wire);
        struct verdict v = outcome_judge(rows[i].stage, &r, true);
        char line[LMTP_REPLY_MAX];

        assert_int_equal(outcome_lmtp_reply(&v, &r, line),
                         strlen(rows[i].line));
        assert_string_equal(line, rows[i].line);
    }
}

/* Without a reply the cause is ours to tell: it must reach the MTA's queue. */
static void
test_lines_without_a_reply(void **state)
{
    static const struct {
        enum smtp_stage stage;
        const char *text, *line;
    } rows[] = {
        {STAGE_STARTTLS, "certificate has expired",
         "451 4.4.0 no session with Gmail: the connection was lost "
         "(certificate has expired)\r\n"},
        {STAGE_MAIL, "", "451 4.4.2 the connection was lost\r\n"},
        {STAGE_CONTENT, "timeout while sending",
         "451 4.4.2 the connection was lost (timeout while sending)\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct verdict v = outcome_judge_lost(rows[i].stage, false, false);
        struct reply r = {.code = 0};
        char line[LMTP_REPLY_MAX];

        strcpy(r.text, rows[i].text);
        outcome_lmtp_reply(&v, &r, line);
        assert_string_equal(line, rows[i].line);
    }
}

static void
test_lines_from_odd_values(void **state)
{
    static const char *const meanings[] = {NULL, "", "fine", "a\r\nb\x80"};
    struct reply r = {.code = 550, .enhanced = {5, 65535, 65535}};

    (void)state;
    memset(r.text, 'x', sizeof(r.text) - 1);
    memcpy(r.text, "1\n2\r3\t\xff", 7);
    for (int k = 0; k < OUTCOME_KINDS; k++)
        for (int s = SCOPE_RECIPIENT; s <= SCOPE_ORGANISATION; s++)
            for (size_t m = 0; m < 4; m++) {
                struct verdict v = {.kind = (enum outcome_kind)k,
                                    .scope = (enum outcome_scope)s,
                                    .meaning = meanings[m]};
                struct reply empty = {.code = 550}, none = r;

                none.code = 0;
                check_line(&v, &none);
                check_line(&v, &r);
                check_line(&v, &empty);
                check_line(&v, NULL);
            }
}

static void
test_names(void **state)
{
    (void)state;
    assert_string_equal(smtp_stage_name(STAGE_CONNECT), "connect");
    assert_string_equal(smtp_stage_name(STAGE_RSET), "rset");
    assert_string_equal(smtp_stage_name(STAGE_COUNT), "?");
    assert_string_equal(outcome_kind_name(OUTCOME_IN_DOUBT), "in_doubt");
    assert_string_equal(outcome_kind_name(OUTCOME_KINDS), "?");
    for (int s = 0; s < STAGE_COUNT; s++)
        assert_non_null(smtp_stage_name((enum smtp_stage)s));
    for (int k = 0; k < OUTCOME_KINDS; k++)
        assert_non_null(outcome_kind_name((enum outcome_kind)k));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_replies),
        cmocka_unit_test(test_login_replies),
        cmocka_unit_test(test_limit_replies),
        cmocka_unit_test(test_message_replies),
        cmocka_unit_test(test_recipient_replies),
        cmocka_unit_test(test_other_replies),
        cmocka_unit_test(test_every_stage_and_code),
        cmocka_unit_test(test_every_row_is_reached),
        cmocka_unit_test(test_lost_sessions),
        cmocka_unit_test(test_no_reply_is_a_lost_session),
        cmocka_unit_test(test_lines_for_the_mta),
        cmocka_unit_test(test_lines_without_a_reply),
        cmocka_unit_test(test_lines_from_odd_values),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
