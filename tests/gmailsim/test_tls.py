# test_tls - certificates, server names, STARTTLS, resumption
# SPDX-License-Identifier: Apache-2.0

import os
import socket
import ssl
import subprocess
import unittest
import warnings

from simcase import Closed, Sim, SimCase, Talk

NAMES = ("smtp.gmail.com", "smtp-relay.gmail.com", "oauth2.googleapis.com",
         "localhost")


class Certificates(SimCase):

    def subject(self, port, name=None):
        """Subject of what is shown for a server name, as openssl prints it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), 10) as sock, \
                context.wrap_socket(sock, server_hostname=name) as tls:
            der = tls.getpeercert(True)
        return subprocess.run(
            ["openssl", "x509", "-inform", "DER", "-noout", "-subject",
             "-nameopt", "RFC2253,sep_comma_plus_space"], input=der,
            capture_output=True, check=True).stdout.decode().strip()

    def test_known_names_verify(self):
        for name in NAMES:
            with self.subTest(name):
                with self.talk(name=name) as talk:
                    self.assertEqual(talk.sock.version(), "TLSv1.3")
                with self.talk(self.sim.submission) as talk:
                    talk.ehlo()
                    self.assertEqual(talk.cmd("STARTTLS"),
                                     "220 2.0.0 Ready to start TLS")
                    talk.secure(name)
                status, _, _ = self.https("GET", "/token", name=name)
                self.assertEqual(status, 405)

    def test_certificate_is_good_for_the_address_too(self):
        result = subprocess.run(
            ["openssl", "verify", "-CAfile", self.sim.ca_file, "-verify_ip",
             "127.0.0.1", os.path.join(self.sim.state_dir, "tls",
                                       "good.pem")], capture_output=True)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_without_a_name(self):
        for port in (self.sim.smtps, self.sim.relay_smtps, self.sim.token):
            subject = self.subject(port)
            self.assertIn("OU=No SNI provided\\; please fix your client.",
                          subject)
            self.assertIn("CN=invalid2.invalid", subject)
            self.assertNotIn("invalid2", self.subject(port, "localhost"))

    def test_bad_certificates(self):
        rows = [("expired", "certificate has expired"),
                ("wrong_name", "Hostname mismatch"),
                ("self_signed", "self-signed certificate"),
                ("no_sni", "self-signed certificate"),
                ("cut", "EOF")]
        for kind, text in rows:
            for listener in ("smtps", "submission", "token"):
                with self.subTest(kind + " on " + listener):
                    self.sim.fault("cert", kind=kind, count=1,
                                   listener=listener)
                    with self.assertRaisesRegex(ssl.SSLError, text):
                        if listener == "token":
                            self.https("GET", "/token")
                        else:
                            talk = self.talk(getattr(self.sim, listener))
                            talk.ehlo()
                            talk.cmd("STARTTLS")
                            talk.secure()
        self.assertReply(self.logged_in().message(), 250)
        self.until(lambda: self.sim.total()["tls_failed"] == 10)

    def test_versions(self):
        for version, good in ((ssl.TLSVersion.TLSv1_1, False),
                              (ssl.TLSVersion.TLSv1_2, True),
                              (ssl.TLSVersion.TLSv1_3, True)):
            with self.subTest(version):
                context = Talk.trusting(self.sim)
                context.set_ciphers("ALL:@SECLEVEL=0")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    context.minimum_version = ssl.TLSVersion.TLSv1
                    context.maximum_version = version
                try:
                    self.logged_in(context=context)
                    self.assertTrue(good)
                except (ssl.SSLError, OSError):
                    self.assertFalse(good)

    def test_tickets(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version):
                context = Talk.trusting(self.sim)
                context.maximum_version = version
                first = self.logged_in(context=context)
                session = first.sock.session
                self.assertTrue(session.has_ticket)
                before = self.sim.total()["tls_resumed"]
                again = self.talk(context=context, tls=False, greet=False)
                again.secure(session=session)
                self.assertReply(again.reply(), 220)
                self.assertTrue(again.sock.session_reused)
                self.assertEqual(self.sim.total()["tls_resumed"], before + 1)

    def test_certificates_are_kept_across_starts(self):
        with open(self.sim.ca_file, "rb") as file:
            first = file.read()
        with Sim.start({"state_dir": self.sim.state_dir,
                        "journal_dir": self.sim.state_dir + "/other"}) as two:
            with open(two.ca_file, "rb") as file:
                self.assertEqual(file.read(), first)


class StartTls(SimCase):

    def clear(self):
        talk = self.talk(self.sim.submission)
        talk.ehlo()
        return talk

    def test_commands_in_clear(self):
        talk = self.clear()
        for command in ("MAIL FROM:<a@b.c>", "AUTH PLAIN AGEAYg==",
                        "RCPT TO:<a@b.c>", "DATA", "BDAT 0 LAST"):
            reply = talk.cmd(command)
            self.assertEqual(reply, "530 5.7.0 Must issue a STARTTLS command "
                             "first. %s - gsmtp" % self.sid_of(talk))
        self.assertReply(talk.cmd("NOOP"), 250)
        self.assertReply(talk.cmd("RSET"), 250)

    def test_starttls_before_ehlo(self):
        self.assertReply(self.talk(self.sim.submission).cmd("STARTTLS"), 503)

    def test_whole_way(self):
        talk = self.clear()
        sid = self.sid_of(talk)
        talk.cmd("STARTTLS")
        talk.secure()
        self.assertReply(talk.cmd("MAIL FROM:<a@b.c>"), 503, "EHLO/HELO first")
        self.assertReply(talk.login(self.user), 235)
        reply = talk.message()
        self.assertReply(reply, 250)
        self.assertIn(sid, reply)
        self.assertEqual(self.sim.journal()[0]["tls"], "TLSv1.3")

    def test_pipelined_commands_are_a_violation(self):
        talk = self.clear()
        talk.send(b"STARTTLS\r\nEHLO again.example\r\n")
        reply = talk.reply()
        self.assertReply(reply, 454, "4.5.0 SMTP protocol violation, no "
                         "commands allowed to pipeline after STARTTLS")
        self.assertTrue(talk.closed())

    def test_rubbish_instead_of_a_handshake(self):
        talk = self.clear()
        talk.cmd("STARTTLS")
        talk.send(b"EHLO x\r\n" * 10)
        try:
            while talk.sock.recv(100):
                pass
        except OSError:
            pass
        talk = self.talk(tls=False, greet=False)
        talk.send(b"EHLO clear text on the TLS port\r\n")
        with self.assertRaises((Closed, OSError, AssertionError)):
            while talk.reply():
                pass
        self.until(lambda: self.sim.total()["tls_failed"] == 2)
        self.until(lambda: not self.sim.sessions())

    def test_leaving_in_the_middle_of_a_handshake(self):
        for port in (self.sim.smtps, self.sim.submission):
            talk = self.talk(port, tls=False, greet=False)
            if port == self.sim.submission:
                talk.reply()
                talk.ehlo()
                talk.cmd("STARTTLS")
            talk.send(b"\x16\x03\x01")
            talk.close()
        self.until(lambda: not self.sim.sessions())
        self.assertReply(self.logged_in().message(), 250)


if __name__ == "__main__":
    unittest.main()
