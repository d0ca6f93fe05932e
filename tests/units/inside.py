# inside - the units as a machine runs them; tests/units/run boots one for this
# SPDX-License-Identifier: Apache-2.0

import errno
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import time
import unittest

from tests.e2e.postfix import sections_of
from tests.e2e.stack import (ACCOUNTS, CLIENT_ID, HEAD, RULES, SERVICE_ACCOUNT,
                             SIM, message, wait_for)
from tests.gmailsim.client import Sim

NAMES = ("token", "deliver", "milter")
CONFIG = "/etc/gmroute/gmroute.yaml"
# Everything as shipped, but for where Gmail is.
HEAD_SHIPPED = re.sub(r"(?m)^(milter|deliver|state): .*\n", "", HEAD) + """\
milter: {{listen: "unix:/var/spool/postfix/gmroute/milter.sock"}}
alert: {{mail: postmaster}}
"""
PATTERN = """\
rules:
  - name: a pattern
    match: {subject: "/^(urgent|dringend)[!: ]+.*now$/"}
    reject: "550 5.7.1 Not so urgent"
"""


def run(*words, check=True):
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, timeout=120, check=False)
    if check and done.returncode != 0:
        raise AssertionError("%s: %d\n%s" % (" ".join(words), done.returncode,
                                             done.stdout))
    return done.stdout


def show(name, what):
    return run("systemctl", "show", "--value", "-p", what,
               "gmroute-%s.service" % name).strip()


def process(name):
    with open("/proc/%s/status" % show(name, "MainPID"),
              encoding="ascii") as f:
        return {k: v.strip() for k, v in (line.split(":", 1) for line in f)}


