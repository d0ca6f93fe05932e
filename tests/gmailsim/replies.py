# replies - every SMTP reply text, in the wording of three periods
# SPDX-License-Identifier: Apache-2.0
"""Reply texts, byte for byte.

A text is a list of lines without CRLF. `{s}` stands for "<session id> - gsmtp",
other names in braces are filled in by the caller. The wording of Gmail drifts:
the profiles 2015, 2020 and 2025 hold what was seen around those years; an older
profile names only what differs from the next newer one.
"""

import random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_XOAUTH2_ERROR_2015 = (
    "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoi"
    "aHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K")
_XOAUTH2_ERROR = (
    "eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRw"
    "czovL21haWwuZ29vZ2xlLmNvbS8ifQ==")

_TEXT_2025 = {
    # good news
    "greeting": ["220 {host} ESMTP {s}"],
    "helo": ["250 {host} at your service"],
    "starttls": ["220 2.0.0 Ready to start TLS"],
    "login_user": ["334 VXNlcm5hbWU6"],
    "login_password": ["334 UGFzc3dvcmQ6"],
    "continue": ["334 "],
    "xoauth2_error": ["334 " + _XOAUTH2_ERROR],
    # RFC 7628 section 3.2.2; that Google sends the same JSON is assumed
    "oauthbearer_error": ["334 " + _XOAUTH2_ERROR],
    "auth_ok": ["235 2.7.0 Accepted"],
    "mail_ok": ["250 2.1.0 OK {s}"],
    "rcpt_ok": ["250 2.1.5 OK {s}"],
    "data_go": ["354 Go ahead {s}"],
    "data_ok": ["250 2.0.0 OK  {time} {s}"],
    "bdat_ok": ["250 2.0.0 OK {s}"],
    "rset_ok": ["250 2.1.5 Flushed {s}"],
    "noop_ok": ["250 2.0.0 OK {s}"],
    "quit": ["221 2.0.0 closing connection {s}"],
    "vrfy": ["252 2.1.5 Send some mail, I'll try my best {s}"],
    "help": ["214 2.0.0  https://www.google.com/search?btnI&q=RFC+5321 {s}"],
    # connection
    "ehlo_refused": [
        "421-4.7.0 Try again later, closing connection. (EHLO)",
        "421-4.7.0  For more information, go to",
        "421 4.7.0  https://support.google.com/a/answer/3221692 {s}"],
    "expired": ["421 4.7.0 Connection expired, try reconnecting {s}"],
    "idle": ["451 4.4.2 Timeout - closing connection. {s}"],
    "server_busy": ["421 4.4.5 Server busy, try again later. {s}"],
    "temporary": [
        "421 4.3.0 Temporary System Problem.  Try again later (10). {s}"],
    "helo_empty": [
        "501 5.5.4 Empty HELO/EHLO argument not allowed, closing connection."
        " {s}"],
    "helo_bad": [
        "501 5.5.4 HELO/EHLO argument {arg} invalid, closing connection."
        " {s}"],
    "unknown_command": ["502 5.5.1 Unrecognized command. {s}"],
    "unimplemented": ["502 5.5.1 Unimplemented command. {s}"],
    "unknown_goodbye": [
        "502 5.5.1 Too many unrecognized commands, goodbye. {s}"],
    "too_many_unauth": [
        "554 5.7.0 Too Many Unauthenticated commands. {s}"],
    "ehlo_first": [
        "503-5.5.1 EHLO/HELO first. A mail transaction protocol command was "
        "issued out of",
        "503-5.5.1 sequence. For more information, go to",
        "503-5.5.1  https://support.google.com/a/answer/3221692 and review "
        "RFC 5321",
        "503 5.5.1 specifications. {s}"],
    "bad_sequence": ["503 5.5.1 Bad sequence of commands. {s}"],
    "no_data_after_bdat": ["503 5.5.1 No DATA after BDAT {s}"],
    "starttls_first": ["530 5.7.0 Must issue a STARTTLS command first. {s}"],
    "starttls_repeated": ["454 5.5.1 STARTTLS may not be repeated. {s}"],
    "starttls_pipelined": [
        "454 4.5.0 SMTP protocol violation, no commands allowed to pipeline "
        "after STARTTLS {s}"],
    "no_parameters": ["501 5.7.11 Syntax error (no parameters allowed). {s}"],
    "syntax": ["555 5.5.2 Syntax error. {s}"],
    "line_too_long": ["500 5.5.2 Line too long, goodbye. {s}"],
    # login
    "cannot_decode": ["501 5.5.2 Cannot Decode response {s}"],
    "auth_cancelled": ["501 5.7.0 Authentication canceled. {s}"],
    "auth_line_too_long": [
        "500 5.5.6 Authentication exchange line is too long {s}"],
    "auth_mechanism": ["504 5.7.4 Unrecognized Authentication Type {s}"],
    "xoauth_gone": ["504 5.7.4 XOAUTH is no longer supported {s}"],
    "auth_argument": [
        "535 5.5.4 Optional Argument not permitted for that AUTH mode. {s}"],
    "identity": ["503 5.7.0 No identity changes permitted. {s}"],
    "bad_credentials": [
        "535-5.7.8 Username and Password not accepted. For more information, "
        "go to",
        "535 5.7.8  https://support.google.com/mail/?p=BadCredentials {s}"],
    "app_password_needed": [
        "534-5.7.9 Application-specific password required. For more "
        "information, go to",
        "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor "
        "{s}"],
    "web_login": [
        "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1"
        "&plt=AKgnsbt",
        "534-5.7.14 simulated0000000000000000000000000000000000000000000000000"
        "0000000",
        "534-5.7.14 000000000000000000000000000000000000000000>",
        "534-5.7.14 Please log in via your web browser and then try again.",
        "534-5.7.14  Learn more at",
        "534 5.7.14  https://support.google.com/mail/answer/78754 {s}"],
    "auth_needed": [
        "530-5.7.0 Authentication Required. For more information, go to",
        "530 5.7.0  https://support.google.com/mail/?p=WantAuthError {s}"],
    "too_many_logins": [
        "454-4.7.0 Too many login attempts, please try again later. For more",
        "454-4.7.0 information, go to",
        "454 4.7.0  https://support.google.com/mail/answer/7126229 {s}"],
    "auth_temporary": [
        "454 4.7.0 Cannot authenticate due to a temporary system problem. "
        "Try again later. {s}"],
    # limits and policy of the sending side
    "daily_limit": [
        "550-5.4.5 Daily user sending limit exceeded. For more information "
        "on Gmail",
        "550-5.4.5 sending limits go to",
        "550 5.4.5  https://support.google.com/a/answer/166852 {s}"],
    "relay_user_limit": [
        "550 5.4.5 Daily SMTP relay limit exceeded for user. {s}"],
    "relay_customer_limit": [
        "550 5.7.1 Daily SMTP relay limit exceeded for customer. {s}"],
    "relay_peak_limit": [
        "450 4.2.1 Peak SMTP relay limit exceeded for customer. {s}"],
    "relay_denied": [
        "550-5.7.0 Mail relay denied [{ip}]. Invalid credentials for relay "
        "for one of",
        "550-5.7.0 the domains in: {domain} (as obtained from HELO and MAIL "
        "FROM).",
        "550-5.7.0 For more information, go to",
        "550 5.7.0  https://support.google.com/a/answer/6140680#maildenied "
        "{s}"],
    "sending_denied": ["550 5.7.0 Mail Sending denied. {s}"],
    "email_quota": ["550 5.7.1 Email quota exceeded. {s}"],
    "too_many_recipients": [
        "452-4.5.3 Your message has too many recipients. For more information "
        "regarding",
        "452-4.5.3 Google's sending limits go to:",
        "452 4.5.3  https://support.google.com/mail/?p=TooManyRecipientsError "
        "{s}"],
    "rate_limited": [
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail. "
        "To protect",
        "421-4.7.28 our users from spam, mail has been temporarily rate "
        "limited. For more",
        "421-4.7.28 information, go to",
        "421 4.7.28  https://support.google.com/mail/"
        "?p=UnsolicitedRateLimitError {s}"],
    # message
    "too_large": [
        "552-5.3.4 Your message exceeded Google's message size limits. To "
        "view our message",
        "552-5.3.4 size guidelines, go to",
        "552 5.3.4  https://support.google.com/mail/?p=MaxSizeError {s}"],
    "blocked": [
        "552-5.7.0 This message was blocked because its content presents a "
        "potential",
        "552-5.7.0 security issue. To review our message content and "
        "attachment content",
        "552-5.7.0 guidelines, go to",
        "552 5.7.0  https://support.google.com/mail/?p=BlockedMessage {s}"],
    "rejected_temporarily": [
        "451 4.3.0 Mail server temporarily rejected message. {s}"],
    "unsolicited": [
        "550-5.7.1 Gmail has detected that this message is likely unsolicited "
        "mail. To",
        "550-5.7.1 reduce the amount of spam sent to Gmail, this message has "
        "been blocked.",
        "550-5.7.1 For more information, go to",
        "550 5.7.1  https://support.google.com/mail/?p=UnsolicitedMessageError"
        " {s}"],
    # addresses
    "bad_recipient": [
        "553 5.1.3 The recipient address <{address}> is not a valid RFC-5321 "
        "address. {s}"],
    "bad_sender": [
        "553 5.1.7 The sender address <{address}> is not a valid RFC-5321 "
        "address. {s}"],
    "no_such_user": [
        "550-5.1.1 The email account that you tried to reach does not exist. "
        "Please try",
        "550-5.1.1 double-checking the recipient's email address for typos or",
        "550-5.1.1 unnecessary spaces. For more information, go to",
        "550 5.1.1  https://support.google.com/mail/?p=NoSuchUser {s}"],
    "disabled_user": [
        "550-5.2.1 The email account that you tried to reach is inactive. For "
        "more",
        "550-5.2.1 information, go to",
        "550 5.2.1  https://support.google.com/mail/?p=DisabledUser {s}"],
    "over_quota": [
        "452-4.2.2 The recipient's inbox is out of storage space. Please "
        "direct the",
        "452-4.2.2 recipient to",
        "452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp {s}"],
    "receiving_rate": [
        "450-4.2.1 The user you are trying to contact is receiving mail too "
        "quickly.",
        "450-4.2.1 Please resend your message at a later time. For more "
        "information, go to",
        "450 4.2.1  https://support.google.com/mail/answer/6592 {s}"],
    "separate_transaction": [
        "452 4.5.3 Domain policy size per transaction exceeded, please try "
        "this recipient in a separate transaction. {s}"],
}
_TEXT_2025["mail_first"] = [
    line.replace("EHLO/HELO first", "MAIL first")
    for line in _TEXT_2025["ehlo_first"]]
