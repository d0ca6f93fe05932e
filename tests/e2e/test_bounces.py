# test_bounces - Gmail's answer for each recipient comes back to the sender
# SPDX-License-Identifier: Apache-2.0

import email
import unittest

from tests.e2e.stack import Stack, wait_for


class Bounces(unittest.TestCase):
    def test_one_refused_of_three_bounces_with_the_real_address(self):
        with Stack() as stack:
            stack.sim.fault(
                "reply", stage="rcpt", recipient="gone@far\\.test",
                text="550-5.1.1 The email account that you tried to reach "
                "does not exist.\r\n550 5.1.1  https://support.google.com/"
                "mail/?p=NoSuchUser")
            stack.send("sales@example.com", [
                "one@far.test", "Gone@far.test", "two@far.test"])
            entry, = stack.sim.wait_journal(1)
            self.assertEqual(sorted(entry["recipients"]),
                             ["one@far.test", "two@far.test"])
            bounce, = stack.local.wait_to("sales@example.com")
            report = email.message_from_bytes(bounce["content"])
            text, status = report.get_payload()[:2]
            fields = status.get_payload()[1]
            self.assertEqual(fields["Final-Recipient"],
                             "rfc822; Gone@far.test")
            self.assertEqual(fields["Original-Recipient"],
                             "rfc822;Gone@far.test")
            self.assertEqual(fields["Status"], "5.1.1")
            self.assertIn("<Gone@far.test>", text.get_payload())
            self.assertIn("does not exist", text.get_payload())
            self.assertNotIn(b"gmroute.invalid", bounce["content"])
            stack.postfix.wait_empty()
            # What was refused is given back to the account.
            account, = stack.ctl("quota", "sales", "--json")
            used = {w["dimension"]: w["used"] for w in account["windows"]}
            self.assertEqual(used["recipients"], 2)
            self.assertEqual(used["messages"], 1)

    def test_message_refused_by_gmail_bounces(self):
        with Stack() as stack:
            stack.sim.fault(
                "reply", stage="end", count=1,
                text="552-5.7.0 This message was blocked because its content "
                "presents a potential\r\n552 5.7.0 security issue. "
                "?p=BlockedMessage")
            stack.send("sales@example.com", ["x@far.test"])
            bounce, = stack.local.wait_to("sales@example.com")
            self.assertIn(b"552 5.7.0", bounce["content"])
            stack.postfix.wait_empty()
            account, = stack.ctl("quota", "sales", "--json")
            self.assertEqual([w["used"] for w in account["windows"]
                              if w["dimension"] == "messages"], [0])

    def test_notify_never_bounces_nothing(self):
        with Stack() as stack:
            stack.sim.fault("reply", stage="rcpt", recipient="gone@",
                            text="550 5.1.1 no such user")
            with stack.smtp() as c:
                c.mail("sales@example.com")
                self.assertEqual(c.docmd(
                    "RCPT", "TO:<gone@far.test> NOTIFY=NEVER")[0], 250)
                self.assertEqual(c.data(b"Subject: x\r\n\r\nx\r\n")[0], 250)
            wait_for("the refusal", lambda: stack.log_row(outcome="refused"))
            stack.postfix.wait_empty()
            self.assertEqual(stack.local.messages, [])


if __name__ == "__main__":
    unittest.main()
