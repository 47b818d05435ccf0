"""The bounds that are not settings: named with their unit, finite, and in step with one another."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from voiceingest import limits

NAMES = [name for name in vars(limits) if name.isupper()]
UNITS = ("_BYTES", "_CHARS", "_COUNT", "_S", "_PER_S")


class Bounds(SynchronousTestCase):
    """Each of them."""

    def test_the_unit_is_in_the_name(self) -> None:
        self.assertGreater(len(NAMES), 10)
        self.assertEqual([name for name in NAMES if not name.endswith(UNITS)], [])

    def test_none_is_no_limit(self) -> None:
        for name in NAMES:
            value = getattr(limits, name)
            self.assertTrue(0 < value < math.inf, name)
            if name.endswith(("_BYTES", "_CHARS", "_COUNT")):
                self.assertIsInstance(value, int, name)

    def test_the_reason_stands_above_each(self) -> None:
        lines = Path(limits.__file__).read_text().splitlines()
        for before, line in pairwise(lines):
            found = re.match(r"([A-Z][A-Z_]+): Final", line)
            if found:
                self.assertTrue(before.startswith("# "), found[1])


class Together(SynchronousTestCase):
    """What one promises the next must be able to carry."""

    def test_a_token_fits_into_a_head_and_into_a_control_message(self) -> None:
        self.assertGreaterEqual(limits.HEAD_MAX_BYTES, 2 * limits.TOKEN_MAX_BYTES)
        self.assertGreater(limits.CONTROL_MAX_BYTES, limits.TOKEN_MAX_BYTES + 100)

    def test_a_start_with_the_longest_identifiers_fits_into_a_control_message(self) -> None:
        longest = 2 * limits.IDENTIFIER_MAX_CHARS * len("\\ud83d\\udcde")
        self.assertGreater(limits.CONTROL_MAX_BYTES, longest + 200)

    def test_the_accept_queue_is_that_of_the_contract(self) -> None:
        self.assertGreaterEqual(limits.LISTEN_BACKLOG_COUNT, 1024)

    def test_writes_are_coalesced_for_2_ms_at_most(self) -> None:
        self.assertLessEqual(limits.COALESCE_S, 0.002)

    def test_the_head_is_16_kib_at_most(self) -> None:
        self.assertLessEqual(limits.HEAD_MAX_BYTES, 16384)
