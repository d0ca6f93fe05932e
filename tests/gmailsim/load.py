# load - how many messages a second the simulator itself can carry
# SPDX-License-Identifier: Apache-2.0
"""python3 tests/gmailsim/load.py [--sessions 20] [--seconds 5] [--size 2048]

Starts a simulator (or uses --ready FILE of a running one), opens pipelined
sessions, each sending MAIL, RCPT and BDAT LAST in one flight, and prints the
rate. A bench whose result comes near this rate has measured the simulator."""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import ssl
import sys
import time

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from gmailsim.client import Sim     # noqa: E402

_USER, _PASSWORD = "load@example.com", "loadloadloadload"


class Sender(asyncio.Protocol):
    """One session: logs in, and once started sends flights until the time is
    over."""

    def __init__(self, flight, loop):
        self.flight = flight
        self.until = 0.0
        self.logged_in = loop.create_future()
        self.done = loop.create_future()
        self.buffer = b""
        self.want = 1
        self.step = self.greeted
        self.latencies = []
        self.sent_at = 0.0
        self.finished = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        *lines, self.buffer = (self.buffer + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                self.fail(RuntimeError(line.decode()))
                self.transport.abort()
                return
            self.want -= 1
            if not self.want:
                self.step()

    def greeted(self):
        self.want, self.step = 2, lambda: self.logged_in.set_result(None)
        login = base64.b64encode(("\0%s\0%s" % (_USER, _PASSWORD)).encode())
        self.transport.write(b"EHLO load.example.com\r\n")
        self.transport.write(b"AUTH PLAIN " + login + b"\r\n")

    def start(self, until):
        self.until, self.step = until, self.flow
        self.flow()

    def flow(self):
        now = time.monotonic()
        if self.sent_at:
            self.latencies.append(now - self.sent_at)
        if now >= self.until:
            self.finished = True
            self.transport.write(b"QUIT\r\n")
            self.transport.close()
            return
        self.sent_at, self.want = now, 3
        self.transport.write(self.flight)

    def connection_lost(self, exc):
        if self.finished:
            self.done.set_result(None)
        else:
            self.fail(exc or EOFError("connection lost"))

    def fail(self, error):
        future = self.done if self.logged_in.done() else self.logged_in
        if not future.done():
            future.set_exception(error)


async def _flood(ready, sessions, seconds, size):
    context = ssl.create_default_context(cafile=ready["ca_file"])
    body = (b"Subject: load\r\n\r\n" + b"x" * 70 + b"\r\n") * (size // 70 + 1)
    body = body[:size]
    flight = (b"MAIL FROM:<%s> SIZE=%d\r\nRCPT TO:<to@example.net>\r\n"
              b"BDAT %d LAST\r\n" % (_USER.encode(), size, size)) + body
    loop = asyncio.get_running_loop()
    senders = []
    for _ in range(sessions):
        sender = Sender(flight, loop)
        await loop.create_connection(
            lambda sender=sender: sender, ready["host"], ready["smtps"],
            ssl=context, server_hostname="smtp.gmail.com")
        senders.append(sender)
    await asyncio.gather(*(s.logged_in for s in senders))
    until = time.monotonic() + seconds
    for sender in senders:
        sender.start(until)
    await asyncio.gather(*(s.done for s in senders))
    return [latency for s in senders for latency in s.latencies]


def _work(arguments):
    return asyncio.run(_flood(*arguments))


def measure(ready, sessions=20, seconds=5.0, size=2048, processes=1):
    """{"messages", "per_second", "ms_median", "ms_p99"}"""
    share = [(ready, sessions // processes + (i < sessions % processes),
              seconds, size) for i in range(processes)]
    if processes == 1:
        latencies = _work(share[0])
    else:
        with multiprocessing.Pool(processes) as pool:
            latencies = sum(pool.map(_work, share), [])
    latencies.sort()
    return {"messages": len(latencies),
            "per_second": round(len(latencies) / seconds, 1),
            "ms_median": round(1000 * latencies[len(latencies) // 2], 2),
            "ms_p99": round(1000 * latencies[len(latencies) * 99 // 100], 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ready", help="ready file of a running simulator "
                        "that knows %s:%s" % (_USER, _PASSWORD))
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    shape = (args.sessions, args.seconds, args.size, args.processes)
    if args.ready:
        with open(args.ready, encoding="utf-8") as file:
            result = measure(json.load(file), *shape)
    else:
        with Sim.start({"accounts": [{"address": _USER,
                                      "app_password": _PASSWORD}]}) as sim:
            result = measure(sim.ready, *shape)
            counted = sim.total()["accepted"]
            if counted != result["messages"]:
                sys.exit("load: %d messages confirmed, %d accepted" % (
                    result["messages"], counted))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
