# test_limits - no account passes its limit, nothing is lost for it
# SPDX-License-Identifier: Apache-2.0

import re
import smtplib
import threading
import unittest

from tests.e2e.stack import HEAD, SIM, Stack, wait_for


def limited(n, window_s):
    """The simulator with Gmail's limit for sales@example.com."""
    accounts = [dict(a) for a in SIM["accounts"]]
    accounts[0]["limits"] = {"messages": n}
    return {"accounts": accounts, "window_s": window_s}


class AtTheLimit(unittest.TestCase):
    def test_waits_in_the_queue_and_goes_when_room_returns(self):
        with Stack(sales_quota="{messages: 5 per 20s}", max_wait="30s",
                   sim=limited(5, 20)) as stack:
            for i in range(8):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(5)
            # Three wait in the MTA's queue: room is near, so the agent lets
            # them wait instead of answering 451.
            wait_for("three in the queue",
                     lambda: len(stack.postfix.queued()) == 3)
            stack.sim.wait_journal(8, timeout_s=60)
            stack.postfix.wait_empty()
            entries = stack.sim.journal(content=False)
            self.assertEqual(sorted(r for e in entries
                                    for r in e["recipients"]),
                             ["n%d@far.test" % i for i in range(8)])
            counters = stack.sim.counters("sales@example.com", window_s=20)
            self.assertEqual(counters["refused_total"], 0, counters)
            self.assertLessEqual(counters["peak"]["messages"], 5)

    def test_a_long_wait_has_its_reason_in_the_queue(self):
        with Stack(sales_quota="{messages: 1 per 1h}",
                   max_wait="2h") as stack:
            for i in range(2):
                stack.send("sales@example.com", "n%d@far.test" % i)
            wait_for("the reason in the queue", lambda: re.search(
                r"limit \(messages\) of account sales@example.com is\s+"
                r"reached; room returns at 20\d\d-", stack.postfix.run(
                    "postqueue", "-p").stdout.decode()))
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual(account["waiting_messages"], 1)

    def test_what_does_not_fit_into_max_wait_is_deferred_with_a_time(self):
        with Stack(sales_quota="{messages: 2 per 1h}", max_wait="1m",
                   sim=limited(2, 3600)) as stack:
            for i in range(2):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(2)
            with self.assertRaises(smtplib.SMTPDataError) as raised:
                stack.send("sales@example.com", "n3@far.test")
            self.assertEqual(raised.exception.smtp_code, 451)
            self.assertRegex(
                raised.exception.smtp_error.decode(),
                r"4\.7\.1 Sending limit \(messages\) of sales@example.com is "
                r"reached; room returns at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d")

    def test_twenty_senders_never_pass_the_limit(self):
        with Stack(sales_quota="{messages: 10 per 15s, recipients: 12 per "
                   "15s}", max_wait="10m", sim=limited(10, 15)) as stack:
            failed = []

            def sender(i):
                try:
                    for k in range(2):
                        stack.send("sales@example.com",
                                   "n%d.%d@far.test" % (i, k))
                except (smtplib.SMTPException, OSError) as error:
                    failed.append(error)

            threads = [threading.Thread(target=sender, args=(i,))
                       for i in range(20)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(failed, [])
            stack.sim.wait_journal(40, timeout_s=150)
            stack.postfix.wait_empty()
            counters = stack.sim.counters("sales@example.com", window_s=15)
            self.assertEqual(counters["accepted"], 40)
            self.assertEqual(counters["refused_total"], 0)
            self.assertLessEqual(counters["peak"]["messages"], 10)

    def test_only_new_recipients_are_held_back(self):
        sim = limited(100, 10)
        sim["accounts"][0]["limits"] = {"unique_recipients": 4,
                                        "unique_external_recipients": 3,
                                        "window_s": 20}
        known = ["boss@internal.test", "a@far.test", "b@far.test"]
        with Stack(sales_quota="{unique_recipients: 4 per 20s, "
                   "unique_external_recipients: 3 per 20s}", max_wait="10m",
                   head=HEAD.replace("internal_domains: [",
                                     "internal_domains: [internal.test, "),
                   sim={**sim, "internal_domains": [
                       "example.com", "internal.test"]}) as stack:

            def sent_to(recipient):
                return [e for e in stack.sim.journal(content=False)
                        if recipient in e["recipients"]]

            stack.send("sales@example.com", known + ["c@far.test"])
            stack.sim.wait_journal(1)
            stack.send("sales@example.com", "new@far.test")
            for i in range(4):  # again and again, spelled otherwise too
                stack.send("sales@example.com",
                           [known[i % 3], "B@FAR.test"])
            stack.sim.wait_journal(5)
            stack.deliver.kill()
            stack.deliver.start()
            stack.send("sales@example.com", known)
            stack.sim.wait_journal(6)
            self.assertEqual(sent_to("new@far.test"), [])
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual({w["dimension"]: w["used"]
                              for w in account["windows"]},
                             {"unique_recipients": 4,
                              "unique_external_recipients": 3})
            stack.postfix.run("postqueue", "-f")
            wait_for("the new one", lambda: sent_to("new@far.test"), 60)
            counters = stack.sim.counters("sales@example.com", window_s=20)
            self.assertEqual(counters["refused_total"], 0, counters)

    def test_a_burst_is_accepted_up_to_what_fits_into_max_wait(self):
        # 60 go at once and 60 after an hour; 180 are told to come back.
        clients, each, room = 5, 60, 60
        answers = []
        with Stack(sales_quota="{messages: %d per 1h}" % room,
                   max_wait="70m", sim=limited(room, 3600)) as stack:

            def client(i):
                # A connection each: Postfix slows down who meets errors.
                for k in range(each):
                    try:
                        stack.send("sales@example.com",
                                   "n%d.%d@far.test" % (i, k))
                        answers.append(250)
                    except smtplib.SMTPDataError as error:
                        answers.append(error.smtp_code)

            threads = [threading.Thread(target=client, args=(i,))
                       for i in range(clients)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(len(answers), clients * each)
            self.assertEqual(set(answers), {250, 451})
            # Those whose ends of data come at the same moment do not see
            # each other: at most one more for each client.
            self.assertIn(answers.count(250) - 2 * room, range(0, clients))
            stack.sim.wait_journal(room)
            waiting = answers.count(250) - room
            wait_for("the rest in the queue",
                     lambda: len(stack.postfix.queued()) == waiting)
            wait_for("all of it counted", lambda: [
                a for a in stack.ctl("quota", "sales", "--json")
                if a["waiting_messages"] == waiting])
            counters = stack.sim.counters("sales@example.com", window_s=3600)
            self.assertEqual(counters["refused_total"], 0, counters)
            self.assertEqual(counters["peak"]["messages"], room)

    def test_quota_command_tells_what_is_used(self):
        with Stack(sales_quota="{messages: 3 per 1h}") as stack:
            stack.send("sales@example.com", "x@far.test")
            stack.sim.wait_journal(1)

            def window():
                account, = stack.ctl("quota", "sales", "--json")
                found, = account["windows"]
                return found if found["used"] else None

            self.assertEqual(wait_for("use", window)["room"], 2)
            self.assertIn("1 of", stack.ctl("quota", "sales"))
            self.assertIn("1 sent", stack.ctl("status"))

    def test_gmails_own_limit_cools_the_account_and_bounces_nothing(self):
        with Stack(sim=limited(1, 3600)) as stack:
            for i in range(3):
                stack.send("sales@example.com", "n%d@far.test" % i)
            stack.sim.wait_journal(1)
            account = wait_for("cooling", lambda: [
                a for a in stack.ctl("quota", "sales", "--json")
                if a["state"] == "cooling"])
            self.assertIn("5.4.5", account[0]["reason"])
            wait_for("two in the queue",
                     lambda: len(stack.postfix.queued()) == 2)
            self.assertEqual(stack.local.messages, [])  # no bounce


class Waiting(unittest.TestCase):
    def test_sixty_at_once_for_three_sessions_without_one_4xx(self):
        with Stack(sim={"latency": {"ms": 100}}) as stack:
            failed = []

            def sender(i):
                try:
                    for k in range(6):
                        stack.send("sales@example.com",
                                   "n%d.%d@far.test" % (i, k))
                except (smtplib.SMTPException, OSError) as error:
                    failed.append(error)

            threads = [threading.Thread(target=sender, args=(i,))
                       for i in range(10)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(failed, [])
            stack.sim.wait_journal(60, timeout_s=90)
            stack.postfix.wait_empty(flush=False)
            log = stack.postfix.log()
            self.assertEqual(len(re.findall(r"status=sent", log)), 60)
            self.assertNotIn("status=deferred", log)
            counters = stack.sim.counters("sales@example.com")
            self.assertLessEqual(counters["max_sessions"], 3)


if __name__ == "__main__":
    unittest.main()
