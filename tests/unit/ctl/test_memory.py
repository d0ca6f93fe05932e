#!/usr/bin/python3
"""gmroutectl's looks at shared memory: test_memory.py GMROUTECTL MAKE_MEMORY

MAKE_MEMORY makes quota, status and hints with known contents; some tests then
change an octet or two of them, by the offsets of milter/state/README.md.
"""
import datetime
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import unittest

CTL = MAKE = None
CONFIG = """\
gmroute: 1
milter: {{listen: "unix:{top}/milter.sock"}}
state: {{directory: "{top}/state", runtime: "{top}/run", accounts: {slots}}}
accounts:
  news: {{address: news@example.com, auth: {{password_file: no}},
         quota: {{messages: 2 per 1h, bytes: 300MB per 24h}}}}
  sales: {{address: sales@example.com, auth: {{password_file: no}},
          quota: {{messages: 100 per 24h}}}}
  boss: {{address: boss@example.com, auth: {{password_file: no}},
         quota: {{messages: 100 per 24h, pace: 1 per 1m}}}}
  staff: {{address: "*@staff.example.com", auth: {{service_account:
          {{key_file: no}}}}, quota: {{messages: 100 per 24h}}}}
default: mta
"""
HEARTBEAT, RETIRED, STAT = 96, 84, 104
ODD = 'o"x\\y@staff.example.com'


class Memory(unittest.TestCase):
    many, slots = 0, 64

    def setUp(self):
        on = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.top = tempfile.mkdtemp(prefix="gmroute.", dir=on)
        self.addCleanup(shutil.rmtree, self.top)
        self.run_dir = os.path.join(self.top, "run")
        os.mkdir(self.run_dir)
        self.config = os.path.join(self.top, "gmroute.yaml")
        pathlib.Path(self.config).write_text(
            CONFIG.format(top=self.top, slots=self.slots), "utf-8")

    def make(self):
        subprocess.run([MAKE, self.config, str(self.many)], check=True,
                       timeout=120)
        self.milter = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.milter.close)
        self.milter.bind(os.path.join(self.top, "milter.sock"))
        self.milter.listen(9)

    def ctl(self, *words, status=0, given=""):
        done = subprocess.run(
            [CTL, "-c", self.config, *words], input=given.encode(),
            capture_output=True, timeout=60, check=False,
            env={"TZ": "UTC", "LC_ALL": "C"})
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, status, out + err)
        self.err = err
        return json.loads(out) if "--json" in words and out else out

    def poke(self, segment, offset, fmt, value):
        with open(os.path.join(self.run_dir, segment), "r+b") as f:
            f.seek(offset)
            f.write(struct.pack(fmt, value))

    def slot_of(self, identity):
        """The offset of an account's slot in quota."""
        data = pathlib.Path(self.run_dir, "quota").read_bytes()
        size, n = struct.unpack_from("=II", data, 20)
        at, = struct.unpack_from("=Q", data, 56)
        for i in range(n):
            begin = at + i * size
            if data[begin + 160:begin + 480].rstrip(b"\0") == \
                    identity.encode():
                return begin
        raise KeyError(identity)


