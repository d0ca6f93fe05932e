# test_token_load - 200 accounts with tokens of 10 s; tests/bench/tokens has 2,000
# SPDX-License-Identifier: Apache-2.0

import unittest

from tests.e2e.token_load import measure


class TokenLoad(unittest.TestCase):
    def test_each_is_renewed_in_time_and_none_twice(self):
        seen = measure(200, 10, 15)
        self.assertEqual(seen["late"], {})
        self.assertEqual(seen["refused"], 0)
        # The first, one off the beat, then every 7.6 s at most.
        self.assertGreaterEqual(min(seen["issued"]), 2)
        self.assertLessEqual(
            max(seen["issued"]),
            2 + (seen["seconds"] + seen["first_s"] + 1) / 7.6)


if __name__ == "__main__":
    unittest.main()
