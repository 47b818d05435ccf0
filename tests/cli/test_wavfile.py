from __future__ import annotations

import os
import struct
import threading
import wave
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli import wavfile
from voiceingest.cli.wavfile import BadAudioFile, mix_down, read_recording, write_wav


class WavCase(SynchronousTestCase):
    def wav(
        self, pcm: bytes = b"\x01\x00\x02\x00", *, channels: int = 1, width: int = 2, rate: int = 8000
    ) -> Path:
        path = self.mktemp_path().with_suffix(".wav")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(width)
            file.setframerate(rate)
            file.writeframes(pcm)
        return path

    def file(self, content: bytes, suffix: str) -> Path:
        path = self.mktemp_path().with_suffix(suffix)
        path.write_bytes(content)
        return path

    def complaint(self, path: Path, **options: object) -> str:
        with self.assertRaises(BadAudioFile) as caught:
            read_recording(path, **options)  # type: ignore[arg-type]
        return str(caught.exception)


class ReadTests(WavCase):
    def test_a_wav_is_read_as_it_is(self) -> None:
        recording = read_recording(self.wav(rate=16000))
        self.assertEqual((recording.sample_rate, recording.pcm), (16000, b"\x01\x00\x02\x00"))

    def test_what_was_written_is_what_is_read(self) -> None:
        path = self.mktemp_path().with_suffix(".wav")
        write_wav(path, bytes(range(100)), 24000)
        recording = read_recording(path)
        self.assertEqual(recording.pcm, bytes(range(100)))
        self.assertAlmostEqual(recording.seconds, 50 / 24000)

    def test_raw_pcm_is_what_its_rate_says(self) -> None:
        path = self.file(b"\x01\x00\x02\x00", ".pcm")
        self.assertEqual(read_recording(path).sample_rate, 24000)
        self.assertEqual(read_recording(path, rate=8000).sample_rate, 8000)

    def test_a_wav_is_known_by_its_first_bytes(self) -> None:
        path = self.wav()
        renamed = path.with_suffix(".audio")
        path.rename(renamed)
        self.assertEqual(read_recording(renamed).sample_rate, 8000)

    def test_chunks_that_are_not_audio_are_passed_over(self) -> None:
        plain = self.wav().read_bytes()
        extra = b"LIST" + struct.pack("<I", 4) + b"abcd"
        size = struct.pack("<I", len(plain) + len(extra) - 8)
        path = self.file(plain[:4] + size + plain[8:36] + extra + plain[36:], ".wav")
        self.assertEqual(read_recording(path).pcm, b"\x01\x00\x02\x00")

    def test_a_header_written_to_a_pipe_claims_4_gib(self) -> None:
        plain = self.wav().read_bytes()
        path = self.file(plain[:40] + b"\xff\xff\xff\xff" + plain[44:], ".wav")
        self.assertEqual(read_recording(path).pcm, b"\x01\x00\x02\x00")

    def test_all_that_comes_out_of_a_pipe_is_read(self) -> None:
        """Both kinds: what was looked at to tell them apart does not come again."""
        for content in (bytes(range(250)) * 100, self.wav(bytes(range(250)) * 100).read_bytes()):
            path = self.mktemp_path()
            os.mkfifo(path)
            writer = threading.Thread(target=path.write_bytes, args=(content,))
            writer.start()
            recording = read_recording(path)
            writer.join()
            self.assertEqual(recording.pcm, bytes(range(250)) * 100)

    def test_half_a_sample_at_the_end_of_a_wav_is_left_out(self) -> None:
        plain = self.wav().read_bytes()
        path = self.file(plain[:40] + struct.pack("<I", 3) + plain[44:47], ".wav")
        self.assertEqual(read_recording(path).pcm, b"\x01\x00")


class ComplaintTests(WavCase):
    def test_table(self) -> None:
        for path, words in (
            (self.wav(channels=2), "--mix left, right or average"),
            (self.wav(b"\x01\x02", width=1), "8-bit samples"),
            (self.wav(rate=11025), "11025 samples per second; allowed are 8000"),
            (self.wav(b""), "no audio"),
            (self.file(b"abc", ".pcm"), "whole number of 16-bit samples"),
            (self.file(b"", ".pcm"), "no audio"),
            (self.file(b"RIFF", ".wav"), "not a WAV file"),
            (self.file(b"no riff at all, not even close", ".wav"), "not a WAV file"),
            (self.file(self.wav().read_bytes()[:30], ".wav"), "not a WAV file"),
        ):
            self.assertIn(words, self.complaint(path))

    def test_another_rate_than_that_of_the_file(self) -> None:
        self.assertIn("not the 16000 of --rate", self.complaint(self.wav(), rate=16000))

    def test_too_large(self) -> None:
        self.patch(wavfile, "FILE_MAX_BYTES", 10)
        self.assertIn("larger than", self.complaint(self.wav()))

    def test_a_device_that_never_ends(self) -> None:
        self.patch(wavfile, "FILE_MAX_BYTES", 10_000)
        self.assertIn("larger than", self.complaint(Path("/dev/zero")))

    def test_compressed_audio(self) -> None:
        plain = bytearray(self.wav().read_bytes())
        plain[20:22] = struct.pack("<H", 7)
        self.assertIn("not a WAV file with PCM", self.complaint(self.file(bytes(plain), ".wav")))

    @given(st.binary(max_size=120))
    def test_any_bytes_are_audio_or_one_complaint(self, content: bytes) -> None:
        path = self.file(b"RIFF" + content, ".wav")
        try:
            read_recording(path)
        except BadAudioFile as problem:
            self.assertNotIn("\n", str(problem))


class MixTests(WavCase):
    def test_table(self) -> None:
        stereo = struct.pack("<4h", 100, 200, -100, -201)
        for mix, mono in (("left", (100, -100)), ("right", (200, -201)), ("average", (150, -151))):
            self.assertEqual(mix_down(stereo, 2, mix), struct.pack("<2h", *mono))  # type: ignore[arg-type]

    def test_the_average_does_not_overflow(self) -> None:
        loud = struct.pack("<6h", 32767, 32767, 32767, -32768, -32768, -32768)
        self.assertEqual(mix_down(loud, 3, "average"), struct.pack("<2h", 32767, -32768))

    def test_a_stereo_file_is_mixed_when_asked(self) -> None:
        path = self.wav(struct.pack("<4h", 1, 2, 3, 4), channels=2)
        self.assertEqual(read_recording(path, mix="right").pcm, struct.pack("<2h", 2, 4))

    def test_a_mono_file_is_left_alone(self) -> None:
        self.assertEqual(read_recording(self.wav(), mix="average").pcm, b"\x01\x00\x02\x00")
