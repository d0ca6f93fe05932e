# server - the simulator: what it holds, its listeners, start and end
# SPDX-License-Identifier: Apache-2.0
"""One asyncio loop serves everything. A session costs no thread, all counters
are exact without locks, and faults can delay a reply without blocking others;
one process carries more messages a second than any client here sends."""

import asyncio
import functools
import gc
import json
import os
import resource
import signal
import ssl
import sys
import time

from . import certs, config, rsa
from .accounts import AccountError, Accounts, now_ms, parse_limits
from .control import Control
from .faults import Faults, Latency
from .grants import Grants
from .journal import Journal
from .mailbox import ImapSession, PopSession
from .replies import Texts
from .session import Session
from .tokens import MAIL_SCOPE, Tokens
from .webserver import WebProtocol

_TICK_S = 0.05
_TOTALS = ("connections", "tls_started", "tls_handshakes", "tls_resumed",
           "tls_failed", "commands", "logins", "login_failures", "accepted",
           "accepted_bytes", "accepted_recipients", "refused",
           "max_sessions", "token_requests", "tokens_issued",
           "tokens_refused")


class Listener:
    """One port of the mail side."""

    def __init__(self, name, host, implicit_tls, relay, session):
        self.name = name
        self.host = host
        self.implicit_tls = implicit_tls
        self.relay = relay
        self.session = session
        self.tls_context = None


LISTENERS = (("smtps", "smtp.gmail.com", True, False, Session),
             ("submission", "smtp.gmail.com", False, False, Session),
             ("relay", "smtp-relay.gmail.com", False, True, Session),
             ("relay_smtps", "smtp-relay.gmail.com", True, True, Session),
             ("imaps", "imap.gmail.com", True, False, ImapSession),
             ("pops", "pop.gmail.com", True, False, PopSession))


class SessionSet(set):
    """The open sessions, and how many there were at most."""

    def __init__(self, totals):
        super().__init__()
        self.totals = totals

    def add(self, session):
        super().add(session)
        self.totals["max_sessions"] = max(self.totals["max_sessions"],
                                          len(self))


