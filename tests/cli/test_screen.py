from __future__ import annotations

import io
import json
import re
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.console import Console
from voiceingest.cli.recorder import Recorder
from voiceingest.cli.screen import Screen
from voiceingest.wire.envelope import encode_event, encode_frame, frame_parts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def frame(
    seq: int, interaction: str = "call", tenant: str = "acme", audio: bytes = b"\xff\x3f" * 160
) -> bytes:
    return encode_frame(frame_parts(tenant, interaction, 8000, "pcm16"), seq, 1234, audio)


def event(name: str, interaction: str = "call", **fields: Any) -> bytes:
    return encode_event(name, "acme", interaction, 1234, fields)


class ScreenCase(SynchronousTestCase):
    def screen(self, *, json_output: bool = False, terminal: bool = False, **options: Any) -> Screen:
        kind = Terminal if terminal else io.StringIO
        self.out, self.err = kind(), kind()
        screen = Screen(Console(json_output=json_output, out=self.out, err=self.err), **options)
        self.addCleanup(screen.close)
        return screen


class PipeTests(ScreenCase):
    def test_one_line_each(self) -> None:
        screen = self.screen()
        for payload in (
            event("started", sample_rate=8000),
            frame(1),
            frame(4),
            frame(1),
            event("stopped", seq=4),
        ):
            screen.message(payload, 0.0)
        self.assertEqual(
            self.out.getvalue().splitlines(),
            [
                "event   started tenant=acme interaction=call timestamp_ms=1234 sample_rate=8000",
                "frame   tenant=acme interaction=call seq=1 t=1234 rate=8000 bytes=320 peak=-6.0dBFS",
                "gap     tenant=acme interaction=call seq=2..3 missing=2",
                "frame   tenant=acme interaction=call seq=4 t=1234 rate=8000 bytes=320 peak=-6.0dBFS",
                "repeat  tenant=acme interaction=call seq=1",
                "frame   tenant=acme interaction=call seq=1 t=1234 rate=8000 bytes=320 peak=-6.0dBFS",
                "event   stopped tenant=acme interaction=call timestamp_ms=1234 seq=4",
            ],
        )
        self.assertEqual(
            screen.summary(),
            {
                "frames": 3,
                "events": 2,
                "streams": 1,
                "missing": 2,
                "repeated": 1,
                "late": 0,
                "declared": 0,
                "unreadable": 0,
            },
        )

    def test_the_events_of_a_stream_that_moves(self) -> None:
        screen = self.screen()
        for name, fields in (
            ("started", {"epoch": 7, "sample_rate": 8000}),
            ("moved", {"epoch": 7, "seq": 4}),
            ("resumed", {"epoch": 7, "next_seq": 5}),
            ("detached", {"epoch": 7, "seq": 4}),
        ):
            screen.message(event(name, **fields), 0.0)
        told = [line.split()[1] for line in self.out.getvalue().splitlines()]
        self.assertEqual(told, ["started", "moved", "resumed", "detached"])
        self.assertIn("epoch=7 next_seq=5", self.out.getvalue())

    def test_filters(self) -> None:
        screen = self.screen(tenant_id="acme", interaction_id="call")
        for payload in (frame(1), frame(1, "other"), frame(1, tenant="t2"), event("stopped", "other")):
            screen.message(payload, 0.0)
        self.assertEqual((screen.follower.frames, screen.events), (1, 0))

    def test_what_is_unreadable_is_said_once_and_counted(self) -> None:
        screen = self.screen()
        for payload in (b"", b"{}", b"\xff", b"[]", b'{"event":7}'):
            screen.message(payload, 0.0)
        self.assertEqual(screen.unreadable, 5)
        self.assertEqual(len(self.err.getvalue().splitlines()), 1)

    def test_names_from_the_network_move_no_cursor(self) -> None:
        screen = self.screen()
        screen.message(frame(1, "\x1b[2Jcall\r\n"), 0.0)
        screen.message(event("x\x1b[1m", text="\x9b"), 0.0)
        self.assertNotRegex(self.out.getvalue(), r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class JsonTests(ScreenCase):
    def test_json_lines_and_nothing_else(self) -> None:
        screen = self.screen(json_output=True)
        for payload in (event("started"), frame(1), frame(3), frame(3)):
            screen.message(payload, 0.0)
        documents = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.assertEqual(
            [found["type"] for found in documents], ["event", "frame", "gap", "frame", "repeat", "frame"]
        )
        self.assertEqual((documents[2]["from"], documents[2]["to"]), (2, 2))
        self.assertNotIn("audio", documents[1])
        self.assertEqual(self.err.getvalue(), "")


class TerminalTests(ScreenCase):
    def drawn(self, screen: Screen, now_s: float) -> str:
        self.out.truncate(0)
        screen.redraw(now_s)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.out.getvalue())

    def test_a_meter_for_each_stream(self) -> None:
        screen = self.screen(terminal=True)
        screen.message(frame(1), 10.0)
        screen.message(frame(1, "other"), 10.0)
        screen.message(frame(5, "other"), 10.0)
        shown = self.drawn(screen, 10.1)
        self.assertRegex(shown, r"call +acme +8000 Hz +seq 1 +0\.0 s +█+\S* +-6\.0 dBFS")
        self.assertRegex(shown, r"other.*3 missing")
        self.assertIn("quiet", self.drawn(screen, 12.0))
        screen.message(event("stopped"), 12.0)
        self.assertIn("stopped", self.drawn(screen, 12.1))

    def test_only_the_newest_are_drawn(self) -> None:
        screen = self.screen(terminal=True)
        for number in range(20):
            screen.message(frame(1, f"call-{number:02}"), 10.0)
        shown = self.drawn(screen, 10.0)
        self.assertIn("call-19", shown)
        self.assertNotIn("call-07", shown)
        self.assertIn("and 8 more", shown)

    def test_a_screen_that_is_closed_draws_nothing(self) -> None:
        screen = self.screen(terminal=True)
        screen.close()
        self.assertEqual(self.drawn(screen, 1.0), "")


class RecordingTests(ScreenCase):
    def test_what_is_new_is_recorded_once(self) -> None:
        path = self.mktemp_path().with_suffix(".wav")
        recorder = Recorder(path)
        screen = self.screen(recorder=recorder)
        for payload in (
            frame(1, audio=b"\1\0"),
            frame(1, audio=b"\1\0"),
            frame(2, audio=b"\2\0"),
            event("stopped"),
        ):
            screen.message(payload, 0.0)
        self.assertEqual(path.read_bytes()[44:], b"\1\0\2\0")
        self.assertEqual(recorder.files, [(path, 4)])
