# test_login - AUTH in all its forms, and logins that are limited
# SPDX-License-Identifier: Apache-2.0

import base64
import json
import unittest

from simcase import PASSWORD, Sim, SimCase, Talk, b64, plain, xoauth2

ERROR = ("334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHR"
         "wczovL21haWwuZ29vZ2xlLmNvbS8ifQ==")


class Mechanisms(SimCase):

    def test_plain(self):
        rows = [
            ("spaces kept", plain(self.user, PASSWORD), 235),
            ("spaces stripped", plain(self.user, PASSWORD.replace(" ", "")),
             235),
            ("own identity", plain(self.user, PASSWORD, self.user), 235),
            ("other identity", plain(self.user, PASSWORD, "x@y.z"), 535),
            ("wrong password", plain(self.user, "wrong"), 535),
            ("empty password", plain(self.user, ""), 535),
            ("unknown user", plain("nobody@example.com", PASSWORD), 535),
            ("not base64", "%%%", 501), ("no NUL", b64("x"), 501),
            ("three NULs", b64("a\0b\0c\0d"), 501), ("empty", "=", 501),
        ]
        for name, response, code in rows:
            with self.subTest(name):
                talk = self.talk()
                talk.ehlo()
                self.assertReply(talk.cmd("AUTH PLAIN " + response), code)
                talk.close()
                talk = self.talk()
                talk.ehlo()
                self.assertEqual(talk.cmd("AUTH PLAIN"), "334 ")
                self.assertReply(talk.cmd(response.strip("=") if
                                          response == "=" else response), code)
                talk.close()

    def test_success_and_refusal_bytes(self):
        talk = self.talk()
        end = " %s - gsmtp" % self.sid_of(talk)
        self.assertEqual(
            talk.login(self.user, password="wrong"),
            "535-5.7.8 Username and Password not accepted. For more "
            "information, go to\n535 5.7.8  https://support.google.com/mail/"
            "?p=BadCredentials" + end)
        self.assertEqual(talk.login(self.user), "235 2.7.0 Accepted")

    def test_login(self):
        for initial in (False, True):
            talk = self.talk()
            talk.ehlo()
            if initial:
                reply = talk.cmd("AUTH LOGIN " + b64(self.user))
            else:
                self.assertEqual(talk.cmd("AUTH LOGIN"), "334 VXNlcm5hbWU6")
                reply = talk.cmd(b64(self.user))
            self.assertEqual(reply, "334 UGFzc3dvcmQ6")
            self.assertReply(talk.cmd(b64(PASSWORD)), 235)
        talk = self.talk()
        talk.ehlo()
        talk.cmd("AUTH LOGIN")
        self.assertReply(talk.cmd("%"), 501, "5.5.2 Cannot Decode response")
        talk.cmd("AUTH LOGIN " + b64(self.user))
        self.assertReply(talk.cmd(b64("wrong")), 535)
        talk.cmd("AUTH LOGIN")
        self.assertReply(talk.cmd("*"), 501)
        self.assertReply(talk.cmd("NOOP"), 250)

    def test_xoauth2(self):
        token = self.access_token()
        talk = self.talk()
        self.assertEqual(talk.login(self.user, token), "235 2.7.0 Accepted")
        talk = self.talk()
        talk.ehlo()
        self.assertEqual(talk.cmd("AUTH XOAUTH2"), "334 ")
        self.assertReply(talk.cmd(xoauth2(self.user.upper(), token)), 235)
        self.assertReply(talk.message(), 250)
        self.assertEqual(self.sim.journal()[0]["login"], "XOAUTH2")

    def test_xoauth2_refusal_takes_two_steps(self):
        token = self.access_token()
        self.sim.account("other@example.com", refresh_tokens=["other"])
        rows = [("wrong token", self.user, "ya29.wrong"),
                ("token of another", "other@example.com", token),
                ("unknown user", "nobody@example.com", token),
                ("no user", "", token), ("no token", self.user, "")]
        for name, user, value in rows:
            with self.subTest(name):
                talk = self.talk()
                talk.ehlo()
                reply = talk.cmd("AUTH XOAUTH2 " + xoauth2(user, value))
                self.assertEqual(reply, ERROR)
                self.assertEqual(json.loads(base64.b64decode(reply[4:])), {
                    "status": "400", "schemes": "Bearer",
                    "scope": "https://mail.google.com/"})
                self.assertReply(talk.cmd(""), 535, "p=BadCredentials")
                talk.close()
        talk = self.talk()
        talk.ehlo()
        talk.cmd("AUTH XOAUTH2 " + b64("rubbish"))
        self.assertReply(talk.cmd("*"), 501)        # cancelling hides the 535
        self.assertReply(talk.login(self.user, token), 235)

    def test_xoauth2_refusal_in_2015_wording(self):
        self.sim.settings(profile="2015")
        talk = self.talk()
        reply = talk.login(self.user, "wrong")
        self.assertEqual(base64.b64decode(reply[4:]),
                         b'{"status":"401","schemes":"bearer mac",'
                         b'"scope":"https://mail.google.com/"}\n')
        self.assertReply(talk.cmd(""), 535, "5.7.1")

    def test_xoauth2_refusal_at_once(self):
        self.sim.account(self.user, flags={"xoauth2_direct": True})
        self.assertReply(self.talk().login(self.user, "wrong"), 535)

    def test_wrong_scope(self):
        self.sim.account(self.user, refresh_tokens=[
            {"token": "narrow", "scope":
             "https://www.googleapis.com/auth/gmail.send"}])
        token = self.access_token("narrow")
        self.assertEqual(self.talk().login(self.user, token), ERROR)

    def test_long_token_lines(self):
        talk = self.talk()
        talk.ehlo()
        line = "AUTH XOAUTH2 " + b64("x" * 9200)
        self.assertLess(len(line), 12288)
        self.assertEqual(talk.cmd(line), ERROR)
        self.assertReply(talk.cmd(""), 535)
        self.assertEqual(talk.cmd("AUTH XOAUTH2"), "334 ")
        self.assertReply(talk.cmd("x" * 12289), 500, "5.5.6")
        self.assertTrue(talk.closed())

    def test_oauthbearer(self):
        token = self.access_token()

        def response(user, value):
            return b64("n,a=%s,\x01host=smtp.gmail.com\x01port=465\x01"
                       "auth=Bearer %s\x01\x01" % (user, value))
        talk = self.talk()
        talk.ehlo()
        self.assertReply(talk.cmd("AUTH OAUTHBEARER " +
                                  xoauth2(self.user, token)), 501)
        self.assertEqual(talk.cmd("AUTH OAUTHBEARER " +
                                  response(self.user, "bad")), ERROR)
        self.assertReply(talk.cmd("AQ=="), 535)
        self.assertReply(talk.cmd("AUTH OAUTHBEARER " +
                                  response(self.user, token)), 235)

    def test_other_mechanisms(self):
        rows = [("AUTH CRAM-MD5", 504, "5.7.4 Unrecognized Authentication "
                 "Type"), ("AUTH XOAUTH x", 504, "no longer supported"),
                ("AUTH", 555, ""), ("AUTH PLAIN a b", 555, ""),
                ("AUTH PLAIN-CLIENTTOKEN " + plain("a", "b"), 535, "")]
        for line, code, text in rows:
            with self.subTest(line):
                talk = self.talk()
                talk.ehlo()
                self.assertReply(talk.cmd(line), code, text)
                talk.close()


