# mailbox - IMAP and POP, as far as logging in
# SPDX-License-Identifier: Apache-2.0
"""imap.gmail.com:993 and pop.gmail.com:995: greeting, capabilities, login with
every refusal that is known, and good-bye. There are no mailboxes behind."""

import base64
import binascii
import shlex

from .accounts import now_ms
from .replies import session_id
from .wire import Wire

_TOKEN_ERROR = (b"eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJo"
                b"dHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ==")
_CAPABILITY = ("IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN "
               "X-GM-EXT-1 XYZZY SASL-IR AUTH=XOAUTH2 AUTH=PLAIN "
               "AUTH=PLAIN-CLIENTTOKEN AUTH=OAUTHBEARER")
_CAPABILITY_IN = ("IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN "
                  "X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE CONDSTORE "
                  "ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- "
                  "SPECIAL-USE APPENDLIMIT=35651584")
_CAPA = ("USER", "RESP-CODES", "EXPIRE 0", "LOGIN-DELAY 300", "TOP", "UIDL",
         "X-GOOGLE-RICO", "SASL PLAIN XOAUTH2 OAUTHBEARER")


class Mailbox(Wire):
    """What both protocols share: the exchange and the decision."""

    flag_off = None

    def __init__(self, sim, listener):
        Wire.__init__(self, sim, listener)
        self.sid = session_id(sim.texts.profile)
        self.account = self.token = self.auth_user = None
        self.helo = self.tls_version = self.mechanism = None
        self.transactions = self.commands = 0
        self.expire_now = False
        self.on_auth_line = None

    def account_name(self):
        return self.account.address if self.account else self.auth_user

    def tick(self, now):
        idle = self.sim.settings["idle_s"]
        if idle and not self.closed and now - self.last_input >= idle:
            self.end("close")

    def opened(self):
        if not self.hit("greeting"):
            self.answer(self.greeting)

    def answer(self, text, close=False):
        self.reply(text.replace("{s}", self.sid).encode() + b"\r\n", close)

    def line_too_long(self):
        self.buffer.clear()
        self.end("close")

    def line(self, line):
        line = line.rstrip(b"\r")
        self.sim.totals["commands"] += 1
        self.commands += 1
        if self.on_auth_line:
            then, self.on_auth_line = self.on_auth_line, None
            self.long_lines = False
            then(line)
        else:
            self.command(line.decode("utf-8", "replace"))

    # --- logging in

    def ask(self, text, then):
        """A challenge; its answer goes to `then`."""
        if self.hit("challenge"):
            return
        self.on_auth_line = then
        self.long_lines = True
        self.reply(b"+ " + text + b"\r\n")

    def authenticate(self, mechanism, initial):
        take = {"XOAUTH2": self.take_bearer, "PLAIN": self.take_plain}.get(
            mechanism.upper())
        if take is None:
            self.say_bad("Invalid SASL mechanism")
        elif initial:
            take(initial.encode())
        else:
            self.ask(b"", take)

    @staticmethod
    def decode(line):
        try:
            return base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            return None

    def take_plain(self, line):
        parts = (self.decode(line) or b"").split(b"\0")
        if len(parts) != 3:
            self.say_bad("Invalid SASL argument")
            return
        self.password(*(p.decode("utf-8", "replace") for p in parts[1:]))

    def password(self, user, password):
        account = self.sim.accounts.find(user)
        if self.refuses(account, user):
            return
        if account is not None and account.password_matches(password):
            self.accept(account, None)
        elif account is not None and account.password is not None and \
                account.password == password:
            self.refuse(account, "app_password")
        else:
            self.refuse(account, "credentials")

    def take_bearer(self, line):
        fields = dict(part.partition(b"=")[::2]
                      for part in (self.decode(line) or b"").split(b"\x01")
                      if part)
        user = fields.get(b"user", b"").decode("utf-8", "replace")
        kind, _, value = fields.get(b"auth", b"").partition(b" ")
        account = self.sim.accounts.find(user)
        token = None
        if kind.lower() == b"bearer" and account is not None:
            token = self.sim.tokens.check(
                value.strip().decode("ascii", "replace"), user)
        self.auth_user = user
        if token is not None:
            if not self.refuses(account, user):
                self.accept(account, token)
            return
        self.ask(_TOKEN_ERROR, lambda _line: self.refuses(account, user) or
                 self.refuse(account, "credentials"))

    def refuses(self, account, user):
        """Faults and the account's state; True if one has answered."""
        self.auth_user = user
        if self.hit("auth"):
            return True
        if account is None:
            return False
        if not account.login_allowed(now_ms()):
            self.refuse(account, "too_many")
        elif account.flags["web_login"]:
            self.refuse(account, "web_login")
        elif account.flags["disabled"]:
            self.refuse(account, "credentials")
        elif account.flags[self.flag_off]:
            self.refuse(account, "off")
        else:
            return False
        return True

    def refuse(self, account, why):
        self.sim.totals["login_failures"] += 1
        if account is not None:
            account.login_failures += 1
        self.say_refused(self.refusals[why])
        return True

    def accept(self, account, token):
        self.account, self.token = account, token
        self.sim.totals["logins"] += 1
        account.logins += 1
        self.say_welcome()


