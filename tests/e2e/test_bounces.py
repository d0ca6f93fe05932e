# test_bounces - Gmail's answer for each recipient comes back to the sender
# SPDX-License-Identifier: Apache-2.0
"""And no tagged address does: neither in the text, nor in the fields for
programs, nor in reports of success or delay."""

import email
import os
import re
import unittest

from tests.e2e.stack import SIM, SharedStack, Stack, message, wait_for

LONG_NAME = "a" * 40 + "@example.com"  # its label is long, too
GONE = ("550-5.1.1 The email account that you tried to reach does not exist."
        "\r\n550 5.1.1  https://support.google.com/mail/?p=NoSuchUser")
# A ticket's version and key come first in it.
TAG = re.compile(rb"gmroute\.invalid|\.a[e-h][a-z2-7]{46}", re.I)


class Report:
    """A delivery report: its text, and its fields for each recipient."""

    def __init__(self, content):
        self.content = content
        parts = email.message_from_bytes(content).get_payload()
        self.text = parts[0].get_payload(decode=True).decode()
        # Folded lines, and the blanks between words, are as good as one.
        self.flat = re.sub(r"\s+", " ", self.text)
        # In blocks: the part's own header, the message, each recipient.
        boundary = email.message_from_bytes(content).get_boundary().encode()
        status = content.replace(b"\r\n", b"\n").split(
            b"\n--" + boundary)[2].strip().decode()
        self.recipients = [
            dict(re.findall(r"^(\S+): *(.*)$", block, re.M))
            for block in re.split(r"\n\n+", status)[2:]]

    def values(self, name, action=""):
        """Of the recipients with this action."""
        return sorted(re.sub(r"^(rfc822|utf-8); *", "", r[name], flags=re.I)
                      for r in self.recipients
                      if r["Action"].startswith(action))


