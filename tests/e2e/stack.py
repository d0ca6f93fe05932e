# stack - everything one test needs: simulator, three daemons, real Postfix
# SPDX-License-Identifier: Apache-2.0
"""All of it lives under one temporary directory and ends with the test."""

import json
import os
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import time
import unittest

from tests.e2e.postfix import Postfix, sections_of
from tests.e2e.sendmail import TOP, Sendmail
from tests.e2e.sink import Sink
from tests.gmailsim.client import Sim

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
BUILD = os.environ.get("GMROUTE_BUILD", os.path.join(ROOT, ".build/release"))
PROGRAMS = {"token": "milter/token/gmroute-token",
            "deliver": "milter/deliver/gmroute-deliver",
            "milter": "milter/filter/gmroute-milter",
            "ctl": "milter/ctl/gmroutectl"}
# Google's own name for the key of a refresh-token client.
CLIENT_ID = "123.apps.googleusercontent.com"
SERVICE_ACCOUNT = "robot@project.iam.gserviceaccount.com"

SIM = {
    "accounts": [
        {"address": "sales@example.com", "refresh_tokens": ["1//sales"]},
        {"address": "news@gmail.com", "app_password": "abcd efgh ijkl mnop"},
        {"address": "alice@example.com"},
        {"address": "bob@example.com"},
    ],
    "clients": [{"client_id": CLIENT_ID, "client_secret": "client-secret"}],
    "service_accounts": [{"email": SERVICE_ACCOUNT, "generate": True}],
}

HEAD = """\
gmroute: 1
hostname: relay.test
mta_domains: [example.com, .example.com]
internal_domains: [example.com, .example.com]
milter: {{listen: "unix:{top}/milter/milter.sock"}}
deliver: {{listen: "unix:{top}/spool/gmroute/deliver.sock"}}
state: {{directory: "{top}/state", runtime: "{top}/run", accounts: 256}}
smarthosts:
  gmail: {{host: smtp.gmail.com, connect: 127.0.0.1, port: {smtps},
          tls: implicit, ca_file: "{ca}"}}
  submission: {{host: smtp.gmail.com, connect: 127.0.0.1, port: {submission},
               tls: starttls, ca_file: "{ca}"}}
oauth_clients:
  corp: {{client_id: {client_id}, client_secret_file: secrets/corp.secret,
         token_url: "https://oauth2.googleapis.com/token",
         connect: "127.0.0.1:{token}", ca_file: "{ca}"}}
"""

ACCOUNTS = """\
accounts:
  sales:
    address: sales@example.com
    auth: {{oauth2: {{client: corp, refresh_token_file: secrets/sales.token}}}}
    quota: {sales_quota}
    max_wait: {max_wait}
  news:
    address: news@gmail.com
    smarthost: submission
    auth: {{password_file: secrets/news.pw}}
    quota: {{messages: 500 per 24h, recipients: 500 per 24h}}
  staff:
    address: "*@example.com"
    trust: {staff_trust}
    auth: {{service_account: {{key_file: secrets/sa.json,
           token_url: "https://oauth2.googleapis.com/token",
           connect: "127.0.0.1:{token}", ca_file: "{ca}"}}}}
"""

RULES = """\
rules:
  - name: blocked sender
    match: {sender: blocked@example.com}
    reject: "550 5.7.1 This sender may not send"
  - name: greylisted sender
    match: {sender: later@example.com}
    defer: "451 4.7.1 Come back later"
  - name: refused header
    match: {header: {X-Refuse: "*"}}
    reject: "550 5.7.1 No such mail here"
  - name: blocked recipient
    match: {recipient: nobody@refused.test}
    reject: "550 5.7.1 Nobody may write there"
  - name: stays here
    match: {recipient_domain: direct.test}
    route: mta
  - name: newsletter
    match: {sender: news@example.com}
    route: {account: news}
  - name: sales
    match: {sender: [sales@example.com, "*@sales.example.com"]}
    route: {account: sales}
  - name: people
    match: {sender_domain: example.com}
    route: {account: staff}
default: mta
"""


