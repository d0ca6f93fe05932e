# test_examples - each file of etc/examples does what it says
# SPDX-License-Identifier: Apache-2.0
"""Each is copied to /etc/gmroute/gmroute.yaml of a machine of its own, as a
person would, and mail is sent through it: by a real Postfix as Debian sets it
up, to a simulated Gmail at its real name and port."""

import os
import smtplib
import socket
import subprocess
import unittest

from tests.e2e import machine
from tests.e2e.machine import EXAMPLES, HOSTNAME, Machine, run
from tests.e2e.stack import message, wait_for

LIST = [("List-Unsubscribe", "<mailto:leave@example.com>")]
INTERNET = "the internet"       # as the plain relay always sent it

# For each file: sender, more of the message, and who logs in at Google for it
# (or INTERNET, or the code with which it is refused).
CASES = {
    "one-account.yaml": [
        ("ann@example.com", {}, "office@example.com"),
        ("root@backup.example.com", {}, "office@example.com"),
        ("dora@example.org", {}, INTERNET)],
    "departments.yaml": [
        ("ben@example.com", {}, "sales@example.com"),
        ("help@example.com", {}, "support@example.com"),
        ("invoice@example.com", {}, "accounts@example.com"),
        ("dora@example.com", {}, INTERNET)],
    "employees.yaml": [
        ("ann@example.com", {"login": "ann"}, "ann@example.com"),
        ("carl+list@example.com", {"login": "carl+list@example.com"},
         "carl@example.com"),
        ("ann@example.com", {"login": "mallory"}, INTERNET),
        ("scanner@example.com", {"client": "192.0.2.5"},
         "devices@example.com")],
    "newsletter.yaml": [
        ("news@example.com", {"headers": LIST},
         ("news@example.com", "news2@example.com", "news.example@gmail.com")),
        ("news@example.com", {}, 550),
        ("editor@example.com", {}, "news@example.com")],
    "workspace-relay.yaml": [
        ("ann@example.com", {}, "ann@example.com"),
        ("dora@example.org", {}, INTERNET)],
    "microsoft365.yaml": [
        ("office@example.com", {}, "office@example.com"),
        ("ann@example.com", {}, INTERNET)],
}


class Examples(unittest.TestCase):
    def test_every_example_is_run(self):
        self.assertEqual(sorted(os.listdir(EXAMPLES)), sorted(CASES))

    @machine.alone
    def test_they_send_through_the_right_account(self):
        with Machine() as m:
            # Tests log in by XCLIENT.
            run("postconf", "-e", "smtpd_authorized_xclient_hosts=192.0.2.1")
            for number, (name, cases) in enumerate(sorted(CASES.items())):
                with self.subTest(name):
                    m.install(name)
                    if number == 0:  # all have the same sockets
                        m.apply_mta_config()
                    for at, (sender, more, want) in enumerate(cases):
                        recipient = "%d.%d@far.example" % (number, at)
                        self.check(m, sender, recipient, dict(more), want)
                m.kill_daemons()

    def check(self, m, sender, recipient, more, want):
        text = message(sender, [recipient], headers=more.get("headers", ()))
        sims = (m.sim, m.relay_sim)
        try:
            with smtplib.SMTP(HOSTNAME, 25, timeout=60) as c:
                c.ehlo("client.example.com")
                for key, word in (("login", "LOGIN="), ("client", "ADDR=")):
                    if key in more:
                        c.docmd("XCLIENT", word + more[key].replace("+", "+2B"))
                        c.ehlo("client.example.com")
                c.sendmail(sender, [recipient], text)
        except smtplib.SMTPDataError as error:
            self.assertEqual(error.smtp_code, want)
            return
        self.assertNotIsInstance(want, int, "not refused")
        if want == INTERNET:
            m.internet.wait_to(recipient)
            return
        found = wait_for(recipient + " at Google\n" + m.log.text()[-3000:],
                         lambda: [e for sim in sims
                                  for e in sim.journal(content=False)
                                  if recipient in e["recipients"]])
        self.assertEqual(len(found), 1)
        self.assertIn(found[0]["account"],
                      want if isinstance(want, tuple) else (want,))


class Strangers(unittest.TestCase):
    """What contrib/doc/threat-model.md says of a user of the host."""

    @machine.alone
    def test_a_user_of_this_host_reaches_nothing(self):
        with Machine() as m:
            m.install("one-account.yaml")
            self.assertEqual(self.nobody("gmroutectl", "check"), 0)
            for name in ("milter.sock", "deliver.sock"):
                self.assertEqual(self.nobody(
                    "/usr/bin/python3", "-c", "import socket, sys; "
                    "socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
                    os.path.join(m.SOCKETS, name)), 1)
            self.assertNotEqual(
                self.nobody("gmroutectl", "pause", "office"), 0)
            self.assertNotEqual(self.nobody(
                "cat", "/etc/gmroute/secrets/office.pw"), 0)
            # All of it is possible: for root.
            run("gmroutectl", "pause", "office")

    @machine.alone
    def test_a_token_endpoint_leads_nowhere_else(self):
        with Machine(mta=None) as m, socket.create_server(
                (machine.INSIDE_SERVER, 443)) as elsewhere:
            m.sim.fault("http", status=302, headers={
                "Location": "https://mail.lan.example.com/token"})
            m.install("departments.yaml")
            wait_for("both to be refused", lambda: m.log.text().count(
                "token=retrying") == 2)
            elsewhere.setblocking(False)
            self.assertRaises(BlockingIOError, elsewhere.accept)

    @staticmethod
    def nobody(*words):
        """The exit status of a command that nobody runs."""
        return subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             *words], capture_output=True, timeout=60, check=False).returncode


if __name__ == "__main__":
    unittest.main()
