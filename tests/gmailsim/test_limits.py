# test_limits - rolling windows: exact, and judged by a count of their own
# SPDX-License-Identifier: Apache-2.0

import random
import threading
import time
import unittest

from simcase import Closed, SimCase, Talk

from gmailsim.accounts import (Account, AccountError, Limit, parse_limits,
                               peak_of)


def brute_peak(events, window):
    """The most in any window, by trying each that ends at an event."""
    return max((sum(n for other, n in events if when - window < other <= when)
                for when, _ in events), default=0)


class Windows(unittest.TestCase):
    """The arithmetic alone."""

    def test_an_event_counts_until_the_window_is_over(self):
        limit = Limit("messages", 2, 1000)
        limit.add(0, 1)
        limit.add(400, 1)
        self.assertFalse(limit.fits(999, 1))
        self.assertTrue(limit.fits(1000, 1))
        limit.add(1000, 1)
        self.assertFalse(limit.fits(1399, 1))
        self.assertTrue(limit.fits(1400, 1))

    def test_limit_never_passed_against_brute_force(self):
        rnd = random.Random(7)
        for _ in range(50):
            window, most = rnd.randint(1, 50), rnd.randint(1, 9)
            limit, events, now = Limit("messages", most, window), [], 0
            for _ in range(200):
                now += rnd.choice((0, 0, 1, 2, 7))
                amount = rnd.randint(1, 3)
                used = sum(n for t, n in events if t > now - window)
                fits = used + amount <= most
                self.assertEqual(limit.fits(now, amount), fits)
                if fits:
                    limit.add(now, amount)
                    events.append((now, amount))
            self.assertEqual(limit.peak, brute_peak(events, window))
            self.assertEqual(peak_of(events, window), limit.peak)
            self.assertLessEqual(limit.peak, most)

    def test_unique_recipients_against_brute_force(self):
        rnd = random.Random(8)
        for _ in range(50):
            limit, events, now = Limit("unique_recipients", 5, 20), [], 0
            for _ in range(100):
                now += rnd.randint(0, 6)
                names = {rnd.choice("abcdefgh")
                         for _ in range(rnd.randint(1, 3))}
                recent = set().union(*(n for t, n in events if t > now - 20))
                fits = len(recent | names) <= 5
                self.assertEqual(limit.fits(now, names), fits)
                if fits:
                    limit.add(now, names)
                    events.append((now, names))

    def test_a_new_limit_looks_back(self):
        account = Account("a@example.com")
        account.change({"limits": {"messages": 10}})
        from gmailsim.accounts import now_ms
        amounts = account.amounts(["x@y.z", "v@w.x"], 5, {"example.com"})
        account.accept(now_ms(), amounts)
        account.change({"limits": {"messages": 2, "recipients": 3,
                                   "bytes": {"limit": 9, "window_s": 5}}})
        used = {l["dimension"]: l["used"]
                for l in account.describe()["limits"]}
        self.assertEqual(used, {"messages": 1, "recipients": 2, "bytes": 5})

    def test_bad_limits(self):
        for limits in ({"messages": "5"}, {"apples": 5},
                       {"messages": {"limit": 5, "window_s": 0}},
                       {"messages": {"limit": 5, "per": "day"}}):
            with self.subTest(limits), self.assertRaises(AccountError):
                parse_limits(limits)


