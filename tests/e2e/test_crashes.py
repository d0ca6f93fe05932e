# test_crashes - each daemon killed under load; nothing lost, nothing twice
# SPDX-License-Identifier: Apache-2.0

import collections
import random
import re
import smtplib
import threading
import time
import unittest

from tests.e2e.stack import SharedStack, Stack, wait_for


class Load:
    """Senders in threads; remembers what Postfix has taken."""

    def __init__(self, stack, threads=4):
        self.stack, self.taken, self.stopping = stack, [], False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.send, args=(i,))
                        for i in range(threads)]
        for t in self.threads:
            t.start()

    def send(self, i):
        k = 0
        while not self.stopping:
            k += 1
            recipient = "n%d.%d@far.test" % (i, k)
            try:
                self.stack.send("sales@example.com", recipient)
            except (smtplib.SMTPException, OSError):
                time.sleep(0.1)  # refused: it is still the client's
                continue
            with self.lock:
                self.taken.append(recipient)

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()


class Crashes(unittest.TestCase):
    def kill_under_load(self, name, times):
        with Stack(sim={"latency": {"ms": 15}}) as stack:
            load = Load(stack)
            try:
                for _ in range(times):
                    time.sleep(random.uniform(0.3, 1.2))
                    stack.daemons[name].kill()
                    time.sleep(random.uniform(0, 0.3))
                    stack.daemons[name].start()
                time.sleep(0.5)
            finally:
                load.stop()
            self.assertGreater(len(load.taken), 20)
            wait_for("the agent", lambda: stack.deliver.process.poll() is None)
            stack.postfix.wait_empty(120)
            count = collections.Counter(
                r for e in stack.sim.journal(content=False)
                for r in e["recipients"])
            self.assertEqual([r for r in load.taken if count[r] == 0], [],
                             "lost")
            twice = [r for r, n in count.items() if n > 1]
            doubtful = {r["recipient"]
                        for r in stack.log_row(outcome="in_doubt")}
            self.assertEqual([r for r in twice if r not in doubtful], [],
                             "sent twice, though the ledger had no doubt")
            self.assertEqual(stack.local.messages, [], "bounced")
            return stack

    def test_milter(self):
        self.kill_under_load("milter", 4)

    def test_deliver(self):
        self.kill_under_load("deliver", 6)

    def test_token(self):
        self.kill_under_load("token", 3)

    def test_spent_quota_outlives_the_agent_and_its_memory(self):
        with Stack(sales_quota="{messages: 100 per 1h}") as stack:
            for i in range(3):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(3)
            stack.postfix.wait_empty()
            stack.deliver.kill()
            stack.deliver.start()

            def used():
                account, = stack.ctl("quota", "sales", "--json")
                return account["windows"][0]["used"]

            self.assertEqual(wait_for("the windows", used), 3)

    def test_lost_connection_after_the_end_is_in_doubt_and_counted(self):
        with Stack() as stack:
            stack.sim.fault("drop", stage="end", when="before", count=1)
            stack.send("sales@example.com", "x@far.test")
            rows = wait_for("doubt", lambda: stack.log_row(outcome="in_doubt"))
            self.assertEqual(len(rows), 1)
            stack.postfix.wait_empty()
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual([w["used"] for w in account["windows"]
                              if w["dimension"] == "messages"], [2])

    def test_clean_stop_lets_what_is_under_way_finish(self):
        with Stack(sim={"latency": {"ms": 300}}) as stack:
            stack.send("sales@example.com", "x@far.test")
            wait_for("a session", stack.sim.sessions)
            for daemon in stack.daemons.values():
                self.assertEqual(daemon.stop(), 0, daemon.log()[-500:])
            self.assertEqual(stack.log_row(outcome="in_doubt"), [])


class Matrix(SharedStack):
    """The agent killed at each step between "354" and its reply to the MTA;
    afterwards Gmail's journal, the ledger, the quota and the MTA's log tell
    the same story."""

    def kill_at(self, where, copies, first, size=10):
        """copies: what Gmail may have of it; first: how the ledger has the
        attempt that was killed, None = not at all."""
        stack, used = self.stack, self.used()
        recipient = self.id().rsplit(".test_", 1)[1] + "@far.test"
        stack.deliver.stop()
        stack.deliver.start(kill_at=where)
        stack.send("sales@example.com", recipient, body="x" * 76 + "\r\n" +
                   ("y" * 76 + "\r\n") * (size // 78))
        self.assertEqual(stack.deliver.process.wait(20), -9)
        stack.deliver.start()
        stack.postfix.wait_empty()

        journal = [e for e in self.sim.journal(self.since, content=False)
                   if e["recipients"] == [recipient]]
        self.assertIn(len(journal), copies, "copies at Gmail")
        rows = sorted(stack.log_row(recipient=recipient),
                      key=lambda row: row["time"])
        outcomes = [row["outcome"] for row in rows]
        if first is None:
            self.assertEqual(outcomes, ["sent"])
        else:
            self.assertEqual(outcomes, [first, "sent"][:len(outcomes)])
            self.assertEqual(outcomes[-1], "sent")
        # No copy that the ledger has no attempt for, and none it is sure of
        # that Gmail does not have.
        self.assertLessEqual(outcomes.count("sent"), len(journal))
        self.assertLessEqual(len(journal), len(outcomes))
        # Counted is at least what Gmail has counted.
        self.assertEqual(self.used() - used, len(outcomes))
        sent = re.findall(r"to=<%s\S*>.* status=(\w+)" % re.escape(recipient),
                          stack.postfix.log())
        self.assertEqual(sent.count("sent"), 1, sent)
        self.assertNotIn("bounced", sent)

    def used(self):
        account, = self.stack.ctl("quota", "sales", "--json")
        return next(w["used"] for w in account["windows"]
                    if w["dimension"] == "messages")

    def test_before_the_attempt_is_written(self):
        self.kill_at("send:after:354,pwrite:before", [1], None)

    def test_while_the_attempt_is_written(self):
        self.kill_at("send:after:354,pwrite:after", [1], None)

    def test_before_the_first_octet(self):
        self.kill_at("tls_write:before:MAIL FROM", [1], "in_doubt")

    def test_inside_the_content(self):
        self.kill_at("tls_write:after:MAIL FROM,tls_write:before", [1],
                     "in_doubt", size=300000)

    def test_after_the_flight(self):
        self.kill_at("tls_write:after: LAST", [1, 2], "in_doubt")

    def test_after_the_reply(self):
        self.kill_at("tls_read:after:250 2.0.0", [2], "in_doubt")

    def test_while_the_result_is_written(self):
        self.kill_at("tls_read:after:250 2.0.0,pwrite:after", [2], "in_doubt")

    def test_before_the_result_is_synced(self):
        # Written, though not synced: a killed process loses nothing of it.
        self.kill_at("tls_read:after:250 2.0.0,sync:before", [1], "sent")

    def test_after_the_result_is_synced(self):
        self.kill_at("tls_read:after:250 2.0.0,sync:after", [1], "sent")

    def test_before_the_answer(self):
        self.kill_at("send:before:gsmtp", [1], "sent")

    def test_after_the_answer(self):
        self.kill_at("send:after:gsmtp", [1], "sent")


if __name__ == "__main__":
    unittest.main()
