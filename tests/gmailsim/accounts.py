# accounts - who may log in, and exact rolling counters for each
# SPDX-License-Identifier: Apache-2.0
"""Accounts, their limits and what they used.

A limit holds in every window of its length: an acceptance at t counts until
t + window, that moment excluded. Time is the monotonic clock in whole
milliseconds. Peaks are kept apart from the limits, from the acceptances alone,
so that they can judge whether a limit was ever passed.
"""

import re
import time
from bisect import bisect_right
from collections import deque

DIMENSIONS = ("messages", "recipients", "external_recipients",
              "unique_recipients", "unique_external_recipients", "bytes")
DAY_S = 86400.0
_FLAGS = {
    "disabled": False,           # every login: 535
    "web_login": False,          # every login: 534-5.7.14
    "sending_denied": False,     # MAIL: 550 5.7.0
    "imap_off": False,           # IMAP login: not enabled
    "pop_off": False,            # POP login: not enabled
    "limit_stage": "end",        # where 550-5.4.5 comes: end, data or mail
    "limit_reply": "daily_limit",
    "max_sessions": 0,           # parallel logins, 0 = any number
    "parallel_stage": "data",    # where 421 4.3.0 comes: data or auth
    "logins": 0,                 # logins in login_window_s, 0 = any number
    "login_window_s": 3600.0,
    "xoauth2_direct": False,     # 535 at once, without the 334 step
    "close_on_token_expiry": None,   # None: as the session settings say
}
_KEYS = {"address", "app_password", "password", "refresh_tokens", "aliases",
         "limits", "flags"}


class AccountError(ValueError):
    """A description of an account that cannot be used."""


def now_ms():
    """The clock of all windows."""
    return time.monotonic_ns() // 1000000


class Limit:
    """At most `limit` of `dimension` in any `window_ms`, and the peak."""

    def __init__(self, dimension, limit, window_ms):
        self.dimension = dimension
        self.limit = limit
        self.window_ms = window_ms
        self.events = deque()       # (time, amount or set of recipients)
        self.used = 0
        self.last_seen = {}         # recipient -> its latest time
        self.peak = 0

    @property
    def unique(self):
        return self.dimension.startswith("unique_")

    def _expire(self, now):
        while self.events and now - self.events[0][0] >= self.window_ms:
            when, amount = self.events.popleft()
            if not self.unique:
                self.used -= amount
                continue
            for name in amount:
                if self.last_seen.get(name) == when:
                    del self.last_seen[name]
                    self.used -= 1

    def would_be(self, now, amount):
        """The use at `now` if `amount` were accepted."""
        self._expire(now)
        if self.unique:
            return self.used + sum(n not in self.last_seen for n in amount)
        return self.used + amount

    def fits(self, now, amount):
        return self.limit is None or self.would_be(now, amount) <= self.limit

    def add(self, now, amount):
        self.used = self.would_be(now, amount)
        if self.unique:
            for name in amount:
                self.last_seen[name] = now
        self.events.append((now, amount))
        self.peak = max(self.peak, self.used)

    def describe(self, now):
        self._expire(now)
        return {"dimension": self.dimension, "limit": self.limit,
                "window_s": self.window_ms / 1000.0, "used": self.used,
                "peak": self.peak}


def parse_limits(limits, default_window_s=DAY_S):
    """{"messages": 5 | {"limit": 5, "window_s": 10} | [..], "window_s": 9}"""
    result = []
    limits = dict(limits or {})
    window_s = limits.pop("window_s", default_window_s)
    for dimension, rows in limits.items():
        if dimension not in DIMENSIONS:
            raise AccountError("unknown limit %r (there are %s)" % (
                dimension, ", ".join(DIMENSIONS)))
        for row in rows if isinstance(rows, list) else [rows]:
            if not isinstance(row, dict):
                row = {"limit": row}
            amount, seconds = row.get("limit"), row.get("window_s", window_s)
            if not isinstance(amount, (int, type(None))) or \
                    not isinstance(seconds, (int, float)) or seconds <= 0 or \
                    set(row) - {"limit", "window_s"}:
                raise AccountError("limit %s: bad value %r" % (dimension, row))
            result.append(Limit(dimension, amount, round(seconds * 1000)))
    return result


