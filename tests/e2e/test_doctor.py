# test_doctor - deliberate mistakes, each of which gmroutectl doctor must name
# SPDX-License-Identifier: Apache-2.0
"""On the real programs: a private Postfix directory as `mta-config --apply`
makes it, a real sendmail.cf, and real daemons for what is about the host. Each
row makes one mistake; doctor must name that one and nothing else, and where it
prints commands, these must mend it."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from tests.e2e.postfix import Postfix
from tests.e2e.sendmail import PROGRAM, TOP, Sendmail
from tests.e2e.stack import BUILD, HEAD, PROGRAMS, ROOT, Stack

CTL = os.path.join(BUILD, PROGRAMS["ctl"])
# In memory: else each change waits for the disk.
MEMORY = "/dev/shm"
QUICK = {**os.environ, "TMPDIR": MEMORY,
         "PATH": os.path.dirname(CTL) + ":/usr/sbin:/usr/bin:/sbin:/bin"}
STOCK = "/usr/share/postfix/master.cf.dist"
MAIN = """\
compatibility_level = 3.6
queue_directory = {top}/spool
myhostname = relay.test
mydestination = $myhostname, localhost
mynetworks = 127.0.0.0/8
"""
POLICY = """\
gmroute: 1
hostname: relay.test
mta_domains: [example.com, .example.com, relay.test, localhost]
internal_domains: [example.com]
milter: {{listen: "{milter}"{more_milter}}}
deliver: {{listen: "{deliver}"}}
state: {{directory: "{top}/state", runtime: "{top}/run", accounts: 64}}
accounts:
  sales: {{address: sales@example.com, auth: {{password_file: s}},
          max_wait: 24h}}
  staff: {{address: "*@example.com", auth: {{service_account: {{key_file: k}}}}}}
rules:
  - {{match: {{sender: sales@example.com}}, route: {{account: sales}}}}
  - {{match: {{sender_domain: example.com}}, route: {{account: staff}}}}
