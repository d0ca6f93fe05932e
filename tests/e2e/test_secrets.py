# test_secrets - secrets are where they belong, and nowhere else
# SPDX-License-Identifier: Apache-2.0

import os
import re
import resource
import signal
import subprocess
import sys
import unittest

from tests.e2e.stack import Stack, wait_for

# Opens the shared memory as the milter's user would; prints what it can read.
AS_ANOTHER_USER = """
import mmap, os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as f:
            mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            print(path)
    except PermissionError:
        pass
"""


def memory(pid, anonymous_only=False):
    """What is mapped and readable, region by region."""
    with open("/proc/%d/maps" % pid, encoding="ascii") as maps, \
            open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (r)\S+ \S+ \S+ (\d+) *(.*)",
                         line)
            if not m or m[5] in ("[vvar]", "[vvar_vclock]", "[vsyscall]") or \
                    (anonymous_only and m[4] != "0"):
                continue
            start, end = int(m[1], 16), int(m[2], 16)
            try:
                mem.seek(start)
                yield m[5], mem.read(end - start)
            except (OSError, OverflowError):
                continue    # reserved and not there


# Of an endpoint that repeats what it was sent.
ECHO = ('{"error": "invalid_grant", "error_description": '
        '"1//planted-refresh", "error_uri": "planted-client-secret"}')


class Secrets(unittest.TestCase):
    def planted(self, stack):
        with open(os.path.join(stack.top, "secrets/sa.json")) as f:
            key = re.findall(r"[A-Za-z0-9+/]{60,}", f.read())
        return {"client secret": "planted-client-secret",
                "refresh token": "1//planted-refresh",
                "app password": "qzvxkwjyhbgftmpr",
                "app password as written": "qzvx kwjy hbgf tmpr",
                "private key": key[len(key) // 2][:50]}

    def absent(self, secrets, where, data):
        for name, value in secrets.items():
            self.assertNotIn(value.encode(), data, "%s in %s" % (name, where))

    def send_some(self, stack):
        for sender in ("sales", "alice", "news"):
            stack.send(sender + "@example.com", "x@far.test")
        stack.sim.wait_journal(3)
        live = stack.sim.tokens()["live"]
        # Failures have texts.
        stack.sim.fault("http", status=400, body=ECHO,
                        content_type="application/json")
        stack.sim.revoke("sales@example.com", sessions="push")
        stack.send("sales@example.com", "y@far.test")
        stack.send("bob@example.com", "y@far.test")
        wait_for("failures to be told", lambda: len(
            [t for t in stack.ctl("tokens", "--json", status=None)
             if t["error"]]) == 2)
        stack.sim.clear()
        return {"access token of " + t["address"]: t["token"] for t in live}

    def test_nothing_leaks(self):
        before = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, before)
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        sim = {"accounts": [
            {"address": "sales@example.com",
             "refresh_tokens": ["1//planted-refresh"]},
            {"address": "news@gmail.com",
             "app_password": "qzvx kwjy hbgf tmpr"},
            {"address": "alice@example.com"}, {"address": "bob@example.com"}],
            "clients": [{"client_id": "123.apps.googleusercontent.com",
                         "client_secret": "planted-client-secret"}]}
        with SecretStack(sim=sim) as stack:
            secrets = self.planted(stack)
            tokens = self.send_some(stack)
            self.assertGreaterEqual(len(tokens), 2)
            pids = {n: d.process.pid for n, d in stack.daemons.items()}

            for name, pid in pids.items():
                for part in ("cmdline", "environ", "comm"):
                    with open("/proc/%d/%s" % (pid, part), "rb") as f:
                        self.absent({**secrets, **tokens}, name, f.read())
            # Who has no business with it does not have it; who has had it
            # has wiped it.
            for place, data in memory(pids["milter"]):
                self.absent({**secrets, **tokens}, "milter " + place, data)
                self.assertNotIn("/run/token", place)
            for place, data in memory(pids["deliver"]):
                self.absent({k: v for k, v in secrets.items()
                             if "password" not in k}, "agent " + place, data)
            for place, data in memory(pids["token"], anonymous_only=True):
                self.absent({**secrets, **tokens}, "token " + place, data)

            for words in (["tokens"], ["quota"], ["log"], ["status"]):
                out = stack.ctl(*words, status=None)
                self.absent({**secrets, **tokens}, " ".join(words),
                            out.encode())
            self.crash_all(stack, {**secrets, **tokens})
            self.files(stack, {**secrets, **tokens})

    def crash_all(self, stack, secrets):
        with open("/proc/sys/kernel/core_pattern", encoding="ascii") as f:
            to_file = f.read().strip() == "core" and \
                resource.getrlimit(resource.RLIMIT_CORE)[0] != 0
        for name, daemon in stack.daemons.items():
            daemon.process.send_signal(signal.SIGSEGV)
            daemon.process.wait()
            cores = [f for f in os.listdir(stack.top) if f.startswith("core")]
            # The milter has no secret, and its core may be looked at.
            if name != "milter" or to_file:
                self.assertEqual(len(cores), int(name == "milter"), name)
            for core in cores:
                path = os.path.join(stack.top, core)
                with open(path, "rb") as f:
                    self.absent(secrets, "the milter's core", f.read())
                os.unlink(path)

    def files(self, stack, secrets):
        seen = 0
        for folder, names, files in os.walk(stack.top):
            if os.path.relpath(folder, stack.top) in ("secrets",
                                                      "state/tokens"):
                names.clear()
                continue
            for name in files:
                path = os.path.join(folder, name)
                if path == os.path.join(stack.top, "run/token") or \
                        not os.path.isfile(path):
                    continue
                with open(path, "rb") as f:
                    self.absent(secrets, path, f.read())
                seen += 1
        self.assertGreater(seen, 10)
        self.assertEqual(
            os.stat(os.path.join(stack.top, "run/token")).st_mode & 0o777,
            0o600)

    def test_another_user_cannot_map_tokens(self):
        with Stack(mta=None) as stack:
            run = os.path.join(stack.top, "run")
            os.chmod(run, 0o755)
            # The others are readable by a group; here by everybody, so that
            # the trial is known to be able to succeed.
            os.chmod(os.path.join(run, "status"), 0o644)
            paths = [os.path.join(run, n) for n in ("status", "token")]
            wait_for("a token", lambda: stack.sim.total()["tokens_issued"])
            done = subprocess.run([sys.executable, "-c", AS_ANOTHER_USER,
                                   *paths], capture_output=True, check=True)
            self.assertEqual(done.stdout.decode().split(), paths[:1])


class SecretStack(Stack):
    """With the planted secrets, and a place for cores."""

    def secret(self, name, text):
        super().secret(name, {"corp.secret": "planted-client-secret",
                              "sales.token": "1//planted-refresh\n",
                              "news.pw": "qzvx kwjy hbgf tmpr"}.get(
                                  name, text))


if __name__ == "__main__":
    unittest.main()
