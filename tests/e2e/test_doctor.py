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

from tests.e2e.sendmail import PROGRAM, TOP, Sendmail
from tests.e2e.stack import BUILD, HEAD, PROGRAMS, ROOT, Stack, wait_for

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
        self.age()
        self.ctl("mta-config", "postfix", "--apply", "--config-directory",
                 str(self.conf), status=0)
        self.good[key] = self.top / f"good{len(self.good)}"
        shutil.copytree(self.conf, self.good[key])

    def age(self):
        """Postfix's programs wait until a file is some seconds old."""
        for path in self.conf.iterdir():
            os.utime(path, (time.time() - 60,) * 2)

    def look(self):
        self.age()
        return self.doctor("--mta-only", "--config-directory", str(self.conf))

    def do(self, step):
        if callable(step):
            step(self)
            return
        words = [w.format(top=self.top, conf=self.conf) for w in step]
        self.age()
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
                    self.age()
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


# ---- sendmail.cf ----

SENDMAIL = [
    ("filter-missing", r"^Xgmroute,.*\n", ""),
    ("filter-socket", r"^(Xgmroute, S=)[^,]*", r"\1unix:/run/x/milter.sock"),
    ("filter-order", r"^O InputMailFilters=.*\n", ""),
    ("filter-order", r"^(O InputMailFilters=).*", r"\1gmroute,other"),
    ("default-action", r"^(Xgmroute,.*) F=T,", r"\1 F=R,"),
    ("default-action", r"^(Xgmroute,.*) F=T,", r"\1"),
    ("milter-timeouts", r"^(Xgmroute,.*)E:2m", r"\1E:5s"),
    ("milter-macros", r"^O Milter.macros.envfrom=.*",
     "O Milter.macros.envfrom=i, {mail_addr}"),
    ("rules-missing", r"^R.*[.] gmroute[.]invalid [.] >.*gmroute \$@.*\n",
     ""),
    ("rules-missing", r"^R.*[.] gmroute[.]invalid >.*\n", ""),
    ("rules-missing", r"^R.*\* gmroute[.]invalid [.] >.*\n", ""),
    ("mailer-missing", r"^Mgmroute,", "Mother,"),
    ("mailer-socket", r"A=FILE \S*deliver.sock", "A=FILE /run/x/gm.sock"),
    ("mailer-flags", r"F=mDFMuXzn8", "F=mDFMuXn8"),
    ("mailer-flags", r"F=mDFMuXzn8", "F=DFMuXzn8"),
    ("reports", r"^Mgmclean,", "Mother,"),
    ("reports", r"^(Mgmclean,\s*P=)[^,]*", r"\1/nowhere/gmclean"),
    ("own-domains", r"^Cw.*", r"Cwlocalhost other.test"),
    ("own-domains", r"^Cw.*", r"Cwlocalhost\nFw-o {domains}"),
    ("queue-lifetime", r"^#?O Timeout.queuereturn=.*",
     "O Timeout.queuereturn=1h"),
    ("lmtp-timeouts", r"^#?O Timeout.datainit=.*", "O Timeout.datainit=10s"),
    ("message-size", r"^#?O MaxMessageSize=.*", "O MaxMessageSize=90000000"),
]