_TEXT_2025["rcpt_first"] = [
    line.replace("EHLO/HELO first", "RCPT first")
    for line in _TEXT_2025["ehlo_first"]]

_TEXT_2020 = {
    "data_go": ["354  Go ahead {s}"],
    "ehlo_refused": [
        "421 4.7.0 Try again later, closing connection. (EHLO) {s}"],
    "ehlo_first": ["503 5.5.1 EHLO/HELO first. {s}"],
    "mail_first": ["503 5.5.1 MAIL first. {s}"],
    "rcpt_first": ["503 5.5.1 RCPT first. {s}"],
    "bad_credentials": [
        "535-5.7.8 Username and Password not accepted. Learn more at",
        "535 5.7.8  https://support.google.com/mail/?p=BadCredentials {s}"],
    "app_password_needed": [
        "534-5.7.9 Application-specific password required. Learn more at",
        "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor "
        "{s}"],
    "auth_needed": [
        "530-5.7.0 Authentication Required. Learn more at",
        "530 5.7.0  https://support.google.com/mail/?p=WantAuthError {s}"],
    "too_many_logins": [
        "454 4.7.0 Too many login attempts, please try again later. {s}"],
    "daily_limit": ["550 5.4.5 Daily user sending quota exceeded. {s}"],
    "relay_denied": [
        "550-5.7.0 Mail relay denied [{ip}]. Invalid credentials for relay "
        "for one of",
        "550 5.7.0 the domains in: {domain} (as obtained from HELO and MAIL "
        "FROM). {s}"],
    "too_many_recipients": [
        "452-4.5.3 Your message has too many recipients. Learn more at",
        "452 4.5.3  https://support.google.com/mail/?p=TooManyRecipientsError "
        "{s}"],
    "too_large": [
        "552-5.2.3 Your message exceeded Google's message size limits. Please "
        "visit",
        "552-5.2.3 https://support.google.com/mail/?p=MaxSizeError to view our",
        "552 5.2.3 size guidelines. {s}"],
}

