"""Real time, a little ahead, by one timeline."""

from __future__ import annotations

import math
import random

from tests.support.case import SynchronousTestCase
from voiceingest.stream.pacer import STALL_S, Pacer

RATE = 16000
CHUNK = 3200
CHUNK_S = CHUNK / RATE


class Timeline(SynchronousTestCase):
    """Due times and lateness."""

    def test_the_first_goes_at_once_and_the_next_when_the_lead_allows(self) -> None:
        pacer = Pacer(RATE, 0.3)
        self.assertEqual(pacer.due_at(), -math.inf)
        self.assertEqual(pacer.send(CHUNK, 10.0, 10.05), 0.0)
        for sent in range(1, 5):
            self.assertAlmostEqual(pacer.due_at(), 10.05 + sent * CHUNK_S - 0.3)
            pacer.send(CHUNK, 10.0, max(10.05, pacer.due_at()))

    def test_lateness_is_counted_from_the_due_time_or_from_when_there_was_something(self) -> None:
        pacer = Pacer(RATE, 0.0)
        pacer.send(CHUNK, 0.0, 0.0)
        self.assertAlmostEqual(pacer.send(CHUNK, 0.0, CHUNK_S + 0.05), 0.05)
        self.assertAlmostEqual(pacer.due_at(), 2 * CHUNK_S, msg="the timeline has not moved")
        ready = 2 * CHUNK_S - 0.01
        self.assertAlmostEqual(pacer.send(CHUNK, ready, 2 * CHUNK_S + 0.02), 0.02)
        lead = Pacer(RATE, 0.2)
        lead.send(CHUNK, 0.0, 0.0)
        self.assertAlmostEqual(lead.send(CHUNK, 0.15, 0.16), 0.01)

    def test_after_an_underrun_it_begins_anew(self) -> None:
        pacer = Pacer(RATE, 0.0)
        pacer.send(CHUNK, 0.0, 0.0)
        self.assertEqual(pacer.send(CHUNK, CHUNK_S + 0.01, CHUNK_S + 0.04), 0.0)
        self.assertAlmostEqual(pacer.due_at(), 2 * CHUNK_S + 0.04)

    def test_after_a_stall_of_ours_it_begins_anew_and_the_lateness_is_told(self) -> None:
        pacer = Pacer(RATE, 0.0)
        pacer.send(CHUNK, 0.0, 0.0)
        now = CHUNK_S + STALL_S + 1.0
        self.assertAlmostEqual(pacer.send(CHUNK, 0.0, now), STALL_S + 1.0)
        self.assertAlmostEqual(pacer.due_at(), now + CHUNK_S)

    def test_an_hour_of_late_calls_adds_nothing_up(self) -> None:
        for lead_s in (0.0, 0.2):
            dice, pacer = random.Random(1), Pacer(RATE, lead_s)
            now, sent = 0.0, 0
            while now < 3600.0:
                pacer.send(CHUNK, 0.0, now)
                sent += CHUNK
                self.assertAlmostEqual(pacer.due_at(), sent / RATE - lead_s, places=6)
                now = max(now, pacer.due_at() + dice.random() * STALL_S)
