#!/usr/bin/python3
"""gmroutectl's policy commands, exactly as they print.

    test_commands.py GMROUTECTL            compares with golden/
    test_commands.py GMROUTECTL --write    writes golden/ anew: read the diff

Each case is a command line, run in data/; its golden file holds the exit
status, standard output and standard error.  No daemon runs and no memory is
there, so nothing in an answer depends on the machine.
"""
import difflib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NEWS = ["--sender", "news@example.com"]
TO_BOB = ["--recipient", "bob@gmail.com"]
AT = ["--now", "2026-03-01T10:00:00Z"]
LETTER = ["explain", "-c", "good.yaml", *AT, "letter.eml", *NEWS]
ALL = [*TO_BOB, "--recipient", "<eve@gmail.com>", "--recipient",
       "x@blocked.example", "--recipient", "joe@example.com"]
MANY = ["explain", "-c", "many.yaml", *AT, *NEWS, *TO_BOB]
REPLAY = ["replay", "-c", "replay.yaml", "mail.log", "--year", "2026"]



def mails(sender, n):
    """A log of n messages, one recipient each."""
    return "".join(
        f"Nov 25 08:00:0{i} mx postfix/pickup[1]: 4AAA000{i}: uid=0 from=<r>\n"
        f"Nov 25 08:00:0{i} mx postfix/qmgr[1]: 4AAA000{i}: from=<{sender}>, "
        "size=1, nrcpt=1 (queue active)\n"
        f"Nov 25 08:00:0{i} mx postfix/smtp[1]: 4AAA000{i}: to=<r@gmail.com>, "
        "relay=none, delay=1, status=sent (ok)\n" for i in range(n))