class Accounts(SimCase):
    """Flags of accounts, and limits of logins."""

    def test_flags(self):
        rows = [({"disabled": True}, 535, "BadCredentials"),
                ({"web_login": True}, 534, "via your web browser")]
        for flags, code, text in rows:
            with self.subTest(flags):
                user = "f%d@flags.example" % code
                self.sim.account(user, app_password=PASSWORD, flags=flags)
                talk = self.talk()
                self.assertReply(talk.login(user), code, text)
        self.sim.account(self.user, flags={"sending_denied": True})
        self.assertReply(self.logged_in().cmd("MAIL FROM:<a@b.c>"), 550,
                         "550 5.7.0 Mail Sending denied")

    def test_account_password_instead_of_app_password(self):
        self.sim.account(self.user, password="real password")
        reply = self.talk().login(self.user, password="real password")
        self.assertReply(reply, 534, "?p=InvalidSecondFactor")
        self.assertIn("534-5.7.9", reply)

    def test_login_rate(self):
        self.sim.account(self.user, flags={"logins": 2,
                                           "login_window_s": 0.5})
        self.logged_in()
        self.assertReply(self.talk().login(self.user, password="x"), 535)
        self.assertReply(self.talk().login(self.user), 454,
                         "454-4.7.0 Too many login attempts")
        self.until(lambda: self.talk().login(self.user)[:3] == "235")

    def test_parallel_sessions_refused_at_data(self):
        self.sim.account(self.user, flags={"max_sessions": 2})
        talks = [self.logged_in() for _ in range(3)]
        for talk in talks[:2]:
            self.assertReply(talk.message(), 250)
        for end in ("DATA", "BDAT 0", "BDAT 0 LAST"):
            with self.subTest(end):
                talk = self.logged_in()
                talk.cmd("MAIL FROM:<a@b.c>")
                talk.cmd("RCPT TO:<a@b.c>")
                self.assertReply(talk.cmd(end), 421, "421 4.3.0 Temporary "
                                 "System Problem.  Try again later (10).")
                self.assertTrue(talk.closed())
        self.assertReply(talks[1].message(), 250)
        talks[0].close()
        self.until(lambda: self.sim.counters(self.user)["sessions"] == 2)
        self.assertReply(talks[2].message(), 250)
        counters = self.sim.counters(self.user)
        self.assertEqual(counters["max_sessions"], 4)
        self.assertEqual(counters["accepted"], 4)
        self.assertEqual(counters["refused"], {"temporary": 3})

    def test_parallel_sessions_refused_at_auth(self):
        self.sim.account(self.user, flags={"max_sessions": 1,
                                           "parallel_stage": "auth"})
        self.logged_in()
        self.assertReply(self.talk().login(self.user), 421, "4.3.0")

    def test_counters(self):
        talk = self.talk()
        talk.login(self.user, password="wrong")
        talk.login(self.user)
        talk.message(recipients=["a@b.c", "d@e.f"])
        counters = self.sim.counters(self.user)
        wanted = {"logins": 1, "login_failures": 1, "sessions": 1,
                  "max_sessions": 1, "accepted": 1, "recipients": 2,
                  "bytes": 21, "commands": 4, "refused_total": 0}
        self.assertEqual({k: counters[k] for k in wanted}, wanted)
        total = self.sim.total()
        wanted = {"tls_handshakes": 1, "logins": 1, "login_failures": 1,
                  "accepted": 1, "accepted_recipients": 2, "commands": 8,
                  "accepted_bytes": 21, "sessions": 1}
        self.assertEqual({k: total[k] for k in wanted}, wanted)


