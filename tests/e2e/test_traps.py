# test_traps - what was found out about the MTAs, and must stay so
# SPDX-License-Identifier: Apache-2.0
"""Each behaviour of Postfix and Sendmail that could lose, double or misroute a
message. tests/README.md has the list, with the tests that hold them."""

import contextlib
import os
import re
import smtplib
import ssl
import subprocess
import time
import unittest

from tests.e2e.later_milter import LaterMilter
from tests.e2e.postfix import free_port
from tests.e2e.saslauthd import Saslauthd
from tests.e2e.sink import Filter
from tests.e2e.stack import (ACCOUNTS, HEAD, SIM, SharedStack, Stack, message,
                             wait_for)

RULES = """\
rules:
  - name: greylisted sender
    match: {sender: later@example.com}
    defer: "451 4.7.1 Come back later"
  - name: deferred header
    match: {header: {X-Defer: "*"}}
    defer: "451 4.7.1 Not with that header"
  - name: bounces for a list
    match: {kind: bounce, recipient_domain: verp.test}
    route: {account: sales}
  - name: small
    match: {sender: small@example.com}
    route: {account: small}
  - name: spills over
    match: {sender: spill@example.com}
    route: {account: small}
    otherwise: {account: news}
  - name: over TLS
    match: {tls: yes, recipient_domain: tls.test}
    route: {account: news}
  - name: of a client that logged in
    match: {auth: boss, recipient_domain: auth.test}
    route: {account: news}
  - name: stays here
    match: {recipient_domain: direct.test}
    route: mta
    add_header: {X-Passed: gmroute}
  - name: news for some
    match: {sender: sales@example.com, recipient_domain: news.test}
    route: {account: news}
  - name: sales
    match: {sender: [sales@example.com, "*@sales.example.com"]}
    route: {account: sales}
  - name: people
    match: {sender_domain: example.com}
    route: {account: staff}
default: mta
"""
SMALL = """\
  small:
    address: small@example.com
    auth: {{password_file: secrets/news.pw}}
    quota: {{messages: 1 per 3s}}
    max_wait: 1m
"""
WITH_SMALL = {"accounts": SIM["accounts"] + [
    {"address": "small@example.com", "app_password": "abcdefghijklmnop"}]}
FILTER_ADDRESS = "127.0.0.9"  # a content filter's, behind the milter


def head_of(milter, deliver):
    """HEAD with these sockets, and a content filter that is known."""
    head = HEAD.replace(
        '"unix:{top}/milter/milter.sock"',
        '"%s", reinject_from: [%s]' % (milter, FILTER_ADDRESS)).replace(
            '"unix:{top}/spool/gmroute/deliver.sock"', '"%s"' % deliver)
    return head.replace("mta_domains: [", "mta_domains: [relay.test, ")


