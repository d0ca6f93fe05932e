# test_users - each process with a user of its own, and what it cannot do
# SPDX-License-Identifier: Apache-2.0
"""The process table of the design, tried as each of its users, with the users,
groups and directories that contrib/ ships."""

import json
import os
import pwd

from tests.e2e.stack import SharedStack, wait_for
from tests.e2e.users import STRANGER, UserStack

# What there is, and who may do what with it: "r" read and map, "w" write,
# "m" make files beside it, "c" connect.
QUOTA, HINTS = "run/quota/quota", "run/hints/hints"
STATUS, TOKEN = "run/status/status", "run/token/token"
CONTROL, LEDGER = "run/control/control.sock", "state/ledger/ledger.db"
KEYS, ROTATED = "state/keys/1.key", "state/tokens/last"
CLIENT, GRANT = "secrets/corp.secret", "secrets/sales.token"
SERVICE, PASSWORD = "secrets/sa.json", "secrets/news.pw"
LMTP, MILTER = "spool/gmroute/deliver.sock", "spool/gmroute/milter.sock"
SOCKETS = (CONTROL, LMTP, MILTER)
PLACES = (QUOTA, HINTS, STATUS, TOKEN, CONTROL, LEDGER, KEYS, ROTATED, CLIENT,
          GRANT, SERVICE, PASSWORD, LMTP, MILTER)
LOOK = {QUOTA: "r", HINTS: "r", STATUS: "r"}
MAY = {
    "milter": {QUOTA: "r", HINTS: "rwm", STATUS: "r", KEYS: "r", LMTP: "mc",
               MILTER: "mc"},
    "deliver": {QUOTA: "rwm", HINTS: "rwm", STATUS: "r", TOKEN: "r",
                CONTROL: "mc", LEDGER: "rwm", KEYS: "rwm", PASSWORD: "rw",
                LMTP: "mc", MILTER: "mc"},
    "token": {QUOTA: "r", HINTS: "r", STATUS: "rwm", TOKEN: "rwm",
              ROTATED: "rwm", CLIENT: "rw", GRANT: "rw", SERVICE: "rw"},
    "somebody of gmroute": LOOK,
    "somebody of gmroute-ledger": {**LOOK, LEDGER: "r"},
    "somebody of gmroute-tokens": {**LOOK, TOKEN: "r"},
    "somebody of gmroute-admin": {**LOOK, CONTROL: "c"},
    "postfix": {LMTP: "mc", MILTER: "mc"},
    "a stranger": {},
    "somebody of gmroute-tokens alone": {},
}
DENIED = {"EACCES", "EPERM"}


