# test_tokens - tokens that expire or are taken back while mail is on its way
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import os
import re
import time
import unittest

from tests.e2e.stack import ACCOUNTS, CLIENT_ID, HEAD, Stack, wait_for


def issued(stack, address):
    """How many access tokens the endpoint gave for it."""
    return stack.sim.tokens(address)["issued"].get(address, 0)


def login_failures(stack, address):
    return stack.sim.counters(address)["login_failures"]


# Writes down what it is told.
ALERT = """\
alert:
  command: [/bin/sh, -c, "env | sort >> {top}/log/alerts; ls -l /proc/$$/fd
            >> {top}/log/fds; echo >> {top}/log/alerts"]
  mail: root
  sendmail: [/bin/sh, -c, "cat >> {top}/log/mail"]
  interval: 1s
"""


def text(stack, name):
    path = os.path.join(stack.top, "log", name)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        return f.read()


def alerts(stack):
    return text(stack, "alerts").split("\n\n")[:-1]


class CredentialStack(Stack):
    """The token daemon alone, its refresh token from systemd."""

    def start(self):
        folder = os.path.join(self.top, "credentials")
        os.mkdir(folder, 0o700)
        with open(os.path.join(folder, "sales"), "w", encoding="ascii") as f:
            f.write("1//sales\n")
        os.chmod(f.name, 0o400)
        os.environ["CREDENTIALS_DIRECTORY"] = folder
        for name in ("deliver", "milter"):
            del self.daemons[name]
        super().start()

    def stop(self):
        os.environ.pop("CREDENTIALS_DIRECTORY", None)
        super().stop()