class Scenarios:
    """What must be so on every MTA. Each uses a sender of its own."""

    sender = None
    shortens = False  # long addresses in the text

    def setUp(self):
        super().setUp()
        name = self.id().rsplit(".", 1)[1].replace("_", "")[:40]
        self.sender = name + "@sales.example.com"

    def refuse(self, recipient, text=GONE):
        fault = self.sim.fault("reply", stage="rcpt", recipient=recipient,
                               text=text)
        self.addCleanup(self.sim.clear, fault)

    def reports(self):
        """All that came for the sender and is a report: a clean one."""
        got = [m["content"] for m in self.stack.local.to(self.sender)
               if m["sender"] == ""]
        for content in got:
            self.assertIsNone(TAG.search(content), content)
        return [Report(c) for c in got]

    def report(self, action="failed"):
        """The one report of this kind."""
        def found():
            return [r for r in self.reports()
                    if r.values("Action", action)]

        report, = wait_for("a report", found)
        return report

    def dialogue(self, *recipients, mail=(),
                 content=b"Subject: x\r\n\r\nx\r\n"):
        """RCPT arguments as they are."""
        with self.stack.smtp() as c:
            code, text = c.mail(self.sender, mail)
            self.assertEqual(code, 250, text)
            for r in recipients:
                c.send(("RCPT TO:" + r + "\r\n").encode())
                code, text = c.getreply()
                self.assertEqual(code, 250, (r, text))
            self.assertEqual(c.data(content)[0], 250)

    def test_one_refused_of_three(self):
        self.refuse("gone@far\\.test")
        before = self.used()
        self.stack.send(self.sender, [
            "one@far.test", "Gone@far.test", "two@far.test"])
        entry, = self.sim.wait_journal(1, self.since)
        self.assertEqual(sorted(entry["recipients"]),
                         ["one@far.test", "two@far.test"])
        report = self.report()
        self.assertEqual(report.values("Final-Recipient"), ["Gone@far.test"])
        self.assertEqual(report.values("Original-Recipient"),
                         ["Gone@far.test"])
        self.assertEqual(report.values("Status"), ["5.1.1"])
        self.assertIn("<Gone@far.test>", report.text)
        self.assertIn("does not exist", report.text)
        # What was refused is given back to the account.
        after = self.used()
        self.assertEqual(after["recipients"] - before["recipients"], 2)
        self.assertEqual(after["messages"] - before["messages"], 1)

    def used(self):
        account, = self.stack.ctl("quota", "sales", "--json")
        return {w["dimension"]: w["used"] for w in account["windows"]}

    def test_each_recipient_has_its_own_answer(self):
        self.refuse("no@", "550 5.7.1 Not you")
        later = self.sim.fault("reply", stage="rcpt", recipient="later@",
                               text="450 4.2.1 Too quickly")
        self.stack.send(self.sender,
                        ["yes@far.test", "no@far.test", "later@far.test"])
        report = self.report()
        self.assertEqual(report.values("Final-Recipient", "failed"),
                         ["no@far.test"])
        self.assertIn("Not you", report.text)
        self.sim.clear(later)
        self.stack.mta.flush()
        got = self.sim.wait_journal(2, self.since)
        self.assertEqual([e["recipients"] for e in got],
                         [["yes@far.test"], ["later@far.test"]])
        self.stack.mta.wait_empty()

    def test_message_refused(self):
        before = self.used()
        self.sim.fault(
            "reply", stage="end", count=1,
            text="552-5.7.0 This message was blocked because its content "
            "presents a potential\r\n552 5.7.0 security issue. "
            "?p=BlockedMessage")
        self.stack.send(self.sender, ["x@far.test", "y@far.test"])
        report = self.report()
        self.assertIn("552 5.7.0", report.flat)
        self.assertEqual(report.values("Final-Recipient"),
                         ["x@far.test", "y@far.test"])
        self.assertEqual(self.used(), before)

    def test_two_hundred_refused(self):
        gone = ["gone%03d@far.test" % i for i in range(200)]
        self.refuse("gone\\d")
        self.stack.send(self.sender, gone)
        report = self.report()
        self.assertEqual(report.values("Final-Recipient"), gone)
        self.assertEqual(report.values("Original-Recipient"), gone)
        for address in gone:
            self.assertIn("<%s>" % address, report.text)

    def test_odd_and_long_addresses(self):
        domain = ".".join(["long" * 12] * 2) + ".test"
        odd = ["gone-" + "x" * 55 + "@" + domain,
               '"gone with blanks, %s"@far.test' % " ".join(["word"] * 8),
               "gone+a=b%c!d'e@far.test", "gone.--.x@b-c.far.test"]
        self.refuse("gone")
        self.dialogue(*("<%s>" % a for a in odd))
        report = self.report()
        self.assertEqual(report.values("Final-Recipient"), sorted(odd))
        for address in odd[1:] if self.shortens else odd:
            self.assertIn(address, report.flat)

    def test_eight_bits_come_back(self):
        self.refuse("gone")
        self.dialogue("<gone@far.test>", mail=["BODY=8BITMIME"], content=(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
            "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            "\u00fcber\r\n.\u65e5\r\n").encode())
        self.assertIn("\r\n\u00fcber\r\n.\u65e5\r\n".encode(),
                      self.report().content)

    def test_reports_of_several_messages(self):
        self.refuse("gone")
        for i in range(3):
            self.stack.send(self.sender, ["gone%d@far.test" % i,
                                          "fine%d@far.test" % i])
        wait_for("three reports", lambda: len(self.reports()) == 3)
        self.assertEqual(
            sorted(a for r in self.reports()
                   for a in r.values("Final-Recipient")),
            ["gone%d@far.test" % i for i in range(3)])

    def test_another_accounts_label(self):
        self.refuse("gone")
        self.sender = "alice@example.com"
        self.stack.send(self.sender, "gone@far.test")
        self.assertEqual(self.report().values("Final-Recipient"),
                         ["gone@far.test"])

    def test_refused_by_a_rule(self):
        self.stack.send(self.sender, ["x@far.test", "nobody@refused.test"])
        report = self.report()
        self.assertIn("Nobody may write there", report.text)
        self.assertEqual(report.values("Final-Recipient"),
                         ["nobody@refused.test"])

    def test_beside_recipients_of_the_mta(self):
        self.refuse("gone")
        self.stack.send(self.sender, [
            "a@direct.test", "gone@far.test", "boss@example.com",
            "z@direct.test", self.sender])
        self.stack.internet.wait_to("z@direct.test")
        # Who writes to himself gets that, and not as a report.
        self.report()
        copy, = self.copies()
        self.assertEqual(copy.count(b"Received: "), 1)

    def copies(self, count=1):
        """What the sender wrote to himself."""
        return wait_for("what was written to oneself", lambda: (lambda got: (
            got if len(got) == count else None))(
                [m["content"] for m in self.stack.local.to(self.sender)
                 if m["sender"] == self.sender]))

    def test_expired(self):
        # Nobody answered before the queue lifetime was over.
        self.stack.deliver.stop()
        try:
            self.stack.send(self.sender, ["old@far.test", "older@far.test"])
            wait_for("it in the queue", self.stack.mta.queued)
            self.expire()
            report = self.report()
        finally:
            self.stack.deliver.start()
        self.assertEqual(report.values("Final-Recipient", "failed"),
                         ["old@far.test", "older@far.test"])

    def test_notify_never(self):
        self.refuse("gone@")
        self.dialogue("<gone@far.test> NOTIFY=NEVER")
        wait_for("the refusal", lambda: self.stack.log_row(
            outcome="refused", recipient="gone@far.test", sender=self.sender))
        self.stack.mta.wait_empty()
        self.assertEqual(self.stack.local.to(self.sender), [])

    def test_notify_success(self):
        self.refuse("gone@")
        self.dialogue("<fine@far.test> NOTIFY=SUCCESS "
                      "ORCPT=rfc822;first@list.test",
                      "<gone@far.test> NOTIFY=SUCCESS,FAILURE",
                      mail=["RET=HDRS", "ENVID=e1"])
        report = self.report("relayed")
        self.assertEqual(report.values("Original-Recipient", "relayed"),
                         ["first@list.test"])
        self.assertEqual(report.values("Final-Recipient", "relayed"),
                         ["fine@far.test"])
        self.assertIn("<fine@far.test>", report.text)
        # On Sendmail it is the same one.
        self.assertEqual(self.report().values("Final-Recipient", "failed"),
                         ["gone@far.test"])

    def test_delayed(self):
        fault = self.sim.fault("reply", stage="rcpt", recipient="slow@",
                               text="450 4.2.1 Receiving mail too quickly")
        self.stack.send(self.sender, "slow@far.test")
        report = self.report("delayed")
        self.assertEqual(report.values("Final-Recipient"), ["slow@far.test"])
        self.assertIn("<slow@far.test>", report.text)
        self.sim.clear(fault)
        self.stack.mta.flush()
        self.sim.wait_journal(1, self.since)
        self.stack.mta.wait_empty()


class Bounces(Scenarios, SharedStack):
    @classmethod
    def make_stack(cls):
        return Stack(main_cf="delay_warning_time = 1s\n")

    def expire(self):
        self.stack.mta.run("postsuper", "-e", "ALL")
        self.stack.mta.flush()

    def test_utf8(self):
        self.refuse("gone")
        self.dialogue("<gone-\u00fc\u00df@far.test>",
                      "<gone@b\u00fccher.test>", "<gone@far.test>",
                      mail=["SMTPUTF8", "BODY=8BITMIME"])
        report = self.report()
        self.assertEqual(report.values("Final-Recipient"), sorted([
            "gone@far.test", "gone-\u00fc\u00df@far.test",
            "gone@b\u00fccher.test"]))
        self.assertIn("<gone-\u00fc\u00df@far.test>", report.text)

    def test_asked_where_it_would_go(self):
        # `sendmail -bv`: nothing is sent, and a report of it comes.
        self.stack.mta.sendmail(self.sender, ["a@far.test", "b@direct.test"],
                                b"", "-bv")
        report = self.report("deliverable")
        self.assertEqual(report.values("Final-Recipient"),
                         ["a@far.test", "b@direct.test"])
        self.assertEqual(report.values("Action"), ["deliverable"] * 2)
        self.assertEqual(self.sim.journal(self.since, False), [])


class BouncesOnSendmail(Scenarios, SharedStack):
    shortens = True

    @classmethod
    def make_stack(cls):
        accounts = SIM["accounts"] + [{"address": LONG_NAME}]
        return Stack(mta="sendmail", sim={"accounts": accounts},
                     mc="define(`confTO_QUEUEWARN', `1s')dnl\n"
                     "define(`confTO_QUEUEWARN_DSN', `1s')dnl\n")

    def expire(self):
        def tried():
            self.stack.mta.run("-q", "-OTimeout.queuereturn=1s", check=False)
            return not self.stack.mta.queued()

        wait_for("the end of its life", tried)

    def test_who_writes_to_himself_over_one_connection(self):
        # A recipient who is the sender is found for a report, too: nothing
        # of one message may make the next look like one.
        self.refuse("gone")
        with self.stack.smtp() as c:
            for to in ("gone@far.test", self.sender, "fine@far.test",
                       self.sender, "u@direct.test", "u@example.com"):
                c.sendmail(self.sender, [to], message(self.sender, [to]))
        for copy in self.copies(2) + [
                m["content"] for sink, to in (
                    (self.stack.internet, "u@direct.test"),
                    (self.stack.local, "u@example.com"))
                for m in sink.wait_to(to)]:
            self.assertEqual(copy.count(b"Received: "), 1)
        self.report()

    def test_an_address_that_is_cut_within_its_tag(self):
        # Sendmail leaves out the middle of one with over 203 octets.
        self.refuse("gone")
        self.sender = LONG_NAME
        texts = ""
        for i in range(0, 110, 9):
            domain = ".".join(["d" * (i // 2 + 1), "e" * (i - i // 2 + 1)])
            self.stack.send(self.sender, "gone@%s.test" % domain)
        wait_for("the reports", lambda: len(self.reports()) == 13)
        for r in self.reports():
            texts += r.text
            self.assertNotRegex(r.text, r"\.q\d\d\b|t[a-z2-7]{4}-")
        self.assertIn("...", texts)

    def test_a_report_that_had_to_wait(self):
        # Its program has no luck at first.
        self.refuse("gone")
        path = os.path.join(self.stack.mta.conf, "gmclean")
        with open(path, encoding="ascii") as f:
            good = f.read()
        self.addCleanup(self.write, path, good)
        self.write(path, "#!/bin/sh\nexit 75\n")
        self.stack.send(self.sender, "gone@far.test")
        wait_for("the report in the queue", lambda: "MAILER-DAEMON" in
                 self.stack.mta.run("-bp", check=False).stdout.decode())
        self.write(path, good)
        self.stack.mta.wait_empty()
        self.report()

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as f:
            f.write(text)

    def test_null_senders_of_others_are_left_alone(self):
        for sender in ("", "MAILER-DAEMON@relay.test"):
            self.stack.send(sender, self.sender)
        for m in self.stack.local.wait_to(self.sender, 2):
            self.assertEqual(m["content"].count(b"Received: "), 1)

    def test_a_program_writes_to_its_own_user(self):
        self.refuse("gone")
        self.stack.mta.sendmail(
            self.sender, [], message(
                self.sender, [self.sender, "gone@far.test"]), "-t")
        self.report()
        self.copies()


if __name__ == "__main__":
    unittest.main()