"""


class Base(unittest.TestCase):
    """doctor, and what it prints."""

    def ctl(self, *words, status=None):
        done = subprocess.run([CTL, "-c", self.config, *words], check=False,
                              capture_output=True, timeout=60, env=QUICK)
        if status is not None:
            self.assertEqual(done.returncode, status,
                             done.stdout + done.stderr)
        return done

    def doctor(self, *words):
        """{check: finding}, without what depends on where tests run."""
        done = self.ctl("doctor", "--json", *words)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        told = json.loads(done.stdout)
        found = {f["check"]: f for f in told["findings"]
                 if f["check"] != "clock-unsynchronised"}
        bad = [f for f in told["findings"] if f["severity"] != "note"]
        self.assertEqual(told["good"], not bad)
        self.assertEqual(done.returncode, 1 if bad else 0)
        for f in found.values():
            self.assertTrue(f["what"] and f["why"] and f["remedy"], f)
        return found

    def run_remedy(self, finding):
        for line in finding["remedy"]:
            subprocess.run(["sh", "-c", line], check=True, timeout=60,
                           env=QUICK, capture_output=True)


# A row: checks that must be found, the mistake, and changes of the policy.
# The mistake is a list of words for postconf, or of functions of the test.

def write(name, text):
    return lambda t: (t.conf / name).write_text(
        text.format(top=t.top, conf=t.conf))


def edit(name, pattern, to):
    def change(t):
        path = t.conf / name
        text = path.read_text()
        new = re.sub(pattern, to, text, flags=re.M)
        t.assertNotEqual(new, text)
        path.write_text(new)
    return change


def remove(name):
    return lambda t: (t.conf / name).unlink()


OURS = "unix:gmroute/milter.sock"
MAPS = "transport_maps=texthash:{conf}/gmroute"
FILTERED = [["-e", "content_filter=smtp:[127.0.0.1]:10025"],
            ["-M", "10026/inet=10026 inet n - n - - smtpd -o content_filter="]]
SASL = ["-e", "smtpd_sasl_auth_enable=yes"]
LOGINS = ["-e", "smtpd_sender_login_maps=static:x"]

POSTFIX = [
    ("filter-missing", [["-e", "smtpd_milters="]]),
    ("filter-missing", [["-e", "smtpd_milters=inet:127.0.0.1:1"]]),
    ("filter-missing", [
        ["-P", "smtp/inet/receive_override_options=no_milters"]], {},
     "advice"),
    ("filter-missing-local", [["-e", "non_smtpd_milters="]]),
    ("filter-partly", [
        ["-M", "587/inet=587 inet n - n - - smtpd -o smtpd_milters="]]),
    ("filter-not-last", [
        ["-e", "smtpd_milters=" + OURS + ", inet:127.0.0.1:8892"]]),
    ("filter-not-last", [
        ["-e", "smtpd_milters={{ " + OURS + ", connect_timeout=9s }}, "
         "inet:127.0.0.1:8892"]]),
    ("filter-chroot", [
        ["-e", "smtpd_milters=unix:{top}/spool/gmroute/milter.sock"]]),
    ("filter-chroot", [
        ["-F", "smtp/inet/chroot=n"],
        ["-e", "smtpd_milters=unix:/gmroute/milter.sock"]]),
    ("filter-chroot", [], {"milter": "unix:/run/elsewhere/milter.sock"}),
    ("default-action", [["-e", "milter_default_action=accept"]]),
    ("default-action", [["-e", "milter_default_action=shutdown"]]),
    ("default-action", [
        ["-P", "smtp/inet/milter_default_action=reject"]]),
    ("default-action", [
        ["-e", "smtpd_milters={{ " + OURS + ", default_action=accept }}"]]),
    ("default-action-unset", [["-X", "milter_default_action"]]),
    ("milter-protocol", [["-e", "milter_protocol=2"]]),
    ("milter-timeouts", [["-e", "milter_content_timeout=5s"]]),
    ("milter-timeouts", [["-e", "milter_command_timeout=2s"]]),
    ("milter-inet", [], {"milter": "inet:8891@127.0.0.1"}),
    ("milter-macros", [["-e", "milter_mail_macros=i {{mail_addr}}"]]),
    ("sasl-senders", [SASL]),
    ("sasl-senders", [SASL, LOGINS]),
    ("sasl-senders", [
        ["-P", "smtp/inet/smtpd_sasl_auth_enable=yes"], LOGINS,
        ["-P", "smtp/inet/smtpd_sender_restrictions=permit_mynetworks"]]),
    ("content-filter", FILTERED),
    ("own-domains", [["-e", "mydestination=relay.test, other.test"]]),
    ("own-domains", [
        write("relay", "# c\nfar.test OK\n.example.com OK\n"),
        ["-e", "relay_domains=texthash:{conf}/relay"]]),
    ("own-domains", [
        write("names", "mail.test\n"),
        ["-e", "virtual_mailbox_domains={conf}/names"]]),
    ("alias-domains", [
        write("virtual", "info@alias.test x@y.test\nann@example.com x\n"),
        ["-e", "virtual_alias_maps=texthash:{conf}/virtual"]]),
    ("queue-lifetime", [["-e", "maximal_queue_lifetime=1h"]]),
    ("message-size", [["-e", "message_size_limit=50000000"]]),
    ("smtputf8", [["-e", "smtputf8_enable=no"]]),
    ("recipient-limit", [
        ["-e", "gmroute_destination_recipient_limit=1"]]),
    ("recipient-limit", [
        ["-e", "gmroute_destination_recipient_limit=200"]]),
    ("recipient-limit-low", [
        ["-X", "gmroute_destination_recipient_limit"]]),
    ("concurrency", [["-e", "gmroute_destination_concurrency_limit=2"]]),
    ("initial-concurrency", [
        ["-X", "gmroute_initial_destination_concurrency"]]),
    ("rate-delay", [["-e", "gmroute_destination_rate_delay=1s"]]),
    ("deferred-transport", [["-e", "defer_transports=smtp, gmroute"]]),
    ("soft-bounce", [["-e", "soft_bounce=yes"]]),
    ("service-missing", [["-MX", "gmroute/unix"]]),
    ("service-command", [["-F", "gmroute/unix/command=smtp"]]),
    ("service-chroot", [["-F", "gmroute/unix/chroot=y"]],
     {"deliver": "unix:/run/elsewhere/deliver.sock"}),
    ("maxproc", [["-F", "gmroute/unix/process_limit=100"]]),
    ("maxproc", [["-F", "gmroute/unix/process_limit=-"]]),
    ("xforward", [["-P", "gmroute/unix/lmtp_send_xforward_command=no"]]),
    ("xforward", [["-PX", "gmroute/unix/lmtp_send_xforward_command"]]),
    ("lmtp-timeouts", [["-e", "lmtp_data_init_timeout=10s"]]),
    ("lmtp-timeouts", [["-P", "gmroute/unix/lmtp_data_done_timeout=30s"]]),
    ("lhlo-keywords", [["-e", "lmtp_discard_lhlo_keywords=pipelining"]]),
    ("retry-missing", [["-MX", "retry/unix"]]),
    ("bounces-stock", [["-PX", "bounce/unix/cleanup_service_name"]]),
    ("bounces-stock", [["-PX", "trace/unix/internal_mail_filter_classes"]]),
    ("cleaner-missing", [["-MX", "gmclean/unix"]]),
    ("cleaner-table", [remove("gmclean.pcre")]),
    ("cleaner-table", [["-P", "gmclean/unix/body_checks=nosuch:/x"]]),
    ("cleaner-idle", [write("gmclean.pcre", "/^x/ IGNORE\n")]),
    ("cleaner-idle", [["-P", "gmclean/unix/body_checks="]]),
    ("cleaner-milters", [["-PX", "gmclean/unix/non_smtpd_milters"]]),
    ("table-unreadable", [remove("gmroute")]),
    ("table-unreadable", [["-e", MAPS + ", hash:{conf}/none"]]),
    ("transport-pattern", [
        write("gm.pcre", r"/\.(q\d\d)\.gmroute\.invalid$/ "
              "gmroute:unix:gmroute/${{1}}.sock\n"),
        ["-e", "transport_maps=pcre:{conf}/gm.pcre"]]),
    ("transport-pattern", [
        write("gmroute", r"/\.gmroute\.invalid$/ "
              "gmroute:unix:gmroute/q00.sock\n"),
        ["-e", "transport_maps=regexp:{conf}/gmroute"]]),
    ("transport-missing", [["-e", "transport_maps="]]),
    ("transport-row-missing", [edit("gmroute", r"^\.q05\..*\n", "")]),
    ("transport-row-wrong", [edit("gmroute", r"q05\.sock", "q06.sock")]),
    ("transport-row-wrong", [
        edit("gmroute", r"^(\.q07\S+) .*", r"\1 smtp:elsewhere.test")]),
    ("transport-shared", [], {"deliver": "inet:2424@127.0.0.1"}),
    ("transport-catch-all", [edit("gmroute", r"^\.gmroute\..*\n", "")]),
    ("transport-catch-all", [edit("gmroute", r"^gmroute\..*\n", "")]),
    ("other-table", [
        write("all.pcre", "/^/ smtp:[far.test]\n"),
        ["-e", "transport_maps=pcre:{conf}/all.pcre, texthash:{conf}/gmroute"]
    ]),
    ("other-table", [
        write("all.pcre", "/^(.*)@/ all@example.com\n"),
        ["-e", "virtual_alias_maps=pcre:{conf}/all.pcre"]]),
    ("other-table", [
        write("all.regexp", "/^(.*)@.*/ $1@example.com\n"),
        ["-e", "canonical_maps=regexp:{conf}/all.regexp"]]),
    ("other-table", [["-e", "recipient_canonical_maps=static:x@y.test"]]),
]


class PostfixMistakes(Base):
    """What is read of Postfix's settings; no daemon runs."""

    @classmethod
    def setUpClass(cls):
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="gmroute.",
                                                dir=MEMORY))
        cls.conf = cls.top / "postfix"
        cls.config = str(cls.top / "gmroute.yaml")
        cls.good = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def policy(self, changes):
        values = {"milter": f"unix:{self.top}/spool/gmroute/milter.sock",
                  "deliver": f"unix:{self.top}/spool/gmroute/deliver.sock",
                  "more_milter": "", **changes}
        pathlib.Path(self.config).write_text(
            POLICY.format(top=self.top, **values))

    def make_good(self, changes):
        """Stock files, and what --apply makes of them for this policy."""
        key = tuple(changes.items())
        self.policy(changes)
        shutil.rmtree(self.conf, ignore_errors=True)
        if key in self.good:
            shutil.copytree(self.good[key], self.conf)
            return
        self.conf.mkdir()
        shutil.copy(STOCK, self.conf / "master.cf")
        (self.conf / "main.cf").write_text(MAIN.format(top=self.top))
        self.ctl("mta-config", "postfix", "--apply", "--config-directory",
                 str(self.conf), status=0)
        self.good[key] = self.top / f"good{len(self.good)}"
        shutil.copytree(self.conf, self.good[key])

    def look(self):
        # Postfix's programs wait until a main.cf is some seconds old.
        os.utime(self.conf / "main.cf", (time.time() - 60,) * 2)
        return self.doctor("--mta-only", "--config-directory", str(self.conf))

    def do(self, step):
        if callable(step):
            step(self)
            return
        words = [w.format(top=self.top, conf=self.conf) for w in step]
        os.utime(self.conf / "main.cf", (time.time() - 60,) * 2)
        subprocess.run(["postconf", "-c", str(self.conf), *words], check=True,
                       capture_output=True, timeout=60)

    def test_right(self):
        self.make_good({})
        self.assertEqual(self.look(), {})
        # As people write them: by the whole path, out of the chroot.
        self.do(["-F", "smtp/inet/chroot=n"])
        self.do(["-e", "smtpd_milters=inet:127.0.0.1:1, "
                 "unix:{top}/spool/gmroute/milter.sock"])
        self.do(edit("gmroute", "unix:gmroute",
                     f"unix:{self.top}/spool/gmroute"))
        self.do(["-e", "mydestination=$myhostname, [192.0.2.1], localhost"])
        self.assertEqual(self.look(), {})
        # A filter whose way back is known.
        self.make_good({"more_milter": ", reinject_from: [127.0.0.1]"})
        for step in FILTERED:
            self.do(step)
        self.assertEqual(self.look(), {})
        self.make_good({})
        self.do(SASL)
        self.do(LOGINS)
        self.do(["-e", "smtpd_sender_restrictions="
                 "reject_authenticated_sender_login_mismatch"])
        self.assertEqual(self.look(), {})

    def test_mistakes(self):
        mended = 0
        for check, mistake, *rest in POSTFIX:
            with self.subTest(check=check, mistake=mistake):
                self.make_good(rest[0] if rest else {})
                for step in mistake:
                    self.do(step)
                found = self.look()
                self.assertEqual(set(found), {check}, found)
                if found[check]["is_command"] and "advice" not in rest:
                    os.utime(self.conf / "main.cf", (time.time() - 60,) * 2)
                    self.run_remedy(found[check])
                    self.assertEqual(self.look(), {}, found[check])
                    mended += 1
        self.assertGreater(mended, 40)

    def test_every_check_has_its_mistake(self):
        tables = "".join(
            pathlib.Path(ROOT, "milter/ctl", f"doctor_{name}.c").read_text()
            for name in ("filter", "main", "master", "tables"))
        names = re.findall(r'^    \{"([a-z0-9-]+)", SEVERITY_', tables, re.M)
        self.assertEqual(set(names), {row[0] for row in POSTFIX})

    def test_cannot_look(self):
        self.make_good({})
        for words in (["--config-directory", "/nowhere"],
                      ["--sendmail-cf", "/nowhere"], ["--what"]):
            done = self.ctl("doctor", *words, status=2)
            self.assertTrue(done.stderr)
        (self.conf / "main.cf").unlink()
        done = self.ctl("doctor", "--config-directory", str(self.conf),
                        status=2)
        self.assertIn(b"main.cf", done.stderr)


if __name__ == "__main__":
    unittest.main()
