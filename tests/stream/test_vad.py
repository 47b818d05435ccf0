"""Speech is what is louder than the background, for long enough."""

from __future__ import annotations

import math
import random
import sys
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.vad import HANGOVER_MS, WINDOW_MS, EnergyVad, Voice

RATES = (8000, 16000, 24000)


def packed(samples: list[float]) -> bytes:
    """PCM16LE."""
    values = array("h", (max(-32768, min(32767, round(sample))) for sample in samples))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def tone(rate: int, ms: float, db: float = -20.0, hz: float = 440.0) -> bytes:
    """A sine of ``db`` below full scale, as a mean square."""
    peak = 32768 * 10 ** (db / 20) * 2**0.5
    return packed([peak * math.sin(2 * math.pi * hz * n / rate) for n in range(int(rate * ms / 1000))])


def noise(rate: int, ms: float, db: float, growth_db_per_s: float = 0.0) -> bytes:
    """White noise, louder by so much each second."""
    dice = random.Random(3)
    loud = [32768 * 10 ** ((db + growth_db_per_s * n / rate) / 20) for n in range(int(rate * ms / 1000))]
    return packed([dice.gauss(0.0, level) for level in loud])


def silence(rate: int, ms: float) -> bytes:
    """Zeros."""
    return bytes(2 * int(rate * ms / 1000))


def heard(vad: EnergyVad, pcm: bytes, rate: int) -> list[tuple[float, Voice]]:
    """Feed in pieces of 5 ms; returns when what came of it, in milliseconds."""
    size = rate // 200 * 2
    return [
        (5.0 * (at // size + 1), voice)
        for at in range(0, len(pcm), size)
        for voice in vad.feed(pcm[at : at + size])
    ]


class Speech(SynchronousTestCase):
    """It is noticed in time."""

    def test_a_tone_after_silence(self) -> None:
        for rate in RATES:
            for start_ms in (20, 60, 200):
                for offset_ms in (400, 405, 410, 415):
                    vad = EnergyVad(rate, 12.0, start_ms)
                    pcm = silence(rate, offset_ms) + tone(rate, start_ms + 100)
                    ((at_ms, voice),) = heard(vad, pcm, rate)
                    self.assertIs(voice, Voice.STARTED)
                    self.assertTrue(
                        offset_ms < at_ms <= offset_ms + start_ms + WINDOW_MS, (rate, start_ms, at_ms)
                    )
                    self.assertTrue(vad.is_speaking)

    def test_it_ends_after_the_hangover(self) -> None:
        for rate in RATES:
            vad = EnergyVad(rate, 12.0, 60)
            pcm = silence(rate, 200) + tone(rate, 500) + silence(rate, 600) + tone(rate, 100)
            events = heard(vad, pcm, rate)
            self.assertEqual([voice for _, voice in events], [Voice.STARTED, Voice.STOPPED, Voice.STARTED])
            self.assertTrue(700 + HANGOVER_MS <= events[1][0] <= 700 + HANGOVER_MS + WINDOW_MS, events)

    def test_a_pause_within_a_word_does_not_end_it(self) -> None:
        vad = EnergyVad(8000, 12.0, 60)
        word = tone(8000, 200) + silence(8000, HANGOVER_MS - 2 * WINDOW_MS)
        self.assertEqual(
            [voice for _, voice in heard(vad, silence(8000, 200) + word * 5, 8000)], [Voice.STARTED]
        )

    def test_a_voice_that_sinks_a_little_below_the_threshold_goes_on(self) -> None:
        vad = EnergyVad(8000, 12.0, 60)
        pcm = silence(8000, 200) + tone(8000, 200, -40.0) + tone(8000, 500, -44.0)
        self.assertEqual(vad.feed(pcm), [Voice.STARTED])

    def test_in_a_noisy_street(self) -> None:
        vad = EnergyVad(8000, 12.0, 60)
        street = noise(8000, 5000, -40.0)
        self.assertEqual(vad.feed(street), [])
        self.assertEqual(vad.feed(tone(8000, 200, -20.0)), [Voice.STARTED])
        self.assertEqual(vad.feed(street), [Voice.STOPPED])

    def test_the_threshold(self) -> None:
        for threshold_db in (6.0, 12.0, 20.0):
            for over_db, expected in ((threshold_db - 3, []), (threshold_db + 3, [Voice.STARTED])):
                vad = EnergyVad(8000, threshold_db, 60)
                vad.feed(noise(8000, 1000, -40.0))
                self.assertEqual(
                    vad.feed(tone(8000, 100, -40.0 + over_db)), expected, (threshold_db, over_db)
                )


class NoSpeech(SynchronousTestCase):
    """What must not stop an agent."""

    def assert_quiet(self, pcm: bytes, threshold_db: float = 12.0) -> None:
        """Nothing comes of this."""
        for rate in RATES:
            vad = EnergyVad(rate, threshold_db, 60)
            self.assertEqual(vad.feed(pcm), [])
            self.assertFalse(vad.is_speaking)

    def test_silence_and_the_noise_of_a_line(self) -> None:
        for threshold_db in (3.0, 12.0):
            self.assert_quiet(silence(8000, 2000), threshold_db)
            self.assert_quiet(noise(8000, 2000, -60.0), threshold_db)
            self.assert_quiet(silence(8000, 1000) + noise(8000, 2000, -50.0), threshold_db)
            self.assert_quiet(packed([8.0, -8.0] * 8000), threshold_db)

    def test_noise_there_from_the_first_moment(self) -> None:
        self.assert_quiet(noise(8000, 2000, -30.0))

    def test_noise_that_grows_slowly(self) -> None:
        for rate in (8000, 16000):
            vad = EnergyVad(rate, 12.0, 60)
            self.assertEqual(vad.feed(noise(rate, 12_000, -60.0, growth_db_per_s=3.0)), [])
            self.assertEqual(vad.feed(tone(rate, 100, -9.0)), [Voice.STARTED])

    def test_a_click(self) -> None:
        self.assert_quiet((silence(8000, 500) + tone(8000, 30, -6.0)) * 5)

    def test_a_machine_that_is_switched_on_is_no_speaker_for_ever(self) -> None:
        vad = EnergyVad(8000, 12.0, 60)
        vad.feed(silence(8000, 1000))
        self.assertEqual(vad.feed(noise(8000, 15_000, -30.0)), [Voice.STARTED, Voice.STOPPED])

    def test_a_moment_of_digital_silence_makes_no_speech_of_the_background(self) -> None:
        background = noise(8000, 2000, -35.0)
        self.assert_quiet(background + silence(8000, 100) + background)


class Cuts(SynchronousTestCase):
    """How the audio is cut makes no difference."""

    pcm = (
        silence(8000, 100) + tone(8000, 300) + silence(8000, 400) + tone(8000, 100) + noise(8000, 200, -30.0)
    )

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(0, 2000), max_size=20))
    def test_any_pieces(self, sizes: list[int]) -> None:
        whole, cut = EnergyVad(8000, 12.0, 60), EnergyVad(8000, 12.0, 60)
        expected, events, at = whole.feed(self.pcm), [], 0
        self.assertEqual(expected, [Voice.STARTED, Voice.STOPPED, Voice.STARTED])
        for size in [*sizes, len(self.pcm)]:
            events += cut.feed(self.pcm[at : at + size])
            at += size
        self.assertEqual((events, cut.is_speaking), (expected, whole.is_speaking))

    def test_nothing(self) -> None:
        self.assertEqual(EnergyVad(8000, 12.0, 60).feed(b""), [])
