# machine - a host of its own for one test: the names, ports and paths of a real one
# SPDX-License-Identifier: Apache-2.0
"""The body of a test runs in namespaces of its own (mounts, network, processes,
host name), in which /etc, /run, /var/spool and so on are in memory, the rest is
read-only, and smtp.gmail.com and Google's token endpoint are the simulator at
their real names and ports. So commands of the documentation, and the files of
etc/examples, run there letter for letter, and nothing of the host is touched.
All processes end with the test. Needs root.

    class Something(unittest.TestCase):
        @machine.alone
        def test_something(self):
            with machine.Machine() as m:
                ...
"""

import collections
import concurrent.futures
import functools
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from tests.e2e.sink import Sink
from tests.e2e.stack import BUILD, PROGRAMS, ROOT, wait_for
from tests.gmailsim.client import Sim

INSIDE = "GMROUTE_MACHINE"  # a directory on a disk
NAMESPACES = ("--mount", "--net", "--uts", "--ipc", "--pid", "--fork",
              "--kill-child", "--mount-proc")
EXAMPLES = os.path.join(ROOT, "etc/examples")
UNPACKED = os.path.join(ROOT, ".build/sendmail")
HOSTNAME = "relay.example.com"
# Who is who: all of them addresses of this machine. The relay service has port
# 465, as Gmail has, so it needs an address of its own.
GMAIL, RELAY_SERVICE = "203.0.113.1", "203.0.113.2"
INSIDE_SERVER, PROVIDER = "192.0.2.25", "198.51.100.25"
HOSTS = {
    "127.0.0.1": "localhost",
    "192.0.2.1": HOSTNAME + " relay",
    INSIDE_SERVER: "mail.lan.example.com",
    PROVIDER: "smtp.provider.example",
    GMAIL: "smtp.gmail.com imap.gmail.com pop.gmail.com "
           "oauth2.googleapis.com accounts.google.com "
           "smtp.office365.com login.microsoftonline.com",
    RELAY_SERVICE: "smtp-relay.gmail.com",
}
EMPTY = ("/root", "/run", "/usr/local/sbin", "/var/log", "/var/spool")
SCRATCH = "/run/machine"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

CLIENT_ID = "1234567890-example.apps.googleusercontent.com"
MICROSOFT_ID = "00000000-0000-0000-0000-000000000000"
SERVICE_ACCOUNT = "gmroute@example-project.iam.gserviceaccount.com"
PASSWORD = "abcd efgh ijkl mnop"
REFRESH_TOKEN = "1//example-refresh-token-of-"
SIM = {
    "host": GMAIL,
    "ports": {"smtps": 465, "submission": 587, "token": 443, "imaps": 993,
              "pops": 995},
    "accounts": [{"address": name + "@example.com", "app_password": PASSWORD}
                 for name in ("accounts", "news", "news2")] + [
        {"address": name + "@example.com", "app_password": PASSWORD,
         "refresh_tokens": [REFRESH_TOKEN + name]}
        for name in ("sales", "support", "office")] + [
        {"address": "news.example@gmail.com", "app_password": PASSWORD}],
    "auto_accounts": [{"domain": "example.com"}],
    "clients": [{"client_id": CLIENT_ID, "client_secret": "client-secret"},
                {"client_id": MICROSOFT_ID}],
    "service_accounts": [{"email": SERVICE_ACCOUNT, "generate": True}],
}
SECRETS = {
    "corp.secret": "client-secret",
    **{name + ".token": REFRESH_TOKEN + name
       for name in ("sales", "support", "office")},
    **{name + ".pw": PASSWORD
       for name in ("office", "accounts", "news", "news2", "gmail")},
}
RELAY_SIM = {
    "host": RELAY_SERVICE, "ports": {"relay_smtps": 465, "relay": 587},
    "relay": {"allow": [RELAY_SERVICE]}, # whence this machine comes
    "accounts": [{"address": "postmaster@example.com"}],
    "auto_accounts": [{"domain": "example.com"}],
}
# A plain relay as it may have stood for years: mail for the own domain to the
# mail server inside, everything else to the provider.
MAIN_CF = """\
compatibility_level = 3.6
myhostname = relay.example.com
myorigin = example.com
mydestination =
mynetworks = 127.0.0.0/8, 192.0.2.0/24
relay_domains = example.com
transport_maps = inline:{example.com=smtp:[mail.lan.example.com]}
relayhost = [smtp.provider.example]
inet_interfaces = 127.0.0.1, 192.0.2.1
inet_protocols = ipv4
smtp_host_lookup = native
alias_maps =
alias_database =
"""

