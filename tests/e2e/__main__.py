# tests.e2e - all end-to-end tests, some modules at a time
# SPDX-License-Identifier: Apache-2.0
"""python3 -B -m tests.e2e [-j JOBS] [MODULE...]

From the root of the tree, as root. A test mostly waits (for quota to return,
for the MTA to try again), and every stack has directories and ports of its
own, so modules run side by side, each in a process of its own. What a module
prints comes whole, in the order of their names."""

import argparse
import concurrent.futures
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Begun first, so that the end does not wait for them alone.
LONGEST = ["test_limits", "test_crashes", "test_pools", "test_tokens",
           "test_docs"]


def run(module):
    """Its exit status, output and how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-B", "-m", "unittest", "-v", "tests.e2e." + module],
        cwd=HERE.parents[1], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(prog="python3 -m tests.e2e")
    parser.add_argument("-j", type=int, default=3, dest="jobs",
                        help="modules at a time; default %(default)s")
    parser.add_argument("modules", nargs="*", metavar="MODULE",
                        help="such as test_routing; default all")
    options = parser.parse_args()
    modules = options.modules or [p.stem for p in HERE.glob("test_*.py")]
    order = sorted(modules, key=lambda m: (
        LONGEST.index(m) if m in LONGEST else len(LONGEST), m))
    failed = []
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        running = {m: pool.submit(run, m) for m in order}
        for module in sorted(modules):
            status, output, took_s = running[module].result()
            print(f"==== {module}: "
                  f"{'failed' if status else 'good'}, {took_s:.0f} s",
                  flush=True)
            sys.stdout.buffer.write(output)
            sys.stdout.buffer.flush()
            if status != 0:
                failed.append(module)
    print(f"==== {len(modules)} modules, {len(failed)} failed, "
          f"{time.monotonic() - begun:.0f} s", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
