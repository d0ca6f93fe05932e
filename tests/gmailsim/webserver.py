# webserver - HTTP/1.1 for the token endpoint and the control endpoint
# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server protocol: keep-alive, pipelined requests answered in
order, bodies by Content-Length."""

import asyncio
import email.utils
import http
import json
import socket
import struct
import time
from urllib.parse import parse_qsl, urlsplit

_MAX_HEAD = 65536
_MAX_BODY = 16 << 20


def reset_on_close(transport):
    """Make the coming close of the connection an RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))


class Request:
    """Method, path, query, headers (lower-case names) and body."""

    def __init__(self, method, target, headers, body):
        self.method = method
        self.target = target
        parts = urlsplit(target)
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = headers
        self.body = body

    def form(self):
        """The body as form fields; None if it is no form."""
        kind = self.headers.get("content-type", "").split(";")[0].strip()
        if kind.lower() != "application/x-www-form-urlencoded":
            return None
        try:
            return dict(parse_qsl(self.body.decode("utf-8"),
                                  keep_blank_values=True))
        except UnicodeDecodeError:
            return None

    def json(self):
        """The body as JSON ({} if empty); ValueError if it is none."""
        return json.loads(self.body) if self.body.strip() else {}


class Response:
    """What to answer. `ending` may be drop, reset, hang or close, and may come
    instead of the answer, or after half of it."""

    def __init__(self, status=200, body=b"", content_type="text/plain",
                 headers=()):
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.content_type = content_type
        self.headers = list(headers)
        self.delay_ms = 0
        self.ending = None
        self.half = False

    @classmethod
    def of_json(cls, value, status=200, indent=None):
        return cls(status, json.dumps(value, indent=indent) + "\n",
                   "application/json; charset=utf-8")

    def encode(self, date, keep):
        try:
            reason = http.HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Unknown"
        head = ["HTTP/1.1 %d %s" % (self.status, reason),
                "Date: " + date,
                "Content-Type: " + self.content_type,
                "Content-Length: %d" % len(self.body)]
        if not keep:
            head.append("Connection: close")
        head += ["%s: %s" % pair for pair in self.headers]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + self.body


class WebProtocol(asyncio.Protocol):
    """One connection; `handle(request)` returns a Response."""

    def __init__(self, handle, connections, clock=time.time, on_connect=None):
        self.handle = handle
        self.connections = connections
        self.clock = clock
        self.on_connect = on_connect
        self.buffer = bytearray()
        self.busy = False
        self.closed = False

    def connection_made(self, transport):
        self.transport = transport
        self.connections.add(self)
        if self.on_connect:
            self.on_connect(transport)

    def connection_lost(self, exc):
        self.closed = True
        self.connections.discard(self)

    def abort(self):
        self.closed = True
        self.transport.abort()

    def data_received(self, data):
        self.buffer += data
        if not self.busy:
            self._next()

    def _fail(self, status, text):
        self._write(Response(status, text + "\n"), keep=False)

    def _next(self):
        """Take a whole request out of the buffer, if there is one."""
        head, separator, _ = bytes(
            self.buffer[:_MAX_HEAD]).partition(b"\r\n\r\n")
        if not separator:
            if len(self.buffer) >= _MAX_HEAD:
                self._fail(431, "request header too large")
            return
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            self._fail(400, "bad request line")
            return
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                self._fail(400, "bad header line")
                return
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or \
                "transfer-encoding" in headers:
            self._fail(411, "Content-Length needed")
            return
        if int(length) > _MAX_BODY:
            self._fail(413, "body too large")
            return
        end = len(head) + 4 + int(length)
        if len(self.buffer) < end:
            if headers.get("expect", "").lower() == "100-continue" and \
                    len(self.buffer) == len(head) + 4:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body = bytes(self.buffer[len(head) + 4:end])
        del self.buffer[:end]
        keep = headers.get("connection", "").lower() != "close" and \
            words[2] == "HTTP/1.1"
        self.busy = True
        self._answer(Request(words[0], words[1], headers, body), keep)

    def _answer(self, request, keep):
        try:
            response = self.handle(request)
        except Exception as error:      # a bug of ours must be seen, not hang
            asyncio.get_running_loop().call_exception_handler({
                "message": "gmailsim: request failed", "exception": error})
            response = Response(500, "gmailsim: %r\n" % error)
        if response.delay_ms:
            asyncio.get_running_loop().call_later(
                response.delay_ms / 1000.0, self._write, response, keep)
        else:
            self._write(response, keep)

    def _write(self, response, keep):
        if self.closed:
            return
        if response.ending == "hang":
            return
        if response.ending in (None, "close") or response.half:
            keep = keep and response.ending is None
            date = email.utils.formatdate(self.clock(), usegmt=True)
            data = response.encode(date, keep)
            if response.half:
                data = data[:len(data) - max(1, len(response.body) // 2)]
            self.transport.write(data)
        if response.ending in ("drop", "reset"):
            self.closed = True
            if response.ending == "reset":
                reset_on_close(self.transport)
                self.transport.abort()
            else:
                self.transport.close()
            return
        if not keep:
            self.closed = True
            self.transport.close()
            return
        self.busy = False
        if self.buffer:
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self):
        if not self.busy and not self.closed:
            self._next()
