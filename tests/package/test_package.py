# test_package - the Debian package in a Debian 12, from installation to purge
# SPDX-License-Identifier: Apache-2.0
"""Each machine boots with systemd, so the services run as they do in earnest:
by their units, as their users, in their sandboxes.  Run by tests/package/run."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from tests.gmailsim.client import Sim
from tests.package import machine

DAEMONS = ("token", "deliver", "milter")
SERVICES = ["gmroute-%s.service" % name for name in DAEMONS]
CONFIG = "/etc/gmroute/gmroute.yaml"
POSTFIX = ["postfix", "postfix-pcre"]
INSTALL = ["apt-get", "-y", "-q", "--no-install-recommends", "-o",
           "Dpkg::Options::=--force-confold", "install"]
CLIENT_ID = "123.apps.googleusercontent.com"

# Every file of the package that is not documentation, with who may do what.
FILES = {
    "/etc/apparmor.d/usr.sbin.gmroute-deliver": "root root 644",
    "/etc/apparmor.d/usr.sbin.gmroute-milter": "root root 644",
    "/etc/apparmor.d/usr.sbin.gmroute-token": "root root 644",
    CONFIG: "root root 644",
    "/lib/systemd/system/gmroute-deliver.service": "root root 644",
    "/lib/systemd/system/gmroute-milter.service": "root root 644",
    "/lib/systemd/system/gmroute-token.service": "root root 644",
    "/lib/systemd/system/gmroute.target": "root root 644",
    "/usr/lib/sysusers.d/gmroute.conf": "root root 644",
    "/usr/lib/tmpfiles.d/gmroute-postfix.conf": "root root 644",
    "/usr/lib/tmpfiles.d/gmroute.conf": "root root 644",
    "/usr/sbin/gmroute-deliver": "root root 755",
    "/usr/sbin/gmroute-milter": "root root 755",
    "/usr/sbin/gmroute-token": "root root 755",
    "/usr/sbin/gmroutectl": "root root 755",
    "/usr/share/bash-completion/completions/gmroutectl": "root root 644",
    "/usr/share/gmroute/gmroute-postfix.conf": "root root 644",
}
# What the running services have made, or were given.
STATE = {
    "/etc/gmroute/secrets": "root root 711",
    "/run/gmroute/quota/quota": "gmroute-deliver gmroute 640",
    "/run/gmroute/status/status": "gmroute-token gmroute 640",
    "/run/gmroute/token/token": "gmroute-token gmroute-tokens 640",
    "/var/lib/gmroute/keys": "gmroute-deliver gmroute-mail 2750",
    "/var/lib/gmroute/tokens": "gmroute-token gmroute 700",
    "/var/spool/postfix/gmroute": "root postfix 3770",
}

ROUTING = """\
gmroute: 1
mta_domains: [mx.example.com, localhost.example.com, localhost]
milter: {{listen: "unix:/var/spool/postfix/gmroute/milter.sock"}}
deliver: {{listen: "unix:/var/spool/postfix/gmroute/deliver.sock"}}
smarthosts:
  sim: {{host: smtp.gmail.com, connect: 127.0.0.1, port: {smtps},
        ca_file: sim.pem}}
oauth_clients:
  corp: {{client_id: {client_id}, client_secret_file: secrets/corp.secret,
         token_url: "https://oauth2.googleapis.com/token",
         connect: "127.0.0.1:{token}", ca_file: sim.pem}}
accounts:
  sales:
    address: sales@example.com
    smarthost: sim
    auth: {{oauth2: {{client: corp, refresh_token_file: secrets/sales.token}}}}
rules:
  - name: sales
    match: {{sender: sales@example.com}}
    route: {{account: sales}}
