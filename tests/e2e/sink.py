# sink - an SMTP server that takes everything and remembers it
# SPDX-License-Identifier: Apache-2.0
"""Where the private MTA's other mail goes: one sink is the local mailboxes,
another one the rest of the internet. What arrives must not come from us."""

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
                self.wfile.write(b"250-sink\r\n250-8BITMIME\r\n"
                                 b"250-SMTPUTF8\r\n250 PIPELINING\r\n")
            elif verb.startswith("MAIL FROM:"):
                sender, recipients = words[10:].split()[0].strip("<>"), []
                self.say("250 ok")
            elif verb.startswith("RCPT TO:"):
                recipients.append(words[8:].split()[0].strip("<>"))
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

    def __init__(self, address=("127.0.0.1", 0)):
        super().__init__(address, _Handler)
        self.port = self.server_address[1]
        self.messages = []
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
