# demo - what `contrib/quickstart` shows, once everything is built
# SPDX-License-Identifier: Apache-2.0
"""Sends messages through a private real Postfix, our daemons and the
simulated Gmail, and prints what became of each recipient."""

import re
import shlex
import smtplib
import sys
import time

from tests.e2e.stack import BUILD, PROGRAMS, SIM, Stack, message, wait_for

WINDOW_S = 20
SALES_LIMIT = 6


def scenario_sim():
    accounts = [dict(a) for a in SIM["accounts"]]
    accounts[0]["limits"] = {"messages": SALES_LIMIT}
    return {"accounts": accounts, "window_s": WINDOW_S}


class Table:
    """Rows of what was seen, in columns a person can read."""

    COLUMNS = (("message to", 17), ("rule", 17), ("route", 8),
               ("account", 18), ("Gmail's reply", 42), ("room left", 12))

    def head(self, title):
        print("\n\033[1m%s\033[0m" % title if sys.stdout.isatty()
              else "\n" + title)
        self.row(*(name for name, _ in self.COLUMNS))
        self.row(*("-" * width for _, width in self.COLUMNS))

    def row(self, *cells):
        line = "  ".join(
            str(cell)[:width].ljust(width)
            for cell, (_, width) in zip(cells, self.COLUMNS))
        print("  " + line.rstrip(), flush=True)


