# control - the endpoint by which tests look and meddle
# SPDX-License-Identifier: Apache-2.0
"""JSON over plain HTTP on the loopback address. Errors are 400 with
{"error": text}; nothing has been changed then."""

from . import config
from .faults import SMTP_STAGES
from .replies import Texts
from .webserver import Response

_REVOKE_KEYS = {"address", "token", "refresh", "sessions"}


def _number(request, name, default=None):
    value = request.query.get(name)
    if value is None:
        return default
    return float(value) if "." in value else int(value)


class Control:
    """The routes."""

    def __init__(self, sim):
        self.sim = sim
        self.routes = {
            ("GET", "/"): self.overview,
            ("GET", "/ready"): lambda request: self.sim.ready(),
            ("GET", "/journal"): self.journal,
            ("GET", "/counters"): self.counters,
            ("GET", "/tokens"): self.tokens,
            ("GET", "/sessions"): self.sessions,
            ("GET", "/fault"): lambda request: self.sim.faults.describe(),
            ("POST", "/fault"): self.fault,
            ("DELETE", "/fault"): self.clear_faults,
            ("POST", "/account"): self.account,
            ("POST", "/revoke"): self.revoke,
            ("POST", "/latency"): self.latency,
            ("GET", "/settings"): lambda request: self.sim.settings,
            ("POST", "/settings"): self.settings,
            ("POST", "/client"): self.client,
            ("POST", "/reset"): self.reset,
        }

    def handle(self, request):
        route = self.routes.get((request.method, request.path))
        if route is None:
            known = sorted("%s %s" % key for key in self.routes)
            return Response.of_json({"error": "no such thing", "there_are":
                                     known}, 404)
        try:
            return Response.of_json(route(request))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Response.of_json({"error": str(error)}, 400)

    @staticmethod
    def _object(request):
        value = request.json()
        if not isinstance(value, dict):
            raise ValueError("an object is expected")
        return value

    def overview(self, _request):
        return {"name": "gmailsim", "routes": sorted(
            "%s %s" % key for key in self.routes), "stages": SMTP_STAGES}

    def journal(self, request):
        return self.sim.journal.select(
            _number(request, "since", 0),
            request.query.get("content", "1") != "0",
            request.query.get("account"), _number(request, "limit"))

    def counters(self, request):
        window_s = _number(request, "window_s")
        if window_s is not None and window_s <= 0:
            raise ValueError("window_s must be positive")
        accounts = self.sim.accounts.by_address.values()
        wanted = request.query.get("account")
        if wanted:
            accounts = [a for a in accounts
                        if a.address.lower() == wanted.lower()]
        return {"accounts": {a.address: a.describe(window_s)
                             for a in accounts},
                "total": {**self.sim.totals,
                          "sessions": len(self.sim.sessions)}}

    def tokens(self, request):
        return self.sim.tokens.describe(request.query.get("address"))

    def sessions(self, _request):
        return [{"session": s.sid, "listener": s.listener.name,
                 "account": s.account.address if s.account else None,
                 "transactions": s.transactions, "commands": s.commands,
                 "tls": s.tls_version, "helo": s.helo}
                for s in self.sim.sessions]

    def fault(self, request):
        """One rule or a list of rules; {"clear": true | id} removes."""
        value = request.json()
        if isinstance(value, dict) and "clear" in value:
            ident = value["clear"]
            return {"cleared": self.sim.faults.clear(
                None if ident is True else ident)}
        rules = value if isinstance(value, list) else [value]
        added = []
        try:
            for rule in rules:
                added.append(self.sim.faults.add(rule))
        except ValueError:
            for rule in added:
                self.sim.faults.clear(rule.ident)
            raise
        return {"ids": [rule.ident for rule in added],
                "id": added[-1].ident if added else None}

    def clear_faults(self, request):
        ident = _number(request, "id")
        return {"cleared": self.sim.faults.clear(ident)}

    def account(self, request):
        account = self.sim.accounts.change(self._object(request))
        return account.describe()

    def client(self, request):
        """Add or change an OAuth2 client."""
        value = self._object(request)
        config.check({"clients": [value]})
        entry = self.sim.clients.setdefault(value["client_id"], {})
        entry.update(value)
        return {"client_id": value["client_id"]}

    def revoke(self, request):
        value = self._object(request)
        if set(value) - _REVOKE_KEYS or \
                not ({"address", "token"} & set(value)) or \
                value.get("sessions", "expire") not in ("expire", "push",
                                                        "drop", "keep"):
            raise ValueError("revoke takes address or token, refresh, and "
                             "sessions: expire, push, drop or keep")
        return self.sim.revoke(**value)

    def latency(self, request):
        self.sim.latency.set(self._object(request))
        return self.sim.latency.spec

    def settings(self, request):
        changes = config.check_settings(self._object(request))
        if "profile" in changes:
            self.sim.texts = Texts(changes["profile"])
        self.sim.settings.update(changes)
        return self.sim.settings

    def reset(self, _request):
        self.sim.reset()
        return {}