class Simulator:
    """Everything that is shared by the sessions and the endpoints."""

    def __init__(self, conf):
        self.conf = config.check(conf)
        get = conf.get
        self.host = get("host", "127.0.0.1")
        self.state_dir = os.path.abspath(get("state_dir"))
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        self.settings = config.settings(get("settings", {}))
        self.totals = dict.fromkeys(_TOTALS, 0)
        self.texts = Texts(self.settings["profile"])
        self.window_s = get("window_s", 86400)
        self.accounts = Accounts(get("accounts", []),
                                 get("auto_accounts", []), self.window_s)
        self.internal_domains = {d.lower()
                                 for d in get("internal_domains", [])}
        self.relay = {"allow": get("relay", {}).get("allow",
                                                    ["127.0.0.1", "::1"])}
        self._set_organisation(get("relay", {}))
        self.faults = Faults(get("faults", []))
        self.latency = Latency(get("latency"))
        self.tokens = Tokens(get("token_length", 220))
        self.clients = {c["client_id"]: c for c in
                        get("clients", [config.DEFAULT_CLIENT])}
        self.sessions = SessionSet(self.totals)
        self.web = set()
        self.tasks = set()
        self.own_token_urls = ()
        self.ports = {}
        self.servers = []
        self.certs = certs.Certs(os.path.join(self.state_dir, "tls"))
        self.service_accounts = {}
        self.key_files = {}
        for entry in get("service_accounts", []):
            self._add_service_account(dict(entry))
        self.grants = Grants(self, self.clients, self.service_accounts)
        self.journal = Journal(os.path.abspath(
            get("journal_dir", os.path.join(self.state_dir, "journal"))))
        self.control = Control(self)

    # --- set-up

    def _set_organisation(self, relay):
        """Limits of the whole organisation, on the relay."""
        self.organisation = {
            "relay_peak_limit": parse_limits(relay.get("peak"), 600.0),
            "relay_customer_limit": parse_limits(relay.get("daily"))}

    def _add_service_account(self, entry):
        email = entry["email"]
        entry.setdefault("scopes", [MAIL_SCOPE])
        path = os.path.join(self.state_dir, "sa-" + "".join(
            c if c.isalnum() or c in "@.-" else "_" for c in email))
        private = None
        if entry.get("generate"):
            private, entry["public_key_file"] = \
                certs.service_account_key(path)
        if "public_key_file" in entry:
            with open(entry["public_key_file"], encoding="ascii") as file:
                entry["public_key"] = file.read()
        if "public_key" not in entry:
            raise config.ConfigError("service account %s: no public key, and "
                                     "generate is not set" % email)
        entry["key"] = rsa.public_key(entry["public_key"])
        self.service_accounts[email] = entry
        if private:
            entry.setdefault("kid", "%040x" % (entry["key"][0] % (1 << 160)))
            entry.setdefault("client_id", "100000000000000000001")
            with open(private, encoding="ascii") as file:
                self.key_files[email] = (path + ".json", file.read())

    def _write_key_files(self):
        """Key files in the form that Google hands out."""
        for email, (path, private) in self.key_files.items():
            entry = self.service_accounts[email]
            with open(path, "w", encoding="ascii",
                      opener=functools.partial(os.open, mode=0o600)) as file:
                json.dump({
                    "type": "service_account", "project_id": "gmailsim",
                    "private_key_id": entry["kid"], "private_key": private,
                    "client_email": email, "client_id": entry["client_id"],
                    "token_uri": self.token_url}, file, indent=2)

    def _choose(self, listener, _server_name):
        """Which certificate to show at this handshake."""
        kind = "good"
        for rule in self.faults.take("tls", listener=listener):
            if rule.what == "cert" and rule.kind != "cut":
                kind = rule.kind
            else:
                return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        return kind

    async def _listen(self, name, factory, **options):
        port = self.conf.get("ports", {}).get(name, 0)
        try:
            server = await asyncio.get_running_loop().create_server(
                factory, self.host, port, backlog=1024, **options)
        except (OSError, OverflowError) as error:
            raise config.ConfigError("cannot listen on %s port %d for %s: %s" %
                                     (self.host, port, name, error)) from None
        self.servers.append(server)
        self.ports[name] = server.sockets[0].getsockname()[1]

    async def start(self):
        """Open all ports and tell the world."""
        for row in LISTENERS:
            listener = Listener(*row)
            listener.tls_context = self.certs.listener_context(
                functools.partial(self._choose, listener.name))
            await self._listen(listener.name, functools.partial(
                listener.session, self, listener))
        await self._listen(
            "token", lambda: WebProtocol(
                self.grants.handle, self.web, self.grants.now,
                self._token_connected),
            ssl=self.certs.listener_context(
                functools.partial(self._choose, "token")),
            ssl_shutdown_timeout=1)
        await self._listen("control", lambda: WebProtocol(
            self.control.handle, self.web))
        self.token_url = "https://localhost:%d/token" % self.ports["token"]
        self.own_token_urls = (
            self.token_url,
            "https://127.0.0.1:%d/token" % self.ports["token"],
            "https://oauth2.googleapis.com:%d/token" % self.ports["token"])
        self._write_key_files()
        self.run_task(self._ticker())
        self._write_ready()

    def _token_connected(self, _transport):
        self.totals["token_connections"] = \
            self.totals.get("token_connections", 0) + 1

    def ready(self):
        """What a test needs to know."""
        return {
            "pid": os.getpid(), "host": self.host, "ports": self.ports,
            **self.ports, "ca_file": self.certs.ca_file,
            "state_dir": self.state_dir,
            "journal_dir": self.journal.directory,
            "token_url": self.token_url,
            "auth_url": self.token_url.replace("/token", "/o/oauth2/v2/auth"),
            "control_url": "http://%s:%d" % (
                "[%s]" % self.host if ":" in self.host else self.host,
                self.ports["control"]),
            "service_accounts": {email: path for email, (path, _)
                                 in self.key_files.items()}}

    def _write_ready(self):
        path = self.conf.get("ready")
        if path:
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(self.ready(), file, indent=2)
                file.write("\n")
            os.replace(path + ".new", path)

    async def stop(self):
        """Close everything; nothing of ours is left behind."""
        path = self.conf.get("ready")
        if path and os.path.exists(path):
            os.unlink(path)
        for server in self.servers:
            server.close()
        for task in list(self.tasks):
            task.cancel()
        for session in list(self.sessions):
            session.end("drop")
        for connection in list(self.web):
            connection.abort()
        await asyncio.sleep(0)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for server in self.servers:
            await server.wait_closed()
        self.journal.close()

    def run_task(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _ticker(self):
        """Idle and expired sessions."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for session in list(self.sessions):
                session.tick(now)

    # --- what sessions ask

    def internal(self, account):
        """The domains that are internal to an account."""
        return self.internal_domains | {account.address.rpartition("@")[2]
                                        .lower()}

    def organisation_limit(self, now, recipients, size):
        """The reply name of an organisation limit that would be passed."""
        amounts = {"messages": 1, "recipients": len(recipients), "bytes": size,
                   "unique_recipients": set(recipients)}
        for name, limits in self.organisation.items():
            for limit in limits:
                if not limit.fits(now, amounts.get(limit.dimension, 0)):
                    return name
        return None

    def accept(self, session, method):
        """Journal and count a message; False if it cannot be written."""
        account = session.charged(session.sender)
        recipients, content = session.recipients, session.body
        now = now_ms()
        try:
            self.journal.add(
                content, time=time.time(), monotonic_ms=now,
                account=account.address if account else None,
                login=session.mechanism if session.account else None,
                session=session.sid, transaction=session.transactions,
                sender=session.sender, recipients=recipients,
                parameters=session.parameters, method=method,
                helo=session.helo, peer=session.peer,
                listener=session.listener.name, tls=session.tls_version)
        except OSError as error:
            sys.stderr.write("gmailsim: journal: %s\n" % error)
            return False
        if account is not None:
            account.accept(now, account.amounts(
                recipients, len(content), self.internal(account)))
        if session.listener.relay:
            amounts = {"messages": 1, "recipients": len(recipients),
                       "bytes": len(content),
                       "unique_recipients": set(recipients)}
            for limits in self.organisation.values():
                for limit in limits:
                    limit.add(now, amounts.get(limit.dimension, 0))
        self.totals["accepted"] += 1
        self.totals["accepted_bytes"] += len(content)
        self.totals["accepted_recipients"] += len(recipients)
        return True

    def revoke(self, address=None, token=None, refresh=False,
               sessions="expire"):
        """Take access tokens back. What becomes of the sessions that logged
        in with them: `expire` (421 at the next command), `push` (421 at
        once), `drop` (the connection breaks), `keep`."""
        count = self.tokens.revoke(address, token)
        if refresh and address:
            account = self.accounts.find(address)
            if account is not None:
                account.refresh_tokens = [
                    {**(t if isinstance(t, dict) else {"token": t}),
                     "revoked": True} for t in account.refresh_tokens]
        hit = [s for s in self.sessions
               if s.token is not None and s.token.revoked]
        for session in hit if sessions != "keep" else ():
            if sessions == "drop":
                session.end("drop")
            else:
                session.expire_now = True
                if sessions == "push":
                    session.mods = ()
                    session.say("expired", close=True)
                    session.flush()
        return {"tokens": count, "sessions": len(hit)}

    def reset(self):
        """Forget what happened; accounts and settings stay."""
        self.journal.clear()
        self.faults.clear()
        self.latency.set({})
        self.accounts.clear_counters()
        self._set_organisation(self.conf.get("relay", {}))
        for key in self.totals:
            self.totals[key] = 0
        self.totals["max_sessions"] = len(self.sessions)


async def _watch_parent(stop, parent):
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    stop.set()


async def _main(conf, exit_with_parent):
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    simulator = Simulator(conf)
    try:
        await simulator.start()
        if exit_with_parent:
            simulator.run_task(_watch_parent(stop, os.getppid()))
        if not conf.get("ready"):
            print(json.dumps(simulator.ready(), indent=2), flush=True)
        # what lives from here on is short-lived
        gc.collect()
        gc.freeze()
        gc.set_threshold(20000, 20, 20)
        await stop.wait()
    finally:
        await simulator.stop()


def run(conf, exit_with_parent=False):
    """Serve until SIGTERM or SIGINT; an exit status."""
    try:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        asyncio.run(_main(conf, exit_with_parent))
    except (config.ConfigError, AccountError, certs.CertError, OSError,
            ValueError) as error:
        sys.stderr.write("gmailsim: %s\n" % error)
        return 2
    return 0
