from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import CommandFailed, ConnectionFailed
from voiceingest.cli.reading import RETRY_MAX_S, Reader, read_event, read_json
from voiceingest.cli.running import Interrupt
from voiceingest.wire.envelope import encode_event, encode_frame, frame_parts

FRAME = encode_frame(frame_parts("acme", "call", 8000, "pcm16"), 7, 1234, b"ab")
EVENT = encode_event("stopped", "acme", "call", 1234, {"seq": 7})


class MessageTests(SynchronousTestCase):
    def test_what_it_is(self) -> None:
        message = read_json(FRAME, 5)
        assert message.frame is not None
        self.assertEqual((message.frame.seq, message.epoch, message.event), (7, 5, None))
        for read in (read_json, read_event):
            event = read(EVENT).event
            assert event is not None
            self.assertEqual(event["seq"], 7)
            nothing = read(b"\xff{")
            self.assertEqual((nothing.frame, nothing.event), (None, None))


class Fake(Reader):
    label = "the bus"

    def __init__(self, clock: Clock, steps: list[Any]) -> None:
        self.said: list[str] = []
        super().__init__(clock, self.said.append)
        self.steps = steps
        self.hung_up = self.closed = False

    async def _listen(self) -> None:
        step = self.steps.pop(0) if self.steps else Deferred()
        if isinstance(step, Exception):
            raise step
        self._is_ready()
        if isinstance(step, Deferred):
            await self._wait(step)
        else:
            self._broke("lost")

    def _hang_up(self) -> None:
        self.hung_up = True

    async def _close(self) -> None:
        self.closed = True


class ReaderTests(SynchronousTestCase):
    def follow(self, *steps: Any) -> tuple[Fake, Clock, Any]:
        clock = Clock()
        reader = Fake(clock, list(steps))
        return reader, clock, ensureDeferred(reader.follow(Interrupt()))

    def test_the_first_failure_is_the_answer(self) -> None:
        for failed in (ConnectionFailed("nobody", reason="refused"), CommandFailed("no")):
            reader, _, following = self.follow(failed)
            self.assertIs(self.failureResultOf(following).value, failed)
            self.assertTrue(reader.closed)
            self.assertNoResult(reader.ready)

    def test_later_ones_are_said_and_tried_again_ever_more_slowly(self) -> None:
        lost = ConnectionFailed("nobody", reason="refused")
        reader, clock, following = self.follow("once", *[lost] * 9)
        self.assertEqual(reader.said, ["the connection to the bus broke (lost): messages may be missing"])
        clock.pump([RETRY_MAX_S] * 8)
        self.assertEqual(reader.said[1:], ["nobody"] * 8)
        self.assertNoResult(following)
        reader.stop()
        self.successResultOf(following)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_a_refusal_ends_it_also_later(self) -> None:
        reader, clock, following = self.follow("once", CommandFailed("no"))
        clock.advance(RETRY_MAX_S)
        self.assertIsInstance(self.failureResultOf(following).value, CommandFailed)
        self.assertTrue(reader.closed)

    def test_stop_ends_what_is_waited_for(self) -> None:
        reader, _, following = self.follow(Deferred())
        reader.stop()
        self.successResultOf(following)
        self.assertTrue(reader.hung_up and reader.closed)

    def test_an_interrupt_stops_it(self) -> None:
        interrupt = Interrupt()
        reader = Fake(Clock(), [])
        following = ensureDeferred(reader.follow(interrupt))
        interrupt.ask()
        self.successResultOf(following)