def wait_for(what, condition, timeout_s=30):
    """Polls until condition() is true; its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError("waited %d s for %s" % (timeout_s, what))
        time.sleep(0.05)


class Daemon:
    """One of our three, on this stack's configuration."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.log_file = os.path.join(stack.top, "log", name + ".log")
        self.process = None

    def start(self, wait=True, kill_at=None):
        """kill_at: where it is to be killed; see tests/support/killer.c."""
        before = self.log().count(" ready: ")
        environment = dict(os.environ)
        if kill_at:
            environment.update(
                LD_PRELOAD=os.path.join(BUILD, "tests/gmkiller.so"),
                ASAN_OPTIONS="verify_asan_link_order=0",
                GMROUTE_KILL=kill_at)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment, cwd=self.stack.top,
                **self.identity())
        if wait:
            wait_for(self.name, lambda: self.ended_or_ready(before))

    def command(self):
        return [os.path.join(BUILD, PROGRAMS[self.name]), "-s", "-l", "debug",
                "-c", self.stack.config_file]

    def identity(self):
        """Whose it is, as subprocess takes it: ours."""
        return {}

    def ended_or_ready(self, before):
        if self.process.poll() is not None:
            raise RuntimeError("%s ended with %d:\n%s" % (
                self.name, self.process.returncode, self.log()[-3000:]))
        return self.log().count(" ready: ") > before

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8",
                      errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def kill(self):
        """As a crash would end it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def reload(self):
        """SIGHUP; returns when the log says that it has been obeyed, and
        whether the new configuration was taken."""
        before = self.log().count("configuration ")
        self.process.send_signal(signal.SIGHUP)
        wait_for(self.name + " to reload",
                 lambda: self.log().count("configuration ") > before)
        return "not loaded" not in self.log().rsplit("configuration ", 1)[1]

    def stop(self):
        """In an orderly way; its exit status."""
        if self.process is None or self.process.poll() is not None:
            return None if self.process is None else self.process.returncode
        self.process.terminate()
        try:
            return self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Stack:
    """Started by __enter__. Options: rules (YAML from "rules:" on), sim
    (changes of the simulator's configuration), head, accounts (YAML
    templates), sales_quota, max_wait, staff_trust, main_cf, master_cf, mc
    (more of sendmail.mc), mta ("postfix", "sendmail" or None)."""

    def __init__(self, rules=RULES, sim=None, accounts=ACCOUNTS, head=HEAD,
                 sales_quota="workspace", max_wait="24h", staff_trust="any",
                 main_cf="", master_cf="", mc="", mta="postfix"):
        self.top = tempfile.mkdtemp(prefix="gmroute.",
                                    dir=TOP if mta == "sendmail" else None)
        os.chmod(self.top, 0o755)
        for name in ("log", "run", "state", "secrets", "spool"):
            os.mkdir(os.path.join(self.top, name))
        os.chmod(os.path.join(self.top, "secrets"), 0o700)
        self.config_file = os.path.join(self.top, "gmroute.yaml")
        self.values = {"sales_quota": sales_quota, "max_wait": max_wait,
                       "staff_trust": staff_trust}
        self.head, self.accounts, self.rules = head, accounts, rules
        self.sim_config = {**SIM, **(sim or {})}
        self.main_cf, self.master_cf, self.mc = main_cf, master_cf, mc
        self.kind = mta
        self.sim = self.local = self.internet = self.mta = None
        self.daemons = {n: Daemon(self, n)
                        for n in ("token", "deliver", "milter")}

    @property
    def postfix(self):
        """The MTA, where a test wants what only Postfix has."""
        return self.mta

    @property
    def token(self):
        return self.daemons["token"]

    @property
    def deliver(self):
        return self.daemons["deliver"]

    @property
    def milter(self):
        return self.daemons["milter"]

    # --- configuration

    def secret(self, name, text):
        path = os.path.join(self.top, "secrets", name)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(text)

    def write_config(self, rules=None, accounts=None, **values):
        """Writes gmroute.yaml with these changes; they stay."""
        self.rules = self.rules if rules is None else rules
        self.accounts = self.accounts if accounts is None else accounts
        self.values.update(values)
        ports = self.sim.ports
        values = {"top": self.top, "ca": self.sim.ca_file,
                  "client_id": CLIENT_ID, "smtps": ports["smtps"],
                  "submission": ports["submission"], "token": ports["token"],
                  "imaps": ports["imaps"], "pops": ports["pops"],
                  **self.values}
        with open(self.config_file, "w", encoding="utf-8") as f:
            f.write(self.head.format(**values) +
                    self.accounts.format(**values) + self.rules)

    # --- life

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, *_unused):
        if kind is not None:
            self.show_logs()
        self.stop()

    def start(self):
        self.sim = Sim.start(self.sim_config)
        self.secret("corp.secret", "client-secret")
        self.secret("sales.token", "1//sales\n")
        self.secret("news.pw", "abcd efgh ijkl mnop")
        key = getattr(self.sim, "service_accounts", {}).get(SERVICE_ACCOUNT)
        if key:
            with open(key, encoding="utf-8") as f:
                self.secret("sa.json", f.read())
        self.write_config()
        self.local, self.internet = Sink(), Sink()
        Postfix.socket_directory(os.path.join(self.top, "milter"))
        Postfix.socket_directory(os.path.join(self.top, "spool", "gmroute"))
        where = (self.top, "example.com sales.example.com", self.local.port,
                 self.internet.port)
        if self.kind == "postfix":
            sections = sections_of(self.ctl("mta-config", "postfix"))
            self.mta = Postfix(*where, sections, self.main_cf, self.master_cf)
        elif self.kind == "sendmail":
            self.mta = Sendmail(*where, self.ctl("mta-config", "sendmail"),
                                self.mc)
        for daemon in self.daemons.values():
            daemon.start()
        if self.mta:
            self.mta.start()

    def stop(self):
        if self.mta:
            self.mta.stop()
        for daemon in reversed(list(self.daemons.values())):
            try:
                daemon.stop()
            except subprocess.TimeoutExpired:
                print("%s did not end in time" % daemon.name,
                      file=sys.stderr)
        for thing in (self.local, self.internet, self.sim):
            if thing:
                thing.stop()
        shutil.rmtree(self.top, ignore_errors=True)

    def show_logs(self, size=6000):
        for name, daemon in self.daemons.items():
            print("---- %s\n%s" % (name, daemon.log()[-size:]),
                  file=sys.stderr)
        if self.mta:
            print("---- %s\n%s" % (self.kind, self.mta.log()[-size:]),
                  file=sys.stderr)

    # --- use

    def ctl(self, *words, status=0):
        """gmroutectl; its output. With "--json", parsed."""
        done = subprocess.run(
            [os.path.join(BUILD, PROGRAMS["ctl"]), "-c", self.config_file,
             *words], capture_output=True, timeout=60, check=False)
        out = done.stdout.decode()
        if status is not None and done.returncode != status:
            raise AssertionError("gmroutectl %s: status %d, not %d\n%s%s" % (
                " ".join(words), done.returncode, status, out,
                done.stderr.decode()))
        return json.loads(out) if "--json" in words and out else out

    def smtp(self, login=None, client=None, port=None):
        """A connection to the MTA; `login`, `client` by XCLIENT on Postfix.
        Sendmail has none: there a client of the loopback network only.
        `port`: another one than its first."""
        source = None
        if client and self.kind == "sendmail":
            source, client = (client, 0), None
        c = smtplib.SMTP("127.0.0.1", port or self.mta.port, timeout=60,
                         source_address=source)
        c.ehlo("client.test")
        words = []
        if client:
            words.append("ADDR=" + client)
        if login:
            words.append("LOGIN=" + login)
        if words:
            code, text = c.docmd("XCLIENT", " ".join(words))
            if code != 220:
                raise AssertionError("XCLIENT: %d %r" % (code, text))
            c.ehlo("client.test")
        return c

    def send(self, sender, recipients, subject="hello", headers=(), body="hi",
             login=None, client=None, port=None, **more):
        """One message by SMTP; returns smtplib's dict of refusals."""
        if isinstance(recipients, str):
            recipients = [recipients]
        with self.smtp(login, client, port) as c:
            return c.sendmail(sender, recipients,
                              message(sender, recipients, subject, headers,
                                      body), **more)

    def log_row(self, **want):
        """Rows of `gmroutectl log --json` with these values."""
        rows = self.ctl("log", "-n", "10000", "--json", status=None) or []
        return [r for r in rows
                if all(r[k] == v for k, v in want.items())]


class SharedStack(unittest.TestCase):
    """Tests with one stack for all: each uses senders, recipients or subjects
    of its own."""

    @classmethod
    def make_stack(cls):
        return Stack()

    @classmethod
    def setUpClass(cls):
        cls.stack = cls.make_stack()
        try:
            cls.stack.start()
        except BaseException:
            cls.stack.stop()  # nobody else does when this fails
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def setUp(self):
        self.sim = self.stack.sim
        self.since = len(self.sim.journal(content=False))

    def run(self, result=None):
        bad = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > bad:
            self.stack.show_logs()


def message(sender, recipients, subject="hello", headers=(), body="hi"):
    lines = ["From: <%s>" % sender, "To: " + ", ".join(recipients),
             "Subject: " + subject, "Date: Sun, 01 Mar 2026 10:00:00 +0000",
             "Message-ID: <%s.%s@client.test>" % (
                 re.sub(r"\W", "", subject), time.monotonic_ns())]
    lines += ["%s: %s" % pair for pair in headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body + "\r\n").encode()
