# test_observed - what Gmail really allows, and accounts that stand in for
# others: by the policy's list, by an administrator's divert
# SPDX-License-Identifier: Apache-2.0

import os
import socket
import sqlite3
import time
import unittest

from tests.e2e.stack import SIM, Stack, wait_for

PASSWORD = "abcd efgh ijkl mnop"
# By what each of them cannot send: the stage of Gmail's 550 5.4.5, or AUTH.
STAGES = ["end", "data", "mail", "auth"]

ACCOUNTS = """\
accounts:
  sales:
    address: sales@example.com
    auth: {{oauth2: {{client: corp, refresh_token_file: secrets/sales.token}}}}
    quota: {{messages: 500 per 24h, recipients: 500 per 24h, pace: 400 per 1m}}
    max_wait: 1h
""" + "".join("""\
  %s:
    address: %s@pool.example.com
    auth: {{password_file: secrets/news.pw}}
    quota: {{messages: 500 per 24h, bytes: 100MB per 24h}}
""" % (s, s) for s in STAGES) + """\
  news:
    address: news@gmail.com
    smarthost: submission
    auth: {{password_file: secrets/news.pw}}
    quota: {{messages: 500 per 24h}}
  staff:
    address: "*@example.com"
    trust: any
    auth: {{service_account: {{key_file: secrets/sa.json,
           token_url: "https://oauth2.googleapis.com/token",
           connect: "127.0.0.1:{token}", ca_file: "{ca}"}}}}
"""

RULES = "rules:\n" + "".join("""\
  - match: {sender: %s@pool.example.com}
    route: {account: %s}
    otherwise: [{account: news}, wait]
""" % (s, s) for s in STAGES) + """\
  - match: {sender: list@example.com}
    route: {account: sales}
    otherwise: [{account: news}, wait]
  - match: {sender: sales@example.com}
    route: {account: sales}
  - match: {sender: news@gmail.com}
    route: {account: news}
  - match: {sender_domain: example.com}
    route: {account: staff}
default: mta
"""


def simulator(sales_limit=2):
    """Gmail allows less than our configuration says."""
    accounts = [dict(a) for a in SIM["accounts"]]
    accounts[0]["limits"] = {"messages": sales_limit}
    accounts += [{"address": s + "@pool.example.com",
                  "app_password": PASSWORD if s != "auth" else "x" * 16,
                  "limits": {"messages": 1},
                  "flags": {"limit_stage": s} if s != "auth" else {}}
                 for s in STAGES]
    return {"accounts": accounts}


def stack(**more):
    return Stack(rules=RULES, accounts=ACCOUNTS, **more)


def control(s, line):
    """One request to the agent; its answer."""
    with socket.socket(socket.AF_UNIX) as c:
        c.settimeout(60)
        c.connect(os.path.join(s.top, "run", "control.sock"))
        c.sendall(line.encode() + b"\n")
        return c.recv(2000).decode().rstrip("\n")


def rows(s, sql):
    """Of the ledger."""
    path = os.path.join(s.top, "state/ledger.db")
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


class Case(unittest.TestCase):
    def quota(self, s, name):
        account, = s.ctl("quota", name, "--json")
        return account

    def used(self, s, name, dimension="messages"):
        return [w["used"] for w in self.quota(s, name)["windows"]
                if w["dimension"] == dimension][0]

    def accounts(self, s):
        """Who sent to whom."""
        return {r: e["account"] for e in s.sim.journal(content=False)
                for r in e["recipients"]}

    def assert_nothing_waited(self, s):
        s.postfix.wait_empty(flush=False)
        self.assertNotIn("status=deferred", s.postfix.log())


