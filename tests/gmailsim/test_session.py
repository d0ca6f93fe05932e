# test_session - the SMTP dialogue, over real TLS sockets
# SPDX-License-Identifier: Apache-2.0

import time
import unittest

from simcase import Closed, SimCase

EHLO_TLS = """\
250-smtp.gmail.com at your service, [127.0.0.1]
250-SIZE 35882577
250-8BITMIME
250-AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH
250-ENHANCEDSTATUSCODES
250-PIPELINING
250-CHUNKING
250 SMTPUTF8"""


class Texts(SimCase):
    """Wording, byte for byte."""

    def test_greeting_and_ehlo_inside_tls(self):
        talk = self.talk()
        self.assertRegex(talk.greeting, r"^220 smtp\.gmail\.com ESMTP "
                         r"[0-9a-f]{13}-[0-9a-f]{12}sm\d+[a-z]{3}\.\d+ - "
                         r"gsmtp$")
        self.assertEqual(talk.ehlo(), EHLO_TLS)

    def test_ehlo_in_clear_has_starttls_in_place_of_auth(self):
        talk = self.talk(self.sim.submission)
        self.assertEqual(talk.ehlo(), "\n".join(
            "250-STARTTLS" if line.startswith("250-AUTH") else line
            for line in EHLO_TLS.split("\n")))

    def test_helo_is_one_line(self):
        talk = self.talk(self.sim.relay)
        self.assertEqual(talk.cmd("HELO mail.example.com"),
                         "250 smtp-relay.gmail.com at your service")

    def test_every_reply_of_a_transaction(self):
        talk = self.logged_in()
        end = " %s - gsmtp" % self.sid_of(talk)
        say = talk.cmd
        self.assertEqual(say("MAIL FROM:<a@b.example>"), "250 2.1.0 OK" + end)
        self.assertEqual(say("RCPT TO:<c@d.example>"), "250 2.1.5 OK" + end)
        self.assertEqual(say("DATA"), "354 Go ahead" + end)
        self.assertRegex(say("Subject: x\r\n\r\nx\r\n."),
                         r"^250 2\.0\.0 OK  \d{10}" + end)
        self.assertEqual(say("RSET"), "250 2.1.5 Flushed" + end)
        self.assertEqual(say("NOOP"), "250 2.0.0 OK" + end)
        say("MAIL FROM:<a@b.example>")
        say("RCPT TO:<c@d.example>")
        self.assertEqual(say("BDAT 0 LAST"), "250 2.0.0 OK" + end)
        self.assertEqual(say("QUIT"), "221 2.0.0 closing connection" + end)
        self.assertTrue(talk.closed())

    def test_older_profiles(self):
        self.sim.settings(profile="2015")
        talk = self.talk()
        self.assertRegex(talk.greeting, r"^220 mx\.google\.com ESMTP "
                         r"[a-z]\d+sm\d+[a-z]{3}\.\d+ - gsmtp$")
        ehlo = talk.ehlo()
        for word in ("PIPELINING", "CHUNKING", "SMTPUTF8", "OAUTHBEARER"):
            self.assertNotIn(word, ehlo)
        self.assertReply(talk.login(self.user, password="x"), 535, "5.7.1")
        self.sim.settings(profile="2020")
        talk = self.logged_in()
        talk.cmd("MAIL FROM:<a@b.example>")
        talk.cmd("RCPT TO:<a@b.example>")
        self.assertTrue(talk.cmd("DATA").startswith("354  Go ahead "))

    def test_ehlo_keywords_can_be_left_out(self):
        self.sim.settings(ehlo_without=["CHUNKING", "PIPELINING"])
        ehlo = self.talk().ehlo()
        self.assertNotIn("CHUNKING", ehlo)
        self.assertNotIn("PIPELINING", ehlo)
        self.assertIn("250 SMTPUTF8", ehlo)