class Demo:
    def __init__(self, stack):
        self.stack, self.table = stack, Table()

    # --- looking

    def decision(self, recipient):
        """key=value pairs of the milter's newest line for a recipient."""
        def find():
            lines = [line for line in self.stack.milter.log().splitlines()
                     if re.search(r"\bto=%s( |$)" % re.escape(recipient),
                                  line)]
            return lines and lines[-1]

        line = wait_for("the decision about " + recipient, find)
        pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)
        return {key: value.strip('"') for key, value in pairs}

    def room(self, account):
        found = [a for a in self.stack.ctl("quota", "--json")
                 if a["account"].split("/")[0] == account]
        for window in found[0]["windows"] if found else ():
            if window["dimension"] == "messages":
                return "%d of %d" % (window["room"], window["limit"])
        return ""

    def show(self, recipient, timeout_s=30):
        """One row, once the recipient's fate is known."""
        told = self.decision(recipient)
        rule, route = told.get("rule", ""), told["action"]
        if route != "account":
            kept = "stays with Postfix" if route == "mta" else ""
            self.table.row(recipient, rule, route, kept or "-",
                           told.get("reply", ""), "")
            return
        row = wait_for("the outcome of " + recipient, lambda: [
            r for r in self.stack.log_row(recipient=recipient)
            if r["outcome"] != "sending"], timeout_s)[-1]
        reply = "%d %s %s" % (row["code"], row["enhanced"], row["reply"]) \
            if row["code"] else row["reply"]
        account = row["account"].split("/")[0]
        self.table.row(recipient, rule, row["outcome"], account, reply,
                       self.room(account))

    def refused(self, sender, recipient, headers=()):
        """Sends what is refused; who saw it, and the reply."""
        try:
            self.stack.send(sender, recipient, headers=headers)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = error.recipients[recipient]
            return "client at RCPT", "%d %s" % (code, text.decode())
        except smtplib.SMTPDataError as error:
            return "client at the end", "%d %s" % (
                error.smtp_code, error.smtp_error.decode())
        return "nobody", "accepted"

    # --- the scenario

    def three_accounts(self):
        self.table.head("1. Three senders, three kinds of account: refresh "
                        "token, service account, app password")
        for sender, recipient in (("sales@example.com", "anna@far.test"),
                                  ("alice@example.com", "ben@far.test"),
                                  ("news@example.com", "carl@far.test")):
            self.stack.send(sender, recipient)
            self.show(recipient)

    def mixed(self):
        self.table.head("2. One message: two recipients through Gmail, one "
                        "local, one that a rule leaves to Postfix")
        recipients = ["dora@far.test", "emil@other.test", "boss@example.com",
                      "fritz@direct.test"]
        self.stack.send("sales@example.com", recipients)
        for recipient in recipients:
            self.show(recipient)
        self.stack.local.wait_to("boss@example.com")
        self.stack.internet.wait_to("fritz@direct.test")
        print("  Gmail got it once for both; the mailbox and the other host "
              "have theirs.")

    def sendmail(self):
        self.table.head("3. A program of this host: sendmail -t")
        self.stack.postfix.sendmail(
            "bob@example.com", [],
            message("bob@example.com", ["gerd@far.test"]), "-t")
        self.show("gerd@far.test")

    def refusals(self):
        self.table.head("4. A rule rejects, another defers, a third one looks "
                        "into the message")
        for sender, recipient, headers in (
                ("blocked@example.com", "hans@far.test", ()),
                ("later@example.com", "ida@far.test", ()),
                ("sales@example.com", "jens@far.test",
                 [("X-Refuse", "yes")])):
            who, reply = self.refused(sender, recipient, headers)
            told = self.decision(recipient)
            self.table.row(recipient, told.get("rule", ""), told["action"],
                           who, "ours: " + reply, "")

    def limit(self):
        self.table.head("5. An account at its limit: %d messages in %d s "
                        "(shortened for you)" % (SALES_LIMIT, WINDOW_S))
        recipients = ["kunde%d@far.test" % i for i in range(1, 7)]
        for recipient in recipients:
            self.stack.send("sales@example.com", recipient)
        wait_for("the first of them", lambda: any(
            r["outcome"] == "sent" for r in self.stack.log_row(
                recipient=recipients[0])))
        time.sleep(1)
        waiting = len(self.stack.postfix.queued())
        print("  %d of %d wait in Postfix's queue until room returns ..." % (
            waiting, len(recipients)), flush=True)
        self.stack.postfix.wait_empty(90)
        for recipient in recipients:
            self.show(recipient)
        counted = self.stack.sim.counters("sales@example.com",
                                          window_s=WINDOW_S)
        print("  By Gmail's own count at most %d in any %d s; refused by "
              "Gmail: %d." % (counted["peak"]["messages"], WINDOW_S,
                              counted["refused_total"]))

    def token(self):
        self.table.head("6. Gmail takes the access token back while a session "
                        "is open")
        self.stack.send("alice@example.com", "lars@far.test")
        self.show("lars@far.test")
        self.stack.sim.revoke("alice@example.com")
        self.stack.send("alice@example.com", "mia@far.test")
        self.show("mia@far.test")
        deferred = self.stack.postfix.log().count("to=<mia@far.test")
        print("  Renewed and sent on the same attempt (Postfix tried %s)." % (
            "once" if deferred == 1 else "%d times" % deferred))

    def play(self):
        top = self.stack.top
        ctl = "%s/%s -c %s" % (BUILD, PROGRAMS["ctl"],
                               self.stack.config_file)
        print("\nIt stays up until Ctrl-C. To play with:")
        for line in (
                "sendmail -C %s/postfix -f sales@example.com you@far.test "
                "<<< 'Subject: hello'" % top,
                ctl + " status", ctl + " quota", ctl + " tokens",
                ctl + " log", ctl + " explain --sender sales@example.com "
                "--recipient you@far.test",
                "postqueue -c %s/postfix -p" % top,
                "tail -f %s" % " ".join(
                    shlex.quote(d.log_file)
                    for d in self.stack.daemons.values()),
                "ls %s   # what Gmail accepted" % self.stack.sim.journal_dir,
                "$EDITOR %s   # then kill -HUP %s" % (
                    self.stack.config_file, " ".join(
                        str(d.process.pid)
                        for d in self.stack.daemons.values()))):
            print("  " + line)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print()


def main():
    keep = "--keep" in sys.argv[1:]
    print("starting a simulated Gmail, a private Postfix and three daemons "
          "...", flush=True)
    with Stack(sim=scenario_sim(), max_wait="10m",
               sales_quota="{messages: %d per %ds}" % (SALES_LIMIT,
                                                       WINDOW_S)) as stack:
        demo = Demo(stack)
        for step in (demo.three_accounts, demo.mixed, demo.sendmail,
                     demo.refusals, demo.limit, demo.token):
            step()
        if keep:
            demo.play()
    print("\nEverything was stopped and removed. Next: README.md")


if __name__ == "__main__":
    main()