class Observed(Case):
    def test_one_refusal_is_remembered(self):
        with stack(sim=simulator()) as s:
            for i in range(5):
                s.send("list@example.com", "n%d@far.test" % i)
                s.sim.wait_journal(i + 1)
            self.assertEqual(self.accounts(s), {
                "n0@far.test": "sales@example.com",
                "n1@far.test": "sales@example.com",
                "n2@far.test": "news@gmail.com",
                "n3@far.test": "news@gmail.com",
                "n4@far.test": "news@gmail.com"})
            # The third went through the other account in the same attempt.
            self.assert_nothing_waited(s)
            self.refused_once(s)
            before = self.quota(s, "sales")
            self.assertEqual(before["state"], "cooling")
            self.assertEqual(rows(s, "SELECT dimension, window_ms, units FROM"
                                     " observed ORDER BY 1"),
                             [(0, 86400000, 2), (1, 86400000, 2)])
            self.assertRegex(s.deliver.log(), r"account=sales@example\.com "
                             r"observed=messages window_s=86400 allowed=2 "
                             r"limit=500")
            # It survives the agent and the memory.
            s.deliver.kill()
            os.unlink(os.path.join(s.top, "run/quota"))
            s.deliver.start()
            wait_for("the milter to come over",
                     lambda: self.quota(s, "sales")["windows"])
            self.assertEqual(self.quota(s, "sales")["until"], before["until"])
            # A person ends the rest, not what was seen.
            s.ctl("resume", "sales")
            after = self.quota(s, "sales")
            self.assertEqual(after["state"], "ok")
            window = after["windows"][0]
            self.assertEqual((window["used"], window["limit"], window["room"]),
                             (2, 500, 0))
            self.assertEqual((window["observed"]["units"],
                              window["observed"]["holds"]), (2, True))
            self.assertIn("Gmail said that it is reached at 2, ",
                          s.ctl("quota", "sales"))
            self.assertIsNotNone(window["room_returns"])
            time.sleep(1.2)  # the milter looks for a new agent once a second
            s.send("list@example.com", "n5@far.test")
            s.sim.wait_journal(6)
            self.assertEqual(self.accounts(s)["n5@far.test"], "news@gmail.com")
            self.refused_once(s)
            self.reset(s)

    def refused_once(self, s):
        counters = s.sim.counters("sales@example.com")
        self.assertEqual(counters["refused_total"], 1, counters)

    def reset(self, s):
        """All is forgotten, at once and in the book; then Gmail says it
        again."""
        self.assertEqual(control(s, "quota-reset sales@example.com"),
                         "ok what sales@example.com has spent is forgotten")
        self.assertEqual(self.used(s, "sales"), 0)
        self.assertEqual(
            rows(s, "SELECT count(*) FROM observed JOIN account_name"
                    " USING(account) WHERE identity = 'sales@example.com'"),
            [(0,)])
        self.assertEqual(
            rows(s, "SELECT count(*) FROM spent JOIN account_name"
                    " USING(account) WHERE identity = 'sales@example.com'"),
            [(0,)])
        self.assertRegex(s.deliver.log(), r"control=quota-reset "
                         r"account=sales@example\.com uid=0 ")
        s.send("list@example.com", "n6@far.test")
        s.sim.wait_journal(7)
        self.assertEqual(self.accounts(s)["n6@far.test"], "news@gmail.com")
        counters = s.sim.counters("sales@example.com")
        self.assertEqual(counters["refused_total"], 2, counters)
        self.assertEqual(self.quota(s, "sales")["state"], "cooling")
        self.assertEqual(
            rows(s, "SELECT units FROM observed JOIN account_name"
                    " USING(account) WHERE identity = 'sales@example.com'"),
            [(0,), (0,)])

    def test_rests_go_on_counting_after_a_restart(self):
        with stack(sim=simulator(sales_limit=0)) as s:
            s.send("list@example.com", "n0@far.test")
            s.sim.wait_journal(1)
            query = ("SELECT rests FROM account_state JOIN account_name"
                     " USING(account) WHERE identity = 'sales@example.com'")
            self.assertEqual(rows(s, query), [(1,)])
            # As if the rest were over.
            s.deliver.stop()
            db = sqlite3.connect(os.path.join(s.top, "state/ledger.db"))
            db.execute("UPDATE account_state SET until_ms = ?, rests = 2",
                       (int(time.time() * 1000) - 1000,))
            db.commit()
            db.close()
            s.deliver.start()
            time.sleep(1.2)
            s.send("list@example.com", "n1@far.test")
            s.sim.wait_journal(2)
            self.assertEqual(rows(s, query), [(3,)])
            self.assertRegex(s.deliver.log().rsplit("ready:", 1)[1],
                             r"state=cooling for_s=(14399|14400) ")


class Exchange(Case):
    def test_another_account_in_the_same_attempt(self):
        """Whatever shows that the first one cannot send."""
        with stack(sim=simulator()) as s:
            for i, stage in enumerate(STAGES):
                sender = stage + "@pool.example.com"
                ahead = 1 if stage != "auth" else 0
                for k in range(ahead + 1):
                    s.send(sender, "%s%d@far.test" % (stage, k))
                    s.sim.wait_journal(2 * i + k + 1)
                who = self.accounts(s)
                if ahead:
                    self.assertEqual(who[stage + "0@far.test"], sender)
                self.assertEqual(who["%s%d@far.test" % (stage, ahead)],
                                 "news@gmail.com", stage)
                self.assertEqual(self.quota(s, stage)["state"],
                                 "cooling" if ahead else "disabled")
                self.assertEqual(self.used(s, stage), ahead)
            self.assert_nothing_waited(s)
            self.paused_meanwhile(s)

    def paused_meanwhile(self, s):
        """Tagged for one that is paused before the agent meets it."""
        s.deliver.stop()
        s.send("list@example.com", "late@far.test")
        wait_for("it to wait", s.postfix.queued)
        s.deliver.start()
        s.ctl("pause", "sales")
        s.postfix.wait_empty()
        self.assertEqual(self.accounts(s)["late@far.test"], "news@gmail.com")


