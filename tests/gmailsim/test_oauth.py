# test_oauth - the token endpoint: refresh tokens, service accounts, consent
# SPDX-License-Identifier: Apache-2.0

import base64
import email.utils
import hashlib
import html
import http.client
import json
import re
import socket
import subprocess
import time
import unittest
from urllib.parse import parse_qs, urlencode, urlsplit

from simcase import CLIENT, TIMEOUT_S, SimCase, Talk

from gmailsim.oauth_errors import ROWS

SCOPE = "https://mail.google.com/"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SERVICE = "robot@project.iam.gserviceaccount.com"


def b64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Refresh(SimCase):

    def test_good_answer(self):
        status, headers, body = self.https("POST", "/token", {
            **CLIENT, "grant_type": "refresh_token",
            "refresh_token": self.refresh})
        answer = json.loads(body)
        self.assertEqual(status, 200)
        self.assertRegex(answer.pop("access_token"), r"^ya29\.[\w-]{100,}$")
        self.assertEqual(answer, {"expires_in": 3599, "scope": SCOPE,
                                  "token_type": "Bearer"})
        self.assertTrue(headers["Content-Type"].startswith("application/json"))
        date = email.utils.parsedate_to_datetime(headers["Date"])
        self.assertLess(abs(date.timestamp() - time.time()), 5)

    def test_refusals(self):
        self.sim.client("deleted", deleted=True)
        self.sim.client("disabled", disabled=True)
        self.sim.client("second", client_secret="s")
        self.sim.account(self.user, refresh_tokens=[
            {"token": "bound", "client_id": CLIENT["client_id"]},
            {"token": "gone", "revoked": True}])
        good = {**CLIENT, "grant_type": "refresh_token",
                "refresh_token": "bound"}
        self.assertEqual(self.grant(**good)[0], 200)
        rows = [
            ("wrong token", {"refresh_token": "x"}, "bad_grant"),
            ("no token", {"refresh_token": ""}, "missing_field"),
            ("revoked token", {"refresh_token": "gone"}, "revoked"),
            ("wrong secret", {"client_secret": "x"}, "client_secret"),
            ("no secret", {"client_secret": ""}, "client_secret"),
            ("unknown client", {"client_id": "x"}, "client_not_found"),
            ("no client", {"client_id": ""}, "missing_field"),
            ("deleted client", {"client_id": "deleted"}, "deleted_client"),
            ("disabled client", {"client_id": "disabled"}, "disabled_client"),
            ("token of another client", {"client_id": "second",
                                         "client_secret": "s"}, "bad_grant"),
            ("no grant type", {"grant_type": ""}, "missing_field"),
            ("other grant type", {"grant_type": "password"},
             "unsupported_grant"),
        ]
        for name, change, row in rows:
            with self.subTest(name):
                status, answer = self.grant(**{**good, **change})
                wanted, error, description, *_ = ROWS[row]
                self.assertEqual((status, answer["error"]), (wanted, error))
                self.assertTrue(answer["error_description"].startswith(
                    description.partition("{")[0]), answer)

    def test_bodies_that_are_no_form(self):
        for body, kind in ((b"{}", "application/json"), (b"", "text/plain"),
                           (b"\xff=\xff", "application/x-www-form-urlencoded")
                           ):
            status, _, body = self.https("POST", "/token", body,
                                         {"Content-Type": kind})
            self.assertEqual((status, json.loads(body)["error"]),
                             (400, "invalid_request"))

    def test_client_by_basic_authentication(self):
        pair = "%s:%s" % (CLIENT["client_id"], CLIENT["client_secret"])
        for secret, wanted in ((pair, 200), (pair + "x", 401), ("x:y", 401)):
            status, _, _ = self.https(
                "POST", "/token", {"grant_type": "refresh_token",
                                   "refresh_token": self.refresh},
                {"Authorization": "Basic " +
                 base64.b64encode(secret.encode()).decode()})
            self.assertEqual(status, wanted)

    def test_expires_in(self):
        self.sim.settings(expires_in=100)
        self.assertEqual(self.refresh_grant()[1]["expires_in"], 100)
        self.sim.fault("expires_in", seconds=7, count=1)
        self.assertEqual(self.refresh_grant()[1]["expires_in"], 7)
        self.assertEqual(self.refresh_grant()[1]["expires_in"], 100)

    def test_rotation(self):
        self.sim.fault("rotate", account=self.user, count=1)
        new = self.refresh_grant()[1]["refresh_token"]
        status, answer = self.refresh_grant()
        self.assertEqual((status, answer["error_description"]),
                         (400, "Token has been expired or revoked."))
        self.assertNotIn("refresh_token", self.refresh_grant(new)[1])
        self.sim.settings(rotate_refresh_tokens=True)
        newer = self.refresh_grant(new)[1]["refresh_token"]
        self.assertNotEqual(newer, new)
        self.assertEqual(self.refresh_grant(new)[0], 400)

    def test_revocation_by_us_and_by_the_client(self):
        token = self.access_token()
        self.assertEqual(self.sim.revoke(self.user)["tokens"], 1)
        self.assertReply(self.talk().login(self.user, token), 334)
        self.assertEqual(self.refresh_grant()[0], 200)
        self.sim.revoke(self.user, refresh=True)
        self.assertEqual(self.refresh_grant()[1]["error"], "invalid_grant")
        self.sim.account(self.user, refresh_tokens=["again"])
        token = self.access_token("again")
        self.assertEqual(self.https("POST", "/revoke",
                                    {"token": "again"})[0], 200)
        self.assertReply(self.talk().login(self.user, token), 334)
        self.assertEqual(self.refresh_grant("again")[0], 400)
        self.assertEqual(self.https("POST", "/revoke", {"token": "x"})[0],
                         400)

    def test_issue_counts(self):
        for _ in range(3):
            self.access_token()
        self.refresh_grant("wrong")
        self.sim.fault("oauth_error", row="revoked", account=self.user,
                       count=1)
        self.refresh_grant()
        tokens = self.sim.tokens(self.user)
        self.assertEqual(tokens["issued"][self.user], 3)
        self.assertEqual(len(tokens["live"]), 3)
        counters = self.sim.counters(self.user)
        self.assertEqual((counters["tokens_issued"],
                          counters["tokens_refused"]), (3, 1))