def peak_of(events, window_ms):
    """The most that any window of that length held; events are (time, n)."""
    peak = used = first = 0
    for when, amount in events:
        used += amount
        while when - events[first][0] >= window_ms:
            used -= events[first][1]
            first += 1
        peak = max(peak, used)
    return peak


class Account:
    """One mailbox: its secrets, limits, flags and history."""

    def __init__(self, address, window_s=DAY_S):
        self.address = address
        self.app_password = None
        self.password = None
        self.refresh_tokens = []
        self.aliases = []
        self.window_s = window_s
        self.limits = []
        self.flags = dict(_FLAGS)
        self.sessions = set()
        self.login_times = deque()
        self.clear_counters()

    def clear_counters(self):
        self.accepted = []          # (time ms, recipients, bytes)
        self.refused = {}           # reply name -> count
        self.logins = self.login_failures = self.max_sessions_seen = 0
        self.commands = self.tokens_issued = self.tokens_refused = 0
        self.login_times.clear()
        for limit in self.limits:
            limit.events.clear()
            limit.last_seen.clear()
            limit.used = limit.peak = 0

    def change(self, spec):
        """Set what `spec` names; unknown keys are errors, nothing is set."""
        unknown = set(spec) - _KEYS
        if unknown:
            raise AccountError("account %s: unknown key %s" % (
                self.address, ", ".join(sorted(unknown))))
        flags = spec.get("flags", {})
        unknown = set(flags) - set(_FLAGS)
        if unknown:
            raise AccountError("account %s: unknown flag %s" % (
                self.address, ", ".join(sorted(unknown))))
        limits = parse_limits(spec["limits"], self.window_s) \
            if "limits" in spec else None
        tokens = spec.get("refresh_tokens", [])
        if not isinstance(tokens, list):
            raise AccountError("account %s: refresh_tokens must be a list" %
                               self.address)
        if limits is not None:
            self._replace_limits(limits)
        for key in ("app_password", "password", "refresh_tokens", "aliases"):
            if key in spec:
                setattr(self, key, spec[key])
        self.flags.update(flags)

    def _replace_limits(self, limits):
        """New limits look back on what was accepted before."""
        now = now_ms()
        old = {(l.dimension, l.window_ms): l for l in self.limits}
        for limit in limits:
            same = old.get((limit.dimension, limit.window_ms))
            if same:
                same._expire(now)
                limit.events, limit.used = same.events, same.used
                limit.last_seen, limit.peak = same.last_seen, same.peak
            elif limit.dimension in ("messages", "bytes", "recipients"):
                for when, recipients, size in self.accepted:
                    limit.add(when, {"messages": 1, "bytes": size}.get(
                        limit.dimension, recipients))
        self.limits = limits

    def amounts(self, recipients, size, internal):
        """What one message costs, by dimension."""
        names = [r.lower() for r in recipients]
        external = [r for r in names if r.rpartition("@")[2] not in internal]
        return {"messages": 1, "bytes": size, "recipients": len(names),
                "external_recipients": len(external),
                "unique_recipients": set(names),
                "unique_external_recipients": set(external)}

    def limit_hit(self, now, amounts):
        """The first limit that `amounts` would pass, or None."""
        for limit in self.limits:
            if not limit.fits(now, amounts[limit.dimension]):
                return limit
        return None

    def accept(self, now, amounts):
        for limit in self.limits:
            limit.add(now, amounts[limit.dimension])
        self.accepted.append((now, amounts["recipients"], amounts["bytes"]))

    def refuse(self, why):
        self.refused[why] = self.refused.get(why, 0) + 1

    def password_matches(self, given):
        """App passwords are shown in groups of four; spaces do not count."""
        return self.app_password is not None and \
            given.replace(" ", "") == self.app_password.replace(" ", "")

    def login_allowed(self, now):
        """Counts the attempt; False when there were too many lately."""
        limit = self.flags["logins"]
        window_ms = self.flags["login_window_s"] * 1000
        while self.login_times and now - self.login_times[0] >= window_ms:
            self.login_times.popleft()
        if limit and len(self.login_times) >= limit:
            return False
        self.login_times.append(now)
        return True

    def over_parallel(self, session):
        """Whether this session is beyond the first max_sessions."""
        limit = self.flags["max_sessions"]
        if not limit or len(self.sessions) <= limit:
            return False
        first = sorted(self.sessions, key=lambda s: s.login_order)[:limit]
        return session not in first

    def describe(self, window_s=None):
        now = now_ms()
        window_ms = round((window_s or self.window_s) * 1000)
        start = bisect_right([e[0] for e in self.accepted], now - window_ms)
        recent = self.accepted[start:]
        kinds = {"messages": [(e[0], 1) for e in self.accepted],
                 "recipients": [(e[0], e[1]) for e in self.accepted],
                 "bytes": [(e[0], e[2]) for e in self.accepted]}
        return {
            "accepted": len(self.accepted),
            "recipients": sum(e[1] for e in self.accepted),
            "bytes": sum(e[2] for e in self.accepted),
            "refused": dict(self.refused),
            "refused_total": sum(self.refused.values()),
            "window_s": window_ms / 1000.0,
            "used": {"messages": len(recent),
                     "recipients": sum(e[1] for e in recent),
                     "bytes": sum(e[2] for e in recent)},
            "peak": {kind: peak_of(events, window_ms)
                     for kind, events in kinds.items()},
            "limits": [limit.describe(now) for limit in self.limits],
            "logins": self.logins, "login_failures": self.login_failures,
            "sessions": len(self.sessions),
            "max_sessions": self.max_sessions_seen,
            "commands": self.commands,
            "tokens_issued": self.tokens_issued,
            "tokens_refused": self.tokens_refused,
        }


