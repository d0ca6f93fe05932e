# faults - what goes wrong, where, for whom and how often
# SPDX-License-Identifier: Apache-2.0
"""Fault rules.

A rule says WHAT happens at which STAGE, to which account, how often:

    {"what": "drop", "stage": "end", "when": "before", "count": 1}

A rule either lets the command take effect or replaces it (`effect`), then acts
on its reply. All rules that match a stage act, in the order they were set.
"""

import base64
import re

from .oauth_errors import ROWS

SMTP_STAGES = ("connect", "tls", "greeting", "ehlo", "starttls", "auth",
               "challenge", "mail", "rcpt", "data", "bdat", "end", "rset",
               "noop", "quit", "other")
STAGES = SMTP_STAGES + ("token", "consent")
# what -> (default stage or None = must be given, takes effect)
_WHAT = {
    "drop": (None, False), "reset": (None, False), "hang": (None, False),
    "reply": (None, False), "421": (None, False), "454": ("auth", False),
    "slow": (None, True), "garbage": (None, True), "extra": (None, True),
    "missing": (None, True), "split": (None, True), "coalesce": (None, True),
    "close_after": ("greeting", True), "cert": ("tls", True),
    # token endpoint
    "oauth_error": ("token", False), "http": ("token", False),
    "no_access_token": ("token", True), "rotate": ("token", True),
    "no_refresh_token": ("token", True),
    "expires_in": ("token", True), "deny": ("consent", False),
}
# stages where not every reply can be meddled with -> what is possible there
_ONLY = {
    "connect": {"drop", "reset", "hang", "slow", "garbage", "reply"},
    "tls": {"cert", "drop"},
    "token": {"drop", "reset", "hang", "slow", "garbage", "oauth_error",
              "http", "no_access_token", "no_refresh_token", "rotate",
              "expires_in"},
    "consent": {"deny"},
}
_ELSEWHERE = {"cert", "oauth_error", "http", "no_access_token",
              "no_refresh_token", "rotate", "expires_in", "deny"}
_KEYS = {
    "what": str, "stage": str, "account": str, "client": str, "count": int,
    "skip": int, "recipient": str, "sender": str, "when": str, "text": str,
    "close": bool, "ms": (int, float), "replies": int, "kind": str,
    "bytes_b64": str, "error": str, "description": str, "subtype": str,
    "status": int, "row": str, "body": str, "content_type": str,
    "headers": dict, "seconds": (int, float), "listener": str, "note": str,
}
_WHEN = ("instead", "before", "after")
_CERT_KINDS = ("good", "expired", "wrong_name", "self_signed", "no_sni",
               "cut")


class FaultError(ValueError):
    """A rule that makes no sense."""