_TEXT_2015 = {
    "greeting": ["220 mx.google.com ESMTP {s}"],
    "xoauth2_error": ["334 " + _XOAUTH2_ERROR_2015],
    "bad_credentials": [
        "535-5.7.1 Username and Password not accepted. Learn more at",
        "535 5.7.1 http://support.google.com/mail/bin/answer.py?answer=14257 "
        "{s}"],
    "app_password_needed": [
        "535-5.7.1 Application-specific password required. Learn more at",
        "535 5.7.1 http://support.google.com/accounts/bin/answer.py?"
        "answer=185833 {s}"],
    "auth_needed": [
        "530-5.5.1 Authentication Required. Learn more at",
        "530 5.5.1  https://support.google.com/mail/?p=WantAuthError {s}"],
    "bad_recipient": [
        "553 5.1.2 The recipient address <{address}> is not a valid RFC-5321 "
        "address. {s}"],
}

PROFILES = {
    "2025": _TEXT_2025,
    "2020": {**_TEXT_2025, **_TEXT_2020},
    "2015": {**_TEXT_2025, **_TEXT_2020, **_TEXT_2015},
}

_EHLO = ["{host} at your service, [{ip}]", "SIZE {size}", "8BITMIME", None,
         "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"]
_NOT_IN_2015 = ("PIPELINING", "CHUNKING", "SMTPUTF8")
_AUTH = "AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH"


