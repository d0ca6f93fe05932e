# simcase - what the simulator's own tests share
# SPDX-License-Identifier: Apache-2.0
"""A blocking SMTP client that shows every byte, and a test case around one
running simulator."""

import atexit
import base64
import http.client
import itertools
import json
import os
import re
import socket
import ssl
import sys
import time
import unittest
from urllib.parse import urlencode

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from gmailsim import config             # noqa: E402
from gmailsim.client import Sim, SimError   # noqa: E402,F401

CLIENT = config.DEFAULT_CLIENT
PASSWORD = "abcd efgh ijkl mnop"
TIMEOUT_S = 15


def b64(text):
    """Base64 as text, of text or bytes."""
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode()


def xoauth2(user, token):
    return b64("user=%s\x01auth=Bearer %s\x01\x01" % (user, token))


def plain(user, password, identity=""):
    return b64("%s\0%s\0%s" % (identity, user, password))


class Closed(Exception):
    """The server closed; `data` is what came before."""

    def __init__(self, data=b""):
        super().__init__(repr(data))
        self.data = data


class Talk:
    """One SMTP connection."""

    def __init__(self, sim, port=None, tls=None, name="smtp.gmail.com",
                 context=None, greet=True):
        self.sim = sim
        port = port or sim.smtps
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.buffer = b""
        self.context = context or self.trusting(sim)
        if port in (sim.smtps, sim.relay_smtps) if tls is None else tls:
            self.secure(name)
        try:
            self.greeting = self.reply() if greet else None
        except BaseException:
            self.sock.close()
            raise

    @staticmethod
    def trusting(sim):
        return ssl.create_default_context(cafile=sim.ca_file)

    def secure(self, name="smtp.gmail.com", session=None):
        try:
            self.sock = self.context.wrap_socket(
                self.sock, server_hostname=name, session=session)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_unused):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def line(self):
        """One reply line without CRLF."""
        while b"\n" not in self.buffer:
            try:
                data = self.sock.recv(65536)
            except ssl.SSLEOFError:
                data = b""
            if not data:
                raise Closed(self.buffer)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        if line[-1:] != b"\r":
            raise AssertionError("line without CR: %r" % line)
        return line[:-1].decode()

    def reply(self):
        """All lines of one reply, joined by LF."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def cmd(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def closed(self):
        """Whether the server closes now, saying nothing more."""
        try:
            self.line()
        except (Closed, ConnectionResetError) as error:
            return getattr(error, "data", b"") == b""
        return False

    def ehlo(self, name="client.example.com"):
        return self.cmd("EHLO " + name)

    def login(self, user, token=None, password=PASSWORD):
        self.ehlo()
        if token:
            return self.cmd("AUTH XOAUTH2 " + xoauth2(user, token))
        return self.cmd("AUTH PLAIN " + plain(user, password))

    def message(self, body=b"Subject: x\r\n\r\nhello\r\n",
                recipients=("to@example.net",), sender="from@example.com"):
        """One transaction with BDAT; the final reply."""
        replies = [self.cmd("MAIL FROM:<%s>" % sender)]
        replies += [self.cmd("RCPT TO:<%s>" % r) for r in recipients]
        self.send(b"BDAT %d LAST\r\n" % len(body) + body)
        return self.reply()


class SimCase(unittest.TestCase):
    """A simulator for all classes with one CONFIG, emptied before each test;
    an account of its own for each test."""

    CONFIG = {}
    _numbers = itertools.count(1)
    _running = {}

    @classmethod
    def setUpClass(cls):
        key = json.dumps(cls.CONFIG, sort_keys=True)
        if key not in cls._running:
            cls._running[key] = Sim.start(cls.CONFIG)
            atexit.register(cls._running[key].stop)
        cls.sim = cls._running[key]

    @classmethod
    def tearDownClass(cls):
        if cls.sim.log():
            raise AssertionError("gmailsim complains: " + cls.sim.log())

    def setUp(self):
        self.sim.reset()
        self.sim.settings(**{k: v[0] for k, v in config.SETTINGS.items()})
        self.sim.settings(**self.CONFIG.get("settings", {}))
        self.user = "user%d@example.com" % next(self._numbers)
        self.refresh = "refresh-" + self.user
        self.sim.account(self.user, app_password=PASSWORD,
                         refresh_tokens=[self.refresh])

    def talk(self, *args, **more):
        talk = Talk(self.sim, *args, **more)
        self.addCleanup(talk.close)
        return talk

    def logged_in(self, user=None, **more):
        talk = self.talk(**more)
        self.assertEqual(talk.login(user or self.user), "235 2.7.0 Accepted")
        return talk

    def https(self, method, path, form=None, headers=None, name="localhost",
              **more):
        """(status, headers, body) of one HTTPS request."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.sim.token, timeout=TIMEOUT_S,
            context=Talk.trusting(self.sim))
        connection.host, connection._create_connection = name, \
            lambda address, *rest: socket.create_connection(
                ("127.0.0.1", self.sim.token), TIMEOUT_S)
        try:
            body = urlencode(form) if isinstance(form, dict) else form
            headers = dict(headers or {})
            if isinstance(form, dict):
                headers.setdefault("Content-Type",
                                   "application/x-www-form-urlencoded")
            connection.request(method, path, body, headers, **more)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def grant(self, **form):
        """(status, parsed JSON) of POST /token."""
        status, _, body = self.https("POST", "/token", form)
        return status, json.loads(body)

    def refresh_grant(self, refresh=None, **more):
        return self.grant(**{**CLIENT, "grant_type": "refresh_token",
                             "refresh_token": refresh or self.refresh,
                             **more})

    def access_token(self, refresh=None):
        status, answer = self.refresh_grant(refresh)
        self.assertEqual(status, 200, answer)
        return answer["access_token"]

    def assertReply(self, reply, code, text=""):
        """First digits of every line, and the session id at the end."""
        for line in reply.split("\n"):
            self.assertEqual(line[:3], str(code), reply)
        self.assertIn(text, reply)

    def sid_of(self, talk):
        found = re.search(r"ESMTP (\S+) - gsmtp$", talk.greeting)
        self.assertTrue(found, talk.greeting)
        return found[1]

    def until(self, condition, timeout_s=TIMEOUT_S):
        """Poll until `condition()` is true; its value."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value or time.monotonic() > deadline:
                self.assertTrue(value, "condition never became true")
                return value
            time.sleep(0.01)
