# client - start the simulator from a test, look into it, stop it
# SPDX-License-Identifier: Apache-2.0
"""For tests, benches and the quickstart; needs nothing but the standard
library and may be imported from anywhere:

    with Sim.start({"accounts": [{"address": "me@example.com",
                                  "refresh_tokens": ["secret"]}]}) as sim:
        ... connect to 127.0.0.1, sim.smtps ...
        sim.fault("421", stage="mail", count=1)
        entries = sim.wait_journal(3)
"""

import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlencode

_FOLDER = os.path.dirname(os.path.abspath(__file__))


class SimError(Exception):
    """The simulator did not start, or refused a request."""


class Sim:
    """One running simulator. Attributes from its ready file: pid, host,
    smtps, submission, relay, relay_smtps, imaps, pops, token, control (ports),
    ca_file,
    token_url, auth_url, control_url, journal_dir, state_dir,
    service_accounts (e-mail -> key file)."""

    def __init__(self, process, ready, directory):
        self.process = process
        self.ready = ready
        self.directory = directory
        self.__dict__.update((k, v) for k, v in ready.items()
                             if k != "ports")
        self.ports = ready["ports"]

    @classmethod
    def start(cls, config=None, *, python=None, timeout_s=60, **more):
        """Start one and wait until it is ready. `config` is the configuration
        as a dict, `more` is merged into it."""
        directory = tempfile.mkdtemp(prefix="gmailsim.")
        conf = {"state_dir": os.path.join(directory, "state"),
                **(config or {}), **more}
        conf["ready"] = os.path.join(directory, "ready.json")
        path = os.path.join(directory, "config.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(conf, file)
        log = os.path.join(directory, "log")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [python or sys.executable, _FOLDER, "--config", path,
                 "--exit-with-parent", directory], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output)
        deadline = time.monotonic() + timeout_s
        while not os.path.exists(conf["ready"]):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                with open(log, encoding="utf-8", errors="replace") as file:
                    text = file.read()
                shutil.rmtree(directory, ignore_errors=True)
                raise SimError("gmailsim did not start: " + text)
            time.sleep(0.01)
        with open(conf["ready"], encoding="utf-8") as file:
            return cls(process, json.load(file), directory)

    def __enter__(self):
        return self

    def __exit__(self, *_unused):
        self.stop()

    def stop(self, timeout_s=10):
        """End it and remove its files; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        return self.process.returncode

    def log(self):
        """What it wrote to standard error: empty unless there is a bug."""
        with open(os.path.join(self.directory, "log"), encoding="utf-8",
                  errors="replace") as file:
            return file.read()

    def request(self, method, path, value=None):
        """One request to the control endpoint; the JSON it answers."""
        connection = http.client.HTTPConnection(self.host, self.control,
                                                timeout=30)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise SimError("%s %s: %s" % (method, path,
                                          answer.get("error", answer)))
        return answer

    # --- looking

    def journal(self, since=0, content=True, account=None):
        """Accepted messages after index `since`; content as bytes."""
        query = {"since": since, "content": int(content)}
        if account:
            query["account"] = account
        entries = self.request("GET", "/journal?" + urlencode(query))
        for entry in entries if content else ():
            entry["content"] = base64.b64decode(entry["content"])
        return entries

    def wait_journal(self, count, since=0, timeout_s=30, account=None):
        """The journal, once it holds `count` messages after `since`."""
        deadline = time.monotonic() + timeout_s
        while True:
            entries = self.journal(since, False, account)
            if len(entries) >= count:
                return self.journal(since, True, account)
            if time.monotonic() > deadline:
                raise SimError("%d messages after %d s, not %d" % (
                    len(entries), timeout_s, count))
            time.sleep(0.05)

    def counters(self, address=None, window_s=None):
        """All counters, or those of one account; peaks for windows of that
        length."""
        query = {"window_s": window_s} if window_s else {}
        if address:
            query["account"] = address
        counters = self.request("GET", "/counters?" + urlencode(query))
        return counters["accounts"][address] if address else counters

    def total(self):
        """The counters of everything together."""
        return self.counters()["total"]

    def tokens(self, address=None):
        """{"issued": {address: count}, "live": [..]}"""
        query = "?" + urlencode({"address": address}) if address else ""
        return self.request("GET", "/tokens" + query)

    def sessions(self):
        """Open sessions."""
        return self.request("GET", "/sessions")

    def faults(self):
        """Rules in force, with their hits."""
        return self.request("GET", "/fault")

    # --- meddling

    def fault(self, what, **more):
        """Set a fault switch; its id."""
        return self.request("POST", "/fault", {"what": what, **more})["id"]

    def clear(self, ident=None):
        """Clear one fault switch, or all."""
        return self.request("POST", "/fault", {
            "clear": True if ident is None else ident})["cleared"]

    def account(self, address, **changes):
        """Add or change an account."""
        return self.request("POST", "/account",
                            {"address": address, **changes})

    def client(self, client_id, **changes):
        """Add or change an OAuth2 client."""
        return self.request("POST", "/client",
                            {"client_id": client_id, **changes})

    def revoke(self, address=None, **more):
        """Revoke access tokens; refresh=True the refresh tokens as well;
        sessions= expire, push, drop or keep."""
        if address:
            more["address"] = address
        return self.request("POST", "/revoke", more)

    def latency(self, ms=0, **more):
        """Delay replies: ms=, stages={..}, rtt_ms=, token_ms=."""
        return self.request("POST", "/latency", {"ms": ms, **more})

    def settings(self, **changes):
        """Change settings; all of them."""
        return self.request("POST", "/settings", changes)

    def reset(self):
        """Empty journal, counters, faults and latency."""
        return self.request("POST", "/reset", {})
