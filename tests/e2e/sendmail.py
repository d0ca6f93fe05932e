# sendmail - a private, real Sendmail for one test
# SPDX-License-Identifier: Apache-2.0
"""Debian's Sendmail, unpacked by contrib/unpack-sendmail beside the installed
Postfix, with configuration, queues, sockets and ports of its own. Must be
started by root. The same face to the tests as postfix.Postfix."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

from tests.e2e.postfix import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
UNPACKED = os.path.join(ROOT, ".build", "sendmail")
PROGRAM = os.path.join(UNPACKED, "usr/libexec/sendmail/sendmail")
# Sendmail trusts no socket below a directory that the world may write.
TOP = "/run"

NAMED = """\
conf=$1
shift
hostname relay.test
mount --bind "$conf/hosts" /etc/hosts
mount --bind "$conf/nsswitch.conf" /etc/nsswitch.conf
[ ! -e "$conf/../sasl" ] || mount --bind "$conf/../sasl" /usr/lib/sasl2
exec "$@"
"""

COMMON_MC = """\
divert(-1)
define(`_CF_DIR_', `{unpacked}/usr/share/sendmail/cf/')
define(`MAIL_SETTINGS_DIR', `{conf}/')
include(_CF_DIR_`m4/cf.m4')
divert(0)dnl
VERSIONID(`gmroute tests')
OSTYPE(`linux')
define(`confDOMAIN_NAME', `relay.test')dnl
define(`confPID_FILE', `{conf}/{name}.pid')dnl
define(`STATUS_FILE', `{conf}/{name}.st')dnl
define(`confHOST_STATUS_DIRECTORY', `')dnl
define(`confTO_IDENT', `0')dnl
define(`confSERVICE_SWITCH_FILE', `{conf}/service.switch')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
"""

MTA_MC = COMMON_MC + """\
define(`QUEUE_DIR', `{queue}')dnl
define(`ALIAS_FILE', `{conf}/aliases')dnl
define(`confDEF_USER_ID', `mail:mail')dnl
define(`confCW_FILE', `{conf}/local-host-names')dnl
define(`confCT_FILE', `{conf}/trusted-users')dnl
define(`confCR_FILE', `{conf}/relay-domains')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
FEATURE(`promiscuous_relay')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {internet_port}')dnl
define(`SMTP_MAILER_ARGS', `TCP $h {local_port}')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
{filter}
{more}
MAILER(`smtp')dnl
{rules}
"""
# The MTA's own domains; their mailboxes are the local sink. Address literals
# leave for the internet, which is the other one.
LOCAL_RULES = """\
LOCAL_CONFIG
C{{Sink}} {local_domains}
"""
LOCAL_RULE = ("R$* < @ [ $+ ] > $*\t"
              "$#relay $@ [127.0.0.1] $: $1 < @ [ $2 ] > $3\n"
              "R$* < @ $={Sink} . > $*\t"
              "$#smtp $@ [127.0.0.1] $: $1 < @ $2 . > $3\n"
              "R$* < @ $={Sink} > $*\t"
              "$#smtp $@ [127.0.0.1] $: $1 < @ $2 > $3\n")

SUBMIT_MC = COMMON_MC + """\
define(`confRUN_AS_USER', `mail:mail')dnl
define(`confTRUSTED_USER', `mail')dnl
define(`MSP_QUEUE_DIR', `{client_queue}')dnl
define(`QUEUE_DIR', `{client_queue}')dnl
define(`confUSE_MSP', `True')dnl
define(`confDELIVERY_MODE', `i')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {port}')dnl
define(`SMTP_MAILER_ARGS', `TCP $h {port}')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h {port}')dnl
FEATURE(`msp', `[127.0.0.1]')dnl
"""


def cut(lines):
    """`gmroutectl mta-config sendmail`: what belongs before MAILER(`smtp'),
    what behind it, and the program for reports."""
    parts = re.split(r"^# ---- .*? ----\n", lines, flags=re.M)
    return parts[1:] if lines else ("", "", "")


class Sendmail:
    """One instance. `lines`: what `gmroutectl mta-config sendmail` printed
    ("": a Sendmail without us). `more`: of sendmail.mc, behind our filter."""

    def __init__(self, top, local_domains, local_port, internet_port,
                 lines="", more=""):
        if not os.path.exists(PROGRAM):
            raise RuntimeError("no %s: contrib/unpack-sendmail %s" % (
                PROGRAM, UNPACKED))
        self.conf = os.path.join(top, "mail")
        self.queue = os.path.join(self.conf, "mqueue")
        self.traffic = os.path.join(top, "log", "sendmail.log")
        self.port = free_port()
        client_queue = self.client_queue = os.path.join(self.conf,
                                                        "clientmqueue")
        for path in (self.queue, client_queue):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o770 if path == client_queue else 0o700)
        shutil.chown(client_queue, "mail", "mail")
        for name in ("aliases", "local-host-names", "trusted-users",
                     "relay-domains"):
            self._write(name, "")
        # A name of its own: Sendmail waits a minute for one with a dot.
        self._write("hosts", "127.0.0.1 relay.test localhost\n")
        self._write("nsswitch.conf", "hosts: files\npasswd: files\n"
                    "group: files\n")
        self._write("service.switch", "hosts files\naliases files\n")
        before, behind, gmclean = cut(lines)
        # LOCAL_RULE_0 once: ours first, then the sink's.
        rules = LOCAL_RULES.format(local_domains=local_domains)
        if behind:
            self._write_gmclean(gmclean)
            behind = behind.replace("/etc/mail", self.conf)
            rules += behind.replace("MAILER_DEFINITIONS",
                                    LOCAL_RULE + "MAILER_DEFINITIONS")
        else:
            rules += "LOCAL_RULE_0\n" + LOCAL_RULE
        values = {"unpacked": UNPACKED, "conf": self.conf,
                  "queue": self.queue, "port": self.port,
                  "client_queue": client_queue,
                  "local_port": local_port, "internet_port": internet_port}
        self._compile("sendmail", MTA_MC, filter=before, more=more,
                      rules=rules, **values)
        self._compile("submit", SUBMIT_MC, **values)
        self.process = None

    def _write(self, name, text):
        path = os.path.join(self.conf, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o644)

    def _write_gmclean(self, text):
        """The program that cleans reports; it hands them to this instance."""
        submit = "%s -C%s/submit.cf" % (PROGRAM, self.conf)
        self._write("gmclean", text.replace("/usr/sbin/sendmail", submit))
        os.chmod(os.path.join(self.conf, "gmclean"), 0o755)

    def _compile(self, name, mc, **values):
        cf = subprocess.run(["m4"], check=True, capture_output=True,
                            input=mc.format(name=name, **values).encode())
        self._write(name + ".cf", cf.stdout.decode())

    def command(self, cf, words):
        """The program as it is to be started: on a host named relay.test,
        which is all that it can look up."""
        return ["unshare", "--uts", "--mount", "sh", "-c", NAMED, "sh",
                self.conf, PROGRAM, "-C" + os.path.join(self.conf, cf + ".cf"),
                *words]

    def run(self, *words, cf="sendmail", check=True, **more):
        """The program with these options, on this instance."""
        return subprocess.run(self.command(cf, words), check=check,
                              capture_output=True, timeout=60, **more)

    def start(self):
        # In the foreground, so that it is ours to end; it tries its queue each
        # second.
        self.process = subprocess.Popen(
            self.command("sendmail", ["-bD", "-q1s", "-X" + self.traffic]),
            stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port),
                                              5) as s:
                    if s.recv(200).startswith(b"220 "):
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError("Sendmail did not start:\n" + self.log())
            time.sleep(0.05)

    def stop(self):
        if self.process is None:
            return
        try:  # its children too: queue runners, deliveries
            os.killpg(self.process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        self.process.wait(15)

    def flush(self):
        """Tries everything in the queue now."""
        self.run("-q", check=False)

    def queued(self):
        """Messages in the queue: a list of their ids."""
        text = self.run("-bp", check=False).stdout.decode()
        return re.findall(r"^([0-9A-Za-z]{14})[*X-]?\s", text, re.M)

    def wait_empty(self, timeout_s=60, flush=True):
        """Until the queue is empty."""
        deadline = time.monotonic() + timeout_s
        while self.queued():
            if time.monotonic() > deadline:
                raise TimeoutError("still queued:\n" + self.run(
                    "-bp", check=False).stdout.decode() + self.log()[-4000:])
            if flush:
                self.flush()
            time.sleep(0.3)

    def sendmail(self, sender, recipients, content, *flags):
        """Hands in a message as a program of this host would: by the
        submission program's own configuration, which speaks SMTP to the
        daemon."""
        return self.run("-i", "-f", sender, *flags, "--", *recipients,
                        cf="submit", input=content)

    def log(self):
        try:
            with open(self.traffic, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""
