# tokens - access tokens: issued, valid, revoked
# SPDX-License-Identifier: Apache-2.0
"""The access tokens in force. Refresh tokens belong to the accounts."""

import secrets
import time

MAIL_SCOPE = "https://mail.google.com/"


class AccessToken:
    """One access token; expires_at is on the monotonic clock, in seconds."""

    def __init__(self, value, address, scope, expires_at):
        self.value = value
        self.address = address
        self.scope = scope
        self.expires_at = expires_at
        self.revoked = False

    def valid(self):
        return not self.revoked and time.monotonic() < self.expires_at


class Tokens:
    """All tokens by value."""

    def __init__(self, length=220):
        self.length = length
        self.by_value = {}
        self.issued = {}            # lower-case address -> count
        self._sweep_at = 4096

    def issue(self, address, scope, lifetime_s):
        if len(self.by_value) >= self._sweep_at:
            self._sweep()
        value = "ya29."
        value += secrets.token_urlsafe(self.length)[:self.length - len(value)]
        token = AccessToken(value, address, scope,
                            time.monotonic() + lifetime_s)
        self.by_value[value] = token
        key = address.lower()
        self.issued[key] = self.issued.get(key, 0) + 1
        return token

    def _sweep(self):
        """Forget what expired long ago."""
        now = time.monotonic()
        self.by_value = {v: t for v, t in self.by_value.items()
                         if t.expires_at + 3600 > now}
        self._sweep_at = max(4096, 2 * len(self.by_value))

    def check(self, value, address):
        """The token, if it opens that mailbox for mail now; else None."""
        token = self.by_value.get(value)
        if token is None or not token.valid():
            return None
        if token.address.lower() != address.lower() or \
                MAIL_SCOPE not in token.scope.split():
            return None
        return token

    def revoke(self, address=None, value=None):
        """Revoke one token, or all of an address; the number revoked."""
        count = 0
        for token in self.by_value.values():
            if not token.revoked and (token.value == value if value else
                                      token.address.lower() ==
                                      address.lower()):
                token.revoked = True
                count += 1
        return count

    def describe(self, address=None):
        now = time.monotonic()
        live = [{"address": t.address, "token": t.value, "scope": t.scope,
                 "expires_in_s": round(t.expires_at - now, 3)}
                for t in self.by_value.values() if t.valid() and
                (not address or t.address.lower() == address.lower())]
        return {"issued": dict(self.issued), "live": live}

    def clear(self):
        self.by_value.clear()
        self.issued.clear()