class Users(SharedStack):
    @classmethod
    def make_stack(cls):
        return UserStack()

    def who(self, name):
        users = self.stack.users
        if name in self.stack.daemons:
            return users.identity("gmroute-" + name)
        if name.endswith(" alone"):
            return users.person("gmroute-tokens")
        if name.startswith("somebody of "):
            return users.person("gmroute", name.split()[-1])
        if name == "postfix":
            p = pwd.getpwnam("postfix")
            return {"user": p.pw_uid, "group": p.pw_gid, "extra_groups": []}
        return STRANGER

    def send_all(self):
        """One message through each kind of account."""
        before = len(self.sim.journal(content=False))
        for sender in ("sales", "news", "alice"):
            self.stack.send(sender + "@example.com", "x@far.test")
        self.assertEqual(
            {e["account"] for e in self.sim.wait_journal(before + 3)[before:]},
            {"sales@example.com", "news@gmail.com", "alice@example.com"})

    def test_each_runs_as_its_user_and_mail_goes(self):
        for name, daemon in self.stack.daemons.items():
            want = self.who(name)
            with open("/proc/%d/status" % daemon.process.pid,
                      encoding="ascii") as f:
                status = dict(line.split(":", 1) for line in f)
            self.assertEqual(set(status["Uid"].split()), {str(want["user"])})
            self.assertEqual(set(status["Gid"].split()), {str(want["group"])})
            self.assertEqual(set(map(int, status["Groups"].split())),
                             set(want["extra_groups"]))
            self.assertEqual(int(status["CapEff"], 16), 0)
        self.send_all()
        # One that does not fit into the agent's memory.
        self.stack.send("sales@example.com", "large@far.test",
                        body="\r\n".join(["x" * 900] * 6000))
        wait_for("the large one", lambda: any(
            "large@far.test" in e["recipients"]
            for e in self.sim.journal(content=False)))
        self.stack.mta.wait_empty()

    def test_nobody_can_do_more_than_his_row_says(self):
        self.send_all()
        with open(self.stack.path(ROTATED), "w", encoding="ascii") as f:
            os.chown(f.name, self.stack.users.uid("gmroute-token"), -1)
            os.chmod(f.name, 0o600)
        for name, may in MAY.items():
            attempts, want = [], []
            for place in PLACES:
                letters = may.get(place, "")
                first = [("connect", "c")] if place in SOCKETS else \
                    [("read", "r"), ("write", "w")]
                attempts += [(what, place) for what, _ in first]
                want += [letter in letters for _, letter in first]
                attempts.append(("make", os.path.dirname(place)))
                want.append("m" in letters)
            ends = self.stack.attempts_as(self.who(name), attempts)
            for (what, place), good, end in zip(attempts, want, ends):
                with self.subTest(who=name, what=what, place=place):
                    self.assertIn(end, {"ok"} if good else DENIED)

    def test_nobody_can_put_another_in_its_place(self):
        """Not even one that may make files beside it, or above."""
        owner = {QUOTA: "deliver", STATUS: "token", TOKEN: "token",
                 CONTROL: "deliver", LEDGER: "deliver", KEYS: "deliver",
                 LMTP: "deliver", MILTER: "milter", "run/quota": None,
                 "run/hints": None, "run/status": None, "run/token": None,
                 "run/control": None, "run": None, "state/ledger": None,
                 "state/keys": None, "state/tokens": None, "state": None,
                 "spool/gmroute": None}
        for name in MAY:
            places = [p for p, who in owner.items() if who != name]
            ends = self.stack.attempts_as(self.who(name),
                                          [("move", p) for p in places])
            for place, end in zip(places, ends):
                with self.subTest(who=name, place=place):
                    self.assertIn(end, DENIED)

    def test_what_gmroutectl_shows_to_whom(self):
        self.send_all()
        look = [("status",), ("quota", "sales"), ("accounts",), ("tokens",),
                ("sessions",), ("metrics",)]
        rows = [("gmroute", words, True) for words in look]
        rows += [(group, words, group == right) for words, right in
                 ((("log",), "gmroute-ledger"),
                  (("token", "sales"), "gmroute-tokens"),
                  (("pause", "sales", "a test"), "gmroute-admin"),
                  (("resume", "sales"), "gmroute-admin"))
                 for group in ("gmroute", "gmroute-ledger", "gmroute-tokens",
                               "gmroute-admin")]
        for group, words, good in rows:
            with self.subTest(group=group, words=words):
                status, out, err = self.stack.ctl_as(
                    self.stack.users.person("gmroute", group), *words)
                if good:
                    self.assertEqual((status, err), (0, ""))
                    self.assertNotEqual(out, "")
                else:
                    self.assertNotEqual(status, 0)
                    self.assertEqual(out, "")
        for words in (*look[:-1], ("log",), ("token", "sales"),
                      ("pause", "sales")):
            with self.subTest(words=words):
                status, out, err = self.stack.ctl_as(STRANGER, *words)
                self.assertNotIn("x@far.test", out + err)
                self.assertNotEqual(status, 0)

    def test_a_token_is_what_gmail_takes(self):
        who = self.stack.users.person("gmroute", "gmroute-tokens")
        status, out, _ = self.stack.ctl_as(who, "token", "sales")
        self.assertEqual(status, 0)
        self.assertIn(out.strip(), [t["token"] for t in
                                    self.sim.tokens()["live"]])
        # The milter's user is in gmroute, and no more.
        status, out, err = self.stack.ctl_as(self.who("milter"), "token",
                                             "sales")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("may not read it", err)

    def test_an_agent_that_starts_again(self):
        """Its files belong to the same again, and the others come over."""
        self.send_all()
        for name in ("deliver", "token", "milter"):
            self.stack.daemons[name].kill()
            self.stack.daemons[name].start()
        self.send_all()
        status, out, err = self.stack.ctl_as(
            self.stack.users.person("gmroute"), "quota", "sales", "--json")
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(json.loads(out))

    def test_a_reader_of_the_ledger_does_not_hold_it_up(self):
        """Read-only on -wal and -shm too, with and without the agent."""
        self.send_all()
        who = self.stack.users.person("gmroute-ledger")
        want = len(self.stack.ctl("log", "-n", "10000", "--json"))
        for running in (True, False, True):
            if not running:
                self.stack.deliver.stop()
            elif self.stack.deliver.process.poll() is not None:
                self.stack.deliver.start()
            status, out, err = self.stack.ctl_as(who, "log", "-n", "10000",
                                                 "--json")
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(len(json.loads(out)), want)
