# test_docs - every command of the documentation is run, letter for letter
# SPDX-License-Identifier: Apache-2.0
"""README.md and the guides of contrib/doc: blocks marked `sh` are run in their
order, each by a shell of its own, on a machine of the document's own (machine.py).
A command that fails fails the test. A block marked `output` behind one is held
against what came out. Blocks marked `sh (not run: REASON)` are not run."""

import os
import re
import subprocess
import time
import unittest

from tests.e2e import machine
from tests.e2e.machine import Machine
from tests.e2e.stack import ROOT

GUIDES = os.path.join(ROOT, "contrib/doc")
KINDS = ("output", "yaml", "text")
PAGES = [os.path.join(ROOT, "README.md")] + [
    os.path.join(GUIDES, p) for p in sorted(os.listdir(GUIDES))
    if p.endswith(".md")]


class Block:
    def __init__(self, where, kind, text):
        self.where, self.kind, self.text = where, kind, text


def blocks(path):
    """The fenced blocks of a page, in order."""
    found, begun, kind, lines = [], 0, "", []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            fence = re.match(r"\s*```(.*)$", line)
            if fence and not begun:
                begun, kind, lines = number, fence[1].strip(), []
            elif fence:
                found.append(Block("%s:%d" % (os.path.relpath(path, ROOT),
                                              begun), kind, "".join(lines)))
                begun = 0
            elif begun:
                lines.append(line)
    if begun:
        raise AssertionError("%s:%d: a block without an end" % (path, begun))
    return found


def bare(line):
    """What must be equal: words with a digit in them (times, ids, numbers)
    count as any, and so does white space."""
    return " ".join("#" if re.search(r"\d", word) else word
                    for word in re.split(r"[\s,;()<>]+", line) if word)


def missing(want, have):
    """The first line of a shown output that did not come, in this order;
    "..." stands for any lines, and at the end of a line for the rest of it."""
    lines = [bare(line) for line in have.splitlines()]
    at = 0
    for line in want.splitlines():
        text = bare(line.rstrip(" ."))
        if not text:
            continue
        cut = line.rstrip().endswith("...")
        while at < len(lines) and not (
                lines[at].startswith(text) if cut else lines[at] == text):
            at += 1
        if at == len(lines):
            return line
        at += 1
    return None


class Documents(unittest.TestCase):
    def test_all_pages_are_known(self):
        run = {m[len("test_run_"):] + ".md" for m in dir(self)
               if m.startswith("test_run_")}
        with_commands = {
            os.path.basename(p).lower() for p in PAGES
            if any(b.kind == "sh" for b in blocks(p))}
        self.assertEqual(with_commands - run, set(), "not run")

    def test_links_lead_somewhere(self):
        for path in PAGES:
            with open(path, encoding="utf-8") as f:
                for link in re.findall(r"\]\(([^)#]+)\)", f.read()):
                    if "://" not in link:
                        with self.subTest(os.path.basename(path) + link):
                            self.assertTrue(os.path.exists(os.path.join(
                                os.path.dirname(path), link)))

    def test_every_block_says_what_it_is(self):
        for path in PAGES:
            for block in blocks(path):
                if block.kind not in KINDS + ("sh",):
                    self.assertRegex(block.kind, r"^sh \(not run: .+\)$",
                                     block.where)

    def test_the_threat_model_names_tests_that_exist(self):
        with open(os.path.join(GUIDES, "threat-model.md"),
                  encoding="utf-8") as f:
            named = re.findall(r"`((?:e2e|unit|fuzz)/\w[\w/]*)\.(\w+)`",
                               f.read())
        self.assertGreater(len(named), 20)
        for path, name in named:
            kind = "py" if path.startswith("e2e/") else "c"
            with self.subTest(path + "." + name), open(os.path.join(
                    ROOT, "tests", path + "." + kind), encoding="utf-8") as f:
                text = f.read()
                if name != kind:
                    self.assertRegex(text, r"\b%s\(" % name)

    # --- running

    def play(self, m, path):
        out = ""
        for block in blocks(path):
            if block.kind == "sh":
                out = self.shell(m, block)
            elif block.kind == "output":
                line = missing(block.text, out)
                if line is not None:
                    self.fail("%s: this did not come: %s\nbut\n%s\n%s" % (
                        block.where, line, out, m.log.text()[-4000:]))

    def shell(self, m, block):
        self.settle(m)
        # To a file: what a block starts may live on.
        with open("/run/machine/out", "w+b") as out:
            done = subprocess.run(["bash", "-e", "-c", block.text],
                                  stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=out, cwd="/root", check=False,
                                  timeout=120)
            out.seek(0)
            text = out.read().decode("utf-8", "replace")
        if done.returncode != 0:
            self.fail("%s: status %d\n%s\n%s\n%s" % (
                block.where, done.returncode, block.text, text,
                m.log.text()[-4000:]))
        return text

    @staticmethod
    def settle(m):
        """A reader takes a moment between two commands: until the daemons
        are ready, and what was sent is sent or put off."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            ready = m.log.text().count(" ready: ") >= len(m.daemons())
            if ready and not m.busy():
                return
            time.sleep(0.1)

    @machine.alone
    def test_run_postfix(self):
        with Machine() as m:
            self.play(m, os.path.join(GUIDES, "postfix.md"))

    @machine.alone
    def test_run_readme(self):
        with Machine(mta=None) as m:
            self.play(m, os.path.join(ROOT, "README.md"))

    @machine.alone
    def test_run_operations(self):
        with Machine() as m:
            m.install("departments.yaml")
            m.apply_mta_config()
            self.play(m, os.path.join(GUIDES, "operations.md"))

    @machine.alone
    def test_run_sendmail(self):
        with Machine("sendmail") as m:
            self.play(m, os.path.join(GUIDES, "sendmail.md"))


if __name__ == "__main__":
    unittest.main()