# The same with Sendmail. (Not to be probed: the other hosts of this machine's
# world are its own addresses. And it must work while other tests run.)
SENDMAIL_MC = """\
divert(0)dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDONT_PROBE_INTERFACES', `true')dnl
define(`confPID_FILE', `/run/sendmail/mta/sendmail.pid')dnl
define(`confTO_IDENT', `0')dnl
define(`confDEF_USER_ID', `mail:mail')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`SMART_HOST', `[smtp.provider.example]')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=192.0.2.1, Port=smtp')dnl
DAEMON_OPTIONS(`Name=MSA, Addr=127.0.0.1, Port=smtp')dnl
MAILER(`smtp')dnl
"""
SUBMIT_MC = """\
divert(0)dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confTO_IDENT', `0')dnl
define(`confRUN_AS_USER', `mail:mail')dnl
define(`confTRUSTED_USER', `mail')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`confPID_FILE', `/run/sendmail/msp.pid')dnl
FEATURE(`msp', `[127.0.0.1]')dnl
"""


def alone(method):
    """A test's body inside a machine of its own."""
    @functools.wraps(method)
    def test(self):
        if INSIDE in os.environ:
            return method(self)
        with tempfile.TemporaryDirectory(prefix="gmroute.",
                                         dir="/var/tmp") as disk:
            os.chmod(disk, 0o755)
            done = subprocess.run(
                ["unshare", *NAMESPACES, sys.executable, "-B", "-m",
                 "unittest", self.id()], cwd=ROOT, stdin=subprocess.DEVNULL,
                env={**os.environ, INSIDE: disk}, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=300, check=False)
        if done.returncode != 0:
            self.fail(done.stdout.decode("utf-8", "replace"))
        return None
    return test


def run(*words, **more):
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, **more)
    if done.returncode != 0:
        raise RuntimeError("%s: status %d\n%s" % (
            " ".join(words), done.returncode,
            (done.stdout + done.stderr).decode("utf-8", "replace")))
    return done.stdout


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


def mount(what, where, *options):
    run("mount", *options, what, where)


class Syslog:
    """What the daemons and Postfix log, in /var/log/mail.log."""

    FILE = "/var/log/mail.log"

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        write(self.FILE, "")
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with open(self.FILE, "ab", buffering=0) as f:
            while True:
                line = self.socket.recv(65536).rstrip(b"\0\n")
                # <priority>Mon dd hh:mm:ss text; the host's name is added.
                line = line.partition(b">")[2]
                f.write(line[:15] + b" relay" + line[15:] + b"\n")

    def text(self):
        with open(self.FILE, encoding="utf-8", errors="replace") as f:
            return f.read()


