# test_token_load - 60 accounts with tokens of 15 s; tests/bench/tokens has 2,000
# SPDX-License-Identifier: Apache-2.0

import unittest

from tests.e2e.token_load import measure


class TokenLoad(unittest.TestCase):
    def test_each_is_renewed_in_time_and_none_twice(self):
        seen = measure(60, 15, 14)
        self.assertEqual(seen["late"], {})
        self.assertEqual(seen["refused"], 0)
        self.assertLessEqual(seen["connections"], 8)    # one for each worker
        # The first, one off the beat, then every 11.4 s at most.
        self.assertGreaterEqual(min(seen["issued"]), 2)
        self.assertLessEqual(
            max(seen["issued"]),
            2 + (seen["seconds"] + seen["first_s"] + 1) / 11.4)


if __name__ == "__main__":
    unittest.main()
