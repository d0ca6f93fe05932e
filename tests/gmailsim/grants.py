# grants - the OAuth2 token endpoint
# SPDX-License-Identifier: Apache-2.0
"""POST /token with the grants refresh_token, jwt-bearer and
authorization_code, GET /o/oauth2/v2/auth, POST /revoke. The order of checks of
an assertion is that of the live endpoint."""

import base64
import binascii
import hashlib
import html
import json
import secrets
import time
from urllib.parse import urlencode, urlsplit

from . import rsa
from .oauth_errors import SORRY, GrantError, error_response, row_response
from .tokens import MAIL_SCOPE
from .webserver import Response

TOKEN_URL = "https://oauth2.googleapis.com/token"
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def _unbase64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _known_scope(scope):
    return scope == MAIL_SCOPE or scope in ("openid", "email", "profile") or \
        scope.startswith("https://www.googleapis.com/auth/")


class Grants:
    """The endpoint; `sim` gives accounts, tokens, faults and settings."""

    def __init__(self, sim, clients, service_accounts):
        self.sim = sim
        self.clients = clients              # client_id -> entry
        self.service_accounts = service_accounts    # e-mail -> entry
        self.codes = {}                     # code -> what was consented to

    def now(self):
        """Google's idea of the time, which tests may shift."""
        return time.time() + self.sim.settings["clock_skew_s"]

    def handle(self, request):
        """Answer one request."""
        self.sim.totals["token_requests"] += 1
        if request.path == "/token" or \
                request.path.endswith("/oauth2/v2.0/token"): # Microsoft's
            if request.method != "POST":
                return Response(405, "POST only\n")
            return self._token(request)
        if request.path in ("/o/oauth2/v2/auth", "/o/oauth2/auth"):
            return self._consent(request)
        if request.path == "/revoke" and request.method == "POST":
            return self._revoke(request)
        return Response(404, SORRY.replace("Sorry...", "Error 404"),
                        "text/html; charset=UTF-8")

    # --- POST /token

    def _token(self, request):
        form = request.form()
        client, account = self._who(request, form or {})
        rules = self.sim.faults.take("token", account, client)
        response = None
        for rule in rules:
            if not rule.effect:
                response = self._fault_response(rule)
        if response is None:
            try:
                response = self._grant(request, form, rules)
            except GrantError as error:
                response = row_response(error.row, error.field)
        self._count(account, response.status)
        response.delay_ms += self.sim.latency.token_ms
        for rule in rules:
            self._apply(rule, response)
        return response

    def _count(self, address, status):
        known = address and self.sim.accounts.by_address.get(address.lower())
        if status == 200:
            self.sim.totals["tokens_issued"] += 1
        else:
            self.sim.totals["tokens_refused"] += 1
        if known:
            if status == 200:
                known.tokens_issued += 1
            else:
                known.tokens_refused += 1

    def _who(self, request, form):
        """(client or service account, address) for faults and counters."""
        client = form.get("client_id") or self._basic(request)[0]
        if "assertion" in form:
            try:
                part = form["assertion"].split(".")[1]
                claims = json.loads(_unbase64url(part))
                return claims.get("iss"), claims.get("sub")
            except (ValueError, IndexError, AttributeError):
                return None, None
        account, _ = self.sim.accounts.find_refresh_token(
            form.get("refresh_token"))
        if account is None and form.get("code") in self.codes:
            return client, self.codes[form["code"]]["address"]
        return client, account.address if account else None

    @staticmethod
    def _fault_response(rule):
        """What a rule that replaces the grant answers."""
        spec = rule.spec
        if rule.what == "oauth_error":
            if "row" in spec:
                return row_response(spec["row"])
            return error_response(
                spec.get("status", 400), spec.get("error", "invalid_grant"),
                spec.get("description", "Bad Request"), spec.get("subtype"))
        if rule.what == "http":
            return Response(spec.get("status", 503), spec.get("body", SORRY),
                            spec.get("content_type",
                                     "text/html; charset=UTF-8"),
                            spec.get("headers", {}).items())
        response = Response(503)
        return response

    @staticmethod
    def _apply(rule, response):
        """What a rule does to the answer."""
        if rule.what == "slow":
            response.delay_ms += rule.ms
        elif rule.what in ("drop", "reset", "hang"):
            response.ending = rule.what
            response.half = rule.when == "after"
        elif rule.what == "garbage":
            response.body = rule.bytes
        elif rule.what == "no_access_token":
            response.body = json.dumps({"id_token": "eyJ.simulated.jwt"}
                                       ).encode()

    def _grant(self, request, form, rules):
        if form is None:
            raise GrantError("bad_request")
        grant = form.get("grant_type")
        if not grant:
            raise GrantError("missing_field", "grant_type")
        if grant == "refresh_token":
            return self._refresh(self._client(request, form), form, rules)
        if grant == "authorization_code":
            return self._code(self._client(request, form), form, rules)
        if grant == _JWT_GRANT:
            return self._assertion(form, rules)
        raise GrantError("unsupported_grant", grant)

    @staticmethod
    def _basic(request):
        """Client id and secret from HTTP Basic, RFC 6749 section 2.3.1."""
        kind, _, value = request.headers.get("authorization",
                                             "").partition(" ")
        if kind.lower() != "basic":
            return None, None
        try:
            text = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None, None
        ident, _, secret = text.partition(":")
        return ident, secret

    def _client(self, request, form):
        ident, secret = self._basic(request)
        ident = form.get("client_id", ident)
        secret = form.get("client_secret", secret)
        if not ident:
            raise GrantError("missing_field", "client_id")
        client = self.clients.get(ident)
        if client is None:
            raise GrantError("client_not_found")
        for state in ("deleted", "disabled"):
            if client.get(state):
                raise GrantError(state + "_client")
        if client.get("client_secret") and \
                secret != client["client_secret"]:
            raise GrantError("client_secret")
        return client

    def _issue(self, address, scope, rules, extra=()):
        """A 200 answer with a new access token."""
        lifetime = self.sim.settings["expires_in"]
        for rule in rules:
            if rule.what == "expires_in":
                lifetime = rule.spec.get("seconds", lifetime)
        if any(r.what == "no_access_token" for r in rules):
            return Response.of_json({})
        token = self.sim.tokens.issue(address, scope, lifetime)
        body = {"access_token": token.value, "expires_in": int(lifetime)}
        body.update(extra)
        return body

    @staticmethod
    def _ok(body):
        if isinstance(body, Response):
            return body
        response = Response.of_json(body, indent=2)
        response.headers += [
            ("Cache-Control", "no-cache, no-store, max-age=0, "
             "must-revalidate"), ("Pragma", "no-cache")]
        return response

    def _refresh(self, client, form, rules):
        value = form.get("refresh_token")
        if not value:
            raise GrantError("missing_field", "refresh_token")
        account, entry = self.sim.accounts.find_refresh_token(value)
        if account is None or \
                entry.get("client_id", client["client_id"]) != \
                client["client_id"]:
            raise GrantError("bad_grant")
        if entry.get("revoked"):
            raise GrantError("revoked")
        scope = entry.get("scope", MAIL_SCOPE)
        extra = {"scope": scope, "token_type": "Bearer"}
        body = self._issue(account.address, scope, rules, extra)
        if isinstance(body, dict) and (
                self.sim.settings["rotate_refresh_tokens"] or
                any(r.what == "rotate" for r in rules)):
            body["refresh_token"] = self._rotate(account, value, entry)
        return self._ok(body)

    def _rotate(self, account, old, entry):
        """A new refresh token; the old one is revoked."""
        new = self.new_refresh_token(account, entry.get("client_id"),
                                     entry.get("scope", MAIL_SCOPE))
        account.refresh_tokens = [
            {**entry, "token": old, "revoked": True}
            if t == old or (isinstance(t, dict) and t.get("token") == old)
            else t for t in account.refresh_tokens]
        return new

    @staticmethod
    def new_refresh_token(account, client_id, scope):
        value = "1//0" + secrets.token_urlsafe(72)
        entry = {"token": value, "scope": scope}
        if client_id:
            entry["client_id"] = client_id
        account.refresh_tokens = account.refresh_tokens + [entry]
        return value

    def _assertion(self, form, rules):
        """RFC 7523; the order of checks was recorded at the live endpoint:
        structure, signature, issuer, iat and exp, time, scope, audience."""
        header, claims, signed, signature = self._structure(
            form.get("assertion"))
        service = self._signature(header, claims, signed, signature)
        now, iat, exp = self.now(), claims.get("iat"), claims.get("exp")
        for name, value in (("iat", iat), ("exp", exp)):
            if not isinstance(value, (int, float)):
                raise GrantError("jwt_" + name)
        if iat > now + 300 or iat < now - 3600 - 300 or exp < now or \
                exp < iat or exp > iat + 65 * 60:
            raise GrantError("jwt_timeframe")
        scopes = str(claims.get("scope") or "").split()
        if not scopes:
            raise GrantError("invalid_scope")
        if claims.get("aud") not in (TOKEN_URL,
                                     "https://accounts.google.com/o/oauth2/"
                                     "token",
                                     "https://www.googleapis.com/oauth2/v4/"
                                     "token", *self.sim.own_token_urls):
            raise GrantError("jwt_audience")
        address = self._subject(service, claims.get("sub"))
        if not any(_known_scope(s) for s in scopes):
            # a trap of the live endpoint: 200 without access_token
            return self._ok({"id_token": "eyJ.simulated.jwt"})
        if address != service["email"] and \
                not set(scopes) <= set(service.get("scopes", [MAIL_SCOPE])):
            raise GrantError("unauthorized_client")
        return self._ok(self._issue(address, " ".join(scopes), rules,
                                    {"token_type": "Bearer"}))

    @staticmethod
    def _structure(assertion):
        parts = (assertion or "").split(".")
        try:
            if len(parts) != 3:
                raise ValueError
            header, claims = (json.loads(_unbase64url(p)) for p in parts[:2])
            signature = _unbase64url(parts[2])
            if not isinstance(header, dict) or not isinstance(claims, dict):
                raise ValueError
        except ValueError:
            raise GrantError("bad_request") from None
        return header, claims, ".".join(parts[:2]).encode(), signature

    def _signature(self, header, claims, signed, signature):
        """The service account that signed."""
        service = self.service_accounts.get(claims.get("iss"))
        if service is None:
            known = [s for s in self.service_accounts.values()
                     if header.get("kid") and s.get("kid") == header["kid"]]
            if known and not rsa.verify(known[0]["key"], signed, signature):
                raise GrantError("jwt_signature")
            raise GrantError("jwt_account")
        if header.get("alg") != "RS256" or \
                not rsa.verify(service["key"], signed, signature):
            raise GrantError("jwt_signature")
        if header.get("kid") and service.get("kid") and \
                header["kid"] != service["kid"]:
            raise GrantError("jwt_signature")
        if service.get("deleted"):
            raise GrantError("jwt_account")
        return service

    def _subject(self, service, sub):
        if sub is None:
            return service["email"]
        if not isinstance(sub, str) or sub.count("@") != 1:
            raise GrantError("jwt_sub_syntax")
        account = self.sim.accounts.find_sender(sub)
        if account is None:
            raise GrantError("jwt_sub")
        return account.address

    # --- consent and authorization_code

    def _consent(self, request):
        """The page a browser would show. It consents at once, as whoever the
        login_hint names; with consent_page it asks, and a POST of its form
        tells who logs in and what is decided."""
        query, form = request.query, {}
        if request.method == "POST":
            query = form = request.form() or {}
        client = self.clients.get(query.get("client_id"))
        redirect = query.get("redirect_uri", "")
        problem = None
        if client is None:
            problem = "invalid_client: The OAuth client was not found."
        elif not self._loopback(redirect, client):
            problem = "redirect_uri_mismatch"
        elif query.get("response_type") != "code":
            problem = "unsupported_response_type"
        elif not query.get("scope"):
            problem = "invalid_request: Missing required parameter: scope"
        elif query.get("code_challenge_method", "plain") not in ("S256",
                                                                 "plain"):
            problem = "invalid_request: bad code_challenge_method"
        if problem:
            return Response(400, "<html><body><h1>Error 400</h1><p>%s</p>"
                            "</body></html>\n" % html.escape(problem),
                            "text/html; charset=utf-8")
        if self.sim.settings["consent_page"] and request.method != "POST":
            return self._page(query)
        address = form.get("account") or query.get("login_hint") or \
            self.sim.settings["consent_account"]
        account = self.sim.accounts.find(address) if address else None
        rules = self.sim.faults.take("consent", address, query["client_id"])
        answer = {"state": query["state"]} if "state" in query else {}
        scope = self.sim.settings["consent_scope"] or query["scope"]
        if account is None or form.get("decision") == "deny" or \
                any(r.what == "deny" for r in rules):
            answer["error"] = "access_denied"
        else:
            code = "4/0A" + secrets.token_urlsafe(60)
            self.codes[code] = {
                "address": account.address, "client_id": query["client_id"],
                "redirect_uri": redirect, "scope": scope,
                "challenge": query.get("code_challenge"),
                "method": query.get("code_challenge_method", "plain"),
                "offline": query.get("access_type") == "offline" or
                client.get("type", "desktop") == "desktop",
                "until": time.monotonic() + 600}
            answer.update(code=code, scope=scope)
        joint = "&" if urlsplit(redirect).query else "?"
        return Response(302, "", "text/html; charset=utf-8",
                        [("Location", redirect + joint + urlencode(answer))])

    @staticmethod
    def _page(query):
        """A form with all that was asked, an account and two buttons."""
        fields = "".join(
            '<input type="hidden" name="%s" value="%s">\n' % (
                html.escape(name), html.escape(value))
            for name, value in query.items())
        return Response(
            200, '<!DOCTYPE html>\n<title>Sign in</title>\n'
            '<form method="post" action="/o/oauth2/v2/auth">\n%s'
            '<input name="account" value="%s">\n'
            '<button name="decision" value="allow">Allow</button>\n'
            '<button name="decision" value="deny">Cancel</button>\n'
            '</form>\n' % (fields, html.escape(query.get("login_hint", ""))),
            "text/html; charset=utf-8")

    @staticmethod
    def _loopback(redirect, client):
        """Desktop clients may use any port of the loopback address."""
        if redirect in client.get("redirect_uris", ()):
            return True
        parts = urlsplit(redirect)
        return parts.scheme == "http" and \
            parts.hostname in ("127.0.0.1", "localhost", "::1")

    def _code(self, client, form, rules):
        consent = self.codes.pop(form.get("code"), None)
        if consent is None or time.monotonic() > consent["until"] or \
                consent["client_id"] != client["client_id"]:
            raise GrantError("bad_grant")
        if form.get("redirect_uri") != consent["redirect_uri"]:
            raise GrantError("redirect_uri")
        if consent["challenge"]:
            given = form.get("code_verifier", "")
            if consent["method"] == "S256":
                digest = hashlib.sha256(given.encode()).digest()
                given = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if not form.get("code_verifier"):
                raise GrantError("no_verifier")
            if given != consent["challenge"]:
                raise GrantError("verifier")
        account = self.sim.accounts.find(consent["address"])
        if account is None:
            raise GrantError("bad_grant")
        extra = {"scope": consent["scope"], "token_type": "Bearer"}
        if consent["offline"] and not any(
                r.what == "no_refresh_token" for r in rules):
            extra["refresh_token"] = self.new_refresh_token(
                account, client["client_id"], consent["scope"])
        return self._ok(self._issue(account.address, consent["scope"], rules,
                                    extra))

    def _revoke(self, request):
        """Google's own revocation: a refresh token or an access token."""
        value = (request.form() or request.query).get("token", "")
        account, _ = self.sim.accounts.find_refresh_token(value)
        token = self.sim.tokens.by_value.get(value)
        if account is None and token is None:
            return error_response(400, "invalid_token", "Token expired or "
                                  "revoked")
        self.sim.revoke(account.address if account else token.address,
                        refresh=True)
        return Response.of_json({})