class Known(Memory):
    def setUp(self):
        super().setUp()
        self.make()

    def test_status_says_what_is_wrong_first(self):
        out = self.ctl("status", status=1)
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^! boss@example.com is paused: a holi")
        self.assertRegex(
            lines[1], r"^! news@example.com is full since .* \(.* ago\); "
            r"room returns in (59|60|61) min \(.*\); 3 messages wait$")
        self.assertRegex(lines[2], r"^! sales@example.com is cooling, ends in "
                         r"60 min \(.*\): 450 4.2.1 too \"fast\"$")
        self.assertEqual(lines[3], "! sales@example.com: token needs_login: "
                         "invalid_grant: expired or revoked")
        self.assertEqual(lines[4], "")
        for program in ("deliver", "token"):
            self.assertRegex(out, rf"(?m)^{program} +up, process \d+")
        self.assertIn("milter    up\n", out)
        self.assertIn("accounts  4, 2 ok, 1 cooling, 1 paused; 1 full\n", out)
        self.assertIn("waiting   3 messages tried and put off; 2 accepted and "
                      "not yet tried\n", out)
        self.assertIn("filter    9 messages; recipients: 8 routed", out)

    def test_status_for_scripts(self):
        s = self.ctl("status", "--json", status=1)
        self.assertFalse(s["good"])
        self.assertEqual(
            [(p["problem"], p["account"], p["urgent"])
             for p in s["problems"]],
            [("paused", "boss@example.com", True),
             ("full", "news@example.com", True),
             ("cooling", "sales@example.com", True),
             ("token", "sales@example.com", True)])
        self.assertTrue(s["deliver"]["up"] and s["token"]["up"] and
                        s["milter"]["up"])
        self.assertEqual(s["deliver"]["sent"], 98)
        self.assertEqual(s["deliver"]["waiting_messages"], 3)

    def test_who_does_not_live_is_down(self):
        self.poke("quota", HEARTBEAT, "=Q", int(time.time()) - 100)
        self.milter.close()
        s = self.ctl("status", "--json", status=1)
        self.assertEqual([p["problem"] for p in s["problems"]][:2],
                         ["down", "down"])
        self.assertFalse(s["deliver"]["up"] or s["milter"]["up"])
        self.assertTrue(s["token"]["up"])
        self.assertEqual(s["deliver"]["accounts"], 4)  # as it was last
        self.assertIn("no sign of life", s["problems"][0]["text"])

    def test_what_a_loss_of_power_cost(self):
        self.assertIsNone(
            self.ctl("status", "--json", status=1)["deliver"]["loss"])
        os.mkdir(os.path.join(self.top, "state"))
        book = sqlite3.connect(os.path.join(self.top, "state", "ledger.db"))
        book.executescript(
            "PRAGMA application_id = 0x676d7274; PRAGMA user_version = 2;"
            "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER);")
        book.executemany("INSERT INTO meta VALUES(?, ?)", {
            "loss_at_ms": int((time.time() - 7200) * 1000),
            "loss_accounts": 12, "loss_messages": 60, "loss_recipients": 81,
            "loss_octets": 99000, "begun": 1}.items())
        book.commit()
        loss = self.ctl("status", "--json", status=1)["deliver"]["loss"]
        self.assertAlmostEqual(loss.pop("at_in_s"), -7200, delta=60)
        del loss["at"]
        self.assertEqual(loss, {"accounts": 12, "messages": 60,
                                "recipients": 81, "octets": 99000})
        self.assertRegex(
            self.ctl("status", status=1), r"(?m)^- the machine went down while "
            r"mail was sent: 12 accounts were charged for 60 messages, 81 "
            r"recipients and 99000 octets that may have been in flight, .*ago")
        book.execute("UPDATE meta SET value = value - 90000000 "
                     "WHERE key = 'loss_at_ms'")
        book.commit()
        book.close()
        self.assertNotIn("went down", self.ctl("status", status=1))

    def test_a_ledger_in_trouble(self):
        self.poke("quota", STAT, "=Q", int(time.time()) - 100)
        self.assertRegex(self.ctl("status", status=1),
                         r"! the ledger in .* cannot be written, since .* \(1"
                         r"0\d s ago\): nothing is sent until it can")
        self.assertRegex(self.ctl("metrics"),
                         r"(?m)^gmroute_ledger_trouble_seconds 10\d$")

    def test_accounts(self):
        rows = self.ctl("accounts", "--json")
        self.assertEqual([r["account"] for r in rows],
                         ["boss@example.com", "news@example.com", ODD,
                          "sales@example.com"])
        news = rows[1]
        self.assertEqual(
            [news[k] for k in ("state", "full", "sessions_open",
                               "sessions_busy", "sent", "deferred",
                               "waiting_messages", "waiting_recipients",
                               "coming_messages", "logins", "token")],
            ["ok", True, 2, 1, 2, 3, 3, 4, 2, 1, "ok"])
        self.assertEqual(news["fullest"], {
            "dimension": "messages", "window_s": 3600, "used": 2, "limit": 2,
            "percent": 100})
        self.assertAlmostEqual(news["room_returns_in_s"], 3600, delta=30)
        self.assertIsNone(rows[0]["token"])
        self.assertEqual(rows[3]["fullest"]["percent"], 95)
        for words, want in (
                (["--state", "cooling"], ["sales@example.com"]),
                (["--full"], ["news@example.com"]),
                (["--waiting"], ["news@example.com"]),
                (["--limit", "1"], ["boss@example.com"])):
            self.assertEqual([r["account"] for r in self.ctl(
                "accounts", "--json", *words)], want, words)
        self.assertEqual(self.ctl("accounts", "--state", "disabled", "--json",
                                  status=1), [])
        text = self.ctl("accounts", "--limit", "2")
        self.assertEqual(len(text.splitlines()), 4)
        self.assertTrue(text.endswith("... and 2 more\n"))
        self.ctl("accounts", "--state", "fine", status=2)
        self.ctl("accounts", "--limit", "0", status=2)

    def test_quota_of_one(self):
        for name in ("news", "news@example.com", "NEWS@Example.com"):
            account, = self.ctl("quota", name, "--json", "--room", "2")
            self.assertEqual(account["account"], "news@example.com")
        messages, octets = account["windows"]
        self.assertEqual(
            [messages[k] for k in ("used", "limit", "used_percent", "room")],
            [2, 2, 100, 0])
        self.assertAlmostEqual(messages["room_returns_in_s"], 3600, delta=30)
        self.assertLessEqual(abs(messages["full_since_in_s"]), 30)
        self.assertFalse(messages["room_for"]["never"])
        self.assertEqual((octets["used"], octets["room_returns"]),
                         (1000, None))
        # Five messages more, two an hour: the last an hour or two later.
        self.assertAlmostEqual(account["through_in_s"], 3 * 3600, delta=60)
        self.assertIsNone(account["waiting_since"])  # there is no ledger
        stamp = datetime.datetime.strptime(messages["room_returns"],
                                           "%Y-%m-%dT%H:%M:%SZ")
        self.assertAlmostEqual(
            stamp.replace(tzinfo=datetime.timezone.utc).timestamp(),
            time.time() + messages["room_returns_in_s"], delta=5)
        account, = self.ctl("quota", "news", "--json", "--room", "3")
        self.assertTrue(account["windows"][0]["room_for"]["never"])
        self.assertRegex(
            self.ctl("quota", "news", "--room", "3"),
            r"messages +2 of +2 used \(100%\) in 60 min, room 0; full since "
            r".* \(.* ago\); room returns in .*; for 3 never: that is over")

    def test_which_account(self):
        self.assertEqual(self.ctl("quota", "sale", status=2), "")
        self.assertIn('did you mean "sales"?', self.err)
        self.ctl("quota", "sales@exmaple.com", status=2)
        self.assertIn('did you mean "sales@example.com"?', self.err)
        self.ctl("quota", "staff", status=2)
        self.assertIn("is a template", self.err)
        self.assertEqual(self.ctl("quota", "ann@staff.example.com", "--json",
                                  status=1), [])
        self.assertIn(ODD, self.ctl("quota", ODD))

    def test_a_torn_slot_hides_one_account_alone(self):
        at = self.slot_of("news@example.com")
        self.poke("quota", at, "=I", 3)
        rows = self.ctl("accounts", "--json", status=1)
        self.assertEqual(len(rows), 3)
        self.assertIn("cannot be read", self.err)
        self.assertEqual(len(self.ctl("quota", "--json", status=1)), 3)
        self.ctl("quota", "news", status=2)
        s = self.ctl("status", "--json", status=1)
        self.assertIn("memory", [p["problem"] for p in s["problems"]])
        accounts = {dict(labels).get("account") for name, labels
                    in parse_metrics(self.ctl("metrics"))
                    if name == "gmroute_account_deliveries_total"}
        self.assertEqual(accounts, {"boss@example.com", "sales@example.com",
                                    ODD})

    def test_a_retired_segment_without_a_new_one_is_still_read(self):
        """An agent that died between its new file and the old one's mark."""
        self.poke("quota", RETIRED, "=I", 1)
        self.assertEqual(len(self.ctl("accounts", "--json")), 4)

    def test_sessions_and_tokens(self):
        self.assertEqual(self.ctl("sessions", "--json"), [
            {"account": "news@example.com", "open": 2, "busy": 1, "max": 3,
             "logins": 1, "sent": 2}])
        token, = self.ctl("tokens", "news", "--json")
        self.assertEqual(token["state"], "ok")
        self.assertAlmostEqual(token["seconds_left"], 3000, delta=30)
        self.assertEqual(len(self.ctl("tokens", "--json")), 2)
        self.assertEqual(self.ctl("tokens", "boss", "--json", status=1), [])

    def test_top(self):
        top = self.ctl("top", "--json", "--interval", "0.3")
        self.assertEqual((top["sent"], top["waiting_messages"],
                          top["sessions_open"]), (0, 3, 2))
        self.assertEqual(top["accounts"][0]["account"], "news@example.com")
        self.assertGreaterEqual(top["interval_s"], 0.3)
        self.assertIn("returns in", self.ctl("top", "--once", "--limit", "1"))
        self.ctl("top", status=2)
        self.assertIn("no terminal", self.err)
        for bad in ("0", "nan", "1x", "-1", "1e9"):
            self.ctl("top", "--once", "--interval", bad, status=2)

    def test_top_counts_what_is_sent_meanwhile(self):
        begun = subprocess.Popen(
            [CTL, "-c", self.config, "top", "--json", "--interval", "1.5"],
            stdout=subprocess.PIPE)
        time.sleep(0.7)
        at = self.slot_of("boss@example.com")
        self.poke("quota", at + 496, "=Q", 7)  # count[QUOTA_SENT]
        top = json.loads(begun.communicate(timeout=30)[0])
        first = top["accounts"][0]
        self.assertEqual((first["account"], first["sent"]),
                         ("boss@example.com", 7))
        self.assertAlmostEqual(first["sent_per_minute"],
                               7 * 60 / top["interval_s"], places=3)

    def test_top_on_a_terminal_leaves_it_as_it_was(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(CTL, [CTL, "-c", self.config, "top", "--interval",
                           "0.2"])
        out = b""
        while out.count(b"\033[H") < 2:
            out += os.read(terminal, 65536)
        os.kill(pid, signal.SIGWINCH)
        while out.count(b"\033[H") < 5:
            out += os.read(terminal, 65536)
        os.kill(pid, signal.SIGINT)
        try:
            while more := os.read(terminal, 65536):
                out += more
        except OSError:
            pass
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        os.close(terminal)
        self.assertIn(b"news@example.com", out)
        self.assertTrue(out.startswith(b"\033[?1049h\033[?25l"), out[:40])
        self.assertTrue(out.endswith(b"\033[?25h\033[?1049l"), out[-40:])

    def test_reset_wants_a_yes(self):
        self.ctl("quota-reset", "news", status=2, given="y\n")
        self.assertIn("--yes", self.err)
        self.ctl("quota-reset", "news", "--yes", status=2)
        self.assertIn("gmroute-deliver does not run: start it", self.err)
        for answer, status in (("n", 1), ("y", 2)):
            pid, terminal = pty.fork()
            if pid == 0:
                os.execv(CTL, [CTL, "-c", self.config, "quota-reset", "news"])
            out = b""
            while b"[y/N] " not in out:
                out += os.read(terminal, 65536)
            os.write(terminal, answer.encode() + b"\n")
            try:
                while more := os.read(terminal, 65536):
                    out += more
            except OSError:
                pass
            self.assertEqual(os.WEXITSTATUS(os.waitpid(pid, 0)[1]), status)
            os.close(terminal)
            self.assertIn(b"nothing was changed", out)

    def test_divert_wants_two_accounts(self):
        self.ctl("divert", "news", status=2)
        self.ctl("divert", "news", "news@example.com", status=2)
        self.assertIn("the same account", self.err)
        self.ctl("divert", "news", "slaes", status=2)
        self.assertIn('did you mean "sales"?', self.err)
        for words in (["divert", "news", "sales"], ["divert", "--end", "news"],
                      ["pause", "news"], ["resume", "news"]):
            self.ctl(*words, status=2)
            self.assertIn("nothing was changed", self.err)

    def test_requests_to_the_agent(self):
        """What goes over the socket."""
        agent = socket.socket(socket.AF_UNIX)
        self.addCleanup(agent.close)
        agent.bind(os.path.join(self.run_dir, "control.sock"))
        agent.listen(1)
        for words, line in (
                (["pause", "news", "too", "much"],
                 b"pause news@example.com too much\n"),
                (["resume", "NEWS@example.com"], b"resume news@example.com\n"),
                (["divert", "news", "ann@staff.example.com"],
                 b"divert news@example.com ann@staff.example.com\n"),
                (["divert", "--end", "news"], b"divert-end news@example.com\n"),
                (["quota-reset", "--yes", "news"],
                 b"quota-reset news@example.com\n")):
            for answer, status in ((b"ok so be it\n", 0), (b"no why\n", 1)):
                begun = subprocess.Popen(
                    [CTL, "-c", self.config, "--json", *words],
                    stdout=subprocess.PIPE)
                peer, _ = agent.accept()
                with peer:
                    self.assertEqual(peer.recv(2000), line)
                    peer.sendall(answer)
                out = json.loads(begun.communicate(timeout=30)[0])
                self.assertEqual(begun.returncode, status)
                self.assertEqual(out, {"done": status == 0,
                                       "answer": answer[3:-1].decode()})


SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')


def parse_metrics(text):
    """Prometheus' text format 0.0.4, strictly: {(name, labels): value}."""
    samples, types, current = {}, {}, None
    assert text.endswith("\n")
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in types, f"{current} stands in two places"
            kind = next(lines).split(" ")
            assert kind[:3] == ["#", "TYPE", current], kind
            assert kind[3] in ("gauge", "counter", "histogram")
            assert len(kind) == 4
            types[current] = kind[3]
            continue
        match = SAMPLE.match(line)
        assert match, line
        name, inside, value = match.groups()
        if types[current] == "histogram":
            assert name in [current + part for part in (
                "_bucket", "_sum", "_count")], f"{name} among {current}"
        else:
            assert name == current, f"{name} among {current}"
        assert (types[current] == "counter") == name.endswith("_total"), name
        labels, at = [], 0
        while inside and at < len(inside):
            label = LABEL.match(inside, at)
            assert label, line
            labels.append((label[1], re.sub(
                r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])))
            at = label.end()
        key = (name, tuple(sorted(labels)))
        assert key not in samples, key
        samples[key] = float(value)
    return samples


