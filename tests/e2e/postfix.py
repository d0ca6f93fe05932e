# postfix - a private, real Postfix for one test
# SPDX-License-Identifier: Apache-2.0
"""Own configuration, queue, sockets and ports under the test's directory; the
system's Postfix is never touched. Must be started by root, as Postfix is."""

import grp
import os
import pwd
import random
import re
import socket
import subprocess
import time

DAEMONS = "/usr/lib/postfix/sbin"
COMMANDS = "/usr/sbin"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
daemon_directory = {daemons}
command_directory = {commands}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {log}
maillog_file_prefixes = {top}
myhostname = relay.test
mydomain = test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 0.0.0.0/0
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_limit = 2000
smtpd_client_connection_count_limit = 0
disable_dns_lookups = yes
smtp_host_lookup = native
smtputf8_autodetect_classes = all
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {local_domains}
virtual_mailbox_maps = static:ok
virtual_transport = smtp:[127.0.0.1]:{local_port}
default_transport = smtp:[127.0.0.1]:{internet_port}
relayhost =
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
"""

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
# Stock bounce services, unless gmroutectl's lines replace them.
BOUNCE_CF = """\
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
"""


def free_port():
    """For a server that starts later, so it lies below the ports that the
    kernel gives to connections (ip_local_port_range): other tests make many
    of them meanwhile."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(10240, 32768)))
            except OSError:
                continue
            return s.getsockname()[1]


class Postfix:
    """One instance. `sections`: what `gmroutectl mta-config postfix` printed
    (None: a Postfix without us)."""

    def __init__(self, top, local_domains, local_port, internet_port,
                 sections=None, more_main="", more_master=""):
        self.top = top
        self.conf = os.path.join(top, "postfix")
        self.queue = os.path.join(top, "spool")
        self.data = os.path.join(top, "data")
        self.log_file = os.path.join(top, "log", "postfix.log")
        self.port = free_port()
        for path in (self.conf, self.queue, self.data):
            os.makedirs(path, exist_ok=True)
        os.chown(self.data, pwd.getpwnam("postfix").pw_uid, -1)
        main = MAIN_CF.format(
            queue=self.queue, data=self.data, daemons=DAEMONS,
            commands=COMMANDS, log=self.log_file, top=top,
            local_domains=local_domains, local_port=local_port,
            internet_port=internet_port)
        master = MASTER_CF.format(port=self.port)
        if sections:
            self._write_tables(sections)
            main += sections["main.cf"].replace("/etc/postfix", self.conf)
            master += sections["master.cf"].replace("/etc/postfix", self.conf)
        else:
            master += BOUNCE_CF
        self._write("main.cf", main + more_main)
        self._write("master.cf", master + more_master)

    def _write(self, name, text):
        with open(os.path.join(self.conf, name), "w", encoding="utf-8") as f:
            f.write(text)

    def _write_tables(self, sections):
        for name, text in sections.items():
            if name.startswith("/etc/postfix/"):
                self._write(os.path.basename(name), text)

    def run(self, *words, check=True, **more):
        """One of Postfix's commands, on this instance."""
        program, *rest = words
        flag = "-C" if program == "sendmail" else "-c"
        return subprocess.run(
            [os.path.join(COMMANDS, program), flag, self.conf, *rest],
            check=check, capture_output=True, timeout=60, **more)

    def start(self):
        self.run("postfix", "start")
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port),
                                              5) as s:
                    if s.recv(100).startswith(b"220 "):
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError("Postfix did not start:\n" + self.log())
            time.sleep(0.05)

    def stop(self):
        self.run("postfix", "stop", check=False)
        pid_file = os.path.join(self.queue, "pid", "master.pid")
        deadline = time.monotonic() + 15
        while os.path.exists(pid_file) and time.monotonic() < deadline:
            with open(pid_file, encoding="ascii") as f:
                pid = f.read().strip()
            if not pid or not os.path.exists("/proc/" + pid):
                break
            time.sleep(0.05)
        else:
            if os.path.exists(pid_file):
                self.run("postfix", "abort", check=False)

    def flush(self):
        """Tries everything in the queue now."""
        self.run("postqueue", "-f")

    def queued(self):
        """Messages in the queue: a list of their ids."""
        text = self.run("postqueue", "-p").stdout.decode()
        return re.findall(r"^([0-9A-Za-z]{6,})[*!]?\s", text, re.M)

    def wait_empty(self, timeout_s=60, flush=True):
        """Until the queue is empty."""
        deadline = time.monotonic() + timeout_s
        while self.queued():
            if time.monotonic() > deadline:
                raise TimeoutError("still queued:\n" + self.run(
                    "postqueue", "-p").stdout.decode() + self.log()[-4000:])
            if flush:
                self.flush()
            time.sleep(0.3)

    def sendmail(self, sender, recipients, content, *flags):
        """Hands in a message as a program of this host would."""
        return self.run("sendmail", "-i", "-f", sender, *flags, *recipients,
                        input=content)

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8",
                      errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    @staticmethod
    def socket_directory(path):
        """A directory in which a socket made by us can be reached by Postfix,
        and by nobody else."""
        os.makedirs(path, exist_ok=True)
        os.chown(path, 0, grp.getgrnam("postfix").gr_gid)
        os.chmod(path, 0o2750)
        return path


def sections_of(text):
    """`gmroutectl mta-config postfix`, cut at its "# ---- name ----" lines."""
    parts = re.split(r"^# ---- (\S+).*----$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))
