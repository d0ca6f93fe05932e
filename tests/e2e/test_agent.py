# test_agent - the agent itself, spoken to over LMTP
# SPDX-License-Identifier: Apache-2.0

import os
import re
import smtplib
import socket
import threading
import unittest

from tests.e2e.stack import Stack, message, wait_for


def tagged_recipients(stack, sender, n):
    """Real tags, taken out of a real queue; the agent must not run."""
    stack.send(sender, ["x%d@far.test" % i for i in range(n)])

    def found():
        text = stack.postfix.run("postqueue", "-p").stdout.decode()
        tags = re.findall(r"^\s+(\S+\.gmroute\.invalid)$", text, re.M)
        return tags if len(tags) == n else None

    tags = wait_for("tagged recipients", found)
    stack.postfix.run("postsuper", "-d", "ALL")
    return tags


class Agent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.stack.start()
        # Keeps the tagged mail in the queue for a moment.
        cls.stack.deliver.stop()
        cls.sales = tagged_recipients(cls.stack, "sales@example.com", 10)
        cls.alice = tagged_recipients(cls.stack, "alice@example.com", 2)
        cls.stack.deliver.start()

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def setUp(self):
        self.stack.sim.clear()  # what a failed test has left
        self.tag = self.sales.pop()
        self.since = len(self.stack.sim.journal(content=False))

    def lmtp(self):
        c = smtplib.LMTP(os.path.join(self.stack.top, "spool/gmroute/q07.sock"))
        c.ehlo("mta.test")
        return c

    def give(self, recipient, content):
        with self.lmtp() as c:
            c.mail("sales@example.com")
            code, text = c.rcpt(recipient)
            if code != 250:
                return code, text
            try:
                return c.data(content)
            except smtplib.SMTPDataError as refused:  # before the content
                return refused.smtp_code, refused.smtp_error

    def test_one_bit_changed_is_answered_451_and_never_sent(self):
        local, _, domain = self.tag.partition("@")
        labels = domain.split(".")
        ticket = len(labels) - 5
        changed = [labels.copy() for _ in range(4)]
        old = labels[ticket]
        changed[0][ticket] = ("b" if old[0] == "a" else "a") + old[1:]
        changed[1][ticket] = old[:20] + ("q" if old[20] != "q" else "r") + \
            old[21:]
        changed[2][ticket + 1] = "a" + "7" * 13
        changed[3][0] = "victim"
        for other in changed:
            code, text = self.give(local + "@" + ".".join(other),
                                   message("a@b", ["x"]))
            self.assertEqual(code, 451, (other, text))
            self.assertTrue(text)
        code, text = self.give("plain@far.test", message("a@b", ["x"]))
        self.assertEqual(code, 451, text)
        self.assertEqual(self.stack.sim.journal(self.since, False), [])

    def test_sent_once_answered_again_and_not_swallowed(self):
        content = message("sales@example.com", ["x@far.test"], "first")
        code, text = self.give(self.tag, content)
        self.assertEqual(code, 250, text)
        # The MTA did not get our answer and comes again: the same message.
        code, text = self.give(self.tag, content)
        self.assertEqual(code, 250, text)
        self.assertIn(b"lready sent", text)
        # The tag on another message: neither sent nor swallowed.
        code, text = self.give(self.tag, message(
            "sales@example.com", ["x@far.test"], "second", body="other"))
        self.assertEqual(code, 451, text)
        self.assertEqual(len(self.stack.sim.journal(self.since, False)), 1)

    def test_a_bad_certificate_is_refused_and_named(self):
        content = message("sales@example.com", ["x@far.test"], "cert")
        self.stack.deliver.stop()  # its sessions have their TLS already
        self.stack.deliver.start()
        for kind, said in (("expired", "expired"),
                           ("wrong_name", "smtp.gmail.com"),
                           ("self_signed", "self-signed"),
                           ("no_sni", "server name (SNI)")):
            self.stack.sim.fault("cert", kind=kind, count=1)
            code, text = self.give(self.tag, content)
            self.assertEqual(code, 451, (kind, text))
            self.assertIn(said, text.decode(), kind)
            # A log-in that failed stands for a few seconds.
            self.stack.deliver.stop()
            self.stack.deliver.start()
        code, text = self.give(self.tag, content)
        self.assertEqual(code, 250, text)
        self.assertEqual(len(self.stack.sim.journal(self.since, False)), 1)

    def test_two_accounts_in_one_transaction_do_not_wait_for_each_other(self):
        for slow, fast in (("sales@example.com", "alice@example.com"),
                           ("alice@example.com", "sales@example.com")):
            before = len(self.stack.deliver.log())
            fault = self.stack.sim.fault("slow", stage="end", ms=1500,
                                         account=slow)
            with self.lmtp() as c:
                c.mail("sales@example.com")
                for tag in (self.sales.pop(), self.alice.pop()):
                    self.assertEqual(c.rcpt(tag)[0], 250)
                self.assertEqual(c.docmd("DATA")[0], 354)
                c.send(message("a@b", ["x"], "both") + b".\r\n")
                self.assertEqual([c.getreply()[0] for _ in range(2)],
                                 [250, 250])
            self.stack.sim.clear(fault)
            order = re.findall(r"account=(\S+) outcome=sent .*<both\.",
                               self.stack.deliver.log()[before:])
            self.assertEqual(order, [fast, slow])

    def test_a_second_attempt_while_the_first_runs_is_answered_451(self):
        content = message("sales@example.com", ["x@far.test"], "twice")
        self.stack.sim.fault("slow", stage="end", ms=1500, count=1)
        first = []
        thread = threading.Thread(
            target=lambda: first.append(self.give(self.tag, content)))
        thread.start()
        self.stack.sim.wait_journal(1, since=self.since)
        code, text = self.give(self.tag, content)
        thread.join()
        self.assertEqual(code, 451, text)
        self.assertIn(b"under way", text)
        self.assertEqual(first[0][0], 250, first)
        self.assertEqual(len(self.stack.sim.journal(self.since, False)), 1)

    def test_512_connections_and_the_next_one_waits(self):
        path = os.path.join(self.stack.top, "spool/gmroute/deliver.sock")

        def connect():
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            return s

        clients = [connect() for _ in range(512)]
        for s in clients:
            s.settimeout(10)
            self.assertTrue(s.recv(1000).startswith(b"220 "))
        late = connect()  # in the backlog
        late.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            late.recv(1000)
        clients.pop().close()
        late.settimeout(10)
        self.assertTrue(late.recv(1000).startswith(b"220 "))
        for s in clients + [late]:
            s.close()
        code, text = self.give(self.tag, message(
            "sales@example.com", ["x@far.test"], "after the crowd"))
        self.assertEqual(code, 250, text)

    def test_bad_input_is_answered_and_leaves_the_agent_as_it_was(self):
        for junk in (b"\0" * 100 + b"\r\n", b"MAIL FROM:<a\r\n",
                     b"X" * 100000 + b"\r\n", b"\r\n" * 30,
                     b"LHLO x\nMAIL FROM:<>\n", os.urandom(5000) + b"\r\n"):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(os.path.join(self.stack.top,
                                       "spool/gmroute/deliver.sock"))
                s.settimeout(10)
                self.assertTrue(s.recv(1000).startswith(b"220 "))
                s.sendall(junk)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
        code, text = self.give(self.tag, message(
            "sales@example.com", ["x@far.test"], "after junk"))
        self.assertEqual(code, 250, text)


