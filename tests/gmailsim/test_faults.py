# test_faults - every fault switch, seen from the client
# SPDX-License-Identifier: Apache-2.0

import base64
import os
import socket
import time
import unittest

from simcase import (PASSWORD, TIMEOUT_S, Closed, SimCase, SimError,
                     plain)

STAGES = ("greeting", "ehlo", "auth", "mail", "rcpt", "data", "end", "rset",
          "noop", "quit", "other")
AFTER_THE_END = 4       # stages by which the message is already accepted


def play(talk, user, until=None):
    """A whole dialogue with DATA; the replies by stage, up to `until`."""
    steps = [("ehlo", "EHLO c.example.com"),
             ("auth", "AUTH PLAIN " + plain(user, PASSWORD)),
             ("mail", "MAIL FROM:<a@b.c>"), ("rcpt", "RCPT TO:<d@e.f>"),
             ("data", "DATA"), ("end", "Subject: x\r\n\r\nx\r\n."),
             ("rset", "RSET"), ("noop", "NOOP"), ("other", "FROB"),
             ("quit", "QUIT")]
    replies = {"greeting": talk.reply()}
    for stage, line in steps:
        if until in replies:
            break
        replies[stage] = talk.cmd(line)
    return replies


class AtEveryStage(SimCase):

    def start(self, stage, what, **more):
        self.sim.clear()
        self.sim.fault(what, stage=stage, **more)
        return self.talk(greet=False)

    def test_drop_and_reset(self):
        for what in ("drop", "reset"):
            for stage in STAGES:
                with self.subTest(what + " at " + stage):
                    talk = self.start(stage, what)
                    with self.assertRaises((Closed, OSError)):
                        play(talk, self.user)
                    talk.close()
        self.assertEqual(len(self.sim.journal()), 2 * AFTER_THE_END)

    def test_drop_is_a_fin_and_reset_an_rst(self):
        for what in ("drop", "reset"):
            with self.subTest(what):
                talk = self.start("noop", what)
                talk.reply()
                talk.ehlo()
                # ssl tells both as the end of the stream, a socket does not
                with socket.socket(fileno=os.dup(talk.sock.fileno())) as raw:
                    raw.settimeout(TIMEOUT_S)
                    talk.send(b"NOOP\r\n")
                    if what == "drop":
                        self.assertEqual(raw.recv(100), b"")
                    else:
                        with self.assertRaises(ConnectionResetError):
                            raw.recv(100)
                talk.close()

    def test_421_closes(self):
        for stage in STAGES:
            with self.subTest(stage):
                talk = self.start(stage, "421")
                reply = play(talk, self.user, until=stage)[stage]
                self.assertReply(reply, 421, "4.3.0 Temporary System Problem")
                self.assertTrue(talk.closed())
                talk.close()
        self.assertEqual(len(self.sim.journal()), AFTER_THE_END)

    def test_own_reply(self):
        for stage in STAGES:
            with self.subTest(stage):
                talk = self.start(stage, "reply",
                                  text="450-4.9.9 one\n450 4.9.9 two {s}")
                reply = play(talk, self.user, until=stage)[stage]
                self.assertEqual(reply[:28], "450-4.9.9 one\n450 4.9.9 two ")
                self.assertTrue(reply.endswith(" - gsmtp"))
                self.assertReply(talk.cmd("NOOP" if stage != "noop" else
                                          "RSET"), 250)
                talk.close()

    def test_slow(self):
        for stage in STAGES:
            with self.subTest(stage):
                talk = self.start(stage, "slow", ms=60)
                began = time.monotonic()
                play(talk, self.user)
                self.assertGreaterEqual(time.monotonic() - began, 0.06)
                talk.close()
        self.assertEqual(len(self.sim.journal()), len(STAGES))

    def test_split_and_coalesce_keep_the_bytes(self):
        plainly = play(self.talk(greet=False), self.user)
        for what in ("split", "coalesce"):
            for stage in STAGES:
                with self.subTest(what + " at " + stage):
                    talk = self.start(stage, what, ms=0.2)
                    replies = play(talk, self.user)
                    self.assertEqual({k: v[:4] for k, v in replies.items()},
                                     {k: v[:4] for k, v in plainly.items()})
                    talk.close()