class Units(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # What a package does when it is installed.
        run("systemd-sysusers")
        run("systemd-tmpfiles", "--create", "gmroute.conf",
            "gmroute-postfix.conf")
        cls.sim = Sim.start(SIM)
        cls.addClassCleanup(cls.sim.stop)
        os.makedirs("/etc/gmroute/secrets", exist_ok=True)
        os.chmod("/etc/gmroute/secrets", 0o711)
        shutil.copy(cls.sim.ca_file, "/etc/gmroute/ca.pem")
        cls.secret("corp.secret", "client-secret", "token")
        cls.secret("sales.token", "1//sales", "token")
        cls.secret("news.pw", "abcd efgh ijkl mnop", "deliver")
        with open(cls.sim.service_accounts[SERVICE_ACCOUNT],
                  encoding="utf-8") as f:
            cls.secret("sa.json", f.read(), "token")
        cls.write_config()
        cls.start_postfix()
        run("systemctl", "start", "gmroute.target")

    @staticmethod
    def secret(name, text, owner):
        path = "/etc/gmroute/secrets/" + name
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o600)
        os.chown(path, pwd.getpwnam("gmroute-" + owner).pw_uid, -1)

    @classmethod
    def write_config(cls, rules=PATTERN + RULES[len("rules:\n"):], **changes):
        ports = cls.sim.ports
        text = HEAD_SHIPPED + ACCOUNTS + rules.replace("{", "{{").replace(
            "}", "}}")
        for old, new in changes.items():
            text = text.replace(old, new)
        with open(CONFIG, "w", encoding="utf-8") as f:
            f.write(text.format(
                ca="/etc/gmroute/ca.pem", client_id=CLIENT_ID,
                sales_quota="workspace", max_wait="24h", staff_trust="any",
                smtps=ports["smtps"], submission=ports["submission"],
                token=ports["token"]))

    @classmethod
    def start_postfix(cls):
        """Debian's, with its chroot, and what gmroutectl says."""
        sections = sections_of(run("gmroutectl", "mta-config", "postfix"))
        for name, text in sections.items():
            if name.startswith("/etc/postfix/"):
                with open(name, "w", encoding="utf-8") as f:
                    f.write(text)
        # Seen from the chroot.
        main = sections["main.cf"].replace("unix:/var/spool/postfix/", "unix:")
        with open("/etc/postfix/main.cf", "a", encoding="utf-8") as f:
            f.write(main + "myhostname = relay.test\ninet_protocols = ipv4\n"
                           "mydestination = relay.test, localhost\n"
                           "disable_dns_lookups = yes\n"
                           "smtp_host_lookup = native\n"
                           "maillog_file = /var/log/mail.log\n"
                           "default_transport = smtp:[127.0.0.1]:9\n")
        services = sections["master.cf"].replace("unix - - n", "unix - - y")
        with open("/etc/postfix/master.cf", "a", encoding="utf-8") as f:
            f.write(services + "postlog unix-dgram n - n - 1 postlogd\n")
        with open("/etc/aliases", "w", encoding="ascii") as f:
            f.write("postmaster: root\nroot: root\n")
        run("newaliases")
        run("postfix", "start")

    def send(self, sender, recipient="x@far.test", **more):
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as c:
            c.sendmail(sender, [recipient],
                       message(sender, [recipient], **more))

    def send_all(self):
        before = len(self.sim.journal(content=False))
        for sender in ("sales", "news", "alice"):
            self.send(sender + "@example.com")
        self.assertEqual(
            {e["account"] for e in self.sim.wait_journal(before + 3)[before:]},
            {"sales@example.com", "news@gmail.com", "alice@example.com"})

    def wait_active(self, name):
        wait_for(name, lambda: show(name, "ActiveState") == "active")

    def run(self, result=None):
        bad = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > bad:
            print(run("journalctl", "-n", "60", "--no-pager"),
                  run("tail", "-n", "20", "/var/log/mail.log"))

    # In this order.

    def test_1_all_run_in_the_sandbox_and_mail_goes(self):
        for name in NAMES:
            with self.subTest(name):
                self.assertEqual(show(name, "ActiveState"), "active")
                self.assertEqual(show(name, "NRestarts"), "0")
                status = process(name)
                user = pwd.getpwnam("gmroute-" + name)
                self.assertEqual(set(status["Uid"].split()),
                                 {str(user.pw_uid)})
                self.assertEqual((status["NoNewPrivs"], status["Seccomp"]),
                                 ("1", "2"))
                for what in ("CapEff", "CapBnd", "CapPrm"):
                    self.assertEqual(int(status[what], 16), 0)
        self.assertEqual(show("milter", "StatusText"), "9 rules, 3 accounts")
        self.send_all()
        self.send("sales@example.com", "large@far.test",
                  body="\r\n".join(["x" * 900] * 6000))
        wait_for("the large one", lambda: any(
            "large@far.test" in e["recipients"]
            for e in self.sim.journal(content=False)))
        self.assertIn("Mail queue is empty", run("mailq"))

    def test_1_what_each_does_not_even_see(self):
        """Beside what owners and modes forbid (e2e/test_users): root finds
        nothing there either, nor can it write."""
        hidden = {"milter": ("/run/gmroute/token", "/run/gmroute/control",
                             "/var/lib/gmroute/ledger",
                             "/var/lib/gmroute/tokens", "/etc/gmroute/secrets"),
                  "deliver": ("/var/lib/gmroute/tokens",),
                  "token": ("/run/gmroute/control", "/var/lib/gmroute/ledger",
                            "/var/lib/gmroute/keys")}
        closed = {"milter": ("/run/gmroute/quota", "/var/lib/gmroute/keys"),
                  "deliver": ("/run/gmroute/status", "/run/gmroute/token"),
                  "token": ("/run/gmroute/quota", "/run/gmroute/hints")}
        for name in NAMES:
            root = "/proc/%s/root" % show(name, "MainPID")
            for path in hidden[name]:
                with self.subTest(name=name, path=path):
                    self.assertEqual(os.listdir(root + path), [])
                    if not path.endswith("tokens"): # nothing rotated yet
                        self.assertNotEqual(os.listdir(path), [])
            for path in ("/etc", "/usr", "/var/lib", *closed[name]):
                with self.subTest(name=name, path=path):
                    with self.assertRaises(OSError) as caught:
                        os.mkdir(root + path + "/gmroute-new")
                    self.assertEqual(caught.exception.errno, errno.EROFS)

    def test_2_patterns_without_code_made_at_run_time(self):
        """The sandbox forbids PCRE2's JIT its memory; then it interprets."""
        with self.assertRaises(smtplib.SMTPDataError) as caught:
            self.send("sales@example.com", subject="URGENT: do it now")
        self.assertEqual(caught.exception.smtp_error,
                         b"5.7.1 Not so urgent")
        self.send("sales@example.com", subject="URGENT: do it then")

    def test_3_reload(self):
        pids = [show(n, "MainPID") for n in NAMES]
        run("systemctl", "reload", *("gmroute-" + n for n in NAMES))
        for name in NAMES:
            wait_for(name, lambda n=name: "configuration loaded again" in run(
                "journalctl", "-o", "cat", "-u", "gmroute-" + n))
            self.wait_active(name)
        self.write_config(rules="rules: nothing\n")
        run("systemctl", "reload", *("gmroute-" + n for n in NAMES))
        for name in NAMES:
            wait_for(name, lambda n=name: "is broken" in show(n, "StatusText"))
            self.wait_active(name)
        self.write_config()
        run("systemctl", "reload", *("gmroute-" + n for n in NAMES))
        for name in NAMES:
            wait_for(name, lambda n=name: "accounts" in show(n, "StatusText"))
        self.assertEqual([show(n, "MainPID") for n in NAMES], pids)
        self.send_all()

    def test_4_a_broken_configuration_does_not_start(self):
        self.write_config(rules="rules: nothing\n")
        out = run("systemctl", "restart", "gmroute-milter", check=False)
        self.assertIn("failed", out)
        said = run("journalctl", "-o", "cat", "-u", "gmroute-milter")
        self.assertRegex(said, r"gmroute\.yaml:[0-9]+:[0-9]+: error: ")
        self.write_config() # and then it does by itself
        self.wait_active("milter")
        self.send_all()

    def test_5_killed_and_hanging_daemons_come_back(self):
        for name in NAMES:
            os.makedirs("/run/systemd/system/gmroute-%s.service.d" % name)
            with open("/run/systemd/system/gmroute-%s.service.d/dog.conf"
                      % name, "w", encoding="ascii") as f:
                f.write("[Service]\nWatchdogSec=3\n")
        run("systemctl", "daemon-reload")
        for name in NAMES:
            run("systemctl", "restart", "gmroute-" + name)
        for name, signal in [(n, s) for n in NAMES for s in ("KILL", "STOP")]:
            with self.subTest(name=name, signal=signal):
                pid, n = show(name, "MainPID"), int(show(name, "NRestarts"))
                run("systemctl", "kill", "--kill-whom=main", "-s", signal,
                    "gmroute-" + name)
                wait_for(name, lambda: int(show(name, "NRestarts")) > n)
                self.wait_active(name)
                self.assertNotEqual(show(name, "MainPID"), pid)
        time.sleep(4) # nobody is restarted who is well
        for name in NAMES:
            self.assertEqual(int(show(name, "NRestarts")), 2, name)
        self.send_all()

    def test_6_secrets_as_credentials(self):
        os.rename("/etc/gmroute/secrets/sales.token", "/root/sales.token")
        os.chown("/root/sales.token", 0, 0)
        os.makedirs("/run/systemd/system/gmroute-token.service.d",
                    exist_ok=True)
        with open("/run/systemd/system/gmroute-token.service.d/secret.conf",
                  "w", encoding="ascii") as f:
            f.write("[Service]\nLoadCredential=sales:/root/sales.token\n")
        self.write_config(**{"secrets/sales.token": "credential:sales"})
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "gmroute.target")
        for name in NAMES:
            self.wait_active(name)
        self.send_all()

    def test_7_an_alert_reaches_postmaster(self):
        """From inside the sandbox, by the sendmail command."""
        self.sim.revoke("sales@example.com", refresh=True, sessions="push")
        self.send("sales@example.com", "late@far.test")

        def mail():
            try:
                with open("/var/mail/root", encoding="utf-8") as f:
                    return f.read()
            except FileNotFoundError:
                return ""

        wait_for("the alert", lambda: "sales@example.com" in mail())

    def test_8_stop(self):
        """What is in flight lands, though it takes longer than the watchdog
        (of test 5) waits."""
        before = len(self.sim.journal(content=False))
        run("postsuper", "-d", "ALL")
        self.sim.latency(stages={"end": 12000})
        self.send("news@example.com", "slow@far.test")
        wait_for("the flight", lambda: '"busy": 1' in run(
            "gmroutectl", "sessions", "--json"))
        run("systemctl", "stop", "gmroute.target")
        for name in NAMES:
            wait_for(name, lambda n=name: show(n, "ActiveState") == "inactive")
            self.assertEqual(show(name, "Result"), "success")
        self.assertEqual(len(self.sim.journal(content=False)), before + 1)
        self.assertIn("Mail queue is empty", run("mailq"))
