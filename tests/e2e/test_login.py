# test_login - a person logs in; accounts are verified; tokens are given away
# SPDX-License-Identifier: Apache-2.0
"""A script plays the browser against the simulator's consent page."""

import html
import http.client
import json
import os
import re
import ssl
import subprocess
import unittest
from urllib.parse import urlencode, urlsplit

from tests.e2e import stack as e2e
from tests.e2e.stack import SharedStack, Stack, wait_for

NOBODY = 65534
HEAD = re.sub(
    "tls: (implicit|starttls), ca_file", r'tls: \1, imap: "localhost:{imaps}",'
    '\n          pop: "localhost:{pops}", ca_file', e2e.HEAD).replace(
    'token_url: "', 'auth_url: "https://localhost:{token}/o/oauth2/v2/auth",\n'
    '         token_url: "')
ACCOUNTS = e2e.ACCOUNTS + "".join("""\
  %s:
    address: %s
    auth: {{oauth2: {{client: corp, refresh_token_file: secrets/%s.token}}}}
""" % (name, address, name.split("-")[0]) for name, address in (
    ("fresh", "Fresh@example.com"), ("again", "again@example.com"),
    ("again-not", "again@example.community"),
    ("scoped", "scoped@example.com")))
RULES = e2e.RULES.replace("  - name: sales\n", """\
  - name: fresh
    match: {sender: fresh@example.com}
    route: {account: fresh}
  - name: sales
""")
SIM = {
    "accounts": e2e.SIM["accounts"] + [
        {"address": "fresh@example.com"}, {"address": "again@example.com"},
        {"address": "scoped@example.com", "refresh_tokens": [
            {"token": "1//scoped", "scope": "openid email"}]}],
    "settings": {"consent_page": True},
}
OLD = "1//dead\n"


def fetch(url, ca_file=None, form=None):
    """(status, Location, page), with whatever the URL's scheme wants."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.netloc, timeout=20,
            context=ssl.create_default_context(cafile=ca_file))
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    try:
        connection.request(
            "POST" if form else "GET", target,
            urlencode(form) if form else None,
            {"Content-Type": "application/x-www-form-urlencoded"}
            if form else {})
        answer = connection.getresponse()
        return (answer.status, answer.headers["Location"],
                answer.read().decode())
    finally:
        connection.close()


class LoginRun:
    """gmroutectl login, up to where it shows the address."""

    def __init__(self, stack, *words, config=None, cwd=None):
        self.stack = stack
        self.process = subprocess.Popen(
            [os.path.join(e2e.BUILD, e2e.PROGRAMS["ctl"]), "-c",
             config or stack.config_file, "login", *words], cwd=cwd, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        shown = self.process.stderr if "--json" in words else \
            self.process.stdout
        self.head, self.url = "", None
        for line in shown:
            self.head += line
            if line.startswith("https://"):
                self.url = line.strip()
            if line.startswith(("Waiting", "address, all of it")):
                break

    def consent(self, **form):
        """The page's form, filled in; where the browser is sent."""
        ca_file = self.stack.sim.ca_file
        _, _, page = fetch(self.url, ca_file)
        fields = {k: html.unescape(v) for k, v in
                  re.findall(r'name="(\w+)" value="([^"]*)"', page)}
        fields.update({"decision": "allow", **form})
        return fetch(self.stack.sim.auth_url, ca_file, fields)[1]

    def end(self, given=""):
        """(status, output, errors)"""
        out, err = self.process.communicate(given, timeout=60)
        return self.process.returncode, self.head + out, err

    def browse(self, **form):
        """Consents, goes back, and lets the command end."""
        page = fetch(self.consent(**form))
        return page, *self.end()