class BadState(unittest.TestCase):
    """What lies on disk or in memory is not ours, or torn."""

    def test_foreign_shared_memory_is_said_and_does_no_harm(self):
        with Stack() as stack:
            path = os.path.join(stack.top, "run/quota")
            with open(path, "rb") as f:
                good = f.read()
            for bad in (b"not ours at all" * 1000, good[:1000], b""):
                with open(path + ".bad", "wb") as f:
                    f.write(bad)
                os.rename(path + ".bad", path)
                self.assertEqual(stack.ctl("quota", status=2), "")
                stack.send("sales@example.com", "x@far.test")
            stack.sim.wait_journal(3)  # the agent counts in its own mapping
            stack.deliver.stop()
            stack.deliver.start()
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual(account["windows"][0]["used"], 3)

    def test_corrupt_ledger_is_refused_with_the_remedy(self):
        with Stack(mta=None) as stack:
            stack.deliver.stop()
            path = os.path.join(stack.top, "state/ledger.db")
            with open(path, "r+b") as f:
                f.write(b"garbage " * 1000)
            with self.assertRaises(RuntimeError) as raised:
                stack.deliver.start()
            self.assertIn("ledger", str(raised.exception))
            with open(path, "rb") as f:  # never replaced by itself
                self.assertTrue(f.read(8) == b"garbage ")


if __name__ == "__main__":
    unittest.main()