"""


def repacked(package, folder, version, change):
    """The package again, as another version; change(its unpacked folder)."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch) / "tree"
        machine.call("dpkg-deb", "-R", package, tree)
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*", "Version: " + version,
                                  control.read_text()))
        change(tree)
        file = folder / ("gmroute_%s.deb" % version)
        machine.call("dpkg-deb", "--root-owner-group", "-b", tree, file)
    return "/srv/packages/" + file.name


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.source = pathlib.Path(os.environ["GMROUTE_PACKAGE"]) \
            if "GMROUTE_PACKAGE" in os.environ else max(
                machine.KEPT.glob("gmroute_*.deb"), key=os.path.getmtime)
        machine.prepare(cls.source)
        cls.packages = pathlib.Path(tempfile.mkdtemp(prefix="gmroute-deb."))
        cls.addClassCleanup(shutil.rmtree, cls.packages)
        shutil.copy(cls.source, cls.packages / "gmroute.deb")
        cls.box = machine.Machine(cls.packages)
        cls.addClassCleanup(cls.box.stop)

    def run_there(self, *words, **options):
        return self.box.say(*words, **options)

    def property_of(self, unit, name):
        return self.box.say("systemctl", "show", "--value", "-p", name, unit)

    def wait_for(self, what, condition, timeout_s=60):
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                self.fail("waited %d s for %s:\n%s" % (
                    timeout_s, what,
                    self.run_there("journalctl", "-q", "-n", "60")))
            time.sleep(0.1)

    def active(self):
        """Those of the three that are up, in the order they came up."""
        up = [(int(self.property_of(unit, "ActiveEnterTimestampMonotonic")),
               name) for unit, name in zip(SERVICES, DAEMONS)
              if self.property_of(unit, "ActiveState") == "active"]
        return [name for _, name in sorted(up)]

    def pids(self):
        return [self.property_of(unit, "MainPID") for unit in SERVICES]

    def status(self, files):
        return {file: self.run_there("stat", "-c", "%U %G %a", file)
                for file in files}


class WithoutPostfix(Case):
    def test_alone_and_then_with_postfix(self):
        """apt brings what it depends on, on a system that has nothing.  Its
        sockets have no place until there is a Postfix, and then are there."""
        said = self.run_there(*INSTALL, "/srv/packages/gmroute.deb")
        self.assertNotIn("postfix", self.run_there("getent", "group"))
        self.assertEqual(self.active(), ["token"])
        self.assertIn("journalctl -u gmroute-milter tells why", said)
        journal = self.run_there("journalctl", "-q", "-u", "gmroute-milter")
        self.assertIn("/var/spool/postfix/gmroute/milter.sock", journal)
        before = self.pids()[0]

        self.run_there(*INSTALL, *POSTFIX)
        self.assertEqual(self.active(), list(DAEMONS))
        self.assertNotEqual(self.pids()[0], before)
        for user, group in (("milter", "postfix"), ("deliver", "postfix"),
                            ("token", "postdrop")):
            self.assertIn(group, self.run_there(
                "id", "-Gn", "gmroute-" + user).split())

        # Postfix again: nothing that runs is disturbed.
        before = self.pids()
        self.run_there("dpkg-trigger", "--no-await", "--by-package=postfix",
                       "/usr/lib/postfix/sbin/master")
        self.run_there("dpkg", "--configure", "-a")
        self.assertEqual(self.pids(), before)


