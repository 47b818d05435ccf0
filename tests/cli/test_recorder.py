from __future__ import annotations

import os
import wave
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli import recorder as recorder_module
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.recorder import Recorder, safe_name
from voiceingest.wire.envelope import FrameMessage


def frame(audio: bytes, interaction: str = "call", rate: int = 8000, encoding: str = "pcm16") -> FrameMessage:
    return FrameMessage("acme", interaction, 1, 0, rate, encoding, audio)


def audio_of(path: Path) -> tuple[int, bytes]:
    with wave.open(str(path), "rb") as file:
        return file.getframerate(), file.readframes(file.getnframes())


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = self.mktemp_path()
        self.folder.mkdir()
        self.path = self.folder / "out.wav"

    def recorder(self) -> Recorder:
        recorder = Recorder(self.path)
        self.addCleanup(recorder.close)
        return recorder

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def test_one_stream_bit_for_bit(self) -> None:
        recorder = self.recorder()
        recorder.frame(frame(b"\x01\x02" * 10))
        recorder.frame(frame(b"\x03\x04" * 7))
        recorder.close()
        self.assertEqual(audio_of(self.path), (8000, b"\x01\x02" * 10 + b"\x03\x04" * 7))
        self.assertEqual(recorder.files, [(self.path, 34)])

    def test_the_header_is_right_before_the_end_too(self) -> None:
        recorder = self.recorder()
        recorder.frame(frame(bytes(100)))
        recorder.frame(frame(bytes(100)))
        for open_file in recorder._open.values():
            open_file._file.flush()
        self.assertEqual(len(audio_of(self.path)[1]), 200)

    def test_several_streams_have_their_interaction_in_their_names(self) -> None:
        recorder = self.recorder()
        for audio, name in ((b"\x01\x00", "a"), (b"\x02\x00", "b"), (b"\x03\x00", "a"), (b"\x04\x00", "c")):
            recorder.frame(frame(audio, name))
        recorder.close()
        self.assertEqual(self.names(), ["out-a.wav", "out-b.wav", "out-c.wav"])
        self.assertEqual(audio_of(self.folder / "out-a.wav")[1], b"\x01\x00\x03\x00")

    def test_the_first_is_named_too_when_it_has_already_stopped(self) -> None:
        recorder = self.recorder()
        recorder.frame(frame(b"\x01\x00", "a"))
        recorder.stopped("acme", "a")
        recorder.frame(frame(b"\x02\x00", "b"))
        recorder.close()
        self.assertEqual(self.names(), ["out-a.wav", "out-b.wav"])
        self.assertEqual({path.name for path, _ in recorder.files}, {"out-a.wav", "out-b.wav"})

    def test_names_that_become_the_same_do_not_collide(self) -> None:
        recorder = self.recorder()
        for name in ("a/b", "a\\b", "a b"):
            recorder.frame(frame(b"\x01\x00", name))
        recorder.close()
        self.assertEqual(self.names(), ["out-a_b-2.wav", "out-a_b-3.wav", "out-a_b.wav"])

    def test_a_file_that_is_there_is_not_overwritten(self) -> None:
        self.path.write_bytes(b"precious")
        with self.assertRaises(UsageFailed):
            Recorder(self.path)
        self.assertEqual(self.path.read_bytes(), b"precious")
        recorder = Recorder(self.path, force=True)
        recorder.frame(frame(b"\x01\x00"))
        recorder.close()
        self.assertEqual(audio_of(self.path)[1], b"\x01\x00")

    def test_what_is_not_a_file_is_never_overwritten(self) -> None:
        os.mkfifo(self.path)
        for force in (False, True):
            with self.assertRaises(UsageFailed):
                Recorder(self.path, force=force)
        self.assertTrue(self.path.is_fifo())

    def test_another_stream_does_not_overwrite_a_file_that_is_there(self) -> None:
        (self.folder / "out-b.wav").write_bytes(b"precious")
        recorder = self.recorder()
        recorder.frame(frame(b"\x01\x00", "a"))
        recorder.frame(frame(b"\x01\x00", "b"))
        recorder.close()
        self.assertEqual(self.names(), ["out-a.wav", "out-b-2.wav", "out-b.wav"])
        self.assertEqual((self.folder / "out-b.wav").read_bytes(), b"precious")

    def test_an_interaction_that_begins_again_at_another_rate_gets_another_file(self) -> None:
        recorder = self.recorder()
        recorder.frame(frame(b"\x01\x00"))
        recorder.frame(frame(b"\x02\x00", rate=16000))
        recorder.close()
        self.assertEqual(self.names(), ["out-call-2.wav", "out-call.wav"])
        self.assertEqual(audio_of(self.folder / "out-call-2.wav"), (16000, b"\x02\x00"))

    def test_what_is_not_pcm_is_counted_and_not_recorded(self) -> None:
        recorder = self.recorder()
        recorder.frame(frame(b"\x01\x00", encoding="opus"))
        self.assertEqual((recorder.skipped_frames, recorder.files), (1, []))

    def test_open_files_are_bounded(self) -> None:
        self.patch(recorder_module, "FILES_MAX_COUNT", 2)
        recorder = self.recorder()
        for name in ("a", "b", "c"):
            recorder.frame(frame(b"\x01\x00", name))
        self.assertEqual((len(recorder.files), recorder.skipped_frames), (2, 1))

    def test_a_file_is_bounded(self) -> None:
        self.patch(recorder_module, "FILE_MAX_BYTES", 5)
        recorder = self.recorder()
        for _ in range(4):
            recorder.frame(frame(b"\x01\x00"))
        recorder.close()
        self.assertEqual((len(audio_of(self.path)[1]), recorder.skipped_frames), (4, 2))

    def test_a_folder_that_is_not_there(self) -> None:
        with self.assertRaises(UsageFailed):
            Recorder(self.folder / "missing" / "out.wav")

    def test_a_disk_that_does_not_take_it(self) -> None:
        # Nobody can make a file there, whoever runs the tests.
        recorder = Recorder(Path("/proc/out.wav"))
        with self.assertRaises(UsageFailed):
            recorder.frame(frame(b"\x01\x00"))


class NameTests(SynchronousTestCase):
    def test_table(self) -> None:
        for text, name in (
            ("call-7", "call-7"),
            ("../../etc/passwd", "_.._etc_passwd"),
            (".hidden", "hidden"),
            ("", "_"),
            ("...", "_"),
            ("+49 30/123", "_49_30_123"),
        ):
            self.assertEqual(safe_name(text), name)

    @given(st.text())
    def test_any_text_is_one_part_of_a_path(self, text: str) -> None:
        name = safe_name(text)
        self.assertRegex(name, r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}\Z")
