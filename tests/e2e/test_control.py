# test_control - accounts that a person takes out of service
# SPDX-License-Identifier: Apache-2.0

import os
import socket
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
