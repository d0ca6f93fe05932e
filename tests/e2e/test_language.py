# test_language - what rules can say beyond routes, on real MTAs
# SPDX-License-Identifier: Apache-2.0

import json
import os
import re
import unittest

from tests.e2e.stack import SharedStack, Stack, message, wait_for

RULES = """\
rules:
  - name: by a macro, at once
    match: {macro: {client_addr: "127.0.0.66"}}
    reject: "550 5.7.1 Not from there"
  - name: attachments
    match: {sender: sales@example.com, attachment: ["*.exe", "*.js"]}
    route: mta
  - name: by subject
    match: {subject: "*stay here*"}
    route: mta
  - name: by a macro of the connection
    match: {macro: {client_addr: "127.0.0.77"}}
    route: mta
  - name: by a macro of the recipient
    match: {macro: {rcpt_addr: "macro@far.test"}}
    route: mta
  - name: by a macro of the end
    match: {macro: {i: "?*"}, subject: queued}
    route: mta
  - name: by the HELO name
    match: {helo: "stays.test"}
    route: mta
  - name: held
    match: {recipient_domain: hold.test}
    hold: looks odd
  - name: discarded
    match: {recipient_domain: gone.test}
    discard: true
  - name: edited
    match: {subject: "edit me*"}
    route: {account: sales}
    remove_header: [X-Secret, X-Other]
    add_header: {X-Routed-By: gmroute}
  - name: edited for the MTA
    match: {recipient_domain: direct.test, subject: edit}
    route: mta
    remove_header: X-Secret
    add_header: {X-Direct: "1"}
  - name: at any time
    match: {time: "00:00-24:00", subject: at any time}
    route: mta
  - name: none of them
    match: {sample: 0%}
    reject: "550 5.7.1 Not one"
  - name: all of them
    match: {sample: 100%, subject: sampled}
    route: mta
  - name: what if
    match: {sender: sales@example.com}
    route: {account: news}
    shadow: true
  - name: sales
    match: {sender: sales@example.com}
    route: {account: sales}
default: mta
"""

# A part in a part, its name in pieces by RFC 2231.
NESTED = """\
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

hello
--inner
Content-Type: application/octet-stream
Content-Disposition: attachment;
 filename*0*=utf-8''inv%6Fice;
 filename*1*=%2Ee%78e

MZ
--inner--
--outer--
""".replace("\n", "\r\n")
MULTIPART = [("MIME-Version", "1.0"),
             ("Content-Type", 'multipart/mixed; boundary="outer"')]