class Order(SimCase):
    """Commands in the wrong place or form. Rows: name, dialogue before, the
    command, code, text."""

    READY = ["EHLO c.example.com", "AUTH"]
    MAIL = READY + ["MAIL FROM:<a@b.example>"]
    RCPT = MAIL + ["RCPT TO:<c@d.example>"]
    ROWS = [
        ("MAIL before EHLO", [], "MAIL FROM:<a@b.c>", 503, "EHLO/HELO first"),
        ("AUTH before EHLO", [], "AUTH PLAIN", 503, "EHLO/HELO first"),
        ("MAIL before AUTH", ["EHLO c.example"], "MAIL FROM:<a@b.c>", 530,
         "p=WantAuthError"),
        ("RCPT before MAIL", READY, "RCPT TO:<a@b.c>", 503, "MAIL first"),
        ("DATA before MAIL", READY, "DATA", 503, "MAIL first"),
        ("DATA before RCPT", MAIL, "DATA", 503, "RCPT first"),
        ("BDAT before MAIL", READY, "BDAT 0 LAST", 503, "MAIL first"),
        ("BDAT before RCPT", MAIL, "BDAT 0 LAST", 503, "RCPT first"),
        ("second MAIL", MAIL, "MAIL FROM:<a@b.c>", 503, "5.5.1"),
        ("DATA after BDAT", RCPT + ["BDAT 0"], "DATA", 503,
         "503 5.5.1 No DATA after BDAT"),
        ("RCPT after BDAT", RCPT + ["BDAT 0"], "RCPT TO:<a@b.c>", 503, ""),
        ("AUTH again", READY, "AUTH PLAIN AGEAYg==", 503,
         "503 5.7.0 No identity changes permitted"),
        ("STARTTLS inside TLS", ["EHLO c.example"], "STARTTLS", 454,
         "5.5.1 STARTTLS may not be repeated"),
        ("STARTTLS with a parameter", ["EHLO c.example"], "STARTTLS x", 501,
         "5.7.11"),
        ("unknown command", READY, "FROB", 502, "5.5.1 Unrecognized"),
        ("EXPN", READY, "EXPN list", 502, "5.5.1 Unimplemented"),
        ("empty line", READY, "", 502, "5.5.1"),
        ("NUL in a command", READY, "NOOP \0", 555, "5.5.2"),
        ("MAIL without brackets", READY, "MAIL FROM:a@b.c", 555, "5.5.2"),
        ("MAIL with a display name", READY, "MAIL FROM:A <a@b.c>", 555, ""),
        ("MAIL without FROM", READY, "MAIL <a@b.c>", 555, "5.5.2"),
        ("MAIL with RET=", READY, "MAIL FROM:<a@b.c> RET=HDRS", 555, "5.5.2"),
        ("MAIL with BINARYMIME", READY, "MAIL FROM:<a@b.c> BODY=BINARYMIME",
         555, "5.5.2"),
        ("MAIL with BODY alone", READY, "MAIL FROM:<a@b.c> BODY", 555, ""),
        ("MAIL with SIZE=x", READY, "MAIL FROM:<a@b.c> SIZE=x", 555, ""),
        ("MAIL with SIZE twice", READY, "MAIL FROM:<a@b.c> SIZE=1 SIZE=1",
         555, ""),
        ("bad sender", READY, "MAIL FROM:<a b@c>", 553, "5.1.7"),
        ("sender in UTF-8 without SMTPUTF8", READY, "MAIL FROM:<\xe4@b.c>",
         553, "5.1.7"),
        ("RCPT with NOTIFY=", MAIL, "RCPT TO:<a@b.c> NOTIFY=NEVER", 555, ""),
        ("empty recipient", MAIL, "RCPT TO:<>", 555, "5.5.2"),
        ("recipient without domain", MAIL, "RCPT TO:<postmaster>", 553,
         "553 5.1.3 The recipient address <postmaster> is not a valid"),
        ("recipient with two ats", MAIL, "RCPT TO:<a@b@c>", 553, "5.1.3"),
        ("DATA with a parameter", RCPT, "DATA now", 555, "5.5.2"),
        ("RSET with a parameter", READY, "RSET now", 555, "5.5.2"),
        ("QUIT with a parameter", READY, "QUIT now", 555, "5.5.2"),
        ("VRFY", READY, "VRFY x", 252, "2.1.5"),
    ]

    def test_rows(self):
        for name, before, command, code, text in self.ROWS:
            with self.subTest(name), self.talk() as talk:
                for line in before:
                    if line == "AUTH":
                        self.assertReply(talk.login(self.user), 235)
                    else:
                        self.assertReply(talk.cmd(line), 250)
                reply = talk.cmd(command)
                self.assertReply(reply, code, text)
                self.assertTrue(reply.endswith(
                    self.sid_of(talk) + " - gsmtp"), reply)
                self.assertReply(talk.cmd("NOOP"), 250)     # still in step

    def test_good_addresses(self):
        talk = self.logged_in()
        for command in ("MAIL FROM:<>", "MAIL FROM:<a@b.c> BODY=8BITMIME",
                        "MAIL FROM: <a@b.c> SIZE=1000", "MAIL FROM:<a@b.c> "
                        "AUTH=a@b.c",
                        'MAIL FROM:<"a > b"@b.c>', "mail from:<a@[1.2.3.4]>",
                        "MAIL FROM:<@x.y,@z.a:a@b.c>",
                        "MAIL FROM:<\xe4@\xf6.example> SMTPUTF8"):
            with self.subTest(command):
                self.assertReply(talk.cmd(command), 250, "2.1.0")
                self.assertReply(talk.cmd("RCPT TO:<a+b=c@d.example>"), 250)
                self.assertReply(talk.cmd("RSET"), 250)

    def test_helo_arguments(self):
        rows = [("EHLO", "Empty"), ("EHLO  ", "Empty"),
                ("HELO", "Empty"), ("EHLO a b", "a b"), ("EHLO <x>", "<x>")]
        for command, text in rows:
            with self.subTest(command):
                talk = self.talk()
                self.assertReply(talk.cmd(command), 501, text)
                self.assertTrue(talk.closed())
        for name in ("localhost", "[127.0.0.1]", "[IPv6:::1]", "a_b.example"):
            with self.subTest(name):
                self.assertReply(self.talk().ehlo(name), 250)

    def test_generic_helo_is_refused_by_the_relay_or_when_strict(self):
        self.sim.settings(strict_helo=True)
        for talk in (self.talk(self.sim.relay), self.talk()):
            reply = talk.ehlo("localhost")
            self.assertReply(reply, 421, "Try again later, closing "
                             "connection. (EHLO)")
            self.assertTrue(talk.closed())
        self.assertReply(self.talk().ehlo("relay.example.com"), 250)

    def test_too_many_unknown_commands(self):
        self.sim.settings(max_unknown_commands=3)
        talk = self.talk()
        for _ in range(3):
            self.assertReply(talk.cmd("FROB"), 502, "Unrecognized")
        self.assertReply(talk.cmd("FROB"), 502, "goodbye")
        self.assertTrue(talk.closed())

    def test_too_many_commands_before_login(self):
        self.sim.settings(max_unauthenticated_commands=5)
        talk = self.talk()
        for _ in range(5):
            talk.cmd("NOOP")
        self.assertReply(talk.cmd("NOOP"), 554, "5.7.0")
        self.assertTrue(talk.closed())

    def test_overlong_lines(self):
        talk = self.talk()
        talk.ehlo()
        self.assertReply(talk.cmd("NOOP " + "x" * 3000), 500, "5.5.2")
        self.assertTrue(talk.closed())
        talk = self.talk()
        talk.send(b"x" * 3000)          # no line end at all
        self.assertReply(talk.reply(), 500)
        self.assertTrue(talk.closed())

    def test_bare_lf_ends_no_command(self):
        talk = self.talk()
        talk.send(b"EHLO x.example\n")
        self.assertReply(talk.reply(), 555, "5.5.2")

    def test_ehlo_resets_the_transaction_and_keeps_the_login(self):
        talk = self.logged_in()
        talk.cmd("MAIL FROM:<a@b.example>")
        talk.cmd("RCPT TO:<a@b.example>")
        self.assertEqual(talk.ehlo(), EHLO_TLS)
        self.assertReply(talk.cmd("DATA"), 503, "MAIL first")
        self.assertReply(talk.cmd("MAIL FROM:<a@b.example>"), 250)