class Metrics(Memory):
    def test_known(self):
        self.make()
        m = parse_metrics(self.ctl("metrics"))

        def get(name, **labels):
            return m["gmroute_" + name, tuple(sorted(labels.items()))]

        news = {"account": "news@example.com"}
        self.assertEqual(get("account_quota_used_messages", **news,
                             window_seconds="3600"), 2)
        self.assertEqual(get("account_quota_limit_messages", **news,
                             window_seconds="3600"), 2)
        self.assertEqual(get("account_quota_used_bytes", **news,
                             window_seconds="86400"), 1000)
        self.assertEqual(get("account_quota_limit_pace_messages",
                             account="boss@example.com",
                             window_seconds="60"), 1)
        self.assertEqual(get("account_deliveries_total", **news,
                             outcome="deferred"), 3)
        self.assertEqual(get("account_session_reuse_ratio", **news), 0.5)
        self.assertEqual(get("account_waiting_messages", **news), 3)
        self.assertEqual(get("account_state_info", state="paused",
                             account="boss@example.com"), 1)
        self.assertAlmostEqual(get(
            "account_state_ends_timestamp_seconds",
            account="sales@example.com"), time.time() + 3600, delta=60)
        self.assertAlmostEqual(get("token_left_seconds", **news), 3000,
                               delta=30)
        self.assertEqual(get("account_quota_used_messages", account=ODD,
                             window_seconds="86400"), 1)
        self.assertEqual(get("daemon_up", program="gmroute-deliver"), 1)
        self.assertEqual(get("milter_recipients_total", action="routed"), 8)
        self.assertEqual([get("decision_duration_seconds_bucket", le=le)
                          for le in ("1e-05", "2e-05", "0.0005", "0.001",
                                     "+Inf")], [0, 1, 1, 2, 2])
        self.assertAlmostEqual(get("decision_duration_seconds_sum"), 0.000615)
        self.assertEqual(get("decision_duration_seconds_count"), 2)

    def test_nothing_there(self):
        m = parse_metrics(self.ctl("metrics"))
        self.assertEqual(sorted(m.values()), [0, 0])