class Scenarios:
    """What must be so on every MTA."""

    def send(self, recipients, subject="hello", **more):
        self.stack.send("sales@example.com", recipients, subject, **more)

    def stays(self, recipient):
        """It left by the MTA's own way; the message as it arrived."""
        got, = self.stack.internet.wait_to(recipient)
        self.assertEqual(self.sim.journal(self.since, False), [])
        return got["content"]

    def routed(self):
        entry, = self.sim.wait_journal(1, self.since)
        return entry

    def line_of(self, *words):
        """The one line of the milter's log with all of them."""
        line, = [x for x in self.stack.milter.log().splitlines()
                 if all(w in x for w in words)]
        return line

    # --- conditions

    def test_an_attachment_goes_to_the_mta(self):
        self.send("exe@far.test", headers=MULTIPART, body=NESTED)
        self.assertIn(b"filename*0*", self.stays("exe@far.test"))
        self.assertIn("rule=attachments", self.line_of("to=exe@far.test"))

    def test_another_attachment_is_routed(self):
        self.send("pdf@far.test", headers=MULTIPART,
                  body=NESTED.replace("%78", "%74"))
        self.assertEqual(self.routed()["recipients"], ["pdf@far.test"])

    def test_a_large_body_without_structure_is_skipped(self):
        lines = "filename=a.exe\r\n" * 40000
        self.send("large@far.test", body=lines)
        self.assertTrue(self.routed()["content"].endswith(
            lines[-1000:].encode() + b"\r\n"))

    def test_a_large_attachment_in_a_large_message(self):
        self.send("late@far.test", headers=MULTIPART, body=NESTED.replace(
            "hello", "hello\r\n" * 50000))
        self.stays("late@far.test")

    def test_subject(self):
        self.send("subject@far.test", "=?utf-8?q?please_Stay?= here!")
        self.stays("subject@far.test")

    def test_a_macro_of_the_connection(self):
        self.send("client@far.test", client="127.0.0.77")
        self.stays("client@far.test")
        self.send("client2@far.test", client="127.0.0.78")
        self.assertEqual(self.routed()["recipients"], ["client2@far.test"])

    def test_a_macro_of_the_connection_refuses_at_rcpt(self):
        with self.stack.smtp(client="127.0.0.66") as c:
            c.mail("sales@example.com")
            code, text = c.rcpt("x@far.test")
            self.assertEqual(code, 550)
            # Sendmail has the recipient between code and text.
            self.assertRegex(text, rb"^5\.7\.1 .*Not from there$")

    def test_a_macro_of_one_recipient(self):
        self.send(["other@far.test", "macro@far.test", "third@far.test"])
        self.assertEqual(sorted(self.routed()["recipients"]),
                         ["other@far.test", "third@far.test"])
        self.stack.internet.wait_to("macro@far.test")

    def test_a_macro_that_comes_at_the_end(self):
        self.send("queued@far.test", "queued")
        self.stays("queued@far.test")

    def test_helo(self):
        with self.stack.smtp() as c:
            c.ehlo("stays.test")
            c.sendmail("sales@example.com", ["helo@far.test"],
                       message("sales@example.com", ["helo@far.test"]))
        self.stays("helo@far.test")

    def test_time_and_sample(self):
        self.send("time@far.test", "at any time")
        self.stays("time@far.test")
        self.send("sample@far.test", "sampled")
        self.stays("sample@far.test")

    def test_the_sendmail_command_has_macros_too(self):
        self.stack.mta.sendmail(
            "sales@example.com", ["local@far.test"],
            message("sales@example.com", ["local@far.test"], "queued"))
        self.stays("local@far.test")

    # --- actions

    def test_a_held_message_waits_until_it_is_released(self):
        self.send(["kept@hold.test", "beside@far.test"])
        held = wait_for("a held message", self.held)
        (queue_id, addresses), = held.items()
        self.assertIn("kept@hold.test", addresses)
        self.assertEqual(len(addresses), 2)
        line = self.line_of("to=kept@hold.test")
        self.assertIn('action=hold hold="looks odd" on_release=mta', line)
        self.assertIn("queue=" + queue_id, line)
        self.stack.mta.flush()
        self.assertEqual(self.sim.journal(self.since, False), [])
        self.assertEqual(self.stack.internet.to("kept@hold.test"), [])
        self.release(queue_id)
        self.stack.mta.flush()
        self.stack.internet.wait_to("kept@hold.test")
        self.assertEqual(self.routed()["recipients"], ["beside@far.test"])
        self.assertEqual(self.held(), {})

    def test_a_discarded_recipient_is_gone(self):
        self.send(["x@gone.test", "stays@far.test"])
        self.assertEqual(self.routed()["recipients"], ["stays@far.test"])
        self.stack.mta.wait_empty()
        self.assertEqual(self.stack.internet.to("x@gone.test"), [])
        self.assertIn("action=discard", self.line_of("to=x@gone.test"))

    def test_all_discarded_is_taken_and_gone(self):
        self.send(["all@gone.test", "All@gone.test", "none@gone.test"])
        self.stack.mta.wait_empty()
        for who in ("all", "none"):
            self.assertEqual(self.stack.internet.to(who + "@gone.test"), [])
        self.assertEqual(self.stack.local.to("sales@example.com"), [])

    def test_header_edits_are_seen_by_gmail_and_by_the_mta(self):
        secrets = [("X-Secret", "one"), ("X-Kept", "a"), ("x-secret", "two"),
                   ("X-Secret", "three\r\n folded"), ("X-Other", "four")]
        self.send(["edited@far.test", "edited@example.com"], "edit me",
                  headers=secrets)
        at_gmail = self.routed()["content"]
        local, = self.stack.local.wait_to("edited@example.com")
        for content in (at_gmail, local["content"]):
            self.assertNotIn(b"secret", content.lower())
            self.assertNotIn(b"folded", content)
            self.assertNotIn(b"X-Other", content)
            self.assertIn(b"X-Kept: a\r\n", content)
            self.assertEqual(content.count(b"X-Routed-By: gmroute\r\n"), 1)
            self.assertIn(b"Subject: edit me\r\n", content)

    def test_fields_are_only_added_where_there_are_none_to_remove(self):
        self.send("plain@direct.test", "edit", headers=[("X-Kept", "b")])
        content = self.stays("plain@direct.test")
        self.assertIn(b"X-Direct: 1\r\n", content)
        self.assertIn(b"X-Kept: b\r\n", content)
        line = self.line_of("rule=\"edited for the MTA\"", "add_header=")
        self.assertIn("remove_header=X-Secret add_header=X-Direct", line)

    def test_a_shadow_rule_only_says_so(self):
        self.send("shadow@far.test")
        self.assertEqual(self.routed()["account"], "sales@example.com")
        line = self.line_of("to=shadow@far.test", "shadow=yes")
        self.assertIn('rule="what if"', line)
        self.assertIn("would=account account=news", line)

    def test_nothing_of_a_message_is_left_for_the_next(self):
        with self.stack.smtp() as c:
            for to, more in (("m1@far.test", {"headers": MULTIPART,
                                              "body": NESTED}),
                             ("m2@far.test", {}),
                             ("macro@far.test", {}),
                             ("m4@far.test", {})):
                c.sendmail("sales@example.com", [to],
                           message("sales@example.com", [to], **more))
        got = [e["recipients"] for e in self.sim.wait_journal(2, self.since)]
        self.assertEqual(sorted(got), [["m2@far.test"], ["m4@far.test"]])
        self.stack.internet.wait_to("m1@far.test")


class Language(Scenarios, SharedStack):
    @classmethod
    def make_stack(cls):
        return Stack(RULES)

    def held(self):
        """Recipients by queue id."""
        out = self.stack.mta.run("postqueue", "-j").stdout.decode()
        return {e["queue_id"]: [r["address"] for r in e["recipients"]]
                for e in map(json.loads, out.splitlines())
                if e["queue_name"] == "hold"}

    def release(self, queue_id):
        self.stack.mta.run("postsuper", "-H", queue_id)


class LanguageOnSendmail(Scenarios, SharedStack):
    @classmethod
    def make_stack(cls):
        return Stack(RULES, mta="sendmail")

    def held(self):
        """Recipients by queue id: control files of quarantined messages."""
        found = {}
        for name in os.listdir(self.stack.mta.queue):
            if name.startswith("hf"):
                with open(os.path.join(self.stack.mta.queue, name),
                          encoding="latin-1") as f:
                    found[name[2:]] = re.findall(r"^R[A-Z]*:<(.*)>$",
                                                 f.read(), re.M)
        return found

    def release(self, queue_id):
        self.stack.mta.run("-qQ", "-Q", "-qI" + queue_id)


if __name__ == "__main__":
    unittest.main()