# name -> words, and what comes on standard input
CASES = {
    "check-good": (["check", "-c", "good.yaml"], ""),
    "check-good-json": (["check", "--json", "-c", "good.yaml"], ""),
    "check-bad": (["check", "-c", "bad.yaml"], ""),
    "check-bad-json": (["check", "--json", "-c", "bad.yaml"], ""),
    "check-failing": (["check", "-c", "failing.yaml"], ""),
    "check-failing-json": (["check", "--json", "-c", "failing.yaml"], ""),
    "check-missing": (["check", "-c", "missing.yaml"], ""),
    "check-usage": (["check", "good.yaml"], ""),
    "explain-message": ([*LETTER, *ALL], ""),
    "explain-message-json": ([*LETTER, *ALL, "--json"], ""),
    "explain-rcpt": ([*LETTER, *ALL, "--stage", "rcpt"], ""),
    "explain-rcpt-json": ([*LETTER, *TO_BOB, "--stage", "rcpt", "--json"],
                          ""),
    "explain-stdin": (["explain", "-c", "good.yaml", *AT, "-", *NEWS, *TO_BOB],
                      "From: news@example.com\nSubject: plain\n\nhello\n"),
    "explain-hold": (["explain", "-c", "good.yaml", *AT, "--sender",
                      "ann@example.com", "--auth", "ann", "--macro",
                      "{verdict}=spam", *TO_BOB], ""),
    "explain-too-large": (["explain", "-c", "replay.yaml", *AT, "--sender",
                           "ann@example.com", "--auth", "ann", "--size",
                           "2MB", *TO_BOB], ""),
    "explain-null-sender": (["explain", "-c", "good.yaml", *AT, *TO_BOB], ""),
    "explain-many": (MANY, ""),
    "explain-many-all": ([*MANY, "--all"], ""),
    "explain-not-utf8": ([*LETTER[:-2], "--sender", b"a\xff@example.com",
                          "--recipient", b"b\xff@gmail.com", "--json"], ""),
    "explain-no-recipient": ([*LETTER], ""),
    "explain-bad-time": (["explain", *TO_BOB, "--now", "2026-02-30T00:00:00Z"],
                         ""),
    "explain-bad-stage": (["explain", *TO_BOB, "--stage", "data"], ""),
    "explain-no-file": (["explain", "-c", "good.yaml", "no.eml", *TO_BOB],
                        ""),
    "login-usage": (["login", "-c", "good.yaml", "--port", "0", "x"], ""),
    "login-nobody": (["login", "-c", "good.yaml", "nobody@example.com"], ""),
    "login-password": (["login", "-c", "good.yaml", "sales", "--json"], ""),
    "verify-usage": (["verify", "-c", "good.yaml"], ""),
    "verify-no-secret": (["verify", "-c", "good.yaml", "sales"], ""),
    "verify-no-secret-json": (["verify", "-c", "good.yaml", "sales",
                               "--json"], ""),
    "token-usage": (["token", "-c", "good.yaml", "x", "--min-left"], ""),
    "token-password": (["token", "-c", "good.yaml", "sales"], ""),
    "tokens-no-memory": (["tokens", "-c", "good.yaml"], ""),
    "replay": (REPLAY, ""),
    "replay-json": ([*REPLAY, "--json"], ""),
    "replay-since": ([*REPLAY, "--since", "2026-11-25T08:20:00Z", "--until",
                      "2026-11-25T08:22:00Z"], ""),
    "replay-rfc3339": (
        ["replay", "-c", "replay.yaml", "-"],
        "2026-11-25T09:00:00.5+01:00 mx postfix/pickup[1]: 4AAA0001: uid=0 "
        "from=<root>\n"
        "2026-11-25T09:00:00.6+01:00 mx postfix/qmgr[1]: 4AAA0001: "
        "from=<news@example.com>, size=1, nrcpt=1 (queue active)\n"
        "2026-11-25T09:00:00.7+01:00 mx postfix/smtp[1]: 4AAA0001: "
        "to=<r@gmail.com>, relay=none, delay=1, status=sent (ok)\n"),
    "replay-round-robin": (["replay", "-c", "replay.yaml", "-", "--year",
                            "2026"], mails("turns@example.com", 4)),
    "replay-most-room": (["replay", "-c", "replay.yaml", "-", "--year",
                          "2026"], mails("room@example.com", 6)),
    "replay-garbage": (["replay", "-c", "replay.yaml", "-"],
                       "\0\n" + "x" * 70000 + "\nNov 25 08:00:00\n"),
    "replay-no-file": (["replay", "-c", "replay.yaml", "no.log"], ""),
    "replay-usage": (["replay", "-c", "replay.yaml"], ""),
    "help": (["help"], ""),
    "accounts-bad-state": (["accounts", "--state", "fine"], ""),
    "quota-unknown": (["quota", "-c", "good.yaml", "slaes"], ""),
    "pause-unknown": (["pause", "-c", "good.yaml", "news@exmaple.com"], ""),
    "divert-usage": (["divert", "news"], ""),
    "divert-itself": (["divert", "-c", "good.yaml", "news",
                       "NEWS@example.com"], ""),
    "quota-reset-unasked": (["quota-reset", "-c", "good.yaml", "news"], "y\n"),
    "top-no-terminal": (["top"], ""),
}


def run(program, words, given):
    done = subprocess.run([program, *words], input=given.encode(),
                          cwd=HERE / "data", capture_output=True, timeout=60,
                          env={"TZ": "UTC", "LC_ALL": "C"}, check=False)
    out, err = (b.decode("utf-8", "backslashreplace")
                for b in (done.stdout, done.stderr))
    return f"exit {done.returncode}\n--- output\n{out}--- errors\n{err}"


def main():
    program = os.path.abspath(sys.argv[1])
    write = sys.argv[2:] == ["--write"]
    failed = 0
    for name, (words, given) in CASES.items():
        golden = HERE / "golden" / f"{name}.txt"
        got = run(program, words, given)
        if write:
            golden.write_text(got, "utf-8")
            continue
        want = golden.read_text("utf-8") if golden.exists() else ""
        if got == want:
            continue
        failed += 1
        sys.stdout.writelines(difflib.unified_diff(
            want.splitlines(True), got.splitlines(True), f"golden/{name}",
            "got"))
    left = {p.stem for p in (HERE / "golden").glob("*.txt")} - set(CASES)
    if left:
        failed += 1
        print("golden files of no case:", ", ".join(sorted(left)))
    print(f"{len(CASES)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
