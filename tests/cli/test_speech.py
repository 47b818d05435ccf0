from __future__ import annotations

from itertools import pairwise

from tests.support.case import SynchronousTestCase
from voiceingest.cli.meter import peak_dbfs, rms_dbfs, samples_of
from voiceingest.cli.speech import speak, tone


class SpeechTests(SynchronousTestCase):
    def test_the_same_seed_says_the_same(self) -> None:
        self.assertEqual(speak(0.5, 8000), speak(0.5, 8000))
        self.assertNotEqual(speak(0.5, 8000), speak(0.5, 8000, seed=8))

    def test_it_is_as_long_as_asked(self) -> None:
        for seconds, rate in ((0.5, 8000), (0.3, 24000), (0.0001, 8000)):
            self.assertEqual(len(speak(seconds, rate)), 2 * max(1, int(seconds * rate)))

    def test_it_has_words_and_pauses(self) -> None:
        spoken = speak(3.0, 8000)
        levels = [rms_dbfs(spoken[at : at + 800]) for at in range(0, len(spoken), 800)]
        loud, quiet = sum(level > -35 for level in levels), sum(level < -60 for level in levels)
        self.assertGreater(loud, 0.5 * len(levels))
        self.assertGreater(quiet, 0.05 * len(levels))
        self.assertTrue(-6 < peak_dbfs(spoken) < -3)


class ToneTests(SynchronousTestCase):
    def test_it_has_its_pitch_and_level(self) -> None:
        samples = samples_of(tone(440, 1.0, 8000))
        rising = sum(a < 0 <= b for a, b in pairwise(samples))
        self.assertIn(rising, (439, 440))
        self.assertAlmostEqual(peak_dbfs(tone(440, 1.0, 8000)), -6.0, places=1)

    def test_it_is_never_empty(self) -> None:
        self.assertEqual(len(tone(440, 0.00001, 8000)), 2)
