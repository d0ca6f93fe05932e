# sink - an SMTP server that takes everything and remembers it
# SPDX-License-Identifier: Apache-2.0
"""Where the private MTA's other mail goes: one sink is the local mailboxes,
another one the rest of the internet. What arrives must not come from us."""

import smtplib
import socketserver
import threading
import time


class _Handler(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        sender, recipients = "", []
        self.say("220 sink ESMTP")
        for line in self.rfile:
            words = line.decode("utf-8", "replace").strip()
            verb = words.upper()
            if verb.startswith("EHLO"):
                self.wfile.write(b"250-sink\r\n250-8BITMIME\r\n%s"
                                 b"250-SMTPUTF8\r\n250 PIPELINING\r\n"
                                 % self.server.more)
            elif verb.startswith("MAIL FROM:"):
                sender, recipients = words[10:].split()[0].strip("<>"), []
                self.say("250 ok")
            elif verb.startswith("RCPT TO:"):
                recipients.append(words[8:].split()[0].strip("<>"))
                self.server.parameters[recipients[-1]] = words[8:].split()[1:]
                self.say("250 ok")
            elif verb == "DATA":
                self.say("354 go on")
                self.server.keep(sender, recipients, self.content())
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def content(self):
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)


class Sink(socketserver.ThreadingTCPServer):
    """Serves from its birth; `messages` is a list of dicts."""

    allow_reuse_address = True
    daemon_threads = True
    more = b""  # what EHLO offers besides

    def __init__(self, address=("127.0.0.1", 0)):
        super().__init__(address, _Handler)
        self.port = self.server_address[1]
        self.messages = []
        self.parameters = {}  # of RCPT, by recipient
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    def keep(self, sender, recipients, content):
        with self._lock:
            self.messages.append({"sender": sender, "recipients": recipients,
                                  "content": content})

    def to(self, recipient):
        """The messages for one recipient."""
        return [m for m in list(self.messages)
                if recipient.lower() in map(str.lower, m["recipients"])]

    def wait_to(self, recipient, count=1, timeout_s=30):
        """The messages for one recipient, once there are `count`."""
        deadline = time.monotonic() + timeout_s
        while len(self.to(recipient)) < count:
            if time.monotonic() > deadline:
                raise TimeoutError("no %d messages for %s, but %r" % (
                    count, recipient,
                    [m["recipients"] for m in self.messages]))
            time.sleep(0.05)
        return self.to(recipient)

    def stop(self):
        self.shutdown()
        self.server_close()


class Filter(Sink):
    """A content filter: hands everything back to the MTA's port `back`, from
    the address `source`, with the parameters that it came with."""

    more = b"250-DSN\r\n"

    def __init__(self, back, source="127.0.0.1"):
        super().__init__()
        self.back, self.source = back, source

    def keep(self, sender, recipients, content):
        super().keep(sender, recipients, content)
        with smtplib.SMTP("127.0.0.1", self.back, timeout=30,
                          source_address=(self.source, 0)) as c:
            c.ehlo("filter.test")
            c.mail(sender)
            for r in recipients:
                c.rcpt(r, self.parameters[r])
            c.data(content)