class Faults(SimCase):

    def test_every_row_by_account_and_by_client(self):
        self.sim.client("second", client_secret="s")
        for name, (status, error, description, *subtype) in ROWS.items():
            for key, value in (("account", self.user),
                               ("client", CLIENT["client_id"])):
                with self.subTest("%s by %s" % (name, key)):
                    self.sim.clear()
                    self.sim.fault("oauth_error", row=name, **{key: value})
                    got, answer = self.refresh_grant()
                    self.assertEqual(got, status)
                    self.assertEqual(answer["error"], error)
                    self.assertEqual(answer["error_description"],
                                     description.format(field=""))
                    self.assertEqual(answer.get("error_subtype"),
                                     subtype[0] if subtype else None)
        self.assertEqual(self.refresh_grant(
            client_id="second", client_secret="s")[0], 200)

    def test_own_error(self):
        self.sim.fault("oauth_error", status=403, error="access_denied",
                       description="no", subtype="why")
        self.assertEqual(self.refresh_grant(), (403, {
            "error": "access_denied", "error_description": "no",
            "error_subtype": "why"}))

    def test_http_answers(self):
        for spec, status, text, kind in (
                ({}, 503, b"We're sorry", "text/html"),
                ({"status": 429}, 429, b"We're sorry", "text/html"),
                ({"status": 403, "body": "<p>rate"}, 403, b"<p>rate",
                 "text/html"),
                ({"status": 200, "body": "{", "content_type":
                  "application/json"}, 200, b"{", "application/json")):
            with self.subTest(spec):
                self.sim.fault("http", count=1, **spec)
                got, headers, body = self.https("POST", "/token", {})
                self.assertEqual(got, status)
                self.assertIn(text, body)
                self.assertIn(kind, headers["Content-Type"])
        self.sim.fault("http", status=503, headers={"Retry-After": "7"})
        _, headers, _ = self.https("POST", "/token", {})
        self.assertEqual(headers["Retry-After"], "7")

    def test_connection_faults(self):
        for what in ("drop", "reset"):
            with self.subTest(what):
                self.sim.fault(what, stage="token", count=1)
                with self.assertRaises((OSError, http.client.HTTPException)):
                    self.refresh_grant()
        self.sim.fault("drop", stage="token", when="after", count=1)
        with self.assertRaises((OSError, http.client.IncompleteRead)):
            self.refresh_grant()
        self.assertEqual(self.sim.tokens()["issued"].get(self.user), 1)
        self.sim.fault("slow", stage="token", ms=150, count=1)
        began = time.monotonic()
        self.assertEqual(self.refresh_grant()[0], 200)
        self.assertGreaterEqual(time.monotonic() - began, 0.15)
        self.sim.latency(token_ms=100)
        began = time.monotonic()
        self.assertEqual(self.refresh_grant()[0], 200)
        self.assertGreaterEqual(time.monotonic() - began, 0.1)

    def test_hang(self):
        self.sim.fault("hang", stage="token", count=1)
        sock = socket.create_connection(("127.0.0.1", self.sim.token))
        with Talk.trusting(self.sim).wrap_socket(
                sock, server_hostname="localhost") as tls:
            tls.sendall(b"POST /token HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            tls.settimeout(0.3)
            with self.assertRaises(TimeoutError):
                tls.recv(1)

    def test_no_access_token(self):
        self.sim.fault("no_access_token", stage="token", count=1)
        status, answer = self.refresh_grant()
        self.assertEqual(status, 200)
        self.assertEqual(list(answer), ["id_token"])

    def test_garbage(self):
        self.sim.fault("garbage", stage="token", count=1)
        _, _, body = self.https("POST", "/token", {
            **CLIENT, "grant_type": "refresh_token",
            "refresh_token": self.refresh})
        with self.assertRaises(ValueError):
            json.loads(body)

    def test_skewed_clock(self):
        self.sim.settings(clock_skew_s=-7200)
        _, headers, _ = self.https("POST", "/token", {})
        date = email.utils.parsedate_to_datetime(headers["Date"])
        self.assertLess(abs(date.timestamp() - time.time() + 7200), 5)


class Http(SimCase):
    """The server underneath."""

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.sim.token),
                                        TIMEOUT_S)
        tls = Talk.trusting(self.sim).wrap_socket(
            sock, server_hostname="oauth2.googleapis.com")
        self.addCleanup(tls.close)
        return tls

    def test_keep_alive_and_pipelining(self):
        tls = self.connect()
        form = urlencode({**CLIENT, "grant_type": "refresh_token",
                          "refresh_token": self.refresh}).encode()
        request = (b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: "
                   b"application/x-www-form-urlencoded\r\nContent-Length: %d"
                   b"\r\n\r\n" % len(form)) + form
        tls.sendall(request * 3 + request[:50])
        data = b""
        while data.count(b'"access_token"') < 3:
            data += tls.recv(65536)
        tls.sendall(request[50:])
        while data.count(b"}\n") < 4:
            data += tls.recv(65536)
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 4)
        tls.sendall(b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = b""
        while True:
            more = tls.recv(65536)
            if not more:
                break
            data += more
        self.assertIn(b"HTTP/1.1 404 Not Found", data)

    def test_bad_requests(self):
        rows = [(b"RUBBISH\r\n\r\n", b"400"),
                (b"GET / HTTP/3.0\r\n\r\n", b"400"),
                (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
                (b"POST /token HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                 b"411"),
                (b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
                 b"\r\n", b"411"),
                (b"POST /token HTTP/1.1\r\nContent-Length: 99999999999\r\n"
                 b"\r\n", b"413"),
                (b"GET /" + b"x" * 70000, b"431")]
        for data, code in rows:
            with self.subTest(data[:60]):
                tls = self.connect()
                tls.sendall(data)
                answer = tls.recv(65536)
                self.assertTrue(answer.startswith(b"HTTP/1.1 " + code),
                                answer)
        self.assertEqual(self.refresh_grant()[0], 200)


class ServiceAccount(SimCase):
    """JWT bearer grant, signed with the key file the simulator made."""

    CONFIG = {"service_accounts": [
        {"email": SERVICE, "generate": True},
        {"email": "narrow@project.iam.gserviceaccount.com", "generate": True,
         "scopes": ["https://www.googleapis.com/auth/gmail.send"]}],
        "auto_accounts": [{"domain": "auto.example",
                           "limits": {"messages": 1}}]}

    def assertion(self, claims=None, header=None, service=SERVICE,
                  spoil=False):
        with open(self.sim.service_accounts[service],
                  encoding="ascii") as file:
            key = json.load(file)
        now = int(time.time())
        all_claims = {"iss": key["client_email"], "sub": self.user,
                      "scope": SCOPE, "iat": now - 30, "exp": now + 3300,
                      "aud": "https://oauth2.googleapis.com/token",
                      **(claims or {})}
        all_claims = {k: v for k, v in all_claims.items() if v is not None}
        head = {"alg": "RS256", "typ": "JWT", "kid": key["private_key_id"],
                **(header or {})}
        signed = ".".join(b64url(json.dumps(part).encode())
                          for part in (head, all_claims))
        path = self.sim.service_accounts[service][:-len(".json")] + ".key"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", path],
            input=signed.encode(), capture_output=True, check=True).stdout
        if spoil:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return signed + "." + b64url(signature)

    def ask(self, *args, **more):
        return self.grant(grant_type=JWT_GRANT,
                          assertion=self.assertion(*args, **more))

    def test_key_file_has_google_s_form(self):
        with open(self.sim.service_accounts[SERVICE],
                  encoding="ascii") as file:
            key = json.load(file)
        self.assertEqual(key["type"], "service_account")
        self.assertEqual(key["client_email"], SERVICE)
        self.assertEqual(key["token_uri"], self.sim.token_url)
        self.assertIn("BEGIN PRIVATE KEY", key["private_key"])

    def test_login_with_a_granted_token(self):
        status, answer = self.ask()
        self.assertEqual(status, 200, answer)
        self.assertEqual(sorted(answer), ["access_token", "expires_in",
                                          "token_type"])
        self.assertReply(self.talk().login(self.user,
                                           answer["access_token"]), 235)
        for audience in (self.sim.token_url,
                         "https://oauth2.googleapis.com/token"):
            self.assertEqual(self.ask({"aud": audience})[0], 200)

    def test_mailboxes_of_an_automatic_domain(self):
        _, answer = self.ask({"sub": "anyone@auto.example"})
        talk = self.talk()
        self.assertReply(talk.login("anyone@auto.example",
                                    answer["access_token"]), 235)
        self.assertReply(talk.message(), 250)
        self.assertReply(talk.message(), 550, "5.4.5")

    def test_alias_as_sub(self):
        self.sim.account(self.user, aliases=["alias%s" % self.user])
        _, answer = self.ask({"sub": "alias" + self.user})
        self.assertReply(self.talk().login(self.user,
                                           answer["access_token"]), 235)

    def test_refusals(self):
        now = int(time.time())
        narrow = "narrow@project.iam.gserviceaccount.com"
        rows = [
            ("signature", {}, {"spoil": True}, "jwt_signature"),
            ("algorithm", {}, {"header": {"alg": "HS256"}}, "jwt_signature"),
            ("other key id", {}, {"header": {"kid": "x"}}, "jwt_signature"),
            ("unknown issuer", {"iss": "x@y.z"}, {"header": {"kid": "x"}},
             "jwt_account"),
            ("no iat", {"iat": None}, {}, "jwt_iat"),
            ("no exp", {"exp": None}, {}, "jwt_exp"),
            ("from the future", {"iat": now + 900, "exp": now + 1800}, {},
             "jwt_timeframe"),
            ("too old", {"iat": now - 7200, "exp": now + 10}, {},
             "jwt_timeframe"),
            ("expired", {"iat": now - 3000, "exp": now - 10}, {},
             "jwt_timeframe"),
            ("too long", {"exp": now + 4500}, {}, "jwt_timeframe"),
            ("no scope", {"scope": None}, {}, "invalid_scope"),
            ("empty scope", {"scope": " "}, {}, "invalid_scope"),
            ("audience", {"aud": "https://example.com"}, {}, "jwt_audience"),
            ("no such mailbox", {"sub": "nobody@example.com"}, {},
             "jwt_sub"),
            ("no mailbox at all", {"sub": "nobody"}, {}, "jwt_sub_syntax"),
            ("not delegated", {}, {"service": narrow},
             "unauthorized_client"),
            # order: what comes first in the list of checks is reported
            ("signature before account", {"iss": SERVICE, "iat": None},
             {"spoil": True}, "jwt_signature"),
            ("issuer before time", {"iss": "x@y.z", "iat": None},
             {"header": {"kid": "x"}}, "jwt_account"),
            ("time before scope", {"exp": now - 10, "scope": None}, {},
             "jwt_timeframe"),
            ("scope before audience", {"scope": None, "aud": "x"}, {},
             "invalid_scope"),
        ]
        for name, claims, more, row in rows:
            with self.subTest(name):
                status, answer = self.ask(claims, **more)
                wanted, error, description, *_ = ROWS[row]
                self.assertEqual(
                    (status, answer.get("error"),
                     answer.get("error_description")),
                    (wanted, error, description))

    def test_small_skew_is_forgiven(self):
        now = int(time.time())
        for iat in (now + 200, now - 3500):
            self.assertEqual(self.ask({"iat": iat, "exp": iat + 3600})[0], 200)
        self.sim.settings(clock_skew_s=7200)
        self.assertEqual(self.ask()[1]["error_description"][:12],
                         "Invalid JWT:")

    def test_unknown_scope_gives_no_access_token(self):
        status, answer = self.ask({"scope": "nonsense"})
        self.assertEqual((status, list(answer)), (200, ["id_token"]))

    def test_token_of_another_scope_opens_no_mail(self):
        _, answer = self.ask(
            {"scope": "https://www.googleapis.com/auth/gmail.send"},
            service="narrow@project.iam.gserviceaccount.com")
        self.assertReply(self.talk().login(self.user,
                                           answer["access_token"]), 334)

    def test_assertions_that_cannot_be_read(self):
        good = self.assertion()
        head, claims, _ = good.split(".")
        for assertion in ("", "x", "a.b.c", good.rpartition(".")[0],
                          head + "." + claims + "." + "!", good + ".x",
                          b64url(b"[]") + "." + b64url(b"[]") + ".eA"):
            with self.subTest(assertion[:20]):
                status, answer = self.grant(grant_type=JWT_GRANT,
                                            assertion=assertion)
                self.assertIn((status, answer["error"]),
                              ((400, "invalid_request"),
                               (400, "invalid_grant")))

    def test_faults_by_subject_and_by_service_account(self):
        for key, value in (("account", self.user), ("client", SERVICE)):
            self.sim.fault("oauth_error", row="unauthorized_client", count=1,
                           **{key: value})
            self.assertEqual(self.ask()[0], 401)
            self.assertEqual(self.ask()[0], 200)


class Consent(SimCase):
    """The page a browser is sent to, and the code that comes back."""

    VERIFIER = "v" * 50
    REDIRECT = "http://127.0.0.1:4711/back"

    def query(self, **change):
        challenge = b64url(hashlib.sha256(self.VERIFIER.encode()).digest())
        query = {"response_type": "code", "client_id": CLIENT["client_id"],
                 "redirect_uri": self.REDIRECT, "scope": SCOPE,
                 "code_challenge": challenge, "code_challenge_method": "S256",
                 "access_type": "offline", "prompt": "consent",
                 "state": "st&te", "login_hint": self.user, **change}
        status, headers, body = self.https(
            "GET", "/o/oauth2/v2/auth?" + urlencode(query))
        if status != 302:
            return status, body.decode()
        url = urlsplit(headers["Location"])
        self.assertEqual(url._replace(query="").geturl(),
                         query["redirect_uri"])
        return status, {k: v[0] for k, v in parse_qs(url.query).items()}

    def redeem(self, code, **change):
        return self.grant(**{**CLIENT, "grant_type": "authorization_code",
                             "code": code, "redirect_uri": self.REDIRECT,
                             "code_verifier": self.VERIFIER, **change})

    def test_whole_way(self):
        _, answer = self.query()
        self.assertEqual(answer["state"], "st&te")
        self.assertEqual(answer["scope"], SCOPE)
        status, tokens = self.redeem(answer["code"])
        self.assertEqual(status, 200, tokens)
        self.assertReply(self.talk().login(self.user,
                                           tokens["access_token"]), 235)
        self.assertEqual(self.refresh_grant(tokens["refresh_token"])[0], 200)
        self.assertEqual(self.redeem(answer["code"])[1]["error"],
                         "invalid_grant")       # a code works once

    def test_bad_redemptions(self):
        rows = [({"code_verifier": "wrong"}, "Invalid code verifier."),
                ({"code_verifier": ""}, "Missing code verifier."),
                ({"redirect_uri": "http://127.0.0.1:1/x"},
                 "redirect_uri_mismatch"),
                ({"code": "4/wrong"}, "invalid_grant"),
                ({"client_secret": "x"}, "invalid_client")]
        for change, error in rows:
            with self.subTest(change):
                code = self.query()[1]["code"]
                status, answer = self.redeem(**{"code": code, **change})
                self.assertIn(error, answer.values())

    def test_bad_requests_are_shown_not_redirected(self):
        rows = [({"client_id": "x"}, "invalid_client"),
                ({"redirect_uri": "https://evil.example/"}, "redirect_uri"),
                ({"redirect_uri": "urn:ietf:wg:oauth:2.0:oob"},
                 "redirect_uri"),
                ({"response_type": "token"}, "response_type"),
                ({"scope": ""}, "scope"),
                ({"code_challenge_method": "S1"}, "challenge")]
        for change, text in rows:
            with self.subTest(change):
                status, body = self.query(**change)
                self.assertEqual(status, 400)
                self.assertIn(text, body)

    def test_refusal_by_the_person(self):
        self.sim.fault("deny", count=1)
        self.assertEqual(self.query()[1], {"error": "access_denied",
                                           "state": "st&te"})
        self.assertEqual(self.query(login_hint="nobody@example.com")[1]
                         ["error"], "access_denied")

    def test_page_with_a_form(self):
        self.sim.settings(consent_page=True)
        status, page = self.query()
        self.assertEqual(status, 200)
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
        fields = {k: html.unescape(v) for k, v in fields.items()}
        self.assertEqual((fields["account"], fields["state"]),
                         (self.user, "st&te"))
        other = "other@example.com"
        self.sim.account(other)
        for decision, account, want in (
                ("deny", self.user, "error"), ("allow", self.user, "code"),
                ("allow", other, "code"),
                ("allow", "nobody@example.com", "error")):
            _, headers, _ = self.https(
                "POST", "/o/oauth2/v2/auth",
                {**fields, "decision": decision, "account": account})
            answer = parse_qs(urlsplit(headers["Location"]).query)
            self.assertIn(want, answer)

    def test_less_than_was_asked(self):
        self.sim.settings(consent_scope="openid email")
        status, tokens = self.redeem(self.query()[1]["code"])
        self.assertEqual((status, tokens["scope"]), (200, "openid email"))
        self.sim.fault("no_refresh_token", count=1)
        status, tokens = self.redeem(self.query()[1]["code"])
        self.assertEqual(status, 200)
        self.assertNotIn("refresh_token", tokens)

    def test_account_without_a_hint(self):
        self.sim.settings(consent_account=self.user)
        self.assertIn("code", self.query(login_hint="")[1])


if __name__ == "__main__":
    unittest.main()
