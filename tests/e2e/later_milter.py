# later_milter - another milter behind ours, one that says no at the end
# SPDX-License-Identifier: Apache-2.0
"""Speaks just enough of the milter protocol (version 6): it asks for the
header and the end, and refuses a message with the field X-Late."""

import os
import shutil
import socketserver
import struct
import threading

# Steps that it does not want: connect, HELO, MAIL, RCPT, body, the header's
# end, unknown commands, DATA.
UNWANTED = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100 | 0x200


class _Handler(socketserver.StreamRequestHandler):
    def say(self, reply, data=b""):
        self.wfile.write(struct.pack(">I", len(data) + 1) + reply + data)

    def handle(self):
        late = False
        while True:
            size = self.rfile.read(4)
            if len(size) < 4:
                return
            packet = self.rfile.read(struct.unpack(">I", size)[0])
            command, data = packet[:1], packet[1:]
            if command == b"O":
                self.say(b"O", struct.pack(">III", 6, 0, UNWANTED))
            elif command == b"L":
                late |= data.lower().startswith(b"x-late\0")
                self.say(b"c")
            elif command == b"E" and late:
                self.say(b"y", b"550 5.7.1 Refused by a later filter\0")
                late = False
            elif command == b"E":
                self.say(b"c")
            elif command == b"A":
                late = False
            elif command == b"Q":
                return


class LaterMilter(socketserver.ThreadingUnixStreamServer):
    """Serves from its birth, on a socket that the MTA may use."""

    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, _Handler)
        shutil.chown(path, "root", "postfix")
        os.chmod(path, 0o660)
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