def make_certificate(directory):
    """The MTA's own: directory/mta.crt and mta.key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=relay.test",
         "-days", "2", "-keyout", directory + "/mta.key", "-out",
         directory + "/mta.crt"], check=True, capture_output=True)
    os.chmod(directory + "/mta.key", 0o600)


class Traps:
    """What must be so on every MTA."""

    def arrived(self, count=1):
        return self.sim.wait_journal(count, self.since)

    def gone(self):
        """Recipients that Gmail got; nothing is in the queue any more."""
        self.stack.mta.wait_empty()
        return sorted(r for e in self.sim.journal(self.since, False)
                      for r in e["recipients"])

    def one(self, sender, *recipients, port=None, content=None, options=()):
        """One message; recipients with parameters, as they are."""
        with self.stack.smtp(port=port) as c:
            self.assertEqual(c.mail(sender, options)[0], 250)
            for r in recipients:
                c.send(("RCPT TO:" + r + "\r\n").encode())
                code, text = c.getreply()
                self.assertEqual(code, 250, (r, text))
            return c.data(content or message(sender, ["x@far.test"]))

    def test_two_accounts_and_the_mta_in_one_message(self):
        self.stack.send("sales@example.com", [
            "a@far.test", "b@news.test", "c@far.test", "d@news.test",
            "two@example.com", "e@direct.test"])
        by = {e["account"]: sorted(e["recipients"]) for e in self.arrived(2)}
        self.assertEqual(by, {
            "sales@example.com": ["a@far.test", "c@far.test"],
            "news@gmail.com": ["b@news.test", "d@news.test"]})
        for sink, to in ((self.stack.local, "two@example.com"),
                         (self.stack.internet, "e@direct.test")):
            got, = sink.wait_to(to)
            # MAIL FROM is as it was.
            self.assertEqual(got["sender"], "sales@example.com")

    def test_every_length_arrives_once(self):
        # Sendmail drops a recipient whose tagged form is too long, without a
        # word: those must be known before.
        def address(local, n):
            """n octets in all."""
            n -= len(local) + 1 + len(".test")
            labels = ["d" * 50] * (n // 51) + ["e" * (n % 51 or 1)]
            return local + "@" + ".".join(labels) + ".test"

        odd = [address("len", n) for n in range(158, 182)]
        odd += [address("x" * k, 150) for k in (1, 63, 64)]
        odd += [address("=" * k, k + 60) for k in (64, 90)]
        odd += ["label@" + "f" * k + ".test" for k in (62, 63)]
        odd = sorted(set(odd))
        self.stack.send("sales@example.com", odd)
        self.stack.mta.wait_empty()
        stayed = [r for m in self.stack.internet.messages
                  for r in m["recipients"] if r in odd]
        went = [r for r in self.gone() if r in odd]
        self.assertEqual(sorted(stayed + went), sorted(odd))
        self.assertGreaterEqual(len(stayed), 8)
        self.assertGreaterEqual(len(went), 8)

    def test_an_address_literal_stays_with_the_mta(self):
        self.one("sales@example.com", "<u@[192.0.2.7]>", "<v@far.test>")
        self.stack.internet.wait_to("u@[192.0.2.7]")
        self.assertEqual(self.gone(), ["v@far.test"])
        self.assertIn("recipient=<u@[192.0.2.7]> cannot be tagged",
                      self.stack.milter.log())

    def test_a_dot_behind_the_domain(self):
        self.one("sales@example.com", "<dot@far.test.>", "<dot@far.test>")
        self.assertEqual(self.gone(), ["dot@far.test"])
        self.assertEqual(self.stack.internet.to("dot@far.test."), [])

    def test_utf8(self):
        # Sendmail has no SMTPUTF8 and passes octets, 0xa0 and above.
        options = ["SMTPUTF8"] if self.stack.kind == "postfix" else []
        self.one("sales@example.com", "<\u00fc+\u00f6@far.test>",
                 options=options)
        self.assertEqual(self.gone(), ["\u00fc+\u00f6@far.test"])

    def test_null_sender_by_a_rule(self):
        self.one("", "<list@verp.test>", "<person@far.test>")
        self.stack.internet.wait_to("person@far.test")
        self.assertEqual(self.gone(), ["list@verp.test"])

    def test_an_alias_that_leads_outside(self):
        # The milter sees what is in front of the expansion; the domain is the
        # MTA's own and never tagged, or the tag would override the alias.
        self.one("sales@example.com", "<lists@relay.test>")
        self.stack.internet.wait_to("out@far.test")
        self.assertEqual(self.gone(), [])

    def test_login_and_tls_are_seen(self):
        with self.logged_in("boss") as c:
            c.sendmail("sales@example.com", ["l@auth.test"],
                       message("sales@example.com", ["l@auth.test"]))
        with self.stack.smtp() as c:
            c.starttls(context=ssl._create_unverified_context())
            c.sendmail("sales@example.com", ["s@tls.test"],
                       message("sales@example.com", ["s@tls.test"]))
        with self.stack.smtp() as c:
            for to in ("p@auth.test", "p@tls.test"):
                c.sendmail("sales@example.com", [to],
                           message("sales@example.com", [to]))
        by = {e["recipients"][0]: e["account"] for e in self.arrived(4)}
        self.assertEqual(by, {"l@auth.test": "news@gmail.com",
                              "s@tls.test": "news@gmail.com",
                              "p@auth.test": "sales@example.com",
                              "p@tls.test": "sales@example.com"})

    def tagged(self):
        """A tagged recipient of the queue, by the agent's absence."""
        found = wait_for("a tagged recipient", lambda: re.findall(
            r"[^\s<>]+\.gmroute\.invalid", self.listing()))
        return found[0]

    def test_queue_runs_do_not_need_the_milter(self):
        self.stack.deliver.stop()
        self.one("sales@example.com", "<again@far.test> NOTIFY=FAILURE",
                 "<again@example.com>")
        tag = self.tagged()
        self.stack.milter.kill()
        try:
            self.requeue()
            self.assertEqual(self.tagged(), tag)
        finally:
            self.stack.milter.start()
            self.stack.deliver.start()
        self.assertEqual(self.gone(), ["again@far.test"])
        self.assertEqual(len(self.stack.local.to("again@example.com")), 1)

    def test_tags_come_back_from_a_known_filter_only(self):
        self.stack.deliver.stop()
        self.one("sales@example.com", "<reinjected@far.test>")
        try:
            tag = self.tagged()
            for source, rcpt, want in (
                    ("127.0.0.8", tag, 550),
                    (FILTER_ADDRESS, "b" + tag, 550),
                    (FILTER_ADDRESS, tag.replace("@far", "@fbr"), 550),
                    (FILTER_ADDRESS, tag, 250)):
                self.hand_back(source, rcpt, want)
        finally:
            self.stack.deliver.start()
        # Two messages with one ticket: one is sent, the other waits for a
        # person rather than being swallowed.
        self.arrived()
        wait_for("the other one's answer", lambda: self.stack.log_row(
            recipient="reinjected@far.test", outcome="sent"))
        self.discard_queue()
        self.assertEqual(self.gone(), ["reinjected@far.test"])

    def hand_back(self, source, rcpt, want):
        with smtplib.SMTP("127.0.0.1", self.stack.mta.port,
                          source_address=(source, 0)) as c:
            c.ehlo("filter.test")
            c.mail("sales@example.com")
            self.assertEqual(c.rcpt(rcpt)[0], want, (source, rcpt))
            if want == 250:
                self.assertEqual(c.data(message(
                    "sales@example.com", ["x@far.test"]))[0], 250)

    def test_a_later_milter_that_refuses(self):
        with self.assertRaises(smtplib.SMTPDataError) as raised:
            self.stack.send("sales@example.com", "late@far.test",
                            headers=[("X-Late", "1")], port=self.late_port)
        self.assertIn(b"later filter", raised.exception.smtp_error)
        self.stack.send("sales@example.com", "fine@far.test",
                        port=self.late_port)
        self.assertEqual(self.gone(), ["fine@far.test"])
        # What was hinted for it is neither spent nor waited for.
        account, = self.stack.ctl("quota", "sales", "--json")
        self.assertEqual(account["waiting_messages"], 0)

    def test_agent_is_away(self):
        self.stack.deliver.kill()
        try:
            self.one("sales@example.com", "<away@far.test>",
                     "<away@example.com>")
            self.stack.local.wait_to("away@example.com")
            self.tagged()
        finally:
            self.stack.deliver.start()
        self.assertEqual(self.gone(), ["away@far.test"])

    def test_milter_is_away(self):
        self.stack.milter.kill()
        try:
            with self.stack.smtp() as c:
                # Sendmail says it to MAIL, Postfix to the first command.
                codes = [c.mail("sales@example.com")[0],
                         c.rcpt("x@far.test")[0]]
            self.assertIn(4, [code // 100 for code in codes], codes)
            # What a program hands in waits.
            self.stack.mta.sendmail(
                "sales@example.com", ["waits@far.test"],
                message("sales@example.com", ["waits@far.test"]))
        finally:
            self.stack.milter.start()
        self.hand_in()
        self.arrived()
        self.assertEqual(self.gone(), ["waits@far.test"])

    def test_token_daemon_is_away(self):
        self.stack.token.kill()
        try:
            self.one("sales@example.com", "<tokenless@far.test>")
            self.assertEqual(self.gone(), ["tokenless@far.test"])
        finally:
            self.stack.token.start()

    def test_rewritten_sender(self):
        # The milter saw x@sales.example.com, which a rule names; the agent
        # sees another one, and must not care.
        self.one("x@sales.example.com", "<rewritten@far.test>",
                 port=self.rewriting_port)
        entry, = self.arrived()
        self.assertEqual((entry["account"], entry["sender"]),
                         ("sales@example.com", "sales@example.com"))
        row, = wait_for("its row", lambda: self.stack.log_row(
            recipient="rewritten@far.test", outcome="sent"))
        self.assertEqual(row["sender"], self.rewritten)

    def test_a_full_account_waits_or_spills_over(self):
        for i in range(2):
            self.stack.send("small@example.com", "wait%d@far.test" % i)
        self.stack.send("spill@example.com", "spill@far.test")
        by = {r: e["account"] for e in self.arrived(3)
              for r in e["recipients"]}
        self.assertEqual(by, {"wait0@far.test": "small@example.com",
                              "wait1@far.test": "small@example.com",
                              "spill@far.test": "news@gmail.com"})

    def test_reload(self):
        stack = self.stack
        before = stack.rules
        try:
            stack.write_config(rules=before.replace(
                "recipient_domain: news.test", "recipient_domain: new.test"))
            self.assertTrue(stack.milter.reload())
            stack.send("sales@example.com", ["x@new.test", "y@news.test"])
            by = {e["recipients"][0]: e["account"] for e in self.arrived(2)}
        finally:
            stack.write_config(rules=before)
            stack.milter.reload()
        self.assertEqual(by, {"x@new.test": "news@gmail.com",
                              "y@news.test": "sales@example.com"})

    def test_a_program_is_not_deferred_for_ever(self):
        # What a milter answers with 4xx stays with the submission program,
        # which tries it each minute and never gives up.
        self.stack.mta.sendmail(
            "sales@example.com", ["x@far.test"],
            message("sales@example.com", ["x@far.test"],
                    headers=[("X-Defer", "1")]))
        self.assert_deferred_in_queue("x@far.test")
        self.assertEqual(self.gone(), [])


class OnPostfix(Traps, SharedStack):
    rewritten = "SRS0=x@srs.test"

    @classmethod
    def make_stack(cls):
        names = ("bare", "expand", "expanded", "scan", "scanned", "rewrite",
                 "catchall", "late", "probe", "copy")
        cls.ports = {n: free_port() for n in names}
        cls.late_port = cls.ports["late"]
        cls.rewriting_port = cls.ports["rewrite"]
        cls.expander = Filter(cls.ports["expanded"])
        cls.scanner = Filter(cls.ports["scanned"], FILTER_ADDRESS)
        stack = Stack(
            RULES, accounts=ACCOUNTS + SMALL, sim=WITH_SMALL, mta="postfix",
            head=head_of("unix:{top}/milter/milter.sock",
                         "unix:{top}/spool/gmroute/deliver.sock"),
            main_cf="enable_long_queue_ids = yes\n"
            "virtual_alias_domains = relay.test\n"
            "virtual_alias_maps = inline:{{lists@relay.test=out@far.test}}\n"
            "address_verify_poll_count = 30\n"
            "address_verify_poll_delay = 1\n")
        make_certificate(stack.top)
        stack.main_cf += ("smtpd_tls_security_level = may\n"
                          "smtpd_tls_cert_file = {0}/mta.crt\n"
                          "smtpd_tls_key_file = {0}/mta.key\n"
                          .format(stack.top))
        cls.later = LaterMilter(os.path.join(stack.top, "later.sock"))
        with open(os.path.join(stack.top, "catchall"), "w",
                  encoding="ascii") as f:
            f.write("if !/\\.gmroute\\.invalid$/\n"
                    "/@.*\\.invalid$/ everything@example.com\nendif\n")
        stack.master_cf = """
127.0.0.1:{bare} inet n - n - - smtpd
  -o smtpd_milters=
127.0.0.1:{expand} inet n - n - - smtpd
  -o smtpd_milters= -o content_filter=smtp:[127.0.0.1]:{expander}
127.0.0.1:{expanded} inet n - n - - smtpd
  -o receive_override_options=no_address_mappings
127.0.0.1:{scan} inet n - n - - smtpd
  -o content_filter=smtp:[127.0.0.1]:{scanner}
127.0.0.1:{scanned} inet n - n - - smtpd
  -o receive_override_options=no_address_mappings
127.0.0.1:{rewrite} inet n - n - - smtpd
  -o cleanup_service_name=rewriting
rewriting unix n - n - 0 cleanup
  -o sender_canonical_maps=inline:{{x@sales.example.com=SRS0=x@srs.test}}
  -o sender_canonical_classes=envelope_sender
127.0.0.1:{catchall} inet n - n - - smtpd
  -o cleanup_service_name=catchall
catchall unix n - n - 0 cleanup
  -o virtual_alias_maps=pcre:{top}/catchall
  -o recipient_canonical_maps=pcre:{top}/catchall
127.0.0.1:{copy} inet n - n - - smtpd
  -o cleanup_service_name=copying
copying unix n - n - 0 cleanup
  -o recipient_bcc_maps=inline:{{copied@far.test=archive@other.test}}
127.0.0.1:{late} inet n - n - - smtpd
  -o smtpd_milters=unix:{top}/milter/milter.sock,unix:{top}/later.sock
127.0.0.1:{probe} inet n - n - - smtpd
  -o smtpd_recipient_restrictions=reject_unverified_recipient
""".format(top=stack.top, expander=cls.expander.port,
           scanner=cls.scanner.port, **cls.ports)
        return stack

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        for thing in (cls.expander, cls.scanner, cls.later):
            thing.stop()

    def logged_in(self, user):
        return self.stack.smtp(login=user)

    def listing(self):
        return self.stack.mta.run("postqueue", "-p").stdout.decode()

    def requeue(self):
        before = self.stack.mta.queued()
        self.stack.mta.run("postsuper", "-r", "ALL")
        wait_for("a new queue id", lambda: (
            self.stack.mta.queued() and
            not set(self.stack.mta.queued()) & set(before)))

    def discard_queue(self):
        self.stack.mta.run("postsuper", "-d", "ALL")

    def hand_in(self):
        """What waits in maildrop, now rather than in a minute."""
        self.stack.mta.run("postfix", "reload")

    def assert_deferred_in_queue(self, recipient):
        wait_for("the rule's answer in the queue", lambda: re.search(
            r"451 4\.7\.1 Not\s+with that header", self.listing()))
        self.assertIn(recipient, self.listing())
        self.assertEqual(os.listdir(
            os.path.join(self.stack.mta.queue, "maildrop")), [])
        self.discard_queue()

    def test_an_alias_expanded_before_the_milter(self):
        # Two hops: the first one expands, the second one has the milter.
        self.sim.fault("reply", stage="rcpt", recipient="out@", count=1,
                       text="550 5.1.1 no such user")
        self.one("sales@example.com", "<lists@relay.test>",
                 port=self.ports["expand"])
        bounce, = wait_for("a bounce", lambda: [
            m["content"] for m in self.stack.local.to("sales@example.com")
            if b"lists@relay.test" in m["content"]])
        self.assertIn(b"Original-Recipient: rfc822;lists@relay.test", bounce)
        self.assertIn(b"Final-Recipient: rfc822; out@far.test", bounce)
        self.assertNotIn(b"gmroute.invalid", bounce)
        self.one("sales@example.com", "<lists@relay.test>",
                 port=self.ports["expand"])
        self.assertEqual(self.gone(), ["out@far.test"])

    def test_a_content_filter_behind_the_milter(self):
        self.one("sales@example.com", "<scanned@far.test>",
                 "<boss@example.com>", "<x@direct.test>",
                 port=self.ports["scan"])
        self.assertEqual(self.gone(), ["scanned@far.test"])
        self.stack.local.wait_to("boss@example.com")
        got, = self.stack.internet.wait_to("x@direct.test")
        self.assertNotIn(b"gmroute.invalid", got["content"])
        self.assertEqual(got["content"].count(b"X-Passed: gmroute\r\n"), 1)
        tagged = [r for m in self.scanner.messages for r in m["recipients"]
                  if r.endswith(".gmroute.invalid")]
        self.assertEqual(len(tagged), 1)
        self.assertIn("ORCPT=rfc822;scanned@far.test",
                      self.scanner.parameters[tagged[0]])

    def test_one_scanned_recipient_is_not_told_the_tag(self):
        # "Received: ... for <tagged>" is what the second pass writes.
        self.one("sales@example.com", "<alone@far.test>",
                 port=self.ports["scan"])
        entry, = self.arrived()
        self.assertNotIn(b"gmroute.invalid", entry["content"])
        self.sim.fault("reply", stage="rcpt", recipient="alone", count=1,
                       text="550 5.1.1 no such user")
        self.one("scan@sales.example.com", "<alone@far.test>",
                 port=self.ports["scan"])
        bounce, = self.stack.local.wait_to("scan@sales.example.com")
        self.assertNotIn(b"gmroute.invalid", bounce["content"])

    def test_catch_all_maps_spare_the_tag_domain(self):
        table = "pcre:%s/catchall" % self.stack.top
        self.assertEqual(self.stack.mta.run(
            "postmap", "-q", "a@b.invalid", table).stdout.strip(),
            b"everything@example.com")
        self.one("sales@example.com", "<catch@far.test>",
                 port=self.ports["catchall"])
        self.assertEqual(self.gone(), ["catch@far.test"])

    def test_a_copy_that_the_mta_adds(self):
        # It comes behind the milter, as aliases do, and stays with the MTA.
        self.one("sales@example.com", "<copied@far.test>",
                 port=self.ports["copy"])
        self.assertEqual(self.gone(), ["copied@far.test"])
        self.assertEqual(len(self.stack.internet.wait_to(
            "archive@other.test")), 1)

    def test_whatever_is_below_the_tag_domain_never_leaves(self):
        bad = ["x@gmroute.invalid", "x@far.test.gmroute.invalid",
               "x@far.test.%s.a7.q32.gmroute.invalid" % ("a" * 48),
               "x@q00x.gmroute.invalid"]
        with self.stack.smtp(port=self.ports["bare"]) as c:
            c.mail("sales@example.com")
            for b in bad:
                code, text = c.rcpt(b)
                self.assertEqual(code, 450, (b, text))
                self.assertIn(b"4.3.5", text)

    def test_probes_send_nothing(self):
        before = self.sim.total()["accepted"]
        self.one("sales@example.com", "<probed@far.test>",
                 port=self.ports["probe"])
        self.assertEqual(self.gone(), ["probed@far.test"])
        self.assertEqual(self.sim.total()["accepted"], before + 1)
        with self.stack.smtp() as c:
            self.assertEqual(c.verify("vrfy@far.test")[0], 252)

    def test_a_program_is_not_deferred_for_what_cannot_be_tagged(self):
        stack, head = self.stack, self.stack.head
        long = "x@" + ".".join(["d" * 59] * 3) + "." + "e" * 55 + ".test"
        try:
            stack.head = head + "untaggable: defer\n"
            stack.write_config()
            self.assertTrue(stack.milter.reload())
            with self.assertRaises(smtplib.SMTPDataError) as raised:
                stack.send("sales@example.com", long)
            self.assertEqual(raised.exception.smtp_code, 451)
            stack.mta.sendmail("prog@sales.example.com", [long],
                               message("prog@sales.example.com", [long]))
            bounce, = stack.local.wait_to("prog@sales.example.com")
            self.assertIn(b"too long for a tag",
                          re.sub(rb"\s+", b" ", bounce["content"]))
        finally:
            stack.head = head
            stack.write_config()
            stack.milter.reload()

    def test_a_slow_account_does_not_hold_another(self):
        slow = self.sim.fault("slow", stage="end", ms=1500,
                              account="sales@example.com")
        for i in range(15):
            self.stack.send("sales@example.com", "slow%d@far.test" % i)
        self.stack.send("alice@example.com", "fast@far.test")
        wait_for("the fast one", lambda: any(
            e["recipients"] == ["fast@far.test"]
            for e in self.sim.journal(self.since, False)))
        went = [e for e in self.sim.journal(self.since, False)
                if e["account"] == "sales@example.com"]
        self.assertLess(len(went), 15)
        self.sim.clear(slow)
        self.assertEqual(len(self.gone()), 16)
        labels = dict(re.findall(
            r"to=<(slow0|fast)@\S+\.(q\d\d)\.gmroute\.invalid>",
            self.stack.mta.log()))
        self.assertNotEqual(labels["slow0"], labels["fast"])

    def test_the_lines_that_matter(self):
        def main(name):
            return self.stack.mta.run("postconf", "-h",
                                      name).stdout.decode().strip()

        concurrency = int(main("gmroute_destination_concurrency_limit"))
        self.assertEqual(
            concurrency, int(main("gmroute_initial_destination_concurrency")))
        self.assertEqual(main("gmroute_destination_recipient_limit"), "100")
        self.assertEqual(main("milter_default_action"), "tempfail")
        line = self.stack.mta.run("postconf", "-M",
                                  "gmroute/unix").stdout.decode().split()
        labels = len(set(re.findall(r"\.(q\d\d)\.", open(
            os.path.join(self.stack.mta.conf, "gmroute"),
            encoding="ascii").read())))
        self.assertEqual(labels, 32)
        self.assertGreaterEqual(int(line[6]), labels * concurrency)
        self.assertNotRegex(main("transport_maps"), r"pcre|regexp")


class OnSendmail(Traps, SharedStack):
    """Over TCP, both the milter and the agent."""

    late_port = rewriting_port = None  # one port does all
    rewritten = "x@masked.example.com"

    @classmethod
    def make_stack(cls):
        stack = Stack(
            RULES, accounts=ACCOUNTS + SMALL, sim=WITH_SMALL, mta="sendmail",
            head=head_of("inet:%d@127.0.0.1" % free_port(),
                         "inet:%d@127.0.0.1" % free_port()))
        cls.later = LaterMilter(os.path.join(stack.top, "later.sock"))
        cls.saslauthd = Saslauthd(os.path.join(stack.top, "sasl"), "Sendmail",
                                  {b"boss": b"secret"})
        make_certificate(stack.top)
        stack.mc = ("INPUT_MAIL_FILTER(`later', `S=unix:%s/later.sock, F=T')"
                    "dnl\nMASQUERADE_AS(`masked.example.com')dnl\n"
                    "MASQUERADE_DOMAIN(`sales.example.com')dnl\n"
                    "FEATURE(`masquerade_envelope')dnl\n"
                    "FEATURE(`limited_masquerade')dnl\n"
                    "define(`confAUTH_MECHANISMS', `PLAIN')dnl\n"
                    "TRUST_AUTH_MECH(`PLAIN')dnl\n"
                    "define(`confSERVER_CERT', `%s/mta.crt')dnl\n"
                    "define(`confSERVER_KEY', `%s/mta.key')dnl\n"
                    "define(`confCACERT', `%s/mta.crt')dnl\n"
                    "define(`confCACERT_PATH', `%s')dnl\n"
                    % ((stack.top,) * 5))
        return stack

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        mta = cls.stack.mta
        with open(os.path.join(mta.conf, "aliases"), "w",
                  encoding="ascii") as f:
            f.write("lists: out@far.test\n")
        mta.run("-bi")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.later.stop()
        cls.saslauthd.stop()

    def logged_in(self, user):
        c = self.stack.smtp()
        c.login(user, "secret")
        return c

    def listing(self):
        """The queue's control files: mailq shortens addresses."""
        text = ""
        for name in os.listdir(self.stack.mta.queue):
            with contextlib.suppress(FileNotFoundError):
                if name.startswith("qf"):
                    with open(os.path.join(self.stack.mta.queue, name),
                              encoding="latin-1") as f:
                        text += f.read()
        return text

    def requeue(self):
        self.stack.mta.flush()

    def discard_queue(self):
        def empty():
            # One that is being tried comes back.
            for name in os.listdir(self.stack.mta.queue):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.stack.mta.queue, name))
            time.sleep(0.3)
            return not os.listdir(self.stack.mta.queue)

        wait_for("an empty queue", empty)

    def hand_in(self):
        self.stack.mta.run("-q", "-Ac", cf="submit", check=False)

    def assert_deferred_in_queue(self, recipient):
        # The submission program is a client as others are: it keeps what is
        # deferred in its own queue, whose life ends as that of any queue.
        listed = self.stack.mta.run("-bp", cf="submit",
                                    check=False).stdout.decode()
        self.assertIn(recipient, listed)
        queue = self.stack.mta.client_queue
        for name in os.listdir(queue):
            os.unlink(os.path.join(queue, name))

    def test_whatever_is_below_the_tag_domain_never_leaves(self):
        for bad in ("x@gmroute.invalid", "x@far.test.gmroute.invalid",
                    "x@y.q00.gmroute.invalid.",
                    "x@far.test.%s.a7.q32.gmroute.invalid" % ("a" * 48)):
            said = self.stack.mta.run("-bv", bad, check=False).stdout.decode()
            self.assertRegex(said, r"mailer gmroute|4\.3\.5", bad)


if __name__ == "__main__":
    unittest.main()