class Messages(SimCase):
    """Content, envelope and journal."""

    ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

    def data(self, talk, content):
        talk.send(self.ENVELOPE + b"DATA\r\n")
        for _ in range(3):
            talk.reply()
        talk.send(content)
        return talk.reply()

    def contents(self):
        return [entry["content"] for entry in self.sim.journal()]

    def test_data_is_unstuffed_and_nothing_else(self):
        rows = [
            (b".\r\n", b""),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"..x\r\n...\r\nend\r\n.\r\n", b".x\r\n..\r\nend\r\n"),
            (b".x\r\n.\r\n", b"x\r\n"),
            (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
            (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
            (b"a\r.\rb\0\xff\xfe\r\n.\r\n", b"a\r.\rb\0\xff\xfe\r\n"),
        ]
        talk = self.logged_in()
        for sent, _ in rows:
            self.assertReply(self.data(talk, sent), 250, "2.0.0 OK")
        self.assertEqual(self.contents(), [kept for _, kept in rows])

    def test_data_in_single_bytes(self):
        talk = self.logged_in()
        talk.send(self.ENVELOPE + b"DATA\r\n")
        for _ in range(3):
            talk.reply()
        for byte in b"..a\r\n..\r\n.\r\n":
            talk.send(bytes([byte]))
        self.assertReply(talk.reply(), 250)
        talk.send(self.ENVELOPE + b"DATA\r\n")
        for _ in range(3):
            talk.reply()
        for byte in b".\r\n":
            talk.send(bytes([byte]))
            time.sleep(0.01)
        self.assertReply(talk.reply(), 250)
        self.assertEqual(self.contents(), [b".a\r\n.\r\n", b""])

    def test_bdat_is_exact(self):
        talk = self.logged_in()
        body = bytes(range(256)) * 300
        talk.send(self.ENVELOPE)
        talk.reply(), talk.reply()
        talk.send(b"BDAT %d\r\n" % 1000 + body[:1000])
        self.assertReply(talk.reply(), 250)
        talk.send(b"BDAT 0\r\n")
        self.assertReply(talk.reply(), 250)
        talk.send(b"BDAT %d LAST\r\n" % len(body[1000:]) + body[1000:])
        self.assertReply(talk.reply(), 250)
        self.assertEqual(self.contents(), [body])

    def test_pipelined_flights(self):
        talk = self.logged_in()
        flight = self.ENVELOPE + b"BDAT 6 LAST\r\nx\r\n.\r\n"
        talk.send(flight * 50)
        replies = [talk.reply() for _ in range(150)]
        self.assertEqual([r[:9] for r in replies],
                         ["250 2.1.0", "250 2.1.5", "250 2.0.0"] * 50)
        self.assertEqual(self.contents(), [b"x\r\n.\r\n"] * 50)

    def test_pipelined_with_refused_recipients(self):
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<x>\r\nRCPT TO:<ok@d.e>\r\n"
                  b"RCPT TO:<>\r\nDATA\r\n")
        self.assertEqual([talk.reply()[:3] for _ in range(5)],
                         ["250", "553", "250", "555", "354"])
        talk.send(b"x\r\n.\r\n")
        self.assertReply(talk.reply(), 250)
        self.assertEqual(self.sim.journal()[0]["recipients"], ["ok@d.e"])

    def test_bdat_after_refusals_is_swallowed(self):
        talk = self.logged_in()
        talk.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<x>\r\nBDAT 6 LAST\r\nQUIT\r\n"
                  b"NOOP\r\n")
        self.assertEqual([talk.reply()[:3] for _ in range(4)],
                         ["250", "553", "503", "250"])
        self.assertEqual(self.contents(), [])

    def test_bdat_arguments(self):
        for argument in ("", "x", "-1", "1 LAST x", "1 FIRST",
                         "9" * 30):
            with self.subTest(argument):
                talk = self.logged_in()
                talk.send(self.ENVELOPE)
                talk.reply(), talk.reply()
                self.assertReply(talk.cmd("BDAT " + argument), 555)
                self.assertTrue(talk.closed())

    def test_size_at_mail(self):
        talk = self.logged_in()
        self.assertReply(talk.cmd("MAIL FROM:<a@b.c> SIZE=35882577"), 250)
        talk.cmd("RSET")
        reply = talk.cmd("MAIL FROM:<a@b.c> SIZE=35882578")
        self.assertReply(reply, 552, "?p=MaxSizeError")
        self.assertIn("552-5.3.4", reply)
        self.sim.settings(profile="2020")
        self.assertIn("552-5.2.3", talk.cmd("MAIL FROM:<a@b.c> SIZE=99999999"))

    def test_size_at_end_of_content(self):
        self.sim.settings(size=100000)
        talk = self.logged_in()
        body = b"x" * 99 + b"\r\n"
        self.assertReply(self.data(talk, body * 3000 + b".\r\n"), 552,
                         "MaxSizeError")
        self.assertReply(self.data(talk, body * 10 + b".\r\n"), 250)
        self.assertReply(talk.message(body * 3000), 552, "MaxSizeError")
        talk.send(self.ENVELOPE + b"BDAT 100001\r\n" + b"x" * 100001)
        self.assertEqual([talk.reply()[:3] for _ in range(3)],
                         ["250", "250", "552"])
        talk.send(b"BDAT 1 LAST\r\nx")
        self.assertReply(talk.reply(), 552)
        self.assertEqual(self.contents(), [body * 10])
        self.assertEqual(self.sim.counters(self.user)["refused"],
                         {"too_large": 3})

    def test_large_message(self):
        talk = self.logged_in()
        body = (b"." + b"y" * 76 + b"\r\n") * 100000
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        self.assertReply(self.data(talk, b"." + stuffed + b".\r\n"), 250)
        self.assertEqual(self.contents(), [body])

    def test_hundred_recipients(self):
        talk = self.logged_in()
        talk.cmd("MAIL FROM:<a@b.c>")
        talk.send(b"".join(b"RCPT TO:<r%d@d.e>\r\n" % i for i in range(101)))
        replies = [talk.reply() for _ in range(101)]
        self.assertEqual({r[:9] for r in replies[:100]}, {"250 2.1.5"})
        self.assertReply(replies[100], 452, "?p=TooManyRecipientsError")
        self.assertIn("452-4.5.3", replies[100])
        talk.send(b"BDAT 1 LAST\r\nx")
        self.assertReply(talk.reply(), 250)
        self.assertEqual(len(self.sim.journal()[0]["recipients"]), 100)

    def test_envelope_in_the_journal(self):
        talk = self.logged_in()
        talk.cmd("MAIL FROM:<\xe4@b.example> SMTPUTF8 BODY=8BITMIME SIZE=3")
        talk.cmd('RCPT TO:<"q u"@d.example>')
        talk.send(b"BDAT 3 LAST\r\nabc")
        talk.reply()
        entry = self.sim.journal()[0]
        wanted = {"index": 1, "sender": "\xe4@b.example", "size": 3,
                  "recipients": ['"q u"@d.example'], "account": self.user,
                  "login": "PLAIN", "session": self.sid_of(talk),
                  "method": "BDAT", "helo": "client.example.com",
                  "parameters": {"SMTPUTF8": None, "BODY": "8BITMIME",
                                 "SIZE": "3"}, "content": b"abc",
                  "listener": "smtps", "transaction": 1}
        self.assertEqual({k: entry[k] for k in wanted}, wanted)
        self.assertLess(abs(entry["time"] - time.time()), 60)

    def test_message_cut_off_is_not_accepted(self):
        for end in (b"DATA\r\nhalf", b"BDAT 10 LAST\r\nhalf"):
            talk = self.logged_in()
            talk.send(self.ENVELOPE + end)
            talk.reply(), talk.reply()
            talk.close()
        self.until(lambda: not self.sim.sessions())
        self.assertEqual(self.sim.journal(), [])

    def test_reset_forgets_recipients(self):
        talk = self.logged_in()
        talk.send(self.ENVELOPE + b"RSET\r\nDATA\r\n")
        self.assertEqual([talk.reply()[:3] for _ in range(4)],
                         ["250", "250", "250", "503"])