class Relay(SimCase):
    """smtp-relay: by address, limits by envelope sender."""

    CONFIG = {"relay": {"allow": ["127.0.0.1"]}}

    def relay(self, tls=True):
        talk = self.talk(self.sim.relay_smtps if tls else self.sim.relay,
                         name="smtp-relay.gmail.com")
        self.assertIn("220 smtp-relay.gmail.com ESMTP", talk.greeting)
        self.assertReply(talk.ehlo("relay.example.com"), 250,
                         "smtp-relay.gmail.com at your service")
        return talk

    def test_no_login_needed(self):
        for tls in (False, True):
            talk = self.relay(tls)
            self.assertReply(talk.message(sender=self.user), 250)
        self.assertEqual([e["account"] for e in self.sim.journal()],
                         [self.user] * 2)
        self.assertEqual([e["login"] for e in self.sim.journal()],
                         [None] * 2)

    def test_user_limit_counts_the_envelope_sender(self):
        self.sim.account(self.user, limits={"messages": 1},
                         aliases=["alias@example.com"])
        talk = self.relay()
        self.assertReply(talk.message(sender=self.user), 250)
        self.assertReply(talk.message(sender="alias@example.com"), 550,
                         "550 5.4.5 Daily SMTP relay limit exceeded for user")
        self.assertReply(talk.message(sender="unregistered@example.com"), 250)

    def test_address_that_may_not_relay(self):
        with Sim.start({"relay": {"allow": ["10.0.0.1"]}}) as sim:
            talk = Talk(sim, sim.relay)
            self.addCleanup(talk.close)
            talk.ehlo()
            reply = talk.cmd("MAIL FROM:<a@b.example>")
            self.assertReply(reply, 550, "Mail relay denied [127.0.0.1]")
            self.assertIn("b.example", reply)

    def test_auth_in_clear_is_refused(self):
        talk = self.relay(tls=False)
        self.assertReply(talk.cmd("AUTH PLAIN"), 530, "5.7.0 Must issue a "
                         "STARTTLS command first")

    def test_organisation_limits(self):
        rows = [("peak", 450, "450 4.2.1 Peak SMTP relay limit exceeded for "
                 "customer"),
                ("daily", 550, "550 5.7.1 Daily SMTP relay limit exceeded for "
                 "customer")]
        for kind, code, text in rows:
            with self.subTest(kind), Sim.start(
                    {"relay": {kind: {"recipients": 2}}}) as sim, \
                    Talk(sim, sim.relay) as talk:
                talk.ehlo("relay.example.com")
                self.assertReply(talk.message(recipients=["a@b.c", "d@e.f"]),
                                 250)
                self.assertReply(talk.message(), code, text)


if __name__ == "__main__":
    unittest.main()
