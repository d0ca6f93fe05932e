# test_life - start, configuration, control endpoint, journal, end
# SPDX-License-Identifier: Apache-2.0

import contextlib
import glob
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from simcase import PASSWORD, Sim, SimCase, SimError, Talk

from gmailsim import __main__ as program
from gmailsim import load

FOLDER = os.path.dirname(os.path.abspath(__file__))


def run(*args, **more):
    return subprocess.run([sys.executable, FOLDER, *args], timeout=30,
                          capture_output=True, text=True, **more)


class CommandLine(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="gmailsim.")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name, content=None):
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content if isinstance(content, str) else
                           json.dumps(content))
        return path

    def spawn(self, *args):
        process = subprocess.Popen([sys.executable, FOLDER, *args],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_help(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        for word in ("--config", "--ready", "--state-dir", "--profile",
                     "--smtps-port", "--control-port", "example:"):
            self.assertIn(word, result.stdout)

    def test_flags_and_standard_output(self):
        process = self.spawn("--account", "a@example.com:" + PASSWORD,
                             "--refresh-token", "b@example.com=r",
                             "--profile", "2020", "--expires-in", "5")
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            self.assertTrue(line, "ended early")
            text += line
        ready = json.loads(text)
        sim = Sim(process, ready, self.directory)
        with Talk(sim) as talk:
            self.assertEqual(talk.login("a@example.com"),
                             "235 2.7.0 Accepted")
            talk.cmd("MAIL FROM:<a@b.c>")
            talk.cmd("RCPT TO:<a@b.c>")
            self.assertTrue(talk.cmd("DATA").startswith("354  Go"))
        process.terminate()
        self.assertEqual(process.wait(10), 0)
        self.assertFalse(os.path.exists(ready["state_dir"]))

    def test_ready_file_and_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            ready, state = self.path("ready"), self.path("state")
            process = self.spawn("--ready", ready, "--state-dir", state)
            deadline = time.monotonic() + 10
            while not os.path.exists(ready):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            with open(ready, encoding="utf-8") as file:
                content = json.load(file)
            self.assertEqual(content["pid"], process.pid)
            for port in ("smtps", "submission", "relay", "relay_smtps",
                         "token", "control"):
                self.assertGreater(content[port], 0)
            self.assertTrue(os.path.exists(content["ca_file"]))
            sim = Sim(process, content, self.directory)
            with Talk(sim) as talk:             # open while it is told to end
                talk.ehlo()
                process.send_signal(number)
                self.assertEqual(process.wait(10), 0)
                self.assertTrue(talk.closed())
            self.assertFalse(os.path.exists(ready))
            self.assertEqual(glob.glob(ready + "*"), [])

    def test_ends_with_its_parent(self):
        ready = self.path("ready")
        script = ("import subprocess, sys, time, os\n"
                  "subprocess.Popen([sys.executable, %r, '--ready', %r,"
                  "'--exit-with-parent'])\n"
                  "while not os.path.exists(%r): time.sleep(0.01)\n"
                  % (FOLDER, ready, ready))
        subprocess.run([sys.executable, "-c", script], timeout=30, check=True)
        self.until_gone(ready)
        script = ("import sys\nsys.path.insert(0, %r)\n"
                  "from client import Sim\n"
                  "print(Sim.start().directory)\n" % FOLDER)
        result = subprocess.run([sys.executable, "-c", script], timeout=30,
                                check=True, capture_output=True, text=True)
        self.until_gone(result.stdout.strip())

    def until_gone(self, path):
        deadline = time.monotonic() + 10
        while os.path.exists(path):
            self.assertLess(time.monotonic(), deadline, "still there")
            time.sleep(0.05)

    def test_bad_configurations(self):
        rows = [
            ("{", "line 1 column 2"), ("[]", "must be an object"),
            ({"colour": 1}, "unknown key 'colour'"),
            ({"ports": {"http": 1}}, "unknown key 'http'"),
            ({"ports": {"smtps": "25"}}, "bad value '25'"),
            ({"ports": {"smtps": 99999}}, "cannot listen"),
            ({"settings": {"idle": 1}}, "unknown key 'idle'"),
            ({"settings": {"idle_s": True}}, "bad value True"),
            ({"settings": {"profile": "1999"}}, "unknown profile"),
            ({"accounts": [{"app_password": "x"}]}, "needs address"),
            ({"accounts": [{"address": "x"}]}, "address, not 'x'"),
            ({"accounts": [{"address": "x@y", "pw": 1}]}, "unknown key pw"),
            ({"accounts": [{"address": "x@y", "flags": {"ok": 1}}]},
             "unknown flag ok"),
            ({"accounts": [{"address": "x@y", "limits": {"apples": 1}}]},
             "unknown limit 'apples'"),
            ({"auto_accounts": [{"limits": {}}]}, "needs domain"),
            ({"clients": [{"client_id": "x", "secret": "y"}]},
             "unknown key secret"),
            ({"service_accounts": [{"email": "a@b"}]}, "no public key"),
            ({"service_accounts": [{"email": "a@b", "public_key": "x"}]},
             "no PEM public key"),
            ({"faults": [{"what": "explode"}]}, "unknown 'explode'"),
            ({"latency": {"ms": -1}}, "bad value"),
        ]
        for content, text in rows:
            with self.subTest(content):
                errors = io.StringIO()
                with contextlib.redirect_stderr(errors):
                    status = program.main([
                        "--config", self.path("c.json", content),
                        "--state-dir", self.path("state")])
                self.assertEqual(status, 2)
                self.assertIn(text, errors.getvalue())
                self.assertEqual(errors.getvalue().count("\n"), 1)
        result = run("--config", "/none")
        self.assertEqual(result.returncode, 2)
        self.assertIn("No such file", result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_sim_start_reports_why_it_failed(self):
        with self.assertRaisesRegex(SimError, "unknown key 'colour'"):
            Sim.start({"colour": "red"})

    def test_start_is_quick(self):
        began = time.monotonic()
        with Sim.start():
            self.assertLess(time.monotonic() - began, 5)

    def test_journal_goes_on_after_a_restart(self):
        config = {"state_dir": self.path("state"),
                  "accounts": [{"address": "a@example.com",
                                "app_password": PASSWORD}]}
        for index in (1, 2):
            with Sim.start(config) as sim, Talk(sim) as talk:
                talk.login("a@example.com")
                talk.message(b"message %d" % index)
                self.assertEqual([e["index"] for e in sim.journal()],
                                 list(range(1, index + 1)))
        self.assertEqual(sorted(os.listdir(self.path("state/journal"))),
                         ["00000001.eml", "00000002.eml", "journal.jsonl"])


class Looking(SimCase):
    """Journal and control endpoint."""

    def test_files_are_there_before_the_reply(self):
        talk = self.logged_in()
        directory = self.sim.journal_dir
        for index in range(1, 20):
            body = b"message %d\r\n" % index
            self.assertReply(talk.message(body), 250)
            with open(os.path.join(directory, "%08d.eml" % index),
                      "rb") as file:
                self.assertEqual(file.read(), body)
            with open(os.path.join(directory, "journal.jsonl"),
                      "rb") as file:
                lines = file.read().splitlines()
            self.assertEqual(len(lines), index)
            self.assertEqual(json.loads(lines[-1])["index"], index)

    def test_journal_queries(self):
        self.sim.account("other@example.com", app_password=PASSWORD)
        for user in (self.user, "other@example.com", self.user):
            self.logged_in(user).message(user.encode())
        self.assertEqual([e["index"] for e in self.sim.journal(since=1)],
                         [2, 3])
        self.assertEqual(self.sim.journal(since=3), [])
        mine = self.sim.journal(account=self.user)
        self.assertEqual([e["index"] for e in mine], [1, 3])
        self.assertEqual(mine[0]["content"], self.user.encode())
        self.assertNotIn("content", self.sim.journal(content=False)[0])
        self.assertEqual(len(self.sim.wait_journal(3)), 3)
        with self.assertRaisesRegex(SimError, "3 messages"):
            self.sim.wait_journal(4, timeout_s=0.2)

    def test_a_journal_that_cannot_be_written_means_451(self):
        with tempfile.TemporaryDirectory(prefix="gmailsim.") as directory, \
                Sim.start({"journal_dir": directory + "/j", "accounts": [
                    {"address": self.user, "app_password": PASSWORD}]}
                          ) as sim, Talk(sim) as talk:
            talk.login(self.user)
            os.rename(directory + "/j", directory + "/gone")
            self.assertReply(talk.message(), 451, "4.3.0")
            self.assertEqual(sim.counters(self.user)["accepted"], 0)
            os.rename(directory + "/gone", directory + "/j")
            self.assertReply(talk.message(), 250)
            self.assertIn("journal:", sim.log())

    def test_reset(self):
        self.sim.account(self.user, limits={"messages": 1})
        talk = self.logged_in()
        self.assertReply(talk.message(), 250)
        self.assertReply(talk.message(), 550)
        self.sim.fault("421", stage="mail")
        self.sim.latency(1)
        self.sim.reset()
        self.assertEqual((self.sim.journal(), self.sim.faults()), ([], []))
        self.assertEqual(self.sim.total()["accepted"], 0)
        self.assertEqual(self.sim.total()["sessions"], 1)
        self.assertEqual(os.listdir(self.sim.journal_dir), ["journal.jsonl"])
        self.assertReply(talk.message(), 250)
        self.assertEqual(self.sim.journal()[0]["index"], 1)

    def test_sessions(self):
        talk = self.logged_in()
        talk.message()
        self.assertEqual(self.sim.sessions(), [{
            "session": self.sid_of(talk), "listener": "smtps",
            "account": self.user, "transactions": 1, "commands": 5,
            "tls": "TLSv1.3", "helo": "client.example.com"}])

    def test_bad_requests(self):
        rows = [("GET", "/nothing", None, 404), ("POST", "/journal", {}, 404),
                ("GET", "/journal?since=x", None, 400),
                ("GET", "/counters?window_s=-1", None, 400),
                ("GET", "/counters?window_s=0", None, 400),
                ("POST", "/account", {"address": "x"}, 400),
                ("POST", "/account", [], 400),
                ("POST", "/account", {"address": self.user, "limits": 5},
                 400),
                ("POST", "/account", {"address": self.user, "flags": 5}, 400),
                ("POST", "/revoke", {}, 400),
                ("POST", "/revoke", {"address": "a@b", "sessions": "x"}, 400),
                ("POST", "/settings", {"size": "x"}, 400),
                ("POST", "/settings", {"profile": "1999"}, 400),
                ("POST", "/latency", {"stages": {"lunch": 1}}, 400),
                ("POST", "/client", {"secret": "x"}, 400)]
        before = self.sim.request("GET", "/settings")
        for method, path, value, status in rows:
            with self.subTest("%s %s %s" % (method, path, value)):
                data = None if value is None else json.dumps(value).encode()
                request = urllib.request.Request(
                    self.sim.control_url + path, data, method=method)
                with self.assertRaises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(request, timeout=10)
                self.assertEqual(caught.exception.code, status)
                self.assertIn("error", json.loads(caught.exception.read()))
                caught.exception.close()
        request = urllib.request.Request(self.sim.control_url + "/fault",
                                         b"{not json")
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        self.assertEqual(caught.exception.code, 400)
        caught.exception.close()
        self.assertEqual(self.sim.request("GET", "/settings"), before)

    def test_load_generator_counts_what_was_accepted(self):
        self.sim.account("load@example.com", app_password="loadloadloadload")
        result = load.measure(self.sim.ready, sessions=4, seconds=0.3)
        self.assertEqual(self.sim.total()["accepted"], result["messages"])
        self.assertGreater(result["messages"], 0)


if __name__ == "__main__":
    unittest.main()