class Detail(SimCase):

    def test_drop_before_the_final_reply_leaves_it_in_doubt(self):
        self.sim.fault("drop", stage="end", when="before", count=1)
        with self.assertRaises((Closed, OSError)):
            self.logged_in().message()
        self.assertEqual(len(self.sim.journal()), 1)
        self.assertEqual(self.sim.counters(self.user)["accepted"], 1)

    def test_drop_after_the_final_reply(self):
        self.sim.fault("drop", stage="end", when="after", count=1)
        talk = self.logged_in()
        self.assertReply(talk.message(), 250)
        self.assertTrue(talk.closed())
        self.assertEqual(len(self.sim.journal()), 1)

    def test_drop_instead_is_not_accepted(self):
        self.sim.fault("reset", stage="end", count=1)
        with self.assertRaises((Closed, OSError)):
            self.logged_in().message()
        self.assertEqual(self.sim.journal(), [])
        self.assertEqual(self.sim.counters(self.user)["refused"],
                         {"fault": 1})

    def test_hang(self):
        self.sim.fault("hang", stage="mail", count=1)
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\n")
        talk.sock.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            talk.reply()
        self.assertEqual(len(self.sim.sessions()), 1)
        self.assertReply(self.logged_in().message(), 250)

    def test_454_is_for_logins(self):
        self.sim.fault("454", count=1)
        self.assertReply(self.talk().login(self.user), 454, "4.7.0")
        self.assertReply(self.talk().login(self.user), 235)

    def test_named_replies(self):
        talk = self.logged_in()
        for name, code, text in (
                ("daily_limit", 550, "5.4.5"), ("blocked", 552, "p=Blocked"),
                ("rejected_temporarily", 451, "4.3.0"),
                ("email_quota", 550, "5.7.1 Email quota exceeded")):
            self.sim.fault("reply", stage="end", text=name, count=1)
            self.assertReply(talk.message(), code, text)
        self.assertReply(talk.message(), 250)

    def test_recipients(self):
        self.sim.fault("reply", stage="rcpt", recipient="^bad",
                       text="no_such_user")
        self.sim.fault("reply", stage="end", recipient="@late\\.example$",
                       text="550 5.1.1 too late {s}")
        talk = self.logged_in()
        talk.cmd("MAIL FROM:<a@b.c>")
        self.assertReply(talk.cmd("RCPT TO:<good@b.c>"), 250)
        self.assertReply(talk.cmd("RCPT TO:<BAD@b.c>"), 550, "p=NoSuchUser")
        self.assertReply(talk.cmd("RCPT TO:<notbad@b.c>"), 250)
        talk.send(b"BDAT 1 LAST\r\nx")
        self.assertReply(talk.reply(), 250)
        self.assertReply(talk.message(recipients=["a@b.c", "x@late.example"]),
                         550, "5.1.1 too late")
        journal = self.sim.journal()
        self.assertEqual([e["recipients"] for e in journal],
                         [["good@b.c", "notbad@b.c"]])

    def test_senders(self):
        self.sim.fault("reply", stage="mail", sender="^spam@",
                       text="sending_denied")
        talk = self.logged_in()
        self.assertReply(talk.cmd("MAIL FROM:<spam@b.c>"), 550, "5.7.0")
        self.assertReply(talk.cmd("MAIL FROM:<ham@b.c>"), 250)

    def test_count_skip_account_and_clear(self):
        self.sim.account("other@example.com", app_password=PASSWORD)
        ident = self.sim.fault("reply", stage="noop", text="450 no",
                               account=self.user, skip=1, count=2)
        talk, other = self.logged_in(), self.logged_in("other@example.com")
        self.assertEqual([talk.cmd("NOOP")[:3] for _ in range(4)],
                         ["250", "450", "450", "250"])
        self.assertReply(other.cmd("NOOP"), 250)
        rule = self.sim.faults()[0]
        self.assertEqual((rule["id"], rule["hits"], rule["left"]),
                         (ident, 2, 0))
        kept = self.sim.fault("reply", stage="noop", text="450 no")
        self.assertEqual(self.sim.clear(ident), 1)
        self.assertReply(other.cmd("NOOP"), 450)
        self.assertEqual(self.sim.clear(kept), 1)
        self.assertReply(other.cmd("NOOP"), 250)

    def test_close_after_replies(self):
        self.sim.fault("close_after", replies=3, count=1)
        talk = self.talk()
        self.assertReply(talk.ehlo(), 250)
        self.assertReply(talk.cmd("NOOP"), 250)
        self.assertTrue(talk.closed())
        self.sim.fault("close_after", replies=2, account=self.user)
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\n")
        self.assertReply(talk.reply(), 250)
        self.assertTrue(talk.closed())

    def test_garbage(self):
        self.sim.fault("garbage", stage="mail", count=1,
                       bytes_b64=base64.b64encode(b"\0nonsense\r\n").decode())
        talk = self.logged_in()
        self.assertEqual(talk.cmd("MAIL FROM:<a@b.c>"), "\0nonsense")
        self.assertReply(talk.cmd("RCPT TO:<a@b.c>"), 250)

    def test_extra_and_missing_replies(self):
        self.sim.fault("extra", stage="mail", count=1)
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\n")
        self.assertEqual([talk.reply()[:9] for _ in range(3)],
                         ["250 2.1.0", "250 2.0.0", "250 2.1.5"])
        self.sim.fault("missing", stage="rcpt", count=1)
        talk.send(b"RCPT TO:<d@b.c>\r\nBDAT 1 LAST\r\nx")
        self.assertReply(talk.reply(), 250, "2.0.0")
        self.assertEqual(self.sim.journal()[0]["recipients"],
                         ["a@b.c", "d@b.c"])

    def test_split_really_splits(self):
        self.sim.fault("split", stage="noop", ms=5, count=1)
        talk = self.logged_in()
        talk.send(b"NOOP\r\n")
        pieces = []
        while not b"".join(pieces).endswith(b"\r\n"):
            pieces.append(talk.sock.recv(100))
        self.assertGreater(len(pieces), 10)

    def test_coalesce_joins_replies(self):
        self.sim.fault("coalesce", stage="noop", ms=300, count=1)
        talk = self.logged_in()
        talk.send(b"NOOP\r\n")
        time.sleep(0.05)
        talk.send(b"RSET\r\n")
        time.sleep(0.05)
        self.assertEqual(talk.sock.recv(4096).count(b"\r\n"), 2)

    def test_faults_combine(self):
        self.sim.fault("slow", stage="end", ms=50)
        self.sim.fault("split", stage="end")
        self.sim.fault("drop", stage="end", when="after")
        talk = self.logged_in()
        began = time.monotonic()
        self.assertReply(talk.message(), 250)
        self.assertGreaterEqual(time.monotonic() - began, 0.05)
        self.assertTrue(talk.closed())

    def test_slow_keeps_pipelined_order(self):
        self.sim.fault("slow", stage="rcpt", ms=30)
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\n" + b"RCPT TO:<a@b.c>\r\n" * 3 +
                  b"BDAT 1 LAST\r\nxNOOP\r\n")
        self.assertEqual([talk.reply()[:9] for _ in range(6)],
                         ["250 2.1.0"] + ["250 2.1.5"] * 3 + ["250 2.0.0"] * 2)

    def test_connect_stage(self):
        for what in ("drop", "reset"):
            self.sim.fault(what, stage="connect", count=1)
            with self.assertRaises((Closed, OSError)):
                self.talk()
        self.sim.fault("hang", stage="connect", count=1)
        talk = self.talk(self.sim.submission, greet=False)
        talk.sock.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            talk.reply()
        for what, wanted in (("garbage", "\0nonsense"), ("reply", "421 no")):
            self.sim.fault(what, stage="connect", count=1, text="421 no",
                           bytes_b64=base64.b64encode(b"\0nonsense\r\n")
                           .decode())
            talk = self.talk(tls=False)         # clear text on the TLS port
            self.assertEqual(talk.greeting, wanted)
            self.assertTrue(talk.closed())
        self.sim.fault("slow", stage="connect", ms=100, count=1)
        began = time.monotonic()
        self.logged_in()
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        self.sim.fault("slow", stage="connect", ms=50, count=1)
        self.assertReply(self.talk(self.sim.submission).ehlo(), 250)

    def test_challenge_stage(self):
        self.sim.fault("reply", stage="challenge", text="auth_temporary",
                       count=1)
        self.assertReply(self.talk().login(self.user, "wrong"), 454)
        self.sim.fault("drop", stage="challenge", count=1)
        with self.assertRaises((Closed, OSError)):
            self.talk().login(self.user, "wrong")

    def test_starttls_stage(self):
        self.sim.fault("reply", stage="starttls", count=1,
                       text="454 4.7.0 TLS not available")
        talk = self.talk(self.sim.submission)
        talk.ehlo()
        self.assertReply(talk.cmd("STARTTLS"), 454)
        self.sim.fault("slow", stage="starttls", ms=50, count=1)
        self.assertReply(talk.cmd("STARTTLS"), 220)
        talk.secure()
        self.assertReply(talk.login(self.user), 235)
        self.sim.fault("extra", stage="starttls", text="250 injected")
        talk = self.talk(self.sim.submission)
        talk.ehlo()
        talk.send("STARTTLS\r\n")
        talk.reply()
        self.assertEqual(talk.reply(), "250 injected")

    def test_any_stage(self):
        self.sim.fault("slow", stage="any", ms=1)
        self.assertReply(self.logged_in().message(), 250)
        self.assertEqual(self.refresh_grant()[0], 200)
        self.assertEqual(self.sim.faults()[0]["hits"], 6)

    def test_listener(self):
        self.sim.fault("421", stage="greeting", listener="submission")
        self.assertReply(self.talk().greeting, 220)
        self.assertReply(self.talk(self.sim.submission).greeting, 421)

    def test_latency(self):
        talk = self.logged_in()
        self.sim.latency(20)
        began = time.monotonic()
        talk.message()
        self.assertGreaterEqual(time.monotonic() - began, 0.06)
        self.sim.latency(stages={"end": 80})
        began = time.monotonic()
        talk.message()
        self.assertGreaterEqual(time.monotonic() - began, 0.08)
        self.sim.latency(rtt_ms=200)
        began = time.monotonic()
        talk.send(b"NOOP\r\n" * 10)
        for _ in range(10):
            talk.reply()
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        self.assertLess(time.monotonic() - began, 2.0)  # once, not ten times

    def test_bad_rules_change_nothing(self):
        rows = [({"what": "explode"}, "what"), ({}, "what"),
                ({"what": "drop"}, "stage"),
                ({"what": "drop", "stage": "lunch"}, "stage"),
                ({"what": "drop", "stage": "end", "when": "never"}, "when"),
                ({"what": "drop", "stage": "end", "count": "1"}, "count"),
                ({"what": "drop", "stage": "end", "count": True}, "count"),
                ({"what": "drop", "stage": "end", "often": 1}, "often"),
                ({"what": "reply", "stage": "end"}, "text"),
                ({"what": "slow", "stage": "end"}, "ms"),
                ({"what": "cert", "kind": "nice"}, "kind"),
                ({"what": "oauth_error", "row": "nice"}, "row"),
                ({"what": "oauth_error", "stage": "mail"}, "not possible"),
                ({"what": "reply", "stage": "token", "text": "450 x"},
                 "not possible"),
                ({"what": "slow", "stage": "tls", "ms": 1}, "not possible"),
                ({"what": "garbage", "stage": "end", "bytes_b64": "%"},
                 "bytes_b64"),
                ({"what": "reply", "stage": "rcpt", "recipient": "(",
                  "text": "450 x"}, "recipient")]
        for rule, word in rows:
            with self.subTest(rule), self.assertRaisesRegex(SimError, word):
                self.sim.request("POST", "/fault", rule)
        with self.assertRaises(SimError):
            self.sim.request("POST", "/fault",
                             [{"what": "454"}, {"what": "nonsense"}])
        with self.assertRaises(SimError):
            self.sim.latency(-1)
        self.assertEqual(self.sim.faults(), [])


if __name__ == "__main__":
    unittest.main()
