"""Bytes, samples and seconds."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.audio import SAMPLE_BYTES, SAMPLE_RATES, AudioFormat

FORMATS = st.builds(AudioFormat, st.sampled_from(SAMPLE_RATES), st.sampled_from(sorted(SAMPLE_BYTES)))


class Units(SynchronousTestCase):
    """How they relate."""

    def test_the_contract_by_hand(self) -> None:
        audio = AudioFormat()
        self.assertEqual((audio.sample_rate, audio.encoding, audio.sample_bytes), (24000, "pcm16", 2))
        self.assertEqual(audio.bytes_per_s, 48000)
        self.assertEqual((audio.samples(9600), audio.seconds(9600)), (4800, 0.2))

    def test_the_rates_of_the_contract(self) -> None:
        self.assertEqual(SAMPLE_RATES, (8000, 16000, 24000, 32000, 44100, 48000))

    def test_a_part_of_a_sample_is_none(self) -> None:
        self.assertEqual([AudioFormat().samples(size) for size in (0, 1, 2, 3)], [0, 0, 1, 1])

    def test_an_unknown_encoding_has_no_size(self) -> None:
        with self.assertRaises(KeyError):
            _ = AudioFormat(8000, "opus").sample_bytes

    def test_it_is_a_value(self) -> None:
        self.assertEqual(AudioFormat(8000), AudioFormat(8000, "pcm16"))
        self.assertEqual(len({AudioFormat(8000), AudioFormat(8000), AudioFormat(16000)}), 2)
        self.assertRaises(FrozenInstanceError, setattr, AudioFormat(), "sample_rate", 1)

    @settings(deadline=None, max_examples=100)
    @given(FORMATS, st.integers(0, 2**20))
    def test_they_agree_with_one_another(self, audio: AudioFormat, samples: int) -> None:
        size = samples * audio.sample_bytes
        self.assertEqual(audio.samples(size), samples)
        self.assertAlmostEqual(audio.seconds(size) * audio.sample_rate, samples, delta=1e-6 * max(1, samples))
        self.assertEqual(audio.bytes_per_s, audio.sample_rate * audio.sample_bytes)
