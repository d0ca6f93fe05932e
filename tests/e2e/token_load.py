# token_load - many accounts with short tokens: is each renewed in time, once?
# SPDX-License-Identifier: Apache-2.0
"""Starts a simulator and gmroute-token alone, looks every second, and returns
what was seen. Run by test_token_load.py (small) and tests/bench/tokens."""

import os
import time

from tests.e2e.stack import HEAD, Stack, wait_for


def address(i):
    return "user%04d@example.com" % i


class TokenOnly(Stack):
    """A stack without mail."""

    def __init__(self, count, life_s):
        accounts = "accounts:\n" + "".join("""\
  user{n:04d}:
    address: {a}
    auth: {{{{oauth2: {{{{client: corp,
           refresh_token_file: secrets/{n:04d}.token}}}}}}}}
""".format(n=i, a=address(i)) for i in range(count))
        super().__init__(
            rules="rules: []\n", accounts=accounts, mta=None,
            head=HEAD.replace("accounts: 256", "accounts: 8192"),
            sim={"accounts": [{"address": address(i), "refresh_tokens":
                               ["1//%04d" % i]} for i in range(count)],
                 "settings": {"expires_in": life_s}})
        self.count = count

    def start(self):
        for i in range(self.count):
            self.secret("%04d.token" % i, "1//%04d\n" % i)
        for name in ("deliver", "milter"):
            del self.daemons[name]
        super().start()


def cpu_s(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        words = f.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measure(count, life_s, seconds):
    """{"late": accounts seen without a valid token (second, state, expiry,
    error), "issued": requests for each account, "per_second": requests, "cpu_s": of the daemon, ...}"""
    with TokenOnly(count, life_s) as stack:
        pid = stack.token.process.pid
        begin = time.monotonic()
        wait_for("all to have one",
                 lambda: stack.sim.total()["tokens_issued"] >= count, 120)
        first_s = time.monotonic() - begin
        start, cpu = time.monotonic(), cpu_s(pid)
        asked, late = [stack.sim.total()["token_requests"]], {}
        while time.monotonic() - start < seconds:
            # To the whole second: a look that took long is no busy second.
            time.sleep(max(0, start + len(asked) - time.monotonic()))
            asked.append(stack.sim.total()["token_requests"])
            rows = stack.ctl("tokens", "--json")
            late.update({r["account"]: (len(asked), r["state"], r["expires"],
                                        r["error"])
                         for r in rows
                         if r["state"] != "ok" or r["seconds_left"] <= 0})
            if len(rows) != count:
                raise AssertionError("%d of %d rows" % (len(rows), count))
        took = time.monotonic() - start
        issued = stack.sim.tokens()["issued"]
        return {"first_s": first_s, "seconds": took, "late": late,
                "issued": [issued.get(address(i), 0) for i in range(count)],
                "per_second": [b - a for a, b in zip(asked, asked[1:])],
                "connections": stack.sim.total()["token_connections"],
                "refused": stack.sim.total()["tokens_refused"],
                "cpu_s": cpu_s(pid) - cpu}
