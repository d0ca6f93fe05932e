# test_mailbox - IMAP and POP as imaplib and poplib see them
# SPDX-License-Identifier: Apache-2.0

import imaplib
import poplib
import ssl
import unittest

from simcase import PASSWORD, SimCase, Talk, plain


def bearer(user, token):
    return ("user=%s\x01auth=Bearer %s\x01\x01" % (user, token)).encode()


class Imap(SimCase):

    def connect(self):
        talk = imaplib.IMAP4_SSL("localhost", self.sim.imaps,
                                 ssl_context=Talk.trusting(self.sim),
                                 timeout=15)
        self.addCleanup(talk.sock.close)
        return talk

    def bearer(self, user, token):
        """How the login ended, and the challenges seen."""
        seen = []

        def answer(challenge):
            seen.append(challenge)
            return bearer(user, token) if len(seen) == 1 else b""

        try:
            return self.connect().authenticate("XOAUTH2", answer), seen
        except imaplib.IMAP4.error as error:
            return error.args[0].encode() if isinstance(
                error.args[0], str) else error.args[0], seen

    def refusal(self, password=PASSWORD):
        with self.assertRaises(imaplib.IMAP4.error) as caught:
            self.connect().login(self.user, password)
        return str(caught.exception)

    def test_token(self):
        ended, seen = self.bearer(self.user, self.access_token())
        self.assertEqual((ended[0], seen), ("OK", [b""]))
        self.assertIn(b"authenticated (Success)", ended[1][0])

    def test_refused_token_is_told_in_two_steps(self):
        ended, seen = self.bearer(self.user, "ya29.wrong")
        self.assertIn(b"[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
                      ended)
        self.assertIn(b'"scope":"https://mail.google.com/"', seen[1])

    def test_token_of_another_account(self):
        ended, _ = self.bearer("nobody@example.com", self.access_token())
        self.assertIn(b"AUTHENTICATIONFAILED", ended)

    def test_passwords(self):
        talk = self.connect()
        self.assertIn("AUTH=XOAUTH2", talk.capabilities)
        self.assertEqual(talk.login(self.user, PASSWORD)[0], "OK")
        self.assertEqual(talk.noop()[0], "OK")
        self.assertEqual(talk.logout()[0], "BYE")
        self.assertIn("AUTHENTICATIONFAILED", self.refusal("wrong"))
        self.sim.account(self.user, password="real")
        self.assertIn("Application-specific password required",
                      self.refusal("real"))

    def test_states_of_the_account(self):
        for flag, text in (("imap_off", "not enabled for IMAP use"),
                           ("web_login", "log in via your web browser"),
                           ("disabled", "Invalid credentials")):
            self.sim.account(self.user, flags={flag: True})
            self.assertIn(text, self.refusal())
            self.sim.account(self.user, flags={flag: False})

    def test_unknown_commands(self):
        with Talk(self.sim, self.sim.imaps, tls=True,
                  name="imap.gmail.com") as talk:
            self.assertIn("Gimap ready", talk.greeting)
            for line in ("a FETCH 1", "b", "", "c LOGIN x", "d AUTHENTICATE X",
                         "e LOGIN \"x y"):
                talk.send(line + "\r\n")
                self.assertIn(" BAD ", talk.line())

    def test_server_name_is_wanted(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.sim.ca_file)
        context.check_hostname = False
        for port in (self.sim.imaps, self.sim.pops):
            with self.assertRaises(ssl.SSLCertVerificationError):
                Talk(self.sim, port, tls=True, name=None, context=context)

    def test_faults_act_here_too(self):
        self.sim.fault("drop", stage="auth", listener="imaps", count=1)
        with self.assertRaises(imaplib.IMAP4.abort):
            self.connect().login(self.user, PASSWORD)
        self.assertEqual(self.connect().login(self.user, PASSWORD)[0], "OK")


class Pop(SimCase):

    def connect(self):
        talk = poplib.POP3_SSL("localhost", self.sim.pops, timeout=15,
                               context=Talk.trusting(self.sim))
        self.addCleanup(talk.close)
        return talk

    def refusal(self, password=PASSWORD):
        talk = self.connect()
        talk.user(self.user)
        with self.assertRaises(poplib.error_proto) as caught:
            talk.pass_(password)
        return str(caught.exception)

    def test_passwords(self):
        talk = self.connect()
        self.assertIn("XOAUTH2", talk.capa()["SASL"])
        talk.user(self.user)
        self.assertEqual(talk.pass_(PASSWORD), b"+OK Welcome.")
        self.assertEqual(talk.stat(), (0, 0))
        talk.quit()
        self.assertIn("[AUTH]", self.refusal("wrong"))
        self.sim.account(self.user, password="real")
        self.assertIn("Application-specific", self.refusal("real"))
        self.sim.account(self.user, flags={"pop_off": True})
        self.assertIn("not enabled for POP", self.refusal())

    def test_sasl(self):
        with Talk(self.sim, self.sim.pops, tls=True,
                  name="pop.gmail.com") as talk:
            talk.send("AUTH PLAIN\r\n")
            self.assertEqual(talk.line(), "+ ")
            talk.send(plain(self.user, "wrong") + "\r\n")
            self.assertIn("-ERR [AUTH]", talk.line())
            talk.send("AUTH XOAUTH2\r\n")
            self.assertEqual(talk.line(), "+ ")
            talk.send("!\r\n")
            self.assertTrue(talk.line().startswith("+ eyJ"))
            talk.send("\r\n")
            self.assertIn("-ERR [AUTH]", talk.line())
            for line in ("STAT", "PASS x", "AUTH", "AUTH X y"):
                talk.send(line + "\r\n")
                self.assertIn("-ERR bad command", talk.line())


if __name__ == "__main__":
    unittest.main()
