# test_disk - the ledger's disk is full, read-only, locked, damaged
# SPDX-License-Identifier: Apache-2.0
"""No new send starts, what Gmail accepted is answered 250, mail waits in
Postfix, the log says why, and it goes on by itself."""

import collections
import os
import shutil
import sqlite3
import subprocess
import unittest

from tests.e2e.stack import SharedStack, Stack, wait_for


class DiskStack(Stack):
    """Its state directory is a small file system of its own."""

    def __init__(self, **more):
        super().__init__(**more)
        self.disk = os.path.join(self.top, "state")
        self.mount("-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs")

    def mount(self, *words):
        subprocess.run(["mount", *words, self.disk], check=True)

    def stop(self):
        super().stop()
        if os.path.ismount(self.disk):
            subprocess.run(["umount", self.disk], check=True)
            shutil.rmtree(self.top, ignore_errors=True)

    # --- what can happen to it

    def fill(self):
        """Not an octet is left."""
        with open(os.path.join(self.disk, "full"), "ab", buffering=0) as f:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass

    def empty(self):
        os.unlink(os.path.join(self.disk, "full"))

    def ledger(self):
        return os.path.join(self.disk, "ledger.db")


class Disk(SharedStack):
    @classmethod
    def make_stack(cls):
        return DiskStack()

    def sent(self):
        """How often each recipient got something since this test began."""
        return collections.Counter(
            r for e in self.sim.journal(content=False)[self.since:]
            for r in e["recipients"])

    def send(self, recipient):
        self.stack.send("sales@example.com", recipient)

    def mark(self):
        return len(self.stack.deliver.log())

    def news(self, before):
        return self.stack.deliver.log()[before:]

    def all_arrive_once(self, recipients):
        self.stack.postfix.wait_empty()
        self.assertEqual(self.sent(), collections.Counter(recipients))

    def test_full(self):
        stack, before, recipients = self.stack, self.mark(), []

        def refused():
            return "cannot be written" in self.news(before)

        stack.fill()
        try:
            while not refused():  # room inside the ledger's files goes first
                recipients.append("full%d@far.test" % len(recipients))
                self.send(recipients[-1])
                wait_for("its end", lambda: (
                    refused() or self.sent()[recipients[-1]]))
            sent = self.sent()
            for n in range(3):
                recipients.append("more%d@far.test" % n)
                self.send(recipients[-1])
            wait_for("the queue", lambda: len(stack.postfix.queued()) >= 3)
            stack.postfix.flush()
            wait_for("the reason in the log",
                     lambda: "nothing is sent" in self.news(before))
            self.assertIn("disk is full", self.news(before))
            self.assertIn("451 4.3.0", stack.postfix.log())
            self.assertEqual(self.sent(), sent)
        finally:
            stack.empty()
        self.all_arrive_once(recipients)
        wait_for("the end of it in the log", lambda: (
            "can be written again" in self.news(before)))

    def lock(self):
        """As an open transaction in the sqlite3 shell does."""
        db = sqlite3.connect(self.stack.ledger(), isolation_level=None)
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("BEGIN IMMEDIATE")
        return db

    def test_gmails_yes_is_passed_on(self):
        stack, before = self.stack, self.mark()
        self.sim.latency(stages={"end": 1500})
        self.send("late@far.test")
        wait_for("the message to be under way", lambda: stack.log_row(
            recipient="late@far.test", outcome="sending"))
        db = self.lock()
        try:
            wait_for("Gmail's answer", self.sent)
            stack.postfix.wait_empty(flush=False, timeout_s=20)
            self.assertIn("answered all the same", self.news(before))
            db.execute("ROLLBACK")
        finally:
            db.close()
            self.sim.latency()
        wait_for("the row", lambda: stack.log_row(recipient="late@far.test",
                                                  outcome="sent"))
        self.all_arrive_once(["late@far.test"])

    def test_locked(self):
        stack, before = self.stack, self.mark()
        db = self.lock()
        try:
            self.send("locked@far.test")
            wait_for("the reason in the log",
                     lambda: "holds it locked" in self.news(before))
            self.assertEqual(self.sent(), collections.Counter())
            self.assertEqual(len(stack.postfix.queued()), 1)
            db.execute("ROLLBACK")
        finally:
            db.close()
        self.all_arrive_once(["locked@far.test"])

    def refused_start(self, recipient, reason):
        """The agent does not start, says why, and mail waits."""
        stack, before = self.stack, self.mark()
        stack.deliver.start(wait=False)
        self.assertNotEqual(stack.deliver.process.wait(20), 0)
        self.assertRegex(self.news(before), reason)
        self.send(recipient)
        wait_for("the queue", stack.postfix.queued)
        self.assertEqual(self.sent(), collections.Counter())

    def test_read_only(self):
        stack = self.stack
        self.assertEqual(stack.deliver.stop(), 0)
        stack.mount("-o", "remount,ro")
        try:
            self.refused_start("ro@far.test", "Read-only|read-only|readonly")
        finally:
            stack.mount("-o", "remount,rw")
            stack.deliver.start()
        self.all_arrive_once(["ro@far.test"])

    def test_damaged(self):
        stack, copy = self.stack, os.path.join(self.stack.top, "copy.db")
        self.assertEqual(stack.deliver.stop(), 0)
        shutil.copy(stack.ledger(), copy)
        try:
            with open(stack.ledger(), "r+b") as f:
                f.write(os.urandom(8192))
            self.refused_start("damaged@far.test",
                               "ledger.db: .*the file is damaged.*backup")
        finally:
            shutil.copy(copy, stack.ledger())
            stack.deliver.start()
        self.all_arrive_once(["damaged@far.test"])

    def test_rebooted(self):
        """Everything killed, the runtime directory empty."""
        stack, run = self.stack, os.path.join(self.stack.top, "run")
        self.send("reboot@far.test")
        self.all_arrive_once(["reboot@far.test"])
        before = stack.ctl("quota", "--json")
        for daemon in stack.daemons.values():
            daemon.kill()
        for name in os.listdir(run):
            os.unlink(os.path.join(run, name))
        for daemon in stack.daemons.values():
            daemon.start()

        def windows(accounts):
            return [[(w["dimension"], w["limit"], w["used"])
                     for w in a["windows"]] for a in accounts]

        self.assertEqual(windows(stack.ctl("quota", "--json")),
                         windows(before))


if __name__ == "__main__":
    unittest.main()
