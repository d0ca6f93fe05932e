# test_notify - what the daemons tell the service manager
# SPDX-License-Identifier: Apache-2.0

import os
import queue
import signal
import socket
import threading
import time
import unittest

from tests.e2e.stack import Daemon, Stack

WATCHDOG_S = 1.0


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

    def signs_of_life(self, within_s):
        """How many there are from now on."""
        before = self.alive
        time.sleep(within_s)
        return self.alive - before


class Notify(unittest.TestCase):
    def setUp(self):
        self.stack = Stack(mta=None)
        self.stack.daemons = {n: Watched(self.stack, n)
                              for n in self.stack.daemons}
        self.addCleanup(self.stack.stop)
        self.stack.start()

    def test_a_life_as_systemd_sees_it(self):
        ready = {"token": "READY=1\nSTATUS=3 accounts",
                 "deliver": "READY=1\nSTATUS=3 accounts",
                 "milter": "READY=1\nSTATUS=8 rules, 3 accounts"}
        for name, daemon in self.stack.daemons.items():
            with self.subTest(name):
                self.assertEqual(daemon.told(), ready[name])
                self.assertGreaterEqual(daemon.signs_of_life(3 * WATCHDOG_S),
                                        2)
                self.assertTrue(daemon.reload())
                self.assertRegex(daemon.told(),
                                 r"^RELOADING=1\nMONOTONIC_USEC=[0-9]+$")
                self.assertEqual(daemon.told(), ready[name])

        self.stack.write_config(rules="rules: nothing\n")
        for name, daemon in self.stack.daemons.items():
            with self.subTest(name):
                self.assertFalse(daemon.reload())
                self.assertTrue(daemon.told().startswith(
                    "RELOADING=1\n"))
                self.assertRegex(daemon.told(),
                                 "^READY=1\nSTATUS=the configuration is broken")
                daemon.stop()
                self.assertEqual(daemon.told(), "STOPPING=1")

    def test_a_milter_that_does_not_answer_is_not_alive(self):
        """Its main thread runs on, and says nothing."""
        milter = self.stack.milter
        path = os.path.join(self.stack.top, "milter/milter.sock")
        self.assertGreaterEqual(milter.signs_of_life(3 * WATCHDOG_S), 2)
        os.rename(path, path + ".away")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path) # who connects waits, as with a filter that hangs
            other.listen()
            # One may be under way.
            self.assertLessEqual(milter.signs_of_life(4 * WATCHDOG_S), 1)
        os.rename(path + ".away", path)
        self.assertGreaterEqual(milter.signs_of_life(6 * WATCHDOG_S), 1)

    def test_a_daemon_that_hangs_is_not_alive(self):
        """Stopped in its tracks: nobody else tells for it."""
        for name in ("token", "deliver"):
            with self.subTest(name):
                daemon = self.stack.daemons[name]
                daemon.process.send_signal(signal.SIGSTOP)
                self.assertEqual(daemon.signs_of_life(2 * WATCHDOG_S), 0)
                daemon.process.send_signal(signal.SIGCONT)
                self.assertGreaterEqual(daemon.signs_of_life(3 * WATCHDOG_S),
                                        1)
