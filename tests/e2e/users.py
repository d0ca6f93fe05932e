# users - the shipped users, groups and directories, below one test's directory
# SPDX-License-Identifier: Apache-2.0
"""Reads contrib/sysusers and contrib/tmpfiles, gives each of our users and
groups a number that nobody has, and makes the directories. Real accounts are
not needed: the kernel knows numbers alone."""

import glob
import grp
import json
import os
import pwd
import shutil
import subprocess
import sys

from tests.e2e.stack import BUILD, HEAD, PROGRAMS, ROOT, Daemon, Stack

FIRST_ID = 64100
STRANGER = {"user": 64099, "group": 64099, "extra_groups": []}
HEAD_USERS = HEAD.replace("{top}/milter/milter.sock",
                          "{top}/spool/gmroute/milter.sock")
# Where the shipped paths lie in a test.
MOVED = {"/run/gmroute": "run", "/var/lib/gmroute": "state",
         "/var/spool/postfix": "spool"}

# Tries things and says how each of them ended.
PROBE = r"""
import errno, json, mmap, os, socket, sys

def attempt(what, path):
    if what == "list":
        os.listdir(path)
    elif what == "connect":
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
    elif what == "make":
        os.close(os.open(path + "/.probe", os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path + "/.probe")
    elif what == "move":
        os.rename(path, path + ".moved")
        os.rename(path + ".moved", path)
    else:
        flags = {"read": os.O_RDONLY, "write": os.O_RDWR}[what]
        fd = os.open(path, flags | os.O_NONBLOCK)
        if what == "read" and os.fstat(fd).st_size >= 4096:
            mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ).close()
        os.close(fd)

ends = []
for what, path in json.load(sys.stdin):
    try:
        attempt(what, path)
        ends.append("ok")
    except OSError as e:
        ends.append(errno.errorcode[e.errno])
json.dump(ends, sys.stdout)
"""


def lines_of(folder):
    for path in sorted(glob.glob(os.path.join(ROOT, "contrib", folder,
                                              "*.conf"))):
        with open(path, encoding="ascii") as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    yield line.split()


class Users:
    """name -> number, and who is in which group."""

    def __init__(self):
        self.users, self.groups, self.members = {}, {}, {}
        for kind, name, *rest in lines_of("sysusers"):
            if kind == "g":
                self.groups[name] = FIRST_ID + len(self.groups)
            elif kind == "u":
                group = rest[0].split(":")[1]
                self.users[name] = (FIRST_ID + 50 + len(self.users),
                                    self.groups[group])
            elif kind == "m":
                self.members.setdefault(name, []).append(rest[0])

    def uid(self, name):
        return self.users[name][0] if name in self.users \
            else pwd.getpwnam(name).pw_uid

    def gid(self, name):
        return self.groups[name] if name in self.groups \
            else grp.getgrnam(name).gr_gid

    def identity(self, name):
        """One of our users, for subprocess."""
        uid, gid = self.users[name]
        return {"user": uid, "group": gid, "extra_groups": [
            self.gid(group) for group in self.members.get(name, [])]}

    def person(self, *groups):
        """Somebody who is in these groups alone."""
        return {**STRANGER, "extra_groups": [self.gid(g) for g in groups]}

    def make_directories(self, top):
        for kind, path, mode, user, group in lines_of("tmpfiles"):
            assert kind == "d", kind
            for shipped, here in MOVED.items():
                if path == shipped or path.startswith(shipped + "/"):
                    path = os.path.join(top, here) + path[len(shipped):]
            os.makedirs(path, exist_ok=True)
            os.chown(path, self.uid(user), self.gid(group))
            os.chmod(path, int(mode, 8))


class UserDaemon(Daemon):
    def start(self, *args, **more):
        self.stack.users.make_directories(self.stack.top) # as a boot does
        super().start(*args, **more)

    def command(self):
        first, *rest = super().command()
        return [os.path.join(self.stack.top, "bin", os.path.basename(first)),
                *rest]

    def identity(self):
        unit = "gmroute-" + self.name
        umask = 0o027 if self.name == "deliver" else 0o077
        return {**self.stack.users.identity(unit), "umask": umask}


class UserStack(Stack):
    """A stack whose daemons have the users, groups and directories of the
    package."""

    def __init__(self, **options):
        super().__init__(head=HEAD_USERS, **options)
        self.users = Users()
        self.daemons = {n: UserDaemon(self, n) for n in self.daemons}
        # The build may lie where only we may go.
        os.mkdir(os.path.join(self.top, "bin"))
        for program in PROGRAMS.values():
            shutil.copy(os.path.join(BUILD, program),
                        os.path.join(self.top, "bin"))
        os.chmod(os.path.join(self.top, "secrets"), 0o711)

    def secret(self, name, text):
        super().secret(name, text)
        owner = "deliver" if name.endswith(".pw") else "token"
        os.chown(os.path.join(self.top, "secrets", name),
                 self.users.uid("gmroute-" + owner), -1)

    def write_config(self, *args, **values):
        # The simulator's own directory is closed, too.
        shutil.copy(self.sim.ca_file, self.path("ca.pem"))
        super().write_config(*args, ca=self.path("ca.pem"), **values)

    def path(self, name):
        return os.path.join(self.top, name)

    def ctl_as(self, who, *words):
        """gmroutectl as somebody else: status, output, errors."""
        done = subprocess.run(
            [self.path("bin/gmroutectl"), "-c", self.config_file, *words],
            capture_output=True, timeout=60, check=False, cwd="/", **who)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def attempts_as(self, who, attempts):
        """How each (what, path) ends for somebody."""
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROBE], timeout=60, check=True,
            input=json.dumps([(w, self.path(p)) for w, p in attempts]),
            text=True, stdout=subprocess.PIPE, cwd="/", **who)
        return json.loads(done.stdout)