class Fault:
    """One rule and how often it may still act."""

    def __init__(self, ident, spec):
        for key, value in spec.items():
            if key not in _KEYS:
                raise FaultError("unknown key %r (there are %s)" % (
                    key, ", ".join(sorted(_KEYS))))
            if not isinstance(value, _KEYS[key]) or \
                    (isinstance(value, bool) and _KEYS[key] is not bool):
                raise FaultError("%s: bad value %r" % (key, value))
        get = spec.get
        self.ident = ident
        self.spec = dict(spec)
        self.what = get("what")
        if self.what not in _WHAT:
            raise FaultError("what: unknown %r (there are %s)" % (
                self.what, ", ".join(sorted(_WHAT))))
        stage, self.effect = _WHAT[self.what]
        if self.what == "close_after" and get("account"):
            stage = "auth"
        self.stage = get("stage", stage)
        if self.stage not in STAGES + ("any",):
            raise FaultError("stage: %r is none of any, %s" % (
                self.stage, ", ".join(STAGES)))
        only = _ONLY.get(self.stage)
        if self.what not in only if only else self.what in _ELSEWHERE:
            raise FaultError("what: %s is not possible at stage %s" % (
                self.what, self.stage))
        self.when = get("when", "instead")
        if self.when not in _WHEN:
            raise FaultError("when: %r is none of %s" % (
                self.when, ", ".join(_WHEN)))
        if self.what in ("drop", "reset", "hang") and self.when != "instead":
            self.effect = True
        if self.what == "reply" and self.when == "before":
            self.effect = True
        self.account = get("account", "").lower() or None
        self.client = get("client")
        self.listener = get("listener")
        self.left = get("count")
        self.skip = get("skip", 0)
        self.hits = 0
        self.ms = get("ms", {"split": 1, "coalesce": 50}.get(self.what, 0))
        self.replies = get("replies", 1)
        self.kind = get("kind", "expired")
        if self.what == "cert" and self.kind not in _CERT_KINDS:
            raise FaultError("kind: %r is none of %s" % (
                self.kind, ", ".join(_CERT_KINDS)))
        self.text = get("text", {
            "421": "temporary", "454": "too_many_logins",
            "extra": "250 2.0.0 OK"}.get(self.what))
        if self.what == "reply" and not self.text:
            raise FaultError("a reply needs a text")
        if get("row") is not None and get("row") not in ROWS:
            raise FaultError("row: %r is none of %s" % (
                get("row"), ", ".join(sorted(ROWS))))
        if self.what == "slow" and "ms" not in spec:
            raise FaultError("slow needs ms")
        self.close = get("close", bool(self.text) and (
            self.what == "421" or self.text.startswith("421")))
        self.bytes = None
        if self.what == "garbage":
            try:
                self.bytes = base64.b64decode(
                    get("bytes_b64", ""), validate=True)
            except ValueError as error:
                raise FaultError("bytes_b64: %s" % error) from None
            self.bytes = self.bytes or b"\x00\xff\xfe%&/()=?\r\n"
        self.recipient = self._regex("recipient")
        self.sender = self._regex("sender")

    def _regex(self, key):
        if key not in self.spec:
            return None
        try:
            return re.compile(self.spec[key], re.IGNORECASE)
        except re.error as error:
            raise FaultError("%s: %s" % (key, error)) from None

    def matches(self, stage, account, client, listener, recipients, sender):
        if self.stage != stage and (self.stage != "any" or stage in _ONLY):
            return False
        if self.account and self.account != (account or "").lower():
            return False
        if self.client and self.client != client:
            return False
        if self.listener and self.listener != listener:
            return False
        if self.recipient and not any(self.recipient.search(r)
                                      for r in recipients):
            return False
        return not self.sender or bool(self.sender.search(sender or ""))

    def take(self):
        """One match used up: whether the rule acts this time."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.left is not None:
            if self.left <= 0:
                return False
            self.left -= 1
        self.hits += 1
        return True

    def describe(self):
        return {"id": self.ident, "hits": self.hits, "left": self.left,
                **self.spec}


class Faults:
    """All rules in force."""

    def __init__(self, specs=()):
        self.rules = []
        self.next_ident = 1
        for spec in specs:
            self.add(spec)

    def add(self, spec):
        if not isinstance(spec, dict):
            raise FaultError("a fault is an object, not %r" % (spec,))
        rule = Fault(self.next_ident, spec)
        self.next_ident += 1
        self.rules.append(rule)
        return rule

    def clear(self, ident=None):
        """Remove one rule, or all; the number removed."""
        kept = [] if ident is None else \
            [r for r in self.rules if r.ident != ident]
        removed = len(self.rules) - len(kept)
        self.rules = kept
        return removed

    def take(self, stage, account=None, client=None, listener=None,
             recipients=(), sender=None):
        """The rules that act now, each used up by one."""
        if not self.rules:
            return []
        return [r for r in self.rules
                if r.matches(stage, account, client, listener, recipients,
                             sender) and r.take()]

    def describe(self):
        return [r.describe() for r in self.rules]


class Latency:
    """Milliseconds added before replies, and before each arriving flight."""

    def __init__(self, spec=None):
        self.set(spec or {})

    def set(self, spec):
        """{"ms": for every reply, "stages": {stage: ms}, "rtt_ms": flight,
        "token_ms": token endpoint}. What is not named is zero."""
        stages = spec.get("stages", {})
        numbers = [spec.get(k, 0) for k in ("ms", "rtt_ms", "token_ms")]
        if set(spec) - {"ms", "rtt_ms", "token_ms", "stages"} or \
                not isinstance(stages, dict) or \
                set(stages) - set(SMTP_STAGES) or not all(
                    isinstance(n, (int, float)) and n >= 0
                    for n in numbers + list(stages.values())):
            raise FaultError("latency: bad value %r" % (spec,))
        self.ms, self.rtt_ms, self.token_ms = numbers
        self.stages = dict(stages)
        self.any = bool(self.ms or self.stages)
        self.spec = dict(spec)

    def of(self, stage):
        return self.stages.get(stage, self.ms)
