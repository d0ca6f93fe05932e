# test_routing - each message under its own account, each recipient once
# SPDX-License-Identifier: Apache-2.0

import os
import re
import smtplib
import unittest

from tests.e2e.stack import RULES, SharedStack, Stack, message, wait_for


class Scenarios:
    """What must be so on every MTA."""

    @staticmethod
    def said(text):
        """What a rule answers, as the client sees it."""
        return text

    def arrived(self, count=1):
        return self.sim.wait_journal(count, self.since)

    def test_three_senders_three_accounts(self):
        bodies = {}
        for sender, login in (("sales@example.com", None),
                              ("alice@example.com", self.login),
                              ("news@example.com", None)):
            content = message(sender, ["x@far.test"], "three " + sender,
                              body="..dots\r\n.\r\n\xe4".encode().decode(
                                  "latin-1"))
            bodies[sender] = content
            with self.stack.smtp(login) as c:
                c.sendmail(sender, ["x@far.test"], content, ["body=8bitmime"])
        entries = {e["account"]: e for e in self.arrived(3)}
        self.assertEqual(set(entries), {
            "sales@example.com", "alice@example.com", "news@gmail.com"})
        for sender, account in (("sales@example.com", "sales@example.com"),
                                ("alice@example.com", "alice@example.com"),
                                ("news@example.com", "news@gmail.com")):
            entry = entries[account]
            # What Postfix put in front is Received; the rest is as sent.
            self.assertTrue(entry["content"].endswith(bodies[sender]),
                            entry["content"])
            self.assertTrue(entry["content"].startswith(b"Received:"))
            self.assertEqual(entry["recipients"], ["x@far.test"])
            self.assertEqual(entry["sender"], account)

    def test_mixed_recipients_go_once_where_they_should(self):
        recipients = ["one@far.test", "two@other.test", "boss@example.com",
                      "third@direct.test"]
        self.stack.send("sales@example.com", recipients, "mixed")
        entry, = self.arrived()
        self.assertEqual(sorted(entry["recipients"]),
                         ["one@far.test", "two@other.test"])
        local, = self.stack.local.wait_to("boss@example.com")
        direct, = self.stack.internet.wait_to("third@direct.test")
        self.assertEqual(local["recipients"], ["boss@example.com"])
        self.assertEqual(direct["recipients"], ["third@direct.test"])
        self.stack.mta.wait_empty()
        self.assertEqual(len(self.sim.journal(self.since, False)), 1)

    def test_sendmail_t_is_routed_too(self):
        self.stack.mta.sendmail(
            "sales@example.com", [],
            message("sales@example.com", ["x@far.test", "boss@example.com"],
                    "by sendmail -t"), "-t")
        entry, = self.arrived()
        self.assertEqual(entry["recipients"], ["x@far.test"])
        self.stack.local.wait_to("boss@example.com")

    def test_a_rule_rejects_at_rcpt(self):
        with self.stack.smtp() as c:
            c.mail("blocked@example.com")
            code, text = c.rcpt("x@far.test")
        self.assertEqual((code, self.said(text)), (
            550, b"5.7.1 This sender may not send"))

    def test_a_rule_defers_at_rcpt(self):
        with self.stack.smtp() as c:
            c.mail("later@example.com")
            code, text = c.rcpt("x@far.test")
        self.assertEqual((code, self.said(text)), (
            451, b"4.7.1 Come back later"))

    def test_a_rule_on_a_header_rejects_at_the_end(self):
        with self.assertRaises(smtplib.SMTPDataError) as raised:
            self.stack.send("sales@example.com", "x@far.test",
                            headers=[("X-Refuse", "yes")])
        self.assertEqual(raised.exception.smtp_code, 550)
        self.assertEqual(raised.exception.smtp_error,
                         b"5.7.1 No such mail here")

    def test_one_refused_recipient_of_a_mixed_message_bounces(self):
        # At RCPT the rule on a header stands before it, so that only the end
        # of the message can tell: the others go on, this one bounces.
        self.stack.send("sales@example.com",
                        ["fine@far.test", "nobody@refused.test"], "refused")
        entry, = self.arrived()
        self.assertEqual(entry["recipients"], ["fine@far.test"])
        bounce = self.stack.local.wait_to("sales@example.com")[-1]["content"]
        self.assertIn(b"Nobody may write there", bounce)
        self.assertIn(b"nobody@refused.test", bounce)
        self.assertNotIn(b"gmroute.invalid", bounce)

    def test_a_forged_tag_is_refused(self):
        with self.stack.smtp() as c:
            c.mail("sales@example.com")
            for forged in ("victim@far.test.%s.a7aaaaaaaaaaaa.q00."
                           "gmroute.invalid" % ("a" * 48),
                           "victim@GMROUTE.invalid",
                           "<@relay.test:victim@far.test.x.gmroute.invalid>",
                           '"v x"@far.test.gmroute.invalid'):
                code, _ = c.docmd("RCPT", "TO:" + (
                    forged if forged.startswith("<") else "<%s>" % forged))
                # Without a queue label the MTA's own table refuses first.
                self.assertIn(code, (550,) if ".q00." in forged
                              else (550, 450, 451), forged)

    def test_odd_addresses_survive(self):
        odd = ["a+b=c%d@far.test", '"quoted local"@far.test',
               "o'neil@far.test", "x" * 60 + "@far.test"]
        for address in odd:
            with self.stack.smtp() as c:
                c.mail("sales@example.com")
                code, text = c.docmd("RCPT", "TO:<%s>" % address)
                self.assertEqual(code, 250, (address, text))
                self.assertEqual(c.data(message(
                    "sales@example.com", [address], "odd"))[0], 250)
        got = [r for e in self.arrived(len(odd)) for r in e["recipients"]]
        self.assertEqual(sorted(got), sorted(odd))

    def test_what_cannot_be_tagged_stays_with_the_mta(self):
        # 241 octets of domain leave no room for a tag within 253.
        long = "x@" + ".".join(["d" * 59] * 3) + "." + "e" * 55 + ".test"
        self.stack.send("sales@example.com", long, "long")
        self.stack.internet.wait_to(long)

    def test_source_route_is_delivered_once(self):
        with self.stack.smtp() as c:
            c.mail("sales@example.com")
            code, text = c.docmd("RCPT", "TO:<@relay.example:routed@far.test>")
            self.assertEqual(code, 250, text)
            self.assertEqual(c.data(message(
                "sales@example.com", ["routed@far.test"], "route"))[0], 250)
        entry, = self.arrived()
        self.assertEqual(entry["recipients"], ["routed@far.test"])
        self.stack.mta.wait_empty()
        self.assertEqual(self.stack.internet.to("routed@far.test"), [])

    def test_the_same_recipient_twice_is_delivered_once(self):
        self.stack.send("sales@example.com",
                        ["twice@far.test", "Twice@Far.test",
                         "twice@far.test"], "twice")
        self.stack.mta.wait_empty()
        got = [r.lower() for e in self.arrived() for r in e["recipients"]]
        self.assertEqual(got, ["twice@far.test"])

    def test_null_sender_stays_with_the_mta(self):
        self.stack.send("", "nobounce@far.test", "null")
        self.stack.internet.wait_to("nobounce@far.test")

    def test_several_messages_on_one_connection(self):
        with self.stack.smtp() as c:
            c.sendmail("sales@example.com", ["m1@far.test"],
                       message("sales@example.com", ["m1@far.test"], "m1"))
            c.mail("sales@example.com")
            c.rcpt("aborted@far.test")
            c.rset()
            c.sendmail("other@elsewhere.test", ["m2@far.test"],
                       message("other@elsewhere.test", ["m2@far.test"], "m2"))
            c.sendmail("sales@example.com", ["m3@far.test"],
                       message("sales@example.com", ["m3@far.test"], "m3"))
        got = [e["recipients"] for e in self.arrived(2)]
        self.assertEqual(sorted(got), [["m1@far.test"], ["m3@far.test"]])
        self.stack.internet.wait_to("m2@far.test")

    def test_logs_say_why(self):
        self.stack.send("sales@example.com", "why@far.test", "why")
        self.arrived()
        line, = [x for x in self.stack.milter.log().splitlines()
                 if "to=why@far.test" in x]
        self.assertIn("rule=sales", line)
        self.assertIn("account=sales@example.com", line)
        self.assertIn("gmroute.yaml:", line)
        row, = wait_for("the ledger's row", lambda: self.stack.log_row(
            recipient="why@far.test"))
        self.assertEqual(row["outcome"], "sent")
        self.assertTrue(row["queue"])
        self.assertIn(row["queue"], line)
        self.assertIn(row["ticket"], line)
        self.assertIn(row["ticket"], self.stack.deliver.log())

    def test_explain_agrees_with_what_happens(self):
        told = self.stack.ctl("explain", "--json", "--sender",
                              "sales@example.com", "--recipient",
                              "x@far.test", "--recipient", "boss@example.com")
        self.assertEqual([(r["action"], r["account"])
                          for r in told["recipients"]],
                         [("account", "sales@example.com"), ("mta", None)])

    def test_secrets_are_in_no_log(self):
        self.stack.send("sales@example.com", "secret@far.test", "secret")
        self.arrived()
        logs = "".join(d.log() for d in self.stack.daemons.values())
        for secret in ("1//sales", "client-secret", "abcdefgh", "ya29."):
            self.assertNotIn(secret, logs)


