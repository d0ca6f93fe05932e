# test_reload - a new policy under load; a broken one is refused
# SPDX-License-Identifier: Apache-2.0

import time
import unittest

from tests.e2e.stack import RULES, Stack, wait_for
from tests.e2e.test_crashes import Load


def reloads(stack):
    """How often each daemon has tried."""
    return {name: daemon.log().count("configuration ")
            for name, daemon in stack.daemons.items()}


class Reload(unittest.TestCase):
    def test_reload_under_load_drops_no_session(self):
        with Stack() as stack:
            load = Load(stack, 3)
            try:
                for i in range(6):
                    # A rule more in front, each time another one.
                    stack.write_config(rules=RULES.replace(
                        "rules:\n", "rules:\n  - name: number %d\n"
                        "    match: {sender: n%d@nowhere.test}\n"
                        "    route: mta\n" % (i, i)))
                    for daemon in stack.daemons.values():
                        self.assertTrue(daemon.reload())
                    time.sleep(0.2)
            finally:
                load.stop()
            stack.postfix.wait_empty(60)
            self.assertEqual(len(stack.sim.journal(content=False)),
                             len(load.taken))
            self.assertNotIn("status=deferred", stack.postfix.log())
            # Reload costs no login: sessions live for 100 messages each.
            self.assertLessEqual(
                stack.sim.counters("sales@example.com")["logins"],
                3 + len(load.taken) // 100)

    def test_new_policy_is_obeyed_by_new_connections(self):
        with Stack() as stack:
            stack.write_config(rules=RULES.replace(
                "route: {account: sales}", "route: {account: news}"))
            before = reloads(stack)
            told = stack.ctl("reload", "--json")
            self.assertEqual(
                [(t["program"], t["reloads"], t["pid"]) for t in told],
                [("gmroute-" + name, True, stack.daemons[name].process.pid)
                 for name in ("token", "deliver", "milter")])
            wait_for("all to reload", lambda: all(
                n > before[name] for name, n in reloads(stack).items()))
            stack.send("sales@example.com", "x@far.test")
            entry, = stack.sim.wait_journal(1)
            self.assertEqual(entry["account"], "news@gmail.com")
            # One that is gone is said, and the others are told all the same.
            stack.token.kill()
            wait_for("the token daemon to be missed", lambda: [
                t["reloads"] for t in
                stack.ctl("reload", "--json", status=None)] ==
                [False, True, True], timeout_s=20)

    def test_broken_policy_is_refused_with_its_line(self):
        with Stack() as stack:
            stack.write_config(rules=RULES.replace(
                "match: {sender: news@example.com}",
                "match: {sendr: news@example.com}"))
            for daemon in stack.daemons.values():
                self.assertFalse(daemon.reload())
                self.assertRegex(daemon.log(),
                                 r"gmroute\.yaml:\d+:\d+: error: .*sendr")
            stack.ctl("check", status=1)
            before = reloads(stack)
            stack.ctl("reload", status=1)
            stack.send("news@example.com", "x@far.test")
            entry, = stack.sim.wait_journal(1)
            self.assertEqual(entry["account"], "news@gmail.com")
            self.assertEqual(reloads(stack), before)

    def test_account_that_is_gone_waits_and_is_said(self):
        with Stack() as stack:
            stack.deliver.stop()
            stack.send("sales@example.com", "x@far.test")
            rules = RULES.replace("{account: sales}", "{account: news}")
            accounts = stack.accounts.replace("sales@example.com",
                                              "sales@elsewhere.test")
            stack.write_config(rules=rules, accounts=accounts)
            stack.deliver.start()
            stack.postfix.flush()
            wait_for("the reason", lambda: "no longer configured"
                     in stack.postfix.log())
            self.assertEqual(len(stack.postfix.queued()), 1)
            self.assertEqual(stack.sim.journal(content=False), [])


if __name__ == "__main__":
    unittest.main()
