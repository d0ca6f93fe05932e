# test_pools - several accounts under one name: each to its limit, none beyond
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import unittest

from tests.e2e.stack import SIM, Stack, wait_for

NAMES = ["one", "two", "three"]
ADDRESSES = [name + "@pool.example.com" for name in NAMES]
LIMIT, WINDOW_S, MESSAGES = 50, 45, 200

ACCOUNTS = "accounts:\n" + "".join("""\
  {n}:
    address: {n}@pool.example.com
    auth: {{{{password_file: secrets/news.pw}}}}
    quota: {{{{messages: {limit} per {window}s}}}}
    sessions: {{{{max: 3, messages: 100}}}}
    max_wait: 10m
""".format(n=n, limit=LIMIT, window=WINDOW_S) for n in NAMES)

RULES = """\
pools:
  bulk: {accounts: [one, two, three], pick: %s}
rules:
  - name: newsletter
    match: {sender: news@example.com}
    route: {pool: bulk}
  - name: people
    match: {sender_domain: people.example.com}
    route: {pool: bulk}
"""


def simulator():
    return {"accounts": SIM["accounts"] + [
        {"address": a, "app_password": "abcd efgh ijkl mnop",
         "limits": {"messages": LIMIT}} for a in ADDRESSES],
        "window_s": WINDOW_S}


def stack_of(pick):
    return Stack(rules=RULES % pick, accounts=ACCOUNTS, sim=simulator())


class Pools(unittest.TestCase):
    def test_spills_over_to_exact_limits_and_the_rest_waits(self):
        with stack_of("most_room") as stack:
            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                list(threads.map(
                    lambda i: stack.send("news@example.com",
                                         "n%d@far.test" % i),
                    range(MESSAGES)))
            stack.sim.wait_journal(3 * LIMIT, timeout_s=WINDOW_S - 5)
            wait_for("the rest in the queue", lambda: len(
                stack.postfix.queued()) == MESSAGES - 3 * LIMIT)
            by_account = self.by_account(stack)
            self.assertEqual(by_account, {a: LIMIT for a in ADDRESSES})
            # Room returns, and they go, once each.
            stack.sim.wait_journal(MESSAGES, timeout_s=3 * WINDOW_S)
            stack.postfix.wait_empty()
            sent = sorted(r for e in stack.sim.journal(content=False)
                          for r in e["recipients"])
            self.assertEqual(sent, sorted("n%d@far.test" % i
                                          for i in range(MESSAGES)))
            for address in ADDRESSES:
                counters = stack.sim.counters(address, window_s=WINDOW_S)
                self.assertEqual(counters["refused_total"], 0, counters)
                self.assertLessEqual(counters["peak"]["messages"], LIMIT)

    def test_senders_keep_their_account(self):
        with stack_of("by_sender") as stack:
            for i in range(12):
                for k in range(2):
                    stack.send("s%d@people.example.com" % i,
                               "n%d.%d@far.test" % (i, k))
            stack.sim.wait_journal(24)
            accounts = {}
            for entry in stack.sim.journal(content=False):
                person = entry["recipients"][0].split(".")[0]
                accounts.setdefault(person, set()).add(entry["account"])
            self.assertEqual({len(a) for a in accounts.values()}, {1})
            self.assertGreater(len(set.union(*accounts.values())), 1)

    def by_account(self, stack):
        count = {}
        for entry in stack.sim.journal(content=False):
            count[entry["account"]] = count.get(entry["account"], 0) + 1
        return count


if __name__ == "__main__":
    unittest.main()
