# machine - a Debian 12 of its own, with systemd, for one test
# SPDX-License-Identifier: Apache-2.0
"""A debootstrap of Debian 12 is made once and kept below .build/package.  A
machine is a boot of it: a writable layer in memory, namespaces for processes,
mounts, network, host name and control groups, and systemd as process 1.  It is
gone when the test ends; the host's packages, users, services and network are
never touched.  Needs root."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = ROOT / ".build/package"
BASE = KEPT / "debian-12"
# What a Debian server has anyway.
INCLUDED = "systemd,systemd-sysv,dbus"
BOOT_S = 60
NONINTERACTIVE = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}

# $1 is the base, $2 what becomes /srv/packages.
BOOT = r"""
set -e
# Control groups of its own, which go at the end; it is shown no controllers,
# which are the host's.
groups=
for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    if [ -e $tree/cgroup.procs ]; then
        mkdir $tree/gmroute-test.$$
        groups="$groups $tree/gmroute-test.$$"
    fi
done
(
    for group in $groups; do
        sh -c 'echo $PPID' >$group/cgroup.procs
    done
    exec unshare --mount --net --uts --ipc --cgroup sh -c "$3" "$0" "$1" "$2"
) || true
for group in $groups; do
    find $group -depth -type d -exec rmdir {} +
done
"""
INSIDE = r"""
set -e
mount --make-rprivate /
ip link set lo up
mount -t tmpfs -o mode=755 machine /mnt
cd /mnt
mkdir layer work root
mount -t overlay -o "lowerdir=$1,upperdir=layer,workdir=work" machine root
cd root
echo mx.example.com >etc/hostname
echo "127.0.0.1 localhost" >etc/hosts
echo "127.0.1.1 mx.example.com mx" >>etc/hosts
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir srv/packages
mount --bind "$2" srv/packages
head -n 1 /proc/cgroups >run/cgroups
exec unshare --pid --fork --mount --kill-child sh -c '
    mount -t proc proc proc
    mount --bind run/cgroups proc/cgroups
    # The settings of this kernel are the host'"'"'s.
    mount --bind proc/sys proc/sys
    mount -o remount,ro,bind proc/sys
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --log-level=err'
"""


def call(*words, **options):
    """Runs it; its output is in the error when it fails."""
    done = subprocess.run([str(word) for word in words], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (
            " ".join(map(str, words)), done.returncode, done.stdout))
    return done.stdout


def sources():
    """The sources of Debian 12 that this host's apt uses."""
    for update in (False, True):
        if update:
            call("apt-get", "-qq", "update")
        lines = [line.split() for line in call(
            "apt-get", "indextargets", "--format",
            "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages").splitlines()]
        found = sorted({
            (name, component, uri) for origin, name, component, uri in lines
            if origin == "Debian" and name.startswith("bookworm")})
        if found:
            return found
    raise RuntimeError("apt on this host knows no source of Debian 12")


def in_base(*words):
    return call("chroot", BASE, *words,
                env={**os.environ, **NONINTERACTIVE})


def make_base():
    """Whole or not at all."""
    new = BASE.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    found = sources()
    main = next(uri for name, _, uri in found if name == "bookworm")
    call("debootstrap", "--variant=minbase", "--include=" + INCLUDED,
         "bookworm", new, main)
    (new / "etc/apt/sources.list").write_text("".join(
        "deb %s %s %s\n" % (uri, name, component)
        for name, component, uri in found))
    shutil.copy("/etc/resolv.conf", new / "etc/resolv.conf")
    new.rename(BASE)
    in_base("apt-get", "-qq", "update")


def prepare(package):
    """Has the base, and in its cache all that installing `package` takes: a
    machine has no network."""
    if not BASE.exists():
        make_base()
    inside = BASE / "tmp" / package.name
    shutil.copy(package, inside)
    download = ("apt-get", "-y", "-qq", "--download-only", "install",
                "/tmp/" + package.name)
    try:
        try:
            in_base(*download)
        except RuntimeError:
            # Debian has newer ones by now.
            in_base("apt-get", "-qq", "update")
            in_base(*download)
    finally:
        inside.unlink()


def child_of(pid):
    """The only child of a process; 0 = it has none yet."""
    try:
        text = pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
    except FileNotFoundError:
        return 0
    return int(text.split()[0]) if text.strip() else 0


class Machine:
    """A boot of the base; `packages` is its /srv/packages."""

    def __init__(self, packages):
        self.process = subprocess.Popen(
            ["sh", "-c", BOOT, "boot", str(BASE), str(packages), INSIDE],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        self.pid = 0
        try:
            self.boot()
        except BaseException:
            print(self.stop())
            raise

    def boot(self):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end and self.process.poll() is None:
            # sh, its subshell that becomes unshare, systemd
            unshare = child_of(self.process.pid)
            self.pid = child_of(unshare) if unshare else 0
            if self.pid:
                said = self.run("systemctl", "is-system-running", "--wait",
                                check=False)
                if said.stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.05)
        raise RuntimeError("the machine did not boot")

    def stop(self):
        # All there dies with systemd, or, before that is there, with unshare.
        unshare = child_of(self.process.pid)
        for pid in (child_of(unshare), unshare) if unshare else ():
            if pid:
                os.kill(pid, signal.SIGKILL)
                break
        return self.process.communicate(timeout=30)[0]

    @property
    def root(self):
        """Its file system, seen from here."""
        return pathlib.Path("/proc/%d/root" % self.pid)

    def run(self, *words, check=True, text="", timeout=120):
        """Runs it there as root; standard error is in .stdout too."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
             *("%s=%s" % item for item in NONINTERACTIVE.items()), *words],
            text=True, input=text, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError("%s: exit %d\n%s" % (
                " ".join(words), done.returncode, done.stdout))
        return done

    def say(self, *words, **options):
        """What it prints, without the line end."""
        return self.run(*words, **options).stdout.strip()
