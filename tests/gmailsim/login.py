# login - AUTH: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER
# SPDX-License-Identifier: Apache-2.0
"""SASL exchanges of a session. A connection logs in once, as one account."""

import base64
import binascii

from .accounts import now_ms


def _decode(text):
    """Base64, padding wanted; None if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


class Login:
    """The part of a session that logs in; mixed into Session."""

    def do_auth(self, argument):
        words = argument.split()
        if self.account is not None:
            self.say("identity")
            return
        if not words:
            self.say("syntax")
            return
        mechanism = words[0].upper().decode("ascii", "replace")
        initial = words[1] if len(words) > 1 else None
        if len(words) > 2:
            self.say("syntax")
            return
        begin = {"PLAIN": self._plain, "LOGIN": self._login,
                 "XOAUTH2": self._xoauth2, "OAUTHBEARER": self._oauthbearer,
                 "PLAIN-CLIENTTOKEN": self._clienttoken}.get(mechanism)
        if begin is None:
            if not self.hit("auth"):
                self.say("xoauth_gone" if mechanism == "XOAUTH" else
                         "auth_mechanism")
            return
        self.mechanism = mechanism
        if initial is None:
            if mechanism == "LOGIN":
                self._ask("login_user", begin)
            else:
                self._ask("continue", begin)
        else:
            self._answer(begin, b"" if initial == b"=" else initial)

    def _ask(self, name, then):
        """A 334; the next line goes to `then`, decoded."""
        if self.hit("challenge"):
            return
        self.on_auth_line = lambda line: self._answer(then, line)
        self.long_lines = True
        self.say(name)

    def auth_line(self, line):
        """A line of the exchange has come."""
        then, self.on_auth_line = self.on_auth_line, None
        self.long_lines = False
        if line == b"*":
            if not self.hit("auth"):
                self.say("auth_cancelled")
            return
        then(line)

    def _answer(self, then, text):
        response = _decode(text)
        if response is None:
            if not self.hit("auth"):
                self.say("cannot_decode")
            return
        then(response)

    # --- mechanisms

    def _plain(self, response):
        parts = response.split(b"\0")
        if len(parts) != 3:
            if not self.hit("auth"):
                self.say("cannot_decode")
            return
        identity, user, password = (p.decode("utf-8", "replace")
                                    for p in parts)
        if identity and identity.lower() != user.lower():
            self._refuse(user, "bad_credentials")
            return
        self._password(user, password)

    def _login(self, user):
        name = user.decode("utf-8", "replace")
        self._ask("login_password", lambda password: self._password(
            name, password.decode("utf-8", "replace")))

    def _clienttoken(self, response):
        """Advertised, but for Google's own clients."""
        parts = response.split(b"\0")
        user = parts[1] if len(parts) > 1 else b""
        self._refuse(user.decode("utf-8", "replace"), "bad_credentials")

    def _password(self, user, password):
        account = self.sim.accounts.find(user)
        if not self._may_try(account, user):
            return
        if account is not None and account.password_matches(password):
            self._accept(account, user, None)
        elif account is not None and account.password is not None and \
                password == account.password:
            self._finish_refusal(account, "app_password_needed")
        else:
            self._finish_refusal(account, "bad_credentials")

    def _xoauth2(self, response):
        fields = dict(part.partition(b"=")[::2]
                      for part in response.split(b"\x01") if part)
        user = fields.get(b"user", b"").decode("utf-8", "replace")
        self._bearer(user, fields.get(b"auth", b""), "xoauth2_error")

    def _oauthbearer(self, response):
        """RFC 7628: n,a=user,^Ahost=..^Aport=..^Aauth=Bearer ..^A^A"""
        head, *rest = response.split(b"\x01")
        pieces = head.split(b",")
        user = pieces[1][2:] if len(pieces) == 3 and \
            pieces[0] in (b"n", b"y") and pieces[1][:2] == b"a=" else None
        fields = dict(part.partition(b"=")[::2] for part in rest if part)
        if user is None:
            if not self.hit("auth"):
                self.say("cannot_decode")
            return
        name = user.replace(b"=2C", b",").replace(b"=3D", b"=")
        self._bearer(name.decode("utf-8", "replace"),
                     fields.get(b"auth", b""), "oauthbearer_error")

    def _bearer(self, user, credential, error):
        kind, _, value = credential.partition(b" ")
        account = self.sim.accounts.find(user)
        token = None
        if kind.lower() == b"bearer" and account is not None:
            token = self.sim.tokens.check(
                value.strip().decode("ascii", "replace"), user)
        if token is not None:
            if self._may_try(account, user):
                self._accept(account, user, token)
            return
        if account is not None and account.flags["xoauth2_direct"]:
            if self._may_try(account, user):
                self._finish_refusal(account, "bad_credentials")
            return
        self.auth_user = user
        if self.hit("challenge"):
            return
        self.on_auth_line = lambda line: self._after_error(account, user)
        self.long_lines = True
        self.say(error)

    def _after_error(self, account, user):
        """The client has acknowledged the error; now comes the 535."""
        if self._may_try(account, user):
            self._finish_refusal(account, "bad_credentials")

    # --- outcome

    def _refuse(self, user, name):
        account = self.sim.accounts.find(user)
        if self._may_try(account, user):
            self._finish_refusal(account, name)

    def _may_try(self, account, user):
        """Faults, rate of logins and state of the account; False if one of
        them has answered."""
        self.auth_user = user
        if self.hit("auth"):
            if account is not None:
                account.login_failures += 1
            return False
        if account is None:
            return True
        if not account.login_allowed(now_ms()):
            self._finish_refusal(account, "too_many_logins")
            return False
        if account.flags["web_login"]:
            self._finish_refusal(account, "web_login")
            return False
        if account.flags["disabled"]:
            self._finish_refusal(account, "bad_credentials")
            return False
        return True

    def _finish_refusal(self, account, name):
        self.sim.totals["login_failures"] += 1
        if account is not None:
            account.login_failures += 1
        self.say(name)

    def _accept(self, account, user, token):
        if account.flags["parallel_stage"] == "auth" and \
                0 < account.flags["max_sessions"] <= len(account.sessions):
            account.refuse("temporary")
            self.say("temporary", close=True)
            return
        self.account = account
        self.token = token
        self.login_user = user
        self.sim.totals["logins"] += 1
        self.login_order = self.sim.totals["logins"]
        account.logins += 1
        account.sessions.add(self)
        account.max_sessions_seen = max(account.max_sessions_seen,
                                        len(account.sessions))
        self.say("auth_ok")