class ImapSession(Mailbox):
    """RFC 9051, up to the authenticated state."""

    flag_off = "imap_off"
    greeting = "* OK Gimap ready for requests from 127.0.0.1 {s}"
    refusals = {
        "credentials": "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
        "app_password": "[ALERT] Application-specific password required: "
                        "https://support.google.com/accounts/answer/185833 "
                        "(Failure)",
        "web_login": "[ALERT] Please log in via your web browser: "
                     "https://support.google.com/mail/accounts/answer/78754 "
                     "(Failure)",
        "too_many": "[ALERT] Too many simultaneous connections. (Failure)",
        "off": "[ALERT] Your account is not enabled for IMAP use. Please "
               "visit your Gmail settings page and enable your account for "
               "IMAP access. (Failure)"}

    tag = "*"

    def say_bad(self, text):
        self.answer("%s BAD %s {s}" % (self.tag, text))

    def say_refused(self, text):
        self.answer("%s NO %s" % (self.tag, text))

    def say_welcome(self):
        self.answer("* CAPABILITY %s\r\n%s OK %s authenticated (Success)" % (
            _CAPABILITY_IN, self.tag, self.account.address))

    def command(self, line):
        self.tag, _, rest = line.partition(" ")
        verb, _, argument = rest.partition(" ")
        verb = verb.upper()
        if verb == "LOGOUT":
            if not self.hit("quit"):
                self.answer("* BYE LOGOUT Requested\r\n%s OK 73 good day "
                            "(Success)" % self.tag, close=True)
        elif self.hit("other"):
            return
        elif verb == "CAPABILITY":
            self.answer("* CAPABILITY %s\r\n%s OK Thats all she wrote! {s}" % (
                _CAPABILITY_IN if self.account else _CAPABILITY, self.tag))
        elif verb == "NOOP":
            self.answer("%s OK Nothing Accomplished. {s}" % self.tag)
        elif verb in ("AUTHENTICATE", "LOGIN") and self.account is None:
            self.log_in(verb, argument)
        else:
            self.say_bad("Unknown command")

    def log_in(self, verb, argument):
        try:
            words = shlex.split(argument)
        except ValueError:
            words = []
        if verb == "LOGIN" and len(words) == 2:
            self.password(*words)
        elif verb == "AUTHENTICATE" and len(words) in (1, 2):
            self.authenticate(words[0], words[1] if words[1:] else None)
        else:
            self.say_bad("Could not parse command")


class PopSession(Mailbox):
    """RFC 1939 and 5034, up to the transaction state, with no message."""

    flag_off = "pop_off"
    greeting = "+OK Gpop ready for requests from 127.0.0.1 {s}"
    refusals = {
        "credentials": "[AUTH] Username and password not accepted.",
        "app_password": "[AUTH] Application-specific password required: "
                        "https://support.google.com/accounts/answer/185833",
        "web_login": "[AUTH] Please log in via your web browser: "
                     "https://support.google.com/mail/accounts/answer/78754",
        "too_many": "[IN-USE] Too many simultaneous connections.",
        "off": "[SYS/PERM] Your account is not enabled for POP access. Please "
               "visit your Gmail settings page and enable your account for "
               "POP access."}

    user = None

    def say_bad(self, text):
        self.answer("-ERR bad command: %s {s}" % text)

    def say_refused(self, text):
        self.answer("-ERR " + text)

    def say_welcome(self):
        self.answer("+OK Welcome.")

    def command(self, line):
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if verb == "QUIT":
            if not self.hit("quit"):
                self.answer("+OK Bye {s}", close=True)
        elif self.hit("other"):
            return
        elif verb == "CAPA":
            self.answer("\r\n".join(("+OK Capability list follows", *_CAPA,
                                     ".")))
        elif verb == "AUTH" and self.account is None and argument:
            mechanism, _, initial = argument.partition(" ")
            self.authenticate(mechanism, initial)
        elif verb == "USER" and self.account is None:
            self.user = argument
            self.answer("+OK send PASS")
        elif verb == "PASS" and self.account is None and self.user:
            self.password(self.user, argument)
        elif verb == "STAT" and self.account is not None:
            self.answer("+OK 0 0")
        elif verb == "NOOP" and self.account is not None:
            self.answer("+OK")
        else:
            self.say_bad("unknown, or not now")