class Divert(Case):
    def test_mail_for_one_goes_through_the_other(self):
        with stack() as s:
            s.ctl("pause", "sales")
            for i in range(2):
                s.send("sales@example.com", "n%d@far.test" % i)
            wait_for("two to wait", lambda: len(s.postfix.queued()) == 2)
            wait_for("both to be counted", lambda: self.quota(
                s, "sales")["waiting_messages"] == 2)
            # What is tagged already goes through the other one.
            self.assertIn(
                "mail for sales@example.com goes through news@gmail.com",
                s.ctl("divert", "sales", "news", "on", "holiday"))
            self.assertEqual(self.quota(s, "sales")["diverted_to"],
                             "news@gmail.com/submission")
            self.assertIn("goes through news@gmail.com",
                          s.ctl("quota", "sales"))
            s.postfix.wait_empty()
            for entry in s.sim.journal(content=False):
                self.assertEqual((entry["account"], entry["sender"]),
                                 ("news@gmail.com", "news@gmail.com"))
            self.assertEqual(self.used(s, "news"), 2)
            self.assertEqual(self.used(s, "sales"), 0)
            self.assertEqual(self.quota(s, "sales")["waiting_messages"], 0)
            self.assertEqual(s.deliver.log().count(
                "account=news@gmail.com diverted_from=sales@example.com "
                "outcome=sent"), 2)
            self.assertEqual(
                rows(s, "SELECT count(*), n.identity FROM attempt a JOIN"
                        " account_name n ON n.account = a.diverted_from"),
                [(2, "sales@example.com")])
            # So does new mail, though sales is paused; by the milter.
            s.send("sales@example.com", "n2@far.test")
            s.sim.wait_journal(3)
            self.assertEqual(self.accounts(s)["n2@far.test"], "news@gmail.com")
            self.assertRegex(s.milter.log(), r"to=n2@far\.test .* account="
                             r"news@gmail\.com why=\"sales@example\.com: diverted "
                             r"to news@gmail\.com\"")
            self.refusals(s)
            self.outlives(s)
            self.comes_to_an_end(s)

    def refusals(self, s):
        for line, words in (
                ("divert sales@example.com sales@example.com", "to itself"),
                ("divert news@gmail.com/submission sales@example.com",
                 "is itself diverted, to news@gmail.com/submission"),
                ("divert news@gmail.com/submission bob@example.com",
                 "mail for sales@example.com is diverted to news@gmail.com"),
                ("divert alice@example.com sales@example.com",
                 "is itself diverted"),
                ("divert sales@example.com nobody@else.test",
                 "no account nobody@else.test"),
                ("divert nobody@else.test sales@example.com",
                 "no account nobody@else.test"),
                ("divert sales@example.com", "does not understand")):
            answer = control(s, line)
            self.assertTrue(answer.startswith("no "), answer)
            self.assertIn(words, answer)

    def outlives(self, s):
        """An agent's death, resume, and a reload without the other one."""
        s.deliver.kill()
        s.deliver.start()
        s.ctl("resume", "sales")
        time.sleep(1.2)
        s.send("sales@example.com", "n3@far.test")
        s.sim.wait_journal(4)
        self.assertEqual(self.accounts(s)["n3@far.test"], "news@gmail.com")
        accounts = s.accounts
        s.write_config(accounts=accounts.replace("news@gmail.com",
                                                 "other@gmail.com"))
        self.assertTrue(s.deliver.reload())
        self.assertTrue(s.milter.reload())
        self.assertIn("is diverted to news@gmail.com/submission, which is not "
                      "configured", s.deliver.log())
        s.send("sales@example.com", "n4@far.test")
        s.sim.wait_journal(5)
        self.assertEqual(self.accounts(s)["n4@far.test"], "sales@example.com")
        s.write_config(accounts=accounts)
        self.assertTrue(s.deliver.reload())
        self.assertTrue(s.milter.reload())
        s.send("sales@example.com", "n5@far.test")
        s.sim.wait_journal(6)
        self.assertEqual(self.accounts(s)["n5@far.test"], "news@gmail.com")

    def comes_to_an_end(self, s):
        """And templates on either side."""
        self.assertEqual(control(s, "divert-end sales@example.com"),
                         "ok mail for sales@example.com is no longer diverted")
        s.send("sales@example.com", "n6@far.test")
        s.sim.wait_journal(7)
        self.assertEqual(self.accounts(s)["n6@far.test"], "sales@example.com")
        self.assertEqual(
            control(s, "divert alice@example.com bob@example.com")[:3], "ok ")
        self.assertEqual(
            control(s, "divert sales@example.com bob@example.com")[:3], "ok ")
        s.send("alice@example.com", "n7@far.test")
        s.send("sales@example.com", "n8@far.test")
        s.sim.wait_journal(9)
        who = self.accounts(s)
        self.assertEqual((who["n7@far.test"], who["n8@far.test"]),
                         ("bob@example.com", "bob@example.com"))
        self.assertEqual(rows(s, "SELECT count(*) FROM divert"), [(2,)])


if __name__ == "__main__":
    unittest.main()
