from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli import demo
from voiceingest.cli.demo import spoken

from .program import ProgramCase, coroutine

# A daemon in which two bytes of one frame change on their way to the bus; the rest is the product.
BENDING = """
import sys
from voiceingest.publishers.memory import Memory
send = Memory.send
def bending(self, batch):
    return send(self, [(*m[:3], b"\\1\\2" + m[3][2:] if m[1] == 3 else m[3]) for m in batch])
Memory.send = bending
from voiceingest.cli import main
sys.argv = ["voiceingest", "demo", "--seconds", "0.6"]
main()
"""

# Ctrl-C while it comes up.
EARLY = """
import sys
from voiceingest.cli.running import Interrupt
take_signals = Interrupt.take_signals
def taken(self, reactor):
    take_signals(self, reactor)
    self.ask()
Interrupt.take_signals = taken
from voiceingest.cli import main
sys.argv = ["voiceingest", "demo", "--seconds", "0.6"]
main()
"""


class DemoTests(ProgramCase):
    @coroutine
    async def test_in_a_pipe_what_came_out_is_what_went_in(self: Any) -> None:
        program = await self.run_it("demo", "--seconds", "0.6")
        self.assertEqual(program.code, 0, program.out + program.err)
        for line in ("frames sent:     3", "identical:       3 byte for byte", "TLS:             TLSv1.3"):
            self.assertIn(line, program.out)
        self.assertRegex(program.out, r"mouth to bus: +p50 \d+\.\d ms  p95 \d+\.\d ms  p99 ")
        self.assertRegex(program.out, r"call frames: +(\d+) of \1 on the bus, byte for byte\n")
        self.assertRegex(program.out, r"echo: +\d+ samples back as they were said, in \d+ chunks\n")
        said = r"session: +completed, 5 of 5 frames; a device registered, made it and brought it audio\n"
        self.assertRegex(program.out, said)
        self.assertTrue(program.out.endswith("ok: what came out is what went in\n"))
        self.assertEqual(program.err, "")

    @coroutine
    async def test_json_and_nothing_is_left_behind_and_keep_is_for_a_terminal(self: Any) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        program = await self.run_it("demo", "--seconds", "0.6", "--json", "--keep", TMPDIR=str(folder))
        self.assertEqual(program.code, 0, program.err)
        (document,) = program.documents
        self.assertTrue(document["ok"])
        self.assertEqual((document["identical_frames"], document["sent_frames"]), (3, 3))
        self.assertEqual((document["events"], document["close_code"]), (["started", "stopped"], 1000))
        call = document["call"]
        self.assertEqual((call["identical_frames"], call["received_frames"]), (call["sent_frames"],) * 2)
        self.assertGreaterEqual(call["echoed_samples"], call["said_samples"])
        self.assertEqual((call["events"], call["close_code"]), (["started", "stopped"], 1000))
        session = document["session"]
        self.assertEqual((session["status"], session["transport"]), ("completed", "ingest"))
        self.assertEqual((session["frames"], session["sent_frames"]), (5, 5))
        self.assertEqual(list(folder.iterdir()), [])
        self.assertIn("--keep is for a terminal", program.err)

    @coroutine
    async def test_at_a_terminal_a_bar_shows_it_speaking_and_kept_others_can_speak_to_it(self: Any) -> None:
        kept = self.start("demo", "--keep", "--seconds", "0.6", terminal=True)
        await kept.until(lambda: "/metrics" in kept.seen)
        self.assertRegex(kept.seen, r"speaking .*\d\.\d/0\.6 s .* dBFS \d+/\d+ confirmed")
        url, token, ca = (
            re.search(pattern, kept.seen.replace("\r\n", "\n"))[1]  # type: ignore[index]
            for pattern in (r"WS_URL=(\S+)", r"JWT_TOKEN=(\S+)", r"--ca (\S+)")
        )
        self.assertTrue(Path(ca).exists())
        arguments = ("--tenant", "demo", "--ca", ca, "--seconds", "0.4")
        caller = await self.run_it("simulate", "ingest", *arguments, WS_URL=url, JWT_TOKEN=token)
        self.assertEqual(caller.code, 0, caller.out + caller.err)
        await kept.until(lambda: "event   stopped" in kept.seen)
        kept.signal("INT")
        self.assertEqual((await kept.ended), 0)
        self.assertFalse(Path(ca).exists())

    @coroutine
    async def test_ctrl_c_ends_it_in_good_order(self: Any) -> None:
        program = self.start("demo", "--seconds", "30", terminal=True)
        # When some of it has been said: before that there is nothing to compare.
        await program.until(lambda: re.search(r"[1-9]/30\.0 s ", program.seen))
        program.signal("INT")
        self.assertEqual((await program.ended), 0)
        self.assertIn("ok: what came out is what went in", program.seen)

    @coroutine
    async def test_ctrl_c_before_anything_was_said_is_one_line(self: Any) -> None:
        import sys

        from twisted.internet.utils import getProcessOutputAndValue

        from tests.support.daemon import ROOT

        _, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", EARLY], env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        )
        self.assertEqual((code, err), (130, b"error: interrupted before anything was said\n"))

    @coroutine
    async def test_a_frame_that_changed_is_told_and_is_no_success(self: Any) -> None:
        import sys

        from twisted.internet.utils import getProcessOutputAndValue

        from tests.support.daemon import ROOT

        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", BENDING], env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        )
        self.assertEqual(code, 1, out + err)
        self.assertIn(b"1 frames arrived changed", err)
        self.assertNotIn(b"ok:", out)


class SpokenTests(SynchronousTestCase):
    def test_it_is_six_seconds_at_24_khz(self) -> None:
        recording = spoken()
        self.assertEqual((recording.sample_rate, recording.seconds), (demo.RATE, demo.SPEECH_S))