def session_id(profile, letters="sm"):
    """A new session id in the form of that period."""
    rnd = random.getrandbits
    shard = "".join(random.choice(_LETTERS) for _ in range(3))
    if profile == "2015":
        return "%s%d%s%d%s.%d" % (random.choice(_LETTERS), rnd(7) + 100,
                                  letters, rnd(23) + 10000000, shard, rnd(6))
    return "%013x-%012x%s%d%s.%d" % (rnd(52), rnd(48), letters,
                                     rnd(26) + 10000000, shard, rnd(4))


class Texts:
    """The texts of one profile, rendered for a session."""

    def __init__(self, profile):
        if profile not in PROFILES:
            raise ValueError("unknown profile %r (there are %s)" % (
                profile, ", ".join(sorted(PROFILES))))
        self.profile = profile
        self.lines = PROFILES[profile]
        self.joined = {name: "\r\n".join(lines) + "\r\n"
                       for name, lines in self.lines.items()}

    def render(self, name, sid, **values):
        """The reply `name` as bytes, CRLF included."""
        text = self.joined[name].replace("{s}", sid + " - gsmtp")
        for key, value in values.items():
            text = text.replace("{" + key + "}", str(value))
        return text.encode("utf-8", "surrogateescape")

    def custom(self, text, sid):
        """A reply given by a test: a known name, or lines of its own, where
        {s} is filled in and LF becomes CRLF."""
        if text in self.joined:
            return self.render(text, sid, time=0, address="", ip="127.0.0.1",
                               domain="", arg="", host="smtp.gmail.com")
        text = text.replace("{s}", sid + " - gsmtp")
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
        return ("\r\n".join(lines) + "\r\n").encode("utf-8")

    def ehlo(self, host, ip, size, tls, without=()):
        """The EHLO answer: STARTTLS in clear text, AUTH inside TLS. Items
        whose keyword is in `without` are left out."""
        items = [(_AUTH if tls else "STARTTLS") if item is None
                 else item.format(host=host, ip=ip, size=size)
                 for item in _EHLO]
        if self.profile == "2015":
            without = tuple(without) + _NOT_IN_2015
            items = [i.replace(" OAUTHBEARER", "") for i in items]
        items = items[:1] + [i for i in items[1:]
                             if i.split()[0] not in without]
        lines = ["250-" + item for item in items[:-1]] + ["250 " + items[-1]]
        return ("\r\n".join(lines) + "\r\n").encode()