@unittest.skipUnless(os.path.exists(PROGRAM), "needs contrib/unpack-sendmail")
class SendmailMistakes(Base):
    """One mistake each in the sendmail.cf that m4 makes of our lines."""

    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp(prefix="gmroute.", dir=TOP)
        cls.config = os.path.join(cls.top, "gmroute.yaml")
        cls.cf = os.path.join(cls.top, "mail", "sendmail.cf")
        pathlib.Path(cls.config).write_text(POLICY.format(
            top=cls.top, more_milter="",
            milter=f"unix:{cls.top}/milter/milter.sock",
            deliver=f"unix:{cls.top}/deliver/deliver.sock"))
        lines = subprocess.run(
            [CTL, "-c", cls.config, "mta-config", "sendmail"], check=True,
            capture_output=True, text=True, timeout=60).stdout
        Sendmail(cls.top, "example.com", 1, 1, lines)
        path = pathlib.Path(cls.cf)
        # Without a limit of its own Sendmail takes any size.
        cls.good = re.sub(r"^#?O MaxMessageSize=.*",
                          "O MaxMessageSize=25000000", path.read_text(),
                          flags=re.M)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.top)

    def look(self, text):
        pathlib.Path(self.cf).write_text(text)
        return self.doctor("--mta-only", "--sendmail-cf", self.cf)

    def test_right(self):
        self.assertEqual(self.look(self.good), {})

    def test_mistakes(self):
        domains = os.path.join(self.top, "domains")
        pathlib.Path(domains).write_text("# ours\nfar.test\n")
        for check, pattern, to in SENDMAIL:
            with self.subTest(check=check, pattern=pattern):
                # Rules stand behind tabs, mailers over two lines.
                bad = re.sub(pattern, to.replace("{domains}", domains),
                             self.good, count=1, flags=re.M)
                self.assertTrue(bad != self.good)
                found = self.look(bad)
                self.assertEqual(set(found), {check}, found)

    def test_every_check_has_its_mistake(self):
        table = pathlib.Path(ROOT,
                             "milter/ctl/doctor_sendmail.c").read_text()
        names = re.findall(r'^    \{"([a-z0-9-]+)", SEVERITY_', table, re.M)
        self.assertEqual(set(names), {row[0] for row in SENDMAIL})


# ---- the host ----

# A row: what must be found, the mistake as shell lines, changes of the policy's
# text, and shell lines that take back what no command of doctor's does.
HOST = [
    ({"daemon-down"}, "mkdir -m 0750 $run/nobody", [
        ("{run}", "{run}/nobody")]),
    ({"not-listening"}, "mv $top/milter/milter.sock $top/milter/away", [],
     "mv $top/milter/away $top/milter/milter.sock"),
    ({"not-listening"}, "mv $top/spool/gmroute/deliver.sock $top/away", [],
     "mv $top/away $top/spool/gmroute/deliver.sock"),
    ({"socket-unreachable"}, "chgrp root $top/milter", []),
    ({"socket-unreachable"}, "chmod 0700 $top/spool/gmroute", []),
    ({"socket-unreachable"}, "chmod 0600 $top/spool/gmroute/deliver.sock",
     []),
    ({"socket-unreachable"}, "chmod 0700 $top/spool", []),
    ({"socket-open"},
     "chmod o+x $top/milter; chmod o+w $top/milter/milter.sock", []),
    ({"socket-parent"}, "chmod o+w $top/spool/gmroute", []),
    ({"labels"}, "rm $top/spool/gmroute/q05.sock", []),
    ({"labels"}, "ln -sfn /nowhere $top/spool/gmroute/q31.sock", []),
    ({"state-directory"}, "", [('directory: "{top}/state"',
                                'directory: "{top}/none"')],
     "rm -rf $top/none"),
    ({"state-directory"}, "chmod 0777 $top/state", []),
    ({"state-directory"}, "chmod 0500 $top/state", []),
    ({"state-directory"}, "", [('directory: "{top}/state"',
                                'directory: "{top}/gmroute.yaml"')], ""),
    ({"state-volatile"}, "mkdir -m 0750 $run/state", [
        ('directory: "{top}/state"', 'directory: "{run}/state"')]),
    ({"runtime-directory", "daemon-down"}, "",
     [("{run}", "/dev/shm/gmroute-none")], "rm -rf /dev/shm/gmroute-none"),
    ({"runtime-disk", "daemon-down"}, "", [("{run}", "{top}/log")], ""),
    ({"disk-full", "daemon-down"},
     "mkdir $top/small; mount -t tmpfs -o size=64k,mode=0750 none $top/small; "
     "dd if=/dev/zero of=$top/small/x bs=4k 2>/dev/null || :",
     [("{run}", "{top}/small")], "umount $top/small"),
    ({"secret-file"}, "chmod 0644 $top/secrets/news.pw", []),
    ({"secret-file"}, "mv $top/secrets/sa.json $top/away", [],
     "mv $top/away $top/secrets/sa.json"),
    ({"secret-file"}, "chown 1 $top/secrets/corp.secret", []),
    ({"tag-keys"}, "chmod 0777 $top/state/keys", []),
    ({"tag-keys"}, "chmod 0666 $top/state/keys/*.key", []),
    ({"tag-keys-future"}, "touch -d tomorrow $top/state/keys/1.key", []),
    ({"tag-keys-old"},
     "head -c 32 /dev/zero >$top/state/keys/9.key; "
     "chmod 0640 $top/state/keys/9.key; "
     "touch -d '30 days ago' $top/state/keys/9.key; "
     "touch -d '20 days ago' $top/state/keys/1.key", []),
    ({"name-unknown"}, "", [("connect: 127.0.0.1, port",
                             "connect: no.such.invalid, port")]),
    ({"certificates"}, "", [("{ca}", "{top}/none.pem")]),
    ({"certificates"}, ": >$top/empty.pem", [("{ca}", "{top}/empty.pem")]),
]
# As the daemons have made it.
RESET = """\
chmod 0755 $top $top/spool $top/state
chgrp postfix $top/milter $top/spool/gmroute
chmod 2750 $top/milter $top/spool/gmroute
chgrp postfix $top/milter/milter.sock $top/spool/gmroute/deliver.sock
chmod 0660 $top/milter/milter.sock $top/spool/gmroute/deliver.sock
chmod 0750 $top/state/keys
rm -f $top/state/keys/9.key
touch $top/state/keys/*.key
chmod 0640 $top/state/keys/*.key
chown 0 $top/secrets/*
chmod 0600 $top/secrets/*
"""