class Life(Case):
    """From installation to purge, beside a Postfix."""

    def setUp(self):
        text = self.run_there("apt-get", "-s", "install",
                              "--no-install-recommends",
                              "/srv/packages/gmroute.deb", *POSTFIX)
        others = set(re.findall(r"(?m)^Inst (\S+)", text)) - {"gmroute"}
        self.assertIn("libmilter1.0.1", others)
        self.run_there(*INSTALL, *sorted(others))
        self.run_there("cp", "-a", "/etc/postfix", "/srv/postfix")

    def test_life(self):
        before = self.everything()
        self.assertGreater(len(before), 5000)
        self.install()
        self.send_mail()
        self.upgrade()
        self.upgrade_with_a_broken_configuration()
        self.remove()
        self.come_back()
        self.purge()
        after = self.everything()
        self.assertEqual(sorted(before - after), [])
        self.assertEqual(sorted(after - before), [])

    def everything(self):
        """Every file of the machine that a package may leave behind, with
        type, owner, mode and what a link says."""
        said = self.run_there(
            "find", "/", "-xdev", "(", "-path", "/var/log", "-o", "-path",
            "/var/cache", "-o", "-path", "/var/lib/apt", "-o", "-path",
            "/var/lib/dpkg", "-o", "-path", "/var/lib/systemd/catalog",
            "-o", "-path", "/var/spool/postfix/[a-z]*", "-o", "-path",
            "/var/lib/postfix", "-o", "-path", "/var/mail", "-o", "-path",
            "/tmp", "-o", "-path", "/var/tmp", "-o", "-path", "/srv", ")",
            "-prune", "-printf", "", "-o", "-printf",
            "%p %y %m %u %g %l\\n")
        places = self.run_there("ls", "/var/spool/postfix", "/run")
        return set(said.splitlines()) | {
            "%s (name)" % name for name in places.splitlines()}

    def install(self):
        said = self.run_there(*INSTALL, "/srv/packages/gmroute.deb")
        self.assertNotRegex(said, "(?i)error|warning|failed")
        self.assertEqual(self.active(), list(DAEMONS))
        for unit in SERVICES + ["gmroute.target"]:
            self.assertEqual(self.run_there("systemctl", "is-enabled", unit),
                             "enabled")
        listed = {line for line in self.run_there(
            "dpkg", "-L", "gmroute").splitlines()
            if not re.search("/share/(doc|man|lintian)/", line)
            and not (self.box.root / line[1:]).is_dir()}
        self.assertEqual(listed, set(FILES))
        self.assertEqual(self.status(FILES), FILES)
        self.assertEqual(self.status(STATE), STATE)
        self.assertEqual(
            set(self.run_there("dpkg-query", "-W", "-f", "${Conffiles}",
                               "gmroute").split()[::2]),
            {file for file in FILES if file.startswith("/etc/")})
        for page in ("man5/gmroute.yaml.5", "man8/gmroutectl.8"):
            self.run_there("test", "-s", "/usr/share/man/%s.gz" % page)
        for name in DAEMONS:
            self.assertEqual(self.run_there(
                "stat", "-c", "%U %G", "/proc/" + self.property_of(
                    "gmroute-%s.service" % name, "MainPID")),
                "gmroute-%s gmroute" % name)
            self.assertTrue(self.run_there(
                "getent", "passwd", "gmroute-" + name).endswith("/nologin"))
        self.run_there("gmroutectl", "check")
        self.wait_for("status to be good", lambda: self.box.run(
            "gmroutectl", "status", check=False).returncode == 0)
        self.assertEqual(self.run_there("journalctl", "-q", "-p", "warning",
                                        "-u", "gmroute-*"), "")

    # ---- mail ----

    def start_sim(self):
        """Gmail, as a process of this host in the machine's network."""
        python = self.packages / "python"
        python.write_text("#!/bin/sh\nexec nsenter --target %d --net "
                          '/usr/bin/python3 -B "$@"\n' % self.box.pid)
        python.chmod(0o755)
        sim = Sim.start({
            "accounts": [{"address": "sales@example.com",
                          "refresh_tokens": ["1//sales"]}],
            "clients": [{"client_id": CLIENT_ID,
                         "client_secret": "client-secret"}]},
            python=str(python))
        self.addCleanup(sim.stop)
        return sim

    def write(self, path, text, owner="root", mode=0o644):
        file = self.box.root / path[1:]
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        self.run_there("chown", owner, path)

    def send(self, subject):
        self.run_there("sendmail", "-f", "sales@example.com",
                       "bob@far.example",
                       text="Subject: %s\n\nhello\n" % subject)

    def sent(self):
        return len(self.run_there("gmroutectl", "log", "--outcome", "sent",
                                  check=False).splitlines())

    def send_mail(self):
        sim = self.start_sim()
        self.write("/etc/gmroute/sim.pem",
                   pathlib.Path(sim.ca_file).read_text())
        self.write("/etc/gmroute/secrets/corp.secret", "client-secret\n",
                   "gmroute-token", 0o600)
        self.write("/etc/gmroute/secrets/sales.token", "1//sales\n",
                   "gmroute-token", 0o600)
        self.write(CONFIG, ROUTING.format(
            client_id=CLIENT_ID, smtps=sim.smtps, token=sim.token))
        self.run_there("systemctl", "reload", *SERVICES)
        self.run_there("gmroutectl", "mta-config", "postfix", "--apply")
        self.run_there("systemctl", "restart", "postfix")
        self.assertIn(" 0 errors, 0 warnings", self.run_there(
            "gmroutectl", "doctor"))
        self.send("the first")
        self.wait_for("the first message to be sent", lambda: self.sent() == 1)
        self.assertEqual(self.run_there("gmroutectl", "status",
                                        check=False)[:1], "d")

    # ---- the life of a package ----

    def kept(self):
        """What an upgrade must not touch."""
        files = [CONFIG, "/etc/gmroute/secrets/sales.token"]
        files += self.run_there("find", "/var/lib/gmroute/keys", "-type",
                                "f").splitlines()
        self.assertGreater(len(files), 2)
        return {file: hashlib.sha256(
            (self.box.root / file[1:]).read_bytes()).hexdigest()
            for file in files}

    def upgrade(self):
        """With mail in the queue that could not be delivered before."""
        self.run_there("systemctl", "stop", "gmroute-deliver")
        self.send("in the queue")
        self.wait_for("the message to be put off", lambda: re.search(
            "gmroute.invalid", self.run_there("postqueue", "-p")))

        def change(tree):
            with open(tree / CONFIG[1:], "a", encoding="ascii") as file:
                file.write("# a new example\n")
        before, pids = self.kept(), self.pids()
        said = self.run_there(*INSTALL, repacked(
            self.source, self.packages, "0.1.0+next", change))
        self.assertNotRegex(said, "(?i)error|failed")
        self.assertEqual(self.kept(), before)
        self.run_there("grep", "a new example", CONFIG + ".dpkg-dist")
        self.assertEqual(self.active(), list(DAEMONS))
        for old, new in zip(pids, self.pids()):
            self.assertNotEqual(old, new)
        self.assertEqual(self.sent(), 1)
        self.run_there("postqueue", "-f")
        self.wait_for("the queued message to be sent", lambda: self.sent() == 2)

    def upgrade_with_a_broken_configuration(self):
        good = (self.box.root / CONFIG[1:]).read_text()
        self.write(CONFIG, good + "deflaut: mta\n")
        pids = self.pids()
        said = self.run_there(*INSTALL, repacked(
            self.source, self.packages, "0.1.0+next2", lambda tree: None))
        self.assertRegex(said, re.escape(CONFIG) + r":\d+:1: error: unknown "
                         'key "deflaut".*; did you mean "default"')
        self.assertIn("nothing was (re)started", said)
        self.assertEqual(self.pids(), pids)
        self.send("while it is broken")
        self.wait_for("the queue to be empty", lambda: self.run_there(
            "postqueue", "-p") == "Mail queue is empty")

        # Nor does systemd start them, and it says why.
        self.run_there("systemctl", "stop", *SERVICES)
        for unit in SERVICES:
            self.assertNotEqual(self.box.run("systemctl", "start", unit,
                                             check=False).returncode, 0)
            self.assertIn('unknown key "deflaut"', self.run_there(
                "journalctl", "-q", "-u", unit))
        self.write(CONFIG, good)
        self.run_there("systemctl", "restart", *SERVICES)
        self.assertEqual(len(self.active()), 3)
        self.assertEqual(self.sent(), 3)

    def remove(self):
        before = self.kept()
        said = self.run_there("apt-get", "-y", "-q", "remove", "gmroute")
        self.assertIn("Postfix still has gmroute in smtpd_milters", said)
        self.assertEqual(self.active(), [])
        self.assertNotIn("gmroute", self.run_there(
            "sh", "-c", "cat /proc/[0-9]*/comm"))
        for file in FILES:
            self.assertEqual((self.box.root / file[1:]).exists(),
                             file.startswith("/etc/"), file)
        for place in ("run/gmroute", "var/spool/postfix/gmroute"):
            self.assertFalse((self.box.root / place).exists(), place)
        self.assertEqual(self.kept(), before)
        self.assertTrue((self.box.root / "var/lib/gmroute/ledger/ledger.db")
                        .exists())

    def come_back(self):
        """Installed again, it goes on where it stopped."""
        self.run_there(*INSTALL, "/srv/packages/gmroute.deb")
        self.assertEqual(self.active(), list(DAEMONS))
        self.assertEqual(self.sent(), 3)
        self.send("after the removal")
        self.wait_for("the fourth message", lambda: self.sent() == 4)

    def purge(self):
        self.run_there("rm", "-r", "/etc/postfix")
        self.run_there("cp", "-a", "/srv/postfix", "/etc/postfix")
        said = self.run_there("apt-get", "-y", "-q", "purge", "gmroute")
        self.assertNotRegex(said, "(?i)error|warning|not empty")
        self.assertNotEqual(self.box.run("dpkg", "-s", "gmroute", check=False)
                            .returncode, 0)
        # As Debian does: no number of a user is ever given out anew.
        self.assertIn("gmroute-deliver", self.run_there("getent", "passwd"))


if __name__ == "__main__":
    unittest.main()
