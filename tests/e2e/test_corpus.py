# test_corpus - strange messages reach Gmail byte for byte
# SPDX-License-Identifier: Apache-2.0

import os
import random
import re
import smtplib
import unittest

from tests.e2e.stack import SharedStack, wait_for

ID = (b"Message-ID: <strange@example.com>\r\n"
      b"Date: Sun, 01 Mar 2026 10:00:00 +0000\r\n")
BLOCK = 64 * 1024  # the client writes content in such pieces


def lines(seed, octets, most=76):
    """Lines of any octets but CR, LF and NUL."""
    rest, out = random.Random(seed), []
    while octets > 0:
        n = min(rest.randrange(most + 1), octets)
        out.append(bytes(rest.choice(range(1, 10)) if rest.random() < 0.05
                         else rest.randrange(11, 13) if rest.random() < 0.05
                         else rest.randrange(14, 256) for _ in range(n)))
        octets -= n + 2
    return b"\r\n".join(out) + b"\r\n"


CORPUS = {
    "plain": ID + b"Subject: x\r\n\r\nHello\r\n",
    "no body": ID + b"\r\n",
    "blank body": ID + b"\r\n\r\n\r\n\r\n",
    "odd header": b"rEcEiVeD: from a\r\n\tby b\r\n  ; c\r\n" + ID +
                  b"X-Empty:\r\nX-Tight:y\r\nX-Space : z\r\nX-8: \xe9\xff\r\n"
                  b"!#$%&'*+-^_`{|}~: y\r\n\r\nb\r\n",
    "fields twice": ID + b"Subject: a\r\nSubject: b\r\nTo: c\r\nTo: d\r\n"
                    b"From: e\r\nFrom: f\r\n\r\nb\r\n",
    "names like Bcc": ID + b"X-Bcc: a\r\nBccs: b\r\nBlind: c\r\n\r\nBcc: d\r\n",
    "signed": b"DKIM-Signature: v=1; h=from:to;\r\n\tb=abc=\r\n" + ID +
              b"From: a@example.com\r\n\r\nb\r\n",
    "dots": ID + b"\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n..x\r\nx.\r\n",
    "dot at a block's edge": ID + b"\r\n" + b"".join(
        b"x" * (n - len(ID) - 4) + b"\r\n.\r\n" for n in
        (BLOCK - 2, BLOCK - 1, BLOCK, BLOCK + 1)),
    "blanks at the ends": ID + b"Subject:  x \t\r\n\r\n a \t\r\n\t\r\n   \r\n",
    "controls": ID + b"\r\n" + bytes(c for c in range(1, 128)
                                     if c not in (10, 13)) + b"\r\n\x1a\r\n",
    "NUL inside a line": ID + b"\r\na\0b\r\n.\0\r\n",
    "8 bit": ID + b"Content-Transfer-Encoding: 8bit\r\n\r\n" +
             bytes(range(128, 256)) + b"\r\n",
    "UTF-8 header": ID + "Subject: Gr\u00fc\u00dfe \u4f60\u597d\r\n"
                    "From: \"\u00dc\" <a@example.com>\r\n\r\nb\r\n".encode(),
    "line of 998": ID + b"\r\n" + b"y" * 998 + b"\r\n",
    "line of 300,000": ID + b"\r\n" + b"z" * 300000 + b"\r\nend\r\n",
    "fold of 100,000": ID + b"X-Long: a\r\n" + b" b\r\n" * 25000 + b"\r\nc\r\n",
    "multipart": ID + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n"
                 b" boundary=\"--. .--\"\r\n\r\n----. .--\r\n\r\na\r\n"
                 b"----. .--\r\nContent-Type: message/rfc822\r\n\r\n"
                 b"Bcc: inner\r\n\r\n.\r\n----. .----\r\nepilogue\r\n",
    "looks like SMTP": ID + b"\r\nQUIT\r\nRSET\r\nBDAT 5 LAST\r\nDATA\r\n",
    "anything": ID + b"\r\n" + lines(1, 20000),
    "above memory": ID + b"\r\n" + lines(2, 200000) + b"w" * 1100000 + b"\r\n",
}


class Corpus(SharedStack):
    def tags(self, n):
        """Tagged recipients, one for each message."""
        deliver = self.stack.deliver
        deliver.stop()
        recipients = ["n%d@far.test" % i for i in range(n)]
        self.stack.send("sales@example.com", recipients)

        def found():
            text = self.stack.postfix.run("postqueue", "-p").stdout.decode()
            tags = re.findall(r"^\s+(\S+\.gmroute\.invalid)$", text, re.M)
            return tags if len(tags) == n else None

        tags = wait_for("tagged recipients", found)
        self.stack.postfix.run("postsuper", "-d", "ALL")
        deliver.start()
        return tags

    def give(self, tag, content):
        path = os.path.join(self.stack.top, "spool/gmroute/deliver.sock")
        with smtplib.LMTP(path) as c:
            c.ehlo("mta.test")
            for command in ("MAIL FROM:<sales@example.com> BODY=8BITMIME "
                            "SMTPUTF8", "RCPT TO:<%s>" % tag):
                code, text = c.docmd(command)
                self.assertEqual(code, 250, text)
            code, text = c.docmd("DATA")
            self.assertEqual(code, 354, text)
            stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
            c.send(stuffed + b".\r\n")
            return c.getreply()

    def check(self):
        tags = self.tags(len(CORPUS))
        for tag, (name, content) in zip(tags, CORPUS.items()):
            with self.subTest(name):
                before = len(self.sim.journal(content=False))
                code, text = self.give(tag, content)
                self.assertEqual(code, 250, text)
                entry, = self.sim.journal(before)
                self.assertTrue(entry["content"] == content,
                                "%r became %r" % (content[:300],
                                                  entry["content"][:300]))

    def test_by_bdat(self):
        self.check()

    def test_by_data(self):
        self.sim.settings(ehlo_without=["CHUNKING"])
        try:
            self.check()
        finally:
            self.sim.settings(ehlo_without=[])


if __name__ == "__main__":
    unittest.main()
