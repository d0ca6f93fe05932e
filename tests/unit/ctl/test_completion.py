#!/usr/bin/python3
"""What bash offers behind gmroutectl: test_completion.py GMROUTECTL

The real bash runs contrib/completion/gmroutectl as it does when somebody
presses the tabulator; what it offers is held against what the program says of
itself.
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parents[2] / "contrib/completion/gmroutectl"
DATA = HERE / "data"
PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()

ASK = """\
set -u
source %s
complete -p gmroutectl | grep -q -- '-F _gmroutectl ' || exit 9
COMP_WORDS=(%s) COMP_CWORD=%d
_gmroutectl "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" \
    "${COMP_WORDS[COMP_CWORD-1]}"
[[ ${#COMPREPLY[@]} == 0 ]] || printf '%%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words, where=DATA, home="/"):
    """The words that complete the last one."""
    words = (str(PROGRAM), *words)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK % (
            shlex.quote(str(SCRIPT)), " ".join(map(shlex.quote, words)),
            len(words) - 1)],
        cwd=where, env={**os.environ, "HOME": str(home)}, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout.splitlines()


def said(*words):
    done = subprocess.run([PROGRAM, *words], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, cwd=DATA, check=False)
    return done.stdout + done.stderr


def commands():
    return re.findall(r"^  ([a-z][a-z-]*) +\S", said("help"), re.M)


class Completion(unittest.TestCase):
    maxDiff = None

    def test_every_command_is_offered_and_nothing_else(self):
        self.assertGreater(len(commands()), 15)
        self.assertEqual(sorted(offered("")), sorted(commands()))
        self.assertEqual(sorted(offered("--json", "-c", "x.yaml", "")),
                         sorted(commands()))
        self.assertEqual(offered("exp"), ["explain"])
        self.assertEqual(offered("--"), ["--json"])
        self.assertEqual(offered("nonsense", ""), [])

    def test_every_option_of_every_command(self):
        seen = set()
        for command in commands():
            with self.subTest(command=command):
                usage = said(command, "--no-such-option")
                usage = usage[usage.index("usage:"):]
                options = set(re.findall(r"--[a-z][a-z-]*", usage)) | {"--json"}
                self.assertEqual(set(offered(command, "--")), options)
                seen |= options
        self.assertGreater(len(seen), 30)
        self.assertIn("-n", offered("log", "-"))
        self.assertIn("-c", offered("status", "-"))

    def test_accounts_are_those_of_the_configuration(self):
        for words in (["quota"], ["pause"], ["divert", "news"], ["token"],
                      ["login", "--paste"], ["log", "--account"],
                      ["divert", "--end"]):
            with self.subTest(words=words):
                self.assertEqual(offered("-c", "good.yaml", *words, ""),
                                 ["news", "sales"])
        self.assertEqual(offered("quota", "-c", "good.yaml", "s"), ["sales"])
        self.assertEqual(offered("-c", "missing.yaml", "quota", ""), [])
        self.assertEqual(offered("-c", "bad.yaml", "quota", ""), [])
        self.assertEqual(offered("-c", "good.yaml", "status", ""), [])
        # A number is no account.
        self.assertEqual(offered("-c", "good.yaml", "quota", "--room", ""), [])

    def test_words_to_choose_from(self):
        self.assertLessEqual({"postfix", "sendmail"},
                             set(offered("mta-config", "")))
        self.assertEqual(offered("explain", "--stage", "r"), ["rcpt"])
        self.assertEqual(offered("accounts", "--state", "n"), ["needs_login"])
        self.assertEqual(set(offered("log", "--outcome", "")),
                         {"sending", "sent", "refused", "deferred",
                          "in_doubt"})
        self.assertEqual(offered("explain", "--macro", ""), [])

    def test_files(self):
        self.assertEqual(offered("-c", "goo"), ["good.yaml"])
        self.assertEqual(offered("status", "-c", "goo"), ["good.yaml"])
        self.assertEqual(offered("explain", "let"), ["letter.eml"])
        self.assertEqual(offered("replay", "mail"), ["mail.log"])

    def test_strange_names(self):
        """Files whose names are patterns, or have spaces, or stand at home."""
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            text = (DATA / "good.yaml").read_text()
            (folder / "my good.yaml").write_text(text)
            (folder / "j").write_text("[--json] is a pattern of this name")
            self.assertEqual(offered("-c", "my", where=folder),
                             ["my good.yaml"])
            self.assertEqual(offered("-c", r"my\ good.yaml", "quota", "n",
                                     where=folder), ["news"])
            (folder / "g.yaml").write_text(text)
            self.assertEqual(offered("-c", "~/g.yaml", "quota", "n",
                                     home=folder), ["news"])
            self.assertIn("--json", offered("quota", "--", where=folder))


if __name__ == "__main__":
    unittest.main()