class Login(SharedStack):

    @classmethod
    def make_stack(cls):
        stack = Stack(rules=RULES, accounts=ACCOUNTS, head=HEAD, sim=SIM)
        stack.secret("again.token", OLD)
        stack.secret("scoped.token", "1//scoped\n")
        return stack

    def setUp(self):
        super().setUp()
        self.sim.clear()
        self.sim.settings(consent_page=True, consent_scope=None,
                          ehlo_without=[])

    def path(self, name):
        return os.path.join(self.stack.top, "secrets", name + ".token")

    def read(self, name):
        with open(self.path(name), encoding="ascii") as f:
            return f.read()

    def state(self, account):
        rows = self.stack.ctl("tokens", account, "--json", status=None)
        return rows[0] if rows else {"state": None}

    def refused(self, result, *texts):
        """A failed login says why, and leaves the old token."""
        status, out, err = result
        self.assertEqual(status, 1, out + err)
        for text in texts:
            self.assertIn(text, err)
        self.assertEqual(self.read("again"), OLD)

    # --- login

    def test_whole_way(self):
        wait_for("a token to be missed", lambda: self.state(
            "fresh")["state"] in ("needs_login", "config"))
        self.assertFalse(os.path.exists(self.path("fresh")))
        run = LoginRun(self.stack, "fresh")
        page, status, out, err = run.browse()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(page[0], 200)
        self.assertIn("Thank you", page[2])
        self.assertIn("gmroute-token  ok", out)
        self.assertIn("login          ok: 235", out)

        file = os.stat(self.path("fresh"))
        owner = os.stat(os.path.join(self.stack.top, "run", "token"))
        self.assertEqual((file.st_mode & 0o7777, file.st_uid, file.st_gid),
                         (0o600, owner.st_uid, owner.st_gid))
        self.assertNotIn(self.read("fresh").strip(), out + err)
        row = self.state("fresh")
        self.assertEqual((row["state"], row["error"]), ("ok", ""))
        self.assertGreater(row["seconds_left"], 3000)
        self.assertEqual(set(row), {
            "account", "state", "fetched", "age_s", "expires", "seconds_left",
            "next_try", "error"})
        self.assertRegex(self.stack.ctl("tokens", "fresh"),
                         r"ok +\d+ s old, 60 min left, next renewal in \d+ m")

        self.stack.send("fresh@example.com", "n1@far.test")
        entry, = self.sim.wait_journal(1, since=self.since,
                                       account="fresh@example.com")
        self.assertEqual(entry["recipients"], ["n1@far.test"])

        answer = self.stack.ctl("verify", "fresh", "--json")
        self.assertEqual([(c["protocol"], c["result"], c["sends"])
                          for c in answer["checks"]],
                         [("SMTP", "ok", True), ("IMAP", "ok", False),
                          ("POP", "ok", False)])
        self.assertIn("memory", answer["secret"]["source"])

    def test_denied_and_wrong_account(self):
        run = LoginRun(self.stack, "again")
        page, *result = run.browse(decision="deny")
        self.assertIn("Not logged in", page[2])
        self.refused(result, "access_denied", "allow it")
        _, *result = LoginRun(self.stack, "again").browse(
            account="bob@example.com")
        self.refused(result, "the wrong account", "again@example.com",
                     "Nothing was written")

    def test_foreign_answers_do_not_end_the_wait(self):
        run = LoginRun(self.stack, "again", "--json")
        there = run.consent(decision="deny")
        base = there.split("?")[0]
        for url, status in ((base + "favicon.ico", 404), (base, 404),
                            (base + "?code=x&state=guessed", 400),
                            (base + "?code=x", 400),
                            (base + "?code=a&code=b", 400)):
            self.assertEqual(fetch(url)[0], status)
        self.assertEqual(fetch(there)[0], 200)
        status, out, _ = run.end()
        answer = json.loads(out[out.index("{"):])
        self.assertEqual((status, answer["done"], answer["stored"]),
                         (1, False, None))
        self.assertIn("access_denied", answer["error"])

    def test_nobody_or_a_stranger(self):
        run = LoginRun(self.stack, "again", "--timeout", "1")
        self.refused(run.end(), "nobody came back within 1 s", "--paste",
                     "redirect_uri_mismatch")
        run = LoginRun(self.stack, "again", "--timeout", "2")
        base = run.consent(decision="deny").split("?")[0]
        self.assertIn("Not this login", fetch(base + "?code=x&state=y")[2])
        self.refused(run.end(), "state mismatch")

    def test_pasted(self):
        run = LoginRun(self.stack, "again", "--paste")
        there = run.consent(account="bob@example.com")
        self.assertTrue(there.startswith("http://127.0.0.1:8085/?"))
        self.refused(run.end(there + "\n"), "the wrong account")
        run = LoginRun(self.stack, "again", "--paste")
        self.refused(run.end(there + "\n"), "state mismatch")
        run = LoginRun(self.stack, "again", "--paste")
        self.refused(run.end("what?\nhttp://x/\n\n"), "no code was pasted")
        # A configuration named from where one stands makes relative paths.
        run = LoginRun(self.stack, "again", "--paste", "--port", "4711",
                       config="gmroute.yaml", cwd=self.stack.top)
        there = run.consent()
        self.assertTrue(there.startswith("http://127.0.0.1:4711/?"))
        code = re.search(r"code=([^&]+)", there)[1]
        try:
            status, out, err = run.end("\n" + code + "\n")
            self.assertEqual((status, err), (0, ""), out)
            self.assertNotEqual(self.read("again"), OLD)
        finally:
            self.stack.secret("again.token", OLD)

    def test_what_the_endpoint_may_refuse(self):
        self.sim.fault("no_refresh_token", count=1)
        _, *result = LoginRun(self.stack, "again").browse()
        self.refused(result, "no refresh token", "prompt=consent")
        self.sim.fault("oauth_error", row="redirect_uri", count=1)
        _, *result = LoginRun(self.stack, "again").browse()
        self.refused(result, "redirect_uri_mismatch", "desktop apps")
        self.sim.fault("drop", stage="token", count=1)
        _, *result = LoginRun(self.stack, "again").browse()
        self.refused(result, "cannot be reached")
        self.sim.settings(consent_scope="openid email")
        _, *result = LoginRun(self.stack, "again").browse()
        self.refused(result, "not all was allowed", "https://mail.google.com/")

    def test_accounts_without_a_login(self):
        for account, text in (("news", "app password"),
                              ("alice@example.com", "service account")):
            run = LoginRun(self.stack, account)
            self.assertIn(text, run.end()[2])
            self.assertEqual(run.process.returncode, 1)
        run = LoginRun(self.stack, "scoped", config=self.other_config(
            "secrets/scoped.token", "credential:scoped"))
        self.assertIn("credential:scoped is the service manager's",
                      run.end()[2])

    def test_server_out_of_reach_leaves_it_unproven(self):
        self.sim.fault("drop", stage="connect", listener="smtps", count=1)
        try:
            _, status, out, err = LoginRun(self.stack, "again").browse()
            self.assertEqual(status, 1)
            self.assertIn("stored, but could not be tried", err)
            self.assertIn(self.path("again"), out)
        finally:
            self.stack.secret("again.token", OLD)

    # --- verify

    def results(self, account, *words, config=None, status=1):
        """{protocol: result} of verify --json."""
        done = subprocess.run(
            [os.path.join(e2e.BUILD, e2e.PROGRAMS["ctl"]), "-c",
             config or self.stack.config_file, "verify", account, "--json",
             *words], capture_output=True, timeout=60, check=False)
        answer = json.loads(done.stdout)
        self.assertEqual(done.returncode, status, answer)
        for check in answer["checks"]:
            self.assertEqual(check["remedy"] == "", check["result"] == "ok")
        return ({c["protocol"]: c["result"] for c in answer["checks"]},
                answer)

    def other_config(self, old, new):
        with open(self.stack.config_file, encoding="utf-8") as f:
            text = f.read()
        self.assertIn(old, text)
        path = os.path.join(self.stack.top, "other.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))
        return path

    def test_verify_certificates(self):
        for kind, result in (("wrong_name", "tls_name"),
                             ("self_signed", "tls_ca"),
                             ("expired", "tls_time"), ("no_sni", "tls_sni"),
                             ("cut", "tls")):
            for listener in ("smtps", "imaps", "pops"):
                self.sim.fault("cert", kind=kind, listener=listener, count=1)
            got, _ = self.results("sales")
            self.assertEqual(got, dict.fromkeys(("SMTP", "IMAP", "POP"),
                                                result), kind)
        other = self.other_config(', ca_file: "%s"}\n  submission' %
                                  self.sim.ca_file, "}\n  submission")
        got, _ = self.results("sales", config=other)
        self.assertEqual(got["SMTP"], "tls_ca")

    def test_verify_states_of_the_account(self):
        address = "sales@example.com"
        for flags, want in (
                ({"imap_off": True}, ("ok", "imap_off", "ok")),
                ({"pop_off": True}, ("ok", "ok", "pop_off")),
                ({"web_login": True}, ("web_login_required",) * 3),
                ({"disabled": True}, ("token_refused",) * 3)):
            self.sim.account(address, flags=flags)
            try:
                got, _ = self.results("sales")
                self.assertEqual(tuple(got.values()), want)
                if "imap_off" in flags:
                    self.results("sales", "--sending", status=0)
            finally:
                self.sim.account(address, flags=dict.fromkeys(flags, False))
        self.sim.fault("454", account=address, listener="smtps", count=1)
        self.assertEqual(self.results("sales")[0]["SMTP"], "busy")
        done = self.stack.ctl("verify", "sales")
        self.assertRegex(done, r"token +from the memory of gmroute-token, \d+")
        self.assertIn("ok (TLSv1.3", done)

    def test_verify_passwords(self):
        address = "news@gmail.com"
        self.assertEqual(set(self.results("news", status=0)[0].values()),
                         {"ok"})
        self.sim.account(address, password="real")
        for password, want in (("real", "app_password_needed"),
                               ("wrong", "password_refused")):
            self.stack.secret("news.pw", password)
            self.assertEqual(set(self.results("news")[0].values()), {want})
        self.stack.secret("news.pw", "abcd efgh ijkl mnop")
        self.sim.settings(ehlo_without=["STARTTLS"])
        self.assertEqual(tuple(self.results("news")[0].values()),
                         ("no_starttls", "ok", "ok"))
        self.sim.settings(ehlo_without=["AUTH"])
        self.assertEqual(self.results("sales")[0]["SMTP"], "no_mechanism")
        other = self.other_config("port: %d" % self.sim.submission, "port: 1")
        self.assertEqual(self.results("news", "--sending", config=other)[0],
                         {"SMTP": "unreachable"})

    def test_verify_tokens(self):
        # The memory's token is not good any more.
        self.sim.revoke("sales@example.com", sessions="keep")
        self.assertEqual(set(self.results("sales")[0].values()),
                         {"token_refused"})
        # Without the memory one is asked for, and its scope is seen.
        other = self.other_config("%s/run" % self.stack.top,
                                  "%s/nowhere" % self.stack.top)
        got, answer = self.results("sales", config=other, status=0)
        self.assertEqual((set(got.values()), answer["secret"]["source"]),
                         ({"ok"}, "the token endpoint"))
        got, answer = self.results("scoped", config=other)
        self.assertEqual((set(got.values()), answer["secret"]["mail_scope"]),
                         ({"scope"}, False))
        got, answer = self.results("again", config=other)
        self.assertEqual(got, {})
        self.assertIn("gmroutectl login", answer["secret"]["error"])

    # --- token

    def test_tokens_of_one_account(self):
        # Not of one whose address only begins so, and whatever its case.
        wait_for("tokens", lambda: len(
            self.stack.ctl("tokens", "--json")) >= 5)
        for account, want in (("again", "again@example.com"),
                              ("AGAIN@example.com", "again@example.com"),
                              ("fresh", "fresh@example.com"),
                              ("again-not", "again@example.community")):
            row, = self.stack.ctl("tokens", account, "--json")
            self.assertEqual(row["account"], want)
        self.assertEqual(self.stack.ctl("tokens", "news", status=1), "")

    def token(self, *words, status=0, **who):
        done = subprocess.run(
            [os.path.join(e2e.BUILD, e2e.PROGRAMS["ctl"]), "-c",
             self.stack.config_file, "token", *words], capture_output=True,
            text=True, timeout=60, check=False, **who)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def test_token(self):
        alice = "alice@example.com"
        self.stack.send(alice, "n2@far.test")
        self.sim.wait_journal(1, since=self.since, account=alice)
        text = self.token(alice)
        live = [t["token"] for t in self.sim.tokens(alice)["live"]]
        self.assertIn(text.rstrip("\n"), live)
        answer = json.loads(self.token(alice, "--json"))
        self.assertEqual((answer["access_token"] + "\n", answer["account"],
                          answer["token_type"]), (text, alice, "Bearer"))
        self.assertGreater(answer["seconds_left"], 3000)
        self.assertRegex(answer["expires"], r"^20.*T.*Z$")
        self.assertIn("no newer one", self.token(
            alice, "--min-left", "3600", status=1))
        self.assertIn("no token", self.token("bob@example.com", status=1))
        self.assertIn("OAuth2", self.token("news", status=2))

    def test_token_is_for_who_may_read_the_memory(self):
        wait_for("a token", lambda: self.state("sales")["state"] == "ok")
        memory = os.path.join(self.stack.top, "run", "token")
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        text = self.token("sales", status=2, **who)
        self.assertIn("may not read it", text)
        os.chown(memory, -1, NOBODY)
        os.chmod(memory, 0o640)
        try:
            self.assertEqual(self.token("sales", **who), self.token("sales"))
        finally:
            os.chmod(memory, 0o600)
            os.chown(memory, -1, 0)


if __name__ == "__main__":
    unittest.main()