class HostMistakes(Base):
    """What is about files, names and daemons, while these run."""

    @classmethod
    def setUpClass(cls):
        # Memory for what belongs there, a disk for the rest.
        cls.run_dir = tempfile.mkdtemp(prefix="gmroute.", dir=MEMORY)
        cls.stack = Stack(head=HEAD.replace("{top}/run", cls.run_dir),
                          sim={"settings": {"clock_skew_s": 7200}})
        cls.stack.start()
        cls.top, cls.config = cls.stack.top, cls.stack.config_file
        cls.text = pathlib.Path(cls.config).read_text()

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()
        shutil.rmtree(cls.run_dir, ignore_errors=True)

    def sh(self, line):
        subprocess.run(["sh", "-c", line], check=True, timeout=60,
                       env={**os.environ, "top": self.top, "run": self.run_dir})

    def change(self, changes):
        text = self.text
        for old, new in changes:
            values = {"run": self.run_dir, "top": self.top,
                      "ca": self.stack.sim.ca_file}
            self.assertIn(old.format(**values), text)
            text = text.replace(old.format(**values), new.format(**values))
        pathlib.Path(self.config).write_text(text)

    def look(self):
        os.utime(self.stack.mta.conf + "/main.cf", (time.time() - 60,) * 2)
        found = self.doctor("--config-directory", self.stack.mta.conf)
        # Of the whole test: see the simulator's settings.
        self.assertIn("7200 s behind", found.pop("clock-skew", {
            "what": "7200 s behind"})["what"])
        return found

    def test_mistakes(self):
        self.assertEqual(self.look(), {})
        for want, mistake, changes, *undo in HOST:
            with self.subTest(want=want, mistake=mistake, changes=changes):
                try:
                    self.change(changes)
                    self.sh(mistake)
                    found = self.look()
                    self.assertEqual(set(found), want, found)
                    if all(f["is_command"] for f in found.values()):
                        for finding in found.values():
                            self.run_remedy(finding)
                        self.assertEqual(self.look(), {})
                finally:
                    self.sh("".join(undo) + "\n" + RESET)
                    self.change([])

    def test_every_check_has_its_mistake(self):
        table = pathlib.Path(ROOT, "milter/ctl/doctor_host.c").read_text()
        names = re.findall(r'^    \{"([a-z0-9-]+)", SEVERITY_', table, re.M)
        here = set().union({"clock-skew", "token"}, *(r[0] for r in HOST))
        unit = pathlib.Path(ROOT, "tests/unit/ctl/test_doctor.c").read_text()
        self.assertEqual(
            [n for n in names if n not in here and f'"{n}"' not in unit], [])

    def test_tokens_and_clock(self):
        stack = self.stack
        stack.sim.fault("oauth_error", row="jwt_sub",
                        account="alice@example.com")
        stack.send("alice@example.com", "x@far.test")
        told = wait_for("the reason", lambda: self.doctor(
            "--config-directory", stack.mta.conf).get("token"))
        self.assertIn("alice@example.com", told["what"])
        self.assertIn("clock-skew", self.doctor("--config-directory",
                                                stack.mta.conf))


if __name__ == "__main__":
    unittest.main()