class Lifetime(SimCase):
    """Sessions that end by themselves."""

    def test_age(self):
        self.sim.settings(max_age_s=0.8)
        talk = self.logged_in()
        time.sleep(0.9)
        reply = talk.cmd("MAIL FROM:<a@b.c>")
        self.assertReply(reply, 421, "421 4.7.0 Connection expired, try "
                         "reconnecting")
        self.assertTrue(talk.closed())

    def test_idle(self):
        self.sim.settings(idle_s=0.6)
        talk = self.logged_in()
        self.assertReply(talk.reply(), 451,
                         "451 4.4.2 Timeout - closing connection. ")
        self.assertTrue(talk.closed())

    def test_token_expiry_ends_the_session(self):
        self.sim.settings(expires_in=0.8)
        token = self.access_token()
        talk = self.talk()
        self.assertReply(talk.login(self.user, token), 235)
        time.sleep(0.9)
        self.assertReply(talk.cmd("NOOP"), 421, "Connection expired")
        self.assertTrue(talk.closed())
        self.assertReply(self.talk().login(self.user, token), 334)

    def test_token_expiry_can_be_pushed_or_ignored(self):
        self.sim.settings(expires_in=0.8, push_expiry=True)
        pushed = self.talk()
        pushed.login(self.user, self.access_token())
        self.assertReply(pushed.reply(), 421, "Connection expired")
        self.sim.settings(push_expiry=False)
        self.sim.account(self.user, flags={"close_on_token_expiry": False})
        kept = self.talk()
        kept.login(self.user, self.access_token())
        time.sleep(0.9)
        self.assertReply(kept.message(), 250)

    def test_revocation_and_open_sessions(self):
        rows = [("expire", "421"), ("push", "421"), ("drop", None),
                ("keep", "250")]
        for what, code in rows:
            with self.subTest(what):
                token = self.access_token()
                talk = self.talk()
                self.assertReply(talk.login(self.user, token), 235)
                answer = self.sim.revoke(self.user, sessions=what)
                self.assertEqual(answer["sessions"], 1)
                try:
                    reply = talk.reply() if what == "push" else \
                        talk.cmd("MAIL FROM:<a@b.c>")
                    self.assertEqual(reply[:3], code)
                except (Closed, OSError):
                    self.assertIsNone(code)
                talk.close()
                self.until(lambda: not self.sim.sessions())
                with self.talk() as other:
                    self.assertReply(other.login(self.user, token), 334)


if __name__ == "__main__":
    unittest.main()