_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\Z")


class Accounts:
    """All accounts by lower-case address; domains may make them as needed."""

    def __init__(self, specs, auto_specs, window_s=DAY_S):
        self.window_s = window_s
        self.by_address = {}
        self.auto = {}
        for spec in specs:
            self.change(spec)
        for spec in auto_specs:
            spec = dict(spec)
            domain = spec.pop("domain", None)
            if not isinstance(domain, str):
                raise AccountError("auto_accounts: an entry needs a domain")
            Account("*@" + domain, window_s).change(spec)    # checks it
            self.auto[domain.lower()] = spec

    def change(self, spec):
        """Add an account, or change the one with that address."""
        address = spec.get("address")
        if not isinstance(address, str) or not _ADDRESS.match(address):
            raise AccountError("an account needs an address, not %r" %
                               (address,))
        account = self.by_address.get(address.lower()) or \
            Account(address, self.window_s)
        account.change(spec)
        self.by_address[address.lower()] = account
        return account

    def find(self, address):
        """The account of that very address, or None."""
        key = address.lower()
        account = self.by_address.get(key)
        if account is None:
            spec = self.auto.get(key.rpartition("@")[2])
            if spec is not None and _ADDRESS.match(key):
                account = Account(address, self.window_s)
                account.change(spec)
                self.by_address[key] = account
        return account

    def find_sender(self, address):
        """The account that has that address or alias, or None."""
        account = self.find(address)
        if account is None:
            key = address.lower()
            for other in self.by_address.values():
                if key in (a.lower() for a in other.aliases):
                    return other
        return account

    def find_refresh_token(self, token):
        """(account, entry) of a refresh token, or (None, None)."""
        if not token:
            return None, None
        for account in self.by_address.values():
            for entry in account.refresh_tokens:
                if entry == token:
                    return account, {"token": token}
                if isinstance(entry, dict) and entry.get("token") == token:
                    return account, entry
        return None, None

    def clear_counters(self):
        for account in self.by_address.values():
            account.clear_counters()
