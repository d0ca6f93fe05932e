# wire - one SMTP connection below the commands: TLS, input, replies, closing
# SPDX-License-Identifier: Apache-2.0
"""The transport side of a session.

Input is cut into lines or counted chunks and handed on one by one; while a
reply is being delayed nothing further is taken from the buffer, so replies
always come in order. Replies of one flight leave in one write.
"""

import asyncio
import time

from .webserver import reset_on_close

_HANDSHAKE_TIMEOUT_S = 20
_SHUTDOWN_TIMEOUT_S = 1
_MAX_LINE = 2048
_MAX_AUTH_LINE = 12288


class Wire(asyncio.Protocol):
    """The connection. A subclass has `line(bytes)`, `data(end)` and
    `chunk()`, which eat input, and `opened()`, which greets."""

    def __init__(self, sim, listener):
        self.sim = sim
        self.listener = listener
        self.loop = asyncio.get_running_loop()
        self.transport = None
        self.buffer = bytearray()
        self.tls = False
        self.ready = False          # the greeting may go out, input be read
        self.running = False
        self.waiting = False        # a reply is being delayed
        self.closed = False
        self.out = []
        self.mode = self.take_line
        self.long_lines = False     # a line of an AUTH exchange
        self.stage = "connect"
        self.mods = ()              # faults that act on the next reply
        self.close_after = None     # replies left until we close
        self.drip_ms = 0
        self.drip = bytearray()
        self.drip_end = None
        self.holding = False
        self.opened_at = self.last_input = time.monotonic()
        self.peer = "127.0.0.1"

    # --- connection

    def connection_made(self, transport):
        self.transport = transport
        self.sim.sessions.add(self)
        self.sim.totals["connections"] += 1
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer = peer[0]
        # reading starts only after this callback, and can be paused then
        self.loop.call_soon(self._start)

    def _start(self):
        if self.closed:
            return
        rules = self.sim.faults.take("connect", listener=self.listener.name)
        delay = 0
        for rule in rules:
            if rule.what in ("drop", "reset"):
                self.end(rule.what)
                return
            if rule.what == "hang":
                return              # read on, to notice when the client goes
            if rule.what in ("garbage", "reply"):
                self.transport.write(rule.bytes or self.sim.texts.custom(
                    rule.text, self.sid))
                self.end("close")
                return
            delay += rule.ms
        if delay:
            self.transport.pause_reading()
            self.loop.call_later(delay / 1000.0, self._secure_or_open)
        else:
            self._secure_or_open()

    def _secure_or_open(self):
        if self.closed:
            return
        if self.listener.implicit_tls:
            self.start_tls()
        else:
            self.transport.resume_reading()
            self._open()

    def _open(self):
        self.ready = True
        self.opened()
        self.run()

    def start_tls(self):
        """Go over to TLS; `secured` is called when it stands."""
        self.transport.pause_reading()
        self.ready = False
        self.sim.run_task(self._handshake())

    async def _handshake(self):
        self.sim.totals["tls_started"] += 1
        try:
            transport = await self.loop.start_tls(
                self.transport, self, self.listener.tls_context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
        except (OSError, asyncio.CancelledError):
            # an SSLError is an OSError: the client refused us, or left
            self.sim.totals["tls_failed"] += 1
            self.transport.abort()
            self.lost()
            return
        connection = transport and transport.get_extra_info("ssl_object")
        if connection is None or self.closed:
            self.lost()
            return
        first = not self.tls and self.listener.implicit_tls
        self.transport = transport
        self.tls = True
        self.sim.totals["tls_handshakes"] += 1
        if connection.session_reused:
            self.sim.totals["tls_resumed"] += 1
        self.tls_version = connection.version()
        if first:
            self._open()
        else:
            self.ready = True
            self.run()

    def connection_lost(self, exc):
        self.lost()

    def lost(self):
        """The connection is gone, whoever ended it."""
        self.closed = True
        self.sim.sessions.discard(self)

    # --- input

    def data_received(self, data):
        if self.closed:
            return
        self.last_input = time.monotonic()
        rtt = self.sim.latency.rtt_ms
        if rtt:
            self.loop.call_later(rtt / 1000.0, self._feed, data)
        else:
            self._feed(data)

    def _feed(self, data):
        self.buffer += data
        self.run()

    def eof_received(self):
        return False

    def run(self):
        """Eat input until more is needed or a reply has to wait."""
        if self.running or not self.ready:
            return
        self.running = True
        try:
            while not (self.waiting or self.closed) and self.ready and \
                    self.mode():
                pass
        finally:
            self.running = False
            self.flush()

    def take_line(self):
        end = self.buffer.find(b"\n")
        limit = _MAX_AUTH_LINE if self.long_lines or \
            self.buffer[:5].upper() == b"AUTH " else _MAX_LINE
        if end < 0:
            if len(self.buffer) > limit:
                self.line_too_long()
            return False
        if end + 1 > limit:
            self.line_too_long()
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[:end + 1]
        self.line(line)
        return True

    def line_too_long(self):
        self.buffer.clear()
        self.say("auth_line_too_long" if self.long_lines else
                 "line_too_long", close=True)

    # --- faults and replies

    def hit(self, stage, recipients=(), sender=None):
        """Arm the faults of this stage; True if the command is not to take
        effect, since a fault has answered it."""
        self.stage = stage
        if not self.sim.faults.rules:
            self.mods = ()
            return False
        account = self.account_name()
        self.mods = self.sim.faults.take(
            stage, account, listener=self.listener.name,
            recipients=recipients, sender=sender)
        for rule in self.mods:
            if rule.what == "close_after":
                self.close_after = rule.replies
        if all(rule.effect for rule in self.mods):
            return False
        self.reply(b"")
        return True

    def account_name(self):
        return None

    def say(self, name, close=False, **values):
        """Reply with a text of the profile."""
        self.reply(self.sim.texts.render(name, self.sid, **values), close)

    def reply(self, data, close=False):
        """Answer the current command."""
        if self.closed:
            return
        if not self.mods and not self.sim.latency.any and \
                self.close_after is None:
            self.out.append(data)
            if close:
                self.end("close")
            return
        self._reply_with_faults(data, "close" if close else None)

    def _reply_with_faults(self, data, end):
        delay = self.sim.latency.of(self.stage)
        before = None
        for rule in self.mods:
            what = rule.what
            if what == "slow":
                delay += rule.ms
            elif what in ("reply", "421", "454"):
                data = self.sim.texts.custom(rule.text, self.sid)
                end = "close" if rule.close else None
            elif what in ("drop", "reset", "hang"):
                if rule.when == "after":
                    end = what
                else:
                    before = what
            elif what == "garbage":
                data = rule.bytes
            elif what == "extra":
                data += self.sim.texts.custom(rule.text, self.sid)
            elif what == "missing":
                data = b""
            elif what == "split":
                self.drip_ms = rule.ms
            elif what == "coalesce":
                self._hold(rule.ms)
        self.mods = ()
        if before:
            data, end = b"", before
        if self.close_after is not None and data:
            self.close_after -= 1
            if self.close_after <= 0:
                end = end or "drop"
        if delay:
            self.waiting = True
            self.loop.call_later(delay / 1000.0, self._resume, data, end)
        else:
            self._emit(data, end)

    def _resume(self, data, end):
        self.waiting = False
        if self.closed:
            return
        self._emit(data, end)
        self.run()

    def _emit(self, data, end):
        if data:
            self.out.append(data)
        if end == "hang":
            self.flush()
            self.waiting = True     # for good
        elif end:
            self.end(end)

    def _hold(self, ms):
        """Keep replies back for a while, so that they leave together."""
        if not self.holding:
            self.holding = True
            self.loop.call_later(ms / 1000.0, self._release)

    def _release(self):
        self.holding = False
        if not self.closed:
            self.flush()

    def flush(self):
        if not self.out or self.holding:
            return
        data = b"".join(self.out)
        self.out.clear()
        if self.drip_ms or self.drip:
            started = bool(self.drip)
            self.drip += data
            if not started:
                self._drip_next()
        elif not self.transport.is_closing():
            self.transport.write(data)

    def _drip_next(self):
        if not self.drip or self.transport.is_closing():
            self.drip_ms = 0
            if self.drip_end:
                self._finish(self.drip_end)
            return
        self.transport.write(bytes(self.drip[:1]))
        del self.drip[:1]
        self.loop.call_later(self.drip_ms / 1000.0, self._drip_next)

    def end(self, how):
        """Close: `close` in good order, `drop` without a TLS goodbye, `reset`
        with an RST. What was replied before goes out first."""
        if self.closed:
            return
        self.closed = True
        self.holding = False
        self.flush()
        if self.drip:
            self.drip_end = how
        else:
            self._finish(how)

    def _finish(self, how):
        self.lost()
        if how == "close":
            self.transport.close()
            return
        if how == "reset":
            reset_on_close(self.transport)
        self.transport.abort()