class OverSockets(SimCase):
    """What a client sees."""

    def test_daily_limit_at_end_of_content(self):
        self.sim.account(self.user, limits={"messages": 2})
        talk = self.logged_in()
        for _ in range(2):
            self.assertReply(talk.message(), 250)
        for _ in range(2):
            self.assertEqual(
                talk.message(), "550-5.4.5 Daily user sending limit exceeded. "
                "For more information on Gmail\n550-5.4.5 sending limits go "
                "to\n550 5.4.5  https://support.google.com/a/answer/166852 "
                "%s - gsmtp" % self.sid_of(talk))
        counters = self.sim.counters(self.user)
        self.assertEqual(counters["accepted"], 2)
        self.assertEqual(counters["refused"], {"daily_limit": 2})
        self.assertEqual(counters["limits"][0]["peak"], 2)

    def test_daily_limit_in_older_wording(self):
        self.sim.settings(profile="2020")
        self.sim.account(self.user, limits={"messages": 0})
        self.assertRegex(self.logged_in().message(),
                         "^550 5.4.5 Daily user sending quota exceeded. ")

    def test_daily_limit_at_data_or_mail(self):
        for stage, wanted in (("data", ["250", "250", "550"]),
                              ("mail", ["550", "503", "503"])):
            with self.subTest(stage):
                self.sim.account(self.user, limits={"messages": 0},
                                 flags={"limit_stage": stage})
                talk = self.logged_in()
                talk.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n")
                replies = [talk.reply() for _ in range(3)]
                self.assertEqual([r[:3] for r in replies], wanted)

    def test_every_dimension(self):
        two = ["a@out.example", "b@out.example"]
        rows = [
            ("messages", 1, [["x@y.z"]], ["x@y.z"]),
            ("recipients", 3, [two], two),
            ("recipients", 2, [], two + ["c@out.example"]),
            ("external_recipients", 2, [two, ["in@example.com"] * 3],
             ["c@out.example"]),
            ("unique_recipients", 2, [two, two, two], ["c@out.example"]),
            ("unique_external_recipients", 2,
             [two, two + ["i%d@example.com" % i for i in range(4)]],
             ["c@out.example"]),
            ("bytes", 45, [["x@y.z"], ["x@y.z"]], ["x@y.z"]),
        ]
        for number, (dimension, limit, good, bad) in enumerate(rows):
            with self.subTest(dimension):
                user = "dim%d@example.com" % number
                self.sim.account(user, app_password="abcd efgh ijkl mnop",
                                 limits={dimension: limit})
                talk = self.logged_in(user)
                for recipients in good:
                    self.assertReply(talk.message(recipients=recipients), 250)
                self.assertReply(talk.message(recipients=bad), 550, "5.4.5")
                self.assertEqual(self.sim.counters(user)["accepted"],
                                 len(good))

    def test_room_returns(self):
        self.sim.account(self.user, limits={"messages": 2, "window_s": 1})
        talk = self.logged_in()
        first = time.monotonic()
        self.assertReply(talk.message(), 250)
        self.assertReply(talk.message(), 250)
        self.assertReply(talk.message(), 550)
        self.until(lambda: talk.message()[:3] == "250")
        self.assertGreaterEqual(time.monotonic() - first, 1.0)
        times = [e["monotonic_ms"] for e in self.sim.journal()]
        self.assertGreaterEqual(times[2] - times[0], 1000)

    def test_many_senders_in_parallel(self):
        """Twenty sessions at once get through exactly what fits."""
        self.sim.account(self.user, limits={"messages": 30, "window_s": 0.5})
        stop = time.monotonic() + 1.2

        def send():
            with Talk(self.sim) as talk:
                talk.login(self.user)
                while time.monotonic() < stop:
                    talk.message()
        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counters = self.sim.counters(self.user, window_s=0.5)
        events = [(e["monotonic_ms"], 1) for e in self.sim.journal()]
        self.assertEqual(counters["peak"]["messages"], 30)
        self.assertEqual(brute_peak(events, 500), 30)
        self.assertEqual(counters["max_sessions"], 20)
        self.assertGreater(counters["refused_total"], 0)
        self.assertGreater(counters["accepted"], 30)

    def test_peak_is_counted_without_any_limit(self):
        talk = self.logged_in()
        for _ in range(5):
            talk.message(recipients=["a@b.c", "d@e.f"])
        counters = self.sim.counters(self.user, window_s=60)
        self.assertEqual(counters["peak"], {"messages": 5, "recipients": 10,
                                            "bytes": 105})
        self.assertEqual(counters["limits"], [])

    def test_a_dropped_connection_does_not_count(self):
        self.sim.account(self.user, limits={"messages": 1})
        self.sim.fault("drop", stage="end", count=1)
        with self.assertRaises((Closed, OSError)):
            self.logged_in().message()
        self.assertReply(self.logged_in().message(), 250)
        self.assertReply(self.logged_in().message(), 550, "5.4.5")


if __name__ == "__main__":
    unittest.main()
