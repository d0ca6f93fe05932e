# test_notify - what the daemons tell the service manager
# SPDX-License-Identifier: Apache-2.0

import os
import queue
import signal
import socket
import threading
import time
import unittest

from tests.e2e.stack import Daemon, Stack, wait_for

WATCHDOG_S = 0.7


class Watched(Daemon):
    """Started as systemd starts a unit with Type=notify and WatchdogSec."""

    manager = None

    def start(self, *args, **more):
        path = self.stack.top + "/notify." + self.name
        if self.manager is None:
            self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.manager.bind(path)
            self.states, self.alive = queue.Queue(), 0
            threading.Thread(target=self.listen, daemon=True).start()
        os.environ["NOTIFY_SOCKET"] = path
        os.environ["WATCHDOG_USEC"] = str(int(WATCHDOG_S * 1000000))
        try:
            super().start(*args, **more)
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]

    def listen(self):
        while True:
            text = self.manager.recv(4096).decode()
            if text == "WATCHDOG=1":
                self.alive += 1
            else:
                self.states.put(text)

    def told(self):
        return self.states.get(timeout=20)


class WatchedStack(Stack):
    def __init__(self, **options):
        super().__init__(**options)
        self.daemons = {n: Watched(self, n) for n in self.daemons}


class Notify(unittest.TestCase):
    def test_a_life_as_systemd_sees_it(self):
        with WatchedStack(mta=None) as stack:
            self.daemons = stack.daemons
            self.all_are_alive()
            self.a_milter_that_does_not_answer(stack)
            self.daemons_that_hang()
            ready = {"token": "READY=1\nSTATUS=3 accounts",
                     "deliver": "READY=1\nSTATUS=3 accounts",
                     "milter": "READY=1\nSTATUS=8 rules, 3 accounts"}
            for name, daemon in self.daemons.items():
                with self.subTest(name):
                    self.assertEqual(daemon.told(), ready[name])
                    self.assertTrue(daemon.reload())
                    self.assertRegex(daemon.told(),
                                     r"^RELOADING=1\nMONOTONIC_USEC=[0-9]+$")
                    self.assertEqual(daemon.told(), ready[name])
            self.a_ledger_that_cannot_be_written(stack)
            stack.write_config(rules="rules: nothing\n")
            for name, daemon in self.daemons.items():
                with self.subTest(name):
                    self.assertFalse(daemon.reload())
                    self.assertRegex(daemon.told(), "^RELOADING=1\n")
                    self.assertRegex(daemon.told(), "^READY=1\nSTATUS=the "
                                                    "configuration is broken")
                    daemon.stop()
                    self.assertEqual(daemon.told(), "STOPPING=1")

    def signs_of_life(self, *names):
        """How many each gives, for long enough."""
        before = {name: self.daemons[name].alive for name in names}
        time.sleep(3 * WATCHDOG_S)
        return {self.daemons[name].alive - before[name] for name in names}

    def all_are_alive(self):
        self.assertGreaterEqual(min(self.signs_of_life(*self.daemons)), 1)

    def a_milter_that_does_not_answer(self, stack):
        """Its main thread runs on, and says nothing."""
        path = os.path.join(stack.top, "milter/milter.sock")
        os.rename(path, path + ".away")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)  # who connects waits, as with a filter that hangs
            other.listen()
            time.sleep(WATCHDOG_S)  # a look that was under way
            self.assertEqual(self.signs_of_life("milter"), {0})
        os.rename(path + ".away", path)
        before = self.daemons["milter"].alive
        wait_for("the milter", lambda: self.daemons["milter"].alive > before)

    def a_ledger_that_cannot_be_written(self, stack):
        deliver = self.daemons["deliver"]
        path = os.path.join(stack.top, "state/ledger.db")
        os.rename(path, path + ".away")
        os.mkdir(path)
        stack.ctl("pause", "news")
        self.assertRegex(deliver.told(), "^READY=1\nSTATUS=nothing is sent: the "
                                         "ledger cannot be written: ")
        os.rmdir(path)
        os.rename(path + ".away", path)
        self.assertEqual(deliver.told(), "READY=1\nSTATUS=3 accounts")

    def daemons_that_hang(self):
        """Nobody else tells for them."""
        names = ("token", "deliver")
        for name in names:
            self.daemons[name].process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        self.assertEqual(self.signs_of_life(*names), {0})
        for name in names:
            self.daemons[name].process.send_signal(signal.SIGCONT)
        self.all_are_alive()
