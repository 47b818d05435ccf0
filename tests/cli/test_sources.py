from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.sources import choose_recording, frames, length_s
from voiceingest.cli.speech import speak
from voiceingest.cli.wavfile import Recording, write_wav


class ChoiceTests(SynchronousTestCase):
    def test_speech_without_anything(self) -> None:
        recording = choose_recording(None, None, None, 8000, None)
        self.assertEqual((recording.sample_rate, recording.pcm), (8000, speak(rate=8000)))

    def test_a_tone(self) -> None:
        recording = choose_recording(None, 440.0, 2.0, 8000, None)
        self.assertEqual(recording.seconds, 2.0)

    def test_the_usual_rate_is_for_what_says_none(self) -> None:
        raw, wav = self.mktemp_path().with_suffix(".pcm"), self.mktemp_path().with_suffix(".wav")
        raw.write_bytes(bytes(100))
        write_wav(wav, bytes(100), 16000)
        for path, rate, expected in ((raw, None, 8000), (raw, 24000, 24000), (wav, None, 16000)):
            self.assertEqual(choose_recording(path, None, None, rate, None, 8000).sample_rate, expected)
        self.assertEqual(choose_recording(None, 440.0, 1.0, None, None, 8000).sample_rate, 8000)

    def test_a_long_tone_is_ten_seconds_that_repeat(self) -> None:
        self.assertEqual(choose_recording(None, 440.0, 3600.0, 8000, None).seconds, 10.0)

    def test_a_file(self) -> None:
        path = self.mktemp_path().with_suffix(".wav")
        write_wav(path, bytes(100), 16000)
        self.assertEqual(choose_recording(path, None, None, None, None), Recording(16000, bytes(100)))

    def test_what_is_wrong_is_told_with_what_would_help(self) -> None:
        path = self.mktemp_path().with_suffix(".wav")
        write_wav(path, bytes(100), 11025)
        with self.assertRaises(UsageFailed) as caught:
            choose_recording(path, None, None, None, None)
        self.assertIn("11025", caught.exception.message)
        self.assertIn("ffmpeg", caught.exception.hint or "")

    def test_no_such_file(self) -> None:
        with self.assertRaises(UsageFailed) as caught:
            choose_recording(self.mktemp_path(), None, None, None, None)
        self.assertIn("No such file", caught.exception.message)
        self.assertIsNone(caught.exception.hint)

    def test_a_file_and_a_tone(self) -> None:
        with self.assertRaises(UsageFailed):
            choose_recording(self.mktemp_path(), 440.0, None, None, None)


class FrameTests(SynchronousTestCase):
    recording = Recording(8000, bytes(range(250)) * 2)

    def test_the_whole_in_order_and_the_last_one_short(self) -> None:
        cut = list(frames(self.recording, 20))
        self.assertEqual(b"".join(cut), self.recording.pcm)
        self.assertEqual([len(frame) for frame in cut], [320, 180])

    def test_cut(self) -> None:
        cut = list(frames(self.recording, 20, 0.01))
        self.assertEqual(cut, [self.recording.pcm[:160]])

    @given(st.integers(1, 300), st.floats(0.2, 50), st.floats(0.0001, 0.2))
    def test_repeated_it_is_the_same_audio_over_and_over(
        self, samples: int, frame_ms: float, seconds: float
    ) -> None:
        recording = Recording(8000, bytes(n % 251 for n in range(samples * 2)))
        whole = b"".join(frames(recording, frame_ms, seconds))
        self.assertEqual(len(whole), round(seconds * 8000) * 2)
        times = len(whole) // len(recording.pcm) + 1
        self.assertEqual(whole, (recording.pcm * times)[: len(whole)])

    def test_length(self) -> None:
        self.assertAlmostEqual(length_s(self.recording, None), 250 / 8000)
        self.assertEqual(length_s(self.recording, 9.0), 9.0)