class Routing(Scenarios, SharedStack):
    login = "alice@example.com"  # the template trusts logins

    @classmethod
    def make_stack(cls):
        return Stack(staff_trust="[login, local]")

    def test_sendmail_is_routed_too(self):
        self.stack.mta.sendmail(
            "bob@example.com", ["x@far.test"],
            message("bob@example.com", ["x@far.test"], "by sendmail"))
        entry, = self.arrived()
        # trust: local lets it use the template.
        self.assertEqual(entry["account"], "bob@example.com")

    def test_trust_keeps_strangers_off_a_template(self):
        # Not logged in: the rule does not match, the default does.
        self.stack.send("alice@example.com", "x@far.test", "untrusted")
        self.stack.internet.wait_to("x@far.test")
        # Logged in as somebody else: the same.
        self.stack.send("alice@example.com", "y@far.test", "untrusted",
                        login="bob@example.com")
        self.stack.internet.wait_to("y@far.test")
        self.assertEqual(self.sim.journal(self.since, False), [])


class RoutingOnSendmail(Scenarios, SharedStack):
    login = None  # Sendmail has no XCLIENT: the template trusts the address

    @staticmethod
    def said(text):
        """Sendmail puts the recipient in front, behind the enhanced code."""
        return re.sub(rb"<\S+>\.\.\. ", b"", text)

    @classmethod
    def make_stack(cls):
        return Stack(staff_trust="{clients: [127.0.0.1]}", mta="sendmail")

    def test_a_program_of_this_host_is_routed_too(self):
        # The submission program speaks SMTP to the daemon: a client of this
        # host, not `local`.
        self.stack.mta.sendmail(
            "bob@example.com", ["x@far.test"],
            message("bob@example.com", ["x@far.test"], "by sendmail"))
        entry, = self.arrived()
        self.assertEqual(entry["account"], "bob@example.com")


class Configuration(unittest.TestCase):
    def test_rules_of_this_file_are_good(self):
        with Stack(mta=None) as stack:
            self.assertIn("good", stack.ctl("check"))
            self.assertTrue(os.path.exists(stack.config_file))
            self.assertIn("rules:", RULES)


if __name__ == "__main__":
    unittest.main()
