# saslauthd - who may log in to the private Sendmail
# SPDX-License-Identifier: Apache-2.0
"""The server's side of Cyrus SASL's password check: each request is a user, a
password, a service and a realm, each with its length in front."""

import os
import socketserver
import struct
import threading


class _Handler(socketserver.StreamRequestHandler):
    def text(self):
        return self.rfile.read(*struct.unpack(">H", self.rfile.read(2)))

    def handle(self):
        user, password, _, _ = (self.text() for _ in range(4))
        reply = b"OK" if self.server.users.get(user) == password else b"NO"
        self.wfile.write(struct.pack(">H", len(reply)) + reply)


class Saslauthd(socketserver.ThreadingUnixStreamServer):
    """In `directory`, with the program's own configuration beside it.
    `users`: their passwords; both bytes."""

    daemon_threads = True

    def __init__(self, directory, program, users):
        os.mkdir(directory)
        with open(os.path.join(directory, program + ".conf"), "w",
                  encoding="ascii") as f:
            f.write("pwcheck_method: saslauthd\nmech_list: PLAIN\n"
                    "saslauthd_path: %s/mux\n" % directory)
        self.users = users
        super().__init__(os.path.join(directory, "mux"), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