class Machine:
    """What the machine has when a reader begins: the plain relay, running;
    our programs in /usr/local/sbin; Gmail, the mail server inside and the
    provider (`local` and `internet`, sinks). mta: "postfix", "sendmail" or
    None."""

    SOCKETS = "/var/spool/postfix/gmroute"

    def __init__(self, mta="postfix"):
        self.mta = mta
        self.sim = self.relay_sim = self.log = None
        self.local = self.internet = None

    def __enter__(self):
        if INSIDE not in os.environ or os.getpid() != 1:
            raise RuntimeError("not inside: a test of this needs @alone")
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_unused):
        self.stop()

    def start(self):
        self.prepare()
        self.log = Syslog()
        self.local = Sink((INSIDE_SERVER, 25))
        self.internet = Sink((PROVIDER, 25))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self.sim, self.relay_sim = pool.map(Sim.start, (SIM, RELAY_SIM))
        self.trust([self.sim.ca_file, self.relay_sim.ca_file])
        if self.mta == "postfix":
            self.install_postfix()
        elif self.mta == "sendmail":
            self.install_sendmail()

    def stop(self):
        self.kill_daemons()
        if self.mta == "postfix":
            subprocess.run(["postfix", "stop"], check=False,
                           capture_output=True)
        for thing in (self.local, self.internet, self.sim, self.relay_sim):
            if thing:
                thing.stop()

    # --- the host

    def prepare(self):
        for path in EMPTY:
            mount("none", path, "-t", "tmpfs", "-o", "mode=755")
        mount(os.environ[INSIDE], "/var/lib", "--bind")  # a disk
        mount("/tmp", "/tmp", "--bind")
        run("mount", "-o", "remount,bind,ro", "/")
        self.make_etc()
        self.make_devices()
        run("ip", "link", "set", "lo", "up")
        for address in HOSTS:
            if not address.startswith("127."):
                run("ip", "address", "add", address + "/32", "dev", "lo")
        run("hostname", HOSTNAME)
        write("/etc/hosts", "".join("%s %s\n" % row
                                    for row in HOSTS.items()))
        write("/etc/nsswitch.conf", "hosts: files\npasswd: files\n"
              "group: files\n")
        os.environ["PATH"] = ("/usr/local/sbin:/usr/local/bin:/usr/sbin:"
                              "/usr/bin:/sbin:/bin")
        self.install_programs()

    @staticmethod
    def install_programs():
        """As `cmake --install` does; where a user of ours can run them."""
        for path in PROGRAMS.values():
            shutil.copy(os.path.join(BUILD, path), "/usr/local/sbin")
        shutil.copy(os.path.join(ROOT, "tests/e2e/systemctl"),
                    "/usr/local/sbin")
        for folder, where in (("sysusers", "/etc/sysusers.d"),
                              ("tmpfiles", "/etc/tmpfiles.d"),
                              ("systemd", "/etc/systemd/system")):
            os.makedirs(where, exist_ok=True)
            for path in glob.glob(os.path.join(ROOT, "contrib", folder, "*")):
                shutil.copy(path, where)

    @staticmethod
    def make_etc():
        """A copy of /etc in memory."""
        new = SCRATCH + "/etc"
        os.makedirs(new)
        run("cp", "-a", "/etc/.", new)
        mount(new, "/etc", "--bind")
        for name in ("gmroute", "mail", "ssl/certs"):
            shutil.rmtree("/etc/" + name, ignore_errors=True)
        os.mkdir("/etc/ssl/certs")

    @staticmethod
    def make_devices():
        """/dev with what programs need, and a /dev/log of our own."""
        new = SCRATCH + "/dev"
        os.mkdir(new)
        mount("none", new, "-t", "tmpfs", "-o", "mode=755")
        for name in DEVICES:
            write(new + "/" + name, "")
            mount("/dev/" + name, new + "/" + name, "--bind")
        os.symlink("/proc/self/fd", new + "/fd")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.symlink("/proc/self/fd/%d" % number, new + "/" + name)
        os.mkdir(new + "/shm", 0o1777)
        mount(new, "/dev", "--move")

    @staticmethod
    def trust(ca_files):
        """These authorities become the host's."""
        with open("/etc/ssl/certs/ca-certificates.crt", "w",
                  encoding="ascii") as bundle:
            for number, ca_file in enumerate(ca_files):
                with open(ca_file, encoding="ascii") as f:
                    text = f.read()
                bundle.write(text)
                write("/etc/ssl/certs/sim%d.pem" % number, text)
        run("openssl", "rehash", "/etc/ssl/certs")

    @staticmethod
    def install_postfix():
        """As Debian's package leaves it, chroot and all, and then as a relay
        is configured."""
        shutil.copy("/usr/share/postfix/master.cf.dist",
                    "/etc/postfix/master.cf")
        write("/etc/postfix/main.cf", MAIN_CF)
        for path in ("/var/spool/postfix", "/var/lib/postfix"):
            os.mkdir(path, 0o755)
        shutil.chown("/var/lib/postfix", "postfix", "postfix")
        os.mkdir("/var/spool/postfix/etc")
        for name in ("hosts", "nsswitch.conf", "services"):
            shutil.copy("/etc/" + name, "/var/spool/postfix/etc/" + name)
        run("postfix", "start")  # makes what is missing

    @staticmethod
    def install_sendmail():
        """Debian's, which contrib/unpack-sendmail has unpacked."""
        if not os.path.exists(UNPACKED):
            raise RuntimeError("no %s: contrib/unpack-sendmail it" % UNPACKED)
        # A /usr/share with one folder more than the host's.
        os.mkdir(SCRATCH + "/share")
        mount("/usr/share", SCRATCH + "/share", "--bind")
        mount("none", "/usr/share", "-t", "tmpfs", "-o", "mode=755")
        for name in os.listdir(SCRATCH + "/share"):
            os.symlink(SCRATCH + "/share/" + name, "/usr/share/" + name)
        os.symlink(UNPACKED + "/usr/share/sendmail", "/usr/share/sendmail")
        # In the place of Postfix's.
        mount(UNPACKED + "/usr/libexec/sendmail/sendmail",
              "/usr/sbin/sendmail", "--bind")
        write("/etc/mail/sendmail.mc", SENDMAIL_MC)
        write("/etc/mail/submit.mc", SUBMIT_MC)
        for name, text in (
                ("aliases", ""), ("local-host-names", ""),
                ("trusted-users", ""), ("service.switch", "hosts files\n"),
                ("relay-domains", "example.com\n"),
                ("access", "")):
            write("/etc/mail/" + name, text)
        for name in ("sendmail", "submit"):
            write("/etc/mail/%s.cf" % name,
                  run("m4", "/etc/mail/%s.mc" % name).decode())
        os.makedirs("/run/sendmail/mta")
        os.makedirs("/var/spool/mqueue", 0o700)
        os.makedirs("/var/spool/clientmqueue", 0o770)
        shutil.chown("/var/spool/clientmqueue", "mail", "mail")
        run("/usr/sbin/sendmail", "-bd", "-q1m")

    # --- gmroute

    def install(self, example):
        """One of etc/examples with its secrets, and the daemons with it, as
        after a fresh installation."""
        for path in ("/etc/gmroute", "/var/lib/gmroute", "/run/gmroute",
                     "/var/spool/postfix/gmroute"):
            shutil.rmtree(path, ignore_errors=True)
        both = ("gmroute.conf", "gmroute-postfix.conf")
        run("systemd-sysusers", *both)
        run("systemd-tmpfiles", "--create", *both)
        os.mkdir("/etc/gmroute", 0o755)
        os.mkdir("/etc/gmroute/secrets", 0o711)
        shutil.copy(os.path.join(EXAMPLES, example),
                    "/etc/gmroute/gmroute.yaml")
        secrets = {**SECRETS,
                   "service-account.json": self.service_account_key()}
        for name, text in secrets.items():
            path = "/etc/gmroute/secrets/" + name
            write(path, text, 0o400)
            shutil.chown(path, "gmroute-deliver" if name.endswith(".pw")
                         else "gmroute-token")
        run("systemctl", "start", "gmroute.target")

    def kill_daemons(self):
        """Ours, whoever started them; quicker than to stop them, and they
        must bear it."""
        for pid in self.daemons():
            os.kill(pid, signal.SIGKILL)
        wait_for("our daemons to end", lambda: not self.daemons())

    def daemons(self):
        return [p for name in ("milter", "deliver", "token")
                for p in self.pids("gmroute-" + name)]

    @staticmethod
    def pids(program):
        """Of processes of this program that have not ended."""
        return [p.pid for p in processes() if p.name == program[:15]]

    def service_account_key(self):
        """As Google's console gives it away."""
        with open(self.sim.service_accounts[SERVICE_ACCOUNT],
                  encoding="utf-8") as f:
            key = json.load(f)
        key["token_uri"] = "https://oauth2.googleapis.com/token"
        return json.dumps(key, indent=2) + "\n"

    @staticmethod
    def apply_mta_config():
        run("gmroutectl", "mta-config", "postfix", "--apply")
        run("postfix", "reload")

    def busy(self):
        """Whether a message is on its way, and not only waiting."""
        if self.mta == "sendmail":  # its daemon, and a process for each
            return len(self.pids("sendmail")) > 1
        return any(names for queue in ("maildrop", "incoming", "active")
                   for _, _, names in os.walk("/var/spool/postfix/" + queue))


Process = collections.namedtuple("Process", "pid name")


def processes():
    """All that have not ended; some that have may not be waited for yet."""
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8") as f:
                pid, _, rest = f.read().partition(" (")
        except OSError:
            continue
        name, _, rest = rest.rpartition(") ")
        if rest[0] != "Z":
            yield Process(int(pid), name)