class Tokens(unittest.TestCase):
    def test_expired_token_is_renewed_within_the_attempt(self):
        # Tokens of 6 s: renewal at about 5 s keeps one alive all the time.
        with Stack(sim={"settings": {"expires_in": 6}}) as stack:
            for i in range(4):
                stack.send("sales@example.com", "n%d@far.test" % i)
                stack.sim.wait_journal(i + 1)
                wait_for("the next token", lambda n=i: issued(
                    stack, "sales@example.com") >= n + 2)
            self.assertNotIn("status=deferred", stack.postfix.log())

    def test_revoked_token_while_a_session_is_open(self):
        with Stack() as stack:
            stack.send("sales@example.com", "n1@far.test")
            stack.sim.wait_journal(1)
            stack.sim.revoke("sales@example.com")
            stack.send("sales@example.com", "n2@far.test")
            stack.sim.wait_journal(2)
            stack.postfix.wait_empty(flush=False)
            log = stack.postfix.log()
            self.assertNotIn("status=deferred", log)
            self.assertEqual(log.count("status=sent"), 2)
            self.assertEqual(issued(stack, "sales@example.com"), 2)

    def test_refused_grant_is_said_and_mail_waits(self):
        with Stack() as stack:
            stack.sim.fault("oauth_error", row="jwt_sub",
                            account="alice@example.com")
            stack.send("alice@example.com", "x@far.test")
            wait_for("the reason", lambda: [
                t for t in stack.ctl("tokens", "--json", status=None) or []
                if t["account"] == "alice@example.com" and t["error"]])
            wait_for("mail to wait", stack.postfix.queued)
            self.assertEqual(stack.sim.journal(content=False), [])

    def test_a_sender_without_a_mailbox_goes_the_other_way(self):
        rules = """\
rules:
  - name: people
    match: {sender_domain: example.com}
    route: {account: staff}
    otherwise: [{account: sales}]
"""
        with Stack(rules=rules) as stack:
            # The agent finds out, and changes over within the attempt.
            stack.send("ghost@example.com", "first@far.test")
            stack.sim.wait_journal(1)
            # From then on the milter knows.
            for i in range(3):
                stack.send("ghost@example.com", "n%d@far.test" % i)
            sent = stack.sim.wait_journal(4)
            self.assertEqual({m["account"] for m in sent},
                             {"sales@example.com"})
            self.assertNotIn("status=deferred", stack.postfix.log())
            tags = re.findall(r"to=<\w+@far\.test\.\w+\.([\w-]+)\.q",
                              stack.postfix.log())
            self.assertNotIn(tags[0], tags[1:])
            # It was asked for once, and those who have one still get it.
            self.assertEqual(stack.sim.total()["tokens_refused"], 1)
            stack.send("alice@example.com", "x@far.test")
            stack.sim.wait_journal(1, account="alice@example.com")

    def test_a_first_use_does_not_hold_the_milter(self):
        with Stack() as stack:
            stack.sim.latency(token_ms=3000)
            stack.send("alice@example.com", "x@far.test")
            # Accepted, while her token is still on its way.
            self.assertEqual(
                [t for t in stack.ctl("tokens", "--json", status=None)
                 if t["account"] == "alice@example.com" and
                 t["state"] == "ok"], [])
            stack.sim.wait_journal(1)
            self.assertNotIn("status=deferred", stack.postfix.log())
            self.assertEqual(issued(stack, "alice@example.com"), 1)

    def test_twenty_that_wait_for_one_token_make_one_request(self):
        with Stack() as stack:
            stack.send("sales@example.com", "first@far.test")
            stack.sim.wait_journal(1)
            stack.sim.latency(token_ms=300)
            # Sessions as well, so that every delivery needs the new one.
            stack.sim.revoke("sales@example.com", sessions="push")
            with concurrent.futures.ThreadPoolExecutor(20) as threads:
                list(threads.map(
                    lambda i: stack.send("sales@example.com",
                                         "n%d@far.test" % i), range(20)))
            stack.sim.wait_journal(21)
            stack.postfix.wait_empty(flush=False)
            self.assertEqual(issued(stack, "sales@example.com"), 2)
            self.assertNotIn("status=deferred", stack.postfix.log())

    def test_a_new_token_refused_takes_the_account_out(self):
        with Stack() as stack:
            stack.send("sales@example.com", "first@far.test")
            stack.sim.wait_journal(1)
            # Tokens of another scope: 334 with an error, then 535.
            stack.sim.account("sales@example.com", refresh_tokens=[{
                "token": "1//sales",
                "scope": "https://www.googleapis.com/auth/gmail.send"}])
            stack.sim.revoke("sales@example.com", sessions="push")
            for i in range(3):
                stack.send("sales@example.com", "n%d@far.test" % i)
            account = wait_for("the account to be out", lambda: [
                a for a in stack.ctl("quota", "sales", "--json")
                if a["state"] == "disabled"])[0]
            self.assertIn("a new token was refused", account["reason"])
            wait_for("mail to wait",
                     lambda: len(stack.postfix.queued()) == 3)
            failures = login_failures(stack, "sales@example.com")
            stack.postfix.flush()
            stack.send("sales@example.com", "n4@far.test")
            wait_for("mail to wait",
                     lambda: len(stack.postfix.queued()) == 4)
            # No loop: one renewal for all, and nobody tries again.
            self.assertEqual(issued(stack, "sales@example.com"), 2)
            self.assertEqual(login_failures(stack, "sales@example.com"),
                             failures)
            self.assertLessEqual(failures, 6)   # two a delivery, at most

    def test_a_clock_that_is_off_is_seen_once_and_corrected(self):
        with Stack(sim={"settings": {"clock_skew_s": 7200}}) as stack:
            # sales is renewed at once, and its answer tells the time; the
            # service account learns it from its first refusal.
            for i, name in enumerate(("alice", "bob")):
                stack.send(name + "@example.com", "x@far.test")
                stack.sim.wait_journal(i + 1)
            self.assertEqual(issued(stack, "bob@example.com"), 1)
            refused = [stack.sim.counters(n + "@example.com")["tokens_refused"]
                       for n in ("alice", "bob")]
            self.assertEqual(refused, [1, 0])
            self.assertRegex(stack.token.log(), r"clock is 7\d+ s ahead of")
            self.assertNotIn("status=deferred", stack.postfix.log())

    def test_one_alert_for_a_client_however_many_its_accounts(self):
        more = "".join("""\
  more%d:
    address: more%d@example.com
    auth: {{oauth2: {{client: corp, refresh_token_file: secrets/sales.token}}}}
""" % (i, i) for i in range(20))
        with Stack(head=HEAD + ALERT, accounts=ACCOUNTS + more,
                   mta=None) as stack:
            wait_for("a token", lambda: issued(stack, "sales@example.com"))
            stack.sim.client(CLIENT_ID, client_secret="another")
            stack.token.kill()      # as it is, without tokens to adopt
            for name in ("status", "token"):
                os.unlink(os.path.join(stack.top, "run", name))
            stack.token.start()
            wait_for("an alert", lambda: alerts(stack))
            time.sleep(2)
            self.assertEqual(len(alerts(stack)), 1)
            self.assertIn("GMROUTE_ALERT=client\n", alerts(stack)[0])
            self.assertIn("GMROUTE_SUBJECT=client corp\n", alerts(stack)[0])
            self.assertIn("client_secret_file", alerts(stack)[0])
            for secret in ("client-secret", "1//sales", "HOME="):
                self.assertNotIn(secret, alerts(stack)[0])
            # Connections that stay open are not handed on.
            self.assertIn("/log/fds", text(stack, "fds"))
            self.assertNotIn("socket:", text(stack, "fds"))
            # The file that changes is seen, and that all is well is told.
            stack.secret("corp.secret", "another")
            wait_for("the good news", lambda: len(alerts(stack)) == 2)
            self.assertIn("GMROUTE_STATE=ok\n", alerts(stack)[1])
            wait_for("its mail", lambda: "client corp is well again"
                     in text(stack, "mail"))
            self.assertEqual(text(stack, "mail").count(
                "Subject: gmroute on relay.test: client corp is"), 2)

    def test_a_limit_that_is_nearly_used_is_told(self):
        quota = "{messages: 4 per 1h, recipients: 100 per 1h}"
        with Stack(head=HEAD + ALERT, sales_quota=quota) as stack:
            for i in range(4):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(4)
            self.assertEqual(alerts(stack), [])
            stack.token.stop()      # it looks at a start, and every minute
            stack.token.start()
            wait_for("its mail", lambda: text(stack, "mail"))
            self.assertEqual(len(alerts(stack)), 1)
            for line in ("GMROUTE_ALERT=quota", "GMROUTE_STATE=nearly_full",
                         "GMROUTE_SUBJECT=sales@example.com",
                         "GMROUTE_REMEDY=gmroutectl quota sales@example.com"):
                self.assertIn(line + "\n", alerts(stack)[0])
            self.assertIn("4 of 4 messages in 1 h", text(stack, "mail"))
            self.assertIn("sales@example.com has nearly used a limit\n",
                          text(stack, "mail"))

    def test_a_rotated_token_of_a_credential_outlives_a_reboot(self):
        accounts = """\
accounts:
  sales:
    address: sales@example.com
    auth: {{oauth2: {{client: corp, refresh_token_file: "credential:sales"}}}}
"""
        with CredentialStack(accounts=accounts, rules="rules: []\n",
                             mta=None, sim={
                "settings": {"rotate_refresh_tokens": True}}) as stack:
            credential = os.path.join(stack.top, "credentials", "sales")
            before = os.stat(credential)
            for n in range(1, 4):       # the first is the configured one
                wait_for("token %d" % n, lambda: issued(
                    stack, "sales@example.com") == n)
                wait_for("its state", lambda: [
                    t for t in stack.ctl("tokens", "--json", status=None)
                    if t["state"] == "ok"])
                stack.token.kill()
                for name in ("status", "token"):
                    os.unlink(os.path.join(stack.top, "run", name))
                if n < 3:
                    stack.token.start()
            after = os.stat(credential)
            self.assertEqual((before.st_ino, before.st_mtime_ns),
                             (after.st_ino, after.st_mtime_ns))
            with open(credential, encoding="ascii") as f:
                self.assertEqual(f.read(), "1//sales\n")
            folder = os.path.join(stack.top, "state", "tokens")
            self.assertEqual([os.stat(os.path.join(folder, n)).st_mode & 0o777
                              for n in os.listdir(folder)
                              if n.endswith(".token")], [0o600])
            self.assertEqual(stack.sim.total()["tokens_refused"], 0)

    def test_app_password_that_is_refused_takes_the_account_out(self):
        with Stack() as stack:
            stack.secret("news.pw", "wrong wrong wrong wro")
            stack.send("news@example.com", "x@far.test")
            account = wait_for("the account to be out", lambda: [
                a for a in stack.ctl("quota", "news", "--json")
                if a["state"] == "disabled"])
            self.assertIn("535", account[0]["reason"])
            wait_for("mail to wait", stack.postfix.queued)


if __name__ == "__main__":
    unittest.main()
