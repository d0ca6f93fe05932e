# test_control - accounts that a person takes out of service
# SPDX-License-Identifier: Apache-2.0

import os
import socket
import time
import unittest

from tests.e2e.stack import Stack, wait_for


class Control(unittest.TestCase):
    def state(self, stack, name="sales"):
        account, = stack.ctl("quota", name, "--json")
        return account["state"]

    def test_pause_outlives_the_agent_and_resume_ends_it(self):
        with Stack() as stack:
            self.assertEqual(stack.ctl("pause", "sales", "a", "holiday"),
                             "sales@example.com is paused\n")
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual((account["state"], account["reason"]),
                             ("paused", "a holiday"))
            stack.send("sales@example.com", "n1@far.test")
            wait_for("mail to wait", stack.postfix.queued)
            stack.deliver.kill()
            stack.deliver.start()
            self.assertEqual(self.state(stack), "paused")
            self.assertEqual(stack.sim.journal(content=False), [])
            self.assertEqual(stack.ctl("resume", "SALES@example.com"),
                             "sales@example.com is ok\n")
            stack.postfix.wait_empty()
            entry, = stack.sim.journal(content=False)
            self.assertEqual(entry["recipients"], ["n1@far.test"])

            self.refusals(stack)

    def test_what_a_person_asks_at_night(self):
        """Who is full, since when, when does room return, what waits; and what
        was said of the future comes true."""
        with Stack(sales_quota="{messages: 3 per 8s}",
                   max_wait="10m") as stack:
            self.assertTrue(stack.ctl("status", "--json")["good"])
            for i in range(5):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(3)

            def full():
                account, = stack.ctl("quota", "sales", "--json", "--room", "2")
                window, = account["windows"]
                return window["room"] == 0 and account

            account = wait_for("the limit", full)
            asked = time.time()
            window, = account["windows"]
            self.assertIsNotNone(window["full_since"])
            self.assertLessEqual(window["full_since_in_s"], 0)
            third = stack.sim.journal(content=False)[2]
            self.assertAlmostEqual(asked + window["full_since_in_s"],
                                   third["time"], delta=5)
            status = stack.ctl("status", "--json", status=1)
            self.assertEqual([(p["problem"], p["account"])
                              for p in status["problems"]],
                             [("full", "sales@example.com")])
            rows = stack.ctl("accounts", "--full", "--json")
            self.assertEqual([r["account"] for r in rows],
                             ["sales@example.com"])
            # Two are in the MTA's queue, whether tried already or not.
            waits = [rows[0][k] for k in ("waiting_messages",
                                          "coming_messages")]
            self.assertEqual(sum(waits), 2, rows[0])
            entries = stack.sim.wait_journal(4, timeout_s=60)
            # Not before that; later only by what the MTA takes to come back.
            self.assertGreater(entries[3]["time"],
                               asked + window["room_returns_in_s"] - 2)
            self.assertLess(entries[3]["time"],
                            asked + window["room_returns_in_s"] + 30)
            stack.sim.wait_journal(5, timeout_s=60)
            stack.postfix.wait_empty()
            metrics = stack.ctl("metrics")
            for sample in (
                    'gmroute_account_deliveries_total{'
                    'account="sales@example.com",outcome="sent"} 5',
                    'gmroute_replies_total{code="250"} 5',
                    'gmroute_delivery_duration_seconds_count 5',
                    'gmroute_decision_duration_seconds_count 5'):
                self.assertIn(sample + "\n", metrics)

    def refusals(self, stack):
        """What cannot be done is said, and changes nothing."""
        self.assertEqual(stack.ctl("pause", "nobody@else.test", status=2), "")
        self.assertEqual(stack.ctl("pause", "staff", status=2), "")
        path = os.path.join(stack.top, "run", "control.sock")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        for line in (b"pause\n", b"\0\n", b"x" * 600 + b"\n", b"",
                     b"pause sales@example.com \xff\n"):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(path)
                s.sendall(line)
                s.shutdown(socket.SHUT_WR)
                try:
                    answer = s.recv(600)
                except ConnectionResetError:
                    answer = b""
            self.assertFalse(answer.startswith(b"ok"), answer)
        self.assertEqual(self.state(stack), "ok")
        stack.deliver.stop()
        stack.ctl("pause", "sales", status=2)
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