class NoDaemons(Memory):
    def test_all_say_so(self):
        s = self.ctl("status", "--json", status=1)
        self.assertEqual([p["problem"] for p in s["problems"]],
                         ["down", "down", "down"])
        out = self.ctl("status", status=1)
        self.assertIn("deliver   down\ntoken     down\nmilter    down\n", out)
        for words in (["accounts"], ["quota"], ["quota", "news"], ["sessions"],
                      ["top", "--once"], ["tokens"], ["accounts", "--json"],
                      ["quota", "--json"], ["tokens", "--json"]):
            self.assertEqual(self.ctl(*words, status=2), "", words)
            self.assertIn("running", self.err, words)


class Many(Memory):
    many, slots = 3000, 4096

    def test_lists_of_all(self):
        self.make()
        rows = [r["account"] for r in self.ctl("accounts", "--json")]
        self.assertEqual(len(rows), 3004)
        self.assertEqual(rows, sorted(rows))
        self.assertEqual(len(self.ctl("quota", "--json")), 3004)
        self.assertEqual(len(self.ctl("top", "--json", "--interval",
                                      "0.1")["accounts"]), 3004)
        parse_metrics(self.ctl("metrics"))


if __name__ == "__main__":
    CTL, MAKE = (os.path.abspath(p) for p in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
