# session - the SMTP commands of one connection
# SPDX-License-Identifier: Apache-2.0
"""RFC 5321 as Gmail's submission service speaks it, with PIPELINING, CHUNKING,
SIZE, 8BITMIME, SMTPUTF8, STARTTLS and AUTH."""

import re
import time

from .accounts import now_ms
from .envelope import EnvelopeError, check_address, parse
from .login import Login
from .replies import session_id
from .wire import Wire

_HELO = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z|"
                   rb"\[[0-9A-Fa-f:.]+\]\Z|\[IPv6:[0-9A-Fa-f:.]+\]\Z",
                   re.IGNORECASE)
_GENERIC_HELO = re.compile(rb"localhost(\.localdomain)?\Z|\[?127\.0\.0\.1\]?"
                           rb"\Z|[^.\[]*\Z", re.IGNORECASE)
_STAGES = {"HELO": "ehlo", "EHLO": "ehlo", "STARTTLS": "starttls",
           "RSET": "rset", "NOOP": "noop", "QUIT": "quit"}
_BEFORE_TLS = {"HELO", "EHLO", "STARTTLS", "NOOP", "RSET", "QUIT"}
_MAX_BDAT = 1 << 40


class Session(Login, Wire):
    """One connection to one of the SMTP ports."""

    def __init__(self, sim, listener):
        Wire.__init__(self, sim, listener)
        self.sid = session_id(sim.texts.profile)
        self.settings = sim.settings
        self.host = listener.host
        self.tls_version = None
        self.account = None
        self.token = None
        self.login_user = self.auth_user = None
        self.login_order = 0
        self.mechanism = None
        self.on_auth_line = None
        self.expire_now = False     # told by revocation
        self.unknown = self.commands = self.transactions = 0
        self.handlers = {
            "HELO": self.do_helo, "EHLO": self.do_ehlo,
            "STARTTLS": self.do_starttls, "AUTH": self.do_auth,
            "MAIL": self.do_mail, "RCPT": self.do_rcpt,
            "DATA": self.do_data, "BDAT": self.do_bdat,
            "RSET": self.do_rset, "NOOP": self.do_noop,
            "QUIT": self.do_quit, "VRFY": self.do_vrfy,
            "HELP": self.do_help, "EXPN": self.do_unimplemented,
            "ETRN": self.do_unimplemented, "TURN": self.do_unimplemented}
        self.helo = None
        self.reset_transaction()

    def reset_transaction(self):
        self.sender = None
        self.recipients = []
        self.parameters = {}
        self.body = bytearray()
        self.body_size = 0
        self.scan_from = 0
        self.bdat_left = 0
        self.bdat_last = self.bdat_seen = False
        self.bdat_refusal = None    # what every chunk is answered with

    def account_name(self):
        if self.account is not None:
            return self.account.address
        return self.auth_user

    def opened(self):
        if not self.hit("greeting"):
            self.say("greeting", host=self.host)

    def lost(self):
        Wire.lost(self)
        if self.account is not None:
            self.account.sessions.discard(self)

    # --- time

    def expired(self, now):
        """Whether Gmail would end this session by itself."""
        if self.expire_now:
            return True
        age = self.settings["max_age_s"]
        if age and now - self.opened_at >= age:
            return True
        if self.token is None:
            return False
        follow = self.account.flags["close_on_token_expiry"]
        if follow is None:
            follow = self.settings["close_on_token_expiry"]
        return bool(follow) and now >= self.token.expires_at

    def tick(self, now):
        """Called now and then: idle sessions, and expiry if it is pushed."""
        if self.waiting or self.closed or not self.ready:
            return
        idle = self.settings["idle_s"]
        if idle and now - self.last_input >= idle:
            self.mods = ()
            self.say("idle", close=True)
        elif self.settings["push_expiry"] and self.expired(now):
            self.mods = ()
            self.say("expired", close=True)

    # --- lines

    def line(self, line):
        if line[-1:] != b"\r":
            if self.on_auth_line:
                self.on_auth_line = None
                self.long_lines = False
            self.say("syntax")          # a bare LF ends no line
            return
        line = line[:-1]
        if self.on_auth_line:
            self.auth_line(line)
            return
        self.stage = "other"
        self.commands += 1
        self.sim.totals["commands"] += 1
        if self.account is not None:
            self.account.commands += 1
        word, _, argument = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        handler = self.handlers.get(verb)
        if verb != "QUIT" and self.expired(time.monotonic()):
            self.mods = ()
            self.say("expired", close=True)
            return
        if handler is None or b"\0" in line or b"\r" in line:
            self._unknown(handler is not None)
            return
        if not self.tls and verb not in _BEFORE_TLS and \
                not (self.listener.relay and verb != "AUTH"):
            self.say("starttls_first")
            return
        if self.account is None and not self.listener.relay:
            most = self.settings["max_unauthenticated_commands"]
            if most and self.commands > most:
                self.say("too_many_unauth", close=True)
                return
        stage = _STAGES.get(verb)
        if stage and self.hit(stage):
            return
        if verb in ("AUTH", "MAIL") and self.helo is None:
            self.say("ehlo_first")
            return
        handler(argument)

    def _unknown(self, syntax):
        if self.hit("other"):
            return
        self.unknown += 1
        if self.unknown > self.settings["max_unknown_commands"]:
            self.say("unknown_goodbye", close=True)
        else:
            self.say("syntax" if syntax else "unknown_command")

    def _hello(self, argument):
        """Whether the name given with EHLO or HELO will do."""
        name = argument.strip()
        if not name:
            self.say("helo_empty", close=True)
        elif not _HELO.match(name):
            self.say("helo_bad", close=True,
                     arg=name.decode("utf-8", "replace"))
        elif (self.listener.relay or self.settings["strict_helo"]) and \
                _GENERIC_HELO.match(name):
            self.say("ehlo_refused", close=True)
        else:
            self.reset_transaction()
            self.helo = name.decode()
            return True
        return False

    def do_helo(self, argument):
        if self._hello(argument):
            self.say("helo", host=self.host)

    def do_ehlo(self, argument):
        if self._hello(argument):
            self.reply(self.sim.texts.ehlo(
                self.host, self.peer, self.settings["size"], self.tls,
                self.settings["ehlo_without"]))

    def do_starttls(self, argument):
        if argument:
            self.say("no_parameters")
        elif self.tls:
            self.say("starttls_repeated")
        elif self.helo is None:
            self.say("ehlo_first")
        elif self.buffer:
            self.say("starttls_pipelined", close=True)
        else:
            self.say("starttls")
            self._when_sent(self._secure)

    def _when_sent(self, then):
        """Call `then` once the reply is out, which a fault may delay."""
        if self.closed:
            return
        if self.waiting or self.holding or self.drip:
            self.transport.pause_reading()
            self.loop.call_later(0.001, self._when_sent, then)
            return
        self.flush()
        if self.drip:
            self._when_sent(then)
        else:
            then()

    def _secure(self):
        self.helo = None
        self.unknown = 0
        self.buffer.clear()
        self.reset_transaction()
        self.start_tls()

    # --- a transaction

    def do_mail(self, argument):
        try:
            address, parameters = parse(b"FROM:", argument)
        except EnvelopeError as error:
            if not self.hit("mail"):
                self.say(error.reply)
            return
        if self.hit("mail", sender=address):
            return
        if self.sender is not None:
            self.say("bad_sequence")
        elif self._may_send(address):
            self._mail(address, parameters)

    def _may_send(self, sender):
        """Authenticated, or allowed to relay; replies if not."""
        if self.account is not None:
            if not self.account.flags["sending_denied"]:
                return True
            self.account.refuse("sending_denied")
            self.say("sending_denied")
        elif not self.listener.relay:
            self.say("auth_needed")
        elif self.peer in self.sim.relay["allow"]:
            return True
        else:
            self.say("relay_denied", ip=self.peer,
                     domain=sender.rpartition("@")[2] or self.helo)
        return False

    def _mail(self, address, parameters):
        unknown = set(parameters) - {"SIZE", "BODY", "SMTPUTF8", "AUTH"}
        size = parameters.get("SIZE", "0") or ""
        if unknown or not size.isdigit() or len(size) > 20 or \
                (parameters.get("BODY", "7BIT") or "").upper() not in (
                    "7BIT", "8BITMIME") or \
                parameters.get("SMTPUTF8", None) is not None:
            self.say("syntax")
            return
        utf8 = "SMTPUTF8" in parameters
        try:
            if address:
                check_address(address, utf8, "bad_sender")
        except EnvelopeError as error:
            self.say(error.reply, address=error.address)
            return
        if int(size) > self.settings["size"]:
            self._refused("too_large")
            self.say("too_large")
            return
        if self._limit_at("mail", address, [], int(size)):
            return
        self.sender = address
        self.parameters = parameters
        self.say("mail_ok")

    def do_rcpt(self, argument):
        try:
            address, parameters = parse(b"TO:", argument)
        except EnvelopeError as error:
            if not self.hit("rcpt"):
                self.say("mail_first" if self.sender is None else error.reply)
            return
        if self.hit("rcpt", recipients=[address], sender=self.sender):
            return
        if self.sender is None:
            self.say("mail_first")
        elif self.bdat_seen:
            self.say("bad_sequence")
        elif not address or parameters:
            self.say("syntax")
        elif len(self.recipients) >= self.settings["max_recipients"]:
            self._refused("too_many_recipients")
            self.say("too_many_recipients")
        else:
            try:
                check_address(address, "SMTPUTF8" in self.parameters,
                              "bad_recipient")
            except EnvelopeError as error:
                self.say(error.reply, address=error.address)
                return
            self.recipients.append(address)
            self.say("rcpt_ok")

    def _sequence_error(self):
        """Replies and is True when there is no envelope to send to."""
        if self.sender is None:
            self.say("mail_first")
        elif not self.recipients:
            self.say("rcpt_first")
        else:
            return False
        return True

    def do_data(self, argument):
        if self.hit("data", self.recipients, self.sender):
            return
        if argument:
            self.say("syntax")
        elif self.bdat_seen:
            self.say("no_data_after_bdat")
        elif not self._sequence_error() and not self._crowded() and \
                not self._limit_at("data", self.sender, self.recipients, 0):
            self.mode = self.take_data
            self.say("data_go")

    def _crowded(self):
        """Too many sessions of this account: 421 for the late ones."""
        if self.account is None or \
                not self.account.over_parallel(self):
            return False
        self._refused("temporary")
        self.say("temporary", close=True)
        return True

    def take_data(self):
        """Look for CRLF.CRLF; nothing else ends the message."""
        if not self.body_size and self.buffer[:3] == b".\r\n":
            end, skip = 0, 3
        else:
            end = self.buffer.find(b"\r\n.\r\n", max(0, self.scan_from - 4))
            skip = 5
        if end < 0:
            if len(self.buffer) > self.settings["size"] + 65536:
                # too large already; only its end is still of interest
                self.body_size += len(self.buffer) - 4
                del self.buffer[:-4]
                self.scan_from = 0
            else:
                self.scan_from = max(len(self.buffer), 1)
            return False
        content = self.buffer[:end + 2] if skip == 5 else bytearray()
        del self.buffer[:end + skip]
        if content[:1] == b".":
            del content[:1]
        content = content.replace(b"\r\n.", b"\r\n")
        self.mode = self.take_line
        self.body_size += len(content)
        self.body = content
        self.end_of_message("DATA")
        return True

    def do_bdat(self, argument):
        words = argument.split()
        last = len(words) == 2 and words[1].upper() == b"LAST"
        if not words or not words[0].isdigit() or \
                (len(words) > 1 and not last) or int(words[0]) > _MAX_BDAT:
            self.say("syntax", close=True)   # how much follows is unknown
            return
        self.bdat_left = int(words[0])
        self.bdat_last = last
        if self.bdat_refusal is None:
            if self.sender is None:
                self.bdat_refusal = "mail_first"
            elif not self.recipients:
                self.bdat_refusal = "rcpt_first"
        self.bdat_seen = True
        self.mode = self.take_chunk

    def take_chunk(self):
        """Exactly as many octets as were announced."""
        part = min(self.bdat_left, len(self.buffer))
        self.body_size += part
        if self.bdat_refusal is None and \
                self.body_size <= self.settings["size"]:
            self.body += self.buffer[:part]
        del self.buffer[:part]
        self.bdat_left -= part
        if self.bdat_left:
            return False
        self.mode = self.take_line
        if self.bdat_refusal:
            if self.hit("end" if self.bdat_last else "bdat",
                        self.recipients, self.sender):
                return True
            self.say(self.bdat_refusal)
            if self.bdat_last:
                self.reset_transaction()
        elif self.bdat_last:
            self.end_of_message("BDAT")
        elif not self.hit("bdat", self.recipients, self.sender):
            if self._crowded():
                return True
            if self.body_size > self.settings["size"]:
                self.bdat_refusal = "too_large"
                self._refused("too_large")
                self.say("too_large")
            else:
                self.say("bdat_ok")
        return True

    def end_of_message(self, method):
        """The final reply; an accepted message is in the journal first."""
        recipients, sender = self.recipients, self.sender
        if self.hit("end", recipients, sender):
            self._refused("fault")
        elif method == "BDAT" and self._crowded():
            pass
        elif self.body_size > self.settings["size"]:
            self._refused("too_large")
            self.say("too_large")
        elif not self._limit_at("end", sender, recipients, self.body_size):
            self.transactions += 1
            if not self.sim.accept(self, method):
                self.say("rejected_temporarily")
            elif method == "BDAT":
                self.say("bdat_ok")
            else:
                self.say("data_ok", time=int(time.time()))
        self.reset_transaction()

    def _refused(self, why):
        self.sim.totals["refused"] += 1
        if self.account is not None:
            self.account.refuse(why)

    def charged(self, sender):
        """The account whose limits count: on the relay, the sender's."""
        if self.listener.relay:
            return self.sim.accounts.find_sender(sender) if sender else None
        return self.account

    def _limit_at(self, stage, sender, recipients, size):
        """Replies and is True if a limit would be passed at this stage."""
        now = now_ms()
        account = self.charged(sender)
        if account is not None and \
                (stage == "end" or account.flags["limit_stage"] == stage):
            amounts = account.amounts(recipients or [""] * (stage == "mail"),
                                      size, self.sim.internal(account))
            if account.limit_hit(now, amounts):
                name = "relay_user_limit" if self.listener.relay else \
                    account.flags["limit_reply"]
                self.sim.totals["refused"] += 1
                account.refuse(name)
                self.say(name)
                return True
        if stage == "end" and self.listener.relay:
            name = self.sim.organisation_limit(now, recipients, size)
            if name:
                self.sim.totals["refused"] += 1
                self.say(name)
                return True
        return False

    # --- the rest

    def do_rset(self, argument):
        if argument:
            self.say("syntax")
            return
        self.reset_transaction()
        self.say("rset_ok")

    def do_noop(self, _argument):
        self.say("noop_ok")

    def do_quit(self, argument):
        if argument:
            self.say("syntax")
        else:
            self.say("quit", close=True)

    def do_vrfy(self, _argument):
        self.say("vrfy")

    def do_help(self, _argument):
        self.say("help")

    def do_unimplemented(self, _argument):
        self.say("unimplemented")
