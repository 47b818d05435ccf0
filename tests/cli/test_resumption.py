from __future__ import annotations

import random

from tests.support.case import SynchronousTestCase
from voiceingest.cli.resumption import PAUSE_FIRST_S, PAUSE_MAX_S, WINDOW_S, Resumption
from voiceingest.cli.tally import Ending


class ResumptionTests(SynchronousTestCase):
    def test_the_newest_token_counts(self) -> None:
        resumption = Resumption()
        self.assertEqual((resumption.token, resumption.window_s), (None, WINDOW_S))
        resumption.hear({"event": "started", "resume_token": "a", "resume_window_s": 5})
        resumption.hear({"event": "ack", "seq": 1})
        self.assertEqual((resumption.token, resumption.window_s), ("a", 5.0))
        resumption.hear({"event": "goaway", "resume_token": "b"})
        resumption.hear({"event": "x", "resume_token": 7, "resume_window_s": True})
        self.assertEqual((resumption.token, resumption.window_s), ("b", 5.0))
        self.assertNotIn("'b'", repr(resumption))

    def test_what_is_worth_another_attempt(self) -> None:
        for ending, renewable, expected in (
            (Ending(close_code=1001), False, True),
            (Ending(close_code=1006), False, True),
            (Ending(close_code=1011), False, True),
            (Ending(close_code=1012), False, True),
            (Ending(close_code=1013), False, True),
            (Ending(close_code=4408), False, True),
            (Ending(close_code=4401), False, False),
            (Ending(close_code=4401), True, True),
            (Ending(close_code=1000), True, False),
            (Ending(close_code=4403), True, False),
            (Ending(close_code=4409), True, False),
            (Ending(close_code=4429), True, False),
            (Ending(http_status=503), False, True),
            (Ending(http_status=502), False, True),
            (Ending(http_status=401), True, False),
            (Ending(http_status=404), True, False),
        ):
            self.assertEqual(Resumption(renewable=renewable).may_retry(ending), expected, ending)

    def test_pauses_grow_to_a_bound_and_are_never_alike(self) -> None:
        resumption = Resumption(chance=random.Random(1))
        pauses = [resumption.pause_s(attempt) for attempt in range(100)]
        self.assertLessEqual(pauses[0], PAUSE_FIRST_S)
        self.assertEqual(len(set(pauses)), 100)
        for pause in pauses[10:]:
            self.assertTrue(PAUSE_MAX_S / 2 <= pause <= PAUSE_MAX_S)
