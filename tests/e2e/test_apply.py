# test_apply - gmroutectl mta-config postfix --apply, --dry-run and --undo
# SPDX-License-Identifier: Apache-2.0
"""On the real postconf, in directories of its own; no Postfix runs."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from tests.e2e.test_doctor import CTL, MAIN, MEMORY, POLICY, QUICK, STOCK

OURS = "unix:gmroute/milter.sock"
# postconf, until it is called for the Nth time to edit.
FAILING = """\
#!/bin/sh
case " $* " in
*" -e "*|*" -M "*=*|*" -P "*=*)
    echo x >>{count}
    [ $(wc -l <{count}) -lt {nth} ] || {{ {then}; }} ;;
esac
exec /usr/sbin/postconf "$@"
"""


class Apply(unittest.TestCase):
    def setUp(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="gmroute.",
                                                 dir=MEMORY))
        self.addCleanup(shutil.rmtree, self.top)
        self.conf = self.top / "postfix"
        self.conf.mkdir()
        self.tmp = self.top / "tmp"
        self.tmp.mkdir()
        self.env = {**QUICK, "TMPDIR": str(self.tmp)}
        self.config = self.top / "gmroute.yaml"
        self.config.write_text(POLICY.format(
            top=self.top, more_milter="",
            milter=f"unix:{self.top}/spool/gmroute/milter.sock",
            deliver=f"unix:{self.top}/spool/gmroute/deliver.sock"))
        shutil.copy(STOCK, self.conf / "master.cf")
        self.main("")

    def main(self, more):
        (self.conf / "main.cf").write_text(MAIN.format(top=self.top) + more)
        self.age()

    def age(self):
        """Postfix's programs wait until a main.cf is some seconds old."""
        os.utime(self.conf / "main.cf", (time.time() - 60,) * 2)

    def ctl(self, *words, status=0, env=None):
        done = subprocess.run(
            [CTL, "-c", str(self.config), "mta-config", "postfix",
             "--config-directory", str(self.conf), *words], check=False,
            capture_output=True, timeout=60, env=env or self.env)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        if (self.conf / "main.cf").exists():
            self.age()
        return (done.stdout + done.stderr).decode()

    def value(self, *words):
        return subprocess.run(
            ["postconf", "-c", str(self.conf), *words], check=True, text=True,
            capture_output=True, timeout=60).stdout.strip()

    def files(self):
        """What there is but the backups, with mode."""
        return {p.name: (p.read_bytes(), p.stat().st_mode)
                for p in self.conf.iterdir() if p.is_file()}

    def test_life(self):
        """Dry, done, done again, undone, and nothing left to undo."""
        (self.conf / "main.cf").chmod(0o640)
        os.chown(self.conf / "main.cf", 1, 1)
        before = self.files()
        self.assertIn("gmroute: written", self.ctl("--dry-run"))
        self.assertEqual(self.files(), before)
        self.assertFalse((self.conf / "gmroute-backup").exists())
        said = json.loads(self.ctl("--apply", "--json"))
        self.assertTrue(said["done"])
        self.assertEqual(said["reload"], f"postfix -c {self.conf} reload")
        after = self.files()
        self.assertEqual(set(after) - set(before), {"gmroute",
                                                    "gmclean.pcre"})
        self.assertEqual((self.conf / "main.cf").stat().st_mode & 0o777,
                         0o640)
        self.assertEqual((self.conf / "main.cf").stat().st_uid, 1)
        self.assertEqual(self.value("-h", "smtpd_milters"), OURS)
        # As it is printed, so it is done.
        printed = self.ctl()
        self.assertIn((self.conf / "gmroute").read_text(), printed)
        self.assertIn((self.conf / "gmclean.pcre").read_text(), printed)
        self.assertIn("nothing to change", self.ctl("--apply"))
        self.assertEqual(self.files(), after)
        self.assertEqual(len(list((self.conf / "gmroute-backup")
                                  .iterdir())), 1)
        self.assertIn("as it was", self.ctl("--undo"))
        self.assertEqual(self.files(), before)
        self.assertEqual((self.conf / "main.cf").stat().st_uid, 1)
        self.assertIn("no backup", self.ctl("--undo", status=2))
        self.assertEqual(self.files(), before)

    def test_what_is_there_stays(self):
        other = "{ inet:127.0.0.1:9, default_action=accept }"
        self.main(f"smtpd_milters = {other}\n"
                  "non_smtpd_milters = $smtpd_milters\n"
                  "transport_maps = inline:{ {x.test = smtp:[y.test]} }\n"
                  "milter_default_action = accept\n"
                  "# a remark of somebody's\n")
        for words in (["-M", "gmroute/unix=gmroute unix - - y - 7 lmtp "
                       "-o syslog_name=old -o lmtp_helo_name=kept.test"],
                      ["-P", "bounce/unix/notify_classes=bounce"]):
            self.value(*words)
            self.age()
        self.ctl("--apply")
        self.assertEqual(self.value("-h", "smtpd_milters"),
                         f"{other}, {OURS}")
        self.assertEqual(self.value("-h", "non_smtpd_milters"),
                         "$smtpd_milters")
        self.assertEqual(self.value("-h", "transport_maps"),
                         "inline:{ {x.test = smtp:[y.test]} }, "
                         f"texthash:{self.conf}/gmroute")
        self.assertEqual(self.value("-h", "milter_default_action"),
                         "tempfail")
        self.assertEqual(
            self.value("-M", "gmroute/unix").split(),
            "gmroute unix - - n - 320 lmtp -o syslog_name=postfix/gmroute "
            "-o lmtp_helo_name=kept.test "
            "-o lmtp_send_xforward_command=yes".split())
        self.assertIn("notify_classes=bounce", self.value("-M", "bounce/unix"))
        self.assertIn("a remark", (self.conf / "main.cf").read_text())
        self.assertIn("nothing to change", self.ctl("--apply"))

    def test_ours_in_another_spelling(self):
        """The table as another type, the socket by its whole path or not at
        the end: put right, not added again."""
        self.main(f"smtpd_milters = unix:{self.top}/spool/gmroute/milter.sock"
                  ", inet:127.0.0.1:9\n"
                  f"transport_maps = hash:{self.conf}/gmroute, hash:/x\n")
        self.ctl("--apply")
        self.assertEqual(self.value("-h", "smtpd_milters"),
                         "inet:127.0.0.1:9, " + OURS)
        self.assertEqual(self.value("-h", "transport_maps"),
                         f"hash:/x, texthash:{self.conf}/gmroute")
        self.main("smtpd_milters = { " + OURS + ", connect_timeout=9s }\n")
        self.ctl("--apply")
        self.assertEqual(self.value("-h", "smtpd_milters"),
                         "{ " + OURS + ", connect_timeout=9s }")

    def test_links_stay(self):
        real = self.top / "real.cf"
        (self.conf / "main.cf").rename(real)
        (self.conf / "main.cf").symlink_to(real)
        before = real.read_bytes()
        self.ctl("--apply")
        self.assertTrue((self.conf / "main.cf").is_symlink())
        self.assertIn(OURS, real.read_text())
        self.ctl("--undo")
        self.assertTrue((self.conf / "main.cf").is_symlink())
        self.assertEqual(real.read_bytes(), before)

    def test_undo_refuses_changes(self):
        self.ctl("--apply")
        self.value("-e", "soft_bounce=yes")
        self.age()
        changed = self.files()
        said = self.ctl("--undo", status=2)
        self.assertIn("diff -u", said)
        self.assertEqual(self.files(), changed)
        # Two layers: the last is taken off first.
        self.value("-X", "transport_maps")
        self.age()
        before = self.files()
        self.ctl("--apply")
        self.ctl("--undo")
        self.assertEqual(self.files(), before)

    def path_with(self, nth, then):
        """An environment in which postconf is not to be relied on."""
        where = self.top / "bin"
        where.mkdir(exist_ok=True)
        (self.top / "count").write_text("")
        script = where / "postconf"
        script.write_text(FAILING.format(count=self.top / "count", nth=nth,
                                         then=then))
        script.chmod(0o755)
        return {**self.env, "PATH": f"{where}:{QUICK['PATH']}"}

    def test_failing_postconf(self):
        before = self.files()
        for nth in (1, 3, 12):
            env = self.path_with(nth, "echo 'postconf: fatal: no' >&2; exit 1")
            self.assertIn("fatal: no", self.ctl("--apply", status=2, env=env))
            self.assertEqual(self.files(), before)
        env = self.path_with(2, "while :; do echo y; done")
        self.assertIn("without end", self.ctl("--apply", status=2, env=env))
        self.assertEqual(self.files(), before)
        self.assertEqual(list(self.tmp.iterdir()), [])

    def test_killed(self):
        """In the middle of editing, and between the files."""
        before = self.files()
        env = self.path_with(9, "kill -9 $PPID")
        self.ctl("--apply", status=-9, env=env)
        self.assertEqual(self.files(), before)
        # As if it had been killed after the first two renames.
        self.ctl("--apply")
        after = self.files()
        for name in ("main.cf", "master.cf"):
            (self.conf / name).write_bytes(before[name][0])
        (self.conf / "main.cf.gmroute-new").write_text("half")
        self.age()
        self.ctl("--undo")
        (self.conf / "main.cf.gmroute-new").unlink()
        self.assertEqual(self.files(), before)
        self.ctl("--apply")
        self.assertEqual(self.files(), after)

    def test_read_only(self):
        before = self.files()
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$1" "$1" && mount '
             '-o remount,ro,bind "$1" && shift && exec "$@"', "sh",
             str(self.conf), CTL, "-c", str(self.config), "mta-config",
             "postfix", "--apply", "--config-directory", str(self.conf)],
            check=False, capture_output=True, timeout=60, env=self.env)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(b"Read-only file system", done.stderr)
        self.assertEqual(self.files(), before)

    def test_target_that_cannot_be_replaced(self):
        """The last file fails: those before it are put back."""
        mounted = ["unshare", "-m", "sh", "-c",
                   'mount --bind "$1" "$1" && shift && exec "$@"', "sh",
                   str(self.conf / "main.cf")]
        before = self.files()
        done = subprocess.run(
            [*mounted, CTL, "-c", str(self.config), "mta-config", "postfix",
             "--apply", "--config-directory", str(self.conf)], check=False,
            capture_output=True, timeout=60, env=self.env)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(b"main.cf", done.stderr)
        self.assertEqual(self.files(), before)
        self.assertIn("no backup", self.ctl("--undo", status=2))

    def test_no_postconf(self):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /usr/sbin && '
             'exec "$@"', "sh", CTL, "-c", str(self.config), "mta-config",
             "postfix", "--apply"], check=False, capture_output=True,
            timeout=60, env=self.env)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(b"postconf: No such file", done.stderr)

    def test_usage(self):
        self.ctl("--what", status=2)
        for words in (["sendmail", "--apply"],
                      ["sendmail", "--config-directory", "/x"], ["exim"], []):
            done = subprocess.run(
                [CTL, "-c", str(self.config), "mta-config", *words],
                check=False, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 2)
        (self.conf / "main.cf").unlink()
        self.ctl("--apply", status=2)


if __name__ == "__main__":
    unittest.main()
